"""All that machines are started from, made in the order in which two processors are soonest done."""

from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from bed import binaries, debian, images, registry, tools
from bed.process import say
from bed.settings import ENGINE_NAME, ENGINES, INTERNET, LAPTOP, SERVER, TAILNET, Engine, MachineSpec

_T = TypeVar("_T")
# Of two processors that do nothing else.
_MINUTES = {"tailscaled": 1.0, "headscale": 1.5, "buildkitd": 1.8, "buildctl": 0.2}
_PROGRAMS = (binaries.TAILSCALED, binaries.HEADSCALE, binaries.BUILDKITD, binaries.BUILDCTL)
_MINUTES_OF_RELEASE = 0.7


def everything(engines: Iterable[str]) -> dict[MachineSpec, str]:
    """Make what is absent, of these engines as well as of this world's; what its machines start from.

    A part waits for what it is made of and for nothing else: downloads begin at once, and Debian's
    packages are configured while Go compiles. Two compilers at a time would compile twice what the
    programs have in common.
    """
    names = list(dict.fromkeys((ENGINE_NAME, *engines)))
    own = debian.release()
    suites = list(dict.fromkeys((own, *(ENGINES[name].suite for name in names))))
    _announce(suites)
    # A part holds a thread while it waits for another one.
    with ThreadPoolExecutor(max_workers=64) as pool:

        def then(make: Callable[..., _T], *of: Future[Any]) -> Future[_T]:
            return pool.submit(lambda: make(*(part.result() for part in of)))

        tailscaled = pool.submit(binaries.build, binaries.TAILSCALED)
        sources = pool.submit(binaries.fetch, binaries.HEADSCALE)
        headscale = then(lambda *_: binaries.build(binaries.HEADSCALE), tailscaled, sources)
        more = pool.submit(binaries.fetch, binaries.BUILDKITD)
        buildkitd = then(lambda *_: binaries.build(binaries.BUILDKITD), headscale, more)
        buildctl = then(lambda *_: binaries.build(binaries.BUILDCTL), buildkitd)
        node, cli = pool.submit(tools.node_runtime), pool.submit(tools.devcontainer_cli)
        gh, graphql = pool.submit(tools.gh), pool.submit(tools.graphql_core)
        git = pool.submit(images.git_repositories)

        bases = {suite: pool.submit(images.base, suite) for suite in suites}
        machines = {suite: then(images.machine, base) for suite, base in bases.items()}

        def server(engine: Engine) -> Future[str]:
            host = then(images.docker_host, machines[engine.suite])
            made = then(partial(images.server, engine), host, tailscaled, node, cli)
            return then(images.computer_of, made, bases[engine.suite]) if engine.computer else made

        servers = {name: server(ENGINES[name]) for name in names}
        drone = then(images.drone, bases[own])
        filled = then(
            lambda *parts: registry.ensure(images.Carried(*parts[:5])),
            bases[own], then(images.registry, machines[own]), drone, then(images.nosudo, drone),
            then(images.buildkit, bases[own], buildkitd, buildctl),
            tailscaled, cli, gh,
        )  # fmt: skip
        internet = then(images.internet, filled, graphql, git)
        tailnet = then(images.tailnet, machines[own], headscale)
        laptop = then(images.laptop, machines[own], tailscaled)
        for made in servers.values():
            made.result()
        return {
            INTERNET: internet.result(),
            TAILNET: tailnet.result(),
            SERVER: servers[ENGINE_NAME].result(),
            LAPTOP: laptop.result(),
        }


def _announce(suites: list[str]) -> None:
    """Say beforehand what the first time takes; nothing where only some image has changed."""
    programs = [program.name for program in _PROGRAMS if not program.binary.exists()]
    releases = [suite for suite in suites if not debian.is_made(suite)]
    parts = []
    if programs:
        parts.append(f"{', '.join(programs)} compiled")
    if releases:
        parts.append(f"images of {', '.join(releases)} made")
    if parts:
        minutes = max(1, round(sum(_MINUTES[name] for name in programs) + _MINUTES_OF_RELEASE * len(releases)))
        say(f"the first time takes about {minutes} min on two processors: {', '.join(parts)}; all is kept")
