"""Repositories that want the server, by root and by a member of the group: every one is refused, and server,
Docker and the drone beside them are what they were before.

With `devcontainer.trust` for them, and without the cage, the same attacks do what their names say; what they
leave is then in the difference that is told."""

import json
from base64 import b64decode
from dataclasses import dataclass, field
from typing import Any

OUT = "/var/tmp/hostile"
# What no repository may see, though everybody on the server can read it.
SECRET = "/srv/hostile/secret"
FOUND = "larva-of-the-server"
# Nobody but the server itself reaches it.
LISTENER = "localhost:8099"
SHARED = f"{IMAGE} AS base\n"


@dataclass(frozen=True)
class Attack:
    """A configuration, files and links beside it, and what a person is told of it: words of the refusal."""

    says: str
    config: dict[str, Any]
    files: dict[str, object] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    code: str = "gate-refused"


def composed(says: str, app: dict[str, Any], **rest: Any) -> Attack:
    """An attack by a compose file: the drone's service with these keys, others, and the file's own."""
    base = {"image": IMAGE, "command": "sleep infinity"}
    drone = {**({} if "build" in app else base), "volumes": ["../../..:/workspaces"], "command": "sleep infinity"}
    services = {"app": {**drone, **app}, "db": base, **rest.pop("services", {})}
    files = {"Dockerfile": f"FROM {SHARED}", **rest.pop("files", {})}
    config = {"dockerComposeFile": "compose.yml", "service": "app", **rest.pop("config", {})}
    about = {name: rest.pop(name) for name in ("links", "code") if name in rest}
    return Attack(says, config, {"compose.yml": {"services": services, **rest}, **files}, **about)


def plain(says: str, **config: Any) -> Attack:
    """An attack by devcontainer.json alone."""
    return Attack(says, {"image": IMAGE, **config})


def built(says: str, dockerfile: str = f"FROM {SHARED}", **build: Any) -> Attack:
    """An attack by the build of a Dockerfile."""
    return Attack(says, {"build": {"dockerfile": "Dockerfile", **build}}, {"Dockerfile": dockerfile})


def touching(name: str) -> str:
    """What a container does that has root's directory."""
    return f"touch /host/hostile-{name}"


def service(name: str, line: str = "\n", first: str = "base") -> str:
    """What gives the sibling root's directory, where a text becomes part of a compose file. What comes after it in
    that file are further arguments of a build, and further keys of one."""
    lines = (
        first,
        "  db:",
        "    volumes: [/root:/host]",
        f"    command: {touching(name)}",
        "  rest:",
        f"    image: {IMAGE}",
        "    profiles: [never]",
        "    build:",
        "      context: .",
        "      args:",
        "        - A=b",
    )
    return line.join(lines)


def at_home(name: str) -> dict[str, Any]:
    """A drone that has root's directory, if it has it, writes there."""
    return {"postCreateCommand": f"sudo {touching(name)} || {touching(name)}"}


def image(name: str, dockerfile: str, argument: str = "") -> str:
    """An image that lies on the server under a name of its own, with this argument A."""
    server.succeed(
        f"base64 -d <<< {encoded(f'FROM {IMAGE}{chr(10)}ARG A{chr(10)}{dockerfile}{chr(10)}')} | "
        f'docker build -q -t {name} --build-arg A="$(base64 -d <<< "{encoded(argument)}")" -'
    )
    return name


def metadata(name: str, **entry: Any) -> str:
    """One with this in the label that the devcontainer CLI goes by."""
    return image(name, f"LABEL devcontainer.metadata={json.dumps(json.dumps([entry]))}")


def feature(name: str, **about: Any) -> str:
    return publish_feature(f"hostile/{name}", {"id": name, "version": "1.0.0", **about})


