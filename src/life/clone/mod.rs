//! Cloning: git, told to trust nothing but the server that it was sent to.

pub mod head;
mod spelling;
mod submodules;

use std::fmt;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use bytesize::ByteSize;
use tokio::io::AsyncReadExt;
use tokio::process::Command;

use crate::cage::{self, Rules};
use crate::config::{self, Config};
use crate::docker;
use crate::drone::head::Head;
use crate::error::{Code, Error, Result};
use crate::host::{self, Size};
use crate::process::{self, Group};
use crate::repo::RepoId;

/// How much of what git says at the end is kept, in bytes.
const KEPT: usize = 16 * 1024;

/// How long between two looks at how large a clone has become.
const BETWEEN_LOOKS: Duration = Duration::from_secs(1);

/// Settings that take the host's own configuration, hooks, helpers and odd transports out of it.
const SETTINGS: &[&str] = &[
    "credential.helper=",
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "protocol.allow=never",
    "protocol.https.allow=always",
    // A server that sends less than this for a minute is taken for dead.
    "http.lowSpeedLimit=100",
    "http.lowSpeedTime=60",
    "transfer.fsckObjects=false",
    "advice.detachedHead=false",
];

/// Where a repository is on this GitHub.
pub fn url_of(github: &config::Github, repo: &RepoId) -> String {
    let base = github.url.as_str().trim_end_matches('/');
    format!("{base}/{repo}")
}

/// Where a clone gets its tokens.
#[derive(Debug, Clone, Copy)]
pub struct Tokens<'a> {
    /// The directory of the drone's socket.
    pub directory: &'a Path,
    /// hatchery-drone.
    pub helper: &'a Path,
}

/// What is to be cloned, and how.
#[derive(Debug)]
pub struct Job<'a> {
    /// Where from, how much at most, and what is closed to it.
    pub config: &'a Config,
    /// What.
    pub repo: &'a RepoId,
    /// Which of its heads, where that is not the default branch.
    pub head: Option<&'a Head>,
    /// With its submodules.
    pub submodules: bool,
    /// The newest commit of the default branch alone.
    pub shallow: bool,
    /// What a token is asked of, where one is needed.
    pub tokens: Option<Tokens<'a>>,
    /// Docker's own address, which git does not get to see.
    pub hidden_host: &'a str,
}

/// Clones into `into`, which must not exist. git runs in a cage, whose files
/// are kept in the directory `cage`. `progress` is told git's own last line now and then.
pub async fn clone(
    job: &Job<'_>,
    into: &Path,
    cage: &Path,
    progress: &(dyn Fn(&str) + Sync),
) -> Result<()> {
    let limits = &job.config.limits;
    let most = Size {
        bytes: limits.clone.as_u64(),
        files: limits.clone_files,
    };
    let git = Git {
        job,
        into,
        cage,
        progress,
    };
    tokio::select! {
        done = git.clone() => done?,
        () = outgrows(into, most) => return Err(too_large(job.repo, most)),
    }
    // What came after the last look.
    if is_more_than(into, most).await {
        return Err(too_large(job.repo, most));
    }
    Ok(())
}

/// git at work on one clone.
struct Git<'a> {
    job: &'a Job<'a>,
    into: &'a Path,
    cage: &'a Path,
    progress: &'a (dyn Fn(&str) + Sync),
}

