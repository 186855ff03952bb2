//! Keeping work that exists nowhere else, out of volumes that are mounted read-only.
//!
//! hatchery calls itself for it as it does for a look ([`called`]), in the same kind of container. All that
//! is kept goes to standard output, in frames: a letter, the length of what follows in four bytes, and that.
//!
//! | letter | what follows |
//! |---|---|
//! | `F` | the name of a file that begins |
//! | `D` | a part of it |
//! | `X` | nothing: the file that was begun last is not to be kept |
//! | `R` | the [`Report`] as JSON, at the end |

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs::{self, OpenOptions};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::look::{
    Git, Looking, Question, StripGit, Unpushed, end_with_the_caller, is_built, is_overlooked,
};
use crate::docker::SCRATCH;

/// What hatchery is called as when it is to keep.
pub const PROGRAM: &str = "/hatchery-keeps";
/// How long it may take, over all.
pub const WITHIN: Duration = Duration::from_secs(9 * 60);
/// When the container ends by itself, if nothing else has ended it.
const ENDS_WITHIN: Duration = Duration::from_secs(11 * 60);

/// The longest part of a frame but the report's, in bytes.
pub const MAX_PART: usize = 64 * 1024;
/// How many things are told that are not kept.
const MAX_TOLD: usize = 200;
/// How long a line may be, in characters.
const MAX_LINE: usize = 500;
/// How many stashes of a repository are kept.
const MAX_STASHES: &str = "1000";
/// The largest index that is read for what is staged, and the largest list of shallow commits, in bytes.
const MAX_INDEX: u64 = 64 * 1024 * 1024;
/// What an entry takes in an archive beside its content, in bytes: its header, and what is filled up.
const ENTRY: usize = 1024;

/// What is to be kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Where to look, and what counts.
    pub question: Question,
    /// How many bytes may be kept.
    pub most: u64,
}

/// What was kept and what was not.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Repositories with commits or stashes that were kept.
    pub repositories: Vec<Repository>,
    /// Worktrees of what was kept.
    pub trees: Vec<Tree>,
    /// The archive of files that are in no repository.
    pub loose: Option<String>,
    /// What exists nowhere else and is not kept, with the reason, a line each.
    pub lost: Vec<String>,
    /// How many more lines there are of those.
    pub lost_more: usize,
    /// What there was no room or no time for, a line each.
    pub no_room: Vec<String>,
    /// How many more lines there are of those.
    pub no_room_more: usize,
}

/// A repository whose commits were kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repository {
    /// Where it was in the drone.
    pub told: String,
    /// The file with its commits.
    pub bundle: String,
    /// Where it says that it comes from.
    pub origin: Option<String>,
    /// The messages of its stashes, the newest first.
    pub stashes: Vec<String>,
}

/// A worktree whose files, or whose repository's commits, were kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tree {
    /// Where it was in the drone.
    pub told: String,
    /// Where its repository was, and where that says that it comes from.
    pub repository: Option<(String, Option<String>)>,
    /// The commit that was checked out.
    pub head: Option<String>,
    /// The branch, as `refs/heads/NAME`.
    pub branch: Option<String>,
    /// The file with the changes to that commit.
    pub patch: Option<String>,
    /// The archive of its files.
    pub archive: Option<String>,
    /// In its repository's bundle: what was staged, where that was neither committed nor in its files.
    pub staged: Option<String>,
}

/// Answers if this program was called to keep.
pub fn called(argv0: &OsStr, order: Option<&OsStr>) -> Option<ExitCode> {
    if argv0 != PROGRAM {
        return None;
    }
    end_with_the_caller(ENDS_WITHIN);
    let order = order.and_then(|text| serde_json::from_slice(text.as_bytes()).ok());
    let Some(order): Option<Order> = order else {
        return Some(ExitCode::FAILURE);
    };
    let kept = keep(&order, Path::new(SCRATCH), &mut io::stdout().lock());
    Some(kept.map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS))
}

