"""Networks: each drone has its own, out of hatchery's pool; nothing passes from one to another."""

from collections.abc import Iterable

POOL = "10.189."
# Of no protocol (IEEE 802, local experimental EtherType), with this in it.
FRAME = "0x88b5"
WORD = "overmind"


def both(*commands: str) -> None:
    """At once; each must succeed."""
    start = " ".join(f"{command} & all+=($!);" for command in commands)
    server.succeed(f"all=(); {start} for one in ${{all[@]}}; do wait $one; done")


def networks_of(drone: str) -> dict[str, str]:
    """Subnets by the names of the networks that belong to a drone."""
    names = server.succeed(f"docker network ls --quiet --filter label=hatchery.drone={drone}").split()
    shown = [docker_inspect(name, "network") for name in names]
    return {network["Name"]: network["IPAM"]["Config"][0]["Subnet"] for network in shown}


def place_of(container: str) -> dict[str, str]:
    """Its address, hardware address and gateway."""
    places: Iterable[dict[str, str]] = docker_inspect(container)["NetworkSettings"]["Networks"].values()
    return next(iter(places))


def python(container: str, program: str) -> str:
    """A command that runs this as root in a container."""
    return f"docker exec -i -u 0 {container} python3 - <<'END'\n{program}\nEND"


def frames(sender: str, receiver: str) -> int:
    """How many frames of a sender's arrive: to everybody, and to the receiver's hardware address."""
    listen = f"""import socket, time
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons({FRAME}))
s.bind(("eth0", {FRAME})); s.settimeout(6); open("/tmp/listens", "w").close()
heard = 0
try:
    while True: heard += b"{WORD}" in s.recv(2000)
except TimeoutError: pass
open("/tmp/heard", "w").write(str(heard))"""
    to = place_of(receiver)["MacAddress"].replace(":", "")
    send = f"""import socket
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); s.bind(("eth0", 0))
own = s.getsockname()[4]
for to in ("ffffffffffff", "{to}"):
    for _ in range(3): s.send(bytes.fromhex(to) + own + ({FRAME}).to_bytes(2, "big") + b"{WORD}" * 8)"""
    server.succeed(f"docker exec -u 0 {receiver} rm -f /tmp/listens /tmp/heard")
    server.succeed(f"docker exec -d -u 0 {receiver} python3 -c {quoted(listen)}")
    server.wait_until_succeeds(f"docker exec {receiver} test -e /tmp/listens", timeout=20)
    server.succeed(python(sender, send))
    return int(server.wait_until_succeeds(f"docker exec {receiver} cat /tmp/heard", timeout=30))


def claim(liar: str, victim: str) -> None:
    """By ARP, a container tells everybody that it has another's address, and its gateway's."""
    there = place_of(victim)
    program = f"""import socket
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); s.bind(("eth0", 0))
own = s.getsockname()[4]
for address in ("{there["IPAddress"]}", "{there["Gateway"]}"):
    ip = socket.inet_aton(address)
    for operation in (1, 2):
        arp = bytes.fromhex("0001080006040" + "00" + str(operation)) + own + ip + b"\\xff" * 6 + ip
        for _ in range(3): s.send(b"\\xff" * 6 + own + b"\\x08\\x06" + arp)"""
    server.succeed(python(liar, program))


def neighbours(container: str) -> str:
    """Who has which address, as a container knows it."""
    pid = docker_inspect(container)["State"]["Pid"]
    return server.succeed(f"nsenter --target {pid} --net ip neigh")


def quoted(program: str) -> str:
    return "'" + program.replace("'", "'\\''") + "'"


