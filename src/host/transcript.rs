//! Transcripts: what was said while a drone was spawned, rebuilt or started, each in files of this server.
//!
//! A transcript is a row of segments, `TIME.WHAT.NUMBER`, of which the first and the last few are kept: a
//! build may print without end. Who writes it holds a lock on the first, so that a reader knows whether more
//! is to come, however the writer ends. What cannot be written is left out: no spawn fails for it.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use super::{Places, remove_file};
use crate::drone::DroneName;
use crate::error::{Error, Result, host_io};
use crate::secret::Environment;
use crate::ui::clean;

/// Who may read it: the group hatchery, as all that is kept of drones.
const MODE: u32 = 0o640;
/// How long a segment may become, in bytes.
const SEGMENT: u64 = 1024 * 1024;
/// How many segments are kept beside the first: the last ones.
const LAST: u32 = 3;
/// The longest line that is read, in bytes; none that was written is longer.
const MAX_LINE: u64 = 64 * 1024;
/// How much is kept of a line that has not ended, in bytes.
const MAX_PIECE: usize = 16 * 1024;
/// For how long the transcripts of a drone that is gone are kept.
pub const KEPT_FOR: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// How GitHub's tokens begin. A command in a drone may print one.
const TOKENS: [&str; 6] = ["ghs_", "ghp_", "gho_", "ghu_", "ghr_", "github_pat_"];
/// What follows is a token from this length on.
const TOKEN: usize = 16;

/// What a transcript is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// A spawn.
    Spawn,
    /// A rebuild.
    Rebuild,
    /// A later start, at which lifecycle commands were run.
    Start,
    /// Lifecycle commands that a person has run again.
    Rerun,
}

impl What {
    const ALL: [Self; 4] = [Self::Spawn, Self::Rebuild, Self::Start, Self::Rerun];

    /// The word for it, as in a file's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Spawn => "spawn",
            Self::Rebuild => "rebuild",
            Self::Start => "start",
            Self::Rerun => "rerun",
        }
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|what| what.as_str() == name)
    }

    /// How many of its kind are kept of one drone.
    const fn kept(self) -> usize {
        match self {
            Self::Spawn | Self::Rebuild => 2,
            Self::Start | Self::Rerun => 4,
        }
    }

    /// Whether it came after the drone was made.
    pub const fn is_later(self) -> bool {
        matches!(self, Self::Start | Self::Rerun)
    }
}

/// A transcript that is being written; copies write the same one.
#[derive(Clone)]
pub struct Transcript {
    writer: Arc<Mutex<Writer>>,
    /// What is not to be seen in it.
    secrets: Environment,
}

impl fmt::Debug for Transcript {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transcript").finish_non_exhaustive()
    }
}

struct Writer {
    run: Run,
    /// It holds the lock for as long as this is open.
    first: File,
    later: Option<File>,
    segment: u32,
    written: u64,
    /// A line was cut off.
    torn: bool,
    has_output: bool,
}

impl Transcript {
    /// Begins one of this drone; of earlier ones a few are kept.
    pub fn begin(places: &Places, drone: &DroneName, what: What) -> Result<Self> {
        let directory = places.transcripts_of(drone);
        places.shared_directory(&places.transcripts())?;
        places.shared_directory(&directory)?;
        prune(&directory, what);
        let begin = || -> io::Result<Writer> {
            // It is seen only once it is locked.
            let new = tempfile::Builder::new().tempfile_in(&directory)?;
            new.as_file().try_lock()?;
            new.as_file()
                .set_permissions(std::fs::Permissions::from_mode(MODE))?;
            let run = Run {
                begun: humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
                what,
                directory: directory.clone(),
            };
            Ok(Writer {
                first: new.persist_noclobber(run.segment(0))?,
                run,
                later: None,
                segment: 0,
                written: 0,
                torn: false,
                has_output: false,
            })
        };
        let writer = begin().map_err(|error| host_io("write in", &directory, error))?;
        Ok(Self {
            writer: Arc::new(Mutex::new(writer)),
            secrets: Environment::default(),
        })
    }

