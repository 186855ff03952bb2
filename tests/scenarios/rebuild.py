"""A drone gets a new container from what is in its volume, and keeps its work; one without a container too."""

import hashlib
import json
import re

SITE = "/workspaces/site"
TOKEN = "curl -sS --unix-socket /var/run/github-creds.sock http://localhost/token"
HOST_KEY = "ssh-keyscan -p 2222 -t ed25519 acme-site.tail.example.test 2> /dev/null"
# No build of the drone's own: that takes ten seconds.
QUICK = {"image": IMAGE, "containerEnv": {"MARK": "quick"}}
DRAFT = f"git -C {SITE} log -1 --format=%s; cat {SITE}/draft"


HOME = '[".claude", ".config/tool"]'
SHARED = 'mounts = { tools = "~/.tools" }'
IN_HOME = "cat ~/.claude/given ~/.claude/kept ~/.config/tool/kept"
WITH_HOME = "--config /root/home.toml"
SCOPE = "/var/lib/hatchery/drones/acme-site.json"


def token(repository: str) -> str:
    """What the drone gets that asks for a token for this repository."""
    return in_drone("acme-site", f"{TOKEN}?repo={repository}")


def has_scope(repositories: list[str], permissions: dict[str, str] | None = None) -> None:
    """It is on the label, in the drone, and in what systemd starts the service with."""
    scope = {"repositories": repositories} | ({"permissions": permissions} if permissions else {})
    assert json.loads(docker_inspect("acme-site")["Config"]["Labels"]["hatchery.scope"]) == scope
    assert json.loads(server.succeed(f"cat {SCOPE}")) == scope
    assert json.loads(in_drone("acme-site", "cat /run/hatchery/drone.json"))["repositories"] == repositories


def write(files: dict[str, object], name: str = "acme-site", at: str = SITE) -> None:
    """Into `.devcontainer` of a drone's clone, as its user."""
    texts = {path: text if isinstance(text, str) else json.dumps(text) for path, text in files.items()}
    put = "; ".join(f"base64 -d > {at}/.devcontainer/{path} <<< {encoded(text)}" for path, text in texts.items())
    on(name, put)


def container() -> str:
    """The id of the drone's container."""
    identity: str = docker_inspect("acme-site")["Id"]
    return identity


def is_as_it_was(before: str) -> None:
    """The same container, in reach of a person, and nothing beside it."""
    assert container() == before
    assert drones()["acme/site"] == "running"
    assert in_drone("acme-site", DRAFT) == "Mine\ndraft\n"
    beside = "docker ps -a --format '{{.Names}}' | grep -e hatchery.builder -e hatchery.beside"
    server.fail(beside)
    server.fail("ls /var/cache/hatchery | grep .")


start_and_wait()
stop_recovery()
laptop_trusts_drones()
server.succeed(
    f"(cat /etc/hatchery/config.toml; echo '[devcontainer]'; echo 'home = {HOME}'; echo '{SHARED}') > /root/home.toml"
)
take_inventory()

with subtest("work is done in a drone, and its configuration is changed there"):
    hatchery("spawn acme/site")
    first, key = container(), laptop.succeed(HOST_KEY)
    on(
        "acme-site",
        f"cd {SITE}; git {GIT_AUTHOR} commit -q --allow-empty -m Mine; echo draft > draft; touch ~/in-the-container",
    )
    tool = f"FROM {IMAGE}\nCOPY .devcontainer/said /usr/local/share/said\n"
    tool += "RUN install -d -o vscode -g vscode -m 700 ~vscode/.claude; echo of the image > ~vscode/.claude/given\n"
    write({"said": "built", "Dockerfile": tool})
    # Not all that git or a person's tools leave is a file.
    on("acme-site", f"ln -s /etc/passwd {SITE}/link; mkfifo {SITE}/pipe; ln {SITE}/draft {SITE}/again")
    changed = {"build": {"dockerfile": "Dockerfile", "context": ".."}, "postCreateCommand": "cp draft ~/of-the-setup"}
    write({"devcontainer.json": changed})
    said = hatchery("rebuild acme/site", status=2)
    contains(
        said,
        "everything that exists only in the old container of acme-site will be lost",
        "hatchery rebuild --yes acme/site",
    )
    is_as_it_was(first)

