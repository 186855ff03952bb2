//! Bringing back what ran: after a reboot, a restart of Docker, an outage of Headscale, a new
//! version of hatchery. What should run says its restart policy; what is burrowed stays so.
//!
//! First everything is looked at, which costs next to nothing; a drone's lock is taken only where
//! there is something to do, so that any other verb may be at work beside it.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use futures_util::{StreamExt, stream};

use crate::config::Config;
use crate::docker;
use crate::docker::{Drone, Life};
use crate::drone::{DroneName, Identity, Scope};
use crate::error::{Code, Error, Result, host_io};
use crate::host::{Lock, Places, cgroup};
use crate::life::activity::Ours;
use crate::life::bounds;
use crate::life::builder;
use crate::life::furnish;
use crate::life::furnish::credentials::{self, Helper};
use crate::life::furnish::gitconfig;
use crate::life::idle;
use crate::life::memory;
use crate::life::metrics;
use crate::life::registration::Registration;
use crate::life::siblings;
use crate::life::starting::{self, Start};
use crate::life::waking::{self, For};
use crate::life::work::{self, remains};
use crate::server::Server;
use crate::sockets::{self, Sockets};
use crate::tailnet::headscale::{Headscale, Node};
use crate::tailnet::status::Status;
use crate::tailnet::{self, Place};

/// How many drones are worked on at once.
const AT_ONCE: usize = 8;
/// Nobody has worked yet in a drone that has run for less: it may be started once more.
const FRESH: Duration = Duration::from_secs(10 * 60);

/// What became of one drone.
#[derive(Debug)]
pub struct Report {
    /// The drone.
    pub drone: DroneName,
    /// What was done, in words; nothing where nothing had to be.
    pub done: Vec<&'static str>,
    /// Why it is not as it should be.
    pub failed: Option<Error>,
}

impl Report {
    fn of(drone: &DroneName) -> Self {
        Self {
            drone: drone.clone(),
            done: Vec::new(),
            failed: None,
        }
    }
}

/// Makes directories and sockets before Docker starts the drones. Docker does not run yet: which
/// drones there are say the copies of their scopes.
pub async fn sockets(
    config: &Config,
    places: &Places,
    sockets: &Sockets<'_>,
) -> Result<Vec<Report>> {
    let scopes = scopes(places)?;
    let opening = stream::iter(scopes).map(|(name, scope)| async move {
        let mut report = Report::of(&name);
        let opened = async {
            let identity = Identity::new(scope?);
            if identity.name != name {
                return Err(Error::new(
                    Code::HostFailed,
                    format!(
                        "{} holds the scope of {}",
                        places.scope_file(&name).display(),
                        identity.repo
                    ),
                )
                .hint("remove it; `hatchery recover` writes it again"));
            }
            // Docker starts no container whose mounted directory is absent, App or no App.
            sockets::prepare(config, places, &identity.scope)?;
            sockets.open(config, &identity).await
        };
        match opened.await {
            Ok(Some(_)) => report.done.push("its socket was created"),
            Ok(None) => {}
            Err(error) => report.failed = Some(error),
        }
        report
    });
    Ok(opening.buffer_unordered(AT_ONCE).collect().await)
}

/// Brings back every drone that should run.
pub async fn drones(server: Server<'_>) -> Result<Vec<Report>> {
    server.places.sweep();
    for name in remains::sweep(server.places, &server.config.limits) {
        let at = server.places.remains().join(name);
        server.ui.talk(&format!(
            "{} was removed, because limits.remains has passed",
            at.display()
        ));
    }
    for error in builder::sweep(server.docker, server.places).await {
        server.ui.warn(&error.message());
    }
    let (drones, warnings) = server.docker.drones().await?;
    for warning in warnings {
        server
            .ui
            .warn(&format!("has a drone label but is not a drone: {warning}"));
    }
    let units = match server.sockets {
        Sockets::Systemd(_, systemd) => Some(systemd.active(&sockets::all_socket_units()).await?),
        _ => None,
    };
    let units: Option<HashSet<String>> = units.map(|units| units.into_iter().collect());
    let places = known_places(server, &drones).await;
    let unknown = places.as_ref().err().map(Error::message);
    let places = places.unwrap_or_default();
    let (units, places) = (&units, &places);
    let helper = match server.sockets {
        Sockets::None => None,
        _ => Some(Helper::installed()?),
    };
    let helper = helper.as_ref();
    let ours = &Mutex::new(Ours::new());
    let tended = stream::iter(&drones).map(|drone| async move {
        let mut report = Report::of(&drone.identity.name);
        let tending = Tending {
            server,
            drone,
            units: units.as_ref(),
            place: places.get(&drone.identity.name).copied(),
            helper,
            ours,
        };
        match tending.run(&mut report.done).await {
            Err(error) if error.code() == Code::DroneBusy => {}
            Err(error) => report.failed = Some(error),
            Ok(()) => {}
        }
        report
    });
    let mut reports: Vec<Report> = tended.buffer_unordered(AT_ONCE).collect().await;
    reports.extend(forget_the_gone(server, units.as_ref()).await?);
    let ours = std::mem::take(&mut *ours.lock().unwrap_or_else(PoisonError::into_inner));
    let done = idle::enforce(server, &drones, ours).await;
    tell(server, "limits.idle", done, &mut reports);
    if let Some(file) = &server.config.metrics.file
        // As they are after what was done.
        && let Err(error) = async {
            let (drones, _) = server.docker.drones().await?;
            metrics::write(server.places, server.config, drones, file).await
        }
        .await
    {
        server.ui.warn(&error.message());
    }
    // Last, as it may take minutes.
    let done = bounds::enforce(server, &drones).await;
    tell(server, "limits.disk", done, &mut reports);
    if drones.is_empty() {
        // A slay may have been killed after the last drone was gone and before the network was.
        server.docker.remove_shared_network().await?;
    }
    if let Some(why) = unknown {
        server.ui.warn(&format!(
            "cannot find out whether drones are in the tailnet: {why}"
        ));
    }
    Ok(reports)
}

