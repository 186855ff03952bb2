"""What editors do over ssh, each by its own protocol, from the laptop: VS Code Remote-SSH, JetBrains Gateway, Zed, TRAMP."""

import shlex

HOST = f"edit-ors.{DOMAIN}"
DRONE = f"vscode@{HOST}"
PLAIN = "ssh -o StrictHostKeyChecking=yes -o Port=2222"
GIB = 1 << 30

# VS Code's own way to ask a shell for its environment: what start-up files print is around the marks.
PROBE = "echo -n MARK-begin; printenv -0; echo -n MARK-end"


def listens(port: int) -> None:
    """Until something in the drone listens on this port of its loopback."""
    laptop.wait_until_succeeds(f"{PLAIN} {DRONE} 'bash -c \": < /dev/tcp/127.0.0.1/{port}\"'", timeout=20)


def environment(shell: str) -> dict[str, str]:
    """What a shell that is started like this has in its environment, asked as VS Code asks."""
    said = laptop.succeed(
        f"{PLAIN} -T {DRONE} {shlex.quote(f'{shell} -c {shlex.quote(PROBE)}')} 2> /dev/null | tr '\\0' '\\1'"
    )
    asked = said.partition("MARK-begin")[2].partition("MARK-end")[0]
    return dict(entry.split("=", 1) for entry in asked.split("\1") if "=" in entry)


start_and_wait()
publish_devcontainer(
    "edit/ors",
    {"devcontainer.json": {"image": IMAGE, "remoteEnv": {"MARK": "set", "PATH": "/opt/found:${containerEnv:PATH}"}}},
)
hatchery("spawn edit/ors")
laptop_trusts_drones()
laptop.succeed("rm -rf /tmp/ed; mkdir /tmp/ed")

with subtest("VS Code: a script by a shell's input starts a server, which is reached by SOCKS"):
    script = (
        "uname -s; mkdir -p ~/.vscode-server && cd ~/.vscode-server && echo served > it\n"
        "nohup setsid python3 -m http.server --bind 127.0.0.1 41017 > log 2>&1 < /dev/null &\n"
        "until : < /dev/tcp/127.0.0.1/41017; do sleep 0.1; done 2> /dev/null\n"
        "echo listeningOn==41017==; cat > /dev/null\n"
    )
    # The channel stays open for as long as the window does: its shell waits for more.
    laptop.succeed(
        f"cat > /tmp/ed/script <<'END'\n{script}END",
        "mkfifo /tmp/ed/stdin; (sleep 300 > /tmp/ed/stdin & echo $! > /tmp/ed/holds) > /dev/null 2>&1 < /dev/null",
        f"(cat /tmp/ed/script /tmp/ed/stdin | {PLAIN} -T -D 127.0.0.1:41016 {DRONE} bash > /tmp/ed/said 2>&1 &) < /dev/null",
    )
    laptop.wait_until_succeeds("grep -qx 'listeningOn==41017==' /tmp/ed/said", timeout=30)
    assert laptop.succeed("cat /tmp/ed/said").splitlines()[0] == "Linux"
    through = "curl -sf --max-time 20 --socks5-hostname 127.0.0.1:41016 http://127.0.0.1:41017/it"
    assert laptop.succeed(through) == "served\n"
    laptop.succeed("kill $(cat /tmp/ed/holds)")
    laptop.wait_until_fails(
        "curl -s --max-time 5 --socks5-hostname 127.0.0.1:41016 http://127.0.0.1:41017/it", timeout=20
    )
    # A window that is opened again finds its server.
    listens(41017)

with subtest("the environment as editors ask for it: by login and by interactive shells"):
    for shell in ("bash -il", "bash -l", "bash -i", "$SHELL -i -l", "sh"):
        has = environment(shell)
        assert has.get("MARK") == "set" and has["PATH"].split(":").count("/opt/found") == 1, f"{shell}: {has}"

with subtest("JetBrains: what the machine is, an upload by sftp, a backend, ports there and back"):
    machine = laptop.succeed(f"{PLAIN} {DRONE} 'uname -sm; id -u; echo $HOME'").split()
    assert machine[0] == "Linux" and machine[2:] == ["1000", "/home/vscode"], machine
    laptop.succeed(
        "head -c 20M /dev/urandom > /tmp/ed/backend",
        f"sftp -q -o Port=2222 -b - {DRONE} <<< $'-mkdir .cache\\nmkdir .cache/JetBrains\\nput /tmp/ed/backend .cache/JetBrains/dist.part\\n"
        "rename .cache/JetBrains/dist.part .cache/JetBrains/dist\\nchmod 755 .cache/JetBrains/dist\\nls -l .cache/JetBrains'",
        f'test "$({PLAIN} {DRONE} \'sha256sum < .cache/JetBrains/dist\')" = "$(sha256sum < /tmp/ed/backend)"',
        "cd /tmp/ed; echo of-the-laptop > own; (setsid python3 -m http.server --bind 127.0.0.1 41018 > /dev/null 2>&1 &) < /dev/null",
        f"{PLAIN} -f -N -o ExitOnForwardFailure=yes -M -S /tmp/ed/master -L 127.0.0.1:41019:127.0.0.1:41017"
        f" -R 127.0.0.1:41020:127.0.0.1:41018 {DRONE}",
    )
    assert laptop.succeed("curl -sf --max-time 20 http://127.0.0.1:41019/it") == "served\n"
    back = 'exec 3<> /dev/tcp/127.0.0.1/41020; printf "GET /own HTTP/1.0\\r\\n\\r\\n" >&3; cat <&3'
    assert laptop.succeed(f"{PLAIN} {DRONE} bash -c {shlex.quote(shlex.quote(back))}").endswith("of-the-laptop\n")
    # A socket, as of an agent for keys.
    laptop.succeed(
        f"{PLAIN} -f -N -o ExitOnForwardFailure=yes -M -S /tmp/ed/agent -R /tmp/agent.sock:127.0.0.1:41018 {DRONE}",
        f"{PLAIN} {DRONE} test -S /tmp/agent.sock",
    )

