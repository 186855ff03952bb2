"""What scenarios share: the drivers put it in front of each, whose names it then has."""

# By name, as a scenario imports the modules itself and NixOS lints both as one file.
from base64 import b64encode
from collections.abc import Mapping
from hashlib import sha256
from io import BytesIO
from json import dumps, loads
from tarfile import SYMTYPE, TarInfo
from tarfile import open as open_tar
from typing import Any

DOMAIN = "tail.example.test"
IMAGE = "mcr.microsoft.com/devcontainers/base:ubuntu"
# What makes an image a drone.
FEATURES: dict[str, dict[str, str]] = {
    "ghcr.io/devcontainers/features/sshd:1": {},
    "ghcr.io/tailscale/codespace/tailscale": {},
}
# From the laptop, after `laptop_trusts_drones`.
SSH = "ssh -p 2222 -o BatchMode=yes -o StrictHostKeyChecking=yes"
# In front of a command: a person on the server in the group hatchery.
MEMBER = "runuser -u overlord -- env HOME=/home/overlord"
GIT_AUTHOR = "-c user.name=Sarah -c user.email=sarah@example.test"

# All that a drone could leave on the server. What stays for good is the server's, not a drone's: its
# ssh secret, its locks' directory and the directories in which the drones have theirs; polkit runs since
# a person of the group hatchery was let in. Work that was kept stays for its time.
INVENTORY = r"""
export LC_ALL=C
{
  docker ps --all --format 'container {{.Names}}'
  docker images --all --format 'image {{.ID}} {{.Repository}}:{{.Tag}}'
  docker network ls --format 'network {{.Name}}'
  docker volume ls --format 'volume {{.Name}}'
  systemctl list-units --all --plain --no-legend --type=service,socket,timer,scope,mount | awk '{ print "unit", $1 }' |
    grep -v -e run-docker -e var-lib-docker -e tmpfiles-clean -e polkit.service
  find /run/hatchery /var/cache/hatchery /var/lib/hatchery /tmp -printf 'file %p\n' 2> /dev/null |
    grep -vx -e 'file /run/hatchery\(/.locks\(/[.][^/]*\)\?\)\?' -e 'file /var/cache/hatchery' \
      -e 'file /var/lib/hatchery\(/ssh[^/]*\|/logs.*\)\?' -e 'file /var/lib/hatchery/remains\(/[^.].*\)\?' -e 'file /tmp/systemd-private-[^/]*-polkit.service-.*'
  find /etc -type f -printf 'file %p %s %T@\n'
  ps -eo comm=,args= | awk '$1 ~ /^(git|node|Main|devcont|docker$|docker-c|hatchery|tailscale|sleep)/ { print "process", $2, $3 }'
  ip -o link | awk '{ sub("@.*", "", $2); print "device", $2 }'
} | sort
"""
NODES = "headscale nodes list --output json | jq -r '.[].given_name' | LC_ALL=C sort"


# The machines


def start_and_wait() -> None:
    """All machines are up with their services, the laptop is on the tailnet, and no drone is left of a former scenario."""
    start_all()
    for machine, unit in ((internet, "nginx"), (tailnet, "headscale"), (server, "docker"), (laptop, "tailscaled")):
        machine.wait_for_unit(f"{unit}.service")
    wait_for_tailnet(laptop)
    server.succeed("hatchery list --json | jq -r '.[].repository' | xargs -r -n 1 hatchery slay --force --no-remains")


def wait_for_tailnet(machine: Machine) -> None:
    """This machine's tailscale is connected."""
    machine.wait_until_succeeds("tailscale status --json | jq -e '.BackendState == \"Running\"'", timeout=60)


def laptop_trusts_drones() -> str:
    """The line of `hatchery ca` is all that the laptop knows of drones; the line."""
    authority = server.succeed("hatchery ca")
    laptop.succeed(f"echo '{authority.strip()}' > /root/.ssh/known_hosts", "rm -f /root/.ssh/config")
    return authority


def stop_recovery() -> None:
    """What a scenario breaks on purpose is not mended meanwhile."""
    server.succeed("systemctl stop hatchery-recover.timer hatchery-recover.service")


# Hatchery


def hatchery(arguments: str, status: int = 0, within: int = 400, prefix: str = "") -> str:
    """All that it says within so many seconds; it must end with this status."""
    ended, said = server.execute(f"{prefix} hatchery {arguments} 2>&1", timeout=within)
    assert ended == status, f"hatchery {arguments}: status {ended}, not {status}: {said}"
    return said


def error_of(command: str, status: int, code: str = "") -> dict[str, Any]:
    """The error of this command of hatchery's, which must end with this status, and be of this code."""
    ended, output = server.execute(f"{command} --json")
    assert ended == status, f"{command} ends with {ended}, not {status}: {output}"
    error: dict[str, Any] = loads(output)["error"]
    assert code in ("", error["code"]), error
    return error


