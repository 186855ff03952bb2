//! Running the devcontainer CLI: what it is given, what it says, how it ends.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::process::Command;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use super::contexts;
use super::guard;
use super::last_lines::LastLines;
use super::lifecycle::Stage;
use super::shim::{Answer, MAX_MESSAGE, SETTINGS_FILE, Settings, Word};
use crate::cage::{self, Rules};
use crate::config::Dotfiles;
use crate::devcontainer::building::Build;
use crate::docker;
use crate::drone::Identity;
use crate::error::{Code, Error, Result, host_io};
use crate::host::transcript::Pieces;
use crate::host::{self, Transcript, Workshop};
use crate::outlet::Outlet;
use crate::process::{self, Group};
use crate::repo::RepoId;
use crate::secret::Environment;
use crate::ui::clean;

/// The oldest major version of Node that the CLI runs on (`engines` of its package.json, 0.89).
const NODE: u32 = 20;

/// How long compose 1 waits for an answer of Docker's: longer than joining a tailnet may take.
const START_WITHIN: Duration = Duration::from_secs(30 * 60);

/// How many shims are heard at once; the CLI calls one after the other.
const MAX_SHIMS: usize = 16;

/// How long a shim may take to send its message.
const SAID_WITHIN: Duration = Duration::from_secs(60);

/// Where the CLI keeps what it has fetched and generated, in the workshop.
pub const TEMPORARY: &str = "tmp";

/// The names of secret variables with their stand-ins, in the workshop.
const SECRETS_FILE: &str = "secrets.json";

/// The size of the pipe for the CLI's log, in bytes: what Linux gives to every user (pipe(7), pipe-max-size).
const PIPE: usize = 1024 * 1024;

/// The longest result that the CLI may print, in bytes.
const MAX_RESULT: u64 = 1024 * 1024;

/// What `devcontainer up` is run with.
#[derive(Debug)]
pub struct Up<'a> {
    /// The CLI's command: a name on the PATH, or a path.
    pub command: &'a str,
    /// The checkout on the host.
    pub checkout: &'a Path,
    /// The configuration that it reads in place of the repository's.
    pub override_config: &'a Path,
    /// Whose container it is.
    pub identity: &'a Identity,
    /// Where the CLI has its home.
    pub workshop: &'a Workshop,
    /// A text that no other drone has, the same in every spawn of this one.
    pub token: &'a str,
    /// Where it finds Docker, as in `DOCKER_HOST`.
    pub docker_host: &'a str,
    /// Docker's own address, as in `DOCKER_HOST`. Its socket is hidden from the CLI.
    pub hidden_host: &'a str,
    /// The rules for what the shim checks before anything is built; `None` for a trusted repository.
    pub guard: Option<guard::Rules>,
    /// Whether hatchery builds the images, when the CLI asks for them ([`Event::Build`]); otherwise Docker
    /// does.
    pub asks_for_builds: bool,
    /// Whether to leave `syntax` out of Dockerfiles (`--omit-syntax-directive`): for an old Docker the CLI
    /// would add one, which the builder does not need.
    pub omits_syntax: bool,
    /// Certificates to trust beside the usual ones.
    pub ca_file: Option<&'a Path>,
    /// How it reaches the network; `None` means as hatchery itself does.
    pub outlet: Option<&'a Outlet>,
    /// Whether it runs in its cage.
    pub caged: bool,
    /// Further paths that it may read in the cage, and run programs from.
    pub readable: &'a [PathBuf],
    /// Variables for lifecycle commands. The CLI gets stand-ins for the values, which the door replaces.
    pub secrets: &'a Environment,
    /// The dotfiles that are installed in the user's home.
    pub dotfiles: &'a Dotfiles,
    /// Where the output of builders and lifecycle commands is kept, if anywhere.
    pub transcript: Option<Transcript>,
}

/// What happens while it runs.
#[derive(Debug)]
pub enum Event {
    /// A step began; this is its name for a person.
    Step(String),
    /// A line of output of the builder or of a lifecycle command.
    Line(String),
    /// Something failed that the drone can do without.
    Warning(String),
    /// The gate refuses what it was about to build; nothing of it was built.
    Refused(Error),
    /// An image is to be built, for which it waits.
    Build(Asked),
    /// It has ended.
    Ended(Outcome),
}

/// A build that the CLI has asked for. Dropping this without [`Self::is_built`] means that the build failed.
#[derive(Debug)]
pub struct Asked {
    /// What is to be built. It is not judged yet.
    pub build: Box<Build>,
    lines: broadcast::Sender<String>,
    done: oneshot::Sender<()>,
}

