//! What a drone may take on Docker's disk: counted now and then, and a drone that takes too much is
//! burrowed, with all that it has.
//!
//! Docker goes through every file for a count, so there is at most one in [`EVERY`], and fewer where
//! it takes long. A drone is only ever burrowed right after a count.

use std::collections::HashSet;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use crate::docker::{self, Drone, Life};
use crate::drone::{DroneName, Identity};
use crate::error::{Code, Result, host_io};
use crate::host;
use crate::life::builder;
use crate::life::burrowing::Burrowing;
use crate::life::disk::{self, Bounds, Disk, GRACE, Parts, Taken, Why};
use crate::life::reserve;
use crate::life::teardown::devcontainer_id;
use crate::server::Server;

/// The time from one count to the next, at least.
const EVERY: Duration = Duration::from_secs(5 * 60);
/// The next count waits for so many times what the last one took.
const REST: u32 = 10;
/// How long Docker may take to count.
const WITHIN: Duration = Duration::from_secs(2 * 60);
/// How long hatchery may count what Docker could not, for each drone.
const WITHIN_OURSELVES: Duration = Duration::from_secs(20);
/// While its owner clears it up, a drone may grow by this part of `limits.disk`: what git and package
/// managers write before they delete.
const ROOM: u64 = 8;
/// A drone that has grown by less than this part of `limits.reserve` is not what fills the disk.
const LEAST: u64 = 16;

