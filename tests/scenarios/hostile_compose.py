"""What a hostile compose project would be given, it is not: nothing of it starts before all of it was
looked at, and it writes no name that another drone's image is made from."""

import base64
import json
from typing import Any

BASE = "mcr.microsoft.com/devcontainers/base:ubuntu"
WRAP = "/usr/local/lib/hostile"


def contains(said: str, *parts: str) -> None:
    for part in parts:
        assert part in said, f"{part!r} is not in: {said}"


def publish(repository: str, files: dict[str, str]) -> None:
    """A repository of one commit at github.com."""
    write = [
        f"base64 -d > .devcontainer/{name} <<< {base64.b64encode(text.encode()).decode()}"
        for name, text in files.items()
    ]
    bare = f"/srv/github/git/{repository}.git"
    internet.succeed(
        "rm -rf /tmp/publish; git init -q -b main /tmp/publish; cd /tmp/publish; mkdir .devcontainer; "
        + "; ".join(write)
        + "; git add .; git -c user.name=Sarah -c user.email=sarah@example.test commit -q -m First; "
        f"rm -rf {bare}; git clone -q --bare . {bare}; chown -R github {bare}; rm -rf /tmp/publish"
    )


def project(repository: str, services: dict[str, Any], files: dict[str, str] | None = None) -> None:
    config = {"dockerComposeFile": "compose.yml", "service": "app"}
    compose = {"services": services}
    texts = {"devcontainer.json": json.dumps(config), "compose.yml": json.dumps(compose)}
    publish(repository, texts | (files or {}))


def compose_container(project: str, service: str) -> str:
    """The name of a project's container, which compose 1 and 2 make up differently."""
    labels = f"--filter label=com.docker.compose.project={project} --filter label=com.docker.compose.service={service}"
    return server.succeed(f"docker ps --all {labels} --format '{{{{.Names}}}}'").strip()


def inspect(container: str) -> dict[str, Any]:
    shown: list[dict[str, Any]] = json.loads(server.succeed(f"docker inspect {container}"))
    return shown[0]


def id_of(image: str) -> str:
    return server.succeed(f"docker images --no-trunc --quiet {image}").strip()


def refused(repository: str, *parts: str, within: str = "") -> None:
    status, said = server.execute(f"{within} hatchery spawn {repository} 2>&1")
    assert status == 6, f"status {status}: {said}"
    contains(said, "[gate-refused]", *parts)


start_all()
server.wait_for_unit("docker.service")
tailnet.wait_for_unit("headscale.service")
server.succeed("hatchery list --json | jq -r '.[].repository' | xargs -r -n 1 hatchery slay --force")
server.succeed(f"docker image inspect {BASE} > /dev/null || docker pull -q {BASE}")
base = id_of(BASE)

APP: dict[str, Any] = {"image": BASE, "volumes": ["../..:/workspaces"], "command": "sleep infinity"}
SIBLING = {"image": BASE, "command": "sleep infinity"}

with subtest("`image:` beside `build:` is a name within the file; what was built is the drone's"):
    built = {"build": {"context": ".", "dockerfile": "P"}, "image": BASE, "command": "sleep infinity"}
    project(
        "red/c5",
        {"app": {**APP, "build": {"context": ".", "dockerfile": "P"}}, "p": built},
        {"P": f"FROM {BASE}\nRUN touch /poison\n"},
    )
    server.succeed("hatchery spawn red/c5")
    assert id_of(BASE) == base
    sibling = compose_container("red-c5", "p")
    server.succeed(f"docker exec {sibling} test -e /poison")
    tag = inspect(sibling)["Config"]["Image"]
    assert tag.startswith("hatchery.invalid/red-c5/") and tag.endswith(":p"), tag

with subtest("every container has its limits"):
    for name in ("red-c5", sibling):
        host = inspect(name)["HostConfig"]
        assert host["Memory"] > 0 and host["MemorySwap"] in (host["Memory"], -1), host
        assert host["PidsLimit"] > 0 and host["NanoCpus"] > 0, host
        log = {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}}
        assert host["LogConfig"] == log, host["LogConfig"]

