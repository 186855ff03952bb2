//! Moments at which a test can have hatchery killed, as by `kill -9` or a lack of memory: right after
//! each lasting effect of a verb. A release build has none of them.
//!
//! `HATCHERY_FAULT=VolumeMade hatchery spawn acme/site` is ended by signal 9 once the volume is made.
//! The scenario `killed` does this for every point, and for every verb that passes it. `HATCHERY_PAUSE`
//! stops the process there, until it gets a SIGCONT, so that the world can change meanwhile.

use rustix::process::{Signal, getpid, kill_process};

/// The variables that name a point, and what the process sends itself there.
const SIGNALS: [(&str, Signal); 2] = [
    ("HATCHERY_FAULT", Signal::KILL),
    ("HATCHERY_PAUSE", Signal::STOP),
];

/// What has just been done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    // A spawn, until the clone is there.
    /// The workshop is made.
    WorkshopMade,
    /// The drone is marked as an egg; its volume is not there yet.
    EggMarked,
    /// The volume is made.
    VolumeMade,
    /// The socket's directory is made, with `drone.json` in it.
    SocketDirectoryMade,
    /// A file is written under a name that is not its own yet.
    FileHalfWritten,
    /// The scope is written for systemd.
    ScopeWritten,
    /// The unit of the socket is started.
    SocketStarted,
    /// The repository is cloned on the host.
    Cloned,

    // The tailnet's node; an unburrow and a recover pass these too.
    /// The single-use key is made and not used; a tailscaled runs.
    NodeKeyMade,
    /// The node is registered; its tailscaled still runs.
    NodeRegistered,
    /// The node's key is written down.
    NodeRemembered,
    /// The node's state is in the container.
    NodePut,
    /// The tailscaled in a running drone has been restarted as its new node.
    NodeStartedOver,

    // A spawn, until the drone runs.
    /// The image is pulled.
    ImagePulled,
    /// The drones' network is there.
    NetworkMade,
    /// The door is open.
    DoorOpen,
    /// The devcontainer CLI is started.
    CliStarted,
    /// The drone's builder is made, with the volume of its cache, and does not run yet.
    BuilderMade,
    /// The builder runs.
    BuilderStarted,
    /// Docker has an image that the builder has built; the builder runs.
    ImageBuilt,
    /// The builder is gone; what it has built is not.
    BuilderEnded,
    /// The container is created, with its siblings, and does not run yet.
    ContainerCreated,
    /// The container is removed again, to be made with another user.
    ContainerDiscarded,
    /// The clone and ssh's files are in the container.
    FilesPut,
    /// The container beside the drone's is there, with its volume.
    BesideMade,
    /// The clone is in the volume.
    ClonePut,
    /// The container is marked as that of an unfinished spawn.
    MarkedUnfinished,
    /// The drone's mark as an egg is gone.
    EggUnmarked,
    /// The container is started.
    ContainerStarted,
    /// The drone is reachable.
    Reachable,
    /// The drone is marked as one that is to run; nobody has been told.
    MarkedRunning,

    // A slay, and what takes back a spawn that has failed.
    /// The volumes were searched for work.
    WorkLookedFor,
    /// The tokens are revoked.
    TokensRevoked,
    /// The unit of the socket is stopped.
    SocketStopped,
    /// The unit of the credential service is stopped.
    ServiceStopped,
    /// The scope is removed.
    ScopeRemoved,
    /// The containers are stopped and not removed.
    ContainersHalted,
    /// The containers are removed.
    ContainersRemoved,
    /// The networks that compose made are removed.
    NetworksRemoved,
    /// The images are removed.
    ImagesRemoved,
    /// The volumes are removed, but for the drone's own.
    VolumesRemoved,
    /// The node has left the tailnet.
    NodeForgotten,
    /// The drone's files are removed.
    FilesRemoved,
    /// The drone's own volume is removed.
    OwnVolumeRemoved,

    // A burrow, and what wakes a drone.
    /// The drone is marked as one that is to sleep; it runs.
    MarkedAsleep,
    /// Docker does not start the siblings any more.
    SiblingsHushed,
    /// The containers are stopped.
    ContainersStopped,
    /// The siblings that ran are marked.
    SiblingsRemembered,
    /// The files in the sleeping container are those of this hatchery.
    Refurnished,
    /// The container is marked as one that is to run; it does not.
    MarkedAwake,
    /// The containers that were asleep are started.
    ContainersAwake,
    /// The start is written down as one for which `postStartCommand` is run.
    StartRemembered,
}

/// Ends or stops the process here if a test has asked for that.
pub fn reached(point: Point) {
    if !cfg!(debug_assertions) {
        return;
    }
    for (variable, signal) in SIGNALS {
        if std::env::var(variable).is_ok_and(|wanted| wanted == format!("{point:?}")) {
            // A signal to oneself cannot be refused.
            let _ = kill_process(getpid(), signal);
        }
    }
}