impl Asked {
    /// Passes on a line of the builder's output.
    pub fn line(&self, line: &str) {
        let _ = self.lines.send(line.to_owned());
    }

    /// The build succeeded: Docker has the image.
    pub fn is_built(self) {
        let _ = self.done.send(());
    }
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Everything ran, as far as the CLI can tell.
    Success {
        /// The container's id.
        container: String,
        /// The user that a person works as.
        remote_user: String,
    },
    /// Something failed.
    Failed {
        /// The CLI's message, without command lines.
        message: String,
        /// The container, where it stays: a lifecycle command failed in it.
        container: Option<String>,
        /// The step that began last.
        step: Option<String>,
        /// The lifecycle command that failed, or that was the last to begin; `None` if none had begun.
        failed: Option<Failed>,
        /// The last lines of output.
        last_lines: Vec<String>,
    },
}

/// A lifecycle command that has failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// The property that it belongs to.
    pub stage: Stage,
    /// The property's name. For one of several commands, its own name comes first: `web of postCreateCommand`.
    pub command: String,
    /// Its exit status, where it ended by itself.
    pub status: Option<i64>,
}

/// The CLI at work. Dropping it kills it with all that it started.
#[derive(Debug)]
pub struct Running {
    events: mpsc::Receiver<Event>,
    stage: watch::Receiver<Option<Stage>>,
    task: tokio::task::JoinHandle<()>,
}

impl Running {
    /// Waits for the next event. The last one is [`Event::Ended`].
    pub async fn next(&mut self) -> Event {
        self.events.recv().await.unwrap_or_else(|| {
            Event::Ended(Outcome::Failed {
                message: "the devcontainer CLI's process was lost".to_owned(),
                container: None,
                step: None,
                failed: None,
                last_lines: Vec::new(),
            })
        })
    }
}

