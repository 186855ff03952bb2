"""Formatting, lint and types of all Python here, scenarios included."""

import re
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from bed import tools
from bed.settings import SCENARIOS, WORLD

# One line in front of a scenario stands for the names that the driver gives it.
_PRELUDE = "from driver import *\n"
_LINE = re.compile(r"^(?P<file>[^:]+\.py):(?P<line>\d+):", re.MULTILINE)


def everything(fix: bool) -> int:
    ruff = [str(tools.linter("ruff"))]
    configuration = ["--config", str(WORLD / "ruff.toml")]
    sources = [str(WORLD / "bed"), str(WORLD / "github"), str(WORLD / "world"), str(SCENARIOS)]
    statuses = [
        _call([*ruff, "format", *([] if fix else ["--check"]), *configuration, *sources]),
        _call([*ruff, "check", *(["--fix"] if fix else []), *configuration, *sources]),
        _mypy([str(WORLD / "bed"), str(WORLD / "github")]),
        _scenario_types(),
    ]
    return 1 if any(statuses) else 0


def _call(command: list[str]) -> int:
    return subprocess.run(command, check=False, cwd=WORLD).returncode


def _mypy(targets: list[str]) -> int:
    return _call([str(tools.linter("mypy")), "--config-file", str(WORLD / "mypy.ini"), *targets])


def _as_of(script: Path, shown: str) -> str:
    """Messages about the copy, told of the script itself."""
    return _LINE.sub(lambda match: f"{script}:{int(match['line']) - 1}:", shown)


def _scenario_types() -> int:
    """Each scenario by itself, as they are scripts and share no names."""
    status = 0
    with TemporaryDirectory() as directory:
        for script in sorted(SCENARIOS.glob("*.py")):
            copy = Path(directory) / script.name
            copy.write_text(_PRELUDE + script.read_text())
            command = [str(tools.linter("mypy")), "--config-file", str(WORLD / "mypy.ini"), str(copy)]
            done = subprocess.run(command, check=False, cwd=WORLD, capture_output=True, text=True)
            status |= done.returncode
            sys.stdout.write(_as_of(script, done.stdout))
            sys.stderr.write(done.stderr)
    return status
