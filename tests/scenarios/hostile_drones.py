"""Hostile repositories that become drones: what they ask for beyond a drone's own has no effect. And what
`--trust` lets through: that, and nothing more."""

import json
from typing import Any

OUT = "/var/tmp/hostile"
GIB = 1024**3
CHECK = ["CMD", "true"]
# Labels that say whose a container is, to hatchery and others, with a check each millisecond.
CLAIMS = r"""LABEL hatchery.scope='{"repositories":["acme/web"]}' hatchery.restart=always
LABEL com.docker.compose.project=acme-web com.docker.compose.service=app devcontainer.local_folder=/x
LABEL traefik.enable=true com.centurylinklabs.watchtower.enable=true
HEALTHCHECK --interval=1ms --timeout=1ms CMD true
"""
# Programs that git runs for a repository that names them, each in its own way.
PROGRAM = "/workspaces/claims/.git/program"
SETTINGS = {
    "core.fsmonitor": PROGRAM,
    "core.hooksPath": "/workspaces/claims/.git/mine",
    "core.sshCommand": PROGRAM,
    "core.pager": PROGRAM,
    "diff.external": PROGRAM,
    "gpg.program": PROGRAM,
    "log.showSignature": "true",
    "filter.x.clean": PROGRAM,
    "filter.x.process": PROGRAM,
    "alias.status": f"!{PROGRAM}",
    "credential.helper": f"!{PROGRAM}",
    "protocol.ext.allow": "always",
    "remote.origin.promisor": "true",
    "remote.origin.url": f"ext::{PROGRAM}",
    "remote.origin.uploadpack": PROGRAM,
}
GIT = f"""
printf '#!/bin/sh\\nexec sleep 7391\\n' > {PROGRAM}
chmod 755 {PROGRAM}
mkdir .git/mine
for hook in post-checkout pre-auto-gc reference-transaction post-index-change; do cp {PROGRAM} .git/mine/$hook; done
echo '* filter=x diff=x' > .gitattributes
touch -d 2001-01-01 .devcontainer/devcontainer.json
{"".join(f"git config {name} '{value}'{chr(10)}" for name, value in SETTINGS.items())}"""


def host(name: str) -> dict[str, Any]:
    shown: dict[str, Any] = docker_inspect(name)["HostConfig"]
    return shown


def at_once(*commands: str) -> list[str]:
    """What these say, which must all succeed."""
    started = [f'({command}) > {OUT}/said.{number} 2>&1 & pids+=" $!"' for number, command in enumerate(commands)]
    server.succeed("; ".join(started) + f"; for pid in $pids; do wait $pid || {{ cat {OUT}/said.*; exit 1; }}; done")
    return [server.succeed(f"cat {OUT}/said.{number}") for number in range(len(commands))]


def has_its_limits(name: str) -> None:
    """No more than a drone has by default, whatever was asked for; and what is nobody's to choose."""
    shown, config = host(name), docker_inspect(name)["Config"]
    assert 0 < shown["Memory"] <= 8 * GIB and shown["MemorySwap"] in (shown["Memory"], -1), shown
    assert 0 < shown["PidsLimit"] <= 4096 and 0 < shown["NanoCpus"] <= 4 * 10**9, shown
    assert shown["ShmSize"] <= shown["Memory"] and shown["OomScoreAdj"] >= 300 and not shown["OomKillDisable"], shown
    assert shown["LogConfig"] == {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}}, shown
    assert 0 <= (config.get("StopTimeout") or 0) <= 60, config
    check = config["Healthcheck"]
    assert all(check.get(key, 0) == 0 or check[key] >= 5 * 10**9 for key in ("Interval", "StartInterval")), check


def belongs(name: str, drone: str) -> None:
    """No label says that this is another's, or that a program on the server is to do something with it."""
    labels = docker_inspect(name)["Config"]["Labels"]
    assert "acme-web" not in labels.values() and "true" not in labels.values(), labels
    assert labels.get("hatchery.drone", "") in ("", drone) and labels.get("devcontainer.local_folder", "") == "", labels


