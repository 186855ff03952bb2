//! Cloning: git, told to trust nothing but the server that it was sent to.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use bytesize::ByteSize;
use tokio::io::AsyncReadExt;
use tokio::process::Command;
use url::Url;

use crate::cage::{self, Rules};
use crate::config;
use crate::docker;
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
    /// Where from.
    pub github: &'a config::Github,
    /// What.
    pub repo: &'a RepoId,
    /// With its submodules.
    pub submodules: bool,
    /// The newest commit of the default branch alone.
    pub shallow: bool,
    /// What a token is asked of, where one is needed.
    pub tokens: Option<Tokens<'a>>,
    /// The most that the clone may be.
    pub most: Size,
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
    let Job {
        github,
        repo,
        submodules,
        shallow,
        tokens,
        ..
    } = *job;
    let url = url_of(github, repo);
    let mut command = caged(job, into, cage)?;
    command
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_ASKPASS", "true")
        .env("LC_ALL", "C");
    if let Some(ca) = &github.ca_file {
        command.env("GIT_SSL_CAINFO", ca);
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
    if submodules {
        // A submodule with an ssh URL is fetched the only way that a drone has.
        command.args(["-c", &ssh_rewrite(&github.url)]);
    }
    command.args(["clone", "--progress", "--template="]);
    if submodules {
        command.arg("--recurse-submodules");
    }
    if shallow {
        command.arg("--depth=1");
    }
    command.args(["--", &url]).arg(into);
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut group = Group::spawn(&mut command, "git")?;
    let stderr = group.child().stderr.take();
    let working = async {
        let said = match stderr {
            Some(stderr) => last_words(stderr, progress).await,
            None => String::new(),
        };
        (said, group.wait().await)
    };
    let (said, status) = tokio::select! {
        ended = working => ended,
        () = outgrows(into, job.most) => return Err(too_large(repo, job.most)),
    };
    if status?.success() {
        // What came after the last look.
        if is_more_than(into, job.most).await {
            return Err(too_large(repo, job.most));
        }
        return Ok(());
    }
    let refusal = refusal(repo, &url, &said, is_full(into));
    // Why there was no token.
    let helper = said
        .lines()
        .filter_map(|line| line.strip_prefix("hatchery: "));
    Err(refusal.with_details(helper.map(str::to_owned)))
}

/// git in its cage: it writes beside the clone, and reads its own files and the drone's socket.
fn caged(job: &Job<'_>, into: &Path, cage: &Path) -> Result<Command> {
    let git = process::found("git")?;
    let mut rules = Rules::of_system()
        .program(&git)
        .write(into.parent().unwrap_or(into))
        .hide(docker::socket_of(job.hidden_host));
    if let Some(ca) = &job.github.ca_file {
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
        format!("the clone of {repo} is more than {bytes} or {files} files"),
    )
    .hint(
        "raise limits.clone or limits.clone_files in the configuration, if this server has the room \
         for it",
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
            format!("git cannot be told of {}", path.display()),
        )
        .hint("install hatchery at a path without quotes")),
    }
}

fn ssh_rewrite(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    format!("url.https://{host}/.insteadOf=git@{host}:")
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

/// What git's last words mean.
fn refusal(repo: &RepoId, url: &str, said: &str, full: bool) -> Error {
    let says = |parts: &[&str]| parts.iter().any(|part| said.contains(part));
    let last = said
        .lines()
        .rev()
        .find(|line| line.starts_with("fatal:") || line.starts_with("error:"))
        .unwrap_or("git said nothing")
        .to_owned();
    if let Some(why) = said.lines().find(|line| line.contains(cage::FAILED)) {
        return Error::new(Code::HostFailed, format!("git was not started: {why}"))
            .hint("`hatchery doctor` tries the cage in which it runs and says what to do");
    }
    if full || says(&["No space left on device", "Disk quota exceeded"]) {
        return Error::new(
            Code::DiskFull,
            format!("the disk is full: {repo} cannot be cloned"),
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
            format!("{url} does not exist or is not visible without a token"),
        )
        .hint(format!(
            "check the spelling of {repo}; a private repository needs the GitHub App \
             (github.app_id and github.private_key_file) installed on it"
        ));
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
        return Error::new(Code::GithubAway, format!("{url} cannot be reached"))
            .hint("check this server's network and DNS, then try again")
            .because(last);
    }
    Error::new(Code::GithubRefused, format!("{url} cannot be cloned"))
        .hint("try `git clone` of it by hand on this server")
        .because(last)
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
            assert_eq!(
                refusal(&repo, "https://github.com/a/b", said, false).code(),
                code,
                "{said}"
            );
        }
    }
}
