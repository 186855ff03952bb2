"""Hatchery itself, as built on the host, into the server."""

from bed import docker
from bed.process import run, say
from bed.settings import BINARIES, PROJECT, SERVER

_NAMES = ("hatchery", "hatchery-credd", "hatchery-drone")
_UNITS = PROJECT / "systemd"


def everything() -> None:
    """Copy the binaries that exist to /usr/local/bin, the units to /usr/local/lib/systemd/system."""
    present = [BINARIES / name for name in _NAMES if (BINARIES / name).is_file()]
    for binary in present:
        # Copied beside and renamed: a running program cannot be written to.
        run("docker", "cp", binary, f"{SERVER.container}:/usr/local/bin/.{binary.name}.new")
        docker.inside(
            SERVER.container,
            f"cd /usr/local/bin; chown root:root .{binary.name}.new; chmod 755 .{binary.name}.new; mv .{binary.name}.new {binary.name}",
        )
    if _UNITS.is_dir():
        docker.inside(SERVER.container, "mkdir -p /usr/local/lib/systemd/system")
        for unit in sorted(file for file in _UNITS.iterdir() if file.suffix in (".service", ".socket", ".timer")):
            docker.write(SERVER.container, f"/usr/local/lib/systemd/system/{unit.name}", unit.read_bytes())
        docker.inside(SERVER.container, "mkdir -p /usr/local/share/hatchery")
        docker.write(SERVER.container, "/usr/local/share/hatchery/hatchery.nft", (_UNITS / "hatchery.nft").read_bytes())
        docker.inside(
            SERVER.container, "systemctl daemon-reload; systemctl enable --quiet --now hatchery-firewall.service"
        )
    names = ", ".join(binary.name for binary in present)
    say(f"installed on the server: {names}" if names else f"no binaries in {BINARIES}: the server has no hatchery yet")
