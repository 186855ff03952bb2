"""GraphQL as `gh` speaks it: GitHub's own type names over the same repositories and pull requests."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from graphql import GraphQLError, GraphQLResolveInfo, build_schema, graphql_sync

from github import grants, rest, state, store
from github.message import Request, Response, as_json, refused
from github.state import Grant, Pull
from github.store import Repository

_SCHEMA = build_schema((Path(__file__).parent / "schema.graphql").read_text())

Value = dict[str, Any]


def respond(request: Request) -> Response:
    grant = grants.bearer(request)
    if grant is None or request.method != "POST":
        raise refused(401, "This endpoint requires you to be authenticated.")
    asked = json.loads(request.body)
    root = {"viewer": _VIEWER, "repository": _repository_named, "createPullRequest": _create_pull}
    done = graphql_sync(
        _SCHEMA, asked["query"], root, context_value=grant, variable_values=asked.get("variables"),
        operation_name=asked.get("operationName"),
    )  # fmt: skip
    answer: Value = {"data": done.data}
    if done.errors:
        answer["errors"] = [_shown(error) for error in done.errors]
    return as_json(200, answer)


_VIEWER = {"__typename": "User", "id": "BOT_1", "login": "hatchery-world[bot]", "name": None}


def _shown(error: GraphQLError) -> Value:
    """GitHub has the kind of an error beside its message."""
    value: Value = {**error.formatted}
    return {**value.pop("extensions", {}), **value}


def _error(kind: str, message: str) -> GraphQLError:
    return GraphQLError(message, extensions={"type": kind})


def _repository_named(info: GraphQLResolveInfo, owner: str, name: str, followRenames: bool = True) -> Value:  # noqa: N803
    found = store.find(owner, name)
    with state.seen() as known:
        number = known.moved.get(f"{owner}/{name}".lower())
    if found is None and number is not None and followRenames:
        found = store.by_number(number)
    if found is None or not rest.visible(info.context, found):
        raise _error("NOT_FOUND", f"Could not resolve to a Repository with the name '{owner}/{name}'.")
    return _repository(found, info.context)


def _repository(repository: Repository, grant: Grant) -> Value:
    def pulls(_: GraphQLResolveInfo, **wanted: Any) -> Value:
        if not grants.may(grant, repository, "pull_requests", "read"):
            raise _error("FORBIDDEN", "Resource not accessible by integration")
        with state.seen() as known:
            found = [
                pull
                for pull in known.pulls_of(repository)
                if "OPEN" in (wanted.get("states") or ["OPEN"])
                and wanted.get("headRefName") in (None, pull.head)
                and wanted.get("baseRefName") in (None, pull.base)
            ]
        nodes = [_pull(repository, pull) for pull in reversed(found)][: wanted.get("first")]
        return {
            "totalCount": len(found),
            "nodes": nodes,
            "pageInfo": {"hasNextPage": len(nodes) < len(found), "endCursor": None},
        }

    writes = grants.may(grant, repository, "contents", "write")
    return {
        "id": f"R_{repository.number}",
        "name": repository.name,
        "nameWithOwner": repository.full_name,
        "owner": _owner(repository),
        "description": f"The repository {repository.full_name}",
        "url": f"https://github.com/{repository.full_name}",
        "sshUrl": f"git@github.com:{repository.full_name}.git",
        "isPrivate": repository.private,
        "isFork": False,
        "isArchived": False,
        "hasIssuesEnabled": True,
        "hasWikiEnabled": False,
        "mergeCommitAllowed": True,
        "rebaseMergeAllowed": True,
        "squashMergeAllowed": True,
        "viewerPermission": "WRITE" if writes else "READ",
        "defaultBranchRef": {"id": "REF_main", "name": "main"},
        "issueTemplates": [],
        "pullRequestTemplates": [],
        "pullRequests": pulls,
    }


def _owner(repository: Repository) -> Value:
    return {"__typename": "Organization", "id": f"O_{repository.owner}", "login": repository.owner, "name": None}


def _pull(repository: Repository, pull: Pull) -> Value:
    return {
        "id": f"PR_{repository.number}_{pull.number}",
        "number": pull.number,
        "title": pull.title,
        "body": pull.body,
        "state": "OPEN",
        "url": f"https://github.com/{repository.full_name}/pull/{pull.number}",
        "isDraft": pull.draft,
        "isCrossRepository": False,
        "headRefName": pull.head,
        "baseRefName": pull.base,
        "headRepositoryOwner": _owner(repository),
        "createdAt": datetime.fromtimestamp(pull.created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def _create_pull(info: GraphQLResolveInfo, input: Value) -> Value:  # noqa: A002
    repository = store.by_number(int(input["repositoryId"].removeprefix("R_")))
    if repository is None or not rest.visible(info.context, repository):
        raise _error("NOT_FOUND", f"Could not resolve to a node with the global id of '{input['repositoryId']}'.")
    if not grants.may(info.context, repository, "pull_requests", "write"):
        raise _error("FORBIDDEN", "Resource not accessible by integration")
    head, base = input["headRefName"], input["baseRefName"]
    if repository.head_of(head) is None or repository.head_of(base) is None:
        raise _error(
            "UNPROCESSABLE", f"Head sha can't be blank, Base sha can't be blank, No commits between {base} and {head}"
        )
    body, draft = input.get("body") or "", input.get("draft") or False
    pull = Pull(repository.number, input["title"], body, head, base, draft)
    with state.changed() as known:
        known.open_pull(pull)
    return {"pullRequest": _pull(repository, pull)}
