"""Many drones at once: each gets what is its own, all are listed, and nothing is left of them."""

import json


def at_once(*commands: str) -> list[tuple[int, str]]:
    """Status and words of each, started together."""
    start = " ".join(
        f"({{ {command}; }} > /root/said.{number} 2>&1; echo $? > /root/status.{number}) &"
        for number, command in enumerate(commands)
    )
    server.succeed(f"set +e; {start} wait")
    files = " ".join(f"/root/status.{number} /root/said.{number}" for number in range(len(commands)))
    told: list[str] = json.loads(server.succeed(f"for file in {files}; do jq -Rs . < $file; done | jq -s ."))
    return [(int(status), said) for status, said in zip(told[::2], told[1::2], strict=True)]


def all_well(ended: list[tuple[int, str]]) -> None:
    wrong = [said for status, said in ended if status != 0]
    assert not wrong, wrong


def name_of(repository: str) -> str:
    return repository.replace("/", "-")


def inside(repository: str, command: str) -> str:
    """What a person on the laptop gets by ssh."""
    return in_drone(name_of(repository), command, within=30)


def inspect(repository: str, what: str) -> str:
    return server.succeed(f"docker inspect {name_of(repository)} --format '{what}'").strip()


def labels(repository: str) -> str:
    """A drone's labels, as options of docker's."""
    scope = json.dumps({"repositories": [repository]}, separators=(",", ":"))
    return (
        f"--label hatchery.drone={name_of(repository)} --label hatchery.repo={repository} "
        f"--label hatchery.schema=1 --label 'hatchery.scope={scope}'"
    )


start_and_wait()
laptop_trusts_drones()
OWN = [f"own/image-{number}" for number in range(1, 4)]
for own in OWN:
    configuration = {"build": {"dockerfile": "Dockerfile"}, "features": FEATURES}
    dockerfile = f"FROM {IMAGE}\nRUN echo {own} > /etc/whose\n"
    publish(
        own,
        {
            "README.md": f"# {own}\n",
            ".devcontainer/devcontainer.json": configuration,
            ".devcontainer/Dockerfile": dockerfile,
        },
    )
take_inventory()

TEN = [f"many/r{number:02}" for number in range(1, 7)] + OWN + ["a-b/c"]
with subtest("ten at once: each has its own repository, volume, image and name"):
    all_well(at_once(*(f"hatchery spawn {repository}" for repository in TEN)))
    for repository in TEN:
        folder = repository.partition("/")[2]
        title = "# a-b/c" if repository == "a-b/c" else f"# {repository}"
        assert inside(repository, f"head -n 1 /workspaces/{folder}/README.md").strip() == title
        volumes = inspect(repository, "{{range .Mounts}}{{.Name}}:{{.Destination}} {{end}}").split()
        assert f"{name_of(repository)}:/workspaces" in volumes, volumes
        image = inspect(repository, "{{.Image}}")
        label = server.succeed(
            f"docker image inspect {image} --format '{{{{index .Config.Labels \"hatchery.repo\"}}}}'"
        )
        assert label.strip() == repository, f"{repository} runs on the image of {label}"
    for repository in OWN:
        assert inside(repository, "cat /etc/whose").strip() == repository
    images = {inspect(repository, "{{.Image}}") for repository in TEN}
    assert len(images) == len(TEN), f"{len(TEN)} drones share {len(images)} images"

with subtest("two spawns of one repository at once: one wins, the other is told"):
    (winner, won), (loser, lost) = sorted(at_once("hatchery spawn many/r07", "hatchery spawn many/r07"))
    assert (winner, loser) == (0, 4), (won, lost)
    contains(won, "Spawning drone... Hatchery ready.")
    contains(lost, "another hatchery command is working on many-r07 [drone-busy]")
    assert inside("many/r07", "head -n 1 /workspaces/r07/README.md").strip() == "# many/r07"

with subtest("two repositories with one name: the second is refused, and the first named"):
    said = hatchery("spawn a/b-c", status=4)
    contains(said, "a-b-c is the drone of a-b/c; a/b-c would have the same name [name-taken]", "hatchery slay a-b/c")
    for verb in ("status", "burrow", "unburrow", "slay --force"):
        contains(
            hatchery(f"{verb} a/b-c", status=3), "a/b-c has no drone; a-b-c is the drone of a-b/c [drone-not-found]"
        )
    assert inside("a-b/c", "head -n 1 /workspaces/c/README.md").strip() == "# a-b/c"

with subtest("two compose repositories whose folders have one name"):
    STACKS = ["acme/stack", "other/stack"]
    all_well(at_once(*(f"hatchery spawn {repository}" for repository in STACKS)))
    for repository in STACKS:
        assert inside(repository, "head -n 1 /workspaces/stack/README.md").strip() == f"# {repository}"
        assert (
            inspect(repository, "{{range .Config.Env}}{{println .}}{{end}}").split().count(f"STACK={repository}") == 1
        )
        assert inspect(repository, '{{index .Config.Labels "com.docker.compose.project"}}') == name_of(repository)
        assert inspect(repository, '{{index .Config.Labels "hatchery.repo"}}') == repository
    contains(hatchery("slay acme/stack"), "acme-stack is gone")
    left = server.succeed("docker ps --format '{{.Names}}' --filter label=com.docker.compose.project").split()
    assert len(left) == 2 and all("other-stack" in name for name in left), left
    assert server.succeed("docker volume ls -q --filter name=stack_data").split() == ["other-stack_data"]
    assert inside("other/stack", "head -n 1 /workspaces/stack/README.md").strip() == "# other/stack"

