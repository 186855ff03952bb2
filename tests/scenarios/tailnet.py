"""The tailnet: nodes are registered from outside, keys stay outside, and names are freed or explained."""

import json
from typing import Any

SECRETS = "/etc/hatchery/secrets"
# Every key of Headscale's looks like this. The brackets keep a search from finding itself.
KEY = "[h]skey-(auth|api)-[A-Za-z0-9_-]{12}-"


def configuration(name: str, *edits: str) -> str:
    """A configuration like the server's, changed by `sed` scripts; the command that uses it."""
    file = f"/etc/hatchery/{name}.toml"
    changes = " ".join(f"-e '{edit}'" for edit in edits)
    server.succeed(f"sed {changes} /etc/hatchery/config.toml > {file}")
    return f"hatchery --config {file}"


def secret(name: str, text: str) -> str:
    """A file with a secret; its path."""
    server.succeed(f"install -m 600 /dev/stdin {SECRETS}/{name} <<< '{text}'")
    return f"{SECRETS}/{name}"


def headscale(arguments: str) -> Any:
    return json.loads(tailnet.succeed(f"headscale {arguments} --output json"))


def auth_key(user: str, options: str) -> tuple[int, str]:
    """A new pre-auth key's number and text."""
    number = headscale(f"users list --name {user}")[0]["id"]
    made = headscale(f"preauthkeys create --user {number} {options}")
    return int(made["id"]), str(made["key"])


def states() -> list[tuple[str, str]]:
    return [(drone["name"], drone["state"]) for drone in json.loads(server.succeed("hatchery list --json"))]


def objects() -> set[str]:
    """Everything of Docker's that a spawn makes, by name, and every tailscaled; the server's own locks stay."""
    beside = "pgrep -x tailscaled || true; find /var/cache/hatchery /run/hatchery -not -path '*/.locks/.*'"
    return docker_has() | set(server.succeed(beside).split())


def refused(command: str, code: str, *words: str) -> None:
    """Exit status 7, this code, these words, no key shown, and nothing left behind."""
    before = objects()
    status, output = server.execute(f"{command} --json 2> /tmp/talk", timeout=120)
    assert status == 7, f"{command} ends with {status}: {output}"
    error = json.loads(output)["error"]
    assert error["code"] == code, error
    said = f"{error['message']} {error['hint']}"
    assert all(word in said for word in words), said
    assert "hskey" not in output + server.succeed("cat /tmp/talk"), output
    new = objects() - before
    assert not new, new


def hears(name: str, address: str, port: int) -> bool:
    """Whether root in this drone gets a word from this listener."""
    probe = f"exec 3<> /dev/tcp/{address}/{port} && head -c 1 <&3"
    return server.execute(f"docker exec {name} timeout 4 bash -c '{probe}'")[1] != ""


def forget(name: str) -> None:
    """As Headscale does with an ephemeral node that is away for too long."""
    tailnet.succeed(f"headscale nodes delete --force -i {nodes()[name]['id']}")


def rename(name: str, other: str) -> None:
    tailnet.succeed(f"headscale nodes rename {other} -i {nodes()[name]['id']}")


def called(name: str, other: str) -> None:
    """The drone gives itself another name."""
    server.succeed(f"docker exec {name} tailscale set --hostname={other}")
    tailnet.wait_until_succeeds(f"{NODES} | grep -qx {other}", timeout=20)


def address_of(name: str) -> str:
    return next(str(address) for address in nodes()[name]["ip_addresses"] if ":" not in address)


