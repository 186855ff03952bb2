//! The merged configuration: what images and features bring along, in the label
//! `devcontainer.metadata` or in a feature's own file.

use std::path::Path;

use serde_json::Value;

use super::features::{self, Origin};
use super::mounts;
use super::policy::{self, Judgement};
use super::verdict::Gate;
use super::words::{NO_VARIABLE, stays_on_its_line};
use crate::config::Runtime;
use crate::devcontainer::reading::document::{Data, Node};
use crate::drone::DroneName;
use crate::error::{Code, Error, Result};

/// The label in which the devcontainer CLI keeps the merged configuration.
pub const LABEL: &str = "devcontainer.metadata";

/// Where the sockets' directory is in a drone.
pub const SOCKETS_TARGET: &str = "/run/hatchery";

/// Properties that can do nothing beyond the drone, whatever their value.
const HARMLESS: &[&str] = &[
    // Of a configuration.
    "customizations",
    "forwardPorts",
    "hostRequirements",
    "onCreateCommand",
    "otherPortsAttributes",
    "overrideCommand",
    "portsAttributes",
    "postAttachCommand",
    "postCreateCommand",
    "postStartCommand",
    "secrets",
    "shutdownAction",
    "updateContentCommand",
    "updateRemoteUserUID",
    "userEnvProbe",
    "waitFor",
    // Of a feature.
    "$schema",
    "deprecated",
    "description",
    "documentationURL",
    "init",
    "keywords",
    "licenseURL",
    "name",
];

/// Where an entry comes from, which decides what it may hold.
#[derive(Clone, Copy)]
pub enum Entry<'a> {
    /// An entry of the label, which may hold what hatchery put there for the drone.
    Label(&'a Own<'a>),
    /// The file of a feature in the repository.
    LocalFeature,
    /// The file of a feature that the devcontainer CLI has fetched. Properties that neither the
    /// CLI nor hatchery knows do nothing, and published features have some.
    FetchedFeature,
}

/// Reads the text of the label: a list of entries, or one alone. Fails if it is neither.
pub fn parse_metadata(label: &str) -> Result<Vec<Value>> {
    match serde_json::from_str(label) {
        Ok(Value::Array(entries)) => Ok(entries),
        Ok(entry @ Value::Object(_)) => Ok(vec![entry]),
        Ok(_) => Err(Error::new(
            Code::DevcontainerInvalid,
            format!("the label {LABEL} is not a list of objects"),
        )),
        Err(error) => Err(Error::new(
            Code::DevcontainerInvalid,
            format!("the label {LABEL} of the image is not JSON"),
        )
        .because(error)),
    }
}

/// Checks the merged configuration of an image or container against the policy. The error lists what is
/// refused.
///
/// `sockets` is the drone's own directory of sockets, the one mount of the host that a drone has; `shared` are
/// the volumes that this server's configuration has drones share.
pub fn check_metadata(
    entries: &[Value],
    drone: &DroneName,
    sockets: Option<&Path>,
    shared: &[String],
    trusted: bool,
    runtime: Option<Runtime>,
) -> Result<()> {
    let mut gate = Gate::new(trusted, "").run_by(runtime);
    let own = Own {
        drone,
        sockets,
        shared,
    };
    check_entries(entries, &own, &mut gate);
    gate.verdict().map(|_| ())
}

/// Checks what an image says of itself against the policy: its `USER` and the entries of its label. The error
/// lists what is refused.
pub fn check_image(
    image: &str,
    user: Option<&str>,
    entries: &[Value],
    drone: &DroneName,
    trusted: bool,
    runtime: Option<Runtime>,
) -> Result<()> {
    let mut gate = Gate::new(trusted, format!("the image {image:.200}")).run_by(runtime);
    if let Some(user) = user.filter(|user| !policy::is_user(user)) {
        gate.refuse_text(0, "USER", &format!("{user:?}"), "this is not a user");
    }
    let own = Own {
        drone,
        sockets: None,
        shared: &[],
    };
    check_entries(entries, &own, &mut gate);
    gate.verdict().map(|_| ())
}

