"""What the host must have; on Debian and Ubuntu, what is missing is installed."""

import os
import platform
import shutil
import sys
from pathlib import Path

from bed import debian
from bed.errors import WorldError
from bed.process import run, say, succeeds

# program looked for -> Debian package that brings it
_PROGRAMS = {
    "docker": "docker.io",
    "dockerd": "docker.io",
    "mmdebstrap": "mmdebstrap",
    "git": "git",
    "openssl": "openssl",
    "ssh-keygen": "openssh-client",
    "iptables": "iptables",
}

_INOTIFY = Path("/proc/sys/fs/inotify/max_user_instances")
_INOTIFY_INSTANCES = 1024


def require() -> None:
    """What nothing can be done about here."""
    if sys.version_info < (3, 11):  # noqa: UP036
        raise WorldError(f"Python 3.11 or newer is needed, this is {platform.python_version()}")
    if os.geteuid() != 0:
        raise WorldError("the world needs root (mmdebstrap, dockerd, network devices): run it with sudo")


def install() -> None:
    """Install the programs that are missing."""
    missing = sorted({package for program, package in _PROGRAMS.items() if not shutil.which(program)})
    if not succeeds(sys.executable, "-c", "import venv, ensurepip"):
        missing.append("python3-venv")
    if not Path("/usr/share/ca-certificates/mozilla").is_dir():
        missing.append("ca-certificates")
    if not (debian.KEYRINGS / "debian-archive-keyring.gpg").exists():
        missing.append("debian-archive-keyring")
    if missing:
        _install(missing)
    if not Path("/dev/net/tun").exists() and not succeeds("modprobe", "tun"):
        raise WorldError("there is no /dev/net/tun, which tailscaled needs: load the kernel module `tun`")
    _allow_inotify()


def _allow_inotify() -> None:
    """Each systemd of each machine watches files by a dozen instances, and the kernel's default is 128."""
    try:
        allowed = int(_INOTIFY.read_text())
        if allowed < _INOTIFY_INSTANCES:
            _INOTIFY.write_text(str(_INOTIFY_INSTANCES))
            say(
                f"raised fs.inotify.max_user_instances from {allowed} to {_INOTIFY_INSTANCES}: worlds side by side need it"
            )
    except OSError:
        pass  # One world does with less.


def _install(packages: list[str]) -> None:
    wanted = " ".join(packages)
    if not shutil.which("apt-get"):
        raise WorldError(
            f"missing on this machine: {wanted} (Debian's names); only Debian and Ubuntu get them by themselves"
        )
    say(f"installing {wanted}")
    noninteractive = {"DEBIAN_FRONTEND": "noninteractive"}
    run("apt-get", "update", "-q", env=noninteractive)
    if "docker.io" in packages and "docker-cli" in run("apt-cache", "pkgnames", "docker-cli").split():
        packages = [*packages, "docker-cli"]  # newer releases have the command in a package of its own
    run("apt-get", "install", "-q", "-y", "--no-install-recommends", *packages, env=noninteractive)
