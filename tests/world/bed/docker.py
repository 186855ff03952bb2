"""All that speaks to the outer Docker, the one that runs the machines."""

import json
from pathlib import Path

from bed.process import run, succeeds

# The classic builder is in every Docker and sees local images under any configuration.
_BUILDER = {"DOCKER_BUILDKIT": "0"}


def answers() -> bool:
    return succeeds("docker", "version", "--format", "{{.Server.Version}}")


def image_exists(reference: str) -> bool:
    return succeeds("docker", "image", "inspect", reference)


def build(reference: str, context: Path, arguments: dict[str, str]) -> None:
    build_arguments = [part for key, value in arguments.items() for part in ("--build-arg", f"{key}={value}")]
    run(
        "docker", "build", "--quiet", "--force-rm", "--network", "host", "--tag", reference, *build_arguments, context,
        env=_BUILDER,
    )  # fmt: skip


def state(container: str) -> str:
    """`running`, `exited`, ... or `absent`."""
    if not succeeds("docker", "container", "inspect", container):
        return "absent"
    return run("docker", "container", "inspect", "--format", "{{.State.Status}}", container).strip()


def label(container: str, name: str) -> str:
    shown = run("docker", "container", "inspect", "--format", "{{json .Config.Labels}}", container)
    labels: dict[str, str] = json.loads(shown) or {}
    return labels.get(name, "")


def remove_container(container: str) -> None:
    if state(container) != "absent":
        run("docker", "rm", "--force", "--volumes", container)


def remove_volume(volume: str) -> None:
    if succeeds("docker", "volume", "inspect", volume):
        run("docker", "volume", "rm", volume)


def create_network(name: str, subnet: str) -> None:
    run("docker", "network", "create", "--subnet", subnet, name)


def remove_network(name: str) -> None:
    if succeeds("docker", "network", "inspect", name):
        run("docker", "network", "rm", name)


def inside(container: str, script: str, stdin: bytes | str | None = None, timeout: float = 300) -> str:
    """Run a bash script in a running container and return what it prints."""
    interactive = ["-i"] if stdin is not None else []
    return run(
        "docker", "exec", *interactive, container, "bash", "-euo", "pipefail", "-c", script,
        stdin=stdin, timeout=timeout,
    )  # fmt: skip


def write(container: str, path: str, content: bytes | str, mode: str = "0644") -> None:
    """Write a file of a running container in one step, with its mode from the start."""
    script = 'mkdir -p "$(dirname "$0")"; new=$(mktemp "$0.XXXXXX"); cat > "$new"; chmod "$1" "$new"; mv -f "$new" "$0"'
    run("docker", "exec", "-i", container, "bash", "-euc", script, path, mode, stdin=content)
