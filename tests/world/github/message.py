"""A request and a response, free of sockets."""

import base64
import binascii
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote, urlsplit


@dataclass(frozen=True)
class Request:
    method: str
    host: str
    target: str
    headers: Mapping[str, str]  # lower-case names
    body: bytes = b""

    @property
    def path(self) -> str:
        return unquote(urlsplit(self.target).path)

    @property
    def query_string(self) -> str:
        return urlsplit(self.target).query

    @property
    def query(self) -> dict[str, list[str]]:
        return parse_qs(self.query_string, keep_blank_values=True)

    @property
    def secret(self) -> str | None:
        """What the client authenticates with: a bearer token, or the password of a basic login."""
        scheme, _, credentials = self.headers.get("authorization", "").partition(" ")
        if scheme.lower() in ("bearer", "token"):
            return credentials.strip()
        if scheme.lower() == "basic":
            try:
                return base64.b64decode(credentials).decode().partition(":")[2]
            except (binascii.Error, UnicodeDecodeError):
                return ""
        return None


@dataclass(frozen=True)
class Response:
    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | Iterable[bytes] = b""

    def with_headers(self, headers: Mapping[str, str]) -> "Response":
        return Response(self.status, {**self.headers, **headers}, self.body)


class RefusedError(Exception):
    """An answer that ends what was being done."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.status)
        self.response = response


def text(status: int, body: str, headers: Mapping[str, str] | None = None) -> Response:
    return Response(status, {"Content-Type": "text/plain; charset=utf-8", **(headers or {})}, body.encode())


def as_json(status: int, value: object, headers: Mapping[str, str] | None = None) -> Response:
    content_type = {"Content-Type": "application/json; charset=utf-8"}
    return Response(status, {**content_type, **(headers or {})}, json.dumps(value).encode())


def refused(status: int, message: str, headers: Mapping[str, str] | None = None) -> RefusedError:
    """As GitHub's API says no."""
    body = {"message": message, "documentation_url": "https://docs.github.com/rest", "status": str(status)}
    return RefusedError(as_json(status, body, headers))
