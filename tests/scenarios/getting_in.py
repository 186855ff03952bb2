"""From the server into a drone: by ssh, and by Docker."""

import json
import shlex

# What a person on the server has: the key that drones let in, and a configuration for everything else.
PERSON = "Host *\n User nobody\n StrictHostKeyChecking no\n ProxyJump elsewhere\n ForwardAgent yes\n"
# What sshd, PAM, a shell and Docker each add; and what sshd cannot set.
OF_SSH_OR_EXEC = {
    *("SSH_CLIENT", "SSH_CONNECTION", "MAIL", "MOTD_SHOWN", "TS_NO_LOGS_NO_SUPPORT", "QUOTED"),
    *("HOSTNAME", "OLDPWD", "SHLVL", "_"),
}


def by_ssh(command: str, status: int = 0) -> str:
    """All that `hatchery ssh` says of this, as a shell has it."""
    ended, said = server.execute(f"hatchery ssh into-it -- {command} 2>&1 < /dev/null")
    assert ended == status, f"{command}: status {ended}, not {status}: {said}"
    return said


def by_exec(script: str, status: int = 0) -> str:
    """All that `hatchery exec` says of this script."""
    ended, said = server.execute(f"hatchery exec into-it -- sh -c {shlex.quote(script)} 2>&1 < /dev/null")
    assert ended == status, f"{script}: status {ended}, not {status}: {said}"
    return said


def at_a_terminal(script: str, typed: str = "true") -> str:
    """All that a terminal shows of this, while this command types; at its end whether it is as it was."""
    whole = f"before=$(stty -g); {script}; [ $before = $(stty -g) ] && echo restored"
    return server.succeed(f"({typed}) | script -qec {shlex.quote(whole)} /dev/null 2>&1", timeout=60)


# In a drone: says that it is there, and waits for a signal.
WAITS = "sh -c 'trap \"echo caught; exit 7\" {signal}; touch /tmp/there; while :; do sleep 0.05; done'"
# On the server: until something is there.
MEANWHILE = "until docker exec into-it rm /tmp/there 2> /dev/null; do :; done"

start_and_wait()
stop_recovery()
key = laptop.succeed("cat /root/.ssh/id_ed25519")
server.succeed(
    "rm -rf /root/.ssh; install -d -m 700 /root/.ssh",
    f"install -m 600 /dev/stdin /root/.ssh/id_ed25519 <<'END'\n{key}END",
    f"cat > /root/.ssh/config <<'END'\n{PERSON}END",
)
publish_devcontainer(
    "into/it",
    {
        "devcontainer.json": {
            "image": IMAGE,
            "containerEnv": {"PLACE": "here"},
            "remoteEnv": {"MARK": "set-${containerEnv:PLACE}", "QUOTED": 'it\'s "so"'},
            "forwardPorts": [8080, "db:5432"],
            "portsAttributes": {"3000": {"label": "Site\x1b[31m", "protocol": "https"}},
        }
    },
)
hatchery("spawn into/it")

with subtest("ssh: a command in the workspace, as the user that one works as, with the devcontainer's environment"):
    assert by_ssh("'id -un; pwd; hostname; echo $PLACE $MARK'") == ("vscode\n/workspaces/it\ninto-it\nhere set-here\n")
    assert server.succeed("hatchery ssh into/it -- git status --short --branch") == "## main...origin/main\n"
    # As ssh does, the words are joined, and the shell there takes them apart.
    assert by_ssh("echo 'a  b' \\; echo c") == "a b\nc\n"

with subtest("ssh: the exit status is the command's, and 255 is ssh's own"):
    by_ssh("exit 42", status=42)
    by_ssh("test -e /nonexistent", status=1)
    server.succeed("mv /root/.ssh/id_ed25519 /root/.ssh/away")
    contains(by_ssh("true", status=255), "Permission denied (publickey)")
    agent = "eval $(ssh-agent) > /dev/null; ssh-add -q /root/.ssh/away; hatchery ssh into-it -- 'ssh-add -l; pwd'"
    said = server.succeed(f"({agent}; ssh-agent -k) 2>&1")
    contains(said, "/workspaces/it\n", "Could not open a connection to your authentication agent")
    server.succeed("mv /root/.ssh/away /root/.ssh/id_ed25519")

with subtest("ssh: bytes as they are, there and back"):
    server.succeed(
        "head -c 1M /dev/urandom > /tmp/bytes",
        "hatchery ssh into-it -- cat < /tmp/bytes | cmp - /tmp/bytes",
    )

