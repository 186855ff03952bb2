"""No token and no part of the App's key is anywhere but where it belongs: twelve characters would be too many."""

import json
import secrets

SOCKET = "/var/run/github-creds.sock"
DRONES = {"acme-vault": "/workspaces/vault", "acme-den": "/workspaces/den"}

# Reads secrets, a line each, and names every place on the server that has twelve characters of one. What may
# hold them is left out: the key's own file, and the credentials that systemd keeps for the service.
SEARCH = r"""
import json, os, re, subprocess, sys
from pathlib import Path

LENGTH = 12
known = {}
for number, secret in enumerate(sys.stdin.buffer.read().split()):
    for start in range(len(secret) - LENGTH + 1):
        known[secret[start : start + LENGTH]] = number
RUNS = re.compile(rb"[A-Za-z0-9+/=._-]{%d,}" % LENGTH)

def look(place, data):
    for run in RUNS.finditer(data):
        text = run[0]
        for start in range(len(text) - LENGTH + 1):
            if (number := known.get(text[start : start + LENGTH])) is not None:
                print(number, place, flush=True)
                return

def output(*command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return done.stdout

def listed(*command):
    return output(*command).decode().split()

looked_at = 0
def files(root):
    global looked_at
    for directory, _, names in os.walk(root):
        for name in names:
            path = Path(directory, name)
            if path.is_file() and not path.is_symlink() and path != Path("/etc/hatchery/app-key.pem"):
                try:
                    look(path, path.read_bytes())
                except FileNotFoundError:
                    continue  # gone meanwhile
                looked_at += 1

look("journal", output("journalctl", "--all", "--output=export", "--no-pager"))
containers = listed("docker", "ps", "-aq")
for kind, names in (("container", containers), ("image", listed("docker", "images", "-aq")), ("volume", listed("docker", "volume", "ls", "-q"))):
    if names:
        look(f"docker {kind} inspect", output("docker", kind, "inspect", *names))
for container in containers:
    look(f"docker logs {container}", output("docker", "logs", container))
    upper = json.loads(output("docker", "inspect", container))[0]["GraphDriver"]["Data"]["UpperDir"]
    files(upper)
for process in Path("/proc").glob("[0-9]*"):
    for part in ("environ", "cmdline"):
        try:
            look(process / part, (process / part).read_bytes())
        except OSError:
            pass
for root in ("/etc/hatchery", "/etc/systemd", "/run/hatchery", "/run/systemd/system", "/run/user", "/run/log", "/var/lib/hatchery", "/var/cache/hatchery", "/var/log", "/var/lib/docker/volumes", "/var/lib/docker/containers", "/tmp", "/var/tmp", "/home", "/var/lib/systemd/coredump"):
    files(root)
assert looked_at > 50, looked_at
"""


def stir(name: str) -> None:
    """Everything that a drone does with tokens; what is said meanwhile lies in the drone and is searched as well."""
    clone = DRONES[name]
    for command in (
        f"cd {clone}; GIT_TRACE=1 GIT_CURL_VERBOSE=1 git fetch",
        f"cd {clone}; git ls-remote; git submodule update --init",
        f"cd {clone}; GH_DEBUG=api gh repo view; gh api user; gh run list",
        f"curl -s --unix-socket {SOCKET} http://localhost/token > /dev/null",
        f"curl -s --unix-socket {SOCKET} 'http://localhost/token?repo=acme/sealed'",
        f"curl -s --unix-socket {SOCKET} 'http://localhost/token?x=y'; curl -s --unix-socket {SOCKET} http://localhost/nothing",
    ):
        # git and gh leave the token out of what they trace. `gh auth status` shows it up to its last "_".
        on(name, f"({command}) >> ~/said 2>&1 || true")


start_and_wait()
laptop_trusts_drones()
internet.succeed("github-fake reset")