impl Running {
    /// The lifecycle command that is running, in a channel that always has the latest one: events may be
    /// dropped.
    pub fn stage(&self) -> watch::Receiver<Option<Stage>> {
        self.stage.clone()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Starts `devcontainer up`.
pub fn up(up: &Up<'_>) -> Result<Running> {
    // For this run alone: a spawn may need a second one, and what is left of the first must not be
    // heard there.
    let (listener, control) = host::listen(up.workshop.path())?;
    let bin = shim(up, &control)?;
    let home = up.workshop.directory("home")?;
    contexts::share_copies(&home, up.token)?;
    let temporary = up.workshop.directory(TEMPORARY)?;

    let program = process::found(up.command)?;
    let mut command = if up.caged {
        let rules = rules(&program, up.ca_file, up.readable)?;
        let ports = up.outlet.map(Outlet::port);
        ports
            .into_iter()
            .fold(rules, Rules::connect)
            .read(up.workshop.path())
            .write(&home)
            .write(&temporary)
            .hide(docker::socket_of(up.hidden_host))
            .supervised(&bin, &program)?
    } else {
        process::supervised_at(&program)
    };
    command
        .env("HOME", home)
        .env("TMPDIR", temporary)
        .env("DOCKER_HOST", up.docker_host)
        // The server's own is no affair of a repository's.
        .env("GIT_CONFIG_NOSYSTEM", "1")
        // Compose goes by the project's name alone: two repositories with folders of one name
        // would share their containers.
        .env("COMPOSE_PROJECT_NAME", up.identity.name.as_str())
        // The start of the drone waits until it was furnished; compose 1 waits a minute by itself.
        .env("COMPOSE_HTTP_TIMEOUT", START_WITHIN.as_secs().to_string())
        .current_dir(up.workshop.path())
        .args(["up", "--log-format", "json", "--no-lockfile"])
        .args(["--update-remote-user-uid-default", "never"])
        // It is for editors, and may never end: a server, a log that is followed.
        .arg("--skip-post-attach")
        .arg("--workspace-folder")
        .arg(up.checkout)
        .arg("--override-config")
        .arg(up.override_config)
        .arg("--docker-path")
        .arg(bin.join("docker"))
        .arg("--docker-compose-path")
        .arg(bin.join("docker-compose"));
    if let Some(ca) = up.ca_file {
        command.env("NODE_EXTRA_CA_CERTS", ca);
    }
    if let Some(outlet) = up.outlet {
        outlet.lead(&mut command);
    }
    if up.omits_syntax {
        command.arg("--omit-syntax-directive");
    }
    if !up.secrets.is_empty() {
        let file = up.workshop.path().join(SECRETS_FILE);
        let stand_ins = serde_json::json!(up.secrets.stand_ins()).to_string();
        std::fs::write(&file, stand_ins).map_err(|error| host_io("write", &file, error))?;
        command.arg("--secrets-file").arg(file);
    }
    if let Some(repository) = &up.dotfiles.repository {
        command.arg("--dotfiles-repository").arg(repository);
    }
    if let Some(install) = &up.dotfiles.install {
        command.arg("--dotfiles-install-command").arg(install);
    }
    // The scope is the door's to write.
    for (key, value) in up.identity.lasting_labels() {
        command.arg("--id-label").arg(format!("{key}={value}"));
    }
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let group = Group::spawn(&mut command, up.command)?;
    let (sender, events) = mpsc::channel(64);
    let log = Log {
        secrets: up.secrets.clone(),
        transcript: up.transcript.clone(),
        ..Log::default()
    };
    let stage = log.stage.subscribe();
    let hearing = hear(listener, sender.clone());
    let task = tokio::spawn(attend(group, hearing, sender, log));
    Ok(Running {
        events,
        stage,
        task,
    })
}

/// The cage's rules for the CLI and all that it starts, wherever they are installed. `program` is the CLI;
/// `readable` are further paths to read and to run programs from.
pub fn rules(program: &Path, ca_file: Option<&Path>, readable: &[PathBuf]) -> Result<Rules> {
    let others = ["node", "docker", "docker-compose"];
    let others = others.into_iter().filter_map(process::find);
    let mut rules = Rules::of_system()
        .program(program)
        .program(&process::own_path()?);
    rules = others.fold(rules, |rules, other| rules.program(&other));
    rules = ca_file.into_iter().fold(rules, Rules::read);
    Ok(readable.iter().fold(rules, |rules, path| rules.run(path)))
}

/// Checks that the CLI is there and that the Node it runs on is new enough.
pub async fn check(command: &str) -> Result<()> {
    let missing = || {
        Error::new(
            Code::ProgramMissing,
            format!("the devcontainer CLI ({command}) is not installed"),
        )
        .hint("install it with `npm install -g @devcontainers/cli`, or set devcontainer.command to its path")
    };
    let path = process::find(command).ok_or_else(missing)?;
    let mut start = [0; 64];
    let read = std::fs::File::open(&path)
        .and_then(|mut file| std::io::Read::read(&mut file, &mut start))
        .map_err(|error| missing().because(error))?;
    let first_line = String::from_utf8_lossy(&start[..read]);
    // A wrapper brings a Node of its own.
    if !first_line.starts_with("#!/usr/bin/env node") {
        return Ok(());
    }
    let output = Command::new("node")
        .arg("--version")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|error| {
            Error::new(Code::ProgramMissing, "node is not installed")
                .hint(format!("the devcontainer CLI needs Node {NODE} or newer"))
                .because(error)
        })?;
    let version = String::from_utf8_lossy(&output.stdout);
    let major = version
        .trim()
        .strip_prefix('v')
        .and_then(|version| version.split('.').next())
        .and_then(|major| major.parse::<u32>().ok());
    match major {
        Some(major) if major < NODE => Err(Error::new(
            Code::NodeTooOld,
            format!(
                "node is {}; the devcontainer CLI needs {NODE} or newer",
                version.trim()
            ),
        )
        .hint("the npm package `node` provides a newer one: `npm install -g node@22`")),
        _ => Ok(()),
    }
}

/// Checks that Docker's command has compose, or that there is a `docker-compose`.
pub async fn check_compose(repo: &RepoId) -> Result<()> {
    if process::find("docker-compose").is_some() || plugin("compose").await.is_some() {
        return Ok(());
    }
    Err(Error::new(
        Code::ProgramMissing,
        format!("docker compose is not installed, and {repo} uses a compose file"),
    )
    .hint(COMPOSE_HINT))
}

/// How compose is installed.
pub const COMPOSE_HINT: &str = "install the package docker-compose-plugin (Docker's own), \
    docker-compose-v2 (Ubuntu) or docker-compose (Debian)";

/// The first line that a plugin of Docker's command says of its version; `None` if it is missing or gives no
/// answer in time.
pub async fn plugin(name: &str) -> Option<String> {
    let mut command = Command::new(process::find("docker")?);
    process::emptied(&mut command);
    command
        .args([name, "version"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    let output = tokio::time::timeout(process::VERSION_WITHIN, command.output()).await;
    let output = output.ok()?.ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let first = clean::line(text.lines().next().unwrap_or_default().trim());
    (output.status.success() && !first.is_empty()).then_some(first)
}

/// Makes a directory with hatchery under docker's names, and its settings as a shim.
fn shim(up: &Up<'_>, control: &Path) -> Result<PathBuf> {
    let bin = up.workshop.directory("bin")?;
    let docker = process::find("docker").ok_or_else(|| {
        Error::new(Code::ProgramMissing, "the docker command is not installed")
            .hint("install Docker's command line tool; the devcontainer CLI needs it")
    })?;
    let settings = Settings {
        buildkit: builds_with_buildkit(&docker),
        docker,
        compose: process::find("docker-compose"),
        control: control.to_owned(),
        temporary: up.workshop.path().join(TEMPORARY),
        labels: up
            .identity
            .labels()
            .into_iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect(),
        drone: up.identity.name.to_string(),
        guard: up.guard.clone(),
        own_builder: up.asks_for_builds,
    };
    let file = bin.join(SETTINGS_FILE);
    let text = serde_json::json!(settings).to_string();
    std::fs::write(&file, text).map_err(|error| host_io("write", &file, error))?;
    let own = process::own_path()?;
    for name in ["docker", "docker-compose"] {
        let link = bin.join(name);
        match std::os::unix::fs::symlink(&own, &link) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(host_io("create", &link, error));
            }
            _ => {}
        }
    }
    Ok(bin)
}

/// Whether docker's command builds with its own `BuildKit`. Before version 23 it has one; later versions need
/// the buildx plugin, which the devcontainer CLI finds by itself.
fn builds_with_buildkit(docker: &Path) -> bool {
    let output = std::process::Command::new(docker).arg("--version").output();
    let major = output.ok().and_then(|output| {
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let version = text.strip_prefix("Docker version ")?;
        version.split('.').next()?.parse::<u32>().ok()
    });
    major.is_some_and(|major| (19..23).contains(&major))
}

/// Reads all that the CLI says until it ends.
async fn attend(
    mut group: Group,
    hearing: impl Future<Output = ()>,
    events: mpsc::Sender<Event>,
    mut log: Log,
) {
    let stdout = group.child().stdout.take();
    let stderr = group.child().stderr.take();
    if let Some(stderr) = &stderr {
        // When Node ends, it drops what does not fit into the pipe: the CLI's last words, of a command that has
        // said much. A smaller one does as well.
        let _ = rustix::pipe::fcntl_setpipe_size(stderr, PIPE);
    }
    let reading = async {
        if let Some(stderr) = stderr {
            let _ = process::lines(stderr, |line| {
                for event in log.read(line) {
                    // Progress is worth less than not standing still.
                    let _ = events.try_send(event);
                }
            })
            .await;
        }
    };
    let result = async {
        let mut text = String::new();
        if let Some(stdout) = stdout {
            let _ = stdout.take(MAX_RESULT).read_to_string(&mut text).await;
        }
        text
    };
    // What the CLI left running may hold its output open: with its own end the group's comes.
    let ending = async { tokio::join!(reading, result, group.wait()) };
    let ((), result, _) = tokio::select! {
        ended = ending => ended,
        () = hearing => return,
    };
    let _ = events.send(Event::Ended(outcome(&result, log))).await;
}

/// Serves the shims, several at once, until this is dropped.
async fn hear(listener: UnixListener, events: mpsc::Sender<Event>) {
    let mut answering = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if answering.len() < MAX_SHIMS => match accepted {
                Ok((stream, _)) => {
                    answering.spawn(answer(stream, events.clone()));
                }
                // Without a descriptor for it nobody is heard; one may be free soon.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            },
            Some(_) = answering.join_next() => {}
        }
    }
}

