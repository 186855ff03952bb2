"""A machine with Docker, git and the devcontainer CLI, and nothing configured: the README's first page."""

import json
import shlex
from typing import Any

PROGRAMS = ("docker", "docker-compose", "devcontainer", "node", "git", "hatchery")
# Node does not look at the system's authorities, and GitHub's certificate here is of none that it brings.
ENVIRONMENT = "PATH=/opt/little NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt"
HOMES = {"root": "/root", "levin": "/home/levin"}


def as_user(user: str, command: str) -> str:
    return f"cd /; runuser -u {user} -- bash -euo pipefail -c {shlex.quote(command)}"


def little(arguments: str, user: str = "root", config: str = "empty") -> str:
    """With these few programs, this user's directories, and nothing else in the environment."""
    own = f"HOME={HOMES[user]} XDG_RUNTIME_DIR=/tmp/run-{user} HATCHERY_CONFIG=/tmp/{config}.toml"
    return as_user(user, f"env -i {ENVIRONMENT} {own} hatchery {arguments}")


def refused(arguments: str, user: str, status: int, code: str) -> Any:
    got, output = server.execute(little(f"{arguments} --json", user))
    assert got == status, f"hatchery {arguments} ends with {got}, not {status}: {output}"
    error = json.loads(output)["error"]
    assert error["code"] == code, error
    return error


def listed() -> dict[str, Any]:
    return {drone["name"]: drone for drone in json.loads(server.succeed(little("list --json")))}


def spawned(repository: str, user: str = "root", config: str = "empty") -> str:
    """The ssh line that is printed. What `known_hosts` gets is the line that is said beside it."""
    printed = server.succeed(little(f"spawn {repository}", user, config) + " 2> /tmp/said")
    known = server.succeed("grep -F 'ssh-ed25519 ' /tmp/said").strip()
    port = printed.split()[2]
    assert known.startswith(f"[127.0.0.1]:{port},[localhost]:{port} ssh-ed25519 "), known
    assert known in server.succeed(little("ca", user)).splitlines()
    server.succeed(as_user(user, f"echo {shlex.quote(known)} >> {HOMES[user]}/.ssh/known_hosts"))
    return printed


def reached(printed: str, command: str, user: str = "root") -> str:
    """What the command says over the ssh line that hatchery printed, knowing the lines of `spawned` alone."""
    assert printed.startswith("ssh -p ") and printed.endswith("@127.0.0.1\n"), printed
    strictly = printed.strip().replace("ssh ", "ssh -o StrictHostKeyChecking=yes ", 1)
    return server.succeed(as_user(user, f"{strictly} {shlex.quote(command)}"))


def tour(user: str) -> None:
    """Every verb, once."""
    before = docker_has()
    server.succeed(as_user(user, f"cd; ssh-keygen -q -t ed25519 -N '' -f {HOMES[user]}/.ssh/id_ed25519"))
    assert server.succeed(little("ca", user)) == "", "there is no line for all ports"
    printed = spawned("acme/plain", user)
    assert reached(printed, "id -un; hostname; git -C /workspaces/plain status --porcelain --ignored", user) == (
        "vscode\nacme-plain\n"
    )
    assert reached(printed, "stat -c %U /workspaces/plain/main.py", user) == "vscode\n"
    echoed = little("exec acme-plain -- sh -c 'cat; pwd; exit 7'", user)
    assert server.execute(f"echo through | ({echoed})") == (7, "through\n/workspaces/plain\n")
    with_ssh = little("ssh acme-plain -- pwd", user).replace("PATH=/opt/little", "PATH=/opt/little:/usr/bin")
    assert server.succeed(f"({with_ssh}) < /dev/null") == "/workspaces/plain\n"
    refused("spawn acme/plain", user, 4, "drone-exists")

    drone = listed()["acme-plain"]
    assert (drone["state"], drone["hostname"]) == ("running", None), drone
    assert printed.split()[2] == str(drone["ssh_port"]), drone
    assert printed.strip() in server.succeed(little("list", user))
    status = server.succeed(little("status acme/plain", user))
    assert printed.strip() in status and "tailnet" not in status, status

    reached(printed, "echo kept > /workspaces/plain/work", user)
    server.succeed(little("burrow acme/plain", user))
    assert listed()["acme-plain"]["state"] == "burrowed"
    server.fail(f"nc -z 127.0.0.1 {drone['ssh_port']}")
    printed = server.succeed(little("unburrow acme/plain", user))
    assert reached(printed, "cat /workspaces/plain/work", user) == "kept\n"

    error = refused("slay acme/plain", user, 1, "work-would-be-lost")
    assert any("work" in line for line in error["details"]), error
    reached(printed, "rm /workspaces/plain/work", user)
    server.succeed(little("slay acme/plain", user))
    assert listed() == {} and docker_has() == before
    refused("status acme/plain", user, 3, "drone-not-found")