/// Writes all that is to be kept. `scratch` is an empty directory.
pub fn keep(order: &Order, scratch: &Path, to: &mut dyn Write) -> io::Result<()> {
    let mut keeping = Keeping {
        looking: Looking::through(&order.question),
        out: Out {
            to,
            room: order.most,
        },
        scratch,
        numbers: BTreeMap::new(),
        report: Report::default(),
        begun: Instant::now(),
    };
    keeping.run()?;
    let report = serde_json::json!(keeping.report).to_string();
    keeping.out.frame(b'R', report.as_bytes())?;
    keeping.out.to.flush()
}

struct Out<'a> {
    to: &'a mut dyn Write,
    /// How many bytes may still be kept.
    room: u64,
}

impl Out<'_> {
    fn frame(&mut self, kind: u8, content: &[u8]) -> io::Result<()> {
        let length = u32::try_from(content.len()).map_err(io::Error::other)?;
        self.to.write_all(&[kind])?;
        self.to.write_all(&length.to_be_bytes())?;
        self.to.write_all(content)
    }

    /// Begins a file.
    fn file(&mut self, name: &str) -> io::Result<Part<'_>> {
        self.frame(b'F', name.as_bytes())?;
        let room = self.room;
        Ok(Part {
            to: self.to,
            room,
            is_full: false,
        })
    }

    fn drop_file(&mut self) -> io::Result<()> {
        self.frame(b'X', &[])
    }
}

/// A file that is being written.
struct Part<'a> {
    to: &'a mut dyn Write,
    /// How many bytes still fit.
    room: u64,
    /// Whether more were to be written.
    is_full: bool,
}

