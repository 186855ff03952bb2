//! Mount points that Docker has made as root in what is the user's: the home and the clone.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use crate::docker::{Directory, Docker, Owner, Tree};
use crate::error::Result;

/// How many directories are looked at. A container has a few mounts.
const MOST: usize = 200;

/// Gives the user what Docker has made as root: the mount points in these directories of theirs, and
/// the directories that lead there. What the image put there, or an earlier drone, stays as it is.
pub async fn given(
    docker: &Docker,
    container: &str,
    points: &[&str],
    places: &[&str],
    owner: Owner,
) -> Result<Tree> {
    let mut tree = Tree::default();
    if owner == Owner::ROOT {
        return Ok(tree);
    }
    for (directory, ways) in between(points, places) {
        let there = docker.directory(container, &directory).await?;
        if there.is_some_and(|there| is_dockers(&there, &ways)) {
            tree = tree.directory_of(directory, owner);
        }
    }
    Ok(tree)
}

/// The directories that are below one of the places, or are one themselves, and lead to a mount point or
/// are one, parents first; each with the names of what in it does.
fn between(points: &[&str], places: &[&str]) -> Vec<(PathBuf, BTreeSet<PathBuf>)> {
    let mut found = BTreeMap::<PathBuf, BTreeSet<PathBuf>>::new();
    let places = places.iter().map(Path::new).filter(|place| is_place(place));
    for place in places {
        for point in points.iter().map(Path::new) {
            let Ok(below) = point.strip_prefix(place) else {
                continue;
            };
            if !below
                .components()
                .all(|it| matches!(it, Component::Normal(_)))
            {
                continue;
            }
            found.entry(point.to_owned()).or_default();
            let parents = point.ancestors().skip(1);
            for parent in parents.take_while(|parent| *parent != place && parent.starts_with(place))
            {
                let way = point.strip_prefix(parent).unwrap_or(point);
                found
                    .entry(parent.to_owned())
                    .or_default()
                    .insert(way.to_owned());
            }
        }
    }
    found.into_iter().take(MOST).collect()
}

/// Whether a directory can belong to a user: an absolute path, and not the root.
fn is_place(path: &Path) -> bool {
    let mut components = path.components();
    components.next() == Some(Component::RootDir)
        && components.clone().next().is_some()
        && components.all(|component| matches!(component, Component::Normal(_)))
}

/// Whether a directory is as Docker makes one: root's, and empty but for the ways to mount points.
fn is_dockers(there: &Directory, ways: &BTreeSet<PathBuf>) -> bool {
    there.owner == Owner::ROOT
        && there.mode == 0o755
        && there.content.iter().all(|path| {
            ways.iter()
                .any(|way| path.starts_with(way) || way.starts_with(path))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(owner: Owner, content: &[&str]) -> Directory {
        Directory {
            owner,
            mode: 0o755,
            content: content.iter().map(PathBuf::from).collect(),
        }
    }

    #[test]
    fn what_leads_to_a_mount_point_in_a_place_is_found() {
        let points = [
            "/home/app/.config/tool",
            "/home/app/.config/other",
            "/srv/x",
            "/home/application/x",
            "/w/a/node_modules",
            "/w",
        ];
        let found = between(&points, &["/home/app", "/w/a", "/", ""]);
        let paths: Vec<_> = found
            .iter()
            .map(|(path, _)| path.to_str().unwrap())
            .collect();
        assert_eq!(
            paths,
            [
                "/home/app/.config",
                "/home/app/.config/other",
                "/home/app/.config/tool",
                "/w/a/node_modules"
            ]
        );
        assert_eq!(found[0].1, ["other", "tool"].map(PathBuf::from).into());
        assert!(found[1].1.is_empty());
        let home = between(&["/home/app"], &["/home/app"]);
        assert_eq!(home, [("/home/app".into(), BTreeSet::new())]);
        assert!(between(&["/home/app/../x"], &["/home/app"]).is_empty());
    }

    #[test]
    fn only_what_docker_made_is_given() {
        let ways = ["share/tool"].map(PathBuf::from).into();
        assert!(is_dockers(
            &directory(Owner::ROOT, &["share", "share/tool", "share/tool/x"]),
            &ways
        ));
        assert!(!is_dockers(
            &directory(Owner::ROOT, &["share", "own"]),
            &ways
        ));
        assert!(!is_dockers(
            &directory(Owner::ROOT, &["share", "share/own"]),
            &ways
        ));
        assert!(is_dockers(&directory(Owner::ROOT, &[]), &BTreeSet::new()));
        assert!(!is_dockers(
            &directory(Owner::ROOT, &["x"]),
            &BTreeSet::new()
        ));
        assert!(!is_dockers(
            &directory(Owner { uid: 7, gid: 7 }, &[]),
            &BTreeSet::new()
        ));
        let kept = Directory {
            mode: 0o700,
            ..directory(Owner::ROOT, &[])
        };
        assert!(!is_dockers(&kept, &BTreeSet::new()));
    }
}
