"""README and book: every block of theirs is typed as it is printed, and what one shows of an answer is compared.

A block is either run here or named in NOT_HERE with the reason. A new one that is neither fails.
"""

import json
import re
import shlex
import textwrap

# One within a list stands as far in as the list's text.
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
HOME = "/home/overlord"
# Page -> its blocks that nothing has asked for yet: language and text.
LEFT = {
    page: [(language, textwrap.dedent(text) if far_in else text) for far_in, language, text in FENCE.findall(shown)]
    for page, shown in BOOK.items()
}
BUILT = "Hatchery is installed here already; `tests/readme` follows these on a bare server"
NIX = "there is no Nix here; `tests/nix` reads these"
OTHERS = "not a command of a shell"
# Page, what the block begins with -> why it is not run.
NOT_HERE = {
    ("README.md", "services.hatchery"): NIX,
    ("README.md", "sudo npm install"): BUILT,
    ("README.md", "make demo"): "this is `make test`, and `make demo` stands beside it",
    ("docs/CONTRIBUTING.md", "make check"): "this is `make test`",
    ("docs/CONTRIBUTING.md", "tests/world/world"): "they are of the world, not of a machine in it",
    ("docs/devcontainers.md", "- run:"): "a workflow of GitHub's",
    ("docs/editors.md", "/ssh:vscode"): "paths in Emacs; the scenario editors does what TRAMP does",
    ("docs/getting-started.md", "sudo apt install"): BUILT,
    ("docs/getting-started.md", "rustup default"): BUILT,
    ("docs/getting-started.md", "sudo npm install"): BUILT,
    ("docs/getting-started.md", "sudo make install"): BUILT,
    ("docs/github-app.md", " ! [remote rejected]"): OTHERS,
    ("docs/nixos.md", "{"): NIX,
    ("docs/nixos.md", "# configuration.nix"): NIX,
    ("docs/nixos.md", "sudo nixos-rebuild"): NIX,
    ("docs/nixos.md", "services.hatchery"): NIX,
    ("docs/nixos.md", "systemd.packages"): NIX,
    ("docs/operations.md", "cd hatchery && git pull"): BUILT,
}
SITE = {
    "README.md": "# Site\n",
    "dist/index.html": "<p>built</p>\n",
    ".devcontainer/devcontainer.json": {"image": IMAGE, "features": FEATURES},
    ".devcontainer/backend/devcontainer.json": {
        "image": IMAGE,
        "features": FEATURES,
        "containerEnv": {"PART": "backend"},
    },
}
# Says that it was started, and with what.
STAND_IN = '#!/bin/sh\necho $(basename $0): "$@"\n'
OURS = ("acme/site", "acme/theme", "microsoft/vscode-remote-try-node")


def block(page: str, begins: str) -> str:
    """The block of this page that begins so, with the names of the machines here."""
    for language, text in LEFT[page]:
        if text.startswith(begins):
            LEFT[page].remove((language, text))
            return (
                str(text).replace("tail.example.org", DOMAIN).replace("headscale.example.org", "headscale.example.test")
            )
    raise AssertionError(f"no block of {page} is left that begins with {begins!r}")


def lines(page: str, begins: str) -> list[str]:
    """The commands of a block, a line each."""
    return [line for line in block(page, begins).splitlines() if line.strip() and not line.startswith("#")]


def typed(commands: str, machine: Machine = server, within: int = 300) -> str:
    """All that these commands say where they are typed: by a member of the group on the server, by root elsewhere."""
    person = f"{MEMBER} " if machine is server else ""
    home = HOME if machine is server else "/root"
    script = f"cd {home}\n{commands}"
    ended, said = machine.execute(
        f"{person}bash -euo pipefail -c {shlex.quote(script)} 2>&1 < /dev/null", timeout=within
    )
    assert ended == 0, f"status {ended} of {commands}: {said}"
    return said


def as_root(commands: str) -> str:
    return server.succeed(f"cd {HOME}; {commands}")


