"""What a spawn needs goes away while it is at work: it ends, says why, and nothing of it is left."""

# Nothing else holds a spawn at a step; each has its own, as a machine shows all processes of its containers.
BUILD, LIFECYCLE = "sleep 4331", "sleep 4332"


# Where spawns are while Docker is restarted.
PAUSED = ("VolumeMade", "ContainerCreated", "EggUnmarked", "ContainerStarted", "MarkedRunning")


def begin(repository: str, environment: str = "") -> None:
    """A spawn that goes on by itself."""
    name = repository.replace("/", "-")
    server.succeed(
        f"rm -f /root/status.{name}; (status=0; {environment} hatchery spawn {repository} > /root/said.{name} 2>&1 || status=$?; "
        f"echo $status > /root/status.{name}) > /dev/null 2>&1 &"
    )


def end_of(repository: str, within: int) -> tuple[int, str]:
    """Its status, and what it says, which is a way to the drone, or an error with its code and what to do."""
    name = repository.replace("/", "-")
    server.wait_until_succeeds(f"test -s /root/status.{name}", timeout=within)
    said = server.succeed(f"cat /root/said.{name}")
    server.log(said)
    status = int(server.succeed(f"cat /root/status.{name}"))
    contains(said, *(("]\n", "  -> ") if status else ("ssh -p 2222 ",)))
    return status, said


def refused(repository: str, within: int, status: int, *parts: str) -> None:
    """It ends within so many seconds, with this status, and says this."""
    got, said = end_of(repository, within)
    assert got == status, said
    contains(said, *parts)


def all_gone() -> None:
    """After what there is is slain, nothing is left."""
    for repository in drones():
        hatchery(f"slay {repository}")
    nothing_new()


start_and_wait()
stop_recovery()
laptop_trusts_drones()
dockerfile = f"FROM {IMAGE}\nRUN {BUILD}\n"
publish_devcontainer(
    "cut/build", {"devcontainer.json": {"build": {"dockerfile": "Dockerfile"}}, "Dockerfile": dockerfile}
)
publish_devcontainer("cut/create", {"devcontainer.json": {"image": IMAGE, "features": FEATURES}})
publish_devcontainer(
    "cut/lifecycle", {"devcontainer.json": {"image": IMAGE, "features": FEATURES, "postCreateCommand": LIFECYCLE}}
)
internet.succeed(
    "cd /srv/github/git/cut",
    *(f"cp -a /srv/github/git/cut/create.git /srv/github/git/cut/{point.lower()}.git" for point in PAUSED),
)
HAS_POINTS = server.execute("grep -q HATCHERY_PAUSE $(readlink -f $(command -v hatchery))")[0] == 0
take_inventory()

with subtest("Docker is restarted"):
    begin("cut/build")
    begin("cut/lifecycle")
    paused = {f"cut/{point.lower()}": point for point in PAUSED} if HAS_POINTS else {}
    for repository, point in paused.items():
        begin(repository, f"HATCHERY_PAUSE={point}")
    server.wait_until_succeeds(f"test $(ps -C hatchery -o stat= | grep -c T) = {len(paused)}", timeout=120)
    server.wait_until_succeeds(f"pgrep -fx '{BUILD}' && pgrep -fx '{LIFECYCLE}'", timeout=120)
    server.succeed("systemctl restart docker; pkill -CONT -x hatchery")
    refused("cut/build", 120, 1, "[docker-failed]", "restarted")
    refused("cut/lifecycle", 120, 1, "[docker-failed]", "restarted", "postCreateCommand")
    # What the drone's builder was at ends with it.
    server.wait_until_fails(f"pgrep -fx '{BUILD}'", timeout=20)
    # They go on where nothing is lost, and fail where something is.
    for repository in paused:
        status, _ = end_of(repository, 180)
        assert status in (0, 1, 7), status
        assert drones().get(repository, "egg") == ("egg" if status else "running")
        if status == 0:
            in_drone(repository.replace("/", "-"), "true", 30)
    all_gone()

with subtest("the network is cut while it clones, and while it joins the tailnet"):
    tailnet.succeed("systemctl kill --signal=STOP headscale")
    begin("cut/create")
    server.wait_until_succeeds("docker ps -a --filter status=created | grep cut-create", timeout=60)
    internet.succeed("systemctl kill --signal=STOP github")
    begin("acme/plain")
    server.wait_until_succeeds("pgrep -x git", timeout=30)
    server.block()
    refused("acme/plain", 120, 7, "[github-away]")
    refused("cut/create", 180, 7, "[tailnet-away]")
    server.unblock()
    internet.succeed("systemctl kill --signal=CONT github")
    tailnet.succeed("systemctl kill --signal=CONT headscale")
    all_gone()

with subtest("no file can be made where hatchery keeps what it must"):
    for place in ("/var/lib/hatchery/drones", "/run/hatchery/.locks"):
        server.succeed(f"mkdir -p {place}; mount -t tmpfs -o nr_inodes=1 tmpfs {place}")
        contains(hatchery("spawn acme/plain", 1, within=60), "[disk-full]", place)
        server.succeed(f"umount {place}")
        assert drones() == {}
        nothing_new()
