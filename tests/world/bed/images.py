"""All images of the world, each tagged with the digest of everything that goes into it."""

import json
import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

from bed import authority, binaries, debian, docker, repositories, tools
from bed.content import digest_of_path, digest_of_text
from bed.process import say
from bed.settings import (
    CACHE,
    ENGINE,
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
    TAIL_DOMAIN,
    TAILNET,
    WORLD,
)


@dataclass(frozen=True)
class Images:
    """References of what the machines are started from, and of what goes into the registry."""

    base: str
    registry: str
    tailnet: str
    server: str
    laptop: str
    drone: str
    nosudo: str


def ensure() -> Images:
    """Build what is absent, at most a few things at a time."""
    with ThreadPoolExecutor(max_workers=12) as pool:
        tailscaled = pool.submit(binaries.build, binaries.TAILSCALED)
        headscale = pool.submit(binaries.build, binaries.HEADSCALE)
        node = pool.submit(tools.node_runtime)
        # Needed last, so built when the others no longer want the processors.
        gh = pool.submit(lambda: (tailscaled.result(), headscale.result(), binaries.build(binaries.GH)))
        foreign = pool.submit(_machine_of, ENGINE.suite, tailscaled) if ENGINE.suite != debian.release() else None
        base = _base(debian.release())
        drone = pool.submit(_build, "drone", base)
        nosudo = pool.submit(lambda: _build("nosudo", drone.result()))
        machine = _machine(base, tailscaled.result())
        registry = pool.submit(lambda: _build("registry", machine, {"tls": _tls()}))
        tailnet = pool.submit(lambda: _tailnet(machine, headscale.result()))
        server = pool.submit(lambda: _server(foreign.result() if foreign else machine, node.result()))
        laptop = pool.submit(_build, "laptop", machine)
        gh.result()
        return Images(
            base, registry.result(), tailnet.result(), server.result(), laptop.result(), drone.result(), nosudo.result()
        )


def internet(filled_registry: str) -> str:
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
        "graphql": tools.graphql_core(),
        "git": _repositories(),
    }
    return _build("internet", filled_registry, extras, arguments)


def _base(suite: str) -> str:
    return _build("base", debian.image(suite), {"certificates": _certificates()})


def _machine(base: str, tailscaled: Path) -> str:
    return _build("machine", base, {"tailscaled": tailscaled}, {"RESOLVER": INTERNET.address})


def _machine_of(suite: str, tailscaled: Future[Path]) -> str:
    return _machine(_base(suite), tailscaled.result())


def _tailnet(machine: str, headscale: Path) -> str:
    arguments = {
        "TAILNET": TAILNET.address,
        "LOGIN_SERVER": LOGIN_SERVER,
        "TAIL_DOMAIN": TAIL_DOMAIN,
        "NODE_TIMEOUT": NODE_TIMEOUT,
    }
    return _build("tailnet", machine, {"headscale": headscale, "tls": _tls()}, arguments)


def _server(machine: str, node: Path) -> str:
    extras = {"node": node / "bin" / "node", "devcontainer-cli": tools.devcontainer_cli()}
    return _build("server", machine, extras, {"DAEMON": json.dumps(ENGINE.daemon)})


def _tls() -> Path:
    directory = CACHE / "authority" / "tls"
    directory.mkdir(exist_ok=True)
    for name in ("tls.crt", "tls.key"):
        shutil.copy2(authority.AUTHORITY / name, directory / name)
    return directory


def _certificates() -> Path:
    directory = CACHE / "authority" / "certificates"
    authority.write_certificates(directory)
    return directory


def _repositories() -> Path:
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
        say(f"building image {name}")
        with scratch(f"image-{name}") as context:
            shutil.copytree(IMAGES / name, context, dirs_exist_ok=True, symlinks=True)
            for inside, path in extras.items():
                copy(path, context / inside)
            docker.build(reference, context, {"PARENT": parent, **arguments})
        say(f"built image {name}")
    return reference


def copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy2(source, target)


@contextmanager
def scratch(purpose: str) -> Iterator[Path]:
    """A directory that is gone afterwards; what a killed run left is removed by the next one."""
    parent = CACHE / "scratch"
    parent.mkdir(parents=True, exist_ok=True)
    directory = Path(mkdtemp(prefix=f"{purpose}-", dir=parent))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