def contains(said: str, *parts: str) -> None:
    """Each of these is said."""
    for part in parts:
        assert part in said, f"{part!r} is not in: {said}"


def drones() -> dict[str, str]:
    """Repository -> state, as `list` has it."""
    listed = loads(server.succeed("hatchery list --json"))
    return {drone["repository"]: drone["state"] for drone in listed}


def doctor(command: str = "hatchery doctor") -> dict[str, dict[str, str]]:
    """What it says of each thing that it looks at, by the thing's name."""
    checks: list[dict[str, str]] = loads(server.execute(f"{command} --json", timeout=120)[1])["checks"]
    return {check["name"]: check for check in checks}


def last_look(ago: int, idle: int) -> None:
    """As if drones had last been looked at so many seconds ago, and been idle by now for so many."""
    activity = "/run/hatchery/.locks/.activity"
    looks = loads(server.succeed(f"cat {activity}"))
    for seen in looks.values():
        now = seen["at"]["secs"]
        # The clock begins with the computer: nothing can have been idle for longer.
        assert now > idle, f"this computer runs for {now} s"
        seen["at"]["secs"], seen["active"]["secs"] = now - ago, now - idle
        seen["active"]["nanos"] = seen["at"]["nanos"]
    server.succeed(f"base64 -d > {activity} <<< {encoded(dumps(looks))}")


def quiet_for(seconds: int) -> None:
    """As if drones had been looked at a minute ago, and nothing had been at work in them for so long. What was done
    since the last look does not count."""
    hatchery("recover")
    last_look(60, 60)
    hatchery("recover")
    last_look(60, seconds)


# What there is on server and tailnet


def take_inventory() -> None:
    """What there is now, for `nothing_new`."""
    server.succeed(f"cat > /root/inventory <<'END'\n{INVENTORY}END", "bash /root/inventory > /root/before")
    tailnet.succeed(f"{NODES} > /root/before")


def what_is_new() -> str:
    """What was not there at the inventory, a line each."""
    return server.succeed("bash /root/inventory | LC_ALL=C comm -13 /root/before -")


def nothing_new() -> None:
    """Docker's own tidying may take a moment; Headscale is told and does it at once."""
    server.wait_until_succeeds("! bash /root/inventory | LC_ALL=C comm -13 /root/before - | grep .", timeout=10)
    tailnet.succeed(f"! {NODES} | LC_ALL=C comm -13 /root/before - | grep .")


def docker_has() -> set[str]:
    """The ids of its containers, images and networks, and the names of its volumes."""
    return set(server.succeed("docker ps -aq; docker volume ls -q; docker network ls -q; docker images -aq").split())


def docker_inspect(name: str, kind: str = "container") -> dict[str, Any]:
    """All that Docker knows of a container, image, volume or network."""
    shown: list[dict[str, Any]] = loads(server.succeed(f"docker {kind} inspect {name}"))
    return shown[0]


def bridge_of(network: str) -> str:
    """The device of a drone's network."""
    device: str = docker_inspect(network, "network")["Options"]["com.docker.network.bridge.name"]
    return device


def compose_container(project: str, service: str) -> str:
    """The container's id; compose 1 and 2 make up different names."""
    labels = f"--filter label=com.docker.compose.project={project} --filter label=com.docker.compose.service={service}"
    return server.succeed(f"docker ps --all --quiet {labels}").strip()


def nodes() -> dict[str, Any]:
    """The tailnet's nodes by name."""
    listed = loads(tailnet.succeed("headscale nodes list --output json")) or []
    return {node["given_name"]: node for node in listed}


# In a drone, by ssh from the laptop


def in_drone(name: str, command: str, within: int = 20) -> str:
    """What a person's command says, which may have to wait for the drone."""
    return laptop.wait_until_succeeds(f"{SSH} -o ConnectTimeout=3 vscode@{name}.{DOMAIN} {command!r}", timeout=within)


def on(name: str, script: str, user: str = "vscode") -> str:
    """What a script says, every command of which must succeed."""
    return laptop.succeed(f"{SSH} {user}@{name}.{DOMAIN} bash -euo pipefail -s <<'END'\n{script}\nEND")


def fails(name: str, script: str) -> str:
    """All that a script says, which must fail there."""
    status, said = laptop.execute(
        f"{SSH} vscode@{name}.{DOMAIN} bash -euo pipefail -s <<'END'\n(\n{script}\n) 2>&1\nEND"
    )
    assert status not in (0, 255), f"status {status}: {said}"
    return said


# GitHub and the registry


def fake(arguments: str) -> list[Any]:
    """What the fake GitHub says, a line of JSON each."""
    return [loads(line) for line in internet.succeed(f"github-fake {arguments}").splitlines()]


def fault(name: str, rest: str = "") -> None:
    """GitHub has this fault from now on."""
    internet.succeed(f"github-fake fault {name} {rest}")


