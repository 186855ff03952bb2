# The storage of a filled registry: images pushed, features published by the real CLI.
{
  lib,
  callPackage,
  runCommand,
  curl,
  devcontainer,
  distribution,
  pkgsStatic,
  skopeo,
  tailscale,
}:
let
  features = lib.fileset.toSource {
    root = ../../../tests/world/features;
    fileset = ../../../tests/world/features;
  };
  image = arguments: callPackage ./image.nix arguments;
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
  # What a feature carries goes into images without a store.
  carried = {
    tailscale.tailscaled = "$(ls ${tailscale}/bin/.tailscaled-wrapped ${tailscale}/bin/tailscaled 2> /dev/null | head -n 1)";
    github-cli.gh = "${pkgsStatic.gh}/bin/gh";
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
    ${lib.concatStrings (
      lib.mapAttrsToList (
        feature: files:
        lib.concatStrings (
          lib.mapAttrsToList (name: from: ''
            install -m 755 ${from} features/${feature}/${name}
          '') files
        )
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
