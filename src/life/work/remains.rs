//! What is kept of a drone that is slain by force: the work in it that exists nowhere else.
//!
//! A directory for each such drone, below [`Places::remains`]: bundles of commits, patches, archives of files,
//! and a `README.txt` with the commands that bring them back. All of it comes from a stranger's volumes
//! ([`keep`]); names, commands and limits are ours.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use bytesize::ByteSize;
use tempfile::TempDir;

use super::keep::{self, Order, Report};
use super::{Held, links, path, program};
use crate::config::{Config, Limits};
use crate::docker::{Docker, Drone, Looking, RunsAs};
use crate::drone::{DroneName, Identity};
use crate::error::{Code, Error, Result, host_io};
use crate::host::{self, Places};
use crate::repo::RepoId;
use crate::ui::clean;

/// How long the container may take, with its beginning and its end.
const WITHIN: Duration = keep::WITHIN.saturating_add(Duration::from_secs(60));

/// The largest report, in bytes.
const MAX_REPORT: usize = 16 * 1024 * 1024;

/// How many files are kept of one drone.
const MAX_FILES: usize = 4000;

/// How many names of commits are told of one bundle.
const MAX_REFS: usize = 100;

/// How many lines of what is not kept are told.
const SHOWN: usize = 20;

/// What tells how the rest is brought back.
const README: &str = "README.txt";

/// What was kept of a drone.
#[derive(Debug)]
pub struct Kept {
    /// The directory.
    pub directory: PathBuf,
    /// When it is removed.
    pub until: SystemTime,
}

/// What came of keeping.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Where it is, if there was anything that could be kept.
    pub kept: Option<Kept>,
    /// What exists nowhere else and is not kept, with the reason, a line each.
    pub lost: Vec<String>,
}

/// Keeps the work in a drone's volumes that exists nowhere else, for `limits.remains`. What cannot be read
/// is told in the outcome; that there is no room, or no time, is an error, after which nothing is kept.
pub async fn keep(
    docker: &Docker,
    config: &Config,
    places: &Places,
    drone: &Drone,
) -> Result<Outcome> {
    let Some(lifetime) = config.limits.remains.get() else {
        return Ok(Outcome::default());
    };
    let identity = &drone.identity;
    let held = Held::of(docker, drone).await?;
    let volumes = &held.volumes;
    if volumes.is_empty() {
        return Ok(Outcome::default());
    }
    let remains = places.make_remains()?;
    let order = Order {
        question: held.question(),
        most: room(&config.limits, &remains),
    };
    let directory = tempfile::Builder::new()
        .prefix(&format!(".{}.", identity.name))
        .tempdir_in(&remains)
        .map_err(|error| host_io("write in", &remains, error))?;
    let mut receiving = Receiving::new(directory.path(), order.most);
    let (program, path, links) = (program()?, path()?, links(volumes, &held.mounted()));
    let looking = Looking {
        program: &program,
        called: keep::PROGRAM,
        argument: &serde_json::json!(order).to_string(),
        path: &path,
        volumes,
        links: &links,
        runs_as: RunsAs::Reader,
    };
    let mut to = |part: &[u8]| receiving.take(part);
    let ran = docker.look_into(looking, WITHIN, &mut to).await;
    let refuse = |what: &str| no_way(identity, what);
    match ran {
        Err(error) if error.code() == Code::TimedOut => {
            return Err(refuse(&format!(
                "it takes longer than {} minutes",
                WITHIN.as_secs() / 60
            )));
        }
        ran => ran?,
    }
    let received = receiving
        .end()
        .ok_or_else(|| refuse("it was interrupted"))?;
    let keeping = Keeping {
        config,
        identity,
        remains: &remains,
        most: order.most,
        lifetime,
    };
    keeping.end(directory, received)
}

/// What was kept of a drone, before it has its name.
struct Keeping<'a> {
    config: &'a Config,
    identity: &'a Identity,
    remains: &'a Path,
    /// How many bytes could be kept.
    most: u64,
    lifetime: Duration,
}

