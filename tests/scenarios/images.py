"""Images without apt, with an old sshd, without a shell, and users of all kinds: each is a drone that a person can log
in to, or it is said why not. Private images are for the repositories that the configuration names."""

import json
from typing import Any

REGISTRY = "ghcr.io/acme"
# What images of other distributions have in place of apt, as far as a build asks for it: what it installs was laid
# aside. Its sshd_config has no `Include`, as Alpine's before 3.20.
APK = r"""#!/bin/sh
test "$1 $2" = "add --no-cache" || exit 1
shift 2
for package; do
    case $package in
        openssh) mv /store/sshd /usr/sbin/sshd; printf 'Port 22\nSubsystem sftp internal-sftp\n' > /etc/ssh/sshd_config ;;
        bash) mv /store/bash /usr/bin/bash ;;
        *) exit 1 ;;
    esac
done
"""
DNF = r"""#!/bin/sh
test "$*" = "install -y openssh-server openssh-clients" || exit 1
mv /store/sshd /usr/sbin/sshd
printf 'Include /etc/ssh/sshd_config.d/*.conf\nUsePAM yes\n' > /etc/ssh/sshd_config
"""
WITHOUT_APT = f"""FROM {IMAGE}
RUN mkdir /store && mv /usr/sbin/sshd /store/sshd && rm -rf /etc/ssh/* /etc/init.d/ssh /usr/bin/apt* /usr/bin/dpkg*
"""
# Does not start where it meets an `Include`, as all before 8.2.
OLD_SSHD = r"""#!/bin/sh
if grep -qi '^include' /etc/ssh/sshd_config; then
    echo '/etc/ssh/sshd_config: Bad configuration option: Include' >&2
    exit 255
fi
exec /usr/sbin/sshd-of-old "$@"
"""
# A registry that wants a password, which holds what ghcr.io does.
PRIVATE = "registry.example.test"
PASSWORD = "hunter2>>>???~~~"
NGINX = f"""server {{
    listen 443 ssl;
    server_name {PRIVATE};
    ssl_certificate /etc/world/private/tls.crt;
    ssl_certificate_key /etc/world/private/tls.key;
    auth_basic registry;
    auth_basic_user_file /etc/world/private/htpasswd;
    location / {{ proxy_pass http://127.0.0.1:5000; }}
}}
"""
CONFIG = "/root/registries.toml"
# Where a process, file or log has the password, as it is or as it goes over a wire.
WATCH = r"""
while :; do
    for process in /proc/[0-9]*; do
        if cat $process/cmdline $process/environ 2> /dev/null | tr '\0' '\n' | grep -aqF -f /root/secrets; then
            tr '\0' ' ' < $process/cmdline >> /root/seen
        fi
    done
    for container in $(docker ps -aq --no-trunc); do
        docker inspect $container 2> /dev/null | grep -qF -f /root/secrets && docker inspect $container >> /root/seen
    done
    sleep 0.2
done
"""


def program(path: str, text: str) -> str:
    """Instructions that put a program into an image."""
    return f"RUN echo {encoded(text)} | base64 -d > {path} && chmod 755 {path}\n"


def image(name: str, dockerfile: str) -> str:
    """An image at ghcr.io; its name there."""
    reference = f"{REGISTRY}/{name}:1"
    server.succeed(f"docker build -q -t {reference} - <<'END'\n{dockerfile}\nEND", f"docker push -q {reference}")
    server.succeed(f"docker rmi {reference}")
    return reference


def spawned(name: str, configuration: dict[str, object], files: dict[str, object] | None = None) -> Any:
    """What spawn tells of acme/NAME, which has this devcontainer.json."""
    publish_devcontainer(f"acme/{name}", {"devcontainer.json": configuration, **(files or {})})
    return json.loads(server.succeed(f"hatchery spawn acme/{name} --json"))


def refused(name: str, code: str, configuration: dict[str, object], *parts: str, dockerfile: str = "") -> None:
    """It fails in this way, says these words, and leaves nothing behind."""
    files = {"Dockerfile": dockerfile} if dockerfile else {}
    publish_devcontainer(f"acme/{name}", {"devcontainer.json": configuration, **files})
    error = error_of(f"hatchery spawn acme/{name}", 1, code)
    contains(error["message"] + " -> " + error["hint"], *parts)
    assert f"acme/{name}" not in drones()


def slain(*names: str) -> None:
    for name in names:
        hatchery(f"slay --force acme/{name}")


