"""What ran before runs after, whatever happened: nobody types anything."""

import json

SSH = "ssh -p 2222 -o BatchMode=yes -o ConnectTimeout=3 -o StrictHostKeyChecking=yes -o UserKnownHostsFile=/tmp/known_hosts"
RUNNING = {"acme-vault": "vault", "acme-site": "site", "acme-stack": "stack"}
STATES = {
    "acme/vault": "running",
    "acme/site": "running",
    "acme/stack": "running",
    "acme/plain": "burrowed",
    "acme/web": "egg",
}


def drones() -> dict[str, str]:
    """Repository -> state, as `list` has it."""
    listed = json.loads(server.succeed("hatchery list --json"))
    return {drone["repository"]: drone["state"] for drone in listed}


def nodes() -> list[str]:
    listed = json.loads(tailnet.succeed("headscale nodes list --output json")) or []
    return sorted(node["given_name"] for node in listed if node["given_name"].startswith("acme-"))


def all_is_as_it_was(within: int) -> None:
    for name, repository in RUNNING.items():
        laptop.wait_until_succeeds(f"{SSH} vscode@{name}.tail.example.test true", timeout=within)
        git = f"cd /workspaces/{repository} && git ls-remote --exit-code origin HEAD && git fetch"
        laptop.succeed(f"{SSH} vscode@{name}.tail.example.test '{git}'")
    assert drones() == STATES, drones()
    assert nodes() == sorted(RUNNING), nodes()
    assert server.execute("docker inspect acme-plain --format '{{.State.Running}}'")[1].strip() == "false"


def headscale_stops() -> None:
    """Without its 90 s of patience with open connections."""
    tailnet.succeed("systemctl kill --signal=KILL headscale; systemctl stop headscale")


def headscale_starts() -> None:
    tailnet.succeed("systemctl start headscale")
    tailnet.wait_until_succeeds("headscale nodes list", timeout=60)
    laptop.wait_until_succeeds("tailscale status --json | jq -e '.BackendState == \"Running\"'", timeout=60)


start_all()
server.wait_for_unit("docker.service")
tailnet.wait_for_unit("headscale.service")
laptop.wait_until_succeeds("tailscale status --json | jq -e '.BackendState == \"Running\"'", timeout=60)
server.succeed("hatchery list --json | jq -r '.[].repository' | xargs -r -n 1 hatchery slay --force")
authority = server.succeed("hatchery ca")
laptop.succeed(f"cat > /tmp/known_hosts <<'END'\n{authority}END")

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
        assert f"{name}: its socket is there" in sockets, sockets
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
    server.succeed("systemctl stop hatchery-recover.timer hatchery-recover.service")
    for name in RUNNING:
        node = f"headscale nodes list --output json | jq '.[] | select(.given_name == \"{name}\").id'"
        tailnet.succeed(f"headscale nodes delete --force --identifier $({node})")
    assert nodes() == []
    server.succeed("systemctl start hatchery-recover.timer")
    all_is_as_it_was(180)

with subtest("with nothing to do, recover does nothing"):
    assert server.succeed("hatchery recover") == ""
    assert json.loads(server.succeed("hatchery recover --json")) == []
    assert drones() == STATES