async fn answer(stream: UnixStream, events: mpsc::Sender<Event>) {
    let mut line = String::new();
    let (reading, mut writing) = stream.into_split();
    let mut reading = BufReader::new(reading.take(MAX_MESSAGE));
    let read = tokio::time::timeout(SAID_WITHIN, reading.read_line(&mut line));
    if !matches!(read.await, Ok(Ok(_))) {
        return;
    }
    match serde_json::from_str(&line) {
        Ok(Word::Refused(refused)) => {
            let error = Error::new(Code::GateRefused, clean::line(&refused.message));
            let error = error.hint(clean::line(refused.hint.as_deref().unwrap_or_default()));
            // Without an answer the shim, and the CLI behind it, stand still until they are stopped.
            if events.send(Event::Refused(error)).await.is_ok() {
                events.closed().await;
            }
        }
        Ok(Word::Build(build)) => {
            // Of more lines than can be told, the last are.
            let (lines, mut said) = broadcast::channel(256);
            let (done, is_done) = oneshot::channel();
            let asked = Asked { build, lines, done };
            if events.send(Event::Build(asked)).await.is_err() {
                return;
            }
            loop {
                match said.recv().await {
                    Ok(line) => tell(&mut writing, &Answer::Line(line)).await,
                    Err(RecvError::Lagged(count)) => {
                        let line = format!("({count} lines arrived too fast and are missing here)");
                        tell(&mut writing, &Answer::Line(line)).await;
                    }
                    Err(RecvError::Closed) => break,
                }
            }
            let answer = match is_done.await {
                Ok(()) => Answer::Built,
                Err(_) => Answer::Failed,
            };
            tell(&mut writing, &answer).await;
        }
        Err(_) => {}
    }
}

