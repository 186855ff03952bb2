//! A feature that lives in the repository: `./path` beside its devcontainer.json.
//!
//! The devcontainer CLI copies a feature's directory, links and all, and then writes files of its
//! own into the copy. So what counts is where a link leads from there.

use std::collections::{BTreeSet, VecDeque};
use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};

use super::build::Place;
use super::features::{self, Origin};
use super::metadata::{self, Entry};
use super::policy;
use super::verdict::Gate;
use crate::devcontainer::reading::checkout::Checkout;
use crate::devcontainer::reading::document::Node;
use crate::devcontainer::reading::jsonc;

/// Files that a feature may have; more are not looked through.
const MAX_FILES: usize = 10_000;

/// Files that are looked at for features that nothing in the repository names.
const MAX_OTHERS: usize = 100_000;

/// How deep a feature's directories may lie in one another.
const MAX_DEPTH: usize = 64;

/// Links that are followed in a row, as many as Linux follows.
const MAX_LINKS: usize = 40;

/// Features that are looked at in one repository.
const MAX_FEATURES: usize = 100;

/// The file that makes a directory a feature.
const FILE: &str = "devcontainer-feature.json";

/// What the devcontainer CLI writes into its copy of a feature.
const WRITTEN: &[&str] = &[
    "devcontainer-features.env",
    "devcontainer-features-install.sh",
];

const LEADS_OUT: &str = "a link in it points outside the feature's directory, or is at a place where the \
     devcontainer CLI writes";

/// Checks the feature and gives the identifier under which the devcontainer CLI finds it; `None` if it is
/// refused.
///
/// With an override configuration the CLI takes relative paths from the directory of the
/// devcontainer.json that *it* would have found, and wants features below `.devcontainer`.
pub fn read(node: &Node, id: &str, place: &Place<'_>, gate: &mut Gate) -> Option<String> {
    let property = format!("features.{id:.120}");
    let folder = PathBuf::from(place.path(&Node::text(node.line, id), &property, gate)?);
    let checkout = place.checkout;
    let Ok(below) = folder.strip_prefix(home(checkout)) else {
        gate.wrong(node, &property, "a directory below .devcontainer");
        return None;
    };
    check(node, &property, &folder, checkout, gate);
    let below = below.to_str()?;
    Some(if seen_from_root(checkout) {
        format!("./.devcontainer/{below}")
    } else {
        format!("./{below}")
    })
}

/// Checks the other features below `.devcontainer`: a published feature that depends on one of them would have
/// it copied, although nothing in the repository names it.
///
/// `checked` are identifiers that [`read`] gave.
pub fn check_others<'a>(
    checked: impl Iterator<Item = &'a str>,
    checkout: &Checkout,
    gate: &mut Gate,
) {
    let Some(found) = features_below(checkout) else {
        let why = "there are too many files to search for features";
        gate.refuse_text(0, ".devcontainer", "as a whole", why);
        return;
    };
    let checked: BTreeSet<PathBuf> = checked.filter_map(|id| depended_on(id, checkout)).collect();
    for folder in found.difference(&checked) {
        if !stays_inside(folder) {
            gate.refuse_text(0, "the feature", &checkout.shown(folder), LEADS_OUT);
        }
        // What else it says counts once something depends on it.
        let file = folder.join(FILE);
        let text = checkout.read(&file).ok();
        let feature = text.and_then(|text| jsonc::parse(&text, FILE).ok());
        if let Some(id) = feature.as_ref().and_then(|feature| feature.get("id"))
            && !id.as_text().is_some_and(policy::is_name)
        {
            let mut inner = gate.aside(&checkout.shown(&file));
            inner.refuse(id, "id", "this is not the name of a feature");
            gate.take_in(inner);
        }
    }
}

/// Checks a feature, and those of the repository that it depends on.
fn check(node: &Node, property: &str, folder: &Path, checkout: &Checkout, gate: &mut Gate) {
    let mut seen = BTreeSet::from([folder.to_path_buf()]);
    let mut todo = VecDeque::from([(folder.to_path_buf(), property.to_owned())]);
    while let Some((folder, property)) = todo.pop_front() {
        let Some(feature) = check_one(node, &property, &folder, checkout, gate) else {
            continue;
        };
        let depends_on = feature.get("dependsOn").map(Node::properties);
        for (id, _) in depends_on.unwrap_or_default() {
            if features::origin(id) != Origin::Local {
                continue;
            }
            let property = format!("{property:.120}: dependsOn.{id:.120}");
            let Some(folder) = depended_on(id, checkout) else {
                gate.refuse(
                    node,
                    &property,
                    "it is not a directory of the repository below .devcontainer, given relative to it and \
                     without links",
                );
                continue;
            };
            if seen.insert(folder.clone()) {
                todo.push_back((folder, property));
            }
        }
        if seen.len() > MAX_FEATURES {
            gate.refuse(node, &property, "it depends on too many features");
            return;
        }
    }
}

