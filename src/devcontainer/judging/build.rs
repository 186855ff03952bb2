//! `build` and its predecessors: a Dockerfile and a context of the repository.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::images;
use super::policy;
use super::properties::{BUILD, UNKNOWN};
use super::verdict::Gate;
use super::words::{NOT_ONE_LINE, build_argument, stays_on_its_line};
use crate::devcontainer::reading::checkout::{BadPath, Checkout};
use crate::devcontainer::reading::document::Node;

/// Where a devcontainer.json or compose file is and what it belongs to.
pub struct Place<'a> {
    /// The checkout.
    pub checkout: &'a Checkout,
    /// The directory that relative paths start from.
    pub base: &'a Path,
}

/// How many files beside a missing one are looked at.
const MAX_BESIDE: usize = 1000;

/// Why a build in another network is refused.
pub const NETWORK: &str = "a build has no part of this server's network";

/// Why a path that leads out of the repository is refused.
pub const OUTSIDE: &str = "it points outside the repository, at this server's own files";

impl Place<'_> {
    /// The absolute path of something in the repository that exists. `None` if it is refused; the gate has then
    /// noted why. For a trusted repository it may be outside.
    pub fn path(&self, node: &Node, property: &str, gate: &mut Gate) -> Option<String> {
        let Some(text) = node.as_text() else {
            gate.wrong(node, property, "a path");
            return None;
        };
        if !stays_on_its_line(node, property, gate) {
            return None;
        }
        let text = self.resolved(text);
        let found = match self.checkout.inside(self.base, &text) {
            Ok(found) => found,
            Err(BadPath::Missing) => {
                let what = format!("{text:.200} is not in the repository");
                gate.refuse_always(node, property, &what);
                return None;
            }
            Err(BadPath::Outside) => {
                if !gate.refuse(node, property, OUTSIDE) {
                    return None;
                }
                Checkout::lexical(self.base, &text)
            }
        };
        let text = found.to_str().map(str::to_owned);
        if text.is_none() {
            gate.wrong(node, property, "a path in UTF-8");
        }
        text
    }
}

impl Place<'_> {
    fn resolved(&self, text: &str) -> String {
        let root = self.checkout.root().to_str().unwrap_or_default();
        text.replace("${localWorkspaceFolder}", root)
    }

    /// As [`Self::path`], for a file that people keep out of their repositories (`.env`): if it is missing, the
    /// finding says how to hand it in.
    pub fn private_file(&self, node: &Node, property: &str, gate: &mut Gate) -> Option<String> {
        let text = self.resolved(node.as_text().unwrap_or_default());
        if self.checkout.inside(self.base, &text) == Err(BadPath::Missing) {
            self.find_missing(node, property, gate);
            return None;
        }
        self.path(node, property, gate)
    }

    /// Notes that such a file is missing, and names an example of it that lies beside.
    pub fn find_missing(&self, node: &Node, property: &str, gate: &mut Gate) {
        let text = self.resolved(node.as_text().unwrap_or_default());
        let path = Checkout::lexical(self.base, &text);
        let folder = path.parent().map(std::fs::read_dir);
        let beside: Vec<String> = folder
            .into_iter()
            .flatten()
            .flatten()
            .flatten()
            .take(MAX_BESIDE)
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        gate.find_missing(node, property, &self.checkout.shown(&path), &beside);
    }
}

/// Reads `build`, or the older `dockerFile` and `context` in its shape. Returns what passes, with absolute
/// paths.
pub fn read(node: &Node, property: &str, place: &Place<'_>, gate: &mut Gate) -> Map<String, Value> {
    let mut out = Map::new();
    if !node.is_map() {
        gate.wrong(node, property, "an object");
        return out;
    }
    for (key, value) in node.properties() {
        let name = format!("{property}.{key:.80}");
        if let Some(passes) = BUILD.settle(key, &name, value, gate) {
            if passes {
                out.insert(key.clone(), value.to_value());
            }
            continue;
        }
        match key.as_str() {
            "dockerfile" => {
                if let Some(path) = place.path(value, &name, gate) {
                    let folder = Path::new(&path).parent().and_then(Path::to_str);
                    // The CLI takes the Dockerfile's directory where there is no context.
                    out.entry("context").or_insert(json!(folder));
                    out.insert("dockerfile".into(), json!(path));
                }
            }
            "context" => {
                if let Some(path) = place.path(value, &name, gate) {
                    out.insert("context".into(), json!(path));
                }
            }
            "args" => {
                out.insert("args".into(), args(value, &name, gate));
            }
            "target" => match value.as_text() {
                Some(text) if policy::is_name(text) => {
                    out.insert("target".into(), json!(text));
                }
                _ => gate.wrong(value, &name, "the name of a stage"),
            },
            "cacheFrom" => {
                let images = cache_from(value, &name, gate);
                out.insert("cacheFrom".into(), images);
            }
            "options" => {
                out.insert("options".into(), json!(options(value, &name, gate)));
            }
            _ => {
                gate.refuse(value, &name, UNKNOWN);
            }
        }
    }
    out
}

