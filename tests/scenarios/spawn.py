"""The architecture as the specification tells it, sentence by sentence, mostly from the laptop."""

import itertools
import json
import re
from typing import Any

ADDED = ("/features/sshd", "/codespace/tailscale")
# Steps of each spawn, in the order in which they end.
TIMED = ("clone", "build", "create", "ssh")


def spawn(arguments: str) -> Any:
    return json.loads(server.succeed(f"hatchery spawn {arguments} --json"))


def slay(*names: str) -> None:
    for name in names:
        server.succeed(f"hatchery slay --force {name}")


def heard(name: str, *listeners: str) -> list[str]:
    """Those of the listeners (`address/port`) that say something to root in a drone."""
    probe = (
        "timeout 4 bash -c 'exec 3<> /dev/tcp/'$it' && echo x >&3 && head -c 1 <&3' | grep . > /dev/null && echo $it"
    )
    return sorted(on(name, f"for it in {' '.join(listeners)}; do ({probe}) & done; wait", "root").split())


def traces(name: str) -> str:
    """What Docker and the tailnet have of a drone."""
    label = f"--filter label=hatchery.drone={name}"
    found = server.succeed(f"docker ps -aq {label}; docker volume ls -q {label}; docker images -q {label}")
    return found + "".join(node for node in nodes() if node.startswith(name))


def is_a_whole_clone(name: str, folder: str) -> None:
    """With all of its history, the remote user's own, and nothing in it that git does not know."""
    on(name, f"cd {folder}; git fetch; git fsck --strict; test $(git rev-parse main) = $(git rev-parse origin/main)")
    assert on(name, f"git -C {folder} status --porcelain --ignored") == ""
    assert on(name, f"find {folder} ! -user vscode -o ! -group vscode") == ""
    assert on(name, f"cd {folder}; git rev-list --count HEAD; git tag; git remote get-url origin").split() == [
        "2",
        "v1.0",
        f"https://github.com/acme/{folder.rpartition('/')[2]}",
    ]
    assert on(name, f"git -C {folder} rev-parse --is-shallow-repository") == "false\n"


start_and_wait()
# All that a person's machine knows of drones.
authority = laptop_trusts_drones()
server.succeed(
    "git config --global user.name 'Sarah \"Blades\" Kerrigan'; git config --global user.email sarah@example.test"
)
assert authority.startswith("@cert-authority ") and authority.count("\n") == 1, authority

with subtest("spawn clones, runs `devcontainer up`, waits for Tailscale to connect, and prints the hostname"):
    command = "hatchery spawn --timings acme/site"
    assert server.succeed(f"{command} 2> /tmp/talk") == f"ssh -p 2222 vscode@acme-site.{DOMAIN}\n"
    talk = server.succeed("cat /tmp/talk")
    assert "\nSpawning drone... Hatchery ready.\n" in talk, talk
    assert "\x1b" not in talk and "🟢" not in talk, f"no terminal reads this: {talk!r}"
    head = ["BEGIN", "END", "TOOK", "STEP"]
    table = list(itertools.dropwhile(lambda line: line.split() != head, talk.splitlines()))
    rows = [line.split(maxsplit=3) for line in table[1:]]
    assert {step for *_, step in rows} >= set(TIMED), talk
    assert all(re.fullmatch(r"( *\d+\.\d\d){3}  \S.*", line) for line in table[1:]), talk
    assert all(float(begin) < float(end) for begin, end, _, step in rows if step in TIMED), talk
    # The log has them in any case; its last line is how the spawn ended.
    assert server.succeed("hatchery logs --spawn acme/site").splitlines()[-len(table) - 1 :] == [*table, "done"]
    error = error_of("hatchery spawn acme/site", 4)
    assert error["code"] == "drone-exists", error
    assert server.execute("hatchery spawn acme/site 2>&1")[1].startswith("Evolution chamber occupied.\n")

with subtest("From any machine on the tailnet, a drone is reachable by hostname, with zero client-side configuration"):
    assert on("acme-site", "id -un; hostname") == "vscode\nacme-site\n"
    assert laptop.succeed("cat /root/.ssh/known_hosts") == authority
    laptop.fail(f"{SSH} -o UserKnownHostsFile=/dev/null vscode@acme-site.{DOMAIN} true")