def watched(command: str) -> None:
    """Runs it while all processes and objects of the server are searched for keys, over and over."""
    planted, start = "hskey-auth-planted-here-", "systemd-run --quiet --collect --unit watch bash /tmp/watch"
    server.succeed(
        f"""cat > /tmp/watch <<'END'
while :; do
    grep -saoE '{KEY}' /proc/[0-9]*/cmdline /proc/[0-9]*/environ >> /tmp/found
    echo >> /tmp/looks
done &
while :; do
    for kind in "container ls -a" "volume ls" "image ls" "network ls"; do
        docker $kind -q | xargs -r docker ${{kind%% *}} inspect 2> /dev/null
    done | grep -oE '{KEY}' | sed 's/^/docker:/' >> /tmp/found
done
END""",
        "> /tmp/found",
        start,
        f"docker volume create --label planted={planted} planted",
    )
    # It finds what is planted: in this very command, in what it starts, in a label.
    for place in ("/proc/.*/cmdline", "/proc/.*/environ", "docker"):
        seen = f"until grep -q '^{place}:{planted}' /tmp/found; do sleep 0.1; done"
        server.wait_until_succeeds(f'PLANTED={planted} timeout 20 bash -c "{seen}"', timeout=120)
    server.succeed("docker volume rm planted", "systemctl stop watch", "> /tmp/found; > /tmp/looks", start)
    server.succeed(command, "systemctl stop watch")
    assert server.succeed("cat /tmp/found") == ""
    assert int(server.succeed("wc -l < /tmp/looks")) > 20


def searched(pattern: str) -> list[str]:
    """Which of acme-site's container, image, objects and volumes, and whether the journal, holds this."""
    image = "$(docker inspect -f '{{.Image}}' acme-site)"
    volumes = "$(docker inspect -f '{{range .Mounts}}{{.Name}} {{end}}' acme-site)"
    places = {
        "container": "docker export acme-site",
        "objects": f"docker inspect acme-site {image} {volumes}",
        "image": f"docker history --no-trunc {image}",
        "volumes": f"docker volume inspect -f '{{{{.Mountpoint}}}}' {volumes} | xargs tar -cP",
        "journal": "journalctl --no-pager",
    }
    return [place for place, command in places.items() if server.execute(f"{command} | grep -caE '{pattern}'")[0] == 0]


start_and_wait()
stop_recovery()
laptop_trusts_drones()
reusable = configuration("reusable", "/^api_key_file/d")
shared_key = next(key for key in headscale("preauthkeys list") if key.get("reusable"))

with subtest("with an API key, a node joins by a key of its own: for one use, for minutes, ephemeral"):
    watched("hatchery spawn acme/site")
    node = nodes()["acme-site"]
    key = node["pre_auth_key"]
    assert key["used"] and key["ephemeral"] and not key.get("reusable"), key
    assert 0 < key["expiration"]["seconds"] - key["created_at"]["seconds"] <= 900, key
    assert node["user"]["name"] == "devcontainer", node
    server.succeed(
        f"hatchery status acme/site | grep -F 'connected as acme-site ({node['ip_addresses'][0]},' > /dev/null"
    )

with subtest("the node is registered before the drone runs"):
    started = server.succeed("date +%s -d $(docker inspect -f '{{.State.StartedAt}}' acme-site)")
    assert node["created_at"]["seconds"] <= int(started), (node["created_at"], started)

with subtest("no key is in the drone, its objects, its volumes, or the journal"):
    assert searched(KEY) == []
    assert searched("_machinekey|hatchery") == ["container", "objects", "image", "volumes", "journal"]

with subtest("burrow leaves the tailnet, unburrow has the name again"):
    server.succeed("hatchery burrow acme/site")
    assert list(nodes()) == ["laptop"]
    watched("hatchery unburrow acme/site")
    assert sorted(nodes()) == ["acme-site", "laptop"]
    assert laptop.succeed(f"{SSH} vscode@acme-site.{DOMAIN} hostname") == "acme-site\n"
    assert searched(KEY) == []

with subtest("a node that Headscale has forgotten is told of, and comes back"):
    forget("acme-site")
    server.succeed("docker restart -t 3 acme-site")
    server.wait_until_succeeds(
        "hatchery status acme/site | grep '^tailnet ' | grep 'not registered any more' > /dev/null", timeout=30
    )
    server.succeed("hatchery burrow acme/site", "hatchery unburrow acme/site")
    server.succeed("hatchery status acme/site | grep '^tailnet *connected as acme-site ' > /dev/null")

