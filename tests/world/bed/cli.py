"""The verbs."""

import argparse
import subprocess
import sys

from bed import docker, install, scenarios, world
from bed import lint as lint_module
from bed.errors import WorldError
from bed.settings import LOGIN_SERVER, MACHINES


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        return int(options.verb(options) or 0)
    except WorldError as error:
        print(f"world: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="world", description="The test world: internet, tailnet, server, laptop.")
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    up = verbs.add_parser("up", help="bring the world up, building what is missing")
    up.add_argument("--fresh", action="store_true", help="make the machines anew even if they stand")
    up.set_defaults(verb=lambda options: world.up(options.fresh))

    prepare = verbs.add_parser(
        "prepare", help="all of `up` that needs no built Hatchery: programs, images, the registry"
    )
    prepare.add_argument("--all-engines", action="store_true", help="the servers of the other engines as well")
    prepare.set_defaults(verb=lambda options: world.make_ready(options.all_engines))

    down = verbs.add_parser("down", help="remove the machines; images stay as a cache")
    down.add_argument("--purge", action="store_true", help="remove the images and the cache as well")
    down.set_defaults(verb=lambda options: world.down(options.purge))

    run = verbs.add_parser("run", help="run scenarios, all of them if none is named")
    run.add_argument("scenario", nargs="*", help="NAME, or NAME@ENGINE")
    run.add_argument("-v", "--verbose", action="store_true", help="show what they do")
    run.add_argument("--fresh", action="store_true", help="begin with new machines")
    run.add_argument("--lanes", type=int, default=1, metavar="N", help="in N worlds at once, side by side")
    run.add_argument("--all-engines", action="store_true", help="some of them on the other engines as well")
    run.set_defaults(
        verb=lambda options: scenarios.run_all(
            options.scenario, options.verbose, options.fresh, options.lanes, options.all_engines
        )
    )

    lint = verbs.add_parser("lint", help="format, lint and types of all Python here")
    lint.add_argument("--fix", action="store_true", help="format, and repair what can be repaired")
    lint.set_defaults(verb=lambda options: lint_module.everything(options.fix))

    verbs.add_parser("status", help="which machines stand").set_defaults(verb=_status)
    verbs.add_parser("install", help="put freshly built binaries into the server").set_defaults(verb=_install)

    shell = verbs.add_parser("shell", help="a root shell in a machine, or one command")
    shell.add_argument("machine", choices=[spec.name for spec in MACHINES])
    shell.add_argument("command", nargs=argparse.REMAINDER)
    shell.set_defaults(verb=_shell)
    return parser


def _status(_: argparse.Namespace) -> int:
    if not docker.answers():
        print("no dockerd answers")
        return 1
    states = {spec: docker.state(spec.container) for spec in MACHINES}
    for spec, state in states.items():
        print(f"{spec.name:<10}{state:<10}{spec.address:<15}{spec.container}")
    print(f"login server {LOGIN_SERVER}")
    return 0 if all(state == "running" for state in states.values()) else 1


def _install(_: argparse.Namespace) -> None:
    world.require_up()
    install.everything()


def _shell(options: argparse.Namespace) -> int:
    world.require_up()
    machine = next(spec for spec in MACHINES if spec.name == options.machine)
    terminal = ["-it"] if sys.stdin.isatty() else ["-i"]
    command = options.command or ["bash", "--login"]
    return subprocess.run([*docker.executing(machine, *terminal), *command], check=False).returncode
