{
  description = "Devcontainers on your own server: one command from a GitHub repository to plain ssh over your tailnet";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";

  outputs =
    { self, nixpkgs }:
    let
      inherit (nixpkgs) lib;
      systems = [
        "x86_64-linux"
        "aarch64-linux"
      ];
      forEach = make: lib.genAttrs systems (system: make nixpkgs.legacyPackages.${system});
    in
    {
      nixosModules.default = ./modules;

      overlays.default = import ./nix/overlay.nix;

      packages = forEach (
        pkgs:
        let
          ours = pkgs.extend self.overlays.default;
        in
        {
          inherit (ours) hatchery hatchery-drone;
          default = ours.hatchery;
        }
      );

      devShells = forEach (pkgs: {
        default = pkgs.callPackage ./nix/shell.nix { };
      });

      formatter = forEach (pkgs: pkgs.nixfmt-tree);

      checks = forEach (
        pkgs:
        import ./nix/checks.nix {
          inherit
            lib
            nixpkgs
            pkgs
            self
            ;
        }
      );
    };
}
