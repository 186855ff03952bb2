"""Repositories as people have them: each comes up as it would in Codespaces, or is refused with a way on."""

from collections.abc import Mapping
from json import loads

IS_OLD = int(server.succeed("docker version --format '{{.Server.Version}}'").split(".")[0]) < 26
COMPOSED = {"dockerComposeFile": "compose.yml", "service": "app"}


def service(**keys: object) -> dict[str, object]:
    """A service that stays, made from the image that all machines have."""
    return {"image": IMAGE, "command": "sleep infinity", **keys}


def composed(name: str, services: Mapping[str, object], files: Mapping[str, object], **more: object) -> None:
    """A repository whose devcontainer is the service `app` of a compose project."""
    project: dict[str, object] = {
        "services": services,
        **{key: more.pop(key) for key in ("volumes", "configs", "secrets") if key in more},
    }
    own: dict[str, object] = {
        ".devcontainer/compose.yml": project,
        ".devcontainer/devcontainer.json": {**COMPOSED, **more},
    }
    publish(f"try/{name}", {**own, **files})


def inside(name: str, command: str, user: str = "vscode") -> str:
    """What this prints in a drone or one of its siblings."""
    return server.succeed(f"docker exec -u {user} try-{name} bash -c {quoted(command)}").strip()


def quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def is_clean(name: str, at: str) -> None:
    """The clone is there, as it is at GitHub, and it is the person's."""
    assert inside(name, f"cd {at} && git status --porcelain") == "", inside(name, f"cd {at} && git status")
    assert inside(name, f"stat -c %U {at}/.git") == "vscode"


def publish_with_submodules(repository: str, submodules: Mapping[str, tuple[str, str]], more: str = "") -> None:
    """A repository that has at each path a submodule: how its URL is spelled, and which repository it is."""
    texts = [f'[submodule "{path}"]\npath = {path}\nurl = {url}\n' for path, (url, _) in submodules.items()]
    publish(repository, {".gitmodules": "".join(texts) + more})
    bare = f"/srv/github/git/{repository}.git"
    git = "git -c safe.directory='*'"
    links = "; ".join(
        f"{git} update-index --add --cacheinfo 160000,$({git} -C /srv/github/git/{other}.git rev-parse HEAD),{path}"
        for path, (_, other) in submodules.items()
    )
    commit = f"{git} {GIT_AUTHOR} commit-tree -m Links -p HEAD $({git} write-tree)"
    internet.succeed(
        f"cd {bare}; export GIT_INDEX_FILE=$(mktemp -u); {git} read-tree HEAD; {links}; "
        f"{git} update-ref refs/heads/main $({commit}); chown -R github {bare}"
    )


start_and_wait()
stop_recovery()
laptop_trusts_drones()
take_inventory()

with subtest("a folder alone says where tools open; what the image has there stays"):
    publish_devcontainer(
        "try/folder",
        {
            "Dockerfile": f"FROM {IMAGE}\nRUN mkdir -p /var/www/html && echo shop > /var/www/html/index.php\n",
            "devcontainer.json": {
                "build": {"dockerfile": "Dockerfile"},
                "workspaceFolder": "/var/www/html",
                "postCreateCommand": "cat index.php > /tmp/seen; ls -d /workspaces/*/.git >> /tmp/seen",
            },
        },
    )
    hatchery("spawn try/folder")
    is_clean("folder", "/workspaces/folder")
    assert inside("folder", "cat /tmp/seen").split() == ["shop", "/workspaces/folder/.git"]
    hatchery("slay try/folder")

with subtest("a mount with variables in its target is where the clone is, without the image's files"):
    publish_devcontainer(
        "try/mount",
        {
            "Dockerfile": f"FROM {IMAGE}\nRUN git init -q /src/thing && touch /src/thing/stale\n",
            "devcontainer.json": {
                "build": {"dockerfile": "Dockerfile"},
                "workspaceFolder": "/src/thing",
                "workspaceMount": {
                    "source": "${localWorkspaceFolder}",
                    "target": "${containerWorkspaceFolder}",
                    "type": "bind",
                },
            },
        },
    )
    hatchery("spawn try/mount")
    is_clean("mount", "/src/thing")
    assert "stale" not in inside("mount", "ls /src/thing")
    # What the image had would be work of nobody's.
    hatchery("slay try/mount")