with subtest("cp: into the workspace and out of it, with a path or without"):
    server.succeed(
        "rm -rf /tmp/copies; mkdir -p /tmp/copies/a/b; cd /tmp/copies; cp /tmp/bytes 'a/b/with space'; cp /tmp/bytes ./x:y",
        "cd /tmp/copies; hatchery cp ./x:y into-it:; hatchery cp -r a into/it:/tmp/a; rm -r a",
        "cd /tmp/copies; hatchery cp -p into-it:x:y back; hatchery cp -r into-it:/tmp/a 'into-it:~/../../etc/hostname' .",
        "cd /tmp/copies; cmp /tmp/bytes back; cmp /tmp/bytes 'a/b/with space'; grep -x into-it hostname",
    )
    assert by_ssh("stat -c %U.%s x:y '&&' rm x:y") == "vscode.1048576\n"
    server.fail("hatchery cp into-it:/etc/shadow /tmp/copies")
    for paths in ("a b", "into-it:a into-it:b", "into-it:a other:b .", "into-it:a b ."):
        error_of(f"hatchery --json cp {paths} #", 2, "usage")

with subtest("ssh-config: a person's ssh reaches the drone by its name alone"):
    server.succeed("hatchery ssh-config into-it > /tmp/drones")
    assert server.succeed("hatchery ssh-config") == server.succeed("cat /tmp/drones")
    assert json.loads(server.succeed("hatchery ssh-config --json")) == [
        {"host": "into-it", "hostname": f"into-it.{DOMAIN}", "port": 2222, "user": "vscode"}
    ]
    laptop_trusts_drones()
    block = server.succeed("cat /tmp/drones")
    laptop.succeed(f"cat > /tmp/drones <<'END'\n{block}END")
    assert laptop.succeed("ssh -F /tmp/drones -o StrictHostKeyChecking=yes into-it id -un") == "vscode\n"

with subtest("ports: what listens, where it is reached, and what the configuration says of it"):
    serve = "nohup python3 -m http.server --bind {} {} > /dev/null 2>&1 &"
    by_exec(f"{serve.format('0.0.0.0', 3000)} {serve.format('127.0.0.1', 80)} {serve.format('::1', 5173)}")
    server.wait_until_succeeds(
        "hatchery ports into-it --json | jq -e 'map(select(.process)) | length == 3'", timeout=10
    )
    ports = json.loads(server.succeed("hatchery ports into/it --json"))
    told = [[port[key] for key in ("host", "port", "process", "label", "reach", "forwarded", "url")] for port in ports]
    assert told == [
        [None, 80, "python3", None, "drone", False, None],
        [None, 3000, "python3", "Site", "tailnet", False, f"https://into-it.{DOMAIN}:3000"],
        [None, 5173, "python3", None, "drone", False, None],
        [None, 8080, None, None, "nowhere", True, None],
        ["db", 5432, None, None, "sibling", True, None],
    ], told
    said = hatchery("ports into-it")
    contains(
        said,
        f"https://into-it.{DOMAIN}:3000\n",
        "\n8080     ",
        "nothing is listening\n",
        "in another container, use -L: ",
    )
    contains(said, f"only listens on 127.0.0.1, use -L: ssh -L 8080:localhost:80 -p 2222 vscode@into-it.{DOMAIN}\n")
    laptop.succeed(f"curl -sf http://into-it.{DOMAIN}:3000 -o /dev/null")
    laptop.fail(f"curl -sf http://into-it.{DOMAIN}:80 -o /dev/null")
    laptop.succeed(f"{SSH} -L 5173:localhost:5173 vscode@into-it.{DOMAIN} true")
    on_server = ports[0]["on_server"]
    assert on_server == "hatchery ssh -N -L 8080:localhost:80 into-it", ports
    contains(server.succeed("hatchery ports into-it 2>&1"), f"\nOn this server use `{on_server}`.\n")

with subtest("ssh: ports are forwarded both ways, and with -N there is nothing else"):
    page = "/.devcontainer/devcontainer.json"
    server.fail(f"curl -sf http://127.0.0.1:8080{page}")
    # What comes to the drone's port 9000 goes to the server's 8080, and so back to the drone's 80.
    server.succeed(
        f"{on_server} -D 1080 -R 9000:127.0.0.1:8080 < /dev/null > /tmp/said 2>&1 & echo $! > /tmp/forwarding"
    )
    server.wait_until_succeeds(f"curl -sf http://127.0.0.1:8080{page} | grep -F portsAttributes", timeout=20)
    server.succeed(f"curl -sf --socks5-hostname 127.0.0.1:1080 http://localhost{page} | grep -F portsAttributes")
    contains(by_exec(f"curl -sf http://127.0.0.1:9000{page}"), "portsAttributes")
    server.succeed("kill $(cat /tmp/forwarding)")
    server.wait_until_fails(f"curl -sf http://127.0.0.1:8080{page}", timeout=10)
    assert server.succeed("cat /tmp/said") == ""
    # A value of one option is not taken for another option.
    server.fail("hatchery ssh -L '-oProxyCommand=touch /tmp/taken' into-it -- true")
    server.fail("test -e /tmp/taken")
    by_exec("pkill python3")