def words() -> dict[str, Attack]:
    """Texts that would become part of a text which nobody judges: a compose file, a Dockerfile, a terminal."""
    stage = {"context": ".", "target": "${STAGE}"}
    dotenv = service("words-dotenv").replace("\n", "\\n")
    return {
        "separator": composed(
            "build.target", {"build": {"context": ".", "target": service("words-separator", "\u2028")}}
        ),
        "nextline": composed(
            "build.target", {"build": {"context": ".", "target": service("words-nextline", "\u0085")}}
        ),
        "dotenv": composed("build.target", {"build": stage}, files={".env": f'STAGE="{dotenv}"\n'}),
        "second": Attack(
            "second.yml:",
            {"dockerComposeFile": ["compose.yml", "second.yml"], "service": "app"},
            {
                **composed("", {"build": {"context": "."}}).files,
                "second.yml": "x-a: &a\n  build: &b\n    context: .\n    target: "
                f"{json.dumps(service('words-second'))}\nservices:\n  app:\n    <<: *a\n",
            },
        ),
        "argument": composed(
            "build.args.WHO",
            {"build": {"context": ".", "args": {"WHO": service("words-argument", "\u2028")}}},
            files={"Dockerfile": f"FROM {SHARED}ARG WHO\nUSER $WHO\n"},
        ),
        "capability": composed("capAdd", {}, config={"capAdd": [service("words-capability", first="NET_ADMIN")]}),
        "option": composed(
            "securityOpt", {}, config={"securityOpt": [service("words-option", first="no-new-privileges:true")]}
        ),
        "mount": composed(
            "mounts",
            {},
            config={"mounts": [{"type": "volume", "source": "data", "target": service("words-mount", first="/x")}]},
        ),
        "variable": composed(
            "containerEnv",
            {},
            config={"containerEnv": {f"A=b'\n{service('words-variable', first='')[1:]}\n        - 'C": "d"}},
        ),
        "label": composed(
            "capAdd", {"image": metadata("words:label", capAdd=[service("words-label", first="NET_ADMIN")])}
        ),
        "published": composed(
            "capAdd",
            {},
            config={"features": {feature("capability", capAdd=[service("words-published", first="NET_ADMIN")]): {}}},
        ),
        "local": composed(
            "capAdd",
            {},
            config={"features": {"./f": {}}},
            files={
                "f/devcontainer-feature.json": {
                    "id": "f",
                    "version": "1",
                    "capAdd": [service("words-local", first="NET_ADMIN")],
                },
                "f/install.sh": "#!/bin/sh\n",
            },
        ),
        "terminal": plain("]0;", **{"\u001b]0;x\u0007\u001b[2J\u202e": 1}),
    }


def links() -> dict[str, Attack]:
    """What the server would read or write through a link, a path or an archive."""
    up = "../" * 16
    secret = up + SECRET[1:]
    return {
        "config": Attack("points outside", {}, {"keep": "\n"}, links={"devcontainer.json": secret}),
        "dockerfile": Attack("build.dockerfile", {"build": {"dockerfile": "D"}}, links={"D": secret}),
        "context": Attack(
            "build.context",
            {"build": {"dockerfile": "D", "context": "here"}},
            {"D": f"FROM {IMAGE}\nCOPY secret /\n"},
            {"here": up + "srv/hostile"},
        ),
        "upward": Attack(
            "build.context", {"build": {"dockerfile": "D", "context": up}}, {"D": f"FROM {IMAGE}\nCOPY etc/shadow /\n"}
        ),
        "envfile": Attack(
            "--env-file",
            {"image": IMAGE, "runArgs": ["--env-file", "${localWorkspaceFolder}/.devcontainer/envfile/e"]},
            links={"e": secret},
        ),
        "envfiles": composed("env_file", {"env_file": "e"}, links={"e": secret}),
        "dotenv": composed("the file", {}, links={".env": secret}, code="devcontainer-invalid"),
        "compose": Attack(
            "dockerComposeFile", {"dockerComposeFile": "c.yml", "service": "app"}, links={"c.yml": secret}
        ),
        "include": composed("include", {}, include=[SECRET]),
        "extends": composed("extends", {"extends": {"file": SECRET, "service": "x"}}),
        "directory": Attack("features../f", {"image": IMAGE, "features": {"./f": {}}}, links={"f": up + "srv/hostile"}),
        "install": Attack(
            "features../f",
            {"image": IMAGE, "features": {"./f": {}}},
            {"f/devcontainer-feature.json": {"id": "f", "version": "1"}},
            {"f/install.sh": SECRET},
        ),
    }