with subtest("rebuilt: what is new is there, work, name, key and token stay, the old container goes"):
    said = hatchery(f"{WITH_HOME} rebuild --yes acme/site")
    contains(said, "acme-site is rebuilt and kept its volume acme-site", f"Pulling {IMAGE}")
    contains(said, "ssh -p 2222 vscode@acme-site.tail.example.test")
    contains(said, "  +++ b/.devcontainer/devcontainer.json", "postCreateCommand", "  +++ b/.devcontainer/Dockerfile")
    assert container() != first
    assert in_drone("acme-site", "cat /usr/local/share/said ~/of-the-setup") == "builtdraft\n"
    assert in_drone("acme-site", f"{DRAFT}; readlink {SITE}/link") == "Mine\ndraft\n/etc/passwd\n"
    laptop.fail(f"{SSH} vscode@acme-site.{DOMAIN} test -e in-the-container")
    assert laptop.succeed(HOST_KEY) == key
    assert [node for node in nodes() if node.startswith("acme-site")] == ["acme-site"]
    assert in_drone("acme-site", TOKEN).startswith("ghs_")
    server.fail("docker images -q --filter dangling=true --filter label=hatchery.drone=acme-site | grep .")

with subtest("what devcontainer.home names lives in volumes, with what the image has there, and is the user's"):
    assert in_drone("acme-site", "stat -c '%U %a' ~/.claude ~/.config/tool ~/.config ~/.tools") == (
        "vscode 700\nvscode 755\nvscode 755\nvscode 755\n"
    )
    on("acme-site", "echo shared > ~/.tools/of-the-site")
    on(
        "acme-site",
        "rm ~/.claude/given; echo mine > ~/.claude/given; echo a > ~/.claude/kept; echo b > ~/.config/tool/kept",
    )
    on(
        "acme-site",
        "touch ~/.config/in-the-container; git init -q ~/.config/tool/plugin; touch ~/.config/tool/plugin/own",
    )

with subtest("asked on a terminal, with what changes before the question: a no leaves the drone as it was"):
    second = container()
    write({"Dockerfile": f"{tool}RUN echo $'\\e[2Jmore'\n"})
    command = "hatchery rebuild acme/site --repo acme/gears"
    said = server.succeed(f"echo no | script -qec '{command}' /dev/null 2>&1 || true")
    contains(
        said, "Its tokens' repositories change: acme/site → acme/site, acme/gears", "  --- a/.devcontainer/Dockerfile"
    )
    contains(said, "  +RUN echo", "Continue? [y/N]", "acme-site was not rebuilt", "acme-site is unchanged: running.")
    assert said.index("+RUN") < said.index("Continue?"), said
    assert "b/.devcontainer/devcontainer.json" not in said, said
    is_as_it_was(second)
    has_scope(["acme/site"])

with subtest("what is refused or does not build leaves the drone as it was"):
    for trust in ("", 'trust = ["acme/*"]'):
        server.succeed(f"(cat /etc/hatchery/config.toml; echo '[devcontainer]'; echo '{trust}') > /root/trust.toml")
        hostile = {"image": IMAGE, "privileged": True, "initializeCommand": "touch /root/ran-here"}
        write({"devcontainer.json": hostile})
        said = hatchery("--config /root/trust.toml rebuild --yes --repo acme/gears acme/site", status=6)
        contains(said, "privileged", "[gate-refused]", "acme-site is unchanged: running.")
        contains(said, "devcontainer.trust does not apply to the files in a volume")
        server.fail("test -e /root/ran-here")
        is_as_it_was(second)
    has_scope(["acme/site"])
    contains(token("acme/gears"), "out-of-scope")
    write({"devcontainer.json": changed, "Dockerfile": f"{tool}RUN echo broken; false\n"})
    contains(hatchery("rebuild --yes acme/site", status=1), "[build-failed]", "acme-site is unchanged: running.")
    is_as_it_was(second)
    write({"Dockerfile": f"{tool}RUN sleep 4321\n"})
    server.succeed("hatchery rebuild --yes acme/site > /root/said 2>&1 &")
    server.wait_until_succeeds("pgrep -fx 'sleep 4321'", timeout=30)
    server.succeed("pkill -INT -fx 'hatchery rebuild --yes acme/site'")
    server.wait_until_succeeds("grep -F '[interrupted]' /root/said", timeout=30)
    is_as_it_was(second)
    write({"devcontainer.json": {"image": IMAGE, "workspaceMount": "source=x,target=/srv,type=volume"}})
    contains(hatchery("rebuild --yes acme/site", status=6), "it is at /site", "a rebuild does not move the clone")
    is_as_it_was(second)

