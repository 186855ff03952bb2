//! Looking for work that exists nowhere else, in volumes that are mounted read-only.
//!
//! hatchery calls itself for it, in a container that holds the volumes, this server's own programs
//! and nothing else ([`called`]). What is in the volumes is a stranger's: no program that a
//! repository names is run, and what cannot be read is said, never passed over.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// What hatchery is called as when it is to look.
pub const PROGRAM: &str = "/hatchery-looks";
/// How long git may say nothing before it is ended: it may wait for what never comes.
const STALLED: Duration = Duration::from_secs(50);
/// When the container ends by itself, if nothing else has ended it.
const ENDS_WITHIN: Duration = Duration::from_secs(90);

/// How many files and directories are seen at most, in all volumes.
const MAX_ENTRIES: usize = 5_000_000;
/// How deep directories are followed.
const MAX_DEPTH: usize = 256;
/// How many repositories and worktrees are looked into.
const MAX_REPOSITORIES: usize = 1000;
/// How many lines, and how many things that cannot be read, are told of a volume.
const MAX_LINES: usize = 100;
/// How long a line may be, in characters.
const MAX_LINE: usize = 500;
/// The longest that git may print in answer to one question, in bytes.
const MAX_ANSWER: u64 = 64 * 1024 * 1024;
/// How many commits or stashes are told of one repository.
const COMMITS: &str = "20";

/// Directories that tools fill and fill again.
const BUILT: &[&str] = &[
    "node_modules",
    "bower_components",
    "target",
    "dist",
    "dist-newstyle",
    "build",
    "_build",
    "out",
    "obj",
    "bin",
    "coverage",
    "htmlcov",
    "deps",
    "vendor",
    "log",
    "logs",
    "Pods",
    "DerivedData",
    "elm-stuff",
    "venv",
    ".venv",
    "__pycache__",
    "__pypackages__",
    ".cache",
    ".parcel-cache",
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
    ".tox",
    ".nox",
    ".eggs",
    ".npm",
    ".pnpm-store",
    ".yarn",
    ".next",
    ".nuxt",
    ".output",
    ".turbo",
    ".vite",
    ".svelte-kit",
    ".angular",
    ".astro",
    ".nyc_output",
    ".gradle",
    ".bundle",
    ".terraform",
    ".stack-work",
    ".dart_tool",
    ".elixir_ls",
    ".ipynb_checkpoints",
];
/// Ends of names of files that tools write.
const WRITTEN: &[&str] = &[
    ".pyc",
    ".pyo",
    ".o",
    ".obj",
    ".a",
    ".so",
    ".class",
    ".log",
    ".tmp",
    ".swp",
    "~",
    ".tsbuildinfo",
    ".eslintcache",
    ".DS_Store",
    ".coverage",
];

/// What of these settings a repository says does not count, and no program is run for it.
const SETTINGS: &[(&str, &str)] = &[
    ("safe.directory", "*"),
    ("core.fsmonitor", "false"),
    ("core.hooksPath", "/dev/null"),
    ("core.untrackedCache", "false"),
    ("core.excludesFile", "/dev/null"),
    ("core.quotePath", "false"),
    ("core.pager", "cat"),
    ("protocol.allow", "never"),
    ("log.showSignature", "false"),
    ("log.date", "default"),
    ("filter.lfs.required", "false"),
    ("filter.lfs.clean", LFS_CLEAN),
];

/// What `git lfs clean` prints, for a file or for the pointer to one (git-lfs, docs/spec.md).
const LFS_CLEAN: &str = r#"f=%f; v='version https://git-lfs.github.com/spec/v1'
if [ "$(head -c 42 "$f" | tr -d '\0')" = "$v" ]; then cat
else set -- $(sha256sum); printf '%s\noid sha256:%s\nsize %s\n' "$v" "$1" "$(wc -c <"$f" | tr -d ' ')"; fi"#;

/// What a look has seen of each volume.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// In the order in which they were given.
    pub volumes: Vec<Volume>,
    /// The bound at which the look was broken off.
    pub stopped: Option<String>,
}

/// What a look has seen of one volume.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// A line for each thing that exists nowhere else.
    pub lost: Vec<String>,
    /// How many more there are.
    pub more: usize,
    /// How much of which kind there is.
    pub counts: Counts,
    /// What could not be read.
    pub closed: Vec<Closed>,
}

