# The Headscale policy: people's machines reach the drones, and a drone reaches nothing.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.services.hatchery;
  headscale = config.services.headscale;
  wanted = cfg.enable && cfg.headscale.people != [ ];

  policy = import ../nix/policy.nix {
    inherit lib;
    inherit (cfg.headscale) user people;
  };
  # Earlier ones refuse the key.
  knowsTests = lib.versionAtLeast headscale.package.version "0.29";
  document =
    if knowsTests then cfg.headscale.policy else removeAttrs cfg.headscale.policy [ "tests" ];
  written = pkgs.writeText "headscale-policy.json" (builtins.toJSON document);
  checked =
    pkgs.runCommand "headscale-policy-checked.json"
      {
        nativeBuildInputs = [ headscale.package ];
        people = policy.people;
        drones = policy.drones;
      }
      ''
        bash ${../nix/check-policy.sh} ${written}
        cp ${written} $out
      '';
  canRun = pkgs.stdenv.buildPlatform.canExecute pkgs.stdenv.hostPlatform;

  offending = policy.rulesFromDrones cfg.headscale.policy;
in
{
  config = lib.mkMerge [
    {
      services.hatchery.headscale.policyFile =
        if !wanted then
          null
        else if canRun then
          checked
        else
          written;
    }

    (lib.mkIf wanted {
      services.hatchery.headscale.policy = policy.document;
      environment.etc."hatchery/headscale-policy.json".source = cfg.headscale.policyFile;

      services.headscale.settings.policy = lib.mkIf headscale.enable {
        mode = lib.mkDefault "file";
        path = lib.mkDefault cfg.headscale.policyFile;
      };

      assertions = [
        {
          assertion = !lib.elem policy.drones policy.people;
          message = "services.hatchery.headscale: ${cfg.headscale.user} owns the drones and cannot also be one of the users who reach them. Give the drones a user of their own.";
        }
        {
          assertion = offending == [ ];
          message = "services.hatchery.headscale.policy: a drone must reach nothing, and these sources include the drones: ${lib.concatStringsSep ", " offending}.";
        }
      ]
      ++ map (name: {
        assertion = policy.isUser name;
        message = "services.hatchery.headscale: \"${name}\" is not a Headscale user.";
      }) ([ cfg.headscale.user ] ++ cfg.headscale.people);
    })

    (lib.mkIf (cfg.enable && cfg.headscale.url != null && headscale.enable) {
      assertions = [
        {
          # Without a policy everything reaches everything.
          assertion = cfg.headscale.people != [ ] || headscale.settings.policy.path or null != null;
          message = "services.hatchery.headscale.people: name the Headscale users who reach the drones. Without it Headscale, which runs on this machine, has no policy, and every drone reaches all of the tailnet.";
        }
        {
          assertion = headscale.settings.dns.base_domain or null == cfg.headscale.domain;
          message = "services.hatchery.headscale.domain is not services.headscale.settings.dns.base_domain.";
        }
      ];
    })
  ];
}
