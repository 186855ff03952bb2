"""Images without apt, with an old sshd, without a shell, and users of all kinds: each is a drone that a person can log
in to, or it is said why not."""

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
    refused("nothing", "build-failed", {"image": nothing}, nothing, "no package manager", "openssh")
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
        ("closed", "RUN touch /etc/nologin", "/etc/nologin is there"),
        ("curt", curt, "with status 7"),
    ):
        cannot = f"acme-{name} runs, but vscode cannot log in to it"
        refused(name, "drone-unhealthy", BUILD, cannot, why, dockerfile=f"FROM {IMAGE}\n{dockerfile}\n")
