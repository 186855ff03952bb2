"""What is due after each start of a drone: postStartCommand, and the way in past the firewall that it may set up.
And what is kept of what a spawn and the starts have said."""

import json
import re

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
# What a terminal would obey; the BEL is seen as U+FFFD, the sequence that clears the screen is left out.
HOSTILE = "\\033[2J%s\\007\\n"
SERVICES = {
    "app": {"image": IMAGE, "command": "sleep infinity", "volumes": ["../..:/workspaces"]},
    "db": {
        "image": IMAGE,
        "init": True,
        "command": [
            "sh",
            "-c",
            f"printf '{HOSTILE}' up; until test -e /tmp/say; do sleep 0.1; done; echo later; exec sleep 4329",
        ],
    },
}
LOGS_OF = "/var/lib/hatchery/logs"
# Follows the spawn as soon as there is something to follow.
FOLLOWS = "until hatchery logs --spawn --follow starts/late > /root/followed 2> /dev/null; do sleep 0.1; done"


def starts() -> str:
    """What was written down at each start."""
    return server.succeed("docker exec starts-plain cat /home/vscode/starts")


def state_of(name: str) -> dict[str, object]:
    """What list says of a drone."""
    said: list[dict[str, object]] = json.loads(server.succeed("hatchery list --json"))
    return next(drone for drone in said if drone["repository"] == f"starts/{name}")


def of_terminal(command: str) -> str:
    """What this shows on a terminal of 80 columns."""
    return server.succeed(f"script -qec 'stty cols 80; TERM=xterm {command}' /dev/null < /dev/null")


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
            "postCreateCommand": f"echo 'export TOOL=of-the-shell' >> /home/vscode/.profile; printf '{HOSTILE}' made",
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
# Held until somebody says go; what the second prints is long.
publish_devcontainer(
    "starts/held",
    {"devcontainer.json": {"image": IMAGE, "postCreateCommand": "until test -e /tmp/go; do sleep 0.1; done; seq 9"}},
)
publish_devcontainer(
    "starts/asked",
    {"devcontainer.json": {"image": IMAGE, "postCreateCommand": "exec sleep 4330"}},
)
publish_devcontainer(
    "starts/setup",
    {
        "devcontainer.json": {
            "image": IMAGE,
            "postCreateCommand": {"web": "seq 99999; test -e ~/fixed || exit 7", "other": "true"},
            "postStartCommand": "echo started >> ~/started",
        }
    },
)
compose = {"dockerComposeFile": "compose.yml", "service": "app", "workspaceFolder": "/workspaces/stack"}
publish_devcontainer("starts/stack", {"devcontainer.json": compose, "compose.yml": {"services": SERVICES}})
dockerfile = f"FROM {IMAGE}\nRUN echo 'the larva refuses to morph' >&2; exit 42\n"
broken = {"build": {"dockerfile": "Dockerfile"}}
publish_devcontainer("starts/broken", {"devcontainer.json": broken, "Dockerfile": dockerfile})
# A terminal that is lost, and one that nobody needs any more.
server.succeed(
    "script -qc 'hatchery spawn starts/held' /dev/null < /dev/null > /root/said.held 2>&1 &",
    "rm -f /root/keys; mkfifo /root/keys; (exec sleep 4331 > /root/keys) > /dev/null 2>&1 &",
    "(script -qec 'hatchery spawn starts/asked' /dev/null < /root/keys > /root/said.asked 2>&1 || "
    "echo $? > /root/status.asked) > /dev/null 2>&1 &",
    "script -qec 'hatchery spawn --detach starts/setup' /dev/null < /dev/null > /root/said.setup",
)
contains(
    server.succeed("cat /root/said.setup"),
    "starts-setup is being created. `hatchery logs --spawn --follow starts-setup` shows its progress.",
)
DRONES = ("plain", "wall", "late", "fails", "stack")
server.succeed(
    " ".join(
        f"(status=0; hatchery spawn starts/{name} > /root/said.{name} 2>&1 || status=$?; echo $status > /root/status.{name}) &"
        for name in (*DRONES, "broken")
    )
    + f" ({FOLLOWS}) & wait",
    timeout=300,
)
for name in DRONES:
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
    contains(told, "`hatchery rerun starts/fails`")
    assert drones()["starts/fails"] == "running", drones()
    assert firewall("fails") is None

