"""Go programs, built once for each version from the module proxy.

A module with a `require` and a blank import builds where `go install pkg@version` does not: some
proxies refuse the list of versions that the latter asks for.
"""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bed import tools
from bed.content import digest_of_text
from bed.errors import WorldError
from bed.process import DIES_WITH_US, making, run
from bed.scratch import scratch
from bed.settings import BUILDKIT_VERSION, CACHE, HEADSCALE_VERSION, TAILSCALE_VERSION

# What neither Hatchery nor the world uses of tailscale is half of the time that it takes to compile.
_OMITTED_OF_TAILSCALE = (
    "ace", "acme", "advertiseexitnode", "advertiseroutes", "appconnectors", "aws", "bird", "captiveportal",
    "capture", "cliconndiag", "clientupdate", "cloud", "colorable", "completion", "completion_scripts", "conn25",
    "debugeventbus", "debugportmapper", "desktop_sessions", "doctor", "drive", "flashappliance", "hujsonconf",
    "identityfederation", "kube", "linkspeed", "linuxdnsfight", "netlog", "networkmanager", "oauthkey",
    "outboundproxy", "portlist", "portmapper", "posture", "qrcodes", "relayserver", "remoteconfig", "routecheck",
    "runtimemetrics", "serve", "serviceclientprefs", "ssh", "synology", "syslog", "syspolicy", "systray",
    "taildrop", "tailnetlock", "tap", "tundevstats", "useexitnode", "useproxy", "usermetrics", "wakeonlan",
    "webbrowser", "webclient",
)  # fmt: skip


@dataclass(frozen=True)
class Change:
    """What a file of a module says in the world's build instead of something else."""

    module: str
    file: str
    line: str
    becomes: str


@dataclass(frozen=True)
class Program:
    name: str
    module: str
    package: str
    version: str
    tags: tuple[str, ...] = ()
    linker: str = ""
    change: Change | None = None

    @property
    def binary(self) -> Path:
        """Where it is, once it is built."""
        differs = [*self.tags, *([repr(self.change)] if self.change else [])]
        variant = f"-{digest_of_text(*differs)[:8]}" if differs else ""
        return CACHE / "bin" / f"{self.name}-{self.version}{variant}"


HEADSCALE = Program(
    "headscale",
    "github.com/juanfont/headscale",
    "github.com/juanfont/headscale/cmd/headscale",
    HEADSCALE_VERSION,
    # Each call of its API is checked against a key's hash, which at its own cost takes 65 ms of processor: a tenth of
    # all that the scenarios take.
    change=Change("golang.org/x/crypto", "bcrypt/bcrypt.go", "DefaultCost int = 10", "DefaultCost int = 4"),
)
# ts_include_cli makes one binary of two: called `tailscale` it is the command line.
TAILSCALED = Program(
    "tailscaled",
    "tailscale.com",
    "tailscale.com/cmd/tailscaled",
    TAILSCALE_VERSION,
    tags=("ts_include_cli", *(f"ts_omit_{feature}" for feature in _OMITTED_OF_TAILSCALE)),
    linker=f"-X tailscale.com/version.shortStamp={TAILSCALE_VERSION} -X tailscale.com/version.longStamp={TAILSCALE_VERSION}",
)
_BUILDKIT = "github.com/moby/buildkit"
_VERSION_OF_BUILDKIT = f"-X {_BUILDKIT}/version.Version=v{BUILDKIT_VERSION}"
BUILDKITD, BUILDCTL = (
    Program(name, _BUILDKIT, f"{_BUILDKIT}/cmd/{name}", BUILDKIT_VERSION, linker=_VERSION_OF_BUILDKIT)
    for name in ("buildkitd", "buildctl")
)


def fetch(program: Program) -> None:
    """Download what the program is built from, so that its build need not wait for that."""
    if program.binary.exists():
        return
    with (
        making(f"the sources of {program.name} {program.version}", "downloading", "downloaded"),
        _module(program) as at,
    ):
        run(*DIES_WITH_US, tools.go(), "list", "-deps", *_tags(program), program.package, cwd=at, env=_environment())


def build(program: Program) -> Path:
    """The program's binary, from the cache or built now."""
    if program.binary.exists():
        return program.binary
    program.binary.parent.mkdir(parents=True, exist_ok=True)
    linker = f"-s -w {program.linker}".strip()
    with making(f"{program.name} {program.version}"), _module(program) as at:
        _change(program, at)
        run(
            *DIES_WITH_US, tools.go(), "build", "-trimpath", *_tags(program), "-gcflags=all=-dwarf=false",
            "-ldflags", linker, "-o", at / "out", program.package,
            cwd=at, env=_environment(),
        )  # fmt: skip
        (at / "out").replace(program.binary)
    return program.binary


def _change(program: Program, at: Path) -> None:
    """Has the module at this place take the program's changed source from a copy."""
    change = program.change
    if change is None:
        return
    shown = run(tools.go(), "list", "-m", "-f", "{{.Dir}}", change.module, cwd=at, env=_environment())
    copied = at / "changed"
    # Without its modes: nothing in Go's cache may be written to.
    shutil.copytree(Path(shown.strip()), copied, copy_function=shutil.copyfile)
    source = copied / change.file
    text = source.read_text()
    if text.count(change.line) != 1:
        raise WorldError(f"{change.module}'s {change.file} does not say {change.line!r} once: the change does not fit")
    source.write_text(text.replace(change.line, change.becomes))
    run(tools.go(), "mod", "edit", "-replace", f"{change.module}=./changed", cwd=at, env=_environment())


def _tags(program: Program) -> list[str]:
    return ["-tags", ",".join(program.tags)] if program.tags else []


def _environment() -> Mapping[str, str]:
    return {
        "CGO_ENABLED": "0",
        "GOFLAGS": "-mod=mod",
        "GOTOOLCHAIN": "local",
        "GOPATH": str(CACHE / "go"),
        "GOCACHE": str(CACHE / "go" / "build"),
        "GOGC": "400",  # the compiler's processes are many and short, and need not tidy up
    }


@contextmanager
def _module(program: Program) -> Iterator[Path]:
    """A module that requires the program's, as long as it is needed."""
    with scratch(program.name) as module:
        (module / "go.mod").write_text(f"module world\n\ngo 1.26\n\nrequire {program.module} v{program.version}\n")
        (module / "tools.go").write_text(f'//go:build tools\n\npackage world\n\nimport _ "{program.package}"\n')
        yield module
