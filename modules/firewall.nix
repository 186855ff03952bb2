# The table of ../systemd/hatchery.nft, which keeps containers from the tailnet and from this machine.
{
  config,
  lib,
  pkgs,
  hatcheryUnit,
  ...
}:
let
  cfg = config.services.hatchery;
  file = builtins.readFile ../systemd/hatchery.nft;

  # NixOS writes the line before the chains and the brace behind them.
  parts = lib.splitString "\ntable inet hatchery {\n" file;
  chains =
    lib.throwIf (lib.length parts != 2)
      "systemd/hatchery.nft does not define the table inet hatchery once"
      (lib.head (lib.splitString "\n}" (lib.last parts)));

  viaNixos = config.networking.nftables.enable;

  # What the owner adds to the table's sets: bridges, and a pool of addresses of their own.
  sets = lib.filterAttrs (_: set: set.elements != [ ]) {
    open = bridges cfg.firewall.openBridges;
    closed = bridges cfg.firewall.closedBridges;
    pool = {
      type = "ipv4_addr; flags interval; auto-merge";
      elements = cfg.settings.docker.subnets or [ ];
    };
  };
  bridges = names: {
    type = "ifname";
    elements = map (name: ''"${name}"'') names;
  };
  additions = lib.concatStrings (
    lib.mapAttrsToList (name: set: "add element inet hatchery ${name} { ${listed set} }\n") sets
  );
  listed = set: lib.concatStringsSep ", " set.elements;
  # Within NixOS's table a set is declared twice, which adds up; a word in networking.nftables.ruleset
  # would make NixOS flush all tables, Docker's own among them.
  declarations = lib.concatStrings (
    lib.mapAttrsToList (name: set: ''

      set ${name} {
        type ${set.type};
        elements = { ${listed set} }
      }
    '') sets
  );
in
{
  config = lib.mkIf (cfg.enable && cfg.firewall.enable) (
    lib.mkMerge [
      # NixOS loads its tables where its nftables service is; where it is not, they are silently none.
      (lib.mkIf viaNixos {
        networking.nftables.tables.hatchery = {
          family = "inet";
          content = chains + declarations;
        };
        systemd.services.docker = {
          wants = [ "nftables.service" ];
          after = [ "nftables.service" ];
        };
      })

      (lib.mkIf (!viaNixos) {
        systemd.units."hatchery-firewall.service" = hatcheryUnit "hatchery-firewall.service";
        # The unit names its programs alone, and systemd's own list of places has none here.
        systemd.packages = [
          (pkgs.writeTextDir "lib/systemd/system/hatchery-firewall.service.d/50-nixos.conf" ''
            [Unit]
            X-Reload-Triggers=${builtins.hashString "sha256" additions}

            [Service]
            # A switch loads new rules over the old ones, and is never without.
            X-ReloadIfChanged=true
            ExecSearchPath=${
              lib.makeBinPath [
                config.systemd.package
                pkgs.bash
                pkgs.coreutils
                pkgs.gnugrep
                pkgs.nftables
              ]
            }
          '')
        ];
        environment.etc."hatchery/firewall.d/nixos.nft" = lib.mkIf (additions != "") { text = additions; };
      })
    ]
  );
}
