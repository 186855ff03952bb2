//! The door: Docker's Engine API as a spawn sees it.
//!
//! Between what hatchery reads in a repository and what Docker does stand the devcontainer CLI,
//! docker's command, compose and buildx, each of which writes new text out of strings that are a
//! stranger's. So what counts is what Docker is asked to do. While a spawn runs, hatchery listens
//! on a socket of the spawn's own; every request on it is one of a list ([`call`]), its body is
//! judged and written from what passed ([`judge`], [`rewrite`]), and what Docker answers is cut to
//! what is the drone's own ([`answers`]).
//!
//! The drone's container is held when it is about to start: by then it is complete, nothing in it has run, and
//! hatchery furnishes it.
//!
//! Builds pass if their parameters do. What they are made of is held against the policy before the builder is
//! asked.

mod answers;
mod call;
#[cfg(test)]
mod fuzz;
pub mod judge;
mod own;
mod passage;
mod rewrite;
mod serve;
mod stop;
mod upstream;
mod wire;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

pub use self::judge::Bounds;
use self::own::Own;
use self::serve::Shared;
pub use self::upstream::Making;
use crate::docker::{Addresses, Container};
use crate::error::{Code, Error, Result};
use crate::host;
use crate::timeline::Timeline;

/// What the door tells a spawn.
#[derive(Debug)]
pub enum Event {
    /// The drone's container is created, and it or a sibling that mounts its clone is about to start.
    Held(Held),
    /// A client asks for the first thing that takes the place of what is there: all is built. It waits until
    /// this is answered. Sent only after [`Door::replaces`].
    Replacing(oneshot::Sender<()>),
    /// A client asked for a container, network or volume that a drone may not or cannot have. It gets no
    /// answer.
    Refused(Error),
}

/// A container whose start waits. Dropping this means that it does not start, and that the drone's container
/// must be created again.
#[derive(Debug)]
pub struct Held {
    /// Whether it is the drone's own, and not a sibling.
    pub is_drones: bool,
    /// The id of the drone's container.
    pub container: String,
    go: oneshot::Sender<()>,
    started: oneshot::Receiver<std::result::Result<(), String>>,
}

impl Held {
    /// Lets it start, and waits until Docker has started it. Returns `false` if it was not started because the
    /// client has given up meanwhile; the devcontainer CLI reports why.
    pub async fn start(self) -> Result<bool> {
        if self.go.send(()).is_err() {
            return Ok(false);
        }
        match self.started.await {
            Ok(Ok(())) => Ok(true),
            Ok(Err(why)) => Err(Error::new(
                Code::DockerFailed,
                "Docker could not start the container",
            )
            .because(why)),
            Err(_) => Ok(false),
        }
    }
}

/// A door that is open. Dropping it closes it, with all connections.
#[derive(Debug)]
pub struct Door {
    socket: PathBuf,
    shared: Arc<Shared>,
    events: mpsc::Receiver<Event>,
    serving: JoinHandle<()>,
}

impl Door {
    /// Opens a door to the daemon at `docker`, as in `DOCKER_HOST`, with its socket in `place`. New networks
    /// get their addresses from `addresses`. The containers in `there` are the drone's already; the door does
    /// not open if one of them is beyond `bounds`. For a trusted repository nothing is judged.
    pub fn open(
        place: &Path,
        docker: &str,
        bounds: Bounds,
        addresses: Addresses,
        there: &[Container],
        trusted: bool,
    ) -> Result<Self> {
        let mut own = Own::default();
        for container in there {
            own.add(container.id(), container.name());
        }
        for container in there.iter().filter(|_| !trusted) {
            let host = container.host().cloned().unwrap_or_default();
            if let Err(stop) = judge::present(&host, &own, &bounds) {
                return Err(refused(&bounds, Some(container.name()), &stop.reason()));
            }
        }
        let (listener, socket) = host::listen(place)?;
        let (sender, events) = mpsc::channel(16);
        let shared = Arc::new(Shared::new(docker, bounds, addresses, own, trusted, sender));
        let serving = tokio::spawn(serve::serve(listener, Arc::clone(&shared)));
        Ok(Self {
            socket,
            shared,
            events,
            serving,
        })
    }

    /// The door's address, as in `DOCKER_HOST`.
    pub fn host(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// From now on the first request that replaces something of the drone's waits until [`Event::Replacing`] is
    /// answered, and the container `old` is not shown.
    pub fn replaces(&self, old: Option<String>) {
        self.shared.state().replaced = old;
        self.shared.replaces.store(true, Ordering::Release);
    }

    /// From now on the time that Docker takes to create each container is recorded here.
    pub fn times(&self, timeline: &Timeline) {
        self.shared.state().timeline = Some(timeline.clone());
    }

    /// Waits for the next event.
    pub async fn next(&mut self) -> Event {
        match self.events.recv().await {
            Some(event) => event,
            // It is open for as long as it is there.
            None => std::future::pending().await,
        }
    }

    /// What Docker is creating; this goes on after the door is closed.
    pub fn making(&self) -> Making {
        self.shared.docker.making.clone()
    }

    /// Requests that were refused because no spawn makes them; only the first ones are kept.
    pub fn unlisted(&self) -> Vec<String> {
        self.shared.unlisted()
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.serving.abort();
        self.shared.close();
        let _ = std::fs::remove_file(&self.socket);
    }
}

/// The error for something that a drone may not have. `container` is the container that would have it.
fn refused(bounds: &Bounds, container: Option<&str>, what: &str) -> Error {
    let name = &bounds.identity.name;
    let which = match container {
        None => "a container that".to_owned(),
        Some(own) if own == name.as_str() => "the container that".to_owned(),
        Some(sibling) => format!("the container {sibling:.80} that"),
    };
    Error::new(
        Code::GateRefused,
        format!("{which} {name}'s configuration creates would have {what}"),
    )
    .hint(
        "remove it from devcontainer.json, its compose files, its features or its image; or, if you trust \
         the repository with this server, use `--trust` once or devcontainer.trust permanently",
    )
}
