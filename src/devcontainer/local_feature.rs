//! A feature that lives in the repository: `./path` beside its devcontainer.json.

use std::path::{Path, PathBuf};

use super::build::{OUTSIDE, Place};
use super::checkout::Checkout;
use super::document::Node;
use super::verdict::Gate;
use super::{jsonc, metadata};

/// Files that a feature may have; more are not looked through.
const MAX_FILES: usize = 10_000;

/// Checks the feature and gives the identifier under which the devcontainer CLI finds it.
///
/// With an override configuration the CLI takes relative paths from the directory of the
/// devcontainer.json that *it* would have found, and wants features below `.devcontainer`.
pub fn read(node: &Node, id: &str, place: &Place<'_>, gate: &mut Gate) -> Option<String> {
    let property = format!("features.{id:.120}");
    let folder = PathBuf::from(place.path(&Node::text(node.line, id), &property, gate)?);
    let checkout = place.checkout;
    let home = checkout.root().join(".devcontainer");
    let Ok(below) = folder.strip_prefix(&home) else {
        gate.wrong(node, &property, "a directory below .devcontainer");
        return None;
    };
    if !is_self_contained(&folder, checkout) {
        gate.refuse(node, &property, OUTSIDE);
        return None;
    }
    let Ok(file) = checkout.inside(&folder, "devcontainer-feature.json") else {
        gate.wrong(
            node,
            &property,
            "a directory with a devcontainer-feature.json",
        );
        return None;
    };
    let shown = checkout.shown(&file);
    match checkout
        .read(&file)
        .and_then(|text| jsonc::parse(&text, &shown))
    {
        Ok(feature) => {
            let mut inner = gate.aside(&shown);
            metadata::check_entry(&feature, &mut inner, None);
            gate.take_in(inner);
        }
        Err(error) => gate.refuse_always(node, &property, &error.message()),
    }
    let below = below.to_str()?;
    Some(if seen_from_root(checkout) {
        format!("./.devcontainer/{below}")
    } else {
        format!("./{below}")
    })
}

/// Whether the CLI would find a bare `.devcontainer.json`.
fn seen_from_root(checkout: &Checkout) -> bool {
    let there = |path: &str| checkout.root().join(path).is_file();
    !there(".devcontainer/devcontainer.json") && there(".devcontainer.json")
}

/// Whether no symlink in it leads out of the checkout: the CLI copies what is there.
fn is_self_contained(folder: &Path, checkout: &Checkout) -> bool {
    let mut left = MAX_FILES;
    let mut todo = vec![folder.to_path_buf()];
    while let Some(directory) = todo.pop() {
        let Ok(entries) = std::fs::read_dir(&directory) else {
            return false;
        };
        for entry in entries {
            let Some(rest) = left.checked_sub(1) else {
                return false;
            };
            left = rest;
            let Ok((path, kind)) = entry.and_then(|entry| Ok((entry.path(), entry.file_type()?)))
            else {
                return false;
            };
            if kind.is_dir() {
                todo.push(path);
            } else if kind.is_symlink()
                && path
                    .to_str()
                    .is_none_or(|path| checkout.inside(&directory, path).is_err())
            {
                return false;
            }
        }
    }
    true
}
