"""What runs at a start, what does not, and what is said where nothing can be started."""

COMPOSE: dict[str, object] = {
    "dockerComposeFile": "compose.yml",
    "service": "app",
    "workspaceFolder": "/workspaces/oneshot",
}
# The drone is in the network of db. Two services do their work and end, one of them without a word
# on restarts.
SERVICES = f"""
services:
  app:
    image: {IMAGE}
    command: sleep infinity
    init: true
    network_mode: service:db
    depends_on:
      db: {{ condition: service_healthy }}
      migrate: {{ condition: service_started }}
      seed: {{ condition: service_started }}
      cache: {{ condition: service_started }}
    volumes: ["../..:/workspaces"]
  db:
    image: {IMAGE}
    command: sleep infinity
    init: true
    healthcheck: {{ test: "true", interval: 1s }}
  cache:
    image: {IMAGE}
    command: sh -c "trap 'exit 0' TERM; while :; do sleep 0.1; done"
  migrate:
    image: {IMAGE}
    command: sh -c "date >> /data/migrate"
    restart: "no"
    volumes: ["data:/data"]
  seed:
    image: {IMAGE}
    command: sh -c "date >> /data/seed"
    volumes: ["data:/data"]
volumes: {{ data: {{}} }}
"""
NAMES = ("app", "cache", "db", "migrate", "seed")
BEATS = "while :; do echo beat; date >> /tmp/beats; sleep 0.1; done"


def refused(command: str, *parts: str) -> None:
    """It ends with status 1 and says this."""
    contains(hatchery(command, 1, within=60), *parts)


def services() -> dict[str, str]:
    """The containers of the compose project that run, with their restart policies."""
    project = "docker ps -q --filter label=com.docker.compose.project=every-oneshot"
    form = '{{index .Config.Labels "com.docker.compose.service"}} {{.HostConfig.RestartPolicy.Name}}'
    lines = server.succeed(f"{project} | xargs -r docker inspect --format '{form}'").splitlines()
    return dict(sorted((line.split() for line in lines), key=lambda pair: pair[0]))


AWAKE = {"app": "unless-stopped", "cache": "no", "db": "unless-stopped"}


def as_it_should_be() -> None:
    """What lasts runs, each by its own policy; what was done once was done once."""
    server.wait_until_succeeds("docker exec every-oneshot true", timeout=30)
    assert services() == AWAKE, services()
    data = "$(docker volume inspect --format '{{.Mountpoint}}' every-oneshot_data)"
    assert server.succeed(f"cd {data}; wc -l < migrate; wc -l < seed") == "1\n1\n"


start_and_wait()
# What comes back by itself is to be told from what recover brings back.
stop_recovery()
publish_devcontainer("every/oneshot", {"devcontainer.json": COMPOSE, "compose.yml": SERVICES})
attach = {"image": IMAGE, "waitFor": "onCreateCommand", "postAttachCommand": {"server": "sleep infinity"}}
publish_devcontainer("every/attach", {"devcontainer.json": attach})
publish_devcontainer("every/start", {"devcontainer.json": {"image": IMAGE, "postStartCommand": {"beats": BEATS}}})
slow = f"FROM {IMAGE}\nRUN sleep 4327\n"
publish_devcontainer("every/slow", {"devcontainer.json": {"build": {"dockerfile": "Dockerfile"}}, "Dockerfile": slow})
server.succeed("(cat /etc/hatchery/config.toml; printf '[limits]\\nbuild = \"20s\"\\n') > /root/short.toml")
# All programs but compose, which is a plugin or a program.
server.succeed(
    "mkdir -p /root/without; cd /root/without; ln -sf /usr/bin/* /usr/local/bin/* .; rm docker docker-compose hatchery; "
    'printf \'#!/bin/sh\\n[ "$1" = compose ] && exit 1\\nexec /usr/bin/docker "$@"\\n\' > docker; chmod +x docker'
)
# A docker that answers no question: they are not put to it.
server.succeed(
    "mkdir -p /root/unasked; cd /root/unasked; "
    "printf '#!/bin/sh\ncase $1 in ps|inspect|version|events) exit 1; esac\nexec /usr/bin/docker \"$@\"\n' > docker; "
    "chmod +x docker"
)
SPAWNS = {
    "oneshot": "PATH=/root/unasked:$PATH hatchery spawn every/oneshot",
    "attach": "hatchery spawn every/attach",
    "start": "PATH=/root/unasked:$PATH hatchery spawn every/start --json",
    "slow": "hatchery --config /root/short.toml spawn every/slow",
    "missing": "PATH=/root/without:/usr/local/sbin:/usr/sbin:/sbin /usr/local/bin/hatchery spawn acme/stack",
}
server.succeed(
    " ".join(
        f"(status=0; {spawn} > /root/said.{name} 2>&1 || status=$?; echo $status > /root/status.{name}) &"
        for name, spawn in SPAWNS.items()
    )
    + " wait",
    timeout=180,
)
said = {name: server.succeed(f"cat /root/said.{name}") for name in SPAWNS}
statuses = {name: int(server.succeed(f"cat /root/status.{name}")) for name in SPAWNS}

