"""The outer dockerd: one that runs is used; where none does, one is started and later stopped."""

import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

from bed import docker
from bed.errors import WorldError
from bed.process import run, say, succeeds, wait_until
from bed.settings import LOGS

_PID = Path("/run/hatchery-world-dockerd.pid")


def ensure() -> None:
    if docker.answers():
        return
    if Path("/run/systemd/system").is_dir():
        run("systemctl", "start", "docker.service")
    elif not succeeds("pgrep", "--runstates", "DRS", "--exact", "dockerd"):  # one that is starting, not a zombie
        _start()
    try:
        wait_until("dockerd answers", 60, ["docker", "version"])
    except WorldError as error:
        raise WorldError(f"dockerd does not come up; its log: {LOGS / 'dockerd.log'}") from error


def _start() -> None:
    say("no dockerd answers: starting one")
    LOGS.mkdir(parents=True, exist_ok=True)
    with (LOGS / "dockerd.log").open("ab") as log:
        daemon = subprocess.Popen(
            ["dockerd"], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd="/"
        )
    _PID.write_text(str(daemon.pid))


def stop_if_ours() -> None:
    """Stop the dockerd that `ensure` started, if it still runs under that process id."""
    if not _PID.exists():
        return
    if docker.answers() and run("docker", "ps", "--quiet").strip():
        say("the dockerd that was started here stays: other containers run in it")
        return
    pid = int(_PID.read_text())
    with suppress(FileNotFoundError):
        if Path(f"/proc/{pid}/comm").read_text().strip() == "dockerd":
            say("stopping the dockerd that was started here")
            os.kill(pid, signal.SIGTERM)
            gone = f'while kill -0 {pid} 2>/dev/null && ! grep -q "^State:.Z" /proc/{pid}/status; do sleep 0.1; done'
            run("timeout", "60", "sh", "-c", gone)
    _PID.unlink()
