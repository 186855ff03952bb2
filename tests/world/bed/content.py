"""Digests of files and trees: what decides whether something made earlier can be used again."""

import hashlib
from pathlib import Path


def digest_of_text(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def digest_of_path(path: Path) -> str:
    """Of a file: its executable bit and content. Of a directory: names and digests of all below it."""
    if path.is_symlink():
        return digest_of_text("link", str(path.readlink()))
    if path.is_dir():
        entries = sorted(entry for entry in path.iterdir() if entry.name != "__pycache__")
        return digest_of_text("tree", *(f"{entry.name}={digest_of_path(entry)}" for entry in entries))
    with path.open("rb") as file:
        content = hashlib.file_digest(file, "sha256").hexdigest()
    return digest_of_text("file", str(path.stat().st_mode & 0o111), content)
