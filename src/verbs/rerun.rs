//! `hatchery rerun`

use clap::Args;
use clap::builder::PossibleValue;

use super::{Context, interrupted};
use crate::devcontainer::running::lifecycle::Stage;
use crate::error::Result;
use crate::life::starting::rerun::{Said, rerun};

/// Run a drone's lifecycle commands again
///
/// Without COMMAND, it runs the one that failed during setup and those after it that were skipped.
#[derive(Debug, Args)]
pub struct Rerun {
    /// org/repo or the drone's name
    #[arg(value_name = "DRONE")]
    drone: String,

    /// Run only this command, even if it succeeded before
    command: Option<Stage>,
}

impl clap::ValueEnum for Stage {
    fn value_variants<'a>() -> &'a [Self] {
        &Self::IN_THE_DRONE
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.short()).alias(self.as_str()))
    }
}

impl Rerun {
    pub async fn run(self, context: &Context<'_>) -> Result<()> {
        let asked = context.asked(&self.drone)?;
        let docker = context.docker().await?;
        let _lock = context.places.lock(&asked.name())?;
        let there = context.running(&docker, &self.drone).await?;
        let sockets = context.sockets().await?;
        let server = context.server(&docker, &sockets);
        let name = &there.drone.identity.name;
        let json = context.ui.json();
        let mut said = |said: Said<'_>| match said {
            Said::Begins(stage) => context.ui.talk(&format!("Running {stage}")),
            // Where nobody reads it, it goes on all the same.
            Said::Line(line) if !json => drop(context.ui.row(line)),
            Said::Line(_) => {}
        };
        let running = rerun(
            server,
            &there.drone,
            &there.container,
            self.command,
            &mut said,
        );
        let done = tokio::select! {
            done = running => done?,
            error = interrupted() => return Err(error.hint(format!(
                "the command continues in the drone; `hatchery rerun {name} COMMAND` would start it a second \
                 time"
            ))),
        };
        if json {
            context.ui.json_result(&serde_json::json!({
                "name": name, "repository": there.drone.identity.repo, "done": done,
            }));
        } else {
            context.ui.talk(&format!("{name}: all commands succeeded."));
        }
        Ok(())
    }
}