/// As [`check_metadata`], for a gate that has more to judge.
pub fn check_entries(entries: &[Value], own: &Own<'_>, gate: &mut Gate) {
    for entry in entries {
        let origin = entry.get("id").and_then(Value::as_str).map_or_else(
            || "the image's metadata".to_owned(),
            |id| format!("the feature {id:.200}"),
        );
        gate.turn_to(origin);
        check_entry(&Node::from_value(entry), gate, Entry::Label(own));
    }
}

/// What a drone's own metadata may hold because hatchery put it there.
#[derive(Clone, Copy)]
pub struct Own<'a> {
    /// The drone's name.
    pub drone: &'a DroneName,
    /// The drone's directory of sockets.
    pub sockets: Option<&'a Path>,
    /// The volumes that it shares with other drones.
    pub shared: &'a [String],
}

/// The text for `--mount` of the directory of sockets, the one mount of the host that a drone has.
pub fn sockets_mount(sockets: &Path) -> String {
    format!(
        "type=bind,source={},target={SOCKETS_TARGET},readonly",
        sockets.display()
    )
}

/// Checks one entry of the label, or a feature's own file.
pub fn check_entry(entry: &Node, gate: &mut Gate, kind: Entry<'_>) {
    if !entry.is_map() {
        gate.wrong(entry, "an entry", "an object");
        return;
    }
    for (name, node) in entry.properties() {
        if matches!(node.data, Data::Null) {
            continue;
        }
        match name.as_str() {
            "id" => check_id(node, gate, kind),
            "privileged" if !node.is_off() => {
                gate.refuse_privileges(
                    node,
                    name,
                    "root in the drone would be root on this server",
                );
            }
            "capAdd" => judge_list(node, name, gate, policy::capability),
            "securityOpt" => judge_list(node, name, gate, policy::security_opt),
            // The devcontainer CLI takes a mount that stands alone as well as a list.
            "mounts" if !node.is_list() => check_mount(node, gate, kind),
            "mounts" => {
                for mount in node.elements() {
                    check_mount(mount, gate, kind);
                }
            }
            "containerEnv" | "remoteEnv" => check_env(name, node, gate),
            "entrypoint" => {
                if !node.as_text().is_some_and(is_entrypoint) {
                    gate.refuse(node, name, "it is not just the path of a program");
                }
            }
            "remoteUser" | "containerUser" => {
                let user = node.as_scalar();
                if !user.is_some_and(|user| user.is_empty() || policy::is_user(&user)) {
                    gate.refuse(node, name, "this is not a user");
                }
            }
            "dependsOn" => {
                for (id, options) in node.properties() {
                    let property = format!("{name}.{id:.120}");
                    if let Some(why) = features::barred(id) {
                        gate.refuse(options, &property, why);
                    }
                    stays_on_its_line(&Node::text(node.line, id.as_str()), &property, gate);
                    stays_on_its_line(options, &property, gate);
                }
            }
            "options" => check_options(node, gate),
            "version" | "currentId" | "legacyIds" => {
                stays_on_its_line(node, name, gate);
            }
            "installsAfter" => {
                stays_on_its_line(node, name, gate);
                for id in node.one_or_many() {
                    let text = id.as_text().unwrap_or_default();
                    if Origin::Registry == features::origin(text)
                        && let Some(why) = features::barred(text)
                    {
                        gate.refuse(id, name, why);
                    }
                }
            }
            "privileged" => {}
            name if HARMLESS.contains(&name) => {}
            // Ones that the CLI keeps beside a feature's own while it works on it.
            name if matches!(kind, Entry::FetchedFeature) && !CLI_KEEPS.contains(&name) => {}
            _ => {
                gate.refuse(node, name, "hatchery does not know this property");
            }
        }
    }
}