with subtest("another drone's image is nobody's, by whatever name it is called"):
    ids = [id_of(tag).removeprefix("sha256:"), id_of(tag)]
    server.succeed(f"docker tag {tag} innocent:1")
    thief = {"name": "thief"}
    for image in (tag, *ids, ids[0][:12], "innocent:1", "localhost:5000/x"):
        publish("red/thief", {"devcontainer.json": json.dumps({**thief, "image": image})})
        refused("red/thief")
    for dockerfile in (f"FROM {tag}", f"FROM {BASE}\nCOPY --from=innocent:1 /poison /", "ARG X=innocent\nFROM ${X}:1"):
        config = {**thief, "build": {"dockerfile": "P"}}
        publish("red/thief", {"devcontainer.json": json.dumps(config), "P": dockerfile})
        refused("red/thief")
    project("red/thief", {"app": APP, "db": {"image": "innocent:1"}})
    refused("red/thief", "red-c5")
    server.succeed("docker rmi innocent:1")

with subtest("slay takes the siblings' images, too"):
    assert server.succeed("docker images --all --quiet --filter label=hatchery.drone=red-c5") != ""
    server.succeed("hatchery slay --force red/c5")
    assert server.succeed("docker images --all --quiet --filter label=hatchery.drone=red-c5") == ""
    assert id_of(BASE) == base

with subtest("an image's labels make no drone another project's"):
    server.succeed(
        f"printf '%s\\n' 'FROM {BASE}' 'LABEL com.docker.compose.project=red-c5' | docker build -q -t claims:1 -"
    )
    publish("red/claims", {"devcontainer.json": json.dumps({"image": "claims:1"})})
    server.succeed("hatchery spawn red/claims")
    assert server.succeed("docker ps --all --quiet --filter label=com.docker.compose.project=red-c5") == ""
    server.succeed("hatchery slay --force red/claims", "docker rmi claims:1")

# Whatever comes between what was read and what Docker is asked for: here it is compose itself, which is a
# program or a part of Docker's.
server.succeed(f"mkdir -p {WRAP}")
for program in ("docker", "docker-compose"):
    wrapper = f"""#!/bin/bash
args=()
[[ $0 == *-compose || $1 == compose ]] && composes=yes
for arg in "$@"; do
  [[ $composes && $arg == up ]] && args+=(-f {WRAP}/more.yml)
  args+=("$arg")
done
exec {server.succeed(f"command -v {program}").strip()} "${{args[@]}}"
"""
    server.succeed(
        f"base64 -d > {WRAP}/{program} <<< {base64.b64encode(wrapper.encode()).decode()}; chmod 755 {WRAP}/{program}"
    )
project("red/apart", {"app": APP, "db": SIBLING})
project("red/joined", {"app": {**APP, "network_mode": "service:db"}, "db": SIBLING})
MARK = {"command": "touch /host/root/hostile"}

for what, repository, service, more, said in (
    ("privileges", "red/apart", "db", {"privileged": True}, "privileged"),
    ("a mount of the host", "red/joined", "db", {"volumes": ["/:/host"], **MARK}, "/:/host"),
    ("a port for everyone", "red/apart", "db", {"ports": ["8088:80"]}, "0.0.0.0:8088"),
    ("another service", "red/apart", "zz", {"pid": "host", **SIBLING}, "PidMode"),
    ("another drone's label", "red/apart", "db", {"labels": {"hatchery.drone": "red-c5"}}, "hatchery.drone"),
):
    with subtest(f"no container has {what}, and nothing was started to find out"):
        server.succeed(
            f"base64 -d > {WRAP}/more.yml <<< "
            + base64.b64encode(json.dumps({"services": {service: more}}).encode()).decode()
        )
        since = server.succeed("date +%s.%N").strip()
        refused(repository, said, within=f"PATH={WRAP}:$PATH")
        until = server.succeed("date +%s.%N").strip()
        started = server.succeed(
            f"docker events --since {since} --until {until} --filter type=container --filter event=start "
            "--format '{{.Actor.Attributes.name}}'"
        )
        assert "red-" not in started, started
        server.succeed("test ! -e /root/hostile")
        assert server.succeed("docker ps --all --quiet; docker volume ls --quiet --filter name=red-") == ""

server.succeed(f"rm -r {WRAP}")
