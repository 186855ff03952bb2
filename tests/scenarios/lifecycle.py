"""A drone's life, from spawn to slay, and that nothing is left of it afterwards."""

import json
from collections.abc import Sequence


def nodes_called(name: str) -> list[str]:
    """The nodes of that name, with and without a suffix."""
    return [node for node in nodes() if node.startswith(name)]


def both(*commands: str) -> None:
    """At once; each must succeed."""
    start = " ".join(f"{command} & all+=($!);" for command in commands)
    server.succeed(f"all=(); {start} for one in ${{all[@]}}; do wait $one; done")


start_and_wait()
stop_recovery()
laptop_trusts_drones()
take_inventory()

with subtest("an image and a compose repository become drones"):
    both("hatchery spawn acme/site", "hatchery spawn acme/stack")
    assert drones() == {"acme/site": "running", "acme/stack": "running"}
    added = what_is_new()
    contains(added, "container acme-site\n", "volume acme-site\n", "volume acme-stack_data\n")
    contains(added, "network acme-site\n", "network acme-stack_", f"device {bridge_of('acme-site')}:\n")
    contains(added, "image ", "unit hatchery-credd@acme-site.service\n", "process ")

with subtest("work is done in them"):
    in_drone("acme-site", "cd /workspaces/site && echo draft > draft && echo more >> README.md")
    in_drone("acme-stack", "echo kept > /workspaces/stack/kept")
    server.succeed(
        "docker exec $(docker ps -q --filter label=com.docker.compose.service=db) sh -c 'echo kept > /var/lib/data/kept'"
    )

with subtest("burrowed: it stops, its name in the tailnet is free, its work stays"):
    said = hatchery("burrow acme/site")
    contains(
        said, "acme-site is burrowed; its work is kept in its volume.", "`hatchery unburrow acme/site` starts it again."
    )
    assert nodes_called("acme-site") == [], nodes_called("acme-site")
    assert drones() == {"acme/site": "burrowed", "acme/stack": "running"}
    contains(hatchery("status acme/site"), "burrowed")
    contains(" ".join(hatchery("list").split()), "acme-site burrowed acme/site", "hatchery unburrow acme/site")
    assert server.succeed("docker inspect acme-site --format '{{.State.Running}}'").strip() == "false"
    laptop.fail(f"{SSH} vscode@acme-site.tail.example.test true")

with subtest("burrowed twice is burrowed once"):
    contains(hatchery("burrow acme/site"), "acme-site is already burrowed.")
    assert json.loads(server.succeed("hatchery burrow acme/site --json"))["state"] == "burrowed"

with subtest("a compose drone takes its siblings along"):
    hatchery("burrow acme/stack")
    running = server.succeed("docker ps --format '{{.Names}}'").split()
    assert running == [], f"still running: {running}"
    server.succeed("systemctl restart docker")
    assert drones() == {"acme/site": "burrowed", "acme/stack": "burrowed"}, "Docker's restart woke one"

with subtest("unburrowed at once: the same name, ssh, the work"):
    contains(hatchery("unburrow acme/site"), "acme-site is running.", "ssh -p 2222 vscode@acme-site.tail.example.test")
    assert in_drone("acme-site", "cat /workspaces/site/draft; tail -n 1 /workspaces/site/README.md") == "draft\nmore\n"
    assert nodes_called("acme-site") == ["acme-site"], nodes_called("acme-site")
    assert drones() == {"acme/site": "running", "acme/stack": "burrowed"}

with subtest("unburrowed twice is unburrowed once"):
    contains(hatchery("unburrow acme/site"), "acme-site is running.", "ssh -p 2222 vscode@acme-site.tail.example.test")
    assert nodes_called("acme-site") == ["acme-site"], nodes_called("acme-site")

