//! The allow list for devcontainer.json: a stranger's file, part of which would run on this server. What passes
//! is kept in parts, from which hatchery writes a configuration of its own.

use serde_json::{Map, Value, json};

use super::base::{self, Base};
use super::build::Place;
use super::features::{self, Origin};
use super::local_feature;
use super::mounts::{self, Asked};
use super::policy::{self, Judgement};
use super::properties::{DEVCONTAINER, UNKNOWN};
use super::run_args::{self, RunArgs};
use super::verdict::Gate;
use super::words::{NO_VARIABLE, NOT_ONE_LINE, stays_on_its_line};
use super::workspace::{self, Root, WorkspaceMount};
use crate::devcontainer::reading::checkout::Checkout;
use crate::devcontainer::reading::document::{Data, Node};

/// What passed of a devcontainer.json.
#[derive(Debug, Clone, Default)]
pub struct Passed {
    /// Image, Dockerfile or compose project.
    pub base: Option<Base>,
    /// Properties that pass unchanged.
    pub plain: Map<String, Value>,
    /// `features`
    pub features: Map<String, Value>,
    /// `mounts`
    pub mounts: Vec<Asked>,
    /// `runArgs`
    pub run_args: RunArgs,
    /// `containerEnv`
    pub container_env: Map<String, Value>,
    /// `containerUser`
    pub container_user: Option<String>,
    /// `remoteUser`
    pub remote_user: Option<String>,
    /// `workspaceMount`: what it mounts, and its target.
    pub workspace_mount: Option<(Root, String)>,
    /// `workspaceFolder`
    pub workspace_folder: Option<String>,
}

impl Passed {
    /// The values of `containerEnv` and `remoteEnv`.
    pub fn environment(&mut self) -> impl Iterator<Item = &mut String> {
        let remote = self
            .plain
            .get_mut("remoteEnv")
            .and_then(Value::as_object_mut);
        let all = self
            .container_env
            .iter_mut()
            .chain(remote.into_iter().flatten());
        all.filter_map(|(_, value)| match value {
            Value::String(text) => Some(text),
            _ => None,
        })
    }
}

