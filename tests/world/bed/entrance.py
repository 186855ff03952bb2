"""The way into a machine that costs least: straight into its namespaces and control groups.

`docker exec` takes 50 ms of processor for each command, most of it for a client, a shim and runc, and a run of all
scenarios gives thousands of commands. What is entered, and with what, is as Docker has it.
"""

import resource
import shlex
import shutil
from pathlib import Path

from bed.process import quietly

_NSENTER = shutil.which("nsenter") or "/usr/bin/nsenter"
_CONTROL_GROUPS = Path("/sys/fs/cgroup")
# Container -> its first process and its id, as they were when they were last asked for.
_known: dict[str, tuple[int, str]] = {}


def stands(container: str) -> bool:
    """Whether its first process is there. False also where that can't be seen: Docker may run elsewhere."""
    return _first_process(container) is not None


def into(container: str) -> list[str] | None:
    """What stands in front of a command that is to run in this container; `None` where Docker is the only way in."""
    process = _first_process(container)
    if process is None:
        return None
    _, identity = _known[container]
    try:
        groups = _control_groups(process, identity)
        environment = (Path("/proc") / str(process) / "environ").read_text().rstrip("\0").split("\0")
        soft, hard = resource.prlimit(process, resource.RLIMIT_NOFILE)
        lacking = _capabilities("self") & ~_capabilities(process)
    except OSError:
        return None
    joins = "".join(f"echo $$ > {shlex.quote(str(group / 'cgroup.procs'))} && " for group in groups)
    script = f'{joins}umask 022 && ulimit -Hn {hard} && ulimit -Sn {soft} && exec "$@"'
    dropped = ",".join(f"-cap_{number}" for number in range(lacking.bit_length()) if lacking >> number & 1)
    drop = ["setpriv", "--bounding-set", dropped] if dropped else []
    enter = ["setsid", "--wait", _NSENTER, "--target", str(process), "--all"]
    return ["sh", "-c", script, "enter", "env", "-i", *environment, *drop, *enter]


def _first_process(container: str) -> int | None:
    if container in _known and _is_of(*_known[container]):
        return _known[container][0]
    _known.pop(container, None)
    shown = quietly("docker", "container", "inspect", "--format", "{{.State.Pid}} {{.Id}}", container).split()
    if len(shown) != 2 or shown[0] == "0" or not _is_of(int(shown[0]), shown[1]):
        return None
    _known[container] = (int(shown[0]), shown[1])
    return int(shown[0])


def _is_of(process: int, identity: str) -> bool:
    """Whether the process is there and the container's: its number may be another's by now."""
    try:
        return identity in (Path("/proc") / str(process) / "cgroup").read_text()
    except OSError:
        return False


def _capabilities(process: int | str) -> int:
    """The most that its children can have, a bit for each (capabilities(7))."""
    status = (Path("/proc") / str(process) / "status").read_text()
    return next(int(line.split()[1], 16) for line in status.splitlines() if line.startswith("CapBnd:"))


def _control_groups(process: int, identity: str) -> list[Path]:
    """Those that `docker exec` puts a command into: in version 1 the container's own, in version 2 its first process's."""
    lines = (Path("/proc") / str(process) / "cgroup").read_text().splitlines()
    groups = []
    for controllers, path in (line.split(":", 2)[1:] for line in lines):
        if identity not in path:
            continue
        own = path[: path.index(identity) + len(identity)]
        if controllers:
            groups.append(_CONTROL_GROUPS / controllers.removeprefix("name=") / own.lstrip("/"))
        elif (_CONTROL_GROUPS / "cgroup.controllers").exists():
            groups.append(_CONTROL_GROUPS / path.lstrip("/"))
        else:
            groups.append(_CONTROL_GROUPS / "unified" / own.lstrip("/"))
    return [group for group in groups if group.exists()]