/// Why a feature is refused that is neither in a registry nor in the repository.
pub const NO_TARBALL: &str =
    "only features from a registry or from the repository itself are installed";

/// Properties that the devcontainer CLI adds to the object into which it has read a feature's file.
const CLI_KEEPS: &[&str] = &[
    "buildArg",
    "cachePath",
    "consecutiveId",
    "included",
    "internalVersion",
    "runParams",
    "value",
];

/// Checks an `id`. In the label it is the identifier that a configuration has. In a feature's own file it is a
/// plain name, which becomes a directory's.
fn check_id(node: &Node, gate: &mut Gate, kind: Entry<'_>) {
    match kind {
        Entry::Label(_) => {
            stays_on_its_line(node, "id", gate);
        }
        Entry::LocalFeature | Entry::FetchedFeature => {
            if !node.as_text().is_some_and(policy::is_name) {
                gate.refuse(node, "id", "this is not the name of a feature");
            }
        }
    }
}

/// Names and values of variables. Those of `containerEnv` become lines of a Dockerfile.
fn check_env(name: &str, node: &Node, gate: &mut Gate) {
    if !node.is_map() {
        gate.refuse(node, name, "this is not an object of strings");
    }
    for (key, value) in node.properties() {
        let property = format!("{name}.{key:.80}");
        if !policy::is_env_name(key) {
            gate.refuse(value, &property, NO_VARIABLE);
        }
        if name == "containerEnv" {
            if value.is_map() || value.is_list() {
                gate.refuse(value, &property, "this is not a string");
            }
            stays_on_its_line(value, &property, gate);
        }
    }
}

/// Checks a feature's options: their names and default values become lines that a shell reads.
fn check_options(node: &Node, gate: &mut Gate) {
    for (option, about) in node.properties() {
        let property = format!("options.{option:.80}");
        stays_on_its_line(&Node::text(node.line, option.as_str()), &property, gate);
        if let Some(default) = about.get("default") {
            stays_on_its_line(default, &property, gate);
        }
    }
}

/// Whether an entrypoint is safe: the devcontainer CLI writes it unescaped into a compose file's quoted text.
fn is_entrypoint(text: &str) -> bool {
    text.chars()
        .all(|c| c.is_ascii_alphanumeric() || "/._-+ =:,@".contains(c))
}

/// Whether a text mounts this volume, as hatchery writes it.
fn is_mount_of(text: &str, volume: &str) -> bool {
    let rest = text.strip_prefix("type=volume,source=");
    let target = rest
        .and_then(|rest| rest.strip_prefix(volume))
        .and_then(|rest| rest.strip_prefix(",target=/"));
    target.is_some_and(|target| !target.contains(','))
}

fn check_mount(mount: &Node, gate: &mut Gate, kind: Entry<'_>) {
    let value = mount.to_value();
    if let (Entry::Label(own), Some(text)) = (kind, value.as_str()) {
        let is_sockets = own.sockets.is_some_and(|path| sockets_mount(path) == text);
        let volume = format!("type=volume,source={}.", own.drone);
        if is_sockets
            || own.shared.iter().any(|volume| is_mount_of(text, volume))
            || (text.starts_with(&volume) && mounts::judge(&value, None).is_ok())
            || mounts::is_part(text, own.drone)
        {
            return;
        }
    }
    match mounts::judge(&value, None) {
        Ok(judged) if judged.is_scoped() => {}
        Ok(_) => {
            gate.refuse(
                mount,
                "mounts",
                "another drone could have the same volume; its name must contain ${devcontainerId}",
            );
        }
        Err(why) => {
            gate.refuse(mount, "mounts", why);
        }
    }
}

