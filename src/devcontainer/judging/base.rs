//! What a devcontainer is made from.

use std::path::PathBuf;

use serde_json::{Map, Value};

use super::build::{self, Place};
use super::policy;
use super::verdict::Gate;
use crate::devcontainer::reading::document::{Data, Node};

/// What a devcontainer is made from.
#[derive(Debug, Clone, PartialEq)]
pub enum Base {
    /// An image by name.
    Image(String),
    /// A Dockerfile: the property `build`, its paths absolute.
    Build(Map<String, Value>),
    /// Compose files, absolute, and the service that is the drone.
    Compose {
        /// In the order in which they are merged.
        files: Vec<PathBuf>,
        /// The drone's service.
        service: String,
    },
}

/// Whether a devcontainer.json says what it is made from; else it is made from the configured image.
pub fn is_named(document: &Node) -> bool {
    ["image", "build", "dockerFile", "dockerComposeFile"]
        .into_iter()
        .any(|key| {
            document
                .get(key)
                .is_some_and(|node| !matches!(node.data, Data::Null))
        })
        || !document.is_map()
}

/// Reads `build` (or the older `dockerFile`), `image` or `dockerComposeFile`, the first of them that is there.
/// `None` if none of them can be used; the gate has then noted why.
pub fn read(document: &Node, place: &Place<'_>, gate: &mut Gate) -> Option<Base> {
    let legacy = document.get("dockerFile").map(|file| {
        let mut parts = vec![("dockerfile".to_owned(), file.clone())];
        if let Some(context) = document.get("context") {
            parts.push(("context".to_owned(), context.clone()));
        }
        // Both may stand: the old file beside the new options.
        for (key, value) in document
            .get("build")
            .map(Node::properties)
            .unwrap_or_default()
        {
            if key != "dockerfile" && key != "context" {
                parts.push((key.clone(), value.clone()));
            }
        }
        Node {
            line: file.line,
            tag: file.tag,
            data: Data::Map(parts),
        }
    });
    let build = legacy.as_ref().or_else(|| {
        document
            .get("build")
            .filter(|build| build.get("dockerfile").is_some())
    });
    if let Some(node) = build {
        Some(Base::Build(build::read(node, "build", place, gate)))
    } else if let Some(node) = document.get("image") {
        match node.as_text() {
            Some(text) if policy::is_image(text) => Some(Base::Image(text.to_owned())),
            _ => {
                gate.wrong(node, "image", "the name of an image");
                None
            }
        }
    } else if let Some(node) = document.get("dockerComposeFile") {
        read_compose(node, document, place, gate)
    } else {
        gate.wrong(
            document,
            "the configuration",
            "based on image, build or dockerComposeFile",
        );
        None
    }
}

fn read_compose(node: &Node, document: &Node, place: &Place<'_>, gate: &mut Gate) -> Option<Base> {
    let mut files = Vec::new();
    for file in node.one_or_many() {
        files.push(PathBuf::from(place.path(
            file,
            "dockerComposeFile",
            gate,
        )?));
    }
    let service = document.get("service");
    match service.and_then(Node::as_text) {
        Some(service) if policy::is_name(service) && !files.is_empty() => Some(Base::Compose {
            files,
            service: service.to_owned(),
        }),
        _ => {
            gate.wrong(
                service.unwrap_or(node),
                "service",
                "the name of the service to work in",
            );
            None
        }
    }
}