/// How much of each kind exists nowhere else.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Files and directories that no commit has.
    pub uncommitted: usize,
    /// Commits that no remote has.
    pub unpushed: usize,
    /// Stashes.
    pub stashed: usize,
}

impl Counts {
    /// Of each kind the higher number.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self {
            uncommitted: self.uncommitted.max(other.uncommitted),
            unpushed: self.unpushed.max(other.unpushed),
            stashed: self.stashed.max(other.stashed),
        }
    }
}

impl std::ops::Add for Counts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            uncommitted: self.uncommitted.saturating_add(other.uncommitted),
            unpushed: self.unpushed.saturating_add(other.unpushed),
            stashed: self.stashed.saturating_add(other.stashed),
        }
    }
}

/// What kind of work it is.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Uncommitted,
    Unpushed,
    Stashed,
}

/// Something that could not be read by the user that looked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closed {
    /// Where it is.
    pub path: String,
    /// Whose it is.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// What went wrong.
    pub why: String,
}

/// A volume that is to be looked into.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// Where it is mounted here.
    pub at: PathBuf,
    /// What it is called where it is told.
    pub told_as: String,
    /// Whether files count that lie beside its repositories.
    pub loose: bool,
}

/// A whole question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// The volumes.
    pub volumes: Vec<Asked>,
    /// What git ignores counts where it has changed after this, in seconds since 1970.
    pub ignored_since: i64,
}

/// Answers if this program was called to look.
pub fn called(argv0: &OsStr, question: Option<&OsStr>) -> Option<ExitCode> {
    if argv0 != PROGRAM {
        return None;
    }
    end_with_the_caller(ENDS_WITHIN);
    let question = question.and_then(|text| serde_json::from_slice(text.as_bytes()).ok());
    let Some(question): Option<Question> = question else {
        return Some(ExitCode::FAILURE);
    };
    println!("{}", serde_json::json!(look(&question)));
    Some(ExitCode::SUCCESS)
}

/// Ends this process with the one that has called it, and after a time. It is process 1 of its
/// container: its end is the end of all that it has started.
pub(super) fn end_with_the_caller(within: Duration) {
    std::thread::spawn(|| {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        std::process::exit(1);
    });
    std::thread::spawn(move || {
        std::thread::sleep(within);
        std::process::exit(1);
    });
}

/// Looks through all of it.
pub fn look(question: &Question) -> Seen {
    let mut looking = Looking::through(question);
    looking.judge();
    Seen {
        volumes: looking.seen,
        stopped: looking.stopped,
    }
}

/// What has been found in volumes.
pub(super) struct Looking<'a> {
    pub(super) question: &'a Question,
    entries: usize,
    /// Directories of git's, with the volume that each is in.
    pub(super) repositories: Vec<(usize, PathBuf)>,
    /// Directories with a `.git` in them.
    pub(super) worktrees: BTreeSet<(usize, PathBuf)>,
    /// Files that are in no repository, with the volume that each is in.
    pub(super) loose: Vec<(usize, PathBuf)>,
    /// What git would wait for at a place where it reads.
    odd: Vec<PathBuf>,
    pub(super) seen: Vec<Volume>,
    pub(super) stopped: Option<String>,
}

impl<'a> Looking<'a> {
    /// Finds the repositories and worktrees of all volumes.
    pub(super) fn through(question: &'a Question) -> Self {
        let mut looking = Self {
            question,
            entries: 0,
            repositories: Vec::new(),
            worktrees: BTreeSet::new(),
            loose: Vec::new(),
            odd: Vec::new(),
            seen: question.volumes.iter().map(|_| Volume::default()).collect(),
            stopped: None,
        };
        for index in 0..question.volumes.len() {
            looking.walk(index);
        }
        looking
    }

    fn stop(&mut self, what: &str) {
        self.stopped.get_or_insert_with(|| what.to_owned());
    }

    fn lost(&mut self, volume: usize, kind: Kind, line: &str) {
        let seen = &mut self.seen[volume];
        let count = match kind {
            Kind::Uncommitted => &mut seen.counts.uncommitted,
            Kind::Unpushed => &mut seen.counts.unpushed,
            Kind::Stashed => &mut seen.counts.stashed,
        };
        *count += 1;
        if seen.lost.len() < MAX_LINES {
            seen.lost.push(line.chars().take(MAX_LINE).collect());
        } else {
            seen.more += 1;
        }
    }