impl Git<'_> {
    async fn clone(&self) -> Result<()> {
        let url = url_of(&self.job.config.github, self.job.repo);
        let mut command = self.command(None)?;
        command.args(["clone", "--progress", "--template="]);
        if self.job.submodules {
            // As `--recurse-submodules` has it: `git submodule update` in the drone means all of them.
            command.args(["-c", "submodule.active=."]);
        }
        if self.job.shallow {
            command.arg("--depth=1");
        }
        if let Some(Head::Stranger { .. }) = self.job.head {
            command.arg("--no-checkout");
        } else if let Some(branch) = self.job.head.and_then(Head::branch) {
            command.arg(format!("--branch={branch}"));
        }
        command.args(["--", &url]).arg(self.into);
        let (said, is_well) = self.run(command).await?;
        if !is_well {
            return Err(self.refused(&url, &said));
        }
        if let Some(Head::Stranger { number, .. }) = self.job.head {
            self.check_out_pull(*number, &url).await?;
        }
        if self.job.submodules {
            submodules::fetch(self, self.into).await?;
        }
        Ok(())
    }

    /// git in its cage, where it trusts nobody; in this directory, if it is to be in one.
    fn command(&self, at: Option<&Path>) -> Result<Command> {
        let Job { config, tokens, .. } = *self.job;
        let github = &config.github;
        let mut command = caged(self.job, self.into, self.cage)?;
        command
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_ASKPASS", "true")
            .env("LC_ALL", "C");
        if let Some(ca) = &github.ca_file {
            command.env("GIT_SSL_CAINFO", ca);
        }
        if let Some(at) = at {
            command.arg("-C").arg(at);
        }
        for setting in SETTINGS {
            command.args(["-c", setting]);
        }
        if let Some(tokens) = tokens {
            command.env("HATCHERY_DIR", tokens.directory);
            let origin = github.url.origin().ascii_serialization();
            // git gives a helper that begins with `!` to a shell.
            let helper = format!("!{} git-credential", quoted(tokens.helper)?);
            command
                .arg("-c")
                .arg(format!("credential.{origin}.helper={helper}"))
                .args(["-c", "credential.useHttpPath=true"]);
        }
        Ok(command)
    }

    /// Runs it to its end: the last part of what it said on stderr, and whether it did what it should.
    async fn run(&self, mut command: Command) -> Result<(String, bool)> {
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut group = Group::spawn(&mut command, "git")?;
        let said = match group.child().stderr.take() {
            Some(stderr) => last_words(stderr, self.progress).await,
            None => String::new(),
        };
        Ok((said, group.wait().await?.success()))
    }

    /// What it answers on stdout, which may be `most` bytes; nothing where it fails.
    async fn ask(&self, mut command: Command, most: u64) -> Result<Option<Vec<u8>>> {
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        let mut group = Group::spawn(&mut command, "git")?;
        let mut answer = Vec::new();
        if let Some(stdout) = group.child().stdout.take() {
            let read = stdout.take(most + 1).read_to_end(&mut answer).await;
            read.map_err(|error| {
                Error::new(Code::HostFailed, "cannot read git's output").because(error)
            })?;
        }
        if answer.len() as u64 > most {
            return Err(Error::new(
                Code::LimitReached,
                format!("{} has too many submodules", self.job.repo),
            )
            .hint("spawn it without `--submodules`"));
        }
        Ok(group.wait().await?.success().then_some(answer))
    }

    /// Why the repository itself, at this URL, was not had, by git's last words.
    fn refused(&self, url: &str, said: &str) -> Error {
        let subject = Subject::Repository {
            repo: self.job.repo,
            url,
        };
        refusal(&subject, said, self.is_full())
    }

    /// Whether the clone's disk has next to no room.
    fn is_full(&self) -> bool {
        is_full(self.into)
    }
}

/// git in its cage: it writes beside the clone, and reads its own files and the drone's socket.
fn caged(job: &Job<'_>, into: &Path, cage: &Path) -> Result<Command> {
    let git = process::found("git")?;
    let mut rules = Rules::of_system()
        .program(&git)
        .write(into.parent().unwrap_or(into))
        .hide(docker::socket_of(job.hidden_host));
    if let Some(ca) = &job.config.github.ca_file {
        rules = rules.read(ca);
    }
    if let Some(tokens) = job.tokens {
        rules = rules.program(tokens.helper).read(tokens.directory);
    }
    rules.supervised(cage, &git)
}

/// Comes back as soon as the clone is more than this.
async fn outgrows(clone: &Path, most: Size) {
    loop {
        let begin = Instant::now();
        if is_more_than(clone, most).await {
            return;
        }
        // A look at many files must not be what the server is busy with.
        tokio::time::sleep(BETWEEN_LOOKS.max(begin.elapsed() * 10)).await;
    }
}

async fn is_more_than(clone: &Path, most: Size) -> bool {
    let clone = clone.to_owned();
    let looking = tokio::task::spawn_blocking(move || most.is_exceeded_by(&clone));
    looking.await.unwrap_or_default()
}

fn too_large(repo: &RepoId, most: Size) -> Error {
    let (bytes, files) = (ByteSize::b(most.bytes), most.files);
    Error::new(
        Code::LimitReached,
        format!("the clone of {repo} is larger than {bytes} or has more than {files} files"),
    )
    .hint(
        "raise limits.clone or limits.clone_files in the configuration, if this server has enough disk space",
    )
}

/// Whether the disk that this path is to be on has next to no room. git has many words for that,
/// and most do not say it.
fn is_full(path: &Path) -> bool {
    const NEXT_TO_NONE: u64 = 1024 * 1024;
    let there = path.ancestors().find(|path| path.exists());
    there
        .and_then(host::free_space)
        .is_some_and(|free| free < NEXT_TO_NONE)
}

