"""No work is lost without a word: not to slay, not to a spawn that is cut off, not to a prune."""

# Where any program of the image's is asked for in a look, this says so, and ends never.
SH = r"""#!/bin/bash
case "$*" in
*safe.directory*) echo "HOSTILE $(id -u)" > /proc/1/fd/1; exec sleep infinity ;;
esac
exec /bin/dash "$@"
"""
CAT = '#!/bin/bash\ncase $1 in /sys/*) exec sleep infinity ;; esac\nexec /bin/cat.real "$@"\n'
DOCKERFILE = f"""FROM {IMAGE}
COPY sh /bin/sh.new
COPY cat /bin/cat.new
RUN cp /bin/cat /bin/cat.real && chmod 755 /bin/sh.new /bin/cat.new && mv -f /bin/cat.new /bin/cat && mv -f /bin/sh.new /bin/sh
"""


def refused(*parts: str) -> None:
    said = hatchery("slay work/site", status=1)
    contains(said, "[work-would-be-lost]", *parts)


def inside(command: str) -> str:
    """As the drone's user, where no network is needed for it."""
    return server.succeed(f"docker exec -u vscode -w /workspaces/site work-site bash -ec {command!r}")


def no_look_is_left() -> None:
    server.wait_until_succeeds("! docker ps -aq --filter label=hatchery.look | grep .", timeout=20)


start_and_wait()
stop_recovery()
laptop_trusts_drones()
publish("work/lib", {"lib.py": "lib\n"})
publish(
    "work/site",
    {
        ".gitignore": ".env\nnode_modules/\n.made\n",
        ".devcontainer/devcontainer.json": {
            "image": IMAGE,
            "workspaceFolder": "/workspaces/site",
            "postCreateCommand": "mkdir -p node_modules/x && echo x | tee node_modules/x/x .made",
        },
    },
)
publish_devcontainer(
    "work/odd",
    {"devcontainer.json": {"build": {"dockerfile": "Dockerfile"}}, "Dockerfile": DOCKERFILE, "sh": SH, "cat": CAT},
)
publish_devcontainer("work/held", {"devcontainer.json": {"image": IMAGE, "postCreateCommand": "sleep 4321"}})

with subtest("a fresh drone is slain without a word, whatever its own commands have made"):
    hatchery("spawn work/site")
    assert drones() == {"work/site": "running"}
    contains(hatchery("slay work/site"), "work-site is gone")
    no_look_is_left()

with subtest("commits, worktrees, second clones, submodules and ignored files count, wherever they are"):
    hatchery("spawn work/site")
    server.succeed("docker exec work-site chown vscode /workspaces")
    inside(f"git {GIT_AUTHOR} commit -q --allow-empty -m Unpushed")
    refused("/workspaces/site: not pushed: ", " Unpushed")
    inside("git reset -q --hard origin/main && touch .env")
    refused("/workspaces/site: ignored by git: .env")
    inside("rm .env && git worktree add -q --detach ../wt && touch ../wt/draft")
    refused("/workspaces/wt: not committed: ?? draft")
    inside(f"rm ../wt/draft && git {GIT_AUTHOR} -C ../wt commit -q --allow-empty -m Afloat")
    refused(" Afloat")
    inside("git worktree remove ../wt")
    inside(
        "git clone -q https://github.com/work/lib ../lib"
        + f" && git {GIT_AUTHOR} -C ../lib commit -q --allow-empty -m Second"
    )
    refused("/workspaces/lib: not pushed: ", " Second")
    # Whose files they are does not matter; those that are closed to others neither.
    server.succeed("docker exec work-site bash -c 'chown -R root:root /workspaces/lib && chmod 700 /workspaces/lib'")
    refused("/workspaces/lib: not pushed: ", " Second")
    server.succeed("docker exec work-site rm -rf /workspaces/lib")
    inside("git submodule --quiet add https://github.com/work/lib lib && git reset -q --hard && git clean -qfdx")
    contains(server.succeed("docker exec work-site ls /workspaces/site/.git/modules"), "lib")
    inside(
        f"git {GIT_AUTHOR} --git-dir .git/modules/lib --work-tree . update-ref refs/heads/mine "
        f"$(git {GIT_AUTHOR} --git-dir .git/modules/lib commit-tree -m Inside HEAD^{{tree}})"
    )
    refused(" Inside")
    inside("rm -rf .git/modules && touch ../loose")
    refused("in no repository: /workspaces/loose")
    inside("rm ../loose")

