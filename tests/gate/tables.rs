//! The manual's tables of properties: generated from what the gate goes by, true to what it does, and
//! without a gap.

use std::path::Path;

use hatchery::devcontainer::properties::{
    self, BUILD, COMPOSE, DEVCONTAINER, Fate, RUN_ARGS, SERVICE, SERVICE_BUILD, Table,
};
use hatchery::devcontainer::{Finding, Kind};
use hatchery::error::Code;
use serde_json::{Value, json};

use crate::common::World;

/// Properties of devcontainer.json, as its schema has them (devcontainers/spec at c95ffee,
/// `schemas/devContainer.base.schema.json`).
const DEVCONTAINER_SPECIFIED: &str = "
    $schema appPort build capAdd containerEnv containerUser context customizations dockerComposeFile
    dockerFile features forwardPorts hostRequirements image init initializeCommand mounts name
    onCreateCommand otherPortsAttributes overrideCommand overrideFeatureInstallOrder portsAttributes
    postAttachCommand postCreateCommand postStartCommand privileged remoteEnv remoteUser runArgs
    runServices secrets securityOpt service shutdownAction updateContentCommand updateRemoteUserUID
    userEnvProbe waitFor workspaceFolder workspaceMount";
const BUILD_SPECIFIED: &str = "args cacheFrom context dockerfile options target";

/// Properties that devcontainer.json had before there was a specification.
const DEVCONTAINER_OLDER: &str = "devPort extensions settings";

/// Properties of compose files, as their schema has them (compose-spec/compose-spec at 170098b,
/// `schema/compose-spec.json`).
const COMPOSE_SPECIFIED: &str =
    "configs include models name networks secrets services version volumes";
const SERVICE_SPECIFIED: &str = "
    annotations attach blkio_config build cap_add cap_drop cgroup cgroup_parent command configs
    container_name cpu_count cpu_percent cpu_period cpu_quota cpu_rt_period cpu_rt_runtime cpu_shares
    cpus cpuset credential_spec depends_on deploy develop device_cgroup_rules devices dns dns_opt
    dns_search domainname entrypoint env_file environment expose extends external_links extra_hosts gpus
    group_add healthcheck hostname image init ipc isolation label_file labels links logging mac_address
    mem_limit mem_reservation mem_swappiness memswap_limit models network_mode networks oom_kill_disable
    oom_score_adj pid pids_limit platform ports post_start pre_stop privileged profiles provider
    pull_policy pull_refresh_after read_only restart runtime scale secrets security_opt shm_size
    stdin_open stop_grace_period stop_signal storage_opt sysctls tmpfs tty ulimits use_api_socket user
    userns_mode uts volumes volumes_from working_dir";
const SERVICE_BUILD_SPECIFIED: &str = "
    additional_contexts args cache_from cache_to context dockerfile dockerfile_inline entitlements
    extra_hosts isolation labels network no_cache platforms privileged provenance pull sbom secrets
    shm_size ssh tags target ulimits";

/// Where the manual's tables begin and end.
const BEGIN: &str = "<!-- Written by `HATCHERY_WRITE_MANUAL=1 cargo test --test gate`. -->\n";
const END: &str = "<!-- The end of what is written. -->\n";

#[test]
fn the_manual_has_the_tables_that_the_gate_goes_by() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference/properties.md");
    let manual = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = manual.split_once(BEGIN).expect("no tables begin");
    let (there, after) = rest.split_once(END).expect("no tables end");
    let tables: String = properties::ALL.into_iter().map(shown).collect();
    let tables = format!("{tables}\n");
    if std::env::var_os("HATCHERY_WRITE_MANUAL").is_some() {
        std::fs::write(&path, format!("{before}{BEGIN}{tables}{END}{after}")).unwrap();
        return;
    }
    for (line, (there, expected)) in there.lines().zip(tables.lines()).enumerate() {
        assert_eq!(there, expected, "line {line} of the tables");
    }
    assert_eq!(there, tables);
}

