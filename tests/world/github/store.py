"""What GitHub holds: bare repositories and people's public keys, as files."""

import os
import subprocess
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(os.environ.get("GITHUB_ROOT", "/srv/github"))
GIT = ROOT / "git"
KEYS = ROOT / "keys"
APPS = ROOT / "apps"  # <client ID>.pem: the public key


@dataclass(frozen=True)
class Repository:
    owner: str
    name: str

    @property
    def full_name(self) -> str:
        return f"{self.owner}/{self.name}"

    @property
    def directory(self) -> Path:
        return GIT / self.owner / f"{self.name}.git"

    @property
    def private(self) -> bool:
        return self._marker.exists()

    @property
    def _marker(self) -> Path:
        return self.directory / "github-private"

    @property
    def number(self) -> int:
        """It outlives a change of name."""
        kept = self.directory / "github-number"
        if not kept.exists():
            kept.write_text(str(zlib.crc32(self.full_name.encode())))
        return int(kept.read_text())

    def set_private(self, private: bool) -> None:
        if private:
            self._marker.touch()
        else:
            self._marker.unlink(missing_ok=True)

    def head_of(self, branch: str) -> str | None:
        """The commit at the branch's tip."""
        command = [
            "git",
            "-C",
            str(self.directory),
            "rev-parse",
            "--verify",
            "--quiet",
            f"refs/heads/{branch}^{{commit}}",
        ]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
        return done.stdout.decode().strip() or None

    def file(self, path: str) -> bytes | None:
        command = ["git", "-C", str(self.directory), "cat-file", "blob", f"HEAD:{path}"]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
        return done.stdout if done.returncode == 0 else None


def everything() -> Iterator[Repository]:
    for directory in sorted(GIT.glob("*/*.git")):
        yield Repository(directory.parent.name, directory.name.removesuffix(".git"))


def find(owner: str, name: str) -> Repository | None:
    """The repository of that name; GitHub compares owners and names without case."""
    wanted = f"{owner}/{name}".lower()
    return next((found for found in everything() if found.full_name.lower() == wanted), None)


def by_number(number: int) -> Repository | None:
    return next((found for found in everything() if found.number == number), None)


def knows_owner(owner: str) -> bool:
    return any(found.owner.lower() == owner.lower() for found in everything())


def keys_of(user: str) -> str | None:
    """The public keys of a user, a line each."""
    for file in KEYS.iterdir():
        if file.name.lower() == user.lower():
            return file.read_text()
    return None