with subtest("Headscale forgets a node while its drone's image is built"):
    # For longer than a node that does not run is taken for known. What follows runs meanwhile.
    publish(
        "acme/slow",
        {
            ".devcontainer/devcontainer.json": '{"build": {"dockerfile": "Dockerfile"}}',
            ".devcontainer/Dockerfile": "FROM mcr.microsoft.com/devcontainers/base:ubuntu\nRUN sleep 32",
        },
    )
    server.succeed("systemd-run --quiet --unit slow sh -c 'hatchery spawn acme/slow > /tmp/slow 2>&1'")
    tailnet.wait_until_succeeds("headscale nodes list | grep acme-slow", timeout=30)
    server.wait_until_succeeds("! pgrep -x tailscaled -a | grep acme-slow", timeout=10)
    forget("acme-slow")

with subtest("a drone that leaves the tailnet again and again gets no key, and is registered three times an hour"):
    # Its own tailscale, which keeps what it is given and says what it likes.
    server.succeed(
        """docker exec -i acme-site sh -c 'real=$(readlink -f $(command -v tailscale))
mv $real $real.real; sed "s|REAL|$real.real|" > $real; chmod 755 $real
tailscale status --json > /lie; sleep 4711 > /dev/null 2>&1 &' <<'END'
#!/bin/bash
case "$*" in
*auth-key*) { echo "$*"; cat; } >> /keys; exit 1 ;;
"status --json") [ ! -e /lies ] || exec cat /lie ;;
esac
exec -a "${0##*/}" REAL "$@"
END"""
    )
    for lies in ("rm -f", "rm -f", "touch"):
        server.succeed(f"docker exec acme-site sh -c '{lies} /lies; tailscale logout'")
        assert "acme-site" not in nodes()
        said = server.succeed("hatchery recover")
        assert said.startswith("acme-site: ") and "registered in the tailnet again" in said, said
        assert "acme-site" in nodes()
    # What ran in it does so still.
    server.succeed("docker exec acme-site pgrep -fx 'sleep 4711'")
    assert laptop.succeed(f"{SSH} vscode@acme-site.{DOMAIN} hostname") == "acme-site\n"
    server.succeed("docker exec acme-site sh -c 'rm /lies; tailscale logout'")
    status, said = server.execute("hatchery recover 2>&1", timeout=60)
    assert status == 1 and "3 times within an hour" in said and "hatchery unburrow acme/site" in said, said
    server.succeed("hatchery status acme/site | grep '^tailnet *not registered any more; burrow' > /dev/null")
    assert "acme-site" not in nodes()
    server.fail("docker exec acme-site test -e /keys")
    server.fail("hatchery unburrow acme/site")
    server.succeed("hatchery burrow acme/site && hatchery unburrow acme/site")

with subtest("the policy lets the laptop reach a drone on any port, and the drone nobody"):
    server.succeed("docker exec -d acme-site python3 -m http.server 4711")
    laptop.wait_until_succeeds(f"curl -sf --max-time 5 http://acme-site.{DOMAIN}:4711/", timeout=30)
    address = address_of("laptop")
    assert hears("acme-site", "127.0.0.1", 2222) and not hears("acme-site", address, 22)
    server.fail(f"docker exec acme-site ping -c 1 -W 3 {address}")
    # It is the policy that forbids it, and nothing else.
    policy = "/etc/headscale/policy.hujson"
    tailnet.succeed(
        f"cp {policy} /tmp/policy",
        f"""echo '{{"acls": [{{"action": "accept", "src": ["*"], "dst": ["*:*"]}}]}}' > {policy}""",
        "systemctl reload headscale",
    )
    server.wait_until_succeeds(f"docker exec acme-site ping -c 1 -W 3 {address}", timeout=60)
    assert hears("acme-site", address, 22)
    tailnet.succeed(f"cp /tmp/policy {policy}", "systemctl reload headscale")
    server.wait_until_fails(f"docker exec acme-site ping -c 1 -W 3 {address}", timeout=60)
    assert not hears("acme-site", address, 22)

