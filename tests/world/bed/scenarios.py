"""Runs scenarios one after the other, and counts."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from bed import docker, lanes, machines, world
from bed.errors import WorldError
from bed.settings import ENGINE_NAME, ENGINES, INTERNET, LOGS, MACHINES, ON_OTHER_ENGINES, SCENARIOS, WORLD


def run_all(wanted: list[str], verbose: bool, fresh: bool, lane_count: int, all_engines: bool) -> int:
    """Run the named scenarios, or all; the last line printed is the count.

    A name may say on which engine: `spawn@20`. One that fails is tried once more on new machines. If
    it passes then, it counts as passed and is named as flaky at the end.
    """
    tasks = [_task(name) for name in wanted] or _everything(all_engines)
    if lane_count > 1 or any(task.engine != ENGINE_NAME for task in tasks):
        failed, flaky = lanes.run(tasks, fresh, lane_count)
    else:
        failed, flaky = _run_in_turn([_script(task.name) for task in tasks], verbose, fresh)
    for line in flaky:
        print(line, flush=True)
    print(f"{len(tasks) - failed} passed, {failed} failed", flush=True)
    return 1 if failed else 0


def _task(wanted: str) -> lanes.Task:
    name, _, engine = wanted.partition("@")
    if engine and engine not in ENGINES:
        raise WorldError(f"there is no engine {engine}; there are: {', '.join(ENGINES)}")
    _script(name)
    return lanes.Task(name, engine or ENGINE_NAME)


def _everything(all_engines: bool) -> list[lanes.Task]:
    here = [lanes.Task(script.stem, ENGINE_NAME) for script in sorted(SCENARIOS.glob("*.py"))]
    elsewhere = [lanes.Task(name, engine) for engine, names in ON_OTHER_ENGINES.items() for name in names]
    return [*here, *(task for task in elsewhere if all_engines and task.engine != ENGINE_NAME)]


def _run_in_turn(scripts: list[Path], verbose: bool, fresh: bool) -> tuple[int, list[str]]:
    """How many failed, and a line for each that is flaky."""
    failed, flaky = 0, []
    for script in scripts:
        good = _attempt(script, verbose, fresh)
        # Nobody vouches for what a failed scenario leaves behind: what follows gets new machines.
        fresh = not good
        if not good:
            again = _attempt(script, verbose, fresh)
            fresh = not again
            failed += not again
            if again:
                flaky.append(f"FLAKY {_label(script)}: failed, then passed on new machines; see {_before(script)}")
    return failed, flaky


def _attempt(script: Path, verbose: bool, fresh: bool) -> bool:
    world.up(fresh)
    started = time.monotonic()
    good = _run(script, verbose)
    taken = f"{time.monotonic() - started:.1f} s"
    print(
        f"PASS {_label(script)} ({taken})" if good else f"FAIL {_label(script)} ({taken}), see {_logs(script)}",
        flush=True,
    )
    return good


def _script(name: str) -> Path:
    script = Path(name) if name.endswith(".py") else SCENARIOS / f"{name}.py"
    if not script.is_file():
        known = ", ".join(sorted(file.stem for file in SCENARIOS.glob("*.py")))
        raise WorldError(f"there is no scenario {name}; there are: {known}")
    return script


def _logs(script: Path) -> Path:
    return LOGS / "scenarios" / _label(script)


def _label(script: Path) -> str:
    return str(lanes.Task(script.stem, ENGINE_NAME))


def _before(script: Path) -> Path:
    """The logs of the attempt before this one, where that failed."""
    return _logs(script).with_suffix(".before")


def _run(script: Path, verbose: bool) -> bool:
    logs = _logs(script)
    shutil.rmtree(_before(script), ignore_errors=True)
    if logs.exists():
        logs.rename(_before(script))
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
    return docker.inside(INTERNET, "github-fake violations || test $? = 1").splitlines()


def _keep_journals(logs: Path) -> None:
    for spec in MACHINES:
        if docker.state(spec.container) == "running":
            journal = machines.journal(spec)
            (logs / f"{spec.name}.journal").write_text(journal)
