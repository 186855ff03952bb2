"""Go programs, built once for each version from the module proxy.

A module with a `require` and a blank import builds where `go install pkg@version` does not: some
proxies refuse the list of versions that the latter asks for.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

from bed import tools
from bed.process import DIES_WITH_US, run, say
from bed.settings import CACHE, GH_VERSION, HEADSCALE_VERSION, TAILSCALE_VERSION


@dataclass(frozen=True)
class Program:
    name: str
    module: str
    package: str
    version: str
    tags: str = ""
    linker: str = ""


HEADSCALE = Program(
    "headscale",
    "github.com/juanfont/headscale",
    "github.com/juanfont/headscale/cmd/headscale",
    HEADSCALE_VERSION,
)
# ts_include_cli makes one binary of two: called `tailscale` it is the command line.
TAILSCALED = Program(
    "tailscaled",
    "tailscale.com",
    "tailscale.com/cmd/tailscaled",
    TAILSCALE_VERSION,
    tags="ts_include_cli",
    linker=f"-X tailscale.com/version.shortStamp={TAILSCALE_VERSION} -X tailscale.com/version.longStamp={TAILSCALE_VERSION}",
)
GH = Program(
    "gh",
    "github.com/cli/cli/v2",
    "github.com/cli/cli/v2/cmd/gh",
    GH_VERSION,
    linker=f"-X github.com/cli/cli/v2/internal/build.Version={GH_VERSION}",
)


def build(program: Program) -> Path:
    """The program's binary, from the cache or built now."""
    binary = CACHE / "bin" / f"{program.name}-{program.version}"
    if binary.exists():
        return binary
    say(f"building {program.name} {program.version}")
    binary.parent.mkdir(parents=True, exist_ok=True)
    workspace = Path(mkdtemp(prefix=f"{program.name}-", dir=_scratch()))
    try:
        _write_module(workspace, program)
        go_environment = {
            "CGO_ENABLED": "0",
            "GOFLAGS": "-mod=mod",
            "GOTOOLCHAIN": "local",
            "GOPATH": str(CACHE / "go"),
            "GOCACHE": str(CACHE / "go" / "build"),
        }
        tags = ["-tags", program.tags] if program.tags else []
        linker = f"-s -w {program.linker}".strip()
        run(
            *DIES_WITH_US, tools.go(), "build", "-trimpath", *tags, "-ldflags", linker, "-o", workspace / "out", program.package,
            cwd=workspace, env=go_environment,
        )  # fmt: skip
        (workspace / "out").replace(binary)
    finally:
        shutil.rmtree(workspace, ignore_errors=True)
    say(f"built {program.name}")
    return binary


def _scratch() -> Path:
    scratch = CACHE / "scratch"
    scratch.mkdir(parents=True, exist_ok=True)
    return scratch


def _write_module(workspace: Path, program: Program) -> None:
    (workspace / "go.mod").write_text(f"module world\n\ngo 1.26\n\nrequire {program.module} v{program.version}\n")
    (workspace / "tools.go").write_text(f'//go:build tools\n\npackage world\n\nimport _ "{program.package}"\n')
