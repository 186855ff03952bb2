"""A drone that takes all it can get: another drone answers as before, the server stays up, and what became is told."""

import json
from statistics import median
from typing import Any

HOG, QUIET = "acme/site", "acme/plain"
# Logins beside the hog and without it, turn by turn: what else goes on meanwhile slows both.
ROUNDS, LOGINS = 5, 3
# Two medians of so few logins differ by this on an idle server, in milliseconds; a person does not notice it.
NOISE = 150
PIDS = 1024
# The bed may have two processors for all of its machines, the laptop and the test itself among them. On those the
# kernel shares out what is left, and not hatchery.
CPUS = 1.0
DISK = 256 << 20
# Each process tries for another, and never waits.
FORKS = """
import os, signal
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
while True:
    try:
        os.fork()
    except OSError:
        pass
"""
# Short of the limit, so that nothing ends it: many that never rest, each with one child at a time. On a busy bed
# children that nobody waits for would reach it.
SPINS = """
import os
for _ in range(400):
    if os.fork() == 0:
        break
while True:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
"""
# As many instances and watches as the kernel gives, events for all of them, and none is read.
WATCHES = """
import ctypes, os, time
libc = ctypes.CDLL(None)
many, root = [], "/tmp/watched"
os.makedirs(root, exist_ok=True)
while (one := libc.inotify_init()) >= 0:
    many.append(one)
while len(many) > 0 and libc.inotify_add_watch(many[0], root.encode(), 0xFFF) >= 0:
    root += "/d"
    try:
        os.mkdir(root)
    except OSError:
        break
print(len(many), flush=True)
open("/tmp/instances", "w").write(str(len(many)))
while True:
    open("/tmp/watched/x", "w").close()
    os.unlink("/tmp/watched/x")
"""


def logins(name: str) -> list[float]:
    """How long each of some logins takes there, in milliseconds."""
    login = f"{SSH} -o ConnectTimeout=20 vscode@{name}.{DOMAIN} true"
    loop = f"for one in $(seq {LOGINS}); do date +%s%N; {login} || exit; date +%s%N; done"
    times = [int(line) for line in laptop.succeed(loop, timeout=300).split()]
    return [(end - begin) / 1e6 for begin, end in zip(times[::2], times[1::2], strict=True)]


def compared() -> tuple[float, float]:
    """The median of logins to the other drone, beside the hog and while it stands still."""
    beside, quiet = [], []
    stop_recovery()
    for _ in range(ROUNDS):
        beside += logins("acme-plain")
        # A process that waits for the disk cannot be frozen at once.
        server.wait_until_succeeds("docker pause acme-site", timeout=60)
        quiet += logins("acme-plain")
        server.succeed("docker unpause acme-site")
    server.succeed("systemctl start hatchery-recover.timer")
    return median(beside), median(quiet)


def told(repository: str) -> tuple[dict[str, Any], str]:
    """What `status` says of a drone, as JSON, and its line in `list`."""
    status: dict[str, Any] = json.loads(server.succeed(f"hatchery status {repository} --json", timeout=60))
    listed = server.succeed("hatchery list").splitlines()
    return status, next(line for line in listed if f" {repository} " in line)


def hog(command: str) -> None:
    """This runs in the hog, as root in it, until the hog sleeps."""
    server.succeed(f"docker exec --detach --user root acme-site {command}")


def program(text: str) -> str:
    return f"python3 -c 'import base64; exec(base64.b64decode(\"{encoded(text)}\"))'"


def stays_up(what: str) -> None:
    """While this goes on, the other drone answers, the server works, and no drone but the hog is touched."""
    now, quiet = compared()
    laptop.log(f"{what}: {now:.0f} ms, without {quiet:.0f} ms")
    assert now <= 2 * quiet + NOISE, f"{what}: a login takes {now:.0f} ms, {quiet:.0f} ms without"
    server.succeed(
        f"systemctl is-active docker hatchery-recover.timer && docker run --rm --network none {IMAGE} true", timeout=60
    )
    assert drones()[QUIET] == "running"


def again() -> None:
    """The hog sleeps, and wakes as a drone like any other."""
    hatchery(f"burrow {HOG}", within=120)
    hatchery(f"unburrow {HOG}")
    in_drone("acme-site", "true")


start_and_wait()
laptop_trusts_drones()
take_inventory()
server.succeed(
    "cp --preserve --no-clobber /etc/hatchery/config.toml /root/before.toml",
    f"(cat /root/before.toml; printf '\\n[limits]\\ndisk = \"{DISK}B\"\\n') > /etc/hatchery/config.toml",
    f"cp /etc/hatchery/config.toml /root/hog.toml; printf 'pids = {PIDS}\\ncpus = 1.0\\nmemory = \"2GiB\"\\n' >> /root/hog.toml",
    "systemctl start hatchery-recover.timer",
)
hatchery(f"spawn {QUIET}")
hatchery(f"--config /root/hog.toml spawn {HOG}")
bears_memory = server.succeed("docker info --format '{{.MemoryLimit}}'").strip() == "true"