def datagrams(sender: str, source: str, port: int) -> bool:
    """Whether a datagram of a container arrives at the internet that says that it is from this address."""
    to = internet.succeed("ip -4 -j addr show dev eth0 | jq -r '.[0].addr_info[0].local'").strip()
    listen = f"import socket; s = socket.socket(2, 2); s.bind((str(), {port})); s.recv(99)"
    internet.succeed(f"systemd-run -q --unit datagram-{port} python3 -c {quoted(listen)}")
    internet.wait_until_succeeds(f"ss -lun | grep -F ':{port} '", timeout=20)
    send = f"""import socket, struct, time
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
data = b"{WORD}"
udp = struct.pack("!HHHH", 4711, {port}, 8 + len(data), 0) + data
ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0, socket.inet_aton("{source}"), socket.inet_aton("{to}"))
for _ in range(5): s.sendto(ip + udp, ("{to}", 0)); time.sleep(0.2)"""
    server.succeed(python(sender, send))
    arrived = internet.execute(f"systemctl is-active datagram-{port}")[0] != 0
    internet.execute(f"systemctl stop datagram-{port}")
    return arrived


start_and_wait()
stop_recovery()
laptop_trusts_drones()
take_inventory()
server.succeed(
    "printf '[docker]\\nsubnets = [\"10.77.0.0/26\"]\\n' | cat /etc/hatchery/config.toml - > /root/narrow.toml"
)

with subtest("three that are spawned at once: a network each, of the pool, with a device that the firewall knows"):
    both("hatchery spawn acme/site", "hatchery spawn acme/web", "hatchery spawn acme/stack")
    found = {drone: networks_of(drone) for drone in ("acme-site", "acme-web", "acme-stack")}
    assert set(found["acme-site"]) == {"acme-site"} and set(found["acme-web"]) == {"acme-web"}, found
    assert found["acme-stack"] and all(name.startswith("acme-stack_") for name in found["acme-stack"]), found
    subnets = [subnet for networks in found.values() for subnet in networks.values()]
    assert len(set(subnets)) == len(subnets), found
    assert all(subnet.startswith(POOL) and subnet.endswith("/27") for subnet in subnets), found
    devices = [bridge_of(name) for networks in found.values() for name in networks]
    assert len(set(devices)) == len(devices) and all(device.startswith("hatchery0") for device in devices), devices

with subtest("no frame passes from one drone to another, which it does on one bridge"):
    server.succeed(
        "docker network create shared",
        *(f"docker run -d --name {name} --network shared {IMAGE} sleep infinity" for name in ("one", "other")),
    )
    assert frames("one", "other") == 6
    assert frames("acme-site", "acme-web") == 0
    assert frames("acme-site", compose_container("acme-stack", "db")) == 0

with subtest("nor does a false answer to who has an address"):
    lies = place_of("one")["MacAddress"]
    server.succeed(python("other", f"import os; os.system('ping -c 1 -W 1 {place_of('other')['Gateway']}')"))
    claim("one", "other")
    assert lies in neighbours("other"), neighbours("other")
    lies = place_of("acme-site")["MacAddress"]
    for victim in ("acme-web", compose_container("acme-stack", "db")):
        claim("acme-site", victim)
        assert lies not in neighbours(victim), neighbours(victim)
    on_server = server.succeed("ip neigh")
    for line in on_server.splitlines():
        assert lies not in line or line.startswith(f"{place_of('acme-site')['IPAddress']} "), on_server
    server.succeed("docker rm -f one other; docker network rm shared")

with subtest("nor a connection, and the host's own way is open"):
    web = place_of("acme-web")["IPAddress"]
    server.succeed(f"nc -w 5 {web} 2222 < /dev/null | grep ^SSH-2.0 > /dev/null")
    dial = f"timeout 4 bash -c 'exec 3<> /dev/tcp/{web}/2222'"
    for sender in ("acme-site", compose_container("acme-stack", "db")):
        server.fail(f"docker exec -u 0 {sender} {dial}")
    server.succeed(f"docker exec -u 0 acme-web {dial}")

with subtest("nor does a drone speak from an address of another's, which is what the firewall sees to"):
    site = docker_inspect("acme-site")["State"]["Pid"]
    # As it is without tailscaled's routes, and where the kernel itself looks at no source.
    server.succeed(
        f"nsenter --target {site} --net ip route flush table 52 || true",
        f"sysctl -w net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.{bridge_of('acme-site')}.rp_filter=0",
    )
    own, others = place_of("acme-site")["IPAddress"], place_of("acme-web")["IPAddress"]
    server.succeed("systemctl stop hatchery-firewall")
    assert datagrams("acme-site", others, 4001), "without the firewall it arrives, so what follows can fail"
    server.succeed("systemctl start hatchery-firewall")
    assert datagrams("acme-site", own, 4002)
    assert not datagrams("acme-site", others, 4003)
    assert not datagrams("acme-site", "192.0.2.7", 4004)

