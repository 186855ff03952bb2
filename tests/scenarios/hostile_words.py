"""Texts that the devcontainer CLI would write into other texts, and links that it would write through: from
the repository, its compose file, an image, a published feature and what one depends on. Each is refused,
nothing is built or started, and no file of the server is touched."""

import json
from collections.abc import Mapping

# A service of its own in YAML, beside the drone's. What the CLI writes after it are further arguments of
# a build and, with BuildKit, further keys of one.
SERVICE = (
    f"x\n  db:\n    image: {IMAGE}\n    pid: host\n    privileged: true\n"
    f"  rest:\n    image: {IMAGE}\n    profiles: [never]\n    build:\n      context: .\n      args:\n        - A=b"
)
# The same from within a list of quoted words.
ENTRYPOINT = f'x"]\n  db:\n    image: {IMAGE}\n    privileged: true\n    entrypoint: ["/bin/sh", "-c", "sleep 600 #'
# Where the next login shell of root's would read it.
PROFILE = "/etc/profile.d/hostile-words.sh"


def push_image(name: str, dockerfile: str, argument: str) -> str:
    """An image at ghcr.io, built on the usual one with this argument A; the server has it no more."""
    reference = f"ghcr.io/hostile/{name}:1"
    text = f"FROM {IMAGE}\nARG A\n{dockerfile}\n"
    server.succeed(
        f"base64 -d <<< {encoded(text)} | "
        f'docker build -q -t {reference} --build-arg A="$(base64 -d <<< "{encoded(argument)}")" -',
        f"docker push -q {reference}",
        f"docker rmi {reference}",
    )
    return reference


def objects() -> set[str]:
    """All that Docker has, but for the images that a spawn may pull."""
    shown = server.succeed(
        "docker ps --all --format 'container {{.Names}}'; docker volume ls --format 'volume {{.Name}}'; "
        "docker images --all --format 'image {{.Repository}}:{{.Tag}}' | grep -v ghcr.io/hostile/; true"
    )
    return set(shown.splitlines())


def refused(name: str, *parts: str) -> None:
    """The gate says these words, and there is nothing on the server that was not there before."""
    status, said = server.execute(f"hatchery spawn hostile/{name} 2>&1")
    assert status == 6 and "[gate-refused]" in said, f"status {status}: {said}"
    for part in parts:
        assert part in said, f"{part!r} is not in: {said}"
    assert "Setting up the container" not in said, f"built and created: {said}"
    assert said.replace("\n", "").isprintable(), f"not for a terminal: {said!r}"
    new = objects() - before
    assert not new, f"left behind: {new}"
    server.succeed(f"test ! -e {PROFILE}", "test ! -e /tmp/composed")


COMPOSE = {"dockerComposeFile": "compose.yml", "service": "app", "workspaceFolder": "/workspaces/x"}


def compose(app: Mapping[str, object], db: bool = False) -> dict[str, object]:
    """A compose file of this service, and one beside it."""
    services: dict[str, object] = {"app": {**app, "volumes": ["../..:/workspaces"], "command": "sleep infinity"}}
    if db:
        services["db"] = {"image": IMAGE, "command": "sleep infinity"}
    return {"services": services}


start_and_wait()
server.succeed(f"docker image inspect {IMAGE} > /dev/null || docker pull -q {IMAGE}")
# Labels and variables of images, with a line break that a Dockerfile itself cannot say.
by_user = push_image("user", "USER $A", SERVICE)
by_env = push_image("env", "ENV WHO=$A", SERVICE)
by_label = push_image(
    "label", f"LABEL devcontainer.metadata={json.dumps(json.dumps([{'entrypoint': [ENTRYPOINT]}]))}", ""
)
server.succeed("docker image prune --force > /dev/null")
before = objects()

with subtest("a stage of a compose file's build becomes no service"):
    build = {"context": ".", "target": SERVICE}
    for name, app in (("joined", {"build": build, "network_mode": "service:db"}), ("plain", {"build": build})):
        publish_devcontainer(
            f"hostile/{name}",
            {"devcontainer.json": COMPOSE, "compose.yml": compose(app, db=True), "Dockerfile": "FROM x\n"},
        )
        refused(name, ".devcontainer/compose.yml:1: services.app.build.target", "--trust")

with subtest("a build argument that USER takes up becomes none either"):
    files = {"devcontainer.json": COMPOSE, "Dockerfile": f"FROM {IMAGE}\nARG WHO\nUSER $WHO\n"}
    publish_devcontainer(
        "hostile/argument", {**files, "compose.yml": compose({"build": {"context": ".", "args": {"WHO": SERVICE}}})}
    )
    refused("argument", "services.app.build.args.WHO")

with subtest("runServices are no flags of docker-compose"):
    docker = server.succeed("command -v docker").strip()
    for program, does in (
        ("docker-compose", "touch /tmp/composed"),
        ("docker", f'[ "$1" = compose ] && touch /tmp/composed\nexec {docker} "$@"'),
    ):
        path = f"/usr/local/bin/{program}"
        server.succeed(f"base64 -d > {path} <<< {encoded(f'#!/bin/sh{chr(10)}{does}{chr(10)}')}; chmod 755 {path}")
    publish_devcontainer(
        "hostile/flags",
        {
            "devcontainer.json": {**COMPOSE, "runServices": ["--build-arg=INJECTED=1", "--pull"]},
            "compose.yml": compose({"image": IMAGE}),
        },
    )
    refused("flags", "devcontainer.json:1: runServices", "--build-arg=INJECTED=1")
    server.succeed("rm /usr/local/bin/docker-compose /usr/local/bin/docker")

