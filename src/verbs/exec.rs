//! `hatchery exec`

use std::io::Read;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use super::Context;
use super::inside::Running;
use crate::docker::{self, Broken, Docker, Setting};
use crate::error::{Code, Error, Result};
use crate::life::furnish;
use crate::life::furnish::accounts::Accounts;
use crate::ssh::environment;
use crate::ui::raw::{self, Raw};

/// What the drone's shell does before it becomes the command: it goes to the folder, or the command is not run.
/// Docker would make a folder that is gone, as root.
const BEGIN: &str = r#"cd "$1" || exit 1; unset OLDPWD; shift; exec "$@""#;
/// Before that it reads a line, which hatchery sends. The end of an input from which nothing was read may come
/// before containerd has opened the input. It is then lost, and the command does not end.
const FIRST_LINE: &str = "read -r hatchery_begins; ";
/// How much is read of standard input at a time, in bytes, and how many of these wait.
const CHUNK: usize = 32 * 1024;
const WAITING: usize = 4;
/// How long the end of a command may take to be seen that takes no signal any more.
const GRACE: Duration = Duration::from_secs(1);
/// What a shell shows of a program that wrote to where nobody reads (128 + SIGPIPE).
const NOBODY_READS: u8 = 141;

/// Run a command in a drone, without ssh
///
/// The command runs as the remote user, in the workspace, with the devcontainer's environment. It reads
/// hatchery's standard input, and hatchery exits with its status.
#[derive(Debug, Args)]
pub struct Exec {
    /// org/repo or the drone's name
    #[arg(value_name = "DRONE")]
    drone: String,

    /// Allocate a terminal; standard input must be one
    #[arg(short = 't', long = "tty")]
    terminal: bool,