impl Keeping<'_> {
    /// Gives it its name, with all that a person needs to know.
    fn end(&self, directory: TempDir, received: (Report, BTreeSet<String>)) -> Result<Outcome> {
        let (report, files) = received;
        let (no_room, more) = told(&report.no_room, report.no_room_more);
        if !no_room.is_empty() {
            let error = no_way(self.identity, &self.room());
            return Err(error.with_details(no_room.into_iter().chain(more)));
        }
        let (mut lost, more) = told(&report.lost, report.lost_more);
        lost.extend(more);
        if files.is_empty() {
            return Ok(Outcome { kept: None, lost });
        }
        let until = SystemTime::now() + self.lifetime;
        let place = free_name(self.remains, &self.identity.name);
        let readme = Readme {
            config: self.config,
            identity: self.identity,
            place: &place,
            until,
            report: &report,
            lost: &lost,
            files: &files,
            from: directory.path(),
        };
        let readme = readme.text();
        let at = directory.path().join(README);
        host::write_whole(&at, 0o640, readme.as_bytes())?;
        let failed = |error| host_io("write", &place, error);
        let made = directory.keep();
        // For the group alone, whose directory it is in.
        std::fs::set_permissions(&made, Permissions::from_mode(0o2750)).map_err(failed)?;
        std::fs::rename(&made, &place).map_err(failed)?;
        // The drone is removed next: what is kept must be on the disk by then.
        let synced = File::open(self.remains).and_then(|directory| directory.sync_all());
        synced.map_err(failed)?;
        Ok(Outcome {
            kept: Some(Kept {
                directory: place,
                until,
            }),
            lost,
        })
    }

    /// What bounds it.
    fn room(&self) -> String {
        let limits = &self.config.limits;
        if self.most < limits.remains_size.as_u64() {
            return format!(
                "{} has space for {}, with limits.reserve ({}) left free",
                self.remains.display(),
                size(self.most),
                limits.reserve.display().iec()
            );
        }
        format!(
            "limits.remains_size is {}",
            limits.remains_size.display().iec()
        )
    }
}

/// Removes what was kept for longer than `limits.remains`, and what is left of keeping that was cut off; the
/// names of the former.
pub fn sweep(places: &Places, limits: &Limits) -> Vec<String> {
    let entries = std::fs::read_dir(places.remains()).into_iter().flatten();
    let mut removed = Vec::new();
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str() else {
            continue;
        };
        if let Some(rest) = name.strip_prefix('.') {
            let drone = rest.split('.').next().and_then(DroneName::from_label);
            if let Some(Ok(_lock)) = drone.map(|drone| places.lock(&drone)) {
                let _ = std::fs::remove_dir_all(entry.path());
            }
            continue;
        }
        let changed = entry.metadata().and_then(|about| about.modified());
        let age = changed.map(|at| at.elapsed().unwrap_or_default());
        let is_due = |age| limits.remains.get().is_none_or(|lifetime| age > lifetime);
        // A member cannot remove another's: the timer can, as root.
        if age.is_ok_and(is_due) && std::fs::remove_dir_all(entry.path()).is_ok() {
            removed.push(name.to_owned());
        }
    }
    removed
}

/// How many bytes may be kept here.
fn room(limits: &Limits, remains: &Path) -> u64 {
    let free = host::free_space(remains).unwrap_or(0);
    let left = free.saturating_sub(limits.reserve.as_u64());
    left.min(limits.remains_size.as_u64())
}

/// Why a drone is not removed whose work cannot be kept, and what a person can do.
fn no_way(identity: &Identity, what: &str) -> Error {
    let (name, repo) = (&identity.name, &identity.repo);
    Error::new(
        Code::WorkWouldBeLost,
        format!("the work in {name} that exists nowhere else cannot be kept: {what}"),
    )
    .hint(format!(
        "free some space, or push or copy what you want to keep; `hatchery slay --force --no-remains {repo}` \
         removes the drone and keeps no copy"
    ))
}

/// A name for what is kept of a drone, by the time.
fn free_name(remains: &Path, drone: &DroneName) -> PathBuf {
    let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    let begin = format!("{drone}-{}", now.replace(':', ""));
    let names =
        std::iter::once(begin.clone()).chain((2..).map(|number| format!("{begin}-{number}")));
    let mut paths = names.map(|name| remains.join(name));
    paths
        .find(|path| !path.exists())
        .unwrap_or_else(|| remains.join(&begin))
}

fn told(lines: &[String], more: usize) -> (Vec<String>, Option<String>) {
    let more = more + lines.len().saturating_sub(SHOWN);
    let shown = lines.iter().take(SHOWN).map(|line| clean::line(line));
    (
        shown.collect(),
        (more > 0).then(|| format!("and {more} more")),
    )
}

fn size(bytes: u64) -> String {
    ByteSize::b(bytes).display().iec().to_string()
}