TOKEN = "curl -sS --unix-socket /var/run/github-creds.sock http://localhost/token"


def slain() -> None:
    hatchery("slay --force --no-remains acme/site")


def program(path: str) -> str:
    """Puts the program that stands in for another at this path."""
    return f"base64 -d > {path} <<< {encoded(STAND_IN)}; chmod +x {path}"


def in_the_drone(script: str) -> None:
    server.succeed(f"docker exec --user root acme-site bash -c {shlex.quote(script)}")


start_and_wait()
stop_recovery()
for name in OURS:
    internet.succeed(f"rm -rf /root/{name}; mkdir -p /root/{name}; mv /srv/github/git/{name}.git /root/{name} || true")
publish("acme/site", SITE)
publish("acme/theme", {"README.md": "# Theme\n"})
key = laptop.succeed("cat /root/.ssh/id_ed25519")
public = laptop.succeed("cat /root/.ssh/id_ed25519.pub").strip()
server.succeed(
    f"rm -rf {HOME}/.ssh /root/.ssh; install -d -m 700 -o overlord {HOME}/.ssh; install -d -m 700 /root/.ssh",
    f"install -m 600 -o overlord /dev/stdin {HOME}/.ssh/id_ed25519 <<'END'\n{key}END",
    f"echo {public!r} | tee {HOME}/.ssh/authorized_keys > /root/.ssh/authorized_keys",
    f"install -m 600 /dev/stdin /root/.ssh/id_ed25519 <<'END'\n{key}END",
    f"git -C {HOME} init -q -b main; mkdir -p {HOME}/.devcontainer; echo SECRET=1 > {HOME}/.env",
    f'echo \'{{"image": "debian"}}\' > {HOME}/.devcontainer/devcontainer.json',
    "install -d -o overlord /srv/www",
)
for machine in (server, tailnet):
    # Whoever types is root here already.
    machine.succeed(
        "command -v sudo || { printf '#!/bin/sh\\nexec \"$@\"\\n' > /usr/local/bin/sudo; chmod +x /usr/local/bin/sudo; }"
    )
control = server.succeed("getent ahostsv4 headscale.example.test").split()[0]
address = server.succeed(f"ip -4 -json route get {control} | jq -r '.[0].prefsrc'").strip()
laptop.succeed(
    "rm -f /root/.ssh/known_hosts /root/.ssh/drones",
    f"printf 'Host server\\n HostName {address}\\n User overlord\\n StrictHostKeyChecking no\\n' > /root/.ssh/config",
    *(program(f"/usr/local/bin/{name}") for name in ("open", "nvim")),
)

with subtest("Each configuration that is shown holds"):
    server.succeed("install -d -m 755 /tmp/book")
    count = 0
    for page, texts in LEFT.items():
        for text in [text for language, text in texts if language == "toml"]:
            server.succeed(f"base64 -d > /tmp/book/config.toml <<< {encoded(block(page, text))}")
            hatchery("--config /tmp/book/config.toml config --check")
            count += 1
    assert count > 10, count
    # A file of variables can be read as one.
    variables = block("docs/agents.md", "# /etc/hatchery/agents.env")
    server.succeed(f"base64 -d > /tmp/book/agents.env <<< {encoded(variables)}")
    server.succeed("echo '[devcontainer]\nenv_file = \"/tmp/book/agents.env\"' > /tmp/book/config.toml")
    hatchery("--config /tmp/book/config.toml config --check --secrets")

