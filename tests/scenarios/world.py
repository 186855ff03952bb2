"""The world itself: every part that other scenarios stand on is real and works, without hatchery."""

import json

NAME = "world-probe"
LABEL = f"world.probe={NAME}"
LOGIN_SERVER = "https://headscale.example.test"


def remove_probe() -> None:
    """The container, its volumes, its image."""
    probes = f"docker ps -a --filter label={LABEL}"
    server.succeed(
        f"image=$({probes} --format '{{{{.Image}}}}'); volumes=$({probes} -q | xargs -r docker inspect --format "
        "'{{range .Mounts}}{{.Name}} {{end}}'); "
        f'{probes} -q | xargs -r docker rm -f; xargs -r docker volume rm <<< "$volumes"; '
        f'if [ "${{image:-{IMAGE}}}" != {IMAGE} ]; then docker rmi $image; fi',
        "rm -rf /tmp/probe",
    )


start_and_wait()
remove_probe()

with subtest("github.com serves git over TLS as GitHub does"):
    server.succeed("rm -rf /tmp/probe && mkdir /tmp/probe && git clone -q https://github.com/acme/site /tmp/probe/site")
    assert server.succeed("git -C /tmp/probe/site log --oneline | wc -l").strip() == "2"
    assert server.succeed("git -C /tmp/probe/site tag").strip() == "v1.0"
    server.succeed("git ls-remote -q https://github.com/ACME/Site.git | grep refs/heads/main > /dev/null")
    missing = server.succeed("curl -si 'https://github.com/acme/absent/info/refs?service=git-upload-pack'")
    assert " 401 " in missing.splitlines()[0], missing
    assert 'WWW-Authenticate: Basic realm="GitHub"' in missing, missing
    server.fail("GIT_TERMINAL_PROMPT=0 git ls-remote -q https://github.com/acme/absent")
    key = laptop.succeed("cat /root/.ssh/id_ed25519.pub").strip()
    assert server.succeed("curl -sf https://github.com/levin.keys").strip() == key

with subtest("submodules come along"):
    server.succeed("git clone -q --recurse-submodules https://github.com/acme/submodules /tmp/probe/submodules")
    server.succeed("grep -q ANSWER /tmp/probe/submodules/library/library.py")

with subtest("a machine that does not know the authority does not trust it"):
    others = "--cacert /usr/share/ca-certificates/mozilla/ISRG_Root_X1.crt --capath /nowhere"
    status = server.execute(f"curl -sf {others} https://github.com/acme/site")[0]
    assert status == 60, f"curl says {status}, not 60: peer failed verification"

with subtest("the registry serves images under both of its names"):
    server.succeed("docker rmi -f ghcr.io/acme/nosudo:latest", f"docker pull -q {IMAGE}")
    server.succeed("docker pull -q ghcr.io/acme/nosudo:latest", "docker pull -q ghcr.io/acme/prebuilt:latest")
    server.fail("docker pull -q ghcr.io/acme/absent:latest")
    inspect = "docker image inspect ghcr.io/acme/prebuilt:latest"
    metadata = server.succeed(inspect + " --format '{{index .Config.Labels \"devcontainer.metadata\"}}'")
    assert any("features/sshd" in entry.get("id", "") for entry in json.loads(metadata)), metadata

with subtest("the devcontainer CLI makes a container with both features, its workspace in a volume"):
    override = {
        "image": IMAGE,
        "features": FEATURES,
        "workspaceMount": f"type=volume,source={NAME},target=/workspaces",
        "workspaceFolder": "/workspaces/site",
        "containerUser": "root",
        "runArgs": [f"--name={NAME}", f"--hostname={NAME}", "--device=/dev/net/tun"],
    }
    server.succeed(
        f"docker volume create {NAME}",
        f"carrier=$(docker create -v {NAME}:/workspaces {IMAGE} true); "
        "tar -C /tmp/probe --owner=1000 --group=1000 -cf - site | docker cp -a - $carrier:/workspaces; "
        "docker rm $carrier",
        f"cat > /tmp/probe/override.json <<'END'\n{json.dumps(override)}\nEND",
    )
    result = json.loads(
        server.succeed(
            "devcontainer up --workspace-folder /tmp/probe/site --override-config /tmp/probe/override.json "
            f"--id-label {LABEL} --no-lockfile --log-format json 2> /tmp/probe/log || (tail -n 20 /tmp/probe/log >&2; false)"
        )
    )
    assert result["outcome"] == "success" and result["remoteUser"] == "vscode", result
    server.succeed(f"docker exec -u vscode {NAME} git -C /workspaces/site status --porcelain | (! grep .)")
    server.wait_until_succeeds(f"docker exec {NAME} ss -Hltn | grep :2222 > /dev/null", 20)

