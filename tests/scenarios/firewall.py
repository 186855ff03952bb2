"""The firewall: no container gets to the server's tailnet, to its listeners or to a neighbour; all else works."""

import json
from typing import Any

INTERNET = "github.com:443"
METADATA = "169.254.169.254:80"
# A drone with root gets past its own tailscaled; afterwards it is a member of the tailnet again.
BREAKOUT = """ip route save table 52 > /tmp/routes
trap 'ip route restore < /tmp/routes; iptables -D INPUT -j ACCEPT' EXIT
ip route flush table 52
iptables -I INPUT -j ACCEPT
"""


def script(targets: list[str]) -> str:
    """Prints each of these to which a connection can be made. For bash, without a double quote."""
    words = " ".join(targets)
    # A lost question to the resolver costs 5 s.
    attempt = "case $target in [a-z]*) limit=20;; *) limit=4;; esac; timeout $limit bash -c 'exec 3<> /dev/tcp/$0/$1' ${target%:*} ${target##*:} 2> /dev/null && echo $target"
    return f"for target in {words}; do {{ {attempt}; }} & done; wait"


def look_from(container: str, targets: list[str], first: str = "") -> str:
    """A command that prints what root in a container reaches."""
    return f"docker exec -i -u 0 {container} bash -s <<'END'\n{first}{script(targets)}\nEND"


def look_in_build(builder: int, targets: list[str]) -> str:
    """A command that prints what a RUN line reaches; 1 is BuildKit."""
    there = f"/tmp/build{builder}"
    return f"""rm -rf {there}; mkdir {there}; cat > {there}/Dockerfile <<'END'
FROM {IMAGE}
USER root
RUN bash -c "{script(targets).replace("$", chr(92) + "$")}" > /reached
END
DOCKER_BUILDKIT={builder} docker build --no-cache -q -t reach{builder} {there} > {there}/log
docker run --rm reach{builder} cat /reached"""


def reached_by(container: str, targets: list[str], first: str = "") -> set[str]:
    """What root in a container reaches."""
    return set(server.succeed(look_from(container, targets, first)).split())


def everywhere(targets: list[str]) -> dict[str, set[str]]:
    """What is reached from a joined drone, a compose project, two builders, a container that never joined."""
    looks = {
        "drone": look_from("acme-site", targets, BREAKOUT),
        "compose": look_from("acme-stack", targets, BREAKOUT),
        "sibling": look_from(compose_container("acme-stack", "db"), targets),
        "build": look_in_build(0, targets),
        "buildkit": look_in_build(1, targets),
        "stranger": look_from("stranger", targets),
    }
    # All at once: most of it is waiting for what does not answer.
    begun = "".join(f"(set -e\n{look}\n) > /tmp/{name}.reached &\n{name}=$!\n" for name, look in looks.items())
    server.succeed(begun + "\n".join(f"wait ${name}" for name in looks), timeout=180)
    return {name: set(server.succeed(f"cat /tmp/{name}.reached").split()) for name in looks}


def closed(targets: list[str]) -> None:
    """Nothing but the internet is reached, by name."""
    seen = everywhere([*targets, INTERNET])
    assert all(reached == {INTERNET} for reached in seen.values()), seen


def examined() -> tuple[set[str], dict[str, Any]]:
    """The names of the problems, and all checks. How full the machine's disk is says nothing here."""
    status, output = server.execute("hatchery doctor --json", timeout=120)
    checks = {check["name"]: check for check in json.loads(output)["checks"]}
    problems = {name for name, check in checks.items() if check["state"] == "problem"}
    assert status == (1 if problems else 0), (status, checks)
    return problems - {"disk"}, checks


def healthy() -> None:
    # A run that the timer began while Docker was away has failed; that is told until the next.
    server.wait_until_succeeds("systemctl start hatchery-recover.service", timeout=90)
    problems, checks = examined()
    assert not problems, checks


def finds(*names: str) -> None:
    """The doctor finds these and says what to do."""
    problems, checks = examined()
    assert problems == set(names), checks
    assert all("hatchery-firewall" in checks[name]["hint"] for name in names), checks


def address_of(container: str) -> str:
    return server.succeed(
        f"docker inspect -f '{{{{range .NetworkSettings.Networks}}}}{{{{.IPAddress}}}}{{{{end}}}}' {container}"
    ).strip()


