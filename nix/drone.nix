# hatchery-drone, the static program that goes into drones: git's credential helper and gh's wrapper.
{ lib, rustPlatform }:
let
  manifest = (lib.importTOML ../Cargo.toml).package;
in
rustPlatform.buildRustPackage {
  pname = "hatchery-drone";
  inherit (manifest) version;
  src = import ./source.nix { inherit lib; };
  cargoLock.lockFile = ../Cargo.lock;
  # Little of the library, and none of its C.
  buildNoDefaultFeatures = true;
  cargoBuildFlags = [
    "--bin"
    "hatchery-drone"
  ];
  # They need Docker, systemd and an sshd: `make test`.
  doCheck = false;
  meta = {
    description = "git's credential helper and gh's wrapper in a drone of hatchery";
    homepage = manifest.repository;
    license = lib.licenses.mit;
    platforms = lib.platforms.linux;
    mainProgram = "hatchery-drone";
  };
}
