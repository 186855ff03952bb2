//! Whatever a repository says: no panic, and nothing of the host survives the gate.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::common::{World, json_file};

/// Values that a hostile repository would try, and a few honest ones.
fn value() -> impl Strategy<Value = Value> {
    let texts = prop::sample::select(vec![
        "host",
        "x",
        "/",
        "..",
        "../..",
        "Dockerfile",
        "debian",
        "true",
        "--privileged",
        "--pid=host",
        "--network",
        "-v",
        "/:/host",
        "--name=x",
        "type=bind,source=/,target=/x",
        "source=v,target=/x,type=volume",
        "type=volume,source=v,target=/x,volume-opt=device=/",
        "/var/run/docker.sock:/x",
        "v:/v",
        "..:/w",
        "../..:/w",
        "container:x",
        "service:app",
        "service:db",
        "seccomp=unconfined",
        "SYS_ADMIN",
        "SYS_PTRACE",
        "${localEnv:HOME}",
        "${HOME}",
        "$${localEnv:X:{}localEnv:HOME}",
        "hatchery.drone=x",
        "a\n    privileged: true",
        "é\u{7f}",
    ])
    .prop_map(|text| json!(text));
    let leaf = prop_oneof![4 => texts, 1 => any::<bool>().prop_map(Value::Bool), 1 => any::<i32>().prop_map(|n| json!(n)), 1 => Just(Value::Null)];
    leaf.prop_recursive(3, 24, 4, |inner| {
        let keys = prop::sample::select(vec![
            "type",
            "source",
            "target",
            "context",
            "dockerfile",
            "args",
            "options",
            "A",
            "external",
            "driver_opts",
            "privileged",
            "bind",
            "path",
            "gpu",
            "network",
        ]);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::vec((keys, inner), 0..4).prop_map(|entries| entries
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value))
                .collect::<Map<_, _>>()
                .into()),
        ]
    })
}

fn object(names: &'static [&'static str]) -> impl Strategy<Value = Map<String, Value>> {
    prop::collection::vec((prop::sample::select(names), value()), 0..4).prop_map(|entries| {
        entries
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value))
            .collect()
    })
}

const PROPERTIES: &[&str] = &[
    "name",
    "build",
    "dockerFile",
    "context",
    "features",
    "containerEnv",
    "remoteEnv",
    "remoteUser",
    "containerUser",
    "initializeCommand",
    "postCreateCommand",
    "overrideCommand",
    "forwardPorts",
    "appPort",
    "customizations",
    "hostRequirements",
    "init",
    "capAdd",
    "securityOpt",
    "privileged",
    "mounts",
    "runArgs",
    "workspaceMount",
    "workspaceFolder",
    "unknown",
    "dockerComposeFile",
    "service",
];

const KEYS: &[&str] = &[
    "image",
    "build",
    "command",
    "entrypoint",
    "environment",
    "env_file",
    "depends_on",
    "user",
    "tmpfs",
    "volumes",
    "networks",
    "network_mode",
    "ports",
    "labels",
    "privileged",
    "pid",
    "ipc",
    "userns_mode",
    "devices",
    "cap_add",
    "security_opt",
    "deploy",
    "volumes_from",
    "extends",
    "logging",
    "restart",
    "hostname",
    "x-y",
];