impl Write for Part<'_> {
    fn write(&mut self, content: &[u8]) -> io::Result<usize> {
        let content = &content[..content.len().min(MAX_PART)];
        let length = content.len() as u64;
        if length > self.room {
            self.is_full = true;
            return Err(io::Error::other("no space is left"));
        }
        self.room -= length;
        let mut out = Out {
            to: self.to,
            room: 0,
        };
        out.frame(b'D', content)?;
        Ok(content.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Keeping<'a> {
    looking: Looking<'a>,
    out: Out<'a>,
    scratch: &'a Path,
    /// The number in the files' names, by the place in the drone.
    numbers: BTreeMap<String, usize>,
    report: Report,
    begun: Instant,
}

/// A worktree, and the directory of git's that it belongs to.
type Found = (usize, PathBuf, PathBuf);

impl Keeping<'_> {
    fn lost(&mut self, what: &str, why: &str) {
        tell(&mut self.report.lost, &mut self.report.lost_more, what, why);
    }

    fn no_room(&mut self, what: &str, why: &str) {
        tell(
            &mut self.report.no_room,
            &mut self.report.no_room_more,
            what,
            why,
        );
    }

    /// Whether there is time left; if there is none, this is not kept.
    fn in_time(&mut self, what: &str) -> bool {
        let in_time = self.begun.elapsed() < WITHIN;
        if !in_time {
            let why = format!("it took longer than {} minutes", WITHIN.as_secs() / 60);
            self.no_room(what, &why);
        }
        in_time
    }

    /// The begin of the names of files that hold what was at a place: its number and its last part.
    fn named(&mut self, told: &str) -> String {
        let next = self.numbers.len() + 1;
        let number = *self.numbers.entry(told.to_owned()).or_insert(next);
        let last = told.trim_end_matches('/').rsplit('/').next();
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        let last = last.unwrap_or_default().chars().take(40);
        let name: String = last.map(|c| if fits(c) { c } else { '-' }).collect();
        format!("{number}-{name}")
    }

    fn run(&mut self) -> io::Result<()> {
        if let Some(why) = self.looking.stopped.clone() {
            self.lost("files that were not read", &why);
        }
        let mut trees: Vec<Found> = Vec::new();
        let mut broken = Vec::new();
        for (volume, directory) in self.looking.worktrees.clone() {
            match self.looking.git_directory(&directory.join(".git")) {
                Some(git) if !self.looking.is_odd(&git) => trees.push((volume, directory, git)),
                _ => broken.push((volume, directory)),
            }
        }
        for (volume, directory) in self.looking.repositories.clone() {
            let inner = |git: &Path| {
                let others = self.looking.repositories.iter();
                others
                    .filter(|(_, other)| git.starts_with(other))
                    .map(|(_, other)| other.as_os_str().len())
                    .max()
            };
            let own: Vec<Found> = trees
                .iter()
                .filter(|(_, _, git)| {
                    git.starts_with(&directory) && inner(git) == Some(directory.as_os_str().len())
                })
                .cloned()
                .collect();
            self.repository(volume, &directory, own, &mut broken)?;
        }
        for (volume, directory) in broken {
            let files = self.looking.within(volume, &directory, &|name, about| {
                !(about.is_dir() && is_built(name))
            });
            let told = self.looking.told(volume, &directory);
            let archive = self.archive(&told, &directory, files)?;
            if archive.is_some() {
                self.report.trees.push(Tree {
                    told,
                    repository: None,
                    head: None,
                    branch: None,
                    patch: None,
                    archive,
                    staged: None,
                });
            }
        }
        for (volume, asked) in self.looking.question.volumes.iter().enumerate() {
            let loose = self.looking.loose.iter().filter(|(of, _)| *of == volume);
            let loose = loose.map(|(_, path)| path.clone()).collect();
            let archive = self.archive("loose", &asked.at, loose)?;
            self.report.loose = archive.or(self.report.loose.take());
        }
        let closed: Vec<_> = self
            .looking
            .seen
            .iter()
            .flat_map(|seen| seen.closed.clone())
            .collect();
        for closed in closed {
            self.lost(&closed.path, &closed.why);
        }
        Ok(())
    }

    fn repository(
        &mut self,
        volume: usize,
        directory: &Path,
        trees: Vec<Found>,
        broken: &mut Vec<(usize, PathBuf)>,
    ) -> io::Result<()> {
        let told = self.looking.told(volume, directory.strip_suffix_git());
        let opened = if self.looking.is_odd(directory) {
            // What is odd in it is told already.
            Err(None)
        } else {
            Git::of(directory, directory).map_err(Some)
        };
        let git = match opened {
            Ok(git) => git,
            Err(why) => {
                if let Some(why) = why {
                    self.lost(&told, &why);
                }
                broken.extend(trees.into_iter().map(|(volume, tree, _)| (volume, tree)));
                return Ok(());
            }
        };
        if !self.in_time(&told) {
            return Ok(());
        }
        let begin = self.named(&told);
        let unpushed = self.looking.unpushed(volume, &git).unwrap_or_else(|why| {
            self.lost(&told, &why);
            // What can be had of it is kept.
            Unpushed {
                commits: vec![why],
                ..Unpushed::default()
            }
        });
        let mut store = match Store::of(&git, directory, &self.scratch.join(&begin)) {
            Ok(store) => store,
            Err(why) => {
                self.lost(&told, &why);
                return Ok(());
            }
        };
        let origin = git.origin.clone().map(|url| bounded(&url));
        for (volume, tree, of) in trees {
            let has_commits = unpushed.is_some();
            let of_repository = (told.as_str(), origin.clone());
            self.tree(volume, &tree, &of, &mut store, of_repository, has_commits)?;
        }
        if unpushed.is_some() {
            match store.gather(&git, directory, !unpushed.tagged.is_empty()) {
                Ok(complaints) => {
                    for why in complaints {
                        self.lost(&told, &why);
                    }
                }
                Err(why) => self.lost(&told, &why),
            }
        }
        let bundle = self.bundle(&told, &begin, &store)?;
        let _ = fs::remove_dir_all(&store.directory);
        if let Some(bundle) = bundle {
            self.report.repositories.push(Repository {
                told,
                bundle,
                origin,
                stashes: store.stashes,
            });
        }
        Ok(())
    }

    /// Keeps the commits of a repository that its remotes do not have.
    fn bundle(&mut self, told: &str, begin: &str, store: &Store) -> io::Result<Option<String>> {
        if store.refs.is_empty() {
            return Ok(None);
        }
        if let Err(error) = store.write_refs() {
            self.lost(told, &error.to_string());
            return Ok(None);
        }
        let name = format!("{begin}.bundle");
        let git = store.git();
        let written = self.git_file(
            &name,
            &git,
            &[
                "bundle",
                "create",
                "--quiet",
                "-",
                "--exclude=refs/remotes/*",
                "--all",
                "--not",
                "--remotes",
            ],
        )?;
        let what = format!("{told}: its commits");
        Ok(self.came_to(&what, written).then_some(name))
    }

    /// A file of what git prints: whether it was written, `None` where there is no room for it.
    fn git_file(
        &mut self,
        name: &str,
        git: &Git<'_>,
        arguments: &[&str],
    ) -> io::Result<Result<Option<()>, String>> {
        let mut part = self.out.file(name)?;
        let streamed = git.stream(arguments, u64::MAX, &mut part);
        let (room, is_full) = (part.room, part.is_full);
        match streamed {
            Ok(_) => {
                self.out.room = room;
                Ok(Ok(Some(())))
            }
            Err(why) => {
                self.out.drop_file()?;
                Ok(if is_full { Ok(None) } else { Err(why) })
            }
        }
    }

    /// Whether it was kept; tells where it was not.
    fn came_to(&mut self, what: &str, written: Result<Option<()>, String>) -> bool {
        match written {
            Ok(Some(())) => return true,
            Ok(None) => self.no_room(what, "there is no space for it"),
            Err(why) => self.lost(what, &why),
        }
        false
    }

    /// Keeps the files of a worktree that no commit has. What was checked out is told of it, if it has such
    /// files or commits of its repository are kept.
    fn tree(
        &mut self,
        volume: usize,
        directory: &Path,
        git_directory: &Path,
        store: &mut Store,
        repository: (&str, Option<String>),
        has_commits: bool,
    ) -> io::Result<()> {
        let told = self.looking.told(volume, directory);
        if !self.in_time(&told) {
            return Ok(());
        }
        let begin = self.named(&told);
        let found = Git::of(git_directory, directory)
            .and_then(|git| Ok((self.changes(volume, &git, directory)?, git)));
        let (changes, git) = match found {
            Ok(found) => found,
            Err(why) => {
                self.lost(&told, &why);
                return Ok(());
            }
        };
        let one = |arguments: &[&str]| git.lines(arguments).ok()?.into_iter().next();
        let head = one(&["rev-parse", "--verify", "--quiet", "HEAD^{commit}"]);
        let mut tree = Tree {
            told: told.clone(),
            repository: Some((repository.0.to_owned(), repository.1)),
            branch: one(&["symbolic-ref", "--quiet", "HEAD"]).map(|name| bounded(&name)),
            head,
            patch: None,
            archive: None,
            staged: None,
        };
        if changes.is_tracked && tree.head.is_some() {
            let name = format!("{begin}.patch");
            let written = self.git_file(&name, &git, DIFF)?;
            let what = format!("{told}: its changes as a patch");
            tree.patch = self.came_to(&what, written).then_some(name);
        }
        if changes.is_staged {
            match store.stage(git_directory, tree.head.as_deref()) {
                Ok(name) => tree.staged = Some(name),
                Err(why) => self.lost(&format!("{told}: what is staged"), &why),
            }
        }
        tree.archive = self.archive(&told, directory, changes.files)?;
        let has_files = tree.patch.is_some() || tree.archive.is_some();
        if has_files || tree.staged.is_some() || has_commits {
            self.report.trees.push(tree);
        }
        Ok(())
    }

    /// What a worktree holds that no commit has.
    fn changes(&self, volume: usize, git: &Git<'_>, directory: &Path) -> Result<Changes, String> {
        let status = [
            "status",
            "--porcelain",
            "-z",
            "--no-renames",
            "--untracked-files=normal",
            "--ignored=traditional",
            "--ignore-submodules=dirty",
        ];
        let mut changes = Changes::default();
        let mut files = BTreeSet::new();
        for entry in git.bytes(&status)?.split(|&byte| byte == 0) {
            let Some((kind, path)) = entry.split_at_checked(3) else {
                continue;
            };
            let path = Path::new(OsStr::from_bytes(path));
            let at = directory.join(path);
            match kind {
                b"!! " if path.iter().any(is_built) => {}
                b"!! " => files.extend(self.looking.kept_of_ignored(volume, &at)),
                b"?? " => files.extend(self.looking.below(volume, &at, &|_, _| true)),
                _ => {
                    changes.is_tracked = true;
                    let in_index = !matches!(kind[0], b' ' | b'U');
                    changes.is_staged |= in_index && !matches!(kind[1], b' ' | b'U');
                    // Of a submodule it is the commit that has changed, and it is judged by itself.
                    if at.symlink_metadata().is_ok_and(|about| !about.is_dir()) {
                        files.insert(at);
                    }
                }
            }
        }
        for entry in git
            .bytes(&["ls-files", "-v", "-z"])?
            .split(|&byte| byte == 0)
        {
            if let (Some(&tag), Some(path)) = (entry.first(), entry.get(2..)) {
                let at = directory.join(OsStr::from_bytes(path));
                if is_overlooked(tag) && at.symlink_metadata().is_ok_and(|about| !about.is_dir()) {
                    files.insert(at);
                }
            }
        }
        changes.files = files.into_iter().collect();
        Ok(changes)
    }

    /// Keeps files in an archive, in which their paths begin below `root`; its name, if there are any.
    fn archive(
        &mut self,
        told: &str,
        root: &Path,
        files: Vec<PathBuf>,
    ) -> io::Result<Option<String>> {
        if files.is_empty() || !self.in_time(told) {
            return Ok(None);
        }
        let name = match told {
            "loose" => "loose.tar".to_owned(),
            told => format!("{}.tar", self.named(told)),
        };
        let end = self.begun + WITHIN;
        let (mut lost, mut no_room, mut kept) = (Vec::new(), Vec::new(), 0_usize);
        let part = self.out.file(&name)?;
        let mut archive = tar::Builder::new(BufWriter::with_capacity(MAX_PART, part));
        let mut left = archive.get_ref().get_ref().room;
        for file in files {
            let path = file.strip_prefix(root).unwrap_or(&file);
            match entry(&mut archive, &file, path, &mut left, end) {
                Ok(()) => kept += 1,
                Err(NotKept::Lost(why)) => lost.push((file, why)),
                Err(NotKept::NoRoom(why)) => no_room.push((file, why)),
                Err(NotKept::Failed(error)) => return Err(error),
            }
        }
        let part = archive
            .into_inner()?
            .into_inner()
            .map_err(io::IntoInnerError::into_error)?;
        let left = part.room;
        let told_as = |keeping: &Self, file: &Path| {
            let volumes = keeping.looking.question.volumes.iter();
            let of = volumes
                .enumerate()
                .find(|(_, asked)| file.starts_with(&asked.at));
            keeping
                .looking
                .told(of.map_or(0, |(number, _)| number), file)
        };
        if kept == 0 {
            self.out.drop_file()?;
        } else {
            self.out.room = left;
        }
        for (file, why) in lost {
            self.lost(&told_as(self, &file), &why);
        }
        for (file, why) in no_room {
            self.no_room(&told_as(self, &file), &why);
        }
        Ok((kept > 0).then_some(name))
    }
}

