"""GitHub fails in every way that it can, services die, and a drone is told what is wrong and what to do."""

import hashlib
import json
import time
from typing import NamedTuple

DEN, VAULT = "acme-den", "acme-vault"
SOCKET = "/var/run/github-creds.sock"
UNIT = f"hatchery-credd@{DEN}"

# Requests that are begun and never ended, and held open.
FLOOD = f"""
import resource, socket, time
most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
held = []
for _ in range(5000):
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(1)
    try:
        connection.connect("{SOCKET}")
        connection.send(b"GET /token HTTP/1.1\\r\\nX: ")
    except OSError:
        pass
    held.append(connection)
time.sleep(60)
"""


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: str


def asked_of_the_api() -> list[str]:
    """What Hatchery asked since this was asked last."""
    return [
        f"{asked['method']} {asked['target']}"
        for asked in fake("asked --forget")
        if asked["host"] == "api.github.com" and asked["agent"].startswith("hatchery/")
    ]


def ask(name: str, query: str = "", method: str = "GET") -> Answer:
    """What the drone's socket answers."""
    shown = on(name, f"curl -s -i --max-time 30 -X {method} --unix-socket {SOCKET} 'http://localhost/token{query}'")
    head, _, body = shown.replace("\r\n", "\n").partition("\n\n")
    first, *rest = head.splitlines()
    headers = {key.lower(): value for key, _, value in (line.partition(": ") for line in rest)}
    return Answer(int(first.split()[1]), headers, body)


def held(name: str) -> str:
    """The token that the drone is given, by its SHA-256."""
    return hashlib.sha256(ask(name).body.encode()).hexdigest()


def is_live(sha256: str) -> bool:
    return any(token["live"] for token in fake("tokens") if token["sha256"] == sha256)


def cold(name: str = DEN) -> None:
    """No token is there: the next request mints. The service is new as well, and knows of no former failure."""
    server.succeed(f"systemctl stop hatchery-credd@{name}.service 2> /dev/null")
    fake("asked --forget")


def git(name: str = DEN) -> str:
    return f"cd /workspaces/{name.partition('-')[2]}; GIT_TERMINAL_PROMPT=0 git fetch"


def works(name: str = DEN) -> None:
    on(name, f"{git(name)} -q")


start_and_wait()
laptop_trusts_drones()
stop_recovery()
internet.succeed("github-fake reset")
server.succeed("hatchery spawn acme/den --repo acme/gears --repo other/engine", "hatchery spawn acme/vault")

with subtest("a cached token is served whatever GitHub does"):
    works()
    fake("asked --forget")
    for name in ("unavailable", "reset", "hang"):
        fault(name)
        works()
        assert ask(DEN).status == 200
        heal()
    assert asked_of_the_api() == []

with subtest("what goes wrong once is not noticed"):
    for name in ("clock-refusal", "unavailable", "bad-gateway", "error", "reset"):
        cold()
        fault(name, "--times 1")
        works()
        assert asked_of_the_api()[-1].startswith("POST /app/installations/"), name

with subtest("the server's clock is ten minutes off, either way"):
    for seconds in (600, -600):
        server.succeed("credd-clock begin", f"credd-clock advance {seconds}")
        cold()
        works()
        server.succeed("credd-clock end")
    cold()

