"""How the machine itself reaches in: a Unix socket, a line of JSON each way. `command` is the other end."""

import json
import shutil
import threading
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from socketserver import StreamRequestHandler, ThreadingUnixStreamServer
from typing import Any

from github import grants, record, state, store
from github.state import CONTROL, Fault
from github.store import Repository

Lines = list[Any]


def start() -> None:
    CONTROL.unlink(missing_ok=True)
    server = ThreadingUnixStreamServer(str(CONTROL), _Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()


class _Handler(StreamRequestHandler):
    def handle(self) -> None:
        asked = json.loads(self.rfile.readline())
        try:
            answer: dict[str, Any] = {"lines": _VERBS[asked.pop("verb")](**asked)}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        self.wfile.write(json.dumps(answer).encode() + b"\n")


def _repository(full_name: str) -> Repository:
    found = store.find(*full_name.split("/"))
    if found is None:
        raise ValueError(f"there is no repository {full_name}")
    return found


def _advance(seconds: float) -> Lines:
    with state.changed() as known:
        known.ahead += seconds
        return [datetime.fromtimestamp(known.now(), UTC).isoformat(timespec="seconds")]


def _lifetime(seconds: float) -> Lines:
    with state.changed() as known:
        known.lifetime = seconds
    return []


def _fault(name: str, on: str, times: int | None, seconds: int) -> Lines:
    with state.changed() as known:
        known.faults.append(Fault(name, on, times, seconds))
    return []


def _heal() -> Lines:
    with state.changed() as known:
        known.faults.clear()
    return []


def _reset() -> Lines:
    """Well, and with nothing behind it: no tokens, no requests, no faults. Its clock cannot go back."""
    with state.changed() as known:
        known.grants.clear()
        known.faults.clear()
        known.installations.clear()
        known.lifetime = state.LIFETIME
    record.forget()
    return []


def _asked(forget: bool) -> Lines:
    lines = [asdict(asked) for asked in record.everything()]
    if forget:
        record.forget()
    return lines


def _tokens() -> Lines:
    with state.seen() as known:
        numbers = {repository.number: repository.full_name for repository in store.everything()}
        return [
            {
                "sha256": grants.fingerprint(grant.token),
                "owner": grant.owner,
                "repositories": None
                if grant.repositories is None
                else sorted(numbers.get(number, str(number)) for number in grant.repositories),
                "permissions": grant.permissions,
                "expires": datetime.fromtimestamp(grant.expires, UTC).isoformat(timespec="seconds"),
                "live": grants.is_live(known, grant),
                "revoked": grant.revoked,
            }
            for grant in known.grants
        ]


def _secrets() -> Lines:
    """Every token that ever was, for those who look for them where they must not be."""
    with state.seen() as known:
        return [grant.token for grant in known.grants]


def _suspend(owner: str, suspended: bool) -> Lines:
    with state.changed() as known:
        known.installation(owner).suspended = suspended
    return []


def _install(owner: str, installed: bool) -> Lines:
    with state.changed() as known:
        known.installation(owner).removed = not installed
        known.void(owner)
    return []


def _reinstall(owner: str) -> Lines:
    with state.changed() as known:
        known.reinstall(owner)
    return []


def _private(repository: str, private: bool) -> Lines:
    _repository(repository).set_private(private)
    return []


def _rename(repository: str, to: str) -> Lines:
    found = _repository(repository)
    owner, name = to.split("/")
    target = Repository(owner, name)
    with state.changed() as known:
        known.moved[repository.lower()] = found.number
        known.moved.pop(to.lower(), None)
        target.directory.parent.mkdir(exist_ok=True)
        # A directory of the image is not renamed by the file system below, but can be copied.
        shutil.move(found.directory, target.directory)
    return []


def _violations() -> Lines:
    with state.seen() as known:
        return list(known.violations)


_VERBS: dict[str, Callable[..., Lines]] = {
    "advance": _advance,
    "lifetime": _lifetime,
    "fault": _fault,
    "heal": _heal,
    "reset": _reset,
    "asked": _asked,
    "tokens": _tokens,
    "secrets": _secrets,
    "suspend": _suspend,
    "install": _install,
    "reinstall": _reinstall,
    "private": _private,
    "rename": _rename,
    "violations": _violations,
}
