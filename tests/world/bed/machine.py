"""A machine as the NixOS test driver has it, over a container.

Semantics are those of nixos/lib/test-driver: a command runs in a root shell with `-euo pipefail`,
standard output is returned, standard error goes to the log, 900 s are the default limit. Where the
server is slow by its nature, all limits are so much longer.
"""

import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from bed import docker, entrance, machines
from bed.errors import WorldError
from bed.process import run, succeeds
from bed.settings import ENGINE, MachineSpec

_LIMIT = 900
_PAUSE = 0.3
_BACKDOOR = "export USER=root HOME=/root PAGER=; source /etc/profile; cd /tmp; "


class Machine:
    """One of the four; its methods are the driver's."""

    def __init__(self, spec: MachineSpec, output: Path) -> None:
        self.name = spec.name
        self._spec = spec
        self._output = output
        self._connected = False

    # Power

    def start(self) -> None:
        """Boot; nothing for one that runs. Commands wait for the boot by themselves."""
        if not self.is_up():
            self.log("starting")
            run("docker", "start", self._spec.container)

    def shutdown(self) -> None:
        """Shut down as a person would; returns when it is off."""
        if not self.is_up():
            return
        with self.nested("waiting for the machine to power off"):
            self._off("systemctl poweroff")

    def crash(self) -> None:
        """Pull the plug: every process dies at once, disks keep what they have."""
        if self.is_up():
            self.log("forced crash")
            run("docker", "kill", "--signal", "KILL", self._spec.container)
            self._wait_until_off(60)

    def reboot(self) -> None:
        with self.nested("rebooting"):
            self._off("systemctl reboot")
            self.start()

    def is_up(self) -> bool:
        return docker.state(self._spec.container) == "running"

    # Commands

    def execute(
        self, command: str, check_return: bool = True, check_output: bool = True, timeout: int | None = _LIMIT
    ) -> tuple[int, str]:
        """Status and standard output; 124 is the status of a command that ran out of time."""
        self._connect()
        shell = ["bash", "-c", f"{_BACKDOOR}set -euo pipefail; {command}"]
        limit = ["timeout", str(timeout * ENGINE.patience)] if timeout is not None else []
        # Files, since what a command leaves running in the background may hold a pipe open.
        with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
            done = subprocess.run(
                [*docker.entering(self._spec), *limit, *shell],
                stdin=subprocess.DEVNULL,
                stdout=output if check_output else subprocess.DEVNULL,
                stderr=errors,
                check=False,
            )
            shown, said = (_from_the_start(file) for file in (output, errors))
        for line in said.splitlines():
            self.log(line)
        # What a signal ended has the status that a shell gives it.
        status = done.returncode if done.returncode >= 0 else 128 - done.returncode
        return (status if check_return else -1), shown

    def succeed(self, *commands: str, timeout: int | None = None) -> str:
        """Run each; every one must exit with 0. Their output, joined."""
        output = ""
        for command in commands:
            with self.nested(f"must succeed: {command}"):
                status, shown = self.execute(command, timeout=timeout if timeout is not None else _LIMIT)
                if status != 0:
                    self.log(f"output: {shown}")
                    raise WorldError(f"{self.name}: command `{command}` failed (exit code {status})")
                output += shown
        return output

    def fail(self, *commands: str, timeout: int | None = None) -> str:
        """Run each; every one must exit with something else than 0."""
        output = ""
        for command in commands:
            with self.nested(f"must fail: {command}"):
                status, shown = self.execute(command, timeout=timeout if timeout is not None else _LIMIT)
                if status == 0:
                    raise WorldError(f"{self.name}: command `{command}` unexpectedly succeeded")
                output += shown
        return output

    def wait_until_succeeds(self, command: str, timeout: int = _LIMIT) -> str:
        return self._retry(command, timeout, f"success: {command}", lambda status: status == 0)

    def wait_until_fails(self, command: str, timeout: int = _LIMIT) -> str:
        return self._retry(command, timeout, f"failure: {command}", lambda status: status != 0)

    # systemd

    def systemctl(self, q: str, user: str | None = None) -> tuple[int, str]:
        if user is None:
            return self.execute(f"systemctl {q}")
        bus = "XDG_RUNTIME_DIR=/run/user/$(id -u) DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/$(id -u)/bus"
        return self.execute(f"su -l {user} --shell /bin/sh -c {shlex.quote(f'{bus} systemctl --user {q}')}")

    def get_unit_info(self, unit: str, user: str | None = None) -> dict[str, str]:
        status, shown = self.systemctl(f'--no-pager show "{unit}"', user)
        if status != 0:
            raise WorldError(f"{self.name}: systemd knows no unit {unit}")
        return dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)

    def require_unit_state(self, unit: str, require_state: str = "active") -> None:
        state = self.get_unit_info(unit)["ActiveState"]
        if state != require_state:
            raise WorldError(f"{self.name}: expected unit {unit} to be {require_state}, it is {state}")

    def wait_for_unit(self, unit: str, user: str | None = None, timeout: int = _LIMIT) -> None:
        """Wait until active; a unit that failed, or that nothing is going to start, is an error at once."""
        deadline = time.monotonic() + timeout * ENGINE.patience
        with self.nested(f"waiting for unit {unit}"):
            while (state := self.get_unit_info(unit, user)["ActiveState"]) != "active":
                if state == "failed":
                    raise WorldError(f"{self.name}: unit {unit} reached state failed")
                if state == "inactive" and self._idle(unit, user):
                    raise WorldError(f"{self.name}: unit {unit} is inactive and there are no pending jobs")
                if time.monotonic() > deadline:
                    raise WorldError(f"{self.name}: unit {unit} was still {state} after {timeout} s")
                time.sleep(_PAUSE)

    def start_job(self, jobname: str, user: str | None = None) -> tuple[int, str]:
        return self.systemctl(f"start {jobname}", user)

    def stop_job(self, jobname: str, user: str | None = None) -> tuple[int, str]:
        return self.systemctl(f"stop {jobname}", user)

    # Files, ports, the cable

    def wait_for_file(self, filename: str, timeout: int = _LIMIT) -> None:
        self.wait_until_succeeds(f"test -e {filename}", timeout)

    def wait_for_open_port(self, port: int, addr: str = "localhost", timeout: int = _LIMIT) -> None:
        self.wait_until_succeeds(f"nc -z {addr} {port}", timeout)

    def wait_for_closed_port(self, port: int, addr: str = "localhost", timeout: int = _LIMIT) -> None:
        self.wait_until_fails(f"nc -z {addr} {port}", timeout)

    def copy_from_host(self, source: str, target: str) -> None:
        """Copy a file or directory of the host; what stands at `target` is replaced."""
        self._connect()
        self.succeed(f"rm -rf {shlex.quote(target)}")
        docker.copy(Path(source), self._spec, target)

    def copy_from_vm(self, source: str, target_dir: str = "") -> None:
        """Copy a file or directory of the machine to the scenario's output directory."""
        target = self._output / target_dir
        target.mkdir(parents=True, exist_ok=True)
        place, name = os.path.split(source.rstrip("/"))
        packed = subprocess.run(
            [*docker.entering(self._spec), "tar", "-c", "-C", place, name], stdout=subprocess.PIPE, check=True
        ).stdout
        run("tar", "-x", "-C", target, stdin=packed)

    def block(self) -> None:
        """Unplug the network cable."""
        self._cable("down")

    def unblock(self) -> None:
        """Plug the network cable in again."""
        self._cable("up")

    # The log

    def sleep(self, secs: int) -> None:
        time.sleep(secs)

    def log(self, msg: str) -> None:
        print(f"{self.name} # {msg}", file=sys.stderr, flush=True)

    @contextmanager
    def nested(self, msg: str, attrs: dict[str, str] | None = None) -> Iterator[None]:
        started = time.monotonic()
        print(f"{self.name}: {msg}", file=sys.stderr, flush=True)
        yield
        print(f"{self.name}: (finished: {msg}, in {time.monotonic() - started:.2f} s)", file=sys.stderr, flush=True)

    # Within

    def _connect(self) -> None:
        if not entrance.stands(self._spec.container) and not self.is_up():
            self._connected = False
            self.start()
        if not self._connected:
            machines.wait_until_booted(self._spec)
            self._connected = True

    def _retry(self, command: str, timeout: int, wanted: str, good: Callable[[int], bool]) -> str:
        deadline = time.monotonic() + timeout * ENGINE.patience
        with self.nested(f"waiting for {wanted}"):
            while True:
                status, shown = self.execute(command, timeout=timeout)
                if good(status):
                    return shown
                if time.monotonic() > deadline:
                    raise WorldError(
                        f"{self.name}: no {wanted} within {timeout} s; last status {status}, output: {shown}"
                    )
                time.sleep(_PAUSE)

    def _idle(self, unit: str, user: str | None) -> bool:
        """No job is queued, and the unit is still inactive after that was seen."""
        _, jobs = self.systemctl("list-jobs --full 2>&1", user)
        return "No jobs" in jobs and self.get_unit_info(unit, user)["ActiveState"] == "inactive"

    def _off(self, command: str) -> None:
        self._connect()
        if self._spec.systemd:
            # The way in goes down with the machine.
            succeeds(*docker.entering(self._spec), "bash", "-c", f"{command} >/dev/null 2>&1")
        else:
            run("docker", "stop", self._spec.container)
        self._wait_until_off(120)

    def _wait_until_off(self, seconds: float) -> None:
        self._connected = False
        deadline = time.monotonic() + seconds * ENGINE.patience
        while self.is_up():
            if time.monotonic() > deadline:
                raise WorldError(f"{self.name}: still running {seconds:.0f} s after it was told to stop")
            time.sleep(_PAUSE)

    def _cable(self, state: str) -> None:
        """The far end of the network device, on the host. A computer is on the same cable as the container around it."""
        self._connect()
        index = int(run("docker", "exec", self._spec.container, "cat", "/sys/class/net/eth0/iflink"))
        devices = [device for device in Path("/sys/class/net").iterdir() if (device / "ifindex").exists()]
        far_end = next(device.name for device in devices if int((device / "ifindex").read_text()) == index)
        run("ip", "link", "set", "dev", far_end, state)


def _from_the_start(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")