    fn closed(&mut self, volume: usize, path: &Path, why: &dyn std::fmt::Display) {
        let owner = path
            .ancestors()
            .find_map(|path| path.symlink_metadata().ok());
        let told = self.told(volume, path);
        let seen = &mut self.seen[volume];
        if seen.closed.len() < MAX_LINES {
            seen.closed.push(Closed {
                path: told,
                uid: owner.as_ref().map_or(0, MetadataExt::uid),
                gid: owner.as_ref().map_or(0, MetadataExt::gid),
                why: why.to_string(),
            });
        } else {
            self.stop("too many files in it cannot be read");
        }
    }

    /// A path as the person knows it.
    pub(super) fn told(&self, volume: usize, path: &Path) -> String {
        let asked = &self.question.volumes[volume];
        let below = path.strip_prefix(&asked.at).unwrap_or(path);
        let below = below.to_string_lossy();
        if below.is_empty() {
            return asked.told_as.clone();
        }
        format!("{}/{below}", asked.told_as.trim_end_matches('/'))
    }

    /// Counts one more; whether it may go on.
    fn counted(&mut self) -> bool {
        self.entries += 1;
        if self.entries > MAX_ENTRIES {
            self.stop("it contains too many files to check");
        }
        self.stopped.is_none()
    }

    /// Finds all repositories and worktrees of a volume, what lies beside them and what is closed.
    fn walk(&mut self, volume: usize) {
        let loose = self.question.volumes[volume].loose;
        let mut todo = vec![(self.question.volumes[volume].at.clone(), 0, !loose)];
        while let Some((directory, depth, inside)) = todo.pop() {
            if depth > MAX_DEPTH {
                self.stop("its directories are too deep");
                return;
            }
            let entries = match read(&directory) {
                Ok(entries) => entries,
                Err(error) => {
                    self.closed(volume, &directory, &error);
                    continue;
                }
            };
            if is_repository(&entries) {
                self.repository(volume, &directory, &entries);
                let modules = directory.join("modules");
                if modules.is_dir() {
                    todo.push((modules, depth + 1, true));
                }
                continue;
            }
            let worktree = entries.iter().any(|(name, _)| name == ".git");
            if worktree {
                self.worktrees.insert((volume, directory.clone()));
            }
            let inside = inside || worktree;
            for (name, kind) in entries {
                if !self.counted() {
                    return;
                }
                let path = directory.join(&name);
                if kind.is_dir() {
                    todo.push((path, depth + 1, inside || is_cache(&name)));
                    continue;
                }
                if name.as_bytes().starts_with(b".git") {
                    self.git_file(volume, &path, kind);
                } else if kind.is_file() && !is_readable(&path) {
                    self.closed(volume, &path, &"it is not readable");
                }
                if !inside {
                    let line = format!("in no repository: {}", self.told(volume, &path));
                    self.lost(volume, Kind::Uncommitted, &line);
                    self.loose.push((volume, path));
                }
            }
            if self.repositories.len() + self.worktrees.len() > MAX_REPOSITORIES {
                self.stop("it contains too many repositories to check");
                return;
            }
        }
    }

    /// Notes a repository, and what of it git would pass over without a word.
    fn repository(&mut self, volume: usize, directory: &Path, entries: &Entries) {
        self.repositories.push((volume, directory.to_owned()));
        let mut todo = Vec::new();
        for (name, kind) in entries {
            let path = directory.join(name);
            if kind.is_dir() {
                if matches!(
                    name.to_str(),
                    Some("refs" | "logs" | "worktrees" | "reftable")
                ) {
                    todo.push(path);
                }
            } else {
                self.git_file(volume, &path, *kind);
            }
        }
        while let Some(directory) = todo.pop() {
            match read(&directory) {
                Ok(entries) => {
                    for (name, kind) in entries {
                        if !self.counted() {
                            return;
                        }
                        let path = directory.join(name);
                        if kind.is_dir() {
                            todo.push(path);
                        } else {
                            self.git_file(volume, &path, kind);
                        }
                    }
                }
                Err(error) => self.closed(volume, &directory, &error),
            }
        }
    }

