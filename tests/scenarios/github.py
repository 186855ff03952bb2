"""A drone holds no GitHub secret; git, gh, git-lfs, cargo and Go just work in it, for its own repositories."""

import json
import re
import secrets
from typing import Any

SCOPE = ["acme/vault", "acme/parts", "acme/gears", "other/engine"]
PERMISSIONS = {
    "actions": "read",
    "checks": "read",
    "contents": "write",
    "issues": "write",
    "metadata": "read",
    "pull_requests": "write",
    "statuses": "read",
}
CLONE = "/workspaces/vault"
RUN = secrets.token_hex(4)

# A host that is not GitHub: it asks everybody to log in, and writes down with what they do.
LISTENER = """
import http.server, ssl, sys, threading
class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self):
        print(self.server.server_port, self.path, self.headers.get("Authorization"), flush=True)
        self.send_response(401)
        self.send_header("WWW-Authenticate", 'Basic realm="Elsewhere"')
        self.end_headers()
    do_GET = do_POST = answer
    def log_message(self, *_):
        pass
servers = [http.server.ThreadingHTTPServer(("", port), Handler) for port in (9999, 8443)]
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("/etc/world/tls/tls.crt", "/etc/world/tls/tls.key")
servers[1].socket = context.wrap_socket(servers[1].socket, server_side=True)
threading.Thread(target=servers[0].serve_forever).start()
servers[1].serve_forever()
"""


def tokens() -> dict[str, Any]:
    return {token["sha256"]: token for token in fake("tokens")}


def audit(repository: str) -> list[Any]:
    events: list[Any] = json.loads(server.succeed(f"hatchery audit {repository} --json"))
    return events


def bare(repository: str, command: str) -> str:
    """Asks a repository itself, at GitHub."""
    return internet.succeed(f"git -c safe.directory='*' -C /srv/github/git/{repository}.git {command}").strip()


def nothing_went_astray() -> None:
    """Each token was sent for repositories that it was minted for, and never for another."""
    known = tokens()
    for asked in fake("asked"):
        repository = "/".join(asked["target"].split("/")[1:3]).removesuffix(".git").lower()
        token = known.get(asked["secret_sha256"])
        if token and asked["host"] == "github.com":
            assert repository in token["repositories"], f"{asked} with {token}"


def works_in_the_clone(mark: str) -> None:
    """Fetch, commit, push, a branch, a tag; afterwards GitHub has them."""
    on(
        "acme-vault",
        f"cd {CLONE}; git fetch -q; git pull -q; echo {mark} > mark; git add mark; git commit -qm {mark}; git push -q; "
        f"git push -q origin HEAD:refs/heads/{mark}; git tag -am {mark} tag-{mark}; git push -q origin tag-{mark}; git push -q --tags",
    )
    tip = on("acme-vault", f"git -C {CLONE} rev-parse HEAD").strip()
    assert bare("acme/vault", f"rev-parse main refs/heads/{mark} tag-{mark}^{{commit}}").split() == [tip] * 3
    assert bare("acme/vault", "show main:mark") == mark


start_and_wait()
laptop_trusts_drones()
internet.succeed("github-fake reset")
server.succeed("credd-clock begin")

with subtest("a private repository is cloned with a token for exactly the scope"):
    extra = " ".join(f"--repo {repository}" for repository in SCOPE[1:])
    server.succeed(f"hatchery spawn acme/vault {extra}")
    cloned = [asked for asked in fake("asked") if asked["host"] == "github.com" and asked["secret_sha256"]]
    assert cloned and all(asked["target"].startswith("/acme/vault/") for asked in cloned), cloned
    used = [tokens()[asked["secret_sha256"]] for asked in cloned]
    assert all(token["repositories"] == ["acme/gears", "acme/parts", "acme/vault"] for token in used), used
    assert all(token["permissions"] == PERMISSIONS for token in used), used
    assert on("acme-vault", f"git -C {CLONE} remote get-url origin; git -C {CLONE} rev-parse HEAD").split() == [
        "https://github.com/acme/vault",
        bare("acme/vault", "rev-parse main"),
    ]
    assert "ghs_" not in on("acme-vault", f"cat {CLONE}/.git/config; git config --list --show-origin; env")
    on("acme-vault", "git config --global user.name Sarah; git config --global user.email sarah@example.test")

with subtest("fetch, push, branches, tags"):
    works_in_the_clone(f"one-{RUN}")