/// What the container sends, on its way into files.
struct Receiving<'a> {
    directory: &'a Path,
    /// How many bytes may still come.
    room: u64,
    /// What has come of the frame that is next.
    buffer: Vec<u8>,
    file: Option<(String, File)>,
    files: BTreeSet<String>,
    report: Option<Report>,
}

impl<'a> Receiving<'a> {
    fn new(directory: &'a Path, most: u64) -> Self {
        Self {
            directory,
            room: most,
            buffer: Vec::new(),
            file: None,
            files: BTreeSet::new(),
            report: None,
        }
    }

    fn take(&mut self, part: &[u8]) -> Result<()> {
        self.buffer.extend_from_slice(part);
        let mut from = 0;
        while let Some((kind, content, after)) = next_frame(&self.buffer[from..])? {
            let content = content.to_vec();
            from += after;
            self.frame(kind, &content)?;
        }
        self.buffer.drain(..from);
        Ok(())
    }

    fn frame(&mut self, kind: u8, content: &[u8]) -> Result<()> {
        match kind {
            b'F' => {
                self.close()?;
                let name = std::str::from_utf8(content)
                    .ok()
                    .filter(|name| is_name(name));
                let name = name
                    .filter(|name| !self.files.contains(*name))
                    .ok_or_else(odd)?;
                if self.files.len() >= MAX_FILES {
                    return Err(odd());
                }
                let path = self.directory.join(name);
                let file = OpenOptions::new()
                    .write(true)
                    .create_new(true)
                    .mode(0o640)
                    .open(&path);
                let file = file.map_err(|error| host_io("write", &path, error))?;
                self.files.insert(name.to_owned());
                self.file = Some((name.to_owned(), file));
                Ok(())
            }
            b'D' => {
                let (name, file) = self.file.as_mut().ok_or_else(odd)?;
                self.room = self
                    .room
                    .checked_sub(content.len() as u64)
                    .ok_or_else(odd)?;
                let path = self.directory.join(name);
                file.write_all(content)
                    .map_err(|error| host_io("write", &path, error))
            }
            b'X' => {
                let (name, file) = self.file.take().ok_or_else(odd)?;
                let path = self.directory.join(&name);
                self.room += file.metadata().map_or(0, |about| about.len());
                self.files.remove(&name);
                std::fs::remove_file(&path).map_err(|error| host_io("remove", &path, error))
            }
            b'R' if self.report.is_none() => {
                self.close()?;
                self.report = Some(serde_json::from_slice(content).map_err(|_| odd())?);
                Ok(())
            }
            _ => Err(odd()),
        }
    }

    fn close(&mut self) -> Result<()> {
        let Some((name, file)) = self.file.take() else {
            return Ok(());
        };
        let path = self.directory.join(name);
        let closed = file
            .set_permissions(Permissions::from_mode(0o640))
            .and_then(|()| file.sync_all());
        closed.map_err(|error| host_io("write", &path, error))
    }

    /// The report and the files, if all has come.
    fn end(self) -> Option<(Report, BTreeSet<String>)> {
        let report = self.report.filter(|_| self.buffer.is_empty())?;
        Some((report, self.files))
    }
}

/// The next whole frame, and where the one after it begins.
fn next_frame(buffer: &[u8]) -> Result<Option<(u8, &[u8], usize)>> {
    let Some((&[kind, a, b, c, d], rest)) = buffer.split_first_chunk::<5>() else {
        return Ok(None);
    };
    let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
    let most = if kind == b'R' {
        MAX_REPORT
    } else {
        keep::MAX_PART
    };
    if length > most {
        return Err(odd());
    }
    Ok(rest
        .get(..length)
        .map(|content| (kind, content, 5 + length)))
}

/// Whether a file may be called so.
fn is_name(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    name.len() <= 100
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(fits)
        && name != README
}

fn odd() -> Error {
    Error::new(Code::DockerFailed, "the copy of the work is damaged")
        .hint("try again; `hatchery slay --force --no-remains` keeps no copy")
}

/// What is told of all that was kept.
struct Readme<'a> {
    config: &'a Config,
    identity: &'a Identity,
    place: &'a Path,
    until: SystemTime,
    report: &'a Report,
    lost: &'a [String],
    files: &'a BTreeSet<String>,
    /// Where the files are now.
    from: &'a Path,
}

