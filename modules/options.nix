# What can be said about hatchery. What follows from it is in the files beside this one.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) literalExpression mkOption types;
  cfg = config.services.hatchery;
  format = pkgs.formats.toml { };

  secret =
    {
      default ? null,
      ...
    }@rest:
    mkOption (
      {
        type = types.nullOr types.externalPath;
        inherit default;
      }
      // rest
    );
  whoReads = ''
    It is read by whoever runs {command}`hatchery`, so it belongs to `root:hatchery` with mode `0440`.
    A path in the Nix store, where everybody could read it, is refused.
  '';

  limit =
    type: example: description:
    mkOption {
      type = types.nullOr type;
      default = null;
      inherit example;
      description = "${description} `null` leaves it to hatchery.";
    };

  device = types.strMatching "[A-Za-z0-9_.-]{1,15}";

  access = types.enum [
    "read"
    "write"
    "admin"
  ];

  drone = {
    options = {
      repositories = mkOption {
        type = types.listOf types.str;
        default = [ ];
        example = [
          "acme/site"
          "acme/theme"
        ];
        description = ''
          The repositories that this drone's tokens cover; its own is always among them. A change
          takes effect with {command}`hatchery rebuild`.
        '';
      };
      files = mkOption {
        type = types.attrsOf types.str;
        default = { };
        example = {
          ".env" = "/run/secrets/site.env";
        };
        description = ''
          Files of this machine for the drone's clone, which its repository does not hold: each by its
          path in the clone. They are copied when the drone is spawned.
        '';
      };
      envFile = secret {
        example = "/run/secrets/site.env";
        description = ''
          A file with secret variables for the drone's sessions and commands, a line `NAME=value` each,
          over those of `settings.devcontainer.env_file`. ${whoReads}
        '';
      };
      permissions = mkOption {
        type = types.nullOr (types.attrsOf access);
        default = null;
        example = {
          contents = "read";
        };
        description = ''
          What this drone's tokens may do, in the words of GitHub's API. `null` stands for
          `settings.github.permissions`. A change takes effect with {command}`hatchery rebuild`.
        '';
      };
      autostart = mkOption {
        type = types.bool;
        default = false;
        description = ''
          Whether the drone is spawned at boot, and by a switch to a new configuration, where it
          does not exist yet. One that is there is left as it is, burrowed or not.
        '';
      };
    };
  };
