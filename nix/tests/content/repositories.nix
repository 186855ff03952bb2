# The repositories of tests/world, bare, as its own code makes them.
{
  lib,
  runCommand,
  git,
  python3,
}:
runCommand "world-repositories"
  {
    nativeBuildInputs = [
      git
      python3
    ];
    source = lib.fileset.toSource {
      root = ../../../tests;
      fileset = lib.fileset.unions [
        ../../../tests/world/bed
        ../../../tests/world/repositories
      ];
    };
  }
  ''
    export HOME=$TMPDIR
    cd $source/world
    python3 -Bc 'import pathlib, sys; from bed import repositories; repositories.build_all(pathlib.Path(sys.argv[1]))' $out
  ''
