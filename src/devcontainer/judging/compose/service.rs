//! The allow list for one service of a compose file. What passes is in one form for each key
//! (objects for environments, long mounts), so that files can be merged.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::forms::{
    depends_on, devices, healthcheck, hosts, judged, judged_alone, labels, listed, network_mode,
    networks, pairs, sysctls, ulimits,
};
use super::{files, volumes};
use crate::devcontainer::judging::build::{self, NETWORK, Place};
use crate::devcontainer::judging::policy;
use crate::devcontainer::judging::properties::{SERVICE, SERVICE_BUILD, UNKNOWN};
use crate::devcontainer::judging::verdict::Gate;
use crate::devcontainer::judging::words::{build_argument, stays_on_its_line};
use crate::devcontainer::judging::workspace::Part;
use crate::devcontainer::reading::document::{Data, Node};
use crate::devcontainer::reading::interpolate::Variables;

/// A mount of the repository's own files.
#[derive(Debug, Clone)]
pub struct Mounted {
    /// The part of the checkout that it shows.
    pub part: Part,
    /// The property that asks for it.
    pub property: String,
    /// The compose file, as shown in messages.
    pub file: String,
    /// The node that asks for it.
    pub node: Node,
}

/// An image that a service names.
#[derive(Debug, Clone)]
pub struct Named {
    /// The service.
    pub service: String,
    /// The compose file, as shown in messages.
    pub file: String,
    /// The node that names it.
    pub node: Node,
}

/// An entry of the project's `configs` or `secrets`.
#[derive(Debug, Clone)]
pub struct Declared {
    /// `configs` or `secrets`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// The directory that its path starts from.
    pub base: PathBuf,
    /// The compose file, as shown in messages.
    pub file: String,
    /// The entry itself.
    pub node: Node,
}

/// What was met while services were read.
#[derive(Debug, Default)]
pub struct Met {
    /// Every mount of the repository's own files; [`volumes::of_clone`] gives each its index here.
    pub mounted: Vec<Mounted>,
    /// Every image.
    pub named: Vec<Named>,
    /// Every config and secret.
    pub declared: Vec<Declared>,
    /// How many files were read.
    pub files: usize,
}

/// What is needed to read a service.
pub struct Reader<'a> {
    /// The checkout, and the directory that relative paths start from.
    pub place: Place<'a>,
    /// The project's variables, for interpolation and for names without a value.
    pub variables: &'a Variables,
    /// What was met so far.
    pub met: Met,
    /// The compose file that is being read, as shown in messages.
    pub file: String,
}

