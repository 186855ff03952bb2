# An image that the features of tests/world install themselves into, as they do into Debian's: its
# files are where a distribution has them, its programs come from the store.
{
  lib,
  dockerTools,
  buildEnv,
  pkgs,

  name,
  tag,
  # Of these, all libraries are in the image.
  present ? [ ],
  user ? "vscode",
  uid ? 1000,
  withSudo ? true,
  # As if the CLI had built it with the sshd feature.
  withSshd ? false,
}:
let
  authority = pkgs.callPackage ./authority.nix { };
  sshdFeature = ../../../tests/world/features/sshd;
  tools = buildEnv {
    name = "drone-tools";
    paths = with pkgs; [
      bashInteractive
      coreutils
      curl
      diffutils
      findutils
      gawk
      getent
      git
      git-lfs
      gnugrep
      gnused
      gnutar
      gzip
      iproute2
      iptables
      iputils
      jq
      lsof
      openssh
      procps
      python3
      shadow
      util-linux
    ];
    pathsToLink = [ "/bin" ];
  };
  pam = "${pkgs.pam}/lib/security";
  metadata =
    lib.optional withSshd {
      id = "ghcr.io/devcontainers/features/sshd:1";
      entrypoint = "/usr/local/share/ssh-init.sh";
    }
    ++ [ { remoteUser = user; } ];
in
dockerTools.buildLayeredImage {
  inherit name tag;
  enableFakechroot = true;
  fakeRootCommands = ''
    mkdir -p usr/bin usr/sbin usr/local/bin usr/local/sbin usr/local/share usr/lib etc/init.d etc/pam.d \
      etc/ssh/sshd_config.d etc/ssl/certs etc/sudoers.d home/${user} root run/sshd tmp var/lib var/log workspaces
    chmod 1777 tmp
    cat ${pkgs.cacert}/etc/ssl/certs/ca-bundle.crt ${authority}/ca.crt > etc/ssl/certs/ca-certificates.crt
    ln -s usr/bin bin
    ln -s usr/sbin sbin
    for tool in ${tools}/bin/*; do ln -s "$(readlink -f "$tool")" "usr/bin/''${tool##*/}"; done
    ln -s ${pkgs.openssh}/bin/sshd usr/sbin/sshd
    ln -s ${pkgs.openssh}/libexec/sftp-server usr/lib/sftp-server

    printf '%s\n' 'root:x:0:0::/root:/bin/bash' 'sshd:x:74:74::/run/sshd:/bin/false' \
      '${user}:x:${toString uid}:${toString uid}::/home/${user}:/bin/bash' > etc/passwd
    printf '%s\n' root:x:0: sshd:x:74: '${user}:x:${toString uid}:' > etc/group
    printf '%s\n' 'root:*:1::::::' '${user}:*:1::::::' > etc/shadow
    echo '${toString present}' > etc/present
    echo 'PRETTY_NAME="A distribution of the test world"' > etc/os-release
    chown -R ${toString uid}:${toString uid} home/${user}

    for service in sshd sudo su login; do
      printf '%s\n' 'auth required ${pam}/pam_permit.so' 'account required ${pam}/pam_permit.so' \
        'password required ${pam}/pam_deny.so' 'session required ${pam}/pam_permit.so' > etc/pam.d/$service
    done
    printf '%s\n' 'Include /etc/ssh/sshd_config.d/*.conf' 'Subsystem sftp /usr/lib/sftp-server' > etc/ssh/sshd_config
    printf '%s\n' '#!/bin/bash' 'mkdir -p /run/sshd && exec /usr/sbin/sshd' > etc/init.d/ssh
    chmod 755 etc/init.d/ssh
  ''
  + lib.optionalString withSudo ''
    # sudo must be root's and set-user-ID, which nothing in the store is.
    install -m 4755 ${pkgs.sudo}/bin/sudo usr/bin/sudo
    echo '${user} ALL=(root) NOPASSWD:ALL' > etc/sudoers.d/${user}
    printf '%s\n' 'root ALL=(ALL) ALL' '@includedir /etc/sudoers.d' > etc/sudoers
    chmod 0440 etc/sudoers etc/sudoers.d/${user}
  ''
  + lib.optionalString withSshd ''
    PATH=/usr/sbin:/usr/bin bash ${sshdFeature}/install.sh
  '';
  config = {
    Cmd = [ "bash" ];
    Env = [
      "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
      "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt"
    ];
    User = if withSudo then "root" else user;
    Labels."devcontainer.metadata" = builtins.toJSON metadata;
  };
}