impl Readme<'_> {
    fn text(&self) -> String {
        let (name, repo) = (&self.identity.name, &self.identity.repo);
        let until = day(self.until);
        let mut text = format!(
            "What existed nowhere else in {name}, the drone of {repo}, when it was slain.\n\
             It is removed after {until} (limits.remains).\n\n\
             In a shell, in an empty directory:\n\n    REMAINS={}\n",
            quoted(&self.place.to_string_lossy())
        );
        let mut places = BTreeSet::new();
        places.extend(
            self.report
                .repositories
                .iter()
                .map(|repository| &repository.told),
        );
        let trees = &self.report.trees;
        places.extend(
            trees
                .iter()
                .filter_map(|tree| Some(&tree.repository.as_ref()?.0)),
        );
        for told in places {
            self.repository(&mut text, told);
        }
        for tree in trees.iter().filter(|tree| tree.repository.is_none()) {
            let what = "Its repository was broken. These are its files, without generated ones:";
            let _ = write!(text, "\n{}\n{what}\n\n", clean::line(&tree.told));
            self.unpack(&mut text, tree.archive.as_deref());
        }
        if let Some(loose) = self.file(self.report.loose.as_deref()) {
            let _ = write!(
                text,
                "\nFiles that were in no repository\n\n    mkdir loose && tar -xf \"$REMAINS\"/{loose} -C loose\n"
            );
        }
        if !self.lost.is_empty() {
            text.push_str("\nNot kept\n\n");
            for line in self.lost {
                let _ = writeln!(text, "  {line}");
            }
        }
        text
    }

    /// A file of these that is there.
    fn file<'b>(&self, name: Option<&'b str>) -> Option<&'b str> {
        name.filter(|name| self.files.contains(*name))
    }

    fn unpack(&self, text: &mut String, archive: Option<&str>) {
        if let Some(archive) = self.file(archive) {
            let directory = archive.trim_end_matches(".tar");
            let _ = writeln!(
                text,
                "    mkdir {directory} && tar -xf \"$REMAINS\"/{archive} -C {directory}"
            );
        }
    }

    /// The commands for a repository and its worktrees.
    fn repository(&self, text: &mut String, told: &str) {
        let bundle = self
            .report
            .repositories
            .iter()
            .find(|repository| repository.told == told);
        let trees: Vec<_> = self
            .report
            .trees
            .iter()
            .filter(|tree| tree.repository.as_ref().is_some_and(|(of, _)| of == told))
            .collect();
        let tree_origin = trees
            .iter()
            .find_map(|tree| tree.repository.as_ref()?.1.as_deref());
        let origin = bundle
            .and_then(|bundle| bundle.origin.as_deref())
            .or(tree_origin);
        let names = bundle.map(|bundle| bundle.bundle.as_str());
        let names = names.or_else(|| {
            trees
                .iter()
                .find_map(|tree| tree.patch.as_deref().or(tree.archive.as_deref()))
        });
        let stem = stem(names.unwrap_or("repository"));
        let _ = write!(text, "\n{}\n\n", clean::line(told));
        match origin.map(|url| self.url(url)) {
            Some(Some(url)) => {
                let _ = writeln!(text, "    git clone {} {stem}", quoted(&url));
            }
            Some(None) => {
                let url = clean::line(origin.unwrap_or_default());
                let _ = writeln!(
                    text,
                    "Its origin was {url}\nIf you trust that, fetch it after the first command.\n\n    git init {stem}"
                );
            }
            None => {
                let _ = writeln!(text, "    git init {stem}");
            }
        }
        let _ = writeln!(text, "    cd {stem}");
        if let Some(bundle) = bundle
            && let Some(file) = self.file(Some(&bundle.bundle))
        {
            let _ = writeln!(
                text,
                "    git fetch \"$REMAINS\"/{file} 'refs/*:refs/remains/*'"
            );
            let stashes = bundle.stashes.iter().enumerate().rev();
            for (number, message) in stashes {
                let message = quoted(&clean::line(message));
                let _ = writeln!(
                    text,
                    "    git stash store -m {message} refs/remains/stashes/{number}"
                );
            }
        }
        for (number, tree) in trees.iter().enumerate() {
            self.tree(text, tree, number, trees.len() > 1);
        }
        text.push_str("    cd ..\n");
        if let Some(bundle) = bundle
            && let Some(file) = self.file(Some(&bundle.bundle))
        {
            let refs = refs(&self.from.join(file));
            if !refs.is_empty() {
                text.push_str("\nCommits, below refs/remains:\n\n");
            }
            for (name, object) in refs {
                let _ = writeln!(text, "  {} {}", clean::line(&object), clean::line(&name));
            }
        }
    }

    /// The commands for a worktree. Where there are several they come one after the other, each on a
    /// branch of its own.
    fn tree(&self, text: &mut String, tree: &keep::Tree, number: usize, is_one_of_many: bool) {
        if is_one_of_many {
            let _ = writeln!(text, "\nIts worktree {}\n", clean::line(&tree.told));
        }
        let file = tree.archive.as_deref().or(tree.patch.as_deref());
        let directory = file.map_or_else(|| number.to_string(), |file| stem(file).to_owned());
        let head = tree.head.as_deref().filter(|head| is_object(head));
        let branch = tree
            .branch
            .as_deref()
            .and_then(|name| name.strip_prefix("refs/heads/"));
        let branch = branch.filter(|name| !name.starts_with('-'));
        let _ = match (head, branch) {
            (Some(head), _) if is_one_of_many => writeln!(
                text,
                "    git worktree add -q --detach ../worktree-{directory} {head}\n    cd ../worktree-{directory}"
            ),
            (None, _) if is_one_of_many => writeln!(
                text,
                "    mkdir ../worktree-{directory}\n    cd ../worktree-{directory}"
            ),
            (Some(head), Some(branch)) => {
                let branch = quoted(&clean::line(branch));
                writeln!(text, "    git checkout -q -B {branch} {head}")
            }
            (Some(head), None) => writeln!(text, "    git checkout -q --detach {head}"),
            (None, _) => Ok(()),
        };
        if let Some(patch) = self.file(tree.patch.as_deref()) {
            let _ = writeln!(text, "    git apply \"$REMAINS\"/{patch}");
        }
        if let Some(archive) = self.file(tree.archive.as_deref()) {
            let _ = writeln!(text, "    tar -xf \"$REMAINS\"/{archive}");
        }
        let staged = tree
            .staged
            .as_deref()
            .and_then(|name| name.strip_prefix("refs/"));
        if let Some(staged) = staged.filter(|name| is_name(&name.replace('/', "-"))) {
            let _ = writeln!(text, "    git read-tree refs/remains/{staged}");
        }
    }

    /// A URL that is safe to clone: of a repository at this server's GitHub.
    fn url(&self, text: &str) -> Option<String> {
        let github = &self.config.github.url;
        let host = RepoId::host_in(text)?;
        if !host.eq_ignore_ascii_case(github.host_str()?) {
            return None;
        }
        let repo: RepoId = text.parse().ok()?;
        Some(format!("{}/{repo}", github.as_str().trim_end_matches('/')))
    }
}

