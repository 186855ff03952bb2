//! `hatchery burrow`

use clap::Args;

use super::{Context, is_bare, is_egg};
use crate::docker::Life;
use crate::error::{Code, Result};
use crate::life::burrowing::Burrowing;
use crate::life::disk;
use crate::life::memory;
use crate::life::work;

/// Stop a drone: its work is kept, and its tailnet name is released
#[derive(Debug, Args)]
pub struct Burrow {
    /// org/repo or the drone's name
    #[arg(value_name = "DRONE")]
    drone: String,
}

impl Burrow {
    pub async fn run(self, context: &Context<'_>) -> Result<()> {
        let asked = context.asked(&self.drone)?;
        let docker = context.docker().await?;
        let _lock = context.places.lock(&asked.name())?;
        let drone = context.drone(&docker, &asked).await?;
        let repo = &drone.identity.repo;
        let name = &drone.identity.name;
        let burrowing = Burrowing {
            docker: &docker,
            config: &context.config,
            places: &context.places,
        };
        let revoking = async { context.sockets().await?.revoke(name).await };
        let container = match (&drone.container, drone.life) {
            (Some(container), Life::Running | Life::Stopped) => container,
            (_, Life::Burrowed) => {
                for warning in burrowing.part(name, revoking).await {
                    context.ui.warn(&warning);
                }
                done(context, repo, name.as_str(), "is already burrowed");
                return Ok(());
            }
            (_, Life::Bare) => return Err(is_bare(&drone, Code::DroneNotFound)),
            _ => return Err(is_egg(&drone)),
        };
        memory::warn(context.ui, &context.places, &drone).await;
        disk::warn(context.ui, &context.disk(&drone), &drone);
        context.ui.step(&format!("Burrowing {name}"));
        let warnings = burrowing.stop(&drone, container, revoking).await?;
        let places = &context.places;
        let forgotten = places.forget_memory(name);
        // It is a person now who wants it to sleep.
        let forgotten = forgotten.and_then(|()| places.forget_idle(name)).err();
        // Nobody changes it from now on: `list` tells it as it is. Where it takes too long, it does not.
        let _ = work::count(&docker, &context.places, &drone).await;
        for warning in warnings
            .into_iter()
            .chain(forgotten.map(|error| error.message()))
        {
            context.ui.warn(&warning);
        }
        done(
            context,
            repo,
            name.as_str(),
            "is burrowed; its work is kept in its volume",
        );
        Ok(())
    }
}

fn done(context: &Context<'_>, repo: &crate::repo::RepoId, name: &str, what: &str) {
    if context.ui.json() {
        context.ui.json_result(&serde_json::json!({
            "name": name, "repository": repo, "state": Life::Burrowed,
        }));
    } else {
        context.ui.result(format!(
            "{name} {what}. `hatchery unburrow {repo}` starts it again."
        ));
    }
}
