//! Connections at the door, and what they share.

use std::convert::Infallible;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use super::Event;
use super::judge::Bounds;
use super::own::Own;
use super::passage::answer;
use super::upstream::Upstream;
use crate::devcontainer::MAX_SERVICES;
use crate::docker::Addresses;
use crate::timeline::Timeline;

/// Connections at once. A spawn has a few; compose opens one for each container that it makes.
const CONNECTIONS: usize = 256;

/// How long a request's head may take, and how long a connection may be idle: as long as dockerd
/// itself gives (`ReadHeaderTimeout` in its daemon.go).
const HEAD_WITHIN: Duration = Duration::from_secs(5 * 60);

/// How many bodies are read and judged at a time.
const TURNS: usize = 8;

/// What all connections share.
#[derive(Debug)]
pub struct Shared {
    pub docker: Upstream,
    pub bounds: Bounds,
    /// Where new networks get their addresses from.
    pub addresses: Addresses,
    pub trusted: bool,
    pub events: mpsc::Sender<Event>,
    /// Bodies that are read and judged at a time: a small text can be large once it is parsed.
    pub turns: Semaphore,
    /// Held while the drone's container is furnished.
    pub furnishing: tokio::sync::Mutex<()>,
    /// Whether something that exists is still to be replaced.
    pub replaces: AtomicBool,
    /// Held while [`Event::Replacing`] waits for its answer.
    pub replacing: tokio::sync::Mutex<()>,
    state: Mutex<State>,
}

/// A place among the drone's containers for one that is to be created.
#[derive(Debug)]
pub struct Reserved(Arc<Shared>);

impl Drop for Reserved {
    fn drop(&mut self) {
        self.0.state().creating -= 1;
    }
}

/// The start of the drone's container waits for as long as this exists.
#[derive(Debug)]
pub struct Holding(Arc<Shared>);

impl Drop for Holding {
    fn drop(&mut self) {
        self.0.state().held = None;
    }
}

/// What changes while the door is open.
#[derive(Debug, Default)]
pub struct State {
    pub own: Own,
    /// The id of the drone's container, once it is furnished.
    pub furnished: Option<String>,
    /// The id of the drone's container, once it may start.
    pub released: Option<String>,
    /// The id of the container that is replaced.
    pub replaced: Option<String>,
    /// The id of the container whose start waits.
    held: Option<String>,
    /// Containers that Docker is creating.
    creating: usize,
    /// Where the time is recorded that containers take to be created.
    pub timeline: Option<Timeline>,
    /// Requests that no spawn makes.
    pub unlisted: Vec<String>,
    /// Connections, and what they were upgraded to.
    tasks: JoinSet<()>,
}

impl Shared {
    pub fn new(
        docker: &str,
        bounds: Bounds,
        addresses: Addresses,
        own: Own,
        trusted: bool,
        events: mpsc::Sender<Event>,
    ) -> Self {
        let state = State {
            own,
            ..State::default()
        };
        Self {
            docker: Upstream::new(docker),
            bounds,
            addresses,
            trusted,
            events,
            turns: Semaphore::new(TURNS),
            furnishing: tokio::sync::Mutex::new(()),
            replaces: AtomicBool::new(false),
            replacing: tokio::sync::Mutex::new(()),
            state: Mutex::new(state),
        }
    }

    /// Reserves a place for another container; `None` if there are too many.
    pub fn reserve(self: &Arc<Self>) -> Option<Reserved> {
        let mut state = self.state();
        if state.own.containers() + state.creating >= MAX_SERVICES {
            return None;
        }
        state.creating += 1;
        Some(Reserved(Arc::clone(self)))
    }

    /// The id of the drone's container, if it is created and not furnished.
    pub fn unfurnished(&self) -> Option<String> {
        let state = self.state();
        let drone = state.own.exactly(self.bounds.identity.name.as_str())?;
        (state.furnished.as_deref() != Some(drone)).then(|| drone.to_owned())
    }

    /// Holds a container; `None` if it is held already.
    pub fn hold(self: &Arc<Self>, id: &str) -> Option<Holding> {
        let mut state = self.state();
        if state.held.as_deref() == Some(id) {
            return None;
        }
        state.held = Some(id.to_owned());
        Some(Holding(Arc::clone(self)))
    }

    pub fn unlisted(&self) -> Vec<String> {
        self.state().unlisted.clone()
    }

    /// Ends all connections.
    pub fn close(&self) {
        self.state().tasks.abort_all();
    }

    /// Locks the state.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs something until it ends or the door is closed.
    pub fn go_on(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut state = self.state();
        while state.tasks.try_join_next().is_some() {}
        state.tasks.spawn(task);
    }
}

/// Takes connections until it is aborted.
pub async fn serve(listener: UnixListener, shared: Arc<Shared>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors: one may be free soon.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let with = Arc::clone(&shared);
        shared.go_on(async move {
            connection(stream, with).await;
            drop(place);
        });
    }
}

async fn connection(stream: UnixStream, shared: Arc<Shared>) {
    let service = service_fn(|request| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(answer(&shared, request).await) }
    });
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Subnets;
    use crate::door::judge::tests::bounds;
    use crate::host::Places;

    #[test]
    fn there_are_places_for_so_many_containers_at_once() {
        let (events, _) = mpsc::channel(1);
        let nowhere = "/nowhere";
        let addresses = Addresses::new(Subnets::default(), Places::under(nowhere.as_ref()));
        let own = Own::default();
        let shared = Shared::new(nowhere, bounds(), addresses, own, false, events);
        let shared = Arc::new(shared);
        let mut places: Vec<_> = (0..MAX_SERVICES)
            .map(|_| shared.reserve().unwrap())
            .collect();
        assert!(shared.reserve().is_none());
        places.pop();
        assert!(shared.reserve().is_some());
    }
}
