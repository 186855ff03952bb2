//! Compose files: read, merged and held against the policy as compose itself would see them,
//! then written anew as one file.

mod emit;
mod forms;
mod interpolate;
mod merge;
mod service;
mod volumes;

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

pub(crate) use self::emit::{Emission, SSHD_PORT, cpus};
use self::interpolate::Variables;
use self::service::{Mounted, Reader};
pub use self::volumes::WORKSPACE;
use super::build::{OUTSIDE, Place};
use super::checkout::{BadPath, Checkout};
use super::document::{Data, Node};
use super::policy;
use super::verdict::Gate;
use super::workspace::Root;
use super::yaml;
use crate::drone::DroneName;
use crate::error::Result;

/// Services that a project may have.
const MAX_SERVICES: usize = 64;

/// A compose project that passed the gate.
#[derive(Debug, Clone, PartialEq)]
pub struct Project {
    services: Map<String, Value>,
    networks: Map<String, Value>,
    volumes: Map<String, Value>,
    /// The service that is the drone.
    pub service: String,
    /// The service in whose network the drone is: itself, or the end of its `network_mode`.
    pub network_of: String,
    /// What the drone's service mounts of the checkout, and where.
    pub workspace: Option<(Root, String)>,
}

impl Project {
    /// Holds `runServices` to the services that there are.
    pub fn check_services(&self, list: &Node, gate: &mut Gate) {
        for element in list.elements() {
            let name = element.as_text().filter(|name| policy::is_name(name));
            if name.is_some_and(|name| !self.services.contains_key(name)) {
                gate.wrong(element, "runServices", "services of the compose file");
            }
        }
    }

    /// The user that the drone's service runs as, where it says so.
    pub fn user(&self) -> Option<&str> {
        self.services.get(&self.service)?.get("user")?.as_str()
    }

    /// How the drone's service is built, where it is.
    pub fn build(&self) -> Option<&Map<String, Value>> {
        self.services.get(&self.service)?.get("build")?.as_object()
    }

    /// The image of the drone's service, where it has no build.
    pub fn image(&self) -> Option<&str> {
        let service = self.services.get(&self.service)?;
        if service.get("build").is_some() {
            return None;
        }
        service.get("image")?.as_str()
    }
}

/// Reads and merges the files, which lie in the checkout, in this order.
pub fn read(
    files: &[PathBuf],
    service: &str,
    checkout: &Checkout,
    drone: &DroneName,
    gate: &mut Gate,
) -> Result<Option<Project>> {
    let Some(base) = files.first().and_then(|file| file.parent()) else {
        return Ok(None);
    };
    let variables = variables(base, checkout, drone, gate)?;
    let mut reader = Reader {
        place: Place { checkout, base },
        variables: &variables,
        mounted: Vec::new(),
        file: String::new(),
    };
    let mut project = Project {
        services: Map::new(),
        networks: Map::new(),
        volumes: Map::new(),
        service: service.to_owned(),
        network_of: service.to_owned(),
        workspace: None,
    };
    for file in files {
        let shown = checkout.shown(file);
        gate.turn_to(&shown);
        reader.file.clone_from(&shown);
        let document = yaml::parse(&checkout.read(file)?, &shown)?;
        let document = interpolated(&document, &variables, gate);
        read_file(&document, &mut project, &mut reader, gate);
    }
    let mounted = std::mem::take(&mut reader.mounted);
    settle_workspace(&mut project, &mounted, gate);
    check_whole(&mut project, gate);
    Ok(Some(project))
}

/// Compose's environment: the `.env` beside the first file, and the project's name.
fn variables(
    base: &Path,
    checkout: &Checkout,
    drone: &DroneName,
    gate: &mut Gate,
) -> Result<Variables> {
    let mut variables = Variables::new();
    match checkout.inside(base, ".env") {
        Ok(path) if path.is_file() => interpolate::read_env(&checkout.read(&path)?, &mut variables),
        Ok(_) | Err(BadPath::Missing) => {}
        Err(BadPath::Outside) => {
            gate.turn_to(checkout.shown(&base.join(".env")));
            gate.refuse_always(&Node::text(0, ".env"), "the file", OUTSIDE);
        }
    }
    variables.insert("COMPOSE_PROJECT_NAME".into(), drone.to_string());
    Ok(variables)
}

fn interpolated(node: &Node, variables: &Variables, gate: &mut Gate) -> Node {
    let data = match &node.data {
        Data::Text(text) => match interpolate::interpolate(text, variables) {
            Ok(text) => Data::Text(text),
            Err(what) => {
                gate.refuse_always(node, &format!("{text:.80}"), &what);
                Data::Text(String::new())
            }
        },
        Data::List(list) => Data::List(
            list.iter()
                .map(|node| interpolated(node, variables, gate))
                .collect(),
        ),
        Data::Map(map) => Data::Map(
            map.iter()
                .filter(|(key, _)| !key.starts_with("x-"))
                .map(|(key, node)| (key.clone(), interpolated(node, variables, gate)))
                .collect(),
        ),
        other => other.clone(),
    };
    Node {
        line: node.line,
        data,
    }
}

