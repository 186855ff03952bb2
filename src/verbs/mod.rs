//! The verbs: a file for each, its arguments and its steps side by side.

mod asked;
mod audit;
mod burrow;
mod ca;
mod check;
mod completions;
mod config;
mod cp;
mod detached;
mod doctor;
mod exec;
mod head;
mod inside;
mod limit;
mod list;
mod logs;
mod metrics;
mod open;
mod ports;
mod rebuild;
mod recover;
mod rerun;
#[cfg(test)]
mod samples;
mod scope;
mod slay;
mod spawn;
mod ssh;
mod ssh_config;
mod status;
mod timings;
mod unburrow;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

pub use self::completions::answer_shell;

use self::asked::Asked;
use crate::config::Config;
use crate::docker::{Docker, Drone};
use crate::drone::DroneName;
use crate::error::{Code, Error, Result};
use crate::host::Places;
use crate::life::disk::Disk;
use crate::life::known::known;
use crate::life::work;
use crate::repo::RepoId;
use crate::server::Server;
use crate::sockets::Sockets;
use crate::ssh::{Authority, ServerSecret};
use crate::ui::Ui;

/// Where the options of all verbs stand in the help of each: after its own, before --help (999).
const LAST: usize = 900;

/// Devcontainers on this server: one command from a GitHub repository to plain ssh.
///
/// Exit status: 0 success, 1 failure, 2 usage error, 3 not found, 4 already exists or is busy, 5 a limit is
/// reached, 6 refused by the gate, 7 GitHub or the tailnet refused or is unavailable, 130 interrupted. ssh,
/// cp and exec exit with the status of the command they run.
#[derive(Debug, Parser)]
#[command(name = "hatchery", version, max_term_width = 100)]
pub struct Cli {
    /// Use this configuration file [default: /etc/hatchery/config.toml, if it exists]
    #[arg(long, value_name = "FILE", env = "HATCHERY_CONFIG")]
    config: Option<PathBuf>,

    /// Print results and errors as JSON on standard output
    #[arg(long, global = true, display_order = LAST)]
    json: bool,

    /// Show all output of clones, builds and lifecycle commands on standard error
    #[arg(short, long, global = true, display_order = LAST)]
    verbose: bool,

    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Spawn(spawn::Spawn),
    Check(check::Check),
    List(list::List),
    Status(status::Status),
    Burrow(burrow::Burrow),
    Unburrow(unburrow::Unburrow),
    Rebuild(rebuild::Rebuild),
    Slay(slay::Slay),
    Ssh(ssh::Ssh),
    Exec(exec::Exec),
    Logs(logs::Logs),
    SshConfig(ssh_config::SshConfig),
    Cp(cp::Cp),
    Ports(ports::Ports),
    Open(open::Open),
    Audit(audit::Audit),
    Rerun(rerun::Rerun),
    Limit(limit::Limit),
    Metrics(metrics::Metrics),
    Recover(recover::Recover),
    Doctor(doctor::Doctor),
    Ca(ca::Ca),
    Config(config::Show),
    Completions(completions::Completions),
    #[command(hide = true)]
    ManPages(completions::ManPages),
}

impl Cli {
    /// Whether a script asked; it gets JSON for errors too.
    pub const fn json(&self) -> bool {
        self.json
    }

    /// Whether a person wants to see each line of whatever is at work.
    pub const fn verbose(&self) -> bool {
        self.verbose
    }

