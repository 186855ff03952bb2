"""All that speaks to the outer Docker, the one that runs the machines."""

import io
import json
import tarfile
from pathlib import Path

from bed import entrance
from bed.process import run, succeeds
from bed.settings import ENGINE, MachineSpec

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


def entering(machine: MachineSpec) -> list[str]:
    """What stands in front of a command that is to run in a machine, with the standard input that it is given."""
    way = entrance.into(machine.container)
    return [*way, *_door(machine)] if way else executing(machine, "-i")


def executing(machine: MachineSpec, *options: str) -> list[str]:
    """The same by `docker exec`, with options of that."""
    return ["docker", "exec", *options, machine.container, *_door(machine)]


def _door(machine: MachineSpec) -> list[str]:
    """A computer has no door for Docker: the container around it passes commands on."""
    return ["/usr/local/lib/world/enter"] if machine.computer else []


def inside(machine: MachineSpec, script: str, stdin: bytes | str | None = None, timeout: float = 300) -> str:
    """Run a bash script in a running machine and return what it prints."""
    return run(
        *entering(machine), "bash", "-euo", "pipefail", "-c", script,
        stdin=stdin, timeout=timeout * ENGINE.patience,
    )  # fmt: skip


def write(machine: MachineSpec, path: str, content: bytes | str, mode: str = "0644") -> None:
    """Write a file of a running machine in one step, with its mode from the start."""
    script = 'mkdir -p "$(dirname "$0")"; new=$(mktemp "$0.XXXXXX"); cat > "$new"; chmod "$1" "$new"; mv -f "$new" "$0"'
    run(*entering(machine), "bash", "-euc", script, path, mode, stdin=content)


def copy(source: Path, machine: MachineSpec, target: str) -> None:
    """Copy a file or a directory into a running machine, as `target`, owned by root there.

    Not by `docker cp`: that mounts the container's volumes anew in it, the control groups' dozen of
    mounts among them, and what starts in the container afterwards is slower by as much.
    """
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.add(source, arcname=target.lstrip("/"), filter=_owned_by_root)
    run(*entering(machine), "tar", "-x", "-p", "-C", "/", stdin=packed.getvalue())


def _owned_by_root(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    return entry
