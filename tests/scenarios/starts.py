"""What is due after each start of a drone: postStartCommand, and the way in past the firewall that it may set up."""

import json

# Where it runs, as whom and with what; TOOL is the shell's, MARK is remoteEnv's.
LOGS = 'echo "$(id -un) $PWD $MARK $TOOL ${containerWorkspaceFolder}" >> /home/vscode/starts'
LATER = "vscode /workspaces/plain set-here of-the-shell /workspaces/plain\n"
# The devcontainer CLI has asked the shell before postCreateCommand changed what it sets.
FIRST = LATER.replace("of-the-shell", "")
# What sandboxes for agents do at each start: close everything, then open a list.
WALL = """set -e
bridge=$(ip -4 route show default | awk '{print $3}' | sed 's/[0-9]*$/0\\/24/')
iptables -F; iptables -X; iptables -t nat -F; iptables -t nat -X
iptables -A INPUT -i lo -j ACCEPT; iptables -A OUTPUT -o lo -j ACCEPT
iptables -A INPUT -s "$bridge" -j ACCEPT; iptables -A OUTPUT -d "$bridge" -j ACCEPT
iptables -P INPUT DROP; iptables -P FORWARD DROP; iptables -P OUTPUT DROP
iptables -A INPUT -m state --state ESTABLISHED,RELATED -j ACCEPT
iptables -A OUTPUT -m state --state ESTABLISHED,RELATED -j ACCEPT
iptables -A OUTPUT -j REJECT
"""
CLOSES = "iptables -D INPUT -i tailscale0 -j ACCEPT"
RUN_ARGS = ["--cap-add=NET_ADMIN"]


def starts() -> str:
    """What was written down at each start."""
    return server.succeed("docker exec starts-plain cat /home/vscode/starts")


def firewall(name: str) -> str | None:
    """What status says of a drone's own."""
    said: str | None = json.loads(server.succeed(f"hatchery status starts/{name} --json"))["firewall"]
    return said


def gets_in(name: str) -> bool:
    """Whether a person does, by the tailnet."""
    status, _ = laptop.execute(f"{SSH} -o ConnectTimeout=5 vscode@starts-{name}.{DOMAIN} true")
    return status == 0


def is_walled(name: str) -> None:
    """A person gets in, and the drone gets out nowhere else."""
    in_drone(f"starts-{name}", "true", within=30)
    assert firewall(name) == "open"
    policies = server.succeed(f"docker exec starts-{name} iptables -S | grep -c -e '-P .* DROP'")
    assert policies == "3\n", policies
    refused = "bash -c 'exec 3<>/dev/tcp/198.51.100.7/443' 2>&1"
    contains(server.fail(f"docker exec starts-{name} timeout 5 {refused}"), "refused")


start_and_wait()
stop_recovery()
laptop_trusts_drones()
publish_devcontainer(
    "starts/plain",
    {
        "devcontainer.json": {
            "image": IMAGE,
            "remoteEnv": {"MARK": "set-${containerEnv:PLACE}"},
            "containerEnv": {"PLACE": "here"},
            "postCreateCommand": "echo 'export TOOL=of-the-shell' >> /home/vscode/.profile",
            "postStartCommand": {"logs": LOGS, "nothing": ["true"]},
        }
    },
)
publish_devcontainer(
    "starts/wall",
    {
        "devcontainer.json": {
            "image": IMAGE,
            "runArgs": RUN_ARGS,
            "postStartCommand": "sudo sh .devcontainer/wall.sh",
        },
        "wall.sh": WALL,
    },
)
publish_devcontainer(
    "starts/late",
    {
        "devcontainer.json": {
            "image": IMAGE,
            "runArgs": RUN_ARGS,
            "postStartCommand": "until test -e /tmp/close; do sleep 1; done; sudo sh .devcontainer/wall.sh",
        },
        "wall.sh": WALL,
    },
)
publish_devcontainer(
    "starts/fails",
    {
        "devcontainer.json": {
            "image": IMAGE,
            "postStartCommand": "[ ! -e ~/once ] || { echo it is broken; exit 3; }; touch ~/once",
        }
    },
)
server.succeed(
    " ".join(
        f"(hatchery spawn starts/{name} > /root/said.{name} 2>&1; echo $? > /root/status.{name}) &"
        for name in ("plain", "wall", "late", "fails")
    )
    + " wait",
    timeout=240,
)
for name in ("plain", "wall", "late", "fails"):
    assert server.succeed(f"cat /root/status.{name}") == "0\n", server.succeed(f"cat /root/said.{name}")

with subtest("postStartCommand runs once at each start, as at the first"):
    assert starts() == FIRST, starts()
    server.succeed("hatchery recover", "hatchery unburrow starts/plain")
    assert starts() == FIRST, starts()
    server.succeed("hatchery burrow starts/plain", "hatchery unburrow starts/plain")
    assert starts() == FIRST + LATER, starts()

with subtest("also where Docker has started the drone by itself, or nobody has"):
    server.succeed("docker restart starts-plain", "hatchery recover", "hatchery recover")
    assert starts() == FIRST + LATER * 2, starts()
    server.succeed("docker stop starts-plain", "hatchery recover", "hatchery recover")
    assert starts() == FIRST + LATER * 3, starts()

with subtest("of a drone of an older hatchery nothing is known: it runs at the next start"):
    server.succeed("rm /var/lib/hatchery/drones/starts-plain.start", "hatchery recover")
    assert starts() == FIRST + LATER * 3, starts()
    server.succeed("rm /var/lib/hatchery/drones/starts-plain.start", "hatchery burrow starts/plain")
    server.succeed("hatchery unburrow starts/plain")
    assert starts() == FIRST + LATER * 4, starts()

with subtest("where it fails the drone is awake, and why is told"):
    server.succeed("hatchery burrow starts/fails")
    told = hatchery("unburrow starts/fails", status=1)
    contains(told, "[lifecycle-failed]", "its postStartCommand failed", "it is broken", "ended with status 3")
    assert drones()["starts/fails"] == "running", drones()
    assert firewall("fails") is None

with subtest("a firewall of the drone's own lets a person in, at its spawn and at each start"):
    is_walled("wall")
    marked = "docker exec starts-wall iptables -nvxL OUTPUT | awk '/mark match/ { print ($1 > 0) }'"
    assert server.succeed(marked) == "1\n", "tailscaled's own packets have their mark"
    server.succeed("hatchery burrow starts/wall", "hatchery unburrow starts/wall")
    is_walled("wall")

with subtest("status says that it keeps a person out"):
    server.succeed(f"docker exec starts-wall {CLOSES}")
    assert firewall("wall") == "closed"
    contains(server.succeed("hatchery status starts/wall"), "it keeps ssh from the tailnet out")
    assert not gets_in("wall")

with subtest("one that is closed when nobody waits any more is opened soon"):
    contains(server.succeed("cat /root/said.late"), "postStartCommand still runs in the drone")
    server.succeed("docker exec starts-late touch /tmp/close")
    server.wait_until_succeeds("docker exec starts-late iptables -S | grep -x -e '-A OUTPUT -j REJECT.*'", timeout=60)
    assert not gets_in("late")
    server.succeed("hatchery recover")
    is_walled("late")

for name in ("plain", "wall", "late", "fails"):
    server.succeed(f"hatchery slay --force starts/{name}")
