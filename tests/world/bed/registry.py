"""The filled registry: images pushed, features published by the real CLI.

The registry runs from its image; what it then holds is committed as an image of its own, so that it
is done once for each content. *internet* is built on top of it.
"""

import json
import shutil
from pathlib import Path

from bed import binaries, docker, tools
from bed.content import digest_of_path, digest_of_text
from bed.images import Carried, copy
from bed.process import making, run, succeeds, wait_until
from bed.scratch import scratch
from bed.settings import BUILDKIT_IMAGE, DEVCONTAINER_CLI, FEATURES, GH_PACKAGE, PREFIX

_CONTAINER = f"{PREFIX}-registry"
_SERVE = "nginx && exec docker-registry serve /etc/docker/registry/config.yml"
# feature directory -> the namespace it is published in
_NAMESPACES = {
    "sshd": "devcontainers/features",
    "common-utils": "devcontainers/features",
    "github-cli": "devcontainers/features",
    "go": "devcontainers/features",
    "rust": "devcontainers/features",
    "tailscale": "tailscale/codespace",
}
_PREBUILT: dict[str, dict[str, str]] = {"ghcr.io/devcontainers/features/sshd:1": {}}


def ensure(images: Carried) -> str:
    """The reference of the filled image."""
    digest = digest_of_text(
        images.registry,
        images.drone,
        images.nosudo,
        images.buildkit,
        DEVCONTAINER_CLI,
        digest_of_path(FEATURES),
        digest_of_path(Path(__file__)),
        binaries.TAILSCALED.binary.name,
        GH_PACKAGE,
        digest_of_path(tools.go_root() / "bin" / "go"),
        digest_of_path(tools.cargo()),
    )
    reference = f"{PREFIX}/registry-filled:{digest[:16]}"
    if not docker.image_exists(reference):
        with making("the registry", "filling", "filled"):
            _fill(images, reference)
    return reference


def _fill(images: Carried, reference: str) -> None:
    docker.remove_container(_CONTAINER)
    run(
        "docker", "run", "--detach", "--name", _CONTAINER, "--publish", "127.0.0.1::5000",
        images.registry, "sh", "-c", _SERVE,
    )  # fmt: skip
    try:
        published = run("docker", "port", _CONTAINER, "5000/tcp").splitlines()[0]
        wait_until(
            "the registry answers", 30, ["docker", "exec", _CONTAINER, "curl", "-sf", "http://127.0.0.1:5000/v2/"]
        )
        _push(images.drone, f"{published}/devcontainers/base:ubuntu")
        _push(images.nosudo, f"{published}/acme/nosudo:latest")
        _push(images.buildkit, f"{published}/{BUILDKIT_IMAGE}")
        _publish_features(images.base)
        _push_prebuilt(images, f"{published}/acme/prebuilt:latest")
        run("docker", "exec", _CONTAINER, "chown", "-R", "docker-registry", "/var/lib/docker-registry")
        run("docker", "commit", "--pause=false", "--change", 'CMD ["/sbin/init"]', _CONTAINER, reference)
    finally:
        docker.remove_container(_CONTAINER)


def _push(image: str, name: str) -> None:
    """Push by way of 127.0.0.1, where every dockerd takes a registry without TLS."""
    run("docker", "tag", image, name)
    try:
        run("docker", "push", "--quiet", name)
    finally:
        run("docker", "rmi", "--no-prune", name)


def _publish_features(base_image: str) -> None:
    carried = {
        "tailscale": {"tailscaled": binaries.build(binaries.TAILSCALED)},
        "github-cli": {"gh": tools.gh()},
        "go": {name: tools.go_root() / name for name in ("bin/go", "go.env", "VERSION")},
        "rust": {"cargo": tools.cargo()},
    }
    for namespace in sorted(set(_NAMESPACES.values())):
        with scratch("features") as source:
            for name in (name for name, its in _NAMESPACES.items() if its == namespace):
                copy(FEATURES / name, source / name)
                for inside, binary in carried.get(name, {}).items():
                    shutil.copy2(binary, source / name / Path(inside).name)
            _with_cli(base_image, source, "features", "publish", "-r", "ghcr.io", "-n", namespace, "/source")


def _push_prebuilt(images: Carried, name: str) -> None:
    """An image that the real CLI built with a feature, so its metadata names it."""
    built = f"{PREFIX}/prebuilt:{images.drone.rpartition(':')[2]}"
    with scratch("prebuilt") as source:
        (source / ".devcontainer.json").write_text(json.dumps({"image": images.drone, "features": _PREBUILT}))
        before = _untagged()
        _with_cli(
            images.base, source, "build", "--buildkit", "never", "--workspace-folder", "/source", "--image-name", built
        )
    _push(built, name)
    # What the CLI leaves behind in the host's Docker.
    for image in ("dev_container_feature_content_temp", *sorted(_untagged() - before)):
        succeeds("docker", "rmi", image)


def _untagged() -> set[str]:
    return set(run("docker", "images", "--quiet", "--no-trunc", "--filter", "dangling=true").split())


def _with_cli(base_image: str, source: Path, *arguments: str) -> None:
    """Run the CLI with the host's own docker command, whose dockerd it speaks to, where ghcr.io is the registry."""
    address = run("docker", "inspect", "--format", "{{.NetworkSettings.IPAddress}}", _CONTAINER).strip()
    programs = {
        tools.node_runtime() / "bin" / "node": "/usr/local/bin/node",
        tools.devcontainer_cli(): "/usr/local/lib/devcontainer-cli",
        Path(shutil.which("docker") or "/usr/bin/docker").resolve(): "/usr/local/bin/docker",
    }
    volumes = [part for path, inside in programs.items() for part in ("--volume", f"{path}:{inside}:ro")]
    run(
        "docker", "run", "--rm", "--add-host", f"ghcr.io:{address}", "--volume", f"{source}:/source", *volumes,
        "--volume", "/var/run/docker.sock:/var/run/docker.sock",
        "--env", "NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt", "--env", "DOCKER_BUILDKIT=0",
        base_image, "node", "/usr/local/lib/devcontainer-cli/devcontainer.js", *arguments,
    )  # fmt: skip
