//! devcontainer.json, property by property.

use hatchery::devcontainer::ImageFacts;
use hatchery::error::Code;
use serde_json::{Value, json};

use crate::common::{TAILNET, World, config, has_arg, json_file};

/// `"image"` stands on line 2, the property on line 3.
fn with(property: &str) -> World {
    World::devcontainer(&format!(
        "{{\n  \"image\": \"debian:12\",\n  {property}\n}}\n"
    ))
}

#[test]
fn what_would_reach_the_host_is_refused_with_property_value_and_line() {
    for (property, named) in [
        (
            r#""initializeCommand": "id""#,
            "initializeCommand \"id\": it would run on this server",
        ),
        (r#""privileged": true"#, "privileged true"),
        (r#""capAdd": ["SYS_ADMIN"]"#, "capAdd \"SYS_ADMIN\""),
        (
            r#""securityOpt": ["apparmor=unconfined"]"#,
            "securityOpt \"apparmor=unconfined\"",
        ),
        (
            r#""mounts": ["source=/var/run/docker.sock,target=/x,type=bind"]"#,
            "mounts \"source=/var/run/docker.sock",
        ),
        (
            r#""mounts": [{"type": "bind", "source": "${localWorkspaceFolder}/../..", "target": "/x"}]"#,
            "mounts {",
        ),
        (
            r#""workspaceMount": "source=${localEnv:HOME}/go,target=/go,type=bind""#,
            "workspaceMount \"source=/go",
        ),
        (
            r#""runArgs": ["-v", "~/.ssh:/x"]"#,
            "runArgs \"--volume=~/.ssh:/x",
        ),
        (
            r#""mounts": ["source=${localEnv:HOME}/.ssh,target=/x,type=bind"]"#,
            "mounts \"source=/.ssh",
        ),
        (
            r#""workspaceMount": "source=/etc,target=/w,type=bind""#,
            "workspaceMount \"source=/etc",
        ),
        (
            r#""features": {"https://x.example/devcontainer-feature-x.tgz": {}}"#,
            "features.https://x.example",
        ),
        (
            r#""features": {"octocat/features/x": {}}"#,
            "features.octocat/features/x",
        ),
        (
            r#""features": {"../../../etc": {}}"#,
            "features.../../../etc",
        ),
        (
            r#""containerEnv": {"A='\n    privileged: true": "x"}"#,
            "containerEnv",
        ),
        (
            r#""build": {"dockerfile": "/etc/passwd"}"#,
            "build.dockerfile \"/etc/passwd\"",
        ),
        (
            r#""build": {"dockerfile": "devcontainer.json", "context": "../.."}"#,
            "build.context \"../..\"",
        ),
        (
            r#""build": {"dockerfile": "devcontainer.json", "options": ["--ulimit=rtprio=99"]}"#,
            "build.options",
        ),
        (
            r#""build": {"dockerfile": "devcontainer.json", "options": ["--platform", "linux/vsc-x"]}"#,
            "build.options",
        ),
        (
            r#""build": {"dockerfile": "devcontainer.json", "options": ["--network=host"]}"#,
            "build.options \"--network=host\"",
        ),
        (
            r#""build": {"dockerfile": "devcontainer.json", "options": ["--secret", "id=x,src=/etc/shadow"]}"#,
            "build.options \"--secret\"",
        ),
        (
            r#""build": {"dockerfile": "devcontainer.json", "cacheFrom": "type=local,src=/etc"}"#,
            "build.cacheFrom \"type=local",
        ),
        (
            r#""build": {"dockerfile": "devcontainer.json", "ssh": "default"}"#,
            "build.ssh \"default\"",
        ),
        (r#""dockerFile": "../../x""#, "build.dockerfile \"../../x\""),
        (r#""somethingNew": {"a": 1}"#, "somethingNew {\"a\":1}"),
    ] {
        let world = with(property);
        let message = world.refused().message();
        assert!(
            message.contains(&format!(".devcontainer/devcontainer.json:3: {named}")),
            "{property}: {message}"
        );
    }
}

#[test]
fn run_args_pass_only_where_they_are_known() {
    for args in [
        r#""--privileged""#,
        r#""--privileged=true""#,
        r#""--net=host""#,
        r#""--network", "host""#,
        r#""--network=container:other""#,
        r#""--network=other""#,
        r#""--pid=host""#,
        r#""--ipc", "host""#,
        r#""--uts=host""#,
        r#""--userns=host""#,
        r#""--cgroupns=host""#,
        r#""-v", "/:/host""#,
        r#""-v/:/host""#,
        r#""--volume=/:/host""#,
        r#""--mount", "type=bind,src=/,dst=/host""#,
        r#""--volumes-from=other""#,
        r#""--device=/dev/sda""#,
        r#""--gpus=all""#,
        r#""--cap-add=ALL""#,
        r#""--cap-add", "SYS_ADMIN""#,
        r#""--security-opt=apparmor=unconfined""#,
        r#""--security-opt", "systempaths=unconfined""#,
        r#""--env-file=/etc/shadow""#,
        r#""--env-file", "../secret""#,
        r#""--label=hatchery.drone=other""#,
        r#""-l", "com.docker.compose.project=other""#,
        r#""--cidfile=/tmp/x""#,
        r#""--runtime=runc""#,
        r#""--sysctl=kernel.core_pattern=x""#,
        r#""--new-flag=x""#,
        r#""debian""#,
        r#""-""#,
        r#""--""#,
        r#""-itv", "/:/host""#,
        r#""-xyz""#,
        r#""--init", "sh""#,
    ] {
        let message = with(&format!("\"runArgs\": [{args}]")).refused().message();
        assert!(
            message.contains(".devcontainer/devcontainer.json:3: runArgs "),
            "{args}: {message}"
        );
    }
}

#[test]
fn harmless_run_args_pass_in_both_forms() {
    let world = with(
        r#""runArgs": ["--init", "--shm-size", "1g", "--ulimit=nofile=1024", "-e", "A=1", "-eB=2", "--env=C=3",
        "--cap-add=SYS_PTRACE", "--add-host", "x:1.2.3.4", "--label=x=y", "--env-file", ".env",
        "-v", "cache:/cache", "--mount=type=tmpfs,target=/t", "-u", "node:node"]"#,
    );
    world.write(".env", "X=1");
    let written = world.written();
    let env_file = format!("--env-file={}", world.checkout().join(".env").display());
    for arg in [
        "--init",
        "--shm-size=1g",
        "--ulimit=nofile=1024",
        "--env=A=1",
        "--env=B=2",
        "--env=C=3",
        "--cap-add=SYS_PTRACE",
        "--add-host=x:1.2.3.4",
        "--label=x=y",
        env_file.as_str(),
    ] {
        assert!(has_arg(&written, arg), "{arg}: {}", written["runArgs"]);
    }
    assert_eq!(
        written["mounts"][0],
        "type=volume,source=acme-site.cache,target=/cache"
    );
    assert_eq!(written["mounts"][1], "type=tmpfs,target=/t");
    assert_eq!(written["remoteUser"], "node");
}

#[test]
fn what_is_hatcherys_or_needless_is_left_out_and_said() {
    let world = with(
        r#""appPort": [3000], "hostRequirements": {"cpus": 2, "gpu": true}, "securityOpt": ["seccomp=unconfined"],
  "runArgs": ["--name=x", "--hostname", "y", "--restart=always", "-p", "80:80", "--memory=1t", "--cpus=99",
    "--security-opt", "seccomp=unconfined", "--device=/dev/net/tun", "-e", "SECRET", "-it", "--network=bridge"]"#,
    );
    let repository = world.read().unwrap();
    let written = world.written_from(&repository);
    let text = written.to_string();
    for gone in [
        "appPort",
        "gpu",
        "seccomp",
        "80:80",
        "--name=x",
        "--hostname=y",
        "always",
        "1t",
        "cpus=99",
        "SECRET",
        "--tty",
        "tun",
        "bridge",
    ] {
        assert!(!text.contains(gone), "{gone}: {text}");
    }
    assert_eq!(written["hostRequirements"], json!({"cpus": 2}));
    let said = repository.left_out();
    assert_eq!(said.len(), 14, "{said:#?}");
    assert!(
        said.iter()
            .all(|line| line.starts_with(".devcontainer/devcontainer.json:")),
        "{said:#?}"
    );
}

#[test]
fn everything_that_stays_in_the_drone_passes_unchanged() {
    let properties = json!({
        "name": "Site", "remoteEnv": {"A": "${containerEnv:PATH}", "B": null}, "userEnvProbe": "none",
        "onCreateCommand": "a", "updateContentCommand": ["b", "c"], "postCreateCommand": {"x": "y", "z": ["w"]},
        "postStartCommand": "d", "postAttachCommand": "e", "waitFor": "onCreateCommand",
        "overrideCommand": false, "shutdownAction": "none", "forwardPorts": [3000, "db:5432"],
        "portsAttributes": {"3000": {"label": "x"}}, "otherPortsAttributes": {"onAutoForward": "silent"},
        "customizations": {"vscode": {"extensions": ["a.b"]}}, "init": true, "secrets": {"X": {}},
        "capAdd": ["SYS_PTRACE", "NET_ADMIN"], "overrideFeatureInstallOrder": ["ghcr.io/a/b"],
    });
    let mut document = properties.clone();
    document["image"] = json!("debian:12");
    document["$schema"] = json!("https://x.example/schema.json");
    document["privileged"] = json!(false);
    document["updateRemoteUserUID"] = json!(true);
    document["remoteUser"] = json!("vscode");
    let written = World::devcontainer(&document.to_string()).written();
    for (name, value) in properties.as_object().unwrap() {
        assert_eq!(&written[name], value, "{name}");
    }
    assert_eq!(written["image"], "debian:12");
    assert_eq!(written["remoteUser"], "vscode");
    for gone in ["privileged", "updateRemoteUserUID", "$schema"] {
        assert_eq!(written[gone], Value::Null, "{gone}");
    }
}

#[test]
fn the_container_is_seated_on_this_server() {
    let mut world =
        with(r#""containerEnv": {"A": "${localEnv:HOME}x", "F": "${localWorkspaceFolder}"}"#);
    world.config = config(&format!(
        "{TAILNET}[limits]\nmemory = \"1GiB\"\ncpus = 0.5\npids = 99\n[docker]\nextra_hosts = [\"h:1.2.3.4\"]\n"
    ));
    let written = world.written();
    for arg in [
        "--name=acme-site",
        "--hostname=acme-site",
        "--network=acme-site",
        "--restart=unless-stopped",
        "--memory=1073741824",
        "--cpus=0.5",
        "--pids-limit=99",
        "--add-host=h:1.2.3.4",
        "--device=/dev/net/tun",
        "--publish=127.0.0.1:4022:2222",
    ] {
        assert!(has_arg(&written, arg), "{arg}");
    }
    assert_eq!(
        written["containerEnv"],
        json!({"A": "x", "F": "${localWorkspaceFolder}", "TS_DEBUG_USE_DERP_HTTP": "true", "TS_NO_LOGS_NO_SUPPORT": "true"})
    );
    assert_eq!(written["containerUser"], "root");
    assert_eq!(
        written["workspaceMount"],
        "type=volume,source=acme-site,target=/workspaces,volume-nocopy"
    );
    assert_eq!(written["workspaceFolder"], "/workspaces/site");
    assert_eq!(
        written["mounts"],
        json!(["type=bind,source=/run/hatchery/acme-site,target=/run/hatchery,readonly"])
    );
    assert_eq!(written["features"].as_object().unwrap().len(), 2);
    world.config = config("");
    let written = world.written();
    assert!(!has_arg(&written, "--device=/dev/net/tun"));
    assert_eq!(
        written["features"],
        json!({"ghcr.io/devcontainers/features/sshd:1": {}})
    );
}

#[test]
fn no_more_processors_are_asked_for_than_there_are() {
    let mut world = with(r#""name": "x""#);
    world.config = config("[limits]\ncpus = 100000.0\n");
    let there = std::thread::available_parallelism().unwrap();
    assert!(has_arg(&world.written(), &format!("--cpus={there}")));
}

#[test]
fn without_a_devcontainer_json_the_configured_image_is_used() {
    let world = World::new(&[("README.md", "")]);
    let repository = world.read().unwrap();
    assert_eq!(
        repository.image(),
        Some("mcr.microsoft.com/devcontainers/base:ubuntu")
    );
    assert!(repository.file().is_none() && !repository.is_compose());
    assert_eq!(
        world.written()["image"],
        "mcr.microsoft.com/devcontainers/base:ubuntu"
    );
}

#[test]
fn paths_are_absolute_whichever_file_names_them() {
    for (file, dockerfile, context) in [
        (".devcontainer/devcontainer.json", "Dockerfile", ".."),
        (".devcontainer.json", ".devcontainer/Dockerfile", "."),
        (
            ".devcontainer/a/devcontainer.json",
            "../Dockerfile",
            "${localWorkspaceFolder}",
        ),
    ] {
        let text = json!({"build": {"dockerfile": dockerfile, "context": context, "args": {"N": 1, "E": "${localEnv:E:e}"}, "target": "dev",
            "cacheFrom": "ghcr.io/a/b:c", "options": ["--platform", "linux/amd64", "--no-cache"]}});
        let world = World::new(&[
            (file, &text.to_string()),
            (".devcontainer/Dockerfile", "FROM debian"),
        ]);
        let root = world.checkout();
        assert_eq!(
            world.written()["build"],
            json!({
                "dockerfile": root.join(".devcontainer/Dockerfile"), "context": root, "args": {"N": "1", "E": "e"}, "target": "dev",
                "cacheFrom": ["ghcr.io/a/b:c"], "options": ["--platform=linux/amd64", "--no-cache"],
            }),
            "{file}"
        );
    }
    let world = World::new(&[
        (
            ".devcontainer/devcontainer.json",
            r#"{"dockerFile": "Dockerfile"}"#,
        ),
        (".devcontainer/Dockerfile", "FROM debian"),
    ]);
    let folder = world.checkout().join(".devcontainer");
    assert_eq!(
        world.written()["build"],
        json!({"dockerfile": folder.join("Dockerfile"), "context": folder})
    );
}

#[test]
fn a_symlink_to_this_servers_files_is_no_dockerfile() {
    let world = World::devcontainer(r#"{"build": {"dockerfile": "Dockerfile"}}"#);
    std::os::unix::fs::symlink(
        "/etc/passwd",
        world.checkout().join(".devcontainer/Dockerfile"),
    )
    .unwrap();
    assert!(world.refused().message().contains("build.dockerfile"));
}

#[test]
fn a_local_feature_is_found_by_the_cli_and_held_to_the_policy() {
    for (file, id, expected) in [
        (".devcontainer/devcontainer.json", "./feature", "./feature"),
        (
            ".devcontainer/a/devcontainer.json",
            "../feature",
            "./feature",
        ),
        (
            ".devcontainer.json",
            "./.devcontainer/feature",
            "./.devcontainer/feature",
        ),
    ] {
        let text = json!({"image": "debian", "features": {id: {"x": true}}});
        let world = World::new(&[
            (file, &text.to_string()),
            (
                ".devcontainer/feature/devcontainer-feature.json",
                "{\n// c\n\"id\": \"feature\", \"version\": \"1.0.0\"}",
            ),
        ]);
        assert_eq!(
            world.written()["features"][expected],
            json!({"x": true}),
            "{file}"
        );
        world.write(
            ".devcontainer/feature/devcontainer-feature.json",
            "{\n\"privileged\": true}",
        );
        let message = world.refused().message();
        assert!(
            message.contains(".devcontainer/feature/devcontainer-feature.json:2: privileged true"),
            "{message}"
        );
        world.write(".devcontainer/feature/devcontainer-feature.json", "{}");
        std::os::unix::fs::symlink(
            "/etc/passwd",
            world.checkout().join(".devcontainer/feature/install.sh"),
        )
        .unwrap();
        assert!(world.refused().message().contains("features."), "{file}");
    }
}

#[test]
fn present_features_are_not_doubled() {
    let mut world = with(
        r#""features": {"sshd": {"version": "latest"}, "ghcr.io/Tailscale/codespace/tailscale:1.0.0": {}}"#,
    );
    world.config = config(TAILNET);
    assert_eq!(world.written()["features"].as_object().unwrap().len(), 2);
    let world = with(r#""name": "x""#);
    let image = ImageFacts {
        user: None,
        metadata: vec![json!({"id": "ghcr.io/devcontainers/features/sshd:1.1.0"})],
    };
    let prepared = world.prepare(&world.read().unwrap(), Some(&image));
    assert_eq!(
        json_file(&prepared.override_config)["features"],
        Value::Null
    );
}

#[test]
fn the_remote_user_is_who_it_would_have_been() {
    let facts = |user: &str, metadata: Value| ImageFacts {
        user: Some(user.to_owned()),
        metadata: vec![metadata],
    };
    for (property, image, expected) in [
        (
            r#""remoteUser": "a", "containerUser": "b""#,
            facts("c", json!({"remoteUser": "d"})),
            json!("a"),
        ),
        (
            r#""containerUser": "b""#,
            facts("c", json!({"remoteUser": "d"})),
            Value::Null,
        ),
        (
            r#""containerUser": "b:g""#,
            facts("c", json!({"containerUser": "e"})),
            json!("b"),
        ),
        (
            r#""runArgs": ["--user=f"]"#,
            facts("c", json!({})),
            json!("f"),
        ),
        (
            r#""name": "x""#,
            facts("c", json!({"containerUser": "e"})),
            json!("e"),
        ),
        (r#""name": "x""#, facts("c:g", json!({})), json!("c")),
        (r#""name": "x""#, facts("root", json!({})), Value::Null),
        (r#""name": "x""#, facts("", json!({})), Value::Null),
    ] {
        let world = with(property);
        let prepared = world.prepare(&world.read().unwrap(), Some(&image));
        let written = json_file(&prepared.override_config);
        assert_eq!(written["remoteUser"], expected, "{property}");
        assert_eq!(written["containerUser"], "root");
    }
}

#[test]
fn a_user_by_number_is_left_to_the_image_to_name() {
    let facts = |user: &str, metadata: Value| ImageFacts {
        user: Some(user.to_owned()),
        metadata: vec![metadata],
    };
    for (property, image, uid, written) in [
        (
            r#""remoteUser": "1000""#,
            facts("c", json!({})),
            Some("1000"),
            json!("root"),
        ),
        (
            r#""remoteUser": "1000:100""#,
            facts("c", json!({})),
            Some("1000"),
            json!("root"),
        ),
        (
            r#""name": "x""#,
            facts("1001:0", json!({})),
            Some("1001"),
            json!("root"),
        ),
        (
            r#""name": "x""#,
            facts("c", json!({"remoteUser": "1002"})),
            Some("1002"),
            json!("root"),
        ),
        (
            r#""remoteUser": "0""#,
            facts("c", json!({})),
            None,
            json!("root"),
        ),
        (
            r#""remoteUser": "0x1""#,
            facts("c", json!({})),
            None,
            json!("0x1"),
        ),
    ] {
        let world = with(property);
        let repository = world.read().unwrap();
        let prepared = world.prepare(&repository, Some(&image));
        assert_eq!(prepared.uid.as_deref(), uid, "{property}");
        let config = json_file(&prepared.override_config);
        assert_eq!(config["remoteUser"], written, "{property}");
        let user = repository.user(Some(&image));
        assert_eq!(user.as_deref(), uid.or(written.as_str()), "{property}");
    }
}

#[test]
fn the_volume_is_where_the_repository_wants_its_workspace() {
    for (property, target, clone_at) in [
        (r#""name": "x""#, "/workspaces", "/workspaces/site"),
        (
            r#""workspaceFolder": "/workspaces/${localWorkspaceFolderBasename}/sub""#,
            "/workspaces",
            "/workspaces/site",
        ),
        (
            r#""workspaceMount": "source=${localWorkspaceFolder},target=/src,type=bind,consistency=cached", "workspaceFolder": "/src""#,
            "/src",
            "/src",
        ),
        (
            r#""workspaceMount": "source=${localWorkspaceFolder}/..,target=/w,type=bind", "workspaceFolder": "/w/site""#,
            "/w",
            "/w/site",
        ),
        (
            r#""workspaceMount": {"source": "${localWorkspaceFolder}", "target": "${containerWorkspaceFolder}", "type": "bind"}, "workspaceFolder": "/usr/src/thing""#,
            "/usr/src/thing",
            "/usr/src/thing",
        ),
        (
            r#""workspaceMount": "source=${localWorkspaceFolder},target=/w/${localWorkspaceFolderBasename},type=bind", "workspaceFolder": "/w/site/sub""#,
            "/w/site",
            "/w/site",
        ),
        (
            r#""workspaceMount": "source=${localWorkspaceFolder},target=${localWorkspaceFolder},type=bind", "workspaceFolder": "${localWorkspaceFolder}""#,
            "/workspaces/site",
            "/workspaces/site",
        ),
        (
            r#""workspaceMount": "source=${localWorkspaceFolder}/sub,target=/app,type=bind", "workspaceFolder": "/app""#,
            "/workspaces",
            "/workspaces/site",
        ),
        (
            r#""workspaceFolder": "/var/www/html""#,
            "/workspaces",
            "/workspaces/site",
        ),
        (
            r#""workspaceFolder": "/""#,
            "/workspaces",
            "/workspaces/site",
        ),
        (
            r#""workspaceMount": "source=code,target=/go/src/x,type=volume", "workspaceFolder": "/go/src/x""#,
            "/go/src/x",
            "/go/src/x",
        ),
    ] {
        let world = with(property);
        let prepared = world.prepare(&world.read().unwrap(), None);
        assert_eq!(
            (prepared.volume_target.as_str(), prepared.clone_at.as_str()),
            (target, clone_at),
            "{property}"
        );
        let mount = format!("type=volume,source=acme-site,target={target},volume-nocopy");
        assert_eq!(
            json_file(&prepared.override_config)["workspaceMount"],
            mount,
            "{property}"
        );
        assert_eq!(prepared.workspace_folder, world.checkout());
    }
}

#[test]
fn without_a_base_it_is_made_from_the_configured_image() {
    for text in ["{}", r#"{"name": "x", "image": null}"#] {
        let mut world = World::devcontainer(text);
        world.config = config("[devcontainer]\nimage = \"registry.example/own:1\"\n");
        let read = world.read().unwrap();
        assert_eq!(read.image(), Some("registry.example/own:1"), "{text}");
        let prepared = world.prepare(&read, None);
        let written = json_file(&prepared.override_config);
        assert_eq!(written["image"], "registry.example/own:1", "{text}");
    }
}

#[test]
fn all_is_found_at_once_and_trust_is_named_where_it_helps() {
    let mut world = with(
        r#""runArgs": 3, "privileged": true,
"mounts": ["source=${localWorkspaceFolder}/x,target=/x,type=bind"]"#,
    );
    world.docker.version = "20.10.24".to_owned();
    let error = world.read().unwrap_err();
    assert_eq!(error.code(), Code::DevcontainerInvalid);
    let (said, hint) = (error.message(), error.what_next().unwrap());
    for part in ["runArgs must be", "privileged true", "Docker 26 or later"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    for part in [
        "fix it",
        "upgrade Docker",
        "remove what the gate refuses from",
        "--trust",
    ] {
        assert!(hint.contains(part), "{part}: {hint}");
    }
    let error = world.trusted().unwrap_err();
    assert!(!error.what_next().unwrap().contains("--trust"));
}

#[test]
fn a_file_that_people_keep_to_themselves_is_named_with_its_example() {
    for (args, example, path, said) in [
        (
            r#""--env-file", ".env""#,
            ".env.example",
            ".env",
            "only its example .env.example",
        ),
        (
            r#""--env-file=.devcontainer/dev.env""#,
            ".devcontainer/dev.env.sample",
            ".devcontainer/dev.env",
            "only its example .devcontainer/dev.env.sample",
        ),
        (
            r#""--env-file=${localWorkspaceFolder}/.env""#,
            "example.env",
            ".env",
            "only its example example.env",
        ),
        (
            r#""--env-file=.env""#,
            ".envrc",
            ".env",
            ".env is not in the repository",
        ),
    ] {
        let world = with(&format!("\"runArgs\": [{args}]"));
        world.write(example, "A=1\n");
        let error = world.read().unwrap_err();
        assert_eq!(error.code(), Code::DevcontainerInvalid, "{args}");
        let (message, hint) = (error.message(), error.what_next().unwrap().to_owned());
        assert!(message.contains(said), "{args}: {message}");
        assert!(
            message.contains("its example") == said.contains("its example"),
            "{message}"
        );
        let way = format!("`[drones.\"acme/site\"]` with `files = {{ \"{path}\" =");
        assert!(hint.contains(&way) && !hint.contains("--trust"), "{hint}");
    }
}

#[test]
fn a_value_of_several_lines_goes_round_what_would_make_one_of_it() {
    let text = json!({"image": "debian:12", "containerEnv": {"ONE": "1", "MORE": "a\n  b: \"$c\"", "ODD": "x\u{2028}y"}});
    let world = World::devcontainer(&text.to_string());
    let prepared = world.prepare(&world.read().unwrap(), None);
    let written = json_file(&prepared.override_config);
    let env = written["containerEnv"].as_object().unwrap();
    assert!(env.contains_key("ONE") && !env.contains_key("MORE") && !env.contains_key("ODD"));
    assert!(
        has_arg(&written, "--env=MORE=a\n  b: \"$c\""),
        "{}",
        written["runArgs"]
    );
    assert!(has_arg(&written, "--env=ODD=x\u{2028}y"));
}

#[test]
fn the_environment_knows_where_tools_open() {
    let world = with(
        r#""workspaceFolder": "/workspaces/site/sub", "containerEnv": {"A": "${containerWorkspaceFolder}/x"},
           "remoteEnv": {"B": "${containerWorkspaceFolderBasename}-${containerEnv:A}", "C": null}"#,
    );
    let prepared = world.prepare(&world.read().unwrap(), None);
    let written = json_file(&prepared.override_config);
    assert_eq!(written["containerEnv"]["A"], "/workspaces/site/sub/x");
    assert_eq!(
        written["remoteEnv"],
        json!({"B": "sub-${containerEnv:A}", "C": null})
    );
}

#[test]
fn directories_of_the_home_are_mounted_after_what_the_repository_mounts() {
    let mut world =
        with(r#""image": "x", "mounts": ["type=volume,source=theirs,target=/home/dev/.claude"]"#);
    world.config = config(
        "[devcontainer]\nhome = [\".claude\", \".config/gh\"]\nmounts = { models = \"~/models\" }\n",
    );
    assert_eq!(
        world.written()["mounts"],
        json!([
            "type=volume,source=acme-site.theirs,target=/home/dev/.claude",
            "type=volume,source=acme-site.home..claude,target=/home/dev/.claude",
            "type=volume,source=acme-site.home..config_sgh,target=/home/dev/.config/gh",
            "type=volume,source=hatchery.shared.models,target=/home/dev/models",
            "type=bind,source=/run/hatchery/acme-site,target=/run/hatchery,readonly",
        ])
    );
}

#[test]
fn parts_of_the_repository_are_mounted_from_the_drones_volume() {
    let world = with(
        r#""mounts": ["source=${localWorkspaceFolder}/.config,target=/root/.config,type=bind,consistency=cached",
                      {"type": "bind", "source": "${localWorkspaceFolder}", "target": "/x", "readonly": true}],
           "runArgs": ["-v", "${localWorkspaceFolder}/data:/data:ro"]"#,
    );
    world.write(".config/tool", "x");
    let prepared = world.prepare(&world.read().unwrap(), None);
    assert_eq!(
        json_file(&prepared.override_config)["mounts"],
        json!([
            "type=volume,source=acme-site,volume-subpath=site/.config,target=/root/.config,volume-nocopy",
            "type=volume,source=acme-site,volume-subpath=site,target=/x,readonly,volume-nocopy",
            "type=volume,source=acme-site,volume-subpath=site/data,target=/data,readonly,volume-nocopy",
            "type=bind,source=/run/hatchery/acme-site,target=/run/hatchery,readonly",
        ])
    );
    assert!(prepared.mounts_parts);
    assert_eq!(prepared.absent, ["data"]);
}

#[test]
fn a_part_of_the_repository_takes_a_docker_that_can_mount_it() {
    let part = r#""mounts": ["source=${localWorkspaceFolder}/x,target=/x,type=bind"]"#;
    for (version, trusted, passes) in [
        ("20.10.24", false, false),
        ("25.0.3", true, false),
        ("26.0.0", false, true),
        ("29.1.0", false, true),
    ] {
        let mut world = with(part);
        version.clone_into(&mut world.docker.version);
        let read = if trusted {
            world.trusted()
        } else {
            world.read()
        };
        assert_eq!(read.is_ok(), passes, "{version}");
        if let Err(error) = read {
            let said = error.message();
            assert!(
                said.contains("Docker 26") && said.contains(version),
                "{said}"
            );
            let hint = error.what_next().unwrap();
            assert!(!hint.contains("--trust"), "{hint}");
        }
    }
    let mut world = with(
        r#""workspaceMount": "source=${localWorkspaceFolder},target=/src,type=bind", "workspaceFolder": "/src",
           "mounts": ["source=${localWorkspaceFolder}/..,target=/x,type=bind"]"#,
    );
    assert!(
        world
            .read()
            .unwrap_err()
            .message()
            .contains("holds the clone")
    );
    world.docker.version = "20.10.24".to_owned();
    world.write(
        ".devcontainer/devcontainer.json",
        r#"{"image": "debian:12", "mounts": ["source=${localWorkspaceFolder}/..,target=/x,type=bind"]}"#,
    );
    assert!(world.read().is_ok(), "all of the volume");
}

#[test]
fn a_trusted_repository_keeps_all_but_what_hatchery_owns() {
    let world = with(
        r#""initializeCommand": "id", "privileged": true, "capAdd": ["ALL"], "mounts": ["source=/srv,target=/srv,type=bind"], "somethingNew": 1,
  "runArgs": ["--pid=host", "--net=host", "--name=x", "--gpus", "all", "--new-flag", "7", "--security-opt", "seccomp=unconfined"]"#,
    );
    let prepared = world.prepare(&world.trusted().unwrap(), None);
    let written = json_file(&prepared.override_config);
    assert_eq!(written["initializeCommand"], "id");
    assert!(
        prepared.runs_here,
        "no cage for what is to change the server"
    );
    assert_eq!(written["privileged"], true);
    assert_eq!(written["capAdd"], json!(["ALL"]));
    assert_eq!(written["somethingNew"], 1);
    assert_eq!(written["mounts"][0], "source=/srv,target=/srv,type=bind");
    for arg in [
        "--pid=host",
        "--gpus=all",
        "--new-flag",
        "7",
        "--security-opt=seccomp=unconfined",
        "--name=acme-site",
        "--network=acme-site",
    ] {
        assert!(has_arg(&written, arg), "{arg}: {}", written["runArgs"]);
    }
    for arg in ["--net=host", "--network=host", "--name=x"] {
        assert!(!has_arg(&written, arg), "{arg}");
    }
    let mut world = with(r#""privileged": true"#);
    world.config = config("[devcontainer]\ntrust = [\"acme/*\"]\n");
    let prepared = world.prepare(&world.read().unwrap(), None);
    assert_eq!(json_file(&prepared.override_config)["privileged"], true);
    assert!(!prepared.runs_here, "all others are caged, trusted or not");
}

#[test]
fn what_is_not_a_configuration_is_told_with_its_line() {
    for (text, named) in [
        ("{\n  \"image\" \"x\"\n}", "devcontainer.json:2:"),
        ("[]", "must be an object"),
        ("{\n\"image\": 3}", "devcontainer.json:2: image must be"),
        (
            "{\n\"image\": \"-v /:/x\"}",
            "devcontainer.json:2: image must be",
        ),
        (
            "{\"image\": \"x\",\n\"runArgs\": \"--privileged\"}",
            "devcontainer.json:2: runArgs must be",
        ),
        (
            "{\"image\": \"x\",\n\"postCreateCommand\": 3}",
            "devcontainer.json:2: postCreateCommand must be",
        ),
        (
            "{\"image\": \"x\",\n\"containerEnv\": {\"A\": {}}}",
            "devcontainer.json:2: containerEnv.A must be",
        ),
        (
            "{\"image\": \"x\",\n\"remoteUser\": \"-x\"}",
            "devcontainer.json:2: remoteUser must be",
        ),
        (
            "{\"build\": {\n\"dockerfile\": \"absent\"}}",
            "devcontainer.json:2: build.dockerfile: absent is not in the repository",
        ),
        (
            "{\"image\": \"x\",\n\"workspaceFolder\": \"relative\"}",
            "devcontainer.json:2: workspaceFolder must be",
        ),
    ] {
        let error = World::devcontainer(text).read().unwrap_err();
        assert_eq!(error.code(), Code::DevcontainerInvalid, "{text}");
        assert!(
            error.message().contains(named),
            "{text}: {}",
            error.message()
        );
    }
}