with subtest("tokens go every way that they can, and every way goes wrong"):
    server.succeed(
        "hatchery spawn acme/vault --repo acme/parts --repo acme/gears --repo other/engine", "hatchery spawn acme/den"
    )
    for name in DRONES:
        stir(name)
        for broken in (
            "malformed",
            "cut",
            "wider-permissions",
            "wider-repositories",
            "error",
            "clock-refusal",
            "secondary-limit",
            "reset",
        ):
            server.succeed(f"systemctl stop hatchery-credd@{name}.service 2> /dev/null")
            fault(broken, "--on mint --times 3")
            stir(name)
            heal()
            server.succeed(f"systemctl stop hatchery-credd@{name}.service 2> /dev/null")
            stir(name)
        fault("unavailable", "--on revoke")
        on(name, f"curl -s -X DELETE --unix-socket {SOCKET} http://localhost/token >> ~/said")
        heal()
        server.succeed(f"systemctl kill --signal ABRT hatchery-credd@{name}.service")
        stir(name)
        server.succeed(f"hatchery status {name.replace('-', '/')} > /root/said-of-{name}")
    server.succeed(
        "hatchery audit > /var/tmp/audit",
        "hatchery audit --json >> /var/tmp/audit",
        "hatchery config > /var/tmp/config",
    )

with subtest("no core is dumped"):
    for limits in server.succeed(
        "for it in $(pgrep -x hatchery-credd); do grep 'core file' /proc/$it/limits; done"
    ).splitlines():
        assert limits.split()[4:6] == ["0", "0"], limits

with subtest("nothing of them is found, and what was planted is"):
    decoy = secrets.token_hex(32)
    planted = [decoy[begin : begin + 12] for begin in (0, 7, 19, 31)]
    server.succeed(
        f"logger planted {planted[0]}",
        f"docker exec acme-den sh -c 'echo {planted[1]} > /workspaces/planted; echo {planted[1]} > /opt/planted'",
        f"PLANTED={planted[2]} systemd-run --quiet --unit planted --setenv=PLANTED={planted[2]} sleep 600",
        f"docker create --name planted --label planted={planted[3]} {IMAGE} true",
    )
    # The beginning of such a key is everybody's.
    key = "".join(server.succeed("grep -v -e ----- /etc/hatchery/app-key.pem").split())[48:]
    every = internet.succeed("github-fake secrets").split()
    assert len(every) > 20 and all(510 <= len(token) <= 530 for token in every), [len(token) for token in every]
    server.succeed(f"cat > /root/search.py <<'END'\n{SEARCH}\nEND")
    server.succeed("cat > /root/secrets <<'END'\n" + "\n".join([decoy, key, *every]) + "\nEND")
    found = [line.split(" ", 1) for line in server.succeed("python3 /root/search.py < /root/secrets").splitlines()]
    server.succeed("rm /root/secrets")
    assert not [place for number, place in found if number != "0"], found
    places = " ".join(place for _, place in found)
    for place in ("journal", "/workspaces", "/opt/planted", "/environ", "docker container inspect"):
        assert place in places or (place == "/workspaces" and "/acme-den/_data/planted" in places), f"{place}: {found}"

with subtest("what holds them is for root alone"):
    for path in (
        "/etc/hatchery/app-key.pem",
        *server.succeed("ls -d /run/credentials/hatchery-credd@* 2> /dev/null || true").split(),
    ):
        server.fail(f"runuser -u levin -- cat {path}", f"runuser -u levin -- ls {path}/")
    server.fail(
        "runuser -u levin -- curl -s --unix-socket /run/hatchery/acme-den/github-creds.sock http://localhost/token"
    )

server.succeed("systemctl stop planted", "docker rm planted", "rm -f /root/said-of-* /var/tmp/audit /var/tmp/config")
server.succeed("hatchery slay --force acme/vault", "hatchery slay --force acme/den")
print(json.dumps(len(every)))
internet.succeed("github-fake violations")
