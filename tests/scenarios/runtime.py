"""A runtime in which root of a container is harmless: what asks for privileges runs in it without them."""

from json import dumps, loads
from textwrap import dedent

RUNTIME = "sysbox-runc"
# What a container of Sysbox has and one of runc has not, a user namespace, by runc; files stay the server's.
IN_A_NAMESPACE = dedent("""\
    #!/usr/bin/python3
    import json, os, sys
    words = sys.argv[1:]
    if "create" in words:
        file = words[words.index("--bundle") + 1] + "/config.json"
        asked = json.load(open(file))
        here = asked["linux"]
        here["namespaces"].append({"type": "user"})
        here["uidMappings"] = here["gidMappings"] = [{"containerID": 0, "hostID": 231072, "size": 65536}]
        here.pop("sysctl", None)
        asked["mounts"] = [mount for mount in asked["mounts"] if not mount["destination"].startswith("/sys")]
        place = asked["root"]["path"]
        while place != "/":
            os.chmod(place, os.stat(place).st_mode | 0o11)
            place = os.path.dirname(place)
        json.dump(asked, open(file, "w"))
    os.execvp("runc", ["runc", *words])
    """)
WITH = "HATCHERY_CONFIG=/root/runtime.toml"


def register(path: str | None) -> None:
    """Has Docker know the runtime by this program, or not at all."""
    daemon = loads(server.succeed("cat /root/daemon.json"))
    if path:
        daemon["runtimes"] = {RUNTIME: {"path": path}}
    # A reload takes none away.
    how = "reload" if path else "restart"
    server.succeed(f"base64 -d > /etc/docker/daemon.json <<< {encoded(dumps(daemon))}; systemctl {how} docker")
    names = "docker info --format '{{range $name, $_ := .Runtimes}}{{$name}} {{end}}'"
    server.wait_until_succeeds(f"test $({names} | grep -cw {RUNTIME}) = {1 if path else 0}", timeout=20)


def looked_at() -> dict[str, str]:
    """What doctor says of the runtime."""
    return doctor(f"{WITH} hatchery doctor")["runtime"]


def runs_in_it(container: str) -> None:
    """A container has the runtime and no privileges."""
    host = docker_inspect(container)["HostConfig"]
    assert (host["Runtime"], host["Privileged"]) == (RUNTIME, False), host
    contains(server.succeed(f"docker exec {container} cat /proc/self/status"), "CapEff:\t00000000a80")


start_and_wait()
stop_recovery()
laptop_trusts_drones()
dind = publish_feature(
    "acme/features/dind",
    {
        "id": "dind",
        "version": "1.0.0",
        "name": "Docker",
        "privileged": True,
        "mounts": [{"source": "dind-${devcontainerId}", "target": "/var/lib/docker", "type": "volume"}],
    },
)
publish_devcontainer("runtime/alone", {"devcontainer.json": {"image": IMAGE, "features": {dind: {}}}})
publish_devcontainer(
    "runtime/among",
    {
        "devcontainer.json": {
            "dockerComposeFile": "compose.yml",
            "service": "app",
            "workspaceFolder": "/workspaces/among",
            "features": {dind: {}},
        },
        "compose.yml": {
            "services": {
                "app": {"image": IMAGE, "command": "sleep infinity", "volumes": ["..:/workspaces/among"]},
                "other": {"image": IMAGE, "command": "sleep infinity", "privileged": True},
            }
        },
    },
)
server.succeed("cp /etc/docker/daemon.json /root/daemon.json")
written = server.succeed("cat /etc/hatchery/config.toml") + f'\n[docker]\nruntime = "{RUNTIME}"\n'
server.succeed(
    f"base64 -d > /root/runtime.toml <<< {encoded(written)}; "
    f"base64 -d > /usr/local/bin/in-a-namespace <<< {encoded(IN_A_NAMESPACE)}; chmod 755 /usr/local/bin/in-a-namespace"
)

with subtest("without one, the refusal names it"):
    for name in ("alone", "among"):
        error = error_of(f"hatchery spawn runtime/{name}", 6, "gate-refused")
        contains(error["message"], "privileged")
        contains(error["hint"], f'docker.runtime = "{RUNTIME}"', "--trust")
    assert doctor()["runtime"]["state"] == "skipped"

with subtest("one that Docker does not have is missed before anything is made"):
    error = error_of(f"{WITH} hatchery spawn runtime/alone", 1, "program-missing")
    contains(error["message"], RUNTIME)
    assert looked_at()["state"] == "problem"

with subtest("doctor tells whether root in it is root on this server"):
    # What Docker hides of /proc in the machine itself keeps all user namespaces in it from a /proc of their own.
    over = "awk '$5 ~ \"^/proc/\" {print $5}' /proc/self/mountinfo | tail -n 1"
    server.succeed(f'while over=$({over}); [ -n "$over" ]; do umount -l "$over"; done')
    register("/usr/local/bin/in-a-namespace")
    found = looked_at()
    assert found["state"] == "ok" and "user 231072" in found["message"], found
    register("/usr/sbin/runc")
    found = looked_at()
    assert found["state"] == "problem" and "is root on this server" in found["message"], found

with subtest("privileges are left out, and the drone is one like any other"):
    hatchery("spawn runtime/alone", prefix=WITH)
    runs_in_it("runtime-alone")
    in_drone("runtime-alone", "test -w /var/lib/docker || sudo true")

with subtest("so are a service's, and those that a feature asks for beside a compose file"):
    said = hatchery("spawn runtime/among", prefix=WITH)
    contains(said, "services.other.privileged", f"{RUNTIME} makes it unnecessary")
    runs_in_it("runtime-among")
    runs_in_it(compose_container("runtime-among", "other"))

with subtest("what was made with it lives on without it in the configuration"):
    server.succeed("hatchery burrow runtime/alone; hatchery unburrow runtime/alone")
    runs_in_it("runtime-alone")

for name in ("alone", "among"):
    hatchery(f"slay --force runtime/{name}")
register(None)
