"""git-lfs: the batch API, and the storage that it points to."""

import json
import re
import secrets
from pathlib import Path
from typing import Any

from github.message import Request, Response, text
from github.store import ROOT, Repository

_OBJECTS = ROOT / "lfs"
_OID = re.compile(r"[0-9a-f]{64}")
_TYPE = {"Content-Type": "application/vnd.git-lfs+json"}
# What the storage takes in place of a token: it is another service, and a token is not for it.
_tickets: dict[str, str] = {}


def writes(request: Request, service: str) -> bool:
    """Whether this asks to change something."""
    if service == "info/lfs/objects/batch":
        return bool(_asked(request).get("operation") == "upload")
    return service.startswith("info/lfs/locks")


def respond(request: Request, repository: Repository, service: str) -> Response:
    if service == "objects/batch":
        return _batch(_asked(request), repository)
    if service == "locks/verify":
        return _answer(200, {"ours": [], "theirs": []})
    return _answer(404, {"message": "Not Found"})


def _asked(request: Request) -> dict[str, Any]:
    asked: dict[str, Any] = json.loads(request.body or b"{}")
    return asked


def _batch(asked: dict[str, Any], repository: Repository) -> Response:
    objects = [_object(asked["operation"], item, repository) for item in asked["objects"]]
    return _answer(200, {"transfer": "basic", "objects": objects, "hash_algo": "sha256"})


def _object(operation: str, item: dict[str, Any], repository: Repository) -> dict[str, Any]:
    oid, size = str(item["oid"]), int(item["size"])
    known = {"oid": oid, "size": size, "authenticated": True}
    if not _OID.fullmatch(oid):
        return {**known, "error": {"code": 422, "message": "Validation Error"}}
    there = _path(repository, oid).exists()
    if operation == "download" and not there:
        return {**known, "error": {"code": 404, "message": "Object does not exist on the server"}}
    if operation == "upload" and there:
        return known
    ticket = secrets.token_urlsafe(24)
    _tickets[ticket] = f"{operation} {repository.full_name} {oid}"
    href = f"https://github.com/{repository.full_name}.git/info/lfs/storage/{oid}"
    action = {"href": href, "header": {"Authorization": f"RemoteAuth {ticket}"}, "expires_in": 900}
    return {**known, "actions": {operation: action}}


def store_or_fetch(request: Request, oid: str) -> Response:
    scheme, _, ticket = request.headers.get("authorization", "").partition(" ")
    operation, full_name, ticketed = _tickets.get(ticket, "  ").split(" ")
    wanted = "upload" if request.method == "PUT" else "download"
    if scheme != "RemoteAuth" or (operation, ticketed) != (wanted, oid):
        return text(403, "Forbidden")
    owner, name = full_name.split("/")
    path = _path(Repository(owner, name), oid)
    if request.method == "PUT":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(request.body)
        return Response(200)
    return Response(200, {"Content-Type": "application/octet-stream"}, path.read_bytes())


def _path(repository: Repository, oid: str) -> Path:
    return _OBJECTS / str(repository.number) / oid


def _answer(status: int, value: object) -> Response:
    return Response(status, _TYPE, json.dumps(value).encode())
