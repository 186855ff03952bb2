# The units: the files of ../systemd, with the paths of this system.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) hasInfix hasPrefix hasSuffix;
  cfg = config.services.hatchery;
  directory = ../systemd;

  keyFile =
    if cfg.githubApp.privateKeyFile == null then
      "/etc/hatchery/app-key.pem"
    else
      cfg.githubApp.privateKeyFile;
  # One that systemd decrypts is loaded by another setting.
  encrypted = lib.optionalAttrs (cfg.githubApp.privateKeyCredential != null) {
    "LoadCredential=app-key:/etc/hatchery/app-key.pem" =
      "LoadCredentialEncrypted=app-key:${cfg.githubApp.privateKeyCredential}";
  };
  places = encrypted // {
    "/usr/local/" = "${cfg.package}/";
    "/usr/bin/setfacl" = lib.getExe' pkgs.acl "setfacl";
    "/etc/hatchery/app-key.pem" = keyFile;
  };

  # The file's text; a place of another distribution that is left in it stops the evaluation.
  text =
    name:
    let
      placed = builtins.replaceStrings (lib.attrNames places) (lib.attrValues places) (
        builtins.readFile (directory + "/${name}")
      );
      left = lib.filter (line: !hasPrefix "#" line && hasInfix "/usr/" line) (
        lib.splitString "\n" placed
      );
    in
    lib.throwIf (
      left != [ ]
    ) "systemd/${name} names what NixOS does not have: ${lib.concatStringsSep "; " left}" placed;

  # What the file's [Install] section says: NixOS enables units by itself and does not read it.
  installed =
    key: name:
    lib.concatMap (
      line:
      lib.optionals (hasPrefix "${key}=" line) (
        lib.filter (unit: unit != "") (lib.splitString " " (lib.removePrefix "${key}=" line))
      )
    ) (lib.splitString "\n" (builtins.readFile (directory + "/${name}")));

  isUnit =
    name:
    lib.any (suffix: hasSuffix suffix name) [
      ".service"
      ".socket"
      ".timer"
    ];
  # The firewall is for firewall.nix to install, in one way or another.
  names = lib.filter (name: isUnit name && name != "hatchery-firewall.service") (
    lib.attrNames (builtins.readDir directory)
  );

  unit = name: {
    text = text name;
    # A template is wanted by its instances.
    wantedBy = lib.optionals (!hasInfix "@." name) (installed "WantedBy" name);
    requiredBy = lib.optionals (!hasInfix "@." name) (installed "RequiredBy" name);
  };
in
{
  config = lib.mkMerge [
    { _module.args.hatcheryUnit = unit; }
    (lib.mkIf cfg.enable {
      # Whole units and no drop-ins: a drop-in of a template is hidden by one of its instance.
      systemd.units = lib.genAttrs names unit;

      # Beside what NixOS itself says of Docker's socket, hence a file of another name than its own.
      systemd.packages = [
        (pkgs.writeTextDir "lib/systemd/system/docker.socket.d/50-hatchery.conf" (
          text "docker.socket.d/50-hatchery.conf"
        ))
      ];
    })
  ];
}
