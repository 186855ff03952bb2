//! `hatchery slay`

use std::time::Duration;

use clap::Args;

use super::Context;
use crate::docker::{Docker, Drone, Life};
use crate::error::{Code, Error, Result};
use crate::failpoint::{self, Point};
use crate::life::disk;
use crate::life::memory;
use crate::life::teardown;
use crate::life::work::remains::{self, Outcome};
use crate::tailnet;

/// How long the drone may take to leave the tailnet.
const LEAVE_WITHIN: Duration = Duration::from_secs(10);

/// Remove a drone and everything that belongs to it
///
/// slay refuses to remove a drone whose volumes hold work that exists nowhere else, and lists that work. With
/// --force it removes the drone and keeps a copy of the work on this server for the time set by
/// limits.remains.
#[derive(Debug, Args)]
pub struct Slay {
    /// org/repo or the drone's name
    #[arg(value_name = "DRONE")]
    drone: String,

    /// Remove it even if it holds work that exists nowhere else, and keep a copy of that work
    #[arg(long)]
    force: bool,

    /// With --force, keep no copy: work that exists nowhere else is lost
    #[arg(long, requires = "force")]
    no_remains: bool,
}

impl Slay {
    pub async fn run(self, context: &Context<'_>) -> Result<()> {
        let asked = context.asked(&self.drone)?;
        let docker = context.docker().await?;
        let _lock = context.places.lock(&asked.name())?;
        let drone = context.drone(&docker, &asked).await?;
        let repo = &drone.identity.repo;
        let name = &drone.identity.name;
        memory::warn(context.ui, &context.places, &drone).await;
        disk::warn(context.ui, &context.disk(&drone), &drone);
        let mut outcome = Outcome::default();
        if self.force {
            if !self.no_remains {
                outcome = keep(context, &docker, &drone).await?;
            }
        } else {
            context.ui.step(&format!(
                "Looking for work in {name} that exists nowhere else"
            ));
            context.check_work(&docker, &drone).await?;
            failpoint::reached(Point::WorkLookedFor);
        }
        context.places.sweep();
        context.ui.step(&format!("Slaying {name}"));
        let (config, places) = (&context.config, &context.places);
        // First: by what else is there the drone is found again, if this is cut off.
        let forgotten = places.forget_transcripts(name);
        // Headscale can be told beside the rest; a drone can only leave while it runs.
        if let Some(tailnet) = &config.tailnet
            && tailnet.api_key_file.is_none()
            && !leave(&docker, &drone).await
        {
            context.ui.warn(&format!(
                "{name} did not leave the tailnet; Headscale removes its node after the ephemeral timeout"
            ));
        }
        let leaving = teardown::leave_tailnet(config, places, name);
        let mut failures =
            teardown::remove(&docker, config, places, &drone.identity, leaving).await;
        failures.extend(forgotten.err());
        if !failures.is_empty() {
            return Err(
                Error::new(Code::Incomplete, format!("{name} was only partly removed"))
                    .hint(format!(
                        "fix the errors above, then run `hatchery slay --force {repo}` again"
                    ))
                    .with_details(failures.iter().map(Error::message)),
            );
        }
        let at = outcome.kept.as_ref().map(|kept| &kept.directory);
        if context.ui.json() {
            context.ui.json_result(&serde_json::json!({
                "name": name, "repository": repo, "state": "gone", "remains": at,
                "not_kept": outcome.lost,
            }));
        } else {
            context.ui.result(format!(
                "{name} is gone: container, volumes, images, node. `hatchery spawn {repo}` creates a new one."
            ));
        }
        Ok(())
    }
}

/// Keeps what exists nowhere else, and tells where it is and what of it could not be kept.
pub(super) async fn keep(context: &Context<'_>, docker: &Docker, drone: &Drone) -> Result<Outcome> {
    if context.config.limits.remains.get().is_none()
        || !context.may_hold_work(docker, drone).await?
    {
        return Ok(Outcome::default());
    }
    let name = &drone.identity.name;
    context
        .ui
        .step(&format!("Copying work in {name} that exists nowhere else"));
    let outcome = remains::keep(docker, &context.config, &context.places, drone).await?;
    for line in &outcome.lost {
        context.ui.warn(&format!("not kept: {line}"));
    }
    if let Some(kept) = &outcome.kept {
        context.ui.talk(&format!(
            "Work that exists nowhere else is kept until {} in {}. README.txt there explains how to restore \
             it.",
            kept.until(),
            kept.directory.display()
        ));
    }
    Ok(outcome)
}

/// Lets the drone leave the tailnet; whether it has. One that was burrowed left then.
async fn leave(docker: &Docker, drone: &Drone) -> bool {
    let Some(container) = &drone.container else {
        return true;
    };
    if drone.life == Life::Burrowed {
        return true;
    }
    let inside = docker.inside(container);
    let leaving = tokio::time::timeout(LEAVE_WITHIN, tailnet::node::leave(&inside));
    matches!(leaving.await, Ok(Ok(())))
}
