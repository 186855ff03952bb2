"""From the server into a drone: by ssh."""

import json

# What a person on the server has: the key that drones let in, and a configuration for everything else.
PERSON = "Host *\n User nobody\n StrictHostKeyChecking no\n ProxyJump elsewhere\n ForwardAgent yes\n"


def by_ssh(command: str, status: int = 0) -> str:
    """All that `hatchery ssh` says of this, as a shell has it."""
    ended, said = server.execute(f"hatchery ssh into-it -- {command} 2>&1 < /dev/null")
    assert ended == status, f"{command}: status {ended}, not {status}: {said}"
    return said


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

with subtest("ssh: a session begins in the workspace, and its shell reads what is typed"):
    assert server.succeed("printf 'pwd\\necho $MARK\\nexit 3\\n' | hatchery ssh into-it || echo $?") == (
        "/workspaces/it\nset-here\n3\n"
    )
    at_a_terminal = "script -qec 'stty rows 33 cols 77; hatchery ssh into-it' /dev/null"
    said = server.succeed(f"printf 'tty; stty size; pwd; exit\\n' | {at_a_terminal} 2>&1")
    contains(said, "/dev/pts/", "33 77", "/workspaces/it")

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

with subtest("what does not run cannot be got into, and what is not there is named"):
    hatchery("burrow into-it")
    contains(hatchery("status into-it"), "burrowed")
    for verb in ("ssh",):
        error = error_of(f"hatchery {verb} into-it --json -- true", 1, "drone-not-running")
        assert error["message"] == "into-it is burrowed" and "`hatchery unburrow into/it`" in error["hint"], error
        assert error_of(f"hatchery {verb} into-nothing --json -- true", 3, "drone-not-found")["message"] == (
            "no drone is named into-nothing"
        )

with subtest("a drone's name is enough for every verb"):
    assert json.loads(server.succeed("hatchery status into-it --json"))["repository"] == "into/it"
    contains(hatchery("unburrow into-it"), "into-it is awake.")
    assert by_ssh("pwd") == "/workspaces/it\n"
    by_ssh("curl -sf --unix-socket /run/hatchery/github-creds.sock http://drone/token -o /dev/null")
    contains(hatchery("audit into-it"), "token minted for into/it")
    contains(hatchery("slay into-it"), "into-it is gone", "`hatchery spawn into/it`")
    for verb in ("status", "burrow", "unburrow", "slay"):
        contains(hatchery(f"{verb} into-it", status=3), "no drone is named into-it [drone-not-found]")

server.succeed("rm -rf /root/.ssh /tmp/bytes")
