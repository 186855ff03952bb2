# The GitHub of tests/world: `github-serve`, and `github-fake`, by which a scenario changes it.
{
  lib,
  python3,
  runCommand,
  writeShellScriptBin,
  symlinkJoin,
}:
let
  python = python3.withPackages (
    packages: with packages; [
      cryptography
      graphql-core
      jsonschema
      pyjwt
    ]
  );
  sources = runCommand "world-github" { } ''
    mkdir $out
    cp -r ${
      lib.fileset.toSource {
        root = ../../../tests/world/github;
        fileset = ../../../tests/world/github;
      }
    } $out/github
    chmod -R u+w $out
    cp ${../../../tests/credd/github-api.json} $out/github/github-api.json
  '';
  run =
    name: module:
    writeShellScriptBin name ''
      cd ${sources} && exec ${python}/bin/python3 -Bm ${module} "$@"
    '';
in
symlinkJoin {
  name = "world-github";
  paths = [
    (run "github-serve" "github")
    (run "github-fake" "github.command")
  ];
}