    /// The same one, in which these are not to be seen where this copy writes.
    #[must_use]
    pub fn hiding(self, secrets: &Environment) -> Self {
        Self {
            secrets: secrets.clone(),
            ..self
        }
    }

    /// A word of hatchery's own.
    pub fn said(&self, text: &str) {
        self.write(false, text);
    }

    /// A line of what runs: a builder's, a lifecycle command's.
    pub fn output(&self, text: &str) {
        self.write(true, text);
    }

    /// An error that ends what this is a transcript of.
    pub fn failed(&self, error: &Error) {
        self.said(&format!("{} [{}]", error.message(), error.code().as_str()));
        // Else they are the last lines of it.
        if !self.has_output() {
            for line in error.details() {
                self.said(&format!("  {line}"));
            }
        }
    }

    /// Whether what runs has said anything.
    pub fn has_output(&self) -> bool {
        self.writer.lock().is_ok_and(|writer| writer.has_output)
    }

    fn write(&self, is_output: bool, text: &str) {
        if let Ok(mut writer) = self.writer.lock() {
            writer.has_output |= is_output;
            let line = Line {
                at: humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
                is_output,
                text: without_tokens(&clean::line(&self.secrets.hide(text))),
            };
            writer.write(&line);
        }
    }
}

impl Writer {
    fn write(&mut self, line: &Line) {
        let text = format!("{line}\n");
        let length = text.len() as u64;
        if self.written > 0 && self.written + length > SEGMENT && self.turn().is_err() {
            return;
        }
        let torn = std::mem::replace(&mut self.torn, false);
        let mut file = self.later.as_ref().unwrap_or(&self.first);
        let written = if torn { file.write_all(b"\n") } else { Ok(()) };
        // A full disk may have room again.
        self.torn = written
            .and_then(|()| file.write_all(text.as_bytes()))
            .is_err();
        self.written += length;
    }

    /// Goes on in another segment.
    fn turn(&mut self) -> io::Result<()> {
        let next = self.segment + 1;
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(MODE)
            .open(self.run.segment(next))?;
        file.set_permissions(std::fs::Permissions::from_mode(MODE))?;
        (self.later, self.segment) = (Some(file), next);
        (self.written, self.torn) = (0, false);
        if let Some(old) = next.checked_sub(LAST).filter(|&old| old > 0) {
            let _ = std::fs::remove_file(self.run.segment(old));
        }
        Ok(())
    }
}

/// A line of a transcript.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// When, as in RFC 3339; empty where it is not known.
    pub at: String,
    /// Whether it is a line of what ran, not a word of hatchery's.
    pub is_output: bool,
    /// The line, clean.
    pub text: String,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.is_output { '|' } else { '#' };
        write!(f, "{} {kind} {}", self.at, self.text)
    }
}

impl From<&str> for Line {
    fn from(line: &str) -> Self {
        let mut parts = line.splitn(3, ' ');
        let (at, kind) = (parts.next(), parts.next());
        match (at, kind) {
            (Some(at), Some("|" | "#")) if at.ends_with('Z') => Self {
                at: at.to_owned(),
                is_output: kind == Some("|"),
                text: clean::line(parts.next().unwrap_or_default()),
            },
            // The end of a line that a full disk has cut off.
            _ => Self {
                at: String::new(),
                is_output: true,
                text: clean::line(line),
            },
        }
    }
}

/// One transcript among those of a drone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Run {
    /// When it was begun (RFC 3339).
    pub begun: String,
    /// What it is of.
    pub what: What,
    directory: PathBuf,
}

impl Run {
    /// The transcripts of a drone, the oldest first.
    pub fn all(places: &Places, drone: &DroneName) -> Vec<Self> {
        runs(&places.transcripts_of(drone)).into_keys().collect()
    }