with subtest("Getting started: the first drone, without any configuration"):
    named = "mcr.microsoft.com/devcontainers/javascript-node:1-18-bullseye"
    publish(
        "microsoft/vscode-remote-try-node",
        {".devcontainer/devcontainer.json": {"image": named, "postCreateCommand": "true"}},
    )
    label = json.dumps([{"remoteUser": "node"}])
    server.succeed(
        f"docker build -q -t {named} - <<'END'\nFROM {IMAGE}\nRUN usermod -l node vscode\nLABEL devcontainer.metadata={label!r}\nEND",
        f"docker push -q {named}; docker rmi {named}",
        "true > /tmp/book/empty.toml",
    )
    page = "docs/getting-started.md"
    session = block(page, "$ hatchery spawn")
    command, shown = session.removeprefix("$ ").split("\n", 1)
    with_nothing = "export HATCHERY_CONFIG=/tmp/book/empty.toml; "
    said = as_root(f"{with_nothing}{command} 2>&1")
    expected = (
        re.escape(shown)
        .replace("21383", "[0-9]+")
        .replace("AAAAC3NzaC1lZDI1NTE5AAAAI…", "AAAAC3NzaC1lZDI1NTE5AAAAI[^ ]+")
    )
    assert re.fullmatch(expected, said), f"shown:\n{shown}\nsaid:\n{said}"
    line = next(it for it in said.splitlines() if it.startswith("ssh -p"))
    known = said.splitlines()[-1]
    as_root(f"echo {known!r} > /root/.ssh/known_hosts; {line} true")
    said = as_root(f"{with_nothing}echo pwd | {block(page, 'hatchery ssh')}")
    contains(said, "/workspaces/vscode-remote-try-node")
    as_root(f"{with_nothing}hatchery slay --force --no-remains microsoft/vscode-remote-try-node")
    typed(block(page, "hatchery config --check"))

with subtest("Headscale: users, keys and policy"):
    page = "docs/headscale.md"
    created, api_key = lines(page, "headscale users create")
    user = "headscale users list --name {} --output json | jq '.[0].id'"
    own = tailnet.succeed(user.format("devcontainer")).strip()
    tailnet.succeed(f"headscale users rename --identifier {own} --new-name parked", created)
    new = tailnet.succeed(user.format("devcontainer")).strip()
    tailnet.succeed(
        f"headscale users destroy --force --identifier {new}",
        f"headscale users rename --identifier {own} --new-name devcontainer",
    )
    given = tailnet.succeed(api_key).strip()
    server.succeed("cp -a /etc/hatchery /root/etc-hatchery")
    as_root(f"echo {given} | {block(page, 'sudo install')}")
    assert server.succeed("stat -c %U:%G:%a /etc/hatchery/headscale-api-key") == "root:hatchery:640\n"
    server.succeed(
        "sed -i 's|^api_key_file.*|api_key_file = \"/etc/hatchery/headscale-api-key\"|' /etc/hatchery/config.toml"
    )
    tailnet.succeed(block(page, "headscale preauthkeys create"))
    policy = block(page, '{\n  "groups"')
    tailnet.succeed(f"base64 -d > /etc/headscale/policy.json <<< {encoded(policy)}")
    for begins in ("policy:", "tuning:"):
        setting = block(page, begins)
        tailnet.succeed(
            f"(grep -v ^{begins} /etc/headscale/config.yaml; base64 -d <<< {encoded(setting)}) > /tmp/headscale.yaml",
            "headscale configtest --config /tmp/headscale.yaml",
        )
    check, reload = lines(page, "headscale policy check")
    tailnet.succeed(check, reload)
    typed(block(page, "hatchery ca"))

with subtest("Every day: spawn"):
    page = "docs/every-day.md"
    plain, backend, submodules, detached, follow = lines(page, "hatchery spawn acme/site")
    for command in (plain, backend, submodules):
        contains(typed(command), "Spawning drone... Hatchery ready.")
        part = server.succeed("hatchery exec acme-site -- sh -c 'echo $PART'").strip()
        assert part == ("backend" if command == backend else ""), (command, part)
        slain()
    typed(detached)
    contains(typed(follow), "Hatchery ready.")

