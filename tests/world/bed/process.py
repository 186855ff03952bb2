"""Running other programs, with errors that show what they said."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from bed.errors import WorldError
from bed.settings import ENGINE

# Put in front of a program that must not go on writing after this one was killed.
DIES_WITH_US = ("setpriv", "--pdeathsig", "KILL")

_started = time.monotonic()
_print_lock = threading.Lock()


def say(message: str) -> None:
    """One line of progress, with the seconds since the start."""
    with _print_lock:
        print(f"[{time.monotonic() - _started:6.1f}s] {message}", file=sys.stderr, flush=True)


@contextmanager
def making(what: str, doing: str = "building", done: str = "built") -> Iterator[None]:
    """Say what begins, and how long it took."""
    say(f"{doing} {what}")
    began = time.monotonic()
    yield
    say(f"{done} {what} in {time.monotonic() - began:.0f} s")


def run(
    *command: str | Path,
    stdin: bytes | str | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout: float | None = 1800,
) -> str:
    """Run to completion and return standard output; a failure shows the end of what was printed."""
    arguments = [str(part) for part in command]
    data = stdin.encode() if isinstance(stdin, str) else stdin
    try:
        done = subprocess.run(
            arguments,
            input=data,
            stdin=subprocess.DEVNULL if data is None else None,
            capture_output=True,
            env={**os.environ, **(env or {})},
            cwd=cwd,
            timeout=timeout,
            check=False,
        )
    except FileNotFoundError as error:
        raise WorldError(f"{arguments[0]} is not installed; it was needed for: {_shown(arguments)}") from error
    except subprocess.TimeoutExpired as error:
        raise WorldError(f"no end after {timeout:.0f} s: {_shown(arguments)}") from error
    if done.returncode != 0:
        said = (done.stdout + done.stderr).decode(errors="replace").strip().splitlines()[-40:]
        raise WorldError(f"failed with status {done.returncode}: {_shown(arguments)}\n  " + "\n  ".join(said))
    return done.stdout.decode(errors="replace")


def succeeds(*command: str | Path) -> bool:
    """Whether the program exists and exits with 0."""
    try:
        done = subprocess.run(
            [str(part) for part in command], stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False
        )
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def quietly(*command: str) -> str:
    """What the program prints; nothing where it does not exist or fails."""
    try:
        done = subprocess.run(list(command), stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode(errors="replace") if done.returncode == 0 else ""


def wait_until(condition: str, seconds: float, check: "Sequence[str | Path]") -> None:
    """Run `check` until it exits with 0; `condition` says in words what is waited for.

    The seconds are those that it takes where the server is a container.
    """
    seconds *= ENGINE.patience
    deadline = time.monotonic() + seconds
    while not succeeds(*check):
        if time.monotonic() > deadline:
            raise WorldError(
                f"waited {seconds:.0f} s in vain until {condition}; "
                f"the check was: {_shown([str(part) for part in check])}"
            )
        time.sleep(0.2)


def _shown(arguments: Sequence[str]) -> str:
    text = " ".join(arguments)
    return text if len(text) <= 300 else text[:300] + " ..."