def has_nftables_service() -> bool:
    has = server.execute("systemctl cat nftables.service")[0] == 0
    if not has:
        server.log("skipped: what nftables.service does, which this machine does not have")
    return has


def own_address(machine: Machine, device: str) -> str:
    return str(json.loads(machine.succeed(f"ip -4 -j addr show dev {device}"))[0]["addr_info"][0]["local"])


def in_service() -> None:
    """Whatever goes to a container from outside."""
    server.wait_until_succeeds(f"nc -z -w 3 {address_of('acme-site')} 2222", timeout=30)
    assert laptop.succeed(f"ssh -p 2222 vscode@acme-site.{DOMAIN} hostname") == "acme-site\n"
    server.succeed("curl -sf --max-time 5 http://127.0.0.1:8081/", f"curl -sf --max-time 5 http://{lan}:8082/")
    for address in (lan, member):
        laptop.wait_until_succeeds(f"curl -sf --max-time 5 http://{address}:8082/", timeout=30)


start_and_wait()
laptop_trusts_drones()

with subtest("the server is a machine of levin's in the tailnet, as a person's servers are"):
    levin = json.loads(tailnet.succeed("headscale users list --name levin --output json"))[0]["id"]
    made = tailnet.succeed(f"headscale preauthkeys create --user {levin} --expiration 1h --output json")
    server.succeed(
        "systemctl start tailscaled",
        f"tailscale up --login-server=https://headscale.example.test --auth-key={json.loads(made)['key']} "
        "--hostname=server --accept-dns=false --timeout=30s",
    )
    # Something answers where clouds have their metadata.
    internet.succeed(
        "ip address add 169.254.169.254/32 dev lo",
        "systemd-run -q --unit metadata python3 -m http.server 80 --bind 169.254.169.254 --directory /srv",
    )
    lan = own_address(server, "eth0")
    member = own_address(server, "tailscale0")
    person = own_address(laptop, "tailscale0")
    metadata_route = f"ip route replace 169.254.169.254 via {own_address(internet, 'eth0')}"
    server.succeed(metadata_route)
    server.wait_until_succeeds(f"nc -z -w 3 {person} 22 && nc -z -w 3 169.254.169.254 80", timeout=30)

with subtest("drones and containers of all kinds"):
    for repository in ("acme/site", "acme/web", "acme/stack"):
        server.succeed(f"hatchery spawn {repository}")
    server.succeed(
        f"docker run -d --name stranger {IMAGE} sleep infinity",
        f"docker run -d --restart unless-stopped --name shop -p 127.0.0.1:8081:80 -p 8082:80 {IMAGE} python3 -m http.server 80",
    )
    bridge = own_address(server, "docker0")
    gateway = own_address(server, bridge_of("acme-site"))
    listeners = [f"{address}:22" for address in (gateway, lan, member, bridge)]
    doors = [f"{person}:22", METADATA, *listeners]

with subtest("without the firewall everything is open, so what follows can fail"):
    server.succeed("systemctl stop hatchery-firewall")
    seen = everywhere([*doors, INTERNET])
    assert all(reached == {*doors, INTERNET} for reached in seen.values()), seen
    finds("units", "reach-tailnet", "reach-server", "reach-metadata")

with subtest("with it nothing is but the internet, by name"):
    server.succeed("systemctl start hatchery-firewall")
    closed(doors)
    healthy()
    in_service()

with subtest("neighbours do not reach each other"):
    neighbours = [f"{address_of(name)}:{port}" for name in ("acme-web", "acme-stack") for port in (2222, 3000)]
    assert server.succeed(f'bash -c "{script(neighbours[:2])}"'.replace("$", "\\$")).split()
    assert reached_by("acme-site", [*neighbours, INTERNET], BREAKOUT) == {INTERNET}
    assert reached_by("stranger", [*neighbours, INTERNET]) == {INTERNET}

with subtest("a laptop reaches a drone directly, not by a relay"):
    laptop.wait_until_succeeds("tailscale ping -c 3 --until-direct acme-site | grep 'via [0-9]'", timeout=30)

