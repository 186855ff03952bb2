# The module, evaluated: good configurations, bad ones, and what they render. No unit of it runs.
{
  lib,
  nixpkgs,
  pkgs,
  self,
}:
let
  machine =
    module:
    (nixpkgs.lib.nixosSystem {
      inherit (pkgs.stdenv.hostPlatform) system;
      modules = [
        self.nixosModules.default
        {
          boot.loader.grub.enable = false;
          fileSystems."/" = {
            device = "none";
            fsType = "tmpfs";
          };
          system.stateVersion = "26.05";
          services.hatchery.enable = true;
        }
        module
      ];
    });
  hatchery = settings: machine { services.hatchery = settings; };
  failing = nixos: map (a: a.message) (lib.filter (a: !a.assertion) nixos.config.assertions);

  app = {
    appId = 12345;
    privateKeyFile = "/run/secrets/app.pem";
  };
  headscale = {
    url = "https://headscale.example.org";
    domain = "tail.example.org";
    apiKeyFile = "/run/secrets/api-key";
    people = [ "levin" ];
  };
  drones."Acme/My.Site" = {
    permissions.contents = "read";
    repositories = [ "acme/theme" ];
    autostart = true;
  };
  full = {
    githubApp = app;
    inherit headscale drones;
    limits.cpus = 2;
    authorizedKeys = [
      "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBgFMhajUng+Rjj/sCFXI9PzG8BQjru2n7JgUVF1Kbv5 levin@laptop"
    ];
  };
  runsHeadscale = domain: {
    services.headscale = {
      enable = true;
      settings = {
        dns = {
          base_domain = domain;
          nameservers.global = [ "192.0.2.1" ];
        };
        server_url = "https://headscale.example.org";
      };
    };
  };
  whole = machine {
    imports = [ (runsHeadscale "tail.example.org") ];
    services.hatchery = full;
  };
  withNftables = machine {
    networking.nftables.enable = true;
    services.hatchery = full;
  };
  withoutDrones = hatchery (full // { drones = { }; });
  older = machine {
    imports = [ (runsHeadscale "tail.example.org") ];
    services.hatchery = full;
    services.headscale.package = pkgs.headscale.overrideAttrs { version = "0.28.0"; };
  };

  rule = source: {
    acls = [
      {
        action = "accept";
        src = [ source ];
        dst = [ "levin@:443" ];
      }
    ];
  };

  # A configuration that must not be built, and a word of what it is told.
  refused = {
    "an App without its key" = {
      module.services.hatchery.githubApp.appId = "1";
      says = "appId and privateKeyFile go together";
    };
    "a key without its App" = {
      module.services.hatchery.githubApp.privateKeyFile = "/run/key";
      says = "appId and privateKeyFile go together";
    };
    "an encrypted key without its App" = {
      module.services.hatchery.githubApp.privateKeyCredential = "/run/key.cred";
      says = "appId and privateKeyFile go together";
    };
    "a key twice" = {
      module.services.hatchery.githubApp = app // {
        privateKeyCredential = "/run/key.cred";
      };
      says = "either privateKeyFile or privateKeyCredential";
    };
    "a tailnet without a domain" = {
      module.services.hatchery.headscale = headscale // {
        domain = null;
      };
      says = "url and domain go together";
    };
    "a tailnet without a key" = {
      module.services.hatchery.headscale = headscale // {
        apiKeyFile = null;
      };
      says = "by which drones join";
    };
    "a person who owns the drones" = {
      module.services.hatchery.headscale = headscale // {
        people = [ "devcontainer" ];
      };
      says = "cannot also be one of the users";
    };
    "a person who is a group" = {
      module.services.hatchery.headscale = headscale // {
        people = [ "group:all" ];
      };
      says = "is not a Headscale user";
    };
    "Headscale here and nobody to reach the drones" = {
      module = {
        imports = [ (runsHeadscale "tail.example.org") ];
        services.hatchery.headscale = headscale // {
          people = [ ];
        };
      };
      says = "every drone reaches all of the tailnet";
    };
    "Headscale here with another domain" = {
      module = {
        imports = [ (runsHeadscale "other.example.org") ];
        services.hatchery = { inherit headscale; };
      };
      says = "is not services.headscale.settings.dns.base_domain";
    };
    "a drone of no repository" = {
      module.services.hatchery.drones."acme/../x" = { };
      says = "is not of the form org/repo";
    };
    "two drones of one name" = {
      module.services.hatchery.drones = {
        "a-b/c" = { };
        "a/b-c" = { };
      };
      says = "would share the drone name a-b-c";
    };
    "the key's file in the settings" = {
      module.services.hatchery.settings.github = {
        app_id = "1";
        private_key_file = "/run/key";
      };
      says = "is set by the option services.hatchery.githubApp.privateKeyFile";
    };
    "the auth key's file in the settings" = {
      module.services.hatchery.settings.tailnet.auth_key_file = "/run/key";
      says = "is set by the option services.hatchery.headscale.authKeyFile";
    };
    "the API key's file in the settings" = {
      module.services.hatchery.settings.tailnet.api_key_file = "/run/key";
      says = "is set by the option services.hatchery.headscale.apiKeyFile";
    };
    "a secret under a key of its own" = {
      module.services.hatchery.settings.tailnet.auth_key = "anything";
      says = "settings.tailnet.auth_key looks like a secret";
    };
    "a secret under any key" = {
      module.services.hatchery.settings.docker.extra_hosts = [ "hskey-auth-abc" ];
      says = "settings.docker.extra_hosts looks like a secret";
    };
    "a private key in the settings" = {
      module.services.hatchery.settings.github.ca_file = "-----BEGIN RSA PRIVATE KEY-----";
      says = "settings.github.ca_file looks like a secret";
    };
  }
  // lib.listToAttrs (
    map
      (
        source:
        lib.nameValuePair "a rule from ${source}" {
          module.services.hatchery.headscale = headscale // {
            policy = rule source;
          };
          says = "a drone must reach nothing";
        }
      )
      [
        "*"
        "autogroup:member"
        "autogroup:self"
        "devcontainer@"
      ]
  )
  // {
    "a rule from a group with the drones" = {
      module.services.hatchery.headscale = headscale // {
        policy = rule "group:agents" // {
          groups."group:agents" = [ "devcontainer@" ];
        };
      };
      says = "a drone must reach nothing";
    };
  };

  # What an option's type refuses, so that no secret is ever in the store.
  secretOptions = [
    "githubApp.privateKeyFile"
    "headscale.authKeyFile"
    "headscale.apiKeyFile"
  ];
  noFiles = {
    "a path of the configuration" = ./module.nix;
    "a file in the store" = builtins.toFile "key" "secret";
    "the secret itself" = "hskey-auth-abc";
  };
  refusedByType =
    option: value:
    let
      path = lib.splitString "." option;
      nixos = hatchery (lib.setAttrByPath path value);
    in
    !(builtins.tryEval (lib.getAttrFromPath path nixos.config.services.hatchery)).success;

  units = nixos: nixos.config.systemd.units;
  of = nixos: name: (units nixos).${name};
  lines = lib.splitString "\n";
  unitFiles = lib.filter (
    name:
    lib.any (kind: lib.hasSuffix kind name) [
      ".service"
      ".socket"
      ".timer"
    ]
  ) (lib.attrNames (builtins.readDir ../../systemd));
  names = lib.filter (line: line != "" && !lib.hasPrefix "#" line) (
    lib.splitString "\n" (builtins.readFile ../../tests/drone-names.txt)
  );
  documented = lib.filter (option: !option.internal) (
    lib.optionAttrSetToDocList whole.options.services.hatchery
  );
  policyOf = nixos: nixos.config.services.hatchery.headscale.policy;

  # Statements about the module; each false one is named.
  statements = {
    "an empty configuration is a good one" = failing (hatchery { }) == [ ];
    "a full configuration is a good one" = failing whole == [ ];
    "nftables on is a good configuration" = failing withNftables == [ ];

    "the units are the files of systemd/, but for this machine's paths" = lib.all (
      name:
      lib.replaceStrings
        [
          "${whole.config.services.hatchery.package}/"
          "/run/secrets/app.pem"
        ]
        [
          "/usr/local/"
          "/etc/hatchery/app-key.pem"
        ]
        (of whole name).text == builtins.readFile (../../systemd + "/${name}")
    ) unitFiles;
    "every unit is enabled where its file says so" = lib.all (
      name:
      let
        unit = of whole name;
        wanted = lib.concatMap (lib.splitString " ") (
          map (lib.removePrefix "WantedBy=") (
            lib.filter (lib.hasPrefix "WantedBy=") (lines (builtins.readFile (../../systemd + "/${name}")))
          )
        );
      in
      unit.enable && (if lib.hasInfix "@" name then unit.wantedBy == [ ] else unit.wantedBy == wanted)
    ) unitFiles;
    "a declared drone's socket and daemon are instances of the templates" =
      lib.all (unit: (of whole unit).overrideStrategy == "asDropin")
        [
          "hatchery-credd@acme-my-site.socket"
          "hatchery-credd@acme-my-site.service"
        ];
    "a declared drone's socket is there from boot on" =
      (of whole "hatchery-credd@acme-my-site.socket").wantedBy == [ "sockets.target" ];
    "a drop-in says nothing that the template does not" =
      !lib.any (line: lib.hasPrefix "ExecStart" line || lib.hasInfix "PATH=" line) (
        lines (of whole "hatchery-credd@acme-my-site.service").text
      );
    "a drone that is declared no more leaves neither socket nor daemon" =
      !lib.any (lib.hasPrefix "hatchery-credd@acme") (lib.attrNames (units withoutDrones));
    "another scope restarts the daemon" =
      (of whole "hatchery-credd@acme-my-site.service").text
      != (of (hatchery (full // { drones."Acme/My.Site" = { }; })) "hatchery-credd@acme-my-site.service")
      .text;
    "without an App no declared drone has a socket" =
      !lib.any (lib.hasPrefix "hatchery-credd@acme") (
        lib.attrNames (
          units (hatchery {
            inherit drones;
          })
        )
      );
    "a drone is spawned at boot where that is said" =
      (of whole "hatchery-spawn-acme-my-site.service").wantedBy == [ "multi-user.target" ]
      && !lib.any (lib.hasPrefix "hatchery-spawn") (
        lib.attrNames (
          units (hatchery {
            drones."a/b" = { };
          })
        )
      );
    "the key goes to the daemon as a credential, from where it was said to be" =
      lib.elem "LoadCredential=app-key:/run/secrets/app.pem" (
        lines (of whole "hatchery-credd@.service").text
      );
    "an encrypted key is for systemd to decrypt, and the configuration names no file of it" =
      let
        nixos = hatchery {
          inherit drones;
          githubApp = {
            appId = 12345;
            privateKeyCredential = "/etc/credstore.encrypted/app-key";
          };
        };
        loaded = lib.filter (lib.hasInfix "app-key:") (lines (of nixos "hatchery-credd@.service").text);
      in
      failing nixos == [ ]
      && loaded == [ "LoadCredentialEncrypted=app-key:/etc/credstore.encrypted/app-key" ]
      && (of nixos "hatchery-credd@acme-my-site.socket").wantedBy == [ "sockets.target" ]
      && nixos.config.services.hatchery.settings.github == { app_id = "12345"; };

    "the table is loaded by its own unit, or by NixOS's, and by one of them" =
      (units whole) ? "hatchery-firewall.service"
      && !(whole.config.networking.nftables.tables ? hatchery)
      && !((units withNftables) ? "hatchery-firewall.service")
      && withNftables.config.networking.nftables.tables.hatchery.family == "inet";
    "without the firewall there is no table" =
      !(
        (units (hatchery {
          firewall.enable = false;
        }))
          ? "hatchery-firewall.service"
      );
    "NixOS's table is that of the file, to the letter" =
      let
        inherit (withNftables.config.networking.nftables.tables.hatchery) content;
      in
      lib.hasInfix "\ntable inet hatchery {\n${content}\n}\n" (
        builtins.readFile ../../systemd/hatchery.nft
      )
      && lib.hasInfix "hook forward" content
      && lib.hasInfix "hook input" content;
    "the owner's bridges are in the table's sets, either way" =
      let
        bridges.firewall = {
          openBridges = [ "br-0lan" ];
          closedBridges = [ "mynet0" ];
        };
        viaNixos = machine {
          networking.nftables.enable = true;
          services.hatchery = bridges;
        };
        inherit (viaNixos.config.networking.nftables) tables flushRuleset;
      in
      (hatchery bridges).config.environment.etc."hatchery/firewall.d/nixos.nft".text == ''
        add element inet hatchery closed { "mynet0" }
        add element inet hatchery open { "br-0lan" }
      ''
      && lib.hasInfix "elements = { \"br-0lan\" }" tables.hatchery.content
      && lib.hasInfix "elements = { \"mynet0\" }" tables.hatchery.content
      # Else NixOS would empty Docker's tables, too.
      && !flushRuleset;

    "the pool of the settings is in the table's set, either way" =
      let
        own.settings.docker.subnets = [ "10.77.0.0/16" ];
        viaNixos = machine {
          networking.nftables.enable = true;
          services.hatchery = own;
        };
        inherit (viaNixos.config.networking.nftables.tables.hatchery) content;
      in
      (hatchery own).config.environment.etc."hatchery/firewall.d/nixos.nft".text == ''
        add element inet hatchery pool { 10.77.0.0/16 }
      ''
      && lib.hasInfix "elements = { 10.77.0.0/16 }" content;

    "a drone is a destination and never a source" =
      lib.all (rule: rule.src == [ "group:people" ]) (policyOf whole).acls
      && lib.elem "devcontainer@:*" (lib.head (policyOf whole).acls).dst;
    "the policy has tests for people and for drones" =
      lib.sort lib.lessThan (map (test: test.src) (policyOf whole).tests) == [
        "devcontainer@"
        "levin@"
      ];
    "Headscale on this machine takes the policy" =
      whole.config.services.headscale.settings.policy.path
      == whole.config.services.hatchery.headscale.policyFile;
    "an older Headscale gets a policy of its own" =
      whole.config.services.hatchery.headscale.policyFile
      != older.config.services.hatchery.headscale.policyFile;
    "the owner's rules stand beside ours" =
      lib.length
        (policyOf (hatchery {
          headscale = headscale // {
            policy = rule "group:people";
          };
        })).acls == 2;
    "without people there is no policy" =
      (hatchery {
        headscale = headscale // {
          people = [ ];
        };
      }).config.services.hatchery.headscale.policyFile == null;

    "every option is described" = lib.all (option: option.description or null != null) documented;
    "the names are those of the table" = lib.all (
      line:
      let
        pair = lib.splitString " " line;
      in
      import ../drone-name.nix (lib.head pair) == lib.last pair
    ) names;
  }
  // lib.mapAttrs' (
    name: case:
    lib.nameValuePair "refused: ${name}" (
      lib.any (lib.hasInfix case.says) (failing (machine case.module))
    )
  ) refused
  // lib.listToAttrs (
    lib.concatMap (
      option:
      lib.mapAttrsToList (
        what: value: lib.nameValuePair "refused: ${option} = ${what}" (refusedByType option value)
      ) noFiles
    ) secretOptions
  );
  untrue = lib.attrNames (lib.filterAttrs (_: holds: !holds) statements);
in
lib.throwIf (untrue != [ ]) "not so: ${lib.concatStringsSep "; " untrue}" (
  # What a machine would install, to read.
  pkgs.writeText "hatchery-units" (
    lib.concatStrings (
      lib.mapAttrsToList (name: unit: "# ${name}\n${unit.text}\n") (
        lib.filterAttrs (name: unit: lib.hasPrefix "hatchery" name && unit.enable) (units whole)
      )
    )
    # To build it is to try the configuration and the policies.
    + "# ${whole.config.environment.etc."hatchery/config.toml".source}\n"
    + "# ${whole.config.services.hatchery.headscale.policyFile}\n"
    + "${toString (lib.length (lib.attrNames statements))} statements hold\n"
  )
)
