"""Formatting, lint and types of all Python here, scenarios included."""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from bed import tools
from bed.settings import PRELUDE, SCENARIOS, WORLD

_DRIVER = SCENARIOS / "driver.pyi"
# One line in front of each stands for the names that it has without a word.
_OF_PRELUDE = "from driver import *\n"
_OF_SCENARIO = "from driver import *; from prelude import *\n"
_LINE = re.compile(r"^(?P<file>[^:\n]+\.py):(?P<line>\d+):", re.MULTILINE)


def everything(fix: bool) -> int:
    ruff = [str(tools.linter("ruff"))]
    configuration = ["--config", str(WORLD / "ruff.toml")]
    given = ["--config", f"builtins = {json.dumps([*_defined(_DRIVER), *_defined(PRELUDE)])}"]
    programs = [WORLD / "world", *(WORLD.parent / name for name in ("bench", "picture", "readme"))]
    sources = [str(place) for place in (WORLD / "bed", WORLD / "github", *programs, SCENARIOS, PRELUDE)]
    statuses = [
        _call([*ruff, "format", *([] if fix else ["--check"]), *configuration, *sources]),
        _call([*ruff, "check", *(["--fix"] if fix else []), *configuration, *given, *sources]),
        _mypy([str(WORLD / "bed"), str(WORLD / "github")]),
        _scenario_types(),
    ]
    return 1 if any(statuses) else 0


def _call(command: list[str]) -> int:
    return subprocess.run(command, check=False, cwd=WORLD).returncode


def _mypy(targets: list[str]) -> int:
    return _call(_mypy_command(targets))


def _mypy_command(targets: list[str]) -> list[str]:
    return [str(tools.linter("mypy")), "--config-file", str(WORLD / "mypy.ini"), *targets]


def _defined(script: Path) -> Iterator[str]:
    """The names that a script gives to what stands after it; what it imports is its own."""
    for statement in ast.parse(script.read_text()).body:
        match statement:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.AnnAssign(target=ast.Name(id=name)) | ast.Assign(targets=[ast.Name(id=name)]):
                yield name


def _scenario_types() -> int:
    """Scenarios share no names with each other: each is a module, and its messages are told of the script itself."""
    with TemporaryDirectory() as directory:
        scripts = {str(Path(directory) / "prelude.py"): PRELUDE}
        # Not by its own name, which may be another module's.
        scripts |= {str(Path(directory) / f"scenario_{it.name}"): it for it in sorted(SCENARIOS.glob("*.py"))}
        for copy, script in scripts.items():
            first = _OF_PRELUDE if script == PRELUDE else _OF_SCENARIO
            Path(copy).write_text(first + script.read_text())
        done = subprocess.run(_mypy_command(list(scripts)), check=False, cwd=WORLD, capture_output=True, text=True)

        def as_of_script(match: re.Match[str]) -> str:
            named = str((WORLD / match["file"]).resolve())
            return f"{scripts[named]}:{int(match['line']) - 1}:" if named in scripts else match[0]

        sys.stdout.write(_LINE.sub(as_of_script, done.stdout))
        sys.stderr.write(done.stderr)
        return done.returncode