/// Adds to the reports what was done for a limit.
fn tell(server: Server<'_>, limit: &str, done: Result<Vec<bounds::Done>>, reports: &mut [Report]) {
    let done = match done {
        Ok(done) => done,
        // What was known before stands, and what runs goes on.
        Err(error) => {
            let message = error.message();
            server
                .ui
                .warn(&format!("{limit} could not be enforced: {message}"));
            return;
        }
    };
    for (name, done) in done {
        let Some(report) = reports.iter_mut().find(|report| report.drone == name) else {
            continue;
        };
        match done {
            Ok(done) => report.done.push(done),
            Err(error) => report.failed = report.failed.take().or(Some(error)),
        }
    }
}

/// Where the running drones' nodes are, in one question to the control server, where there is a key
/// for its API.
async fn known_places(server: Server<'_>, drones: &[Drone]) -> Result<HashMap<DroneName, Place>> {
    let running: Vec<_> = drones
        .iter()
        .filter(|drone| drone.life == Life::Running)
        .map(|drone| &drone.identity.name)
        .collect();
    let tailnet = server.config.tailnet.as_ref();
    let Some(tailnet) = tailnet.filter(|_| !running.is_empty()) else {
        return Ok(HashMap::new());
    };
    let Some(api) = Headscale::new(tailnet)? else {
        return Ok(HashMap::new());
    };
    let nodes = api.nodes().await?;
    let owners = Registration::owners(server.places)?;
    let place = |name| Place::of(&nodes, name, &owners, |node| node.owner() == tailnet.user);
    let places = running.into_iter().map(|name| (name.clone(), place(name)));
    Ok(places.collect())
}

/// One drone, looked at and, where that is needed, brought back.
struct Tending<'a> {
    server: Server<'a>,
    drone: &'a Drone,
    /// The socket units that are up, where systemd serves them.
    units: Option<&'a HashSet<String>>,
    /// Where its node is, if the control server could be asked.
    place: Option<Place>,
    helper: Option<&'a Helper>,
    /// For how long what hatchery runs in drones has had processors work there.
    ours: &'a Mutex<Ours>,
}

