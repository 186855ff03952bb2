//! What the verbs share that take a person into a drone.

use super::{Context, is_bare};
use crate::docker::{Container, Docker, Drone, Life};
use crate::error::{Code, Error, Result};
use crate::life::furnish;
use crate::life::starting;

/// A drone that runs, as a person finds it.
#[derive(Debug)]
pub struct Running {
    /// The drone.
    pub drone: Drone,
    /// Its container.
    pub container: Container,
    /// Whom a person works as.
    pub user: String,
    /// Where they begin.
    pub folder: String,
}

impl Context<'_> {
    /// The drone that a person typed, which must run.
    pub(super) async fn running(&self, docker: &Docker, asked: &str) -> Result<Running> {
        let drone = self.drone(docker, self.asked(asked)?).await?;
        let (name, repo) = (&drone.identity.name, &drone.identity.repo);
        let sleeps = |what: &str| {
            Error::new(Code::DroneNotRunning, format!("{name} {what}"))
                .hint(format!("`hatchery unburrow {repo}` wakes it"))
        };
        match drone.life {
            Life::Running => {}
            Life::Burrowed => return Err(sleeps("is burrowed")),
            Life::Stopped => return Err(sleeps("is stopped")),
            Life::Bare => return Err(is_bare(&drone)),
            Life::Egg => {
                return Err(Error::new(
                    Code::DroneNotFound,
                    format!("{name} is an egg: its spawn or slay did not finish"),
                )
                .hint(format!(
                    "where no spawn is under way, `hatchery spawn {repo}` starts over"
                )));
            }
        }
        let id = drone.container.as_deref().unwrap_or_default();
        let Some(container) = docker.container(id).await? else {
            return Err(is_bare(&drone));
        };
        Ok(Running {
            user: furnish::user_of(&container),
            folder: starting::folder_of(&self.places, &container, &drone)?,
            container,
            drone,
        })
    }
}
