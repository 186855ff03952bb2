//! Texts that the devcontainer CLI writes into other texts as they are stay on their line.

use hatchery::devcontainer::check_image;
use hatchery::drone::DroneName;
use hatchery::error::Code;
use serde_json::{Value, json};

use crate::common::{World, repo};

/// What would become a service of its own in YAML, an instruction in a Dockerfile, a command in a
/// file of variables.
const INJECTED: &str = "x\n  db:\n    privileged: true";

fn with(property: &str, value: &Value) -> World {
    let mut document = json!({"image": "debian"});
    if property == "build" {
        document = json!({});
    }
    document[property] = value.clone();
    let world = World::devcontainer(&document.to_string());
    world.write(".devcontainer/Dockerfile", "FROM debian");
    world
}

/// The gate refuses this value of the property, and names it so.
fn refuses(property: &str, value: &Value, named: &str) {
    let message = with(property, value).refused().message();
    assert!(message.contains(named), "{value}: {message}");
    assert!(!message.contains(char::is_control), "{message:?}");
}

#[test]
fn no_text_of_a_build_leaves_its_line() {
    for (key, value, named) in [
        ("args", json!({"A": INJECTED}), "args.A"),
        ("args", json!({INJECTED: "a"}), "args"),
        ("args", json!({"--ssh": "a"}), "args.--ssh"),
        (
            "args",
            json!({"_DEV_CONTAINERS_BASE_IMAGE": "a"}),
            "args._DEV",
        ),
        (
            "options",
            json!([format!("--build-arg=A={INJECTED}")]),
            "options",
        ),
        ("options", json!(["--build-arg", "-A=b"]), "options"),
        (
            "options",
            json!([format!("--label=a={INJECTED}")]),
            "options",
        ),
        ("cacheFrom", json!(INJECTED), "cacheFrom"),
        ("cacheFrom", json!(["--x"]), "cacheFrom"),
        ("dockerfile", json!("Docker\nfile"), "dockerfile"),
        ("context", json!("\r."), "context"),
    ] {
        let mut build = json!({"dockerfile": "Dockerfile"});
        build[key] = value;
        refuses("build", &build, &format!("build.{named}"));
    }
}

#[test]
fn no_text_of_a_devcontainer_json_leaves_its_line() {
    for (property, value, named) in [
        ("containerEnv", json!({"A": "x\u{1b}y"}), "containerEnv.A"),
        ("containerEnv", json!({INJECTED: "x"}), "containerEnv"),
        ("capAdd", json!([format!("NET_RAW\n{INJECTED}")]), "capAdd"),
        ("securityOpt", json!(["no-new-privileges\n"]), "securityOpt"),
        (
            "mounts",
            json!([format!("type=volume,source=a,target=/{INJECTED}")]),
            "mounts",
        ),
        (
            "mounts",
            json!([{"type": "volume", "source": INJECTED, "target": "/x"}]),
            "mounts",
        ),
        (
            "features",
            json!({format!("ghcr.io/a/{INJECTED}"): {}}),
            "features.ghcr.io",
        ),
        (
            "features",
            json!({"ghcr.io/a/b:1": {"x": INJECTED}}),
            "features.ghcr.io/a/b:1",
        ),
        (
            "features",
            json!({"ghcr.io/a/b:1": {INJECTED: true}}),
            "features.ghcr.io/a/b:1",
        ),
        (
            "features",
            json!({"ghcr.io/a/b:1": "1\u{85}"}),
            "features.ghcr.io/a/b:1",
        ),
        (
            "features",
            json!({"ghcr.io/a/b:1": {"x": ["a\nb"]}}),
            "features.ghcr.io/a/b:1",
        ),
        (
            "overrideFeatureInstallOrder",
            json!([INJECTED]),
            "overrideFeatureInstallOrder",
        ),
        (
            "overrideFeatureInstallOrder",
            json!(["https://a.example/devcontainer-feature-x.tgz"]),
            "overrideFeatureInstallOrder",
        ),
        (
            "overrideFeatureInstallOrder",
            json!(["--x"]),
            "overrideFeatureInstallOrder",
        ),
        (
            "runServices",
            json!(["--ssh=default=/root/.ssh/id"]),
            "runServices",
        ),
        ("runServices", json!([INJECTED]), "runServices"),
        (
            "runArgs",
            json!([format!("--hostname={INJECTED}")]),
            "runArgs",
        ),
        (
            "runArgs",
            json!([format!("--label=a={INJECTED}")]),
            "runArgs",
        ),
        ("runArgs", json!(["--user", INJECTED]), "runArgs"),
    ] {
        refuses(property, &value, named);
    }
}