/// The day, as 2027-01-31.
fn day(time: SystemTime) -> String {
    let text = humantime::format_rfc3339_seconds(time).to_string();
    text.split('T').next().unwrap_or_default().to_owned()
}

impl Kept {
    /// The day after which it is removed.
    pub fn until(&self) -> String {
        day(self.until)
    }
}

/// A file's name without its end.
fn stem(name: &str) -> &str {
    name.rsplit_once('.').map_or(name, |(stem, _)| stem)
}

fn is_object(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.chars().all(|c| c.is_ascii_hexdigit())
}

/// A word for a shell (POSIX.1-2024, 2.2.2).
fn quoted(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '-' | '_' | ':');
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// The names of a bundle's commits (gitformat-bundle(5)).
fn refs(bundle: &Path) -> Vec<(String, String)> {
    let Ok(file) = File::open(bundle) else {
        return Vec::new();
    };
    let mut refs = Vec::new();
    for line in BufReader::new(file.take(1024 * 1024)).split(b'\n') {
        let Ok(line) = line else {
            break;
        };
        let line = String::from_utf8_lossy(&line);
        if line.is_empty() || refs.len() >= MAX_REFS {
            break;
        }
        if let Some((object, name)) = line.split_once(' ')
            && is_object(object)
        {
            refs.push((
                name.replacen("refs/", "refs/remains/", 1),
                object.to_owned(),
            ));
        }
    }
    refs
}

#[cfg(test)]
mod tests {
    use super::super::look::{Asked, Question};
    use super::*;
    use std::process::{Command, Output};

    /// A volume in which a drone's clone lies, and what was kept of it.
    struct Bed {
        directory: TempDir,
        config: Config,
        identity: Identity,
    }

    impl Bed {
        fn new() -> Self {
            let repo: RepoId = "acme/site".parse().unwrap();
            let bed = Self {
                directory: tempfile::tempdir().unwrap(),
                config: Config::default(),
                identity: Identity::new(crate::drone::Scope::new(vec![repo], None).unwrap()),
            };
            bed.run(
                "mkdir volume scratch remains
                 git init -q -b main first && cd first
                 printf '.env\nnode_modules/\n' > .gitignore
                 echo one > kept && echo two > changed && echo three > deleted
                 git add . && git commit -q -m First && cd ..
                 git clone -q --bare first remote.git
                 git clone -q remote.git volume/site
                 cd volume/site && git remote set-url origin https://github.com/acme/site",
            );
            bed
        }

