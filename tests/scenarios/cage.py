"""Whatever a feature's archive holds, the devcontainer CLI neither writes nor reads outside its own directory; and
wherever a feature leads it to, it asks nothing of this server's own services."""

import json

SSHD = "ghcr.io/devcontainers/features/sshd:1"
# An unpacker that counts the `..` of a path by its words takes this for a place within the archive.
OUT = "p/" * 16 + "../" * 16

# What serves this server alone, and says when it is asked.
INNER = 8098
SERVICE = f"""
import socket
listener = socket.create_server(("", {INNER}))
while True:
    with listener.accept()[0]:
        print("asked", flush=True)
"""
# A registry that sends its clients there: for a token, or for all that they ask for.
OUTER = 8443
REGISTRY = f"""
import http.server, ssl
class Registry(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        service = "http://127.0.0.1:{INNER}/larva"
        if "/realm/" in self.path:
            self.send_response(401)
            self.send_header("WWW-Authenticate", f'Bearer realm="{{service}}",service="x",scope="y"')
        else:
            self.send_response(307)
            self.send_header("Location", service)
        self.send_header("Content-Length", "0")
        self.end_headers()
server = http.server.HTTPServer(("", {OUTER}), Registry)
tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
tls.load_cert_chain("/etc/world/tls/tls.crt", "/etc/world/tls/tls.key")
server.socket = tls.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"""


def trap(name: str, path: str, target: str) -> None:
    """A feature whose archive holds this path as a link out of it, and a repository that asks for it."""
    about = {"id": name, "version": "1.0.0", "name": name, "options": {"say": {"type": "string", "default": ""}}}
    feature = publish_feature(f"trap/features/{name}", about, links={"./p": ".", path: OUT + target})
    publish(f"trap/{name}", {".devcontainer.json": {"image": IMAGE, "features": {SSHD: {}, feature: {"say": "larva"}}}})


def serve(machine: Machine, unit: str, port: int, program: str) -> None:
    """A Python program that listens on this port for as long as the unit is there."""
    machine.succeed(
        f"base64 -d > /tmp/{unit}.py <<< {encoded(program)}",
        f"systemd-run --quiet --unit={unit} $(command -v python3) -u /tmp/{unit}.py",
        f"timeout 20 sh -c 'until ss -tln | grep -q :{port}; do sleep 0.2; done'; rm /tmp/{unit}.py",
    )


def without(call: str, error: str, command: str) -> str:
    """A command on a kernel that answers this call with this error."""
    unit = f"systemd-run --quiet --wait --pipe -p SystemCallFilter=~{call} -p SystemCallErrorNumber={error}"
    return f"{unit} -E PATH=$PATH -E HOME=/root {command}"


start_and_wait()
laptop_trusts_drones()
server.succeed("rm -f /root/said.* /etc/profile.d/trap.sh /etc/cron.d/trap /home/overlord/.bash_aliases")

with subtest("the doctor says whether there is a cage, and what to do where there is none"):
    found = doctor()["cage"]
    assert found["state"] == "ok" and "Landlock version" in found["message"], found
    found = doctor(without("landlock_create_ruleset", "ENOSYS", "hatchery doctor"))["cage"]
    assert found["state"] == "problem" and "no Landlock" in found["message"] and "5.13" in found["hint"], found
    found = doctor(without("landlock_create_ruleset", "EOPNOTSUPP", "hatchery doctor"))["cage"]
    assert found["state"] == "problem" and "Landlock is disabled" in found["message"] and "lsm=" in found["hint"], found
    found = doctor(without("landlock_restrict_self", "EPERM", "hatchery doctor"))["cage"]
    assert found["state"] == "problem" and "the cage failed" in found["message"], found