with subtest("Zed: one connection for all, a server by scp, and a protocol of bytes over its input and output"):
    shared = f"{PLAIN} -o ControlMaster=no -S /tmp/ed/master"
    assert laptop.succeed(f"{shared} {DRONE} 'sh -c \"uname -sm\"'").startswith("Linux ")
    proxy = (
        "#!/usr/bin/env python3\nimport sys\nwhile head := sys.stdin.buffer.read(4):\n"
        '    sys.stdout.buffer.write(head + sys.stdin.buffer.read(int.from_bytes(head, "little"))[::-1])\n'
        "    sys.stdout.buffer.flush()\n"
    )
    client = (
        "import subprocess, sys, os\n"
        "ssh = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE, stdout=subprocess.PIPE)\n"
        "for size in (1, 255, 4096, 100000, 1 << 20):\n"
        "    sent = os.urandom(size)\n"
        "    ssh.stdin.write(size.to_bytes(4, 'little') + sent); ssh.stdin.flush()\n"
        "    assert ssh.stdout.read(4) == size.to_bytes(4, 'little') and ssh.stdout.read(size) == sent[::-1], size\n"
        "ssh.stdin.close(); sys.exit(ssh.wait())\n"
    )
    laptop.succeed(
        f"cat > /tmp/ed/proxy <<'END'\n{proxy}END",
        f"cat > /tmp/ed/client <<'END'\n{client}END",
        f"{shared} {DRONE} 'mkdir -p ~/.zed_server'",
        f"scp -q -o ControlPath=/tmp/ed/master -o Port=2222 /tmp/ed/proxy {DRONE}:.zed_server/zed",
        f"{shared} {DRONE} chmod +x .zed_server/zed",
        f"python3 /tmp/ed/client {shared} -T {DRONE} .zed_server/zed",
    )

with subtest("TRAMP: a shell at a terminal, tamed by its first lines, and files as base64 through it"):
    # As tramp-sh.el opens a connection: it waits for a prompt before each line.
    dialogue = r"""
import os, pty, re, subprocess, sys, select, time, base64
parent, child = pty.openpty()
ssh = subprocess.Popen(sys.argv[1:], stdin=child, stdout=child, stderr=child, start_new_session=True)
os.close(child)
said = b""
def until(pattern, seconds=20):
    global said
    end = time.monotonic() + seconds
    while not (found := re.search(pattern, said)):
        left = end - time.monotonic()
        if left < 0 or not select.select([parent], [], [], left)[0]:
            raise SystemExit(f"no {pattern!r} in {said!r}")
        said += os.read(parent, 65536)
    before, said = said[:found.start()], said[found.end():]
    return before
def line(text):
    os.write(parent, text.encode() + b"\r")
until(rb"[#$%>] *(\x1b\[[0-9;?]*[a-zA-Z])* *$")
line("exec env TERM=dumb INSIDE_EMACS='29.1,tramp:2.6' ENV='' HISTFILE=~/.tramp_history PROMPT_COMMAND='' PS1=\\#\\$\\  PS2='' PS3='' /bin/sh -i")
until(rb"#\$ ?$")
line("stty -inlcr -onlcr -echo kill '^U' erase '^H'; PS1='///end#'$$'$'; PS2=''; echo at-it")
until(rb"at-it")
prompt = rb"///end#\d+\$"
until(prompt)
content = os.urandom(3000)
text = base64.b64encode(content).decode()
line("base64 -d > /tmp/tramp <<'EOF'\n" + "\n".join(text[at:at + 76] for at in range(0, len(text), 76)) + "\nEOF")
until(prompt)
line("base64 < /tmp/tramp; echo tramp_exit_status $?")
answer = until(rb"tramp_exit_status 0")
assert base64.b64decode(answer) == content, answer
line("exit")
assert ssh.wait(20) == 0
"""
    laptop.succeed(
        f"cat > /tmp/ed/dialogue <<'END'\n{dialogue}END",
        f"python3 /tmp/ed/dialogue {PLAIN} -q -e none {DRONE}",
    )

with subtest("1 GiB in, and 1 GiB out, byte for byte"):
    # Not zeros alone, and nothing of it has to be stored.
    stream = f"openssl enc -aes-128-ctr -nosalt -K {'0' * 32} -iv {'0' * 32} -in /dev/zero 2> /dev/null | head -c {GIB}"
    digest = laptop.succeed(f"({stream} || true) | sha256sum")
    assert laptop.succeed(f"({stream} || true) | {PLAIN} {DRONE} sha256sum", timeout=300) == digest
    server.succeed("docker exec -i edit-ors sh -c 'command -v openssl > /dev/null'")
    assert laptop.succeed(f"{PLAIN} {DRONE} {shlex.quote(stream)} | sha256sum", timeout=300) == digest

laptop.succeed(*(f"ssh -O exit -S /tmp/ed/{socket} {DRONE}" for socket in ("master", "agent")))
hatchery("slay --force edit/ors")
