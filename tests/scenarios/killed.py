"""Every verb is killed at every step: at worst an egg, which the next verb clears, and nothing is left of it."""

import json
from collections.abc import Iterable, Mapping, Sequence

# How many verbs are at work at once.
AT_ONCE = 4
PULLED = "ghcr.io/acme/prebuilt"
UNSAID = "ghcr.io/killed/unsaid:1"
# What verbs have at work for them on the server.
WORKERS = r"^([^ ]*(git[^ ]*|node|docker|docker-compose) |[^ ]*tailscaled .*userspace|[^ ]*sh -c exec 3|hatchery )"

# Where a spawn is killed, with what `list` then says of the drone.
SPAWN = {
    "WorkshopMade": "",
    "EggMarked": "",
    "VolumeMade": "egg",
    "FileHalfWritten": "egg",
    "SocketDirectoryMade": "egg",
    "ScopeWritten": "egg",
    "SocketStarted": "egg",
    "Cloned": "egg",
    "NodeKeyMade": "egg",
    "NodeRegistered": "egg",
    "ImagePulled": "egg",
    "NetworkMade": "egg",
    "DoorOpen": "egg",
    "CliStarted": "egg",
    "BuilderMade": "egg",
    "BuilderStarted": "egg",
    "ImageBuilt": "egg",
    "BuilderEnded": "egg",
    "ContainerCreated": "egg",
    "ContainerDiscarded": "egg",
    "BesideMade": "egg",
    "ClonePut": "egg",
    "FilesPut": "egg",
    "MarkedUnfinished": "egg",
    "NodeRemembered": "egg",
    "NodePut": "egg",
    "EggUnmarked": "egg",
    "ContainerStarted": "egg",
    "Reachable": "egg",
    "StartRemembered": "egg",
    "MarkedRunning": "running",
    # As it takes back what was made, because the build has failed.
    "FilesRemoved": "egg",
}
COMPOSE_TOO = ("ContainerCreated", "ContainerStarted")
SOCKET = "/var/run/github-creds.sock"
# Where the others are killed, with what the drone may be then: they are at several things at once.
BURROW = {
    "ContainersStopped": ("burrowed",),
    "SiblingsHushed": ("running",),
    "SiblingsRemembered": ("burrowed",),
    "MarkedAsleep": ("running",),
    "TokensRevoked": ("running", "burrowed"),
    "NodeForgotten": ("running", "burrowed"),
}
UNBURROW = {
    "ContainersAwake": ("running",),
    "StartRemembered": ("running",),
    "NodeRegistered": ("burrowed",),
    "MarkedAwake": ("stopped",),
    "NodeKeyMade": ("burrowed",),
    "FileHalfWritten": ("burrowed",),
    "NodeRemembered": ("burrowed",),
    "NodePut": ("burrowed",),
    "Refurnished": ("burrowed",),
}
SLAY = {
    "NetworksRemoved": ("egg",),
    "VolumesRemoved": ("egg",),
    "WorkLookedFor": ("running",),
    "NodeForgotten": ("running", "egg"),
    "TokensRevoked": ("running", "egg"),
    "SocketStopped": ("running", "egg"),
    "ServiceStopped": ("running", "egg"),
    "ScopeRemoved": ("running", "egg"),
    "ContainersHalted": ("egg",),
    "ContainersRemoved": ("egg",),
    "ImagesRemoved": ("egg",),
    "FilesRemoved": ("egg",),
    "OwnVolumeRemoved": ("",),
}

# A repository without a devcontainer.json but for these.
IGNORED = {".gitignore": ".made\n.env\n"}
MADE = {"image": IMAGE, "features": FEATURES, "postCreateCommand": "touch .made"}
COMPOSE = {"dockerComposeFile": "compose.yml", "service": "app", "workspaceFolder": "/workspaces", "features": FEATURES}
SERVICES = f"""
services:
  app: {{ image: {IMAGE}, command: sleep infinity, init: true, volumes: ["../..:/workspaces"] }}
  db: {{ image: {IMAGE}, command: sleep infinity, init: true, volumes: ["data:/data"] }}
volumes: {{ data: {{}} }}
"""


def at_once(commands: Mapping[str, str]) -> dict[str, tuple[int, str]]:
    """Status and words of each of these commands, by its name."""
    files = "\n".join(f"cat > do/{name} <<'END'\n{command}\nEND" for name, command in commands.items())
    each = "bash do/{} > said/{} 2>&1; echo $? > status/{}"
    server.succeed(
        f"rm -rf /root/at-once; mkdir -p /root/at-once/{{do,said,status}}; cd /root/at-once\n{files}\n"
        f"export HATCHERY_CONFIG=/root/killed.toml; ls do | xargs -P {AT_ONCE} -I{{}} bash -c '{each}'"
    )
    told = server.succeed(
        "cd /root/at-once; for name in $(ls do); do "
        "jq -n --arg name $name --argjson status $(cat status/$name) --rawfile said said/$name '$ARGS.named'; done | jq -s ."
    )
    return {one["name"]: (one["status"], one["said"]) for one in json.loads(told)}


