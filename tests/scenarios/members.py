"""Who is in the group hatchery uses every verb without sudo; who is not, is told so."""


def member(arguments: str) -> str:
    return server.succeed(f"cd /home/overlord && {MEMBER} hatchery {arguments} 2>&1")


start_and_wait()
stop_recovery()

with subtest("a member spawns, looks, puts to sleep, wakes, recovers and slays"):
    contains(member("spawn acme/vault"), "Hatchery ready.")
    contains(member("list"), "acme-vault", "running")
    contains(member("status acme/vault"), "contents=write", "last token  ", " ago")
    contains(member("audit acme/vault"), "token minted for acme/vault")
    assert member("exec acme-vault -- id -un") == "vscode\n"
    # The drone is known, by a file that a member has written; the member's key is not.
    server.succeed("rm -f /var/lib/hatchery/ssh-known-hosts")
    said = server.fail(f"cd /home/overlord && {MEMBER} hatchery ssh acme-vault -- true 2>&1")
    contains(said, "Permission denied (publickey)")
    assert server.succeed("stat -c %U:%a /var/lib/hatchery/ssh-known-hosts") == "overlord:644\n"
    contains(member("burrow acme/vault"), "is burrowed")
    contains(member("unburrow acme/vault"), "is running")
    server.succeed("systemctl stop hatchery-credd@acme-vault.socket")
    contains(member("recover"), "acme-vault: its socket was recreated")
    contains(member("ca"), "@cert-authority")
    # tailscaled is where only root's PATH leads.
    found = doctor(f"{MEMBER} PATH=/usr/local/bin:/usr/bin:/bin hatchery doctor")["tailscale"]
    assert found["state"] == "ok", found
    contains(member("slay acme/vault"), "is gone")

with subtest("what one made, another removes"):
    server.succeed("useradd --create-home --groups hatchery --password '!' kerrigan 2> /dev/null || true")
    member("spawn acme/vault")
    contains(server.succeed("cd / && runuser -u kerrigan -- hatchery slay acme/vault 2>&1"), "is gone")
    contains(server.succeed("hatchery spawn acme/vault 2>&1"), "Hatchery ready.")
    contains(member("slay acme/vault"), "is gone")

with subtest("a member may do nothing else to systemd"):
    member("spawn acme/vault")
    server.succeed("systemctl restart hatchery-credd@acme-vault.service")
    for command in (
        "stop docker.service",
        "start hatchery-firewall.service",
        "stop hatchery-recover.timer",
        "kill hatchery-credd@acme-vault.service",
        "set-property --runtime hatchery-credd@acme-vault.service MemoryMax=infinity",
        "daemon-reload",
    ):
        status, said = server.execute(f"{MEMBER} systemctl --no-ask-password {command} 2>&1")
        assert status != 0, f"{command}: {said}"
        contains(said, "Interactive authentication required")
    member("slay acme/vault")

with subtest("others are refused, and told what to do"):
    for verb in ("list", "spawn acme/plain", "ca", "recover"):
        status, said = server.execute(f"cd / && runuser -u nobody -- hatchery {verb} 2>&1")
        assert status == 1, f"{verb}: {status}"
        contains(said, "the group hatchery", "[not-allowed]", "usermod -aG hatchery")
    error_of("cd / && runuser -u nobody -- hatchery list", 1, "not-allowed")
    server.fail("runuser -u nobody -- ls /run/hatchery")