with subtest("what an image says of itself"):
    publish_devcontainer("hostile/user", {"devcontainer.json": COMPOSE, "compose.yml": compose({"image": by_user})})
    refused("user", by_user, "USER")
    publish_devcontainer("hostile/label", {"devcontainer.json": COMPOSE, "compose.yml": compose({"image": by_label})})
    refused("label", "the image's metadata", "entrypoint")
    server.succeed(f"docker rmi {by_user} {by_label}")
    publish_devcontainer(
        "hostile/from",
        {"devcontainer.json": {"build": {"dockerfile": "Dockerfile"}}, "Dockerfile": f"FROM {by_label}\n"},
    )
    refused("from", "the image's metadata", "entrypoint")
    files = {"devcontainer.json": COMPOSE, "Dockerfile": f"FROM {by_env}\nUSER $WHO\n"}
    publish_devcontainer("hostile/env", {**files, "compose.yml": compose({"build": {"context": "."}})})
    refused("env", "services.db", "it is not the drone's service")

with subtest("links in features of the repository, where the copy lies and in what they depend on"):
    injected = {"x": '"; id > /tmp/composed; "'}
    deep = "1/2/3/4/5/6/7/8/f"
    out = "../" * 13 + PROFILE.removeprefix("/")
    env = "devcontainer-features.env"
    publish_devcontainer(
        "hostile/link",
        {
            "devcontainer.json": {"image": IMAGE, "features": {f"./{deep}": injected}},
            f"{deep}/devcontainer-feature.json": {"id": "f"},
            f"../{PROFILE}": "# so that the link leads to something\n",
        },
        {f"{deep}/{env}": "../" * 10 + PROFILE.removeprefix("/")},
    )
    refused("link", f"features../{deep}", "a link in it points outside")
    depends = {"id": "a", "dependsOn": {"./b": injected}}
    dependent = {"b/devcontainer-feature.json": {"id": "b"}, "a/devcontainer-feature.json": depends}
    publish_devcontainer(
        "hostile/depends",
        {"devcontainer.json": {"image": IMAGE, "features": {"./a": {}}}, **dependent},
        {f"b/{env}": out},
    )
    refused("depends", "dependsOn../b", "a link in it points outside")
    # The feature that is published says so, not the repository.
    fetched = publish_feature("hostile/drags", {"id": "drags", "version": "1.0.0", "dependsOn": {"./b": injected}})
    files = {
        "devcontainer.json": {"image": IMAGE, "features": {fetched: {}}},
        "b/devcontainer-feature.json": {"id": "b"},
    }
    publish_devcontainer("hostile/dragged", files, {f"b/{env}": out})
    refused("dragged", "the feature", ".devcontainer/b", "a link in it points outside")
    publish_devcontainer(
        "hostile/named",
        {
            "devcontainer.json": {"image": IMAGE, "features": {"./a": {}}},
            "a/devcontainer-feature.json": {"id": f"../../../../../../..{PROFILE}"},
        },
    )
    refused("named", "a/devcontainer-feature.json:1: id")

with subtest("published features, what the registry says of them, and what they depend on"):
    words: dict[str, object] = {"id": "words", "version": "1.0.0", "entrypoint": ENTRYPOINT}
    harmless: dict[str, object] = {"id": "said", "version": "1.0.0"}
    privileged: dict[str, object] = {"id": "privileged", "version": "1.0.0", "privileged": True}
    said = publish_feature("hostile/said", harmless, {**harmless, "mounts": "type=bind,source=/etc,target=/x"})
    root = publish_feature("hostile/privileged", privileged)
    dependent_on_it = publish_feature("hostile/on", {"id": "on", "version": "1.0.0", "dependsOn": {root: {}}})
    variable = publish_feature(
        "hostile/variable", harmless, {**harmless, "containerEnv": {"A": "x\nLABEL devcontainer.metadata=[]"}}
    )
    for name, feature, parts in (
        ("words", publish_feature("hostile/words", words), ("the feature words", "entrypoint")),
        ("said", said, (f"the feature {said}", "mounts")),
        ("on", dependent_on_it, ("the feature privileged", "privileged true")),
        ("variable", variable, ("the Dockerfile that the devcontainer CLI generated", "ENV A=")),
    ):
        publish_devcontainer(f"hostile/{name}", {"devcontainer.json": {"image": IMAGE, "features": {feature: {}}}})
        refused(name, *parts, "--trust")

with subtest("a sibling, a local feature with a link and one that it depends on still make a drone"):
    publish_devcontainer(
        "hostile/fine",
        {
            "devcontainer.json": {
                **COMPOSE,
                "runServices": ["app", "db"],
                "features": {"./a": {"greeting": 'it\'s "fine"'}},
                "containerEnv": {"GREETING": "a 'b' \"c\" $d"},
            },
            "compose.yml": compose({"build": {"context": ".", "target": "dev", "args": {"WHO": "vscode"}}}, db=True),
            "Dockerfile": f"FROM {IMAGE} AS dev\nARG WHO\nRUN id $WHO\n",
            "a/devcontainer-feature.json": {
                "id": "a",
                "version": "1.0.0",
                "dependsOn": {"./b": {}},
                "options": {"greeting": {"type": "string", "default": ""}},
            },
            "a/lib/install.sh": '#!/bin/sh\necho "$GREETING" > /greeting\n',
            "b/devcontainer-feature.json": {"id": "b", "version": "1.0.0", "containerEnv": {"B": "b"}},
            "b/install.sh": "#!/bin/sh\ntouch /b\n",
        },
        {"a/install.sh": "lib/install.sh"},
    )
    server.succeed("hatchery spawn hostile/fine")
    assert server.succeed("docker exec hostile-fine sh -c 'cat /greeting /b; echo $B'") == "it's fine\nb\n"
    server.succeed("hatchery slay hostile/fine")
    assert not objects() - before