/// Sends an answer. A shim that has gone needs none, so errors do not matter.
async fn tell(writing: &mut OwnedWriteHalf, answer: &Answer) {
    if let Ok(mut line) = serde_json::to_vec(answer) {
        line.push(b'\n');
        let _ = writing.write_all(&line).await;
    }
}

/// The CLI's log, of which only what is harmless and telling is kept.
#[derive(Debug, Default)]
struct Log {
    /// What is not to be seen in it.
    secrets: Environment,
    last_lines: LastLines,
    step: Option<String>,
    failed: Option<Failed>,
    stage: watch::Sender<Option<Stage>>,
    /// The output of a command that failed. The next entry says which of several it was.
    unnamed: Vec<String>,
    /// A line that says why there is no log: the cage failed, or something may not be touched in it.
    denied: Option<String>,
    /// Where output is kept, if anywhere.
    transcript: Option<Transcript>,
    /// The beginning of a line for it.
    pieces: Pieces,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    text: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    status: String,
}

impl Log {
    fn read(&mut self, line: &str) -> Vec<Event> {
        // Some lines (a stack trace on failure) are not JSON and tell a person nothing.
        let Ok(mut entry) = serde_json::from_str::<Entry>(line) else {
            let telling = line.contains(cage::FAILED) || line.contains("ermission denied");
            if telling && self.denied.is_none() {
                let line = clean::line(line);
                self.denied = Some(line.chars().take(400).collect());
            }
            return Vec::new();
        };
        entry.text = self.secrets.hide(&entry.text).into_owned();
        match entry.kind.as_str() {
            "progress" if entry.status == "running" => {
                self.end_line();
                if let Some(stage) = Stage::begun(&entry.name) {
                    self.stage.send_replace(Some(stage));
                }
                let step = clean::line(entry.name.trim_end_matches('.'));
                self.step = Some(step.clone());
                self.last_lines.clear();
                self.said(&step);
                vec![Event::Step(step)]
            }
            "progress" if entry.status == "failed" && entry.name == DOTFILES => {
                vec![Event::Warning(self.without_dotfiles())]
            }
            // Command lines stand in "start" and "text" entries; with the environment in them.
            "start" => {
                self.end_line();
                let step = begun(&entry.text);
                if let Some(step) = step {
                    self.last_lines.clear();
                    self.said(step);
                }
                step.map(|step| Event::Step(step.to_owned()))
                    .into_iter()
                    .collect()
            }
            "raw" => {
                self.name_lines(None);
                let named = entry.text.strip_prefix(BOLD).and_then(|text| {
                    let (of, said) = text.strip_prefix("Running ")?.split_once("...")?;
                    Some((Stage::one_of(of)?, said))
                });
                let lines = match named {
                    Some((name, said)) => lines_of(Some(name), said),
                    None => lines_of(None, &entry.text),
                };
                let last = lines.last().cloned();
                if named.is_none() && entry.text.trim_start().starts_with(BOLD) {
                    self.unnamed = lines;
                } else {
                    match named {
                        Some(_) => self.keep(&lines),
                        None => self.keep_pieces(&entry.text),
                    }
                    for line in &lines {
                        self.last_lines.push(line);
                    }
                }
                last.map(Event::Line).into_iter().collect()
            }
            "text" => {
                let text = clean::line(&entry.text);
                let failed = text.split_once(" failed with exit code ");
                self.end_line();
                self.name_lines(failed.and_then(|(of, _)| Stage::one_of(of)));
                if let Some((of, status)) = failed
                    && let Some((stage, command)) = Stage::that_failed(of)
                {
                    let status: String = status.chars().take_while(char::is_ascii_digit).collect();
                    self.said(&format!("{command} failed with exit code {status}"));
                    // Of several, the first has stopped what comes after them.
                    self.failed.get_or_insert(Failed {
                        stage,
                        command,
                        status: status.parse().ok(),
                    });
                }
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    /// The warning that dotfiles could not be installed; the CLI goes on.
    fn without_dotfiles(&mut self) -> String {
        let last = Vec::from(std::mem::take(&mut self.last_lines));
        let last = last.last().map(|line| format!(": {line}"));
        let last = last.unwrap_or_default();
        format!(
            "the dotfiles were not installed{last}; run `git clone` in the drone by hand to see why"
        )
    }

    /// Keeps the lines of a command that failed, with its name where it is one of several.
    fn name_lines(&mut self, name: Option<&str>) {
        let lines = std::mem::take(&mut self.unnamed).into_iter();
        let lines: Vec<_> = lines.map(|line| of_one(name, line)).collect();
        for line in &lines {
            self.last_lines.push(line);
        }
        if !lines.is_empty() {
            self.keep(&lines);
        }
    }

    /// Writes a text of hatchery's own into the transcript.
    fn said(&self, text: &str) {
        if let Some(transcript) = &self.transcript {
            transcript.said(text);
        }
    }

    /// Writes lines of a command's output into the transcript.
    fn keep(&mut self, lines: &[String]) {
        self.end_line();
        if let Some(transcript) = &self.transcript {
            for line in lines {
                transcript.output(line);
            }
        }
    }

    /// Writes a piece of a command's output; its last line may continue in the next piece.
    fn keep_pieces(&mut self, text: &str) {
        if let Some(transcript) = &self.transcript {
            self.pieces
                .push(text.as_bytes(), |line| transcript.output(line));
        }
    }

    /// Ends the last line in the transcript, of which nothing more comes.
    fn end_line(&mut self) {
        if let Some(transcript) = &self.transcript {
            self.pieces.end(|line| transcript.output(line));
        }
    }
}

/// The step in which Docker builds an image for the devcontainer CLI.
pub const BUILDING: &str = "Building the image";

/// The devcontainer CLI's name for the step that installs dotfiles.
pub const DOTFILES: &str = "Installing Dotfiles";

/// Begins what the devcontainer CLI shows of one of several commands that run at once, and the output of one
/// that failed, which it shows as a whole after its end.
const BOLD: &str = "\u{1b}[1m";

/// The lines of a command, each with its name if it is one of several.
fn lines_of(name: Option<&str>, said: &str) -> Vec<String> {
    let lines = said.split(['\r', '\n']).map(clean::line);
    let lines = lines.filter(|line| !line.trim().is_empty());
    lines.map(|line| of_one(name, line)).collect()
}

fn of_one(name: Option<&str>, line: String) -> String {
    match name {
        Some(name) => format!("{}: {line}", clean::line(name)),
        None => line,
    }
}

fn begun(text: &str) -> Option<&'static str> {
    let of_interest = [
        ("docker build", BUILDING),
        ("docker buildx build", BUILDING),
        ("docker pull", "Pulling the image"),
        ("docker-compose", "Running compose"),
        ("compose", "Running compose"),
        ("Starting container", "Creating the container"),
    ];
    let text = text.strip_prefix("Run: ").unwrap_or(text);
    of_interest
        .iter()
        .find(|(part, _)| text.contains(part))
        .map(|(_, step)| *step)
}

fn outcome(result: &str, mut log: Log) -> Outcome {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Answer {
        outcome: String,
        container_id: Option<String>,
        remote_user: Option<String>,
        message: Option<String>,
        description: Option<String>,
    }
    log.name_lines(None);
    log.end_line();
    if let (Some(transcript), Some(denied)) = (&log.transcript, &log.denied) {
        transcript.output(denied);
    }
    let line = result.lines().rev().find(|line| line.starts_with('{'));
    let answer = line.and_then(|line| serde_json::from_str::<Answer>(line).ok());
    let begun = *log.stage.borrow();
    let Log {
        last_lines,
        step,
        failed,
        denied,
        ..
    } = log;
    // What the log says of it may be lost, and with it the status; and so may the result.
    let described = answer.as_ref().and_then(|answer| {
        let (stage, command) = Stage::that_failed(answer.description.as_deref()?)?;
        Some((stage, clean::line(&command)))
    });
    let at = described.or_else(|| begun.map(|stage| (stage, stage.to_string())));
    let failed = failed.or_else(|| {
        at.map(|(stage, command)| Failed {
            stage,
            command,
            status: None,
        })
    });
    let ended_badly = |message: String, container| Outcome::Failed {
        message,
        container,
        step,
        failed,
        last_lines: last_lines.into(),
    };
    match answer {
        Some(Answer {
            outcome,
            container_id: Some(container),
            remote_user: Some(remote_user),
            ..
        }) if outcome == "success" => Outcome::Success {
            container,
            remote_user,
        },
        Some(answer) => ended_badly(
            harmless(answer.message.as_deref().unwrap_or("it gave no reason")),
            answer.container_id,
        ),
        None => ended_badly(
            denied.unwrap_or_else(|| "it ended without a result".to_owned()),
            None,
        ),
    }
}

/// The first line of the CLI's message. Of a command line only the first two words stay: the rest holds each
/// `-e KEY=VALUE`.
fn harmless(message: &str) -> String {
    let first = message.lines().next().unwrap_or_default();
    match first.split_once("Command failed: ") {
        Some((before, command)) => {
            let words: Vec<_> = command.split_whitespace().take(2).collect();
            let program = words.first().and_then(|word| word.rsplit('/').next());
            format!(
                "{before}Command failed: {} {}",
                program.unwrap_or_default(),
                words.get(1).unwrap_or(&"")
            )
        }
        None => first.chars().take(400).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_run_of_a_spawn_has_a_socket_of_its_own() {
        let workshop = tempfile::tempdir().unwrap();
        let (first, one) = host::listen(workshop.path()).unwrap();
        let (_second, other) = host::listen(workshop.path()).unwrap();
        assert!(one != other && one.exists() && other.exists());
        drop(first);
        assert!(UnixStream::connect(&one).await.is_err());
        assert!(UnixStream::connect(&other).await.is_ok());
    }

    #[test]
    fn a_failed_command_line_is_not_repeated() {
        let said =
            harmless("Command failed: /x/bin/docker run --sig-proxy=false -e TOKEN=s3cret image");
        assert_eq!(said, "Command failed: docker run");
    }

    #[test]
    fn no_secret_is_in_what_is_told() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "KEY=s3cret\n").unwrap();
        let mut log = Log {
            secrets: Environment::read([(file.path(), String::new())]).unwrap(),
            ..Log::default()
        };
        let raw = |text: &str| serde_json::json!({"type": "raw", "text": text}).to_string();
        let told = format!("{:?}", log.read(&raw("the key is s3cret.\r\n")));
        assert!(told.contains("the key is ********."), "{told}");
        let kept = Vec::from(log.last_lines);
        assert_eq!(kept, ["the key is ********."]);
    }

    #[test]
    fn dotfiles_that_fail_are_told_of_with_their_last_line() {
        let mut log = Log::default();
        let raw = serde_json::json!({"type": "raw", "text": "fatal: no such repository\r\n"});
        log.read(&raw.to_string());
        let failed = serde_json::json!({"type": "progress", "name": DOTFILES, "status": "failed"});
        let events = log.read(&failed.to_string());
        assert!(
            matches!(&events[..], [Event::Warning(warning)] if warning.contains("not installed: fatal: no such")),
            "{events:?}"
        );
    }

    #[test]
    fn the_result_is_the_last_line_that_is_one() {
        let log = Log::default();
        let success = outcome(
            "noise\n{\"outcome\":\"success\",\"containerId\":\"ab\",\"remoteUser\":\"node\"}\n",
            log,
        );
        assert_eq!(
            success,
            Outcome::Success {
                container: "ab".into(),
                remote_user: "node".into()
            }
        );
        assert!(matches!(
            outcome("", Log::default()),
            Outcome::Failed { .. }
        ));
    }

    #[test]
    fn which_command_failed_is_known_although_the_log_ends_before() {
        let result =
            r#"{"outcome":"error","message":"Command failed: /bin/sh -c x","containerId":"ab",
            "description":"web of postCreateCommand from devcontainer.json failed."}"#
                .replace('\n', "");
        let mut log = Log::default();
        let said =
            "web of postCreateCommand from devcontainer.json failed with exit code 3. Skipping.";
        let entry = serde_json::json!({"type": "text", "level": 3, "text": said}).to_string();
        for status in [None, Some(3)] {
            let Outcome::Failed { failed, .. } = outcome(&result, log) else {
                panic!("it failed")
            };
            let expected = Failed {
                stage: Stage::PostCreate,
                command: "web of postCreateCommand".to_owned(),
                status,
            };
            assert_eq!(failed, Some(expected));
            log = Log::default();
            log.read(&entry);
        }
    }

