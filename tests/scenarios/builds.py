"""Builds: a Dockerfile of a stranger's is built by the drone's own builder, on the drone's network, with the drone's
limits, by nobody else's cache; what it can reach from there is what the drone can."""

import json
from typing import Any

BUILDER = "hatchery.builder."
# Nobody but the server itself reaches it.
LISTENER = "127.0.0.1:8099"
FOUND = "larva-of-the-server"
# A directory that all builds of one builder share.
CACHE = "--mount=type=cache,id=shared,target=/shared"
EVENTS = "/var/tmp/events"
CONFIG = "/etc/hatchery/builds.toml"


def built(name: str, dockerfile: str, files: dict[str, object] | None = None, **config: Any) -> None:
    """Publish acme/NAME, which is built of this Dockerfile."""
    build = {"dockerfile": "Dockerfile", **config.pop("build", {})}
    publish_devcontainer(
        f"acme/{name}",
        {"Dockerfile": dockerfile, "devcontainer.json": {"build": build, **config}, **(files or {})},
    )


def inside(name: str, path: str) -> str:
    """What a file of the drone's holds; nothing where there is none."""
    return server.succeed(f"docker exec -u 0 acme-{name} sh -c 'cat {path} 2> /dev/null || :'").strip()


def shared_cache() -> str:
    """How much Docker's own builder keeps."""
    return server.succeed("docker system df --format '{{.Type}} {{.Size}}' | grep -i cache").split()[-1]


def slain(*names: str) -> None:
    """They are gone with all that they had."""
    for name in names:
        hatchery(f"slay --force acme/{name}")


def configured(**settings: str) -> str:
    """The option that names a configuration with these settings of builds."""
    table = "limits" if settings.keys() & {"memory", "reserve"} else "docker"
    lines = "".join(f"{key} = {json.dumps(value)}\n" for key, value in settings.items())
    server.succeed(f"cat /etc/hatchery/config.toml - > {CONFIG} <<'END'\n[{table}]\n{lines}END")
    return f"--config {CONFIG}"


start_and_wait()
if server.execute("hatchery config | grep -q '^builder = \"shared\"'")[0] == 0:
    server.log("skipped: drones have no builders of their own here")
    raise SystemExit(0)
laptop_trusts_drones()
server.succeed("docker builder prune --all --force")
take_inventory()
server.succeed(
    f"systemd-run --unit events sh -c \"docker events --format '{{{{.Action}}}} {{{{.Actor.Attributes.name}}}}' > {EVENTS}\""
)

with subtest("a Dockerfile is built by the drone's own builder, which is gone when the drone is there"):
    before = shared_cache()
    hatchery("spawn acme/dockerfile")
    contains(server.succeed(f"cat {EVENTS}"), f"start {BUILDER}acme-dockerfile", f"destroy {BUILDER}acme-dockerfile")
    assert shared_cache() == before, shared_cache()
    server.succeed(f"docker volume inspect {BUILDER}acme-dockerfile")
    laptop.succeed(f"{SSH} vscode@acme-dockerfile.{DOMAIN} true")

with subtest("what is of known namespaces alone is built by Docker's builder"):
    hatchery("spawn acme/web")
    assert f"{BUILDER}acme-web" not in server.succeed(f"cat {EVENTS}")
    slain("web")

with subtest("compose projects are built by it too, siblings among them"):
    hatchery("spawn acme/stack")
    publish_devcontainer(
        "acme/pair",
        {
            "devcontainer.json": {"dockerComposeFile": "compose.yml", "service": "app"},
            "compose.yml": {
                "services": {
                    "app": {
                        "build": {"context": ".", "args": {"WORD": "$$5"}},
                        "command": "sleep infinity",
                        "depends_on": ["db"],
                        "volumes": ["..:/workspaces/pair"],
                    },
                    "db": {"build": {"context": ".", "target": "db"}, "command": "sleep infinity"},
                }
            },
            "Dockerfile": f"FROM {IMAGE} AS db\nRUN echo db > /which\nFROM {IMAGE}\nARG WORD\nRUN echo app $WORD > /which\n",
        },
    )
    before = shared_cache()
    hatchery("spawn acme/pair")
    assert shared_cache() == before, shared_cache()
    assert inside("pair", "/which") == "app $5"
    sibling = compose_container("acme-pair", "db")
    assert server.succeed(f"docker exec {sibling} cat /which").strip() == "db"
    contains(server.succeed(f"cat {EVENTS}"), f"start {BUILDER}acme-pair", f"destroy {BUILDER}acme-pair")
    networks = server.succeed(
        "docker network ls --format '{{.Name}}' --filter label=com.docker.compose.project=acme-pair"
    )
    assert "acme-pair\n" not in server.succeed("docker network ls --format '{{.Name}}'"), networks
    slain("stack", "pair")

