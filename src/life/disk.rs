//! What a drone takes on Docker's disk, as it was last counted, and why it sleeps if that was too
//! much. Two small files per drone hold it, so that telling it asks nothing of Docker;
//! [`bounds`](crate::life::bounds) writes them.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytesize::ByteSize;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::docker::{Drone, Life};
use crate::drone::DroneName;
use crate::error::Result;
use crate::host::Places;
use crate::ui::{Ui, voice};

/// How long a person has to clear a drone up that was burrowed for its disk and is awake again.
pub const GRACE: Duration = Duration::from_secs(30 * 60);

/// What a drone took when it was last counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// All that it took, in bytes.
    pub bytes: u64,
    /// What of it was what; an earlier hatchery did not tell.
    #[serde(default)]
    pub parts: Option<Parts>,
    /// The same at the count before, if there was one.
    pub before: Option<u64>,
    /// When that was, in seconds since 1970.
    pub at: u64,
}

/// What a drone takes, by its kind, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parts {
    /// What its containers have written beside their volumes.
    pub containers: u64,
    /// Its volumes, and those of its containers.
    pub volumes: u64,
    /// What its own builder keeps.
    pub cache: u64,
}

impl Parts {
    /// All of it.
    pub fn sum(&self) -> u64 {
        self.containers
            .saturating_add(self.volumes)
            .saturating_add(self.cache)
    }
}

impl Taken {
    /// How much more it is than at the count before.
    pub fn grown(&self) -> u64 {
        self.before
            .map_or(0, |before| self.bytes.saturating_sub(before))
    }

    /// What was last counted of this drone.
    pub fn read(places: &Places, name: &DroneName) -> Option<Self> {
        read(&places.disk_file(name))
    }

    /// Writes it down.
    pub fn write(&self, places: &Places, name: &DroneName) -> Result<()> {
        places.remember(&places.disk_file(name), self)
    }
}

/// Why a drone was burrowed that nobody had asked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Why {
    /// It took more than `limits.disk`, which is in bytes.
    Limit(u64),
    /// Docker's disk had less free than `limits.reserve`, and this drone had grown most.
    Reserve {
        /// What was free, in bytes.
        free: u64,
        /// `limits.reserve`, in bytes.
        reserve: u64,
        /// By how much the drone had grown, in bytes.
        grown: u64,
    },
}

impl Why {
    /// The word for it in `--json`.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Limit(_) => "limit",
            Self::Reserve { .. } => "reserve",
        }
    }
}

/// A burrow that nobody had asked for, until the drone is within its limit again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounds {
    /// The reason.
    pub why: Why,
    /// What the drone took, in bytes.
    pub taken: u64,
    /// When it was burrowed, in seconds since 1970.
    pub at: u64,
    /// When a person woke it, in seconds since 1970; `None` while it sleeps.
    pub let_up: Option<u64>,
}

impl Bounds {
    /// What is remembered of this drone.
    pub fn read(places: &Places, name: &DroneName) -> Option<Self> {
        read(&places.bounds_file(name))
    }

    /// Writes it down.
    pub fn write(&self, places: &Places, name: &DroneName) -> Result<()> {
        places.remember(&places.bounds_file(name), self)
    }
}

/// What hatchery knows of a drone's disk without asking Docker.
#[derive(Debug, Clone, Default)]
pub struct Disk {
    /// The last count.
    pub taken: Option<Taken>,
    /// What was done about it.
    pub bounds: Option<Bounds>,
    /// `limits.disk` in bytes; `None` for no limit.
    pub most: Option<u64>,
}

impl Disk {
    /// Of this drone, which may take `most` bytes.
    pub fn of(places: &Places, name: &DroneName, most: Option<u64>) -> Self {
        Self {
            taken: Taken::read(places, name),
            bounds: Bounds::read(places, name),
            most,
        }
    }

