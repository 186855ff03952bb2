# What hatchery needs of the machine.
{
  config,
  lib,
  ...
}:
let
  cfg = config.services.hatchery;
  tmpfiles = builtins.readFile ../systemd/hatchery.tmpfiles;
in
{
  config = lib.mkIf cfg.enable {
    virtualisation.docker.enable = true;
    # Drones bring a tailscaled.
    boot.kernelModules = [ "tun" ];

    environment.systemPackages = [ cfg.package ];

    # Its members use every verb without sudo. Who is in it can do with Docker as they like.
    users.groups.hatchery = { };
    security.polkit = {
      enable = true;
      extraConfig = builtins.readFile ../systemd/hatchery.polkit.rules;
    };
    systemd.tmpfiles.rules = lib.filter (line: line != "" && !lib.hasPrefix "#" line) (
      lib.splitString "\n" tmpfiles
    );
  };
}
