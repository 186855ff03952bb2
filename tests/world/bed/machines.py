"""The four machines as containers: systemd as PID 1, fixed addresses, a disk that outlives a crash."""

import json
from ipaddress import ip_network
from pathlib import Path

from bed import docker
from bed.errors import WorldError
from bed.process import run, say, wait_until
from bed.settings import MACHINES, NETWORK, SUBNET, MachineSpec

_SYSTEMD = (
    "--stop-signal", "SIGRTMIN+3", "--cap-add", "ALL", "--cap-drop", "SYS_RESOURCE",
    "--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined",
    "--cgroupns", "host", "--volume", "/sys/fs/cgroup:/sys/fs/cgroup",
    "--tmpfs", "/run:exec,mode=755", "--tmpfs", "/tmp:exec,mode=1777", "--device", "/dev/net/tun",
)  # fmt: skip


def create(spec: MachineSpec, image: str) -> None:
    """Create the container; whatever stood there before goes, with its disk."""
    remove(spec)
    volumes = [part for name, target in spec.volumes for part in ("--volume", f"{name}:{target}")]
    run(
        "docker", "create", "--name", spec.container, "--hostname", spec.name,
        "--network", NETWORK, "--ip", spec.address, *_SYSTEMD, *_ipv6(), *volumes, image,
    )  # fmt: skip


def remove(spec: MachineSpec) -> None:
    docker.remove_container(spec.container)
    for name, _ in spec.volumes:
        docker.remove_volume(name)


def remove_all() -> None:
    for spec in MACHINES:
        remove(spec)
    docker.remove_network(NETWORK)


def start(spec: MachineSpec) -> None:
    """Boot, or do nothing to one that runs; returns when systemd has reached its basic target."""
    if docker.state(spec.container) != "running":
        say(f"starting {spec.name}")
        run("docker", "start", spec.container)
    wait_until_booted(spec)


def wait_until_booted(spec: MachineSpec) -> None:
    booted = ["docker", "exec", spec.container, "systemctl", "--quiet", "is-active", "basic.target"]
    wait_until(f"{spec.name} has booted (`docker logs {spec.container}` may say why not)", 60, booted)


def create_network() -> None:
    """The machines' network; addresses that the host already reaches some other way stay its own."""
    for route in json.loads(run("ip", "-4", "-json", "route")):
        if route["dst"] != "default" and ip_network(route["dst"], strict=False).overlaps(SUBNET):
            raise WorldError(
                f"the host has a route to {route['dst']} by {route['dev']}, which overlaps the world's {SUBNET}: "
                "set HATCHERY_WORLD_SUBNET to another /24"
            )
    docker.create_network(NETWORK, str(SUBNET))


def _ipv6() -> list[str]:
    """Docker turns IPv6 off in a container without an IPv6 network, the loopback address included."""
    if not Path("/proc/sys/net/ipv6").exists():
        return []
    return ["--sysctl", "net.ipv6.conf.all.disable_ipv6=0", "--sysctl", "net.ipv6.conf.default.disable_ipv6=0"]
