//! `hatchery unburrow`

use clap::Args;

use super::{Context, interrupted, is_bare, is_egg, ssh_command};
use crate::devcontainer::running::lifecycle::Stage;
use crate::docker::{Docker, Life};
use crate::error::{Code, Error, Result};
use crate::life::disk;
use crate::life::furnish;
use crate::life::memory;
use crate::life::starting::{self, Started};
use crate::life::waking::{For, ready, wake};
use crate::repo::RepoId;

/// Start a burrowed or stopped drone again
///
/// The drone keeps its container, and `postStartCommand` runs.
#[derive(Debug, Args)]
pub struct Unburrow {
    /// org/repo or the drone's name
    #[arg(value_name = "DRONE")]
    drone: String,
}

impl Unburrow {
    pub async fn run(self, context: &Context<'_>) -> Result<()> {
        let asked = context.asked(&self.drone)?;
        let docker = context.docker().await?;
        let _lock = context.places.lock(&asked.name())?;
        let drone = context.drone(&docker, &asked).await?;
        let repo = &drone.identity.repo;
        let started;
        match (&drone.container, drone.life) {
            (Some(container), Life::Running | Life::Burrowed | Life::Stopped) => {
                memory::warn(context.ui, &context.places, &drone).await;
                disk::warn(context.ui, &context.disk(&drone), &drone);
                let most = context.config.limits.most_disk();
                if let Err(error) = disk::let_up(&context.places, &drone.identity.name, most) {
                    // As where the disk is full, which is to be cleared up in the drone.
                    context.ui.warn(&error.message());
                }
                let sockets = context.sockets().await?;
                let server = context.server(&docker, &sockets);
                let runs = drone.life == Life::Running;
                let waking = async {
                    if runs {
                        // It may run and not be reachable, which is not awake.
                        return ready(server, &drone, container).await;
                    }
                    wake(server, &drone, container, For::Person).await
                };
                or_interrupted(waking, repo).await?;
                context.places.forget_memory(&drone.identity.name)?;
                context.places.forget_idle(&drone.identity.name)?;
                let due = starting::finish(server, &drone, container, For::Person, !runs);
                let finished = or_interrupted(due, repo).await;
                started = finished.map_err(|error| stays(error, repo))?;
            }
            (_, Life::Bare) => return Err(is_bare(&drone, Code::DroneNotFound)),
            _ => return Err(is_egg(&drone)),
        }
        report(context, &docker, repo, started).await
    }
}

async fn or_interrupted<T>(work: impl Future<Output = Result<T>>, repo: &RepoId) -> Result<T> {
    tokio::select! {
        done = work => done,
        error = interrupted() => Err(error.hint(format!(
            "`hatchery unburrow {repo}` continues, `hatchery burrow {repo}` stops it again"
        ))),
    }
}

async fn report(
    context: &Context<'_>,
    docker: &Docker,
    repo: &RepoId,
    started: Started,
) -> Result<()> {
    // Anew: the published port may be another one.
    let drone = context.drone(docker, repo).await?;
    let user = match &drone.container {
        Some(container) => furnish::remote_user_of(docker, container).await?,
        None => "root".to_owned(),
    };
    let ssh = ssh_command(&context.config, &drone, &user);
    if context.ui.json() {
        let mut result = serde_json::json!({
            "name": drone.identity.name, "repository": repo, "state": drone.life, "ssh": ssh,
        });
        if started == Started::StillRuns {
            result["still_running"] = Stage::PostStart.as_str().into();
        }
        context.ui.json_result(&result);
    } else {
        context
            .ui
            .talk(&format!("{} is running.", drone.identity.name));
        context.ui.result(ssh);
    }
    Ok(())
}

/// Where only its setup failed it is awake all the same.
fn stays(error: Error, repo: &RepoId) -> Error {
    match error.code() {
        Code::LifecycleFailed => error.hint(format!(
            "the drone is running; fix the command there, then run `hatchery rerun {repo}`; `hatchery logs \
             --spawn {repo}` shows its whole output"
        )),
        _ => error,
    }
}