#[test]
fn a_name_that_is_none_is_wrong() {
    for (property, value) in [
        ("containerUser", json!(INJECTED)),
        ("remoteUser", json!(INJECTED)),
        ("remoteUser", json!([INJECTED])),
        ("image", json!(INJECTED)),
        ("workspaceFolder", json!(format!("/{INJECTED}"))),
        (
            "build",
            json!({"dockerfile": "Dockerfile", "target": INJECTED}),
        ),
    ] {
        let error = with(property, &value).read().unwrap_err();
        assert_eq!(error.code(), Code::DevcontainerInvalid, "{value}");
        assert!(error.message().contains(property), "{}", error.message());
    }
}

#[test]
fn what_people_write_passes() {
    for (property, value) in [
        (
            "build",
            json!({"dockerfile": "Dockerfile", "target": "dev", "args": {"VARIANT": "3.12", "EMPTY": "", "WORDS": "a \"b\" $c é"}}),
        ),
        ("containerEnv", json!({"PATH": "/x:${containerEnv:PATH}"})),
        ("remoteEnv", json!({"MOTD": "two\nlines"})),
        ("postCreateCommand", json!("one\ntwo")),
        (
            "features",
            json!({"ghcr.io/devcontainers-extra/features/bash-command:1": {"command": "echo \"$HOME\" 'a' `id`"}}),
        ),
        (
            "overrideFeatureInstallOrder",
            json!(["ghcr.io/devcontainers/features/common-utils", "./local"]),
        ),
        (
            "runArgs",
            json!(["-e", "A=two\nlines", "--health-cmd=a\nb", "--label=a=b c"]),
        ),
    ] {
        let read = with(property, &value).read();
        assert!(read.is_ok(), "{value}: {}", read.unwrap_err().message());
    }
}

fn composed(app: &Value, more: &Value) -> World {
    let mut document =
        json!({"dockerComposeFile": "c.yml", "service": "app", "workspaceFolder": "/w"});
    for (key, value) in more.as_object().unwrap() {
        document[key] = value.clone();
    }
    let compose = json!({"services": {"app": app, "db": {"image": "postgres"}}});
    let world = World::new(&[
        (".devcontainer/devcontainer.json", &document.to_string()),
        (".devcontainer/c.yml", &compose.to_string()),
    ]);
    world.write(".devcontainer/Dockerfile", "FROM debian");
    world
}

#[test]
fn no_text_of_a_compose_file_leaves_its_line() {
    for (build, named) in [
        (json!({"context": ".", "target": INJECTED}), "build.target"),
        (json!({"context": ".", "target": "-x"}), "build.target"),
        (json!({"context": ".", "target": ["a"]}), "build.target"),
        (
            json!({"context": ".", "args": {"A": INJECTED}}),
            "build.args.A",
        ),
        (
            json!({"context": ".", "args": [format!("A={INJECTED}")]}),
            "build.args.A",
        ),
        (
            json!({"context": ".", "args": {INJECTED: "a"}}),
            "build.args",
        ),
        (
            json!({"context": ".", "args": {"-A": "a"}}),
            "build.args.-A",
        ),
        (
            json!({"context": ".", "cache_from": [INJECTED]}),
            "build.cache_from",
        ),
        (
            json!({"context": ".", "cache_from": ["--x"]}),
            "build.cache_from",
        ),
        (
            json!({"context": ".", "dockerfile": INJECTED}),
            "build.dockerfile",
        ),
        (json!({"context": INJECTED}), "build.context"),
        (
            json!({"context": ".", "shm_size": INJECTED}),
            "build.shm_size",
        ),
    ] {
        let message = composed(&json!({"build": build}), &json!({}))
            .refused()
            .message();
        assert!(
            message.contains(&format!("services.app.{named}")),
            "{message}"
        );
    }
    for (key, value) in [
        ("platform", json!(INJECTED)),
        ("platform", json!("--x")),
        ("cap_add", json!([INJECTED])),
        ("security_opt", json!(["no-new-privileges:true\n"])),
        ("environment", json!({INJECTED: "x"})),
        ("volumes", json!([format!("a:/{INJECTED}")])),
    ] {
        let app = json!({"image": "debian", key: value});
        let message = composed(&app, &json!({})).refused().message();
        assert!(
            message.contains(&format!("services.app.{key}")),
            "{message}"
        );
    }
    let app = json!({"build": {"context": ".", "target": "dev", "args": {"A": "b c", "N": 1}},
        "platform": "linux/amd64", "environment": {"MOTD": "two\nlines"}});
    composed(&app, &json!({})).composed();
}