with subtest("Every day: log in, run, copy"):
    session, make, forward, run, into, out, follow = lines(page, "hatchery ssh acme/site")
    assert "/workspaces/site" in typed(f"echo pwd | {session}")
    in_the_drone(program("/usr/local/bin/make"))
    contains(typed(make), "make: test\n")
    in_the_drone("cd /workspaces/site/dist; nohup python3 -m http.server 3000 > /dev/null 2>&1 &")
    served = "until curl -sf http://localhost:3000; do :; done; pkill -P $there || kill $there"
    contains(typed(f"(\n{forward}\n) & there=$!; {served}", within=30), "<p>built</p>")
    contains(typed(run), "README.md")
    typed(into)
    contains(typed("hatchery exec acme/site -- cat .env"), "SECRET=1")
    typed(out)
    contains(server.succeed("cat /srv/www/dist/index.html"), "<p>built</p>")
    # It ends when it is stopped, or with the drone.
    typed(f"timeout 2 bash -c {shlex.quote(follow)} || [ $? = 124 ]")

with subtest("Editors: what they open, and what one's own machine needs"):
    page = "docs/editors.md"
    shown = block(page, "$ hatchery open acme-site")
    command, links = shown.removeprefix("$ ").split("\n", 1)
    assert typed(command) == links, typed(command)
    contains(typed(block(page, "open "), laptop), f"open: zed://ssh/vscode@acme-site.{DOMAIN}:2222/workspaces/site")
    # The first connection, after which ssh writes all that it has learnt into known_hosts.
    laptop.succeed("rm -f /root/.ssh/known_hosts")
    typed(block(page, 'echo "$(ssh server hatchery ca)"'), laptop)
    laptop.succeed("sed -i '1i Include drones' /root/.ssh/config")
    assert typed("ssh acme-site id -un", laptop) == "vscode\n"
    in_the_drone(program("/usr/local/bin/nvim"))
    login, rest = lines(page, "ssh acme-site\n")
    contains(typed(f"{login} {shlex.quote(rest)}", laptop), "nvim:")
    served, connected = lines(page, "ssh acme-site -L")
    contains(typed(served, laptop), "nvim: --headless --listen 127.0.0.1:6666")
    contains(typed(connected, laptop), "nvim: --server 127.0.0.1:6666 --remote-ui")

with subtest("A policy that tests itself fails where a drone would reach a machine"):
    tests = block("docs/headscale.md", '"tests"')
    whole = f"{policy.rstrip().removesuffix('}')},\n{tests}}}"
    open_to_all = whole.replace('"src": ["group:people"]', '"src": ["*"]')
    for text, good in ((whole, True), (open_to_all, False)):
        tailnet.succeed(f"base64 -d > /etc/headscale/policy.json <<< {encoded(text)}")
        ended, said = tailnet.execute(f"{check} 2>&1")
        assert (ended == 0) == good, said
    tailnet.succeed("rm /etc/headscale/policy.json")

with subtest("Agents"):
    page = "docs/agents.md"
    in_the_drone(program("/usr/local/bin/claude") + "; echo done > /workspaces/site/report.md")
    session, claude, report = lines(page, "hatchery ssh acme/site  ")
    contains(typed(f"echo claude | {session}"), "claude:")
    contains(typed(claude), "claude: -p Fix the tests")
    typed(report)
    assert server.succeed(f"cat {HOME}/report.md") == "done\n"
    typed(block(page, "hatchery ssh acme/site -- git worktree"))
    contains(server.succeed("hatchery exec acme-site -- ls /workspaces"), "site-api", "site-docs")

with subtest("Limits, the tokens that were given, a backup"):
    larger, reset = lines("docs/limits.md", "hatchery limit")
    if int(server.succeed("nproc")) >= 2:
        contains(typed(larger), "12.0 GiB, set for this drone")
    typed(reset)
    assert in_drone("acme-site", TOKEN).startswith("ghs_")
    contains(typed(block("docs/github-app.md", "hatchery audit")), "acme/site")
    server.succeed(f"docker tag {IMAGE} debian:13")
    typed(block("docs/operations.md", "hatchery burrow"))
    contains(server.succeed(f"tar -tf {HOME}/acme-site.tar"), "site/README.md")
    server.succeed("docker rmi debian:13")
    slain()

