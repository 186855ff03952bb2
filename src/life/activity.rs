//! What drones do: how much of the processors each takes, and since when nobody and nothing has been at
//! work in it. [`recovery`](crate::life::recovery) looks every minute and writes it down in memory.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::docker::{Drone, Life};
use crate::drone::DroneName;
use crate::error::{Result, host_io};
use crate::host::activity::{self, Activity};
use crate::host::{Places, cgroup};

/// The part of one processor, in thousandths, from which on something is at work: what waits for keys or
/// requests takes less, and an agent that only asks how a job is going takes more.
const AT_WORK: u32 = 3;
/// Of a longer time between two looks nothing is known.
const GAP: Duration = Duration::from_secs(10 * 60);
/// In a shorter one next to nothing says that something is at work.
const SOON: Duration = Duration::from_secs(20);
/// A share of a processor is not told of a shorter time.
const SHORT: Duration = Duration::from_secs(1);

/// For how long hatchery has had processors work in drones.
pub type Ours = HashMap<DroneName, Duration>;

/// A drone as it was last looked at. Times are since the start of this server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Seen {
    /// Which run of which container.
    run: Run,
    /// When.
    at: Duration,
    /// How long processors had worked for it.
    took: Duration,
    /// The same but for hatchery's own programs, and for what hatchery has run in it.
    worked: Duration,
    /// What hatchery has run in it since its start.
    #[serde(default)]
    ours: Duration,
    /// When something was last at work in it, or a client was connected to it.
    active: Duration,
    /// How much of one processor it took between that look and the one before, in percent.
    percent: Option<f64>,
}

/// One run of a container: from a start to its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Run {
    container: String,
    started_at: String,
}

/// All drones that ran, as they were last looked at.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Looks(BTreeMap<String, Seen>);

impl Looks {
    /// What was written down last.
    pub fn read(places: &Places) -> Self {
        // What is damaged, or not there yet, is written at the next look.
        let text = std::fs::read(places.activity_file()).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// Looks at all that run, and writes it down. Hatchery itself has had processors work for so long in some
    /// since the last look.
    pub async fn look(places: &Places, drones: &[Drone], ours: Ours) -> Result<Self> {
        let mut file = places.activity()?;
        let before = Self::read(places);
        let running: Vec<_> = drones.iter().filter_map(running).collect();
        let looking = tokio::task::spawn_blocking(move || {
            let looked = running.into_iter().filter_map(|(name, run, pid)| {
                let ours = ours.get(&name).copied().unwrap_or_default();
                let seen = Seen::now(before.of_run(&name, &run), run, pid, ours)?;
                Some((name.to_string(), seen))
            });
            Self(looked.collect())
        });
        let looks = looking.await.unwrap_or_default();
        let text = serde_json::json!(looks).to_string();
        // Who reads half of it knows nothing, until the next look.
        file.set_len(0)
            .and_then(|()| file.write_all(text.as_bytes()))
            .map_err(|error| host_io("write", &places.activity_file(), error))?;
        Ok(looks)
    }

    /// How much of one processor a drone takes, in percent, since the last look or until it.
    pub fn percent(&self, drone: &Drone) -> Option<f64> {
        let (name, run, pid) = running(drone)?;
        let seen = self.of_run(&name, &run)?;
        let took = cgroup::processor_time(&run.container, pid)?;
        share(
            took.saturating_sub(seen.took),
            now().saturating_sub(seen.at),
        )
        .or(seen.percent)
    }

    /// For how long nobody and nothing has been at work in a drone.
    pub fn idle(&self, drone: &Drone) -> Option<Duration> {
        let (name, run, _) = running(drone)?;
        let seen = self.of_run(&name, &run)?;
        Some(seen.at.saturating_sub(seen.active))
    }

    /// Whether a drone has been left alone since the last look too.
    pub fn is_left_alone(&self, drone: &Drone) -> bool {
        let looked = running(drone).and_then(|(name, run, pid)| {
            let seen = self.of_run(&name, &run)?;
            let activity = activity::of(&run.container, pid)?;
            let since = now().saturating_sub(seen.at).max(SOON);
            Some(seen.is_quiet(activity, seen.ours, since))
        });
        looked.unwrap_or_default()
    }

    fn of_run(&self, name: &DroneName, run: &Run) -> Option<&Seen> {
        self.0.get(name.as_str()).filter(|seen| seen.run == *run)
    }
}

impl Seen {
    fn now(before: Option<&Self>, run: Run, pid: u32, ours: Duration) -> Option<Self> {
        let took = cgroup::processor_time(&run.container, pid)?;
        let activity = activity::of(&run.container, pid)?;
        let ours = before.map_or(ours, |before| before.ours.saturating_add(ours));
        Some(Self::after(before, run, now(), took, activity, ours))
    }

    /// Whether next to nothing has been done in so much time since, and nobody is connected.
    fn is_quiet(&self, activity: Activity, ours: Duration, since: Duration) -> bool {
        let worked = activity.worked.saturating_sub(ours);
        let worked = worked.saturating_sub(self.worked);
        !activity.connected && worked.saturating_mul(1000) < since.saturating_mul(AT_WORK)
    }