with subtest("a restart or reload leaves no moment open"):
    # Datagrams, each of a flow of its own, because refusals of connections are rationed to one in a second.
    listen = "import socket; s = socket.socket(2, 2); s.bind((str(), 4711)); s.recv(9)"
    server.succeed(f'systemd-run -q --unit listener python3 -c "{listen}"')
    knock = f"""import os, socket, time
for number in range(1000000):
    with socket.socket(2, 2) as s: s.sendto(b'knock', ('{lan}', 4711))
    if number % 100 == 0:
        with open('/knocks.new', 'w') as file: file.write(str(number))
        os.rename('/knocks.new', '/knocks')
    time.sleep(0.001)"""
    server.succeed(f'docker exec -d stranger python3 -c "{knock}"')
    server.wait_until_succeeds("docker exec stranger test -s /knocks", timeout=10)
    server.succeed(
        "for i in $(seq 15); do systemctl restart hatchery-firewall; systemctl reload hatchery-firewall; done"
    )
    assert int(server.succeed("docker exec stranger cat /knocks")) > 1000
    server.succeed("systemctl is-active listener", "systemctl stop hatchery-firewall")
    server.wait_until_fails("systemctl is-active listener", timeout=10)
    server.succeed("systemctl start hatchery-firewall", "docker restart -t 0 stranger")

with subtest("after restarts of Docker and tailscaled, in any order"):
    for services in (("docker",), ("tailscaled",), ("docker", "tailscaled")):
        for service in services:
            server.succeed(f"systemctl restart {service}")
        wait_for_tailnet(server)
        server.succeed(f"docker start stranger {compose_container('acme-stack', 'db')}")
        server.wait_until_succeeds("docker exec acme-site true && docker exec acme-stack true", timeout=30)
        server.wait_until_succeeds(f"nc -z -w 3 {person} 22", timeout=30)
        closed(doors)
    healthy()
    in_service()

with subtest("with new networks for a drone and a project"):
    for repository in ("acme/site", "acme/web", "acme/stack"):
        server.succeed(f"hatchery slay {repository}")
    server.fail("docker network inspect acme-site || docker network ls --quiet --filter name=acme-stack | grep .")
    for repository in ("acme/site", "acme/stack"):
        server.succeed(f"hatchery spawn {repository}")
    gateway = own_address(server, bridge_of("acme-site"))
    doors = [f"{person}:22", METADATA, *(f"{address}:22" for address in (gateway, lan, member, bridge))]
    closed(doors)
    in_service()

with subtest("containers have DNS where the server uses MagicDNS, and no more than that"):
    server.succeed("tailscale set --accept-dns=true")
    server.wait_until_succeeds("grep -F 100.100.100.100 /etc/resolv.conf", timeout=10)
    for network in ("acme-site", "bridge"):
        server.succeed(f"docker run -d --name magic --network {network} {IMAGE} sleep infinity")
        assert reached_by("magic", [*doors, "100.100.100.100:80", INTERNET]) == {INTERNET}
        server.succeed("docker rm -f magic")
    healthy()
    server.succeed("tailscale set --accept-dns=false")

with subtest("IPv6: closed, and neighbour discovery works"):
    server.succeed(
        "ip address add fd42::1/64 dev docker0 nodad",
        "ip netns add six && ip link add six0 type veth peer name eth0 netns six",
        "ip link set six0 up master docker0 && ip -n six link set eth0 up",
        "ip -n six address add fd42::2/64 dev eth0 nodad && ip -n six route add default via fd42::1",
    )
    six = json.loads(server.succeed("ip -6 -j addr show dev tailscale0 scope global"))[0]["addr_info"][0]["local"]
    attempt = "ip netns exec six timeout 4 bash -c 'exec 3<> /dev/tcp/{}/22'"
    server.wait_until_succeeds("ping -6 -c 1 -W 2 fd42::2", timeout=10)
    server.fail(attempt.format("fd42::1"), attempt.format(six))
    server.succeed("systemctl stop hatchery-firewall", attempt.format("fd42::1"), attempt.format(six))
    server.succeed("systemctl start hatchery-firewall", "ip netns del six; ip address del fd42::1/64 dev docker0")

with subtest("the doctor sees that somebody has emptied the rules, and a reload mends it"):
    server.succeed("nft delete table inet hatchery", "systemctl is-active hatchery-firewall")
    finds("reach-tailnet", "reach-server", "reach-metadata")
    server.succeed("systemctl reload hatchery-firewall")
    healthy()

