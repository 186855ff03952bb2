//! What is due after each start of a drone, no matter who started it: `postStartCommand`, and the way in past what
//! that may have closed.
//!
//! At its spawn the devcontainer CLI runs the command; at every later start hatchery does, in the same way. And
//! what is left of a setup is run again when a person asks.

mod commands;
mod record;
pub mod rerun;
mod running;
pub mod setup;
mod shell;

use std::time::Duration;

use crate::devcontainer::running::lifecycle::{Stage, Vigil};
use crate::docker::{Container, Drone};
use crate::drone::DroneName;
use crate::error::{Code, Error, Result};
use crate::failpoint::{self, Point};
use crate::host::Places;
use crate::host::transcript::What;
use crate::life::waking::For;
use crate::life::way_in::{self, WayIn};
use crate::server::Server;

pub use self::record::Start;
use self::running::{Ended, Failure, Job};

/// For how long a command is stayed with that is to be waited for until it ends: nobody may be there to give
/// up.
const MOST: Duration = Duration::from_secs(5 * 60);
/// For how long one that nobody has asked for is: other drones wait.
const UNASKED: Duration = Duration::from_secs(30);
/// The most lines that are shown of what a command said.
const LAST_LINES: usize = 20;
/// How a transcript ends of a command that goes on.
const UNHEARD: &str = "it is still running; its further output is not kept";

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
        setup: known.setup.after_a_stop(),
        ..known
    };
    // Not after it: what ends hatchery is not tried over and over.
    start.write(server.places, name)?;
    failpoint::reached(Point::StartRemembered);
    if !is_due {
        return Ok(Started::Done);
    }
    let ended = async {
        let job = Job::new(server, drone, &container, &start.folder)?;
        command(&job, name, by).await
    };
    let ended = ended.await;
    open_way(server, name, container.id()).await;
    let ended = ended?;
    let before = (start.goes_on, start.setup.clone());
    start.goes_on = ended == Ended::StillRuns;
    start.setup = start.setup.and(Stage::PostStart, &ended);
    if before != (start.goes_on, start.setup.clone()) {
        start.write(server.places, name)?;
    }
    match ended {
        Ended::Well => Ok(Started::Done),
        Ended::StillRuns => Ok(Started::StillRuns),
        Ended::Badly(failure) => Err(failed(name, &failure)),
    }
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
async fn command(job: &Job<'_>, name: &DroneName, by: For) -> Result<Ended> {
    let stage = Stage::PostStart;
    let Some(script) = job.script(stage) else {
        return Ok(Ended::Well);
    };
    let ui = job.ui();
    ui.step("Running postStartCommand");
    let lifecycle = job.lifecycle();
    let within = lifecycle.patience(stage).unwrap_or(MOST);
    let within = match by {
        For::Person => within,
        For::Recovery => within.min(UNASKED),
    };
    let transcript = job.transcript(What::Start, "postStartCommand");
    let mut unheard = |_: &str| {};
    let ended = job
        .run(
            (stage, &script),
            Some(within),
            transcript.as_ref(),
            &mut unheard,
        )
        .await;
    if matches!(ended, Ok(Ended::StillRuns)) {
        ui.talk(&Vigil::new(lifecycle).left(stage, name.as_str()));
    }
    if let Some(transcript) = &transcript {
        match &ended {
            Ok(Ended::Well) => transcript.said("done"),
            Ok(Ended::StillRuns) => transcript.said(UNHEARD),
            Ok(Ended::Badly(failure)) => transcript.failed(&failed(name, failure)),
            Err(error) => transcript.failed(error),
        }
    }
    ended
}

/// What is said where this has no transcript.
pub fn not_kept(what: &str, error: &Error) -> String {
    format!(
        "the output of {what} is not kept for `hatchery logs`: {}",
        error.message()
    )
}

/// A `postStartCommand` that ended badly at a start.
fn failed(name: &DroneName, failure: &Failure) -> Error {
    Error::new(
        Code::LifecycleFailed,
        format!("{name} is running, but its postStartCommand failed"),
    )
    .hint(format!(
        "fix it in the drone, then run `hatchery rerun {name}`; `hatchery logs --spawn {name}` shows its \
         whole output"
    ))
    .with_details(failure.lines.clone())
}

/// The workspace's folder in this drone: where what a person runs begins.
pub fn folder_of(places: &Places, container: &Container, drone: &Drone) -> Result<String> {
    let start = Start::of(places, &drone.identity.name)?;
    Ok(folder(start.as_ref(), container, drone))
}

/// The same where what is remembered of its start was read.
pub fn folder(start: Option<&Start>, container: &Container, drone: &Drone) -> String {
    start.map_or_else(|| clone_of(container, drone), |start| start.folder.clone())
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
