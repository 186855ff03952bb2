"""A drone that runs out of memory: whoever lists it, looks at it or works on it next is told, and of no other."""

import json
from shlex import quote

ZERG = "Nuclear launch detected.\n"
LIMIT = 256 << 20
# Reads a line that does not end into memory; the kernel ends it before that.
EAT = "tail /dev/zero"
# With the kernel's log in the journal, as a computer of its own has it, the process is named.
LOGGED = "journalctl --dmesg --quiet --grep='^oom-kill:' --output=cat"


# Stands in for it: answers what is asked of the kernel's log, newest first, and hands on the rest.
JOURNALCTL = """case "$*" in
  *--dmesg*--output=json*--reverse*--since=@[1-9]*) exec cat /root/stand-in/log ;;
  *) exec /usr/bin/journalctl "$@" ;;
esac"""


def kernel_says(group: str, process: str) -> str:
    """An entry of the journal on a process that was killed in this control group."""
    message = (
        f"oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=x,mems_allowed=0,oom_memcg={group},"
        f"task_memcg={group},task={process},pid=9878,uid=1000"
    )
    return json.dumps({"__REALTIME_TIMESTAMP": "1700000000123456", "MESSAGE": message})


def eat() -> None:
    assert on("acme-site", f"{EAT} || echo $?") == "137\n"


def memory(repository: str) -> dict[str, int]:
    """What `status` knows of a drone's memory; `list` says the same of what it says."""
    listed = json.loads(server.succeed("hatchery list --json"))
    told = next(drone["memory"] for drone in listed if drone["repository"] == repository)
    known: dict[str, int] = json.loads(server.succeed(f"hatchery status {repository} --json"))["memory"]
    assert [told[key] for key in ("killed", "near_limit")] == [known[key] for key in ("killed", "near_limit")], (
        told,
        known,
    )
    return known


def row(repository: str) -> str:
    return next(line for line in server.succeed("hatchery list").splitlines() if f" {repository} " in line)


def tells(said: str, times: str) -> None:
    """The Zerg's line, and under it the plain one."""
    line = f"{ZERG}{{}}acme-site ran out of memory{{}}: the kernel killed a process in it {times}"
    kinds = [line.format(warning, limit) for warning in ("", "warning: ") for limit in ("", " (256.0 MiB)")]
    assert any(kind in said for kind in kinds), said


def is_silent(said: str) -> None:
    assert "Nuclear" not in said and "memory nearly" not in said and "of memory" not in said, said


start_and_wait()
laptop_trusts_drones()
stop_recovery()
take_inventory()
server.succeed(
    f"cp /etc/hatchery/config.toml /root/small.toml; printf '\\n[limits]\\nmemory = \"{LIMIT}B\"\\n' >> /root/small.toml"
)
for repository in ("acme/site", "acme/plain"):
    hatchery(f"--config /root/small.toml spawn {repository}")

with subtest("while all is well no word is said"):
    for repository in ("acme/site", "acme/plain"):
        is_silent(hatchery(f"status {repository}") + row(repository))
        assert memory(repository)["killed"] == 0, memory(repository)

if server.succeed("docker info --format '{{.MemoryLimit}}'").strip() != "true":
    server.log("skipped: Docker on this machine cannot limit memory, so no drone runs out of it")
else:
    with subtest("what the kernel counts is what is told"):
        found = memory("acme/site")
        assert found["limit"] == LIMIT and 0 < found["in_use"] < LIMIT, found

    with subtest("a process is killed: list and status tell it of this drone alone"):
        eat()
        assert " out of memory, " in row("acme/site"), row("acme/site")
        tells(hatchery("status acme/site"), "once")
        eat()
        assert memory("acme/site")["killed"] == 2, memory("acme/site")
        status = json.loads(server.succeed("hatchery status acme/site --json"))
        assert status["out_of_memory"] and status["memory"]["killed"] == 2, status
        said = hatchery("status acme/site")
        tells(said, "2 times")
        is_silent(hatchery("status acme/plain") + row("acme/plain"))
        assert memory("acme/plain")["killed"] == 0, memory("acme/plain")

    with subtest("the kernel's log names the process"):
        if server.execute(f"{LOGGED} | grep .")[0] == 0:
            contains(said, "the last was `tail`, ")
            assert status["last_kill"]["process"] == "tail", status
        else:
            server.log("skipped: the kernel's own log, which does not reach this machine's journal; a stand-in's")
            assert status["last_kill"] is None, status
            container = status["container"]
            lines = [
                kernel_says(f"/docker/{container}", "a\x1b[31m\nwarning: b"),
                kernel_says(f"/docker/{container[::-1]}", "not-this"),
                kernel_says(f"/docker/{container}", "the-last"),
                kernel_says("/", "nor-this"),
            ]
            server.succeed(
                f"mkdir -p /root/stand-in; printf '#!/bin/sh\n%s\n' {quote(JOURNALCTL)} > /root/stand-in/journalctl",
                f"chmod +x /root/stand-in/journalctl; printf '%s\n' {quote(chr(10).join(lines[::-1]))} > /root/stand-in/log",
            )
            looking = hatchery("status acme/site", prefix="env PATH=/root/stand-in:$PATH")
            contains(looking, " 2 times; the last was `the-last`, ")
            server.succeed("sed -i /the-last/d /root/stand-in/log")
            looking = hatchery("status acme/site", prefix="env PATH=/root/stand-in:$PATH")
            contains(looking, " 2 times; the last was `a warning: b`, ")

    with subtest("a drone near its limit is told apart"):
        spare = LIMIT * 95 // 100 - memory("acme/plain")["in_use"]
        fill = f"python3 -c 'import time; filled = b\"x\" * {spare}; time.sleep(600)'"
        server.succeed(f"docker exec --detach acme-plain {fill}")
        server.wait_until_succeeds("hatchery list | grep -q 'acme/plain .* memory nearly full, '", timeout=30)
        contains(hatchery("status acme/plain"), f"{ZERG}acme-plain is near its memory limit: ", " of 256.0 MiB in use.")
        assert " out of memory, " in row("acme/site"), row("acme/site")
        server.succeed("pkill -f '[f]illed = b'")
        server.wait_until_fails("hatchery list | grep 'memory nearly full'", timeout=30)
        assert memory("acme/plain")["killed"] == 0, memory("acme/plain")

    with subtest("what recover saw is told although the drone was started again"):
        assert hatchery("recover") == ""
        server.succeed("docker restart --time 5 acme-site")
        tells(hatchery("status acme/site"), "2 times")
        assert " out of memory, " in row("acme/site"), row("acme/site")

    with subtest("the next verb tells it, and who was told is not told again"):
        tells(hatchery("burrow acme/site"), "2 times")
        is_silent(hatchery("burrow acme/plain") + hatchery("unburrow acme/plain"))
        is_silent(hatchery("unburrow acme/site") + hatchery("status acme/site") + row("acme/site"))

    with subtest("a drone that was stopped by hand meanwhile tells it when it is woken"):
        eat()
        hatchery("recover")
        server.succeed("docker update --restart unless-stopped acme-site; docker stop --time 5 acme-site")
        tells(hatchery("unburrow acme/site"), "once")
        is_silent(hatchery("status acme/site"))

    with subtest("slay tells it too"):
        eat()
        tells(hatchery("slay acme/site"), "once")
        hatchery("slay acme/plain")
        nothing_new()
