//! Lifecycle commands that a person has run again.

use super::record::Start;
use super::running::{Ended, Failure, Job};
use super::setup::How;
use super::{UNHEARD, clone_of};
use crate::devcontainer::running::lifecycle::Stage;
use crate::docker::{Container, Drone};
use crate::error::{Code, Error, Result};
use crate::host::transcript::What;
use crate::server::Server;

/// Runs the commands of this property, or, where none is named, all that is left of the drone's setup, until one
/// fails; `said` gets what they print, line by line, and before that each property's name. What was run.
///
/// # Errors
/// There is nothing to run; a command has failed.
pub async fn rerun(
    server: Server<'_>,
    drone: &Drone,
    container: &Container,
    named: Option<Stage>,
    said: &mut (dyn FnMut(Said<'_>) + Send),
) -> Result<Vec<Stage>> {
    let name = &drone.identity.name;
    let known = Start::of(server.places, name)?;
    let mut start = known.unwrap_or_else(|| Start {
        folder: clone_of(container, drone),
        ran_for: container.started_at().unwrap_or_default().to_owned(),
        ..Start::default()
    });
    let folder = start.folder.clone();
    let job = Job::new(server, drone, container, &folder)?;
    let stages = match named {
        Some(stage) => vec![stage],
        None => start.setup.due(),
    };
    let scripts: Vec<_> = stages
        .iter()
        .filter_map(|&stage| Some((stage, job.script(stage)?)))
        .collect();
    if scripts.is_empty() {
        return Err(nothing(drone, named, &job));
    }
    let transcript = job.transcript(What::Rerun, "this rerun");
    let mut well = Vec::new();
    for (stage, script) in &scripts {
        said(Said::Begins(*stage));
        // If this is cut off, they go on.
        start.setup = start.setup.with(*stage, How::LeftRunning);
        start.write(server.places, name)?;
        let mut line = |line: &str| said(Said::Line(line));
        let ended = job.run((*stage, script), None, transcript.as_ref(), &mut line);
        let ended = ended.await;
        if let (Err(error), Some(transcript)) = (&ended, &transcript) {
            transcript.failed(error);
        }
        let ended = ended?;
        start.setup = start.setup.and(*stage, &ended);
        start.write(server.places, name)?;
        match ended {
            Ended::Well => well.push(*stage),
            Ended::Badly(failure) => {
                let error = failed(drone, &failure);
                if let Some(transcript) = &transcript {
                    transcript.failed(&error);
                }
                return Err(error);
            }
            Ended::StillRuns => {
                if let Some(transcript) = &transcript {
                    transcript.said(UNHEARD);
                }
            }
        }
    }
    if let Some(transcript) = &transcript {
        transcript.said("done");
    }
    Ok(well)
}

/// What is told while commands run.
#[derive(Debug, Clone, Copy)]
pub enum Said<'a> {
    /// Those of this property begin.
    Begins(Stage),
    /// One has printed this.
    Line(&'a str),
}

fn failed(drone: &Drone, failure: &Failure) -> Error {
    let name = &drone.identity.name;
    Error::new(
        Code::LifecycleFailed,
        format!(
            "{} of {name} failed with exit status {}",
            failure.which, failure.status
        ),
    )
    .hint(format!(
        "fix it in the drone, then `hatchery rerun {name}` continues with it"
    ))
}

/// What is said where there is nothing to run.
fn nothing(drone: &Drone, named: Option<Stage>, job: &Job<'_>) -> Error {
    let name = &drone.identity.name;
    let lifecycle = job.lifecycle();
    let there = Stage::IN_THE_DRONE
        .into_iter()
        .filter(|stage| lifecycle.has(*stage));
    let there = there.map(Stage::short).collect::<Vec<_>>();
    let what = match named {
        Some(stage) => format!("{name} has no {stage}"),
        None => format!("the setup of {name} is complete"),
    };
    Error::new(Code::Usage, what).hint(match there.as_slice() {
        [] => "its configuration has no lifecycle commands".to_owned(),
        there => format!(
            "`hatchery rerun {name} COMMAND` runs one: {}",
            there.join(", ")
        ),
    })
}
