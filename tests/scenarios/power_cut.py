"""What ran before runs after, whatever happened: nobody types anything."""

import json

RUNNING = {"acme-vault": "vault", "acme-site": "site", "acme-stack": "stack"}
STATES = {
    "acme/vault": "running",
    "acme/site": "running",
    "acme/stack": "running",
    "acme/plain": "burrowed",
    "acme/web": "egg",
}


def nodes_of_drones() -> list[str]:
    return sorted(node for node in nodes() if node.startswith("acme-"))


def all_is_as_it_was(within: int) -> None:
    for name, repository in RUNNING.items():
        in_drone(name, "true", within)
        on(name, f"cd /workspaces/{repository} && git ls-remote --exit-code origin HEAD && git fetch")
    assert drones() == STATES, drones()
    assert nodes_of_drones() == sorted(RUNNING), nodes()
    assert server.execute("docker inspect acme-plain --format '{{.State.Running}}'")[1].strip() == "false"


def headscale_stops() -> None:
    """Without its 90 s of patience with open connections."""
    tailnet.succeed("systemctl kill --signal=KILL headscale; systemctl stop headscale")


def headscale_starts() -> None:
    tailnet.succeed("systemctl start headscale")
    tailnet.wait_until_succeeds("headscale nodes list", timeout=60)
    wait_for_tailnet(laptop)


start_and_wait()
laptop_trusts_drones()

with subtest("three run, one is burrowed, one is an egg"):
    for repository in STATES:
        if repository != "acme/web":
            server.succeed(f"hatchery spawn {repository}")
    server.succeed("hatchery burrow acme/plain")
    internet.succeed("systemctl kill --signal=STOP github")
    server.succeed("hatchery spawn acme/web > /dev/null 2>&1 &")
    server.wait_until_succeeds("pgrep -x git", timeout=30)
    server.succeed("pkill -KILL -fx 'hatchery spawn acme/web'")
    internet.succeed("systemctl kill --signal=CONT github")
    all_is_as_it_was(20)

with subtest("a power cut"):
    since = server.succeed("date +%s").strip()
    server.crash()
    server.start()
    server.wait_for_unit("docker.service")
    all_is_as_it_was(60)
    # The directories that Docker mounts were there before it, so that nobody had to help it.
    sockets, recover = (
        server.succeed(f"journalctl --unit {unit}.service --since=@{since} --output=cat")
        for unit in ("hatchery-sockets", "hatchery-recover")
    )
    for name in RUNNING:
        assert f"{name}: its socket was created" in sockets, sockets
        assert f"{name}: started" not in recover, recover
    assert "egg" in server.succeed("hatchery list")

with subtest("Docker is restarted while drones are put to sleep and woken"):
    server.succeed(
        "systemctl restart docker & hatchery burrow acme/site || true; hatchery unburrow acme/site || true; wait"
    )
    server.wait_until_succeeds("docker version", timeout=60)
    server.wait_until_succeeds("hatchery unburrow acme/site", timeout=120)
    all_is_as_it_was(120)

with subtest("a power cut for longer than Headscale remembers a node"):
    server.crash()
    gone = "headscale nodes list --output json | jq -e 'map(select(.given_name | startswith(\"acme-\"))) == []'"
    tailnet.wait_until_succeeds(gone, timeout=180)
    server.start()
    server.wait_for_unit("docker.service")
    all_is_as_it_was(180)

with subtest("a power cut while Headscale is away; it comes back later than the server"):
    headscale_stops()
    server.crash()
    server.start()
    server.wait_for_unit("docker.service")
    server.wait_until_succeeds("docker inspect acme-vault --format '{{.State.Running}}' | grep -x true", timeout=60)
    headscale_starts()
    all_is_as_it_was(180)

with subtest("Headscale forgets the drones while they run"):
    # Not while they are being forgotten.
    stop_recovery()
    for name in RUNNING:
        node = f"headscale nodes list --output json | jq '.[] | select(.given_name == \"{name}\").id'"
        tailnet.succeed(f"headscale nodes delete --force --identifier $({node})")
    assert nodes_of_drones() == []
    server.succeed("systemctl start hatchery-recover.timer")
    all_is_as_it_was(180)

with subtest("with nothing to do, recover does nothing"):
    assert server.succeed("hatchery recover") == ""
    assert json.loads(server.succeed("hatchery recover --json")) == []
    assert drones() == STATES