with subtest("what is not the drone's is refused, however it is asked for, and GitHub is not asked"):
    asked = [
        ("GET", "/token?repo=acme/sealed", 403),
        ("GET", "/token?repo=ACME/Sealed", 403),
        ("GET", "/token?repo=acme%2Fsealed", 403),
        ("GET", "/token?repo=acme/den/%2e%2e/sealed", 403),
        ("GET", "/token?repo=acme/den%00sealed", 403),
        ("GET", "/token?repo=acme/den&repo=acme/sealed", 400),
        ("GET", "/token?owner=acme", 400),
        ("GET", "/token/../token", 404),
        ("GET", "//token", 404),
        ("GET", "/installation/repositories", 404),
        ("POST", "/token", 405),
        ("GET", "http://api.github.com/token?repo=acme/sealed", 403),
    ]
    for method, target, status in asked:
        told = on(
            DEN,
            f"curl -s -o /tmp/told -w '%{{http_code}}' -X {method} -H 'X-Repository: acme/sealed' "
            f"--path-as-is --unix-socket {SOCKET} --request-target '{target}' http://localhost/",
        )
        assert told == str(status), f"{method} {target}: {told}"
        on(DEN, "jq -e '.error | .code and .message' /tmp/told > /dev/null")
    assert asked_of_the_api() == []
    assert ask(DEN, "?repo=ACME/Den").status == 200

with subtest("GitHub is down: the drone is told, and asked to come back"):
    for name in ("unavailable", "error", "reset", "malformed", "cut"):
        cold()
        fault(name)
        answer = ask(DEN)
        message = json.loads(answer.body)["error"]["message"]
        assert answer.status in (502, 503) and ("retry-after" in answer.headers) == (answer.status == 503), (
            f"{name}: {answer}"
        )
        said = fails(DEN, git())
        assert f"hatchery: no GitHub token: {message}" in said, f"{name}: {said}"
        heal()
    cold()
    works()

with subtest("GitHub is silent: an answer within 15 s, and it says so"):
    cold()
    fault("hang")
    began = time.monotonic()
    answer = ask(DEN)
    assert answer.status == 504 and time.monotonic() - began < 16, f"{answer} after {time.monotonic() - began:.1f} s"
    began = time.monotonic()
    said = fails(DEN, git())
    assert "hatchery: no GitHub token" in said and time.monotonic() - began < 17, said
    heal()
    cold()
    works()

with subtest("rate limits of both kinds: Retry-After, no request until then, other owners go on"):
    for name in ("primary-limit", "secondary-limit"):
        cold()
        fault(name, "--on mint --times 1 --seconds 30")
        answer = ask(DEN)
        assert answer.status == 503 and 25 <= int(answer.headers["retry-after"]) <= 30, f"{name}: {answer}"
        fake("asked --forget")
        said = fails(DEN, git())
        assert "hatchery: no GitHub token" in said and "rate limit is reached; try again in" in said, said
        assert ask(DEN).status == 503 and asked_of_the_api() == []
        assert ask(DEN, "?repo=other/engine").status == 200
    cold()
    works()

with subtest("a grant that is wider than what was asked is thrown away, revoked and reported"):
    for name in ("wider-repositories", "wider-permissions"):
        cold()
        known = {token["sha256"] for token in fake("tokens")}
        fault(name, "--on mint --times 1")
        assert ask(DEN).status == 502
        heal()
        internet.wait_until_succeeds(
            "github-fake tokens | jq -se 'all(.[]; .live and (.permissions.administration or (.repositories | length > 2)) | not)'",
            timeout=20,
        )
        wide = [token for token in fake("tokens") if token["sha256"] not in known]
        assert wide and wide[0]["revoked"], wide
        events = json.loads(server.succeed("hatchery audit acme/den --json"))
        assert any(e["event"] == "rejected-grant" and e["token_sha256"] == wide[0]["sha256"] for e in events), events
        works()

with subtest("a suspended installation, and one that was removed: what to do is said; afterwards it works again"):
    for off, back in (("suspend", "unsuspend"), ("uninstall", "install")):
        internet.succeed(f"github-fake {off} acme")
        cold()
        assert ask(DEN).status == 502
        said = fails(DEN, git())
        assert "hatchery: no GitHub token" in said and ("suspended" in said or "install" in said), said
        assert ask(DEN, "?repo=other/engine").status == 200
        internet.succeed(f"github-fake {back} acme")
        works()
    # A service that runs knows the former installation.
    internet.succeed("github-fake reinstall acme")
    ask(DEN, method="DELETE")
    works()