with subtest("an ephemeral key joins it to the tailnet, and the laptop reaches it by name"):
    up = f"tailscale up --login-server={LOGIN_SERVER} --auth-key=file:/tmp/key --hostname={NAME} --accept-dns=false"
    server.succeed(f"docker exec -i {NAME} sh -c 'cat > /tmp/key; {up}' < /etc/hatchery/secrets/tailnet-auth-key")
    server.succeed(
        f"docker exec -i -u vscode {NAME} sh -c 'umask 077; mkdir -p ~/.ssh; cat > ~/.ssh/authorized_keys' "
        "<<< " + repr(key)
    )
    ssh = f"ssh -p 2222 -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null vscode@{NAME}.tail.example.test"
    assert laptop.wait_until_succeeds(f"{ssh} id -un", timeout=30).strip() == "vscode"
    assert nodes()[NAME]["user"]["name"] == "devcontainer", nodes()

with subtest("the policy: a drone is a destination and never a source"):
    address = laptop.succeed("tailscale ip -4").strip()
    assert laptop.succeed(f"nc -w 2 {address} 22 < /dev/null").startswith("SSH-2.0")
    ask = f"docker exec {NAME} timeout 4 bash -c 'exec 3<>/dev/tcp/$0/$1 && head -c 7 <&3'"
    assert server.succeed(f"{ask} 127.0.0.1 2222") == "SSH-2.0"
    said = server.execute(f"{ask} {address} 22")[1]
    assert said == "", f"the drone got an answer from the laptop: {said}"
    server.succeed(f"docker exec {NAME} curl -sf {LOGIN_SERVER}/health")

remove_probe()

with subtest("a crash keeps the disk and nothing else, and Docker brings its containers back"):
    server.succeed(
        "echo kept > /root/kept; echo gone > /run/gone; sync",
        f"docker run -d --name {NAME} --label {LABEL} --restart unless-stopped {IMAGE} sleep infinity",
    )
    server.crash()
    assert not server.is_up()
    server.start()
    server.wait_for_unit("docker.service")
    server.succeed("test -e /root/kept", "rm /root/kept")
    server.fail("test -e /run/gone")
    server.wait_until_succeeds(f"docker exec {NAME} true", timeout=30)
    server.succeed(f"docker rm -f {NAME}")

with subtest("an unplugged cable cuts the network off, not the console"):
    server.block()
    server.fail("curl -s --max-time 2 https://api.github.com/")
    server.unblock()
    server.wait_until_succeeds("curl -sf --max-time 5 https://api.github.com/", timeout=30)

with subtest("a node that is away leaves by itself"):
    tailnet.wait_until_succeeds(
        f"headscale nodes list --output json | jq -e 'map(select(.given_name == \"{NAME}\")) == []'", timeout=180
    )

with subtest("a shutdown and a reboot are orderly; the laptop is back under its address"):
    tailnet.shutdown()
    assert not tailnet.is_up()
    laptop.fail(f"curl -sf --max-time 2 {LOGIN_SERVER}/health")
    tailnet.start()
    tailnet.wait_for_unit("headscale.service")
    laptop.succeed("touch /run/before")
    laptop.reboot()
    laptop.fail("test -e /run/before")
    laptop.wait_until_succeeds(f"tailscale ip -4 | grep -x {address} > /dev/null", timeout=60)