def killed(verb: str, at: Mapping[str, str]) -> None:
    """This verb, for each of these repositories, killed at its point."""
    ended = at_once(
        {slug(repository): f"HATCHERY_FAULT={point} hatchery {verb} {repository}" for repository, point in at.items()}
    )
    alive = {name: told for name, told in ended.items() if told[0] != 128 + 9}
    assert not alive, f"not killed: {alive}"
    # Nothing that it has started goes on without it.
    server.wait_until_fails(f"ps -eo args= | grep -E '{WORKERS}'", timeout=20)
    server.wait_until_succeeds("! docker ps -aq --filter label=hatchery.look | grep .", timeout=20)


def done(verb: str, repositories: Iterable[str]) -> dict[str, str]:
    """This verb for each of these, which must succeed; what each says, by repository."""
    by_name = {slug(repository): repository for repository in repositories}
    ended = at_once({name: f"hatchery {verb} {repository}" for name, repository in by_name.items()})
    wrong = {name: told for name, told in ended.items() if told[0] != 0}
    assert not wrong, wrong
    return {by_name[name]: said for name, (_, said) in ended.items()}


def slug(repository: str) -> str:
    return repository.replace("/", "-")


def are(repositories: Mapping[str, str], allowed: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Each is as it may be after a kill at its point; all that there are."""
    listed = drones()
    for repository, point in repositories.items():
        assert listed.get(repository, "") in allowed[point], f"{point}: {listed.get(repository)}"
    no_lies()
    return listed


def no_lies() -> None:
    """What is said to run runs, and what is said to sleep does not."""
    runs = set(server.succeed("docker ps --format '{{.Names}}'").split())
    for repository, state in drones().items():
        assert state == "egg" or (state == "running") == (slug(repository) in runs), f"{repository} is {state}: {runs}"


start_and_wait()
if server.execute("grep -q HATCHERY_FAULT $(readlink -f $(command -v hatchery))")[0] != 0:
    raise SystemExit(0)
stop_recovery()
laptop_trusts_drones()
server.succeed(
    "(cat /etc/hatchery/config.toml; printf '[limits]\\ndrones = 60\\n') > /root/killed.toml",
    f"docker images -q {PULLED} | xargs -r docker rmi",
    f"docker build -q -t {UNSAID} - <<'END'\nFROM {IMAGE}\nLABEL devcontainer.metadata=[]\nEND",
    f"docker push -q {UNSAID}",
)
broken, by_user = f"FROM {IMAGE}\nRUN false\n", f"FROM {UNSAID}\nUSER vscode\n"
built = {"build": {"dockerfile": "Dockerfile"}}
publish("killed/all", {**IGNORED, ".devcontainer/devcontainer.json": MADE})
publish_devcontainer("killed/compose", {"devcontainer.json": COMPOSE, "compose.yml": SERVICES})
publish_devcontainer("killed/pulled", {"devcontainer.json": {"image": PULLED}})
publish_devcontainer("killed/user", {"devcontainer.json": built, "Dockerfile": by_user})
publish_devcontainer("killed/built", {"devcontainer.json": built, "Dockerfile": f"FROM {IMAGE}\n"})
services = SERVICES.replace(f"image: {IMAGE}", "build: .", 1)
publish_devcontainer(
    "killed/both", {"devcontainer.json": COMPOSE, "compose.yml": services, "Dockerfile": f"FROM {IMAGE}\n"}
)
shown = ["source=${localWorkspaceFolder}/.devcontainer,target=/shown,type=bind"]
publish_devcontainer("killed/parts", {"devcontainer.json": {"image": IMAGE, "features": FEATURES, "mounts": shown}})
publish_devcontainer("killed/broken", {"devcontainer.json": built, "Dockerfile": broken})
take_inventory()

of_compose = {f"killed/{point.lower()}-compose": point for point in COMPOSE_TOO}
spawns = of_compose | {f"killed/{point.lower()}": point for point in SPAWN}
kinds = {
    "killed/containerdiscarded": "user",
    "killed/filesremoved": "broken",
    **dict.fromkeys(("killed/besidemade", "killed/cloneput"), "parts"),
    **dict.fromkeys(("killed/buildermade", "killed/builderstarted", "killed/imagebuilt"), "built"),
    "killed/builderended": "both",
    "killed/imagepulled": "pulled",
    **dict.fromkeys(of_compose, "compose"),
}
copies = (f"cp -a {kinds.get(name, 'all')}.git ../{name}.git" for name in spawns)
internet.succeed("\n".join(["cd /srv/github/git/killed", *copies]))

with subtest("a spawn killed at every step leaves an egg at worst, and nobody at work"):
    killed("spawn", spawns)
    expected = {repository: SPAWN[point] for repository, point in spawns.items() if SPAWN[point]}
    assert drones() == expected, drones()
    no_lies()
    # The keys that nobody has used end by themselves.
    for key in json.loads(tailnet.succeed("headscale preauthkeys list --output json")):
        lives = key["expiration"]["seconds"] - key["created_at"]["seconds"]
        assert key.get("used") or key.get("reusable") or lives <= 600, key

with subtest("recover removes what has no egg, and what an egg does not need"):
    contains(what_is_new(), "file /var/cache/hatchery/killed-eggmarked.egg\n")
    server.succeed("hatchery recover")
    left = what_is_new()
    for name in ("killed-workshopmade", "killed-eggmarked"):
        assert name not in left, left
    server.fail("find /var/cache/hatchery -mindepth 1 -type d | grep .")
    server.fail("docker ps -aq --filter label=hatchery.builder | grep .")
    assert drones() == expected, drones()

with subtest("what somebody has made in an egg is not taken for what its spawn has made"):
    server.succeed("docker exec killed-containerstarted touch /workspaces/containerstarted/.env")
    contains(hatchery("spawn killed/containerstarted", 1), "[work-would-be-lost]", ".env")
    assert drones()["killed/containerstarted"] == "running"
    hatchery("slay --force killed/containerstarted")

with subtest("the next spawn makes a drone of it, the next slay removes it"):
    alone = {
        "killed/containerstarted",
        "killed/filesremoved",
        "killed/imagepulled",
        "killed/markedrunning",
        *of_compose,
    }
    others = [repository for repository in spawns if repository not in alone]
    slain = [repository for repository in others[1::2] if repository in expected]
    done("slay", [*slain, "killed/filesremoved", "killed/imagepulled"])
    again = [*of_compose, *(repository for repository in others if repository not in slain)]
    done("spawn", again)
    alive = [*again, "killed/markedrunning"]
    assert drones() == dict.fromkeys(alive, "running"), drones()
    no_lies()
    for repository in alive:
        in_drone(slug(repository), "true")

with subtest("a burrow killed at every step is finished by the next"):
    burrows = dict(zip(alive, BURROW, strict=False))
    last = [*burrows][list(BURROW).index("SiblingsRemembered")]
    token = on(slug(last), f"curl -s --unix-socket {SOCKET} http://localhost/token | sha256sum").split()[0]
    fault("hang")
    killed("burrow", {last: burrows[last]})
    assert any(one["live"] for one in fake("tokens") if one["sha256"] == token)
    heal()
    killed("burrow", {one: point for one, point in burrows.items() if one != last})
    are(burrows, BURROW)
    asleep = alive[: len(UNBURROW)]
    done("burrow", asleep)
    assert drones() == {one: "burrowed" if one in asleep else "running" for one in alive}, drones()
    # What GitHub left unanswered is revoked in the background.
    alive_still = f"github-fake tokens | jq -e 'select(.sha256 == \"{token}\" and .live)'"
    internet.wait_until_fails(alive_still, timeout=60)
    assert not {slug(one) for one in asleep} & set(nodes()), nodes()
    no_lies()

with subtest("an unburrow killed at every step is finished by the next, or by recover"):
    unburrows = dict(zip(asleep, UNBURROW, strict=True))
    killed("unburrow", unburrows)
    are(unburrows, UNBURROW)
    stopped = [*unburrows][list(UNBURROW).index("MarkedAwake")]
    for point in ("Refurnished", "ContainersAwake"):
        status, told = server.execute(f"HATCHERY_FAULT={point} hatchery recover 2>&1")
        assert status == 128 + 9, told
    server.succeed("hatchery recover")
    assert drones()[stopped] == "running"
    done("unburrow", [one for one in asleep if one != stopped])
    assert drones() == dict.fromkeys(alive, "running"), drones()
    for repository in alive:
        in_drone(slug(repository), "true")
    no_lies()
    for repository in of_compose:
        assert compose_container(slug(repository), "db") in server.succeed("docker ps --quiet").split()

with subtest("a registration that recover was killed at is made again"):
    for repository, points in zip(
        alive, (("NodeKeyMade", "NodeRegistered"), ("NodePut", "NodeStartedOver"), ("NodeRemembered",)), strict=False
    ):
        name = slug(repository)
        tailnet.succeed(f"headscale nodes delete --force --identifier {nodes()[name]['id']}")
        for point in points:
            status, told = server.execute(f"HATCHERY_FAULT={point} hatchery recover 2>&1")
            assert status == 128 + 9, told
        server.succeed("hatchery recover")
        in_drone(name, "true")
        assert [one for one in nodes() if one.startswith(name)] == [name]

with subtest("a slay killed at every step leaves an egg at worst, which the next spawn or slay clears"):
    slays = dict(zip(alive, SLAY, strict=False))
    assert len(slays) == len(SLAY), slays
    killed("slay", slays)
    listed = are(slays, SLAY)
    egg = [*slays][list(SLAY).index("ContainersRemoved")]
    done("spawn", [egg])
    assert drones()[egg] == "running"
    in_drone(slug(egg), "true")
    done("slay", listed)
    assert drones() == {}
    server.succeed("hatchery recover", f"docker rmi {PULLED}")
    nothing_new()
server.succeed(f"docker rmi {UNSAID}")