with subtest("burrowed while Headscale is away, it has its name all the same when it wakes"):
    tailnet.succeed("systemctl kill --signal=STOP headscale")
    contains(hatchery("burrow acme/site"), "warning: acme-site did not leave the tailnet", "acme-site is burrowed")
    tailnet.succeed("systemctl kill --signal=CONT headscale")
    assert nodes_called("acme-site") == ["acme-site"], "its node should still be there"
    hatchery("unburrow acme/site")
    assert nodes_called("acme-site") == ["acme-site"], nodes_called("acme-site")
    assert in_drone("acme-site", "cat /workspaces/site/draft") == "draft\n"

with subtest("a drone that crashes is back by itself"):
    booted = in_drone("acme-site", "stat -c %Y /proc/1")
    server.succeed("kill -9 $(docker inspect acme-site --format '{{.State.Pid}}')")
    server.wait_until_succeeds(
        "docker inspect acme-site --format '{{.RestartCount}}' | grep -x 1 > /dev/null", timeout=20
    )
    assert in_drone("acme-site", "stat -c %Y /proc/1", within=30) != booted
    assert in_drone("acme-site", "cat /workspaces/site/draft") == "draft\n"
    assert nodes_called("acme-site") == ["acme-site"], nodes_called("acme-site")

with subtest("one that was stopped by hand for longer than Headscale remembers it comes back under its name"):
    server.succeed("docker stop acme-site")
    assert drones() == {"acme/site": "stopped", "acme/stack": "burrowed"}
    gone = "headscale nodes list --output json | jq -e 'map(select(.given_name == \"acme-site\")) == []'"
    tailnet.wait_until_succeeds(gone, timeout=180)
    both("hatchery unburrow acme/site", "hatchery unburrow acme/stack")
    assert drones() == {"acme/site": "running", "acme/stack": "running"}
    for name, file in (("acme-site", "/workspaces/site/draft"), ("acme-stack", "/workspaces/stack/kept")):
        assert in_drone(name, f"cat {file}").strip() in ("draft", "kept")
        assert nodes_called(name) == [name], nodes_called(name)
    kept = "docker exec $(docker ps -q --filter label=com.docker.compose.service=db) cat /var/lib/data/kept"
    assert server.succeed(kept) == "kept\n"

with subtest("slay refuses while work would be lost, and lists it"):
    said = hatchery("slay acme/site", status=1)
    contains(said, "acme-site holds work that exists nowhere else [work-would-be-lost]")
    contains(said, "not committed: ?? draft", "not committed:  M README.md", "hatchery slay --force acme/site")
    git = "git -C /workspaces/site -c user.name=Levin -c user.email=levin@example.test"
    in_drone("acme-site", f"{git} add draft && {git} commit -q -m Drafted && {git} stash -q")
    for state in ("running", "burrowed"):
        assert drones()["acme/site"] == state
        said = hatchery("slay acme/site", status=1)
        contains(said, "not pushed: ", " Drafted", "stashed: stash@{0}: ")
        assert "not committed" not in said, said
        error = error_of("hatchery slay acme/site", 1, "work-would-be-lost")
        assert len(error["details"]) == 2, error
        hatchery("burrow acme/site")
    in_drone_again = hatchery("unburrow acme/site")
    contains(in_drone_again, "acme-site is running.")
    assert in_drone("acme-site", f"{git} stash pop -q && tail -n 1 /workspaces/site/README.md") == "more\n"

with subtest("a drone whose container was removed by hand keeps its work"):
    server.succeed("docker rm -f acme-site")
    assert drones()["acme/site"] == "bare"
    look = f"docker run --rm -v acme-site:/w {IMAGE} cat /w/site/draft"
    contains(hatchery("slay acme/site", status=1), "[work-would-be-lost]", "hatchery slay --force acme/site")
    assert server.succeed(look) == "draft\n", "slay took the work"

with subtest("forced, it is gone; one without work needs no force"):
    contains(hatchery("slay --force acme/site"), "acme-site is gone")
    in_drone("acme-stack", "rm /workspaces/stack/kept")
    contains(hatchery("slay acme/stack"), "acme-stack is gone")
    assert drones() == {}
    nothing_new()

with subtest("what is gone is not found"):
    for verb in ("status", "burrow", "unburrow", "slay"):
        contains(
            hatchery(f"{verb} acme/site", status=3),
            "Your warriors have engaged the enemy. ...just kidding. Drone not found.",
        )

