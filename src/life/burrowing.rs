//! Putting a drone to sleep: its containers stop and are kept, its tokens are revoked, and it leaves
//! the tailnet.

use std::time::Duration;

use futures_util::future::try_join_all;

use crate::config::Config;
use crate::docker::{Container, Docker, Drone, Life, Wanted};
use crate::drone::DroneName;
use crate::error::{Error, Result};
use crate::failpoint::{self, Point};
use crate::host::Places;
use crate::life::siblings;
use crate::life::teardown;
use crate::life::waking::STOP_WITHIN;
use crate::server::Server;
use crate::tailnet;

/// How long the drone may take to leave the tailnet before it is stopped all the same.
const LEAVE_WITHIN: Duration = Duration::from_secs(10);

/// What a drone is put to sleep with.
#[derive(Debug, Clone, Copy)]
pub struct Burrowing<'a> {
    /// Its Docker.
    pub docker: &'a Docker,
    /// The configuration in force.
    pub config: &'a Config,
    /// Where things are kept on this server.
    pub places: &'a Places,
}

impl<'a> From<&Server<'a>> for Burrowing<'a> {
    fn from(server: &Server<'a>) -> Self {
        Self {
            docker: server.docker,
            config: server.config,
            places: server.places,
        }
    }
}

impl Burrowing<'_> {
    /// Stops a drone that runs, or should run, and its siblings. The caller holds its lock and
    /// says in `revoking` how its tokens are revoked. What did not work and kept nothing from
    /// stopping comes back, as sentences for a person.
    pub async fn stop(
        self,
        drone: &Drone,
        container: &str,
        revoking: impl Future<Output = Result<()>>,
    ) -> Result<Vec<String>> {
        let (docker, name) = (self.docker, &drone.identity.name);
        // First what is wanted, so that a crash in between does not bring it back.
        docker.set_wanted(container, Wanted::Asleep).await?;
        failpoint::reached(Point::MarkedAsleep);
        let siblings = siblings::of(docker, name, container).await?;
        siblings::hush(docker, &siblings).await?;
        failpoint::reached(Point::SiblingsHushed);
        let stopping = async {
            let all = siblings.iter().map(Container::id).chain([container]);
            try_join_all(all.map(|id| docker.stop(id, STOP_WITHIN))).await?;
            failpoint::reached(Point::ContainersStopped);
            siblings::remember(docker, &siblings).await?;
            failpoint::reached(Point::SiblingsRemembered);
            Ok::<_, Error>(())
        };
        let revoking = async {
            let revoked = revoking.await;
            failpoint::reached(Point::TokensRevoked);
            revoked
        };
        let parting = async {
            Ok::<_, Error>(match &self.config.tailnet {
                Some(tailnet) if drone.life == Life::Running => {
                    if tailnet.api_key_file.is_some() {
                        // Headscale can be told while it stops; it can only leave while it runs.
                        let leaving = teardown::leave_tailnet(self.config, self.places, name);
                        let (stopped, left) =
                            tokio::join!(stopping, tokio::time::timeout(LEAVE_WITHIN, leaving));
                        stopped?;
                        matches!(left, Ok(Ok(())))
                    } else {
                        let inside = docker.inside(container);
                        let leaving = tailnet::node::leave(&inside);
                        let left = tokio::time::timeout(LEAVE_WITHIN, leaving).await;
                        stopping.await?;
                        matches!(left, Ok(Ok(())))
                    }
                }
                _ => {
                    stopping.await?;
                    true
                }
            })
        };
        let (left, revoked) = tokio::join!(parting, revoking);
        Ok(not_done(name, left?, &revoked))
    }

    /// What a burrow that was killed may not have come to: revokes the tokens and leaves the tailnet.
    pub async fn part(
        self,
        name: &DroneName,
        revoking: impl Future<Output = Result<()>>,
    ) -> Vec<String> {
        let leaving = teardown::leave_tailnet(self.config, self.places, name);
        let (revoked, left) = tokio::join!(revoking, tokio::time::timeout(LEAVE_WITHIN, leaving));
        not_done(name, matches!(left, Ok(Ok(()))), &revoked)
    }
}

/// What a person is told of a parting that did not work.
fn not_done(name: &DroneName, left: bool, revoked: &Result<()>) -> Vec<String> {
    let stays = || {
        format!(
            "{name} did not leave the tailnet; its name is released once Headscale removes the node"
        )
    };
    let unrevoked = revoked.as_ref().err().map(Error::message);
    unrevoked.into_iter().chain((!left).then(stays)).collect()
}
