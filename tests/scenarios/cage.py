"""Whatever a feature's archive holds, the devcontainer CLI neither writes nor reads outside its own directory."""

import base64
import gzip
import hashlib
import io
import json
import tarfile

REGISTRY = "http://127.0.0.1:5000/v2"
IMAGE = "mcr.microsoft.com/devcontainers/base:ubuntu"
SSHD = "ghcr.io/devcontainers/features/sshd:1"
MEMBER = "runuser -u overlord -- env HOME=/home/overlord"
SSH = "ssh -p 2222 -o BatchMode=yes -o StrictHostKeyChecking=yes -o UserKnownHostsFile=/tmp/known_hosts"
# An unpacker that counts the `..` of a path by its words takes this for a place within the archive.
OUT = "p/" * 16 + "../" * 16


def push(name: str, path: str, data: bytes, kind: str) -> None:
    """A manifest, or what one names, at ghcr.io, as anybody can who has an account at the real one."""
    packed = base64.b64encode(gzip.compress(data)).decode()
    written = f"base64 -d <<< {packed} | gunzip > /tmp/pushed"
    put = f"curl -sf -X PUT -H 'Content-Type: {kind}' --data-binary @/tmp/pushed"
    if path.startswith("manifests/"):
        internet.succeed(f"{written}; {put} {REGISTRY}/{name}/{path}")
    else:
        begin = f"curl -sf -X POST -D - -o /dev/null {REGISTRY}/{name}/blobs/uploads/"
        internet.succeed(
            f'{written}; to=$({begin} | tr -d "\\r" | sed -n "s/^[Ll]ocation: //p"); {put} "$to&digest={path}"'
        )


def trap(name: str, path: str, target: str) -> None:
    """A feature whose archive holds this path as a link out of it, and a repository that asks for it."""
    about = {"id": name, "version": "1.0.0", "name": name, "options": {"say": {"type": "string", "default": ""}}}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for file, text in (("./devcontainer-feature.json", json.dumps(about)), ("./install.sh", "#!/bin/sh\ntrue\n")):
            info = tarfile.TarInfo(file)
            info.size, info.mode = len(text), 0o755
            archive.addfile(info, io.BytesIO(text.encode()))
        for file, to in (("./p", "."), (path, OUT + target)):
            info = tarfile.TarInfo(file)
            info.type, info.linkname = tarfile.SYMTYPE, to
            archive.addfile(info)
    blobs = {}
    for part, data in (("config", b"{}"), ("layer", buffer.getvalue())):
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        push(f"trap/features/{name}", digest, data, "application/octet-stream")
        blobs[part] = {"digest": digest, "size": len(data)}
    kind = "application/vnd.oci.image.manifest.v1+json"
    manifest = {
        "schemaVersion": 2,
        "mediaType": kind,
        "config": {"mediaType": "application/vnd.devcontainers", **blobs["config"]},
        "layers": [{"mediaType": "application/vnd.devcontainers.layer.v1+tar", **blobs["layer"]}],
        "annotations": {"dev.containers.metadata": json.dumps(about)},
    }
    push(f"trap/features/{name}", "manifests/1", json.dumps(manifest).encode(), kind)
    configuration = {"image": IMAGE, "features": {SSHD: {}, f"ghcr.io/trap/features/{name}:1": {"say": "larva"}}}
    text = base64.b64encode(json.dumps(configuration).encode()).decode()
    bare = f"/srv/github/git/trap/{name}.git"
    internet.succeed(
        "rm -rf /tmp/publish; git init -q -b main /tmp/publish; cd /tmp/publish; "
        f"base64 -d > .devcontainer.json <<< {text}; git add .; "
        "git -c user.name=Sarah -c user.email=sarah@example.test commit -q -m First; "
        f"rm -rf {bare}; git clone -q --bare . {bare}; chown -R github {bare}; rm -rf /tmp/publish"
    )


def without(call: str, error: str, command: str) -> str:
    """A command on a kernel that answers this call with this error."""
    unit = f"systemd-run --quiet --wait --pipe -p SystemCallFilter=~{call} -p SystemCallErrorNumber={error}"
    return f"{unit} -E PATH=$PATH -E HOME=/root {command}"


def cage(doctor: str) -> dict[str, str]:
    """What the doctor says of the cage."""
    checks = json.loads(server.execute(doctor + " --json")[1])["checks"]
    found: dict[str, str] = next(check for check in checks if check["name"] == "cage")
    return found


