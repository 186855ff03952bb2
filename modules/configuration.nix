# /etc/hatchery/config.toml: made of the options, and tried when the system is built.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) filterAttrs mkIf mkMerge;
  cfg = config.services.hatchery;
  format = pkgs.formats.toml { };
  given = filterAttrs (_: value: value != null);

  written = format.generate "hatchery-config.toml" cfg.settings;
  # Names of secret files are not followed: they are not there yet.
  checked = pkgs.runCommand "hatchery-config-checked.toml" { } ''
    ${lib.getExe cfg.package} --config ${written} config --check
    cp ${written} $out
  '';
  canRun = pkgs.stdenv.buildPlatform.canExecute pkgs.stdenv.hostPlatform;

  # The keys that name secrets, and the options that set them: the units follow the options.
  secrets = [
    {
      key = [
        "github"
        "private_key_file"
      ];
      option = "githubApp.privateKeyFile";
      value = cfg.githubApp.privateKeyFile;
    }
    {
      key = [
        "tailnet"
        "auth_key_file"
      ];
      option = "headscale.authKeyFile";
      value = cfg.headscale.authKeyFile;
    }
    {
      key = [
        "tailnet"
        "api_key_file"
      ];
      option = "headscale.apiKeyFile";
      value = cfg.headscale.apiKeyFile;
    }
  ];

  # Every key and every text of the settings, with where it stands.
  leaves =
    at: value:
    if lib.isAttrs value then
      lib.concatLists (
        lib.mapAttrsToList (name: inner: leaves (if at == "" then name else "${at}.${name}") inner) value
      )
    else if lib.isList value then
      lib.concatMap (leaves at) value
    else
      [
        {
          inherit at;
          text = if lib.isString value then value else "";
        }
      ];
  # Hatchery has no key for a secret itself. One that somebody thinks it has would be refused when
  # the system is built, but by then stand in the store.
  secretKey =
    name: builtins.match "(.*[._])?((auth|api|private)_key|secret|token|password)" name != null;
  secretText =
    text:
    lib.hasInfix "PRIVATE KEY-----" text
    || builtins.match "(hskey-|tskey-|gh[a-z]_|github_pat_).*" text != null;
  exposed = lib.filter (leaf: secretKey leaf.at || secretText leaf.text) (leaves "" cfg.settings);
in
{
  config = mkIf cfg.enable {
    services.hatchery.settings = mkMerge [
      {
        devcontainer.command = lib.mkDefault (lib.getExe pkgs.devcontainer);
        github = given {
          app_id = cfg.githubApp.appId;
          private_key_file = cfg.githubApp.privateKeyFile;
        };
        limits = given cfg.limits;
        drones = lib.mapAttrs (
          _: drone:
          given { inherit (drone) permissions; }
          // lib.optionalAttrs (drone.repositories != [ ]) { inherit (drone) repositories; }
          // lib.optionalAttrs (drone.files != { }) { inherit (drone) files; }
          // lib.optionalAttrs (drone.envFile != null) { env_file = drone.envFile; }
        ) cfg.drones;
      }
      (mkIf (cfg.authorizedKeys != [ ]) { ssh.authorized_keys = cfg.authorizedKeys; })
      (mkIf (cfg.headscale.url != null) {
        tailnet = given {
          login_server = cfg.headscale.url;
          inherit (cfg.headscale) domain user;
          auth_key_file = cfg.headscale.authKeyFile;
          api_key_file = cfg.headscale.apiKeyFile;
        };
      })
    ];

    environment.etc."hatchery/config.toml".source = if canRun then checked else written;

    assertions =
      map (secret: {
        assertion = lib.attrByPath secret.key null cfg.settings == secret.value;
        message = "services.hatchery.settings.${lib.concatStringsSep "." secret.key} is set by the option services.hatchery.${secret.option}, which alone keeps the file out of the Nix store.";
      }) secrets
      ++ map (leaf: {
        assertion = false;
        message = "services.hatchery.settings.${leaf.at} looks like a secret, and everybody can read the configuration. Put it into a file, and name that by githubApp.privateKeyFile, headscale.authKeyFile or headscale.apiKeyFile.";
      }) exposed;
  };
}
