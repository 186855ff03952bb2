"""A drone that takes more of Docker's disk than it may is burrowed and kept whole; a person can wake it and clear it up."""

import json
import time
from typing import Any

ZERG = "Insufficient vespene gas.\n"
SMALL = "env HATCHERY_CONFIG=/root/small.toml"
UNLIMITED = "env HATCHERY_CONFIG=/root/unlimited.toml"
RECORDS = "/var/lib/hatchery/drones"
SIBLING = "docker exec --user root $(docker ps -q --filter label=com.docker.compose.service=db)"


def count(prefix: str = SMALL) -> str:
    """What recover says after a count, for which it otherwise waits."""
    server.succeed("touch -d '1 hour ago' /run/hatchery/.locks/.disk")
    return hatchery("recover", prefix=prefix)


def disk(repository: str) -> dict[str, Any]:
    """What `list` and `status` know of a drone's disk."""
    listed = json.loads(server.succeed(f"{SMALL} hatchery list --json"))
    told: dict[str, Any] = next(drone["disk"] for drone in listed if drone["repository"] == repository)
    known = json.loads(server.succeed(f"{SMALL} hatchery status {repository} --json"))["disk"]
    assert told == known, (told, known)
    return told


def row(repository: str) -> str:
    listed = server.succeed(f"{SMALL} hatchery list").splitlines()
    return next(line for line in listed if f" {repository} " in line)


def write(where: str, mebibytes: int) -> str:
    return f"dd if=/dev/zero of={where} bs=1M count={mebibytes} conv=fsync status=none"


def is_silent(said: str) -> None:
    assert "vespene" not in said and "limits.disk" not in said, said


start_and_wait()
laptop_trusts_drones()
stop_recovery()
take_inventory()
for path, limit in (("small", "128MiB"), ("unlimited", "0")):
    server.succeed(
        f"cp /etc/hatchery/config.toml /root/{path}.toml; printf '\\n[limits]\\ndisk = \"{limit}\"\\n' >> /root/{path}.toml"
    )
for repository in ("acme/site", "acme/stack"):
    hatchery(f"spawn {repository}")

with subtest("what a drone takes is counted, and shown until the next count"):
    contains(row("acme/site"), " ? ")
    unknown = {"burrowed_for": None, "counted_at": None, "limit": 128 << 20, "parts": None, "taken": None}
    assert disk("acme/site") == unknown
    is_silent(count() + hatchery("status acme/site", prefix=SMALL))
    before = disk("acme/site")
    assert 0 < before["taken"] < 32 << 20, before
    contains(row("acme/site"), " MiB ")
    in_drone("acme-site", write("/workspaces/site/new", 40))
    hatchery("recover", prefix=SMALL)
    assert disk("acme/site") == before, "counted again within five minutes"
    is_silent(count())
    after = disk("acme/site")
    assert after["taken"] - before["taken"] >= 40 << 20, (before, after)
    assert sum(after["parts"].values()) == after["taken"] and after["parts"]["volumes"] >= 40 << 20, after
    contains(hatchery("status acme/site", prefix=SMALL), "  of that   containers ", ", build cache 0 B\n")

with subtest("beyond the limit it is burrowed; what it has in its volume and in its container is kept"):
    in_drone("acme-site", write("/workspaces/site/more", 60))
    in_drone("acme-site", write("/var/tmp/layer", 40))
    is_silent(count(UNLIMITED))
    assert drones() == {"acme/site": "running", "acme/stack": "running"}, "0 is no limit"
    said = count()
    contains(
        said,
        f"{ZERG}warning: acme-site was burrowed ",
        " ago: it used ",
        " Docker's disk, and limits.disk was 128.0 MiB.",
    )
    contains(said, "acme-site: burrowed, because it exceeds limits.disk\n")
    assert drones() == {"acme/site": "burrowed", "acme/stack": "running"}, drones()
    assert "acme-site" not in nodes(), nodes()

with subtest("it stays so, and list and status say why"):
    is_silent(count())
    assert drones() == {"acme/site": "burrowed", "acme/stack": "running"}, drones()
    contains(row("acme/site"), " burrowed for limits.disk, ", " MiB ", "hatchery unburrow acme/site")
    contains(
        hatchery("status acme/site", prefix=SMALL), f"{ZERG}acme-site was burrowed ", "`hatchery unburrow acme/site`"
    )
    assert disk("acme/site")["burrowed_for"] == "limit", disk("acme/site")
    is_silent(row("acme/stack") + hatchery("status acme/stack", prefix=SMALL))