with subtest("who spawned it commits in it, until they say who they are; worktrees stand beside the clone"):
    commit = """cd /workspaces/beside
date +%N > new; git add new; git commit --quiet --message Work; git log -1 --format='%an <%ae>'
"""
    on("acme-site", "git -C /workspaces/site worktree add --quiet -b beside ../beside")
    assert on("acme-site", commit) == 'Sarah "Blades" Kerrigan <sarah@example.test>\n'
    on("acme-site", "git config --global user.name Infested")
    assert on("acme-site", commit) == "Infested <sarah@example.test>\n"
    on(
        "acme-site",
        "git config --global --unset user.name; cd /workspaces/site; "
        "git worktree remove ../beside; git branch --quiet -D beside",
    )

with subtest("Each drone joins the existing tailnet as an individual node; a dedicated user owns all drone nodes"):
    spawn("acme/web")
    for name in ("acme-site", "acme-web"):
        node = nodes()[name]
        assert node["user"]["name"] == "devcontainer" and node["name"] == name, node
        assert node["pre_auth_key"]["ephemeral"], node
    assert not [name for name in nodes() if name not in ("laptop", "acme-site", "acme-web")]

with subtest("A web server on port 3000 inside the container is accessible from any machine on the tailnet"):
    page = laptop.wait_until_succeeds(f"curl -sf --max-time 5 http://acme-web.{DOMAIN}:3000/", timeout=30)
    assert "served by a drone" in page, page
    assert docker_inspect("acme-web")["HostConfig"]["PortBindings"] == {}

with subtest("Drones accept connections from personal machines but cannot reach anything else on the tailnet"):
    levin = json.loads(tailnet.succeed("headscale users list --name levin --output json"))[0]["id"]
    key = json.loads(tailnet.succeed(f"headscale preauthkeys create --user {levin} --ephemeral --output json"))["key"]
    server.succeed(
        "systemctl start tailscaled",
        f"tailscale up --login-server=https://headscale.example.test --auth-key={key} --hostname=server "
        "--accept-dns=false --timeout=30s",
    )
    # Addresses of both families; sshd of the drones is on another port than that of people's machines.
    # Docker before 26 turns IPv6 off in a container altogether.
    off = server.succeed("docker exec acme-site cat /proc/sys/net/ipv6/conf/all/disable_ipv6").strip() == "1"
    own, other, *people = [
        [
            f"{address}/{port}"
            for address in nodes()[name]["ip_addresses"]
            if not (off and port == 2222 and ":" in address)
        ]
        for name, port in (("acme-site", 2222), ("acme-web", 2222), ("laptop", 22), ("server", 22))
    ]
    # They all listen, and to people's machines they answer.
    for listener in (*own, *other, *people[1]):
        address, port = listener.split("/")
        laptop.wait_until_succeeds(f"nc -w 2 {address} {port} < /dev/null | grep ^SSH-2.0 > /dev/null", timeout=30)
    server.succeed(f"nc -w 5 {people[0][0].replace('/', ' ')} < /dev/null | grep ^SSH-2.0 > /dev/null")
    assert heard("acme-site", "127.0.0.1/2222", *own) == sorted(["127.0.0.1/2222", *own])
    assert heard("acme-site", *other, *people[0], *people[1]) == []

with subtest("nor each other, each on a bridge of its own"):
    site, web = (docker_inspect(name)["NetworkSettings"]["Networks"][name] for name in ("acme-site", "acme-web"))
    for name in ("acme-site", "acme-web"):
        assert server.succeed(f"ip link show master {bridge_of(name)} | grep -c veth") == "1\n"
    server.succeed(f"nc -w 5 {web['IPAddress']} 2222 < /dev/null | grep ^SSH-2.0 > /dev/null")
    on("acme-site", f"ip -4 route get {web['IPAddress']} | grep 'dev eth0' > /dev/null", "root")
    assert heard("acme-site", f"{site['IPAddress']}/2222", f"{web['IPAddress']}/2222", f"{web['IPAddress']}/3000") == [
        f"{site['IPAddress']}/2222"
    ]
    server.succeed("tailscale logout", "systemctl stop tailscaled")

with subtest("Internet access is unaffected: it goes through Docker's normal NAT, not Tailscale"):
    assert "refs/heads/main" in on("acme-site", "git ls-remote https://github.com/acme/library")
    route = on("acme-site", "ip route get $(getent ahostsv4 github.com | head -n 1 | cut -d ' ' -f 1)", "root")
    assert "dev eth0" in route, route

with subtest("Repos are cloned into Docker volumes, not bind-mounted from the host"):
    mount = next(it for it in docker_inspect("acme-site")["Mounts"] if it["Destination"] == "/workspaces")
    assert (mount["Type"], mount["Name"], mount["RW"]) == ("volume", "acme-site", True), mount
    is_a_whole_clone("acme-site", "/workspaces/site")