impl Tending<'_> {
    async fn run(&self, done: &mut Vec<&'static str>) -> Result<()> {
        let Some(container) = &self.drone.container else {
            return Ok(());
        };
        match self.drone.life {
            Life::Egg => self.end_spawn(container).await,
            Life::Burrowed | Life::Bare => Ok(()),
            Life::Stopped => {
                let _lock = self.lock().await?;
                memory::remember(self.server.places, self.drone)?;
                waking::wake(self.server, self.drone, container, For::Recovery).await?;
                done.push("started");
                starting::finish(self.server, self.drone, container, For::Recovery, true).await?;
                Ok(())
            }
            Life::Running => self.run_on(container, done).await,
        }
    }

    /// If its spawn was killed, what git ignores in an egg counts as work from now on.
    async fn end_spawn(&self, container: &str) -> Result<()> {
        let docker = self.server.docker;
        if work::is_spawning(docker, container).await? {
            let _lock = self.lock().await?;
            work::spawn_ended(docker, container).await;
        }
        Ok(())
    }

    /// The drone's lock, if it still is as it was seen.
    async fn lock(&self) -> Result<Lock> {
        let name = &self.drone.identity.name;
        let lock = self.server.places.lock(name)?;
        match self.server.docker.drone(name).await? {
            Some(now) if now.life == self.drone.life && now.container == self.drone.container => {
                Ok(lock)
            }
            // Another hatchery was quicker, and knew what it did.
            _ => Err(Error::new(Code::DroneBusy, format!("{name} has changed"))),
        }
    }

    async fn run_on(&self, container: &str, done: &mut Vec<&'static str>) -> Result<()> {
        // One after the other: each may want the drone's lock.
        let memory = self.memory().await;
        let siblings = self.siblings(container).await;
        let start = self.start(container).await;
        let credentials = self.credentials(container).await;
        let node = self.node(container).await;
        done.extend(siblings?);
        done.extend(credentials?);
        done.extend(node?);
        done.extend(start?);
        memory
    }

    /// What was killed in it for memory, before the kernel forgets it.
    async fn memory(&self) -> Result<()> {
        if !memory::is_news(self.server.places, self.drone) {
            return Ok(());
        }
        let _lock = self.lock().await?;
        memory::remember(self.server.places, self.drone)
    }

    /// Services that ended with the server and that Docker does not bring back by itself.
    async fn siblings(&self, container: &str) -> Result<Option<&'static str>> {
        let (docker, name) = (self.server.docker, &self.drone.identity.name);
        if !self.is_fresh() {
            return Ok(None);
        }
        let left = siblings::left_behind(docker, name, container).await?;
        if left.is_empty() {
            return Ok(None);
        }
        let _lock = self.lock().await?;
        siblings::start_all(docker, left.iter().collect(), container).await?;
        Ok(Some("its other services were started"))
    }

    /// What is due after a start that was Docker's own, as after a reboot.
    async fn start(&self, container: &str) -> Result<Option<&'static str>> {
        let (places, name) = (self.server.places, &self.drone.identity.name);
        let known = Start::of(places, name)?;
        let Some(now) = self.drone.started_at.as_deref() else {
            return Ok(None);
        };
        match known {
            Some(start) if start.ran_for == now && start.goes_on => {
                let is_fresh = self.is_fresh();
                let _lock = self.lock().await?;
                starting::look_again(self.server, start, self.drone, is_fresh).await?;
                Ok(None)
            }
            Some(start) if start.ran_for == now => Ok(None),
            known => {
                let _lock = self.lock().await?;
                let (server, drone) = (self.server, self.drone);
                starting::finish(server, drone, container, For::Recovery, false).await?;
                Ok(known.map(|_| "the steps after its start were done"))
            }
        }
    }

    /// Its socket, and the helper that asks on it.
    async fn credentials(&self, container: &str) -> Result<Vec<&'static str>> {
        let (server, identity) = (self.server, &self.drone.identity);
        let mut done = Vec::new();
        let Some(helper) = self.helper else {
            return Ok(done);
        };
        if !self
            .drone
            .seen
            .as_deref()
            .is_some_and(furnish::mounts_sockets)
        {
            return Ok(done);
        }
        if !self.is_served() {
            let _lock = self.lock().await?;
            server.sockets.open(server.config, identity).await?;
            done.push("its socket was recreated");
        }
        if helper.is_outdated_in(server.docker, container).await? {
            let _lock = self.lock().await?;
            let tree = docker::Tree::default();
            let github = &server.config.github;
            let (tree, told) =
                credentials::tree(server.docker, container, github, helper, tree).await?;
            let tree = gitconfig::tree(server.docker, container, &[told], tree).await?;
            server.docker.put(container, tree).await?;
            done.push("its credential helper was updated");
        }
        Ok(done)
    }

    fn is_served(&self) -> bool {
        let name = &self.drone.identity.name;
        match self.units {
            Some(units) => {
                units.contains(&sockets::socket_unit(name))
                    && self.server.places.scope_file(name).exists()
            }
            None => self
                .server
                .places
                .sockets(name)
                .join(crate::drone::file::SOCKET)
                .exists(),
        }
    }

    /// Its place in the tailnet: a node that was away for too long never returns by itself, and one
    /// that has another name cannot be found.
    async fn node(&self, container: &str) -> Result<Option<&'static str>> {
        let (server, name) = (self.server, &self.drone.identity.name);
        let Some(tailnet) = server.config.tailnet.as_ref() else {
            return Ok(None);
        };
        let believes = match self.place {
            Some(Place::Own) => return Ok(None),
            Some(Place::Renamed) => false,
            Some(Place::Absent) | None => match self.believes(container).await? {
                Some(believes) => believes,
                None => return Ok(None),
            },
        };
        let _lock = self.lock().await?;
        if let Some(api) = Headscale::new(tailnet)? {
            // Once more, now that nobody else is at work on it.
            let nodes = api.nodes().await?;
            let owners = Registration::owners(server.places)?;
            let ours = |node: &Node| believes || node.owner() == tailnet.user;
            match Place::of(&nodes, name, &owners, ours) {
                Place::Own => return Ok(None),
                // It has its place, and another is not its due.
                Place::Renamed => {
                    api.give_back(name, &owners).await?;
                    return Ok(Some("its tailnet name was restored"));
                }
                // What keeps it from its name is told before anything is counted.
                Place::Absent => api.free(name, &owners).await?,
            }
        } else if !self.is_fresh() {
            return Err(Error::new(
                Code::TailnetRefused,
                format!("{name} is no longer registered in the tailnet"),
            )
            .hint(
                "it is registered again at its next start (`hatchery burrow`, then `hatchery unburrow`); if \
                 tailnet.api_key_file is set, hatchery does it while the drone runs",
            ));
        }
        waking::register_anew(server, self.drone, container).await?;
        Ok(Some("registered in the tailnet again"))
    }

    /// Whether the drone believes that it is in the tailnet, where the control server does not say
    /// that it is; `None` where nothing is to be done.
    async fn believes(&self, container: &str) -> Result<Option<bool>> {
        match self.status(container).await {
            Ok(status) if status.needs_login() => Ok(Some(false)),
            Ok(status) if status.is_running() && self.place.is_none() => Ok(None),
            // It does not notice that the control server has forgotten it.
            Ok(status) if status.is_running() => Ok(Some(true)),
            // No registration mends that; soon after a start it is on its way.
            _ if self.is_fresh() => Ok(None),
            Ok(_) => {
                let name = &self.drone.identity.name;
                Err(Error::new(
                    Code::DroneUnhealthy,
                    format!("{name} does not reach the tailnet's control server"),
                )
                .hint("its /var/log/tailscaled.log may show why"))
            }
            Err(error) => Err(error),
        }
    }

    /// How its node is, as a command in it says. What that takes is not the drone's work.
    async fn status(&self, container: &str) -> Result<Status> {
        let took = || {
            let pid = self.drone.pid?;
            cgroup::processor_time(container, pid)
        };
        let before = took();
        let inside = self.server.docker.inside(container);
        let status = tailnet::node::status(&inside).await;
        if let (Some(before), Some(after), Ok(mut ours)) = (before, took(), self.ours.lock()) {
            let name = self.drone.identity.name.clone();
            *ours.entry(name).or_default() += after.saturating_sub(before);
        }
        status
    }

    fn is_fresh(&self) -> bool {
        let started = self.drone.started_at.as_deref();
        let started =
            started.and_then(|at| humantime::parse_rfc3339_weak(at.trim_end_matches('Z')).ok());
        started
            .and_then(|at| SystemTime::now().duration_since(at).ok())
            .is_some_and(|since| since < FRESH)
    }
}

