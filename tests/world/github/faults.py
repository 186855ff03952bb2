"""What goes wrong on purpose."""

import json
from collections.abc import Callable
from typing import Any

from github import state, store
from github.apps import shown
from github.message import Response, refused, text
from github.state import ON_THE_API, Fault

# A status that nginx turns into a connection that is cut without an answer.
RESET = 599
# One that the server turns into silence.
HANG = 598


def take(kind: str) -> Fault | None:
    """The fault that strikes a request of this kind, once less for the next."""
    places = {kind, "everywhere"} | ({"api"} if kind in ON_THE_API else set())
    with state.changed() as known:
        for fault in known.faults:
            if fault.on in places and fault.times != 0:
                if fault.times is not None:
                    fault.times -= 1
                return fault
    return None


def instead(fault: Fault) -> Response | None:
    """The answer in place of the right one: what was asked is not done."""
    make = _INSTEAD.get(fault.name)
    return make(fault.seconds) if make else None


def _primary_limit(seconds: int) -> Response:
    limits = {"X-RateLimit-Limit": "5000", "X-RateLimit-Remaining": "0"}
    reset = {"X-RateLimit-Reset": str(int(state.now()) + seconds)}
    return _message(403, "API rate limit exceeded for installation ID 1001.", {**limits, **reset})


def _secondary_limit(seconds: int) -> Response:
    said = "You have exceeded a secondary rate limit. Please wait a few minutes before you try again."
    return _message(403, said, {"Retry-After": str(seconds)})


def _message(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    return refused(status, message, headers).response


_INSTEAD: dict[str, Callable[[int], Response]] = {
    "clock-refusal": lambda _: _message(401, "'Expiration time' claim ('exp') is too far in the future"),
    "primary-limit": _primary_limit,
    "secondary-limit": _secondary_limit,
    "error": lambda _: _message(500, "Server Error"),
    "bad-gateway": lambda _: _message(502, "Server Error"),
    "unavailable": lambda _: text(503, "<!DOCTYPE html><title>Unicorn!</title>", {"Content-Type": "text/html"}),
    "hang": lambda _: Response(HANG),
    "reset": lambda _: Response(RESET),
}


def spoilt(fault: Fault, response: Response) -> Response:
    """The right answer, made wrong: what was asked is done."""
    body = response.body if isinstance(response.body, bytes) else b"".join(response.body)
    match fault.name:
        case "cut":
            return Response(response.status, {**response.headers, "Content-Length": str(len(body) + 100)}, body)
        case "malformed":
            return Response(response.status, response.headers, body[: len(body) // 2])
        case "wider-repositories" | "wider-permissions" if response.status == 201:
            return Response(response.status, response.headers, json.dumps(_wider(fault, json.loads(body))).encode())
    return Response(response.status, response.headers, body)


def _wider(fault: Fault, answer: dict[str, Any]) -> dict[str, Any]:
    """More than was asked for, in truth and not only in the answer."""
    with state.changed() as known:
        grant = next(grant for grant in known.grants if grant.token == answer["token"])
        if fault.name == "wider-permissions":
            grant.permissions["administration"] = "write"
            answer["permissions"] = grant.permissions
        else:
            covered = grant.repositories or []
            other = next(
                one for one in store.everything() if one.owner.lower() == grant.owner and one.number not in covered
            )
            grant.repositories = [*covered, other.number]
            answer["repositories"].append(shown(other))
    return answer