    /// What of this drone is under way, as far as a transcript is written of it.
    pub fn under_way(places: &Places, drone: &DroneName) -> Option<What> {
        let last = Self::all(places, drone).pop()?;
        last.open().ok()?.is_written().then_some(last.what)
    }

    fn segment(&self, number: u32) -> PathBuf {
        let (begun, what) = (&self.begun, self.what.as_str());
        self.directory.join(format!("{begun}.{what}.{number}"))
    }

    /// Begins to read it.
    pub fn open(&self) -> Result<Reader> {
        let path = self.segment(0);
        let open = || File::open(&path).map_err(|error| host_io("read", &path, error));
        Ok(Reader {
            run: self.clone(),
            first: open()?,
            from: BufReader::new(open()?),
            segment: 0,
            is_drained: false,
            rest: Vec::new(),
        })
    }
}

/// A transcript that is read, perhaps while it is written.
#[derive(Debug)]
pub struct Reader {
    run: Run,
    first: File,
    from: BufReader<File>,
    segment: u32,
    /// All of this segment was read after the next one was begun.
    is_drained: bool,
    /// The begin of a line whose end is not there yet.
    rest: Vec<u8>,
}

impl Reader {
    /// Whether it is being written.
    pub fn is_written(&self) -> bool {
        matches!(self.first.try_lock_shared(), Err(TryLockError::WouldBlock)) || {
            let _ = self.first.unlock();
            false
        }
    }

    /// The next line that is there by now.
    pub fn next_line(&mut self) -> io::Result<Option<Line>> {
        loop {
            let room = MAX_LINE.saturating_sub(self.rest.len() as u64);
            (&mut self.from)
                .take(room)
                .read_until(b'\n', &mut self.rest)?;
            if self.rest.ends_with(b"\n") || self.rest.len() as u64 >= MAX_LINE {
                return Ok(self.taken());
            }
            let Some(next) = self.later() else {
                return Ok(None);
            };
            // The last lines of this one may have come meanwhile.
            if !std::mem::replace(&mut self.is_drained, true) {
                continue;
            }
            if let Some(cut) = self.taken() {
                return Ok(Some(cut));
            }
            let left_out = next > self.segment + 1;
            match File::open(self.run.segment(next)) {
                Ok(file) => self.from = BufReader::new(file),
                // It has just been removed in favour of later ones.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            }
            (self.segment, self.is_drained) = (next, false);
            if left_out {
                return Ok(Some(Line {
                    at: String::new(),
                    is_output: false,
                    text: "(too many lines; the lines in between were not kept)".to_owned(),
                }));
            }
        }
    }

    /// What was read of a line that has no end, once nothing comes any more.
    pub fn cut_off(&mut self) -> Option<Line> {
        self.taken()
    }

    fn taken(&mut self) -> Option<Line> {
        let rest = std::mem::take(&mut self.rest);
        let text = String::from_utf8_lossy(&rest);
        let text = text.trim_end_matches('\n');
        (!text.is_empty()).then(|| Line::from(text))
    }

    /// The number of the next segment.
    fn later(&self) -> Option<u32> {
        let segments = runs(&self.run.directory).remove(&self.run)?;
        segments
            .into_iter()
            .filter(|&number| number > self.segment)
            .min()
    }
}

/// Cuts a stream into lines, each ended by a line feed or a carriage return. Little is kept of a line that does
/// not end.
#[derive(Debug, Default)]
pub struct Pieces(Vec<u8>);

impl Pieces {
    /// Takes what has come; `each` gets the lines that have ended and are not empty.
    pub fn push(&mut self, bytes: &[u8], mut each: impl FnMut(&str)) {
        for part in bytes.split_inclusive(|byte| matches!(byte, b'\n' | b'\r')) {
            let room = MAX_PIECE.saturating_sub(self.0.len());
            self.0.extend_from_slice(&part[..part.len().min(room)]);
            if part.ends_with(b"\n") || part.ends_with(b"\r") {
                self.end(&mut each);
            }
        }
    }