/// Ends the credentials of drones that are gone, and removes what else is left of them, as after a
/// spawn or a slay that was killed.
async fn forget_the_gone(
    server: Server<'_>,
    units: Option<&HashSet<String>>,
) -> Result<Vec<Report>> {
    let mut names = server.places.known();
    names.extend(
        units
            .into_iter()
            .flatten()
            .filter_map(|unit| sockets::drone_of(unit)),
    );
    let mut reports = Vec::new();
    // By name alone: what another version of hatchery has labelled is still a drone.
    let volumes: HashSet<String> = server.docker.volume_names().await?.into_iter().collect();
    server
        .places
        .sweep_transcripts(|name| volumes.contains(name.as_str()));
    for name in names.iter().filter(|name| !volumes.contains(name.as_str())) {
        let Ok(_lock) = server.places.lock(name) else {
            continue;
        };
        let there = server.docker.volume_names().await?;
        if there.iter().any(|volume| volume == name.as_str())
            || server.docker.container_of(name).await?.is_some()
        {
            continue;
        }
        let mut report = Report::of(name);
        let closed = server.sockets.close(name).await;
        match closed.and_then(|()| server.places.forget(name)) {
            Ok(()) => report.done.push("gone: its leftovers were removed"),
            Err(error) => report.failed = Some(error),
        }
        reports.push(report);
    }
    Ok(reports)
}

/// The copies of the scopes, with the names that their files have.
fn scopes(places: &Places) -> Result<Vec<(DroneName, Result<Scope>)>> {
    let directory = places.scopes();
    let entries = match std::fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(host_io("read", &directory, error)),
    };
    let named = entries.flatten().filter_map(|entry| {
        let file = entry.file_name();
        let name = DroneName::from_label(file.to_str()?.strip_suffix(".json")?)?;
        let path = entry.path();
        let scope = std::fs::read_to_string(&path)
            .map_err(|error| host_io("read", &path, error))
            .and_then(|text| {
                Scope::from_json(&text).map_err(|error| {
                    Error::new(Code::HostFailed, format!("{} is damaged", path.display()))
                        .hint("`hatchery recover` writes it again once Docker runs")
                        .because(error)
                })
            });
        Some((name, scope))
    });
    Ok(named.collect())
}