fn args(node: &Node, property: &str, gate: &mut Gate) -> Value {
    let mut out = Map::new();
    for (key, value) in node.properties() {
        let property = format!("{property}.{key:.80}");
        let Some(text) = value.as_scalar() else {
            gate.wrong(value, &property, "a string");
            continue;
        };
        let judged = build_argument(key, &text);
        if judged.is_ok() || judged.is_err_and(|why| gate.refuse(value, &property, why)) {
            out.insert(key.clone(), Value::String(text));
        }
    }
    if !node.is_map() {
        gate.wrong(node, property, "an object");
    }
    Value::Object(out)
}

/// Reads `cacheFrom` or `cache_from`. Only images pass: `type=local,src=…` would read this server's files.
pub fn cache_from(node: &Node, property: &str, gate: &mut Gate) -> Value {
    let mut out = Vec::new();
    for element in node.one_or_many() {
        match element.as_text() {
            Some(text) if policy::is_image(text) => {
                let barred = images::barred(text);
                if barred.is_none_or(|why| gate.refuse(element, property, why)) {
                    gate.check_registry(element.line, property, text);
                    out.push(json!(text));
                }
            }
            _ => {
                if gate.refuse(element, property, "only an image can be a cache") {
                    out.push(element.to_value());
                }
            }
        }
    }
    Value::Array(out)
}

/// Reads `options`, flags for `docker build`. Returns those that pass, one text each.
fn options(node: &Node, property: &str, gate: &mut Gate) -> Vec<String> {
    let mut out = Vec::new();
    let mut rest = node.elements().iter();
    if !node.is_list() {
        gate.wrong(node, property, "a list of strings");
    }
    while let Some(element) = rest.next() {
        let Some(text) = element.as_text() else {
            gate.wrong(element, property, "a list of strings");
            continue;
        };
        let (flag, attached) = match text.split_once('=') {
            Some((flag, value)) => (flag, Some(value)),
            None => (text, None),
        };
        match flag {
            "--no-cache" | "--pull" | "--force-rm" => out.push(text.to_owned()),
            "--platform" | "--label" | "--build-arg" | "--shm-size" | "--ulimit" | "--add-host"
            | "--progress" | "--network" => {
                let value = attached.or_else(|| rest.next().and_then(Node::as_text));
                let whole = format!("{flag}={}", value.unwrap_or_default());
                let why = match (flag, value) {
                    (_, None) => Some("its value is missing"),
                    (_, Some(value)) if !policy::is_one_line(value) => Some(NOT_ONE_LINE),
                    ("--network", Some("default" | "none")) => None,
                    ("--network", Some(_)) => Some(NETWORK),
                    ("--build-arg", Some(arg)) if !arg.contains('=') => {
                        Some("it would read this server's environment")
                    }
                    ("--build-arg", Some(arg)) => {
                        let (name, value) = arg.split_once('=').unwrap_or((arg, ""));
                        build_argument(name, value).err()
                    }
                    ("--platform", Some(value)) if !policy::is_platform(value) => {
                        Some("this is not a platform")
                    }
                    ("--ulimit", Some(value)) if !policy::is_ulimit(value) => {
                        Some(policy::NO_ULIMIT)
                    }
                    ("--label", Some(label)) if policy::is_reserved_label(label) => {
                        Some("this label identifies the drone")
                    }
                    _ => None,
                };
                if why.is_none_or(|why| {
                    gate.refuse_text(element.line, property, &format!("{whole:?}"), why)
                }) {
                    out.push(whole);
                }
            }
            _ => {
                if gate.refuse(element, property, "hatchery does not know this flag") {
                    out.push(text.to_owned());
                }
            }
        }
    }
    out
}
