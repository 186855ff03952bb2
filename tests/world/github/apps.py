"""The operations of an App and of its installations' tokens, as GitHub's description has them."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from github import description, grants, state, store
from github.description import Operation
from github.message import Request, Response, as_json, refused
from github.state import Grant, Installation
from github.store import Repository

_MOST_REPOSITORIES = 500
_HOURLY = 5000


def _app(request: Request) -> Response:
    grants.app(request)
    body = description.example("integration")
    body["permissions"] = grants.APP_PERMISSIONS
    return as_json(200, body)


def _installation_of_repository(request: Request, *named: str) -> Response:
    """By owner and name, or by number, where a redirect led."""
    grants.app(request)
    if len(named) == 1:
        repository = store.by_number(int(named[0]))
    else:
        repository = store.find(*named)
        with state.seen() as known:
            number = known.moved.get("/".join(named).lower())
        if repository is None and number is not None:
            url = f"https://api.github.com/repositories/{number}/installation"
            raise refused(301, "Moved Permanently", {"Location": url})
    if repository is None:
        raise refused(404, "Not Found")
    return _installation(repository.owner)


def _installation_of_owner(request: Request, owner: str) -> Response:
    grants.app(request)
    if not store.knows_owner(owner):
        raise refused(404, "Not Found")
    return _installation(owner)


def _installation(owner: str) -> Response:
    with state.changed() as known:
        installation = known.installation(owner)
    if installation.removed:
        raise refused(404, "Not Found")
    body = description.example("installation")
    body["id"] = installation.number
    body["account"]["login"] = owner
    body["permissions"] = grants.APP_PERMISSIONS
    body["suspended_at"] = "2026-01-01T00:00:00Z" if installation.suspended else None
    return as_json(200, body)


def _mint(request: Request, number: str) -> Response:
    grants.app(request)
    owner, installation = _numbered(number)
    if installation.suspended:
        raise refused(403, "This installation has been suspended")
    try:
        asked: dict[str, Any] = json.loads(request.body or b"{}")
    except ValueError as error:
        raise refused(400, "Problems parsing JSON") from error
    chosen = _chosen(owner, asked)
    permissions = _permitted(asked)
    with state.changed() as known:
        expires = int(known.now() + known.lifetime)
        grant = Grant(
            grants.new_token(),
            owner,
            None if chosen is None else [repository.number for repository in chosen],
            permissions,
            expires,
        )
        known.grants.append(grant)
    body: dict[str, Any] = {
        "token": grant.token,
        "expires_at": datetime.fromtimestamp(expires, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "permissions": permissions,
        "repository_selection": "all" if chosen is None else "selected",
    }
    if chosen is not None:
        body["repositories"] = [shown(repository) for repository in chosen]
    return as_json(201, body)


def _numbered(number: str) -> tuple[str, Installation]:
    with state.seen() as known:
        for owner, installation in known.installations.items():
            if str(installation.number) == number and not installation.removed:
                return owner, installation
    raise refused(404, "Not Found")


def _chosen(owner: str, asked: dict[str, Any]) -> list[Repository] | None:
    """The repositories that are asked for, by name within the owner or by number; none: all of them."""
    names: list[str] = asked.get("repositories") or []
    numbers: list[int] = asked.get("repository_ids") or []
    if not names and not numbers:
        return None
    found = [store.find(owner, name) for name in names] + [store.by_number(number) for number in numbers]
    chosen = [one for one in found if one is not None and one.owner.lower() == owner.lower()]
    if len(chosen) != len(found) or len(found) > _MOST_REPOSITORIES:
        raise refused(
            422,
            "There is at least one repository that does not exist or is not accessible to the parent installation.",
        )
    return list(dict.fromkeys(chosen))


def _permitted(asked: dict[str, Any]) -> dict[str, str]:
    permissions: dict[str, str] = asked.get("permissions") or grants.APP_PERMISSIONS
    levels = grants.LEVELS
    for name, level in permissions.items():
        most = grants.APP_PERMISSIONS.get(name)
        if most is None or level not in levels or levels.index(level) > levels.index(most):
            raise refused(422, "The permissions requested are not granted to this installation.")
    return {**permissions, "metadata": "read"}


def shown(repository: Repository) -> dict[str, Any]:
    """A repository as the API shows it."""
    value: dict[str, Any] = description.example("installation-token", repository.full_name)["repositories"][0]
    value["owner"]["login"] = repository.owner
    return {
        **value,
        "id": repository.number,
        "node_id": f"R_{repository.number}",
        "name": repository.name,
        "full_name": repository.full_name,
        "private": repository.private,
        "visibility": "private" if repository.private else "public",
        "html_url": f"https://github.com/{repository.full_name}",
        "clone_url": f"https://github.com/{repository.full_name}.git",
        "default_branch": "main",
    }


def _token(request: Request) -> Grant:
    grant = grants.bearer(request)
    if grant is None:
        raise refused(401, "Requires authentication")
    return grant


def _repositories(request: Request) -> Response:
    grant = _token(request)
    covered = [shown(repository) for repository in store.everything() if grants.covers(grant, repository)]
    selection = "all" if grant.repositories is None else "selected"
    return as_json(200, {"total_count": len(covered), "repository_selection": selection, "repositories": covered})


def _revoke(request: Request) -> Response:
    grant = _token(request)
    with state.changed():
        grant.revoked = True
    return Response(204)


def _meta(request: Request) -> Response:
    grants.bearer(request)
    return as_json(200, description.example("api-overview"))


def _rate_limit(request: Request) -> Response:
    grants.bearer(request)
    return as_json(200, description.example("rate-limit-overview"))


_HANDLERS: dict[str, Callable[..., Response]] = {
    "apps/get-authenticated": _app,
    "apps/get-repo-installation": _installation_of_repository,
    "apps/get-org-installation": _installation_of_owner,
    "apps/get-user-installation": _installation_of_owner,
    "apps/create-installation-access-token": _mint,
    "apps/list-repos-accessible-to-installation": _repositories,
    "apps/revoke-installation-access-token": _revoke,
    "meta/get": _meta,
    "rate-limit/get": _rate_limit,
}


def respond(operation: Operation, named: tuple[str, ...], request: Request) -> Response:
    return _HANDLERS[operation.name](request, *named)


def rate_headers() -> dict[str, str]:
    """What every answer of the API says of its limits."""
    return {
        "X-RateLimit-Limit": str(_HOURLY),
        "X-RateLimit-Remaining": str(_HOURLY - 1),
        "X-RateLimit-Reset": str(int(state.now()) + 3600),
    }