with subtest("clones of all that is in scope, another owner's too, by https and by ssh's URL"):
    for repository in SCOPE:
        for url in (
            f"https://github.com/{repository}",
            f"git@github.com:{repository}.git",
            f"https://GitHub.com/{repository.upper()}.git",
        ):
            on("acme-vault", f"rm -rf /tmp/clone; git clone -q {url} /tmp/clone; test -e /tmp/clone/README.md")
    said = fails("acme-vault", "GIT_TERMINAL_PROMPT=0 git clone https://github.com/acme/sealed /tmp/sealed")
    assert "hatchery: this drone has no access to acme/sealed" in said, said
    # What everybody may read stays readable.
    on("acme-vault", "git ls-remote -q https://github.com/acme/web | grep main > /dev/null")

with subtest("submodules of the same owner: in scope they come, out of scope it is said why not"):
    on(
        "acme-vault",
        f"cd {CLONE}; git submodule --quiet update --init parts gears; test -e parts/parts.go -a -e gears/README.md",
    )
    on(
        "acme-vault",
        f"cd {CLONE}/gears; git switch -q -C work; git commit -q --allow-empty -m Gear; git push -q origin HEAD:work-{RUN}",
    )
    said = fails("acme-vault", f"cd {CLONE}; GIT_TERMINAL_PROMPT=0 git submodule update --init sealed")
    assert "hatchery: this drone has no access to acme/sealed" in said and "--repo acme/sealed" in said, said

with subtest("git-lfs, there and back"):
    on(
        "acme-vault",
        f"cd {CLONE}; git lfs install > /dev/null; git lfs track '*.bin' > /dev/null; head -c 3M /dev/urandom > large.bin; "
        "git add .gitattributes large.bin; git commit -qm Large; git push -q; rm -rf /tmp/clone; "
        "git clone -q https://github.com/acme/vault /tmp/clone; cmp large.bin /tmp/clone/large.bin",
    )
    assert bare("acme/vault", "show main:large.bin").startswith("version https://git-lfs.github.com/spec/v1")
    internet.succeed("find /srv/github/lfs -type f -size +2M | grep .")

with subtest("no token goes to another host, nor to another port of this one"):
    internet.succeed(f"cat > /root/listener.py <<'END'\n{LISTENER}\nEND")
    internet.succeed(
        "systemctl stop listener 2> /dev/null || true",
        "systemd-run --quiet --unit listener --property StandardOutput=truncate:/root/heard python3 /root/listener.py",
    )
    elsewhere = ["http://internet:9999", "https://ghcr.io:8443", "https://github.com:8443", "http://github.com:9999"]
    for host in elsewhere:
        laptop.wait_until_succeeds(f"curl -sk {host}/up", timeout=20)
        fails("acme-vault", f"GIT_TERMINAL_PROMPT=0 git clone {host}/acme/vault /tmp/elsewhere")
        fails("acme-vault", f"git -C {CLONE} -c lfs.url={host}/acme/vault lfs push --all origin")
    heard = internet.succeed("cat /root/heard")
    assert heard.count("/acme/vault") >= 2 * len(elsewhere), heard
    assert all(line.endswith(" None") for line in heard.splitlines()), heard
    # The listener would have heard one.
    given = "!f() { echo username=someone; echo password=something; }; f"
    fails("acme-vault", f"git -c credential.helper='{given}' ls-remote {elsewhere[1]}/acme/vault")
    assert not internet.succeed("tail -n 1 /root/heard").endswith(" None\n")
    internet.succeed("systemctl stop listener")

with subtest("gh: repo view, pr create, pr list, api, auth status, run list"):
    on(
        "acme-vault",
        f"cd {CLONE}; git switch -q -c topic-{RUN}; git commit -q --allow-empty -m Topic; git push -q origin topic-{RUN}",
    )
    shown = on("acme-vault", f"cd {CLONE}; gh repo view --json nameWithOwner,isPrivate,viewerPermission")
    assert json.loads(shown) == {"isPrivate": True, "nameWithOwner": "acme/vault", "viewerPermission": "WRITE"}, shown
    assert "crate and a Go module" in on("acme-vault", "gh repo view acme/parts")
    created = on("acme-vault", f"cd {CLONE}; gh pr create --title Topic --body It --head topic-{RUN} --base main")
    assert created.startswith("https://github.com/acme/vault/pull/"), created
    number = created.strip().rpartition("/")[2]
    listed = json.loads(on("acme-vault", f"cd {CLONE}; gh pr list --json number,title,headRefName"))
    assert {"headRefName": f"topic-{RUN}", "number": int(number), "title": "Topic"} in listed, listed
    assert on("acme-vault", "gh api repos/acme/vault --jq .full_name") == "acme/vault\n"
    assert "completed" in on("acme-vault", f"cd {CLONE}; gh run list")
    status = on("acme-vault", "gh auth status")
    assert "Logged in to github.com account hatchery-world[bot] (GH_TOKEN)" in status, status
    for refused in ("gh repo view acme/sealed", "gh api repos/acme/sealed", "gh api --method PATCH repos/acme/vault"):
        fails("acme-vault", refused)

