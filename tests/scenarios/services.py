"""The credential services under systemd: started when they are needed, gone when they are not, and
nothing that a drone or an administrator does to them is for good."""

import json

UNIT = "hatchery-credd@acme-vault"
DROP_IN = "/etc/systemd/system/hatchery-credd@.service.d"
ASK = "curl -sS --max-time 20 --unix-socket /var/run/github-creds.sock"
# What a person in the drone sees: whether git gets in, on the path that was mounted at its start.
FETCH = "docker exec -u vscode -w /workspaces/vault acme-vault git ls-remote --exit-code origin HEAD"


def inside(command: str) -> str:
    return server.succeed(f"docker exec acme-vault {command}")


def state(unit: str) -> str:
    return server.execute(f"systemctl is-active {unit}")[1].strip()


def pid() -> str:
    return server.succeed(f"systemctl show --property=MainPID --value {UNIT}.service").strip()


start_and_wait()
stop_recovery()

with subtest("a spawn makes the socket; the clone of a private repository has gone through it"):
    server.succeed("hatchery spawn acme/vault")
    assert state(f"{UNIT}.socket") == "active"
    contains(server.succeed("hatchery audit acme/vault"), "mint", "token minted for acme/vault")
    assert server.succeed("readlink -f /run/hatchery/acme-vault.sock").strip().endswith("acme-vault/github-creds.sock")
    assert server.succeed("stat -c %a /run/hatchery/acme-vault/github-creds.sock").strip() == "666"

with subtest("nobody else on the server gets to it"):
    server.fail("runuser -u nobody -- test -e /run/hatchery/acme-vault/github-creds.sock")

with subtest("the service has what it needs and nothing else"):
    shown = server.succeed(f"cat /proc/{pid()}/status")
    contains(shown, "CapEff:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2")
    assert "Uid:\t0\t" not in shown, shown
    limits = " ".join(server.succeed(f"cat /proc/{pid()}/limits").split())
    contains(limits, "Max core file size 0 0 bytes")
    memory = int(server.succeed(f"systemctl show --property=MemoryCurrent --value {UNIT}.service"))
    assert memory < 12 * 1024 * 1024, f"{memory} bytes of memory"

with subtest("the first connection starts it"):
    server.succeed(f"systemctl stop {UNIT}.service")
    assert state(f"{UNIT}.service") == "inactive" and state(f"{UNIT}.socket") == "active"
    server.succeed(FETCH)
    assert state(f"{UNIT}.service") == "active"

with subtest("killed, restarted, reloaded: the next request is answered"):
    for harm in (
        f"systemctl kill --signal=KILL {UNIT}.service",
        f"systemctl restart {UNIT}.service",
        "systemctl daemon-reload",
        f"systemctl reload-or-restart {UNIT}.service",
        "systemctl daemon-reexec",
    ):
        server.succeed(harm)
        server.succeed(FETCH)

with subtest("a new socket in the same directory is found by a drone that runs"):
    before = server.succeed("stat -c %i /run/hatchery/acme-vault/github-creds.sock")
    server.succeed(f"systemctl stop {UNIT}.service; systemctl restart {UNIT}.socket")
    assert server.succeed("stat -c %i /run/hatchery/acme-vault/github-creds.sock") != before
    server.succeed(FETCH)

with subtest("thirty crashes in a row do not lock the drone out"):
    server.succeed(
        f"for n in $(seq 30); do {ASK.replace('/var/run/', '/run/hatchery/acme-vault/')} -o /dev/null "
        f"http://localhost/healthz & systemctl kill --signal=KILL {UNIT}.service; done; wait; true"
    )
    assert state(f"{UNIT}.socket") == "active", state(f"{UNIT}.socket")
    server.succeed(FETCH)

with subtest("a service that cannot start says why, and does once it can"):
    server.succeed(
        f"systemctl stop {UNIT}.service; cp -a /etc/hatchery/app-key.pem /root/; echo x > /etc/hatchery/app-key.pem"
    )
    server.fail(f"timeout 20 {FETCH}")
    journal = server.succeed(f"journalctl --unit {UNIT}.service --since=-1min --output=cat")
    contains(journal, "app-key")
    starts = int(server.succeed(f"journalctl --unit {UNIT}.service --since=-10s --output=cat | grep -c ^Starting"))
    assert 0 < starts < 15, f"{starts} starts in 10 s"
    assert state(f"{UNIT}.socket") == "active", state(f"{UNIT}.socket")
    server.succeed("mv /root/app-key.pem /etc/hatchery/app-key.pem")
    server.wait_until_succeeds(FETCH, timeout=20)