    fn git_file(&mut self, volume: usize, path: &Path, kind: fs::FileType) {
        if kind.is_file() && !is_readable(path) {
            self.closed(volume, path, &"it is not readable");
        } else if !kind.is_file() && !kind.is_symlink() {
            self.closed(volume, path, &"it is neither a file nor a directory");
            self.odd.push(path.to_owned());
        }
    }

    fn judge(&mut self) {
        for (volume, directory) in self.repositories.clone() {
            if self.stopped.is_some() {
                return;
            }
            // It is told already.
            if self.is_odd(&directory) {
                continue;
            }
            if let Err(why) = self.commits(volume, &directory) {
                self.closed(volume, &directory, &why);
            }
        }
        for (volume, directory) in self.worktrees.clone() {
            if self.stopped.is_some() {
                return;
            }
            let judged = match self.git_directory(&directory.join(".git")) {
                Some(git) if self.is_odd(&git) || self.is_odd(&directory) => continue,
                Some(git) => self.files(volume, &directory, &git),
                None => Err("its repository is broken or not in the volume".to_owned()),
            };
            if let Err(why) = judged {
                self.closed(volume, &directory, &why);
            }
        }
    }

    /// Whether git would wait there for what never comes.
    pub(super) fn is_odd(&self, directory: &Path) -> bool {
        self.odd.iter().any(|odd| odd.starts_with(directory))
    }

    /// Where a `.git` leads. What is written in it are paths of the drone's, where the volume may
    /// be mounted elsewhere.
    pub(super) fn git_directory(&self, git: &Path) -> Option<PathBuf> {
        let kind = git.symlink_metadata().ok()?.file_type();
        if kind.is_dir() {
            return self.is_known(git).then(|| git.to_owned());
        }
        let written = if kind.is_symlink() {
            fs::read_link(git).ok()?
        } else if kind.is_file() {
            let mut text = Vec::new();
            fs::File::open(git)
                .ok()?
                .take(64 * 1024)
                .read_to_end(&mut text)
                .ok()?;
            let path = text.strip_prefix(b"gitdir: ")?.trim_ascii_end();
            PathBuf::from(OsStr::from_bytes(path))
        } else {
            return None;
        };
        let here = git.parent()?.join(&written);
        let roots = self.question.volumes.iter().map(|asked| &asked.at);
        let elsewhere = roots.flat_map(|root| {
            let parts: Vec<_> = written
                .components()
                .filter(|part| !matches!(part, Component::RootDir))
                .collect();
            (0..parts.len()).map(move |from| root.join(parts[from..].iter().collect::<PathBuf>()))
        });
        std::iter::once(here).chain(elsewhere).find_map(|path| {
            let path = path.canonicalize().ok()?;
            (path.join("HEAD").is_file() && self.is_known(&path)).then_some(path)
        })
    }

    /// Whether it is in a repository that was found.
    fn is_known(&self, git: &Path) -> bool {
        self.repositories
            .iter()
            .any(|(_, repository)| git.starts_with(repository))
    }

    /// Commits and stashes that no remote has.
    fn commits(&mut self, volume: usize, directory: &Path) -> Result<(), String> {
        let git = Git::of(directory, directory)?;
        let told = self.told(volume, directory.strip_suffix_git());
        let unpushed = self.unpushed(volume, &git)?;
        for line in &unpushed.commits {
            self.lost(
                volume,
                Kind::Unpushed,
                &format!("{told}: not pushed: {line}"),
            );
        }
        self.seen[volume].counts.unpushed += unpushed.more;
        for line in &unpushed.tagged {
            let line = format!("{told}: not pushed, only tagged: {line}");
            self.lost(volume, Kind::Unpushed, &line);
        }
        for line in &unpushed.stashes {
            self.lost(volume, Kind::Stashed, &format!("{told}: stashed: {line}"));
        }
        Ok(())
    }

