"""The rest of REST, as far as `gh` and curious clients ask for it."""

import base64
import re
from collections.abc import Callable
from typing import Any

from github import grants, state, store
from github.apps import shown
from github.message import Request, Response, as_json, refused
from github.state import Grant
from github.store import Repository

_REPOSITORY = re.compile(r"/repos/([A-Za-z0-9-]+)/([A-Za-z0-9._-]+)((?:/.*)?)")
_NUMBER = re.compile(r"/repositories/(\d+)((?:/.*)?)")


def respond(request: Request) -> Response:
    grant = grants.bearer(request)
    if request.path == "/":
        return as_json(200, {"repository_url": "https://api.github.com/repos/{owner}/{repo}"})
    if request.path == "/user" and grant:
        raise refused(403, "Resource not accessible by integration")
    repository, below = _named(request.path, grant)
    handler = _HANDLERS.get((request.method, below))
    if handler is None:
        raise refused(404, "Not Found")
    return handler(request, grant, repository)


def visible(grant: Grant | None, repository: Repository | None) -> bool:
    return repository is not None and (not repository.private or grants.covers(grant, repository))


def _named(path: str, grant: Grant | None) -> tuple[Repository, str]:
    if match := _REPOSITORY.fullmatch(path):
        repository = store.find(match[1], match[2])
        with state.seen() as known:
            number = known.moved.get(f"{match[1]}/{match[2]}".lower())
        if repository is None and number is not None and visible(grant, store.by_number(number)):
            url = f"https://api.github.com/repositories/{number}{match[3]}"
            raise refused(301, "Moved Permanently", {"Location": url})
        below = match[3]
    elif match := _NUMBER.fullmatch(path):
        repository, below = store.by_number(int(match[1])), match[2]
    else:
        raise refused(404, "Not Found")
    if repository is None or not visible(grant, repository):
        raise refused(404, "Not Found")
    return repository, below


def _repository(_: Request, grant: Grant | None, repository: Repository) -> Response:
    writes = grants.may(grant, repository, "contents", "write")
    permissions = {"admin": False, "maintain": False, "push": writes, "triage": False, "pull": True}
    return as_json(200, {**shown(repository), "permissions": permissions})


def _readme(_: Request, grant: Grant | None, repository: Repository) -> Response:
    grants.require(grant, repository, "contents", "read")
    content = repository.file("README.md")
    if content is None:
        raise refused(404, "Not Found")
    return as_json(
        200,
        {
            "name": "README.md",
            "path": "README.md",
            "encoding": "base64",
            "content": base64.b64encode(content).decode(),
            "html_url": f"https://github.com/{repository.full_name}/blob/main/README.md",
        },
    )


def _pulls(_: Request, grant: Grant | None, repository: Repository) -> Response:
    grants.require(grant, repository, "pull_requests", "read")
    with state.seen() as known:
        pulls = known.pulls_of(repository)
    return as_json(200, [{"number": pull.number, "title": pull.title, "state": "open"} for pull in pulls])


def _runs(_: Request, grant: Grant | None, repository: Repository) -> Response:
    """One run of one workflow, for what is on main."""
    grants.require(grant, repository, "actions", "read")
    url = f"https://github.com/{repository.full_name}/actions/runs/1"
    commit = repository.head_of("main")
    run: dict[str, Any] = {
        "id": 1,
        "name": "CI",
        "display_title": "Add everything else",
        "status": "completed",
        "conclusion": "success",
        "event": "push",
        "workflow_id": 1,
        "run_number": 1,
        "run_attempt": 1,
        "head_branch": "main",
        "head_sha": commit,
        "head_commit": {"id": commit, "message": "Add everything else"},
        "head_repository": {"name": repository.name, "owner": {"login": repository.owner}},
        "html_url": url,
        "jobs_url": f"{url}/jobs",
        "created_at": "2026-01-01T00:00:00Z",
        "run_started_at": "2026-01-01T00:00:00Z",
        "updated_at": "2026-01-01T00:01:00Z",
    }
    return as_json(200, {"total_count": 1, "workflow_runs": [run]})


def _workflows(_: Request, grant: Grant | None, repository: Repository) -> Response:
    grants.require(grant, repository, "actions", "read")
    workflow = {"id": 1, "name": "CI", "path": ".github/workflows/ci.yml", "state": "active"}
    return as_json(200, {"total_count": 1, "workflows": [workflow]})


def _administer(_: Request, grant: Grant | None, repository: Repository) -> Response:
    """A change of the repository's settings, which nobody here may make."""
    grants.require(grant, repository, "administration", "write")
    return as_json(200, shown(repository))


_HANDLERS: dict[tuple[str, str], Callable[[Request, Grant | None, Repository], Response]] = {
    ("GET", ""): _repository,
    ("GET", "/readme"): _readme,
    ("GET", "/pulls"): _pulls,
    ("GET", "/actions/runs"): _runs,
    ("GET", "/actions/workflows"): _workflows,
    ("PATCH", ""): _administer,
}
