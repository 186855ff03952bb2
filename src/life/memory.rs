//! How a drone does for memory: whether the kernel has killed something in it because its limit was
//! reached, and whether it is near that limit.
//!
//! The kernel counts from the container's start. So that a kill is told although Docker or
//! [`recovery`](crate::life::recovery) has started the drone since, recovery writes down what it saw;
//! `burrow` and `unburrow` tell it and forget it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

use crate::docker::Drone;
use crate::error::Result;
use crate::host::Places;
use crate::host::cgroup;
use crate::host::kernel_log::{self, Kill};
use crate::ui::{Ui, voice};

/// Memory in use from which a drone is near its limit, in percent of the limit.
const NEAR: u64 = 90;

/// A drone's memory at this moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// How many of its processes the kernel has killed since it was spawned or last woken.
    pub killed: u64,
    /// Whether so much is in use that the next may be killed.
    pub near_limit: bool,
    /// In use, in bytes; `None` where it does not run or the kernel does not count it.
    pub in_use: Option<u64>,
    /// The limit of its container, in bytes.
    pub limit: Option<u64>,
    /// Since when the kernel's log is to be asked, in seconds since 1970.
    #[serde(skip)]
    since: u64,
}

/// What was killed in a drone's container, as it was last seen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    container: String,
    started_at: String,
    /// In runs before this one.
    earlier: u64,
    /// In the run that began then.
    killed: u64,
}

impl Memory {
    /// Of this drone. No program runs for it, and nothing in the drone.
    pub async fn of(places: &Places, drone: &Drone) -> Self {
        let one = Self::of_all(places, std::slice::from_ref(drone)).await;
        one.into_iter().next().unwrap_or_default()
    }

    /// Of all these drones. A few small files of each are read, which a thread for each would only hold up.
    pub async fn of_all(places: &Places, drones: &[Drone]) -> Vec<Self> {
        let (places, all) = (places.clone(), drones.to_vec());
        let looking = tokio::task::spawn_blocking(move || {
            all.iter().map(|drone| look(&places, drone).0).collect()
        });
        looking
            .await
            .unwrap_or_else(|_| vec![Self::default(); drones.len()])
    }

    /// Whether something is to be said of it.
    pub const fn is_short(&self) -> bool {
        self.killed > 0 || self.near_limit
    }

    /// The word for it in a list.
    pub const fn word(&self) -> Option<&'static str> {
        match self {
            Self { killed: 1.., .. } => Some("out of memory"),
            Self {
                near_limit: true, ..
            } => Some("memory nearly full"),
            _ => None,
        }
    }

    /// The last process that was killed, where the kernel's log says so.
    pub async fn last_kill(&self, drone: &Drone) -> Option<Kill> {
        let container = drone.container.as_deref().filter(|_| self.killed > 0)?;
        let since = UNIX_EPOCH.checked_add(Duration::from_secs(self.since))?;
        kernel_log::last_kill(container, since).await
    }

    /// What a person is told; nothing where all is well.
    pub fn sentence(&self, drone: &Drone, last: Option<&Kill>) -> Option<String> {
        let name = &drone.identity.name;
        let size = |bytes| ByteSize::b(bytes).display().iec().to_string();
        let mut told = Vec::new();
        if self.killed > 0 {
            let limit = self.limit.map(|limit| format!(" ({})", size(limit)));
            let times = match self.killed {
                1 => "once".to_owned(),
                times => format!("{times} times"),
            };
            let last = last.map(|kill| {
                let ago = humantime::format_duration(since(kill.time));
                format!("; the last was `{}`, {ago} ago", kill.process)
            });
            told.push(format!(
                "{name} ran out of memory{}: the kernel killed a process in it {times}{}.",
                limit.unwrap_or_default(),
                last.unwrap_or_default(),
            ));
        }
        if let (true, Some(used), Some(limit)) = (self.near_limit, self.in_use, self.limit) {
            told.push(format!(
                "{name} is near its memory limit: {} of {} in use.",
                size(used),
                size(limit)
            ));
        }
        if told.is_empty() {
            return None;
        }
        told.push(format!(
            "`hatchery limit {} --memory SIZE` gives it more.",
            drone.identity.repo
        ));
        Some(told.join(" "))
    }
}

/// Tells a person who works on a drone that it is short of memory.
pub async fn warn(ui: &Ui, places: &Places, drone: &Drone) {
    let memory = Memory::of(places, drone).await;
    let last = memory.last_kill(drone).await;
    if let Some(sentence) = memory.sentence(drone, last.as_ref()) {
        ui.talk(voice::OUT_OF_MEMORY);
        ui.warn(&sentence);
    }
}

/// Whether there is something that [`remember`] would write down.
pub fn is_news(places: &Places, drone: &Drone) -> bool {
    look(places, drone).1.is_some()
}

