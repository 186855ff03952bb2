//! `hatchery burrow`

use std::time::Duration;

use clap::Args;
use futures_util::future::try_join_all;

use super::{Context, is_bare};
use crate::docker::{Container, Life, Wanted};
use crate::drone::DroneName;
use crate::error::{Code, Error, Result};
use crate::fault::{self, Point};
use crate::life::memory;
use crate::life::siblings;
use crate::life::teardown;
use crate::life::waking::STOP_WITHIN;
use crate::tailnet;

/// How long the drone may take to leave the tailnet before it is stopped all the same.
const LEAVE_WITHIN: Duration = Duration::from_secs(10);

/// Put a drone to sleep: its work stays, its name in the tailnet is free
#[derive(Debug, Args)]
pub struct Burrow {
    /// org/repo
    repo: String,
}

impl Burrow {
    pub async fn run(self, context: &Context<'_>) -> Result<()> {
        let repo = context.repository(&self.repo)?;
        let docker = context.docker().await?;
        let _lock = context.places.lock(&DroneName::of(&repo))?;
        let drone = context.drone(&docker, &repo).await?;
        let name = &drone.identity.name;
        let container = match (&drone.container, drone.life) {
            (Some(container), Life::Running | Life::Stopped) => container,
            (_, Life::Burrowed) => {
                part(context, name).await;
                done(context, &repo, name.as_str(), "is burrowed already");
                return Ok(());
            }
            (_, Life::Bare) => return Err(is_bare(&drone)),
            _ => {
                return Err(Error::new(
                    Code::DroneNotFound,
                    format!("{name} is an egg: its spawn or slay did not finish"),
                )
                .hint(format!(
                    "`hatchery spawn {repo}` starts over, `hatchery slay {repo}` removes it"
                )));
            }
        };
        memory::warn(context.ui, &context.places, &drone).await;
        context.ui.step(&format!("Burrowing {name}"));
        // First what is wanted, so that a crash in between does not bring it back.
        docker.set_wanted(container, Wanted::Asleep).await?;
        fault::reached(Point::MarkedAsleep);
        let siblings = siblings::of(&docker, name, container).await?;
        siblings::hush(&docker, &siblings).await?;
        fault::reached(Point::SiblingsHushed);
        let stopping = async {
            let all = siblings.iter().map(Container::id).chain([&**container]);
            try_join_all(all.map(|id| docker.stop(id, STOP_WITHIN))).await?;
            fault::reached(Point::ContainersStopped);
            siblings::remember(&docker, &siblings).await?;
            fault::reached(Point::SiblingsRemembered);
            Ok(())
        };
        let revoking = async {
            let revoked = context.sockets().await?.revoke(name).await;
            fault::reached(Point::TokensRevoked);
            revoked
        };
        let parting = async {
            Ok::<_, Error>(match &context.config.tailnet {
                Some(tailnet) if drone.life == Life::Running => {
                    if tailnet.api_key_file.is_some() {
                        // Headscale can be told while it stops; it can only leave while it runs.
                        let leaving =
                            teardown::leave_tailnet(&context.config, &context.places, name);
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
        let left = left?;
        for error in [revoked, context.places.forget_memory(name)]
            .into_iter()
            .filter_map(Result::err)
        {
            context.ui.warn(&error.message());
        }
        if !left {
            context.ui.warn(&did_not_leave(name));
        }
        done(
            context,
            &repo,
            name.as_str(),
            "is burrowed; its work stays in its volume",
        );
        Ok(())
    }
}

/// What a burrow that was killed may not have come to: revokes the tokens and leaves the tailnet.
async fn part(context: &Context<'_>, name: &DroneName) {
    let (config, places) = (&context.config, &context.places);
    let revoking = async { context.sockets().await?.revoke(name).await };
    let leaving = teardown::leave_tailnet(config, places, name);
    let (revoked, left) = tokio::join!(revoking, tokio::time::timeout(LEAVE_WITHIN, leaving));
    if let Err(error) = revoked {
        context.ui.warn(&error.message());
    }
    if !matches!(left, Ok(Ok(()))) {
        context.ui.warn(&did_not_leave(name));
    }
}

fn did_not_leave(name: &DroneName) -> String {
    format!("{name} did not leave the tailnet; its name is free once Headscale drops the node")
}

fn done(context: &Context<'_>, repo: &crate::repo::RepoId, name: &str, what: &str) {
    if context.ui.json() {
        context.ui.json_result(&serde_json::json!({
            "name": name, "repository": repo, "state": Life::Burrowed,
        }));
    } else {
        context.ui.result(format!(
            "{name} {what}. `hatchery unburrow {repo}` wakes it."
        ));
    }
}
