//! One drone's place in the process that serves them all: its directory, its socket, and a thread
//! of its own, so that the kernel shares the processors out among the drones and a crowd at one
//! socket costs the others no more than their share.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::time::interval;

use super::keeper::Keeper;
use super::listener::Listener;
use super::server::{Bounds, Server};
use crate::drone::file::{self, SOCKET, write_drone_file};
use crate::drone::{DroneName, Identity};
use crate::error::{Code, Error, Result, host_io};
use crate::host::Places;

/// How often connections are looked at whose clients do not read.
const SWEEP: Duration = Duration::from_secs(5);

/// What a drone's thread is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Serve,
    /// Answer what is in flight, then end.
    Finish,
    /// End.
    Quit,
}

/// A drone that is served.
pub struct Post {
    keeper: Arc<Keeper>,
    listener: Arc<Listener>,
    order: watch::Sender<Order>,
    ended: oneshot::Receiver<()>,
}

impl Post {
    /// Puts the drone's directory, its `drone.json`, its socket and the link to it in their places,
    /// and answers on the socket from then on.
    pub async fn open(
        drone: &Identity,
        github_url: &url::Url,
        places: &Places,
        keeper: Arc<Keeper>,
        bounds: Bounds,
    ) -> Result<Self> {
        let directory = places.make_sockets(&drone.name)?;
        write_drone_file(&directory, github_url, &drone.scope)?;
        let path = directory.join(SOCKET);
        // Not found out by connecting: that would make systemd start what the socket is for.
        if path.exists() && is_listened_on(&path) {
            return Err(Listener::taken(&path));
        }
        let listener = Arc::new(Listener::bind(&path)?);
        link(&places.socket_link(&drone.name), &drone.name)?;
        let no_thread = |error| {
            let what = format!("cannot start a thread to serve {}", drone.name);
            Error::new(Code::HostFailed, what).because(error)
        };
        let (order, orders) = watch::channel(Order::Serve);
        let (tell_begun, begun) = oneshot::channel();
        let (tell_ended, ended) = oneshot::channel();
        let server = Server::new(keeper.clone(), bounds);
        let work = {
            let listener = listener.clone();
            move || {
                match Answering::begin(server, &listener) {
                    Ok(answering) => {
                        let _ = tell_begun.send(Ok(()));
                        answering.go_on(orders);
                    }
                    Err(error) => drop(tell_begun.send(Err(error))),
                }
                // The last that holds it removes the socket.
                drop(listener);
                let _ = tell_ended.send(());
            }
        };
        std::thread::Builder::new()
            .name(drone.name.to_string())
            .spawn(work)
            .map_err(no_thread)?;
        begun
            .await
            .map_err(|_| no_thread(std::io::Error::other("it ended")))??;
        Ok(Self {
            keeper,
            listener,
            order,
            ended,
        })
    }

    /// Whether its socket is still where it was put.
    pub fn in_place(&self) -> bool {
        self.listener.in_place()
    }

    /// Takes the socket away, whatever is in flight. The keeper's tokens are then nobody's.
    pub async fn close(self) -> Arc<Keeper> {
        self.order.send_replace(Order::Quit);
        let _ = self.ended.await;
        self.keeper
    }

    /// Answers what is in flight, within the bounds. Nothing is revoked.
    pub async fn finish(self) {
        self.order.send_replace(Order::Finish);
        let _ = self.ended.await;
    }
}

/// Removes the directory and the link of a drone that is gone. Whoever makes or removes the drone
/// at this moment does it themselves.
pub fn clear(places: &Places, drone: &DroneName) {
    let Ok(_lock) = places.lock(drone) else {
        return;
    };
    let directory = places.sockets(drone);
    let _ = fs::remove_file(places.socket_link(drone));
    let _ = fs::remove_file(directory.join(file::NAME));
    // Unless there is something of somebody else's in it.
    let _ = fs::remove_dir(directory);
}

/// What the drone's thread does.
struct Answering {
    runtime: tokio::runtime::Runtime,
    socket: tokio::net::UnixListener,
    server: Arc<Server>,
}

impl Answering {
    fn begin(server: Arc<Server>, listener: &Listener) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Error::new(Code::HostFailed, "cannot start").because(error))?;
        let socket = {
            let _on = runtime.enter();
            listener.listen()?
        };
        Ok(Self {
            runtime,
            socket,
            server,
        })
    }

    /// Answers until it is told otherwise.
    fn go_on(self, mut orders: watch::Receiver<Order>) {
        let Self {
            runtime,
            socket,
            server,
        } = self;
        runtime.block_on(async {
            {
                let mut accepting = std::pin::pin!(server.accept(&socket));
                let mut told = std::pin::pin!(orders.wait_for(|order| *order != Order::Serve));
                let mut sweep = interval(SWEEP);
                loop {
                    tokio::select! {
                        never = accepting.as_mut() => match never {},
                        _ = told.as_mut() => break,
                        _ = sweep.tick() => server.sweep(),
                    }
                }
            }
            drop(socket);
            let order = *orders.borrow();
            if order == Order::Finish {
                server.drain().await;
            }
        });
    }
}

/// Puts the link to the socket where the spec names it; what is there and is no link stays.
fn link(path: &Path, drone: &DroneName) -> Result<()> {
    let to: PathBuf = Path::new(drone.as_str()).join(SOCKET);
    match fs::read_link(path) {
        Ok(there) if there == to => return Ok(()),
        Ok(_) => fs::remove_file(path).map_err(|error| host_io("replace", path, error))?,
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(host_io("replace", path, error)),
    }
    std::os::unix::fs::symlink(&to, path).map_err(|error| host_io("make", path, error))
}

/// Whether the kernel knows somebody who listens on a socket of this path (the flag `__SO_ACCEPTCON` in
/// `/proc/net/unix`).
fn is_listened_on(path: &Path) -> bool {
    const LISTENS: &str = "00010000";
    let Ok(sockets) = fs::read_to_string("/proc/net/unix") else {
        return false;
    };
    let path = path.to_string_lossy();
    sockets.lines().any(|line| {
        let mut words = line.split_ascii_whitespace();
        words.nth(3) == Some(LISTENS) && words.nth(3) == Some(&*path)
    })
}
