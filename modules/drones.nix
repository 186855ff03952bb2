# The declared drones: their sockets from boot on, and those that are to be there.
{ config, lib, ... }:
let
  inherit (lib) mapAttrs' mapAttrsToList nameValuePair;
  cfg = config.services.hatchery;
  nameOf = import ../nix/drone-name.nix;

  isRepository =
    text:
    let
      name = lib.last (lib.splitString "/" text);
    in
    builtins.match "[A-Za-z0-9][A-Za-z0-9_-]{0,38}/[A-Za-z0-9._-]{1,100}" text != null
    && name != "."
    && name != ".."
    && !lib.hasSuffix ".git" (lib.toLower name);

  named = lib.groupBy nameOf (lib.attrNames cfg.drones);
  shared = lib.filterAttrs (_: repositories: lib.length repositories > 1) named;

  hasApp = cfg.githubApp.appId != null;
  autostarted = lib.filterAttrs (_: drone: drone.autostart) cfg.drones;
in
{
  config = lib.mkIf cfg.enable {
    # Both of them drop-ins of the template's instances: when one goes, the switch stops both.
    systemd.sockets = lib.mkIf hasApp (
      mapAttrs' (
        repository: _:
        nameValuePair "hatchery-credd@${nameOf repository}" {
          overrideStrategy = "asDropin";
          wantedBy = [ "sockets.target" ];
        }
      ) cfg.drones
    );

    systemd.services = lib.mkMerge [
      (lib.mkIf hasApp (
        mapAttrs' (
          repository: drone:
          nameValuePair "hatchery-credd@${nameOf repository}" {
            overrideStrategy = "asDropin";
            # The template's own environment, not the one that NixOS would put over it.
            path = lib.mkForce [ ];
            restartTriggers = [ (builtins.toJSON { inherit (drone) repositories permissions; }) ];
            # Restarted and not stopped first: a client in between would wake the old unit.
            stopIfChanged = false;
          }
        ) cfg.drones
      ))

      (mapAttrs' (
        repository: _:
        nameValuePair "hatchery-spawn-${nameOf repository}" {
          description = "Spawning ${repository} where it does not exist";
          wantedBy = [ "multi-user.target" ];
          wants = [ "network-online.target" ];
          requires = [ "docker.service" ];
          after = [
            "docker.service"
            "hatchery-sockets.service"
            "network-online.target"
          ];
          # A spawn that is under way is not for a switch to end.
          restartIfChanged = false;
          serviceConfig = {
            # Neither boot nor switch waits for an image to be built.
            Type = "exec";
            ExecStart = "${lib.getExe cfg.package} spawn ${repository}";
            # 4 says that it exists.
            SuccessExitStatus = 4;
            # Network, GitHub or Headscale may be late; a wrong name or a refusal stays one.
            Restart = "on-failure";
            RestartPreventExitStatus = "2 3 5 6";
            RestartSec = "30s";
            RestartSteps = 6;
            RestartMaxDelaySec = "1h";
          };
        }
      ) autostarted)
    ];

    assertions =
      map (repository: {
        assertion = isRepository repository;
        message = "services.hatchery.drones: \"${repository}\" is not of the form org/repo.";
      }) (lib.attrNames cfg.drones)
      ++ mapAttrsToList (name: repositories: {
        assertion = false;
        message = "services.hatchery.drones: ${lib.concatStringsSep " and " repositories} would share the drone name ${name}. Only one of them can have a drone.";
      }) shared;
  };
}