with subtest("files of the repository are mounted into siblings, and still after a night"):
    services = {
        "app": service(volumes=["..:/workspace", "./shell:/home/vscode/.shell"], depends_on=["db", "web"]),
        "db": service(volumes=["./db/init.sql:/init/init.sql:ro", "./data:/data"]),
        "web": service(
            volumes=["../nginx.conf:/etc/nginx.conf", {"type": "bind", "source": "..", "target": "/code"}],
            command="sh -c 'cat /etc/nginx.conf /code/.devcontainer/db/init.sql > /tmp/seen && sleep infinity'",
        ),
    }
    files = {
        ".devcontainer/db/init.sql": "select 1;\n",
        ".devcontainer/shell/rc": "alias x=y\n",
        "nginx.conf": "# conf\n",
        ".gitignore": "data\n",
    }
    composed("parts", services, files, workspaceFolder="/workspace")
    if IS_OLD:
        error = error_of("hatchery spawn try/parts", 6, "gate-refused")
        contains(error["message"], "services.db.volumes", "compose.yml", "Docker 26 or later", "this server has 20.")
        assert "--trust" not in error["hint"], error
        error_of("hatchery spawn --trust try/parts", 6, "gate-refused")
    else:
        hatchery("spawn try/parts")
        is_clean("parts", "/workspace")
        # From its first moment on a sibling sees the clone.
        assert inside("parts-web-1", "cat /tmp/seen") == "# conf\nselect 1;"
        assert inside("parts-db-1", "cat /init/init.sql; ls -d /data") == "select 1;\n/data"
        assert inside("parts", "cat ~/.shell/rc") == "alias x=y"
        inside("parts", "echo more >> /workspace/nginx.conf")
        hatchery("burrow try/parts")
        hatchery("unburrow try/parts")
        assert inside("parts-web-1", "cat /etc/nginx.conf") == "# conf\nmore"
        # What is mounted and gone, as after `git clean`, keeps nothing asleep.
        inside("parts", "cd /workspace; rm -r .devcontainer/data nginx.conf")
        hatchery("burrow try/parts")
        contains(
            hatchery("unburrow try/parts"),
            "mounts nginx.conf of its volume",
            "an empty file or directory is in its place",
        )
        assert inside("parts-web-1", "wc -c < /etc/nginx.conf; ls -d /code/.git") == "0\n/code/.git"
        assert inside("parts", "cd /workspace; git status --short; stat -c %U nginx.conf") == "M nginx.conf\nvscode"
        inside("parts", "cd /workspace; rm nginx.conf; git checkout -q nginx.conf")
        is_clean("parts", "/workspace")
        server.succeed(
            "docker stop try-parts; rm -rf $(docker volume inspect -f '{{.Mountpoint}}' try-parts)/nginx.conf"
        )
        hatchery("recover")
        assert inside("parts", "wc -c < /workspace/nginx.conf") == "0"
        hatchery("slay try/parts", 1)
        hatchery("slay --force try/parts")

with subtest("a link in the repository leads to nothing of the server's"):
    for name, to in (("absolute", "/etc"), ("upwards", "../../../../../../etc")):
        linked: dict[str, object] = {
            ".devcontainer/devcontainer.json": {**COMPOSED, "workspaceFolder": "/workspace"},
            ".devcontainer/compose.yml": {"services": {"app": service(volumes=["..:/workspace", "../out:/out"])}},
        }
        publish(f"try/{name}", linked, {"out": to})
        error = error_of(f"hatchery spawn try/{name}", 6, "gate-refused")
        contains(error["message"], "services.app.volumes", "this server's files")

