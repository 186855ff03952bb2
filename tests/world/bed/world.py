"""Up, down, and what stands between."""

import fcntl
import shutil
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from bed import authority, daemon, docker, install, machines, prepare, prerequisites, provision, scratch
from bed.errors import WorldError
from bed.process import run, say, succeeds
from bed.settings import CACHE, DEFAULT_ENGINE, MACHINES, NAME, ON_OTHER_ENGINES, PREFIX, STATE, MachineSpec

# What all worlds of a machine have in common: images, the cache, the dockerd.
_SHARED = "hatchery-world-shared"
_READY = STATE / "ready"  # which images the machines that stand were completed from


def up(fresh: bool = False) -> None:
    """Bring up all four machines: those that stand are kept, half-made ones are made anew."""
    prerequisites.require()
    with _alone(NAME):
        wanted = _prepare(())
        STATE.mkdir(parents=True, exist_ok=True)
        if fresh or not _stands(wanted):
            _make(wanted)
        else:
            _boot()
        install.everything()
        say("the world is up")


def make_ready(all_engines: bool = False) -> None:
    """Everything of `up` that needs neither Hatchery's binaries nor machines."""
    prerequisites.require()
    _prepare((DEFAULT_ENGINE, *ON_OTHER_ENGINES) if all_engines else ())
    say("all that the world is made of is there")


def down(purge: bool = False) -> None:
    """Remove the machines; with `purge` also images and the cache."""
    prerequisites.require()
    with _alone(NAME), _alone(_SHARED):
        if _READY.exists() or docker.answers():
            daemon.ensure()
            _READY.unlink(missing_ok=True)
            machines.remove_all()
            docker.remove_container(f"{PREFIX}-registry")
            if purge:
                _remove_images()
        daemon.stop_if_ours()
        if purge:
            scratch.clear()
            shutil.rmtree(CACHE, ignore_errors=True)
        say("the world is down")


def require_up() -> None:
    if not docker.answers() or any(docker.state(spec.container) == "absent" for spec in MACHINES):
        raise WorldError("there is no world: run `world up` first")


def _prepare(engines: Iterable[str]) -> dict[MachineSpec, str]:
    with _alone(_SHARED):
        prerequisites.install()
        daemon.ensure()
        authority.ensure()
        scratch.clear()
        return prepare.everything(engines)


def _fingerprint(wanted: dict[MachineSpec, str]) -> str:
    return "".join(f"{spec.container} {image}\n" for spec, image in wanted.items())


def _stands(wanted: dict[MachineSpec, str]) -> bool:
    made_from = _READY.read_text() if _READY.exists() else ""
    present = all(docker.state(spec.container) != "absent" for spec in MACHINES)
    return present and made_from == _fingerprint(wanted)


def _make(wanted: dict[MachineSpec, str]) -> None:
    _READY.unlink(missing_ok=True)
    machines.remove_all()
    machines.create_network()
    for spec, image in wanted.items():
        machines.create(spec, image)
    _boot()
    provision.everything()
    _READY.write_text(_fingerprint(wanted))


def _boot() -> None:
    with ThreadPoolExecutor() as pool:
        list(pool.map(machines.start, MACHINES))


def _remove_images() -> None:
    shown = run("docker", "images", "--filter", f"reference={PREFIX}/*", "--format", "{{.Repository}}:{{.Tag}}")
    kept = [reference for reference in shown.split() if not succeeds("docker", "rmi", reference)]
    if kept:
        say(f"left, because containers use them: {', '.join(kept)}")


@contextmanager
def _alone(what: str) -> Iterator[None]:
    """One at a time: the lock goes with the process, however that ends."""
    with Path(f"/run/{what}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another `world` is at work: waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