/// Writes down what was killed in this drone, for when the kernel has forgotten it.
pub fn remember(places: &Places, drone: &Drone) -> Result<()> {
    let Some(seen) = look(places, drone).1 else {
        return Ok(());
    };
    places.remember(&places.memory_file(&drone.identity.name), &seen)
}

/// The drone's memory, and what is to be written down of it where that has changed.
fn look(places: &Places, drone: &Drone) -> (Memory, Option<Seen>) {
    let before = std::fs::read(places.memory_file(&drone.identity.name)).ok();
    // What is damaged is written again.
    let before: Option<Seen> = before.and_then(|text| serde_json::from_slice(&text).ok());
    let counted = match (&drone.container, drone.pid) {
        (Some(container), Some(pid)) => cgroup::memory(container, pid),
        _ => None,
    };
    let now = seen(before.as_ref(), drone, counted.map_or(0, |it| it.killed));
    let started = seconds(drone.started_at.as_deref());
    let created = drone.created.and_then(|time| u64::try_from(time).ok());
    let memory = Memory {
        killed: now.earlier.saturating_add(now.killed),
        near_limit: counted.is_some_and(|it| is_near(it.in_use, it.limit)),
        in_use: counted.map(|it| it.in_use),
        limit: counted.and_then(|it| it.limit),
        since: started
            .filter(|_| now.killed > 0)
            .or(created)
            .unwrap_or_default(),
    };
    let is_news = memory.killed > 0 && before.as_ref() != Some(&now);
    (memory, is_news.then_some(now))
}

/// What is known of a drone in which so many processes were killed in this run, and so many before.
fn seen(before: Option<&Seen>, drone: &Drone, counted: u64) -> Seen {
    let container = drone.container.clone().unwrap_or_default();
    let started_at = drone.started_at.clone().unwrap_or_default();
    let (mut earlier, mut killed) = match before.filter(|seen| seen.container == container) {
        Some(seen) if seen.started_at == started_at => (seen.earlier, seen.killed),
        Some(seen) => (seen.earlier.saturating_add(seen.killed), 0),
        None => (0, 0),
    };
    killed = killed.max(counted);
    // Docker only says that there was something; of a container that runs, in the run before.
    if drone.out_of_memory {
        let told = if drone.pid.is_some() {
            &mut earlier
        } else {
            &mut killed
        };
        *told = (*told).max(1);
    }
    Seen {
        container,
        started_at,
        earlier,
        killed,
    }
}

fn is_near(in_use: u64, limit: Option<u64>) -> bool {
    limit.is_some_and(|limit| limit > 0 && in_use >= limit / 100 * NEAR)
}

/// A time of Docker's in seconds since 1970.
fn seconds(time: Option<&str>) -> Option<u64> {
    let time = humantime::parse_rfc3339_weak(time?.trim_end_matches('Z')).ok()?;
    Some(time.duration_since(UNIX_EPOCH).ok()?.as_secs())
}

