"""What was asked, and with what: the secret itself is never kept, its SHA-256 is."""

import threading
from dataclasses import dataclass

from github import state
from github.grants import fingerprint
from github.message import Request

_lock = threading.Lock()


@dataclass
class Asked:
    time: float  # by GitHub's clock
    host: str
    method: str
    target: str
    agent: str
    secret_sha256: str | None
    status: int | None = None  # none yet


_asked: list[Asked] = []


def begin(request: Request) -> Asked:
    secret = request.secret
    asked = Asked(
        state.now(),
        request.host,
        request.method,
        request.target,
        request.headers.get("user-agent", ""),
        None if secret is None else fingerprint(secret),
    )
    with _lock:
        _asked.append(asked)
    return asked


def everything() -> list[Asked]:
    with _lock:
        return list(_asked)


def forget() -> None:
    with _lock:
        _asked.clear()