with subtest("a repository that was renamed, and one that is gone: the rest goes on"):
    cold()
    internet.succeed("github-fake rename acme/gears acme/cogs")
    assert ask(DEN, "?repo=acme/gears").status == 200
    on(DEN, "rm -rf /tmp/gears; git clone -q https://github.com/acme/gears /tmp/gears; test -e /tmp/gears/README.md")
    works()
    internet.succeed("github-fake rename acme/cogs other/gears-elsewhere")
    cold()
    works()
    assert ask(DEN, "?repo=acme/gears").status == 502
    internet.succeed("github-fake rename other/gears-elsewhere acme/gears")
    cold()
    works()
    on(DEN, "git ls-remote -q https://github.com/acme/gears > /dev/null")

with subtest("DELETE revokes; where GitHub fails to, it is said, and tried again"):
    works()
    token = held(DEN)
    assert ask(DEN, method="DELETE").status == 204 and not is_live(token)
    assert held(DEN) != token
    works()
    token = held(DEN)
    fault("unavailable", "--on revoke")
    assert ask(DEN, method="DELETE").status == 502 and is_live(token)
    assert held(DEN) != token
    heal()
    internet.wait_until_succeeds(
        f"github-fake tokens | jq -se 'any(.[]; .sha256 == \"{token}\" and .revoked)'", timeout=60
    )

with subtest("kill -9, an upgrade, a reload: the mounted path goes on working"):
    works()
    for _ in range(3):
        server.succeed(f"systemctl kill --signal KILL {UNIT}.service")
        works()
    server.succeed(
        "for n in $(seq 20); do systemctl kill --signal KILL " + UNIT + ".service 2> /dev/null || true; sleep 0.1; done"
    )
    works()
    server.succeed(
        "cp /usr/local/bin/hatchery-credd /usr/local/bin/.new", "mv /usr/local/bin/.new /usr/local/bin/hatchery-credd"
    )
    server.succeed("systemctl daemon-reload", f"systemctl restart {UNIT}.service")
    works()
    server.require_unit_state(f"{UNIT}.socket")

with subtest("the socket stopped: credentials end at once; started again, they are back under the same mount"):
    works()
    server.require_unit_state(f"{UNIT}.service")
    server.succeed(f"systemctl stop {UNIT}.socket")
    server.require_unit_state(f"{UNIT}.service", "inactive")
    said = fails(DEN, git())
    assert "hatchery: no GitHub token" in said, said
    works(VAULT)
    server.succeed(f"systemctl start {UNIT}.socket")
    works()

with subtest("a drone that floods its socket slows down itself alone"):
    on(DEN, f"cat > /tmp/flood.py <<'PYTHON'\n{FLOOD}\nPYTHON")
    on(DEN, "setsid python3 /tmp/flood.py > /tmp/flood.log 2>&1 < /dev/null & sleep 3; kill -0 $!")
    works(VAULT)
    began = time.monotonic()
    works()
    assert time.monotonic() - began < 20
    memory = int(server.succeed(f"systemctl show --value --property MemoryCurrent {UNIT}.service"))
    assert memory < 64 << 20, memory
    server.require_unit_state(f"{UNIT}.socket")
    on(DEN, "pkill -f flood.py || true")

with subtest("the App is not installed: a private repository is not spawned, and nothing stays"):
    internet.succeed("github-fake uninstall other")
    error = error_of("hatchery spawn other/engine", 3, "repository-not-found")
    assert "the App is not installed for other" in " ".join(error["details"]), error
    server.fail(
        "docker ps -aq --filter label=hatchery.drone=other-engine | grep .",
        "docker volume ls -q --filter label=hatchery.drone=other-engine | grep .",
    )
    internet.succeed("github-fake install other")

server.succeed("hatchery slay --force acme/den", "hatchery slay --force acme/vault")
internet.succeed("github-fake violations")
