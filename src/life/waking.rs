//! Bringing back a drone whose container is there and does not run.

use crate::docker::{Drone, Life, Owner, Tree};
use crate::error::{Code, Error, Result};
use crate::failpoint::{self, Point};
use crate::life::furnish;
use crate::life::furnish::credentials::{self, Helper};
use crate::life::furnish::gitconfig;
use crate::life::furnish::person::Person;
use crate::life::furnish::signing;
use crate::life::parts;
use crate::life::readiness;
use crate::life::registration::{MOST, Registration};
use crate::life::siblings;
use crate::server::Server;
use crate::sockets;
use crate::tailnet;
use crate::tailnet::Headscale;

/// How long its processes have to end, in seconds.
pub const STOP_WITHIN: i32 = 10;

/// Who wants a drone to be in the tailnet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum For {
    /// A person, who may have it registered as often as they like.
    Person,
    /// [`recovery`](crate::life::recovery), which has a budget for each drone.
    Recovery,
}

/// Starts a drone that is burrowed or stopped and waits until it is reachable.
pub async fn wake(server: Server<'_>, drone: &Drone, container: &str, by: For) -> Result<()> {
    let docker = server.docker;
    let name = &drone.identity.name;
    server.ui.step(&format!("Starting {name}"));
    for part in parts::restore(server, drone, container).await? {
        server.ui.warn(&format!(
            "{name} mounts {part} of its volume, which is gone; an empty file or directory is in its place"
        ));
    }
    let registered = drone.life == Life::Stopped;
    let joining = async {
        if registered {
            // What keeps it from its name is told by what it is called in the end.
            let _ = name_back(server, drone).await;
            return Ok(());
        }
        join(server, drone, container).await
    };
    let addresses = server.addresses();
    let networking = docker.restore_network(&drone.identity, container, &addresses);
    tokio::try_join!(joining, refurnish(server, drone, container), networking)?;
    siblings::start(docker, drone, container).await?;
    match ready(server, drone, container).await {
        // It was away for longer than Headscale remembers it.
        Err(error) if registered && error.code() == Code::TailnetRefused => {
            if by == For::Recovery {
                spend(server, drone)?;
            }
            server.docker.stop(container, STOP_WITHIN).await?;
            join(server, drone, container).await?;
            siblings::start(server.docker, drone, container).await?;
            ready(server, drone, container).await
        }
        ready => ready,
    }
}

/// Waits until a drone that runs is reachable.
pub async fn ready(server: Server<'_>, drone: &Drone, container: &str) -> Result<()> {
    let (docker, name) = (server.docker, &drone.identity.name);
    if server.config.tailnet.is_none() {
        return readiness::sshd(docker, container, name).await;
    }
    let ready = tokio::try_join!(
        readiness::sshd(docker, container, name),
        readiness::node(docker, container, name),
    );
    ready.map(|_| ())
}

/// Gives a running drone that lost its place in the tailnet another, unless it has had its share;
/// what runs in it goes on. It gets the node, as at its spawn, and never a key.
pub async fn register_anew(server: Server<'_>, drone: &Drone, container: &str) -> Result<()> {
    let Some(tailnet) = &server.config.tailnet else {
        return Ok(());
    };
    let (docker, name) = (server.docker, &drone.identity.name);
    spend(server, drone)?;
    let workshop = server.places.workshop(name)?;
    let state = workshop.directory("node")?;
    let owners = Registration::owners(server.places)?;
    let joined = tailnet::join::join(tailnet, name, &owners, &state).await?;
    let new = format!("{}/.new", furnish::TAILSCALE_STATE);
    let tree = Tree::default().copy(&new, &state, Owner::ROOT);
    docker.put(container, tree).await?;
    failpoint::reached(Point::NodePut);
    let inside = docker.inside(container);
    tailnet::node::start_over(&inside, furnish::TAILSCALE_STATE, &new).await?;
    failpoint::reached(Point::NodeStartedOver);
    // Not before: a node that is remembered is taken for the one that the drone has.
    Registration::remember(server.places, name, &joined.node_key)?;
    failpoint::reached(Point::NodeRemembered);
    readiness::node(docker, container, name).await
}