with subtest("parts of the repository in the mounts of devcontainer.json"):
    publish(
        "try/config",
        {
            ".devcontainer/devcontainer.json": {
                "image": IMAGE,
                "mounts": ["source=${localWorkspaceFolder}/.tool,target=/home/vscode/.tool,type=bind"],
                "runArgs": ["-v", "${localWorkspaceFolder}/cache:/cache"],
            },
            ".tool/settings": "x\n",
        },
    )
    if IS_OLD:
        contains(error_of("hatchery spawn try/config", 6, "gate-refused")["message"], "Docker 26 or later")
    else:
        hatchery("spawn try/config")
        is_clean("config", "/workspaces/config")
        assert inside("config", "cat ~/.tool/settings; echo y > /cache/y; cat /workspaces/config/cache/y") == "x\ny"
        hatchery("slay --force try/config")

with subtest("several compose files: what they include, extend, reset and replace"):
    publish(
        "try/files",
        {
            "compose.yml": {
                "include": ["db/compose.yml"],
                "services": {
                    "app": service(
                        extends={"file": "common/base.yml", "service": "dev"},
                        volumes=["/srv:/srv"],
                        environment={"OLD": "1", "KEPT": "1"},
                    )
                },
                "secrets": {"key": {"file": "./key.txt"}},
            },
            "common/base.yml": {"services": {"dev": {"environment": {"COMMON": "1"}, "secrets": ["key"]}}},
            "db/compose.yml": {"services": {"db": service(image="${BASE}", volumes=["./init:/init"])}},
            "db/.env": f"BASE={IMAGE}\n",
            "db/init/one.sql": "select 1;\n",
            "key.txt": "secret\n",
            # What JSON has no word for.
            ".devcontainer/over.yml": "services:\n  app:\n    volumes: !override ['.:/workspace']\n"
            "    environment: {OLD: !reset null}\n",
            ".devcontainer/devcontainer.json": {
                "dockerComposeFile": ["../compose.yml", "over.yml"],
                "service": "app",
                "workspaceFolder": "/workspace",
            },
        },
    )
    if IS_OLD:
        contains(
            error_of("hatchery spawn try/files", 6, "gate-refused")["message"], "secrets.key", "services.db.volumes"
        )
    else:
        hatchery("spawn try/files")
        is_clean("files", "/workspace")
        assert (
            inside("files", "echo $COMMON $KEPT [$OLD]; cat /run/secrets/key; ls -d /srv/* | wc -l")
            == "1 1 []\nsecret\n0"
        )
        assert inside("files-db-1", "cat /init/one.sql") == "select 1;"
        hatchery("slay try/files")

with subtest("no image: the configured one; a file that is kept out of the repository is handed in"):
    own = {"runArgs": ["--env-file", ".env"], "postCreateCommand": "git status --porcelain > /tmp/status"}
    publish(
        "try/env",
        {".devcontainer/devcontainer.json": own, ".env.example": "WORD=x\n", ".gitignore": ".env\n"},
    )
    error = error_of("hatchery spawn try/env", 1, "devcontainer-invalid")
    contains(error["message"], "devcontainer.json:1: runArgs --env-file", "only its example .env.example")
    contains(error["hint"], '[drones."try/env"]', '".env" = ')
    server.succeed(
        "echo WORD=zergling > /root/own.env",
        'printf \'[drones."try/env"]\nfiles = { ".env" = "/root/own.env" }\n\''
        " | cat /etc/hatchery/config.toml - > /root/handed.toml",
    )
    hatchery("--config /root/handed.toml spawn try/env")
    assert server.succeed("docker exec try-env printenv WORD").strip() == "zergling"
    assert inside("env", "cat /tmp/status; stat -c '%U %a' /workspaces/env/.env") == "vscode 600"
    hatchery("slay --force try/env")

