# services.hatchery: all that a NixOS machine needs to hatch drones.
{
  _class = "nixos";

  imports = [
    ./options.nix
    ./host.nix
    ./configuration.nix
    ./units.nix
    ./drones.nix
    ./firewall.nix
    ./headscale.nix
  ];
}