with subtest("a spawn whose terminal is lost goes on"):
    server.wait_until_succeeds("hatchery logs --spawn starts/held | grep -x 'Running postCreateCommand'", timeout=60)
    assert state_of("held")["under_way"] == "spawn", state_of("held")
    contains(" ".join(hatchery("list").split()), "spawn in progress", "hatchery logs --spawn --follow starts/held")
    server.succeed("pkill -KILL -f '^script .*starts/held'")
    said = "hatchery logs --spawn starts/held | grep -x 'The terminal has closed; hatchery continues without it.'"
    server.wait_until_succeeds(said, timeout=10)
    assert state_of("held")["state"] == "egg", state_of("held")
    server.succeed("docker exec starts-held touch /tmp/go", "hatchery logs --spawn --follow starts/held | grep -x done")
    assert (state_of("held")["state"], state_of("held")["under_way"]) == ("running", None), state_of("held")

with subtest("where somebody has worked, Ctrl-C asks whether the drone may go, and keeps what exists nowhere else"):
    server.wait_until_succeeds("docker exec starts-asked pgrep -fx 'sleep 4330'", timeout=60)
    server.succeed(
        "docker exec -u vscode starts-asked sh -c 'echo mine > /workspaces/asked/mine'", "printf '\\003' > /root/keys"
    )
    question = "Remove starts-asked anyway, and keep a copy on this server of work that exists nowhere else?"
    server.wait_until_succeeds(f"grep -q '{question}' /root/said.asked", timeout=60)
    contains(server.succeed("cat /root/said.asked"), "not committed: ?? mine")
    server.succeed("printf 'y\\n' > /root/keys")
    server.wait_until_succeeds("grep -x 130 /root/status.asked", timeout=60)
    server.succeed("pkill -fx 'sleep 4331'")
    assert "starts/asked" not in drones(), drones()
    server.succeed("ls /var/lib/hatchery/remains | grep '^starts-asked-'")

with subtest("one that was detached told in its log what it would have said"):
    said = server.succeed("hatchery logs --spawn --follow starts/setup")
    contains(said, "web of postCreateCommand failed with exit code 7\n", "its setup failed", "[lifecycle-failed]\n")
    contains(error_of("hatchery spawn --detach starts/setup", 4, "drone-exists")["message"], "already has a drone")

with subtest("a list fits the terminal, has colour there and nowhere else, and is looked at again and again"):
    assert "\x1b" not in server.succeed("hatchery list") and "\x1b" not in of_terminal("NO_COLOR=1 hatchery list")
    contains(server.succeed("hatchery list").splitlines()[0], "NAME", "REPOSITORY", "USER", "COMMAND")
    listed = of_terminal("hatchery list")
    contains(listed, "\x1b[32mrunning\x1b[0m", "\x1b[33mrunning\x1b[0m", "postCreate failed")
    shown = re.sub(r"\x1b\[[0-9]*m", "", listed).splitlines()
    assert len(shown) == 1 + len(drones()) and all(len(line) <= 80 for line in shown), shown
    contains(shown[0], "NAME", "STATE", "DISK", "WORK", "DETAILS")
    server.succeed("script -qec 'hatchery list --watch' /root/watched < /dev/null > /dev/null 2>&1 &")
    server.wait_until_succeeds("test $(grep -c 'Press Ctrl-C to stop' /root/watched) -ge 2", timeout=20)
    server.succeed("pkill -INT -fx 'hatchery list --watch'")
    server.wait_until_succeeds("grep 'COMMAND_EXIT_CODE=\"0\"' /root/watched", timeout=10)
    contains(error_of("hatchery list --watch", 2, "usage")["message"], "cannot be used with")
    server.succeed("set -o pipefail; hatchery list | head -n 1; hatchery completions bash | head -n 1")
    for command in ("list", "list --json", "completions zsh"):
        contains(server.fail(f"hatchery {command} 2>&1 > /dev/full"), "[host-failed]")