with subtest("gh auth setup-git and login leave git as it is, and say so"):
    before = on("acme-vault", "git config --list")
    for verb in ("setup-git", "login"):
        assert f"`gh auth {verb}` is not needed" in on("acme-vault", f"gh auth {verb}")
    assert on("acme-vault", "git config --list") == before
    on("acme-vault", f"git -C {CLONE} fetch -q")

with subtest("cargo, by its own git and by the command; and Go"):
    on(
        "acme-vault",
        "mkdir -p /tmp/crate/src; cd /tmp/crate; touch src/lib.rs; cat > Cargo.toml <<'TOML'\n"
        '[package]\nname = "crate-of-mine"\nversion = "0.1.0"\nedition = "2021"\n'
        '[dependencies]\nparts = { git = "https://github.com/acme/parts" }\nTOML\n'
        "for with_cli in false true; do rm -rf ~/.cargo Cargo.lock; "
        "CARGO_NET_GIT_FETCH_WITH_CLI=$with_cli cargo generate-lockfile; grep -q git+https://github.com/acme/parts# Cargo.lock; "
        "done",
    )
    on(
        "acme-vault",
        "mkdir -p /tmp/module; cd /tmp/module; printf 'module mine\\n\\ngo 1.21\\n' > go.mod; "
        "GOPRIVATE=github.com/acme go get github.com/acme/parts@main; grep -q acme/parts go.mod",
    )

with subtest("after 61 minutes everything still works, with nobody doing anything"):
    former = tokens()
    internet.succeed("github-fake advance 3660")
    server.succeed("credd-clock advance 3660")
    assert not any(token["live"] for token in tokens().values())
    on("acme-vault", f"git -C {CLONE} switch -q main")
    works_in_the_clone(f"two-{RUN}")
    assert on("acme-vault", "gh api repos/acme/vault --jq .full_name") == "acme/vault\n"
    on(
        "acme-vault",
        "git ls-remote -q https://github.com/other/engine > /dev/null; rm -rf /tmp/clone; git clone -q https://github.com/acme/vault /tmp/clone; cmp /tmp/clone/large.bin /workspaces/vault/large.bin",
    )
    fresh = [token for sha256, token in tokens().items() if sha256 not in former]
    assert {token["owner"] for token in fresh if token["live"]} == {"acme", "other"} and len(fresh) == 2, fresh

with subtest("status says what the drone may do and how old its last mint is"):
    told = json.loads(server.succeed("hatchery status acme/vault --json"))
    assert told["scope"] == {"repositories": SCOPE} and told["permissions"] == PERMISSIONS, told
    assert told["last_mint"] == max(event["at"] for event in audit("acme/vault") if event["event"] == "mint"), told
    shown = server.succeed("hatchery status acme/vault")
    assert re.search(r"^last token +(\d+min )?\d+s ago$", shown, re.MULTILINE) and "contents=write" in shown, shown
    assert not any(token in shown + json.dumps(told) for token in internet.succeed("github-fake secrets").split())

with subtest("another drone has its own repository alone, and its neighbour's socket is not there"):
    server.succeed("hatchery spawn acme/den")
    on(
        "acme-den",
        "git -C /workspaces/den fetch -q; gh api repos/acme/den --jq .full_name; git ls-remote -q git@github.com:acme/den.git",
    )
    for repository in SCOPE:
        said = fails("acme-den", f"GIT_TERMINAL_PROMPT=0 git ls-remote https://github.com/{repository}")
        assert f"hatchery: this drone has no access to {repository}" in said, said
        fails("acme-den", f"gh api repos/{repository}")
        ask = f"curl -s -o /dev/null -w '%{{http_code}}' --unix-socket /var/run/github-creds.sock 'http://localhost/token?repo={repository}'"
        assert on("acme-den", ask) == "403"
    for name in ("acme-den", "acme-vault"):
        sockets = on(name, "find / -xdev -name '*creds*' -type s 2> /dev/null; find /run/hatchery/ -type s", "root")
        assert sockets == "/run/hatchery/github-creds.sock\n", sockets
        assert on(name, "ls -A /run/hatchery").split() == ["drone.json", "github-creds.sock"]
        assert json.loads(on(name, "jq -c .repositories /run/hatchery/drone.json"))[0] == name.replace("-", "/")
        # root in the drone cannot change what it is.
        for attempt in (
            "rm /run/hatchery/github-creds.sock",
            "touch /run/hatchery/new",
            "mount -o remount,rw /run/hatchery",
        ):
            on(name, f"! {attempt} 2> /dev/null", "root")

