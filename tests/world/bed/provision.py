"""What machines that have just booted for the first time need: users, keys, configuration."""

import json
from concurrent.futures import ThreadPoolExecutor

from bed import docker
from bed.process import run, say, wait_until
from bed.settings import (
    APP_ID,
    BASE_IMAGE,
    BUILDKIT_IMAGE,
    INTERNET,
    LAPTOP,
    LOGIN_HOST,
    LOGIN_SERVER,
    SERVER,
    STATE,
    TAIL_DOMAIN,
    TAILNET,
    MachineSpec,
)

_SECRETS = "/etc/hatchery/secrets"
_APP_KEY = "/etc/hatchery/app-key.pem"
_CONFIG = f"""\
[github]
app_id = "{APP_ID}"
api_url = "https://api.github.com"
private_key_file = "{_APP_KEY}"
ca_file = "/usr/local/share/ca-certificates/hatchery-world.crt"

[tailnet]
login_server = "{LOGIN_SERVER}"
domain = "{TAIL_DOMAIN}"
user = "devcontainer"
auth_key_file = "{_SECRETS}/tailnet-auth-key"
api_key_file = "{_SECRETS}/headscale-api-key"

[ssh]
authorized_keys = [%s]
"""


def everything() -> None:
    _await_services()
    with ThreadPoolExecutor() as pool:
        work = [
            pool.submit(_pull_images),
            pool.submit(_introduce),
            pool.submit(_register_app),
        ]
        for done in work:
            done.result()


def _await_services() -> None:
    _await(
        INTERNET,
        "the registry answers over TLS",
        "curl -sf https://ghcr.io/v2/ --resolve ghcr.io:443:127.0.0.1",
    )
    _await(INTERNET, "GitHub answers", "curl -sf https://api.github.com/ --resolve api.github.com:443:127.0.0.1")
    _await(TAILNET, "Headscale answers", f"curl -sf {LOGIN_SERVER}/health --resolve {LOGIN_HOST}:443:127.0.0.1")
    _await(SERVER, "the server's dockerd answers", "docker version")
    _await(SERVER, "the server resolves github.com", "curl -sf https://api.github.com/")


def _await(machine: MachineSpec, condition: str, script: str) -> None:
    wait_until(f"{condition} (in {machine.container})", 60, [*docker.entering(machine), "bash", "-c", script])


def _pull_images() -> None:
    for image in (BASE_IMAGE, BUILDKIT_IMAGE):
        say(f"the server pulls {image}")
        docker.inside(SERVER, f"docker pull --quiet {image}")


def _introduce() -> None:
    """Tell the machines of each other: keys of the tailnet, and the person's ssh key."""
    users = {name: _tailnet_user(name) for name in ("levin", "devcontainer")}
    public_key = _laptop_key()
    docker.write(INTERNET, "/srv/github/keys/levin", public_key)
    docker.inside(SERVER, f"install -d -m 2750 -g hatchery {_SECRETS}")
    docker.write(
        SERVER,
        f"{_SECRETS}/tailnet-auth-key",
        _auth_key(users["devcontainer"], "--reusable --ephemeral --expiration 720h"),
        "0640",
    )
    docker.write(SERVER, f"{_SECRETS}/headscale-api-key", _headscale("apikeys create --expiration 720h"), "0640")
    docker.write(SERVER, "/etc/hatchery/config.toml", _CONFIG % json.dumps(public_key.strip()))
    _join(LAPTOP, _auth_key(users["levin"], "--expiration 1h"))


def _register_app() -> None:
    """A GitHub App: GitHub has the public half of its key, the server the private one as GitHub gives it."""
    key = STATE / "app-key.pem"
    if not key.exists():
        run("openssl", "genrsa", "-traditional", "-out", key, "2048")
    docker.write(SERVER, _APP_KEY, key.read_bytes(), "0600")
    docker.write(INTERNET, f"/srv/github/apps/{APP_ID}.pem", run("openssl", "rsa", "-in", key, "-pubout"))


def _headscale(arguments: str) -> str:
    return docker.inside(TAILNET, f"headscale {arguments}")


def _tailnet_user(name: str) -> int:
    _headscale(f"users create {name}")
    users: list[dict[str, object]] = json.loads(_headscale(f"users list --name {name} --output json"))
    return int(str(users[0]["id"]))


def _auth_key(user: int, options: str) -> str:
    shown = json.loads(_headscale(f"preauthkeys create --user {user} {options} --output json"))
    return str(shown["key"]) + "\n"


def _laptop_key() -> str:
    script = "test -e ~/.ssh/id_ed25519 || ssh-keygen -q -t ed25519 -N '' -C levin@laptop -f ~/.ssh/id_ed25519; cat ~/.ssh/id_ed25519.pub"
    return docker.inside(LAPTOP, f"install -d -m 700 ~/.ssh; {script}")


def _join(machine: MachineSpec, auth_key: str) -> None:
    say(f"{machine.name} joins the tailnet")
    _await(machine, "tailscaled answers", "tailscale status --json")
    docker.write(machine, "/run/auth-key", auth_key, "0600")
    docker.inside(
        machine,
        f"tailscale up --login-server={LOGIN_SERVER} --auth-key=file:/run/auth-key --hostname={machine.name} "
        "--accept-dns=true --timeout=30s; rm /run/auth-key",
    )
