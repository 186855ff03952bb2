//! What the verbs share that take a person into a drone.

use std::net::{Ipv4Addr, SocketAddr};

use super::{Context, is_bare, is_egg};
use crate::docker::{Container, Docker, Drone, Life};
use crate::error::{Code, Error, Result};
use crate::life::furnish;
use crate::life::readiness;
use crate::life::starting;
use crate::ssh::client::Client;

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

impl Running {
    /// The way of a person's ssh to it, from this server.
    pub async fn client(&self, context: &Context<'_>, docker: &Docker) -> Result<Client> {
        let name = &self.drone.identity.name;
        // A Docker without root has its networks for itself; a published port is still this server's.
        let published = self.drone.ssh_port;
        let published = published.map(|port| SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port));
        let mut address = readiness::sshd_at(docker, &self.container)
            .await
            .or(published);
        if address.is_none() {
            address = readiness::sshd_soon(docker, &self.container).await;
        }
        let address = address.ok_or_else(|| {
            Error::new(
                Code::DroneUnhealthy,
                format!("{name} runs, but its sshd does not answer this server"),
            )
            .hint(format!(
                "`hatchery exec {name} -- COMMAND` works without sshd; `hatchery burrow {name}` and \
                 `hatchery unburrow {name}` restart it"
            ))
        })?;
        Client::new(context.places.state(), name, &self.user, address)
    }
}

impl Context<'_> {
    /// The drone that a person typed, which must run.
    pub(super) async fn running(&self, docker: &Docker, asked: &str) -> Result<Running> {
        let drone = self.drone(docker, self.asked(asked)?).await?;
        let (name, repo) = (&drone.identity.name, &drone.identity.repo);
        let sleeps = |what: &str| {
            Error::new(Code::DroneNotRunning, format!("{name} {what}"))
                .hint(format!("`hatchery unburrow {repo}` starts it again"))
        };
        match drone.life {
            Life::Running => {}
            Life::Burrowed => return Err(sleeps("is burrowed")),
            Life::Stopped => return Err(sleeps("is stopped")),
            Life::Bare => return Err(is_bare(&drone, Code::DroneNotFound)),
            Life::Egg => return Err(is_egg(&drone)),
        }
        let id = drone.container.as_deref().unwrap_or_default();
        let Some(container) = docker.container(id).await? else {
            return Err(is_bare(&drone, Code::DroneNotFound));
        };
        Ok(Running {
            user: furnish::user_of(&container),
            folder: starting::folder_of(&self.places, &container, &drone)?,
            container,
            drone,
        })
    }
}