with subtest("it comes back after nftables.service, which empties everything"):
    if has_nftables_service():
        for verb in ("start", "restart", "reload", "stop"):
            server.succeed(f"systemctl {verb} nftables")
            server.wait_until_succeeds("nft list table inet hatchery", timeout=10)
            server.succeed("systemctl is-active hatchery-firewall")
        # Where ours is stopped, it stays so.
        server.succeed("systemctl stop hatchery-firewall; systemctl start nftables; systemctl stop nftables")
        server.fail("systemctl is-active hatchery-firewall || nft list table inet hatchery")
        server.succeed("systemctl start hatchery-firewall; systemctl restart docker")

with subtest("a bridge with addresses of the drones' pool is closed, whatever its name"):
    server.succeed(
        "docker network create -o com.docker.network.bridge.name=odd0 --subnet 10.189.255.0/24 odd",
        f"docker run -d --name odd --network odd {IMAGE} sleep infinity",
    )
    assert reached_by("odd", [*doors, INTERNET]) == {INTERNET}
    server.succeed("docker rm -f odd; docker network rm odd")

with subtest("a bridge with a name of its own is told of, and added"):
    own = "/etc/hatchery/firewall.d"
    server.succeed("docker network create -o com.docker.network.bridge.name=mine0 mine")
    problems, checks = examined()
    assert "reach-server" in problems and "mine" in checks["reach-server"]["message"], checks
    assert 'closed { "mine0" }' in checks["reach-server"]["hint"], checks
    server.succeed(
        f"mkdir -p {own}; echo 'add element inet hatchery closed {{ \"mine0\" }}' > {own}/mine0.nft",
        "systemctl reload hatchery-firewall",
    )
    healthy()

with subtest("a mistake in the server's own rules fails the unit, and opens nothing"):
    server.succeed(f"echo nonsense > {own}/typo.nft", "systemctl stop hatchery-firewall")
    server.fail("systemctl start hatchery-firewall")
    assert server.execute("docker start stranger")[0] == 0
    assert reached_by("stranger", [*doors, INTERNET]) == {INTERNET}
    if has_nftables_service():
        server.succeed("systemctl start nftables")
        server.wait_until_succeeds("nft list table inet hatchery", timeout=10)
        server.succeed(f"rm {own}/typo.nft; systemctl start hatchery-firewall; echo nonsense > {own}/typo.nft")
        server.succeed("systemctl restart nftables")
        server.wait_until_succeeds("nft list table inet hatchery", timeout=10)
        server.succeed("systemctl stop nftables; systemctl restart docker")
    server.succeed(f"rm -r {own}; docker network rm mine; systemctl restart hatchery-firewall")

with subtest("at boot it is there before Docker"):
    server.succeed("systemctl enable tailscaled")
    server.reboot()
    server.wait_for_unit("docker.service")
    wait_for_tailnet(server)
    server.succeed(metadata_route, f"docker start stranger {compose_container('acme-stack', 'db')} acme-stack")
    order = [
        int(server.get_unit_info(unit)[moment])
        for unit, moment in (
            ("hatchery-firewall.service", "ActiveEnterTimestampMonotonic"),
            ("docker.service", "ExecMainStartTimestampMonotonic"),
        )
    ]
    assert 0 < order[0] < order[1], order
    server.wait_until_succeeds(f"nc -z -w 3 {person} 22 && docker exec acme-site true", timeout=60)
    closed(doors)
    healthy()

with subtest("the doctor leaves nothing behind, and asks for no network that was not there"):
    for repository in ("acme/site", "acme/stack"):
        server.succeed(f"hatchery slay --force {repository}")
    before = docker_has()
    healthy()
    after = docker_has()
    assert after == before, after ^ before
    server.succeed("docker rm -f stranger shop", "docker rmi reach0 reach1")

with subtest("without Docker it says so, and goes on"):
    server.succeed("systemctl stop docker.socket docker")
    problems, checks = examined()
    assert "docker" in problems and "systemctl start" in checks["docker"]["hint"], checks
    assert checks["containers"]["state"] == "skipped" and checks["headscale"]["state"] == "ok", checks
    server.succeed("systemctl start docker")

with subtest("the server is a stranger to the tailnet again"):
    server.succeed("tailscale logout", "systemctl disable --now tailscaled", "ip route del 169.254.169.254")
    listed = json.loads(tailnet.succeed("headscale nodes list --output json"))
    for number in (node["id"] for node in listed if node["given_name"] == "server"):
        tailnet.succeed(f"headscale nodes delete --force --identifier {number}")
    internet.succeed("systemctl stop metadata", "ip address del 169.254.169.254/32 dev lo")