/// Whether a value is of a type, and the type's name for messages.
type Kind = (fn(&Node) -> bool, &'static str);

/// The type of a property that can do nothing beyond the drone; `None` for any other property.
fn plain_kind(name: &str) -> Option<Kind> {
    Some(match name {
        "name" | "userEnvProbe" | "waitFor" | "shutdownAction" => {
            (|node| node.as_text().is_some(), "a string")
        }
        "overrideCommand" | "init" => (|node| matches!(node.data, Data::Bool(_)), "true or false"),
        "onCreateCommand"
        | "updateContentCommand"
        | "postCreateCommand"
        | "postStartCommand"
        | "postAttachCommand" => (
            is_commands,
            "a command, a list of strings or an object of commands",
        ),
        "customizations" | "portsAttributes" | "otherPortsAttributes" | "secrets" | "settings" => {
            (Node::is_map, "an object")
        }
        "forwardPorts" | "extensions" => (is_list_of_scalars, "a list"),
        "devPort" => (|node| matches!(node.data, Data::Number(_)), "a number"),
        _ => return None,
    })
}

fn is_list_of_scalars(node: &Node) -> bool {
    node.is_list()
        && node
            .elements()
            .iter()
            .all(|element| element.as_scalar().is_some())
}

fn is_command(node: &Node) -> bool {
    node.as_text().is_some()
        || node.is_list() && node.elements().iter().all(|part| part.as_text().is_some())
}

fn is_commands(node: &Node) -> bool {
    is_command(node)
        || node.is_map()
            && node
                .properties()
                .iter()
                .all(|(_, command)| is_command(command))
}

/// Reads a devcontainer.json, its variables resolved, property by property.
pub fn read(document: &Node, place: &Place<'_>, gate: &mut Gate) -> Passed {
    let mut passed = Passed::default();
    if !document.is_map() {
        gate.wrong(document, "the configuration", "an object");
        return passed;
    }
    for (name, node) in document.properties() {
        if matches!(node.data, Data::Null) {
            continue;
        }
        // The devcontainer CLI is told to leave the image's numbers, which needs no warning.
        if name == "updateRemoteUserUID" {
            continue;
        }
        if let Some(passes) = DEVCONTAINER.settle(name, name, node, gate) {
            if passes {
                passed.plain.insert(name.clone(), node.to_value());
            }
            continue;
        }
        if let Some((fits, must)) = plain_kind(name) {
            if fits(node) {
                passed.plain.insert(name.clone(), node.to_value());
            } else {
                gate.wrong(node, name, must);
            }
            continue;
        }
        read_property(name, node, document, &mut passed, place, gate);
    }
    passed.base = base::read(document, place, gate);
    if !gate.trusted() {
        let checked = passed.features.keys().map(String::as_str);
        local_feature::check_others(checked, place.checkout, gate);
    }
    passed
}

fn read_property(
    name: &str,
    node: &Node,
    document: &Node,
    passed: &mut Passed,
    place: &Place<'_>,
    gate: &mut Gate,
) {
    match name {
        // Read by `base`, if they say anything.
        "$schema" | "image" | "build" | "dockerFile" | "context" | "dockerComposeFile"
        | "service" => {}
        "features" => read_features(node, passed, place, gate),
        "containerEnv" | "remoteEnv" => {
            let env = read_env(name, node, gate);
            if name == "containerEnv" {
                passed.container_env = env;
            } else {
                passed.plain.insert(name.to_owned(), Value::Object(env));
            }
        }
        "containerUser" => passed.container_user = read_user(name, node, gate),
        "remoteUser" => passed.remote_user = read_user(name, node, gate),
        "hostRequirements" => read_requirements(node, passed, gate),
        "capAdd" => read_judged(name, node, passed, gate, policy::capability),
        "securityOpt" => read_judged(name, node, passed, gate, policy::security_opt),
        "mounts" => read_mounts(node, passed, place.checkout, gate),
        "overrideFeatureInstallOrder" => read_words(name, node, passed, gate, feature_id),
        "runServices" => read_words(name, node, passed, gate, service),
        "runArgs" if node.is_list() => {
            passed.run_args = run_args::read(node, gate, place.checkout);
        }
        "runArgs" => gate.wrong(node, name, "a list of strings"),
        "workspaceMount" => {
            let folder = document.get("workspaceFolder");
            let folder = folder.and_then(|node| workspace::read_folder(node, place.checkout));
            match workspace::read_mount(node, folder.as_deref(), gate, place.checkout) {
                Some(WorkspaceMount::At(root, target)) => {
                    passed.workspace_mount = Some((root, target));
                }
                Some(WorkspaceMount::Part(mount)) => {
                    let line = node.line;
                    passed.mounts.push(Asked::Judged { mount, line });
                }
                None => {}
            }
        }
        "workspaceFolder" => match workspace::read_folder(node, place.checkout) {
            Some(folder) => passed.workspace_folder = Some(folder),
            None => gate.wrong(node, name, "an absolute path in the container"),
        },
        _ => {
            gate.refuse(node, name, UNKNOWN);
        }
    }
}

fn read_features(node: &Node, passed: &mut Passed, place: &Place<'_>, gate: &mut Gate) {
    if !node.is_map() {
        gate.wrong(node, "features", "an object");
    }
    for (id, options) in node.properties() {
        let property = format!("features.{id:.120}");
        let value = options.to_value();
        if !stays_on_its_line(options, &property, gate) {
            continue;
        }
        if !(value.is_object() || value.is_string() || value.is_boolean()) {
            gate.wrong(options, &property, "an object of options");
            continue;
        }
        match features::origin(id) {
            Origin::Local => {
                if let Some(id) = local_feature::read(options, id, place, gate) {
                    passed.features.insert(id, value);
                }
            }
            Origin::Registry | Origin::Elsewhere => {
                let barred = features::barred(id);
                if barred.is_none_or(|why| gate.refuse(options, &property, why)) {
                    passed.features.insert(id.clone(), value);
                }
            }
        }
    }
}

fn read_env(name: &str, node: &Node, gate: &mut Gate) -> Map<String, Value> {
    let mut out = Map::new();
    if !node.is_map() {
        gate.wrong(node, name, "an object of strings");
    }
    for (key, value) in node.properties() {
        let property = format!("{name}.{key:.80}");
        if !policy::is_env_name(key) {
            gate.refuse(value, &property, NO_VARIABLE);
            continue;
        }
        match (&value.data, value.as_scalar()) {
            (_, Some(text))
                if text.contains(|c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) =>
            {
                gate.refuse(value, &property, "it contains a control character");
            }
            (_, Some(text)) => {
                out.insert(key.clone(), json!(text));
            }
            (Data::Null, _) if name == "remoteEnv" => {
                out.insert(key.clone(), Value::Null);
            }
            _ => gate.wrong(value, &property, "a string"),
        }
    }
    out
}

fn read_user(name: &str, node: &Node, gate: &mut Gate) -> Option<String> {
    match node.as_scalar() {
        Some(text) if policy::is_user(&text) => Some(text),
        Some(text) if text.is_empty() => None,
        _ => {
            gate.wrong(node, name, "a user");
            None
        }
    }
}

fn read_requirements(node: &Node, passed: &mut Passed, gate: &mut Gate) {
    let Value::Object(mut map) = node.to_value() else {
        gate.wrong(node, "hostRequirements", "an object");
        return;
    };
    if !gate.trusted()
        && let Some(gpu) = node.get("gpu")
    {
        map.remove("gpu");
        gate.leave_out(
            gpu.line,
            "hostRequirements.gpu",
            "a drone has no access to this server's devices",
        );
    }
    passed.plain.insert("hostRequirements".into(), map.into());
}

fn read_judged(
    name: &str,
    node: &Node,
    passed: &mut Passed,
    gate: &mut Gate,
    judge: fn(&str) -> Judgement,
) {
    if !node.is_list() {
        gate.wrong(node, name, "a list of strings");
    }
    let mut out = Vec::new();
    for element in node.elements() {
        let Some(text) = element.as_text() else {
            gate.wrong(element, name, "a list of strings");
            continue;
        };
        match judge(text) {
            Judgement::Drop(why) if !gate.trusted() => {
                gate.leave_out(element.line, &format!("{name} {text:.80}"), why);
            }
            Judgement::Refuse(why) if !gate.refuse(element, name, why) => {}
            _ => out.push(json!(text)),
        }
    }
    if !out.is_empty() {
        passed.plain.insert(name.to_owned(), Value::Array(out));
    }
}

/// A list of texts that the devcontainer CLI takes for names.
fn read_words(
    name: &str,
    node: &Node,
    passed: &mut Passed,
    gate: &mut Gate,
    judge: fn(&str) -> Result<(), &'static str>,
) {
    if !node.is_list() {
        gate.wrong(node, name, "a list of strings");
    }
    let mut out = Vec::new();
    for element in node.elements() {
        let Some(text) = element.as_text() else {
            gate.wrong(element, name, "a list of strings");
            continue;
        };
        let judged = judge(text);
        if judged.is_ok() || judged.is_err_and(|why| gate.refuse(element, name, why)) {
            out.push(json!(text));
        }
    }
    passed.plain.insert(name.to_owned(), Value::Array(out));
}

/// Checks an identifier in `overrideFeatureInstallOrder`: the CLI asks the registry for each of them.
fn feature_id(text: &str) -> Result<(), &'static str> {
    if let Some(why) = features::barred(text) {
        return Err(why);
    }
    policy::is_one_line(text).then_some(()).ok_or(NOT_ONE_LINE)
}

/// Checks the name of a service: it becomes an argument of `docker-compose build` and `up`, where any other
/// text might be a flag.
fn service(text: &str) -> Result<(), &'static str> {
    let named = policy::is_name(text).then_some(());
    named.ok_or("this is not the name of a service")
}

fn read_mounts(node: &Node, passed: &mut Passed, checkout: &Checkout, gate: &mut Gate) {
    if !node.is_list() {
        gate.wrong(node, "mounts", "a list");
    }
    for element in node.elements() {
        let value = element.to_value();
        match mounts::judge(&value, Some(checkout)) {
            Ok(mount) if !gate.trusted() || mount.part().is_some() => {
                let line = element.line;
                passed.mounts.push(Asked::Judged { mount, line });
            }
            Ok(_) => passed.mounts.push(Asked::Written(value)),
            Err(why) => {
                if gate.refuse(element, "mounts", why) {
                    passed.mounts.push(Asked::Written(value));
                }
            }
        }
    }
}