def registry_opens() -> None:
    """registry.example.test is there, and the server trusts its certificate."""
    address = server.succeed("getent ahostsv4 ghcr.io").split()[0]
    internet.succeed(
        "mkdir -p /etc/world/private; cd /etc/world/private; "
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout tls.key -out tls.crt -days 30 "
        f"-subj /CN={PRIVATE} -addext subjectAltName=DNS:{PRIVATE} 2> /dev/null; "
        f'echo "dev:$(echo {encoded(PASSWORD)} | base64 -d | openssl passwd -apr1 -stdin)" > htpasswd',
        f"echo {encoded(NGINX)} | base64 -d > /etc/nginx/conf.d/private.conf; nginx -t; systemctl reload nginx",
        f"echo host-record={PRIVATE},{address} > /etc/dnsmasq.d/private.conf; systemctl restart dnsmasq",
    )
    certificate = encoded(internet.succeed("cat /etc/world/private/tls.crt"))
    server.succeed(
        f"mkdir -p /etc/docker/certs.d/{PRIVATE}",
        f"echo {certificate} | base64 -d | tee /usr/local/share/ca-certificates/private.crt "
        f"> /etc/docker/certs.d/{PRIVATE}/ca.crt; update-ca-certificates 2> /dev/null",
    )
    server.wait_until_succeeds(f"curl -s -o /dev/null -w '%{{http_code}}' https://{PRIVATE}/v2/ | grep -x 401", 30)


def registry_closes() -> None:
    """Nothing of it is left for other scenarios."""
    internet.succeed(
        "rm -rf /etc/world/private /etc/nginx/conf.d/private.conf /etc/dnsmasq.d/private.conf",
        "systemctl reload nginx; systemctl restart dnsmasq",
    )
    server.succeed(
        "rm -rf /usr/local/share/ca-certificates/private.crt /etc/docker/certs.d /root/.docker/config.json "
        f"/root/secrets /root/password /root/wrong /root/watch {CONFIG}; update-ca-certificates --fresh > /dev/null 2>&1",
        f"docker images -q '{PRIVATE}/*/*' | xargs -r docker rmi -f",
    )


def registries(*lines: str) -> None:
    """The configuration has this entry for the registry."""
    table = "\n".join([f'[registries."{PRIVATE}/acme"]', *lines])
    server.succeed(f"(cat /etc/hatchery/config.toml; echo {encoded(table)} | base64 -d) > {CONFIG}")


def spawning(name: str, devcontainer: dict[str, object], dockerfile: str = "", trust: str = "") -> str:
    """The command that spawns acme/NAME, which has this devcontainer.json, with that configuration."""
    repository = f"acme/{name}"
    files = {"Dockerfile": dockerfile} if dockerfile else {}
    publish_devcontainer(repository, {"devcontainer.json": devcontainer, **files})
    return f"hatchery --config {CONFIG} spawn {repository} {trust}"


def is_there() -> bool:
    """Docker has the private image."""
    return server.execute(f"docker image inspect {private}")[0] == 0


start_and_wait()
laptop_trusts_drones()

with subtest("an image with apk: hatchery installs sshd, and what the tailscale feature takes for given"):
    # Without PAM, as there, sshd lets no user in whose account is locked, and `useradd` has locked this one.
    bare = f"{WITHOUT_APT}RUN mv /usr/bin/bash /store/bash\n{program('/usr/sbin/apk', APK)}"
    told = spawned("apk", {"image": image("apk", bare)})
    assert told["user"] == "vscode", told
    assert on("acme-apk", "id -un; git -C /workspaces/apk status --porcelain --ignored") == "vscode\n"
    listening = on(
        "acme-apk", "ss -Hltn 'sport = :22 or sport = :2222' | awk '{ print $4 }' | grep -o '[0-9]*$'", "root"
    )
    assert set(listening.split()) == {"2222"}, listening
    contains(on("acme-apk", "sshd -T", "root"), "passwordauthentication no\n", "gatewayports no\n")
    hatchery("burrow acme/apk")
    hatchery("unburrow acme/apk")
    assert in_drone("acme-apk", "id -un") == "vscode\n"
    assert on("acme-apk", "grep -c 'settings begin' /etc/ssh/sshd_config") == "1\n"
    slain("apk")

