"""A drone's limits change while it runs, one that nobody needs goes to sleep, and what is known is told."""

import json
import re
from typing import Any

GIB = 1 << 30
SITE = "/workspaces/site"


def limits(arguments: str = "") -> dict[str, Any]:
    """What `limit` says of acme/site, after these arguments."""
    said: dict[str, Any] = json.loads(server.succeed(f"hatchery limit acme/site {arguments} --json"))
    return said


def stays() -> None:
    """Another look finds something at work in acme/site, or does not burrow it."""
    said = hatchery("recover")
    last_look(0, 0)
    assert drones()["acme/site"] == "running" and "idle" not in said, said


def set_configuration(text: str) -> None:
    """What the configuration has in addition."""
    server.succeed(f"(cat /root/config.toml; base64 -d <<< '{encoded(text)}') > /etc/hatchery/config.toml")


start_and_wait()
laptop_trusts_drones()
stop_recovery()
server.succeed("cp -p /etc/hatchery/config.toml /root/config.toml")
take_inventory()
set_configuration('\n[limits]\nidle = "10m"\n[metrics]\nfile = "/root/hatchery.prom"\n[git]\nsign = true\n')
hatchery("spawn acme/site")
hatchery("spawn acme/stack")

with subtest("commits are signed by a key of the drone's own, which status names"):
    key = json.loads(server.succeed("hatchery status acme/site --json"))["signing_key"]
    assert key.startswith("ssh-ed25519 "), key
    contains(hatchery("status acme/site"), key)
    commit = f"cd {SITE}; git {GIT_AUTHOR} commit -q --allow-empty -m Signed"
    shown = on(
        "acme-site",
        f"{commit}; git log -1 --show-signature 2>&1; git {GIT_AUTHOR} tag -s v1 -m v1; git verify-tag v1 2>&1",
    )
    assert shown.count('Good "git" signature for * with ED25519 key') == 2, shown
    # As anybody else checks it, who knows no more than what status has said.
    signed = on("acme-site", f"cd {SITE}; git bundle create -q - HEAD | base64 -w 0")
    server.succeed(
        "rm -rf /root/checked; git init -q /root/checked",
        f"base64 -d > /root/bundle <<< {signed}; git -C /root/checked fetch -q /root/bundle HEAD",
        f"echo '* {key}' > /root/signers",
        "git -C /root/checked -c gpg.ssh.allowedSignersFile=/root/signers verify-commit FETCH_HEAD",
    )
    other = json.loads(server.succeed("hatchery status acme/stack --json"))["signing_key"]
    assert other != key
    server.succeed(f"echo '* {other}' > /root/signers")
    server.fail("git -C /root/checked -c gpg.ssh.allowedSignersFile=/root/signers verify-commit FETCH_HEAD")
    assert on("acme-site", "stat -c '%U %a' /etc/ssh/hatchery/signing_key") == "vscode 600\n"

with subtest("status names the other containers of a compose project"):
    status = json.loads(server.succeed("hatchery status acme/stack --json"))
    assert status["siblings"] == [{"service": "db", "state": "running", "health": None}], status["siblings"]
    assert re.search(r"^siblings +db \(running\)$", hatchery("status acme/stack"), re.M)
    server.succeed(f"docker stop --time 1 {compose_container('acme-stack', 'db')}")
    contains(hatchery("status acme/stack"), "db (exited)")

if server.succeed("docker info --format '{{.MemoryLimit}}'").strip() != "true":
    server.log("skipped: Docker on this machine cannot limit memory")
