"""Pushed workflow files: refused, as GitHub refuses them, where the token has no permission for them.

Run as git's hook `proc-receive` (githooks(5)): no other can say in its own words why a ref is refused.
"""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

_NONE = "0" * 40


def settings() -> dict[str, str]:
    """What git is told for a push that may not change workflows."""
    return {"receive.procReceiveRefs": "refs", "core.hooksPath": str(_hooks())}


def _hooks() -> Path:
    """A directory with this as a hook."""
    if not _made:
        hook = Path(tempfile.mkdtemp()) / "proc-receive"
        hook.write_text(f"#!/bin/sh\nexec '{sys.executable}' '{Path(__file__).resolve()}'\n")
        hook.chmod(0o755)
        _made.append(hook.parent)
    return _made[0]


_made: list[Path] = []


def _lines() -> Iterator[str]:
    """The packet lines up to the next flush."""
    while size := int(sys.stdin.buffer.read(4) or b"0", 16):
        yield sys.stdin.buffer.read(size - 4).decode().rstrip("\n")


def _say(*lines: str) -> None:
    for line in lines:
        data = line.encode() + b"\n"
        sys.stdout.buffer.write(b"%04x" % (len(data) + 4) + data)
    sys.stdout.buffer.write(b"0000")
    sys.stdout.buffer.flush()


def _git(*arguments: str) -> list[str]:
    return subprocess.run(["git", *arguments], stdout=subprocess.PIPE, check=True, text=True).stdout.splitlines()


def _changed(new: str) -> str | None:
    """A workflow file that a commit creates or updates which is new here."""
    for commit in [] if new == _NONE else _git("rev-list", new, "--not", "--all"):
        command = ["diff-tree", "-r", "--root", "--no-commit-id", "--name-only", "--diff-filter=d", commit]
        for path in _git(*command, "--", ".github/workflows"):
            return path
    return None


def main() -> None:
    list(_lines())
    _say("version=1")
    answers = []
    for command in _lines():
        _, new, ref = command.split(" ", 2)
        if path := _changed(new):
            answers.append(
                f"ng {ref} refusing to allow a GitHub App to create or update workflow `{path}` "
                "without `workflows` permission"
            )
        else:
            # git itself goes on with it.
            answers += [f"ok {ref}", "option fall-through"]
    _say(*answers)


if __name__ == "__main__":
    main()
