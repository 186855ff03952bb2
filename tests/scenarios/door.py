"""What the devcontainer CLI, or whatever has it in its hands, asks Docker for: here a CLI that asks for all
that a drone may not have. The same works for a trusted repository, through the same door, so that each of
these would be an attack without it."""

# What stands in for the devcontainer CLI: it runs an attack and ends with what that said.
CLI = """#!/bin/bash
said=$(cd "$HOME" && bash /usr/local/lib/hostile/attack 2>&1 | tr '\\n' ';')
jq -nc --arg said "$said" '{outcome: "error", message: $said}' 2>&1
"""
RUN = "docker run --detach --name acme-web --network acme-web"
IDLE = f"{IMAGE} sleep infinity"

# A container or the like that ends the spawn, and what is said of it.
REFUSED = {
    f"{RUN} --privileged {IDLE}": "all privileges (privileged)",
    f"{RUN} --volume /:/host {IDLE}": '"/:/host" mounted',
    f"{RUN} --mount type=bind,source=/etc,target=/x {IDLE}": '"/etc" of the host mounted',
    f"{RUN} --volume acme-dockerfile:/x {IDLE}": '"acme-dockerfile:/x" mounted',
    f"{RUN} --volumes-from acme-dockerfile {IDLE}": "VolumesFrom",
    f"{RUN} --pid host {IDLE}": "PidMode",
    f"{RUN} --pid container:acme-dockerfile {IDLE}": "PidMode",
    f"{RUN} --ipc host {IDLE}": "another's IPC namespace (host)",
    f"{RUN} --uts host {IDLE}": "UTSMode",
    f"docker run --detach --name acme-web --network host {IDLE}": "another's network namespace (host)",
    f"docker run --detach --name acme-web --network container:acme-dockerfile {IDLE}": "another's network namespace",
    f"docker run --detach --name acme-web --network bridge {IDLE}": "another's network namespace (bridge)",
    f"{RUN} --cap-add SYS_ADMIN {IDLE}": "the capability SYS_ADMIN",
    f"{RUN} --cap-add CAP_SYS_MODULE {IDLE}": "SYS_MODULE",
    f"{RUN} --device /dev/null:/dev/x {IDLE}": "the device /dev/null",
    f"{RUN} --device-cgroup-rule 'a *:* rwm' {IDLE}": "DeviceCgroupRules",
    f"{RUN} --security-opt apparmor=unconfined {IDLE}": "apparmor=unconfined",
    f"{RUN} --security-opt systempaths=unconfined {IDLE}": "MaskedPaths",
    f"{RUN} --cgroup-parent /hostile {IDLE}": "CgroupParent",
    f"{RUN} --publish 8099:80 {IDLE}": "published at 0.0.0.0:8099",
    f"{RUN} --sysctl kernel.msgmax=1 {IDLE}": "kernel.msgmax",
    f"{RUN} --ulimit rtprio=9 {IDLE}": "rtprio",
    f"{RUN} --mac-address 02:42:ac:11:00:99 {IDLE}": "a hardware address",
    f"{RUN} --link acme-dockerfile:x {IDLE}": "a link to another container",
    f"{RUN} --label hatchery.drone=acme-dockerfile {IDLE}": "the label hatchery.drone",
    f"docker run --detach --name acme-other --network acme-web {IDLE}": 'the name "acme-other"',
    "docker volume create --opt type=none --opt o=bind --opt device=/ acme-web_host": "DriverOpts",
    "docker volume create hostile": 'the volume "hostile"',
    "docker network create --opt com.docker.network.bridge.name=hostile0 acme-web_net": 'the network "acme-web_net"',
    f"docker tag {IMAGE} innocent:1": 'its image called "innocent"',
}
# Things of another drone: they are not there.
OTHERS = (
    "docker container inspect acme-dockerfile",
    "docker logs acme-dockerfile",
    "docker exec acme-dockerfile true",
    "docker cp acme-dockerfile:/etc/hostname x",
    "docker stop --time 0 acme-dockerfile",
    "docker start acme-dockerfile",
    "docker volume inspect acme-dockerfile",
    "docker network inspect bridge",
    "docker image inspect $(cat /usr/local/lib/hostile/image)",
)
# What no spawn asks for.
UNLISTED = (
    "docker commit acme-dockerfile innocent:2",
    f"docker save --output x {IMAGE}",
    "docker plugin ls",
    "docker system df",
    "docker container prune --force",
    "docker volume rm --force nobodys",
    "docker update --pids-limit 0 acme-dockerfile",
    "docker rename acme-dockerfile acme-renamed",
)


