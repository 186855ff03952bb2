//! Compose files: read, merged and held against the policy as compose itself would see them. Hatchery then
//! writes one file from what passed.

mod files;
mod forms;
mod gather;
mod merge;
mod service;
mod volumes;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use self::service::{Met, Mounted, Named, Reader};
pub use self::volumes::WORKSPACE;
use super::build::Place;
use super::images::{self, Names};
use super::mounts;
use super::policy;
use super::verdict::Gate;
use super::workspace::{Part, Root};
use crate::devcontainer::reading::checkout::Checkout;
use crate::devcontainer::reading::document::{Data, Node};
use crate::devcontainer::reading::interpolate::Variables;
use crate::drone::DroneName;
use crate::error::Result;

/// Services that a project may have: each has the limits of a drone.
pub(crate) const MAX_SERVICES: usize = 16;

/// Networks that a project may have: each takes a block of the pool.
pub(crate) const MAX_NETWORKS: usize = 6;

/// A compose project that passed the gate.
#[derive(Debug, Clone, PartialEq)]
pub struct Project {
    pub(in crate::devcontainer) services: Map<String, Value>,
    pub(in crate::devcontainer) networks: Map<String, Value>,
    pub(in crate::devcontainer) volumes: Map<String, Value>,
    /// The service that is the drone.
    pub service: String,
    /// The service in whose network the drone is: itself, or the end of its `network_mode`.
    pub network_of: String,
    /// What the drone's service mounts of the checkout, and where.
    pub workspace: Option<(Root, String)>,
    /// What its services mount of the clone although the repository lacks it, by its path in the clone.
    pub(in crate::devcontainer) absent: Vec<String>,
    /// Whether the drone's service mounts parts of the clone.
    pub(in crate::devcontainer) mounts_parts: bool,
    /// The images that its services and Dockerfiles name.
    pub(in crate::devcontainer) images: Names,
}

impl Project {
    /// Checks that `runServices` names services of the project.
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

    /// The `build` of the drone's service, if it has one.
    pub fn build(&self) -> Option<&Map<String, Value>> {
        self.services.get(&self.service)?.get("build")?.as_object()
    }

    /// Whether any of its services is built.
    pub fn builds(&self) -> bool {
        let mut services = self.services.values();
        services.any(|service| service.get("build").is_some())
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

impl Project {
    /// Its networks, declared or only named by a service. Compose's own `default` is among them only if
    /// declared.
    pub(in crate::devcontainer) fn networks(&self) -> Map<String, Value> {
        let mut networks = self.networks.clone();
        let joined = self.services.values();
        for name in joined
            .filter_map(|service| service.get("networks")?.as_object())
            .flat_map(Map::keys)
            .filter(|name| *name != "default")
        {
            networks.entry(name).or_insert(json!({}));
        }
        networks
    }
}

/// Reads and merges these files of the checkout; later ones override earlier ones. `service` is the drone's.
/// `None` if there are no files. An error means that a file cannot be read or parsed; all else is noted in the
/// gate.
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
        met: Met::default(),
        file: String::new(),
    };
    let mut project = Project {
        services: Map::new(),
        networks: Map::new(),
        volumes: Map::new(),
        service: service.to_owned(),
        network_of: service.to_owned(),
        workspace: None,
        absent: Vec::new(),
        mounts_parts: false,
        images: Names::default(),
    };
    gather::read(files, 0, &mut project, &mut reader, gate)?;
    files::settle(&mut project, &mut reader, gate);
    settle_workspace(&mut project, &reader.met.mounted, checkout, gate);
    check_whole(&mut project, gate);
    settle_images(&mut project, &reader.met.named, checkout, gate)?;
    Ok(Some(project))
}

/// Compose's environment: the `.env` beside the first file, and the project's name.
fn variables(
    base: &Path,
    checkout: &Checkout,
    drone: &DroneName,
    gate: &mut Gate,
) -> Result<Variables> {
    let mut variables = gather::dot_env(base, checkout, gate)?;
    variables.insert("COMPOSE_PROJECT_NAME".into(), drone.to_string());
    Ok(variables)
}

