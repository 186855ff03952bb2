"""GitHub's published description of its API: what a request and an answer must look like."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker

_FILE = Path(__file__).parent / "github-api.json"
# A repository that was renamed is redirected to its number, which the description leaves out.
_BY_NUMBER = re.compile(r"/repositories/\d+/installation")
_formats = FormatChecker(formats=())


@dataclass(frozen=True)
class Operation:
    """One of GitHub's operations; `name` is its `operationId`."""

    name: str
    pattern: re.Pattern[str]
    method: str
    request: Draft202012Validator | None
    answers: dict[int, Draft202012Validator | None]

    def wrong_request(self, body: bytes) -> str | None:
        """What is wrong with a request's body, if anything."""
        if self.request is None:
            return "it takes no body" if body else None
        return _wrong(self.request, body) if body else None

    def wrong_answer(self, status: int, body: bytes) -> str | None:
        if status not in self.answers:
            # That a credential is refused goes without saying, and the description leaves it out.
            return _wrong(_ERROR, body) if status == 401 else f"it never answers {status}"
        schema = self.answers[status]
        if schema is None:
            return f"{status} has no body" if body else None
        return _wrong(schema, body)


@_formats.checks("date-time", ValueError)
def _is_date_time(value: object) -> bool:
    return not isinstance(value, str) or datetime.fromisoformat(value).tzinfo is not None


def find(method: str, path: str) -> tuple[Operation, tuple[str, ...]] | None:
    """The operation and what its path names."""
    if _BY_NUMBER.fullmatch(path) and method == "GET":
        return INSTALLATION, (path.split("/")[2],)
    for operation in _OPERATIONS:
        if operation.method == method and (match := operation.pattern.fullmatch(path)):
            return operation, match.groups()
    return None


def example(name: str, full_name: str | None = None) -> dict[str, Any]:
    """An example that the description gives, told of another repository."""
    shown = json.dumps(_DOCUMENT["components"]["examples"][name]["value"])
    if full_name:
        shown = shown.replace("octocat/Hello-World", full_name)
    value: dict[str, Any] = json.loads(shown)
    return value


def _wrong(schema: Draft202012Validator, body: bytes) -> str | None:
    try:
        value = json.loads(body)
    except ValueError as error:
        return str(error)
    return "; ".join(f"{error.json_path}: {error.message}" for error in schema.iter_errors(value)) or None


def _operations(document: dict[str, Any]) -> Iterator[Operation]:
    for path, methods in document["paths"].items():
        pattern = re.compile(re.sub(r"\\{.+?\\}", "([^/]+)", re.escape(path)))
        for method, described in methods.items():
            body = _content(document, described.get("requestBody", {}))
            if body is not None:
                # What is not described is not to be sent.
                body = {**body, "additionalProperties": False}
            answers = {int(status): _content(document, answer) for status, answer in described["responses"].items()}
            yield Operation(
                described["operationId"],
                pattern,
                method.upper(),
                _validator(document, body) if body else None,
                {status: _validator(document, schema) if schema else None for status, schema in answers.items()},
            )


def _content(document: dict[str, Any], described: dict[str, Any]) -> dict[str, Any] | None:
    if "$ref" in described:
        kind, name = described["$ref"].split("/")[2:]
        described = document["components"][kind][name]
    schema: dict[str, Any] | None = described.get("content", {}).get("application/json", {}).get("schema")
    return schema


def _validator(document: dict[str, Any], schema: dict[str, Any]) -> Draft202012Validator:
    whole = {"allOf": [schema], "components": document["components"]}
    return Draft202012Validator(whole, format_checker=_formats)


def _translated(value: Any) -> Any:
    """OpenAPI 3.0 says `nullable` where JSON Schema has the type `null`."""
    if isinstance(value, list):
        return [_translated(part) for part in value]
    if not isinstance(value, dict):
        return value
    schema = {key: _translated(part) for key, part in value.items()}
    if schema.get("nullable") is True:
        del schema["nullable"]
        return {"anyOf": [schema, {"type": "null"}]}
    return schema


_DOCUMENT: dict[str, Any] = _translated(json.loads(_FILE.read_text()))
_ERROR = _validator(_DOCUMENT, _DOCUMENT["components"]["schemas"]["basic-error"])
_OPERATIONS = list(_operations(_DOCUMENT))
INSTALLATION = next(operation for operation in _OPERATIONS if operation.name == "apps/get-repo-installation")