with subtest("open: links, and the way that they go"):
    at = f"vscode@into-it.{DOMAIN}:2222/workspaces/it"
    assert hatchery("open into-it --in zed") == f"zed://ssh/{at}\n"
    lines = hatchery("open into/it").splitlines()
    assert lines[:2] == [
        f"ssh      ssh -p 2222 vscode@into-it.{DOMAIN}",
        f"vscode   vscode://vscode-remote/ssh-remote+{at}",
    ], lines
    opened = json.loads(server.succeed("hatchery open into-it --json"))
    assert opened["folder"] == "/workspaces/it" and set(opened["links"]) == {"vscode", "cursor", "zed", "gateway"}, (
        opened
    )
    hatchery("open into-it --in ed", status=2)

with subtest("ssh: a session begins in the workspace, and its shell reads what is typed"):
    assert server.succeed("printf 'pwd\\necho $MARK\\nexit 3\\n' | hatchery ssh into-it || echo $?") == (
        "/workspaces/it\nset-here\n3\n"
    )
    said = at_a_terminal("stty rows 33 cols 77; hatchery ssh into-it", "printf 'tty; stty size; pwd; exit\\n'")
    contains(said, "/dev/pts/", "33 77", "/workspaces/it", "restored")

with subtest("ssh: nobody else is taken for the drone"):
    # Another key at the drone's place, which root in a drone may give itself; it has no certificate of this server's.
    server.succeed(
        "docker exec into-it sh -c 'cd /etc/ssh/hatchery; mkdir kept; cp host_key* kept; rm host_key*; "
        'ssh-keygen -q -t ed25519 -N "" -f host_key; kill -HUP $(cat /run/sshd.pid)\'',
    )
    contains(by_ssh("true", status=255), "host key is known for into-it", "Host key verification failed")
    server.succeed(
        "docker exec into-it sh -c 'cd /etc/ssh/hatchery; cp kept/* .; rm -r kept; kill -HUP $(cat /run/sshd.pid)'"
    )
    server.wait_until_succeeds("hatchery ssh into-it -- true", timeout=10)

with subtest("exec: as the user that one works as, in the workspace, with the devcontainer's environment"):
    assert by_exec("id -un; pwd; hostname; echo $USER $HOME $SHELL; echo $PLACE $MARK") == (
        "vscode\n/workspaces/it\ninto-it\nvscode /home/vscode /bin/bash\nhere set-here\n"
    )
    assert server.succeed("hatchery exec into/it -- printenv QUOTED") == 'it\'s "so"\n'
    of_ssh, of_exec = (set(variables.splitlines()) for variables in (by_ssh("env"), by_exec("exec env")))
    others = {line.split("=")[0] for line in of_ssh ^ of_exec}
    assert others <= OF_SSH_OR_EXEC, others
    assert not [line for line in of_exec if line.startswith("TS_")], of_exec
    # No shell takes words apart.
    assert server.succeed("hatchery exec into-it -- printf '%s.' 'a  b' '$HOME' ';'") == "a  b.$HOME.;."

with subtest("exec: what goes in comes out, each stream for itself, and the exit status is the command's"):
    server.succeed(
        "hatchery exec into-it -- sh -c 'cat; echo said >&2; exit 42' < /tmp/bytes > /tmp/out 2> /tmp/err || [ $? = 42 ]",
        "cmp /tmp/bytes /tmp/out",
        "head -c 64M /dev/zero | hatchery exec into-it -- cat | cmp -n 67108864 - /dev/zero",
    )
    assert server.succeed("cat /tmp/err") == "said\n"
    by_exec("exit 255", status=255)
    for command, status in (("no-such-program", 127), ("/etc/passwd", 126), ("sh -c 'kill -9 $$'", 137)):
        assert server.execute(f"hatchery exec into-it -- {command} 2> /tmp/err")[0] == status, command
    assert server.execute("hatchery exec into-it -- cat < /dev/null") == (0, "")