    /// Does it; the exit status is the verb's own where it has one.
    pub async fn run(self, ui: &Ui) -> Result<ExitCode> {
        match &self.verb {
            Verb::Completions(verb) => return verb.run().map(|()| ExitCode::SUCCESS),
            Verb::ManPages(verb) => return verb.run().map(|()| ExitCode::SUCCESS),
            _ => {}
        }
        let mut config = Config::load(self.config.as_deref())?;
        config.fit_to_this_server();
        if let Verb::Check(check) = self.verb {
            return check.run(config, ui).await;
        }
        let context = Context {
            config,
            places: Places::of_this_user()?,
            ui,
        };
        match self.verb {
            Verb::Spawn(verb) => return verb.run(context).await,
            Verb::List(verb) => verb.run(&context).await,
            Verb::Status(verb) => verb.run(&context).await,
            Verb::Burrow(verb) => verb.run(&context).await,
            Verb::Unburrow(verb) => verb.run(&context).await,
            Verb::Rebuild(verb) => verb.run(context).await,
            Verb::Slay(verb) => verb.run(&context).await,
            Verb::Rerun(verb) => verb.run(&context).await,
            Verb::Limit(verb) => verb.run(&context).await,
            Verb::Metrics(verb) => verb.run(&context).await,
            Verb::Recover(verb) => verb.run(&context).await,
            Verb::Ssh(verb) => return verb.run(&context).await,
            Verb::Cp(verb) => return verb.run(&context).await,
            Verb::Logs(verb) => verb.run(&context).await,
            Verb::Exec(verb) => return verb.run(&context).await,
            Verb::Ports(verb) => verb.run(&context).await,
            Verb::Open(verb) => verb.run(&context).await,
            Verb::SshConfig(verb) => verb.run(&context).await,
            Verb::Audit(verb) => verb.run(&context).await,
            Verb::Doctor(_) => return doctor::Doctor::run(&context).await,
            Verb::Ca(_) => ca::Ca::run(&context).await,
            Verb::Config(verb) => verb.run(&context),
            Verb::Check(_) | Verb::Completions(_) | Verb::ManPages(_) => Ok(()),
        }
        .map(|()| ExitCode::SUCCESS)
    }
}

/// What every verb works with.
#[derive(Debug)]
pub struct Context<'a> {
    config: Config,
    places: Places,
    ui: &'a Ui,
}

impl Context<'_> {
    async fn docker(&self) -> Result<Docker> {
        Docker::connect(&self.config.docker).await
    }

    async fn sockets(&self) -> Result<Sockets<'_>> {
        Sockets::of(&self.config, &self.places).await
    }

    fn server<'b>(&'b self, docker: &'b Docker, sockets: &'b Sockets<'b>) -> Server<'b> {
        Server {
            docker,
            config: &self.config,
            places: &self.places,
            sockets,
            ui: self.ui,
        }
    }

    /// The repository that a person typed.
    fn repository(&self, text: &str) -> Result<RepoId> {
        let malformed = |what: String| {
            Error::new(Code::RepositoryMalformed, what)
                .hint("write it as org/repo, or as its https or git@ URL")
        };
        let repo = text
            .parse()
            .map_err(|error: crate::repo::RepoIdError| malformed(error.to_string()))?;
        let github = self.config.github.url.host_str().unwrap_or_default();
        match RepoId::host_in(text) {
            Some(host) if !host.eq_ignore_ascii_case(github) => Err(malformed(format!(
                "{host} is not the GitHub that this server uses, which is {github} (github.url)"
            ))),
            _ => Ok(repo),
        }
    }

    fn known(&self, drone: Drone) -> Drone {
        known(&self.places, drone)
    }

    /// What is known of what a drone takes on Docker's disk.
    fn disk(&self, drone: &Drone) -> Disk {
        let most = self.config.limits.most_disk();
        Disk::of(&self.places, &drone.identity.name, most)
    }

    /// Refuses if removing this drone would lose work.
    async fn check_work(&self, docker: &Docker, drone: &Drone) -> Result<()> {
        if self.may_hold_work(docker, drone).await? {
            work::check(docker, &self.places, drone).await?;
        }
        Ok(())
    }

    /// Whether anybody can have worked in this drone.
    async fn may_hold_work(&self, docker: &Docker, drone: &Drone) -> Result<bool> {
        if !self.places.is_egg(&drone.identity.name) {
            return Ok(true);
        }
        let Some(id) = &drone.container else {
            return Ok(false);
        };
        let container = docker.container(id).await?;
        Ok(container.is_none_or(|container| container.has_run()))
    }

    /// The drone that is asked for, which must exist.
    async fn drone(&self, docker: &Docker, asked: impl Into<Asked>) -> Result<Drone> {
        let asked = asked.into();
        let name = asked.name();
        let (what, hint) = match (docker.drone(&name).await?, asked) {
            (Some(drone), asked) if asked.is_of(&drone.identity.repo) => {
                return Ok(self.known(drone));
            }
            (Some(drone), Asked::Repository(repo)) => (
                format!(
                    "{repo} has no drone; {name} is the drone of {}",
                    drone.identity.repo
                ),
                String::new(),
            ),
            (None, Asked::Repository(repo)) => (
                format!("{repo} has no drone"),
                format!("; `hatchery spawn {repo}` creates this one"),
            ),
            (_, Asked::Name(name)) => (format!("there is no drone named {name}"), String::new()),
        };
        Err(Error::new(Code::DroneNotFound, what)
            .hint(format!("`hatchery list` lists all drones{hint}")))
    }
}

