//! Keys of a service that can be written in several forms, each brought into one form.

use serde_json::{Map, Value, json};

use crate::devcontainer::judging::policy::{self, Judgement};
use crate::devcontainer::judging::verdict::Gate;
use crate::devcontainer::reading::document::Node;

/// A health check with only the keys that compose 1.29 knows.
pub fn healthcheck(node: &Node) -> Value {
    let known = [
        "test",
        "interval",
        "timeout",
        "retries",
        "start_period",
        "disable",
    ];
    let kept = node
        .properties()
        .iter()
        .filter(|(key, _)| known.contains(&key.as_str()));
    Value::Object(
        kept.map(|(key, value)| (key.clone(), value.to_value()))
            .collect(),
    )
}

/// One text or a list of them, as a list.
pub fn listed(node: &Node) -> Value {
    Value::Array(
        node.one_or_many()
            .iter()
            .filter_map(Node::as_scalar)
            .map(Value::String)
            .collect(),
    )
}

/// `NAME=value` in a list, or an object; a name without a value has `None`.
pub fn pairs(node: &Node) -> Vec<(String, Option<String>)> {
    let listed = node
        .elements()
        .iter()
        .filter_map(Node::as_scalar)
        .map(|text| match text.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (text, None),
        });
    let mapped = node
        .properties()
        .iter()
        .map(|(name, value)| (name.clone(), value.as_scalar()));
    listed.chain(mapped).collect()
}

/// `extra_hosts` as a list of `NAME:ADDRESS`.
pub fn hosts(node: &Node) -> Value {
    let list = pairs(node).into_iter().map(|(name, value)| match value {
        Some(address) => format!("{name}:{address}"),
        None => name,
    });
    Value::Array(list.map(Value::String).collect())
}

/// Labels as an object, without those that identify the drone.
pub fn labels(node: &Node, property: &str, gate: &mut Gate) -> Value {
    let mut out = Map::new();
    for (name, value) in pairs(node) {
        if policy::is_reserved_label(&name) {
            gate.refuse_text(
                node.line,
                property,
                &format!("{name:?}"),
                "this label identifies the drone",
            );
        } else {
            out.insert(name, json!(value.unwrap_or_default()));
        }
    }
    Value::Object(out)
}

/// `depends_on` as an object: the services to wait for, each with its condition.
pub fn depends_on(node: &Node) -> Value {
    let mut out = Map::new();
    for name in node.elements().iter().filter_map(Node::as_text) {
        out.insert(name.to_owned(), json!({"condition": "service_started"}));
    }
    for (name, how) in node.properties() {
        let condition = how.get("condition").and_then(Node::as_text);
        out.insert(
            name.clone(),
            json!({"condition": condition.unwrap_or("service_started")}),
        );
    }
    Value::Object(out)
}

/// A service's networks, without addresses.
pub fn networks(node: &Node, property: &str, gate: &mut Gate) -> Option<Value> {
    let mut out = Map::new();
    for name in node.elements().iter().filter_map(Node::as_text) {
        out.insert(name.to_owned(), Value::Null);
    }
    for (name, settings) in node.properties() {
        let mut kept = Map::new();
        for (key, value) in settings.properties() {
            match key.as_str() {
                "aliases" => drop(kept.insert(key.clone(), listed(value))),
                "priority" => {}
                _ => {
                    if gate.refuse(
                        value,
                        &format!("{property}.{name:.80}.{key:.80}"),
                        "Docker assigns the addresses",
                    ) {
                        kept.insert(key.clone(), value.to_value());
                    }
                }
            }
        }
        out.insert(
            name.clone(),
            if kept.is_empty() {
                Value::Null
            } else {
                kept.into()
            },
        );
    }
    (!out.is_empty()).then_some(Value::Object(out))
}

/// `network_mode`: `service:NAME` of the same project, or `none`.
pub fn network_mode(node: &Node, property: &str, gate: &mut Gate) -> Option<Value> {
    let text = node.as_text().unwrap_or_default();
    let fits = text == "none" || text.strip_prefix("service:").is_some_and(policy::is_name);
    (fits
        || gate.refuse(
            node,
            property,
            "only a service of the same project can share its network",
        ))
    .then(|| node.to_value())
}

/// Limits of processes, without those that give precedence over other processes.
pub fn ulimits(node: &Node, property: &str, gate: &mut Gate) -> Option<Value> {
    if !node.is_map() {
        gate.wrong(node, property, "an object");
    }
    let mut out = Map::new();
    for (name, value) in node.properties() {
        let property = format!("{property}.{name:.80}");
        if policy::is_ulimit(name) || gate.refuse(value, &property, policy::NO_ULIMIT) {
            out.insert(name.clone(), value.to_value());
        }
    }
    (!out.is_empty()).then_some(Value::Object(out))
}

/// The texts of a list that `judge` lets pass; `None` if there are none.
pub fn judged(
    node: &Node,
    property: &str,
    gate: &mut Gate,
    judge: fn(&str) -> Judgement,
) -> Option<Value> {
    let elements = node.elements().iter();
    let out: Vec<Value> = elements
        .filter_map(|element| judged_alone(element, property, gate, judge))
        .collect();
    (!out.is_empty()).then_some(Value::Array(out))
}

/// The text, if `judge` lets it pass.
pub fn judged_alone(
    node: &Node,
    property: &str,
    gate: &mut Gate,
    judge: fn(&str) -> Judgement,
) -> Option<Value> {
    let text = node.as_text();
    match text.map_or(Judgement::Refuse("this is not a string"), judge) {
        Judgement::Drop(why) if !gate.trusted() => {
            gate.leave_out(node.line, property, why);
            None
        }
        Judgement::Refuse(why) if !gate.refuse(node, property, why) => None,
        _ => Some(node.to_value()),
    }
}

/// The devices that pass, each in the form in which it is written.
pub fn devices(node: &Node, property: &str, gate: &mut Gate) -> Option<Value> {
    let mut out = Vec::new();
    for element in node.elements() {
        let words = match element.get("source").and_then(Node::as_text) {
            Some(source) => {
                let rest =
                    ["target", "permissions"].map(|key| element.get(key).and_then(Node::as_text));
                let rest = rest.into_iter().flatten();
                let words: Vec<&str> = std::iter::once(source).chain(rest).collect();
                Node::text(element.line, words.join(":"))
            }
            None => element.clone(),
        };
        let passed = judged_alone(&words, property, gate, policy::device);
        out.extend(passed.map(|_| element.to_value()));
    }
    (!out.is_empty()).then_some(Value::Array(out))
}

/// Settings of the kernel, as an object or as a list of `NAME=value`.
pub fn sysctls(node: &Node, property: &str, gate: &mut Gate) -> Option<Value> {
    if node.is_map() {
        let mut out = Map::new();
        for (name, value) in node.properties() {
            let words = Node::text(value.line, name.as_str());
            let property = format!("{property}.{name:.80}");
            if judged_alone(&words, &property, gate, policy::sysctl).is_some() {
                out.insert(name.clone(), value.to_value());
            }
        }
        return (!out.is_empty()).then_some(Value::Object(out));
    }
    judged(node, property, gate, policy::sysctl)
}