with subtest("a session has the devcontainer's environment, whichever shell and however it begins"):
    words = {
        "HASH": "a # b",
        "QUOTES": "a \"b\" 'c'",
        "SPACES": "  padded  ",
        "DOLLAR": "$HOME $$x",
        "LINES": "one\ntwo",
    }
    publish_devcontainer(
        "try/words",
        {
            "Dockerfile": f"FROM {IMAGE}\nENV PATH=/opt/y/bin:$PATH OF_IMAGE=3\n",
            "devcontainer.json": {
                "build": {"dockerfile": "Dockerfile"},
                "containerEnv": words,
                "remoteEnv": {"REMOTE": "2-${containerEnv:OF_IMAGE}", "PATH": "/opt/x/bin:${containerEnv:PATH}"},
            },
        },
    )
    hatchery("spawn try/words")
    ask = "python3 -c 'import json, os; print(json.dumps(dict(os.environ)))'"
    for shell in ("sh -c", "bash -c", "bash -lc"):
        seen: dict[str, str] = loads(in_drone("try-words", f"{shell} {quoted(ask)}"))
        # A line break is nothing that sshd can set; a login shell does.
        wanted = words if shell.endswith("-lc") else {name: word for name, word in words.items() if name != "LINES"}
        assert wanted.items() <= seen.items(), (shell, seen)
        assert seen["REMOTE"] == "2-3" and seen["OF_IMAGE"] == "3", (shell, seen)
        assert seen["PATH"].startswith("/opt/x/bin:/opt/y/bin:/usr/local/sbin:"), (shell, seen)
        assert seen["HOME"] == "/home/vscode", (shell, seen)
    inside_too = loads(server.succeed(f"docker exec try-words {ask}"))
    assert inside_too["LINES"] == words["LINES"], inside_too
    hatchery("burrow try/words")
    hatchery("unburrow try/words")
    assert in_drone("try-words", "echo $HASH $REMOTE").strip() == "a # b 2-3"
    hatchery("slay try/words")

with subtest("a service that does not start is named with what it says, not the Dockerfile"):
    services = {
        "app": service(depends_on={"db": {"condition": "service_healthy"}}),
        "db": service(command="sh -c 'echo no zerglings >&2; exit 3'", healthcheck={"test": "true", "interval": "1s"}),
    }
    composed("fallen", services, {})
    error = error_of("hatchery spawn try/fallen", 1, "devcontainer-failed")
    contains(error["message"], "the service db of the compose project keeps try-fallen from starting")
    assert "Dockerfile" not in error["hint"], error

with subtest("submodules by every spelling of a URL, in submodules too"):
    for name in ("a", "b", "c", "d", "e"):
        publish(f"sub/{name}", {"name": name})
    publish("try/theme", {"name": "theme"})
    publish_with_submodules("sub/deep", {"inner": ("org-4712@github.com:sub/e", "sub/e")})
    spelled = {
        "a": ("git@github.com:sub/a", "sub/a"),
        "b": ("ssh://git@github.com/sub/b", "sub/b"),
        "c": ("git://github.com/sub/c", "sub/c"),
        "d": ("http://github.com/sub/d.git", "sub/d"),
        "in/e": ("org-4711@github.com:sub/e", "sub/e"),
        "theme": ("../theme", "try/theme"),
        "deep": ("ssh://git@github.com/sub/deep.git", "sub/deep"),
    }
    # What has been removed may still have its lines.
    stale = '[submodule "gone"]\npath = gone\nurl = git@github.com:sub/gone\n'
    publish_with_submodules("try/super", spelled, stale)
    hatchery("spawn try/super --submodules")
    clone = "/workspaces/super"
    is_clean("super", clone)
    names = inside("super", f"cd {clone}; cat a/name b/name c/name d/name in/e/name theme/name deep/inner/name")
    assert names == "abcdethemee", names
    states = inside("super", f"cd {clone}; git submodule status --recursive").splitlines()
    assert len(states) == 8 and all(state[0] not in "-+" for state in states), states
    # In the drone they go on as they are, and so does what is spelled like this.
    inside("super", f"cd {clone}; git submodule --quiet foreach --recursive 'git fetch -q'")
    inside("super", f"cd {clone}; git submodule --quiet update --init --recursive")
    for url, _ in spelled.values():
        if not url.startswith(("org-", "..")):
            inside("super", f"git ls-remote -q {url} | grep main")
    hatchery("slay try/super")

