"""Hatchery itself, as built on the host and as `make install` lays it out, into the server."""

from pathlib import Path
from tempfile import TemporaryDirectory

from bed import docker
from bed.process import run, say
from bed.settings import BINARIES, PROJECT, SERVER

_BUILT = ("hatchery", "hatchery-credd", "static/hatchery-drone")
_NEW = "/root/.hatchery-new"
# Copied beside and then put in place of the old: a running program cannot be written to.
_TAKE_OVER = f"""
cp -a --remove-destination {_NEW}/* /
rm -r {_NEW}
"""
_ENABLE = """
systemd-sysusers
systemd-tmpfiles --create hatchery.conf
systemctl daemon-reload
systemctl enable --quiet --now hatchery-firewall.service hatchery-sockets.service hatchery-recover.timer
systemctl enable --quiet hatchery-recover.service
"""
# The drop-in of Docker's socket acts when the socket is made; dockerd is not restarted without need.
_ADMIT_TO_DOCKER = (
    "getfacl /run/docker.sock 2> /dev/null | grep -q ^group:hatchery: || systemctl restart docker.socket docker.service"
)


def everything() -> None:
    """Copy what `make install` copies; without binaries there is no hatchery yet, and no error."""
    missing = [name for name in _BUILT if not (BINARIES / name).is_file()]
    if missing:
        say(f"{', '.join(missing)} missing in {BINARIES}: the server has no hatchery until `make quick`")
        return
    # Not in the cache: what a world beside this one clears away there may be in use here.
    with TemporaryDirectory(prefix="hatchery-install-") as root:
        run("make", "--silent", "-C", PROJECT, "install", f"DESTDIR={root}", f"BINARIES={BINARIES}")
        docker.inside(SERVER, f"rm -rf {_NEW}")
        docker.copy(Path(root), SERVER, _NEW)
    docker.inside(SERVER, _TAKE_OVER)
    if SERVER.systemd:
        docker.inside(SERVER, _ENABLE)
        docker.inside(SERVER, _ADMIT_TO_DOCKER)
    say("installed hatchery on the server")