with subtest("fifty are listed, each once, by name"):
    burrowed = [f"many/r{number:02}" for number in range(8, 31)]
    there = [*TEN, "many/r07", "other/stack", *burrowed]
    bare = [f"many/r{number:02}" for number in range(31, 31 + 50 - len(there))]
    server.succeed(
        "set +e; "
        + " ".join(
            f"docker run --detach --name {name_of(repository)} {labels(repository)} {IMAGE} true &"
            for repository in burrowed
        )
        + " wait"
    )
    server.succeed(*(f"docker volume create {labels(repository)} {name_of(repository)}" for repository in bare))
    server.wait_until_succeeds("test $(docker ps -q --all --filter status=exited | wc -l) = 23", timeout=60)
    listed = json.loads(server.succeed("hatchery list --json"))
    assert [drone["repository"] for drone in listed] == sorted([*there, *bare], key=name_of), listed
    states = {drone["repository"]: drone["state"] for drone in listed}
    assert all(states[repository] == "burrowed" for repository in burrowed), states
    assert all(states[repository] == "bare" for repository in bare), states
    assert all(states[repository] == "running" for repository in [*TEN, "many/r07", "other/stack"]), states
    head, *rows = server.succeed("hatchery list").splitlines()
    columns = ["NAME", "STATE", "REPOSITORY", "USER", "CPU", "MEMORY", "DISK", "WORK", "DETAILS", "COMMAND"]
    assert head.split() == " ".join(columns).split(), head
    assert [row.split()[:3] for row in rows] == [
        [drone["name"], drone["state"], drone["repository"]] for drone in listed
    ], rows

with subtest("the limit is kept, and told"):
    server.succeed(
        "cp /etc/hatchery/config.toml /root/fifty.toml; printf '\n[limits]\ndrones = 50\n' >> /root/fifty.toml"
    )
    said = hatchery("--config /root/fifty.toml spawn acme/site", status=5)
    contains(
        said,
        "Spawn more overlords. Insufficient vespene gas.\n",
        "there are 50 drones; limits.drones is 50 [limit-reached]",
    )
    contains(hatchery("spawn acme/site", status=5), "there are 50 drones; limits.drones is 16 [limit-reached]")
    contains(
        hatchery("--config /root/fifty.toml spawn many/r01", status=4),
        "Evolution chamber occupied.\n",
        "[drone-exists]",
    )
    server.succeed("sed -i 's/drones = 50/drones = 51/' /root/fifty.toml")
    contains(hatchery("--config /root/fifty.toml spawn acme/site"), "Hatchery ready.")
    assert inside("acme/site", "head -n 1 /workspaces/site/README.md").strip() == "# acme/site"

with subtest("all slain at once: nothing is left"):
    server.succeed("docker rm $(docker ps -q --all --filter status=exited)")
    repositories = [drone["repository"] for drone in json.loads(server.succeed("hatchery list --json"))]
    all_well(at_once(*(f"hatchery slay {repository}" for repository in repositories)))
    assert server.succeed("hatchery list --json").split() == ["[]"]
    nothing_new()

with subtest("ten at once where three more may be: three come up, the others are told, an egg counts"):
    EGG = "many/r11"
    server.succeed(
        "sed -i 's/drones = 51/drones = 4/' /root/fifty.toml",
        f"docker volume create {labels(EGG)} {name_of(EGG)}; touch /var/cache/hatchery/{name_of(EGG)}.egg",
    )
    assert drones() == {EGG: "egg"}
    STARTED = [f"many/r{number:02}" for number in range(1, 11)]
    ended = at_once(*(f"hatchery --config /root/fifty.toml spawn {repository}" for repository in STARTED))
    assert sorted(status for status, _ in ended) == [0] * 3 + [5] * 7, ended
    for status, said in ended:
        if status == 5:
            contains(said, "Insufficient vespene gas.\n", "there are 4 drones; limits.drones is 4 [limit-reached]")
    came_up = {repository for repository, (status, _) in zip(STARTED, ended, strict=True) if status == 0}
    assert drones() == {EGG: "egg"} | dict.fromkeys(came_up, "running")
    all_well(at_once(*(f"hatchery slay {repository}" for repository in (*came_up, EGG))))
    nothing_new()

with subtest("a volume that is no drone's keeps its name and what is in it"):
    server.succeed("docker volume create many-r01")
    contains(hatchery("spawn many/r01", status=4), "a volume named many-r01 already exists", "[name-taken]")
    server.succeed("docker volume rm many-r01")
    nothing_new()

with subtest("the last one slain beside a spawn: their network is there for the new one, and goes with it"):
    hatchery("spawn many/r01")
    all_well(at_once("hatchery slay many/r01", "hatchery spawn many/r02"))
    assert inside("many/r02", "head -n 1 /workspaces/r02/README.md").strip() == "# many/r02"
    hatchery("slay many/r02")
    nothing_new()