/// Takes one registration from the drone's budget.
fn spend(server: Server<'_>, drone: &Drone) -> Result<()> {
    let name = &drone.identity.name;
    if Registration::spend(server.places, name)? {
        return Ok(());
    }
    Err(Error::new(
        Code::TailnetRefused,
        format!(
            "{name} is no longer registered in the tailnet; hatchery has registered it, or tried to, {MOST} \
             times within an hour"
        ),
    )
    .hint(format!(
        "if nothing in it logs it out, its /var/log/tailscaled.log may show why; `hatchery burrow {0}`, then \
         `hatchery unburrow {0}`, register it immediately",
        drone.identity.repo
    )))
}

/// Gives a drone that does not run its name in the tailnet back, where its node is still there.
async fn name_back(server: Server<'_>, drone: &Drone) -> Result<()> {
    let (places, name) = (server.places, &drone.identity.name);
    let Some(tailnet) = &server.config.tailnet else {
        return Ok(());
    };
    match Headscale::new(tailnet)? {
        Some(api) => api.give_back(name, &Registration::owners(places)?).await,
        None => Ok(()),
    }
}

/// What the configuration says of ssh, or hatchery itself, may have changed while the drone slept.
pub async fn refurnish(server: Server<'_>, drone: &Drone, container: &str) -> Result<()> {
    let docker = server.docker;
    let name = &drone.identity.name;
    let (files, warnings) = furnish::ssh_files(server.config, server.places, name).await?;
    for warning in &warnings {
        server.ui.warn(warning);
    }
    let Some(inspected) = docker.container(container).await? else {
        // Its start says so.
        return Ok(());
    };
    let secrets = server.config.secrets(&drone.identity)?;
    let tree = furnish::ssh(docker, &inspected, files, &secrets, Tree::default()).await?;
    let (mut tree, signing) = signing::tree(server, &drone.identity, &inspected, tree).await?;
    let person = Person::of_configuration(&server.config.git);
    let mut told: Vec<_> = person.iter().map(Person::section).collect();
    told.extend(signing);
    if furnish::mounts_sockets(&inspected) {
        // Docker does not start a container whose mounted directory is absent.
        sockets::prepare(server.config, server.places, &drone.identity.scope)?;
        let opened = server.sockets.open(server.config, &drone.identity).await?;
        if opened.is_some() {
            let github = &server.config.github;
            let helper = Helper::installed()?;
            let (all, section) =
                credentials::tree(docker, container, github, &helper, tree).await?;
            tree = all;
            told.push(section);
        }
    }
    tree = gitconfig::tree(docker, container, &told, tree).await?;
    docker.put(container, tree).await?;
    failpoint::reached(Point::Refurnished);
    Ok(())
}

/// Registers the drone's node from outside and puts it into the sleeping container.
async fn join(server: Server<'_>, drone: &Drone, container: &str) -> Result<()> {
    let docker = server.docker;
    let Some(tailnet) = &server.config.tailnet else {
        return Ok(());
    };
    let name = &drone.identity.name;
    server.ui.step(&format!("Joining the tailnet as {name}"));
    let workshop = server.places.workshop(name)?;
    let state = workshop.directory("node")?;
    let owners = Registration::owners(server.places)?;
    let joined = tailnet::join::join(tailnet, name, &owners, &state).await?;
    Registration::remember(server.places, name, &joined.node_key)?;
    failpoint::reached(Point::NodeRemembered);
    let tree = Tree::default().copy(furnish::TAILSCALE_STATE, &state, Owner::ROOT);
    docker.put(container, tree).await?;
    failpoint::reached(Point::NodePut);
    Ok(())
}