/// Top-level volumes or networks: the project's own, without options for a driver.
fn declared(node: &Node, kind: &str, into: &mut Map<String, Value>, gate: &mut Gate) {
    for (name, settings) in node.properties() {
        let property = format!("{kind}.{name:.80}");
        if !policy::is_name(name) || name == WORKSPACE {
            gate.wrong(settings, &property, "given another name");
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
                ("name", _) => {
                    gate.leave_out(value.line, &property, "the project's own name is used");
                }
                _ if value.is_off() => {}
                _ => {
                    let why = "only the project's own volumes and networks are allowed, with Docker's default \
                         driver";
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

/// A mount of the repository's own files that is left when all files were merged.
struct Shown<'a> {
    service: String,
    /// Its number among the service's volumes.
    at: usize,
    target: String,
    mounted: &'a Mounted,
}

/// What the services mount of the repository, in their order.
fn shown<'a>(project: &mut Project, mounted: &'a [Mounted]) -> Vec<Shown<'a>> {
    let mut all = Vec::new();
    for (name, service) in &mut project.services {
        let volumes = service.get_mut("volumes").and_then(Value::as_array_mut);
        for (at, volume) in volumes.into_iter().flatten().enumerate() {
            let number = volumes::take_number(volume);
            if let Some(mounted) = number.and_then(|number| mounted.get(number)) {
                all.push(Shown {
                    service: name.clone(),
                    at,
                    target: volume["target"].as_str().unwrap_or_default().to_owned(),
                    mounted,
                });
            }
        }
    }
    all
}

/// Gives each service its part of the one volume. The drone's service says what the volume's root is:
/// the clone, or the directory that holds it.
fn settle_workspace(
    project: &mut Project,
    mounted: &[Mounted],
    checkout: &Checkout,
    gate: &mut Gate,
) {
    let all = shown(project, mounted);
    let mut rooted = all
        .iter()
        .filter(|shown| shown.mounted.part.root().is_some());
    let own = rooted
        .clone()
        .rfind(|shown| shown.service == project.service);
    // Without subpaths all services must see the volume alike.
    let first = own.or_else(|| rooted.next().filter(|_| !gate.mounts_parts()));
    project.workspace = first.and_then(|shown| {
        let root = shown.mounted.part.root()?;
        let target = match (own, root) {
            (Some(own), _) => own.target.as_str(),
            (None, Root::Checkout) => "/workspace",
            (None, _) => "/workspaces",
        };
        Some((root, target.to_owned()))
    });
    let at_root = matches!(project.workspace, Some((Root::Checkout, _)));
    let name = checkout.root().file_name().and_then(OsStr::to_str);
    let clone = if at_root {
        ""
    } else {
        name.unwrap_or_default()
    };
    for Shown {
        service,
        at,
        mounted,
        ..
    } in &all
    {
        gate.turn_to(&mounted.file);
        if mounted.part == Part::Parent && at_root {
            gate.refuse_always(
                &mounted.node,
                &mounted.property,
                "one service mounts the repository and another the directory that holds it; mount the same in both",
            );
            continue;
        }
        let Some(path) = mounts::subpath(&mounted.part, clone) else {
            continue;
        };
        if !gate.check_part(&mounted.node, &mounted.property) {
            continue;
        }
        let volume = project
            .services
            .get_mut(service)
            .and_then(|service| service.pointer_mut(&format!("/volumes/{at}/volume")));
        if let Some(Value::Object(options)) = volume {
            options.insert("subpath".into(), json!(path));
        }
        let absent = mounted.part.absent().map(str::to_owned);
        project.absent.extend(absent);
        project.mounts_parts |= *service == project.service;
    }
}

fn check_whole(project: &mut Project, gate: &mut Gate) {
    let here = Node::text(0, "");
    let (services, networks) = (project.services.len(), project.networks().len());
    for (kind, count, most) in [
        ("services", services, MAX_SERVICES),
        ("networks", networks, MAX_NETWORKS),
    ] {
        if count > most {
            let why = format!("a drone's project may have at most {most}");
            gate.refuse_text(0, kind, &format!("(found {count})"), &why);
        }
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
                "based on image or build",
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

/// Settles the services' images. `image` beside `build` is a name within the project: another service that
/// names it gets the same build. All other images must be ones that a repository may name.
fn settle_images(
    project: &mut Project,
    named: &[Named],
    checkout: &Checkout,
    gate: &mut Gate,
) -> Result<()> {
    let mut aliases: Vec<(String, Value)> = Vec::new();
    for service in project.services.values() {
        if let (Some(build), Some(name)) = (service.get("build"), service.get("image")) {
            aliases.push((
                images::normal(name.as_str().unwrap_or_default()),
                build.clone(),
            ));
        }
    }
    for (service, keys) in &mut project.services {
        let Some(keys) = keys
            .as_object_mut()
            .filter(|keys| !keys.contains_key("build"))
        else {
            continue;
        };
        let Some(image) = keys.get("image").and_then(Value::as_str).map(str::to_owned) else {
            continue;
        };
        let name = images::normal(&image);
        if let Some((_, build)) = aliases.iter().rev().find(|(alias, _)| *alias == name) {
            keys.insert("build".into(), build.clone());
            continue;
        }
        let mut told = named.iter().rev();
        if let Some(named) = told.find(|named| &named.service == service) {
            let property = format!("services.{service}.image");
            gate.turn_to(&named.file);
            if let Some(why) = images::barred(&image) {
                gate.refuse(&named.node, &property, why);
            }
            gate.check_registry(named.node.line, &property, &image);
        }
        project.images.add(&image);
    }
    let mut builds: Vec<&Value> = Vec::new();
    for service in project.services.values() {
        let build = service.get("build").filter(|build| build.is_object());
        if let Some(build) = build.filter(|build| !builds.contains(build)) {
            builds.push(build);
        }
    }
    for build in builds {
        // A build may name what it is made from like its result; then the former is meant.
        let others: Vec<&str> = aliases
            .iter()
            .map(|(name, _)| name.as_str())
            .filter(|name| !aliases.iter().any(|(own, of)| own == name && of == build))
            .collect();
        let text = |key: &str| build.get(key).and_then(Value::as_str);
        let context = Path::new(text("context").unwrap_or_default());
        let file = text("dockerfile").unwrap_or("Dockerfile");
        // What is not there, or not in the repository, was told when it was read.
        if let Ok(file) = checkout.inside(context, file) {
            let args = arguments(build.get("args"));
            images::check_dockerfile(checkout, &file, &args, &others, &mut project.images, gate)?;
        }
        for image in build
            .get("cache_from")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            project.images.add_cache(image.as_str().unwrap_or_default());
        }
    }
    Ok(())
}

/// Build arguments, as they were read.
pub(in crate::devcontainer) fn arguments(args: Option<&Value>) -> Variables {
    let args = args.and_then(Value::as_object).into_iter().flatten();
    args.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
        .collect()
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