def arguments() -> dict[str, Attack]:
    """Flags and parts of flags of docker's."""
    home = {"type": "bind", "source": "/root", "target": "/host"}
    run = {
        "csv": ["--mount", '"type=bind",source=/root,target=/host'],
        "plugin": [
            "--mount=type=volume,source=hostile,target=/host,volume-opt=type=none,volume-opt=o=bind,volume-opt=device=/root"
        ],
        "cluster": ["-iv/root:/host"],
        "volume": ["-v", "/root:/host:rw,rshared"],
        "upward": ["--volume=./../../../../../../../../../../root:/host"],
        "privileged": ["--privileged=TRUE"],
        "cidfile": ["--cidfile=/root/hostile-arguments-cidfile"],
        "profile": [f"--security-opt=seccomp={SECRET}"],
        "unmasked": ["--security-opt=systempaths=unconfined"],
        "from": ["--volumes-from=acme-web"],
        "pid": ["--pid=container:acme-web"],
        "user": ["--userns=host"],
        "ulimit": ["--ulimit=rtprio=99"],
        "capability": ["--cap-add=cap_Sys_Admin"],
        "oom": ["--oom-score-adj=-1000"],
        "runtime": ["--runtime=hostile"],
        "log": ["--log-opt=tag=x", "--sysctl=kernel.msgmax=9"],
        "label": ["--label=hatchery.drone=acme-web"],
        "file": [f"--label-file={SECRET}"],
    }
    options = {
        "output": "--output=type=local,dest=/root/hostile-arguments-output",
        "iidfile": "--iidfile=/root/hostile-arguments-iidfile",
        "metadata": "--metadata-file=/root/hostile-arguments-metadata",
        "secret": f"--secret=id=x,src={SECRET}",
        "ssh": "--ssh=default=/root/.ssh/id_ed25519",
        "sources": "--build-context=x=/srv/hostile",
        "allow": "--allow=security.insecure",
        "tag": f"--tag={IMAGE}",
        "parent": "--cgroup-parent=/",
    }
    build = {
        "ssh": ["default=/root/.ssh/id_ed25519"],
        "additional_contexts": {"x": "/srv/hostile"},
        "network": "host",
        "privileged": True,
        "entitlements": ["security.insecure"],
        "dockerfile_inline": f"FROM {IMAGE}\n",
        "cache_from": ["type=local,src=/srv/hostile"],
        "cache_to": ["type=local,dest=/root/hostile-arguments-cache"],
    }
    return {
        **{
            f"run-{name}": plain(
                "rtprio" if name == "ulimit" else "runArgs", runArgs=args, **at_home(f"arguments-run-{name}")
            )
            for name, args in run.items()
        },
        **{f"option-{name}": built("build.options", options=[option]) for name, option in options.items()},
        **{
            f"build-{name}": composed(f"build.{name}", {"build": {"context": ".", name: value}})
            for name, value in build.items()
        },
        "services": composed(
            "runServices", {"build": "."}, config={"runServices": ["db", "--ssh=default=/root/.ssh/x"]}
        ),
        "workspace": plain(
            "workspaceMount",
            workspaceMount="type=volume,source=${localWorkspaceFolder}/../../../../root,target=/host,type=bind",
            workspaceFolder="/host",
            **at_home("arguments-workspace"),
        ),
        "mount": plain("mounts", mounts=[home], **at_home("arguments-mount")),
        "cache": built("build.cacheFrom", cacheFrom="type=local,src=/srv/hostile"),
    }