/// What was done with a drone, in words.
pub type Done = (DroneName, Result<&'static str>);

/// If a count is due, counts and burrows what takes too much.
pub async fn enforce(server: Server<'_>, drones: &[Drone]) -> Result<Vec<Done>> {
    if drones.is_empty() {
        return Ok(Vec::new());
    }
    let Some(mut last) = server
        .places
        .disk_count()?
        .filter(|last| is_due(last, SystemTime::now()))
    else {
        return Ok(Vec::new());
    };
    let begun = Instant::now();
    let counted = server.docker.disk(WITHIN).await;
    remember_count(&mut last, begun.elapsed())
        .map_err(|error| host_io("write", Path::new("the time of the last count"), error))?;
    let counted = counted?;
    let mut takers = Vec::new();
    for drone in drones {
        let Some(found) = found_of(&counted, &drone.identity) else {
            continue;
        };
        let name = &drone.identity.name;
        let parts = count(server, name, found).await?;
        let before = Taken::read(server.places, name).map(|before| before.bytes);
        let taken = Taken {
            bytes: parts.sum(),
            parts: Some(parts),
            before,
            at: disk::now(),
        };
        // On a disk that is full nothing can be written, and the more it matters what follows.
        if let Err(error) = taken.write(server.places, name) {
            server.ui.warn(&error.message());
        }
        takers.push((drone, taken));
    }
    forget_slain(server, &takers).await;
    let mut done = Vec::new();
    for (drone, taken) in &takers {
        done.extend(hold_to_limit(server, drone, taken).await);
    }
    // A drone that was burrowed for that does not fill the disk any more; the next count shows.
    if done.is_empty() {
        done.extend(hold_to_reserve(server, &takers).await?);
    }
    Ok(done)
}

/// Forgets what was written down of drones that were slain during the count. What cannot be forgotten now,
/// recovery removes at its next run.
async fn forget_slain(server: Server<'_>, takers: &[(&Drone, Taken)]) {
    let Ok((there, _)) = server.docker.drones().await else {
        return;
    };
    let there: HashSet<_> = there.iter().map(|drone| &drone.identity.name).collect();
    let names = takers.iter().map(|(drone, _)| &drone.identity.name);
    for name in names.filter(|name| !there.contains(name)) {
        let _ = server.places.forget_disk(name);
    }
}

/// Whether it is time for a count, by what the last one has left.
fn is_due(last: &File, now: SystemTime) -> bool {
    let mut text = String::new();
    let mut last = last;
    let read = last.rewind().and_then(|()| last.read_to_string(&mut text));
    let took = text.trim().parse().ok().filter(|_| read.is_ok());
    let ended = last.metadata().and_then(|about| about.modified());
    match (took, ended) {
        (Some(seconds), Ok(ended)) => {
            let rest = Duration::from_secs(seconds).saturating_mul(REST);
            // A clock that went back.
            now.duration_since(ended)
                .map_or(true, |since| since >= rest.max(EVERY))
        }
        _ => true,
    }
}

fn remember_count(last: &mut File, took: Duration) -> std::io::Result<()> {
    last.set_len(0)?;
    last.rewind()?;
    write!(last, "{}", took.as_secs())
}

/// What Docker has of a drone.
#[derive(Debug, Default, PartialEq, Eq)]
struct Found {
    /// What was counted.
    parts: Parts,
    /// Containers whose layers Docker could not count.
    containers: Vec<String>,
    /// Directories of volumes that it could not count.
    directories: Vec<String>,
    /// That of the builder, likewise.
    cache: Option<String>,
}

/// What a drone takes: the writable layers of its container and its siblings, its volumes and
/// theirs. `None` where Docker has nothing of it.
fn found_of(disk: &docker::Disk, identity: &Identity) -> Option<Found> {
    let name = identity.name.as_str();
    let cache = builder::name(&identity.name);
    let id = devcontainer_id(identity);
    let is = |label: &Option<String>| label.as_deref() == Some(name);
    let layers: Vec<_> = disk
        .layers
        .iter()
        .filter(|layer| is(&layer.project) || (is(&layer.drone) && layer.name == name))
        .collect();
    let mounted: HashSet<&str> = layers
        .iter()
        .flat_map(|layer| &layer.volumes)
        .map(String::as_str)
        .collect();
    let volumes: Vec<_> = disk
        .volumes
        .iter()
        .filter(|volume| {
            is(&volume.project)
                || volume.name == cache
                || (identity.name.owns(&id, &volume.name)
                    // One without a name is whose containers have it.
                    && (!docker::is_id(&volume.name) || mounted.contains(volume.name.as_str())))
        })
        .collect();
    if layers.is_empty() && volumes.is_empty() {
        return None;
    }
    let mut found = Found::default();
    for layer in layers {
        match layer.bytes {
            Some(bytes) => add(&mut found.parts.containers, bytes),
            None => found.containers.push(layer.container.clone()),
        }
    }
    for volume in volumes {
        let is_cache = volume.name == cache;
        match volume.bytes {
            Some(bytes) if is_cache => add(&mut found.parts.cache, bytes),
            Some(bytes) => add(&mut found.parts.volumes, bytes),
            None if is_cache => found.cache = Some(volume.directory.clone()),
            None => found.directories.push(volume.directory.clone()),
        }
    }
    Some(found)
}

fn add(part: &mut u64, bytes: u64) {
    *part = part.saturating_add(bytes);
}

/// What a drone takes. Docker gives up on a layer or a volume in which files come and go while it counts,
/// which a drone can bring about: hatchery then counts them itself, as far as it may read them.
async fn count(server: Server<'_>, name: &DroneName, found: Found) -> Result<Parts> {
    let mut layers = Vec::new();
    for container in &found.containers {
        let container = server.docker.container(container).await?;
        let layer = container.as_ref().and_then(docker::Container::layer);
        layers.push(layer.unwrap_or_default().to_owned());
    }
    let most = server.config.limits.most_disk().unwrap_or(u64::MAX);
    let enough = most.saturating_mul(2);
    let counted = found.parts;
    let counting = tokio::task::spawn_blocking(move || {
        let until = Instant::now() + WITHIN_OURSELVES;
        let mut parts = counted;
        let cache = found.cache.into_iter().collect();
        let uncounted = [
            (&mut parts.containers, layers),
            (&mut parts.volumes, found.directories),
            (&mut parts.cache, cache),
        ];
        let mut all = true;
        for (part, directories) in uncounted {
            for directory in directories {
                let (bytes, whole) = host::room_of(Path::new(&directory), enough, until);
                add(part, bytes);
                all = all && whole;
            }
        }
        (parts, all)
    });
    let (parts, all) = counting.await.unwrap_or((counted, false));
    if !all {
        server.ui.warn(&format!(
            "{name} uses more disk space than was counted: neither Docker nor hatchery could read all of it"
        ));
    }
    Ok(parts)
}

/// Burrows a drone that is beyond `limits.disk`, or forgets that it was.
async fn hold_to_limit(server: Server<'_>, drone: &Drone, taken: &Taken) -> Option<Done> {
    let name = &drone.identity.name;
    let most = server.config.limits.most_disk();
    let bounds = Bounds::read(server.places, name);
    match most.filter(|most| taken.bytes > *most) {
        Some(most) if must_sleep(taken, bounds.as_ref(), most, disk::now()) => {
            let why = Why::Limit(most);
            burrow(server, drone, taken, bounds, why).await
        }
        Some(_) => None,
        None => {
            if bounds.is_some_and(|bounds| bounds.let_up.is_some())
                && let Ok(_lock) = server.places.lock(name)
                && let Err(error) = server.places.forget_bounds(name)
            {
                server.ui.warn(&error.message());
            }
            None
        }
    }
}

/// Whether a drone that takes more than `most` bytes has had its time to clear up.
fn must_sleep(taken: &Taken, bounds: Option<&Bounds>, most: u64, now: u64) -> bool {
    let Some(bounds) = bounds else {
        return true;
    };
    let Some(let_up) = bounds.let_up else {
        return true;
    };
    now >= let_up.saturating_add(GRACE.as_secs())
        || taken.bytes > bounds.taken.saturating_add(most / ROOM)
}

/// If Docker's disk has less free than `limits.reserve`, burrows the drone that has grown most
/// since the last count. If none has grown, something else fills the disk, and no drone is stopped.
async fn hold_to_reserve(server: Server<'_>, takers: &[(&Drone, Taken)]) -> Result<Option<Done>> {
    let limits = &server.config.limits;
    let reserve = limits.reserve.as_u64();
    let machine = server.docker.machine().await?;
    let Some(free) = reserve::too_little(limits, &machine) else {
        return Ok(None);
    };
    let Some((drone, taken)) = most_grown(takers, reserve / LEAST) else {
        server.ui.warn(&format!(
            "Docker's disk has less free space than limits.reserve, and no drone has grown; `docker system \
             df` shows what uses the space in {}",
            machine.directory
        ));
        return Ok(None);
    };
    let why = Why::Reserve {
        free: free.as_u64(),
        reserve,
        grown: taken.grown(),
    };
    let bounds = Bounds::read(server.places, &drone.identity.name);
    Ok(burrow(server, drone, taken, bounds, why).await)
}

/// The drone that runs and has grown most, by at least so many bytes.
fn most_grown<'a>(takers: &'a [(&'a Drone, Taken)], least: u64) -> Option<&'a (&'a Drone, Taken)> {
    takers
        .iter()
        .filter(|(drone, taken)| drone.life == Life::Running && taken.grown() >= least.max(1))
        .max_by_key(|(_, taken)| taken.grown())
}

/// Burrows a drone, unless it has changed since it was judged by these bounds. What is to be told of
/// it stays until a person wakes it.
async fn burrow(
    server: Server<'_>,
    drone: &Drone,
    taken: &Taken,
    judged_by: Option<Bounds>,
    why: Why,
) -> Option<Done> {
    let name = &drone.identity.name;
    let burrowing: Result<_> = async {
        let _lock = server.places.lock(name)?;
        let Some(drone) = server.docker.drone(name).await? else {
            return Ok(None);
        };
        let (Some(container), Life::Running | Life::Stopped) = (&drone.container, drone.life)
        else {
            return Ok(None);
        };
        if Bounds::read(server.places, name) != judged_by {
            return Ok(None);
        }
        let bounds = Bounds {
            why,
            taken: taken.bytes,
            at: disk::now(),
            let_up: None,
        };
        // Before it is stopped, so that nobody finds it asleep without a reason. On a full disk that
        // is not to be had, and it is stopped all the same.
        if let Err(error) = bounds.write(server.places, name) {
            server.ui.warn(&error.message());
        }
        for warning in Burrowing::from(&server)
            .stop(&drone, container, server.sockets.revoke(name))
            .await?
        {
            server.ui.warn(&warning);
        }
        let asleep = Drone {
            life: Life::Burrowed,
            ..drone
        };
        let disk = Disk {
            taken: Some(*taken),
            bounds: Some(bounds),
            most: server.config.limits.most_disk(),
        };
        disk::warn(server.ui, &disk, &asleep);
        Ok(Some(match why {
            Why::Limit(_) => "burrowed, because it exceeds limits.disk",
            Why::Reserve { .. } => "burrowed, because it was filling Docker's disk",
        }))
    }
    .await;
    match burrowing {
        Ok(word) => word.map(|word| (name.clone(), Ok(word))),
        // The next count finds it.
        Err(error) if error.code() == Code::DroneBusy => None,
        Err(error) => Some((name.clone(), Err(error))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::docker::{Layer, Volume};
    use crate::drone::Scope;
    use crate::host::Places;

    fn identity(repo: &str) -> Identity {
        Identity::new(Scope::new(vec![repo.parse().unwrap()], None).unwrap())
    }

    fn layer(name: &str, drone: Option<&str>, project: Option<&str>, bytes: u64) -> Layer {
        Layer {
            container: format!("id-of-{name}"),
            name: name.to_owned(),
            drone: drone.map(str::to_owned),
            project: project.map(str::to_owned),
            bytes: Some(bytes),
            volumes: Vec::new(),
        }
    }

    fn volume(name: &str, project: Option<&str>, bytes: u64) -> Volume {
        Volume {
            name: name.to_owned(),
            project: project.map(str::to_owned),
            bytes: Some(bytes),
            directory: format!("/volumes/{name}"),
        }
    }

    #[test]
    fn a_drone_takes_what_its_containers_and_volumes_take_and_no_others() {
        let site = identity("acme/site");
        let (anonymous, strange) = ("a".repeat(64), "b".repeat(64));
        let own = Some("acme-site");
        let mut with_volume = layer("acme-site-db-1", None, own, 10);
        with_volume.volumes = vec![anonymous.clone(), "acme-site".to_owned()];
        let mut disk = docker::Disk {
            layers: vec![
                layer("acme-site", own, None, 1),
                with_volume,
                // Made by hand of its image, and another drone's.
                layer("by-hand", own, None, 1 << 20),
                layer("acme-site-two", Some("acme-site-two"), None, 1 << 21),
                layer("bystander", None, None, 1 << 22),
            ],
            volumes: vec![
                volume("acme-site", None, 100),
                volume("acme-site.cache", None, 1_000),
                volume("acme-site_data", own, 10_000),
                volume("named-by-compose", own, 100_000),
                volume(&anonymous, None, 1_000_000),
                volume(&format!("x-{}", devcontainer_id(&site)), None, 10_000_000),
                volume(&strange, None, 1 << 31),
                volume("acme-site-two", None, 1 << 32),
                volume("acme-site-two_data", Some("acme-site-two"), 1 << 33),
                volume(&builder::name(&site.name), None, 100_000_000),
            ],
        };
        let mut expected = Found {
            parts: Parts {
                containers: 11,
                volumes: 11_111_100,
                cache: 100_000_000,
            },
            ..Found::default()
        };
        assert_eq!(expected.parts.sum(), 111_111_111);
        assert_eq!(found_of(&disk, &site).unwrap(), expected);
        assert_eq!(found_of(&disk, &identity("acme/other")), None);
        // What Docker could not count is counted otherwise.
        disk.layers[0].bytes = None;
        disk.volumes[1].bytes = None;
        disk.volumes[9].bytes = None;
        expected.parts = Parts {
            containers: 10,
            volumes: 11_110_100,
            cache: 0,
        };
        let cache = builder::name(&site.name);
        expected.cache = Some(format!("/volumes/{cache}"));
        expected.containers.push("id-of-acme-site".to_owned());
        expected
            .directories
            .push("/volumes/acme-site.cache".to_owned());
        assert_eq!(found_of(&disk, &site).unwrap(), expected);
        let bare = docker::Disk {
            layers: Vec::new(),
            volumes: vec![volume("acme-site", None, 0)],
        };
        assert_eq!(found_of(&bare, &site), Some(Found::default()));
    }

    #[test]
    fn who_was_let_up_has_time_unless_it_goes_on_growing() {
        let of = |bytes| Taken {
            bytes,
            ..Taken::default()
        };
        let bounds = |let_up| Bounds {
            why: Why::Limit(800),
            taken: 1_000,
            at: 0,
            let_up,
        };
        let grace = GRACE.as_secs();
        for (bytes, bounds, now, sleeps) in [
            (801, None, 0, true),
            // It runs although it was burrowed, and no person has woken it.
            (801, Some(bounds(None)), 10 * grace, true),
            (1_000, Some(bounds(Some(5))), 5, false),
            (1_000, Some(bounds(Some(5))), 4 + grace, false),
            (801, Some(bounds(Some(5))), 5 + grace, true),
            (1_100, Some(bounds(Some(5))), 5, false),
            (1_101, Some(bounds(Some(5))), 5, true),
        ] {
            assert_eq!(
                must_sleep(&of(bytes), bounds.as_ref(), 800, now),
                sleeps,
                "{bytes}, {bounds:?}, {now}"
            );
        }
    }

    #[test]
    fn the_reserve_is_held_against_who_runs_and_has_grown_most() {
        let drone = |repo, life| Drone {
            life,
            ..Drone::bare(identity(repo))
        };
        let taken = |before, bytes| Taken {
            bytes,
            before,
            ..Taken::default()
        };
        let (large, small, asleep, new) = (
            drone("acme/large", Life::Running),
            drone("acme/small", Life::Running),
            drone("acme/asleep", Life::Burrowed),
            drone("acme/new", Life::Running),
        );
        let takers = [
            (&large, taken(Some(10_000), 10_100)),
            (&small, taken(Some(0), 900)),
            (&asleep, taken(Some(0), 5_000)),
            // What it took before is not known.
            (&new, taken(None, 9_000)),
        ];
        let chosen = |least| {
            let chosen = most_grown(&takers, least);
            chosen.map(|(drone, _)| drone.identity.name.as_str())
        };
        assert_eq!(chosen(64), Some("acme-small"));
        assert_eq!(chosen(901), None);
        assert!(most_grown(&[(&large, taken(Some(9), 9))], 0).is_none());
    }

    #[test]
    fn the_next_count_is_due_in_five_minutes_or_later_if_it_took_long() {
        let place = tempfile::tempdir().unwrap();
        let places = Places::under(place.path());
        let mut last = places.disk_count().unwrap().unwrap();
        assert!(places.disk_count().unwrap().is_none(), "two count at once");
        let begun = SystemTime::now();
        // It was made just now, and nothing was counted.
        assert!(is_due(&last, begun));
        for (took, wait) in [(0, 300), (7, 300), (60, 600), (120, 1200)] {
            remember_count(&mut last, Duration::from_secs(took)).unwrap();
            let ended = last.metadata().unwrap().modified().unwrap();
            let after = |seconds| ended + Duration::from_secs(seconds);
            assert!(!is_due(&last, after(wait - 1)), "{took}");
            assert!(is_due(&last, after(wait)), "{took}");
            assert!(is_due(&last, ended - Duration::from_secs(1)), "{took}");
        }
        drop(last);
        assert!(places.disk_count().unwrap().is_some());
    }
}