with subtest("a fork bomb"):
    restarts = "docker inspect acme-site --format '{{.RestartCount}}'"
    server.execute(f"docker exec --detach --user root acme-site {program(FORKS)}")
    # The program that keeps a devcontainer up starts a `sleep` every second. When it cannot, it ends, the bomb with
    # it, and Docker starts the drone again.
    server.wait_until_succeeds(f"test $({restarts}) -ge 1", timeout=120)
    in_drone("acme-site", "true", within=60)
    assert told(HOG)[0]["state"] == "running"

with subtest("hundreds of processes that never wait"):
    hog(program(SPINS))
    spinning = f"hatchery status {HOG} --json | jq -e '.usage.pids >= 400' > /dev/null"
    server.wait_until_succeeds(spinning, timeout=120)
    stays_up("processes")
    status, line = told(HOG)
    assert status["state"] == "running" and 400 <= status["usage"]["pids"] <= PIDS, status["usage"]
    again()

if bears_memory:
    with subtest("processes that take memory for as long as there is any"):
        hog("sh -c 'while :; do tail /dev/zero; done'")
        server.wait_until_succeeds(f"hatchery list | grep -q ' {HOG} .* out of memory, '", timeout=60)
        stays_up("memory")
        status, line = told(HOG)
        assert status["state"] == "running" and status["memory"]["killed"] > 0, status
        again()
else:
    server.log("skipped: Docker on this machine cannot limit memory")

with subtest("a flood of words, which Docker keeps"):
    container = told(HOG)[0]["container"]
    logs = f"/var/lib/docker/containers/{container}/{container}-json.log"
    hog("sh -c 'yes the overmind is watching > /proc/1/fd/1'")
    server.wait_until_succeeds(f"test -e {logs}.2", timeout=120)
    stays_up("words")
    kept = int(server.succeed(f"cat {logs}* | wc -c"))
    assert 10_000_000 < kept <= 31_000_000, kept
    assert told(HOG)[0]["state"] == "running"
    again()

with subtest("all the inotify that there is for its user"):
    # Not for root, whose instances are the test machine's own, too.
    server.succeed(f"docker exec --detach --user vscode acme-site {program(WATCHES)}")
    server.wait_until_succeeds("docker exec acme-site test -s /tmp/instances", timeout=60)
    stays_up("inotify")
    assert told(HOG)[0]["state"] == "running"
    again()

with subtest("a full disk: the timer burrows it"):
    for path in ("/workspaces/fill", "/var/tmp/fill"):
        hog(f"sh -c 'while :; do dd if=/dev/zero of={path} bs=1M count=160 conv=notrunc,fsync; done'")
        # Docker counts nothing where files go while it looks.
        hog(f"sh -c 'while :; do mkdir -p {path}.d/a/b/c; rm -r {path}.d; touch {path}.d; rm {path}.d; done'")
        server.wait_until_succeeds(f"docker exec acme-site sh -c 'test $(stat -c %s {path}) -gt 150000000'", timeout=60)
    stays_up("disk")
    server.succeed("touch -d '1 hour ago' /run/hatchery/.locks/.disk")
    server.wait_until_succeeds(f"hatchery list | grep -q ' {HOG} .* burrowed for limits.disk, '", timeout=180)
    status, line = told(HOG)
    assert status["state"] == "burrowed" and status["disk"]["burrowed_for"] == "limit", status
    contains(line, " MiB ")
    contains(
        hatchery(f"status {HOG}"), "Insufficient vespene gas.\nacme-site was burrowed ", "limits.disk was 256.0 MiB"
    )
    contains(server.succeed("journalctl -u hatchery-recover --since=-5min --output=cat"), "acme-site: burrowed")
    assert drones() == {HOG: "burrowed", QUIET: "running"}, drones()

with subtest("its owner wakes it, and clears it up"):
    contains(hatchery(f"unburrow {HOG}"), "Insufficient vespene gas.\n", "acme-site is running.")
    in_drone("acme-site", "sudo rm /workspaces/fill /var/tmp/fill")
    server.succeed("touch -d '1 hour ago' /run/hatchery/.locks/.disk", "systemctl start hatchery-recover")
    assert drones() == {HOG: "running", QUIET: "running"}, drones()
    status, line = told(HOG)
    assert status["disk"]["taken"] < DISK and "limits.disk" not in line, (status, line)

with subtest("nothing is left of it"):
    server.succeed("mv /root/before.toml /etc/hatchery/config.toml")
    for repository in (HOG, QUIET):
        hatchery(f"slay --force --no-remains {repository}")
    nothing_new()
