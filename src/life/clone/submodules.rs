//! Submodules: fetched one after the other, each from where a drone can fetch it again.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use super::spelling::{self, Target};
use super::{Git, Subject, refusal, url_of};
use crate::error::{Code, Error, Result};
use crate::outlet::Outlet;

/// How many submodules a repository may have, all levels together.
const MOST: usize = 1000;

/// How deep submodules may lie in submodules.
const DEEPEST: usize = 10;

/// The largest `.gitmodules` that is read, in bytes.
const MAX_FILE: u64 = 1024 * 1024;

/// How much git may answer to a question, in bytes. A repository's configuration holds a name and a
/// URL for each line of a `.gitmodules`.
const MAX_ANSWER: u64 = 8 * MAX_FILE;

/// The longest path of a submodule, in bytes (`PATH_MAX`).
const LONGEST: usize = 4096;

/// How many paths are given to git at once.
const AT_ONCE: usize = 100;

/// A repository whose submodules are to be fetched.
struct Level {
    /// Where it is on this server.
    at: PathBuf,
    /// Where it is in the clone.
    shown: PathBuf,
    depth: usize,
}

/// Fetches all submodules of a clone, and theirs.
///
/// git rewrites URLs by prefixes that are known beforehand, and names no submodule where one
/// fails: so each has its URL corrected in the clone's configuration, where git in the drone finds it
/// too, and is fetched on its own.
pub async fn fetch(git: &Git<'_>, into: &Path) -> Result<()> {
    let mut levels = vec![Level {
        at: into.to_owned(),
        shown: PathBuf::new(),
        depth: 0,
    }];
    let mut fetched = 0;
    while let Some(level) = levels.pop() {
        let submodules = registered(git, &level).await?;
        fetched += submodules.len();
        if fetched > MOST || (level.depth >= DEEPEST && !submodules.is_empty()) {
            return Err(Error::new(
                Code::LimitReached,
                format!(
                    "{} has more than {MOST} submodules, or they are nested more than {DEEPEST} deep",
                    git.job.repo
                ),
            )
            .hint("spawn it without `--submodules`, and fetch those that you need in the drone"));
        }
        for (path, submodule) in submodules {
            let shown = level.shown.join(&path);
            fetch_one(git, &level.at, &path, &submodule, &shown).await?;
            let at = level.at.join(&path);
            // One that is not to be fetched (`update = none`) has none.
            if at.join(".git").symlink_metadata().is_ok() {
                levels.push(Level {
                    at,
                    shown,
                    depth: level.depth + 1,
                });
            }
        }
    }
    Ok(())
}

/// A submodule as git has registered it.
struct Submodule {
    name: OsString,
    url: String,
}

/// The submodules of one repository, by their paths, once git knows their URLs.
async fn registered(git: &Git<'_>, level: &Level) -> Result<BTreeMap<OsString, Submodule>> {
    let names = named(git, level).await?;
    let mut paths = Vec::new();
    let candidates: Vec<_> = names.keys().collect();
    for some in candidates.chunks(AT_ONCE) {
        let mut command = git.command(Some(&level.at))?;
        command.args(["--literal-pathspecs", "ls-tree", "-z", "HEAD", "--"]);
        command.args(some);
        let answer = git.ask(command, MAX_ANSWER).await?.unwrap_or_default();
        // MODE TYPE ID <tab> PATH; lines of .gitmodules outlive their submodules.
        let links = answer.split(|byte| *byte == 0).filter_map(|record| {
            let mut parts = record.splitn(2, |byte| *byte == b'\t');
            let is_link = parts.next()?.starts_with(b"160000 ");
            is_link.then(|| parts.next().map(|path| OsStr::from_bytes(path).to_owned()))?
        });
        paths.extend(links.filter(|path| names.contains_key(path)));
    }
    for some in paths.chunks(AT_ONCE) {
        let mut command = git.command(Some(&level.at))?;
        command.args(["--literal-pathspecs", "submodule", "init", "--"]);
        command.args(some);
        let (said, is_well) = git.run(command).await?;
        if !is_well {
            let subject = Subject::Submodules {
                repo: git.job.repo,
                at: &level.shown,
            };
            return Err(refusal(&subject, &said, git.is_full()));
        }
    }
    if paths.is_empty() {
        return Ok(BTreeMap::new());
    }
    let mut command = git.command(Some(&level.at))?;
    command.args(["config", "--local", "-z", "--get-regexp"]);
    command.arg(r"^submodule\..*\.url$");
    let answer = git.ask(command, MAX_ANSWER).await?.unwrap_or_default();
    let urls: BTreeMap<_, _> = values(&answer, "url").collect();
    let submodules = paths.into_iter().filter_map(|path| {
        let name = names.get(&path)?.clone();
        let url = urls.get(&name)?.to_string_lossy().into_owned();
        Some((path, Submodule { name, url }))
    });
    Ok(submodules.collect())
}