with subtest("the drone whose node was forgotten comes up all the same"):
    server.wait_until_succeeds("! systemctl --quiet is-active slow", timeout=120)
    assert server.succeed("tail -n 1 /tmp/slow") == f"ssh -p 2222 vscode@acme-slow.{DOMAIN}\n"
    assert laptop.succeed(f"{SSH} vscode@acme-slow.{DOMAIN} hostname") == "acme-slow\n"
    server.succeed("hatchery slay acme/slow")

with subtest("a drone that calls itself otherwise has its place, and gets its name back as often as it likes"):
    keys = len(headscale("preauthkeys list"))
    for other in ("elsewhere", "somewhere"):
        own = nodes()["acme-site"]["node_key"]
        called("acme-site", other)
        # It has had its three registrations, and needs none.
        assert server.succeed("hatchery recover") == "acme-site: its tailnet name was restored\n"
        assert nodes()["acme-site"]["node_key"] == own and other not in nodes()
        assert laptop.wait_until_succeeds(f"{SSH} vscode@acme-site.{DOMAIN} hostname", timeout=20) == "acme-site\n"
        assert server.succeed("hatchery recover") == ""
        # From the name that it has been given back it comes to another by way of that name alone.
        server.succeed("docker exec acme-site tailscale set --hostname=acme-site")
        tailnet.wait_until_fails(f"headscale nodes list --output json | jq -e '.[] | select(.name == \"{other}\")'")
    server.succeed("hatchery unburrow acme/site")
    assert len(headscale("preauthkeys list")) == keys

with subtest("a drone that calls itself by another drone's name keeps that one from nothing"):
    own = nodes()["acme-site"]["node_key"]
    called("acme-site", "acme-web")
    server.succeed("hatchery spawn acme/web")
    assert sorted(nodes()) == ["acme-site", "acme-web", "laptop"]
    assert nodes()["acme-site"]["node_key"] == own
    for name in ("acme-site", "acme-web"):
        assert laptop.wait_until_succeeds(f"{SSH} vscode@{name}.{DOMAIN} hostname", timeout=20) == f"{name}\n"
    # Nor when that one has lost its node.
    forget("acme-web")
    rename("acme-site", "acme-web")
    assert "acme-web: registered in the tailnet again\n" in server.succeed("hatchery recover")
    assert sorted(nodes()) == ["acme-site", "acme-web", "laptop"]
    assert nodes()["acme-site"]["node_key"] == own

with subtest("a registration that fails counts like one that does not"):
    nobody = configuration("nobody", 's/^user = .*/user = "nobody"/')
    server.succeed("docker exec acme-web tailscale logout")
    for _ in range(2):
        status, said = server.execute(f"{nobody} recover 2>&1", timeout=60)
        assert status == 1 and "has no user nobody" in said, said
    keys = len(headscale("preauthkeys list"))
    for own in ("hatchery", nobody):
        status, said = server.execute(f"{own} recover 2>&1", timeout=60)
        assert status == 1 and "3 times within an hour" in said, said
    assert "acme-web" not in nodes() and len(headscale("preauthkeys list")) == keys
    server.succeed("hatchery burrow acme/web && hatchery unburrow acme/web")

with subtest("of a drone nothing stays in the tailnet, whatever it calls itself"):
    called("acme-web", "hidden")
    server.succeed("hatchery burrow acme/web")
    assert sorted(nodes()) == ["acme-site", "laptop"]
    server.succeed("hatchery unburrow acme/web")
    called("acme-web", "hidden")
    # What has its name now is not its.
    rename("acme-site", "acme-web")
    server.succeed("hatchery slay acme/web")
    assert sorted(nodes()) == ["acme-web", "laptop"]
    assert server.succeed("hatchery recover") == "acme-site: its tailnet name was restored\n"

