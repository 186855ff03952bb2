# What the programs are built from: a change of a test or a document builds nothing anew.
{ lib }:
lib.fileset.toSource {
  root = ../.;
  fileset = lib.fileset.unions [
    ../Cargo.lock
    ../Cargo.toml
    ../src
    ../systemd
  ];
}
