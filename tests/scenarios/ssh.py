"""Plain OpenSSH against a drone, with nothing in `known_hosts` but the one line of `hatchery ca`."""

HOST = f"acme-site.{DOMAIN}"
DRONE = f"vscode@{HOST}"
OPTIONS = "-o StrictHostKeyChecking=yes -o Port=2222"
PLAIN = f"ssh {OPTIONS}"


def configuration(name: str, ssh: str) -> str:
    """A configuration like the server's, with another `[ssh]`, which is its last table."""
    file = f"/tmp/{name}.toml"
    server.succeed(f"(sed '/^\\[ssh\\]/,$d' /etc/hatchery/config.toml; printf '[ssh]\\n{ssh}\\n') > {file}")
    return f"hatchery --config {file}"


def login(options: str, user: str) -> tuple[int, str]:
    """As it goes for whoever answers "sesame" when asked for a password."""
    asked = "SSH_ASKPASS=/tmp/askpass SSH_ASKPASS_REQUIRE=force"
    return laptop.execute(f"{asked} ssh {options} {OPTIONS} {user}@{HOST} echo in 2>&1")


def denied(options: str, user: str) -> None:
    """The drone offers keys alone, and takes none."""
    status, said = login(options, user)
    assert status == 255 and "Permission denied (publickey)." in said, f"{status}: {said}"


def host_keys() -> str:
    """All that the drone shows: its keys, and its certificates."""
    return laptop.succeed(f"(ssh-keyscan -p 2222 {HOST}; ssh-keyscan -c -p 2222 {HOST}) 2> /dev/null")


start_and_wait()
server.succeed("hatchery spawn acme/site")
authority = laptop_trusts_drones()
laptop.succeed("rm -rf /tmp/ssh; mkdir /tmp/ssh")

with subtest("login, as the user that one works as and as root"):
    assert laptop.succeed(f"{PLAIN} {DRONE} 'id -un; pwd'") == "vscode\n/home/vscode\n"
    assert laptop.succeed(f"{PLAIN} root@{HOST} id -un") == "root\n"
    assert laptop.succeed(f"{PLAIN} -tt {DRONE} 'test -t 0 && echo terminal' 2> /dev/null").strip() == "terminal"

with subtest("exit statuses, and bytes as they are"):
    assert laptop.execute(f"{PLAIN} {DRONE} exit 42")[0] == 42
    assert laptop.execute(f"{PLAIN} {DRONE} 'kill -9 $$'")[0] == 255, "a signal is no exit status"
    laptop.succeed("head -c 4M /dev/urandom > /tmp/bytes", f"{PLAIN} {DRONE} cat < /tmp/bytes | cmp - /tmp/bytes")
    assert laptop.succeed(f"{PLAIN} {DRONE} 'echo out; echo err >&2' 2> /tmp/err") == "out\n"
    assert laptop.succeed("cat /tmp/err") == "err\n"

with subtest("sftp and scp, there and back"):
    laptop.succeed(
        f"sftp -q {OPTIONS} -b - {DRONE} <<< $'put /tmp/bytes there\\nget there /tmp/back'",
        "cmp /tmp/bytes /tmp/back",
        f"scp -q {OPTIONS} {DRONE}:there /tmp/again",
        "cmp /tmp/bytes /tmp/again",
    )
    assert laptop.succeed(f"{PLAIN} {DRONE} stat -c %U there") == "vscode\n"

with subtest("ten channels of one connection at once, and ten more"):
    laptop.succeed(f"{PLAIN} -f -N -M -S /tmp/ssh/master {DRONE}")
    # Each ends only when all are there.
    channel = "touch ~/channel-$1; until test $(ls ~/channel-* | wc -l) = 20; do sleep 0.1; done; echo $SSH_CONNECTION"
    laptop.succeed(f"{PLAIN} {DRONE} 'cat > channel' <<'END'\n{channel}\nEND")
    connections = laptop.succeed(
        f"for n in $(seq 20); do timeout 60 {PLAIN} -S /tmp/ssh/master {DRONE} bash channel $n & done; wait"
    ).splitlines()
    assert len(connections) == 20 and len(set(connections)) == 1, connections

with subtest("a forwarded port leads to what listens on the drone's loopback alone"):
    laptop.succeed(
        f"{PLAIN} -S /tmp/ssh/master {DRONE} 'mkdir www; echo through > www/it; cd www; "
        "setsid python3 -m http.server --bind 127.0.0.1 3000 > /dev/null 2>&1 < /dev/null &'",
        f"{PLAIN} -f -N -o ExitOnForwardFailure=yes -M -S /tmp/ssh/forward -L 127.0.0.1:13000:127.0.0.1:3000 {DRONE}",
    )
    assert laptop.wait_until_succeeds("curl -sf --max-time 5 http://127.0.0.1:13000/it", timeout=20) == "through\n"
    laptop.fail(f"curl -sf --max-time 5 http://{HOST}:3000/it")
    laptop.succeed(*(f"ssh -O exit -S /tmp/ssh/{socket} {DRONE}" for socket in ("master", "forward")))