impl Reader<'_> {
    /// Reads with a reader for another directory and other variables. What it finds is added to [`Self::met`].
    pub fn within<T>(
        &mut self,
        place: Place<'_>,
        variables: &Variables,
        read: impl FnOnce(&mut Reader<'_>) -> T,
    ) -> T {
        let mut inner = Reader {
            place,
            variables,
            met: std::mem::take(&mut self.met),
            file: String::new(),
        };
        let done = read(&mut inner);
        self.met = inner.met;
        done
    }

    /// Reads the keys of a service. Returns those that pass, each in one form.
    pub fn read(&mut self, name: &str, node: &Node, gate: &mut Gate) -> Map<String, Value> {
        let mut out = Map::new();
        for (key, value) in node.properties() {
            let property = format!("services.{name}.{key:.80}");
            if matches!(value.data, Data::Null) || key.starts_with("x-") || key == "extends" {
                continue;
            }
            if let Some(passed) = self.key(name, key, value, &property, gate) {
                out.insert(key.clone(), passed);
            }
        }
        out
    }

    fn key(
        &mut self,
        service: &str,
        key: &str,
        node: &Node,
        property: &str,
        gate: &mut Gate,
    ) -> Option<Value> {
        if let Some(passes) = SERVICE.settle(key, property, node, gate) {
            return passes.then(|| node.to_value());
        }
        match key {
            "command" | "entrypoint" | "working_dir" | "stop_grace_period" | "stop_signal"
            | "shm_size" | "init" | "stdin_open" | "tty" | "domainname" | "hostname"
            | "group_add" | "cap_drop" => Some(node.to_value()),
            "ulimits" => ulimits(node, property, gate),
            "healthcheck" => Some(healthcheck(node)),
            "expose" | "profiles" | "links" | "dns" | "dns_opt" | "dns_search" | "tmpfs" => {
                Some(listed(node))
            }
            "extra_hosts" => Some(hosts(node)),
            "image" => match node.as_text() {
                Some(text) if policy::is_image(text) => {
                    self.met.named.push(Named {
                        service: service.to_owned(),
                        file: self.file.clone(),
                        node: node.clone(),
                    });
                    Some(json!(text))
                }
                _ => {
                    gate.wrong(node, property, "the name of an image");
                    None
                }
            },
            // An argument of `docker build`.
            "platform" => {
                let why = "this is not a platform";
                let fits = node.as_text().is_some_and(policy::is_platform);
                (fits || gate.refuse(node, property, why)).then(|| node.to_value())
            }
            "build" => Some(self.build(node, property, gate)),
            "environment" => Some(self.environment(node, property, gate)),
            "labels" => Some(labels(node, property, gate)),
            "env_file" => Some(self.env_files(node, property, gate)),
            "configs" | "secrets" => Some(files::wanted(node, property, gate)),
            "depends_on" => Some(depends_on(node)),
            "networks" => networks(node, property, gate),
            "network_mode" => network_mode(node, property, gate),
            "volumes" => {
                let list = node.elements().iter();
                let read: Vec<Value> = list
                    .filter_map(|mount| volumes::read(self, mount, property, gate))
                    .collect();
                Some(Value::Array(read))
            }
            "restart" => match node.as_scalar().as_deref() {
                Some("no" | "false") => Some(json!("no")),
                Some(text) => Some(json!(text)),
                None => None,
            },
            "user" => match node.as_scalar() {
                Some(text) if policy::is_user(&text) => Some(json!(text)),
                _ => {
                    gate.leave_out(node.line, property, "it is not a user");
                    None
                }
            },
            "cap_add" => judged(node, property, gate, policy::capability),
            "security_opt" => judged(node, property, gate, policy::security_opt),
            "devices" => devices(node, property, gate),
            "ipc" => judged_alone(node, property, gate, policy::ipc),
            "sysctls" => sysctls(node, property, gate),
            _ => {
                gate.refuse(node, property, UNKNOWN);
                None
            }
        }
    }

    fn build(&self, node: &Node, property: &str, gate: &mut Gate) -> Value {
        if node.as_text().is_some() {
            let context = self.place.path(node, property, gate);
            return json!({"context": context});
        }
        let mut out = Map::new();
        // The Dockerfile is seen from the context.
        let context = node.get("context").map_or_else(
            || self.place.base.to_str().map(str::to_owned),
            |context| {
                self.place
                    .path(context, &format!("{property}.context"), gate)
            },
        );
        let Some(context) = context else {
            return Value::Null;
        };
        for (key, value) in node.properties() {
            let name = format!("{property}.{key:.80}");
            if let Some(passes) = SERVICE_BUILD.settle(key, &name, value, gate) {
                if passes {
                    out.insert(key.clone(), value.to_value());
                }
                continue;
            }
            match key.as_str() {
                "context" => {}
                "dockerfile" => {
                    let place = Place {
                        checkout: self.place.checkout,
                        base: Path::new(&context),
                    };
                    out.insert(key.clone(), json!(place.path(value, &name, gate)));
                }
                "args" => {
                    out.insert(key.clone(), self.build_arguments(value, &name, gate));
                }
                "labels" => {
                    out.insert(key.clone(), labels(value, &name, gate));
                }
                "target" => match value.as_scalar() {
                    Some(stage) if policy::is_name(&stage) => {
                        out.insert(key.clone(), json!(stage));
                    }
                    _ => {
                        if gate.refuse(value, &name, "this is not the name of a stage") {
                            out.insert(key.clone(), value.to_value());
                        }
                    }
                },
                "shm_size" => {
                    if stays_on_its_line(value, &name, gate) {
                        out.insert(key.clone(), value.to_value());
                    }
                }
                "cache_from" => {
                    out.insert(key.clone(), build::cache_from(value, &name, gate));
                }
                "network" if matches!(value.as_text(), Some("none" | "default")) => {
                    out.insert(key.clone(), value.to_value());
                }
                "network" => {
                    if gate.refuse(value, &name, NETWORK) {
                        out.insert(key.clone(), value.to_value());
                    }
                }
                _ => {
                    gate.refuse(value, &name, UNKNOWN);
                }
            }
        }
        out.insert("context".into(), json!(context));
        Value::Object(out)
    }

    /// As [`Self::environment`], for build arguments: the devcontainer CLI writes some of them into a file of
    /// its own.
    fn build_arguments(&self, node: &Node, property: &str, gate: &mut Gate) -> Value {
        let Value::Object(read) = self.environment(node, property, gate) else {
            return Value::Null;
        };
        let mut fits = |(name, value): &(String, Value)| {
            let value = value.as_str().unwrap_or_default();
            build_argument(name, value).map_or_else(
                |why| {
                    let property = format!("{property}.{name:.80}");
                    gate.refuse_text(node.line, &property, &format!("{value:?}"), why)
                },
                |()| true,
            )
        };
        Value::Object(read.into_iter().filter(|entry| fits(entry)).collect())
    }

    /// An object or a list of `NAME=value`; a name alone takes its value from `.env`.
    fn environment(&self, node: &Node, property: &str, gate: &mut Gate) -> Value {
        let mut out = Map::new();
        for (name, value) in pairs(node) {
            let words = Node::text(node.line, name.as_str());
            if !stays_on_its_line(&words, property, gate) {
                continue;
            }
            match value {
                Some(value) => {
                    out.insert(name, json!(value));
                }
                None => match self.variables.get(&name) {
                    Some(value) => {
                        out.insert(name, json!(value));
                    }
                    None => gate.leave_out(
                        node.line,
                        &format!("{property}.{name:.80}"),
                        "it would read this server's environment",
                    ),
                },
            }
        }
        Value::Object(out)
    }

    fn env_files(&self, node: &Node, property: &str, gate: &mut Gate) -> Value {
        let mut out = Vec::new();
        for file in node.one_or_many() {
            let path = file.get("path").unwrap_or(file);
            let optional = file
                .get("required")
                .is_some_and(|required| required.data == Data::Bool(false));
            let there = path.as_text().is_some_and(|text| {
                self.place.checkout.inside(self.place.base, text)
                    != Err(crate::devcontainer::reading::checkout::BadPath::Missing)
            });
            if optional && !there {
                continue;
            }
            if let Some(path) = self.place.private_file(path, property, gate) {
                out.push(json!(path));
            }
        }
        Value::Array(out)
    }
}