    #[test]
    fn why_there_is_no_result_is_told() {
        let mut log = Log::default();
        for line in [
            "hatchery: the cage failed: /x/cage.json: no such file",
            "Error: EACCES: permission denied, open '/y'",
        ] {
            assert!(log.read(line).is_empty());
        }
        let Outcome::Failed { message, .. } = outcome("", log) else {
            panic!("no result is a failure")
        };
        assert_eq!(
            message,
            "hatchery: the cage failed: /x/cage.json: no such file"
        );
    }

    #[test]
    fn lines_of_commands_that_run_at_once_have_their_names() {
        let mut log = Log::default();
        let mut read = |kind: &str, text: &str| {
            let entry = serde_json::json!({"type": kind, "level": 3, "text": text});
            let events = log.read(&entry.to_string());
            let last = events.into_iter().next_back();
            last.map(|event| match event {
                Event::Line(line) => line,
                other => panic!("{other:?}"),
            })
        };
        // As devcontainers/cli 0.89 writes it.
        let of = "of postCreateCommand from devcontainer.json";
        let said = read(
            "raw",
            &format!("\u{1b}[1mRunning web {of}...\u{1b}[0m\r\none\r\ntwo\r\n\r\n"),
        );
        assert_eq!(said.as_deref(), Some("web: two"));
        let said = read("raw", "\r\n\u{1b}[1mno such file\r\ngone\u{1b}[0m\r\n\r\n");
        assert_eq!(said.as_deref(), Some("gone"));
        let failed = format!(
            "\u{1b}[1m\u{1b}[31mdb {of} failed with exit code 3. Skipping any further commands.\u{1b}[39m"
        );
        assert_eq!(read("text", &failed), None);
        // One that runs alone.
        assert_eq!(read("raw", "alone\r\n").as_deref(), Some("alone"));
        let said = read(
            "raw",
            "\u{1b}[1mRunning the postCreateCommand from devcontainer.json...\u{1b}[0m\r\n\r\n",
        );
        assert_eq!(
            said.as_deref(),
            Some("Running the postCreateCommand from devcontainer.json...")
        );
        assert_eq!(
            read("raw", "\r\n\u{1b}[1mloud\u{1b}[0m\r\n").as_deref(),
            Some("loud")
        );
        let Outcome::Failed { last_lines, .. } = outcome("", log) else {
            panic!("no result is a failure")
        };
        let the = "Running the postCreateCommand from devcontainer.json...";
        let expected = [
            "web: one",
            "web: two",
            "db: no such file",
            "db: gone",
            "alone",
            the,
            "loud",
        ];
        assert_eq!(last_lines, expected);
    }

