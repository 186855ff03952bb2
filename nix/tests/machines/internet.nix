# github.com, api.github.com, ghcr.io and mcr.microsoft.com over TLS, and DNS for all.
{ pkgs, ... }:
let
  world = import ../world.nix;
  authority = pkgs.callPackage ../content/authority.nix { };
  registry = pkgs.callPackage ../content/registry.nix { };
  github = pkgs.callPackage ../content/github.nix { };
  repositories = pkgs.callPackage ../content/repositories.nix { };
  app = pkgs.callPackage ../content/app.nix { };
  keys = import (pkgs.path + "/nixos/tests/ssh-keys.nix") pkgs;
in
{
  imports = [ ./common.nix ];

  services.dnsmasq = {
    enable = true;
    resolveLocalQueries = false;
    settings = {
      no-resolv = true;
      no-hosts = true;
      bind-interfaces = true;
      listen-address = world.addresses.internet;
      host-record =
        map (name: "${name},${world.addresses.internet}") [
          "github.com"
          "api.github.com"
          "ghcr.io"
          "mcr.microsoft.com"
        ]
        ++ map (name: "${name},${world.addresses.${name}}") (builtins.attrNames world.addresses)
        ++ [ "${world.loginHost},${world.addresses.tailnet}" ];
    };
  };

  # Where scenarios find them that serve something themselves.
  environment.etc."world/tls".source = authority;

  # As in tests/world, to the letter, hence not services.nginx.
  systemd.services.nginx = {
    description = "TLS for GitHub and the registry";
    wantedBy = [ "multi-user.target" ];
    after = [ "network.target" ];
    serviceConfig = {
      ExecStart = "${pkgs.nginx}/bin/nginx -c ${pkgs.writeText "nginx.conf" ''
        daemon off;
        error_log stderr;
        pid /run/nginx/pid;
        events { }
        http {
          access_log off;
          client_body_temp_path /run/nginx/client;
          proxy_temp_path /run/nginx/proxy;
          fastcgi_temp_path /run/nginx/fastcgi;
          uwsgi_temp_path /run/nginx/uwsgi;
          scgi_temp_path /run/nginx/scgi;
          ${builtins.replaceStrings [ "/etc/world/tls/" ] [ "${authority}/" ] (
            builtins.readFile ../../../tests/world/images/registry/files/etc/nginx/conf.d/world.conf
          )}
        }
      ''}";
      RuntimeDirectory = "nginx";
      Restart = "on-failure";
    };
  };

  systemd.services.registry = {
    description = "Container registry";
    wantedBy = [ "multi-user.target" ];
    serviceConfig = {
      DynamicUser = true;
      StateDirectory = "registry";
      # Scenarios publish features of their own; what is there already is linked, not copied.
      ExecStartPre = "${pkgs.coreutils}/bin/cp -rsfT --no-preserve=mode ${registry} /var/lib/registry";
      ExecStart = "${pkgs.distribution}/bin/registry serve ${
        (pkgs.formats.yaml { }).generate "registry.yml" {
          version = "0.1";
          storage.filesystem.rootdirectory = "/var/lib/registry";
          http.addr = "127.0.0.1:5000";
        }
      }";
      Restart = "on-failure";
    };
  };

  users.users.github = {
    isSystemUser = true;
    group = "github";
  };
  users.groups.github = { };
  systemd.services.github = {
    description = "GitHub, as far as the scenarios need it";
    wantedBy = [ "multi-user.target" ];
    after = [ "network.target" ];
    path = [
      pkgs.git
      pkgs.git-lfs
    ];
    # Pushed to, so not used from where it was built.
    preStart = ''
      if [ ! -e /srv/github/git ]; then
        mkdir -p /srv/github/{keys,apps}
        cp -r --no-preserve=mode ${repositories} /srv/github/git
        echo '${keys.snakeOilEd25519PublicKey}' > /srv/github/keys/levin
        cp ${app}/public.pem /srv/github/apps/${world.appId}.pem
      fi
    '';
    serviceConfig = {
      User = "github";
      StateDirectory = "github";
      RuntimeDirectory = "github";
      ExecStart = "${github}/bin/github-serve";
      Restart = "on-failure";
    };
  };
  systemd.tmpfiles.rules = [ "L+ /srv/github - - - - /var/lib/github" ];
  environment.systemPackages = [ github ];
  virtualisation.memorySize = 2048;
}
