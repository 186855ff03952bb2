//! What this server remembers of a drone's node in the tailnet: which it is, whatever the drone says,
//! and how often [`recovery`](crate::life::recovery) has registered it again. It lies where no drone
//! reaches, and outlives a reboot. Without it the node is known by its name, and the count is lost.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::drone::DroneName;
use crate::error::{Result, host_io};
use crate::host::{Places, recalled};
use crate::tailnet::Owners;

/// How often a drone that loses its place in the tailnet gets another within an hour.
pub const MOST: usize = 3;
/// An hour, in seconds.
const HOUR: u64 = 3600;

/// A drone's node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// `nodekey:…`, as it was registered from outside.
    node: String,
    /// When it was registered again, or that was tried, without anybody having asked for it, in
    /// seconds since 1970.
    #[serde(default)]
    renewed: Vec<u64>,
}

impl Registration {
    /// What is remembered; nothing of a node that an older hatchery has registered.
    pub fn of(places: &Places, drone: &DroneName) -> Result<Self> {
        const HINT: &str = "remove it; it is written again when the drone is next registered";
        let known = recalled(&places.node_file(drone), HINT)?;
        Ok(known.unwrap_or_default())
    }

    /// Which node keys this server has registered for which drones. A file that cannot be read says
    /// nothing: one drone's must not keep another from its place.
    pub fn owners(places: &Places) -> Result<Owners> {
        let directory = places.scopes();
        let entries = match std::fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Owners::default());
            }
            Err(error) => return Err(host_io("read", &directory, error)),
        };
        let known = entries.flatten().filter_map(|entry| {
            let file = entry.file_name();
            let drone = DroneName::from_label(file.to_str()?.strip_suffix(".node")?)?;
            let node = Self::of(places, &drone).ok()?.node;
            (!node.is_empty()).then_some((node, drone))
        });
        Ok(known.collect())
    }

    /// Remembers the node that was just registered.
    pub fn remember(places: &Places, drone: &DroneName, node: &str) -> Result<()> {
        let known = Self::of(places, drone).unwrap_or_default();
        let registration = Self {
            node: node.to_owned(),
            renewed: known.within_the_hour(now()).collect(),
        };
        registration.write(places, drone)
    }

    /// Counts a registration that nobody has asked for and that is about to be tried; whether the
    /// drone may have it. It is counted first, so that one that fails, or that hatchery does not
    /// survive, is not tried over and over.
    pub fn spend(places: &Places, drone: &DroneName) -> Result<bool> {
        let known = Self::of(places, drone)?;
        let now = now();
        let mut renewed: Vec<_> = known.within_the_hour(now).collect();
        if renewed.len() >= MOST {
            return Ok(false);
        }
        renewed.push(now);
        let node = known.node;
        Self { node, renewed }.write(places, drone)?;
        Ok(true)
    }

    fn write(&self, places: &Places, drone: &DroneName) -> Result<()> {
        places.remember(&places.node_file(drone), self)
    }

    /// A clock that was set back must not hold a drone off for longer than it would without.
    fn within_the_hour(&self, now: u64) -> impl Iterator<Item = u64> {
        let times = self.renewed.iter().copied();
        times.filter(move |time| time.abs_diff(now) < HOUR)
    }
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;
    use crate::tailnet::headscale::Node;

    fn key(known: &str) -> Node {
        serde_json::from_value(serde_json::json!({"id": 1, "nodeKey": known})).unwrap()
    }

    #[test]
    fn a_drone_gets_three_places_an_hour_and_no_more() {
        let place = tempfile::tempdir().unwrap();
        let places = Places::under(place.path());
        let drone = DroneName::of(&"acme/site".parse().unwrap());
        let remember = |key| Registration::remember(&places, &drone, key).unwrap();
        let spend = || Registration::spend(&places, &drone).unwrap();
        // What a person asks for is not counted.
        for _ in 0..=MOST {
            remember("nodekey:1");
        }
        // What has failed is counted like what has not.
        assert!(spend());
        remember("nodekey:2");
        for _ in 1..MOST {
            assert!(spend());
        }
        assert!(!spend() && !spend());
        let owners = || Registration::owners(&places).unwrap();
        assert_eq!(owners().of(&key("nodekey:2")), Some(&drone));
        assert_eq!(owners().of(&key("nodekey:1")), None);
        // Nor does a person's begin another count.
        remember("nodekey:3");
        assert!(!spend());
        let mut later = Registration::of(&places, &drone).unwrap();
        later.renewed[0] -= HOUR;
        later.write(&places, &drone).unwrap();
        assert!(spend() && !spend());
        places.forget(&drone).unwrap();
        assert!(spend());
        assert_eq!(owners().of(&key("")), None);
    }

    #[test]
    fn what_is_damaged_is_not_taken_for_nothing() {
        let place = tempfile::tempdir().unwrap();
        let places = Places::under(place.path());
        let named = |repo: &str| DroneName::of(&repo.parse().unwrap());
        let (drone, other) = (named("acme/site"), named("acme/web"));
        assert!(Registration::owners(&places).is_ok());
        Registration::remember(&places, &drone, "nodekey:1").unwrap();
        Registration::remember(&places, &other, "nodekey:2").unwrap();
        std::fs::write(places.node_file(&drone), "{").unwrap();
        for error in [
            Registration::of(&places, &drone).unwrap_err(),
            Registration::spend(&places, &drone).unwrap_err(),
        ] {
            assert_eq!(error.code(), Code::HostFailed);
        }
        let owners = Registration::owners(&places).unwrap();
        assert_eq!(owners.of(&key("nodekey:2")), Some(&other));
        Registration::remember(&places, &drone, "nodekey:1").unwrap();
        assert!(Registration::spend(&places, &drone).unwrap());
    }
}