#[test]
fn run_services_are_services_of_the_project() {
    let app = json!({"image": "debian"});
    let services = |list: Value| composed(&app, &json!({"runServices": list}));
    services(json!(["app", "db"])).composed();
    services(json!([])).composed();
    for flag in ["--build-arg=INJECTED=1", "-d", "", "a\nb"] {
        let message = services(json!(["db", flag])).refused().message();
        assert!(
            message.contains("devcontainer.json:1: runServices"),
            "{message}"
        );
    }
    let error = services(json!(["web"])).read().unwrap_err();
    assert_eq!(error.code(), Code::DevcontainerInvalid);
    assert!(
        error.message().contains("devcontainer.json:1: runServices"),
        "{}",
        error.message()
    );
}

#[test]
fn an_image_says_nothing_that_a_repository_may_not() {
    let drone = DroneName::of(&repo());
    let check = |user: Option<&str>, entries: &[Value], trusted| {
        check_image("acme/base:1", user, entries, &drone, trusted, None)
    };
    for user in [None, Some("node"), Some("1000:1000")] {
        assert!(check(user, &[json!({"remoteUser": "vscode"})], false).is_ok());
    }
    for user in [INJECTED, "-u", "a b", "root\n"] {
        let error = check(Some(user), &[], false).unwrap_err();
        assert_eq!(error.code(), Code::GateRefused);
        let message = error.message();
        assert!(message.contains("the image acme/base:1: USER"), "{message}");
        assert!(check(Some(user), &[], true).is_ok());
    }
    for entry in [
        json!({"containerUser": INJECTED}),
        json!({"remoteUser": [INJECTED]}),
        json!({"entrypoint": [INJECTED]}),
        json!({"mounts": "type=bind,source=/,target=/x"}),
        json!({"containerEnv": {"A": INJECTED}}),
        json!({"capAdd": [INJECTED]}),
        json!({"privileged": true}),
        json!({"initializeCommand": "id"}),
    ] {
        let error = check(None, std::slice::from_ref(&entry), false).unwrap_err();
        assert_eq!(error.code(), Code::GateRefused, "{entry}");
    }
}

const FEATURE: &str = ".devcontainer/a/devcontainer-feature.json";

