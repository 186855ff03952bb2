//! The merged configuration: what images and features bring along, in the label
//! `devcontainer.metadata` or in a feature's own file.

use std::path::Path;

use serde_json::Value;

use super::document::Node;
use super::features::{self, Origin};
use super::mounts;
use super::policy::{self, Judgement};
use super::verdict::Gate;
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
    "id",
    "init",
    "installsAfter",
    "keywords",
    "legacyIds",
    "licenseURL",
    "name",
    "options",
    "version",
];

/// Reads the text of the label: a list of entries, or one alone.
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

/// Holds the merged configuration of an image or container against the policy.
///
/// `sockets` is the drone's own directory of sockets, the one mount of the host that a drone has.
pub fn check_metadata(
    entries: &[Value],
    drone: &DroneName,
    sockets: Option<&Path>,
    trusted: bool,
) -> Result<()> {
    let own = Own { drone, sockets };
    let mut gate = Gate::new(trusted, "");
    for entry in entries {
        let origin = entry.get("id").and_then(Value::as_str).map_or_else(
            || "the image's metadata".to_owned(),
            |id| format!("the feature {id:.200}"),
        );
        gate.turn_to(origin);
        check_entry(&Node::from_value(entry), &mut gate, Some(&own));
    }
    gate.verdict().map(|_| ())
}

/// What a drone's own metadata may hold because hatchery put it there.
pub(super) struct Own<'a> {
    drone: &'a DroneName,
    sockets: Option<&'a Path>,
}

/// The one mount of the host that a drone has.
pub(super) fn sockets_mount(sockets: &Path) -> String {
    format!(
        "type=bind,source={},target={SOCKETS_TARGET},readonly",
        sockets.display()
    )
}

/// One entry of the label, or a feature's own file.
pub(super) fn check_entry(entry: &Node, gate: &mut Gate, own: Option<&Own<'_>>) {
    if !entry.is_map() {
        gate.wrong(entry, "an entry", "an object");
        return;
    }
    for (name, node) in entry.properties() {
        match name.as_str() {
            "privileged" if !node.is_off() => {
                gate.refuse(node, name, "root in the drone would be root on this server");
            }
            "capAdd" => judge_list(node, name, gate, policy::capability),
            "securityOpt" => judge_list(node, name, gate, policy::security_opt),
            "mounts" => {
                for mount in node.elements() {
                    check_mount(mount, gate, own);
                }
            }
            "containerEnv" | "remoteEnv" => {
                for (key, value) in node.properties() {
                    if !policy::is_env_name(key) {
                        gate.refuse(value, &format!("{name}.{key:.80}"), NO_VARIABLE);
                    }
                }
            }
            "entrypoint" => {
                if node.as_text().is_some_and(|text| !is_entrypoint(text)) {
                    gate.refuse(node, name, "it is more than the path of a program");
                }
            }
            "remoteUser" | "containerUser" => {
                if node.as_text().is_some_and(|text| !policy::is_user(text)) {
                    gate.refuse(node, name, "this is not a user");
                }
            }
            "dependsOn" => {
                for (id, options) in node.properties() {
                    if features::origin(id) == Origin::Elsewhere {
                        gate.refuse(options, &format!("{name}.{id:.120}"), NO_TARBALL);
                    }
                }
            }
            "privileged" => {}
            name if HARMLESS.contains(&name) => {}
            _ => {
                gate.refuse(node, name, "hatchery does not know this property");
            }
        }
    }
}

pub(super) const NO_TARBALL: &str =
    "only a registry's features and the repository's own are installed";
pub(super) const NO_VARIABLE: &str = "this is not the name of a variable";

/// The devcontainer CLI writes it into a compose file's quoted text as it is.
fn is_entrypoint(text: &str) -> bool {
    text.chars()
        .all(|c| c.is_ascii_alphanumeric() || "/._-+ =:,@".contains(c))
}

fn check_mount(mount: &Node, gate: &mut Gate, own: Option<&Own<'_>>) {
    let value = mount.to_value();
    if let (Some(own), Some(text)) = (own, value.as_str()) {
        let is_sockets = own.sockets.is_some_and(|path| sockets_mount(path) == text);
        let volume = format!("type=volume,source={}.", own.drone);
        if is_sockets || (text.starts_with(&volume) && mounts::judge(&value).is_ok()) {
            return;
        }
    }
    match mounts::judge(&value) {
        Ok(judged) if judged.is_scoped() => {}
        Ok(_) => {
            gate.refuse(
                mount,
                "mounts",
                "another drone can have the same volume; its name must hold ${devcontainerId}",
            );
        }
        Err(why) => {
            gate.refuse(mount, "mounts", why);
        }
    }
}

/// Judges each text of a list where nothing can be left out any more.
fn judge_list(node: &Node, property: &str, gate: &mut Gate, judge: fn(&str) -> Judgement) {
    for element in node.elements() {
        let judgement = element
            .as_text()
            .map_or(Judgement::Refuse("this is not a text"), judge);
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
            false,
        )
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
        ] {
            let error = check(entry.clone()).unwrap_err();
            assert_eq!(error.code(), Code::GateRefused, "{entry}");
            assert!(
                error.message().contains(named),
                "{entry}: {}",
                error.message()
            );
            assert!(check_metadata(&[entry], &drone(), None, true).is_ok());
        }
    }

    #[test]
    fn the_label_is_a_list_or_one_entry() {
        assert_eq!(parse_metadata("[{}, {}]").unwrap().len(), 2);
        assert_eq!(parse_metadata("{\"remoteUser\": \"x\"}").unwrap().len(), 1);
        for label in ["", "3", "[", "\"x\""] {
            assert!(parse_metadata(label).is_err(), "{label}");
        }
        assert!(check_metadata(&[json!(3)], &drone(), None, false).is_err());
    }

    proptest! {
        #[test]
        fn no_label_makes_it_panic(text in "[\\[\\]{}\":,a-z0-9é]{0,80}") {
            if let Ok(entries) = parse_metadata(&text) {
                let _ = check_metadata(&entries, &drone(), None, false);
            }
        }
    }
}