    /// A line for each commit and stash of a repository that no remote has.
    pub(super) fn unpushed(&self, volume: usize, git: &Git<'_>) -> Result<Unpushed, String> {
        let log = [
            "log",
            "--no-color",
            "--no-patch",
            "-n",
            COMMITS,
            "--format=%h %s",
        ];
        let pushed = git.pushed();
        let mut own = vec![
            "--exclude=refs/remotes/*",
            "--exclude=refs/tags/*",
            "--exclude=refs/pull/*",
            "--exclude=refs/prefetch/*",
            "--exclude=refs/stash",
            "--all",
        ];
        own.extend(pushed.iter().map(String::as_str));
        let commits = git.lines(&[&log[..], &own[..]].concat())?;
        let mut more = 0;
        if commits.len().to_string() == COMMITS {
            let counted = git.lines(&[&["rev-list", "--count"][..], &own[..]].concat())?;
            let all: Option<usize> = counted.first().and_then(|count| count.parse().ok());
            more = all.unwrap_or(0).saturating_sub(commits.len());
        }
        let mut unpushed = Unpushed {
            commits,
            more,
            ..Unpushed::default()
        };
        // Which tags came with the clone git does not know; what is older than the volume did.
        let born = fs::metadata(&self.question.volumes[volume].at).and_then(|at| at.created());
        if let Ok(since) = born.map(|at| at.duration_since(UNIX_EPOCH).unwrap_or_default()) {
            let since = format!("--since=@{}", since.as_secs());
            let mut arguments: Vec<&str> = log.to_vec();
            arguments.extend([since.as_str(), "--tags"]);
            arguments.extend(pushed.iter().map(String::as_str));
            arguments.push("--branches");
            unpushed.tagged = git.lines(&arguments)?;
        }
        if git.has("refs/stash")? {
            let stashes = [
                "log",
                "-g",
                "--no-color",
                "--no-patch",
                "-n",
                COMMITS,
                "--format=%gd: %gs",
            ];
            let stashes: Vec<&str> = stashes.into_iter().chain(["refs/stash", "--"]).collect();
            unpushed.stashes = git.lines(&stashes)?;
        }
        Ok(unpushed)
    }

    /// Files that no commit has.
    fn files(&mut self, volume: usize, directory: &Path, git: &Path) -> Result<(), String> {
        let git = Git::of(git, directory)?;
        let told = self.told(volume, directory);
        let status = [
            "status",
            "--porcelain",
            "--no-renames",
            "--untracked-files=normal",
            "--ignored=traditional",
            "--ignore-submodules=dirty",
        ];
        for line in git.lines(&status)? {
            let path = line.get(3..).unwrap_or_default().trim_end_matches('/');
            let at = directory.join(path);
            let is_judged = self.worktrees.contains(&(volume, at.clone()));
            if line.starts_with("!! ") {
                if !is_judged {
                    self.ignored(volume, &told, path, &at);
                }
            } else if !(line.starts_with("?? ") && is_judged) {
                let line = format!("{told}: not committed: {line}");
                self.lost(volume, Kind::Uncommitted, &line);
            }
        }
        // `update-index --skip-worktree` and `--assume-unchanged` hide changes from git status.
        for line in git.lines(&["ls-files", "-v"])? {
            let hidden = line.bytes().next().is_some_and(is_overlooked);
            let path = line.get(2..).unwrap_or_default();
            if hidden && directory.join(path).symlink_metadata().is_ok() {
                let line = format!("{told}: hidden from git status: {path}");
                self.lost(volume, Kind::Uncommitted, &line);
            }
        }
        Ok(())
    }

    /// What git ignores and no tool makes again.
    fn ignored(&mut self, volume: usize, told: &str, path: &str, at: &Path) {
        let line = format!("{told}: ignored by git: {path}");
        if path.starts_with('"') {
            // Quoted by git: not a name that a tool gives.
            self.lost(volume, Kind::Uncommitted, &line);
            return;
        }
        if Path::new(path).iter().any(is_built) {
            return;
        }
        let found = self.kept_of_ignored(volume, at);
        match found.first() {
            Some(file) if file == at => self.lost(volume, Kind::Uncommitted, &line),
            Some(_) => {
                let found = found.len();
                let files = if found == 1 { "file" } else { "files" };
                let line = format!("{line}/ ({found} {files})");
                self.lost(volume, Kind::Uncommitted, &line);
            }
            None => {}
        }
    }

    /// The files at or below a place, all of which git ignores, that no tool makes again.
    pub(super) fn kept_of_ignored(&self, volume: usize, at: &Path) -> Vec<PathBuf> {
        self.below(volume, at, &|name, about| {
            if about.is_dir() {
                !is_built(name)
            } else {
                about.ctime() > self.question.ignored_since && !is_written(name)
            }
        })
    }

