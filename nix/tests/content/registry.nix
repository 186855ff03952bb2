# The storage of a filled registry: images pushed, features published by the real CLI.
{
  lib,
  callPackage,
  runCommand,
  cargo,
  curl,
  devcontainer,
  distribution,
  gh,
  go,
  skopeo,
  tailscale,
}:
let
  features = lib.fileset.toSource {
    root = ../../../tests/world/features;
    fileset = ../../../tests/world/features;
  };
  # What a feature brings along; its libraries are in the image's own store.
  carried = {
    github-cli = [ "${gh}/bin/gh" ];
    go = [
      "${go}/share/go/bin/go"
      "${go}/share/go/go.env"
      "${go}/share/go/VERSION"
    ];
    rust = [ "${cargo}/bin/cargo" ];
    tailscale = [ "${tailscale}/bin/tailscaled" ];
  };
  image =
    arguments:
    callPackage ./image.nix ({ present = lib.concatLists (lib.attrValues carried); } // arguments);
  images = {
    "devcontainers/base:ubuntu" = image {
      name = "base";
      tag = "ubuntu";
    };
    "acme/nosudo:latest" = image {
      name = "nosudo";
      tag = "latest";
      user = "app";
      uid = 1001;
      withSudo = false;
    };
    "acme/prebuilt:latest" = image {
      name = "prebuilt";
      tag = "latest";
      withSshd = true;
    };
  };
in
runCommand "world-registry"
  {
    nativeBuildInputs = [
      curl
      devcontainer
      distribution
      skopeo
    ];
  }
  ''
    export HOME=$TMPDIR
    mkdir $out
    cat > registry.yml <<END
    version: 0.1
    storage: { filesystem: { rootdirectory: $out } }
    http: { addr: "127.0.0.1:5000" }
    END
    registry serve registry.yml &
    server=$!
    until curl -sf http://127.0.0.1:5000/v2/; do sleep 0.1; done

    ${lib.concatStrings (
      lib.mapAttrsToList (name: archive: ''
        skopeo --insecure-policy copy --dest-tls-verify=false docker-archive:${archive} docker://127.0.0.1:5000/${name}
      '') images
    )}
    cp -r --no-preserve=ownership ${features} features
    chmod -R u+w features
    # carry FILE FEATURE: the program itself where the package wraps it.
    carry() {
      local wrapped=''${1%/*}/.''${1##*/}-wrapped
      [ -e "$wrapped" ] || wrapped=$1
      install -m 755 "$wrapped" "features/$2/''${1##*/}"
    }
    ${lib.concatStrings (
      lib.mapAttrsToList (
        feature: files: lib.concatMapStrings (file: "carry ${file} ${feature}\n") files
      ) carried
    )}
    # The CLI speaks http to a registry on localhost.
    mkdir codespace
    mv features/tailscale codespace/
    rm -f features/README.md
    devcontainer features publish -r localhost:5000 -n devcontainers/features features
    devcontainer features publish -r localhost:5000 -n tailscale/codespace codespace
    kill $server
    wait $server || true
  ''