start_and_wait()
stop_recovery()
server.succeed(
    f"docker image inspect {IMAGE} > /dev/null || docker pull -q {IMAGE}",
    f"mkdir -p {OUT}; rm -rf /root/hostile* /tmp/hostile*",
    f"base64 -d <<< {encoded(f'FROM {IMAGE}{chr(10)}{CLAIMS}')} | docker build -q -t claims:1 -",
)
base = server.succeed(f"docker images --no-trunc --quiet {IMAGE}").strip()
publish_devcontainer(
    "evil/claims",
    {
        "devcontainer.json": {
            "image": "claims:1",
            "appPort": [8097],
            "mounts": ["source=acme-web,target=/theirs,type=volume", {"type": "tmpfs", "target": "/much"}],
            "securityOpt": ["seccomp=unconfined"],
            "hostRequirements": {"gpu": "optional"},
            "runArgs": [
                *("--name=acme-web", "--hostname=acme-web", "--network-alias=acme-web", "--restart=always"),
                *("--memory=64g", "--pids-limit=-1", "--cpus=64", "--oom-kill-disable", "--shm-size=64g"),
                *("--health-cmd=true", "--health-interval=1ms", "--stop-timeout=-1"),
                *("-p", "0.0.0.0:8098:80", "-P", "--security-opt", "seccomp:unconfined"),
            ],
        }
    },
)
greedy: dict[str, Any] = {
    "build": {"context": ".", "labels": {"traefik.enable": "true"}},
    # The name from which every other drone is made.
    "image": IMAGE,
    "container_name": "acme-web",
    "volumes": ["../..:/workspaces", "acme-web:/theirs"],
    "command": "sleep infinity",
    "ports": ["0.0.0.0:8096:80"],
    "healthcheck": {"test": CHECK, "interval": "1ms", "timeout": "1ms"},
    "stop_grace_period": "9999h",
    "restart": "always",
    "mem_limit": "64g",
    "memswap_limit": -1,
    "cpus": 64,
    "pids_limit": -1,
    "oom_kill_disable": True,
    "shm_size": "64g",
    "scale": 20,
    "labels": {"traefik.enable": "true"},
    "security_opt": ["seccomp:unconfined"],
}
publish_devcontainer(
    "evil/greedy",
    {
        "devcontainer.json": {"dockerComposeFile": "compose.yml", "service": "app"},
        "compose.yml": {
            "name": "acme-web",
            "services": {"app": greedy, "db": {"image": "claims:1", "command": "sleep infinity"}},
            "volumes": {"acme-web": {"name": "acme-web"}},
        },
        "Dockerfile": f"FROM {IMAGE}\nRUN touch /poison\nHEALTHCHECK --interval=1ms CMD true\n",
    },
)
server.succeed("hatchery spawn acme/web > /dev/null 2>&1")
innocent = docker_inspect("acme-web")
take_inventory()

with subtest("what a drone asks for beyond its own has no effect"):
    claims, greed = at_once("hatchery spawn evil/claims", f"cd /tmp; {MEMBER} hatchery spawn evil/greedy")
    contains(claims, "Hatchery ready.", "appPort is left out", "runArgs --publish is left out", "--memory is left out")
    contains(greed, "Hatchery ready.", "services.app.ports is left out", "container_name is left out")
    db = compose_container("evil-greedy", "db")
    for name, drone in (("evil-claims", "evil-claims"), ("evil-greedy", "evil-greedy"), (db, "evil-greedy")):
        has_its_limits(name)
        belongs(name, drone)
        shown = host(name)
        assert not shown["Privileged"] and not shown["SecurityOpt"] and not shown["DeviceRequests"], shown
        ports = [binding for bindings in (shown["PortBindings"] or {}).values() for binding in bindings]
        assert all(port["HostIp"] == "127.0.0.1" for port in ports) and not shown["PublishAllPorts"], shown
    for name in ("evil-claims", "evil-greedy"):
        # A volume of this name is the drone's own.
        server.succeed(f"docker exec {name} test ! -e /theirs/web")
    assert server.succeed(f"docker images --no-trunc --quiet {IMAGE}").strip() == base
    server.fail(f"docker run --rm {IMAGE} test -e /poison")

