"""github.com: git and git-lfs over HTTP, and the public keys of people."""

import re

from github import faults, git, grants, lfs, state, store
from github.message import RefusedError, Request, Response, text
from github.state import Grant
from github.store import Repository

_BELOW = re.compile(
    r"/([A-Za-z0-9-]+)/([A-Za-z0-9._-]+?)(?:\.git)?/(info/refs|git-upload-pack|git-receive-pack|info/lfs/.+)"
)
_KEYS = re.compile(r"/([A-Za-z0-9-]+)\.keys")
_PAGE = re.compile(r"/([A-Za-z0-9-]+)/([A-Za-z0-9._-]+?)(?:\.git)?/?")


def respond(request: Request) -> Response:
    if match := _BELOW.fullmatch(request.path):
        fault = faults.take("git")
        if fault and (answer := faults.instead(fault)) is not None:
            return answer
        try:
            response = _below(request, *match.groups())
        except RefusedError as refusal:
            response = refusal.response
        return faults.spoilt(fault, response) if fault else response
    if match := _KEYS.fullmatch(request.path):
        keys = store.keys_of(match[1])
        return text(404, "Not Found") if keys is None else text(200, keys)
    if (match := _PAGE.fullmatch(request.path)) and (found := store.find(match[1], match[2])) and not found.private:
        return text(200, f"{found.full_name}\n")
    return text(404, "Not Found")


def _below(request: Request, owner: str, name: str, service: str) -> Response:
    if service.startswith("info/lfs/storage/"):
        return lfs.store_or_fetch(request, service.removeprefix("info/lfs/storage/"))
    writes = "git-receive-pack" in (service, *request.query.get("service", [])) or lfs.writes(request, service)
    grant = _login(request)
    repository = _known(request, grant, owner, name)
    _require(grant, repository, writes)
    if service.startswith("info/lfs/"):
        return lfs.respond(request, repository, service.removeprefix("info/lfs/"))
    return git.serve(request, repository, grant, service)


def _login(request: Request) -> Grant | None:
    try:
        return grants.bearer(request)
    except RefusedError:
        # Also where everyone may read: whoever logs in does it right or not at all.
        raise _asked_to_log_in("Invalid username or token. Password authentication is not supported.") from None


def _asked_to_log_in(said: str) -> RefusedError:
    return RefusedError(text(401, said, {"WWW-Authenticate": 'Basic realm="GitHub"'}))


def _known(request: Request, grant: Grant | None, owner: str, name: str) -> Repository:
    """The repository, if this client may know that it is there.

    A stranger is told to log in for what does not exist as for what is private.
    """
    repository = store.find(owner, name)
    with state.seen() as known:
        number = known.moved.get(f"{owner}/{name}".lower())
    # Git finds a repository that was renamed under its former name, without a redirect.
    found = store.by_number(number) if repository is None and number is not None else repository
    if found is None or (found.private and not grants.covers(grant, found)):
        raise RefusedError(text(404, "Repository not found.")) if grant else _asked_to_log_in("Repository not found.")
    return found


def _require(grant: Grant | None, repository: Repository, writes: bool) -> None:
    if grants.may(grant, repository, "contents", "write" if writes else "read"):
        return
    if grant is None:
        raise _asked_to_log_in("Repository not found.")
    raise RefusedError(text(403, "Write access to repository not granted." if writes else "Access denied."))