/// A path as one word of a shell.
fn quoted(path: &Path) -> Result<String> {
    match path.to_str() {
        Some(text) if !text.contains('\'') => Ok(format!("'{text}'")),
        _ => Err(Error::new(
            Code::HostFailed,
            format!("git cannot use the path {}", path.display()),
        )
        .hint("install hatchery at a path without quotation marks")),
    }
}

/// Reads to the end, passing on each line, and keeps the last part.
async fn last_words(
    mut from: impl AsyncReadExt + Unpin,
    progress: &(dyn Fn(&str) + Sync),
) -> String {
    let mut kept = Vec::new();
    let mut chunk = vec![0; 8192];
    while let Ok(read @ 1..) = from.read(&mut chunk).await {
        kept.extend_from_slice(&chunk[..read]);
        if let Some(excess) = kept.len().checked_sub(KEPT) {
            kept.drain(..excess);
        }
        let text = String::from_utf8_lossy(&kept);
        if let Some(line) = text.trim_end().rsplit(['\r', '\n']).next() {
            progress(line);
        }
    }
    String::from_utf8_lossy(&kept).into_owned()
}

/// What git was to get.
enum Subject<'a> {
    /// The repository itself.
    Repository { repo: &'a RepoId, url: &'a str },
    /// The list of the submodules of what is at this place in the clone.
    Submodules { repo: &'a RepoId, at: &'a Path },
    /// A submodule at this place in the clone.
    Submodule {
        repo: &'a RepoId,
        at: &'a Path,
        /// As its URL may be shown.
        url: String,
        /// Which repository that is on this GitHub, if it is on it.
        own: Option<&'a RepoId>,
        has_tokens: bool,
    },
}

/// What to do without a submodule.
const WITHOUT: &str = "spawn without `--submodules` and fetch those that you need in the drone";

impl fmt::Display for Subject<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Repository { url, .. } => f.write_str(url),
            Self::Submodules { repo, at } if at.as_os_str().is_empty() => {
                write!(f, "the list of submodules of {repo}")
            }
            Self::Submodules { repo, at } => {
                write!(f, "the list of submodules of {} in {repo}", shortened(at))
            }
            Self::Submodule { repo, at, url, .. } => {
                write!(f, "the submodule {} of {repo}, {url},", shortened(at))
            }
        }
    }
}

/// A path as long as one reads.
fn shortened(path: &Path) -> String {
    path.to_string_lossy().chars().take(300).collect()
}

impl Subject<'_> {
    fn repo(&self) -> &RepoId {
        match self {
            Self::Repository { repo, .. }
            | Self::Submodules { repo, .. }
            | Self::Submodule { repo, .. } => repo,
        }
    }

    /// What helps where it is not there, or not for everybody to see.
    fn remedy(&self) -> String {
        match self {
            Self::Submodule {
                own: Some(own),
                has_tokens: true,
                ..
            } => format!(
                "if {own} is private, add it to the drone's scope with `--repo {own}`; or {WITHOUT}"
            ),
            Self::Submodule { own: Some(own), .. } => format!(
                "if {own} is private, it needs the GitHub App (github.app_id and \
                 github.private_key_file) installed on it; or {WITHOUT}"
            ),
            Self::Submodule { .. } => {
                format!("a drone has no credentials for servers other than GitHub; {WITHOUT}")
            }
            Self::Repository { repo, .. } | Self::Submodules { repo, .. } => format!(
                "check the spelling of {repo}; a private repository needs the GitHub App \
                 (github.app_id and github.private_key_file) installed on it"
            ),
        }
    }

    /// The refusal of what no protocol of a drone's leads to.
    fn is_out_of_reach(&self) -> Error {
        Error::new(
            Code::GithubRefused,
            format!("{self} cannot be fetched: it is not on this server's GitHub and its URL is not https"),
        )
        .hint(format!("fix its URL in .gitmodules, or {WITHOUT}"))
    }

    /// The line of git's that says why.
    fn reason<'a>(&self, said: &'a str) -> Option<&'a str> {
        let mut lines = said
            .lines()
            .filter(|line| line.starts_with("fatal:") || line.starts_with("error:"));
        match self {
            // The later ones say only that it failed, and was tried twice.
            Self::Submodule { .. } => lines.next(),
            _ => lines.next_back(),
        }
    }
}

