"""A week with one drone and an agent in it, on server and laptop: nobody falls back on docker or on a note."""

import json
import re

BARE = "/srv/github/git/acme/den.git"
DEN = "/workspaces/den"
BASE = "ghcr.io/acme/week:1"
JSON = ".devcontainer/devcontainer.json"
# A server for development that writes whom it runs as, and does not end.
SERVE = (
    "echo $(id -un) > /tmp/served; exec python3 -m http.server 8000 --bind 0.0.0.0 --directory /tmp > /dev/null 2>&1"
)
CONFIGURATION = {
    "image": BASE,
    "features": FEATURES,
    "postCreateCommand": 'test -n "$AGENT_KEY" && date > ~/of-the-setup',
    "postStartCommand": f"nohup sh -c '{SERVE}' &",
    "forwardPorts": [8000],
    "portsAttributes": {"8000": {"label": "site"}},
}
SERVED = f"curl -sf http://acme-den.{DOMAIN}:8000/served"
MINE = f"cd {DEN}; git log -1 --format=%s; cat draft; git stash list | wc -l"
THERE = "Monday\ndraft\n1\n"
CONFIG = """
[git]
name = "Sarah Kerrigan"
email = "sarah@example.test"
[limits]
idle = "10m"
[devcontainer]
env_file = "/root/agent.env"
home = [".claude"]
"""


def base(version: str) -> None:
    """The base image of this version is what its name means from now on."""
    server.succeed(
        f"docker build -q -t {BASE} - <<'END'\nFROM {IMAGE}\nRUN echo {version} > /etc/base\nEND",
        f"docker push -q {BASE}",
        f"docker rmi {BASE}",
    )


def tip(reference: str) -> str:
    return internet.succeed(f"git -c safe.directory='*' -C {BARE} rev-parse {reference}").strip()


def container() -> str:
    identity: str = docker_inspect("acme-den")["Id"]
    return identity


start_and_wait()
laptop_trusts_drones()
stop_recovery()
internet.succeed(f"rm -rf /root/den.git; cp -a {BARE} /root/den.git")
commit_at("acme/den", "refs/heads/feature", "main", {JSON: json.dumps(CONFIGURATION, indent=2)})
internet.succeed(f"git -c safe.directory='*' -C {BARE} update-ref refs/pull/12/head refs/heads/feature")
base("first")
server.succeed("cp -p /etc/hatchery/config.toml /root/config.toml", "echo AGENT_KEY=A-sting > /root/agent.env")
server.succeed(f"base64 -d >> /etc/hatchery/config.toml <<< {encoded(CONFIG)}")

with subtest("Monday: a pull request is opened by its URL, and a commit goes back to it, with nothing set up"):
    said = hatchery("spawn https://github.com/acme/den/pull/12")
    contains(said, "Spawning drone... Hatchery ready.", f"ssh -p 2222 vscode@acme-den.{DOMAIN}")
    assert in_drone("acme-den", f"cd {DEN}; git branch --show-current; cat /etc/base") == "feature\nfirst\n"
    on("acme-den", f"cd {DEN}; git commit -q --allow-empty -m Monday; git push -q")
    assert in_drone("acme-den", f"git -C {DEN} log -1 --format='%an <%ae>'") == "Sarah Kerrigan <sarah@example.test>\n"
    assert tip("feature") == in_drone("acme-den", f"git -C {DEN} rev-parse HEAD").strip()
    laptop.wait_until_succeeds(SERVED, timeout=20)
    shown = hatchery("ports acme-den")
    contains(shown, f"http://acme-den.{DOMAIN}:8000", "site")

with subtest("Tuesday: the agent has its key and logs in; two of them work in worktrees of their own"):
    assert in_drone("acme-den", "echo $AGENT_KEY") == "A-sting\n"
    assert server.succeed("hatchery exec acme-den -- sh -c 'echo $AGENT_KEY'") == "A-sting\n"
    server.fail("docker inspect acme-den | grep A-sting")
    on("acme-den", "echo logged in > ~/.claude/login")
    on("acme-den", f"cd {DEN}; git worktree add -q ../one -b one; git worktree add -q ../two -b two")
    agent = "cd {0}; for n in 1 2 3; do echo $n > {1}; git add {1}; git commit -q -m {1}$n; done"
    both = " & ".join(f"({agent.format(f'/workspaces/{name}', name)})" for name in ("one", "two"))
    on("acme-den", f"{both} & wait")
    assert in_drone("acme-den", f"cd {DEN}; git rev-list --count HEAD..one; git rev-list --count HEAD..two") == "3\n3\n"
    on("acme-den", f"cd {DEN}; echo stashed >> README.md; git stash -q; echo draft > draft")

with subtest("Wednesday: the configuration changes and the drone with it, and all work is there"):
    first = container()
    changed = {**CONFIGURATION, "containerEnv": {"DAY": "Wednesday"}}
    on("acme-den", f"base64 -d > {DEN}/{JSON} <<< {encoded(json.dumps(changed, indent=2))}")
    said = hatchery("rebuild --yes acme-den")
    contains(said, "Wednesday", "acme-den is rebuilt and kept its volume acme-den")
    assert container() != first
    assert in_drone("acme-den", f"echo $DAY; {MINE}") == f"Wednesday\n{THERE}"
    assert in_drone("acme-den", "cat ~/.claude/login; ls /workspaces") == "logged in\nden\none\ntwo\n"
    laptop.wait_until_succeeds(SERVED, timeout=20)