with subtest("a stopped socket ends the credentials at once"):
    assert state(f"{UNIT}.service") == "active"
    server.succeed(f"systemctl stop {UNIT}.socket")
    assert state(f"{UNIT}.service") == "inactive"
    server.fail(f"docker exec acme-vault {ASK} http://localhost/token")
    server.fail(FETCH)

with subtest("recover makes it anew"):
    contains(server.succeed("hatchery recover"), "acme-vault: its socket was recreated")
    assert server.succeed("hatchery recover") == ""
    server.succeed(FETCH)

with subtest("without a live token it ends by itself, and the next request wakes it"):
    assert inside(f"{ASK} -o /dev/null -w %{{http_code}} -X DELETE http://localhost/token") == "204"
    server.wait_until_fails(f"systemctl is-active --quiet {UNIT}.service", timeout=90)
    server.succeed(FETCH)

with subtest("the App's key may be encrypted, and is then named by the unit alone"):
    server.succeed(
        "systemd-creds encrypt --with-key=host --name=app-key /etc/hatchery/app-key.pem /etc/hatchery/app-key.cred",
        "cp -a /etc/hatchery/config.toml /etc/hatchery/app-key.pem /root; rm /etc/hatchery/app-key.pem",
        "sed -i '/^private_key_file/d' /etc/hatchery/config.toml",
    )
    said = server.succeed("hatchery config --check --secrets 2>&1")
    contains(said, "Configuration OK.", "credential app-key")
    contains(doctor()["credentials"]["message"], "from /etc/hatchery/app-key.pem, which does not exist")
    server.succeed(
        f"mkdir -p {DROP_IN}",
        f"printf '[Service]\\nLoadCredentialEncrypted=app-key:/etc/hatchery/app-key.cred\\n' > {DROP_IN}/key.conf",
        f"systemctl daemon-reload; systemctl stop {UNIT}.service",
        FETCH,
    )
    assert doctor()["credentials"]["state"] == "ok", doctor()["credentials"]
    server.succeed(
        f"rm -r {DROP_IN} /etc/hatchery/app-key.cred; cp -a /root/config.toml /root/app-key.pem /etc/hatchery/",
        f"systemctl daemon-reload; systemctl stop {UNIT}.service",
        FETCH,
    )

with subtest("what helps a drone that was spawned before there was an App is said"):
    server.succeed(
        "sed '/^app_id/d; /^private_key_file/d' /etc/hatchery/config.toml > /root/no-app.toml",
        "hatchery --config /root/no-app.toml spawn acme/plain",
    )
    anew = "`hatchery rebuild acme/plain` mounts its socket"
    contains(server.succeed("hatchery status acme/plain"), f"before the GitHub App was configured; {anew}")
    assert json.loads(server.succeed("hatchery status acme/plain --json"))["permissions"] is None
    found = doctor()["credentials"]
    assert found["state"] == "problem" and found["hint"] == "`hatchery rebuild acme/plain` mounts it", found
    contains(found["message"], "acme-plain")
    assert server.succeed("hatchery recover") == ""
    server.succeed("hatchery rebuild --yes acme/plain")
    contains(server.succeed("hatchery status acme/plain"), "contents=write")
    assert doctor()["credentials"]["state"] == "ok", doctor()["credentials"]
    server.succeed("hatchery slay acme/plain")

with subtest("a gh of the image's own at the place of ours is kept, and gets the token"):
    dockerfile = (
        f"FROM {IMAGE}\n"
        "RUN printf '%s\\n' '#!/bin/sh' 'echo real $(echo $GH_TOKEN | cut -c1-4) $@' > /usr/local/bin/gh; chmod +x /usr/local/bin/gh\n"
    )
    config = {"build": {"dockerfile": "Dockerfile"}}
    publish_devcontainer("acme/own-gh", {"devcontainer.json": config, "Dockerfile": dockerfile})
    server.succeed("hatchery spawn acme/own-gh")
    for _ in range(2):
        assert server.succeed("docker exec acme-own-gh gh pr list") == "real ghs_ pr list\n"
        server.succeed("hatchery burrow acme/own-gh; hatchery unburrow acme/own-gh")
    server.succeed("hatchery slay --force acme/own-gh")

with subtest("burrow revokes; slay ends it all"):
    server.succeed("hatchery burrow acme/vault")
    contains(server.succeed("hatchery audit acme/vault | tail -n 1"), "revocation")
    server.succeed("hatchery slay --force acme/vault")
    for unit in (f"{UNIT}.service", f"{UNIT}.socket"):
        assert state(unit) == "inactive"
    server.succeed("test ! -e /run/hatchery/acme-vault -a ! -e /run/hatchery/acme-vault.sock")
    server.succeed("test ! -e /var/lib/hatchery/drones/acme-vault.json")