/// What git's last words mean.
fn refusal(subject: &Subject<'_>, said: &str, full: bool) -> Error {
    // Why there was no token.
    let helper = said
        .lines()
        .filter_map(|line| line.strip_prefix("hatchery: "));
    meaning(subject, said, full).with_details(helper.map(str::to_owned))
}

fn meaning(subject: &Subject<'_>, said: &str, full: bool) -> Error {
    let says = |parts: &[&str]| parts.iter().any(|part| said.contains(part));
    let reason = subject
        .reason(said)
        .unwrap_or("git gave no reason")
        .to_owned();
    if let Some(why) = said.lines().find(|line| line.contains(cage::FAILED)) {
        return Error::new(Code::HostFailed, format!("git was not started: {why}"))
            .hint("`hatchery doctor` checks the cage in which it runs and shows what to do");
    }
    if full || says(&["No space left on device", "Disk quota exceeded"]) {
        return Error::new(
            Code::DiskFull,
            format!("the disk is full: {} cannot be cloned", subject.repo()),
        )
        .hint("free some space where hatchery keeps its clones, then try again");
    }
    if says(&[
        "could not read Username",
        "Authentication failed",
        "not found",
        "Repository not found",
    ]) {
        return Error::new(
            Code::RepositoryNotFound,
            format!("{subject} does not exist or is not visible without a token"),
        )
        .hint(subject.remedy());
    }
    if says(&[
        "Could not resolve host",
        "Failed to connect",
        "Connection refused",
        "Connection timed out",
        "Connection reset",
        "Operation too slow",
        "Couldn't connect",
        "Network is unreachable",
        "early EOF",
        "The requested URL returned error: 5",
    ]) {
        return Error::new(Code::GithubAway, format!("{subject} cannot be reached"))
            .hint("check this server's network and DNS, then try again")
            .because(reason);
    }
    let hint = match subject {
        Subject::Repository { .. } => {
            "try to clone it with `git clone` by hand on this server".to_owned()
        }
        _ => format!("fix .gitmodules or the submodule's repository, or {WITHOUT}"),
    };
    Error::new(Code::GithubRefused, format!("{subject} cannot be cloned"))
        .hint(hint)
        .because(reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_git_says_becomes_what_it_means() {
        let repo: RepoId = "acme/site".parse().unwrap();
        for (said, code) in [
            (
                "fatal: could not read Username for 'https://github.com': terminal prompts disabled",
                Code::RepositoryNotFound,
            ),
            (
                "remote: Repository not found.\nfatal: repository 'https://github.com/a/b/' not found",
                Code::RepositoryNotFound,
            ),
            (
                "fatal: unable to access 'https://github.com/a/b/': Could not resolve host: github.com",
                Code::GithubAway,
            ),
            (
                "error: file write error: No space left on device\nfatal: unable to write",
                Code::DiskFull,
            ),
            ("fatal: bad object", Code::GithubRefused),
            ("", Code::GithubRefused),
        ] {
            let subject = Subject::Repository {
                repo: &repo,
                url: "https://github.com/a/b",
            };
            assert_eq!(refusal(&subject, said, false).code(), code, "{said}");
        }
    }

    #[test]
    fn a_submodule_is_named_with_what_helps() {
        let (repo, own) = ("acme/site".parse().unwrap(), "acme/vault".parse().unwrap());
        let subject = Subject::Submodule {
            repo: &repo,
            at: Path::new("lib/vault"),
            url: "git@github.com:acme/vault".to_owned(),
            own: Some(&own),
            has_tokens: true,
        };
        let said = "Cloning into '/var/cache/x'...\nhatchery: this drone has no access to acme/vault\n\
                    fatal: could not read Username for 'https://github.com': terminal prompts disabled\n\
                    fatal: clone of 'x' into submodule path 'y' failed";
        let error = refusal(&subject, said, false);
        assert_eq!(error.code(), Code::RepositoryNotFound);
        assert_eq!(
            error.message(),
            "the submodule lib/vault of acme/site, git@github.com:acme/vault, does not exist or is \
             not visible without a token"
        );
        assert!(error.what_next().unwrap().contains("--repo acme/vault"));
        assert_eq!(error.details(), ["this drone has no access to acme/vault"]);
        let said = "fatal: bad object\nfatal: clone of 'x' failed";
        let error = refusal(&subject, said, false);
        assert!(
            error
                .message()
                .ends_with("cannot be cloned: fatal: bad object")
        );
    }
}
