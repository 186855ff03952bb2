"""What goes wrong is told in its own words, with its own status, and leaves nothing behind."""

import json
import unicodedata
from typing import Any


def plain(arguments: str, status: int = 0, prefix: str = "") -> str:
    """All that it says without a terminal."""
    said = hatchery(arguments, status, prefix=prefix)
    assert said.isascii() and "\x1b" not in said and "\r" not in said, f"not for a file: {said!r}"
    return said


def refused(arguments: str, status: int, code: str, *parts: str, prefix: str = "") -> str:
    """It fails in this way, says these words, and leaves nothing behind."""
    said = plain(arguments, status, prefix)
    contains(said, f"[{code}]", *parts)
    nothing_new()
    return said


def refused_as_json(arguments: str, status: int, code: str, prefix: str = "") -> dict[str, Any]:
    """The same for a script: standard output is the error and nothing else."""
    error = error_of(f"{prefix} hatchery {arguments}", status, code)
    keys = {"code", "message", "hint"}
    assert error["message"] and keys <= error.keys() <= keys | {"details"}, error
    return error


def repository(name: str, configuration: dict[str, object], dockerfile: str = "") -> None:
    """A repository whose devcontainer.json is the usual one and this."""
    usual: dict[str, object] = {"build": {"dockerfile": "Dockerfile"}} if dockerfile else {"image": IMAGE}
    text = json.dumps({**usual, "features": FEATURES, **configuration}, indent=2)
    publish(
        name,
        {
            ".devcontainer/devcontainer.json": text,
            **({".devcontainer/Dockerfile": f"FROM {IMAGE}\n{dockerfile}\n"} if dockerfile else {}),
        },
    )


def config(name: str, text: str) -> str:
    """The server's configuration with this at its end, as an option."""
    server.succeed(f"(cat /etc/hatchery/config.toml; cat <<'END'\n{text}\nEND\n) > /root/{name}.toml")
    return f"--config /root/{name}.toml"


start_and_wait()
laptop_trusts_drones()
repository("bad/feature", {"features": {"ghcr.io/acme/absent:1": {}}})
repository("bad/image", {"image": "ghcr.io/acme/absent:latest"})
HOSTILE = "\x1b[2J\x1b]0;pwned\x07\x1b[31mHatchery ready.\x9b1m\u202e\u2066\u200b\rwarning: nonsense\n"
repository("hostile/refused", {HOSTILE: 1, "containerEnv": {HOSTILE: "1"}, "features": {HOSTILE: {}}})
repository("hostile/built", {}, dockerfile=r"RUN printf '\033[2J\033]0;pwned\007\rx\302\2331m\342\200\256\n'; false")
repository("bad/create", {"containerEnv": {"TOKEN": "s3cret-larva"}, "runArgs": ["--dns=nowhere"]})
for number in (1, 2):
    repository(f"held/clone-{number}", {})
    repository(f"held/build-{number}", {}, dockerfile=f"RUN sleep 432{number}")
    repository(f"held/create-{number}", {})
    repository(f"held/waiting-{number}", {}, dockerfile="RUN ln -sf /bin/true /usr/sbin/sshd")
    repository(f"held/lifecycle-{number}", {"postCreateCommand": f"sleep 432{number}"})
both = {
    "web": "echo the swarm is fed; touch /tmp/fed",
    "db": "until test -e /tmp/fed; do :; done; echo no minerals; exit 7",
}
repository("bad/several", {"postCreateCommand": both})
# What a drone's image stands on is Docker's to keep.
server.succeed("docker pull -q ghcr.io/acme/nosudo:latest")
take_inventory()

NOT_FOUND = "Your warriors have engaged the enemy. ...just kidding. Drone not found.\n"
with subtest("what is asked for makes no sense"):
    for malformed in ("acme", "acme/site/more", "../site", "'acme/si te'", "https://example.com/acme/site", "''"):
        refused(f"spawn {malformed}", 2, "repository-malformed", "-> write it as org/repo")
    for verb in ("status", "burrow", "unburrow", "slay"):
        refused(f"{verb} .acme", 2, "repository-malformed", "the drone's name")
        refused(f"{verb} acme/site", 3, "drone-not-found", NOT_FOUND, "hatchery spawn acme/site")
        refused_as_json(f"{verb} acme/site", 3, "drone-not-found")
    refused_as_json("spawn acme", 2, "repository-malformed")
    for usage in ("", "hatch acme/site", "spawn", "spawn acme/site --force"):
        plain(usage, 2)
        refused_as_json(usage, 2, "usage")
    nothing_new()