with subtest("Thursday: Docker was pruned, and the base image is another one"):
    server.succeed("docker stop --time 1 acme-den; docker container prune --force; docker image prune --all --force")
    assert drones() == {"acme/den": "bare"}
    contains(hatchery("spawn acme/den", status=4), "`hatchery rebuild acme/den` creates")
    base("second")
    hatchery("rebuild acme-den")
    assert in_drone("acme-den", f"cat /etc/base; {MINE}") == f"second\n{THERE}"
    # Its tokens are for one more repository from now on.
    hatchery("rebuild --yes acme-den --repo acme/gears")
    token = "curl -sS --unix-socket /var/run/github-creds.sock http://localhost/token?repo=acme/gears"
    assert in_drone("acme-den", token).startswith("ghs_")
    assert in_drone("acme-den", f"cat ~/.claude/login; {MINE}") == f"logged in\n{THERE}"

with subtest("Friday: an agent computes through the night and is left alone; when it is done, the drone sleeps"):
    server.wait_until_succeeds("test $(cut -d. -f1 /proc/uptime) -gt 700", timeout=700)
    server.succeed("docker exec --detach --user vscode acme-den sh -c 'while :; do :; done'")
    quiet_for(601)
    server.wait_until_succeeds("hatchery list --json | jq -e '.[].cpu_percent > 1'", timeout=20)
    hatchery("recover")
    assert drones() == {"acme/den": "running"}
    server.succeed("docker exec --user root acme-den pkill -f '^sh -c while'")
    quiet_for(601)
    contains(hatchery("recover"), "acme-den: burrowed, because it was idle for limits.idle")
    contains(hatchery("list"), "burrowed: idle for ")
    server.fail("docker ps | grep acme-den")
    assert "acme-den" not in nodes()
    hatchery("unburrow acme-den")
    assert in_drone("acme-den", MINE) == THERE
    laptop.wait_until_succeeds(SERVED, timeout=20)

with subtest("Saturday: the server is started again, and the drone is as it was, its own server too"):
    server.reboot()
    server.wait_for_unit("docker.service")
    assert in_drone("acme-den", MINE, within=180) == THERE
    laptop.wait_until_succeeds(SERVED, timeout=180)
    assert in_drone("acme-den", "echo $AGENT_KEY; cat ~/.claude/login") == "A-sting\nlogged in\n"
    stop_recovery()

with subtest("Sunday: it is slain, with work in five places, and all of it comes back"):
    on("acme-den", f"cd {DEN}; git commit -q --allow-empty -m Sunday; mkdir ../loose; echo loose > ../loose/file")
    said = hatchery("slay acme-den", status=1)
    contains(said, "[work-would-be-lost]", " Sunday", "not committed: ", "one3", "two3", "loose")
    assert re.search(r"stash", said), said
    gone = json.loads(server.succeed("hatchery --json slay --force acme-den 2> /dev/null"))
    kept = gone["remains"]
    assert drones() == {}
    server.succeed("rm -rf /home/overlord/back; install -d -o overlord /home/overlord/back")
    server.succeed(f"sed -n 's/^    //p' {kept}/README.txt > /home/overlord/commands")
    # In the place of the person's own login at GitHub: what they would clone.
    all_of_it = internet.succeed(f"git -c safe.directory='*' -C {BARE} bundle create -q - --all | base64 -w 0")
    server.succeed(f"base64 -d > /home/overlord/den.bundle <<< {all_of_it}")
    login = "GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=url./home/overlord/den.bundle.insteadOf"
    login += " GIT_CONFIG_VALUE_0=https://github.com/acme/den"
    server.succeed(f"cd /home/overlord/back && {MEMBER} {login} bash -eux ../commands")
    back = server.succeed("ls -d /home/overlord/back/[0-9]*-den").strip()
    git = f"{MEMBER} git -C {back}"
    assert server.succeed(f"{git} log -1 --format=%s refs/remains/heads/feature") == "Sunday\n"
    for name in ("one", "two"):
        assert server.succeed(f"{git} log -1 --format=%s refs/remains/heads/{name}") == f"{name}3\n"
    contains(server.succeed(f"{git} stash list"), "stash@{0}")
    assert (
        server.succeed("cat /home/overlord/back/worktree-1-den/draft /home/overlord/back/loose/loose/file")
        == "draft\nloose\n"
    )

server.succeed(
    "rm -rf /home/overlord/back /home/overlord/commands /home/overlord/den.bundle /root/agent.env",
    "cp -p /root/config.toml /etc/hatchery/config.toml",
    f"docker rmi -f {BASE} 2> /dev/null || true",
)
internet.succeed(f"rm -rf {BARE}; mv /root/den.git {BARE}")
# Not all that is new is a drone's: the server was started again.
server.fail("docker ps --all --quiet | grep .")
server.fail("docker volume ls --quiet | grep den")
server.fail("ls /var/lib/hatchery/drones | grep .")