with subtest("exec: a reader that goes away ends the command, and so does a signal"):
    assert server.succeed("set +o pipefail; hatchery exec into-it -- yes | head -n 1") == "y\n"
    server.wait_until_fails("docker exec into-it pgrep -x yes", timeout=20)
    server.succeed(
        f"hatchery exec into-it -- {WAITS.format(signal='TERM')} > /tmp/out & {MEANWHILE}; kill -TERM $!; wait $! || [ $? = 7 ]"
    )
    assert server.succeed("cat /tmp/out") == "caught\n"
    server.succeed(
        "hatchery exec into-it -- sleep 4321 & until pgrep -fx 'sleep 4321'; do :; done; kill -INT $!; wait || true"
    )
    server.wait_until_fails("pgrep -fx 'sleep 4321'", timeout=20)

with subtest("exec: with a terminal, whose size is that of the window, and which is left as it was"):
    follow = 'until [ "$(stty size)" = "{}" ]; do sleep 0.05; done'
    drone = f"'tty; {follow.format('33 77')}; touch /tmp/there; {follow.format('44 88')}; echo grown; exit 5'"
    grow = f"({MEANWHILE}; stty rows 44 cols 88 < /dev/tty) &"
    said = at_a_terminal(f"stty rows 33 cols 77; {grow} hatchery exec -t into-it -- sh -c {drone}; echo =$?=")
    contains(said, "/dev/pts/", "grown", "=5=", "restored")
    said = at_a_terminal(
        f"hatchery exec -t into-it -- {WAITS.format(signal='INT')}; echo =$?=", f"{MEANWHILE}; printf '\\003'"
    )
    contains(said, "caught", "=7=", "restored")
    killed = (
        f"hatchery exec -t into-it -- {WAITS.format(signal='TERM')} < /dev/tty & {MEANWHILE}; kill -TERM $!; wait $!"
    )
    contains(at_a_terminal(f"{killed}; echo =$?="), "caught", "=7=", "restored")
    # What begins like one of Docker's frames is shown as it is.
    bytes_shown = at_a_terminal("hatchery exec -t into-it -- printf '\\001\\000\\000\\000\\377\\377\\377\\377shown'")
    contains(bytes_shown, "shown", "restored")
    assert error_of("hatchery --json exec -t into-it -- true < /dev/null", 2, "usage")["message"].startswith("-t needs")

with subtest("secrets and dotfiles: in sessions and commands, and nowhere that others look"):
    publish("sarah/dotfiles", {"install-me": '#!/bin/sh\ncp "$(dirname "$0")/rc" ~/.sarahrc\n', "rc": "of sarah\n"})
    publish_devcontainer(
        "into/secret",
        {
            "devcontainer.json": {
                "image": IMAGE,
                "containerEnv": {"TOKEN": "of the repository"},
                "postCreateCommand": 'echo "$TOKEN" > /tmp/of-create; echo "told: $TOKEN"; test "$TWICE" = one',
                "postStartCommand": 'printenv JSON > /tmp/of-start; echo "told: $NEW"; test -z "$NEW"',
            }
        },
    )
    values = {"TOKEN": "s3cret-of-all", "TWICE": "one", "JSON": '{"key": "it\'s s3cret \\\\ $HOME"}'}
    server.succeed(
        "install -m 600 /dev/stdin /root/all.env <<'END'\n# for all\nTOKEN=s3cret-of-all\nTWICE=all\nEND",
        f"install -m 600 /dev/stdin /root/one.env <<'END'\nTWICE=one\nJSON={values['JSON']}\nEND",
        "cat /etc/hatchery/config.toml - > /root/secrets.toml <<'END'\n"
        '[devcontainer]\nenv_file = "/root/all.env"\n[drones."into/secret"]\nenv_file = "/root/one.env"\n'
        '[dotfiles]\nrepository = "sarah/dotfiles"\ninstall = "install-me"\nEND',
    )
    with_secrets = "hatchery --config /root/secrets.toml"
    # Every argument of every program that is started meanwhile, and all that Docker is told.
    server.succeed(
        '(while :; do cat /proc/[0-9]*/cmdline || :; done) > /tmp/arguments 2> /dev/null & trap "kill $!" EXIT; '
        f"{with_secrets} spawn into/secret > /tmp/said 2>&1",
    )
    said = server.succeed("cat /tmp/said")
    docker_shows = server.succeed(
        "docker inspect into-secret; docker image inspect $(docker inspect -f '{{.Image}}' into-secret)"
    )
    of_journal = server.succeed("journalctl --no-pager -q")
    arguments = server.succeed("tr '\\0' '\\n' < /tmp/arguments | grep -a -e s3cret -e /root/secrets.toml | sort -u")
    contains(arguments, "/root/secrets.toml")
    for name, shown in (("docker", docker_shows), ("journal", of_journal), ("spawn", said), ("arguments", arguments)):
        assert "s3cret" not in shown, f"{name} shows the secret"
    secret = f"{with_secrets} exec into-secret --"
    assert server.succeed(f"{secret} cat /tmp/of-create") == "s3cret-of-all\n"
    assert server.succeed(f"{secret} cat /tmp/of-start") == values["JSON"] + "\n"
    assert server.succeed(f"{secret} cat /home/vscode/.sarahrc") == "of sarah\n"
    for name, value in values.items():
        assert server.succeed(f"{secret} printenv {name}") == value + "\n"
    in_session = f"{with_secrets} ssh into-secret --"
    assert server.succeed(f"{in_session} 'echo $TOKEN $TWICE'") == "s3cret-of-all one\n"
    assert server.succeed(f"{in_session} bash -lc \"'printenv JSON'\"") == values["JSON"] + "\n"
    # The user may write what the user's own shell reads: root's reads nothing of it.
    server.fail("docker exec -u root into-secret bash -lc 'printenv JSON'")
    of_nobody = (
        "docker exec -u nobody into-secret grep -rls s3cret /etc /run /tmp /var /home /usr/local 2> /dev/null || true"
    )
    assert set(server.succeed(of_nobody).split()) == {"/tmp/of-create", "/tmp/of-start"}
    # What a trusted repository's commands ask of Docker is not judged, and they have the variables as well.
    server.succeed(f"{with_secrets} rebuild --yes --trust into-secret")
    assert server.succeed(f"{secret} cat /tmp/of-create") == "s3cret-of-all\n"