with subtest("a network stays what it is while its drone sleeps, and Docker starts again"):
    server.succeed("hatchery burrow acme/web", "systemctl restart docker")
    assert networks_of("acme-web") == found["acme-web"]
    server.wait_until_succeeds("docker exec acme-site true", timeout=60)
    server.succeed("hatchery unburrow acme/web")
    assert {drone: networks_of(drone) for drone in found} == found
    assert in_drone("acme-web", "hostname", within=60) == "acme-web\n"
    assert doctor()["reach-drones"]["state"] == "ok", doctor()["reach-drones"]
    assert "hatchery.doctor" not in server.succeed("docker network ls --format '{{.Name}}'")

with subtest("a drone that sleeps gets another network where somebody has removed its own"):
    server.succeed("hatchery burrow acme/web", "docker network rm acme-web", "hatchery unburrow acme/web")
    assert set(networks_of("acme-web")) == {"acme-web"}
    assert in_drone("acme-web", "hostname", within=60) == "acme-web\n"

with subtest("who asks for forty networks gets none, and is in nobody's way"):
    asked: dict[str, object] = {f"n{number}": {} for number in range(40)}
    app = {"image": IMAGE, "command": "sleep infinity", "networks": list(asked), "volumes": ["../..:/workspaces"]}
    publish_devcontainer(
        "net/many",
        {
            "devcontainer.json": {
                "dockerComposeFile": "compose.yml",
                "service": "app",
                "workspaceFolder": "/workspaces/many",
                "features": FEATURES,
            },
            "compose.yml": {"services": {"app": app}, "networks": asked},
        },
    )
    contains(hatchery("spawn net/many", status=6), "networks")
    # Who is trusted gets them all, out of the pool.
    hatchery("spawn --trust net/many")
    assert server.succeed("docker network ls --quiet --filter name=net-many_ | wc -l") == "40\n"
    server.succeed("n=0; while docker network create full-$n > /dev/null 2>&1; do n=$((n + 1)); done")
    server.succeed("hatchery slay acme/stack", "hatchery spawn acme/stack")
    server.succeed("docker network ls --quiet --filter name=full- | xargs docker network rm")
    server.succeed("hatchery slay --force net/many")

with subtest("a pool that is used up is told, and what there is stays"):
    server.succeed("hatchery slay acme/web", "docker network create --subnet 10.77.0.0/27 in-the-way")
    hatchery("--config /root/narrow.toml spawn acme/web")
    assert networks_of("acme-web") == {"acme-web": "10.77.0.32/27"}
    for repository in ("acme/plain", "acme/stack"):
        server.succeed("hatchery slay acme/stack 2> /dev/null || true")
        said = hatchery(f"--config /root/narrow.toml spawn {repository}", status=5)
        contains(said, "[limit-reached]", "no addresses are left", "docker.subnets is 10.77.0.0/26", "was undone")
    assert drones() == {"acme/site": "running", "acme/web": "running"}
    server.succeed("docker network rm in-the-way")

with subtest("a network of somebody else's that is called like a drone is left alone"):
    server.succeed("docker network create acme-plain")
    contains(hatchery("spawn acme/plain", status=4), "a network named acme-plain already exists", "[name-taken]")
    server.succeed("docker network rm acme-plain")

with subtest("all is slain: no network is left, and no device"):
    both("hatchery slay --force acme/site", "hatchery slay --force acme/web")
    server.wait_until_succeeds("! ip -o link | grep hatchery", timeout=10)
    # The firewall's unit has another directory since it was started again.
    new = [line for line in what_is_new().splitlines() if "/systemd-private-" not in line]
    assert new == [], new
