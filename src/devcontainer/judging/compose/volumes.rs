//! The volumes of a service: the project's own, memory, or the workspace.

use serde_json::{Map, Value, json};

use super::service::{Mounted, Reader};
use crate::devcontainer::judging::policy;
use crate::devcontainer::judging::verdict::Gate;
use crate::devcontainer::judging::workspace::Part;
use crate::devcontainer::reading::checkout::Checkout;
use crate::devcontainer::reading::document::{Data, Node};

/// The name of the volume that holds the clone, in hatchery's compose file.
pub const WORKSPACE: &str = "hatchery-workspace";

/// Holds a mount's number until [`take_number`]. Compose has no such key.
const NUMBER: &str = "hatchery-number";

/// Why a bind mount of this server's files is refused.
pub const NO_BIND: &str = "it would mount this server's files into the service";

/// A mount, read from either form.
#[derive(Default)]
struct Written {
    kind: String,
    source: String,
    target: String,
    read_only: bool,
    no_copy: bool,
    size: Option<u64>,
}

/// Reads one mount of a service into compose's long form; `None` if it is refused.
pub fn read(
    reader: &mut Reader<'_>,
    node: &Node,
    property: &str,
    gate: &mut Gate,
) -> Option<Value> {
    let written = match node.as_text() {
        Some(text) => short(text),
        None => long(node),
    };
    let written = match written {
        Ok(written) => written,
        Err(why) => return gate.refuse(node, property, why).then(|| node.to_value()),
    };
    if !policy::is_target(&written.target) || policy::is_reserved_target(&written.target) {
        let why = "the target is not an absolute path that is free";
        return gate.refuse(node, property, why).then(|| node.to_value());
    }
    match written.kind.as_str() {
        "tmpfs" => {
            let mut out = json!({"type": "tmpfs", "target": written.target});
            if let Some(size) = written.size {
                out["tmpfs"] = json!({"size": size});
            }
            Some(out)
        }
        "bind" => bind(reader, node, property, &written, gate),
        _ => {
            let name = written.source.as_str();
            if name == WORKSPACE || !(name.is_empty() || policy::is_name(name)) {
                return gate
                    .refuse(node, property, "this is not the name of a volume")
                    .then(|| node.to_value());
            }
            Some(mount("volume", name, &written))
        }
    }
}

fn bind(
    reader: &mut Reader<'_>,
    node: &Node,
    property: &str,
    written: &Written,
    gate: &mut Gate,
) -> Option<Value> {
    let (base, checkout) = (reader.place.base, reader.place.checkout);
    if let Some(part) = Part::of(&written.source, base, checkout) {
        let mounted = Mounted {
            part,
            property: property.to_owned(),
            file: reader.file.clone(),
            node: node.clone(),
        };
        return Some(of_clone(
            reader,
            mounted,
            &written.target,
            written.read_only,
        ));
    }
    let path = Checkout::lexical(base, &written.source);
    gate.refuse(node, property, NO_BIND)
        .then(|| mount("bind", &path.to_string_lossy(), written))
}

/// A mount of the volume that holds the clone. Its path in the volume is not known before all files are merged;
/// until then it carries its index among the mounts that were found.
pub fn of_clone(reader: &mut Reader<'_>, mounted: Mounted, target: &str, read_only: bool) -> Value {
    let number = reader.met.mounted.len();
    reader.met.mounted.push(mounted);
    let mut out = json!({
        "type": "volume", "source": WORKSPACE, "target": target, "volume": {"nocopy": true},
        NUMBER: number,
    });
    if read_only {
        out["read_only"] = json!(true);
    }
    out
}

/// Removes and returns the number that [`of_clone`] gave to a mount; `None` for any other mount.
pub fn take_number(mount: &mut Value) -> Option<usize> {
    let number = mount.as_object_mut()?.remove(NUMBER)?;
    usize::try_from(number.as_u64()?).ok()
}

fn mount(kind: &str, source: &str, written: &Written) -> Value {
    let mut out = Map::new();
    out.insert("type".into(), json!(kind));
    if !source.is_empty() {
        out.insert("source".into(), json!(source));
    }
    out.insert("target".into(), json!(written.target));
    if written.read_only {
        out.insert("read_only".into(), json!(true));
    }
    if written.no_copy {
        out.insert("volume".into(), json!({"nocopy": true}));
    }
    Value::Object(out)
}

/// `[source:]target[:mode]`
fn short(text: &str) -> Result<Written, &'static str> {
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, mode) = match parts.as_slice() {
        [target] => ("", *target, ""),
        [source, target] => (*source, *target, ""),
        [source, target, mode] => (*source, *target, *mode),
        _ => return Err("this is not a volume"),
    };
    let kind = if source.starts_with(['.', '/', '~']) {
        "bind"
    } else {
        "volume"
    };
    let mut written = Written {
        kind: kind.to_owned(),
        source: source.to_owned(),
        target: target.to_owned(),
        ..Written::default()
    };
    for word in mode.split(',') {
        match word {
            "ro" => written.read_only = true,
            "nocopy" => written.no_copy = true,
            "" | "rw" | "z" | "Z" | "cached" | "delegated" | "consistent" => {}
            _ => return Err("hatchery does not know this option of a volume"),
        }
    }
    Ok(written)
}

fn long(node: &Node) -> Result<Written, &'static str> {
    let mut written = Written::default();
    for (key, value) in node.properties() {
        let text = value.as_scalar().unwrap_or_default();
        match key.as_str() {
            "type" if matches!(text.as_str(), "volume" | "bind" | "tmpfs") => written.kind = text,
            "source" => written.source = text,
            "target" => written.target = text,
            "read_only" => written.read_only = value.data == Data::Bool(true) || text == "true",
            "consistency" => {}
            "bind"
                if value
                    .properties()
                    .iter()
                    .all(|(key, _)| key == "create_host_path" || key == "selinux") => {}
            "volume" | "tmpfs" => {
                for (key, value) in value.properties() {
                    match key.as_str() {
                        "nocopy" => written.no_copy = value.data == Data::Bool(true),
                        "size" => {
                            written.size = Some(bytes(&value.as_scalar().unwrap_or_default())?);
                        }
                        _ => return Err("hatchery does not know this option of a volume"),
                    }
                }
            }
            _ => return Err("hatchery does not know this option of a volume"),
        }
    }
    if written.kind.is_empty() {
        return Err("it has no type");
    }
    if written.kind == "tmpfs" && !written.source.is_empty() {
        return Err("tmpfs has no source");
    }
    Ok(written)
}

/// The number of bytes that a size such as `64m` stands for: compose 1.29 accepts only a number here.
fn bytes(text: &str) -> Result<u64, &'static str> {
    let lower = text.to_ascii_lowercase();
    let plain = lower.strip_suffix('b').unwrap_or(&lower);
    let (digits, factor) = match plain.chars().last() {
        Some('k') => (&plain[..plain.len() - 1], 1 << 10),
        Some('m') => (&plain[..plain.len() - 1], 1 << 20),
        Some('g') => (&plain[..plain.len() - 1], 1 << 30),
        _ => (plain, 1),
    };
    let number: u64 = digits.parse().map_err(|_| "this is not a size")?;
    number.checked_mul(factor).ok_or("this is not a size")
}
