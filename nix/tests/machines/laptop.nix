# A person's machine on the tailnet, with OpenSSH both ways.
{ pkgs, ... }:
let
  world = import ../world.nix;
  keys = import (pkgs.path + "/nixos/tests/ssh-keys.nix") pkgs;
in
{
  imports = [
    ./common.nix
    ./introduced.nix
  ];

  introductions."/var/lib/world/auth-key" = "laptop";
  services.tailscale.enable = true;
  systemd.services = {
    joined = {
      description = "The tailnet, joined";
      wantedBy = [ "multi-user.target" ];
      requires = [
        "introduced.service"
        "tailscaled.service"
      ];
      after = [
        "introduced.service"
        "tailscaled.service"
      ];
      path = [
        pkgs.jq
        pkgs.tailscale
      ];
      serviceConfig = {
        Type = "oneshot";
        RemainAfterExit = true;
      };
      script = ''
        tailscale status --json | jq -e '.BackendState == "Running"' > /dev/null ||
          tailscale up --login-server=${world.loginServer} --auth-key=file:/var/lib/world/auth-key \
            --hostname=laptop --accept-dns=true --timeout=60s
      '';
    };
  };

  systemd.tmpfiles.rules = [
    "d /root/.ssh 0700 root root -"
    "C /root/.ssh/id_ed25519 0600 root root - ${keys.snakeOilEd25519PrivateKey}"
    "f /root/.ssh/id_ed25519.pub 0644 root root - ${keys.snakeOilEd25519PublicKey}"
  ];
}