def names() -> dict[str, Attack]:
    """Names that another drone, hatchery or the server go by."""
    of_web = docker_inspect("acme-web")["Image"]
    tag = next(tag for tag in docker_inspect(of_web, "image")["RepoTags"] if tag.startswith("vsc-"))
    host = {"driver_opts": {"type": "none", "o": "bind", "device": "/root"}}
    mark = {"command": touching("names-device"), "volumes": ["x:/host"], "image": IMAGE}
    anothers = {"external": True}
    steal = {"command": "touch /x/hostile-names-volume", "volumes": ["acme-web:/x"], "image": IMAGE}
    inside = f"FROM {IMAGE}\nCOPY --from=acme/innocent:1 /etc/hostname /\n"
    return {
        "own": composed("image", {"image": "hatchery.invalid/acme-web/x:app"}),
        "cli": composed("image", {"image": tag}),
        "id": plain("image", image=of_web),
        "escape": built("the image", f"# escape=`\nFROM {IMAGE}\nRUN true `\nFROM hatchery.invalid/acme-web/x:app\n"),
        "onbuild": built("the image", f"FROM {IMAGE}\nONBUILD COPY --from=hatchery.invalid/acme-web/x:app / /\n"),
        "syntax": built("the image", f"#syntax=127.0.0.1:8099/x\nFROM {IMAGE}\n"),
        "innocent": built("acme/innocent:1", inside),
        "label": composed("labels", {"labels": {"hatchery.drone": "acme-web"}}),
        "project": composed("labels", {"labels": ["com.docker.compose.project=acme-web"]}),
        "built": built("build.options", options=["--label=hatchery.drone=acme-web"]),
        "volume": composed("volumes.acme-web", {}, services={"db": steal}, volumes={"acme-web": anothers}),
        "device": composed("volumes.x", {}, services={"db": mark}, volumes={"x": host}),
        "network": composed("networks.acme-web", {"networks": ["acme-web"]}, networks={"acme-web": {"external": True}}),
        "bridge": composed(
            "networks.n",
            {"networks": ["n"]},
            networks={"n": {"driver_opts": {"com.docker.network.bridge.name": "docker0"}}},
        ),
        "mode": composed("network_mode", {"network_mode": "container:acme-web"}),
        "claim": plain("acme-web", image=image("names:claim", "LABEL hatchery.drone=acme-web")),
        "helper": plain("hatchery.look", image=image("names:helper", "LABEL hatchery.look=1")),
    }


def places() -> dict[str, Attack]:
    """Addresses that only the server reaches."""
    local = {"f/install.sh": "#!/bin/sh\n"}
    return {
        "feature": plain("features.", features={f"{LISTENER}/hostile/x:1": {}}),
        "capital": plain("features.", features={f"LocalHost:{LISTENER[-4:]}/hostile/x:1": {}}),
        "address": plain("features.", features={"127.0.0.1:8099/hostile/x:1": {}}),
        "link": plain("features.", features={"169.254.169.254/hostile/x:1": {}}),
        "tarball": plain("features.", features={f"http://{LISTENER}/devcontainer-feature-x.tgz": {}}),
        "order": plain("overrideFeatureInstallOrder", overrideFeatureInstallOrder=[f"{LISTENER}/hostile/x"]),
        "needs": Attack(
            "dependsOn",
            {"image": IMAGE, "features": {"./f": {}}},
            {
                **local,
                "f/devcontainer-feature.json": {"id": "f", "version": "1", "dependsOn": {f"{LISTENER}/x/y:1": {}}},
            },
        ),
        "after": Attack(
            "installsAfter",
            {"image": IMAGE, "features": {"./f": {}}},
            {**local, "f/devcontainer-feature.json": {"id": "f", "version": "1", "installsAfter": [f"{LISTENER}/x/y"]}},
        ),
        "image": plain("image", image=f"{LISTENER}/x"),
        "internal": plain("image", image="host.docker.internal:8099/x"),
        "from": built("the image", "ARG R=127.0.0.1:8099\nFROM $R/x\n"),
        "sibling": composed("services.db.image", {}, services={"db": {"image": "0x7f.1:8099/x"}}),
    }