/// The names of a repository's submodules by their paths, as its `.gitmodules` has them.
async fn named(git: &Git<'_>, level: &Level) -> Result<BTreeMap<OsString, OsString>> {
    let file = level.at.join(".gitmodules");
    // git itself takes no link for one.
    let Some(about) = file
        .symlink_metadata()
        .ok()
        .filter(std::fs::Metadata::is_file)
    else {
        return Ok(BTreeMap::new());
    };
    if about.len() > MAX_FILE {
        let shown = level.shown.join(".gitmodules");
        return Err(Error::new(
            Code::LimitReached,
            format!("{} of {} is more than 1 MiB", shown.display(), git.job.repo),
        )
        .hint("spawn it without `--submodules`"));
    }
    let mut command = git.command(Some(&level.at))?;
    command.args(["config", "-f", ".gitmodules", "-z", "--get-regexp"]);
    command.arg(r"^submodule\..*\.path$");
    let answer = git.ask(command, MAX_ANSWER).await?.unwrap_or_default();
    let mut names = BTreeMap::new();
    for (name, path) in values(&answer, "path") {
        let path = path.as_bytes();
        let path = OsStr::from_bytes(path.strip_suffix(b"/").unwrap_or(path));
        if is_path(path) {
            names.entry(path.to_owned()).or_insert(name);
        }
    }
    Ok(names)
}

/// A path below the repository, which git takes for no option and for nothing else.
fn is_path(path: &OsStr) -> bool {
    let mut components = Path::new(path).components().peekable();
    path.len() <= LONGEST
        && components.peek().is_some()
        && components.all(|component| matches!(component, Component::Normal(_)))
}

/// What `git config -z` said of a key of submodules: name and value of each.
fn values<'a>(answer: &'a [u8], key: &'a str) -> impl Iterator<Item = (OsString, OsString)> + 'a {
    answer.split(|byte| *byte == 0).filter_map(move |record| {
        let end = record.iter().position(|byte| *byte == b'\n')?;
        // A name may hold a newline as little as a key of git's does.
        let name = record[..end].strip_prefix(b"submodule.")?;
        let name = name.strip_suffix(key.as_bytes())?.strip_suffix(b".")?;
        let value = record[end + 1..].to_vec();
        Some((OsString::from_vec(name.to_vec()), OsString::from_vec(value)))
    })
}

async fn fetch_one(
    git: &Git<'_>,
    at: &Path,
    path: &OsStr,
    submodule: &Submodule,
    shown: &Path,
) -> Result<()> {
    let github = &git.job.config.github;
    let target = spelling::target(&github.url, &submodule.url);
    let subject = Subject::Submodule {
        repo: git.job.repo,
        at: shown,
        url: spelling::shown(&submodule.url),
        own: match &target {
            Target::Github(repo) => Some(repo),
            _ => None,
        },
        has_tokens: git.job.tokens.is_some(),
    };
    let own = match &target {
        Target::Github(repo) if !spelling::is_usable(&submodule.url) => Some(url_of(github, repo)),
        Target::Github(_) | Target::Https => None,
        Target::Other => return Err(subject.is_out_of_reach()),
    };
    if let Some(url) = own {
        let mut key = OsString::from("submodule.");
        key.push(&submodule.name);
        key.push(".url");
        let mut command = git.command(Some(at))?;
        command.args(["config", "--local"]).arg(key).arg(url);
        let (said, is_well) = git.run(command).await?;
        if !is_well {
            return Err(refusal(&subject, &said, git.is_full()));
        }
    }
    let mut command = git.command(Some(at))?;
    command.args(["--literal-pathspecs", "submodule", "update", "--progress"]);
    command.arg("--").arg(path);
    // git runs on this server: a host that the repository names is one that a drone may reach.
    let outlet = match &target {
        Target::Https => Some(Outlet::open(git.job.config.docker.subnets.clone())?),
        _ => None,
    };
    if let Some(outlet) = &outlet {
        outlet.lead(&mut command);
    }
    let (said, is_well) = git.run(command).await?;
    if is_well {
        return Ok(());
    }
    let error = refusal(&subject, &said, git.is_full());
    let refusals = outlet.map(|outlet| outlet.refusals()).unwrap_or_default();
    Err(match refusals.as_slice() {
        [first, ..] => error.because(format!("{}: {}", first.host, first.why)),
        [] => error,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_are_told_apart_whatever_is_in_them() {
        let answer =
            b"submodule.a.path\na\0submodule.b.path.x.path\nin/b\nc\0submodule.novalue.path\0\
                       submodule.path\nx\0other.a.path\nx\0submodule.a.url\nx\0";
        let found: Vec<_> = values(answer, "path").collect();
        let expected = [("a", "a"), ("b.path.x", "in/b\nc")];
        assert_eq!(
            found,
            expected.map(|(name, value)| (name.into(), value.into()))
        );
    }

    #[test]
    fn a_path_is_below_the_repository() {
        for path in ["a", "in/a", "-x", ":(top)a", " "] {
            assert!(is_path(OsStr::new(path)), "{path}");
        }
        let long = "a".repeat(LONGEST + 1);
        for path in ["", "/etc", "../a", "a/../../b", ".", &long] {
            assert!(!is_path(OsStr::new(path)), "{path}");
        }
    }
}