fn check_one(
    node: &Node,
    property: &str,
    folder: &Path,
    checkout: &Checkout,
    gate: &mut Gate,
) -> Option<Node> {
    let name = folder.file_name().and_then(OsStr::to_str);
    if !name.is_some_and(policy::is_name) {
        gate.refuse(
            node,
            property,
            "its directory does not have a feature's name",
        );
        return None;
    }
    if !stays_inside(folder) {
        gate.refuse(node, property, LEADS_OUT);
        return None;
    }
    let Ok(file) = checkout.inside(folder, FILE) else {
        gate.wrong(
            node,
            property,
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
            metadata::check_entry(&feature, &mut inner, Entry::LocalFeature);
            gate.take_in(inner);
            Some(feature)
        }
        Err(error) => {
            gate.refuse_always(node, property, &error.message());
            None
        }
    }
}

fn home(checkout: &Checkout) -> PathBuf {
    checkout.root().join(".devcontainer")
}

/// Whether the CLI would find a bare `.devcontainer.json`.
fn seen_from_root(checkout: &Checkout) -> bool {
    let there = |path: &str| checkout.root().join(path).is_file();
    !there(".devcontainer/devcontainer.json") && there(".devcontainer.json")
}

/// The directory that the devcontainer CLI takes for a local feature on which another depends: it
/// sees every identifier from the configuration's directory, and follows links.
fn depended_on(id: &str, checkout: &Checkout) -> Option<PathBuf> {
    let home = home(checkout);
    let base = if seen_from_root(checkout) {
        checkout.root()
    } else {
        home.as_path()
    };
    let folder = Checkout::lexical(base, id);
    let plain = folder.canonicalize().is_ok_and(|real| real == folder);
    (plain && folder.starts_with(&home)).then_some(folder)
}

/// Directories of the checkout that are features and can be reached from `.devcontainer`; `None`
/// where there is too much to look through.
fn features_below(checkout: &Checkout) -> Option<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    let mut seen = BTreeSet::new();
    let mut left = MAX_OTHERS;
    let home = checkout.inside(checkout.root(), ".devcontainer");
    let mut todo: Vec<(PathBuf, usize)> = home.into_iter().map(|home| (home, 0)).collect();
    while let Some((directory, depth)) = todo.pop() {
        if !seen.insert(directory.clone()) {
            continue;
        }
        if directory.join(FILE).symlink_metadata().is_ok() {
            found.insert(directory.clone());
        }
        let Ok(entries) = std::fs::read_dir(&directory) else {
            continue;
        };
        for entry in entries.flatten() {
            left = left.checked_sub(1)?;
            let (path, kind) = (entry.path(), entry.file_type().ok()?);
            let below = if kind.is_symlink() {
                path.to_str()
                    .and_then(|path| checkout.inside(&directory, path).ok())
                    .filter(|path| path.is_dir())
            } else {
                kind.is_dir().then_some(path)
            };
            if let Some(below) = below {
                if depth >= MAX_DEPTH {
                    return None;
                }
                todo.push((below, depth + 1));
            }
        }
    }
    (found.len() <= MAX_FEATURES).then_some(found)
}

/// Whether every link in this directory leads to something in it wherever the directory lies, and
/// none is where the devcontainer CLI writes.
fn stays_inside(folder: &Path) -> bool {
    if folder.symlink_metadata().is_ok_and(|it| it.is_symlink()) {
        return false;
    }
    let in_the_way = |name: &&str| {
        let there = folder.join(name).symlink_metadata();
        there.is_ok_and(|there| !there.is_file())
    };
    if WRITTEN.iter().any(in_the_way) {
        return false;
    }
    let mut left = MAX_FILES;
    let mut todo = vec![(PathBuf::new(), 0)];
    while let Some((directory, depth)) = todo.pop() {
        let Ok(entries) = std::fs::read_dir(folder.join(&directory)) else {
            return false;
        };
        for entry in entries {
            let Some(rest) = left.checked_sub(1) else {
                return false;
            };
            left = rest;
            let Ok((name, kind)) =
                entry.and_then(|entry| Ok((entry.file_name(), entry.file_type()?)))
            else {
                return false;
            };
            let path = directory.join(name);
            if kind.is_dir() {
                if depth >= MAX_DEPTH {
                    return false;
                }
                todo.push((path, depth + 1));
            } else if kind.is_symlink() {
                if !leads_inside(folder, &path) {
                    return false;
                }
            } else if !kind.is_file() {
                return false;
            }
        }
    }
    true
}