/// Nothing in a container's configuration gives a part of the host.
fn assert_harmless(written: &Value) {
    assert_eq!(written["initializeCommand"], Value::Null);
    assert_eq!(written["privileged"], Value::Null);
    assert_eq!(written["appPort"], Value::Null);
    assert!(!written.to_string().contains("localEnv"));
    for mount in written["mounts"].as_array().into_iter().flatten() {
        let text = mount.as_str().unwrap();
        let own = text == "type=bind,source=/run/hatchery/acme-site,target=/run/hatchery,readonly";
        assert!(
            own || !text.contains("bind")
                && !text.contains("volume-opt")
                && !text.contains("source=/"),
            "{text}"
        );
    }
    for arg in written["runArgs"].as_array().into_iter().flatten() {
        let text = arg.as_str().unwrap();
        assert!(text.starts_with("--"), "{text}");
        for bad in [
            "--privileged",
            "--pid=",
            "--ipc",
            "--uts",
            "--userns",
            "--volume",
            "--mount",
            "--network=host",
            "--gpus",
            "--name=x",
        ] {
            assert!(!text.starts_with(bad), "{text}");
        }
    }
    let opts = written["securityOpt"].as_array().into_iter().flatten();
    assert!(
        opts.clone()
            .all(|opt| opt.as_str().unwrap().starts_with("no-new-privileges"))
    );
    let caps = written["capAdd"].as_array().into_iter().flatten();
    assert!(caps.clone().all(|cap| cap != "SYS_ADMIN"));
}

fn assert_harmless_compose(file: &Value) {
    for (name, service) in file["services"].as_object().unwrap() {
        for gone in [
            "privileged",
            "pid",
            "ipc",
            "userns_mode",
            "deploy",
            "volumes_from",
            "extends",
            "devices",
        ] {
            assert_eq!(service[gone], Value::Null, "{name}.{gone}");
        }
        assert_eq!(service["logging"]["driver"], "json-file", "{name}");
        let mode = service["network_mode"].as_str().unwrap_or("none");
        assert!(mode == "none" || mode.starts_with("service:"), "{mode}");
        for mount in service["volumes"].as_array().into_iter().flatten() {
            let own = mount["source"] == "/run/hatchery/acme-site" && mount["read_only"] == true;
            assert!(own || mount["type"] != "bind", "{mount}");
        }
        for port in service["ports"].as_array().into_iter().flatten() {
            assert_eq!(port, "127.0.0.1:4022:2222");
        }
    }
    for (name, volume) in file["volumes"].as_object().unwrap() {
        assert!(
            name == "hatchery-workspace" || volume == &json!({}),
            "{name}: {volume}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn nothing_of_the_host_survives_in_a_configuration(properties in object(PROPERTIES), image in any::<bool>()) {
        let mut document = properties;
        if image {
            document.insert("image".into(), json!("debian"));
        }
        let world = World::new(&[(".devcontainer/devcontainer.json", &Value::Object(document).to_string()), (".devcontainer/Dockerfile", "")]);
        if let Ok(repository) = world.read() {
            let written = json_file(&world.prepare(&repository, None).override_config);
            assert_harmless(&written);
        }
        if let Ok(repository) = world.trusted() {
            world.prepare(&repository, None);
        }
    }

    #[test]
    fn nothing_of_the_host_survives_in_a_compose_file(app in object(KEYS), db in object(KEYS), volumes in value()) {
        let mut app = app;
        app.entry("image").or_insert(json!("debian"));
        let file = json!({"services": {"app": app, "db": db}, "volumes": {"v": volumes}});
        let world = World::new(&[
            (".devcontainer/devcontainer.json", r#"{"dockerComposeFile": "c.yml", "service": "app"}"#),
            (".devcontainer/c.yml", &file.to_string()),
        ]);
        if world.read().is_ok() {
            assert_harmless_compose(&world.composed());
        }
        if let Ok(repository) = world.trusted() {
            world.prepare(&repository, None);
        }
    }

    #[test]
    fn no_file_makes_it_panic(json in "\\PC{0,80}", yaml in "\\PC{0,80}", env in "\\PC{0,40}") {
        let world = World::devcontainer(&json);
        let _ = world.read();
        let world = World::new(&[
            (".devcontainer/devcontainer.json", r#"{"dockerComposeFile": "c.yml", "service": "app"}"#),
            (".devcontainer/c.yml", &yaml),
            (".devcontainer/.env", &env),
        ]);
        let _ = world.read();
    }
}