with subtest("a key that is wrong, expired or used up"):
    number, expired = auth_key("devcontainer", "--reusable --ephemeral")
    tailnet.succeed(f"headscale preauthkeys expire -i {number}")
    _, once = auth_key("devcontainer", "--ephemeral")
    wrong = once[:-8] + "00000000"
    for name, text, why in (("wrong", wrong, "not know"), ("expired", expired, "expired"), ("once", once, "used")):
        file = secret(f"{name}-key", text)
        own = configuration(name, "/^api_key_file/d", f's#^auth_key_file.*#auth_key_file = "{file}"#')
        if name == "once":
            server.succeed(f"{own} spawn acme/web", f"{own} slay acme/web")
        refused(f"{own} spawn acme/web", "tailnet-refused", why, "headscale preauthkeys create")
    file = secret("wrong-api-key", "hskey-api-000000000000-" + "0" * 64)
    wrong_api = configuration("wrong-api", f's#^api_key_file.*#api_key_file = "{file}"#')
    refused(f"{wrong_api} spawn acme/web", "tailnet-refused", "headscale apikeys create", file)
    assert sorted(nodes()) == ["acme-site", "laptop"]

with subtest("a drone that cannot join stays burrowed"):
    server.succeed("hatchery burrow acme/site")
    refused(f"{wrong_api} unburrow acme/site", "tailnet-refused")
    assert states() == [("acme-site", "burrowed")]
    server.succeed("hatchery unburrow acme/site")

with subtest("the reusable key alone: the same node, and no key anywhere"):
    server.succeed("hatchery slay acme/site")
    watched(f"{reusable} spawn acme/site")
    node = nodes()["acme-site"]
    assert (node["pre_auth_key"]["id"], node["user"]["name"]) == (shared_key["id"], "devcontainer"), node
    assert searched(KEY) == []
    server.succeed(f"{reusable} burrow acme/site", f"{reusable} unburrow acme/site", f"{reusable} burrow acme/site")
    assert list(nodes()) == ["laptop"]
    watched(f"{reusable} unburrow acme/site")
    assert sorted(nodes()) == ["acme-site", "laptop"]

with subtest("a stale node that holds the name is explained, or removed where there is an API key"):
    # As it is when somebody removes a drone behind hatchery's back.
    server.succeed("docker rm -f acme-site", "docker volume rm acme-site")
    stale = nodes()["acme-site"]["id"]
    refused(f"{reusable} spawn acme/site", "tailnet-refused", "acme-site", "headscale nodes delete")
    assert sorted(nodes()) == ["acme-site", "laptop"] and nodes()["acme-site"]["id"] == stale
    server.succeed("hatchery spawn acme/site")
    assert sorted(nodes()) == ["acme-site", "laptop"] and nodes()["acme-site"]["id"] != stale
    assert laptop.succeed(f"{SSH} vscode@acme-site.{DOMAIN} hostname") == "acme-site\n"

with subtest("a person's node that has the name keeps it"):
    person = nodes()["laptop"]["id"]
    tailnet.succeed(f"headscale nodes rename acme-web -i {person}")
    for own in ("hatchery", reusable):
        refused(f"{own} spawn acme/web", "tailnet-refused", "acme-web")
        assert sorted(nodes()) == ["acme-site", "acme-web"] and nodes()["acme-web"]["id"] == person
    tailnet.succeed(f"headscale nodes rename laptop -i {person}")

with subtest("Headscale is silent, or away"):
    server.succeed("hatchery slay acme/site")
    tailnet.block()
    refused("hatchery spawn acme/web", "tailnet-away", "headscale.example.test")
    tailnet.unblock()
    # Killed, because it waits for all its nodes when it is told to stop.
    tailnet.succeed("systemctl kill -s KILL headscale; systemctl stop headscale")
    for own in ("hatchery", reusable):
        refused(f"{own} spawn acme/web", "tailnet-away", "headscale.example.test")
    tailnet.succeed("systemctl start headscale")
    tailnet.wait_until_succeeds("headscale nodes list", timeout=30)
    assert list(nodes()) == ["laptop"]
    laptop.succeed("systemctl restart tailscaled")
    laptop.wait_until_succeeds("tailscale status --json | jq -e '.BackendState == \"Running\"'", timeout=60)
    server.wait_until_succeeds("hatchery spawn acme/web", timeout=60)
    assert laptop.succeed(f"{SSH} vscode@acme-web.{DOMAIN} hostname") == "acme-web\n"
    server.succeed("hatchery slay acme/web")