with subtest("nor has it on what is told of drones, on the other drone, and on what becomes of it"):
    assert drones() == {"acme/web": "running", "evil/claims": "running", "evil/greedy": "running"}
    hatchery("burrow acme/web")
    assert drones() == {"acme/web": "burrowed", "evil/claims": "running", "evil/greedy": "running"}
    hatchery("unburrow acme/web")
    now = docker_inspect("acme-web")
    for key in ("Id", "Name", "Image", "HostConfig", "Config"):
        assert now[key] == innocent[key], key

with subtest("a program that a repository names to git does not run when the drone is looked into"):
    as_user = "docker exec -i -u vscode -w /workspaces/claims evil-claims"
    server.succeed(f"{as_user} bash -e -s <<'END'{chr(10)}{GIT}END")
    # It would, had anybody else asked.
    assert server.execute(f"{as_user} timeout 3 git diff HEAD")[0] == 124
    server.execute("docker exec evil-claims pkill -f 'sleep 7391'")
    for state in ("running", "stopped"):
        assert drones()["evil/claims"] == state
        server.succeed(
            f"(while sleep 0.05; do pgrep -fx 'sleep 7391' || true; done) > {OUT}/ran 2>&1 & echo $! > {OUT}/watch",
        )
        contains(hatchery("slay evil/claims", status=1, within=60), "[work-would-be-lost]", ".gitattributes")
        server.succeed(f"kill $(cat {OUT}/watch); test ! -s {OUT}/ran")
        server.succeed("docker stop -t 1 evil-claims")

with subtest("slay of one takes nothing of another's"):
    hatchery("slay --force acme/web")
    assert drones() == {"evil/claims": "stopped", "evil/greedy": "running"}
    server.succeed(f"docker inspect {db} > /dev/null")
    hatchery("slay --force --no-remains evil/claims")
    hatchery("slay --force --no-remains evil/greedy")
    nothing_new()

HOME = {"type": "bind", "source": "/root", "target": "/host"}
publish_devcontainer(
    "evil/trusted",
    {
        "devcontainer.json": {
            "image": "claims:1",
            "initializeCommand": "touch /root/hostile-initialize",
            "postCreateCommand": "sudo touch /host/hostile-mount",
            "mounts": [HOME, "source=acme-web,target=/theirs,type=volume"],
            "capAdd": ["SYS_ADMIN"],
            "securityOpt": ["seccomp=unconfined", "apparmor=unconfined"],
            "hatcheryDoesNotKnow": {"this": "property"},
            "appPort": [8097],
            "runArgs": [
                *("--privileged", "--pid=host", "--device=/dev/null:/dev/hostile"),
                *("--sysctl=kernel.msgmax=9000", "--volume=/srv:/srv", "--volumes-from=acme-web"),
                *(
                    "--network=host",
                    "--publish=0.0.0.0:8098:80",
                    "--name=acme-other",
                    "--memory=64g",
                    "--pids-limit=-1",
                ),
            ],
            "containerEnv": {"FOUND": "${localEnv:HOME}"},
        }
    },
)
publish_devcontainer(
    "evil/owner",
    {
        "devcontainer.json": {"dockerComposeFile": "compose.yml", "service": "app"},
        "compose.yml": {
            "services": {
                "app": {
                    "build": {"context": ".", "network": "host"},
                    "volumes": ["../..:/workspaces", "/root:/host"],
                    "command": "sleep infinity",
                    "container_name": "acme-other",
                    "mem_limit": "64g",
                    "ports": ["0.0.0.0:8096:80"],
                },
                "db": {
                    # Another drone's image and volume.
                    "image": "acme/innocent:1",
                    "command": "touch /host/hostile-sibling /theirs/hostile-sibling",
                    "volumes": ["/root:/host", "acme-web:/theirs"],
                    "privileged": True,
                    "pid": "host",
                    "cap_add": ["ALL"],
                    "logging": {"driver": "none"},
                    "sysctls": {"net.core.somaxconn": 99},
                },
            },
            "volumes": {"acme-web": {"external": True}},
        },
        "Dockerfile": f"FROM {IMAGE}\n",
    },
)
publish_devcontainer(
    "evil/secret",
    {
        "devcontainer.json": {"dockerComposeFile": "c.yml", "service": "app"},
        "c.yml": {
            "services": {"app": {"image": IMAGE, "secrets": ["x"]}},
            "secrets": {"x": {"environment": "GITHUB_TOKEN"}},
        },
    },
)
publish_devcontainer("evil/link", {"Dockerfile": f"FROM {IMAGE}\n"}, {"devcontainer.json": "../" * 12 + "etc/hostname"})
trusting = server.succeed("cat /etc/hatchery/config.toml") + '\n[devcontainer]\ntrust = ["evil/owner"]\n'
server.succeed(
    f"base64 -d <<< {encoded(trusting)} > {OUT}/trusting.toml",
    "hatchery spawn acme/web > /dev/null 2>&1",
    "docker tag $(docker inspect --format '{{.Image}}' acme-web) acme/innocent:1",
    "rm -rf /root/hostile*",
)
take_inventory()