else:
    with subtest("limits change while a drone runs, without a restart"):
        before = docker_inspect("acme-site")
        assert limits()["own"] == {"memory": None, "cpus": None, "pids": None, "idle": None}
        changed = limits("--memory 3GiB --cpus 0.5 --pids 600 --idle 8h")
        assert changed["limits"] == {"memory": 3 * GIB, "cpus": 0.5, "pids": 600, "idle": 8 * 3600}, changed
        now = docker_inspect("acme-site")
        assert now["State"]["StartedAt"] == before["State"]["StartedAt"]
        host = now["HostConfig"]
        assert (host["Memory"], host["NanoCpus"], host["PidsLimit"]) == (3 * GIB, 500_000_000, 600), host
        assert host["MemorySwap"] in (3 * GIB, -1, 0), host
        # As the kernel has it.
        known = json.loads(server.succeed("hatchery status acme/site --json"))["memory"]
        assert known["limit"] == 3 * GIB, known
        shown = hatchery("limit acme/site")
        assert re.search(r"^memory +3\.0 GiB, set for this drone\ncpus +0\.5, set", shown, re.M), shown
        assert limits("--memory 2GiB")["own"]["cpus"] == 0.5

    with subtest("the siblings have the same, and another drone has not"):
        hatchery("limit acme/stack --memory 2GiB")
        for service in ("app", "db"):
            container = docker_inspect(compose_container("acme-stack", service))
            assert container["HostConfig"]["Memory"] == 2 * GIB, service
        assert limits("--memory 1500MiB")["own"]["memory"] == 1500 << 20
        assert limits("--memory 2GiB --pids 600")["limits"]["pids"] == 600

    with subtest("what cannot be is refused, and nothing has changed"):
        for arguments, part in (
            ("--memory 1MiB", "--memory must be at least 64MiB"),
            ("--memory 900TiB", "this server has only"),
            ("--cpus 100000", "processors"),
            ("--cpus 0", "--cpus must be more than 0"),
            ("--cpus 0.001", "--cpus must be at least 0.01"),
            ("--pids 5000000", "--pids must be at most"),
            ("--pids 3", "--pids must be at least 16"),
            ("--idle 1m", "--idle must be at least 10m"),
            ("--memory lots", "write it as a size"),
        ):
            contains(error_of(f"hatchery limit acme/site {arguments}", 2, "usage")["message"], part)
        fill = "python3 -c 'import time; filled = b\"x\" * (300 << 20); time.sleep(600)'"
        server.succeed(f"docker exec --detach acme-site {fill}")
        used = "hatchery status acme/site --json | jq -e '.memory.in_use > 300 * 1024 * 1024'"
        server.wait_until_succeeds(used, timeout=30)
        contains(
            error_of("hatchery limit acme/site --memory 256MiB", 5, "limit-reached")["message"],
            "currently uses ",
            " of memory, which is more than the new limit",
        )
        server.succeed("pkill -f '[f]illed = b'")
        error_of("hatchery limit acme/nowhere", 3, "drone-not-found")
        assert limits()["limits"]["memory"] == 2 * GIB

    with subtest("a sibling that has outgrown them is named, and what was set otherwise stays"):
        database = compose_container("acme-stack", "db")
        server.succeed(f"docker start {database}", f"docker exec --detach {database} {fill}")
        fuller = f"test $(docker stats --no-stream --format '{{{{.MemPerc}}}}' {database} | cut -d. -f1) -ge 14"
        server.wait_until_succeeds(fuller, timeout=30)
        message = error_of("hatchery limit acme/stack --memory 256MiB", 5, "limit-reached")["message"]
        contains(message, "db of acme-stack currently uses ")
        assert docker_inspect("acme-stack")["HostConfig"]["Memory"] == 2 * GIB
        server.succeed("pkill -f '[f]illed = b'", "docker update --memory 3g --memory-swap 3g acme-site > /dev/null")
        assert limits("--pids 601")["limits"] == {"memory": 3 * GIB, "cpus": 0.5, "pids": 601, "idle": 8 * 3600}
        assert limits("--memory 2GiB")["limits"]["memory"] == 2 * GIB

    with subtest("a rebuild keeps them, and --reset takes those of the configuration"):
        hatchery("rebuild --yes acme/site")
        host = docker_inspect("acme-site")["HostConfig"]
        assert (host["Memory"], host["NanoCpus"], host["PidsLimit"]) == (2 * GIB, 500_000_000, 601), host
        assert json.loads(server.succeed("hatchery status acme/site --json"))["signing_key"] == key
        back = limits("--reset --pids 700")
        assert back["own"] == {"memory": None, "cpus": None, "pids": 700, "idle": None}, back
        assert docker_inspect("acme-site")["HostConfig"]["Memory"] == 8 * GIB
        assert limits("--reset")["limits"]["idle"] == 600

# The server's clock begins when it does, and nothing can have been idle for longer.
server.wait_until_succeeds("test $(cut -d. -f1 /proc/uptime) -gt 700", timeout=700)

hatchery("limit acme/stack --idle never")

with subtest("a drone in which something is at work is left alone"):
    quiet_for(590)
    stays()
    quiet_for(601)
    on("acme-site", "timeout 3 sh -c 'while :; do :; done' || true")
    stays()
    laptop.succeed(f"{SSH} vscode@acme-site.{DOMAIN} sleep 4401 > /dev/null 2>&1 &")
    server.wait_until_succeeds("docker exec acme-site pgrep -fx 'sleep 4401'", timeout=20)
    quiet_for(601)
    stays()
    server.succeed("docker exec acme-site pkill -fx 'sleep 4401'")
    laptop.wait_until_fails("pgrep -f '[s]leep 4401'", timeout=20)