def heal() -> None:
    """GitHub has no fault any more."""
    internet.succeed("github-fake heal")


def encoded(data: str | bytes) -> str:
    """Base64, which a shell leaves alone."""
    return b64encode(data.encode() if isinstance(data, str) else data).decode()


def publish(repository: str, files: Mapping[str, object], links: Mapping[str, str] | None = None) -> None:
    """A repository of one commit at github.com. What is not a text is written as JSON."""
    texts = {path: content if isinstance(content, str) else dumps(content) for path, content in files.items()}
    bare = f"/srv/github/git/{repository}.git"
    internet.succeed(
        "; ".join(
            [
                "rm -rf /tmp/publish; git init -q -b main /tmp/publish; cd /tmp/publish",
                *(f"mkdir -p $(dirname {path}); base64 -d > {path} <<< {encoded(texts[path])}" for path in texts),
                *(f"ln -s {target} {path}" for path, target in (links or {}).items()),
                f"git add .; git {GIT_AUTHOR} commit -q -m First; rm -rf {bare}; mkdir -p $(dirname {bare})",
                f"git clone -q --bare . {bare}; chown -R github {bare}; rm -rf /tmp/publish",
            ]
        )
    )


def commit_at(repository: str, reference: str, parent: str, files: Mapping[str, object]) -> None:
    """A commit at this ref of a repository at github.com, with these files over those of its parent."""
    bare = f"/srv/github/git/{repository}.git"
    git = f"git -c safe.directory='*' {GIT_AUTHOR} -C {bare}"
    texts = {path: content if isinstance(content, str) else dumps(content) for path, content in files.items()}
    internet.succeed(
        "; ".join(
            [
                f"export GIT_INDEX_FILE=$(mktemp -u); {git} read-tree {parent}",
                *(
                    f"{git} update-index --add --cacheinfo "
                    f"100644,$(base64 -d <<< {encoded(text)} | {git} hash-object -w --stdin),{path}"
                    for path, text in texts.items()
                ),
                f"{git} update-ref {reference} $({git} commit-tree -m More -p {parent} $({git} write-tree))",
                f"chown -R github {bare}",
            ]
        )
    )


def publish_devcontainer(repository: str, files: Mapping[str, object], links: Mapping[str, str] | None = None) -> None:
    """The same, with these files and links in `.devcontainer`."""
    publish(
        repository,
        {f".devcontainer/{name}": content for name, content in files.items()},
        {f".devcontainer/{name}": target for name, target in (links or {}).items()},
    )


def push(name: str, path: str, data: bytes, kind: str = "application/octet-stream") -> None:
    """A manifest, or a blob that one names, at ghcr.io, as anybody can who has an account at the real one."""
    registry = f"http://127.0.0.1:5000/v2/{name}"
    begin = f"curl -sf -X POST -D - -o /dev/null {registry}/blobs/uploads/"
    to = (
        f"{registry}/{path}"
        if path.startswith("manifests/")
        else f"$({begin} | sed -n 's/\\r$//; s/^[Ll]ocation: //p')&digest={path}"
    )
    internet.succeed(
        f"base64 -d > /tmp/pushed <<< {encoded(data)}; "
        f"curl -sf -X PUT -H 'Content-Type: {kind}' --data-binary @/tmp/pushed \"{to}\""
    )


def publish_feature(
    name: str,
    about: Mapping[str, object],
    annotation: Mapping[str, object] | None = None,
    links: Mapping[str, str] | None = None,
) -> str:
    """A feature at ghcr.io with this file and these links in its archive; the registry says the same of it, or
    this. Its identifier."""
    buffer = BytesIO()
    with open_tar(fileobj=buffer, mode="w") as archive:
        for path, text in (("./devcontainer-feature.json", dumps(about)), ("./install.sh", "#!/bin/sh\n")):
            info = TarInfo(path)
            info.size, info.mode = len(text.encode()), 0o755
            archive.addfile(info, BytesIO(text.encode()))
        for path, target in (links or {}).items():
            info = TarInfo(path)
            info.type, info.linkname = SYMTYPE, target
            archive.addfile(info)
    blobs = {}
    for part, data in (("config", b"{}"), ("layer", buffer.getvalue())):
        digest = f"sha256:{sha256(data).hexdigest()}"
        push(name, digest, data)
        blobs[part] = {"digest": digest, "size": len(data)}
    kind = "application/vnd.oci.image.manifest.v1+json"
    manifest = {
        "schemaVersion": 2,
        "mediaType": kind,
        "config": {"mediaType": "application/vnd.devcontainers", **blobs["config"]},
        "layers": [{"mediaType": "application/vnd.devcontainers.layer.v1+tar", **blobs["layer"]}],
        "annotations": {"dev.containers.metadata": dumps(annotation or about)},
    }
    push(name, "manifests/1", dumps(manifest).encode(), kind)
    return f"ghcr.io/{name}:1"