with subtest("The repo identity is the hostname everywhere: Tailscale hostname, container name, label value"):
    container = docker_inspect("acme-site")
    image = docker_inspect(container["Image"], "image")
    volume = docker_inspect("acme-site", "volume")
    assert container["Name"] == "/acme-site" and container["Config"]["Hostname"] == "acme-site"
    for labels in (container["Config"]["Labels"], image["Config"]["Labels"], volume["Labels"]):
        ours = {label: value for label, value in labels.items() if label.startswith("hatchery.")}
        scope = json.loads(ours.pop("hatchery.scope"))
        assert scope == {"repositories": ["acme/site"]}, scope
        assert ours == {"hatchery.drone": "acme-site", "hatchery.repo": "acme/site", "hatchery.schema": "1"}, ours

with subtest("The devcontainer CLI sets labels of its own"):
    # Of these it leaves out `devcontainer.local_folder` and `devcontainer.config_file` when it is
    # given labels to find the container by, as here; its merged configuration it always writes.
    metadata = json.loads(container["Config"]["Labels"]["devcontainer.metadata"])
    assert all(any(feature in entry.get("id", "") for entry in metadata) for feature in ADDED), metadata

with subtest("Listing drones is a `docker ps --filter label=...` query. No database, no config files to sync"):
    listed = json.loads(server.succeed("hatchery list --json"))
    assert [(drone["name"], drone["repository"], drone["state"]) for drone in listed] == [
        ("acme-site", "acme/site", "running"),
        ("acme-web", "acme/web", "running"),
    ], listed
    asked = server.succeed("docker ps --filter label=hatchery.drone --format '{{.Label \"hatchery.drone\"}}' | sort")
    assert asked.split() == [drone["name"] for drone in listed]
    server.succeed("rm -rf /var/cache/hatchery", "find /run/hatchery ! -type s ! -type d -delete")
    again = json.loads(server.succeed("hatchery list --json"))
    for drone in listed + again:
        # They are counted meanwhile, or go on.
        for key in ("disk", "memory", "cpu_percent", "idle"):
            del drone[key]
    assert again == listed
    server.succeed("hatchery status acme/site | grep '^sshd *answers$' > /dev/null")
    slay("acme/site", "acme/web")

with subtest("submodules, where they are wanted"):
    spawn("acme/submodules")
    assert on("acme-submodules", "ls -A /workspaces/submodules/library") == ""
    slay("acme/submodules")
    spawn("acme/submodules --submodules")
    is_a_whole_clone("acme-submodules", "/workspaces/submodules")
    on("acme-submodules", "cd /workspaces/submodules; grep -q ANSWER library/library.py; git submodule update --init")
    assert on("acme-submodules", "git -C /workspaces/submodules/library log --oneline | wc -l") == "2\n"
    slay("acme/submodules")

with subtest("It reads `devcontainer.json`, builds images: a Dockerfile and its context"):
    timings = spawn("acme/dockerfile --timings")["timings"]
    times = {timing["step"]: (timing["begin_s"], timing["end_s"]) for timing in timings}
    assert set(TIMED) <= set(times) and all(0 <= begin <= end for begin, end in times.values()), timings
    assert all(times[step][0] < times[step][1] for step in TIMED), timings
    ends = [times[step][1] for step in TIMED]
    assert ends == sorted(ends), timings
    assert on("acme-dockerfile", "cat /etc/marker") == "copied from the build context\n"
    is_a_whole_clone("acme-dockerfile", "/workspaces/dockerfile")
    slay("acme/dockerfile")

with subtest("a Dockerfile that ends in another user than root, of an image that says nothing of users"):
    unsaid = "ghcr.io/acme/unsaid:1"
    dockerfile = f"FROM {IMAGE}\nRUN rm -f /usr/bin/sudo\nLABEL devcontainer.metadata=[]"
    server.succeed(f"docker build -q -t {unsaid} - <<'END'\n{dockerfile}\nEND", f"docker push -q {unsaid}")
    for user in ("vscode", "1000:1000"):
        build = {"build": {"dockerfile": "Dockerfile"}}
        publish_devcontainer("acme/user", {"devcontainer.json": build, "Dockerfile": f"FROM {unsaid}\nUSER {user}\n"})
        told = spawn("acme/user")
        assert (told["user"], told["workspace"]) == ("vscode", "/workspaces/user"), told
        assert on("acme-user", "id -un; stat -c %U:%G /workspaces/user; git -C /workspaces/user status -s").split() == [
            "vscode",
            "vscode:vscode",
        ]
        slay("acme/user")
    server.succeed(f"docker rmi {unsaid}")