start_all()
internet.wait_for_unit("nginx.service")
server.wait_until_succeeds("docker version")
# As on a machine where hatchery has no units and no group; one without systemd is such a machine.
units = server.execute("test -d /run/systemd/system")[0] == 0
if units:
    server.succeed("systemctl stop hatchery-recover.timer; mv /run/hatchery /run/hatchery.kept")
server.succeed(
    "rm -rf /opt/little /root/.ssh; mkdir -p /opt/little",
    *(f"ln -s $(command -v {program}) /opt/little/" for program in PROGRAMS),
    "> /tmp/empty.toml",
    *(f"install -d -m 700 -o {user} {home}/.ssh /tmp/run-{user}" for user, home in HOMES.items()),
    # What another scenario has pulled is not to be taken for this one's.
    "docker images -q ghcr.io/acme/prebuilt | xargs -r docker rmi",
)

with subtest("without a key nobody could log in"):
    before = docker_has()
    error = refused("spawn acme/plain", "root", 1, "no-authorized-key")
    assert "ssh-keygen" in error["hint"], error
    assert docker_has() == before

with subtest("root spawns a public repository, and reaches it on the port that was printed"):
    tour("root")

with subtest("so does whoever may use Docker"):
    server.fail(little("list", "levin"))
    server.succeed("usermod -aG docker levin")
    # From a cron job, say, which has no HOME.
    server.succeed(as_user("levin", f"env -i {ENVIRONMENT} HATCHERY_CONFIG=/tmp/empty.toml hatchery list"))
    tour("levin")
    server.fail("find /run/hatchery /var/cache/hatchery /var/lib/hatchery -user levin | grep .")
    server.succeed("gpasswd -d levin docker", "rm -rf /home/levin/.ssh /home/levin/.local /home/levin/.cache")

with subtest("drones have ports of their own, on the loopback device alone"):
    printed = {name: spawned(f"acme/{name}") for name in ("prebuilt", "stack", "stack-shared")}
    for name, line in printed.items():
        assert reached(line, f"head -n 1 /workspaces/{name}/README.md") == f"# acme/{name}\n"
    ports = {drone["ssh_port"] for drone in listed().values()}
    assert len(ports) == 3
    for port in ports:
        server.succeed(f"nc -w 5 127.0.0.1 {port} < /dev/null | grep ^SSH-2.0 > /dev/null")
        laptop.fail(f"nc -w 2 -z server {port}")
    laptop.succeed("nc -w 5 -z server 22")

with subtest("a drone cannot pass for another: no certificate is for what they share"):
    one, other = (line.split()[2] for line in (printed["prebuilt"], printed["stack"]))
    certificates = "ssh-keyscan -c -p {} 127.0.0.1 2> /dev/null | grep -o 'ssh-ed25519-cert.*' | ssh-keygen -L -f -"
    for port, name in ((one, "acme-prebuilt"), (other, "acme-stack")):
        shown = server.succeed(certificates.format(port)).split("Principals:")[1].split("Critical Options:")[0]
        assert shown.split() == [name], shown
    # All that the other has, at this one's port.
    server.succeed(
        f"grep -F ':{other},' /root/.ssh/known_hosts | sed 's/:{other}/:{one}/g' > /tmp/known-other",
    )
    status, said = server.execute(
        f"ssh -o StrictHostKeyChecking=yes -o UserKnownHostsFile=/tmp/known-other -p {one} vscode@127.0.0.1 true 2>&1"
    )
    assert status == 255 and "Host key verification failed" in said, said

with subtest("an image that has sshd gets no other, and no tailscale"):
    server.succeed(little("slay acme/prebuilt"))
    server.succeed("printf '[devcontainer]\\nfeatures = {}\\n' > /tmp/bare.toml")
    for config in ("empty", "bare"):
        # It is not there yet.
        server.succeed("docker images -q ghcr.io/acme/prebuilt | xargs -r docker rmi")
        address = spawned("acme/prebuilt", config=config)
        assert reached(address, "id -un") == "vscode\n"
        shown = json.loads(server.succeed("docker inspect acme-prebuilt"))[0]
        features = [
            entry["id"] for entry in json.loads(shown["Config"]["Labels"]["devcontainer.metadata"]) if "id" in entry
        ]
        assert features == ["ghcr.io/devcontainers/features/sshd:1"], features
        # Nothing was built: it is the repository's image itself.
        prebuilt = docker_inspect("ghcr.io/acme/prebuilt:latest", "image")["Id"]
        assert shown["Config"]["Image"] == prebuilt, shown["Config"]
        assert not shown["HostConfig"]["CapAdd"] and not shown["HostConfig"]["Devices"], shown["HostConfig"]
        server.succeed(little("slay acme/prebuilt"))
    server.succeed("docker rmi ghcr.io/acme/prebuilt")

with subtest("all is slain"):
    server.succeed(little("slay acme/stack"), little("slay acme/stack-shared"), "rm -rf /opt/little /root/.ssh/id_*")
    assert docker_has() == before
    if units:
        server.succeed(
            "rm -r /run/hatchery; mv /run/hatchery.kept /run/hatchery; systemctl start hatchery-recover.timer"
        )