nothing_went_astray()

with subtest("audit tells each mint, refusal and revocation"):
    own = {token for token, minted in tokens().items() if set(minted["repositories"]) & set(SCOPE)}
    minted = {event["token_sha256"] for event in audit("acme/vault") if event["event"] == "mint"}
    assert own <= minted, own - minted
    refusals = [event["repositories"] for event in audit("acme/den") if event["event"] == "refusal"]
    assert all([repository] in refusals for repository in SCOPE), refusals

with subtest("burrow revokes, and unburrow has tokens anew"):
    server.succeed("hatchery burrow acme/vault")
    assert not any(token["live"] for token in tokens().values() if "acme/den" not in token["repositories"])
    revoked = {event["token_sha256"] for event in audit("acme/vault") if event["event"] == "revocation"}
    assert {token for token, known in tokens().items() if known["revoked"]} & own <= revoked
    server.succeed("hatchery unburrow acme/vault")
    works_in_the_clone(f"three-{RUN}")

with subtest("slay revokes"):
    assert any(token["live"] for token in tokens().values() if "acme/vault" in token["repositories"])
    server.succeed("hatchery slay --force acme/vault", "hatchery slay --force acme/den")
    assert not any(token["live"] for token in tokens().values())
    server.fail("find /run/hatchery /var/lib/hatchery/drones -name 'acme-*' | grep .")
    server.fail("systemctl list-units --all --plain --no-legend 'hatchery-credd@*' | grep .")

with subtest("a workflow file is pushed with --permission workflows=write alone, and status says so"):
    change = (
        "cd /workspaces/den; git config user.name Sarah; git config user.email s@example.test; "
        f"mkdir -p .github/workflows; echo 'on: push # {RUN}' > .github/workflows/ci.yml; "
        "git add .github; git commit -qm Workflow; git push -q"
    )
    server.succeed("hatchery spawn acme/den")
    said = fails("acme-den", change)
    refusal = "refusing to allow a GitHub App to create or update workflow `.github/workflows/ci.yml` without `workflows` permission"
    assert f"[remote rejected] main -> main ({refusal})" in said, said
    # Other files, other branches and what it takes back are pushed as ever.
    on(
        "acme-den",
        "cd /workspaces/den; git rm -q .github/workflows/ci.yml; git commit -q --amend --allow-empty -m Other; "
        f"git push -q; git push -q origin HEAD:other-{RUN}",
    )
    shown = server.succeed("hatchery status acme/den")
    assert re.search(r"^workflows +no: GitHub refuses", shown, re.MULTILINE), shown
    server.succeed("hatchery slay --force acme/den")
    # The configuration says what can be asked for at most.
    permission = "--permission contents=write --permission workflows=write"
    said = server.fail(f"hatchery spawn acme/den {permission} 2>&1")
    assert "workflows=write is more than the configuration allows" in said, said
    server.succeed(
        'printf \'[drones."acme/den"]\npermissions = { contents = "write", workflows = "write" }\n\''
        " | cat /etc/hatchery/config.toml - > /root/workflows.toml",
        f"hatchery --config /root/workflows.toml spawn acme/den {permission}",
    )
    on("acme-den", change)
    assert bare("acme/den", "show main:.github/workflows/ci.yml") == f"on: push # {RUN}"
    assert re.search(r"^workflows +yes$", server.succeed("hatchery status acme/den"), re.MULTILINE)
    server.succeed("hatchery slay --force acme/den")

with subtest("--permission contents=read: it fetches, and cannot push"):
    server.succeed("hatchery spawn acme/den --permission contents=read")
    on(
        "acme-den",
        "cd /workspaces/den; git fetch -q; git config user.name Sarah; git config user.email s@example.test; git commit -q --allow-empty -m No",
    )
    said = fails("acme-den", "cd /workspaces/den; git push")
    assert "403" in said or "not granted" in said, said
    assert {json.dumps(token["permissions"]) for token in tokens().values() if token["live"]} == {
        json.dumps({"contents": "read", "metadata": "read"})
    }
    server.succeed("hatchery slay --force acme/den", "credd-clock end")

internet.succeed("github-fake violations")