/// What is said of a drone whose container is gone where more is needed than its volume.
fn is_bare(drone: &Drone, code: Code) -> Error {
    let (name, repo) = (&drone.identity.name, &drone.identity.repo);
    Error::new(
        code,
        format!("{name} no longer has a container; its work is safe in the volume {name}"),
    )
    .hint(format!(
        "`hatchery rebuild {repo}` creates a new container for it"
    ))
}

/// What is said of a drone that has not hatched.
fn is_egg(drone: &Drone) -> Error {
    let (name, repo) = (&drone.identity.name, &drone.identity.repo);
    let what = format!("{name} is an egg: its spawn or slay did not finish");
    Error::new(Code::DroneNotFound, what).hint(format!(
        "if no spawn is running, `hatchery spawn {repo}` starts over and `hatchery slay {repo}` removes it"
    ))
}

/// What a drone is called in the tailnet, where there is one.
fn hostname(config: &Config, drone: &DroneName) -> Option<String> {
    let tailnet = config.tailnet.as_ref()?;
    Some(format!("{drone}.{}", tailnet.domain))
}

/// The host and the port at which a person's ssh finds a drone, if it is to be found.
fn ssh_address(config: &Config, drone: &Drone) -> Option<(String, u16)> {
    match hostname(config, &drone.identity.name) {
        Some(hostname) => Some((hostname, crate::ssh::PORT)),
        None => Some(("127.0.0.1".to_owned(), drone.ssh_port?)),
    }
}

/// How a person reaches a drone with ssh.
fn ssh_command(config: &Config, drone: &Drone, user: &str) -> String {
    match ssh_address(config, drone) {
        Some((host, port)) => format!("ssh -p {port} {user}@{host}"),
        None => "not reachable: it has neither a tailnet nor a published port".to_owned(),
    }
}

/// The line for `known_hosts` by which ssh recognizes a drone on its loopback port; none in a tailnet,
/// where the line of `hatchery ca` is for all drones.
fn known_hosts_line(context: &Context<'_>, drone: &Drone) -> Result<Option<String>> {
    let (None, Some(port)) = (&context.config.tailnet, drone.ssh_port) else {
        return Ok(None);
    };
    let secret = ServerSecret::load_or_create(context.places.state())?;
    let line = Authority::new(&secret).known_hosts_line_of_port(&drone.identity.name, port)?;
    Ok(Some(line))
}

/// Waits until the person or the system says stop.
async fn interrupted() -> Error {
    tokio::select! {
        () = signalled(SignalKind::interrupt()) => {}
        () = signalled(SignalKind::terminate()) => {}
        () = signalled(SignalKind::hangup()) => {}
    }
    Error::new(Code::Interrupted, "interrupted")
}

/// The same for what goes on where the connection is lost to the person's terminal.
async fn told_to_stop(context: &Context<'_>) -> Error {
    tokio::select! {
        () = signalled(SignalKind::interrupt()) => {}
        () = signalled(SignalKind::terminate()) => {}
        () = async {
            signalled(SignalKind::hangup()).await;
            context.ui.talk("The terminal has closed; hatchery continues without it.");
            std::future::pending::<()>().await;
        } => {}
    }
    Error::new(Code::Interrupted, "interrupted")
}

/// Waits for a signal, which does from now on nothing else.
async fn signalled(kind: SignalKind) {
    match signal(kind) {
        Ok(mut signal) => {
            signal.recv().await;
        }
        // Without a handler the signal ends the process as it always does.
        Err(_) => std::future::pending().await,
    }
}
