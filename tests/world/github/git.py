"""The bridge to git's own `http-backend` (a CGI program, RFC 3875)."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from typing import IO

from github import grants, workflows
from github.message import Request, Response
from github.state import Grant
from github.store import GIT, Repository

_CHUNK = 1 << 16


def serve(request: Request, repository: Repository, grant: Grant | None, service_path: str) -> Response:
    """Answer one request of git's smart protocol; the pack is streamed."""
    # Who may push has been decided before.
    settings = {"http.receivepack": "true"}
    if not grants.may(grant, repository, "workflows", "write"):
        settings |= workflows.settings()
    environment = {
        "PATH": os.environ["PATH"],
        "GIT_PROJECT_ROOT": str(GIT),
        "GIT_HTTP_EXPORT_ALL": "1",
        "PATH_INFO": f"/{repository.owner}/{repository.name}.git/{service_path}",
        "QUERY_STRING": request.query_string,
        "REQUEST_METHOD": request.method,
        "CONTENT_TYPE": request.headers.get("content-type", ""),
        "CONTENT_LENGTH": str(len(request.body)),
        "HTTP_CONTENT_ENCODING": request.headers.get("content-encoding", ""),
        "GIT_PROTOCOL": request.headers.get("git-protocol", ""),
        "GIT_CONFIG_COUNT": str(len(settings)),
        **{f"GIT_CONFIG_KEY_{n}": key for n, key in enumerate(settings)},
        **{f"GIT_CONFIG_VALUE_{n}": value for n, value in enumerate(settings.values())},
    }
    with tempfile.TemporaryFile() as body:
        body.write(request.body)
        body.seek(0)
        backend = subprocess.Popen(
            ["git", "http-backend"], env=environment, stdin=body, stdout=subprocess.PIPE, start_new_session=True
        )
    assert backend.stdout is not None
    headers = _headers(backend.stdout)
    status = int(headers.pop("Status", "200").split()[0])
    return Response(status, headers, _rest(backend, backend.stdout))


def _headers(output: IO[bytes]) -> dict[str, str]:
    headers = {}
    while line := output.readline().strip():
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.strip()] = value.strip()
    return headers


def _rest(backend: "subprocess.Popen[bytes]", output: IO[bytes]) -> Iterator[bytes]:
    try:
        while chunk := output.read(_CHUNK):
            yield chunk
    finally:
        output.close()
        backend.wait()