    /// The files in a directory, without the repositories and worktrees below it, and without what does not
    /// count.
    pub(super) fn within(
        &self,
        volume: usize,
        directory: &Path,
        counts: &dyn Fn(&OsStr, &fs::Metadata) -> bool,
    ) -> Vec<PathBuf> {
        let entries = read(directory).unwrap_or_default().into_iter();
        let entries = entries.map(|(name, _)| directory.join(name));
        entries
            .flat_map(|entry| self.below(volume, &entry, counts))
            .collect()
    }

    /// The files at or below a place, without the repositories and worktrees that are judged by themselves,
    /// and without what does not count.
    pub(super) fn below(
        &self,
        volume: usize,
        at: &Path,
        counts: &dyn Fn(&OsStr, &fs::Metadata) -> bool,
    ) -> Vec<PathBuf> {
        let mut todo = vec![at.to_owned()];
        let mut found = Vec::new();
        while let Some(at) = todo.pop() {
            let Ok(about) = at.symlink_metadata() else {
                continue;
            };
            if !counts(at.file_name().unwrap_or_default(), &about) {
                continue;
            }
            let place = (volume, at);
            if !about.is_dir() {
                found.push(place.1);
            } else if !self.worktrees.contains(&place) && !self.repositories.contains(&place) {
                // What cannot be read was seen on the way here.
                let entries = read(&place.1).unwrap_or_default();
                todo.extend(entries.into_iter().map(|(name, _)| place.1.join(name)));
            }
        }
        found
    }
}

/// What no remote has of a repository, a line each, of each kind a bounded number.
#[derive(Debug, Default)]
pub(super) struct Unpushed {
    pub(super) commits: Vec<String>,
    /// How many more commits there are.
    pub(super) more: usize,
    pub(super) tagged: Vec<String>,
    pub(super) stashes: Vec<String>,
}

impl Unpushed {
    /// Whether there is anything.
    pub(super) const fn is_some(&self) -> bool {
        !(self.commits.is_empty() && self.tagged.is_empty() && self.stashes.is_empty())
    }
}

pub(super) trait StripGit {
    /// The clone that a `.git` belongs to; another directory is its own.
    fn strip_suffix_git(&self) -> &Path;
}

impl StripGit for Path {
    fn strip_suffix_git(&self) -> &Path {
        match self.parent() {
            Some(parent) if self.ends_with(".git") => parent,
            _ => self,
        }
    }
}

type Entries = Vec<(OsString, fs::FileType)>;

fn read(directory: &Path) -> std::io::Result<Entries> {
    fs::read_dir(directory)?
        .map(|entry| {
            let entry = entry?;
            Ok((entry.file_name(), entry.file_type()?))
        })
        .collect()
}

/// gitrepository-layout(5): what git takes for a repository.
fn is_repository(entries: &Entries) -> bool {
    let has = |wanted: &str, directory: bool| {
        entries.iter().any(|(name, kind)| {
            name == wanted && (kind.is_dir() || kind.is_symlink() || !directory)
        })
    };
    has("HEAD", false) && has("objects", true) && has("refs", true)
}

fn is_readable(path: &Path) -> bool {
    rustix::fs::access(path, rustix::fs::Access::READ_OK).is_ok()
}

/// Whether git was told to overlook a file with this tag of `git ls-files -v`.
pub(super) const fn is_overlooked(tag: u8) -> bool {
    tag.is_ascii_lowercase() || tag == b'S'
}

/// Whether a tool fills a directory of this name.
pub(super) fn is_built(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    BUILT.contains(&&*name) || name.starts_with("bazel-") || name.ends_with(".egg-info")
}

/// Beside repositories only what nobody would name so themselves.
fn is_cache(name: &OsStr) -> bool {
    let hidden = name.as_bytes().starts_with(b".") || name.as_bytes().starts_with(b"__");
    name == "node_modules" || (hidden && is_built(name))
}

fn is_written(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    WRITTEN.iter().any(|end| name.ends_with(end))
}