/// What a worktree holds that no commit has.
#[derive(Debug, Default)]
struct Changes {
    files: Vec<PathBuf>,
    /// Whether some of it changes a commit's files.
    is_tracked: bool,
    /// Whether the index has what neither a commit nor a file has.
    is_staged: bool,
}

/// The changes to a commit, whatever the repository's own settings say.
const DIFF: &[&str] = &[
    "diff",
    "--binary",
    "--full-index",
    "--no-ext-diff",
    "--no-textconv",
    "--no-color",
    "--no-renames",
    "--no-relative",
    "--ignore-submodules=all",
    "--src-prefix=a/",
    "--dst-prefix=b/",
    "HEAD",
    "--",
];

enum NotKept {
    Lost(String),
    NoRoom(String),
    Failed(io::Error),
}

impl From<io::Error> for NotKept {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

/// Adds a file or a link to an archive that has so much room.
fn entry(
    archive: &mut tar::Builder<impl Write>,
    file: &Path,
    path: &Path,
    room: &mut u64,
    end: Instant,
) -> Result<(), NotKept> {
    let lost = |error: io::Error| NotKept::Lost(error.to_string());
    // git would obey what is unpacked there.
    let is_gits = |part: &OsStr| part.eq_ignore_ascii_case(".git");
    if path.iter().any(is_gits) || !path.is_relative() || path.as_os_str().is_empty() {
        return Err(NotKept::Lost(
            "it belongs to a broken repository".to_owned(),
        ));
    }
    if Instant::now() > end {
        return Err(NotKept::NoRoom("time ran out".to_owned()));
    }
    let about = file.symlink_metadata().map_err(lost)?;
    let mut header = tar::Header::new_gnu();
    header.set_mtime(u64::try_from(about.mtime()).unwrap_or(0));
    // It is its reader's then, and nobody's program is to run as another for it.
    header.set_mode(about.mode() & 0o777);
    if about.is_symlink() {
        let to = fs::read_link(file).map_err(lost)?;
        take(room, path, &to, 0)?;
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        return match archive.append_link(&mut header, path, to) {
            Err(error) if error.kind() == io::ErrorKind::Other => Err(lost(error)),
            done => Ok(done?),
        };
    }
    if !about.is_file() {
        return Err(NotKept::Lost(
            "it is neither a file nor a directory".to_owned(),
        ));
    }
    // It may have become a link or a pipe just now: neither is followed or waited for. Whatever it
    // leads to is in this container.
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let flags = i32::try_from(flags.bits()).unwrap_or_default();
    let opened = OpenOptions::new().read(true).custom_flags(flags).open(file);
    let opened = opened.map_err(lost)?;
    let about = opened.metadata().map_err(lost)?;
    if !about.is_file() {
        return Err(NotKept::Lost("it changed meanwhile".to_owned()));
    }
    take(room, path, Path::new(""), about.len())?;
    header.set_entry_type(tar::EntryType::Regular);
    header.set_size(about.len());
    // A file that becomes shorter meanwhile has zeros at its end.
    let content = opened.chain(io::repeat(0)).take(about.len());
    Ok(archive.append_data(&mut header, path, content)?)
}

/// Takes the room of an entry, in which a name of more than 100 bytes has a header of its own.
fn take(room: &mut u64, path: &Path, to: &Path, content: u64) -> Result<(), NotKept> {
    let names = [path, to].map(|name| name.as_os_str().len());
    let names = names.into_iter().filter(|&length| length > 100);
    let entry: usize = ENTRY + names.map(|length| length + ENTRY).sum::<usize>();
    let entry = u64::try_from(entry).unwrap_or(u64::MAX);
    match room.checked_sub(content.saturating_add(entry)) {
        Some(left) => {
            *room = left;
            Ok(())
        }
        None => Err(NotKept::NoRoom(format!(
            "there is no space for its {}",
            bytesize::ByteSize::b(content).display().iec()
        ))),
    }
}

/// A repository of our own, in which a bundle is made: it has a stranger's objects, names for those that
/// are to be kept, and nothing of the stranger's configuration.
struct Store {
    directory: PathBuf,
    /// What is kept, by its name.
    refs: BTreeMap<String, String>,
    /// What is elsewhere, too.
    pushed: BTreeSet<String>,
    /// The messages of the stashes.
    stashes: Vec<String>,
}

impl Store {
    fn of(git: &Git<'_>, of: &Path, directory: &Path) -> Result<Self, String> {
        let format = git.lines(&["rev-parse", "--show-object-format"])?;
        let is_sha256 = format.first().is_some_and(|format| format == "sha256");
        let config = if is_sha256 {
            "[core]\n\trepositoryformatversion = 1\n[extensions]\n\tobjectformat = sha256\n"
        } else {
            "[core]\n\trepositoryformatversion = 0\n"
        };
        let theirs = directory.join("theirs");
        let make = || -> io::Result<()> {
            fs::create_dir_all(directory.join("objects/info"))?;
            fs::create_dir_all(directory.join("refs"))?;
            fs::write(directory.join("HEAD"), "ref: refs/heads/none\n")?;
            fs::write(directory.join("config"), config)?;
            // The path of a stranger's could hold what git reads as several.
            symlink(of.join("objects"), &theirs)?;
            let alternates = directory.join("objects/info/alternates");
            fs::write(alternates, format!("{}\n", theirs.display()))?;
            copy(&of.join("shallow"), &directory.join("shallow"))
        };
        make().map_err(|error| error.to_string())?;
        Ok(Self {
            directory: directory.to_owned(),
            refs: BTreeMap::new(),
            pushed: BTreeSet::new(),
            stashes: Vec::new(),
        })
    }