    /// What is known of it after a look.
    fn after(
        before: Option<&Self>,
        run: Run,
        at: Duration,
        took: Duration,
        activity: Activity,
        ours: Duration,
    ) -> Self {
        let since = before.map(|before| at.saturating_sub(before.at));
        if let Some(before) = before.filter(|before| at.saturating_sub(before.at) < SOON) {
            let active = if activity.connected {
                at
            } else {
                before.active
            };
            return Self {
                ours,
                active,
                ..before.clone()
            };
        }
        let active = before.filter(|before| {
            let since = at.saturating_sub(before.at);
            since <= GAP && before.is_quiet(activity, ours, since)
        });
        Self {
            run,
            at,
            took,
            worked: activity.worked.saturating_sub(ours),
            ours,
            active: active.map_or(at, |before| before.active),
            percent: before.zip(since).and_then(|(before, since)| {
                share(took.saturating_sub(before.took), since).or(before.percent)
            }),
        }
    }
}

/// The run of a drone's container, and its first process.
fn running(drone: &Drone) -> Option<(DroneName, Run, u32)> {
    let run = Run {
        container: drone.container.clone()?,
        started_at: drone.started_at.clone()?,
    };
    let pid = drone.pid.filter(|_| drone.life == Life::Running)?;
    Some((drone.identity.name.clone(), run, pid))
}

fn share(took: Duration, of: Duration) -> Option<f64> {
    (of >= SHORT).then(|| took.as_secs_f64() / of.as_secs_f64() * 100.0)
}

/// Since the start of this server; it goes on while the server sleeps, and no clock sets it.
fn now() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);
    const NO_TIME: Duration = Duration::ZERO;

    fn run(started_at: &str) -> Run {
        Run {
            container: "f724".to_owned(),
            started_at: started_at.to_owned(),
        }
    }

    /// After a minute in which it worked for so many milliseconds.
    fn next(before: &Seen, worked: u64, connected: bool) -> Seen {
        let activity = Activity {
            worked: before.worked + Duration::from_millis(worked),
            connected,
        };
        let took = before.took + Duration::from_millis(worked);
        let at = before.at + MINUTE;
        Seen::after(
            Some(before),
            before.run.clone(),
            at,
            took,
            activity,
            NO_TIME,
        )
    }

    fn first() -> Seen {
        let activity = Activity {
            worked: Duration::from_secs(7),
            connected: false,
        };
        let took = Duration::from_secs(8);
        Seen::after(None, run("1"), MINUTE, took, activity, NO_TIME)
    }

    #[test]
    fn it_is_idle_since_the_last_look_that_found_something() {
        let seen = first();
        assert_eq!((seen.active, seen.percent), (MINUTE, None));
        let quiet = next(&next(&seen, 0, false), 179, false);
        assert_eq!(quiet.active, MINUTE);
        assert_eq!(quiet.at, MINUTE * 3);
        assert_eq!(next(&quiet, 180, false).active, MINUTE * 4);
        assert_eq!(next(&quiet, 0, true).active, MINUTE * 4);
    }

    #[test]
    fn what_hatchery_runs_in_it_does_not_count() {
        let seen = first();
        let after = |ours| {
            let activity = Activity {
                worked: seen.worked + Duration::from_millis(300),
                connected: false,
            };
            let at = seen.at + MINUTE;
            Seen::after(Some(&seen), run("1"), at, seen.took, activity, ours)
        };
        assert_eq!(after(NO_TIME).active, MINUTE * 2);
        let quiet = after(Duration::from_millis(200));
        assert_eq!(quiet.active, MINUTE);
        // What it has run before goes on not to count.
        let activity = Activity {
            worked: quiet.worked + quiet.ours + Duration::from_millis(100),
            connected: false,
        };
        assert!(quiet.is_quiet(activity, quiet.ours, MINUTE));
        assert!(!quiet.is_quiet(activity, NO_TIME, MINUTE));
    }

    #[test]
    fn a_look_soon_after_another_tells_only_who_is_connected() {
        let seen = first();
        let soon = |connected| {
            let activity = Activity {
                worked: seen.worked + Duration::from_secs(1),
                connected,
            };
            let at = seen.at + Duration::from_secs(19);
            Seen::after(Some(&seen), run("1"), at, seen.took, activity, NO_TIME)
        };
        assert_eq!(soon(false), seen);
        assert_eq!(soon(true).active, seen.at + Duration::from_secs(19));
    }

    #[test]
    fn of_a_time_in_which_nobody_looked_nothing_is_said() {
        let seen = first();
        let at = seen.at + GAP + MINUTE;
        let activity = Activity {
            worked: seen.worked,
            connected: false,
        };
        let later = Seen::after(Some(&seen), run("1"), at, seen.took, activity, NO_TIME);
        assert_eq!(later.active, at);
    }

    #[test]
    fn a_share_of_a_processor_is_of_the_time_between_two_looks() {
        let seen = next(&first(), 30_000, false);
        assert_eq!(seen.percent, Some(50.0));
        assert_eq!(share(MINUTE, Duration::from_millis(999)), None);
    }

    #[test]
    fn what_was_seen_of_another_run_does_not_count() {
        let looks = Looks(BTreeMap::from([("acme-site".to_owned(), first())]));
        let name = DroneName::from_label("acme-site").unwrap();
        assert!(looks.of_run(&name, &run("1")).is_some());
        assert!(looks.of_run(&name, &run("2")).is_none());
        let text = serde_json::json!(looks).to_string();
        assert_eq!(serde_json::from_str::<Looks>(&text).unwrap(), looks);
    }
}