def attack(script: str, trust: bool = False) -> str:
    """What the spawn says in which this is what the CLI does; it fails, as there is no drone in the end."""
    server.succeed(f"base64 -d <<< {encoded(script)} > /usr/local/lib/hostile/attack")
    command = f"hatchery --config /root/hostile.toml spawn acme/web {'--trust' if trust else ''} 2>&1"
    status, said = server.execute(command, timeout=120)
    assert status != 0, said
    return said


def each(commands: tuple[str, ...]) -> str:
    """One after the other, and in two words why each did nothing, or all that it said."""
    words = "grep -o -m 1 -e 'No such' -e 'hatchery refuses' why || cat why"
    return "\n".join(f"({command}) > /dev/null 2> why && echo DONE: '{command}' || {words}" for command in commands)


start_and_wait()
stop_recovery()
server.succeed(
    "hatchery spawn acme/dockerfile > /dev/null",
    "mkdir -p /usr/local/lib/hostile",
    f"base64 -d <<< {encoded(CLI)} > /usr/local/lib/hostile/devcontainer",
    "chmod +x /usr/local/lib/hostile/devcontainer",
    "docker volume create nobodys",
    "docker container inspect --format '{{.Image}}' acme-dockerfile > /usr/local/lib/hostile/image",
)
configured = server.succeed("cat /etc/hatchery/config.toml")
hostile = configured + '\n[devcontainer]\ncommand = "/usr/local/lib/hostile/devcontainer"\n'
if "[devcontainer]\n" in configured:
    hostile = configured.replace(
        "[devcontainer]\n", '[devcontainer]\ncommand = "/usr/local/lib/hostile/devcontainer"\n'
    )
server.succeed(f"base64 -d <<< {encoded(hostile)} > /root/hostile.toml")
attack("true")
assert "visible" not in doctor()["cage"]["message"]
take_inventory()
other = docker_inspect("acme-dockerfile")

with subtest("what a drone may not have ends the spawn, and nothing is made"):
    for command, said in REFUSED.items():
        contains(attack(command), "[gate-refused]", said)
    nothing_new()

with subtest("of another drone nothing is there, and nothing happens to it"):
    said = attack(each(OTHERS))
    assert said.count("No such") == len(OTHERS), said
    listed = attack("docker ps --all --quiet; docker volume ls --quiet; docker network ls --quiet; echo done")
    contains(listed, "acme-web", "done")
    for foreign in ("acme-dockerfile", "nobodys", other["Id"][:12]):
        assert foreign not in listed, listed
    nothing_new()

with subtest("what no spawn asks for is not done, and the error names it"):
    said = attack(each(UNLISTED))
    contains(said, "which no spawn needs")
    assert "DONE" not in said and said.count("hatchery refuses") + said.count("No such") == len(UNLISTED), said
    nothing_new()

with subtest("Docker's own socket, and the other services', are out of sight"):
    for client in (
        "docker --host unix:///run/docker.sock ps",
        "docker --host unix:///var/run/docker.sock ps",
        "busctl list",
    ):
        server.succeed(f"{client} > /dev/null")
        said = attack(f"{client} > /dev/null && echo DONE")
        assert "DONE" not in said and ("Cannot connect" in said or "No such file" in said), said
    nothing_new()

with subtest("the other drone is what it was"):
    now = docker_inspect("acme-dockerfile")
    for key in ("Id", "Name", "State", "HostConfig", "NetworkSettings"):
        assert now[key] == other[key], key

with subtest("a trusted repository's CLI does all of it"):
    free = "docker rm --force acme-web acme-other; docker volume rm --force acme-web_host hostile; docker network rm acme-web_net"
    for command in REFUSED:
        # A container that is called like the drone waits to be started: it is created alone.
        made = command.replace("docker run --detach", "docker create")
        said = attack(f"{made} && echo it worked; ({free}) > /dev/null 2>&1", trust=True)
        assert "it worked" in said, f"{command} is no attack: {said}"
    contains(attack("docker container inspect --format '{{.Name}}' acme-dockerfile", trust=True), "/acme-dockerfile")

server.succeed(
    "docker volume rm nobodys; docker rmi innocent:1; hatchery slay --force acme/dockerfile; rm -r /usr/local/lib/hostile; true"
)