fn read_file(document: &Node, project: &mut Project, reader: &mut Reader<'_>, gate: &mut Gate) {
    for (key, node) in document.properties() {
        match key.as_str() {
            "version" | "name" => {}
            "services" => {
                for (name, node) in node.properties() {
                    if !policy::is_name(name) {
                        gate.wrong(
                            node,
                            "services",
                            "named with letters, digits, '.', '_' and '-'",
                        );
                        continue;
                    }
                    let read = reader.read(name, node, gate);
                    let before = project
                        .services
                        .entry(name.clone())
                        .or_insert_with(|| json!({}));
                    if let Some(before) = before.as_object_mut() {
                        merge::service(before, read);
                    }
                }
            }
            "volumes" => declared(node, key, &mut project.volumes, gate),
            "networks" => declared(node, key, &mut project.networks, gate),
            _ if node.is_off() => {}
            "include" | "configs" | "secrets" => {
                gate.refuse_always(
                    node,
                    key,
                    "hatchery does not follow it; write out what it brings",
                );
            }
            _ => {
                gate.refuse(node, key, "hatchery does not know this key");
            }
        }
    }
}

/// Top-level volumes or networks: the project's own, without options for a driver.
fn declared(node: &Node, kind: &str, into: &mut Map<String, Value>, gate: &mut Gate) {
    for (name, settings) in node.properties() {
        let property = format!("{kind}.{name:.80}");
        if !policy::is_name(name) || name == WORKSPACE {
            gate.wrong(settings, &property, "named otherwise");
            continue;
        }
        let mut kept = Map::new();
        for (key, value) in settings.properties() {
            let property = format!("{property}.{key:.80}");
            match (key.as_str(), value.as_text()) {
                ("driver", Some("local")) if kind == "volumes" => {}
                ("driver", Some("bridge")) if kind == "networks" => {}
                ("internal" | "enable_ipv6", _)
                    if kind == "networks" && matches!(value.data, Data::Bool(_)) =>
                {
                    kept.insert(key.clone(), value.to_value());
                }
                ("labels" | "attachable", _) => {}
                ("name", _) => gate.leave_out(value.line, &property, "it stays the project's own"),
                _ if value.is_off() => {}
                _ => {
                    let why =
                        "only what is the project's own, with Docker's own driver, can be had";
                    if gate.refuse(value, &property, why) {
                        kept.insert(key.clone(), value.to_value());
                    }
                }
            }
        }
        let before = into.entry(name.clone()).or_insert_with(|| json!({}));
        if let Some(before) = before.as_object_mut() {
            merge::deep(before, kept);
        }
    }
}

/// All services must see the one volume alike: the clone at its root, or the clone in it.
fn settle_workspace(project: &mut Project, mounted: &[Mounted], gate: &mut Gate) {
    let own = mounted
        .iter()
        .rev()
        .find(|mount| mount.service == project.service);
    let first = own.or(mounted.first());
    project.workspace = own.map(|mount| (mount.root, mount.target.clone()));
    let Some(first) = first else { return };
    if own.is_none() {
        let target = match first.root {
            Root::Checkout => "/workspace",
            Root::Parent | Root::Volume => "/workspaces",
        };
        project.workspace = Some((first.root, target.to_owned()));
    }
    for mount in mounted.iter().filter(|mount| mount.root != first.root) {
        gate.turn_to(&mount.file);
        gate.refuse_always(
            &mount.node,
            &format!("services.{}.volumes", mount.service),
            "one service mounts the repository and another the directory that holds it; mount the same in both",
        );
    }
}

fn check_whole(project: &mut Project, gate: &mut Gate) {
    let here = Node::text(0, "");
    if project.services.len() > MAX_SERVICES {
        gate.wrong(&here, "services", "at most 64");
    }
    if !project.services.contains_key(&project.service) {
        gate.wrong(
            &here,
            "service",
            &format!(
                "a service of the compose file, which has no {:?}",
                project.service
            ),
        );
        return;
    }
    for (name, service) in &project.services {
        if service.get("image").is_none() && service.get("build").is_none() {
            gate.wrong(
                &here,
                &format!("services.{name}"),
                "made from image or build",
            );
        }
    }
    match network_of(project) {
        Some(name) => project.network_of = name,
        None => gate.wrong(
            &here,
            "network_mode",
            "a service that has a network of its own",
        ),
    }
}

/// Follows `network_mode: service:…` from the drone's service to the one that has a network.
fn network_of(project: &Project) -> Option<String> {
    let mut name = project.service.clone();
    for _ in 0..=project.services.len() {
        let service = project.services.get(&name)?;
        let mode = service.get("network_mode").and_then(Value::as_str);
        match mode.and_then(|mode| mode.strip_prefix("service:")) {
            Some(next) => next.clone_into(&mut name),
            None if mode == Some("none") => return None,
            None => return Some(name),
        }
    }
    None
}