with subtest("a build reaches what a drone reaches, and nothing of the server's"):
    server.succeed(f"mkdir -p /srv/listener && echo {FOUND} > /srv/listener/file")
    serve = f"python3 -m http.server --bind {LISTENER.replace(':', ' ')}"
    server.succeed(f"systemd-run --unit listener --working-directory /srv/listener {serve}")
    server.wait_until_succeeds(f"curl -sf http://{LISTENER}/file", timeout=20)
    for number, at in enumerate((LISTENER, LISTENER.replace("127.0.0.1", "localhost"), "169.254.169.254")):
        built(f"adds{number}", f"FROM {IMAGE}\nADD http://{at}/file /found\n")
        hatchery(f"spawn acme/adds{number}", status=1)
    # It is there to be found, for who builds on the server's own network.
    hatchery(f"{configured(builder='shared')} spawn acme/adds0")
    assert inside("adds0", "/found") == FOUND
    slain("adds0")
    address = server.succeed("ip -4 -o addr show dev eth0 | awk '{ print $4 }' | cut -d/ -f1").strip()
    wanted = f"{LISTENER} {address}:22 {address}:8099 169.254.169.254:80"
    built(
        "curls",
        f"FROM {IMAGE}\nRUN for at in {wanted}; do curl -s --max-time 3 telnet://$at/ < /dev/null && echo $at >> /reached; done;"
        " curl -sf --max-time 20 https://github.com/ > /dev/null; echo $? > /github; cat /proc/self/uid_map > /map\n",
    )
    hatchery("spawn acme/curls")
    assert inside("curls", "/reached") == "", inside("curls", "/reached")
    assert inside("curls", "/github") in ("0", "22"), inside("curls", "/github")
    assert inside("curls", "/map").split()[:2] == ["0", "1000"], "root in a build is root on the server"
    slain("curls")

with subtest("nobody else finds what a build leaves"):
    for name in ("leaves", "finds"):
        built(
            name,
            f"FROM {IMAGE}\nRUN {CACHE} cat /shared/word > /found 2>&1; echo {FOUND} > /shared/word; date +%N > /made\n",
        )
        hatchery(f"spawn acme/{name}")
    assert FOUND not in inside("finds", "/found"), inside("finds", "/found")
    assert inside("leaves", "/made") != inside("finds", "/made"), "one build's layer is another's"
    slain("leaves", "finds")

with subtest("a build has the drone's limits"):
    built("eats", f"FROM {IMAGE}\nRUN python3 -c 'x = bytearray(600 << 20)'\n")
    hatchery(f"{configured(memory='256MiB')} spawn acme/eats", status=1)
    hatchery("spawn acme/eats")
    slain("eats")

with subtest("a build that fills the disk is ended before that"):
    free = int(server.succeed("df --output=avail -B1 /var/lib/docker | tail -1"))
    built("fills", f"FROM {IMAGE}\nRUN dd if=/dev/zero of=/filled bs=1M count=1500; sleep 600\n")
    said = hatchery(f"{configured(reserve=f'{free - 700_000_000}B')} spawn acme/fills", status=1)
    contains(said, "[disk-full]", "limits.reserve is")

with subtest("a build that fails says why, and leaves nothing"):
    built("breaks", f"FROM {IMAGE}\nRUN echo for aiur; exit 7\n")
    contains(hatchery("spawn acme/breaks", status=1), "for aiur", "exit code: 7")

with subtest("a builder that is not to be had ends the spawn, and says what to do"):
    said = hatchery(f"{configured(buildkit='ghcr.io/nobody/buildkit:v1')} spawn acme/breaks", status=1)
    contains(said, "ghcr.io/nobody/buildkit:v1 cannot be pulled", "docker.buildkit")
    said = hatchery(f"{configured(buildkit=IMAGE)} spawn acme/breaks", status=1)
    contains(said, "builder does not start", "hatchery doctor")

with subtest("an image that this server alone has is what a build begins with, where Docker can hand it over"):
    # buildx leaves a Dockerfile that it read from standard input in /tmp.
    server.succeed(
        f"mkdir /srv/alone; printf 'FROM {IMAGE}\nRUN echo {FOUND} > /found\n' > /srv/alone/Dockerfile",
        "docker build -q -t alone/here:1 /srv/alone; rm -r /srv/alone",
    )
    built(
        "begins",
        "ARG TAG\nFROM docker.io/alone/here:$TAG AS first\nFROM first\nRUN cat /found > /again\n",
        build={"args": {"TAG": "1"}},
    )
    if int(server.succeed("docker version --format '{{.Server.Version}}'").split(".")[0]) >= 25:
        hatchery("spawn acme/begins")
        assert inside("begins", "/again") == FOUND
        slain("begins")
    else:
        contains(hatchery("spawn acme/begins", status=1), "alone/here:1")
    server.succeed("docker rmi alone/here:1")

with subtest("the builder's image is pulled where it is not there"):
    server.succeed("docker rmi moby/buildkit:v0.26.0-rootless")
    slain("dockerfile")
    hatchery("spawn acme/dockerfile")
    server.succeed("docker image inspect moby/buildkit:v0.26.0-rootless")

with subtest("recover ends a builder that a killed spawn left, and removes the cache of a drone that is gone"):
    server.succeed(
        f"docker volume create --label hatchery.builder=acme-gone {BUILDER}acme-gone",
        f"docker run -d --name {BUILDER}acme-gone --label hatchery.builder=acme-gone {IMAGE} sleep infinity",
        "hatchery recover",
    )
    assert server.succeed("docker ps -aq --filter label=hatchery.builder") == ""
    kept = server.succeed("docker volume ls -q --filter label=hatchery.builder").split()
    assert kept == [f"{BUILDER}acme-dockerfile"], kept

with subtest("the configuration can have Docker build all, or nothing"):
    slain("dockerfile")
    for builder, name in (("shared", "dockerfile"), ("own", "web")):
        server.succeed(f": > {EVENTS}")
        hatchery(f"{configured(builder=builder)} spawn acme/{name}")
        started = f"start {BUILDER}acme-{name}" in server.succeed(f"cat {EVENTS}")
        assert started == (builder == "own"), builder
        slain(name)

server.succeed(
    "systemctl stop events listener",
    f"rm -rf {EVENTS} {CONFIG} /srv/listener",
    "docker builder prune --all --force",
)
nothing_new()