/// One table, a line for each property. Flags are many and say little: those of which the same is to
/// be said share a line.
fn shown(table: &Table) -> String {
    let mut lines: Vec<(Vec<String>, Fate, &str)> = Vec::new();
    let flags = table.title == RUN_ARGS.title;
    for property in table.properties {
        let dashes = if flags { "--" } else { "" };
        let name = format!("`{dashes}{}`", property.name);
        let like = lines
            .iter_mut()
            .find(|(_, fate, says)| flags && (*fate, *says) == (property.fate, property.says));
        match like {
            Some((names, ..)) => names.push(name),
            None => lines.push((vec![name], property.fate, property.says)),
        }
    }
    let mut text = format!(
        "\n### {}\n| {} | what becomes of it | |\n|---|---|---|\n",
        table.title,
        if flags { "flag" } else { "property" }
    );
    for (names, fate, says) in lines {
        let line = [&names.join(" "), fate.as_str(), says].join(" | ");
        text.extend(["| ", &line, " |\n"]);
    }
    text
}

#[test]
fn no_property_of_the_specifications_is_missing() {
    for (table, specified, older) in [
        (&DEVCONTAINER, DEVCONTAINER_SPECIFIED, DEVCONTAINER_OLDER),
        (&BUILD, BUILD_SPECIFIED, ""),
        (&COMPOSE, COMPOSE_SPECIFIED, ""),
        (&SERVICE, SERVICE_SPECIFIED, ""),
        (&SERVICE_BUILD, SERVICE_BUILD_SPECIFIED, ""),
    ] {
        let mut expected: Vec<_> = specified.split_whitespace().collect();
        expected.extend(older.split_whitespace());
        expected.sort_unstable_by_key(|name| name.to_lowercase());
        let there: Vec<_> = table.properties.iter().map(|each| each.name).collect();
        assert_eq!(there, expected, "{}", table.title);
    }
    let flags: Vec<_> = RUN_ARGS.properties.iter().map(|each| each.name).collect();
    assert!(flags.is_sorted(), "{flags:?}");
}