    /// Whether it takes more than it may.
    pub fn is_beyond(&self) -> bool {
        let taken = self.taken.map_or(0, |taken| taken.bytes);
        self.most.is_some_and(|most| taken > most)
    }

    /// Why it was put to sleep, if it sleeps for that.
    fn sleeps_for(&self, drone: &Drone) -> Option<Bounds> {
        let asleep = drone.life == Life::Burrowed;
        self.bounds
            .filter(|bounds| asleep && bounds.let_up.is_none())
    }

    /// The word for it in a list.
    pub fn word(&self, drone: &Drone) -> Option<&'static str> {
        match self.sleeps_for(drone).map(|bounds| bounds.why) {
            Some(Why::Limit(_)) => Some("burrowed for limits.disk"),
            Some(Why::Reserve { .. }) => Some("burrowed for limits.reserve"),
            None => self.is_beyond().then_some("over limits.disk"),
        }
    }

    /// How much it has: `12.0 GiB`.
    pub fn in_use(&self) -> Option<String> {
        Some(size(self.taken?.bytes))
    }

    /// How much it has and may have: `12.0 GiB of 64.0 GiB`.
    pub fn amount(&self) -> Option<String> {
        let taken = self.in_use()?;
        Some(match self.most {
            Some(most) => format!("{taken} of {}", size(most)),
            None => taken,
        })
    }

    /// What it is made of: `containers 1.0 GiB, volumes 10.5 GiB, build cache 512.0 MiB`.
    pub fn made_of(&self) -> Option<String> {
        let parts = self.taken?.parts?;
        Some(format!(
            "containers {}, volumes {}, build cache {}",
            size(parts.containers),
            size(parts.volumes),
            size(parts.cache)
        ))
    }

    /// The same with the time of the count.
    pub fn amount_then(&self) -> Option<String> {
        Some(format!(
            "{}, {} ago",
            self.amount()?,
            humantime::format_duration(since(self.taken?.at))
        ))
    }

    /// For `--json`.
    pub fn to_json(&self, drone: &Drone) -> serde_json::Value {
        serde_json::json!({
            "taken": self.taken.map(|taken| taken.bytes),
            "parts": self.taken.and_then(|taken| taken.parts),
            "limit": self.most,
            "counted_at": self.taken.map(|taken| taken.at),
            "burrowed_for": self.sleeps_for(drone).map(|bounds| bounds.why.as_str()),
        })
    }

    /// What a person is told; nothing where all is well.
    pub fn sentence(&self, drone: &Drone) -> Option<String> {
        let (name, repo) = (&drone.identity.name, &drone.identity.repo);
        let grace = humantime::format_duration(GRACE);
        if let Some(bounds) = self.sleeps_for(drone) {
            let ago = humantime::format_duration(since(bounds.at));
            let taken = size(bounds.taken);
            return Some(match bounds.why {
                Why::Limit(most) => format!(
                    "{name} was burrowed {ago} ago: it used {taken} of Docker's disk, and limits.disk was \
                     {}. Nothing was deleted. After `hatchery unburrow {repo}` it has {grace} to get below \
                     limits.disk: delete what is not needed, or raise the limit first.",
                    size(most)
                ),
                Why::Reserve {
                    free,
                    reserve,
                    grown,
                } => format!(
                    "{name} was burrowed {ago} ago: Docker's disk had {} free, limits.reserve was {}, and \
                     {name} had grown most, by {} to {taken}. Nothing was deleted. Free some space (`docker \
                     system df` shows what uses it), then run `hatchery unburrow {repo}`.",
                    size(free),
                    size(reserve),
                    size(grown)
                ),
            });
        }
        let (true, Some(taken), Some(most)) = (self.is_beyond(), self.taken, self.most) else {
            return None;
        };
        let (taken, most) = (size(taken.bytes), size(most));
        let begin = format!("{name} uses {taken} of Docker's disk, and limits.disk is {most}.");
        let left = self
            .bounds
            .and_then(|bounds| bounds.let_up)
            .map(|at| GRACE.saturating_sub(since(at)));
        Some(match (drone.life, left) {
            (Life::Running | Life::Stopped, Some(left)) => format!(
                "{begin} It will be burrowed in {} unless it gets below the limit: delete what is not \
                 needed, or raise the limit.",
                humantime::format_duration(left)
            ),
            (Life::Running | Life::Stopped, None) => format!(
                "{begin} It will be burrowed at the next count, within minutes, unless it gets below the \
                 limit. `hatchery unburrow {repo}` gives it {grace}."
            ),
            _ => {
                format!("{begin} After `hatchery unburrow {repo}` it has {grace} to get below it.")
            }
        })
    }
}