with subtest("secrets: a change holds after the drone was burrowed, and a file that is wrong is named before"):
    hatchery("burrow into-secret")
    server.succeed("echo 'NEW=s3cret-too' > /root/one.env")
    contains(server.execute(f"{with_secrets} unburrow into-secret 2>&1")[1], "[lifecycle-failed]", "told: ********")
    assert server.succeed(f"{in_session} 'echo $NEW.$TWICE.$JSON'") == "s3cret-too.all.\n"
    server.fail(f"{in_session} bash -lc \"'printenv JSON'\"")
    server.succeed("echo 's3cret' >> /root/one.env")
    error = error_of(f"{with_secrets} rebuild --yes into-secret", 2, "config-invalid")
    contains(error["message"], "/root/one.env", 'drones."into/secret".env_file', "line 2")
    assert "s3cret" not in json.dumps(error), error
    server.succeed("rm /root/all.env")
    error = error_of(f"{with_secrets} config --check --secrets", 1, "secret-unreadable")
    contains(error["message"], "/root/all.env", "devcontainer.env_file")
    hatchery("slay --force into-secret")
    server.succeed("rm /root/one.env /root/secrets.toml /tmp/said /tmp/arguments")

with subtest("what does not run cannot be got into, and what is not there is named"):
    hatchery("burrow into-it")
    contains(hatchery("status into-it"), "burrowed")
    for verb in ("ports", "open"):
        error_of(f"hatchery {verb} into-it", 1, "drone-not-running")
    for verb in ("ssh", "exec"):
        error = error_of(f"hatchery --json {verb} into-it -- true", 1, "drone-not-running")
        assert error["message"] == "into-it is burrowed" and "`hatchery unburrow into/it`" in error["hint"], error
        assert error_of(f"hatchery --json {verb} into-nothing -- true", 3, "drone-not-found")["message"] == (
            "there is no drone named into-nothing"
        )

with subtest("a drone's name is enough for every verb"):
    assert json.loads(server.succeed("hatchery status into-it --json"))["repository"] == "into/it"
    contains(hatchery("unburrow into-it"), "into-it is running.")
    assert by_ssh("pwd") == "/workspaces/it\n"
    by_ssh("curl -sf --unix-socket /run/hatchery/github-creds.sock http://drone/token -o /dev/null")
    contains(hatchery("audit into-it"), "token minted for into/it")
    contains(hatchery("slay into-it"), "into-it is gone", "`hatchery spawn into/it`")
    for verb in ("status", "burrow", "unburrow", "slay"):
        contains(hatchery(f"{verb} into-it", status=3), "there is no drone named into-it [drone-not-found]")

server.succeed("rm -rf /root/.ssh /tmp/bytes /tmp/out /tmp/err /tmp/copies /tmp/drones")
laptop.succeed("rm -f /tmp/drones")
