//! Which repository a directory is, from what git wrote into it. A stranger may have written that
//! as well, so it is read here, within bounds: git itself would follow its includes.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use url::Url;

use crate::repo::RepoId;

/// How much of a file of git's is read, in bytes.
const MAX_FILE: u64 = 256 * 1024;

/// The repository that the remote `origin` names on the GitHub at this host; otherwise one that is
/// named after the directory.
pub fn of(directory: &Path, github: &str) -> RepoId {
    let remote = config_of(directory).and_then(|file| text(&file));
    let remote = remote.as_deref().and_then(url_of_origin);
    remote
        .and_then(|url| on_github(url, github))
        .unwrap_or_else(|| named_after(directory))
}

/// git's configuration, of a work tree as well.
fn config_of(directory: &Path) -> Option<PathBuf> {
    let git = directory.join(".git");
    if git.is_dir() {
        return Some(git.join("config"));
    }
    let link = text(&git)?;
    let tree = directory.join(link.strip_prefix("gitdir:")?.trim());
    let common = text(&tree.join("commondir"));
    let common = common.as_deref().map_or("", str::trim);
    Some(tree.join(common).join("config"))
}

fn text(path: &Path) -> Option<String> {
    // A pipe or a device would block or never end.
    if !path.is_file() {
        return None;
    }
    let mut bytes = Vec::new();
    let file = File::open(path).ok()?;
    file.take(MAX_FILE).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn url_of_origin(config: &str) -> Option<&str> {
    let mut is_origin = false;
    for line in config.lines().map(str::trim) {
        if line.starts_with('[') {
            is_origin = line.strip_prefix("[remote \"origin\"]").is_some();
        } else if is_origin
            && let Some((key, value)) = line.split_once('=')
            && key.trim().eq_ignore_ascii_case("url")
        {
            return Some(value.trim().trim_matches('"'));
        }
    }
    None
}

/// The repository of a URL of any kind that git takes, where its host is this one.
fn on_github(url: &str, github: &str) -> Option<RepoId> {
    // `host:path` is taken for a URL whose scheme is the host.
    let parsed = Url::parse(url).ok().filter(Url::has_host);
    let (host, path) = match &parsed {
        Some(url) => (url.host_str()?, url.path()),
        None => url
            .rsplit_once('@')
            .map_or(url, |(_, rest)| rest)
            .split_once(':')?,
    };
    let path = path.trim_matches('/');
    if !host.eq_ignore_ascii_case(github) || path.contains(':') {
        return None;
    }
    path.strip_suffix(".git").unwrap_or(path).parse().ok()
}

fn named_after(directory: &Path) -> RepoId {
    let whole = directory.canonicalize().unwrap_or_default();
    RepoId::local(&whole.file_name().unwrap_or_default().to_string_lossy())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn directory(config: &str) -> tempfile::TempDir {
        let directory = tempfile::Builder::new()
            .prefix("my site")
            .tempdir()
            .unwrap();
        std::fs::create_dir(directory.path().join(".git")).unwrap();
        std::fs::write(directory.path().join(".git/config"), config).unwrap();
        directory
    }

    #[test]
    fn the_remote_on_this_github_says_which_it_is() {
        for url in [
            "https://github.com/acme/site",
            "https://github.com/acme/site.git",
            "https://github.com/acme/site/",
            "https://x-access-token:secret@GitHub.com/acme/site",
            "git@github.com:acme/site.git",
            "github.com:acme/site.git",
            "ssh://git@github.com/acme/site.git",
            "ssh://git@github.com:22/acme/site.git",
            "git://github.com/acme/site.git",
        ] {
            for config in [
                format!("[core]\n\turl = x\n[remote \"origin\"]\n\turl = {url}\n\tfetch = +x\n"),
                format!(
                    "[remote \"up\"]\nurl = https://github.com/a/b\n[remote \"origin\"]\nurl=\"{url}\""
                ),
            ] {
                let directory = directory(&config);
                assert_eq!(
                    of(directory.path(), "github.com").to_string(),
                    "acme/site",
                    "{url}"
                );
            }
        }
    }

    #[test]
    fn any_other_remote_leaves_the_directorys_name() {
        for url in [
            "https://gitlab.com/acme/site",
            "git@example.com:acme/site.git",
            "https://github.com/acme",
            "https://github.com/acme/site/tree",
            "/srv/git/site.git",
            "../github.com:acme/site",
            "",
        ] {
            let directory = directory(&format!("[remote \"origin\"]\n\turl = {url}\n"));
            let repo = of(directory.path(), "github.com");
            assert_eq!(repo.owner(), "local", "{url}");
            assert!(repo.name().starts_with("my-site"), "{repo}");
        }
        assert_eq!(
            of(Path::new("/"), "github.com").to_string(),
            "local/directory"
        );
    }

    #[test]
    fn a_work_tree_is_the_repository_that_it_belongs_to() {
        let main = directory("[remote \"origin\"]\n\turl = git@github.com:acme/site.git\n");
        let tree = main.path().join(".git/worktrees/fix");
        std::fs::create_dir_all(&tree).unwrap();
        std::fs::write(tree.join("commondir"), "../..\n").unwrap();
        let fix = tempfile::tempdir().unwrap();
        let link = format!("gitdir: {}\n", tree.display());
        std::fs::write(fix.path().join(".git"), link).unwrap();
        assert_eq!(of(fix.path(), "github.com").to_string(), "acme/site");
    }

    proptest! {
        #[test]
        fn every_directory_has_a_name(name in "[^/\0]{1,60}", config in any::<String>()) {
            let parent = tempfile::tempdir().unwrap();
            let directory = parent.path().join(name);
            if std::fs::create_dir_all(directory.join(".git")).is_ok() {
                std::fs::write(directory.join(".git/config"), config).unwrap();
                of(&directory, "github.com");
            }
        }
    }
}