with subtest("what is left of it after a prune is safe, and rebuild goes on with it"):
    inside("echo mine > draft && mkdir -m 700 ../closed && echo closed > ../closed/file")
    before = server.succeed(
        "docker run --rm -v work-site:/w " + IMAGE + " bash -c 'cd /w && find . -type f | sort | xargs sha256sum'"
    )
    server.succeed("docker stop -t 1 work-site && docker container prune -f")
    assert drones() == {"work/site": "bare"}
    contains(hatchery("list"), "container gone, work safe in its volume", "hatchery rebuild work/site")
    contains(hatchery("status work/site"), "its work is safe in the volume work-site")
    for verb in ("burrow", "unburrow"):
        said = hatchery(f"{verb} work/site", status=3)
        contains(said, "its work is safe in the volume work-site", "hatchery rebuild work/site")
        assert "slay" not in said, said
    refused("not committed: ?? draft", "in no repository: ")
    assert server.succeed("hatchery recover") == ""
    internet.succeed("systemctl stop github")
    server.fail("timeout 100 hatchery rebuild --from-default-branch work/site")
    internet.succeed("systemctl start github")
    server.wait_until_succeeds("git ls-remote https://github.com/work/site", timeout=60)
    assert drones() == {"work/site": "bare"}, "a failed rebuild took the volume"
    contains(hatchery("rebuild work/site"), "work-site is rebuilt, with all that its volume work-site holds")
    assert drones() == {"work/site": "running"}
    after = server.succeed(
        "docker run --rm -v work-site:/w " + IMAGE + " bash -c 'cd /w && find . -type f | sort | xargs sha256sum'"
    )
    kept = [line for line in before.splitlines() if "/node_modules/" not in line and "/.made" not in line]
    assert set(kept) <= set(after.splitlines()), f"{before}\nis not all in\n{after}"
    assert in_drone("work-site", "cat /workspaces/site/draft") == "mine\n"
    refused("not committed: ?? draft")
    hatchery("slay --force work/site")

with subtest("a drone's image is not asked, and cannot hold slay or status up"):
    hatchery("spawn work/odd")
    hatchery("status work/odd", within=60)
    server.succeed(
        "docker exec work-odd bash -c 'mkdir /workspaces/trap && cd /workspaces/trap && git init -q . && "
        "rm .git/HEAD && mkfifo .git/HEAD'"
    )
    for state in ("running", "stopped"):
        assert drones() == {"work/odd": state}
        said = hatchery("slay work/odd", status=1, within=90)
        contains(said, "work-odd cannot be looked into", "/trap/.git/HEAD")
        assert "HOSTILE" not in said, said
        no_look_is_left()
        server.succeed("docker stop -t 1 work-odd")
    server.succeed("docker run --rm -v work-odd:/w " + IMAGE + " rm -rf /w/trap")

with subtest("a look that is cut off leaves nothing running"):
    # git waits for what never comes: nothing else holds a look up.
    exclude = "cd /w/odd/.git && mkdir -p info && rm -f info/exclude && mkfifo info/exclude"
    server.succeed(f"docker run --rm -v work-odd:/w {IMAGE} bash -ec '{exclude}'")
    server.succeed("hatchery slay work/odd > /root/said 2>&1 &")
    server.wait_until_succeeds("docker ps -q --filter label=hatchery.look | grep .", timeout=30)
    server.succeed("pkill -KILL -fx 'hatchery slay work/odd'")
    no_look_is_left()
    hatchery("slay --force work/odd")

with subtest("a spawn that is cut off after somebody has worked in it takes nothing back"):
    server.succeed("env --default-signal=INT hatchery spawn work/held > /root/said 2>&1 &")
    server.wait_until_succeeds("pgrep -fx 'sleep 4321'", timeout=120)
    server.succeed(
        f"docker exec -u vscode -w /workspaces/held work-held git {GIT_AUTHOR} commit -q --allow-empty -m Meanwhile"
    )
    server.succeed("pkill -INT -fx 'hatchery spawn work/held'")
    server.wait_until_fails("pgrep -fx 'hatchery spawn work/held'", timeout=60)
    said = server.succeed("cat /root/said")
    contains(said, "work-held stays: ", "[interrupted]", " Meanwhile", "hatchery slay work/held")
    assert drones() == {"work/held": "running"}
    contains(server.succeed("docker exec -u vscode -w /workspaces/held work-held git log -1 --format=%s"), "Meanwhile")
    contains(hatchery("slay work/held", status=1), " Meanwhile")
    hatchery("slay --force work/held")
    assert drones() == {}