/// A property, a value of it that is as its rule says (JSON, or the text after a flag), and one that is
/// not where there is a rule.
type Example = (&'static str, &'static str, &'static str);

#[test]
fn each_property_of_devcontainer_json_is_judged_as_the_table_says() {
    hold(&DEVCONTAINER, IN_DEVCONTAINER, |name, value| {
        let mut document = json!({"image": "debian:12"});
        let on_its_own = ["build", "dockerComposeFile", "dockerFile"];
        if on_its_own.contains(&name) {
            document = json!({"service": "app"});
        }
        match name {
            "context" => document = json!({"dockerFile": "Dockerfile"}),
            "service" | "runServices" => {
                document = json!({"dockerComposeFile": "plain.yml", "service": "app"});
            }
            _ => {}
        }
        document[name] = parsed(value);
        let world = world(&document, &json!({}));
        (world, name.to_owned())
    });
}

#[test]
fn each_property_of_a_build_is_judged_as_the_table_says() {
    hold(&BUILD, IN_BUILD, |name, value| {
        let mut build = json!({"dockerfile": "Dockerfile"});
        build[name] = parsed(value);
        (
            world(&json!({"build": build}), &json!({})),
            format!("build.{name}"),
        )
    });
}

#[test]
fn each_element_of_a_compose_file_is_judged_as_the_table_says() {
    hold(&COMPOSE, IN_COMPOSE, |name, value| {
        let mut project = project();
        if matches!(name, "configs" | "secrets") {
            project["services"]["db"][name] = json!(["x"]);
        }
        project[name] = parsed(value);
        (composed(&project), name.to_owned())
    });
}

#[test]
fn each_property_of_a_service_is_judged_as_the_table_says() {
    hold(&SERVICE, IN_SERVICE, |name, value| {
        let mut project = project();
        // The drone's own service has more of hatchery's.
        project["services"]["db"][name] = parsed(value);
        (composed(&project), format!("services.db.{name}"))
    });
}

#[test]
fn each_property_of_a_services_build_is_judged_as_the_table_says() {
    hold(&SERVICE_BUILD, IN_SERVICE_BUILD, |name, value| {
        let mut project = project();
        project["services"]["db"] = json!({"build": {"context": "."}});
        project["services"]["db"]["build"][name] = parsed(value);
        (composed(&project), format!("services.db.build.{name}"))
    });
}

#[test]
fn each_flag_of_run_args_is_judged_as_the_table_says() {
    hold(&RUN_ARGS, OF_RUN_ARGS, |name, value| {
        let flag = match value {
            "" => format!("--{name}"),
            value => format!("--{name}={value}"),
        };
        let document = json!({"image": "debian:12", "runArgs": [flag]});
        (world(&document, &json!({})), format!("runArgs --{name}"))
    });
}

/// Properties that say nothing to whatever is started.
const UNWRITTEN: &[&str] = &["$schema", "version"];

/// Holds each property of a table against what the gate says of its examples. `world` makes a
/// repository of a property with a value, and says what a finding calls the property.
fn hold(table: &Table, examples: &[Example], world: impl Fn(&str, &str) -> (World, String)) {
    let named: Vec<_> = examples.iter().map(|(name, ..)| *name).collect();
    let listed: Vec<_> = table.properties.iter().map(|each| each.name).collect();
    assert_eq!(named, listed, "each property has an example");
    for (property, (name, fits, beyond)) in table.properties.iter().zip(examples) {
        let (there, path) = world(name, fits);
        let judged = there.judge(false);
        let told: Vec<_> = judged.findings.iter().map(ToString::to_string).collect();
        let place = format!("{path}: {fits}: {told:#?}");
        let says = |kind, why: &str| {
            let found = judged.findings.as_slice();
            let [only] = found else {
                panic!("one thing is to be said: {place}");
            };
            assert_eq!(only.kind(), kind, "{place}");
            assert!(is_about(only, &path), "{place}");
            assert!(only.message().ends_with(&format!(": {why}")), "{place}");
        };
        match property.fate {
            Fate::Refused | Fate::Contained => {
                let error = judged.verdict.as_ref().unwrap_err();
                assert_eq!(error.code(), Code::GateRefused, "{place}");
                says(Kind::Refused, property.says);
            }
            Fate::LeftOut => says(Kind::LeftOut, property.says),
            Fate::Own => {
                if !judged.findings.is_empty() {
                    says(Kind::LeftOut, properties::OURS);
                }
            }
            Fate::Rule if property.says.contains("left out") => {
                let mut found = judged.findings.iter();
                assert!(found.all(|each| each.kind() == Kind::LeftOut), "{place}");
            }
            Fate::Passes | Fate::Rule => assert!(judged.findings.is_empty(), "{place}"),
        }
        if !matches!(property.fate, Fate::Refused | Fate::Contained) {
            assert!(judged.verdict.is_ok(), "{place}");
            let (written, given) = (written(&there, &path), parsed_or_text(fits));
            match property.fate {
                Fate::Passes if UNWRITTEN.contains(name) => {}
                // Compose's are written in one form each.
                Fate::Passes => assert_ne!(written, Value::Null, "{place}"),
                Fate::Own | Fate::LeftOut => assert_ne!(Some(&written), given.as_ref(), "{place}"),
                _ => {}
            }
        }
        assert_eq!(property.fate == Fate::Rule, !beyond.is_empty(), "{place}");
        if !beyond.is_empty() {
            let (there, path) = world(name, beyond);
            let found = there.judge(false).findings;
            assert!(!found.is_empty(), "{path}: {beyond} passes");
            let about = found.iter().all(|found| is_about(found, &path));
            assert!(about, "{path}: {beyond}: {found:#?}");
            let refused = found.iter().any(|found| found.kind() != Kind::LeftOut);
            assert!(
                refused || property.says.contains("left out"),
                "{path}: {beyond} is left out, which {} does not say",
                property.says
            );
        }
    }
}

/// Whether a finding is about a property or flag.
fn is_about(found: &Finding, path: &str) -> bool {
    let said = found.message().replace('"', "");
    // The older form of a build's.
    let older = matches!(path, "dockerFile" | "context") && said.starts_with("build.");
    said.starts_with(path) || older
}

/// What is started has at the place of a property; of a flag, what it was given.
fn written(world: &World, path: &str) -> Value {
    let written = world.written();
    if let Some(flag) = path.strip_prefix("runArgs ") {
        let mut args = written["runArgs"].as_array().into_iter().flatten();
        let given = args.find_map(|arg| arg.as_str()?.strip_prefix(flag));
        return given.map_or(Value::Null, |given| json!(given.trim_start_matches('=')));
    }
    let whole = match written.get("dockerComposeFile") {
        Some(_) if path != "service" && !path.starts_with("run") => world.composed(),
        _ => written,
    };
    let place = format!("/{}", path.replace('.', "/"));
    whole.pointer(&place).cloned().unwrap_or_default()
}

/// The value of a property, or the text after a flag.
fn parsed_or_text(value: &str) -> Option<Value> {
    serde_json::from_str(value)
        .ok()
        .or_else(|| Some(json!(value)))
}

fn parsed(value: &str) -> Value {
    serde_json::from_str(value).unwrap_or_else(|error| panic!("{value}: {error}"))
}

fn project() -> Value {
    json!({
        "services": {"app": {"image": "debian:12"}, "db": {"image": "postgres:17"}},
        "configs": {"c": {"file": "file"}},
        "secrets": {"s": {"file": "file"}},
    })
}

fn composed(project: &Value) -> World {
    let document = json!({"dockerComposeFile": "compose.yml", "service": "app"});
    world(&document, project)
}

fn world(document: &Value, project: &Value) -> World {
    let plain = "services: {app: {image: debian}, db: {image: debian}}";
    World::new(&[
        (".devcontainer/devcontainer.json", &document.to_string()),
        (".devcontainer/compose.yml", &project.to_string()),
        (".devcontainer/plain.yml", plain),
        (
            ".devcontainer/more.yml",
            "services: {more: {image: debian}}",
        ),
        (".devcontainer/Dockerfile", "FROM debian"),
        (".devcontainer/file", "A=1"),
        ("file", "A=1"),
    ])
}

const IN_DEVCONTAINER: &[Example] = &[
    ("$schema", r#""https://x.example/schema.json""#, ""),
    ("appPort", "80", ""),
    (
        "build",
        r#"{"dockerfile": "Dockerfile"}"#,
        r#"{"dockerfile": "../../Dockerfile"}"#,
    ),
    (
        "capAdd",
        r#"["SYS_PTRACE", "NET_ADMIN"]"#,
        r#"["SYS_ADMIN"]"#,
    ),
    ("containerEnv", r#"{"A.b-1": "x"}"#, r#"{"1A": "x"}"#),
    ("containerUser", r#""1000""#, r#""a b""#),
    ("context", r#""..""#, r#""../..""#),
    ("customizations", r#"{"vscode": {}}"#, ""),
    ("devPort", "80", ""),
    (
        "dockerComposeFile",
        r#"["plain.yml"]"#,
        r#"["/etc/compose.yml"]"#,
    ),
    ("dockerFile", r#""Dockerfile""#, r#""/etc/Dockerfile""#),
    ("extensions", r#"["a.b"]"#, ""),
    (
        "features",
        r#"{"ghcr.io/a/b:1": {}}"#,
        r#"{"localhost/a/b:1": {}}"#,
    ),
    ("forwardPorts", r#"[3000, "db:5432"]"#, ""),
    ("hostRequirements", r#"{"cpus": 2}"#, r#"{"gpu": true}"#),
    ("image", r#""ubuntu""#, r#""localhost/ubuntu""#),
    ("init", "true", ""),
    ("initializeCommand", r#""id""#, ""),
    (
        "mounts",
        r#"["type=volume,source=x,target=/x"]"#,
        r#"["type=bind,source=/etc,target=/x"]"#,
    ),
    ("name", r#""Site""#, ""),
    ("onCreateCommand", r#""id""#, ""),
    ("otherPortsAttributes", r#"{"label": "x"}"#, ""),
    ("overrideCommand", "true", ""),
    (
        "overrideFeatureInstallOrder",
        r#"["ghcr.io/a/b"]"#,
        r#"["localhost/a/b"]"#,
    ),
    ("portsAttributes", r#"{"80": {}}"#, ""),
    ("postAttachCommand", r#""id""#, ""),
    ("postCreateCommand", r#"["id"]"#, ""),
    ("postStartCommand", r#"{"a": "id"}"#, ""),
    ("privileged", "true", ""),
    ("remoteEnv", r#"{"A": null}"#, r#"{"A=B": "x"}"#),
    ("remoteUser", r#""node""#, r#""-u""#),
    ("runArgs", r#"["--init"]"#, r#"["--new"]"#),
    ("runServices", r#"["db"]"#, r#"["none"]"#),
    ("secrets", r#"{"A": {}}"#, ""),
    (
        "securityOpt",
        r#"["no-new-privileges"]"#,
        r#"["apparmor=unconfined"]"#,
    ),
    ("service", r#""db""#, r#""none""#),
    ("settings", "{}", ""),
    ("shutdownAction", r#""none""#, ""),
    ("updateContentCommand", r#""id""#, ""),
    ("updateRemoteUserUID", "true", ""),
    ("userEnvProbe", r#""none""#, ""),
    ("waitFor", r#""onCreateCommand""#, ""),
    ("workspaceFolder", r#""/w""#, r#""w""#),
    (
        "workspaceMount",
        r#""type=bind,source=${localWorkspaceFolder},target=/w""#,
        r#""type=bind,source=/etc,target=/w""#,
    ),
];

const IN_BUILD: &[Example] = &[
    ("args", r#"{"A": "x"}"#, r#"{"A": "x\ny"}"#),
    ("cacheFrom", r#""ghcr.io/a/b""#, r#""type=local,src=/etc""#),
    ("context", r#""..""#, r#""../..""#),
    ("dockerfile", r#""file""#, r#""/etc/passwd""#),
    (
        "options",
        r#"["--add-host=a:1.2.3.4", "--build-arg", "A=1", "--force-rm", "--label=a=b", "--network=none", "--no-cache", "--platform=linux/amd64", "--progress=plain", "--pull", "--shm-size=1g", "--ulimit=nofile=1024"]"#,
        r#"["--network=host"]"#,
    ),
    ("target", r#""stage""#, r#""--x""#),
];

const IN_COMPOSE: &[Example] = &[
    (
        "configs",
        r#"{"x": {"file": "file"}}"#,
        r#"{"x": {"external": true}}"#,
    ),
    ("include", r#"["more.yml"]"#, r#"["../../more.yml"]"#),
    ("models", r#"{"x": {"model": "x"}}"#, ""),
    ("name", r#""other""#, ""),
    (
        "networks",
        r#"{"x": {"internal": true}}"#,
        r#"{"x": {"external": true}}"#,
    ),
    (
        "secrets",
        r#"{"x": {"file": "file"}}"#,
        r#"{"x": {"environment": "X"}}"#,
    ),
    (
        "services",
        r#"{"app": {"image": "debian"}}"#,
        r#"{"app": {"image": "debian"}, "a b": {}}"#,
    ),
    ("version", r#""3.8""#, ""),
    (
        "volumes",
        r#"{"x": {"driver": "local"}}"#,
        r#"{"x": {"external": true}}"#,
    ),
];

const IN_SERVICE: &[Example] = &[
    ("annotations", r#"{"a": "b"}"#, ""),
    ("attach", "true", ""),
    ("blkio_config", r#"{"weight": 10}"#, ""),
    ("build", r#"{"context": "."}"#, r#"{"context": "../.."}"#),
    ("cap_add", r#"["SYS_PTRACE"]"#, r#"["ALL"]"#),
    ("cap_drop", r#"["ALL"]"#, ""),
    ("cgroup", r#""host""#, ""),
    ("cgroup_parent", r#""x""#, ""),
    ("command", r#"["sleep", "1"]"#, ""),
    ("configs", r#"["c"]"#, r#"["none"]"#),
    ("container_name", r#""db""#, ""),
    ("cpu_count", "1", ""),
    ("cpu_percent", "50", ""),
    ("cpu_period", "1000", ""),
    ("cpu_quota", "1000", ""),
    ("cpu_rt_period", "1000", ""),
    ("cpu_rt_runtime", "1000", ""),
    ("cpu_shares", "10", ""),
    ("cpus", "99", ""),
    ("cpuset", r#""0""#, ""),
    ("credential_spec", r#"{"file": "x"}"#, ""),
    ("depends_on", r#"["app"]"#, ""),
    ("deploy", r#"{"replicas": 2}"#, ""),
    ("develop", r#"{"watch": []}"#, ""),
    ("device_cgroup_rules", r#"["c 1:3 mr"]"#, ""),
    (
        "devices",
        r#"["/dev/fuse:/dev/fuse:rwm"]"#,
        r#"["/dev/sda"]"#,
    ),
    ("dns", r#""1.1.1.1""#, ""),
    ("dns_opt", r#"["timeout:1"]"#, ""),
    ("dns_search", r#"["x.example"]"#, ""),
    ("domainname", r#""x.example""#, ""),
    ("entrypoint", r#""sleep""#, ""),
    ("env_file", r#"["file"]"#, r#"["/etc/shadow"]"#),
    ("environment", r#"{"A": "1"}"#, r#"["A"]"#),
    ("expose", r#"["80"]"#, ""),
    (
        "extends",
        r#"{"service": "app"}"#,
        r#"{"service": "app", "file": "../../x.yml"}"#,
    ),
    ("external_links", r#"["x"]"#, ""),
    ("extra_hosts", r#"["x:1.2.3.4"]"#, ""),
    ("gpus", r#""all""#, ""),
    ("group_add", r#"["1000"]"#, ""),
    (
        "healthcheck",
        r#"{"test": ["CMD", "true"], "start_interval": "1s"}"#,
        "",
    ),
    ("hostname", r#""x""#, ""),
    ("image", r#""redis""#, r#""localhost/redis""#),
    ("init", "true", ""),
    ("ipc", r#""private""#, r#""host""#),
    ("isolation", r#""hyperv""#, ""),
    ("label_file", r#""file""#, ""),
    ("labels", r#"{"a": "b"}"#, r#"{"hatchery.drone": "x"}"#),
    ("links", r#"["app"]"#, ""),
    ("logging", r#"{"driver": "syslog"}"#, ""),
    ("mac_address", r#""02:42:ac:11:65:43""#, ""),
    ("mem_limit", r#""1t""#, ""),
    ("mem_reservation", r#""1t""#, ""),
    ("mem_swappiness", "10", ""),
    ("memswap_limit", r#""1t""#, ""),
    ("models", r#"["x"]"#, ""),
    ("network_mode", r#""service:app""#, r#""host""#),
    (
        "networks",
        r#"{"x": {"aliases": ["a"]}}"#,
        r#"{"x": {"ipv4_address": "10.0.0.1"}}"#,
    ),
    ("oom_kill_disable", "true", ""),
    ("oom_score_adj", "-1000", ""),
    ("pid", r#""host""#, ""),
    ("pids_limit", "-1", ""),
    ("platform", r#""linux/amd64""#, r#""--x""#),
    ("ports", r#"["80:80"]"#, ""),
    (
        "post_start",
        r#"[{"command": "id", "privileged": true}]"#,
        "",
    ),
    ("pre_stop", r#"[{"command": "id", "privileged": true}]"#, ""),
    ("privileged", "true", ""),
    ("profiles", r#"["x"]"#, ""),
    ("provider", r#"{"type": "x"}"#, ""),
    ("pull_policy", r#""always""#, ""),
    ("pull_refresh_after", r#""1h""#, ""),
    ("read_only", "true", ""),
    ("restart", r#""always""#, ""),
    ("runtime", r#""x""#, ""),
    ("scale", "2", ""),
    ("secrets", r#"["s"]"#, r#"["none"]"#),
    (
        "security_opt",
        r#"["no-new-privileges:true"]"#,
        r#"["seccomp=./x.json"]"#,
    ),
    ("shm_size", r#""1g""#, ""),
    ("stdin_open", "true", ""),
    ("stop_grace_period", r#""1s""#, ""),
    ("stop_signal", r#""SIGINT""#, ""),
    ("storage_opt", r#"{"size": "1G"}"#, ""),
    (
        "sysctls",
        r#"{"net.core.somaxconn": 1024}"#,
        r#"{"kernel.core_pattern": "x"}"#,
    ),
    ("tmpfs", r#"["/x"]"#, ""),
    ("tty", "true", ""),
    ("ulimits", r#"{"nofile": 1024}"#, r#"{"rtprio": 99}"#),
    ("use_api_socket", "true", ""),
    ("user", r#""1000:1000""#, r#""a b""#),
    ("userns_mode", r#""host""#, ""),
    ("uts", r#""host""#, ""),
    ("volumes", r#"["x:/x", "..:/w"]"#, r#"["/etc:/x"]"#),
    ("volumes_from", r#"["app"]"#, ""),
    ("working_dir", r#""/x""#, ""),
];

const IN_SERVICE_BUILD: &[Example] = &[
    ("additional_contexts", r#"{"x": "/etc"}"#, ""),
    ("args", r#"{"A": "1"}"#, r#"{"1A": "1"}"#),
    (
        "cache_from",
        r#"["ghcr.io/a/b"]"#,
        r#"["type=local,src=/etc"]"#,
    ),
    ("cache_to", r#"["type=local,dest=/etc"]"#, ""),
    ("context", r#""..""#, r#""../..""#),
    ("dockerfile", r#""Dockerfile""#, r#""/etc/passwd""#),
    ("dockerfile_inline", r#""FROM debian""#, ""),
    ("entitlements", r#"["security.insecure"]"#, ""),
    ("extra_hosts", r#"["x:1.2.3.4"]"#, ""),
    ("isolation", r#""hyperv""#, ""),
    ("labels", r#"{"a": "b"}"#, r#"{"com.docker.x": "b"}"#),
    ("network", r#""none""#, r#""host""#),
    ("no_cache", "true", ""),
    ("platforms", r#"["linux/amd64"]"#, ""),
    ("privileged", "true", ""),
    ("provenance", "true", ""),
    ("pull", "true", ""),
    ("sbom", "true", ""),
    ("secrets", r#"["s"]"#, ""),
    ("shm_size", r#""1g""#, ""),
    ("ssh", r#"["default"]"#, ""),
    ("tags", r#"["x"]"#, ""),
    ("target", r#""stage""#, r#""--x""#),
    ("ulimits", r#"{"nofile": 1024}"#, ""),
];

const OF_RUN_ARGS: &[Example] = &[
    ("add-host", "x:1.2.3.4", ""),
    ("cap-add", "SYS_PTRACE", "ALL"),
    ("cap-drop", "ALL", ""),
    ("cgroup-parent", "x", ""),
    ("cgroupns", "host", ""),
    ("cidfile", "/x", ""),
    ("cpu-period", "1000", ""),
    ("cpu-quota", "1000", ""),
    ("cpu-shares", "10", ""),
    ("cpus", "99", ""),
    ("cpuset-cpus", "0", ""),
    ("cpuset-mems", "0", ""),
    ("detach", "", ""),
    ("device", "/dev/net/tun", "/dev/sda"),
    ("device-cgroup-rule", "c 1:3 mr", ""),
    ("dns", "1.1.1.1", ""),
    ("dns-option", "timeout:1", ""),
    ("dns-search", "x.example", ""),
    ("env", "A=1", "A"),
    ("env-file", "file", "/etc/shadow"),
    ("expose", "80", ""),
    ("gpus", "all", ""),
    ("group-add", "1000", ""),
    ("health-cmd", "true", ""),
    ("health-interval", "1s", ""),
    ("health-retries", "1", ""),
    ("health-start-period", "1s", ""),
    ("health-timeout", "1s", ""),
    ("hostname", "x", ""),
    ("init", "", ""),
    ("interactive", "", ""),
    ("ipc", "private", "host"),
    ("label", "a=b", "hatchery.drone=x"),
    ("label-file", "/x", ""),
    ("log-driver", "syslog", ""),
    ("log-opt", "mode=x", ""),
    ("memory", "1t", ""),
    ("memory-reservation", "1t", ""),
    ("memory-swap", "1t", ""),
    ("memory-swappiness", "10", ""),
    (
        "mount",
        "type=volume,source=x,target=/x",
        "type=bind,source=/etc,target=/x",
    ),
    ("name", "x", ""),
    ("network", "bridge", "host"),
    ("network-alias", "x", ""),
    ("no-healthcheck", "", ""),
    ("oom-kill-disable", "", ""),
    ("oom-score-adj", "-1000", ""),
    ("pid", "host", ""),
    ("pids-limit", "-1", ""),
    ("platform", "linux/amd64", ""),
    ("privileged", "", ""),
    ("publish", "80:80", ""),
    ("publish-all", "", ""),
    ("pull", "always", ""),
    ("read-only", "", ""),
    ("restart", "always", ""),
    ("rm", "", ""),
    ("runtime", "x", ""),
    ("security-opt", "no-new-privileges", "apparmor=unconfined"),
    ("shm-size", "1g", ""),
    ("sig-proxy", "", ""),
    ("stop-signal", "SIGINT", ""),
    ("stop-timeout", "1", ""),
    ("storage-opt", "size=1G", ""),
    ("sysctl", "net.core.somaxconn=1024", "kernel.core_pattern=x"),
    ("tmpfs", "/x", ""),
    ("tty", "", ""),
    ("ulimit", "nofile=1024", "rtprio=99"),
    ("user", "1000:1000", "a b"),
    ("userns", "host", ""),
    ("uts", "host", ""),
    ("volume", "x:/x", "/etc:/x"),
    ("volumes-from", "x", ""),
    ("workdir", "/x", ""),
];