with subtest("an image, a Dockerfile and compose, by root and by a member; and without Landlock, which is said"):
    server.succeed("hatchery spawn acme/web > /root/said.web 2>&1")
    spawns = (
        f"cd /tmp; {MEMBER} hatchery spawn acme/dockerfile",
        f"cd /tmp; {MEMBER} hatchery spawn acme/stack",
        without("landlock_create_ruleset", "ENOSYS", "hatchery spawn acme/plain"),
        "hatchery spawn --trust acme/initialize",
    )
    at_once = [f'({spawn}) > /root/said.{number} 2>&1 & pids+=" $!"' for number, spawn in enumerate(spawns)]
    server.succeed("; ".join(at_once) + "; for pid in $pids; do wait $pid || { cat /root/said.*; exit 1; }; done")
    assert server.succeed("grep -l '^warning: .*no Landlock' /root/said.*") == "/root/said.2\n"
    for name, user in (("web", "vscode"), ("dockerfile", "root"), ("stack", "vscode"), ("plain", "root")):
        assert on(f"acme-{name}", "id -un; ls /workspaces", user) == f"{user}\n{name}\n", name
    # How the CLI reaches the network is its own affair.
    kept = "docker ps -aq | xargs docker inspect; docker images -q | sort -u | xargs -n 1 docker history --no-trunc"
    assert server.execute(f"({kept}) | grep -i _proxy")[0] == 1
    # What an owner trusts with a command for the server itself runs outside.
    server.succeed("rm /tmp/initialize-ran-on-the-host")
    server.succeed("for it in web dockerfile stack plain initialize; do hatchery slay --force acme/$it; done")

with subtest("no cage though the kernel has one: nothing runs"):
    status, said = server.execute(without("landlock_restrict_self", "EPERM", "hatchery spawn acme/web 2>&1"))
    assert status == 1 and "git was not started" in said and "the cage failed" in said, said
    assert "[host-failed]" in said and "hatchery doctor" in said, said

with subtest(
    "git and the tailscaled that joins read no secret of the server's and see no socket, whatever happens in them"
):
    server.succeed("echo larva > /root/secret; mkdir -p /opt/stand-in")
    look = "cat /root/secret || echo denied; test -S /run/docker.sock || echo unseen; touch /tmp/larva || echo kept"
    stand_ins = {
        "git": f"#!/bin/sh\n({look}) 2>&1 | sed 's/^/hatchery: found /' >&2; exit 1\n",
        "tailscaled": f"#!/bin/sh\nfor it; do case $it in --statedir=*) to=${{it#*=}};; esac; done\n"
        f'({look}) > "$to/found" 2>&1; exec $(PATH=${{PATH#*:}} command -v tailscaled) "$@"\n',
    }
    for name, text in stand_ins.items():
        server.succeed(f"base64 -d > /opt/stand-in/{name} <<< {encoded(text)}; chmod 755 /opt/stand-in/{name}")
    stand_in = "PATH=/opt/stand-in:$PATH"
    for who in ("", f"cd /tmp; {MEMBER} "):
        said = server.execute(f"{who}env {stand_in} hatchery spawn acme/web 2>&1")[1]
        contains(said, "found denied", "found unseen", "found kept")
        assert "larva" not in said.replace("/tmp/larva", ""), said
    server.succeed(f"rm /opt/stand-in/git; env {stand_in} hatchery spawn acme/web")
    said = on("acme-web", "sudo cat /var/lib/tailscale/found", "vscode")
    contains(said, "denied", "unseen", "kept")
    assert "larva" not in said.replace("/tmp/larva", ""), said
    assert server.execute("test -e /tmp/larva")[0] == 1
    server.succeed("hatchery slay --force acme/web; rm -r /opt/stand-in /root/secret")

with subtest("a clone takes no more of the disk than it may, and nothing is left"):
    publish("trap/large", {".devcontainer.json": {"image": IMAGE}})
    internet.succeed(
        "chown -R root /srv/github/git/trap/large.git",
        "git clone -q /srv/github/git/trap/large.git /tmp/large; cd /tmp/large; head -c 3M /dev/urandom > large; git add .",
        f"cd /tmp/large; git {GIT_AUTHOR} commit -q -m Large; git push -q; rm -r /tmp/large",
        "chown -R github /srv/github/git/trap/large.git",
    )
    many = {f"files/{number}": "x" for number in range(30)}
    publish("trap/many", {".devcontainer.json": {"image": IMAGE}, **many})
    server.succeed(
        "printf '[limits]\\nclone = \"2MiB\"\\nclone_files = 45\\n' | cat /etc/hatchery/config.toml - > /root/small.toml"
    )
    before = server.succeed(INVENTORY)
    for name in ("large", "many"):
        status, said = server.execute(f"hatchery --config /root/small.toml spawn trap/{name} 2>&1")
        assert status == 5 and "[limit-reached]" in said and "limits.clone" in said, said
        contains(said, f"the clone of trap/{name} is larger than 2.0 MiB or has more than 45 files")
    assert server.succeed(INVENTORY) == before
    server.succeed("rm /root/small.toml")