/// git at work on one repository.
pub(super) struct Git<'a> {
    directory: &'a Path,
    worktree: &'a Path,
    /// Settings that its configuration must not decide.
    pub(super) settings: Vec<(String, String)>,
    /// Remotes that are a directory here: what they have is in the volume, too.
    pub(super) nearby: Vec<String>,
    /// What else its environment holds.
    pub(super) environment: Vec<(String, OsString)>,
    /// The URL of its `origin`, as its configuration has it.
    pub(super) origin: Option<String>,
}

impl<'a> Git<'a> {
    /// A repository whose configuration nobody else has written.
    pub(super) fn of_our_own(directory: &'a Path, worktree: &'a Path) -> Self {
        Self {
            directory,
            worktree,
            settings: SETTINGS
                .iter()
                .map(|&(key, value)| (key.to_owned(), value.to_owned()))
                .collect(),
            nearby: Vec::new(),
            environment: Vec::new(),
            origin: None,
        }
    }

    /// A stranger's repository.
    pub(super) fn of(directory: &'a Path, worktree: &'a Path) -> Result<Self, String> {
        let mut git = Self::of_our_own(directory, worktree);
        let listed = git.run(&["config", "--list", "-z"])?;
        let mut filters = BTreeSet::new();
        for entry in listed.split('\0') {
            let (key, value) = entry.split_once('\n').unwrap_or((entry, ""));
            if let Some(rest) = key.strip_prefix("filter.")
                && let Some((filter, setting)) = rest.rsplit_once('.')
                && (filter != "lfs" || setting == "process")
            {
                filters.insert(filter.to_owned());
            }
            if let Some(rest) = key.strip_prefix("remote.")
                && let Some(remote) = rest.strip_suffix(".url")
            {
                if is_nearby(value) {
                    git.nearby.push(remote.to_owned());
                }
                if remote == "origin" {
                    git.origin.get_or_insert_with(|| value.to_owned());
                }
            }
        }
        // git runs nothing for a filter whose process is named and empty, lfs's included.
        for filter in filters {
            for (setting, value) in [("clean", ""), ("process", ""), ("required", "false")] {
                git.settings
                    .push((format!("filter.{filter}.{setting}"), value.to_owned()));
            }
        }
        Ok(git)
    }

    /// Arguments that leave out what is elsewhere too.
    fn pushed(&self) -> Vec<String> {
        let mut arguments = vec!["--not".to_owned()];
        // A name that is a pattern could stand for others.
        if !self
            .nearby
            .iter()
            .any(|name| name.contains(['*', '?', '[', '\\']))
        {
            arguments.extend(self.nearby.iter().map(|name| format!("--exclude={name}/*")));
            arguments.push("--remotes".to_owned());
        }
        arguments.extend(["--glob=refs/pull/*", "--glob=refs/prefetch/*"].map(str::to_owned));
        arguments
    }

    pub(super) fn has(&self, reference: &str) -> Result<bool, String> {
        let answer = self.run(&["for-each-ref", "--count=1", "--format=yes", reference])?;
        Ok(!answer.is_empty())
    }

