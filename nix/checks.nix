# `nix flake check`. What is evaluated by everybody, and what is built where a builder has KVM.
{
  lib,
  nixpkgs,
  pkgs,
  self,
}:
let
  inherit (pkgs.stdenv.hostPlatform) system;
  scenarios = ../tests/scenarios;
  names = lib.filter (lib.hasSuffix ".py") (lib.attrNames (builtins.readDir scenarios));
in
{
  inherit (self.packages.${system}) hatchery hatchery-drone;

  module = import ./tests/module.nix {
    inherit
      lib
      nixpkgs
      pkgs
      self
      ;
  };
}
// lib.listToAttrs (
  map (
    file:
    lib.nameValuePair "scenario-${lib.removeSuffix ".py" (lib.replaceStrings [ "_" ] [ "-" ] file)}" (
      pkgs.testers.runNixOSTest (
        import ./tests/scenario.nix {
          inherit self;
          name = lib.removeSuffix ".py" file;
          script = builtins.readFile ../tests/prelude.py + builtins.readFile (scenarios + "/${file}");
        }
      )
    )
  ) names
)
