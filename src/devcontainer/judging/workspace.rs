//! Where the drone's volume is mounted and where in it the clone is.

use std::ffi::OsStr;
use std::path::Path;

use super::mounts::{self, Mount};
use super::policy;
use super::verdict::Gate;
use crate::devcontainer::reading::checkout::{BadPath, Checkout};
use crate::devcontainer::reading::document::Node;

/// Where devcontainers have their workspaces by default.
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

/// What a bind mount of the repository's own files shows of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// The directory that holds the clone.
    Parent,
    /// What is at a path in the clone.
    Clone {
        /// The path; empty for all of it.
        path: String,
        /// Whether the repository has nothing there.
        absent: bool,
    },
}

impl Part {
    /// The part of the checkout that `source`, relative to `base`, names. It need not exist. `None` if it is
    /// outside or in a person's home (`~`), or has characters that the text of a mount cannot hold.
    pub fn of(source: &str, base: &Path, checkout: &Checkout) -> Option<Self> {
        let root = checkout.root();
        let lexical = Checkout::lexical(base, source);
        if source.starts_with('~') {
            return None;
        }
        if Some(lexical.as_path()) == root.parent() {
            return Some(Self::Parent);
        }
        let (path, absent) = match checkout.inside(base, source) {
            Ok(path) => (path, false),
            Err(BadPath::Missing) => (lexical, true),
            Err(BadPath::Outside) => return None,
        };
        let path = path.strip_prefix(root).ok()?.to_str()?;
        // Docker's command and compose take it for a field of a line.
        let fits = path.is_empty() || policy::is_target(&format!("/{path}"));
        fits.then(|| Self::Clone {
            path: path.to_owned(),
            absent,
        })
    }

    /// What is at the volume's root if this part is the workspace; `None` if it cannot be the workspace.
    pub fn root(&self) -> Option<Root> {
        match self {
            Self::Parent => Some(Root::Parent),
            Self::Clone { path, .. } => path.is_empty().then_some(Root::Checkout),
        }
    }

    /// The path in the clone, where the repository has nothing there.
    pub fn absent(&self) -> Option<&str> {
        match self {
            Self::Clone { path, absent: true } => Some(path),
            _ => None,
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

impl Workspace {
    /// The clone's path in the volume; empty where it is the volume's root.
    pub fn in_volume(&self) -> &str {
        let below = self.clone_at.strip_prefix(&self.target);
        below.unwrap_or_default().trim_start_matches('/')
    }
}

/// Plans the workspace of the repository of this name. `mount` is what it mounts as its workspace, and where;
/// `folder` is its `workspaceFolder`.
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
        // A folder alone says only where tools open (the devcontainer CLI's `getWorkspaceConfiguration`).
        None => (WORKSPACES.to_owned(), below(WORKSPACES, name)),
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

/// `workspaceFolder` with its variables replaced; `None` if that is not an absolute path.
pub fn read_folder(node: &Node, checkout: &Checkout) -> Option<String> {
    let text = resolved(node.as_text()?, None, checkout);
    policy::is_target(&text).then_some(text)
}

/// What a `workspaceMount` stands for. Hatchery mounts its own volume in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkspaceMount {
    /// The drone's volume, at this place.
    At(Root, String),
    /// A part of the repository alone: the clone stays where it is by default.
    Part(Mount),
}

/// Reads `workspaceMount`; `None` if it is empty or not valid. `folder` is `workspaceFolder`, its variables
/// replaced.
pub fn read_mount(
    node: &Node,
    folder: Option<&str>,
    gate: &mut Gate,
    checkout: &Checkout,
) -> Option<WorkspaceMount> {
    const PROPERTY: &str = "workspaceMount";
    if node.as_text().is_some_and(|text| text.trim().is_empty()) {
        return None;
    }
    let Ok(fields) = mounts::fields(&node.to_value()) else {
        gate.wrong(node, PROPERTY, "a mount");
        return None;
    };
    let (mut kind, mut source, mut target) = ("volume", "", "");
    for (key, value) in &fields {
        match key.to_ascii_lowercase().as_str() {
            "type" => kind = value,
            "source" | "src" => source = value,
            "target" | "dst" | "destination" => target = value,
            _ => {}
        }
    }
    let target = resolved(target, folder, checkout);
    if !is_place(&target) {
        gate.wrong(node, PROPERTY, "a mount at an absolute path");
        return None;
    }
    if kind != "bind" {
        return Some(WorkspaceMount::At(Root::Volume, target));
    }
    let Some(part) = mounts::part(source, checkout) else {
        gate.refuse(node, PROPERTY, mounts::NO_BIND);
        return Some(WorkspaceMount::At(Root::Checkout, target));
    };
    Some(match part.root() {
        Some(root) => WorkspaceMount::At(root, target),
        None => WorkspaceMount::Part(Mount::of_part(part, &target)),
    })
}

/// Replaces the variables that a path in the drone may hold. `${localWorkspaceFolder}`, which on a person's
/// machine is the checkout, is the clone here.
fn resolved(text: &str, folder: Option<&str>, checkout: &Checkout) -> String {
    let name = checkout.root().file_name().and_then(OsStr::to_str);
    let clone = below(WORKSPACES, name.unwrap_or_default());
    let folder = folder.unwrap_or(&clone);
    let last = Path::new(folder).file_name().and_then(OsStr::to_str);
    text.trim()
        .replace("${localWorkspaceFolder}", &clone)
        .replace("${containerWorkspaceFolder}", folder)
        .replace(
            "${containerWorkspaceFolderBasename}",
            last.unwrap_or_default(),
        )
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
                "/workspaces/site",
                "/workspaces/other",
            ),
            (
                None,
                Some("/workspace"),
                "/workspaces",
                "/workspaces/site",
                "/workspace",
            ),
            (None, Some("/"), "/workspaces", "/workspaces/site", "/"),
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
