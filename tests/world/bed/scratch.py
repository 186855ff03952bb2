"""Directories for what is being made, below the cache."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp

from bed.process import run
from bed.settings import CACHE

_PARENT = CACHE / "scratch"


@contextmanager
def scratch(purpose: str) -> Iterator[Path]:
    """A directory that is gone afterwards; what a killed run left is removed by `clear`."""
    _PARENT.mkdir(parents=True, exist_ok=True)
    directory = Path(mkdtemp(prefix=f"{purpose}-", dir=_PARENT))
    try:
        yield directory
    finally:
        _remove(directory)


def clear() -> None:
    """Remove what killed runs have left."""
    for leftover in _PARENT.glob("*"):
        _remove(leftover)


def _remove(tree: Path) -> None:
    """Remove a tree; a killed mmdebstrap leaves file systems mounted in its own."""
    mounted = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for mount in sorted((point for point in mounted if point.startswith(f"{tree}/")), reverse=True):
        run("umount", "--lazy", mount)
    shutil.rmtree(tree, ignore_errors=True)