fn feature(more: &[(&str, &Value)]) -> World {
    let world = World::devcontainer(r#"{"image": "debian", "features": {"./a": {}}}"#);
    world.write(FEATURE, r#"{"id": "a"}"#);
    for (file, value) in more {
        world.write(file, &value.to_string());
    }
    world
}

fn link(world: &World, link: &str, target: &str) {
    std::os::unix::fs::symlink(target, world.checkout().join(link)).unwrap();
}

#[test]
fn a_local_feature_stays_in_its_copy() {
    feature(&[]).written();
    let world = feature(&[]);
    world.write(".devcontainer/lib/common.sh", "");
    link(&world, ".devcontainer/a/common.sh", "../lib/common.sh");
    let message = world.refused().message();
    assert!(
        message.contains("features../a") && message.contains("a link"),
        "{message}"
    );
    let world = feature(&[]);
    world.write(".devcontainer/a/lib/common.sh", "");
    link(&world, ".devcontainer/a/common.sh", "lib/common.sh");
    world.written();
    // The file that the link leads to is there, and it is the repository's.
    let world = feature(&[]);
    world.write("etc/profile.d/x.sh", "");
    link(
        &world,
        ".devcontainer/a/devcontainer-features.env",
        "../../etc/profile.d/x.sh",
    );
    world.refused();
    for id in ["../../../etc/profile.d/x", "a\nRUN id", "-a", "", "a b"] {
        let world = feature(&[(FEATURE, &json!({"id": id}))]);
        let message = world.refused().message();
        assert!(
            message.contains("devcontainer-feature.json:1: id"),
            "{message}"
        );
    }
    let world = World::devcontainer(r#"{"image": "debian", "features": {"./a b": {}}}"#);
    world.write(".devcontainer/a b/devcontainer-feature.json", "{}");
    assert!(world.refused().message().contains("feature's name"));
}

#[test]
fn what_a_local_feature_depends_on_is_read_too() {
    let on = |id: &str| json!({"id": "a", "dependsOn": {id: {}}});
    let b = ".devcontainer/b/devcontainer-feature.json";
    let c = ".devcontainer/c/devcontainer-feature.json";
    // Seen from the configuration, whichever feature says it.
    feature(&[(FEATURE, &on("./b")), (b, &on("./c")), (c, &on("./a"))]).written();
    for (bad, named) in [
        (
            json!({"privileged": true}),
            "c/devcontainer-feature.json:1: privileged true",
        ),
        (json!({"id": "../c"}), "c/devcontainer-feature.json:1: id"),
        (
            on("https://a.example/devcontainer-feature-x.tgz"),
            "dependsOn.https",
        ),
        (on("./missing"), "dependsOn../missing"),
        (on("../outside"), "dependsOn.../outside"),
        (on("./.."), "dependsOn../.."),
        (
            json!({"dependsOn": {"./a": {"x": "\n. /etc"}}}),
            "dependsOn../a",
        ),
    ] {
        let world = feature(&[(FEATURE, &on("./b")), (b, &on("./c")), (c, &bad)]);
        let message = world.refused().message();
        assert!(message.contains(named), "{bad}: {message}");
    }
    let world = feature(&[(FEATURE, &on("./b")), (b, &on("./c")), (c, &json!({}))]);
    link(&world, ".devcontainer/c/x", "../../c");
    let message = world.refused().message();
    assert!(
        message.contains("dependsOn../b: dependsOn../c"),
        "{message}"
    );
    let world = feature(&[
        (FEATURE, &on("./b")),
        ("other/devcontainer-feature.json", &json!({})),
    ]);
    link(&world, ".devcontainer/b", "../other");
    assert!(world.refused().message().contains("dependsOn../b"));
    let mut files = Vec::new();
    for number in 0..150 {
        let next = json!({"id": "x", "dependsOn": {format!("./f{}", number + 1): {}}});
        files.push((
            format!(".devcontainer/f{number}/devcontainer-feature.json"),
            next,
        ));
    }
    let files: Vec<(&str, &Value)> = files
        .iter()
        .map(|(file, value)| (file.as_str(), value))
        .collect();
    let world = feature(&files);
    world.write(FEATURE, r#"{"dependsOn": {"./f0": {}}}"#);
    world.refused();
}

/// A published feature may depend on one of the repository's, which nobody knows before.
#[test]
fn features_that_nothing_names_lead_nowhere_either() {
    let world = World::devcontainer(r#"{"image": "debian"}"#);
    world.write(
        ".devcontainer/deep/b/devcontainer-feature.json",
        r#"{"privileged": true}"#,
    );
    world.written();
    world.write(
        ".devcontainer/deep/b/devcontainer-feature.json",
        r#"{"id": "../x"}"#,
    );
    assert!(
        world
            .refused()
            .message()
            .contains("deep/b/devcontainer-feature.json:1: id")
    );
    world.write(".devcontainer/deep/b/devcontainer-feature.json", "{}");
    link(
        &world,
        ".devcontainer/deep/b/devcontainer-features.env",
        "../../../etc/x",
    );
    assert!(
        world
            .refused()
            .message()
            .contains("the feature .devcontainer/deep/b")
    );
    let world = World::devcontainer(r#"{"image": "debian"}"#);
    world.write("elsewhere/b/devcontainer-feature.json", "{}");
    link(&world, "elsewhere/b/devcontainer-features.env", "/etc/x");
    world.written();
    link(&world, ".devcontainer/link", "../elsewhere");
    assert!(
        world
            .refused()
            .message()
            .contains("the feature elsewhere/b")
    );
    world.trusted().unwrap();
}
