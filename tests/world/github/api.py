"""api.github.com: what an anonymous client sees. Installations and their tokens have no place here yet."""

import re

from github import store
from github.message import Request, Response, as_json

_REPOSITORY = re.compile(r"/repos/([A-Za-z0-9-]+)/([A-Za-z0-9._-]+)")


def respond(request: Request) -> Response:
    if request.path == "/":
        return as_json(200, {"repository_url": "https://api.github.com/repos/{owner}/{repo}"})
    if request.method == "GET" and (match := _REPOSITORY.fullmatch(request.path)):
        found = store.find(match[1], match[2])
        if found:
            return as_json(200, _repository(found))
    return as_json(404, {"message": "Not Found", "documentation_url": "https://docs.github.com/rest", "status": "404"})


def _repository(repository: store.Repository) -> dict[str, object]:
    full_name = f"{repository.owner}/{repository.name}"
    return {
        "name": repository.name,
        "full_name": full_name,
        "private": False,
        "owner": {"login": repository.owner},
        "html_url": f"https://github.com/{full_name}",
        "clone_url": f"https://github.com/{full_name}.git",
        "default_branch": "main",
    }