with subtest("a browser at a port of it is company, a connection of its own to itself is none"):
    serve = "import socket, time; s = socket.create_server(('', 8123)); k = [s.accept() for _ in range(2)]; time.sleep(4404)"
    server.succeed(f'docker exec --detach acme-site python3 -c "{serve}"')
    connect = "import socket, time; s = socket.create_connection(('{}', 8123)); time.sleep(4402)"
    server.wait_until_succeeds("docker exec acme-site grep -q ':1FBB .* 0A ' /proc/net/tcp", timeout=20)
    server.succeed(f'docker exec --detach acme-site python3 -c "{connect.format("127.0.0.1")}"')
    laptop.succeed(f'python3 -c "{connect.format(f"acme-site.{DOMAIN}")}" > /dev/null 2>&1 &')
    server.wait_until_succeeds("test $(docker exec acme-site grep -c ':1FBB .* 01 ' /proc/net/tcp) -ge 2", timeout=20)
    quiet_for(601)
    stays()
    laptop.succeed("pkill -f '[4]402'")
    server.wait_until_succeeds(
        "test $(docker exec acme-site grep -c '  *[0-9]*: [0-9A-F]*:1FBB .* 01 ' /proc/net/tcp) = 1", timeout=20
    )

with subtest("a terminal that is open in it is company"):
    server.succeed("script -qec 'hatchery exec -t acme/site -- sleep 4403' /dev/null < /dev/null > /dev/null 2>&1 &")
    server.wait_until_succeeds("docker exec acme-site pgrep -fx 'sleep 4403'", timeout=20)
    quiet_for(601)
    stays()
    server.succeed("docker exec -u root acme-site pkill -fx 'sleep 4403'")
    server.wait_until_fails("pgrep -f '[h]atchery exec -t acme/site'", timeout=20)

with subtest("one that nobody needs is burrowed with all that it has, and another is not that never is"):
    on("acme-site", f"echo mine > {SITE}/mine")
    quiet_for(601)
    contains(hatchery("recover"), "acme-site: burrowed, because it was idle for limits.idle")
    states = drones()
    assert (states["acme/site"], states["acme/stack"]) == ("burrowed", "running"), states
    row = next(line for line in server.succeed("hatchery list").splitlines() if " acme/site " in line)
    contains(row, "burrowed: idle for 10m ", "1 uncommitted")
    contains(hatchery("status acme/site"), "because it had been idle for 10m")
    assert json.loads(server.succeed("hatchery status acme/site --json"))["burrowed_for_idle"] is True
    assert "acme-site" not in nodes(), nodes().keys()
    assert hatchery("recover") == ""
    hatchery("unburrow acme/site")
    assert in_drone("acme-site", f"cat {SITE}/mine") == "mine\n"
    listed = json.loads(server.succeed("hatchery list --json"))
    site = next(drone for drone in listed if drone["name"] == "acme-site")
    assert not site["burrowed_for_idle"] and site["memory"]["in_use"] > 0, site
    stays()

with subtest("metrics are printed, and recover writes them whole for all to read"):
    hatchery("recover")
    written = server.succeed("cat /root/hatchery.prom")
    printed = server.succeed("hatchery metrics")
    # A share of a processor is known once there are two looks.
    names = [[line.split(" ")[0] for line in text.splitlines() if "_share_" not in line] for text in (written, printed)]
    assert names[0] == names[1], (written, printed)
    contains(
        written,
        'hatchery_drones{state="running"} 2\n',
        'hatchery_drone_up{drone="acme-site",repository="acme/site"} 1\n',
        'hatchery_drone_work{drone="acme-site",kind="uncommitted"} 1\n',
        'hatchery_drone_idle_seconds{drone="acme-stack"} ',
    )
    assert server.succeed("stat -c %a /root/hatchery.prom") == "644\n"
    for line in written.splitlines():
        sample = re.fullmatch(r'hatchery_[a-z_]+(\{([a-z]+="[^"\\]*",?)+\})? [0-9.e+-]+', line)
        assert line.startswith(("# HELP hatchery_", "# TYPE hatchery_")) or sample, line
    error_of("hatchery metrics", 2, "usage")

with subtest("where signing is off again, the next start has nothing signed"):
    set_configuration("")
    hatchery("burrow acme/site")
    hatchery("unburrow acme/site")
    commit = f"cd {SITE}; git {GIT_AUTHOR} commit -q --allow-empty -m Unsigned; git log -1 --format=%G?"
    assert in_drone("acme-site", commit) == "N\n"
    assert json.loads(server.succeed("hatchery status acme/site --json"))["signing_key"] is None

with subtest("nothing is left of what was set"):
    for repository in ("acme/site", "acme/stack"):
        hatchery(f"slay --force --no-remains {repository}")
    server.succeed("cp -p /root/config.toml /etc/hatchery/config.toml")
    nothing_new()
    server.fail("ls /var/lib/hatchery/drones | grep .")
