"""What GitHub knows beyond its repositories: one value behind one lock, in one file."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from github.store import ROOT, Repository

_FILE = ROOT / "state.json"
_lock = threading.RLock()

CONTROL = Path("/run/github/control.sock")  # to `control`, from `command`

# Where a fault can be laid: on one kind of request, or on all of a host.
ON_THE_API = ("look-up", "mint", "revoke", "rest", "graphql")
PLACES = (*ON_THE_API, "git", "api", "everywhere")
FAULTS = (
    "clock-refusal",
    "primary-limit",
    "secondary-limit",
    "error",
    "bad-gateway",
    "unavailable",
    "hang",
    "reset",
    "cut",
    "malformed",
    "wider-repositories",
    "wider-permissions",
)

LIFETIME = 3600.0  # of an installation access token, in seconds
_FIRST_INSTALLATION = 1000


@dataclass
class Installation:
    number: int
    suspended: bool = False
    removed: bool = False


@dataclass
class Grant:
    """An installation access token and what it was minted for."""

    token: str
    owner: str
    repositories: list[int] | None  # None: all of the owner's
    permissions: dict[str, str]
    expires: float
    revoked: bool = False


@dataclass
class Fault:
    name: str
    on: str
    times: int | None  # None: until it is healed
    seconds: int


@dataclass
class Pull:
    repository: int
    title: str
    body: str
    head: str
    base: str
    draft: bool
    number: int = 0
    created: float = 0.0


@dataclass
class State:
    ahead: float = 0.0  # of the machine's clock, in seconds
    lifetime: float = LIFETIME
    installations: dict[str, Installation] = field(default_factory=dict)  # by owner, in lower case
    moved: dict[str, int] = field(default_factory=dict)  # former full names, in lower case, to numbers
    grants: list[Grant] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    pulls: list[Pull] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)

    def now(self) -> float:
        return time.time() + self.ahead

    def installation(self, owner: str) -> Installation:
        """The App's installation for this owner; it is installed for everyone until it is removed."""
        numbers = [found.number for found in self.installations.values()]
        following = max(numbers, default=_FIRST_INSTALLATION) + 1
        return self.installations.setdefault(owner.lower(), Installation(following))

    def reinstall(self, owner: str) -> None:
        """Removed and installed again: another number, and everything granted before is void."""
        former = self.installation(owner)
        self.installations[owner.lower()] = Installation(former.number + 100_000)
        self.void(owner)

    def void(self, owner: str) -> None:
        for grant in self.grants:
            grant.revoked |= grant.owner.lower() == owner.lower()

    def pulls_of(self, repository: Repository) -> list[Pull]:
        return [pull for pull in self.pulls if pull.repository == repository.number]

    def open_pull(self, pull: Pull) -> None:
        """Takes it in, under the next number of its repository."""
        numbers = [other.number for other in self.pulls if other.repository == pull.repository]
        pull.number = max(numbers, default=0) + 1
        pull.created = self.now()
        self.pulls.append(pull)


@contextmanager
def seen() -> Iterator[State]:
    """To look at."""
    with _lock:
        yield _state


@contextmanager
def changed() -> Iterator[State]:
    """To change; written to disk at the end."""
    with _lock:
        yield _state
        draft = _FILE.with_suffix(".new")
        draft.write_text(json.dumps(asdict(_state)))
        draft.chmod(0o600)
        draft.replace(_FILE)


def now() -> float:
    with seen() as state:
        return state.now()


def _load() -> State:
    if not _FILE.exists():
        return State()
    kept: dict[str, Any] = json.loads(_FILE.read_text())
    return State(
        ahead=kept["ahead"],
        lifetime=kept["lifetime"],
        installations={owner: Installation(**value) for owner, value in kept["installations"].items()},
        moved=kept["moved"],
        grants=[Grant(**value) for value in kept["grants"]],
        faults=[Fault(**value) for value in kept["faults"]],
        pulls=[Pull(**value) for value in kept["pulls"]],
        violations=kept["violations"],
    )


_state = _load()