# The programs that a spawn has work for it on the server.
WORKERS = r"^[^ ]*(git|node|docker|docker-compose) |^[^ ]*tailscaled .*userspace"

# What holds a spawn at a step, how to know that it is there, and what lets it go on.
SLOW = {"image": IMAGE, "features": FEATURES, "postCreateCommand": "test -e /tmp/go || exec sleep 4321"}
SLOW_BUILD = {"build": {"dockerfile": "Dockerfile"}, "features": FEATURES}
publish("acme/slow", {"README.md": "slow\n", ".devcontainer/devcontainer.json": SLOW})
dockerfile = f"FROM {IMAGE}\nRUN sleep 4321\n"
publish_devcontainer("acme/slow-build", {"devcontainer.json": SLOW_BUILD, "Dockerfile": dockerfile})
HELD: Sequence[tuple[str, str, Machine, str, str, str]] = (
    ("clone", "acme/site", internet, "github", "pgrep -x git", "egg"),
    ("build", "acme/slow-build", internet, "", "pgrep -fx 'sleep 4321'", "egg"),
    ("create", "acme/plain", tailnet, "headscale", "docker ps -a --filter status=created | grep acme-plain", "egg"),
    ("lifecycle command", "acme/slow", tailnet, "", "pgrep -fx 'sleep 4321'", "egg"),
)
take_inventory()

for step, repository, machine, unit, there, state in HELD:
    with subtest(f"killed during {step}: at worst an egg"):
        if unit:
            machine.succeed(f"systemctl kill --signal=STOP {unit}")
        server.succeed(f"hatchery spawn {repository} > /root/said.{step.split()[0]} 2>&1 &")
        server.wait_until_succeeds(there, timeout=60)
        server.succeed(f"pkill -KILL -fx 'hatchery spawn {repository}'")
        if unit:
            machine.succeed(f"systemctl kill --signal=CONT {unit}")
        server.wait_until_fails(f"ps -eo args= | grep -E '{WORKERS}'", timeout=20)
        assert drones() == ({repository: state} if state else {}), drones()
        if state:
            contains(hatchery("list"), "egg", f"hatchery spawn {repository}")
            for verb in ("burrow", "unburrow"):
                contains(hatchery(f"{verb} {repository}", status=3), "is an egg: its spawn or slay did not finish")
        if repository in ("acme/plain", "acme/site"):
            said = hatchery(f"spawn {repository}")
            contains(said, "Spawning drone... Hatchery ready.", f"ssh -p 2222 vscode@{repository.replace('/', '-')}.")
            assert ("Removing the egg" in said) == bool(state), said
            assert in_drone(repository.replace("/", "-"), "id -un") == "vscode\n"
        if drones():
            contains(hatchery(f"slay {repository}"), "is gone")
        nothing_new()

# What a build leaves: the bytes of the engine's cache, and images without a name.
CACHED = "curl -sS --unix-socket /var/run/docker.sock http://docker/system/df | jq '[.BuildCache[]?.Size] | add // 0'"
NAMELESS = "docker images --all --quiet --filter dangling=true | sort -u"
# A feature's programs alone are 44 MB.
LITTLE = 1_000_000

with subtest("spawned again, it leaves no more in Docker than the first time"):
    left: list[tuple[int, str]] = []
    for _ in range(3):
        hatchery("spawn acme/plain")
        hatchery("slay acme/plain")
        left.append((int(server.succeed(CACHED)), server.succeed(NAMELESS)))
    server.log(f"the cache's size after each slay: {[size for size, _ in left]}")
    grown = left[-1][0] - left[0][0]
    # Without buildx, Docker's command finds a copy by its path, which the devcontainer CLI makes anew.
    if server.execute("docker buildx version")[0] == 0:
        assert grown < LITTLE, f"two further spawns added {grown} bytes to the build cache"
    else:
        server.log(f"no buildx: two further spawns added {grown} bytes to the build cache")
    assert left[-1][1] == left[0][1], f"images without a name: {left}"
    nothing_new()