with subtest("the configuration is wrong: file, line and key"):
    lines = int(server.succeed("wc -l < /etc/hatchery/config.toml"))
    for text, key, line in (
        ("[limits]\ndrone = 3", "drone", 2),
        ("[limits]\ndrones = -1", "drones", 2),
        ("[overlords]", "overlords", 1),
        ("[github]", "duplicate key", 1),
        ('[limits]\n\nmemory = "much"', "memory", 3),
    ):
        option = config("wrong", text)
        refused(f"{option} list", 2, "config-invalid", f"/root/wrong.toml:{lines + line}: ", key)
    refused_as_json("--config /root/wrong.toml spawn acme/site", 2, "config-invalid")
    refused("--config /root/absent.toml list", 2, "config-invalid", "/root/absent.toml")

with subtest("programs are missing or too old"):
    option = config("missing", '[devcontainer]\ncommand = "devcontainer-of-old"')
    refused(
        f"{option} spawn acme/site", 1, "program-missing", "devcontainer-of-old", "npm install -g @devcontainers/cli"
    )
    server.succeed("mkdir -p /root/old; printf '#!/bin/sh\\necho v18.0.0\\n' > /root/old/node; chmod +x /root/old/node")
    refused("spawn acme/site", 1, "node-too-old", "v18.0.0", "20 or newer", prefix="PATH=/root/old:$PATH")

with subtest("GitHub says no, or nothing"):
    refused(
        "spawn acme/absent", 3, "repository-not-found", "We require more minerals.\n", "https://github.com/acme/absent"
    )
    refused_as_json("spawn acme/absent", 3, "repository-not-found")
    internet.succeed("systemctl stop nginx")
    refused("spawn acme/site", 7, "github-away", "https://github.com/acme/site cannot be reached")
    refused_as_json("spawn acme/site", 7, "github-away")
    internet.succeed("systemctl start nginx")
    server.block()
    refused_as_json("spawn acme/site", 7, "github-away", prefix="timeout 120")
    server.unblock()
    server.wait_until_succeeds("curl -sf --max-time 5 https://api.github.com/", timeout=30)

with subtest("Docker is away"):
    server.succeed("systemctl stop docker.socket docker.service")
    for verb in (
        "list",
        "spawn acme/site",
        "status acme/site",
        "burrow acme/site",
        "unburrow acme/site",
        "slay acme/site",
    ):
        contains(plain(verb, 1), "[docker-away]")
        refused_as_json(verb, 1, "docker-away")
    server.succeed("systemctl start docker.socket docker.service")
    nothing_new()

with subtest("the repository's devcontainer.json is wrong: file and line"):
    refused("spawn acme/broken-jsonc", 1, "devcontainer-invalid", ".devcontainer/devcontainer.json:3:")
    refused_as_json("spawn acme/broken-jsonc", 1, "devcontainer-invalid")
    refused("spawn acme/variants", 1, "devcontainer-ambiguous", "one", "two", "--config")
    refused("spawn acme/variants --config three", 1, "devcontainer-ambiguous", "three", "one", "two")

with subtest("the gate refuses: property, value, file and line, and nothing of it ran"):
    for name, property_, value in (
        ("initialize", "initializeCommand", '"touch /tmp/initialize-ran-on-the-host"'),
        ("privileged", "privileged", "true"),
        ("hostmount", "mounts", "source=/etc,target=/host-etc,type=bind"),
        ("runargs", "runArgs", "--pid=host"),
    ):
        file = ".devcontainer/devcontainer.json"
        written = internet.succeed(f"git --git-dir=/srv/github/git/acme/{name}.git show main:{file}").splitlines()
        place = next(number for number, shown in enumerate(written, 1) if value.strip('"') in shown)
        said = refused(f"spawn acme/{name}", 6, "gate-refused", f"{file}:{place}: {property_}", value)
        contains(said, "--trust", "devcontainer.trust")
    refused_as_json("spawn acme/initialize", 6, "gate-refused")
    server.fail("test -e /tmp/initialize-ran-on-the-host")