/// Judges each text of a list. What could be left out elsewhere passes here: nothing can be removed any more.
fn judge_list(node: &Node, property: &str, gate: &mut Gate, judge: fn(&str) -> Judgement) {
    for element in node.elements() {
        let judgement = element
            .as_text()
            .map_or(Judgement::Refuse("this is not a string"), judge);
        if let Judgement::Refuse(why) = judgement {
            gate.refuse(element, property, why);
        }
    }
    if !node.is_list() && !node.is_off() {
        gate.refuse(node, property, "this is not a list");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn drone() -> DroneName {
        DroneName::of(&"acme/site".parse().unwrap())
    }

    fn check(entry: Value) -> Result<()> {
        check_metadata(
            &[entry],
            &drone(),
            Some(Path::new("/run/hatchery/acme-site")),
            &["hatchery.shared.claude".to_owned()],
            false,
            None,
        )
    }

    #[test]
    fn only_a_shared_volume_of_this_servers_is_no_other_drones() {
        for (mount, passes) in [
            (
                "type=volume,source=hatchery.shared.claude,target=/home/dev/.claude",
                true,
            ),
            ("type=volume,source=hatchery.shared.other,target=/x", false),
            (
                "type=volume,source=hatchery.shared.claude.x,target=/x",
                false,
            ),
            (
                "type=volume,source=hatchery.shared.claude,target=/x,volume-driver=x",
                false,
            ),
            ("type=bind,source=hatchery.shared.claude,target=/x", false),
        ] {
            assert_eq!(check(json!({"mounts": [mount]})).is_ok(), passes, "{mount}");
        }
    }

    #[test]
    fn well_known_features_and_images_pass() {
        for entry in [
            json!({"id": "ghcr.io/tailscale/codespace/tailscale", "capAdd": ["NET_ADMIN", "NET_RAW"], "entrypoint": "/usr/local/sbin/tailscaled-devcontainer-start", "mounts": [{"source": "tailscale-${devcontainerId}", "target": "/var/lib/tailscale", "type": "volume"}]}),
            json!({"id": "ghcr.io/devcontainers/features/sshd:1", "entrypoint": "/usr/local/share/ssh-init.sh"}),
            json!({"id": "ghcr.io/devcontainers/features/go:1", "init": true, "capAdd": ["SYS_PTRACE"], "securityOpt": ["seccomp=unconfined"], "containerEnv": {"PATH": "/go/bin:${PATH}"}}),
            json!({"id": "ghcr.io/devcontainers/features/nix:1", "mounts": [{"source": "nix-store-${devcontainerId}", "target": "/nix", "type": "volume"}]}),
            json!({"remoteUser": "vscode", "privileged": false}),
            json!({"mounts": ["type=volume,source=acme-site.x,target=/x", "type=bind,source=/run/hatchery/acme-site,target=/run/hatchery,readonly"]}),
        ] {
            let result = check(entry.clone());
            assert!(result.is_ok(), "{entry}: {}", result.unwrap_err().message());
        }
    }

    #[test]
    fn what_would_hand_over_the_host_is_refused_and_named() {
        for (entry, named) in [
            (
                json!({"id": "x/y", "privileged": true}),
                "the feature x/y: privileged true",
            ),
            (json!({"privileged": "yes"}), "privileged"),
            (json!({"capAdd": ["SYS_ADMIN"]}), "capAdd \"SYS_ADMIN\""),
            (json!({"capAdd": "ALL"}), "capAdd"),
            (json!({"capAdd": [{}]}), "capAdd"),
            (
                json!({"securityOpt": ["apparmor=unconfined"]}),
                "apparmor=unconfined",
            ),
            (
                json!({"mounts": [{"source": "/var/run/docker.sock", "target": "/var/run/docker-host.sock", "type": "bind"}]}),
                "mounts",
            ),
            (
                json!({"mounts": ["type=bind,source=/run/hatchery/other,target=/run/hatchery,readonly"]}),
                "mounts",
            ),
            (
                json!({"mounts": [{"source": "minikube-config", "target": "/m", "type": "volume"}]}),
                "devcontainerId",
            ),
            (
                json!({"mounts": ["type=volume,source=acme-other.x,target=/x"]}),
                "another drone",
            ),
            (
                json!({"dependsOn": {"https://x.example/devcontainer-feature-x.tgz": {}}}),
                "dependsOn.https://",
            ),
            (
                json!({"initializeCommand": "id"}),
                "initializeCommand \"id\"",
            ),
            (json!({"runArgs": ["--privileged"]}), "runArgs"),
            (
                json!({"containerEnv": {"A='\n    privileged: true\n#": "x"}}),
                "containerEnv",
            ),
            (
                json!({"entrypoint": "x\"]\n    privileged: true\n    command: [\""}),
                "entrypoint",
            ),
            (
                json!({"containerUser": "root\n    privileged: true"}),
                "containerUser",
            ),
            (json!({"somethingNew": true}), "somethingNew true"),
            // In forms of which the devcontainer CLI makes the same text.
            (
                json!({"mounts": "type=bind,source=/etc,target=/x"}),
                "mounts \"type=bind",
            ),
            (
                json!({"mounts": {"type": "bind", "source": "/etc", "target": "/x"}}),
                "mounts",
            ),
            (json!({"entrypoint": ["x\"]\n    pid: host"]}), "entrypoint"),
            (json!({"remoteUser": ["root\n    pid: host"]}), "remoteUser"),
            (json!({"containerUser": {"a": 1}}), "containerUser"),
            (json!({"containerEnv": ["x\nRUN id"]}), "containerEnv"),
            (
                json!({"containerEnv": {"A": "x\nRUN id"}}),
                "containerEnv.A",
            ),
            (
                json!({"containerEnv": {"A": ["x\nRUN id"]}}),
                "containerEnv.A",
            ),
            (json!({"id": "ghcr.io/a/b\nRUN id"}), "id"),
            (json!({"version": "1\nRUN id"}), "version"),
            (
                json!({"options": {"a": {"default": "x\n. /etc"}}}),
                "options.a",
            ),
            (json!({"options": {"a\nb": {}}}), "options.a"),
            (json!({"dependsOn": {"./b": {"x": "\n"}}}), "dependsOn../b"),
            (
                json!({"capAdd": ["NET_RAW\n    privileged: true"]}),
                "capAdd",
            ),
            (
                json!({"securityOpt": ["no-new-privileges\n"]}),
                "securityOpt",
            ),
        ] {
            let error = check(entry.clone()).unwrap_err();
            assert_eq!(error.code(), Code::GateRefused, "{entry}");
            assert!(
                error.message().contains(named),
                "{entry}: {}",
                error.message()
            );
            assert!(check_metadata(&[entry], &drone(), None, &[], true, None).is_ok());
        }
    }

    #[test]
    fn a_refusal_is_short_and_stays_on_its_line_whatever_is_refused() {
        let entry = json!({"id": "a\u{1b}[2J", "x\n".repeat(10_000): "\r\n".repeat(10_000)});
        let message = check(entry).unwrap_err().message();
        assert!(message.len() < 4000, "{}", message.len());
        assert!(!message.contains(char::is_control), "{message:?}");
    }

    #[test]
    fn the_label_is_a_list_or_one_entry() {
        assert_eq!(parse_metadata("[{}, {}]").unwrap().len(), 2);
        assert_eq!(parse_metadata("{\"remoteUser\": \"x\"}").unwrap().len(), 1);
        for label in ["", "3", "[", "\"x\""] {
            assert!(parse_metadata(label).is_err(), "{label}");
        }
        assert!(check_metadata(&[json!(3)], &drone(), None, &[], false, None).is_err());
    }

    proptest! {
        #[test]
        fn no_label_makes_it_panic(text in "[\\[\\]{}\":,a-z0-9é]{0,80}") {
            if let Ok(entries) = parse_metadata(&text) {
                let _ = check_metadata(&entries, &drone(), None, &[], false, None);
            }
        }
    }
}