    fn git(&self) -> Git<'_> {
        let mut git = Git::of_our_own(&self.directory, &self.directory);
        let settings = [
            ("pack.threads", "1"),
            ("pack.windowMemory", "64m"),
            ("pack.deltaCacheSize", "32m"),
            ("core.bigFileThreshold", "16m"),
            ("core.logAllRefUpdates", "false"),
        ];
        let settings = settings.map(|(key, value)| (key.to_owned(), value.to_owned()));
        git.settings.extend(settings);
        git
    }

    /// Names all that is to be kept of a repository; what git complains of meanwhile.
    fn gather(&mut self, git: &Git<'_>, of: &Path, tags: bool) -> Result<Vec<String>, String> {
        let mut complaints = Vec::new();
        let mut listed = Vec::new();
        let all = ["for-each-ref", "--format=%(objectname) %(refname)"];
        complaints.extend(git.stream(&all, 64 * 1024 * 1024, &mut listed)?);
        let is_a_pattern = git
            .nearby
            .iter()
            .any(|name| name.contains(['*', '?', '[', '\\']));
        for line in String::from_utf8_lossy(&listed).lines() {
            let Some((object, name)) = line.split_once(' ') else {
                continue;
            };
            let below = |class: &str| name.strip_prefix("refs/")?.strip_prefix(class);
            if let Some(remote) = below("remotes/") {
                let is_nearby = git.nearby.iter().any(|nearby| {
                    remote
                        .strip_prefix(nearby.as_str())
                        .is_some_and(|rest| rest.starts_with('/'))
                });
                if !is_nearby && !is_a_pattern {
                    self.pushed.insert(object.to_owned());
                }
            } else if below("pull/").or(below("prefetch/")).is_some() {
                self.pushed.insert(object.to_owned());
            } else if below("heads/").is_some() || (tags && below("tags/").is_some()) {
                self.keep(name.to_owned(), object);
            } else if let Some(other) = below("").filter(|_| below("tags/").is_none())
                && other != "stash"
            {
                self.keep(format!("refs/other/{other}"), object);
            }
        }
        let worktrees = fs::read_dir(of.join("worktrees"))
            .into_iter()
            .flatten()
            .flatten();
        let heads =
            worktrees.map(|entry| format!("worktrees/{}/HEAD", entry.file_name().display()));
        for (number, head) in std::iter::once("HEAD".to_owned()).chain(heads).enumerate() {
            let commit = format!("{head}^{{commit}}");
            let found = git.lines(&["rev-parse", "--verify", "--quiet", &commit]);
            if let Some(object) = found.ok().and_then(|lines| lines.into_iter().next())
                && !self.refs.values().any(|kept| *kept == object)
            {
                self.keep(format!("refs/detached/{number}"), &object);
            }
        }
        if git.has("refs/stash")? {
            let log = ["log", "-g", "--no-color", "--no-patch", "-n", MAX_STASHES];
            let log = log
                .into_iter()
                .chain(["--format=%H %gs", "refs/stash", "--"]);
            let log: Vec<&str> = log.collect();
            for (number, line) in git.lines(&log)?.iter().enumerate() {
                let (object, message) = line.split_once(' ').unwrap_or((line, ""));
                self.keep(format!("refs/stashes/{number}"), object);
                self.stashes.push(bounded(message));
            }
        }
        Ok(complaints)
    }