/// How long ago that was, to the second.
fn since(micros: u64) -> Duration {
    let then = UNIX_EPOCH.checked_add(Duration::from_micros(micros));
    let since = then.and_then(|then| SystemTime::now().duration_since(then).ok());
    Duration::from_secs(since.unwrap_or_default().as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::docker::Life;
    use crate::drone::{Identity, Scope};

    fn drone(started_at: &str, pid: Option<u32>, out_of_memory: bool) -> Drone {
        let repo = "acme/site".parse().unwrap();
        Drone {
            identity: Identity::new(Scope::new(vec![repo], None).unwrap()),
            life: Life::Running,
            container: Some("f724".to_owned()),
            ssh_port: None,
            created: Some(1_700_000_000),
            docker_status: String::new(),
            pid,
            started_at: Some(started_at.to_owned()),
            out_of_memory,
            seen: None,
        }
    }

    #[test]
    fn a_kill_is_told_although_the_counter_began_again() {
        let (one, two, three) = (
            "2026-01-01T10:00:00.5Z",
            "2026-01-01T11:00:00.5Z",
            "2026-01-01T12:00:00.5Z",
        );
        let running = |at| drone(at, Some(7), false);
        let total = |seen: &Seen| (seen.earlier, seen.killed);
        let nothing = seen(None, &running(one), 0);
        assert_eq!(total(&nothing), (0, 0));
        let first = seen(Some(&nothing), &running(one), 2);
        assert_eq!(total(&first), (0, 2));
        assert_eq!(seen(Some(&first), &running(one), 2), first);
        let again = seen(Some(&first), &running(two), 0);
        assert_eq!(total(&again), (2, 0));
        let more = seen(Some(&again), &running(two), 1);
        assert_eq!(total(&more), (2, 1));
        assert_eq!(total(&seen(Some(&more), &running(three), 0)), (3, 0));
        // Another container of this name.
        let other = Drone {
            container: Some("b071".to_owned()),
            ..running(three)
        };
        assert_eq!(total(&seen(Some(&more), &other, 0)), (0, 0));
    }

    #[test]
    fn dockers_word_counts_where_the_counter_is_gone() {
        let at = "2026-01-01T10:00:00.5Z";
        let total = |seen: &Seen| (seen.earlier, seen.killed);
        assert_eq!(total(&seen(None, &drone(at, None, true), 0)), (0, 1));
        assert_eq!(total(&seen(None, &drone(at, Some(7), true), 0)), (1, 0));
        let known = Seen {
            earlier: 4,
            ..seen(None, &drone(at, Some(7), false), 3)
        };
        let stopped = seen(Some(&known), &drone(at, None, true), 0);
        assert_eq!(total(&stopped), (4, 3));
    }

    #[test]
    fn what_is_remembered_is_told_until_it_is_forgotten() {
        let place = tempfile::tempdir().unwrap();
        let places = Places::under(place.path());
        let stopped = drone("2026-01-01T10:00:00.5Z", None, true);
        assert!(is_news(&places, &stopped));
        remember(&places, &stopped).unwrap();
        assert!(!is_news(&places, &stopped));
        let woken = drone("2026-01-01T11:00:00.5Z", None, false);
        assert_eq!(look(&places, &woken).0.killed, 1);
        places.forget_memory(&woken.identity.name).unwrap();
        assert_eq!(look(&places, &woken).0.killed, 0);
        assert!(!is_news(&places, &woken));
        std::fs::write(places.memory_file(&woken.identity.name), "x").unwrap();
        assert_eq!(look(&places, &woken).0.killed, 0);
        assert!(is_news(&places, &stopped));
        places.forget(&woken.identity.name).unwrap();
        assert!(!places.memory_file(&woken.identity.name).exists());
    }

    #[test]
    fn the_kernels_log_is_asked_from_the_run_in_which_something_was_killed() {
        let place = tempfile::tempdir().unwrap();
        let places = Places::under(place.path());
        let since = |drone: &Drone| look(&places, drone).0.since;
        let started = "2026-01-01T10:00:00.5Z";
        assert_eq!(since(&drone(started, None, true)), 1_767_261_600);
        assert_eq!(since(&drone(started, Some(u32::MAX), true)), 1_700_000_000);
        assert_eq!(since(&drone("nonsense", None, true)), 1_700_000_000);
    }

    #[test]
    fn near_the_limit_is_nine_tenths_of_it() {
        for (in_use, limit, near) in [
            (900, Some(1000), true),
            (899, Some(1000), false),
            (2000, Some(1000), true),
            (u64::MAX, Some(u64::MAX), true),
            (0, Some(0), false),
            (u64::MAX, None, false),
        ] {
            assert_eq!(is_near(in_use, limit), near, "{in_use} of {limit:?}");
        }
    }

    #[test]
    fn a_person_is_told_how_often_which_and_how_much() {
        let site = drone("2026-01-01T10:00:00.5Z", Some(7), false);
        let told = |memory: &Memory, last| memory.sentence(&site, last);
        let well = Memory::default();
        assert_eq!((told(&well, None), well.word()), (None, None));

        let near = Memory {
            near_limit: true,
            in_use: Some(4_080_218_931),
            limit: Some(4 << 30),
            ..Memory::default()
        };
        let sentence = told(&near, None).unwrap();
        assert!(
            sentence.starts_with("acme-site is near its memory limit: 3.8 GiB of 4.0 GiB in use."),
            "{sentence}"
        );
        assert_eq!(near.word(), Some("memory nearly full"));

        let once = Memory { killed: 1, ..well };
        let sentence = told(&once, None).unwrap();
        assert!(
            sentence.starts_with(
                "acme-site ran out of memory: the kernel killed a process in it once. `hatchery limit acme/site --memory"
            ),
            "{sentence}"
        );

        let often = Memory { killed: 3, ..near };
        let then = SystemTime::now() - Duration::from_secs(3600);
        let then = then.duration_since(UNIX_EPOCH).unwrap().as_micros();
        let kill = Kill {
            process: "tail".to_owned(),
            time: u64::try_from(then).unwrap(),
        };
        let sentence = told(&often, Some(&kill)).unwrap();
        assert!(
            sentence.starts_with(
                "acme-site ran out of memory (4.0 GiB): the kernel killed a process in it 3 times; the last was `tail`, 1h"
            ),
            "{sentence}"
        );
        assert!(sentence.contains("near its memory limit"), "{sentence}");
        assert_eq!(often.word(), Some("out of memory"));
    }
}