with subtest("a submodule that does not come is named, with what to do"):
    publish_with_submodules("try/outside", {"lib/den": ("ssh://git@github.com/acme/den", "acme/den")})
    error = error_of("hatchery spawn try/outside --submodules", 3, "repository-not-found")
    contains(error["message"], "the submodule lib/den of try/outside, ssh://git@github.com/acme/den,")
    contains(error["hint"], "`--repo acme/den`", "without `--submodules`")
    hatchery("spawn try/outside --submodules --repo acme/den")
    inside("outside", "cd /workspaces/outside; git -C lib/den fetch -q; test -e lib/den/README.md")
    hatchery("slay try/outside")
    publish_with_submodules("try/elsewhere", {"tool": ("git@gitlab.com:x/y", "sub/a")})
    error = error_of("hatchery spawn try/elsewhere --submodules", 7, "github-refused")
    contains(error["message"], "the submodule tool of try/elsewhere, git@gitlab.com:x/y,", "its URL is not https")

with subtest("nothing in it, a default branch of any name, names that differ in case, a former name"):
    bare = "/srv/github/git/try/nothing.git"
    internet.succeed(f"mkdir -p {bare}; git init -q --bare -b main {bare}; chown -R github {bare}")
    hatchery("spawn try/nothing --submodules")
    assert (
        inside("nothing", "cd /workspaces/nothing; git status --porcelain; git symbolic-ref HEAD") == "refs/heads/main"
    )
    hatchery("slay try/nothing")
    publish("try/former", {"readme": "small", "README": "large"})
    internet.succeed("git -C /srv/github/git/try/former.git -c safe.directory='*' branch -m main release/2.x")
    internet.succeed("chown -R github /srv/github/git/try", "github-fake rename try/former try/latter")
    hatchery("spawn try/former")
    is_clean("former", "/workspaces/former")
    assert inside("former", "cd /workspaces/former; git branch --show-current; cat readme README") == (
        "release/2.x\nsmalllarge"
    )
    inside("former", "cd /workspaces/former; git fetch -q")
    hatchery("slay try/former")

with subtest("volumes in the home and in the clone are the user's; what the image has there stays"):
    dockerfile = (
        f"FROM {IMAGE}\nRUN useradd -m -s /bin/bash app && mkdir -p /home/app/kept /home/app/.local/share "
        "&& touch /home/app/.local/of-root && chown -R 7:7 /home/app/kept && chmod 700 /home/app/kept\n"
    )
    targets = {
        "nm": "${containerWorkspaceFolder}/node_modules",
        "deep": "${containerWorkspaceFolder}/packages/one/node_modules",
        "cfg": "/home/app/.config/tool",
        "kept": "/home/app/kept",
        "local": "/home/app/.local/share/tool",
        "srv": "/srv/data",
    }
    publish_devcontainer(
        "try/volumes",
        {
            "Dockerfile": dockerfile,
            "devcontainer.json": {
                "build": {"dockerfile": "Dockerfile"},
                "remoteUser": "app",
                "mounts": [f"source={source},target={target},type=volume" for source, target in targets.items()],
                "postCreateCommand": "touch node_modules/x packages/x packages/one/node_modules/x ~/.config/tool/y "
                "~/.local/share/tool/z && mkdir ~/.config/other",
            },
        },
    )
    hatchery("spawn try/volumes")
    owners = inside(
        "volumes",
        "cd /workspaces/volumes; stat -c '%U %u %a %n' node_modules packages packages/one packages/one/node_modules "
        "~/.config ~/.config/tool ~/.local ~/.local/share/tool ~/kept /srv/data",
        "app",
    ).splitlines()
    assert all(line.startswith("app ") and " 755 " in line for line in owners[:6]), owners
    assert [line.split()[1] for line in owners[6:]] == ["0", owners[0].split()[1], "7", "0"], owners
    hatchery("burrow try/volumes")
    hatchery("unburrow try/volumes")
    inside("volumes", "touch ~/.config/tool/again ~/.config/again", "app")
    hatchery("slay --force try/volumes")

nothing_new()