    /// The program and its arguments; they are not passed through a shell
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

impl Exec {
    pub async fn run(self, context: &Context<'_>) -> Result<ExitCode> {
        if self.terminal && !raw::is_there() {
            return Err(
                Error::new(Code::Usage, "-t needs a terminal on standard input")
                    .hint("leave out -t to run the command without a terminal"),
            );
        }
        let docker = context.docker().await?;
        let there = context.running(&docker, &self.drone).await?;
        let setting = Setting {
            user: &there.user,
            directory: Some("/"),
            environment: environment_of(context, &docker, &there, self.terminal).await?,
        };
        let begin = if self.terminal {
            BEGIN.to_owned()
        } else {
            format!("{FIRST_LINE}{BEGIN}")
        };
        let argv: Vec<&str> = ["/bin/sh", "-c", &begin, "sh", &there.folder]
            .into_iter()
            .chain(self.command.iter().map(String::as_str))
            .collect();
        context.ui.finish();
        // From here on they are the command's.
        let mut signals = Signals::new().map_err(of_this_server)?;
        let inside = docker.inside(there.container.id());
        let (running, streams) = inside.start(&setting, &argv, self.terminal).await?;
        let raw = self.terminal.then(Raw::enter).transpose();
        let raw = raw.map_err(of_this_server)?;
        let passing = streams.pass(
            stdin(self.terminal),
            tokio::io::stdout(),
            tokio::io::stderr(),
        );
        let passed = tokio::select! {
            passed = passing => Ok(passed),
            error = attended(&running, &mut signals, self.terminal) => Err(error),
        };
        drop(raw);
        ended(&running, passed?).await
    }
}

/// The environment of a session of ssh's, with what sshd adds to it.
async fn environment_of(
    context: &Context<'_>,
    docker: &Docker,
    there: &Running,
    terminal: bool,
) -> Result<Vec<String>> {
    let (container, user) = (&there.container, there.user.as_str());
    let accounts = Accounts::of(docker, container.id()).await?;
    let own: Vec<&str> = container.environment().collect();
    let metadata = furnish::metadata(container).unwrap_or_default();
    let term = std::env::var("TERM").ok().filter(|_| terminal);
    let of_the_user = [
        ("USER", Some(user)),
        ("LOGNAME", Some(user)),
        ("HOME", accounts.home(user)),
        ("SHELL", accounts.shell(user)),
        ("TERM", term.as_deref()),
    ];
    let of_the_user = of_the_user.into_iter();
    let mut all = environment::over(&own, &metadata);
    let secrets = context.config.secrets(&there.drone.identity)?;
    secrets.lay_over(&mut all);
    all.extend(of_the_user.filter_map(|(name, value)| Some(format!("{name}={}", value?))));
    Ok(all)
}

/// Hands on what comes to hatchery and is meant for the command: its signals and its window's size. Comes back
/// where the command is not to be waited for any more: it could not be sent a signal, or there came a second.
async fn attended(running: &docker::Running, signals: &mut Signals, terminal: bool) -> Error {
    let mut told = false;
    let mut next = Some(Came::Size);
    loop {
        match next.take() {
            Some(Came::Signal(name)) => {
                let sent = running.signal(name).await;
                if !sent {
                    // It may just have ended, and its status is then on the way.
                    tokio::time::sleep(GRACE).await;
                }
                if told || !sent {
                    return Error::new(Code::Interrupted, "interrupted").hint(
                        "the command may still be running in the drone; check with `ps` there",
                    );
                }
                told = true;
            }
            Some(Came::Size) if terminal => {
                if let Some((rows, columns)) = raw::size() {
                    running.resize(rows, columns).await;
                }
            }
            Some(Came::Size) => {}
            None => next = Some(signals.next().await),
        }
    }
}

/// The exit status of a command whose output has come to its end.
async fn ended(running: &docker::Running, passed: Result<(), Broken>) -> Result<ExitCode> {
    match passed {
        Ok(()) => {
            let status = running.status().await?;
            Ok(u8::try_from(status).map_or(ExitCode::FAILURE, ExitCode::from))
        }
        Err(Broken::Docker(error)) => Err(Error::new(
            Code::DockerAway,
            "the Docker daemon went away while the command ran",
        )
        .hint("check `systemctl status docker`; the command may still be running in the drone")
        .because(error)),
        Err(Broken::Own(error)) => {
            running.signal("HUP").await;
            if error.kind() == std::io::ErrorKind::BrokenPipe {
                return Ok(ExitCode::from(NOBODY_READS));
            }
            let what = "cannot write the command's output";
            Err(Error::new(Code::HostFailed, what).because(error))
        }
    }
}

/// What comes on standard input, after the line that begins a command without a terminal. A thread reads it,
/// which nobody waits for: it may never come to an end.
fn stdin(terminal: bool) -> mpsc::Receiver<Vec<u8>> {
    let (to, from) = mpsc::channel(WAITING);
    std::thread::spawn(move || {
        if !terminal && to.blocking_send(b"\n".to_vec()).is_err() {
            return;
        }
        let mut stdin = std::io::stdin().lock();
        let mut buffer = vec![0; CHUNK];
        loop {
            match stdin.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) => {
                    if to.blocking_send(buffer[..length].to_vec()).is_err() {
                        break;
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
    });
    from
}

fn of_this_server(error: std::io::Error) -> Error {
    Error::new(Code::HostFailed, "cannot prepare to run the command").because(error)
}

/// What hatchery is told while the command runs.
enum Came {
    /// A signal, as `kill` names it.
    Signal(&'static str),
    /// The window has another size.
    Size,
}

/// The signals that end hatchery otherwise, and the window's.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
    quit: Signal,
    window: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
            quit: signal(SignalKind::quit())?,
            window: signal(SignalKind::window_change())?,
        })
    }

    async fn next(&mut self) -> Came {
        tokio::select! {
            _ = self.interrupt.recv() => Came::Signal("INT"),
            _ = self.terminate.recv() => Came::Signal("TERM"),
            _ = self.hangup.recv() => Came::Signal("HUP"),
            _ = self.quit.recv() => Came::Signal("QUIT"),
            _ = self.window.recv() => Came::Size,
        }
    }
}