with subtest("without trust nothing of that is had"):
    for name in ("trusted", "owner"):
        contains(hatchery(f"spawn evil/{name}", status=6), "[gate-refused]")
    server.fail("ls /root/hostile*")
    nothing_new()

with subtest("trust lets it through, for once and for good"):
    trusted, owner = at_once(
        "hatchery spawn --trust evil/trusted", f"hatchery --config {OUT}/trusting.toml spawn evil/owner"
    )
    server.succeed("ls /root/hostile-initialize /root/hostile-mount /root/hostile-sibling")
    server.succeed("docker exec acme-web ls /workspaces/hostile-sibling; docker exec evil-trusted ls /theirs/web /srv")
    shown = host("evil-trusted")
    assert shown["Privileged"] and shown["PidMode"] == "host", shown
    assert shown["CapAdd"] and shown["Sysctls"] and shown["VolumesFrom"] == ["acme-web"], shown
    assert any(device["PathInContainer"] == "/dev/hostile" for device in shown["Devices"]), shown
    assert {"seccomp=unconfined", "apparmor=unconfined"} <= set(shown["SecurityOpt"]), shown
    shown = host(compose_container("evil-owner", "db"))
    assert shown["Privileged"] and shown["PidMode"] == "host" and shown["Sysctls"], shown

with subtest("what trust does not change"):
    assert drones() == {"acme/web": "running", "evil/trusted": "running", "evil/owner": "running"}
    for said in (trusted, owner):
        contains(said, "is left out: every port of the drone is reachable over the tailnet")
    for name in ("evil-trusted", "evil-owner", compose_container("evil-owner", "db")):
        shown = host(name)
        assert 0 < shown["Memory"] <= 8 * GIB and 0 < shown["PidsLimit"] <= 4096 and shown["NanoCpus"] > 0, shown
        assert shown["LogConfig"]["Type"] == "json-file" and not shown["PortBindings"], shown
    shown = docker_inspect("evil-trusted")
    assert shown["HostConfig"]["NetworkMode"] == "evil-trusted", shown["HostConfig"]
    belongs("evil-trusted", "evil-trusted")
    assert "FOUND=" in shown["Config"]["Env"], shown["Config"]["Env"]
    scope = json.loads(shown["Config"]["Labels"]["hatchery.scope"])
    assert scope["repositories"] == ["evil/trusted"], scope
    said = hatchery("spawn --trust evil/secret", status=1)
    contains(said, "only a file in the repository can be used", "[devcontainer-invalid]")
    contains(hatchery("spawn --trust evil/link", status=6), "points outside the repository", "[gate-refused]")

server.succeed(
    "for it in evil/trusted evil/owner acme/web; do hatchery slay --force $it; done",
    f"rm -rf /root/hostile* {OUT}; docker rmi claims:1 || true",
)
