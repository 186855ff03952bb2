//! Where the drone's volume is mounted and where in it the clone is.

use std::path::Path;

use super::policy;
use super::verdict::Gate;
use crate::devcontainer::reading::checkout::Checkout;
use crate::devcontainer::reading::document::Node;

/// Where devcontainers have their workspaces when nothing else is said.
const WORKSPACES: &str = "/workspaces";

/// What the repository mounts as its workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Root {
    /// The checkout itself.
    Checkout,
    /// The directory that holds the checkout.
    Parent,
    /// A volume; the repository does not say what is in it.
    Volume,
}

impl Root {
    /// What a directory of the host is to the checkout, if it is its workspace.
    pub fn of(path: &Path, checkout: &Checkout) -> Option<Self> {
        if path == checkout.root() {
            Some(Self::Checkout)
        } else if Some(path) == checkout.root().parent() {
            Some(Self::Parent)
        } else {
            None
        }
    }
}

/// The three paths of a workspace, absolute and in the drone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workspace {
    /// Where the volume is mounted.
    pub target: String,
    /// Where the clone is: `target` itself or below it.
    pub clone_at: String,
    /// What tools open: mostly `clone_at`.
    pub folder: String,
}

/// Plans the workspace of the repository of this name.
pub fn plan(name: &str, mount: Option<(Root, &str)>, folder: Option<&str>) -> Workspace {
    let folder = folder.map(tidy);
    let (target, clone_at) = match mount.map(|(root, target)| (root, tidy(target))) {
        Some((Root::Checkout, target)) => (target.clone(), target),
        Some((Root::Parent, target)) => {
            let clone_at = below(&target, name);
            (target, clone_at)
        }
        Some((Root::Volume, target)) => {
            let named = below(&target, name);
            let clone_at = match &folder {
                Some(folder) if within(folder, &named) => named,
                Some(folder) if within(folder, &target) => folder.clone(),
                None if target == WORKSPACES => named,
                _ => target.clone(),
            };
            (target, clone_at)
        }
        None => {
            let named = below(WORKSPACES, name);
            match &folder {
                Some(folder) if within(folder, &named) || folder == WORKSPACES => {
                    (WORKSPACES.to_owned(), named)
                }
                Some(folder) if within(folder, WORKSPACES) => {
                    (WORKSPACES.to_owned(), folder.clone())
                }
                Some(folder) => (folder.clone(), folder.clone()),
                None => (WORKSPACES.to_owned(), named),
            }
        }
    };
    Workspace {
        folder: folder.unwrap_or_else(|| clone_at.clone()),
        target,
        clone_at,
    }
}

fn below(directory: &str, name: &str) -> String {
    format!("{directory}/{name}")
}

fn within(path: &str, directory: &str) -> bool {
    Path::new(path).starts_with(directory)
}

fn tidy(path: &str) -> String {
    let parts: Vec<&str> = path
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".")
        .collect();
    format!("/{}", parts.join("/"))
}

/// Whether a volume can be mounted here and a clone put into it.
pub fn is_place(path: &str) -> bool {
    policy::is_target(path) && !policy::is_reserved_target(path)
}

/// Reads `workspaceMount`; hatchery's own volume takes its place.
pub fn read_mount(node: &Node, gate: &mut Gate, checkout: &Checkout) -> Option<(Root, String)> {
    let Some(text) = node.as_text() else {
        gate.wrong(node, "workspaceMount", "a text");
        return None;
    };
    if text.trim().is_empty() {
        return None;
    }
    let (mut kind, mut source, mut target) = ("volume", "", "");
    for part in text.split(',') {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        match key.trim().to_ascii_lowercase().as_str() {
            "type" => kind = value.trim(),
            "source" | "src" => source = value.trim(),
            "target" | "dst" | "destination" => target = value.trim(),
            _ => {}
        }
    }
    if !is_place(target) {
        gate.wrong(node, "workspaceMount", "a mount at an absolute path");
        return None;
    }
    let root = if kind == "bind" {
        let source = source.replace(
            "${localWorkspaceFolder}",
            &checkout.root().display().to_string(),
        );
        let path = Checkout::lexical(checkout.root(), &source);
        if let Some(root) = Root::of(&path, checkout) {
            root
        } else {
            gate.refuse(
                node,
                "workspaceMount",
                "it would mount this server's files into the drone",
            );
            Root::Checkout
        }
    } else {
        Root::Volume
    };
    Some((root, target.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::too_many_lines)] // A table.
    fn the_clone_is_where_the_repository_expects_it() {
        use Root::{Checkout, Parent, Volume};
        for (mount, folder, target, clone_at, opened) in [
            (
                None,
                None,
                "/workspaces",
                "/workspaces/site",
                "/workspaces/site",
            ),
            (
                None,
                Some("/workspaces/site/"),
                "/workspaces",
                "/workspaces/site",
                "/workspaces/site",
            ),
            (
                None,
                Some("/workspaces/site/sub"),
                "/workspaces",
                "/workspaces/site",
                "/workspaces/site/sub",
            ),
            (
                None,
                Some("/workspaces"),
                "/workspaces",
                "/workspaces/site",
                "/workspaces",
            ),
            (
                None,
                Some("/workspaces/other"),
                "/workspaces",
                "/workspaces/other",
                "/workspaces/other",
            ),
            (
                None,
                Some("/workspace"),
                "/workspace",
                "/workspace",
                "/workspace",
            ),
            (
                Some((Checkout, "/src")),
                Some("/src/sub"),
                "/src",
                "/src",
                "/src/sub",
            ),
            (Some((Checkout, "/src")), None, "/src", "/src", "/src"),
            (
                Some((Parent, "/workspaces")),
                Some("/workspaces/site"),
                "/workspaces",
                "/workspaces/site",
                "/workspaces/site",
            ),
            (Some((Parent, "/w")), None, "/w", "/w/site", "/w/site"),
            (
                Some((Volume, "/workspaces")),
                None,
                "/workspaces",
                "/workspaces/site",
                "/workspaces/site",
            ),
            (
                Some((Volume, "/workspace")),
                Some("/workspace"),
                "/workspace",
                "/workspace",
                "/workspace",
            ),
            (
                Some((Volume, "/w")),
                Some("/w/site/sub"),
                "/w",
                "/w/site",
                "/w/site/sub",
            ),
            (Some((Volume, "/w")), Some("/w/x"), "/w", "/w/x", "/w/x"),
            (
                Some((Volume, "/w")),
                Some("/elsewhere"),
                "/w",
                "/w",
                "/elsewhere",
            ),
        ] {
            let expected = Workspace {
                target: target.into(),
                clone_at: clone_at.into(),
                folder: opened.into(),
            };
            assert_eq!(
                plan("site", mount, folder),
                expected,
                "{mount:?} {folder:?}"
            );
            assert!(within(&expected.clone_at, &expected.target));
        }
    }
}
