"""The command `github-fake`, on the machine alone: changes what GitHub is like, tells what it was asked."""

import argparse
import json
import socket
import sys

from github.state import CONTROL, FAULTS, PLACES


def main() -> int:
    options = vars(_parser().parse_args())
    fails_on_lines = options["verb"] == "violations"
    answer = _ask(options)
    if "error" in answer:
        print(f"github-fake: {answer['error']}", file=sys.stderr)
        return 1
    for line in answer["lines"]:
        print(line if isinstance(line, str) else json.dumps(line))
    return 1 if fails_on_lines and answer["lines"] else 0


def _ask(question: dict[str, object]) -> dict[str, list[object]]:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(CONTROL))
        connection.sendall(json.dumps(question).encode() + b"\n")
        answer: dict[str, list[object]] = json.loads(connection.makefile().readline())
        return answer


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="github-fake", description=__doc__)
    verbs = parser.add_subparsers(required=True, metavar="VERB", dest="verb")

    def verb(name: str, help: str) -> argparse.ArgumentParser:  # noqa: A002
        return verbs.add_parser(name, help=help)

    advance = verb("advance", "let time pass, all at once, by GitHub's clock")
    advance.add_argument("seconds", type=float)
    lifetime = verb("lifetime", "how long tokens live that are minted from now on")
    lifetime.add_argument("seconds", type=float)
    fault = verb("fault", f"break something: {', '.join(FAULTS)}")
    fault.add_argument("name", choices=FAULTS, metavar="NAME")
    fault.add_argument("--on", choices=PLACES, default="api", help=f"{', '.join(PLACES)}; default: api")
    fault.add_argument("--times", type=int, help="so many requests; default: until healed")
    fault.add_argument("--seconds", type=int, default=60, help="how long a rate limit says that it lasts")
    verb("heal", "nothing is broken any more")
    verb("reset", "as at first: no token, no request, no fault, the App installed everywhere; the clock stays")
    asked = verb("asked", "the requests since the start, a line of JSON each")
    asked.add_argument("--forget", action="store_true", help="and begin anew")
    verb("tokens", "every token that was minted, by its SHA-256, a line of JSON each")
    verb("secrets", "every token that was minted, itself")
    for name, argument, value, meaning in (
        ("suspend", "suspended", True, "suspend the App's installation for an owner"),
        ("unsuspend", "suspended", False, "and let it work again"),
        ("install", "installed", True, "install the App for an owner, as it is at first for everyone"),
        ("uninstall", "installed", False, "remove it"),
    ):
        owner = verb(name, meaning)
        owner.add_argument("owner")
        owner.set_defaults(**{argument: value, "verb": name.removeprefix("un")})
    verb("reinstall", "remove the App and install it again: another number").add_argument("owner")
    for name, private in (("private", True), ("public", False)):
        repository = verb(name, f"make a repository {name}")
        repository.add_argument("repository")
        repository.set_defaults(private=private, verb="private")
    rename = verb("rename", "rename or transfer a repository; the former name redirects")
    rename.add_argument("repository")
    rename.add_argument("to")
    verb("violations", "what did not keep to GitHub's published description; fails if there is anything")
    return parser


if __name__ == "__main__":
    sys.exit(main())
