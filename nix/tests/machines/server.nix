# The server: services.hatchery, and nothing that it does not ask for itself.
{ lib, pkgs, ... }:
let
  world = import ../world.nix;
  authority = pkgs.callPackage ../content/authority.nix { };
  app = pkgs.callPackage ../content/app.nix { };
  keys = import (pkgs.path + "/nixos/tests/ssh-keys.nix") pkgs;
  environment = {
    # Node has a list of authorities of its own; this adds the system's.
    NODE_EXTRA_CA_CERTS = "/etc/ssl/certs/ca-certificates.crt";
  };
  # As in tests/world/images/server.
  clock = pkgs.writeShellScriptBin "credd-clock" (
    builtins.replaceStrings
      [ "$(ls /usr/lib/*/faketime/libfaketime.so.1)" ]
      [ "${pkgs.libfaketime}/lib/libfaketime.so.1" ]
      (builtins.readFile ../../../tests/world/images/server/files/usr/local/bin/credd-clock)
  );
in
{
  imports = [
    ./common.nix
    ./introduced.nix
  ];

  services.hatchery = {
    enable = true;
    githubApp = {
      inherit (world) appId;
      privateKeyFile = "/etc/hatchery/app-key.pem";
    };
    headscale = {
      url = world.loginServer;
      inherit (world) domain;
      authKeyFile = "/etc/hatchery/secrets/tailnet-auth-key";
      apiKeyFile = "/etc/hatchery/secrets/headscale-api-key";
      people = [ "levin" ];
    };
    authorizedKeys = [ keys.snakeOilEd25519PublicKey ];
    settings.github.ca_file = "/usr/local/share/ca-certificates/hatchery-world.crt";
    # BuildKit's image has programs with file capabilities, which no image that Nix builds can have.
    settings.docker.builder = "shared";
  };

  introductions = {
    "/etc/hatchery/secrets/tailnet-auth-key" = "tailnet-auth-key";
    "/etc/hatchery/secrets/headscale-api-key" = "headscale-api-key";
  };
  systemd.tmpfiles.rules = [
    "C /etc/hatchery/app-key.pem 0600 root root - ${app}/private.pem"
    "L+ /usr/local/share/ca-certificates/hatchery-world.crt - - - - ${authority}/ca.crt"
  ];

  environment.systemPackages = [ clock ];

  # A member of the group, who has no sudo.
  users.users.overlord = {
    isNormalUser = true;
    extraGroups = [ "hatchery" ];
  };

  # There and not logged in, as in the world, where scenarios join it.
  services.tailscale.enable = true;
  systemd.services.tailscaled.wantedBy = lib.mkForce [ ];

  environment.variables = environment;
  systemd.globalEnvironment = environment;
  virtualisation = {
    memorySize = 6144;
    diskSize = 20480;
    cores = 4;
  };
}