        fn at(&self, path: &str) -> PathBuf {
            self.directory.path().join(path)
        }

        /// In a shell, with the remote in GitHub's place.
        fn bash(&self, directory: &str, script: &str) -> Output {
            let remote = format!("url.file://{}.insteadOf", self.at("remote.git").display());
            Command::new("bash")
                .args(["-euc", script])
                .current_dir(self.at(directory))
                .env("HOME", self.directory.path())
                .env("GIT_CONFIG_NOSYSTEM", "1")
                .env("GIT_CONFIG_COUNT", "3")
                .env("GIT_CONFIG_KEY_0", "user.name")
                .env("GIT_CONFIG_VALUE_0", "Sarah")
                .env("GIT_CONFIG_KEY_1", "user.email")
                .env("GIT_CONFIG_VALUE_1", "sarah@example.test")
                .env("GIT_CONFIG_KEY_2", remote)
                .env("GIT_CONFIG_VALUE_2", "https://github.com/acme/site")
                .output()
                .unwrap()
        }

        fn in_directory(&self, directory: &str, script: &str) -> String {
            let output = self.bash(directory, script);
            assert!(output.status.success(), "{script}: {output:?}");
            String::from_utf8(output.stdout).unwrap()
        }

        fn run(&self, script: &str) -> String {
            self.in_directory("", script)
        }

        fn keep(&self, most: u64) -> Result<Outcome> {
            let order = Order {
                question: Question {
                    volumes: vec![Asked {
                        at: self.at("volume"),
                        told_as: "/workspaces".into(),
                        loose: true,
                    }],
                    ignored_since: i64::MIN,
                },
                most,
            };
            let mut sent = Vec::new();
            keep::keep(&order, &self.at("scratch"), &mut sent).unwrap();
            let remains = self.at("remains");
            let directory = TempDir::with_prefix_in(".acme-site.", &remains).unwrap();
            let mut receiving = Receiving::new(directory.path(), most);
            // As it may come over a socket.
            for part in sent.chunks(999) {
                receiving.take(part).unwrap();
            }
            let received = receiving.end().unwrap();
            let keeping = Keeping {
                config: &self.config,
                identity: &self.identity,
                remains: &remains,
                most,
                lifetime: Duration::from_secs(60),
            };
            keeping.end(directory, received)
        }

        /// The directory in which there is what was kept.
        fn kept(&self) -> PathBuf {
            let outcome = self.keep(1 << 30).unwrap();
            assert_eq!(outcome.lost, [""; 0]);
            outcome.kept.unwrap().directory
        }

        /// Does what README.txt says, in a directory of this name.
        fn restore(&self, kept: &Path, into: &str) {
            let readme = std::fs::read_to_string(kept.join(README)).unwrap();
            let commands = readme.lines().filter(|line| line.starts_with("    "));
            let script = commands.collect::<Vec<_>>().join("\n");
            std::fs::create_dir(self.at(into)).unwrap();
            let output = self.bash(into, &script);
            assert!(output.status.success(), "{readme}\n{output:?}");
        }
    }

    #[test]
    fn nothing_is_kept_of_a_drone_without_work() {
        let bed = Bed::new();
        let outcome = bed.keep(1 << 30).unwrap();
        assert!(outcome.kept.is_none() && outcome.lost.is_empty());
        assert_eq!(std::fs::read_dir(bed.at("remains")).unwrap().count(), 0);
    }