def bounds() -> dict[str, Attack]:
    """More of something than there is for one."""
    idle = {"image": IMAGE, "command": "sleep infinity"}
    many = {f"s{number}": idle for number in range(16)}
    laughs = "".join(f"x-{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10))
    return {
        "services": composed("services", {}, services=many),
        "networks": composed(
            "networks", {"networks": [f"n{n}" for n in range(9)]}, networks={f"n{n}": {} for n in range(9)}
        ),
        "laughs": Attack(
            "",
            {"dockerComposeFile": "c.yml", "service": "app"},
            {"c.yml": f"x-0: &a0 x\n{laughs}"},
            code="devcontainer-invalid",
        ),
        "deep": Attack("", {}, {"devcontainer.json": "[" * 20_000}, code="devcontainer-invalid"),
    }


# A line for each thing on the server that an attack might change. Numbers that change by themselves are left out.
STATE = r"""
export LC_ALL=C
{
  docker ps --all --no-trunc --format 'container {{.ID}} {{.Names}} {{.Image}}'
  docker images --all --no-trunc --format 'image {{.ID}} {{.Repository}}:{{.Tag}}'
  docker network ls --no-trunc --format 'network {{.ID}} {{.Name}} {{.Driver}}'
  docker volume ls --format 'volume {{.Name}} {{.Driver}}'
  find /boot /etc /home /opt /root /srv /usr/local /usr/lib/systemd /var/spool /var/lib/systemd/linger -xdev \
    -printf 'file %p %y %M %U:%G %s %T@ %C@ %l\n' 2> /dev/null | grep -v -e '^file /root d' -e '^file /root/\(inventory\|before\)'
  sysctl --all 2> /dev/null | grep -e ^kernel -e ^vm -e ^fs -e ^net.core -e ^net.ipv4.ip_forward |
    grep -v -e random -e '[.]nr_' -e -nr -e -state -e ns_last_pid -e fs.quota -e pty.nr -e sched_domain -e stat_refresh -e /user/
  nft list ruleset | sed 's/counter packets [0-9]* bytes [0-9]*/counter/; s/^/nft /'
  findmnt --raw --noheadings --output TARGET,SOURCE | sed 's/^/mount /' | grep -v /run/user
  ip rule | sed 's/^/rule /'; ip route | sed 's/^/route /'
} | sort
"""


def innocents() -> dict[str, Any]:
    """What the drone beside the attacks is, has and answers."""
    shown = docker_inspect("acme-web")
    volume = (
        "docker exec acme-web sh -c 'cd /workspaces && find . -type f | sort | xargs -d \"\\n\" sha256sum | sha256sum'"
    )
    return {
        **{key: shown[key] for key in ("Id", "Name", "Image", "State", "HostConfig", "NetworkSettings", "Config")},
        "mounts": sorted(map(str, shown["Mounts"])),
        "volume": docker_inspect("acme-web", "volume"),
        "content": server.succeed(volume),
        "serves": on("acme-web", "id -un; ls /workspaces/web /run/hatchery"),
    }


LANES = {"words": words, "links": links, "arguments": arguments, "names": names, "places": places, "bounds": bounds}
# All variants of a lane's, one after the other; the lanes at once.
LANE = """#!/bin/bash
cd /tmp; mkdir -p "$1"
while read -r variant; do
  timeout 90 hatchery --config /var/tmp/hostile/config.toml spawn evil/$2 --config $variant > "$1/$variant" 2>&1 < /dev/null
  # What became a drone must not be in the way of the next.
  [ $? != 0 ] || hatchery slay --force evil/$2
done < /var/tmp/hostile/$2.list
"""

start_and_wait()
stop_recovery()
laptop_trusts_drones()
server.succeed(
    f"docker image inspect {IMAGE} > /dev/null || docker pull -q {IMAGE}",
    f"mkdir -p {OUT} /srv/hostile; chmod 777 {OUT}; echo '{FOUND}: {{' > {SECRET}; rm -rf /root/hostile*",
    f"base64 -d > {OUT}/lane <<< {encoded(LANE)}; chmod 755 {OUT}/lane",
    f"cat > {OUT}/state <<'END'\n{STATE}END",
    # The attacks are told from each other by what is said, not by a node; without a tailnet that takes half a second.
    f"sed '/^.tailnet/,/^.ssh/{{/^.ssh/!d}}' /etc/hatchery/config.toml > {OUT}/config.toml",
    "hatchery spawn acme/web > /dev/null 2>&1",
    # An image of the other drone's, by names that anyone knows.
    "for name in acme/innocent:1 hatchery.invalid/acme-web/x:app; do "
    "docker tag $(docker inspect --format '{{.Image}}' acme-web) $name; done",
    f"systemd-run --quiet --unit=hostile-listener python3 -u -m http.server --bind 127.0.0.1 {LISTENER[-4:]}",
)
attacks = {lane: make() for lane, make in LANES.items()}
for lane, of_lane in attacks.items():
    files: dict[str, object] = {}
    leading: dict[str, str] = {}
    for variant, attack in of_lane.items():
        if attack.config:
            files[f"{variant}/devcontainer.json"] = attack.config
        files.update({f"{variant}/{path}": content for path, content in attack.files.items()})
        leading.update({f"{variant}/{path}": target for path, target in attack.links.items()})
    publish_devcontainer(f"evil/{lane}", files, leading)
    server.succeed(f"printf '%s\\n' {' '.join(of_lane)} > {OUT}/{lane}.list")
server.succeed("docker image prune --force > /dev/null; docker builder prune --all --force > /dev/null")
begun = server.succeed("date +%s").strip()
innocent = innocents()
take_inventory()
server.succeed(f"bash {OUT}/state > {OUT}/before")


def heard(who: str) -> dict[str, str]:
    """All that was said, by lane and variant."""
    shown = server.succeed(f"cd {OUT}/{who}; for it in */*; do echo $it $(base64 -w 0 < $it); done")
    pairs = (line.split(maxsplit=1) for line in shown.splitlines())
    return {name: b64decode(said).decode() for name, said in pairs}


def judged(name: str, said: str, attack: Attack) -> list[str]:
    """What of this is not as it is to be."""
    wrong = {
        f"is not {attack.code}": f"[{attack.code}]" not in said,
        f"does not speak of {attack.says!r}": attack.says not in said,
        "shows what is the server's alone": FOUND in said,
        "is not for a terminal": not said.replace("\n", "").isprintable(),
        "was taken up by docker": "Setting up the container" in said,
    }
    return [f"{name} {what}: {said[-600:]}" for what, so in wrong.items() if so]


for who, prefix in (("root", ""), ("member", MEMBER)):
    with subtest(f"what a hostile repository asks for is refused, and nothing has changed: {who}"):
        lanes = " ".join(f'{prefix} {OUT}/lane {OUT}/{who}/{lane} {lane} & pids+=" $!";' for lane in attacks)
        server.succeed(f"mkdir -p {OUT}/{who}; chmod 777 {OUT}/{who}; {lanes} wait $pids", timeout=400)
        said = heard(who)
        wrong = [
            what
            for lane, of_lane in attacks.items()
            for variant, attack in of_lane.items()
            for what in judged(f"{lane}/{variant}", said[f"{lane}/{variant}"], attack)
        ]
        changed = server.execute(f"bash {OUT}/state | diff {OUT}/before -")[1]
        asked = server.succeed(
            f"journalctl --unit hostile-listener --since @{begun} --output cat | grep -v ^Serving || true"
        )
        now = innocents()
        assert not (wrong or changed or asked), "\n".join([*wrong, changed, asked])
        assert now == innocent, [key for key in now if now[key] != innocent[key]]
        nothing_new()

with subtest("the other drone has its tokens still"):
    on("acme-web", "curl -sf --unix-socket /run/hatchery/github-creds.sock http://x/token")

server.succeed(
    f"systemctl stop hostile-listener; hatchery slay --force acme/web; rm -rf {OUT} /srv/hostile",
    "docker rmi words:label names:claim names:helper || true",
)