with subtest("the shell knows the drones, and man the verbs"):
    tab = "source <(hatchery completions bash); _clap_complete_hatchery hatchery starts-s status; echo ${COMPREPLY[@]}"
    typed = "COMP_WORDS=(hatchery status starts-s) COMP_CWORD=2 COMP_TYPE=9"
    assert server.succeed(f"bash -c '{typed}; {tab}'") == "starts-setup starts-stack\n"
    server.succeed("cd /usr/local/share; grep -q rerun man/man1/hatchery-rerun.1; test -s man/man1/hatchery.1")
    server.succeed("cd /usr/local/share; cmp <(hatchery completions bash) bash-completion/completions/hatchery")

with subtest("a setup that failed is told of, and goes on once what it failed for is there"):
    state = state_of("setup")
    assert state["state"] == "running", state
    assert state["setup"] == [
        {"command": "postCreateCommand", "state": "failed", "which": "web of postCreateCommand", "status": 7},
        {"command": "postStartCommand", "state": "not-run"},
    ], state["setup"]
    contains(hatchery("list"), "postCreate failed, Up ")
    assert state["user"] == "vscode" and state["workspace"] == "/workspaces/setup", state
    assert state["ssh"] == f"ssh -p 2222 vscode@starts-setup.{DOMAIN}", state
    contains(
        hatchery("status starts/setup"),
        "web of postCreateCommand failed with exit status 7, postStartCommand was not run; "
        "`hatchery rerun starts/setup` runs it",
    )
    said = hatchery("rerun starts/setup", status=1)
    contains(said, "Running postCreateCommand\n", "\n99999\n", "web of postCreateCommand of starts-setup failed with")
    contains(said, "exit status 7 [lifecycle-failed]")
    server.fail("docker exec starts-setup test -e /home/vscode/started")
    server.succeed("docker exec -u vscode starts-setup touch /home/vscode/fixed")
    done = json.loads(server.succeed("hatchery rerun starts/setup --json"))["done"]
    assert done == ["postCreateCommand", "postStartCommand"], done
    assert state_of("setup")["setup"] == [], state_of("setup")
    assert "setup" not in hatchery("status starts/setup").replace("starts-setup", "").replace("starts/setup", "")
    hatchery("rerun starts/setup postStart")
    assert server.succeed("docker exec starts-setup cat /home/vscode/started") == "started\n" * 2
    contains(error_of("hatchery rerun starts/setup", 2, "usage")["hint"], "postCreate, postStart")
    contains(error_of("hatchery rerun starts/setup onCreate", 2, "usage")["message"], "has no onCreateCommand")
    contains(server.succeed("hatchery logs --spawn starts/setup"), "\nrerun of starts/setup\n", "  | 99999\n")

with subtest("all that spawns and starts have said is kept, for the group alone"):
    said = server.succeed("hatchery logs --spawn starts/plain")
    contains(said, "spawn of starts/plain\n", "\nRunning postCreateCommand\n", "\n  | made\ufffd\n", "\ndone\n")
    assert "\x1b" not in said and "\x07" not in said, said
    contains(told, "`hatchery logs --spawn starts/fails` shows its whole output")
    said = server.succeed("hatchery logs --spawn starts-fails --tail 3")
    assert said == (
        "  | it is broken\n  | postStartCommand ended with status 3\n"
        "starts-fails is running, but its postStartCommand failed [lifecycle-failed]\n"
    ), said
    lines = [json.loads(line) for line in server.succeed("hatchery logs --spawn starts-fails --json").splitlines()]
    assert lines[-3]["stream"] == "output" and lines[-3]["text"] == "it is broken", lines
    assert lines[-1]["stream"] == "hatchery" and lines[-1]["time"] > lines[0]["time"] > "2026", lines
    assert set(server.succeed(f"stat -c '%a %U:%G' {LOGS_OF}/starts-fails/*").splitlines()) == {"640 root:hatchery"}
    server.succeed(
        f"grep -qx '20[^ ]*Z | it is broken' {LOGS_OF}/starts-fails/*",
        "set -o pipefail; hatchery logs --spawn starts/plain | head -n 1",
    )
    server.fail("hatchery logs --spawn starts/plain > /dev/full")

