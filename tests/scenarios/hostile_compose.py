"""What a hostile compose project would be given, it is not: nothing of it is created that was not judged,
and it writes no name that another drone's image is made from."""

import json
from typing import Any

WRAP = "/usr/local/lib/hostile"


def project(repository: str, services: dict[str, Any], files: dict[str, str] | None = None) -> None:
    config = {"dockerComposeFile": "compose.yml", "service": "app"}
    compose = {"services": services}
    publish_devcontainer(repository, {"devcontainer.json": config, "compose.yml": compose, **(files or {})})


def id_of(image: str) -> str:
    return server.succeed(f"docker images --no-trunc --quiet {image}").strip()


def refused(repository: str, *parts: str, prefix: str = "") -> None:
    contains(hatchery(f"spawn {repository}", 6, prefix=prefix), "[gate-refused]", *parts)


start_and_wait()
server.succeed(f"docker image inspect {IMAGE} > /dev/null || docker pull -q {IMAGE}")
base = id_of(IMAGE)

APP: dict[str, Any] = {"image": IMAGE, "volumes": ["../..:/workspaces"], "command": "sleep infinity"}
SIBLING = {"image": IMAGE, "command": "sleep infinity"}

with subtest("`image:` beside `build:` is a name within the file; what was built is the drone's"):
    built = {"build": {"context": ".", "dockerfile": "P"}, "image": IMAGE, "command": "sleep infinity"}
    project(
        "red/c5",
        {"app": {**APP, "build": {"context": ".", "dockerfile": "P"}}, "p": built},
        {"P": f"FROM {IMAGE}\nRUN touch /poison\n"},
    )
    server.succeed("hatchery spawn red/c5")
    assert id_of(IMAGE) == base
    sibling = compose_container("red-c5", "p")
    server.succeed(f"docker exec {sibling} test -e /poison")
    # The container is made of the image's id, whatever a name comes to mean.
    image = docker_inspect(sibling)["Config"]["Image"]
    assert image.startswith("sha256:"), image
    tag = server.succeed(f"docker image inspect --format '{{{{index .RepoTags 0}}}}' {image}").strip()
    assert tag.startswith("hatchery.invalid/red-c5/") and tag.endswith(":p"), tag

with subtest("every container has its limits"):
    for name in ("red-c5", sibling):
        host = docker_inspect(name)["HostConfig"]
        assert host["Memory"] > 0 and host["MemorySwap"] in (host["Memory"], -1), host
        assert host["PidsLimit"] > 0 and host["NanoCpus"] > 0, host
        log = {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}}
        assert host["LogConfig"] == log, host["LogConfig"]

with subtest("another drone's image is nobody's, by whatever name it is called"):
    ids = [id_of(tag).removeprefix("sha256:"), id_of(tag)]
    server.succeed(f"docker tag {tag} innocent:1")
    thief = {"name": "thief"}
    for image in (tag, *ids, ids[0][:12], "innocent:1", "localhost:5000/x"):
        publish_devcontainer("red/thief", {"devcontainer.json": {**thief, "image": image}})
        refused("red/thief")
    for dockerfile in (f"FROM {tag}", f"FROM {IMAGE}\nCOPY --from=innocent:1 /poison /", "ARG X=innocent\nFROM ${X}:1"):
        config = {**thief, "build": {"dockerfile": "P"}}
        publish_devcontainer("red/thief", {"devcontainer.json": config, "P": dockerfile})
        refused("red/thief")
    project("red/thief", {"app": APP, "db": {"image": "innocent:1"}})
    refused("red/thief", "red-c5")
    server.succeed("docker rmi innocent:1")

with subtest("slay takes the siblings' images, too"):
    assert server.succeed("docker images --all --quiet --filter label=hatchery.drone=red-c5") != ""
    server.succeed("hatchery slay --force red/c5")
    assert server.succeed("docker images --all --quiet --filter label=hatchery.drone=red-c5") == ""
    assert id_of(IMAGE) == base

with subtest("an image's labels make no drone another project's"):
    server.succeed(
        f"printf '%s\\n' 'FROM {IMAGE}' 'LABEL com.docker.compose.project=red-c5' | docker build -q -t claims:1 -"
    )
    publish_devcontainer("red/claims", {"devcontainer.json": {"image": "claims:1"}})
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
    server.succeed(f"base64 -d > {WRAP}/{program} <<< {encoded(wrapper)}; chmod 755 {WRAP}/{program}")
project("red/apart", {"app": APP, "db": SIBLING})
project("red/joined", {"app": {**APP, "network_mode": "service:db"}, "db": SIBLING})
MARK = {"command": "touch /host/root/composed"}

for what, repository, service, more, said in (
    ("privileges", "red/apart", "db", {"privileged": True}, "privileged"),
    ("a mount of the host", "red/joined", "db", {"volumes": ["/:/host"], **MARK}, "/:/host"),
    ("a port for everyone", "red/apart", "db", {"ports": ["8088:80"]}, "0.0.0.0:8088"),
    ("another service", "red/apart", "zz", {"pid": "host", **SIBLING}, "PidMode"),
    ("another drone's label", "red/apart", "db", {"labels": {"hatchery.drone": "red-c5"}}, "hatchery.drone"),
):
    with subtest(f"no container has {what}, and nothing was started to find out"):
        server.succeed(f"base64 -d > {WRAP}/more.yml <<< {encoded(json.dumps({'services': {service: more}}))}")
        since = server.succeed("date +%s.%N").strip()
        refused(repository, said, prefix=f"PATH={WRAP}:$PATH")
        until = server.succeed("date +%s.%N").strip()
        started = server.succeed(
            f"docker events --since {since} --until {until} --filter type=container --filter event=start "
            "--format '{{.Actor.Attributes.name}}'"
        )
        assert "red-" not in started, started
        server.succeed("test ! -e /root/composed")
        assert server.succeed("docker ps --all --quiet; docker volume ls --quiet --filter name=red-") == ""

server.succeed(f"rm -r {WRAP}")