with subtest("an image with dnf, for a repository that asks for the feature itself, with an option"):
    feature = {"ghcr.io/devcontainers/features/sshd:1": {"gatewayPorts": "yes"}}
    spawned("dnf", {"image": image("dnf", f"{WITHOUT_APT}{program('/usr/bin/dnf', DNF)}"), "features": feature})
    contains(on("acme-dnf", "sshd -T", "root"), "passwordauthentication no\n", "gatewayports yes\n", "port 2222\n")
    slain("dnf")

with subtest("an OpenSSH that knows no Include"):
    old = f"FROM {IMAGE}\nRUN mv /usr/sbin/sshd /usr/sbin/sshd-of-old && sed -i /^Include/d /etc/ssh/sshd_config\n"
    spawned("old", {"image": image("old", old + program("/usr/sbin/sshd", OLD_SSHD))})
    contains(on("acme-old", "sshd -T", "root"), "passwordauthentication no\n")
    slain("old")

with subtest("an image in which nothing can be installed, and one without a shell"):
    nothing = image("nothing", WITHOUT_APT)
    refused("nothing", "build-failed", {"image": nothing}, nothing, "none of the package managers", "openssh")
    program_alone = image("distroless", f"FROM scratch\nCOPY --from={IMAGE} /etc/passwd /etc/\n")
    refused("distroless", "build-failed", {"image": program_alone}, program_alone, "has no /bin/sh")

with subtest("a user who is given by number is called by name"):
    unsaid = image("unsaid", f"FROM {IMAGE}\nLABEL devcontainer.metadata=[]\n")
    told = spawned("number", {"image": unsaid, "remoteUser": "1000"})
    assert told["user"] == "vscode", told
    assert on("acme-number", "id -un; stat -c %U /workspaces/number") == "vscode\nvscode\n"
    slain("number")
    service = {"image": unsaid, "user": "${UID:-1000}:${GID:-1000}", "command": "sleep infinity"}
    compose = {"services": {"app": {**service, "volumes": ["../..:/workspaces"]}}}
    configuration: dict[str, object] = {"dockerComposeFile": "compose.yml", "service": "app"}
    told = spawned("project", {**configuration, "workspaceFolder": "/workspaces/project"}, {"compose.yml": compose})
    assert told["user"] == "vscode", told
    assert on("acme-project", "id -un") == "vscode\n"

with subtest("the key of the one login is gone"):
    allowed = server.succeed("docker exec acme-project cat /etc/ssh/hatchery/authorized_keys")
    assert "for one login" not in allowed and "ssh-ed25519 " in allowed, allowed
    assert server.succeed("find /var/cache/hatchery -name key") == ""
    slain("project")

BUILD: dict[str, object] = {"build": {"dockerfile": "Dockerfile"}}
with subtest("who cannot log in is told of before anything runs"):
    nobody = image("nobody", f"FROM {unsaid}\nUSER 1001\n")
    refused("numberless", "devcontainer-invalid", {"image": nobody}, "1001", "/etc/passwd", "useradd")
    www: dict[str, object] = {"image": IMAGE, "remoteUser": "www-data"}
    refused("shellless", "devcontainer-invalid", www, "www-data: its shell in the image's /etc/passwd is nologin")
    expired = f"FROM {IMAGE}\nRUN useradd -m -s /bin/bash app && chage -E 0 app\n"
    app = {**BUILD, "remoteUser": "app"}
    refused("expired", "devcontainer-invalid", app, "app: its account has expired", "chage", dockerfile=expired)

with subtest("and who cannot for another reason, once a login was tried"):
    curt = "RUN printf '#!/bin/sh\\nexit 7\\n' > /usr/bin/curt; chmod +x /usr/bin/curt; usermod -s /usr/bin/curt vscode"
    for name, dockerfile, why in (
        ("fishless", "RUN usermod -s /usr/bin/fish vscode", "its shell, /usr/bin/fish, is not in the image"),
        ("listed", "RUN echo AllowUsers admin > /etc/ssh/sshd_config.d/50.conf", "AllowUsers admin"),
        ("closed", "RUN touch /etc/nologin", "/etc/nologin exists"),
        ("curt", curt, "with status 7"),
    ):
        cannot = f"acme-{name} is running, but vscode cannot log in to it"
        refused(name, "drone-unhealthy", BUILD, cannot, why, dockerfile=f"FROM {IMAGE}\n{dockerfile}\n")