    fn keep(&mut self, name: String, object: &str) {
        self.refs.insert(name, object.to_owned());
    }

    /// Makes a commit of what is staged, and names it.
    fn stage(&mut self, git_directory: &Path, head: Option<&str>) -> Result<String, String> {
        let number = self
            .refs
            .keys()
            .filter(|name| name.starts_with("refs/staged/"))
            .count();
        let index = self.directory.join("staged");
        copy(&git_directory.join("index"), &index).map_err(|error| error.to_string())?;
        let object = {
            let mut git = self.git();
            let identity = ["GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME"].map(|key| (key, "hatchery"));
            let addresses =
                ["GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"].map(|key| (key, "hatchery@localhost"));
            let environment = identity.into_iter().chain(addresses);
            git.environment = environment
                .map(|(key, value)| (key.to_owned(), OsString::from(value)))
                .chain([("GIT_INDEX_FILE".to_owned(), index.into_os_string())])
                .collect();
            let first = |lines: Vec<String>| lines.into_iter().next().unwrap_or_default();
            let tree = first(git.lines(&["write-tree"])?);
            let mut commit = vec!["commit-tree", "-m", "What was staged"];
            commit.extend(head.iter().flat_map(|head| ["-p", head]));
            commit.push(&tree);
            first(git.lines(&commit)?)
        };
        let name = format!("refs/staged/{number}");
        self.keep(name.clone(), &object);
        Ok(name)
    }

    fn write_refs(&self) -> io::Result<()> {
        use std::fmt::Write as _;

        let mut text = String::new();
        for (name, object) in &self.refs {
            let _ = writeln!(text, "{object} {name}");
        }
        for (number, object) in self.pushed.iter().enumerate() {
            let _ = writeln!(text, "{object} refs/remotes/pushed/{number}");
        }
        fs::write(self.directory.join("packed-refs"), text)
    }
}

/// Copies a small file, if it is there and is a file.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let Ok(about) = from.symlink_metadata() else {
        return Ok(());
    };
    if !about.is_file() || about.len() > MAX_INDEX {
        return Err(io::Error::other("it cannot be read"));
    }
    let mut content = Vec::new();
    fs::File::open(from)?
        .take(MAX_INDEX)
        .read_to_end(&mut content)?;
    fs::write(to, content)
}

fn bounded(text: &str) -> String {
    text.chars().take(MAX_LINE).collect()
}

fn tell(lines: &mut Vec<String>, more: &mut usize, what: &str, why: &str) {
    if lines.len() < MAX_TOLD {
        lines.push(bounded(&format!("{what}: {why}")));
    } else {
        *more += 1;
    }
}