with subtest("interrupted while the old container stops: it is asleep, and can be woken"):
    write({"devcontainer.json": QUICK})
    # It ends when it is killed.
    server.succeed("kill -STOP $(docker inspect -f '{{.State.Pid}}' acme-site)")
    server.succeed("hatchery rebuild --yes acme/site > /root/said 2>&1 &")
    policy = "docker inspect -f '{{.HostConfig.RestartPolicy.Name}}' acme-site"
    server.wait_until_succeeds(f"[ $({policy}) = no ]", timeout=60)
    server.succeed("pkill -INT -fx 'hatchery rebuild --yes acme/site'")
    server.wait_until_succeeds("grep -F '[interrupted]' /root/said", timeout=60)
    contains(server.succeed("cat /root/said"), "acme-site was stopped and is otherwise unchanged.")
    assert drones()["acme/site"] == "burrowed"
    hatchery("unburrow acme/site")
    is_as_it_was(second)

with subtest("a container that was removed: every way leads to rebuild, which brings the work back"):
    write({"devcontainer.json": QUICK})
    server.succeed("docker rm -f acme-site")
    assert drones()["acme/site"] == "bare"
    contains(hatchery("list"), "hatchery rebuild acme/site")
    contains(hatchery("status acme/site"), "`hatchery rebuild acme/site` creates a new container for it")
    for verb, status in (("spawn", 4), ("burrow", 3), ("unburrow", 3)):
        said = hatchery(f"{verb} acme/site", status=status)
        contains(said, "its work is safe in the volume acme-site", "`hatchery rebuild acme/site` creates")
    contains(hatchery("slay acme/site", status=1), "[work-would-be-lost]")
    hatchery("rebuild acme/site")
    assert in_drone("acme-site", f"echo $MARK; {DRAFT}") == "quick\nMine\ndraft\n"
    assert laptop.succeed(HOST_KEY) == key

WIDER = "--repo acme/gears --permission contents=read --permission metadata=read"
SCOPES = ["acme/site", "acme/gears", "acme/parts"]
READ = {"contents": "read", "metadata": "read"}

with subtest("killed or failed once the old container is gone, it is bare, and another one brings it back"):
    for point in ("ContainerCreated", "ContainerStarted"):
        server.execute(f"HATCHERY_FAULT={point} hatchery rebuild --yes {WIDER} acme/site")
        assert drones()["acme/site"] == "bare", point
        contains(hatchery("spawn acme/site", status=4), "`hatchery rebuild acme/site` creates")
        contains(hatchery("status acme/site"), "`hatchery rebuild acme/site` creates")
        hatchery("recover")
        assert drones()["acme/site"] == "bare", point
    write_into = f"docker run --rm -i -v acme-site:/w {IMAGE} sh -c"
    server.succeed(
        f"{write_into} 'cd /w/site/.devcontainer && cp devcontainer.json kept && echo {{ > devcontainer.json'"
    )
    contains(hatchery("rebuild acme/site", status=1), "[devcontainer-invalid]", "acme-site is unchanged: bare.")
    assert drones()["acme/site"] == "bare"
    nobody = json.dumps({"image": IMAGE, "remoteUser": "nobody-there"})
    server.succeed(f"{write_into} 'base64 -d > /w/site/.devcontainer/devcontainer.json' <<< {encoded(nobody)}")
    said = hatchery(f"rebuild {WIDER} --repo acme/parts acme/site", status=1)
    contains(said, "nobody-there", "acme-site has no container now, and its volume")
    server.fail("docker inspect acme-site --type container")
    hatchery("rebuild --from-default-branch acme/site")
    assert in_drone("acme-site", DRAFT) == "Mine\ndraft\n"
    on("acme-site", f"cd {SITE}/.devcontainer; mv kept devcontainer.json; test ! -v MARK")

