"""Drones that start from a branch or a pull request; a stranger's has none of the server's secrets."""

import json
import re
from typing import Any

BARE = "/srv/github/git/acme/den.git"
GIT = f"git -c safe.directory='*' {GIT_AUTHOR} -C {BARE}"
CLONE = "/workspaces/den"
SECRET = "A-sting-of-the-queens"
ENVIRONMENT = "[devcontainer]\nenv_file = '/root/queen.env'\ntrust = ['acme/*']\nmounts = { kept = '~/.kept' }\n"


def commit(reference: str, parent: str, more: dict[str, Any]) -> None:
    """A commit at this ref of acme/den, in whose devcontainer.json is more."""
    configuration = {"image": IMAGE, "features": FEATURES, **more}
    commit_at("acme/den", reference, parent, {".devcontainer/devcontainer.json": configuration})


def tip(reference: str) -> str:
    return internet.succeed(f"{GIT} rev-parse {reference}").strip()


def spawn(what: str, prefix: str = "") -> str:
    """All that is said; afterwards `slay` finds nothing to lose, which is tried last."""
    return hatchery(f"--config /root/heads.toml spawn {what}", prefix=prefix)


def slay() -> None:
    said = hatchery("slay acme/den")
    assert drones() == {}, said


def permissions() -> dict[str, str]:
    """What the drone's tokens may do."""
    status = json.loads(server.succeed("hatchery status acme/den --json"))
    found: dict[str, str] = status["permissions"]
    return found


start_and_wait()
stop_recovery()
laptop_trusts_drones()
internet.succeed(f"rm -rf /root/den.git; cp -a {BARE} /root/den.git")
server.succeed(
    f"echo QUEEN={SECRET} > /root/queen.env",
    f'(cat /etc/hatchery/config.toml; printf "{ENVIRONMENT}") > /root/heads.toml',
)
commit("refs/heads/fix/a-b", "main", {"containerEnv": {"FROM": "the branch"}})
commit("refs/pull/7/head", "main", {"containerEnv": {"FROM": "a stranger"}})
internet.succeed(f"{GIT} update-ref refs/pull/8/head refs/heads/fix/a-b")
commit("refs/pull/9/head", "main", {"privileged": True})
take_inventory()

with subtest("what is not there is said, and nothing is made"):
    for what in ("--branch gone", "--pr 99", "https://github.com/acme/den/tree/fix/other"):
        repository = "" if what.startswith("https") else "acme/den"
        error = error_of(f"hatchery spawn {what} {repository}", 3, "head-not-found")
        contains(error["message"], "acme/den has no ")
    for what in ("--branch fix --pr 7 acme/den", "--pr 7 https://github.com/acme/den/pull/7", "--branch -x acme/den"):
        hatchery(f"spawn {what}", status=2)
    nothing_new()

with subtest("a branch, by the URL of a file: its devcontainer.json, and pushes go to it"):
    spawn("https://github.com/acme/den/blob/fix/a-b/README.md#L1")
    assert on("acme-den", f"cd {CLONE}; git rev-parse HEAD; echo $FROM").split("\n")[:2] == [
        tip("fix/a-b"),
        "the branch",
    ]
    assert permissions()["contents"] == "write"
    assert re.search(r"^from +branch fix/a-b$", hatchery("status acme/den"), re.MULTILINE)
    slay()

with subtest("a pull request of the repository's own is its branch"):
    said = spawn("acme/den --pr 8")
    assert "stranger" not in said, said
    assert on("acme-den", f"cd {CLONE}; git branch --show-current; git rev-parse '@{{u}}'").split() == [
        "fix/a-b",
        tip("fix/a-b"),
    ]
    on("acme-den", f"cd {CLONE}; git {GIT_AUTHOR} commit -q --allow-empty -m Mine; git push -q")
    assert on("acme-den", f"git -C {CLONE} rev-parse HEAD").strip() == tip("fix/a-b")
    assert SECRET in on("acme-den", "env")
    on("acme-den", "echo a login > ~/.kept/login")
    slay()

with subtest("a fork's has tokens that read, and no secrets, also after it was woken"):
    said = spawn("https://github.com/acme/den/pull/7/files")
    contains(
        said,
        "Pull request 7 is treated as untrusted",
        "are read-only",
        "It gets none of this server's secret variables",
    )
    shown = on("acme-den", f"cd {CLONE}; git branch --show-current; git rev-parse HEAD; echo $FROM")
    assert shown == f"pr-7\n{tip('refs/pull/7/head')}\na stranger\n", shown
    assert set(permissions().values()) == {"read"} and permissions()["contents"] == "read", permissions()
    assert re.search(r"^from +pull request 7, from a fork$", hatchery("status acme/den"), re.MULTILINE)
    commit("refs/pull/7/head", "refs/pull/7/head", {"containerEnv": {"FROM": "a stranger again"}})
    on("acme-den", f"cd {CLONE}; git pull -q")
    assert on("acme-den", f"git -C {CLONE} rev-parse HEAD").strip() == tip("refs/pull/7/head")
    on("acme-den", f"cd {CLONE}; git {GIT_AUTHOR} commit -q --allow-empty -m Mine")
    contains(fails("acme-den", f"git -C {CLONE} push"), "does not match")
    said = fails("acme-den", f"git -C {CLONE} push origin HEAD:main")
    assert "403" in said or "not granted" in said, said
    hatchery("slay acme/den", status=1)
    on("acme-den", f"git -C {CLONE} reset -q --hard HEAD~")
    server.succeed("hatchery burrow acme/den", "hatchery --config /root/heads.toml unburrow acme/den")
    everything = on("acme-den", "env") + server.succeed("hatchery --config /root/heads.toml exec acme/den -- env")
    assert SECRET not in everything, everything
    fails("acme-den", "test -e ~/.kept")
    slay()

with subtest("the repository's trust is none in a fork of it; what is asked for counts"):
    error = error_of("hatchery --config /root/heads.toml spawn acme/den --pr 9", 6, "gate-refused")
    contains(error["hint"], "pull request 9 is untrusted", "`hatchery spawn --trust --pr 9 acme/den`")
    said = spawn("acme/den --pr 7 --trust --permission contents=write")
    assert "read-only" not in said and "secret variables" not in said, said
    assert permissions() == {"contents": "write"} and SECRET in on("acme-den", "env")
    assert on("acme-den", "cat ~/.kept/login") == "a login\n"
    slay()

server.succeed("docker volume rm hatchery.shared.kept")
nothing_new()
internet.succeed(f"rm -rf {BARE}; mv /root/den.git {BARE}")
server.succeed("rm /root/heads.toml /root/queen.env")
