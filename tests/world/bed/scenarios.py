"""Runs scenarios, in one lane or in several, and counts."""

import os
import shutil
import subprocess
import sys
import threading
import time
from collections import deque
from ipaddress import ip_network
from pathlib import Path

from bed import docker, machines, world
from bed.errors import WorldError
from bed.settings import INTERNET, LOGS, LONG_SCENARIOS, MACHINES, NAME, SCENARIOS, SUBNET, WORLD


def run_all(wanted: list[str], verbose: bool, fresh: bool, lanes: int) -> int:
    """Run the named scenarios, or all; the last line printed is the count.

    One that fails is tried once more on new machines. If it passes then, it counts as passed and is
    named as flaky at the end.
    """
    scripts = [_script(name) for name in wanted] or _longest_first(sorted(SCENARIOS.glob("*.py")))
    if lanes > 1 and len(scripts) > 1:
        failed, flaky = _run_in_lanes(scripts, fresh, lanes)
    else:
        failed, flaky = _run_in_turn(scripts, verbose, fresh)
    for line in flaky:
        print(line, flush=True)
    print(f"{len(scripts) - failed} passed, {failed} failed", flush=True)
    return 1 if failed else 0


def _longest_first(scripts: list[Path]) -> list[Path]:
    """So that no lane begins a long one when the others are done."""
    first = {name: place for place, name in enumerate(LONG_SCENARIOS)}
    return sorted(scripts, key=lambda script: (first.get(script.stem, len(first)), script.stem))


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
                flaky.append(f"FLAKY {script.stem}: failed, then passed on new machines; see {_before(script)}")
    return failed, flaky


def _run_in_lanes(scripts: list[Path], fresh: bool, lanes: int) -> tuple[int, list[str]]:
    """Each lane is a world of its own, in which one scenario after the other runs."""
    waiting = deque(scripts)
    failed: list[str] = []
    flaky: list[str] = []

    def run_lane(number: int) -> None:
        new = fresh
        while True:
            try:
                script = waiting.popleft()
            except IndexError:
                return
            command: list[str | Path] = [WORLD / "world", "run", script.stem, *(["--fresh"] if new else [])]
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=_lane_environment(number), text=True
            )
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith("FLAKY "):
                    flaky.append(line.rstrip())
                elif line.startswith(("PASS ", "FAIL ")):
                    print(line, end="", flush=True)
            new = process.wait() != 0
            if new:
                failed.append(script.stem)

    threads = [threading.Thread(target=run_lane, args=(number,)) for number in range(lanes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(failed), flaky


def _lane_environment(number: int) -> dict[str, str]:
    """The first lane is this world itself; the others stand beside it, on the networks that follow."""
    if number == 0:
        return dict(os.environ)
    network = ip_network((int(SUBNET.network_address) + number * SUBNET.num_addresses, SUBNET.prefixlen))
    return {**os.environ, "HATCHERY_WORLD_NAME": f"{NAME}-{number + 1}", "HATCHERY_WORLD_SUBNET": str(network)}


def _attempt(script: Path, verbose: bool, fresh: bool) -> bool:
    world.up(fresh)
    started = time.monotonic()
    good = _run(script, verbose)
    taken = f"{time.monotonic() - started:.1f} s"
    print(
        f"PASS {script.stem} ({taken})" if good else f"FAIL {script.stem} ({taken}), see {_logs(script)}",
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
    return LOGS / "scenarios" / script.stem


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
    return docker.inside(INTERNET.container, "github-fake violations || test $? = 1").splitlines()


def _keep_journals(logs: Path) -> None:
    for spec in MACHINES:
        if docker.state(spec.container) == "running":
            journal = machines.journal(spec)
            (logs / f"{spec.name}.journal").write_text(journal)
