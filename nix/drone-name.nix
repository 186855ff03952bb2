# The name of a repository's drone: `DroneName::of` of src/drone/name.rs, in Nix. Both are held against
# tests/drone-names.txt. Nothing but builtins, so that it can be tried without nixpkgs.
repository:
let
  upper = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
  characters = text: builtins.genList (n: builtins.substring n 1 text) (builtins.stringLength text);
  key =
    builtins.replaceStrings (characters upper) (characters "abcdefghijklmnopqrstuvwxyz")
      repository;
  words = builtins.filter (part: builtins.isString part && part != "") (
    builtins.split "[^a-z0-9]+" key
  );
  name = builtins.concatStringsSep "-" words;

  # A DNS label has at most 63 characters (RFC 1035, section 2.3.4).
  longest = 63;
  digits = 6;
  cut = builtins.substring 0 (longest - digits - 1) name;
  trimmed =
    if builtins.substring (longest - digits - 2) 1 cut == "-" then
      builtins.substring 0 (longest - digits - 2) cut
    else
      cut;
  hash = builtins.substring 0 digits (builtins.hashString "sha256" key);
in
if builtins.stringLength name > longest then "${trimmed}-${hash}" else name
