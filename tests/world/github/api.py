"""api.github.com: sees to it that what comes and goes is what GitHub has published."""

from github import apps, description, faults, graphql, rest, state
from github.description import Operation
from github.message import RefusedError, Request, Response


def respond(request: Request) -> Response:
    found = description.find(request.method, request.path)
    operation = found[0] if found else None
    if operation:
        _check_request(operation, request)
    fault = faults.take(_kind(operation, request))
    if fault and (answer := faults.instead(fault)) is not None:
        return answer
    response = _answer(found, request)
    if operation:
        _check_answer(operation, response)
    response = response.with_headers({**apps.rate_headers(), "X-GitHub-Media-Type": "github.v3; format=json"})
    return faults.spoilt(fault, response) if fault else response


def _answer(found: tuple[Operation, tuple[str, ...]] | None, request: Request) -> Response:
    try:
        if found:
            return apps.respond(*found, request)
        if request.path == "/graphql":
            return graphql.respond(request)
        return rest.respond(request)
    except RefusedError as refusal:
        return refusal.response


def _kind(operation: Operation | None, request: Request) -> str:
    """What a fault can be laid on."""
    name = operation.name if operation else ""
    if name.endswith("-installation"):
        return "look-up"
    if name == "apps/create-installation-access-token":
        return "mint"
    if name == "apps/revoke-installation-access-token":
        return "revoke"
    return "graphql" if request.path == "/graphql" else "rest"


def _check_request(operation: Operation, request: Request) -> None:
    """Hatchery's own requests are held to the description; what others send is theirs."""
    agent = request.headers.get("user-agent", "")
    if not agent.startswith("hatchery/"):
        return
    headers = {"accept": "application/vnd.github+json", "x-github-api-version": "2022-11-28"}
    for name, value in headers.items():
        if request.headers.get(name) != value:
            _violated(f"{operation.name} was asked with {name}: {request.headers.get(name)}")
    if wrong := operation.wrong_request(request.body):
        _violated(f"{operation.name} was asked wrongly: {wrong}")


def _check_answer(operation: Operation, response: Response) -> None:
    body = response.body if isinstance(response.body, bytes) else b"".join(response.body)
    if wrong := operation.wrong_answer(response.status, body):
        _violated(f"{operation.name} was answered wrongly: {wrong}")


def _violated(what: str) -> None:
    with state.changed() as known:
        known.violations.append(what)
