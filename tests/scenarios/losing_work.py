"""No work is lost without a word: not to slay, not to a spawn that is cut off, not to a prune."""

import json

# Where any program of the image's is asked for in a look, this says so, and ends never.
SH = r"""#!/bin/bash
case "$*" in
*safe.directory*) echo "HOSTILE $(id -u)" > /proc/1/fd/1; exec sleep infinity ;;
esac
exec /bin/dash "$@"
"""
# A program that comes to no end.
WAITS = "/usr/bin/yes"
JSON = ".devcontainer/devcontainer.json"
CLONES = ("site", "lib")
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
    contains(hatchery("list"), "no container, work safe in its volume", "hatchery rebuild work/site")
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
    contains(hatchery("rebuild work/site"), "work-site is rebuilt and kept its volume work-site")
    assert drones() == {"work/site": "running"}
    after = server.succeed(
        "docker run --rm -v work-site:/w " + IMAGE + " bash -c 'cd /w && find . -type f | sort | xargs sha256sum'"
    )
    kept = [line for line in before.splitlines() if "/node_modules/" not in line and "/.made" not in line]
    assert set(kept) <= set(after.splitlines()), f"{before}\nis not all in\n{after}"
    assert in_drone("work-site", "cat /workspaces/site/draft") == "mine\n"
    refused("not committed: ?? draft")

with subtest("status counts what there is, and list tells what was counted"):
    inside("rm -rf lib .made")
    # Any program that the repository names would hold a look up.
    keys = "core.fsmonitor diff.external filter.odd.clean filter.odd.process diff.odd.textconv core.pager"
    inside(f"for key in {keys}; do git config $key {WAITS}; done")
    inside("mkdir -p .git/info && echo '* filter=odd diff=odd' > .git/info/attributes")
    aside = f"-c core.fsmonitor=false -c filter.odd.clean= -c filter.odd.process= {GIT_AUTHOR}"
    inside(
        f"echo stashed >> {JSON} && git {aside} stash -q -m Later && git {aside} commit -q --allow-empty -m Unpushed"
        + f" && echo changed >> {JSON} && head -c 100000 /dev/urandom > binary && ln -s /etc/shadow shadow && touch .env"
        + " && git clone -q https://github.com/work/lib ../lib && cd ../lib && echo more > lib.py"
        + f" && git {GIT_AUTHOR} commit -q -a -m Second"
    )
    counted = "6 uncommitted, 2 unpushed, 1 stashed"
    server.succeed("rm /var/lib/hatchery/drones/work-site.work")
    said = hatchery("list")
    assert "?" in said and counted not in said, said
    # Where the server is busy, the first look may take longer than status waits.
    server.wait_until_succeeds(f"hatchery status work/site | grep -q '^work  *{counted}$'", timeout=120)
    contains(hatchery("list"), counted)
    work = json.loads(server.succeed("hatchery list --json"))[0]["work"]
    assert (work["uncommitted"], work["unpushed"], work["stashed"], work["whole"]) == (6, 2, 1, True), work
    no_look_is_left()

with subtest("what does not fit is named, and nothing is removed"):
    limits = "printf '\n[limits]\nremains_size = \"50KiB\"\n' | cat /etc/hatchery/config.toml - > /root/small.toml"
    before = server.succeed("ls -A /var/lib/hatchery/remains", limits)
    said = hatchery("--config /root/small.toml slay --force work/site", status=1)
    contains(said, "cannot be kept: limits.remains_size is 50.0 KiB [work-would-be-lost]", "/binary: there is no space")
    contains(said, "slay --force --no-remains work/site")
    assert drones() == {"work/site": "running"}
    assert server.succeed("ls -A /var/lib/hatchery/remains") == before

with subtest("what is slain by force comes back by the commands in README.txt"):
    server.succeed(f"rm -rf /root/was; docker run --rm -v work-site:/w -v /root/was:/was {IMAGE} cp -a /w/. /was")
    stashes = "log -g --format=%H refs/stash"
    was = {name: server.succeed(f"git -C /root/was/{name} -c safe.directory='*' log -1 --format=%H") for name in CLONES}
    stash = server.succeed(f"git -C /root/was/site -c safe.directory='*' {stashes}")
    gone = json.loads(server.succeed("hatchery --json slay --force work/site 2> /dev/null", timeout=60))
    kept = gone["remains"]
    assert kept.startswith("/var/lib/hatchery/remains/work-site-"), gone
    assert drones() == {}
    no_look_is_left()
    assert server.succeed(f"stat -c '%U:%G:%a' {kept} {kept}/README.txt").split() == [
        "root:hatchery:2750",
        "root:hatchery:640",
    ]
    server.fail(f"grep -r -F -f <(grep -o '^root:[^:]*:[0-9]*' /etc/shadow) {kept}")
    server.succeed("rm -rf /home/overlord/back; install -d -o overlord /home/overlord/back")
    server.succeed(f"sed -n 's/^    //p' {kept}/README.txt > /home/overlord/commands")
    server.succeed(f"cd /home/overlord/back && {MEMBER} bash -eux ../commands")
    for name in CLONES:
        back = server.succeed(f"echo /home/overlord/back/*-{name}").strip()
        assert server.succeed(f"{MEMBER} git -C {back} log -1 --format=%H refs/remains/heads/main") == was[name]
        server.succeed(f"{MEMBER} git -C {back} merge -q --ff-only refs/remains/heads/main")
        server.succeed(f"diff -r --no-dereference -x .git -x node_modules -x .made /root/was/{name} {back}")
    assert server.succeed(f"{MEMBER} git -C /home/overlord/back/*-site {stashes}") == stash
    server.succeed("cmp /root/was/closed/file /home/overlord/back/loose/closed/file")

with subtest("what was kept is removed when its time is over"):
    server.succeed(f"hatchery recover && test -e {kept}/README.txt")
    server.succeed(f"touch -d '31 days ago' {kept} && hatchery recover && test ! -e {kept}")
    server.succeed("rm -rf /root/was /home/overlord/back /home/overlord/commands /root/small.toml")

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
        contains(said, "work-odd cannot be checked for work", "/trap/.git/HEAD")
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
    hatchery("slay --force --no-remains work/odd")

with subtest("a spawn that is cut off after somebody has worked in it takes nothing back"):
    server.succeed("env --default-signal=INT hatchery spawn work/held > /root/said 2>&1 &")
    server.wait_until_succeeds("pgrep -fx 'sleep 4321'", timeout=120)
    server.succeed(
        f"docker exec -u vscode -w /workspaces/held work-held git {GIT_AUTHOR} commit -q --allow-empty -m Meanwhile"
    )
    server.succeed("pkill -INT -fx 'hatchery spawn work/held'")
    server.wait_until_fails("pgrep -fx 'hatchery spawn work/held'", timeout=60)
    said = server.succeed("cat /root/said")
    contains(said, "work-held is kept: ", "[interrupted]", " Meanwhile", "hatchery slay work/held")
    assert drones() == {"work/held": "running"}
    contains(server.succeed("docker exec -u vscode -w /workspaces/held work-held git log -1 --format=%s"), "Meanwhile")
    contains(hatchery("slay work/held", status=1), " Meanwhile")
    contains(hatchery("slay --force work/held"), "is kept until ", "/var/lib/hatchery/remains/work-held-")
    assert drones() == {}