with subtest("what a stranger wrote cannot speak to the terminal"):
    for spoken in ("spawn hostile/refused", "spawn hostile/built", "list"):
        if spoken == "list":
            # buildx leaves a Dockerfile that it read from standard input in /tmp.
            server.succeed(
                rf"mkdir -p /root/hostile; printf 'FROM {IMAGE}\nLABEL hatchery.drone=\"a\033[31mb\302\2332J\342\200\256\"\n' > /root/hostile/Dockerfile",
                "docker build -qt hostile /root/hostile",
                "docker run -d --name hostile hostile sleep 1000",
            )
        for way in ("", "--json") if spoken != "spawn hostile/built" else ("",):
            _, said = server.execute(f"hatchery {spoken} {way} 2>&1")
            unseen = {character for character in said if unicodedata.category(character) in ("Cc", "Cf", "Zl", "Zp")}
            assert unseen <= {"\n"}, f"{spoken} {way}: {unseen} in {said!r}"
            assert "\nwarning: nonsense" not in said, said
    server.succeed("docker rm -f hostile; docker rmi hostile")
    nothing_new()

with subtest("it cannot be built or created"):
    refused("spawn acme/broken-dockerfile", 1, "build-failed", "  | ", "the larva refuses to morph")
    refused("spawn bad/feature", 1, "devcontainer-failed", "ghcr.io/acme/absent:1")
    refused(
        "spawn bad/image", 1, "devcontainer-failed", "ghcr.io/acme/absent:latest cannot be pulled", "check its name"
    )
    said = refused("spawn bad/create", 1, "devcontainer-failed", "docker run")
    error = refused_as_json("spawn bad/create", 1, "devcontainer-failed")
    for told in (said, str(error)):
        assert "s3cret" not in told, told

with subtest("a lifecycle command fails: the drone stays, and nobody calls it a success"):
    said = plain("spawn acme/broken-postcreate", 1)
    contains(
        said,
        "[lifecycle-failed]",
        "postCreateCommand",
        "the queen is not amused",
        "the drone is kept: log in with `ssh -p 2222",
    )
    assert "Hatchery ready" not in said, said
    assert laptop.succeed(f"{SSH} vscode@acme-broken-postcreate.tail.example.test id -un") == "vscode\n"
    said = plain("spawn acme/broken-postcreate", 4)
    contains(said, "Evolution chamber occupied.\n", "[drone-exists]")
    refused_as_json("spawn acme/broken-postcreate", 4, "drone-exists")
    plain("slay acme/broken-postcreate")
    said = plain("spawn bad/several", 1)
    contains(said, "[lifecycle-failed]", "  | web: the swarm is fed", "  | db: no minerals")
    plain("slay bad/several")
    nothing_new()

with subtest("an image with a user of its own and no sudo works all the same"):
    plain("spawn acme/nosudo")
    assert laptop.succeed(f"{SSH} app@acme-nosudo.tail.example.test id -un") == "app\n"
    assert json.loads(server.succeed("hatchery status acme/nosudo --json"))["user"] == "app"
    owners = server.succeed("docker exec -u 0 acme-nosudo ps -C sshd,tailscaled -o user=,comm=").split("\n")
    assert {"root sshd", "root tailscaled"} <= {" ".join(owner.split()) for owner in owners}, owners
    assert server.succeed("docker exec acme-nosudo stat -c %U /workspaces/nosudo/README.md") == "app\n"
    plain("slay acme/nosudo")
    nothing_new()

