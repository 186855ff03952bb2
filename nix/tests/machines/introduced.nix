# Fetches a secret from tailnet, once: `introductions.<path> = NAME`.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  world = import ../world.nix;
  url = "http://${world.addresses.tailnet}:${toString world.introductions}";
in
{
  options.introductions = lib.mkOption { type = lib.types.attrsOf lib.types.str; };

  config.systemd.services.introduced = {
    description = "Keys from tailnet";
    wantedBy = [ "multi-user.target" ];
    before = [
      "docker.service"
      "joined.service"
    ];
    after = [ "network.target" ];
    path = [ pkgs.curl ];
    serviceConfig = {
      Type = "oneshot";
      RemainAfterExit = true;
    };
    script = lib.concatStrings (
      lib.mapAttrsToList (path: name: ''
        if [ ! -s ${path} ]; then
          umask 077
          mkdir -p ${dirOf path}
          until curl -sf ${url}/${name} > ${path}; do sleep 0.2; done
        fi
      '') config.introductions
    );
  };
}
