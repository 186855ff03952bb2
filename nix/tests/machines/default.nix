# The machines of tests/world, by the same names and addresses, with the same things in the same places.
{ self }:
{
  internet = ./internet.nix;
  tailnet = ./tailnet.nix;
  server = {
    imports = [
      self.nixosModules.default
      ./server.nix
    ];
  };
  laptop = ./laptop.nix;
}