with subtest("spawn runs nothing that is an editor's, and says so"):
    assert statuses["attach"] == 0, said["attach"]
    contains(said["attach"], "spawn does not run postAttachCommand", "Hatchery ready")
    server.fail("docker top every-attach | grep 'sleep infinity'")

with subtest("a postStartCommand that does not end holds nobody up and goes on in a full drone"):
    assert statuses["start"] == 0, said["start"]
    contains(said["start"], "postStartCommand is still running in the drone", '"still_running": "postStartCommand"')
    beats = int(server.succeed("docker exec every-start cat /tmp/beats | wc -l"))
    server.wait_until_succeeds(f"test $(docker exec every-start cat /tmp/beats | wc -l) -gt {beats + 5}", timeout=20)
    policy = server.succeed("docker inspect --format '{{.HostConfig.RestartPolicy.Name}}' every-start")
    assert policy == "unless-stopped\n", policy
    assert "running" in drones().values(), drones()

with subtest("a build that does not end is ended, and all is taken back"):
    assert statuses["slow"] == 1, said["slow"]
    contains(said["slow"], "[build-failed]", "20s", "limits.build", "Building the image", "was undone")
    server.fail("pgrep -fx 'sleep 4327'")
    assert (
        server.succeed("docker volume ls -q; docker ps -aq --no-trunc --format '{{.Names}}'").count("every-slow") == 0
    )

with subtest("without compose it is said before anything is built"):
    assert statuses["missing"] == 1, said["missing"]
    contains(said["missing"], "[program-missing]", "docker compose is not installed", "docker-compose")
    assert "Building" not in said["missing"], said["missing"]
    looked = server.execute("PATH=/root/without:/usr/local/sbin:/usr/sbin:/sbin /usr/local/bin/hatchery doctor")[1]
    contains(looked, "docker compose is not installed")

with subtest("services have their own restart policies"):
    assert statuses["oneshot"] == 0, said["oneshot"]
    as_it_should_be()

with subtest("asleep they stay asleep, awake runs what ran before"):
    server.succeed("hatchery burrow every/oneshot", "systemctl restart docker")
    assert services() == {}, services()
    server.succeed("hatchery unburrow every/oneshot")
    as_it_should_be()

with subtest("after a power cut, too"):
    # There is little room for networks from here on.
    server.succeed(
        "cp /etc/docker/daemon.json /root/daemon.json; "
        'jq \'. + {"default-address-pools": [{base: "10.97.0.0/25", size: 26}]}\' '
        "/root/daemon.json > /etc/docker/daemon.json"
    )
    server.crash()
    server.start()
    server.wait_for_unit("docker.service")
    server.wait_until_succeeds("systemctl is-active hatchery-recover.timer", timeout=30)
    server.succeed("systemctl start hatchery-recover.service")
    as_it_should_be()

with subtest("where Docker can run nothing in a container, its own word is told"):
    word = "error adding pid 4711 to cgroups"
    server.succeed("mv $(readlink -f /usr/sbin/runc) /root/runc")
    server.succeed(
        "cat > /usr/sbin/runc <<'END'\n"
        "#!/bin/sh\n"
        'for one; do [ "$last" = --log ] && log=$one; [ "$one" = exec ] && exec=1; last=$one; done\n'
        'test -n "$exec" || exec /root/runc "$@"\n'
        f'echo \'{{"level":"error","msg":"{word}"}}\' >> "$log"; exit 1\n'
        "END\nchmod +x /usr/sbin/runc"
    )
    refused("unburrow every/attach", word)
    found = doctor()["exec"]
    contains(found["message"], word)
    assert "static" not in found["hint"], found
    server.succeed("mv /root/runc /usr/sbin/runc")

with subtest("no addresses are left in the pool; Docker's own are not needed"):
    server.succeed(
        "printf '[docker]\nsubnets = [\"10.77.0.0/27\"]\n' | cat /etc/hatchery/config.toml - > /root/narrow.toml",
        "docker network create --subnet 10.77.0.0/24 full-pool",
    )
    server.succeed("n=0; while docker network create full-$n > /dev/null 2>&1; do n=$((n + 1)); done")
    told = hatchery("--config /root/narrow.toml spawn acme/site", status=5)
    contains(told, "[limit-reached]", "no addresses are left", "docker.subnets is 10.77.0.0/27")
    server.succeed("hatchery spawn acme/site", "hatchery slay acme/site")

for repository in ("oneshot", "attach", "start"):
    server.succeed(f"hatchery slay --force every/{repository}")
server.succeed(
    "docker network ls -q --filter name=full- | xargs -r docker network rm",
    "mv /root/daemon.json /etc/docker/daemon.json; systemctl restart docker",
)
