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
  # The pages that the scenario of this name types from, by their path.
  book = lib.listToAttrs (
    map (
      page:
      lib.nameValuePair (lib.removePrefix (toString ../. + "/") (toString page)) (builtins.readFile page)
    ) ([ ../README.md ] ++ lib.filter (lib.hasSuffix ".md") (lib.filesystem.listFilesRecursive ../docs))
  );
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
          script =
            lib.optionalString (file == "book.py") "BOOK = ${builtins.toJSON book}\n"
            + builtins.readFile ../tests/prelude.py
            + builtins.readFile (scenarios + "/${file}");
        }
      )
    )
  ) names
)
