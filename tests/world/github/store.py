"""What GitHub holds: bare repositories and people's public keys, as files."""

import os
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(os.environ.get("GITHUB_ROOT", "/srv/github"))
GIT = ROOT / "git"
KEYS = ROOT / "keys"


@dataclass(frozen=True)
class Repository:
    owner: str
    name: str

    @property
    def directory(self) -> Path:
        return GIT / self.owner / f"{self.name}.git"


def find(owner: str, name: str) -> Repository | None:
    """The repository of that name; GitHub compares owners and names without case."""
    for directory in GIT.glob("*/*.git"):
        found = Repository(directory.parent.name, directory.name.removesuffix(".git"))
        if (found.owner.lower(), found.name.lower()) == (owner.lower(), name.lower()):
            return found
    return None


def keys_of(user: str) -> str | None:
    """The public keys of a user, a line each."""
    for file in KEYS.iterdir():
        if file.name.lower() == user.lower():
            return file.read_text()
    return None