    #[test]
    fn the_commands_in_the_readme_bring_all_of_it_back() {
        let bed = Bed::new();
        bed.in_directory(
            "volume/site",
            "echo stashed > kept && git stash -q -m 'it'\\''s $(touch /tmp/no)'
             echo other > kept && git stash -q
             git commit -q --allow-empty -m Unpushed
             git checkout -q -b 'side;x' && git commit -q --allow-empty -m Side && git checkout -q main
             echo staged > changed && git add changed && echo unstaged > changed
             rm deleted
             head -c 300000 /dev/urandom > \"binary file\" && mkdir -p new/deep
             head -c 1000 /dev/zero > new/deep/zeros && chmod 755 new/deep/zeros
             echo secret > .env && mkdir -p node_modules && touch node_modules/x
             ln -s /etc/shadow shadow
             mkdir ../lib && cd ../lib && git init -q -b main && echo lib > lib && git add .
             git commit -q -m Lib && cd ..
             echo loose > loose-file",
        );
        let kept = bed.kept();
        bed.restore(&kept, "restored");
        for (pair, but) in [("1-site", "node_modules"), ("2-lib", "none")] {
            let was = if pair == "1-site" { "site" } else { "lib" };
            bed.run(&format!(
                "diff -r --no-dereference -x .git -x {but} volume/{was} restored/{pair}"
            ));
            for question in [
                "git log -1 --format=%H main",
                "git symbolic-ref HEAD",
                "git status --short",
                "git diff --cached",
                "git stash list",
            ] {
                let (before, after) = (format!("volume/{was}"), format!("restored/{pair}"));
                let (before, after) = (
                    bed.in_directory(&before, question),
                    bed.in_directory(&after, question),
                );
                assert_eq!(before, after, "{question} in {was}");
            }
        }
        bed.run("cmp volume/loose-file restored/loose/loose-file");
        let side = bed.in_directory(
            "restored/1-site",
            "git log -1 --format=%s 'refs/remains/heads/side;x'",
        );
        assert_eq!(side, "Side\n");
        assert!(
            std::fs::read_link(bed.at("restored/1-site/shadow"))
                .unwrap()
                .ends_with("shadow")
        );
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(&kept), 0o2750);
        for file in std::fs::read_dir(&kept).unwrap() {
            assert_eq!(mode(&file.unwrap().path()), 0o640);
        }
    }

    #[test]
    fn worktrees_and_commits_on_no_branch_come_back() {
        let bed = Bed::new();
        bed.in_directory(
            "volume/site",
            "git worktree add -q --detach ../wt && cd ../wt && git commit -q --allow-empty -m Afloat
             echo draft > draft && echo changed > changed && cd ../site && echo here > changed",
        );
        let kept = bed.kept();
        bed.restore(&kept, "restored");
        let found = bed.run("cat restored/worktree-*/draft restored/worktree-*/changed | sort");
        assert_eq!(found, "changed\ndraft\nhere\n");
        let log = bed.in_directory("restored", "git -C worktree-*wt log -1 --format=%s");
        assert_eq!(log, "Afloat\n");
    }

    #[test]
    fn what_is_too_large_is_named_and_nothing_is_kept() {
        let bed = Bed::new();
        bed.in_directory(
            "volume/site",
            "head -c 200000 /dev/urandom > large && echo small > small",
        );
        let error = bed.keep(100_000).unwrap_err();
        assert_eq!(error.code(), Code::WorkWouldBeLost);
        assert!(
            error.message().contains("cannot be kept"),
            "{}",
            error.message()
        );
        let details = error.details();
        assert_eq!(details.len(), 1, "{details:?}");
        assert!(
            details[0].starts_with("/workspaces/site/large: there is no space"),
            "{details:?}"
        );
        assert_eq!(std::fs::read_dir(bed.at("remains")).unwrap().count(), 0);
        // A commit is too large as well.
        bed.in_directory("volume/site", "git add . && git commit -q -m Large");
        let error = bed.keep(100_000).unwrap_err();
        assert!(
            error.details()[0].contains("its commits: there is no space"),
            "{:?}",
            error.details()
        );
        assert!(bed.keep(1_000_000).unwrap().kept.is_some());
    }

    #[test]
    fn a_strangers_repository_runs_nothing() {
        let bed = Bed::new();
        bed.in_directory(
            "volume/site",
            "run=\"touch $HOME/ran\"
             for key in core.fsmonitor diff.external filter.odd.clean filter.odd.smudge filter.odd.process \\
               filter.lfs.clean filter.lfs.process diff.odd.textconv diff.odd.command core.pager gpg.program \\
               core.sshCommand uploadpack.packObjectsHook core.editor; do git config $key \"$run\"; done
             git config commit.gpgSign true
             printf '* filter=odd diff=odd\n*.lfs filter=lfs\n' > .git/info/attributes
             for hook in post-index-change reference-transaction pre-commit post-commit post-checkout; do
               printf '#!/bin/sh\n%s\n' \"$run\" > .git/hooks/$hook && chmod 755 .git/hooks/$hook; done
             echo changed > changed && echo large > file.lfs
             git -c core.hooksPath=/dev/null -c filter.odd.clean= -c filter.odd.process= -c core.fsmonitor=false \\
               -c commit.gpgSign=false commit -q --allow-empty -m 'Work'
             rm -f $HOME/ran",
        );
        let kept = bed.kept();
        assert!(!bed.at("ran").exists());
        bed.restore(&kept, "restored");
        assert!(!bed.at("ran").exists());
        bed.run("diff -r -x .git volume/site restored/1-site");
    }

    #[test]
    fn a_broken_repository_is_named_and_its_files_are_kept_without_gits_own() {
        let bed = Bed::new();
        bed.in_directory(
            "volume",
            "mkdir -p trap/.git trap/node_modules && mkfifo trap/.git/HEAD && echo x > trap/work
             touch trap/.git/config trap/node_modules/y && mkfifo site/pipe && ln -s / site/root",
        );
        let outcome = bed.keep(1 << 30).unwrap();
        let lost = outcome.lost.join("\n");
        assert!(lost.contains("/workspaces/trap/.git/HEAD: "), "{lost}");
        assert!(
            lost.contains("/workspaces/trap/.git/config: it belongs to a broken"),
            "{lost}"
        );
        assert!(!lost.contains("node_modules"), "{lost}");
        let kept = outcome.kept.unwrap().directory;
        bed.restore(&kept, "restored");
        let found = bed
            .run("find restored -name work -o -name config -path '*trap*' -o -name root -type l");
        assert_eq!(found.lines().count(), 2, "{found}");
    }

    #[test]
    fn what_comes_in_disorder_is_refused() {
        let place = tempfile::tempdir().unwrap();
        for sent in [
            &b"D\0\0\0\x01x"[..],
            b"F\0\0\0\x04../x",
            b"F\0\0\0\x05.x.xx",
            b"F\0\0\0\x0aREADME.txt",
            b"D\xff\xff\xff\xff",
            b"R\0\0\0\x02{}R",
            b"X\0\0\0\0",
            b"Z\0\0\0\0",
        ] {
            let mut receiving = Receiving::new(place.path(), 10);
            let taken = receiving.take(sent);
            assert!(taken.is_err() || receiving.end().is_none(), "{sent:?}");
        }
        let mut receiving = Receiving::new(place.path(), 10);
        receiving
            .take(b"F\0\0\0\x01xD\0\0\0\x0a0123456789")
            .unwrap();
        assert!(receiving.take(b"D\0\0\0\x01x").is_err());
    }

    #[test]
    fn what_was_kept_is_removed_in_time() {
        let place = tempfile::tempdir().unwrap();
        let places = Places::under(place.path());
        let mut limits = Limits::default();
        assert!(sweep(&places, &limits).is_empty());
        let remains = places.make_remains().unwrap();
        for name in ["acme-new", "acme-old", ".acme-cut.xYz"] {
            std::fs::create_dir(remains.join(name)).unwrap();
        }
        let old = SystemTime::now() - Duration::from_secs(31 * 24 * 60 * 60);
        let directory = File::open(remains.join("acme-old")).unwrap();
        directory.set_modified(old).unwrap();
        let lock = places
            .lock(&DroneName::from_label("acme-cut").unwrap())
            .unwrap();
        assert_eq!(sweep(&places, &limits), ["acme-old"]);
        assert!(
            remains.join(".acme-cut.xYz").exists(),
            "another verb is at work on it"
        );
        drop(lock);
        assert!(sweep(&places, &limits).is_empty());
        assert!(!remains.join(".acme-cut.xYz").exists());
        limits.remains = Config::parse("[limits]\nremains = 0", Path::new("c"))
            .unwrap()
            .limits
            .remains;
        assert_eq!(sweep(&places, &limits), ["acme-new"]);
    }

    #[test]
    fn what_a_stranger_has_named_is_no_command() {
        for (text, word) in [
            ("main", "main"),
            ("side;x", "'side;x'"),
            ("it's $(x)", r"'it'\''s $(x)'"),
            ("", "''"),
        ] {
            assert_eq!(quoted(text), word);
        }
        let bed = Bed::new();
        bed.in_directory(
            "volume/site",
            "git remote set-url origin 'ext::sh -c touch% /tmp/no' && git commit -q --allow-empty -m Work",
        );
        let kept = bed.kept();
        let readme = std::fs::read_to_string(kept.join(README)).unwrap();
        let commands: Vec<_> = readme
            .lines()
            .filter(|line| line.starts_with("    "))
            .collect();
        assert!(!commands.join("\n").contains("ext::"), "{readme}");
        assert!(readme.contains("Its origin was ext::sh"), "{readme}");
    }
}
