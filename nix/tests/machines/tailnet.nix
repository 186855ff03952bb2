# Headscale with its embedded relay, with the policy that the module of the server wrote.
{ nodes, pkgs, ... }:
let
  world = import ../world.nix;
  authority = pkgs.callPackage ../content/authority.nix { };
in
{
  imports = [ ./common.nix ];

  services.headscale = {
    enable = true;
    address = "0.0.0.0";
    port = 443;
    settings = {
      server_url = world.loginServer;
      tls_cert_path = "${authority}/tls.crt";
      tls_key_path = "${authority}/tls.key";
      derp = {
        urls = [ ];
        auto_update_enabled = false;
        server = {
          enabled = true;
          region_id = 999;
          region_code = "world";
          region_name = "World";
          verify_clients = true;
          stun_listen_addr = "0.0.0.0:3478";
          automatically_add_embedded_derp_region = true;
          ipv4 = world.addresses.tailnet;
        };
      };
      node.ephemeral.inactivity_timeout = world.nodeTimeout;
      dns = {
        magic_dns = true;
        base_domain = world.domain;
        override_local_dns = false;
      };
      policy.path = nodes.server.services.hatchery.headscale.policyFile;
      tuning = {
        node_store_batch_timeout = "10ms";
        batch_change_delay = "10ms";
      };
    };
  };
  environment.systemPackages = [ pkgs.headscale ];

  # The users, and the keys for the other machines, once.
  systemd.services.introduce = {
    description = "Users of the tailnet and their keys";
    wantedBy = [ "multi-user.target" ];
    requires = [ "headscale.service" ];
    after = [ "headscale.service" ];
    path = [
      pkgs.headscale
      pkgs.jq
      pkgs.python3
    ];
    script = ''
      mkdir -p /var/lib/introductions
      cd /var/lib/introductions
      if [ ! -e done ]; then
        until headscale users list > /dev/null; do sleep 0.2; done
        for user in levin devcontainer; do headscale users create $user; done
        number() { headscale users list --name "$1" --output json | jq -r '.[0].id'; }
        key() { headscale preauthkeys create --user "$(number "$1")" "''${@:2}" --output json | jq -r .key; }
        key devcontainer --reusable --ephemeral --expiration 720h > tailnet-auth-key
        headscale apikeys create --expiration 720h > headscale-api-key
        key levin --expiration 1h > laptop
        touch done
      fi
      exec python3 -m http.server ${toString world.introductions}
    '';
  };
}