with subtest("a compose project, with what stands beside the workspace"):
    spawn("acme/stack")
    is_a_whole_clone("acme-stack", "/workspaces/stack")
    assert on("acme-stack", "tr '\\0' '\\n' < /proc/1/environ", "root").count("STACK=acme/stack\n") == 1
    sibling = compose_container("acme-stack", "db")
    server.succeed(f"docker exec -d -w /etc {sibling} python3 -m http.server 5432")
    answer = laptop.wait_until_succeeds(
        f"{SSH} vscode@acme-stack.{DOMAIN} curl -sf http://db:5432/hostname", timeout=20
    )
    assert sibling.startswith(answer.strip()), answer
    slay("acme/stack")
    assert server.succeed(f"docker ps -aq --filter id={sibling}") == ""

with subtest("one of several configurations"):
    error = error_of("hatchery spawn acme/variants", 1)
    assert error["code"] == "devcontainer-ambiguous", error
    told = error["message"] + error["hint"] + "".join(error.get("details", []))
    assert "one" in told and "two" in told, error
    assert traces("acme-variants") == ""
    error = error_of("hatchery spawn acme/variants --config three", 1)
    assert error["code"] == "devcontainer-ambiguous", error
    spawn("acme/variants --config one")
    assert server.succeed("docker exec acme-variants printenv VARIANT") == "one\n"
    slay("acme/variants")

with subtest("a bare .devcontainer.json, and limits that hold"):
    limits = "[limits]\nmemory = '256MiB'\npids = 100\ncpus = 0.5\n[git]\nname = 'Zasz'\n"
    server.succeed(f"cat /etc/hatchery/config.toml - > /tmp/limits.toml <<'END'\n{limits}END")
    server.succeed("hatchery --config /tmp/limits.toml spawn acme/rootfile")
    is_a_whole_clone("acme-rootfile", "/workspaces/rootfile")
    in_force = docker_inspect("acme-rootfile")["HostConfig"]
    assert (in_force["Memory"], in_force["PidsLimit"], in_force["NanoCpus"]) == (256 << 20, 100, 500_000_000), in_force
    forked = on(
        "acme-rootfile",
        """python3 - <<'PYTHON'
import subprocess
children = []
try:
    while len(children) < 200:
        children.append(subprocess.Popen(["sleep", "60"]))
except OSError as error:
    print(error.strerror)
for child in children:
    child.kill()
PYTHON""",
    )
    assert forked == "Resource temporarily unavailable\n", forked
    filled = on("acme-rootfile", "python3 -c 'print(len(b\"x\" * (1 << 30)))' || echo $?")
    assert filled == "137\n", filled
    assert "Nuclear launch detected.\n" in server.succeed("hatchery status acme/rootfile 2>&1")
    # A name of the configuration's goes before the caller's, and once it names both, each start writes them down.
    author = "git var GIT_AUTHOR_IDENT | sed 's/>.*/>/'"
    assert on("acme-rootfile", author) == "Zasz <sarah@example.test>\n"
    server.succeed(
        "sed -i \"s/^name = 'Zasz'/name = 'Daggoth'\\nemail = 'd@example.test'/\" /tmp/limits.toml",
        "hatchery burrow acme/rootfile; hatchery --config /tmp/limits.toml unburrow acme/rootfile",
    )
    in_drone("acme-rootfile", "true")
    assert on("acme-rootfile", author) == "Daggoth <d@example.test>\n"
    slay("acme/rootfile")

with subtest("no configuration at all: the features are added"):
    told = spawn("acme/plain")
    assert (told["user"], told["workspace"]) == ("vscode", "/workspaces/plain"), told
    assert on("acme-plain", "python3 /workspaces/plain/main.py") == "plain\n"
    is_a_whole_clone("acme-plain", "/workspaces/plain")
    slay("acme/plain")

with subtest("features that are there in another spelling are not doubled, and their options stay"):
    spawn("acme/spellings")
    labels = docker_inspect("acme-spellings")["Config"]["Labels"]
    features = [entry["id"] for entry in json.loads(labels["devcontainer.metadata"]) if "id" in entry]
    for feature in ADDED:
        assert len([spelling for spelling in features if feature in spelling]) == 1, features
    assert on("acme-spellings", "sshd -T", "root").count("gatewayports yes\n") == 1
    slay("acme/spellings")