    /// Nothing more comes of this line.
    pub fn end(&mut self, mut each: impl FnMut(&str)) {
        let line = std::mem::take(&mut self.0);
        let line = String::from_utf8_lossy(&line);
        let line = line.trim_end_matches(['\r', '\n']);
        if !line.trim().is_empty() {
            each(line);
        }
    }
}

impl Places {
    /// Where the transcripts of all drones are.
    pub(super) fn transcripts(&self) -> PathBuf {
        self.state().join("logs")
    }

    /// Where those of this drone are.
    pub fn transcripts_of(&self, drone: &DroneName) -> PathBuf {
        self.transcripts().join(drone)
    }

    /// Removes those of this drone.
    pub fn forget_transcripts(&self, drone: &DroneName) -> Result<()> {
        super::remove_tree(&self.transcripts_of(drone))
    }

    /// Removes the transcripts of drones that are gone, once nothing was written in them for [`KEPT_FOR`].
    /// `is_there` says which drones there are.
    pub fn sweep_transcripts(&self, is_there: impl Fn(&DroneName) -> bool) {
        let Ok(entries) = std::fs::read_dir(self.transcripts()) else {
            return;
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some(drone) = name.to_str().and_then(DroneName::from_label) else {
                continue;
            };
            if is_there(&drone) || !is_old(&entry.path()) {
                continue;
            }
            if let Ok(_lock) = self.lock(&drone) {
                // What cannot be removed now is tried again by the next one.
                let _ = self.forget_transcripts(&drone);
            }
        }
    }
}

/// Whether nothing in this directory was written for as long as it is kept.
fn is_old(directory: &Path) -> bool {
    let age = |path: &Path| {
        let written = std::fs::metadata(path).and_then(|about| about.modified());
        written.ok()?.elapsed().ok()
    };
    let Ok(entries) = std::fs::read_dir(directory) else {
        return false;
    };
    entries
        .flatten()
        .map(|entry| entry.path())
        .chain([directory.to_owned()])
        .all(|path| age(&path).is_some_and(|age| age > KEPT_FOR))
}

/// The transcripts in this directory with the numbers of their segments.
fn runs(directory: &Path) -> BTreeMap<Run, Vec<u32>> {
    let mut all: BTreeMap<Run, Vec<u32>> = BTreeMap::new();
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    for entry in entries {
        let name = entry.file_name();
        let parts = name.to_str().and_then(|name| {
            let mut parts = name.rsplitn(3, '.');
            let number: u32 = parts.next()?.parse().ok()?;
            let what = What::named(parts.next()?)?;
            Some((parts.next()?.to_owned(), what, number))
        });
        if let Some((begun, what, number)) = parts {
            let directory = directory.to_owned();
            let run = Run {
                begun,
                what,
                directory,
            };
            all.entry(run).or_default().push(number);
        }
    }
    all
}

/// Makes room for one more of this kind. What cannot be removed is in nobody's way.
fn prune(directory: &Path, what: What) {
    let all = runs(directory);
    let same = all
        .iter()
        .filter(|(run, _)| run.what.is_later() == what.is_later());
    for (run, segments) in same.rev().skip(what.kept() - 1) {
        for &number in segments {
            let _ = remove_file(&run.segment(number));
        }
    }
}

/// The same line, with each token of GitHub's cut after what it begins with.
fn without_tokens(line: &str) -> String {
    let is_of_token = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((at, prefix)) = TOKENS
        .iter()
        .filter_map(|prefix| Some((rest.find(prefix)?, prefix)))
        .min()
    {
        let (before, from) = rest.split_at(at + prefix.len());
        let end = from.find(|c| !is_of_token(c)).unwrap_or(from.len());
        out.push_str(before);
        if end >= TOKEN {
            out.push('…');
            rest = &from[end..];
        } else {
            rest = from;
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> (tempfile::TempDir, Places, DroneName) {
        let place = tempfile::tempdir().unwrap();
        let places = Places::under(place.path());
        (place, places, DroneName::from_label("acme-site").unwrap())
    }

    fn read(reader: &mut Reader) -> Vec<String> {
        std::iter::from_fn(|| reader.next_line().unwrap())
            .map(|line| format!("{}{}", if line.is_output { "| " } else { "" }, line.text))
            .collect()
    }

    #[test]
    fn no_secret_is_in_it() {
        let (_place, places, drone) = place();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "KEY=s3cret\n").unwrap();
        let secrets = Environment::read([(file.path(), String::new())]).unwrap();
        let transcript = Transcript::begin(&places, &drone, What::Spawn).unwrap();
        let transcript = transcript.hiding(&secrets);
        let mut pieces = Pieces::default();
        for piece in ["the key is s3", "cret.\n"] {
            pieces.push(piece.as_bytes(), |line| transcript.output(line));
        }
        transcript.clone().said("s3cret");
        let mut reader = Run::all(&places, &drone)[0].open().unwrap();
        assert_eq!(read(&mut reader), ["| the key is ********.", "********"]);
    }

    #[test]
    fn it_is_read_while_it_is_written_and_its_end_is_seen() {
        let (_place, places, drone) = place();
        let transcript = Transcript::begin(&places, &drone, What::Spawn).unwrap();
        transcript.said("Building the image");
        assert!(!transcript.has_output());
        transcript.output("\u{1b}[31mred\u{1b}[0m\u{7}");
        let all = Run::all(&places, &drone);
        assert_eq!((all.len(), all[0].what), (1, What::Spawn));
        let mode = std::fs::metadata(all[0].segment(0)).unwrap().permissions();
        assert_eq!(mode.mode() & 0o777, 0o640);
        let mut reader = all[0].open().unwrap();
        assert_eq!(read(&mut reader), ["Building the image", "| red\u{fffd}"]);
        assert!(reader.is_written() && transcript.has_output());
        assert_eq!(Run::under_way(&places, &drone), Some(What::Spawn));
        let copy = transcript.clone();
        drop(transcript);
        copy.output("more");
        assert!(reader.is_written());
        drop(copy);
        assert!(!reader.is_written());
        assert_eq!(Run::under_way(&places, &drone), None);
        assert_eq!(read(&mut reader), ["| more"]);
        assert_eq!(reader.cut_off(), None);
    }

    #[test]
    fn of_one_without_end_the_begin_and_the_last_lines_are_kept() {
        let (_place, places, drone) = place();
        let transcript = Transcript::begin(&places, &drone, What::Rebuild).unwrap();
        let run = Run::all(&places, &drone).remove(0);
        let mut follower = run.open().unwrap();
        let long = "x".repeat(3000);
        let mut seen = 0;
        for number in 0..4000 {
            transcript.output(&format!("{number} {long}"));
            if number % 100 == 0 {
                seen += read(&mut follower).len();
            }
        }
        seen += read(&mut follower).len();
        assert_eq!(seen, 4000, "a reader that keeps up misses nothing");
        let taken: u64 = std::fs::read_dir(places.transcripts_of(&drone))
            .unwrap()
            .map(|entry| entry.unwrap().metadata().unwrap().len())
            .sum();
        assert!(taken <= SEGMENT * u64::from(LAST + 1), "{taken}");
        let lines = read(&mut run.open().unwrap());
        assert!(lines[0].starts_with("| 0 x") && lines[1].starts_with("| 1 x"));
        assert!(lines.last().unwrap().starts_with("| 3999 x"));
        let said: Vec<_> = lines.iter().filter(|line| !line.starts_with('|')).collect();
        assert_eq!(
            said,
            ["(too many lines; the lines in between were not kept)"]
        );
    }

    #[test]
    fn starts_do_not_push_out_the_spawn() {
        let (_place, places, drone) = place();
        let _spawn = Transcript::begin(&places, &drone, What::Spawn).unwrap();
        for what in [What::Rebuild, What::Rebuild, What::Start]
            .into_iter()
            .chain([What::Start; 9])
        {
            // Two in one millisecond would have one name.
            std::thread::sleep(Duration::from_millis(2));
            drop(Transcript::begin(&places, &drone, what).unwrap());
        }
        let kept: Vec<_> = Run::all(&places, &drone)
            .into_iter()
            .map(|run| run.what.as_str())
            .collect();
        assert_eq!(
            kept,
            ["rebuild", "rebuild", "start", "start", "start", "start"]
        );
    }

    #[test]
    fn a_drone_that_is_gone_is_forgotten_after_days_and_none_that_is_there() {
        let (_place, places, drone) = place();
        let other = DroneName::from_label("acme-other").unwrap();
        let fresh = DroneName::from_label("acme-fresh").unwrap();
        for name in [&drone, &other, &fresh] {
            drop(Transcript::begin(&places, name, What::Spawn).unwrap());
        }
        let old = SystemTime::now() - KEPT_FOR - Duration::from_secs(60);
        for name in [&drone, &other] {
            let run = Run::all(&places, name).remove(0);
            for path in [run.segment(0), places.transcripts_of(name)] {
                File::open(path).unwrap().set_modified(old).unwrap();
            }
        }
        places.sweep_transcripts(|name| *name == other);
        let there = |name| places.transcripts_of(name).exists();
        assert_eq!([&drone, &other, &fresh].map(there), [false, true, true]);
        places.forget_transcripts(&other).unwrap();
        assert!(!there(&other));
    }

    #[test]
    fn a_token_is_not_kept() {
        for (line, kept) in [
            ("ghs_16characterslong.and-more_x!", "ghs_…!"),
            (
                "a ghp_0123456789abcdef, github_pat_0123456789abcdef",
                "a ghp_…, github_pat_…",
            ),
            ("ghs_short and gho_", "ghs_short and gho_"),
            ("nothing", "nothing"),
        ] {
            assert_eq!(without_tokens(line), kept);
        }
    }

    #[test]
    fn a_line_is_what_ends_as_one() {
        let mut pieces = Pieces::default();
        let mut lines = Vec::new();
        for part in ["a", "b\r\n\n", "50 %\r60", " %\r", "\u{e9}"] {
            pieces.push(part.as_bytes(), |line| lines.push(line.to_owned()));
        }
        let endless = vec![b'x'; 3 * MAX_PIECE];
        pieces.push(&endless, |line| lines.push(line.to_owned()));
        pieces.end(|line| lines.push(line.to_owned()));
        pieces.end(|line| lines.push(line.to_owned()));
        assert_eq!(lines.len(), 4);
        assert_eq!(&lines[..3], ["ab", "50 %", "60 %"]);
        assert_eq!(lines[3].len(), MAX_PIECE);
    }

    #[test]
    fn what_a_full_disk_has_cut_off_is_a_line_all_the_same() {
        for (line, at, is_output, text) in [
            (
                "2026-01-01T00:00:00.000Z | a  b",
                "2026-01-01T00:00:00.000Z",
                true,
                "a  b",
            ),
            (
                "2026-01-01T00:00:00.000Z # a",
                "2026-01-01T00:00:00.000Z",
                false,
                "a",
            ),
            (
                "2026-01-01T00:00:00.000Z |",
                "2026-01-01T00:00:00.000Z",
                true,
                "",
            ),
            ("2026-01-01T00:0", "", true, "2026-01-01T00:0"),
            ("a # \u{1b}c", "", true, "a # \u{fffd}c"),
        ] {
            let expected = Line {
                at: at.to_owned(),
                is_output,
                text: text.to_owned(),
            };
            assert_eq!(Line::from(line), expected);
        }
    }
}
