final: _previous: {
  hatchery = final.callPackage ./package.nix { };
  # Goes into drones, whose images may have another libc or none.
  hatchery-drone = final.pkgsStatic.callPackage ./drone.nix { };
}
