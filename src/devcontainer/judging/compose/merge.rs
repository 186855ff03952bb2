//! Merges the compose files of one project: a later file adds to the earlier ones or overrides them.

use serde_json::{Map, Value};

/// Lists of a service to which a later file adds.
const ADDED_TO: &[&str] = &[
    "cap_add",
    "cap_drop",
    "configs",
    "dns",
    "dns_search",
    "env_file",
    "expose",
    "extra_hosts",
    "group_add",
    "links",
    "profiles",
    "secrets",
    "security_opt",
    "tmpfs",
];

/// Merges a service, as it was read, into the same service of the files before.
pub fn service(base: &mut Map<String, Value>, later: Map<String, Value>) {
    for (key, value) in later {
        // One network or another: the later word counts.
        match key.as_str() {
            "network_mode" => drop(base.remove("networks")),
            "networks" => drop(base.remove("network_mode")),
            _ => {}
        }
        match (base.get_mut(&key), value) {
            (Some(Value::Array(old)), Value::Array(new)) if key == "volumes" => volumes(old, new),
            (Some(Value::Array(old)), Value::Array(new)) if ADDED_TO.contains(&key.as_str()) => {
                for element in new {
                    if !old.contains(&element) {
                        old.push(element);
                    }
                }
            }
            (Some(Value::Object(old)), Value::Object(new)) => deep(old, new),
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

/// A mount at the same place replaces the one before.
fn volumes(old: &mut Vec<Value>, new: Vec<Value>) {
    for mount in new {
        old.retain(|before| before["target"] != mount["target"]);
        old.push(mount);
    }
}

/// Merges objects; everything that is not an object is replaced.
pub fn deep(old: &mut Map<String, Value>, new: Map<String, Value>) {
    for (key, value) in new {
        match (old.get_mut(&key), value) {
            (Some(Value::Object(old)), Value::Object(new)) => deep(old, new),
            (_, value) => {
                old.insert(key, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn maps_are_merged_commands_replaced_mounts_matched_by_target() {
        let mut base = json!({
            "image": "a", "command": ["x", "y"], "environment": {"A": "1", "B": "1"},
            "volumes": [{"type": "volume", "source": "v", "target": "/v"}, {"type": "volume", "target": "/w"}],
            "expose": ["1"], "build": {"context": "/c", "args": {"X": "1"}}, "networks": {"n": null},
        });
        let later = json!({
            "command": ["z"], "environment": {"B": "2"},
            "volumes": [{"type": "tmpfs", "target": "/v"}],
            "expose": ["1", "2"], "build": {"args": {"Y": "2"}}, "network_mode": "service:db",
        });
        let (Value::Object(old), Value::Object(new)) = (&mut base, later) else {
            unreachable!()
        };
        service(old, new);
        assert_eq!(
            base,
            json!({
                "image": "a", "command": ["z"], "environment": {"A": "1", "B": "2"},
                "volumes": [{"type": "volume", "target": "/w"}, {"type": "tmpfs", "target": "/v"}],
                "expose": ["1", "2"], "build": {"context": "/c", "args": {"X": "1", "Y": "2"}},
                "network_mode": "service:db",
            })
        );
    }
}