in
{
  options.services.hatchery = {
    enable = lib.mkEnableOption "hatchery, which turns GitHub repositories into devcontainers on this machine";

    package = mkOption {
      type = types.package;
      default = pkgs.callPackage ../nix/package.nix { };
      defaultText = literalExpression "hatchery, built with this machine's nixpkgs";
      description = "The hatchery to run: its programs and its files for systemd.";
    };

    settings = mkOption {
      type = format.type;
      default = { };
      example = {
        devcontainer.trust = [ "acme/*" ];
        ssh.authorized_keys_from = [ "https://github.com/you.keys" ];
      };
      description = ''
        {file}`/etc/hatchery/config.toml`, as hatchery's docs/reference/configuration.md describes it.
        The other options are written into it as well. {command}`hatchery config --check` tries it when
        the system is built, so a mistake stops the build and not the service.

        It is readable by everybody. Secrets are files, named by `githubApp.privateKeyFile`,
        `headscale.authKeyFile` and `headscale.apiKeyFile`.
      '';
    };

    githubApp = {
      appId = mkOption {
        type = types.nullOr (types.coercedTo types.ints.positive toString types.str);
        default = null;
        example = "Iv23li0123456789abcd";
        description = ''
          Client ID, or numeric ID, of the GitHub App whose tokens the drones get. Without an App only
          public repositories can be spawned.
        '';
      };
      privateKeyFile = secret {
        example = "/run/secrets/hatchery-app.pem";
        description = ''
          The App's private key (PEM). systemd hands it to {command}`hatchery-credd`, and to nothing
          else, as a credential; it may belong to root alone. A path in the Nix store is refused.

          A daemon that runs keeps the key it started with. It ends when its last token has expired,
          so a new key is everywhere after an hour; `systemctl stop 'hatchery-credd@*.service'` is
          quicker.
        '';
      };
      privateKeyCredential = mkOption {
        type = types.nullOr types.path;
        default = null;
        example = literalExpression "./hatchery-app.cred";
        description = ''
          The same key, encrypted for this machine by
          {command}`systemd-creds encrypt --name=app-key app.pem hatchery-app.cred`, in place of
          `privateKeyFile`. systemd decrypts it for {command}`hatchery-credd` alone, with this
          machine's TPM or its own secret; the file may lie in the Nix store.
        '';
      };
    };

    headscale = {
      url = mkOption {
        type = types.nullOr types.str;
        default = null;
        example = "https://headscale.example.org";
        description = ''
          The Headscale server that drones join. `null` means no tailnet: drones are reached on a
          loopback port of this machine.
        '';
      };
      domain = mkOption {
        type = types.nullOr types.str;
        default = null;
        example = "tail.example.org";
        description = "The tailnet's DNS domain: Headscale's `dns.base_domain`.";
      };
      apiKeyFile = secret {
        example = "/run/secrets/hatchery-headscale-api";
        description = ''
          A Headscale API key. Each drone then joins by a key of its own, for one use.

          ${whoReads}
        '';
      };
      authKeyFile = secret {
        example = "/run/secrets/hatchery-authkey";
        description = ''
          A reusable, ephemeral pre-auth key of `headscale.user`, where there is no API key.

          ${whoReads}
        '';
      };
      user = mkOption {
        type = types.str;
        default = "devcontainer";
        description = "The Headscale user that owns the drones' nodes, and nothing else.";
      };
      people = mkOption {
        type = types.listOf types.str;
        default = [ ];
        example = [
          "levin"
          "ada@example.com"
        ];
        description = ''
          The Headscale users whose machines may reach the drones, on any port. With it, a policy is
          generated: see `headscale.policyFile`.
        '';
      };
      policy = mkOption {
        type = (pkgs.formats.json { }).type;
        default = { };
        example = literalExpression ''
          {
            acls = [
              {
                action = "accept";
                src = [ "group:people" ];
                dst = [ "tag:printer:631" ];
              }
            ];
          }
        '';
        description = ''
          The Headscale policy. What stands here is added to what hatchery needs: people's machines
          reach each other and the drones on all ports, and a drone reaches nothing.

          No rule may have the drones as a source. `*`, `autogroup:member` and `autogroup:self`
          include them and are refused, too.
        '';
      };
      policyFile = mkOption {
        type = types.nullOr types.path;
        readOnly = true;
        description = ''
          The policy as a file, tried by {command}`headscale policy check` when the system is built;
          with a Headscale that knows `tests` (0.29), with them and against people's machines and
          drones made up for it. `null` without `headscale.people`.

          Where Headscale runs on this machine it is its `settings.policy.path`. It also stands at
          {file}`/etc/hatchery/headscale-policy.json`, for a Headscale elsewhere.
        '';
      };
    };

    drones = mkOption {
      type = types.attrsOf (types.submodule drone);
      default = { };
      example = literalExpression ''
        {
          "acme/site" = {
            autostart = true;
            repositories = [ "acme/site" "acme/theme" ];
          };
        }
      '';
      description = ''
        What is different for one drone, by its repository. A drone need not stand here to be spawned.
        Where there is a GitHub App, the socket with this drone's credentials is there from boot on; when
        the entry goes, the switch stops the socket and the daemon behind it. A drone that still exists is
        then like any other, until {command}`hatchery slay`.
      '';
    };

    authorizedKeys = mkOption {
      type = types.listOf types.singleLineStr;
      default = [ ];
      example = [ "ssh-ed25519 AAAA... levin@laptop" ];
      description = "Public keys that may log in to drones.";
    };

    limits = {
      drones = limit types.ints.positive 32 "How many drones there may be.";
      memory = limit types.str "16GiB" "Memory of one drone.";
      cpus = limit (types.numbers.positive) 2.5 "Processors of one drone.";
      pids = limit types.ints.positive 8192 "Processes and threads of one drone.";
      build = limit types.str "45m" "How long a spawn may clone, pull and build.";
      disk = limit types.str "200GiB" "What a drone may take on Docker's disk before it is burrowed; \"0\" is no limit.";
      reserve = limit types.str "5GiB" "What is left free on Docker's disk: with less, nothing is spawned.";
      clone = limit types.str "8GiB" "What a clone may take on the disk, with its history.";
      clone_files = limit types.ints.positive 500000 "Files and directories of a clone.";
      idle = limit types.str "4h" "How long a drone may be idle before it is burrowed; \"0\" is no limit.";
      remains =
        limit types.str "90d"
          "How long work is kept that was in a drone removed by `hatchery slay --force`; \"0\" keeps nothing.";
      remains_size = limit types.str "20GiB" "How much of it is kept of one drone.";
    };

    firewall = {
      enable = mkOption {
        type = types.bool;
        default = true;
        description = ''
          Whether containers, while they run and while they are built, are kept from this machine's
          own services and from the tailnet that this machine is a member of. Without it a drone is
          on the tailnet *as this machine*, whatever Headscale's policy says.

          It is a table of nftables, also where `networking.nftables.enable` is off.
        '';
      };
      openBridges = mkOption {
        type = types.listOf device;
        default = [ ];
        example = [ "br-0lan" ];
        description = ''
          Bridges that are left alone although their names look like Docker's, or they are to reach this machine.
        '';
      };
      closedBridges = mkOption {
        type = types.listOf device;
        default = [ ];
        example = [ "mynet0" ];
        description = ''
          Bridges of Docker's whose names do not look like it, because somebody chose them.
        '';
      };
    };
  };

  config.assertions = lib.mkIf cfg.enable [
    {
      assertion =
        (cfg.githubApp.appId == null)
        == (cfg.githubApp.privateKeyFile == null && cfg.githubApp.privateKeyCredential == null);
      message = "services.hatchery.githubApp: appId and privateKeyFile go together; privateKeyCredential may stand for the file.";
    }
    {
      assertion = cfg.githubApp.privateKeyFile == null || cfg.githubApp.privateKeyCredential == null;
      message = "services.hatchery.githubApp: the key is either privateKeyFile or privateKeyCredential.";
    }
    {
      assertion = (cfg.headscale.url == null) == (cfg.headscale.domain == null);
      message = "services.hatchery.headscale: url and domain go together.";
    }
    {
      assertion =
        cfg.headscale.url == null || cfg.headscale.apiKeyFile != null || cfg.headscale.authKeyFile != null;
      message = "services.hatchery.headscale: set apiKeyFile (or authKeyFile), by which drones join.";
    }
  ];
}