registry_opens()
private = image("private", f"FROM {IMAGE}\nRUN echo private > /etc/private\n").replace("ghcr.io", PRIVATE)
from_private = f"FROM {private}\nRUN cp /etc/private /etc/built\n"
bases: list[tuple[dict[str, object], str]] = [({"image": private}, ""), (BUILD, from_private)]
header = f'{{"password":"{PASSWORD}","serveraddress":"{PRIVATE}","username":"dev"}}'
secrets = "\n".join([PASSWORD, encoded(f"dev:{PASSWORD}"), encoded(header), encoded(PASSWORD)])
server.succeed(
    f"echo {encoded(secrets)} | base64 -d > /root/secrets; umask 077; head -n 1 /root/secrets > /root/password",
    f"echo {encoded(WATCH)} | base64 -d > /root/watch; systemd-run -q --unit=watch-secrets bash /root/watch",
)

# It sees a process that has the password.
server.succeed("bash -c 'sleep 2; :' \"$(cat /root/password)\"", "test -s /root/seen; rm /root/seen")

with subtest("a private image without an entry: it is said what to configure"):
    server.succeed(f"cp /etc/hatchery/config.toml {CONFIG}")
    wanted = (private, "requires a login", f'[registries."{PRIVATE}/acme"]')
    for base, dockerfile in bases:
        error = error_of(spawning("unsaid", base, dockerfile), 1, "devcontainer-failed")
        contains(error["message"] + error["hint"], *wanted, 'repositories = ["acme/unsaid"]')

with subtest("a password that is not the registry's: the entry is named"):
    server.succeed("echo wrong > /root/wrong")
    registries('username = "dev"', 'password_file = "/root/wrong"', 'repositories = ["acme/*"]')
    error = error_of(spawning("private", {"image": private}), 1, "devcontainer-failed")
    contains(error["message"], private, f'username and password_file of [registries."{PRIVATE}/acme"]')

with subtest("an image and a Dockerfile of a repository that the entry names"):
    registries('username = "dev"', 'password_file = "/root/password"', 'repositories = ["acme/private", "acme/built"]')
    server.succeed(f"hatchery --config {CONFIG} config --check --secrets")
    server.succeed(spawning("private", {"image": private}))
    assert on("acme-private", "cat /etc/private") == "private\n"
    slain("private")
    server.succeed(f"docker rmi {private}")
    server.succeed(spawning("built", BUILD, from_private))
    assert on("acme-built", "cat /etc/built") == "private\n"

with subtest("no other repository has it, though Docker does: trusted or not"):
    assert is_there()
    for trust in ("", "--trust"):
        for base, dockerfile in bases:
            error = error_of(spawning("other", base, dockerfile, trust), 6, "gate-refused")
            contains(error["message"], private, "does not name acme/other")
            contains(error["hint"], "trust does not help")
    assert "acme/other" not in drones()
    slain("built")

with subtest("the caller's own `docker login`, for a sibling of a compose project as well"):
    server.succeed(f"docker rmi {private}")
    registries('repositories = ["acme/project"]')
    error = error_of(spawning("project", {"image": private}), 1, "secret-unreadable")
    contains(error["message"] + error["hint"], f"docker login {PRIVATE}")
    server.succeed(f"docker login --username dev --password-stdin {PRIVATE} < /root/password")
    sibling: dict[str, object] = {"image": private, "command": "sleep infinity"}
    project = {"services": {"app": {**service, "volumes": ["../..:/workspaces"]}, "db": sibling}}
    publish_devcontainer(
        "acme/project",
        {"devcontainer.json": {**configuration, "workspaceFolder": "/workspaces/project"}, "compose.yml": project},
    )
    server.succeed(f"hatchery --config {CONFIG} spawn acme/project")
    db = compose_container("acme-project", "db")
    assert server.succeed(f"docker exec {db} cat /etc/private") == "private\n"

with subtest("the password is in no process, container, image, log or file of hatchery's"):
    server.succeed("systemctl is-active watch-secrets; systemctl stop watch-secrets")
    server.succeed("! cat /root/seen")
    for everything in (
        "docker inspect $(docker ps -aq) $(docker images -aq | sort -u)",
        "docker images -aq | sort -u | xargs -n 1 docker history --no-trunc",
        "docker ps -aq | xargs -n 1 docker logs 2>&1",
        "journalctl --no-pager --output=export",
        "cat /var/log/*.log 2> /dev/null",
        "find /run/hatchery /var/lib/hatchery /var/cache/hatchery -type f -exec cat {} +",
    ):
        server.succeed(f"! {{ {everything}; }} | grep -aF -f /root/secrets")
    slain("project")
    registry_closes()
