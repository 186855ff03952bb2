"""Runs scenarios one after another and counts."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from bed import docker, world
from bed.errors import WorldError
from bed.settings import INTERNET, LOGS, MACHINES, SCENARIOS, WORLD


def run_all(wanted: list[str], verbose: bool, fresh: bool) -> int:
    """Run the named scenarios, or all; the last line printed is the count."""
    scripts = [_script(name) for name in wanted] or sorted(SCENARIOS.glob("*.py"))
    failed = 0
    for script in scripts:
        world.up(fresh)
        started = time.monotonic()
        good = _run(script, verbose)
        failed += not good
        # Nobody vouches for what a failed scenario leaves behind: the next one gets new machines.
        fresh = not good
        taken = f"{time.monotonic() - started:.1f} s"
        print(
            f"PASS {script.stem} ({taken})" if good else f"FAIL {script.stem} ({taken}), see {_logs(script)}",
            flush=True,
        )
    print(f"{len(scripts) - failed} passed, {failed} failed", flush=True)
    return 1 if failed else 0


def _script(name: str) -> Path:
    script = Path(name) if name.endswith(".py") else SCENARIOS / f"{name}.py"
    if not script.is_file():
        known = ", ".join(sorted(file.stem for file in SCENARIOS.glob("*.py")))
        raise WorldError(f"there is no scenario {name}; there are: {known}")
    return script


def _logs(script: Path) -> Path:
    return LOGS / "scenarios" / script.stem


def _run(script: Path, verbose: bool) -> bool:
    logs = _logs(script)
    shutil.rmtree(logs, ignore_errors=True)
    logs.mkdir(parents=True)
    driver = [sys.executable, "-B", "-m", "bed.driver", str(script.resolve()), str(logs)]
    log = logs / "driver.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            driver, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": str(WORLD)},
        )  # fmt: skip
        assert process.stdout is not None
        for line in process.stdout:
            file.write(line)
            if verbose:
                sys.stderr.buffer.write(line)
                sys.stderr.flush()
    good = process.wait() == 0
    wrong = _violations()
    if good and not wrong:
        shutil.rmtree(logs)
        return True
    with log.open("a") as file:
        file.writelines(f"GitHub's API is not as published: {line}\n" for line in wrong)
    if not verbose or wrong:
        sys.stderr.write("".join(f"  {line}\n" for line in log.read_text(errors="replace").splitlines()[-30:]))
    _keep_journals(logs)
    return False


def _violations() -> list[str]:
    """Where Hatchery's requests or the fake GitHub's answers did not keep to GitHub's description."""
    if docker.state(INTERNET.container) != "running":
        return []
    return docker.inside(INTERNET.container, "github-fake violations || test $? = 1").splitlines()


def _keep_journals(logs: Path) -> None:
    for spec in MACHINES:
        if docker.state(spec.container) == "running":
            journal = docker.inside(spec.container, "journalctl --no-pager --output short-precise")
            (logs / f"{spec.name}.journal").write_text(journal)
