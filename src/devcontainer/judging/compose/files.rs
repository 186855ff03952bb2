//! `configs` and `secrets`: files of the repository, which the services that want them mount from the
//! drone's volume.

use serde_json::{Value, json};

use super::Project;
use super::service::{Declared, Mounted, Reader};
use super::volumes::{self, NO_BIND};
use crate::devcontainer::judging::build::Place;
use crate::devcontainer::judging::policy;
use crate::devcontainer::judging::verdict::Gate;
use crate::devcontainer::judging::workspace::Part;
use crate::devcontainer::reading::document::Node;

/// Reads a service's `configs` or `secrets`: a list of names, each with its own target or none.
pub(super) fn wanted(node: &Node, property: &str, gate: &mut Gate) -> Value {
    let mut out = Vec::new();
    for element in node.elements() {
        let text = |key| element.get(key).and_then(Node::as_text);
        match element.as_text().or_else(|| text("source")) {
            Some(name) if policy::is_name(name) => {
                out.push(json!({"source": name, "target": text("target")}));
            }
            _ => gate.wrong(element, property, "a name"),
        }
    }
    Value::Array(out)
}

/// Turns the `configs` and `secrets` of all services into mounts, once all files are read.
pub(super) fn settle(project: &mut Project, reader: &mut Reader<'_>, gate: &mut Gate) {
    for (service, keys) in &mut project.services {
        let Some(keys) = keys.as_object_mut() else {
            continue;
        };
        for kind in ["configs", "secrets"] {
            let Some(Value::Array(wanted)) = keys.remove(kind) else {
                continue;
            };
            for wanted in wanted {
                let name = wanted["source"].as_str().unwrap_or_default();
                let declared = reader
                    .met
                    .declared
                    .iter()
                    .rev()
                    .find(|declared| declared.kind == kind && declared.name == name)
                    .cloned();
                let Some(declared) = declared else {
                    let here = Node::text(0, name);
                    let property = format!("services.{service}.{kind}");
                    gate.wrong(&here, &property, &format!("declared below {kind}"));
                    continue;
                };
                let target = target(kind, name, wanted["target"].as_str());
                if let Some(mount) = mounted(&declared, &target, reader, gate) {
                    let volumes = keys.entry("volumes").or_insert(json!([]));
                    if let Some(volumes) = volumes.as_array_mut() {
                        volumes.push(mount);
                    }
                }
            }
        }
    }
}

/// The file's absolute path in the service (Compose specification, "configs" and "secrets").
fn target(kind: &str, name: &str, said: Option<&str>) -> String {
    match said {
        Some(path) if path.starts_with('/') => path.to_owned(),
        said if kind == "secrets" => format!("/run/secrets/{}", said.unwrap_or(name)),
        said => format!("/{}", said.unwrap_or(name)),
    }
}

fn mounted(
    declared: &Declared,
    target: &str,
    reader: &mut Reader<'_>,
    gate: &mut Gate,
) -> Option<Value> {
    let Declared { kind, name, .. } = declared;
    let property = format!("{kind}.{name:.80}");
    gate.turn_to(&declared.file);
    let Some(source) = declared.node.get("file").and_then(Node::as_text) else {
        let why = "only a file in the repository can be used";
        gate.refuse_always(&declared.node, &property, why);
        return None;
    };
    if !policy::is_target(target) || policy::is_reserved_target(target) {
        gate.wrong(
            &declared.node,
            &property,
            "mounted at an absolute path that is free",
        );
        return None;
    }
    let place = Place {
        checkout: reader.place.checkout,
        base: &declared.base,
    };
    let Some(part) = Part::of(source, place.base, place.checkout) else {
        gate.refuse(&declared.node, &property, NO_BIND);
        return None;
    };
    if part.absent().is_some() {
        let file = Node::text(declared.node.line, source);
        place.find_missing(&file, &property, gate);
        return None;
    }
    let mounted = Mounted {
        part,
        property,
        file: declared.file.clone(),
        node: declared.node.clone(),
    };
    Some(volumes::of_clone(reader, mounted, target, true))
}
