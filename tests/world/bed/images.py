"""All images of the world, each tagged with the digest of everything that goes into it."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bed import authority, computer, debian, docker, repositories
from bed.content import digest_of_path, digest_of_text
from bed.process import making
from bed.scratch import scratch
from bed.settings import (
    CACHE,
    GITHUB_API,
    IMAGES,
    INTERNET,
    LAPTOP,
    LOGIN_HOST,
    LOGIN_SERVER,
    NODE_TIMEOUT,
    PREFIX,
    REPOSITORIES,
    SERVER,
    SUBNET,
    TAIL_DOMAIN,
    TAILNET,
    WORLD,
    Engine,
)

# Of a world's own network, so the last layers alone have it: what is below them all worlds share.
_RESOLVER = {"RESOLVER": INTERNET.address}


@dataclass(frozen=True)
class Carried:
    """What is needed to fill the registry: the one to be filled, what it is to carry, and the release below."""

    base: str
    registry: str
    drone: str
    nosudo: str
    buildkit: str


def internet(filled_registry: str, graphql: Path, git: Path) -> str:
    """The last image: GitHub, on top of the registry that has been filled."""
    arguments = {
        "INTERNET": INTERNET.address,
        "TAILNET": TAILNET.address,
        "SERVER": SERVER.address,
        "LAPTOP": LAPTOP.address,
        "LOGIN_HOST": LOGIN_HOST,
    }
    extras = {
        "github": WORLD / "github",
        "github-api.json": GITHUB_API,
        "graphql": graphql,
        "git": git,
    }
    return _build("internet", filled_registry, extras, arguments)


def base(suite: str) -> str:
    return _build("base", debian.image(suite), {"certificates": authority.TRUSTED})


def machine(base: str) -> str:
    return _build("machine", base)


def drone(base: str) -> str:
    return _build("drone", base)


def nosudo(drone: str) -> str:
    return _build("nosudo", drone)


def buildkit(base: str, buildkitd: Path, buildctl: Path) -> str:
    return _build("buildkit", base, {"buildkitd": buildkitd, "buildctl": buildctl})


def registry(machine: str) -> str:
    return _build("registry", machine, {"tls": authority.TLS})


def tailnet(machine: str, headscale: Path) -> str:
    arguments = {
        "TAILNET": TAILNET.address,
        "LOGIN_SERVER": LOGIN_SERVER,
        "TAIL_DOMAIN": TAIL_DOMAIN,
        "NODE_TIMEOUT": NODE_TIMEOUT,
        **_RESOLVER,
    }
    return _build("tailnet", machine, {"headscale": headscale, "tls": authority.TLS}, arguments)


def docker_host(machine: str) -> str:
    return _build("docker-host", machine)


def server(engine: Engine, docker_host: str, tailscaled: Path, node: Path, devcontainer_cli: Path) -> str:
    extras = {"tailscaled": tailscaled, "node": node / "bin" / "node", "devcontainer-cli": devcontainer_cli}
    return _build("server", docker_host, extras, {"DAEMON": json.dumps(engine.daemon), **_RESOLVER})


def computer_of(server: str, base: str) -> str:
    """QEMU, with a disk of what the server is and what it needs besides to boot."""
    inner, outer = computer.entrance()
    addresses = {"ADDRESS": f"{SERVER.address}/{SUBNET.prefixlen}", "GATEWAY": str(SUBNET[1])}
    root = _build("kernel", server, {"entrance": inner}, addresses)
    return computer.image(root, _build("qemu", base, {"entrance": outer}))


def laptop(machine: str, tailscaled: Path) -> str:
    return _build("laptop", machine, {"tailscaled": tailscaled}, _RESOLVER)


def git_repositories() -> Path:
    sources = digest_of_text(digest_of_path(REPOSITORIES), digest_of_path(Path(repositories.__file__)))
    target = CACHE / "repositories" / sources[:16]
    if not target.exists():
        with scratch("repositories") as draft:
            repositories.build_all(draft / "git")
            target.parent.mkdir(parents=True, exist_ok=True)
            (draft / "git").replace(target)
    return target


def _build(
    name: str, parent: str, extras: Mapping[str, Path] | None = None, arguments: Mapping[str, str] | None = None
) -> str:
    """The image of `images/<name>` on top of `parent`, its context completed by `extras`."""
    extras, arguments = extras or {}, arguments or {}
    digest = digest_of_text(
        parent,
        digest_of_path(IMAGES / name),
        *(f"{inside}={digest_of_path(path)}" for inside, path in sorted(extras.items())),
        *(f"{key}={value}" for key, value in sorted(arguments.items())),
    )
    reference = f"{PREFIX}/{name}:{digest[:16]}"
    if not docker.image_exists(reference):
        with making(f"image {name}"), scratch(f"image-{name}") as context:
            shutil.copytree(IMAGES / name, context, dirs_exist_ok=True, symlinks=True)
            for inside, path in extras.items():
                copy(path, context / inside)
            docker.build(reference, context, {"PARENT": parent, **arguments})
    return reference


def copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy2(source, target)
