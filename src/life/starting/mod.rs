//! What is due after each start of a drone, no matter who started it: `postStartCommand`, and the way in past what
//! that may have closed.
//!
//! At its spawn the devcontainer CLI runs the command; at every later start hatchery does, in the same way:
//! as the remote user, in the workspace's folder, with `remoteEnv` and what the user's shell sets.

mod commands;
mod record;
mod shell;

use std::time::Duration;

use crate::devcontainer::replaced;
use crate::devcontainer::running::lifecycle::{Lifecycle, Stage, Vigil};
use crate::docker::{Container, Drone, Output, Setting};
use crate::drone::DroneName;
use crate::error::{Code, Error, Result};
use crate::fault::{self, Point};
use crate::host::transcript::{Pieces, What};
use crate::host::{Places, Transcript};
use crate::life::furnish;
use crate::life::furnish::accounts::Accounts;
use crate::life::teardown;
use crate::life::waking::For;
use crate::life::way_in::{self, WayIn};
use crate::secret::Environment;
use crate::server::Server;
use crate::ssh::environment;
use crate::ui::clean;

pub use self::record::Start;

/// For how long a command is stayed with that is to be waited for until it ends: nobody may be there to give
/// up.
const MOST: Duration = Duration::from_secs(5 * 60);
/// For how long one that nobody has asked for is: other drones wait.
const UNASKED: Duration = Duration::from_secs(30);
/// The most lines that are shown of what a command said.
const LAST_LINES: usize = 20;

/// How the command of this start did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Started {
    /// It has ended well, or there is none, or it was run before.
    Done,
    /// It goes on in the drone.
    StillRuns,
}

/// Does what is due after this drone's start, once for each start. A drone that runs and of whose start
/// nothing is known was started by an older hatchery, which left it at that.
pub async fn finish(
    server: Server<'_>,
    drone: &Drone,
    container: &str,
    by: For,
    just_woken: bool,
) -> Result<Started> {
    let name = &drone.identity.name;
    let Some(container) = server.docker.container(container).await? else {
        return Ok(Started::Done);
    };
    let Some(this) = container.started_at().filter(|_| container.runs()) else {
        return Ok(Started::Done);
    };
    let start = Start::of(server.places, name)?;
    if start.as_ref().is_some_and(|start| start.ran_for == this) {
        return Ok(Started::Done);
    }
    let is_due = just_woken || start.is_some();
    let known = start.unwrap_or_else(|| Start {
        folder: clone_of(&container, drone),
        ..Start::default()
    });
    let mut start = Start {
        ran_for: this.to_owned(),
        goes_on: false,
        ..known
    };
    // Not after it: what ends hatchery is not tried over and over.
    start.write(server.places, name)?;
    fault::reached(Point::StartRemembered);
    if !is_due {
        return Ok(Started::Done);
    }
    let started = command(server, drone, &container, &start.folder, by).await;
    open_way(server, name, container.id()).await;
    if started.as_ref().is_ok_and(|it| *it == Started::StillRuns) {
        start.goes_on = true;
        start.write(server.places, name)?;
    }
    started
}

/// What is left to do of a spawn's start: the devcontainer CLI has run the command itself. `known` is all that
/// is remembered but for the start itself.
pub async fn spawned(
    server: Server<'_>,
    drone: &DroneName,
    container: &str,
    known: Start,
) -> Result<()> {
    open_way(server, drone, container).await;
    let this = server.docker.container(container).await?;
    let Some(ran_for) = this.as_ref().and_then(Container::started_at) else {
        return Ok(());
    };
    let start = Start {
        ran_for: ran_for.to_owned(),
        ..known
    };
    start.write(server.places, drone)
}

/// The same where the command was left running: once it has ended, nobody is there.
pub async fn look_again(
    server: Server<'_>,
    start: Start,
    drone: &Drone,
    is_fresh: bool,
) -> Result<()> {
    let (name, Some(container)) = (&drone.identity.name, &drone.container) else {
        return Ok(());
    };
    open_way(server, name, container).await;
    if is_fresh {
        return Ok(());
    }
    let settled = Start {
        goes_on: false,
        ..start
    };
    settled.write(server.places, name)
}

/// Opens the way in past the drone's own firewall, and tells where that cannot be done.
async fn open_way(server: Server<'_>, drone: &DroneName, container: &str) {
    if server.config.tailnet.is_some()
        && way_in::open(server.docker, container).await == WayIn::Closed
    {
        server.ui.warn(&way_in::told(drone.as_str()));
    }
}

