"""github.com: git over HTTP, and the public keys of people."""

import re

from github import git, store
from github.message import Request, Response, text

_GIT = re.compile(r"/([A-Za-z0-9-]+)/([A-Za-z0-9._-]+?)(?:\.git)?/(info/refs|git-upload-pack|git-receive-pack)")
_KEYS = re.compile(r"/([A-Za-z0-9-]+)\.keys")
_PAGE = re.compile(r"/([A-Za-z0-9-]+)/([A-Za-z0-9._-]+?)(?:\.git)?/?")


def respond(request: Request) -> Response:
    if match := _GIT.fullmatch(request.path):
        return _git(request, *match.groups())
    if match := _KEYS.fullmatch(request.path):
        keys = store.keys_of(match[1])
        return text(404, "Not Found") if keys is None else text(200, keys)
    if (match := _PAGE.fullmatch(request.path)) and (found := store.find(match[1], match[2])):
        return text(200, f"{found.owner}/{found.name}\n")
    return text(404, "Not Found")


def _git(request: Request, owner: str, name: str, service_path: str) -> Response:
    """Everyone may read what exists; to all else an anonymous client is told to log in.

    That is also the answer for a repository that does not exist: GitHub does not tell a stranger
    whether a private one is there.
    """
    repository = store.find(owner, name)
    writes = "git-receive-pack" in (service_path, *request.query.get("service", []))
    if repository is None or writes:
        if request.token is None:
            return text(401, "Repository not found.", {"WWW-Authenticate": 'Basic realm="GitHub"'})
        return text(403 if repository else 404, "Repository not found.")
    return git.serve(request, repository, service_path)