with subtest("the scope that was asked for stays, also where no container is left to read it from"):
    has_scope(SCOPES, READ)
    wide = token("acme/gears")
    assert wide.startswith("ghs_"), wide
    assert re.search(
        r"^scope +acme/site, acme/gears, acme/parts$", server.succeed("hatchery status acme/site"), re.MULTILINE
    )

with subtest("a burrowed drone is rebuilt, and runs then"):
    other = encoded(json.dumps({"image": IMAGE, "containerEnv": {"MARK": "other"}}))
    on("acme-site", f"cd {SITE}/.devcontainer; mkdir other; base64 -d > other/devcontainer.json <<< {other}")
    hatchery("burrow acme/site")
    burrowed = container()
    contains(hatchery("rebuild --yes --config none acme/site", status=1), "acme-site is unchanged: burrowed.")
    assert (drones()["acme/site"], container()) == ("burrowed", burrowed)
    hatchery(f"{WITH_HOME} rebuild --yes --config other acme/site")
    assert in_drone("acme-site", f"echo $MARK; {DRAFT}") == "other\nMine\ndraft\n"
    has_scope(SCOPES, READ)

with subtest("what is in these volumes is there again; it is no work, but for what is in a repository"):
    assert in_drone("acme-site", IN_HOME) == "mine\na\nb\n"
    laptop.fail(f"{SSH} vscode@acme-site.{DOMAIN} test -e .config/in-the-container")
    said = hatchery("slay acme/site", status=1)
    contains(said, "[work-would-be-lost]", "plugin")
    assert said.count("/home/vscode/") == 1, said

with subtest("a rebuild narrows the scope: tokens of the old one are revoked"):
    wide = hashlib.sha256(token("acme/gears").encode()).hexdigest()
    said = hatchery(f"{WITH_HOME} rebuild --yes --repo acme/site acme/site")
    contains(said, f"Its tokens' repositories change: {', '.join(SCOPES)} → acme/site", "configuration has not changed")
    assert in_drone("acme-site", "echo $MARK") == "other\n"
    has_scope(["acme/site"], READ)
    contains(token("acme/gears"), "out-of-scope")
    assert token("acme/site").startswith("ghs_")
    assert [known["revoked"] for known in fake("tokens") if known["sha256"] == wide] == [True]

with subtest("a compose drone keeps its services and what they hold"):
    hatchery(f"{WITH_HOME} spawn acme/stack")
    on("acme-stack", "echo stack > ~/.claude/kept; touch ~/in-the-container")
    # What devcontainer.mounts names, all drones have; not so the directories of a home.
    assert in_drone("acme-stack", "cat ~/.tools/of-the-site") == "shared\n"
    on("acme-stack", "rm ~/.tools/of-the-site; echo shared > ~/.tools/of-the-stack; test ! -e ~/.claude/given")
    assert in_drone("acme-site", "ls ~/.tools") == "of-the-stack\n"
    database = compose_container("acme-stack", "db")
    server.succeed(f"docker exec {database} sh -c 'echo kept > /var/lib/data/kept; echo kept > /in-the-container'")
    compose = "$(ls /workspaces/stack/.devcontainer/docker-compose.y*)"
    on("acme-stack", f"sed -i 's,STACK: acme/stack,STACK: rebuilt,' {compose}; cd /workspaces/stack; touch mine")
    hatchery(f"{WITH_HOME} rebuild --yes acme/stack")
    assert in_drone("acme-stack", "cat ~/.claude/kept; ls ~/in-the-container 2> /dev/null || true") == "stack\n"
    assert compose_container("acme-stack", "db") == database
    assert server.succeed(f"docker exec {database} cat /var/lib/data/kept /in-the-container") == "kept\nkept\n"
    assert in_drone("acme-stack", "echo $STACK; ls /workspaces/stack/mine") == "rebuilt\n/workspaces/stack/mine\n"
    assert docker_inspect(database)["State"]["Running"]

with subtest("nothing is left of both once they are slain"):
    for repository in ("acme/site", "acme/stack"):
        contains(hatchery(f"slay --force {repository}"), "is gone")
    server.succeed("docker volume rm hatchery.shared.tools")
    nothing_new()