/// Runs the `postStartCommand`s.
async fn command(
    server: Server<'_>,
    drone: &Drone,
    container: &Container,
    folder: &str,
    by: For,
) -> Result<Started> {
    let (docker, name) = (server.docker, &drone.identity.name);
    let metadata = furnish::metadata(container)?;
    let own = environment::by_name(container.environment());
    let id = teardown::devcontainer_id(&drone.identity);
    let basename = folder.rsplit('/').next().unwrap_or_default();
    let resolve = |text: &str| {
        replaced(text, |variable| match variable {
            "containerWorkspaceFolder" => Some(folder.to_owned()),
            "containerWorkspaceFolderBasename" => Some(basename.to_owned()),
            "devcontainerId" => Some(id.clone()),
            _ => environment::of_container(variable, &own),
        })
    };
    let Some(script) = commands::script(&metadata, &resolve) else {
        return Ok(Started::Done);
    };
    server.ui.step("Running postStartCommand");
    let inside = docker.inside(container.id());
    let user = furnish::user_of(container);
    let accounts = Accounts::of(docker, container.id()).await?;
    let shell = accounts.shell(&user).unwrap_or("/bin/sh");
    let secrets = server.config.secrets(&drone.identity.repo)?;
    let mut environment = shell::environment(&inside, &user, shell, &metadata, &own).await;
    secrets.lay_over(&mut environment);
    let setting = Setting {
        user: &user,
        directory: Some(folder),
        environment,
    };
    let lifecycle = Lifecycle::of(&metadata);
    let within = lifecycle.patience(Stage::PostStart).unwrap_or(MOST);
    let within = match by {
        For::Person => within,
        For::Recovery => within.min(UNASKED),
    };
    let argv = ["/bin/sh", "-c", &script];
    let transcript = Transcript::begin(server.places, name, What::Start);
    if let Err(error) = &transcript {
        server.ui.warn(&not_kept("postStartCommand", error));
    }
    let transcript = transcript.ok().map(|it| it.hiding(&secrets));
    if let Some(transcript) = &transcript {
        transcript.said(&format!("start of {}", drone.identity.repo));
        transcript.said("Running postStartCommand");
    }
    let (mut out, mut err) = (Pieces::default(), Pieces::default());
    let mut heard = |is_error: bool, part: &[u8]| {
        if let Some(transcript) = &transcript {
            let pieces = if is_error { &mut err } else { &mut out };
            pieces.push(part, |line| transcript.output(line));
        }
    };
    let running = inside.run_heard(&setting, &argv, b"", &mut heard);
    let ended = tokio::time::timeout(within, running).await;
    let started = match ended {
        Err(_) => {
            let left = Vigil::new(lifecycle).left(Stage::PostStart);
            server.ui.talk(&left);
            Ok(Started::StillRuns)
        }
        Ok(ended) => ended.and_then(|output| judged(name.as_str(), &output, &secrets)),
    };
    if let Some(transcript) = &transcript {
        out.end(|line| transcript.output(line));
        err.end(|line| transcript.output(line));
        match &started {
            Ok(Started::Done) => transcript.said("done"),
            Ok(Started::StillRuns) => {
                transcript.said("it still runs; what it says from now on is not kept");
            }
            Err(error) => transcript.failed(error),
        }
    }
    started
}

/// What is said where this has no transcript.
pub fn not_kept(what: &str, error: &Error) -> String {
    format!(
        "the output of {what} is not kept for `hatchery logs`: {}",
        error.message()
    )
}

fn judged(name: &str, output: &Output, secrets: &Environment) -> Result<Started> {
    if output.status == 0 {
        return Ok(Started::Done);
    }
    let said = format!("{}{}", output.stdout, output.stderr);
    let lines: Vec<String> = said
        .lines()
        .map(|line| clean::line(&secrets.hide(line)))
        .filter(|line| !line.trim().is_empty())
        .collect();
    let before = lines.len().saturating_sub(LAST_LINES);
    Err(Error::new(
        Code::LifecycleFailed,
        format!("{name} runs, but its postStartCommand failed"),
    )
    .hint(format!(
        "fix it in the drone; it is run again at the drone's next start; `hatchery logs --spawn {name}` \
         shows its whole output"
    ))
    .with_details(lines.into_iter().skip(before).collect::<Vec<_>>()))
}

/// The workspace's folder in this drone: where what a person runs begins.
pub fn folder_of(places: &Places, container: &Container, drone: &Drone) -> Result<String> {
    let start = Start::of(places, &drone.identity.name)?;
    Ok(start.map_or_else(|| clone_of(container, drone), |start| start.folder))
}

/// Where the clone is in a drone of which it is not written down: where its volume is mounted, or below.
fn clone_of(container: &Container, drone: &Drone) -> String {
    let name = drone.identity.name.as_str();
    let mut volumes = container.volumes();
    let target = volumes.find(|(volume, _)| *volume == name);
    let target = target.map_or("/workspaces", |(_, at)| at);
    match target {
        "/workspaces" => format!("{target}/{}", drone.identity.repo.name()),
        target => target.to_owned(),
    }
}
