//! `hatchery unburrow`

use clap::Args;

use super::burrow::STOP_WITHIN;
use super::{Context, interrupted, ssh_command};
use crate::docker::{Docker, Drone, Life, Owner, Tree, Wanted};
use crate::drone::DroneName;
use crate::error::{Code, Error, Result};
use crate::furnish::credentials::{self, Helper};
use crate::repo::RepoId;
use crate::{furnish, readiness, sockets, tailnet};

/// Wake a drone that was put to sleep
///
/// Its container goes on as it was: `postStartCommand` is not run again.
#[derive(Debug, Args)]
pub struct Unburrow {
    /// org/repo
    repo: String,
}

impl Unburrow {
    pub async fn run(self, context: &Context<'_>) -> Result<()> {
        let repo = context.repository(&self.repo)?;
        let docker = context.docker().await?;
        let _lock = context.places.lock(&DroneName::of(&repo))?;
        let drone = context.drone(&docker, &repo).await?;
        match (&drone.container, drone.life) {
            (Some(_), Life::Running) => {}
            (Some(container), Life::Burrowed | Life::Stopped) => {
                let waking = wake(context, &docker, &drone, container);
                tokio::select! {
                    woken = waking => woken?,
                    error = interrupted() => return Err(error.hint(format!(
                        "`hatchery unburrow {repo}` goes on, `hatchery burrow {repo}` puts it back to sleep"
                    ))),
                }
            }
            _ => {
                return Err(Error::new(
                    Code::DroneNotFound,
                    format!(
                        "{} is an egg: its spawn did not finish",
                        drone.identity.name
                    ),
                )
                .hint(format!("`hatchery spawn {repo}` starts over")));
            }
        }
        report(context, &docker, &repo).await
    }
}

async fn wake(
    context: &Context<'_>,
    docker: &Docker,
    drone: &Drone,
    container: &str,
) -> Result<()> {
    let name = &drone.identity.name;
    context.ui.step(&format!("Waking {name}"));
    let registered = drone.life == Life::Stopped;
    let joining = async {
        if registered {
            return Ok(());
        }
        join(context, docker, drone, container).await
    };
    tokio::try_join!(joining, refurnish(context, docker, drone, container))?;
    start(docker, drone, container).await?;
    if context.config.tailnet.is_none() {
        return readiness::sshd(docker, container, name).await;
    }
    let ready = tokio::try_join!(
        readiness::sshd(docker, container, name),
        readiness::node(docker, container, name),
    );
    match ready {
        // It was away for longer than Headscale remembers it.
        Err(error) if registered && error.code() == Code::TailnetRefused => {
            docker.stop(container, STOP_WITHIN).await?;
            join(context, docker, drone, container).await?;
            start(docker, drone, container).await?;
            readiness::node(docker, container, name).await
        }
        ready => ready.map(|_| ()),
    }
}

/// What the configuration says of ssh may have changed while the drone slept.
async fn refurnish(
    context: &Context<'_>,
    docker: &Docker,
    drone: &Drone,
    container: &str,
) -> Result<()> {
    let name = &drone.identity.name;
    let (files, warnings) = furnish::ssh_files(&context.config, &context.places, name).await?;
    for warning in &warnings {
        context.ui.warn(warning);
    }
    let mut tree = furnish::ssh(docker, container, files, Tree::default()).await?;
    if furnish::has_sockets(docker, container).await? {
        // Docker does not start a container whose mounted directory is absent.
        sockets::prepare(&context.config, &context.places, &drone.identity.scope)?;
        let sockets = context.sockets().await?;
        if sockets
            .open(&context.config, &drone.identity)
            .await?
            .is_some()
        {
            let github = &context.config.github;
            tree =
                credentials::tree(docker, container, github, &Helper::installed()?, tree).await?;
        }
    }
    docker.put(container, tree).await
}

/// Registers the drone's node from outside and puts it into the sleeping container.
async fn join(
    context: &Context<'_>,
    docker: &Docker,
    drone: &Drone,
    container: &str,
) -> Result<()> {
    let Some(tailnet) = &context.config.tailnet else {
        return Ok(());
    };
    let name = &drone.identity.name;
    context.ui.step(&format!("Joining the tailnet as {name}"));
    let workshop = context.places.workshop(name)?;
    let state = workshop.directory("node")?;
    tailnet::join::join(tailnet, name, &state).await?;
    let tree = Tree::default().copy(furnish::TAILSCALE_STATE, &state, Owner::ROOT);
    docker.put(container, tree).await
}

async fn start(docker: &Docker, drone: &Drone, container: &str) -> Result<()> {
    let mut all = vec![container.to_owned()];
    let siblings = docker.project_containers(&drone.identity.name).await?;
    all.extend(siblings.into_iter().filter(|sibling| sibling != container));
    for id in &all {
        docker.set_wanted(id, Wanted::Running).await?;
    }
    let starting = all.iter().map(|id| docker.start(id));
    futures_util::future::try_join_all(starting).await?;
    Ok(())
}

async fn report(context: &Context<'_>, docker: &Docker, repo: &RepoId) -> Result<()> {
    // Anew: the published port may be another one.
    let drone = context.drone(docker, repo).await?;
    let user = match &drone.container {
        Some(container) => furnish::remote_user_of(docker, container).await?,
        None => "root".to_owned(),
    };
    let ssh = ssh_command(&context.config, &drone, &user);
    if context.ui.json() {
        context.ui.json_result(&serde_json::json!({
            "name": drone.identity.name, "repository": repo, "state": drone.life, "ssh": ssh,
        }));
    } else {
        context
            .ui
            .talk(&format!("{} is awake.", drone.identity.name));
        context.ui.result(ssh);
    }
    Ok(())
}
