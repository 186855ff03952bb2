"""Runs one scenario: a script with the machines' names as globals, as in the NixOS test driver."""

import sys
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bed.machine import Machine
from bed.settings import MACHINES, PRELUDE, PROJECT

if TYPE_CHECKING:
    import driver as declared  # scenarios/driver.pyi

    def _as_declared(machine: Machine) -> declared.Machine:
        """Does not type-check unless what scenarios are told of a machine is true."""
        return machine


def names(output: Path) -> dict[str, object]:
    """The globals that a scenario begins with; `scenarios/driver.pyi` declares them."""
    everyone = [Machine(spec, output) for spec in MACHINES]

    def start_all() -> None:
        with ThreadPoolExecutor() as pool:
            list(pool.map(Machine.start, everyone))

    def join_all() -> None:
        for machine in everyone:
            while machine.is_up():
                time.sleep(0.3)

    return {
        **{machine.name: machine for machine in everyone},
        "machines": everyone,
        "Machine": Machine,
        "start_all": start_all,
        "join_all": join_all,
        "subtest": subtest,
        "BOOK": {str(page.relative_to(PROJECT)): page.read_text() for page in _pages()},
        "__name__": "__main__",
    }


def _pages() -> list[Path]:
    return [PROJECT / "README.md", *sorted((PROJECT / "docs").rglob("*.md"))]


@contextmanager
def subtest(name: str) -> Iterator[None]:
    print(f"subtest: {name}", file=sys.stderr, flush=True)
    try:
        yield
    except BaseException:
        print(f"subtest failed: {name}", file=sys.stderr, flush=True)
        raise


def main(script: Path, output: Path) -> int:
    scope = {**names(output), "__file__": str(script)}
    try:
        # Each by itself, so that a traceback names their lines.
        for source in (PRELUDE, script):
            exec(compile(source.read_text(), str(source), "exec"), scope)  # a scenario is a program
    except Exception:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