with subtest("localEnv finds nothing of the server's, on a terminal it is word for word"):
    server.succeed(
        "LC_ALL=C.UTF-8 TERM=xterm-256color SECRET=s3cret-larva "
        "script -qec 'hatchery spawn acme/localenv' /root/typescript > /dev/null"
    )
    shown = server.succeed("cat /root/typescript")
    contains(shown, "Spawning drone... \U0001f7e2 Hatchery ready.", "\x1b[", "Building the image")
    contains(shown, "\x1b[32m\u2713\x1b[0m Cloning acme/localenv  ")
    assert "s3cret" not in shown, shown
    assert "s3cret" not in server.succeed("docker inspect acme-localenv")
    assert server.succeed("docker exec acme-localenv sh -c 'echo [$SECRET]'") == "[]\n"
    plain("slay acme/localenv")
    nothing_new()

with subtest("no space is left"):
    for size in ("64k", "4m"):
        server.succeed(f"mount -t tmpfs -o size={size} tmpfs /var/cache/hatchery")
        contains(plain("spawn acme/site", 1), "[disk-full]")
        server.succeed("umount /var/cache/hatchery")
        nothing_new()
    server.succeed(
        "systemctl stop docker.socket docker.service",
        "mount -t tmpfs -o size=1g tmpfs /var/lib/docker",
        "systemctl start docker.service",
        f"docker pull -q {IMAGE}",
        "mount -o remount,size=$(df --output=used --block-size=1M /var/lib/docker | tail -n 1 | awk '{ print $1 + 40 }')m /var/lib/docker",
    )
    contains(plain("spawn acme/site", 1), "free in /var/lib/docker, and limits.reserve is 1.0 GiB [disk-full]")
    server.succeed("printf '[limits]\\nreserve = \"0B\"\\n' | cat /etc/hatchery/config.toml - > /root/none.toml")
    said = plain("--config /root/none.toml spawn acme/site", 1)
    assert "[disk-full]" in said and "limits.reserve" not in said, said
    server.succeed(
        "rm /root/none.toml",
        "systemctl stop docker.socket docker.service",
        "umount --lazy /var/lib/docker",
        "systemctl start docker.socket docker.service",
        "docker image inspect ghcr.io/acme/nosudo:latest > /dev/null",
    )
    nothing_new()

# Step, who is held meanwhile so that it lasts, how to know that both spawns are there.
STEPS: tuple[tuple[str, Machine | None, str, str], ...] = (
    ("clone", internet, "github", "test $(pgrep -xc git) -ge 2"),
    ("build", None, "", "pgrep -fx 'sleep 4321' && pgrep -fx 'sleep 4322'"),
    ("create", tailnet, "headscale", "test $(docker ps -q --all --filter status=created | wc -l) = 2"),
    ("waiting", None, "", "grep -q 'Waiting for ssh' /root/said.1 && grep -q 'Waiting for ssh' /root/said.2"),
    ("lifecycle", None, "", "pgrep -fx 'sleep 4321' && pgrep -fx 'sleep 4322'"),
)
for step, machine, unit, there in STEPS:
    with subtest(f"interrupted or terminated at {step}: all is taken back, nothing goes on"):
        if machine:
            machine.succeed(f"systemctl kill --signal=STOP {unit}")
        for number in (1, 2):
            run = f"env --default-signal=INT hatchery spawn held/{step}-{number} > /root/said.{number} 2>&1"
            server.succeed(
                f"rm -f /root/status.{number}; ({run} && echo 0 > /root/status.{number} || echo $? > /root/status.{number}) > /dev/null 2>&1 &"
            )
        server.wait_until_succeeds(there, timeout=120)
        for number, signal in ((1, "INT"), (2, "TERM")):
            server.succeed(f"pkill -{signal} -fx 'hatchery spawn held/{step}-{number}'")
        if machine:
            machine.succeed(f"systemctl kill --signal=CONT {unit}")
        for number in (1, 2):
            server.wait_for_file(f"/root/status.{number}", timeout=60)
            said = server.succeed(f"cat /root/said.{number}")
            assert server.succeed(f"cat /root/status.{number}") == "130\n", said
            contains(said, "The failed spawn was undone; nothing is left of it.", "interrupted [interrupted]")
            assert "left behind" not in said, said
        nothing_new()
