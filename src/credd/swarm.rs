//! All drones of this server from one process, for hosts without systemd: Docker says which there
//! are, and each has a [`Post`]. One key, one way to GitHub; tokens, mints and connections are
//! counted for each drone alone.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use futures_util::{FutureExt, StreamExt};
use sd_notify::NotifyState;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tracing::{info, warn};

use super::daemon;
use super::github::Github;
use super::keeper::Keeper;
use super::lifetime::tell;
use super::post::{self, Post};
use super::reconcile::{Action, Served, actions};
use super::server::Bounds;
use crate::config::Config;
use crate::docker::Docker;
use crate::drone::{DroneName, Identity, Scope};
use crate::error::{Code, Error, Result};
use crate::host::Places;

/// Changes that come within this time are looked at together.
const TOGETHER: Duration = Duration::from_millis(100);
/// The first pause before Docker is tried again, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(10));
/// How often it is looked whether all sockets are where they were put, and whether those that
/// could not be served can be by now.
const LOOK: Duration = Duration::from_secs(10);

/// Which drones there are, and what is wrong with the labels of others.
type Found = (Vec<Identity>, Vec<String>);

/// The drones of this server, and those of them that are served.
pub struct Swarm {
    config: Config,
    github: Arc<Github>,
    places: Places,
    bounds: Bounds,
    wanted: Vec<Identity>,
    posts: BTreeMap<DroneName, (Scope, Post)>,
    /// What was wrong the last time, and has been said.
    said: BTreeSet<String>,
}

impl Swarm {
    /// Nobody is served yet. `bounds` are those of each drone.
    pub const fn new(config: Config, github: Arc<Github>, places: Places, bounds: Bounds) -> Self {
        Self {
            config,
            github,
            places,
            bounds,
            wanted: Vec::new(),
            posts: BTreeMap::new(),
            said: BTreeSet::new(),
        }
    }

    /// Serves every drone until `stop` resolves; then what is in flight has its bounds' time.
    pub async fn serve(mut self, stop: impl Future<Output = ()>) {
        let (tell_found, mut found) = watch::channel(None);
        let following = tokio::spawn(follow(self.config.docker.clone(), tell_found));
        let mut stop = std::pin::pin!(stop);
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let watchdog = sd_notify::watchdog_enabled().map(|limit| limit / 3);
        let mut alive = interval(watchdog.unwrap_or(LOOK));
        let mut ready = false;
        let mut warnings = Vec::new();
        loop {
            tokio::select! {
                () = stop.as_mut() => break,
                _ = alive.tick() => {
                    if watchdog.is_some() {
                        tell(NotifyState::Watchdog);
                    }
                    continue;
                }
                _ = look.tick() => {}
                Ok(()) = found.changed() => {
                    if let Some(new) = found.borrow_and_update().clone() {
                        (self.wanted, warnings) = new;
                    }
                    look.reset();
                }
            }
            if found.borrow().is_none() {
                continue;
            }
            self.reconcile(&warnings).await;
            if !ready {
                ready = true;
                info!("serving {} drones", self.posts.len());
                tell(NotifyState::Ready);
            }
        }
        following.abort();
        tell(NotifyState::Stopping);
        let posts = std::mem::take(&mut self.posts);
        join_all(posts.into_values().map(|(_, post)| post.finish())).await;
    }

    /// Serves those that there are, as far as that can be done now.
    async fn reconcile(&mut self, warnings: &[String]) {
        let served = self
            .posts
            .iter()
            .map(|(name, (scope, post))| {
                let served = Served {
                    scope: scope.clone(),
                    in_place: post.in_place(),
                };
                (name.clone(), served)
            })
            .collect();
        let mut wrong: BTreeSet<String> = warnings.iter().cloned().collect();
        for action in actions(&self.wanted, &served) {
            match action {
                Action::Forget(name) => {
                    self.close(&name).await;
                    post::clear(&self.places, &name);
                    info!(drone = %name, "{name} is gone and is no longer served");
                }
                Action::Close(name) => self.close(&name).await,
                Action::Serve(drone) => match self.open(&drone).await {
                    Ok(()) => info!(drone = %drone.name, "serving {}", drone.name),
                    Err(error) => {
                        wrong.insert(format!("{} is not served: {}", drone.name, told(&error)));
                    }
                },
            }
        }
        for new in wrong.difference(&self.said) {
            warn!("{new}");
        }
        self.said = wrong;
    }

    async fn open(&mut self, drone: &Identity) -> Result<()> {
        let keeper = Keeper::new(
            drone.name.clone(),
            &drone.scope,
            daemon::permissions(&drone.scope, &self.config),
            self.github.clone(),
        );
        let url = &self.config.github.url;
        let post = Post::open(drone, url, &self.places, keeper, self.bounds).await?;
        let entry = (drone.scope.clone(), post);
        self.posts.insert(drone.name.clone(), entry);
        Ok(())
    }

    async fn close(&mut self, name: &DroneName) {
        let Some((_, post)) = self.posts.remove(name) else {
            return;
        };
        let keeper = post.close().await;
        // What GitHub fails to revoke is written down and tried again.
        tokio::spawn(async move { drop(keeper.revoke_all().await) });
    }
}

/// An error with what to do next.
fn told(error: &Error) -> String {
    error.what_next().map_or_else(
        || error.message(),
        |hint| format!("{}; {hint}", error.message()),
    )
}

/// Tells which drones there are, at first and after each change, for ever.
async fn follow(docker: crate::config::Docker, found: watch::Sender<Option<Found>>) {
    let mut pause = PAUSES.0;
    let mut said = false;
    loop {
        let Err(error) = follow_until_away(&docker, &found, &mut pause, &mut said).await;
        // Once for each time that it is away.
        if !said {
            let meanwhile = match *found.borrow() {
                Some(_) => "the drones are still served, and Docker will be asked again",
                None => "no drone is served until it answers",
            };
            warn!("{}; {meanwhile}", error.message());
            said = true;
        }
        sleep(pause.mul_f64(0.5 + fastrand::f64())).await;
        pause = (pause * 2).min(PAUSES.1);
    }
}

async fn follow_until_away(
    config: &crate::config::Docker,
    found: &watch::Sender<Option<Found>>,
    pause: &mut Duration,
    said: &mut bool,
) -> Result<std::convert::Infallible> {
    let docker = Docker::connect(config).await?;
    // What happens while the first list is made is told again.
    let mut changes = std::pin::pin!(docker.changes(SystemTime::now()));
    let ended = || Error::new(Code::DockerAway, "Docker no longer reports its events");
    loop {
        found.send_replace(Some(docker.identities().await?));
        *pause = PAUSES.0;
        *said = false;
        changes.next().await.ok_or_else(ended)??;
        sleep(TOGETHER).await;
        while let Some(more) = changes.next().now_or_never() {
            more.ok_or_else(ended)??;
        }
    }
}