/// Tells a person who works on a drone that it takes too much of the disk.
pub fn warn(ui: &Ui, disk: &Disk, drone: &Drone) {
    if let Some(sentence) = disk.sentence(drone) {
        ui.talk(voice::DISK_TAKEN);
        ui.warn(&sentence);
    }
}

/// A person wakes a drone: if it takes too much, it has [`GRACE`] from now on. The caller holds
/// its lock.
pub fn let_up(places: &Places, name: &DroneName, most: Option<u64>) -> Result<()> {
    let disk = Disk::of(places, name, most);
    let bounds = match (disk.bounds, disk.taken) {
        (Some(bounds), _) => bounds,
        (None, Some(taken)) if disk.is_beyond() => Bounds {
            why: Why::Limit(most.unwrap_or_default()),
            taken: taken.bytes,
            at: now(),
            let_up: None,
        },
        _ => return Ok(()),
    };
    let let_up = Some(now());
    Bounds { let_up, ..bounds }.write(places, name)
}

/// Seconds since 1970.
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}

fn since(at: u64) -> Duration {
    Duration::from_secs(now().saturating_sub(at))
}

fn size(bytes: u64) -> String {
    ByteSize::b(bytes).display().iec().to_string()
}

/// What is damaged is written again.
fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drone::{Identity, Scope};

    const GIB: u64 = 1 << 30;

    fn drone(life: Life) -> Drone {
        let repo = "acme/site".parse().unwrap();
        Drone {
            life,
            container: Some("f724".to_owned()),
            ..Drone::bare(Identity::new(Scope::new(vec![repo], None).unwrap()))
        }
    }

    fn taken(bytes: u64) -> Taken {
        Taken {
            bytes,
            at: now(),
            ..Taken::default()
        }
    }

    fn begins(disk: &Disk, drone: &Drone, begin: &str, then: &str) {
        let sentence = disk.sentence(drone).unwrap();
        assert!(sentence.starts_with(begin), "{sentence}");
        assert!(sentence.contains(then), "{sentence}");
    }

    #[test]
    fn a_drone_within_its_limit_or_without_one_is_not_spoken_of() {
        for (bytes, most) in [(64, Some(64)), (65, None), (0, Some(64))] {
            let disk = Disk {
                taken: Some(taken(bytes)),
                bounds: None,
                most,
            };
            let site = drone(Life::Running);
            assert_eq!((disk.word(&site), disk.sentence(&site)), (None, None));
        }
        let unknown = Disk {
            most: Some(1),
            ..Disk::default()
        };
        assert!(!unknown.is_beyond() && unknown.amount().is_none());
    }

    #[test]
    fn a_person_is_told_why_a_drone_sleeps_and_what_to_do() {
        let mut bounds = Bounds {
            why: Why::Limit(64 * GIB),
            taken: 70 * GIB,
            at: now() - 180,
            let_up: None,
        };
        let disk = |bounds: &Bounds| Disk {
            taken: Some(taken(70 * GIB)),
            bounds: Some(*bounds),
            most: Some(64 * GIB),
        };
        let asleep = drone(Life::Burrowed);
        let mut known = disk(&bounds);
        assert_eq!(known.made_of(), None);
        if let Some(taken) = &mut known.taken {
            taken.parts = Some(Parts {
                containers: GIB,
                volumes: 69 * GIB,
                cache: 0,
            });
        }
        assert_eq!(
            known.made_of().as_deref(),
            Some("containers 1.0 GiB, volumes 69.0 GiB, build cache 0 B")
        );
        assert_eq!(known.word(&asleep), Some("burrowed for limits.disk"));
        assert_eq!(known.amount().as_deref(), Some("70.0 GiB of 64.0 GiB"));
        assert_eq!(known.to_json(&asleep)["burrowed_for"], "limit");
        begins(
            &known,
            &asleep,
            "acme-site was burrowed 3m",
            " ago: it used 70.0 GiB of Docker's disk, and limits.disk was 64.0 GiB. Nothing was deleted. \
             After `hatchery unburrow acme/site` it has 30m to get below limits.disk",
        );
        bounds.why = Why::Reserve {
            free: GIB / 2,
            reserve: GIB,
            grown: 9 * GIB,
        };
        let known = disk(&bounds);
        assert_eq!(known.word(&asleep), Some("burrowed for limits.reserve"));
        begins(
            &known,
            &asleep,
            "acme-site was burrowed 3m",
            "512.0 MiB free, limits.reserve was 1.0 GiB, and acme-site had grown most, by 9.0 GiB to 70.0 GiB",
        );
    }

    #[test]
    fn a_drone_that_is_awake_is_told_how_long_it_has() {
        let awake = drone(Life::Running);
        let mut disk = Disk {
            taken: Some(taken(70 * GIB)),
            bounds: None,
            most: Some(64 * GIB),
        };
        let begin = "acme-site uses 70.0 GiB of Docker's disk, and limits.disk is 64.0 GiB.";
        begins(&disk, &awake, begin, "at the next count");
        begins(&disk, &drone(Life::Burrowed), begin, "it has 30m");
        assert_eq!(disk.word(&awake), Some("over limits.disk"));
        disk.bounds = Some(Bounds {
            why: Why::Limit(64 * GIB),
            taken: 70 * GIB,
            at: now() - 3600,
            let_up: Some(now() - 60),
        });
        begins(&disk, &awake, begin, "burrowed in 2");
        assert_eq!(
            disk.to_json(&awake)["burrowed_for"],
            serde_json::Value::Null
        );
        // Its owner has put it to sleep since.
        assert_eq!(disk.word(&drone(Life::Burrowed)), Some("over limits.disk"));
        disk.taken = Some(taken(GIB));
        assert_eq!(disk.sentence(&awake), None);
    }

    #[test]
    fn waking_it_begins_its_time_and_slaying_it_forgets() {
        let place = tempfile::tempdir().unwrap();
        let places = Places::under(place.path());
        let name = drone(Life::Burrowed).identity.name;
        let most = Some(64 * GIB);
        let_up(&places, &name, most).unwrap();
        assert_eq!(Bounds::read(&places, &name), None);
        taken(70 * GIB).write(&places, &name).unwrap();
        let_up(&places, &name, None).unwrap();
        assert_eq!(Bounds::read(&places, &name), None);
        // Nobody had burrowed it, and still it is not burrowed at once.
        let_up(&places, &name, most).unwrap();
        let bounds = Bounds::read(&places, &name).unwrap();
        assert_eq!(bounds.taken, 70 * GIB);
        assert!(bounds.let_up.is_some());
        let burrowed = Bounds {
            at: 7,
            let_up: None,
            taken: 71 * GIB,
            ..bounds
        };
        burrowed.write(&places, &name).unwrap();
        let_up(&places, &name, most).unwrap();
        let bounds = Bounds::read(&places, &name).unwrap();
        assert_eq!((bounds.at, bounds.taken), (7, 71 * GIB));
        assert!(bounds.let_up.is_some_and(|at| at + 60 > now()));
        places.forget(&name).unwrap();
        assert!(Taken::read(&places, &name).is_none() && Bounds::read(&places, &name).is_none());
    }
}