with subtest("it can be woken, with a warning, and has time"):
    said = hatchery("unburrow acme/site", prefix=SMALL)
    contains(
        said, f"{ZERG}warning: acme-site was burrowed ", "it has 30m to get below limits.disk", "acme-site is running."
    )
    count()
    assert drones()["acme/site"] == "running", drones()
    contains(row("acme/site"), " over limits.disk, ")
    contains(hatchery("status acme/site", prefix=SMALL), f"{ZERG}acme-site uses ", "It will be burrowed in 29m")
    sizes = in_drone("acme-site", "stat -c %s /workspaces/site/new /workspaces/site/more /var/tmp/layer")
    assert [int(size) >> 20 for size in sizes.split()] == [40, 60, 40], sizes

with subtest("it has no time to take yet more"):
    in_drone("acme-site", write("/workspaces/site/yet-more", 20))
    contains(count(), "acme-site: burrowed")

with subtest("nor has it more time than it was given"):
    hatchery("unburrow acme/site", prefix=SMALL)
    count()
    assert drones()["acme/site"] == "running", drones()
    record = f"{RECORDS}/acme-site.bounds"
    server.succeed(f"jq '.let_up -= 1801' {record} > /root/record && cat /root/record > {record}")
    contains(count(), "acme-site: burrowed")

with subtest("cleared up, it is like any other"):
    hatchery("unburrow acme/site", prefix=SMALL)
    in_drone("acme-site", "rm /workspaces/site/*more /var/tmp/layer")
    is_silent(count() + row("acme/site") + hatchery("status acme/site", prefix=SMALL))
    server.fail(f"test -e {RECORDS}/acme-site.bounds")

with subtest("the services of a compose file count, and sleep with it"):
    in_drone("acme-stack", write("/workspaces/stack/half", 70))
    is_silent(count())
    server.succeed(f"{SIBLING} {write('/var/lib/data/other-half', 70)}")
    contains(count(), "acme-stack: burrowed")
    assert drones() == {"acme/site": "running", "acme/stack": "burrowed"}, drones()
    assert server.succeed("docker ps --format '{{.Names}}'").split() == ["acme-site"]
    contains(hatchery("unburrow acme/stack", prefix=UNLIMITED), ZERG)
    server.succeed(f"{SIBLING} test -s /var/lib/data/other-half")

with subtest("where Docker's disk is nearly full, the drone that goes on filling it is burrowed"):
    # Docker's directory is seen as a disk of half the reserve; Docker itself sees its own.
    full = "unshare --mount sh -c 'mount -t tmpfs -o size=512m full /var/lib/docker && exec \"$@\"' full " + UNLIMITED
    count(UNLIMITED)
    contains(count(full), "Docker's disk has less free space than limits.reserve, and no drone has grown")
    assert drones() == {"acme/site": "running", "acme/stack": "running"}, drones()
    in_drone("acme-site", write("/workspaces/site/filled", 100))
    in_drone("acme-stack", write("/workspaces/stack/some", 70))
    said = count(full)
    contains(said, f"{ZERG}warning: acme-site was burrowed ", "Docker's disk had 512.0 MiB free", "grown most, by 10")
    assert drones() == {"acme/site": "burrowed", "acme/stack": "running"}, drones()
    contains(row("acme/site"), " burrowed for limits.reserve, ")
    hatchery("unburrow acme/site", prefix=UNLIMITED)
    contains(count(full), "no drone has grown")
    assert drones() == {"acme/site": "running", "acme/stack": "running"}, drones()

with subtest("a member of the group sees the same, and has drones counted too"):
    server.succeed("touch -d '1 hour ago' /run/hatchery/.locks/.disk")
    server.succeed(f"{MEMBER} hatchery recover")
    told = json.loads(server.succeed(f"{MEMBER} hatchery list --json"))
    assert all(drone["disk"]["taken"] > 70 << 20 and drone["disk"]["limit"] == 64 << 30 for drone in told), told
    assert all(time.time() - drone["disk"]["counted_at"] < 30 for drone in told), told

with subtest("nothing is left of it"):
    for repository in ("acme/site", "acme/stack"):
        hatchery(f"slay --force --no-remains {repository}")
    nothing_new()