with subtest("what the CLI writes through a link of an archive's lands nowhere"):
    # Debian has cron's directory only with the package.
    server.succeed("mkdir -p /etc/cron.d")
    for name, path, target, who in (
        ("settings", "./devcontainer-features.env", "etc/profile.d/trap.sh", ""),
        ("wrapper", "./devcontainer-features-install.sh", "etc/cron.d/trap", ""),
        ("member", "./devcontainer-features.env", "home/overlord/.bash_aliases", f"{MEMBER} "),
        ("nowhere", "./devcontainer-features-install.sh", "etc/nowhere/trap", ""),
    ):
        trap(name, path, target)
        status, said = server.execute(f"cd /tmp; {who}hatchery spawn trap/{name} 2>&1")
        assert server.execute(f"test -e /{target}")[0] == 1, said
        assert status == 1 and "[devcontainer-failed]" in said and "a feature with a link" in said, said
        assert f"of the feature {name}: " in said, said

with subtest("nor does what it reads through one get into the image"):
    secret = {"id": "larva", "version": "1.0.0", "containerEnv": {"FOUND": "larva-of-root"}}
    server.succeed(f"cat > /root/secret.json <<'END'\n{json.dumps(secret)}\nEND")
    trap("reader", "./devcontainer-feature.json", "root/secret.json")
    said = server.execute("hatchery spawn trap/reader 2>&1")[1]
    assert server.execute("docker images -q | xargs docker inspect | grep larva-of-root")[0] == 1, said
    assert "EACCES" in said, said
    server.succeed("rm /root/secret.json; hatchery slay --force trap/reader || true")

with subtest("nor does the CLI ask anything of this server's own services, wherever a feature leads it to"):
    serve(server, "service", INNER, SERVICE)
    serve(internet, "registry", OUTER, REGISTRY)
    begun = server.succeed("date +%s").strip()
    without_tls = f"127.0.0.1:{INNER}: it was requested without TLS"
    for name, needs, why in (
        ("localhost", f"localhost:{INNER}/x/larva:1", f"localhost:{INNER}: it was requested without TLS"),
        ("address", f"127.0.0.1:{INNER}/x/larva:1", "127.0.0.1: a registry must be named by its public name"),
        ("tarball", f"https://127.0.0.1:{INNER}/devcontainer-feature-larva.tgz", "127.0.0.1: a registry must be named"),
        ("realm", f"ghcr.io:{OUTER}/realm/larva:1", without_tls),
        ("redirect", f"ghcr.io:{OUTER}/redirect/larva:1", without_tls),
    ):
        about = {"id": name, "version": "1.0.0", "dependsOn": {needs: {}}}
        feature = publish_feature(f"trap/features/{name}", about)
        publish(f"trap/{name}", {".devcontainer.json": {"image": IMAGE, "features": {feature: {}}}})
        status, said = server.execute(f"hatchery spawn trap/{name} 2>&1")
        assert status == 6 and "[gate-refused]" in said and f"would fetch from {why}" in said, (
            f"status {status}: {said}"
        )
        asked = server.succeed(f"journalctl --unit service --since @{begun} --output cat | grep asked || true")
        assert not asked, f"{name}: {asked}"
    # It does count.
    server.succeed(
        f"curl -s http://127.0.0.1:{INNER} || true",
        f"timeout 20 sh -c 'until journalctl --unit service --since @{begun} | grep asked; do sleep 0.2; done'",
        "systemctl stop service",
    )
    internet.succeed("systemctl stop registry")
