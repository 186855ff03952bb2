"""Scenarios side by side: each lane is a world of its own, in which one scenario after the other runs."""

import os
import re
import subprocess
import threading
import time
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path

from bed.settings import DEFAULT_ENGINE, ENGINE_NAME, LOGS, LONG_SCENARIOS, NAME, SUBNET, WORLD

_LAST_LINES = 60
_COUNT = re.compile(r"\d+ passed, \d+ failed")


@dataclass(frozen=True)
class Task:
    """A scenario, and the engine of the server that it runs on."""

    name: str
    engine: str

    def __str__(self) -> str:
        return self.name if self.engine == DEFAULT_ENGINE else f"{self.name}@{self.engine}"


def run(tasks: list[Task], fresh: bool, count: int) -> tuple[int, list[str]]:
    """How many failed, and a line for each that is flaky. What those that failed said is shown last."""
    lanes = _Lanes(tasks, fresh)
    threads = [threading.Thread(target=lanes.run, args=(number,)) for number in range(min(count, len(tasks)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for task, said in lanes.failed.items():
        print(f"== {task} failed:", *said, sep="\n", flush=True)
    return len(lanes.failed), lanes.flaky


class _Lanes:
    def __init__(self, tasks: list[Task], fresh: bool) -> None:
        self.failed: dict[Task, list[str]] = {}
        self.flaky: list[str] = []
        self._fresh = fresh
        self._waiting = sorted(tasks, key=_longest_first)
        self._engines = sorted({task.engine for task in tasks}, key=lambda engine: (engine != ENGINE_NAME, engine))
        self._lock = threading.Lock()

    def run(self, number: int) -> None:
        engine = self._engines[number] if number < len(self._engines) else self._engines[0]
        fresh, began, done = self._fresh, time.monotonic(), 0
        while task := self._next(engine):
            engine = task.engine
            fresh = not self._attempt(task, number, fresh)
            done += 1
        with self._lock:
            print(f"lane {number + 1}: {done} scenarios, {time.monotonic() - began:.0f} s", flush=True)

    def _next(self, engine: str) -> Task | None:
        """The longest that waits; rather one of this engine, since another one means new machines."""
        with self._lock:
            task = next((task for task in self._waiting if task.engine == engine), next(iter(self._waiting), None))
            if task:
                self._waiting.remove(task)
            return task

    def _attempt(self, task: Task, number: int, fresh: bool) -> bool:
        command: list[str | Path] = [WORLD / "world", "run", task.name, *(["--fresh"] if fresh else [])]
        environment = _environment(number, task.engine)
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env=environment, text=True, errors="replace", check=False,
        )  # fmt: skip
        lines = done.stdout.splitlines()
        results = [line for line in lines if line.startswith(("PASS ", "FAIL "))]
        flaky = [line for line in lines if line.startswith("FLAKY ")]
        good = done.returncode == 0
        with self._lock:
            logs = LOGS.with_name(f"logs-{environment['HATCHERY_WORLD_NAME']}")
            logs.mkdir(parents=True, exist_ok=True)
            with (logs / "lane.log").open("a") as log:
                log.write(done.stdout)
            # What a lane says stays together: of a scenario that failed, all of the end but its own count.
            end = [line for line in lines if not _COUNT.fullmatch(line)][-_LAST_LINES:]
            shown = results if good and not flaky else end
            print("\n".join(shown or [f"FAIL {task}: nothing was said"]), flush=True)
            self.flaky += flaky
            if not good:
                self.failed[task] = end
        return good


def _longest_first(task: Task) -> tuple[int, str]:
    """So that no lane begins a long one when the others are done."""
    place = LONG_SCENARIOS.index(task.name) if task.name in LONG_SCENARIOS else len(LONG_SCENARIOS)
    return place, task.name


def _environment(number: int, engine: str) -> dict[str, str]:
    """The first lane is this world itself; the others stand beside it, on the networks that follow."""
    network = ip_network((int(SUBNET.network_address) + number * SUBNET.num_addresses, SUBNET.prefixlen))
    return {
        **os.environ,
        "HATCHERY_WORLD_ENGINE": engine,
        "HATCHERY_WORLD_NAME": NAME if number == 0 else f"{NAME}-{number + 1}",
        "HATCHERY_WORLD_SUBNET": str(network),
    }