    pub(super) fn lines(&self, arguments: &[&str]) -> Result<Vec<String>, String> {
        let text = self.run(arguments)?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// What git prints; an error where it complains of anything.
    fn run(&self, arguments: &[&str]) -> Result<String, String> {
        let printed = self.bytes(arguments)?;
        Ok(String::from_utf8_lossy(&printed).into_owned())
    }

    /// The same as it is.
    pub(super) fn bytes(&self, arguments: &[&str]) -> Result<Vec<u8>, String> {
        let mut printed = Vec::new();
        let complaint = self.stream(arguments, MAX_ANSWER, &mut printed)?;
        match complaint {
            Some(line) => Err(line),
            None => Ok(printed),
        }
    }

    /// Writes what git prints, up to a bound, which ends it; what it complains of. It is an error
    /// where git fails.
    pub(super) fn stream(
        &self,
        arguments: &[&str],
        most: u64,
        to: &mut dyn std::io::Write,
    ) -> Result<Option<String>, String> {
        let failed = |error: std::io::Error| format!("git: {error}");
        let mut command = self.command(arguments);
        let mut child = command.spawn().map_err(failed)?;
        let complaining = child.stderr.take().map(|stderr| {
            std::thread::spawn(move || {
                let mut kept = Vec::new();
                let mut stderr = stderr;
                let _ = (&mut stderr).take(16 * 1024).read_to_end(&mut kept);
                let _ = std::io::copy(&mut stderr, &mut std::io::sink());
                kept
            })
        });
        let watch = Watch::over(&child);
        let mut copied = Ok(0);
        if let Some(stdout) = child.stdout.take() {
            let mut stdout = Watched(stdout, &watch).take(most);
            copied = std::io::copy(&mut stdout, to);
        }
        let too_much = copied.as_ref().is_ok_and(|&copied| copied >= most);
        if too_much || copied.is_err() {
            let _ = child.kill();
        }
        let stalled = watch.end();
        let status = child.wait().map_err(failed)?;
        let complaint = complaining
            .and_then(|it| it.join().ok())
            .unwrap_or_default();
        if stalled {
            return Err(format!("git printed nothing for {} s", STALLED.as_secs()));
        }
        copied.map_err(failed)?;
        let complaint = String::from_utf8_lossy(&complaint);
        let complaint = complaint.lines().find(|line| !line.starts_with("hint:"));
        match complaint {
            Some(line) if !status.success() => Err(line.to_owned()),
            None if !status.success() => Err(format!("git ended with {status}")),
            complaint => Ok(complaint.map(str::to_owned)),
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("git");
        command.env_clear();
        if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
        command
            .env("LC_ALL", "C")
            .env("HOME", "/nonexistent")
            .env("GIT_DIR", self.directory)
            .env("GIT_WORK_TREE", self.worktree)
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_ATTR_NOSYSTEM", "1")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_OPTIONAL_LOCKS", "0")
            .env("GIT_NO_LAZY_FETCH", "1")
            // Older versions know only this one, and `protocol.ext.allow` does not overrule it.
            .env("GIT_ALLOW_PROTOCOL", "none")
            .env("GIT_NO_REPLACE_OBJECTS", "1")
            .env("GIT_CONFIG_COUNT", self.settings.len().to_string());
        for (index, (key, value)) in self.settings.iter().enumerate() {
            command.env(format!("GIT_CONFIG_KEY_{index}"), key);
            command.env(format!("GIT_CONFIG_VALUE_{index}"), value);
        }
        command
            .envs(self.environment.iter().map(|(key, value)| (key, value)))
            .args(arguments)
            .current_dir(self.worktree)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }
}

/// Ends a program that says nothing for too long.
struct Watch {
    last: std::sync::Arc<std::sync::Mutex<std::time::Instant>>,
    done: std::sync::mpsc::Sender<()>,
    watching: std::thread::JoinHandle<bool>,
}

impl Watch {
    fn over(child: &std::process::Child) -> Self {
        use std::sync::mpsc::RecvTimeoutError;
        let last = std::sync::Arc::new(std::sync::Mutex::new(std::time::Instant::now()));
        let (done, is_done) = std::sync::mpsc::channel();
        let pid = rustix::process::Pid::from_child(child);
        let seen = last.clone();
        let watching = std::thread::spawn(move || {
            loop {
                let since = seen.lock().map_or(Duration::ZERO, |last| last.elapsed());
                let left = STALLED.saturating_sub(since);
                if left.is_zero() {
                    // Nobody has waited for it yet: the number is still its own.
                    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
                    return true;
                }
                match is_done.recv_timeout(left) {
                    Err(RecvTimeoutError::Timeout) => {}
                    Ok(()) | Err(RecvTimeoutError::Disconnected) => return false,
                }
            }
        });
        Self {
            last,
            done,
            watching,
        }
    }

    /// Whether the program was ended.
    fn end(self) -> bool {
        drop(self.done);
        self.watching.join().unwrap_or(false)
    }
}

struct Watched<'a, T>(T, &'a Watch);

impl<T: Read> Read for Watched<'_, T> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let read = self.0.read(into);
        if let Ok(mut last) = self.1.last.lock() {
            *last = std::time::Instant::now();
        }
        read
    }
}

/// Whether a remote's URL is a path (git-fetch(1), GIT URLS).
fn is_nearby(url: &str) -> bool {
    if let Some((scheme, _)) = url.split_once("://") {
        return scheme.eq_ignore_ascii_case("file");
    }
    if url.contains("::") {
        return true;
    }
    let before = url.split('/').next().unwrap_or_default();
    !before.contains(':')
}