    #[test]
    fn the_transcript_has_every_line_and_no_argument() {
        use crate::drone::DroneName;
        use crate::host::Places;
        use crate::host::transcript::{Run, What};

        let place = tempfile::tempdir().unwrap();
        let places = Places::under(place.path());
        let drone = DroneName::from_label("acme-site").unwrap();
        let mut log = Log {
            transcript: Some(Transcript::begin(&places, &drone, What::Spawn).unwrap()),
            ..Log::default()
        };
        let of = "of postCreateCommand from devcontainer.json";
        for (kind, text) in [
            ("start", "Run: docker buildx build --build-arg A=s3cret ."),
            ("raw", "#1 a\r\n#1 b\r\n#2 c"),
            ("raw", "ut off\nand"),
            ("text", "docker run -e TOKEN=s3cret"),
            (
                "raw",
                &format!("\u{1b}[1mRunning web {of}...\u{1b}[0m\r\none\r\n"),
            ),
            ("raw", "\r\n\u{1b}[1mgone\u{1b}[0m\r\n\r\n"),
            (
                "text",
                &format!("\u{1b}[1mdb {of} failed with exit code 3. Skipping.\u{1b}[39m"),
            ),
            ("raw", "the end"),
        ] {
            let entry = serde_json::json!({"type": kind, "level": 3, "text": text});
            log.read(&entry.to_string());
        }
        let mut reader = Run::all(&places, &drone)[0].open().unwrap();
        outcome("", log);
        let lines = std::iter::from_fn(|| reader.next_line().unwrap());
        let lines: Vec<_> = lines
            .map(|line| format!("{}{}", if line.is_output { "| " } else { "" }, line.text))
            .collect();
        let expected = [
            "Building the image",
            "| #1 a",
            "| #1 b",
            "| #2 cut off",
            "| and",
            "| web: one",
            "| db: gone",
            "db of postCreateCommand failed with exit code 3",
            "| the end",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn a_start_entry_gives_no_argument_away() {
        let mut log = Log::default();
        let events = log.read(r#"{"type":"start","text":"Run: docker run -e TOKEN=s3cret x"}"#);
        assert!(events.is_empty());
        let events =
            log.read(r#"{"type":"start","text":"Run: docker build -f x --build-arg A=b ."}"#);
        assert!(matches!(&events[..], [Event::Step(step)] if step == "Building the image"));
    }
}
