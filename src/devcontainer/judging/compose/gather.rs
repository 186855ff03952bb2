//! Reads the files of a project: those that are named, those that they include, and those whose services they
//! extend.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::service::{Declared, Reader};
use super::{MAX_SERVICES, Project, declared, merge};
use crate::devcontainer::judging::build::{OUTSIDE, Place};
use crate::devcontainer::judging::policy;
use crate::devcontainer::judging::properties::{COMPOSE, UNKNOWN};
use crate::devcontainer::judging::verdict::Gate;
use crate::devcontainer::reading::checkout::{BadPath, Checkout};
use crate::devcontainer::reading::document::{Data, Node};
use crate::devcontainer::reading::interpolate::{self, Variables};
use crate::devcontainer::reading::yaml;
use crate::error::Result;

/// How many files are read for one project; a file that is read twice counts twice.
const MAX_FILES: usize = 100;

/// The longest chain of includes, or of services that extend each other.
const MAX_DEPTH: usize = 16;

const CIRCLE: &str = "it includes too many others, or itself";

/// A file, and its name in messages.
struct Document {
    node: Node,
    shown: String,
}

/// Reads these files into the project; later ones override earlier ones. `depth` is the number of includes that
/// have led to them.
pub(super) fn read(
    files: &[PathBuf],
    depth: usize,
    project: &mut Project,
    reader: &mut Reader<'_>,
    gate: &mut Gate,
) -> Result<()> {
    let mut documents = Vec::new();
    for file in files {
        documents.extend(load(file, reader, gate)?);
    }
    for at in 1..documents.len() {
        let (earlier, later) = documents.split_at_mut(at);
        for document in earlier {
            document.node.give_way(&later[0].node);
        }
    }
    for mut document in documents {
        document.node.settle();
        gate.turn_to(&document.shown);
        reader.file.clone_from(&document.shown);
        if let Some(include) = document.node.get("include") {
            for entry in include.one_or_many() {
                // Each costs the reading of an .env at least.
                reader.met.files += 1;
                if reader.met.files > MAX_FILES {
                    too_many(gate);
                    return Ok(());
                }
                included(entry, depth, project, reader, gate)?;
                gate.turn_to(&document.shown);
            }
        }
        read_file(&document.node, project, reader, gate)?;
    }
    Ok(())
}

fn load(file: &Path, reader: &mut Reader<'_>, gate: &mut Gate) -> Result<Option<Document>> {
    let checkout = reader.place.checkout;
    let shown = checkout.shown(file);
    gate.turn_to(&shown);
    reader.met.files += 1;
    if reader.met.files > MAX_FILES {
        too_many(gate);
        return Ok(None);
    }
    let document = yaml::parse(&checkout.read(file)?, &shown)?;
    let node = interpolated(&document, reader.variables, gate);
    Ok(Some(Document { node, shown }))
}

fn too_many(gate: &mut Gate) {
    let why = format!("more than {MAX_FILES} files are read for this project");
    gate.refuse_always(&Node::text(0, ""), "compose", &why);
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
        tag: node.tag,
        data,
    }
}

/// Reads the files that an entry of `include` names; their relative paths start from their own directory.
fn included(
    entry: &Node,
    depth: usize,
    project: &mut Project,
    reader: &mut Reader<'_>,
    gate: &mut Gate,
) -> Result<()> {
    if depth == MAX_DEPTH {
        gate.refuse_always(entry, "include", CIRCLE);
        return Ok(());
    }
    let paths = entry.get("path").unwrap_or(entry);
    let mut files = Vec::new();
    for path in paths.one_or_many() {
        files.extend(reader.place.path(path, "include", gate).map(PathBuf::from));
    }
    let Some(first) = files.first().and_then(|file| file.parent()) else {
        return Ok(());
    };
    let base = match entry.get("project_directory") {
        Some(directory) => reader
            .place
            .path(directory, "include.project_directory", gate),
        None => first.to_str().map(str::to_owned),
    };
    let Some(base) = base else { return Ok(()) };
    let checkout = reader.place.checkout;
    let mut variables = match entry.get("env_file") {
        Some(files) => {
            let mut variables = Variables::new();
            for file in files.one_or_many() {
                let file = reader.place.private_file(file, "include.env_file", gate);
                if let Some(file) = file {
                    interpolate::read_env(&checkout.read_values(Path::new(&file))?, &mut variables);
                }
            }
            variables
        }
        None => dot_env(Path::new(&base), checkout, gate)?,
    };
    // What the including project says counts before what the included one says by itself.
    variables.extend(reader.variables.clone());
    let place = Place {
        checkout,
        base: Path::new(&base),
    };
    reader.within(place, &variables, |inner| {
        read(&files, depth + 1, project, inner, gate)
    })
}

