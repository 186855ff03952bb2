//! The door: Docker's Engine API as a spawn sees it.
//!
//! Between what hatchery reads in a repository and what Docker does stand the devcontainer CLI,
//! docker's command, compose and buildx, each of which writes new text out of strings that are a
//! stranger's. So what counts is what Docker is asked to do. While a spawn runs, hatchery listens
//! on a socket of the spawn's own; every request on it is one of a list ([`call`]), its body is
//! judged and written from what passed ([`judge`], [`rewrite`]), and what Docker answers is cut to
//! what is the drone's own ([`answers`]).
//!
//! The drone's container is held when it is to be started: by then it is whole, nothing in it has
//! run, and hatchery furnishes it.
//!
//! Builds pass. What they are made of is held against the policy before the builder is asked.

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

/// What a spawn must know of what goes on at the door.
#[derive(Debug)]
pub enum Event {
    /// The drone's container is created; it is to be started, or a sibling that shows its clone.
    Held(Held),
    /// The first thing that takes the place of what is there is asked for: all is built. It waits until this
    /// is answered. Only a door that [`Door::replaces`] says so.
    Replacing(oneshot::Sender<()>),
    /// A container, network or volume was asked for that a drone may not have, or cannot. The client
    /// gets no answer.
    Refused(Error),
}

/// A container whose start waits. Dropping it means that it is not to run, and that the drone's
/// container is to be made again.
#[derive(Debug)]
pub struct Held {
    /// Whether it is the drone's own.
    pub is_drones: bool,
    /// The id of the drone's container.
    pub container: String,
    go: oneshot::Sender<()>,
    started: oneshot::Receiver<std::result::Result<(), String>>,
}

impl Held {
    /// Lets it start, and waits until Docker says that it has. Where who asked for it has given up
    /// meanwhile, for a reason that the devcontainer CLI will tell, it is not started.
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
    /// Opens a door to the daemon at `docker`, as in `DOCKER_HOST`, with its socket in `place`. New
    /// networks get their addresses from `addresses`. The containers in `there` are the drone's already; they are held to the same. For a trusted
    /// repository nothing is judged.
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

    /// Where it is, as in `DOCKER_HOST`.
    pub fn host(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// From now on nothing of the drone's is changed before [`Event::Replacing`] was answered, and its old
    /// container is not shown.
    pub fn replaces(&self, old: Option<String>) {
        self.shared.state().replaced = old;
        self.shared.replaces.store(true, Ordering::Release);
    }

    /// From now on the time that Docker takes to create each container is recorded here.
    pub fn times(&self, timeline: &Timeline) {
        self.shared.state().timeline = Some(timeline.clone());
    }

    /// What happens next.
    pub async fn next(&mut self) -> Event {
        match self.events.recv().await {
            Some(event) => event,
            // It is open for as long as it is there.
            None => std::future::pending().await,
        }
    }

    /// What Docker is making, which outlasts the door.
    pub fn making(&self) -> Making {
        self.shared.docker.making.clone()
    }

    /// What was asked for that no spawn asks for, and was not done.
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

/// What a person is told where a drone may not have something. `container` is the one that would.
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