with subtest("Narrowed drones"):
    for page, begins in (
        ("docs/agents.md", "hatchery spawn acme/site"),
        ("docs/github-app.md", "hatchery spawn acme/site"),
    ):
        command = block(page, begins)
        contains(typed(command), "Hatchery ready.")
        told = json.loads(server.succeed("hatchery status acme/site --json"))
        permissions = dict(re.findall(r"--permission (\w+)=(\w+)", command))
        repositories = ["acme/site", *re.findall(r"--repo (\S+)", command)]
        assert told["permissions"] == permissions, told
        assert told["scope"] == {"repositories": repositories, "permissions": permissions}, told
        slain()

with subtest("Check, doctor, the App's key as an encrypted credential"):
    directory, repository, sarif = lines("docs/devcontainers.md", "hatchery check")
    for command in (directory, repository):
        contains(typed(command), "passes")
    typed(sarif)
    assert json.loads(server.succeed(f"cat {HOME}/hatchery.sarif"))["version"] == "2.1.0"
    typed(f"{block('docs/operations.md', 'hatchery doctor').strip()} || [ $? = 1 ]")
    page = "docs/github-app.md"
    as_root("cp /etc/hatchery/app-key.pem app.private-key.pem")
    as_root(block(page, "sudo install -D"))
    assert server.succeed("stat -c %U:%G:%a /etc/hatchery/app-key.pem") == "root:root:600\n"
    encrypt, edit = lines(page, "sudo systemd-creds")
    drop_in = block(page, "[Service]")
    server.succeed(f"cp /etc/hatchery/app-key.pem {HOME}/app-key.pem")
    # What a person types into the editor, between systemd's two comments.
    types = "#!/bin/bash\nsed -i '/^### Anything between/r /tmp/book/drop-in' \"${@: -1}\"\n"
    server.succeed(
        f"base64 -d > /tmp/book/drop-in <<< {encoded(drop_in)}",
        f"base64 -d > /usr/local/bin/editor <<< {encoded(types)}; chmod +x /usr/local/bin/editor",
    )
    as_root(encrypt)
    as_root(f"script -qec {shlex.quote(edit)} /dev/null")
    contains(server.succeed("systemctl cat hatchery-credd@.service"), drop_in)
    server.succeed("mv /etc/hatchery/app-key.pem /root/app-key.pem")
    hatchery("spawn acme/site")
    assert in_drone("acme-site", TOKEN).startswith("ghs_")
    slain()
    server.succeed(
        "mv /root/app-key.pem /etc/hatchery/app-key.pem",
        "rm /usr/local/bin/editor; systemctl revert hatchery-credd@.service",
        "systemctl daemon-reload",
    )

for (page, begins), why in NOT_HERE.items():
    block(page, begins)
    print(f"not run: {page}, {begins}: {why}")
left = {page: texts for page, texts in LEFT.items() if texts}
assert not left, f"neither run nor named: {left}"

server.succeed(
    "rm -rf /etc/hatchery; mv /root/etc-hatchery /etc/hatchery",
    f"cd {HOME}; rm -rf .git .devcontainer .env .ssh hatchery.sarif report.md acme-site.tar app-key.pem",
    f"rm -rf /root/.ssh /srv/www /tmp/book; docker rmi {named}",
)
for machine in (server, tailnet):
    machine.succeed("rm -f /usr/local/bin/sudo")
tailnet.succeed(
    f"headscale apikeys expire --prefix {given.split('.')[0]}; rm /tmp/headscale.yaml",
)
laptop.succeed(
    "rm -f /root/.ssh/config /root/.ssh/drones /root/.ssh/known_hosts /usr/local/bin/open /usr/local/bin/nvim"
)
for name in OURS:
    internet.succeed(
        f"rm -rf /srv/github/git/{name}.git; mv /root/{name}/*.git /srv/github/git/{name}.git || true; rm -rf /root/{name}"
    )
