"""The four machines as containers: as a rule systemd as PID 1, fixed addresses, a disk that outlives a crash."""

import json
from ipaddress import ip_network
from pathlib import Path

from bed import docker
from bed.errors import WorldError
from bed.process import run, say, wait_until
from bed.settings import MACHINES, NETWORK, SUBNET, MachineSpec

_MACHINE = (
    "--cap-add", "ALL", "--cap-drop", "SYS_RESOURCE",
    "--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined",
    "--cgroupns", "host", "--volume", "/sys/fs/cgroup:/sys/fs/cgroup",
    "--tmpfs", "/run:exec,mode=755", "--tmpfs", "/tmp:exec,mode=1777", "--device", "/dev/net/tun",
)  # fmt: skip
# From systemd 256 on it must be asked for, twice, where the host has control groups of version 1.
_LEGACY = (
    "--env", "SYSTEMD_PROC_CMDLINE=systemd.unified_cgroup_hierarchy=0",
    "--env", "SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1",
)  # fmt: skip


def create(spec: MachineSpec, image: str) -> None:
    """Create the container; whatever stood there before goes, with its disk."""
    remove(spec)
    # A computer has a disk of its own.
    hardware = _powers_on(image) if spec.computer else (*_MACHINE, *_ipv6(), *_volumes(spec), *_boots(spec, image))
    run(
        "docker", "create", "--name", spec.container, "--hostname", spec.name,
        "--network", NETWORK, "--ip", spec.address, *hardware,
    )  # fmt: skip


def _volumes(spec: MachineSpec) -> list[str]:
    return [part for name, target in spec.volumes for part in ("--volume", f"{name}:{target}")]


def _powers_on(image: str) -> list[str]:
    """The last options and the image for a computer: what QEMU needs."""
    kvm = ["--device", "/dev/kvm"] if Path("/dev/kvm").exists() else []
    return ["--init", "--cap-add", "NET_ADMIN", "--device", "/dev/net/tun", *kvm, "--tmpfs", "/run", image]


def _boots(spec: MachineSpec, image: str) -> list[str]:
    """The last options, the image and its command, for what is to be process 1."""
    if not spec.systemd:
        return ["--init", image, "/usr/local/lib/world/without-systemd"]
    version_1 = not Path("/sys/fs/cgroup/cgroup.controllers").exists()
    return ["--stop-signal", "SIGRTMIN+3", *(_LEGACY if version_1 else ()), image]


def remove(spec: MachineSpec) -> None:
    docker.remove_container(spec.container)
    for name, _ in spec.volumes:
        docker.remove_volume(name)


def remove_all() -> None:
    for spec in MACHINES:
        remove(spec)
    docker.remove_network(NETWORK)


def start(spec: MachineSpec) -> None:
    """Boot, or do nothing to one that runs; returns when it has booted."""
    if docker.state(spec.container) != "running":
        say(f"starting {spec.name}")
        run("docker", "start", spec.container)
    wait_until_booted(spec)


def wait_until_booted(spec: MachineSpec) -> None:
    check = ["systemctl", "--quiet", "is-active", "basic.target"] if spec.systemd else ["docker", "version"]
    booted = [*docker.entering(spec), *check]
    wait_until(f"{spec.name} has booted (`docker logs {spec.container}` may say why not)", 60, booted)


def journal(spec: MachineSpec) -> str:
    """All that a machine has logged."""
    if not spec.systemd:
        return run("sh", "-c", 'docker logs "$0" 2>&1', spec.container)
    return docker.inside(spec, "journalctl --no-pager --output short-precise")


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