with subtest("a password is refused, the right one too"):
    server.succeed("docker exec -i acme-site chpasswd <<< $'vscode:sesame\\nroot:sesame'")
    laptop.succeed("printf '#!/bin/sh\\necho sesame\\n' > /tmp/askpass; chmod +x /tmp/askpass")
    password = "-o PreferredAuthentications=password,keyboard-interactive"
    # An sshd that takes passwords lets it in.
    server.succeed(
        "docker exec acme-site /usr/sbin/sshd -f /dev/null -p 2223 -o UsePAM=yes -o PermitRootLogin=yes "
        "-o HostKey=/etc/ssh/hatchery/host_key -o HostCertificate=/etc/ssh/hatchery/host_key-cert.pub"
    )
    for user in ("vscode", "root"):
        assert login(f"{password} -o Port=2223", user) == (0, "in\n")
        denied(password, user)

with subtest("another key is refused, even one that the drone's user would let in"):
    laptop.succeed("rm -f /tmp/other*; ssh-keygen -q -t ed25519 -N '' -f /tmp/other")
    laptop.succeed(f"{PLAIN} {DRONE} 'mkdir -p .ssh; cat > .ssh/authorized_keys; chmod -R go= .ssh' < /tmp/other.pub")
    for user in ("vscode", "root"):
        denied("-o IdentitiesOnly=yes -i /tmp/other", user)
        laptop.succeed(f"{PLAIN} -o IdentitiesOnly=yes -i /root/.ssh/id_ed25519 {user}@{HOST} true")

with subtest("the host key is the drone's own, and vouched for under its name alone"):
    shown = host_keys()
    kinds = [line.split()[-2] for line in shown.splitlines()]
    assert kinds == ["ssh-ed25519", "ssh-ed25519-cert-v01@openssh.com"], shown
    laptop.fail(f"{PLAIN} -o UserKnownHostsFile=/dev/null {DRONE} true")
    laptop.fail(f"{PLAIN} -o HostKeyAlias=acme-web.{DOMAIN} {DRONE} true")
    laptop.succeed(f"{PLAIN} -o HostKeyAlias={HOST} {DRONE} true")
    # Who is no drone has no certificate, whatever name it has in the tailnet.
    status, said = laptop.execute(f"ssh -o Port=22 {OPTIONS} root@laptop.{DOMAIN} true 2>&1")
    assert status == 255 and "Host key verification failed." in said, said
    images_own = server.succeed("docker exec acme-site sh -c 'cat /etc/ssh/ssh_host_*_key.pub'").split()
    assert not set(images_own) & {line.split()[-1] for line in shown.splitlines()}, "every drone has the image's key"

with subtest("keys are there after the container was started anew by anybody"):
    server.succeed("docker restart -t 3 acme-site")
    laptop.wait_until_succeeds(f"timeout 10 {PLAIN} {DRONE} true", timeout=60)
    denied("-o IdentitiesOnly=yes -i /tmp/other", "vscode")
    assert host_keys() == shown

with subtest("after burrow and unburrow, at once"):
    server.succeed("hatchery burrow acme/site", "hatchery unburrow acme/site")
    laptop.succeed(f"timeout 20 {PLAIN} {DRONE} test -e there")
    denied("-o IdentitiesOnly=yes -i /tmp/other", "root")
    assert host_keys() == shown

with subtest("after slay and spawn: the same host key, and a fresh home"):
    server.succeed("hatchery slay acme/site", "hatchery spawn acme/site")
    laptop.succeed(f"timeout 20 {PLAIN} {DRONE} test ! -e there")
    assert host_keys() == shown
    assert server.succeed("hatchery ca") == authority
    server.succeed("hatchery slay acme/site")

with subtest("keys can be taken from a URL"):
    elsewhere = configuration("elsewhere", 'authorized_keys_from = [\\"https://github.com/levin.keys\\"]')
    server.succeed(f"{elsewhere} spawn acme/web")
    assert laptop.succeed(f"{PLAIN} vscode@acme-web.{DOMAIN} hostname") == "acme-web\n"
    server.succeed("hatchery slay acme/web")

with subtest("a drone that nobody could log in to is not made"):
    nobody = configuration("nobody", "authorized_keys = []")
    error_of(f"{nobody} spawn acme/web", 1, "no-authorized-key")
    assert server.succeed("docker ps -aq --filter label=hatchery.drone; docker volume ls -q") == ""

assert laptop.succeed("cat /root/.ssh/known_hosts") == authority