start_all()
server.wait_for_unit("docker.service")
tailnet.wait_for_unit("headscale.service")
laptop.wait_until_succeeds("tailscale status --json | jq -e '.BackendState == \"Running\"'", timeout=60)
laptop.succeed(f"cat > /tmp/known_hosts <<'END'\n{server.succeed('hatchery ca')}END")
server.succeed(
    "hatchery list --json | jq -r '.[].repository' | xargs -r -n 1 hatchery slay --force",
    "rm -f /root/said.* /etc/profile.d/trap.sh /etc/cron.d/trap /home/overlord/.bash_aliases",
)

with subtest("the doctor says whether there is a cage, and what to do where there is none"):
    found = cage("hatchery doctor")
    assert found["state"] == "ok" and "Landlock version" in found["message"], found
    found = cage(without("landlock_create_ruleset", "ENOSYS", "hatchery doctor"))
    assert found["state"] == "problem" and "no Landlock" in found["message"] and "5.13" in found["hint"], found
    found = cage(without("landlock_create_ruleset", "EOPNOTSUPP", "hatchery doctor"))
    assert found["state"] == "problem" and "not turned on" in found["message"] and "lsm=" in found["hint"], found
    found = cage(without("landlock_restrict_self", "EPERM", "hatchery doctor"))
    assert found["state"] == "problem" and "the cage failed" in found["message"], found

with subtest("an image, a Dockerfile and compose, by root and by a member; and without Landlock, which is said"):
    server.succeed("hatchery spawn acme/web > /root/said.web 2>&1")
    spawns = (
        f"cd /tmp; {MEMBER} hatchery spawn acme/dockerfile",
        f"cd /tmp; {MEMBER} hatchery spawn acme/stack",
        without("landlock_create_ruleset", "ENOSYS", "hatchery spawn acme/plain"),
        "hatchery spawn --trust acme/initialize",
    )
    at_once = [f'({spawn}) > /root/said.{number} 2>&1 & pids+=" $!"' for number, spawn in enumerate(spawns)]
    server.succeed("; ".join(at_once) + "; for pid in $pids; do wait $pid || { cat /root/said.*; exit 1; }; done")
    assert server.succeed("grep -l '^warning: .*no Landlock' /root/said.*") == "/root/said.2\n"
    for name, user in (("web", "vscode"), ("dockerfile", "root"), ("stack", "vscode"), ("plain", "root")):
        where = f"{user}@acme-{name}.tail.example.test"
        assert laptop.succeed(f"{SSH} {where} 'id -un; ls /workspaces'") == f"{user}\n{name}\n", name
    # What an owner trusts with a command for the server itself runs outside.
    server.succeed("rm /tmp/initialize-ran-on-the-host")
    server.succeed("for it in web dockerfile stack plain initialize; do hatchery slay --force acme/$it; done")

with subtest("no cage though the kernel has one: the CLI does not run"):
    status, said = server.execute(without("landlock_restrict_self", "EPERM", "hatchery spawn acme/web 2>&1"))
    assert status == 1 and "the devcontainer CLI was not started" in said and "the cage failed" in said, said
    assert "[host-failed]" in said and "hatchery doctor" in said, said

with subtest("what the CLI writes through a link of an archive's lands nowhere"):
    # Debian has cron's directory only with the package.
    server.succeed("mkdir -p /etc/cron.d")
    for name, path, target, who in (
        ("settings", "./devcontainer-features.env", "etc/profile.d/trap.sh", ""),
        ("wrapper", "./devcontainer-features-install.sh", "etc/cron.d/trap", ""),
        ("member", "./devcontainer-features.env", "home/overlord/.bash_aliases", f"{MEMBER} "),
        ("nowhere", "./devcontainer-features-install.sh", "etc/nowhere/trap", ""),
    ):
        trap(name, path, target)
        status, said = server.execute(f"cd /tmp; {who}hatchery spawn trap/{name} 2>&1")
        assert server.execute(f"test -e /{target}")[0] == 1, said
        assert status == 1 and "[devcontainer-failed]" in said and "a feature with a link" in said, said
        assert f"of the feature {name}: " in said, said

with subtest("nor does what it reads through one get into the image"):
    secret = {"id": "larva", "version": "1.0.0", "containerEnv": {"FOUND": "larva-of-root"}}
    server.succeed(f"cat > /root/secret.json <<'END'\n{json.dumps(secret)}\nEND")
    trap("reader", "./devcontainer-feature.json", "root/secret.json")
    said = server.execute("hatchery spawn trap/reader 2>&1")[1]
    assert server.execute("docker images -q | xargs docker inspect | grep larva-of-root")[0] == 1, said
    assert "EACCES" in said, said
    server.succeed("rm /root/secret.json; hatchery slay --force trap/reader || true")
