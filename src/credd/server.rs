//! The connections on a drone's socket: how many, how long, and in what order they go.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout};

use super::http;
use super::keeper::Keeper;

/// Bounds on what a drone can make its daemon hold.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Open connections. One more, and the one that has been idle longest is closed for it.
    pub connections: usize,
    /// How long a request's head may take, and how long a connection may be idle.
    pub head: Duration,
    /// How long requests in flight get when the daemon is told to stop.
    pub drain: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            // A thousand requests at once are honest (a build with many jobs); each connection
            // costs about 20 kB.
            connections: 1024,
            head: Duration::from_secs(10),
            drain: Duration::from_secs(5),
        }
    }
}

/// What every connection has to say what it wants, however many wait behind it.
const GRACE: Duration = Duration::from_millis(50);

/// The head that hyper reads at most; above our own limit, so that we say what is wrong.
const MAX_READ: usize = 2 * http::MAX_HEAD;

/// The server on one drone's socket.
pub struct Server {
    keeper: Arc<Keeper>,
    bounds: Bounds,
    open: Mutex<Open>,
    closed: Notify,
    stopping: watch::Sender<bool>,
}

#[derive(Default)]
struct Open {
    next: u64,
    connections: HashMap<u64, Connection>,
    last_request: Option<Duration>,
}

struct Connection {
    /// Since when nothing was asked on it; none while an answer is being found.
    idle_since: Option<Instant>,
    task: Option<AbortHandle>,
}

impl Server {
    /// A server that hands out this keeper's tokens.
    pub fn new(keeper: Arc<Keeper>, bounds: Bounds) -> Arc<Self> {
        Arc::new(Self {
            keeper,
            bounds,
            open: Mutex::default(),
            closed: Notify::new(),
            stopping: watch::Sender::new(false),
        })
    }

    /// When the last request came, by the keeper's steady clock.
    pub fn last_request(&self) -> Option<Duration> {
        self.open().last_request
    }

    /// How many connections are open.
    pub fn connections(&self) -> usize {
        self.open().connections.len()
    }

    /// Takes connections for ever.
    pub async fn accept(self: &Arc<Self>, listener: &UnixListener) -> Infallible {
        loop {
            self.make_room().await;
            match listener.accept().await {
                Ok((stream, _)) => self.take(stream),
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                // Out of file descriptors or memory: the idlest gives its back.
                Err(_) => {
                    self.evict();
                    sleep(Duration::from_millis(20)).await;
                }
            }
        }
    }

    /// Closes connections that hyper's own timeout does not end: their clients do not read.
    pub fn sweep(&self) {
        self.close_idle(2 * self.bounds.head);
    }

    /// Closes connections on which nothing was asked for this long. Whether any is left.
    pub fn close_idle(&self, idle: Duration) -> bool {
        let mut open = self.open();
        open.connections.retain(|_, connection| {
            let lasting = connection
                .idle_since
                .is_none_or(|since| since.elapsed() < idle);
            if let (false, Some(task)) = (lasting, &connection.task) {
                task.abort();
            }
            lasting
        });
        !open.connections.is_empty()
    }

    /// Lets requests in flight finish, for as long as the bounds allow, and closes the rest.
    pub async fn drain(&self) {
        self.stopping.send_replace(true);
        let all_closed = async {
            loop {
                let closed = self.closed.notified();
                if self.connections() == 0 {
                    return;
                }
                closed.await;
            }
        };
        let _ = timeout(self.bounds.drain, all_closed).await;
    }

    /// Waits until there is room for one more connection.
    async fn make_room(&self) {
        loop {
            let closed = self.closed.notified();
            if self.connections() < self.bounds.connections || self.evict() {
                return;
            }
            // Somebody closes or is answered, or the youngest have had their time.
            let _ = timeout(GRACE, closed).await;
        }
    }

    /// Closes the connection that has been idle longest, if one has been for a while.
    fn evict(&self) -> bool {
        let mut open = self.open();
        let idlest = open
            .connections
            .iter()
            .filter_map(|(id, connection)| Some((connection.idle_since?, *id)))
            .min()
            .filter(|(since, _)| since.elapsed() >= GRACE);
        let Some((_, id)) = idlest else { return false };
        if let Some(task) = open.connections.remove(&id).and_then(|gone| gone.task) {
            task.abort();
        }
        true
    }

    fn take(self: &Arc<Self>, stream: UnixStream) {
        let id = {
            let mut open = self.open();
            open.next += 1;
            let id = open.next;
            open.connections.insert(
                id,
                Connection {
                    idle_since: Some(Instant::now()),
                    task: None,
                },
            );
            id
        };
        let this = self.clone();
        let task = tokio::spawn(async move {
            let _entry = Entry { server: &this, id };
            this.serve(id, stream).await;
        });
        if let Some(connection) = self.open().connections.get_mut(&id) {
            connection.task = Some(task.abort_handle());
        }
    }

    /// Answers what comes over this stream, which counts as no connection.
    pub async fn converse(self: &Arc<Self>, stream: impl AsyncRead + AsyncWrite + Unpin) {
        self.serve(0, stream).await;
    }

    async fn serve(self: &Arc<Self>, id: u64, stream: impl AsyncRead + AsyncWrite + Unpin) {
        let service = service_fn(move |request| {
            let this = self.clone();
            async move {
                let _busy = this.busy(id);
                let mut answer = http::answer(this.keeper.clone(), request).await;
                // Others wait for a place: one request each.
                if this.connections() >= this.bounds.connections {
                    let close = HeaderValue::from_static("close");
                    answer.headers_mut().insert(CONNECTION, close);
                }
                Ok::<_, Infallible>(answer)
            }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.bounds.head)
            .max_buf_size(MAX_READ)
            // Some clients close their half once they have asked.
            .half_close(true)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        let mut stopping = self.stopping.subscribe();
        let stop = async { stopping.wait_for(|stop| *stop).await.map_or((), drop) };
        // What a connection dies of is its client's affair.
        tokio::select! {
            _ = connection.as_mut() => {}
            () = stop => {
                connection.as_mut().graceful_shutdown();
                let _ = connection.await;
            }
        }
    }

    /// Marks a connection as having a request in flight.
    fn busy(self: &Arc<Self>, id: u64) -> Busy {
        let mut open = self.open();
        open.last_request = Some(self.keeper.steady());
        if let Some(connection) = open.connections.get_mut(&id) {
            connection.idle_since = None;
        }
        Busy {
            server: self.clone(),
            id,
        }
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request in flight.
struct Busy {
    server: Arc<Server>,
    id: u64,
}

impl Drop for Busy {
    fn drop(&mut self) {
        if let Some(connection) = self.server.open().connections.get_mut(&self.id) {
            connection.idle_since = Some(Instant::now());
        }
        // It can be closed for another now.
        self.server.closed.notify_waiters();
    }
}

/// A connection's place among the open ones.
struct Entry<'a> {
    server: &'a Server,
    id: u64,
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        self.server.open().connections.remove(&self.id);
        self.server.closed.notify_waiters();
    }
}