/// The variables of the `.env` in this directory, if there is one.
pub(super) fn dot_env(base: &Path, checkout: &Checkout, gate: &mut Gate) -> Result<Variables> {
    let mut variables = Variables::new();
    match checkout.inside(base, ".env") {
        Ok(path) if path.is_file() => {
            interpolate::read_env(&checkout.read_values(&path)?, &mut variables);
        }
        Ok(_) | Err(BadPath::Missing) => {}
        Err(BadPath::Outside) => {
            gate.turn_to(checkout.shown(&base.join(".env")));
            gate.refuse_always(&Node::text(0, ".env"), "the file", OUTSIDE);
        }
    }
    Ok(variables)
}

fn read_file(
    document: &Node,
    project: &mut Project,
    reader: &mut Reader<'_>,
    gate: &mut Gate,
) -> Result<()> {
    for (key, node) in document.properties() {
        // The project has the drone's name, which needs no warning; the others would say nothing.
        if key == "name" || node.is_off() || COMPOSE.settle(key, key, node, gate).is_some() {
            continue;
        }
        match key.as_str() {
            "version" | "include" => {}
            "services" => {
                for (name, node) in node.properties() {
                    // One too many is told when all is read.
                    if project.services.len() > MAX_SERVICES {
                        break;
                    }
                    if !policy::is_name(name) {
                        gate.wrong(
                            node,
                            "services",
                            "named with letters, digits, '.', '_' and '-'",
                        );
                        continue;
                    }
                    let read = service(name, node, document, 0, reader, gate)?;
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
            "configs" | "secrets" => {
                for (name, node) in node.properties() {
                    reader.met.declared.push(Declared {
                        kind: key.clone(),
                        name: name.clone(),
                        base: reader.place.base.to_path_buf(),
                        file: reader.file.clone(),
                        node: node.clone(),
                    });
                }
            }
            _ => {
                gate.refuse(node, key, UNKNOWN);
            }
        }
    }
    Ok(())
}

/// Reads a service over the one that it extends, which may be in another file.
fn service(
    name: &str,
    node: &Node,
    document: &Node,
    depth: usize,
    reader: &mut Reader<'_>,
    gate: &mut Gate,
) -> Result<Map<String, Value>> {
    let mut whole = match node.get("extends") {
        Some(extends) => extended(name, node, extends, document, depth, reader, gate)?,
        None => Map::new(),
    };
    gate.turn_to(&reader.file);
    merge::service(&mut whole, reader.read(name, node, gate));
    Ok(whole)
}

fn extended(
    name: &str,
    node: &Node,
    extends: &Node,
    document: &Node,
    depth: usize,
    reader: &mut Reader<'_>,
    gate: &mut Gate,
) -> Result<Map<String, Value>> {
    let property = format!("services.{name:.80}.extends");
    if depth == MAX_DEPTH {
        gate.refuse_always(extends, &property, CIRCLE);
        return Ok(Map::new());
    }
    let of = extends.get("service").unwrap_or(extends).as_text();
    let found = |document: &Node| {
        let service = document.get("services")?.get(of?)?;
        let mut service = service.clone();
        service.give_way(node);
        Some(service)
    };
    let missing = |gate: &mut Gate| {
        gate.wrong(extends, &property, "the name of an existing service");
        Ok(Map::new())
    };
    let Some(file) = extends.get("file") else {
        return match found(document) {
            Some(base) => service(name, &base, document, depth + 1, reader, gate),
            None => missing(gate),
        };
    };
    let Some(path) = reader.place.path(file, &property, gate) else {
        return Ok(Map::new());
    };
    let path = PathBuf::from(path);
    let Some(mut other) = load(&path, reader, gate)? else {
        return Ok(Map::new());
    };
    other.node.settle();
    let Some(base) = found(&other.node) else {
        gate.turn_to(&reader.file);
        return missing(gate);
    };
    // Paths there are seen from there.
    let place = Place {
        checkout: reader.place.checkout,
        base: path.parent().unwrap_or(reader.place.base),
    };
    reader.within(place, reader.variables, |inner| {
        inner.file.clone_from(&other.shown);
        service(name, &base, &other.node, depth + 1, inner, gate)
    })
}