with subtest("a spawn that is under way is followed until it ends"):
    said = server.succeed("cat /root/followed")
    contains(said, "spawn of starts/late\n", "\nRunning postStartCommand\n")
    assert said.endswith("\ndone\n"), said

with subtest("a failed build names what it has said, which is there although the drone is gone, for some days"):
    assert server.succeed("cat /root/status.broken") == "1\n"
    said = server.succeed("cat /root/said.broken")
    contains(said, "[build-failed]", "`hatchery logs --spawn starts-broken` shows the whole output", "was undone")
    assert "starts/broken" not in drones()
    server.succeed("hatchery recover")
    said = server.succeed("hatchery logs --spawn starts/broken")
    contains(said, "Building the image", "the larva refuses to morph", "[build-failed]")
    server.succeed(f"find {LOGS_OF}/starts-broken {LOGS_OF}/starts-late -exec touch -d '8 days ago' {{}} +")
    server.succeed("hatchery recover", f"test ! -e {LOGS_OF}/starts-broken", f"test -e {LOGS_OF}/starts-late")

with subtest("what the services of a compose file write is shown by name, without what a terminal obeys"):
    said = server.succeed("hatchery logs starts/stack")
    server.log(said)
    assert "db  | up\ufffd" in said.splitlines() and "\x1b" not in said, said
    assert server.succeed("hatchery logs starts/stack --service db") == "up\ufffd\n"
    assert "up" not in server.succeed("hatchery logs starts/stack --service app").split()
    line = json.loads(server.succeed("hatchery logs starts/stack --service db --json"))
    assert (line["service"], line["stream"], line["text"]) == ("db", "stdout", "\x1b[2Jup\x07"), line
    assert error_of("hatchery logs starts/stack --service web", 2, "usage")["hint"].startswith("its services are "), (
        line
    )

with subtest("what is written later is shown to who follows, until the containers end"):
    follow = "hatchery logs --follow --timestamps starts/stack"
    server.succeed(f"({follow} > /root/followed; echo $? > /root/status.followed) < /dev/null > /dev/null 2>&1 &")
    server.wait_until_succeeds("grep up /root/followed", timeout=10)
    assert "later" not in server.succeed("cat /root/followed")
    server.succeed(f"docker exec {compose_container('starts-stack', 'db')} touch /tmp/say")
    server.wait_until_succeeds("grep -x '20[^ ]*Z db  | later' /root/followed", timeout=10)
    assert server.succeed("hatchery logs starts/stack --service db --tail 1") == "later\n"
    server.succeed("hatchery burrow starts/stack")
    server.wait_until_succeeds("grep -x 0 /root/status.followed", timeout=20)
    contains(server.succeed("hatchery logs starts/stack --service db"), "later")

with subtest("a firewall of the drone's own lets a person in, at its spawn and at each start"):
    is_walled("wall")
    marked = "docker exec starts-wall iptables -nvxL OUTPUT | awk '/mark match/ { print ($1 > 0) }'"
    assert server.succeed(marked) == "1\n", "tailscaled's own packets have their mark"
    server.succeed("hatchery burrow starts/wall", "hatchery unburrow starts/wall")
    is_walled("wall")

with subtest("status says that it keeps a person out"):
    server.succeed(f"docker exec starts-wall {CLOSES}")
    assert firewall("wall") == "closed"
    contains(server.succeed("hatchery status starts/wall"), "own firewall blocks ssh from the tailnet")
    assert not gets_in("wall")

with subtest("one that is closed when nobody waits any more is opened soon"):
    contains(server.succeed("cat /root/said.late"), "postStartCommand is still running in the drone")
    server.succeed("docker exec starts-late touch /tmp/close")
    server.wait_until_succeeds("docker exec starts-late iptables -S | grep -x -e '-A OUTPUT -j REJECT.*'", timeout=60)
    assert not gets_in("late")
    server.succeed("hatchery recover")
    is_walled("late")

for name in (*DRONES, "held", "setup"):
    server.succeed(f"hatchery slay --force starts/{name}", f"test ! -e {LOGS_OF}/starts-{name}")
contains(hatchery("logs --spawn starts/plain", status=3), "there is no output of a spawn of starts-plain")