/// Follows a link of the directory step by step as the kernel does. It must never leave the
/// directory on its way, not even to come back: the copy lies elsewhere, under another name.
fn leads_inside(folder: &Path, link: &Path) -> bool {
    let mut links = 0;
    let mut at = PathBuf::new();
    let mut ahead: VecDeque<PathBuf> = link
        .components()
        .map(|part| part.as_os_str().into())
        .collect();
    while let Some(part) = ahead.pop_front() {
        match part.components().next() {
            Some(Component::ParentDir) => {
                if !at.pop() {
                    return false;
                }
                continue;
            }
            Some(Component::Normal(_)) => {}
            Some(Component::CurDir) | None => continue,
            Some(Component::RootDir | Component::Prefix(_)) => return false,
        }
        let path = at.join(&part);
        let Ok(there) = folder.join(&path).symlink_metadata() else {
            return false;
        };
        if !there.is_symlink() {
            at = path;
            continue;
        }
        links += 1;
        let Ok(target) = folder.join(&path).read_link() else {
            return false;
        };
        if links > MAX_LINKS {
            return false;
        }
        for part in target.components().rev() {
            ahead.push_front(part.as_os_str().into());
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// A feature with this link; the first entry of each pair is the link, the second its target.
    fn with(links: &[(&str, &str)]) -> (tempfile::TempDir, PathBuf) {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("feature");
        std::fs::create_dir_all(folder.join("lib/deep")).unwrap();
        for file in [FILE, "install.sh", "lib/a", "lib/deep/b"] {
            std::fs::write(folder.join(file), "{}").unwrap();
        }
        std::fs::write(parent.path().join("beside"), "").unwrap();
        for (link, target) in links {
            symlink(target, folder.join(link)).unwrap();
        }
        (parent, folder)
    }

    #[test]
    fn links_that_stay_in_the_copy_pass() {
        for links in [
            &[][..],
            &[("x", "install.sh")],
            &[("lib/x", "../install.sh")],
            &[("lib/deep/x", "../../lib/./a")],
            &[("d", "lib"), ("x", "d/deep/b")],
            &[("p", "."), ("x", "p/p/lib/a")],
            &[("d", "lib/deep"), ("x", "d/../a")],
        ] {
            let (_parent, folder) = with(links);
            assert!(stays_inside(&folder), "{links:?}");
        }
    }

    #[test]
    fn links_that_would_leave_the_copy_do_not() {
        for links in [
            &[("x", "/etc/passwd")][..],
            &[("x", "../beside")],
            &[("lib/x", "../../beside")],
            // In the checkout it comes back; the copy has another name.
            &[("x", "../feature/install.sh")],
            &[("x", "missing")],
            &[("x", "x")],
            &[("x", "y"), ("y", "x")],
            // The kernel takes `..` from where a link leads.
            &[("d", "."), ("x", "d/../beside")],
            &[("p", "."), ("x", "p/p/p/../lib/../../../beside")],
            &[("d", "lib/deep"), ("x", "d/../../../beside")],
            &[("lib/up", ".."), ("x", "lib/up/../beside")],
            &[("devcontainer-features.env", "install.sh")],
            &[("devcontainer-features-install.sh", "install.sh")],
            &[("devcontainer-features.env", "missing")],
        ] {
            let (_parent, folder) = with(links);
            assert!(!stays_inside(&folder), "{links:?}");
        }
        let (parent, folder) = with(&[]);
        symlink(&folder, parent.path().join("link")).unwrap();
        assert!(!stays_inside(&parent.path().join("link")));
        std::fs::create_dir(folder.join("devcontainer-features.env")).unwrap();
        assert!(!stays_inside(&folder));
    }

    #[test]
    fn chains_and_depths_have_an_end() {
        let (_parent, folder) = with(&[]);
        symlink("install.sh", folder.join("link0")).unwrap();
        for number in 1..=MAX_LINKS {
            let target = format!("link{}", number - 1);
            symlink(target, folder.join(format!("link{number}"))).unwrap();
        }
        assert!(!stays_inside(&folder));
        std::fs::remove_file(folder.join(format!("link{MAX_LINKS}"))).unwrap();
        assert!(stays_inside(&folder));
        let deep: PathBuf = std::iter::repeat_n("d", MAX_DEPTH + 1).collect();
        std::fs::create_dir_all(folder.join(deep)).unwrap();
        assert!(!stays_inside(&folder));
    }
}
