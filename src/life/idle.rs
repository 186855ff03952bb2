//! Burrowing a drone in which nobody and nothing has been at work for `limits.idle`: nobody was connected
//! to it, by ssh or at another port, no terminal of `hatchery exec` was open, and its processes have done
//! next to nothing.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::docker::{Drone, Life};
use crate::error::{Code, Result};
use crate::host::{Places, recalled};
use crate::life::activity::{Looks, Ours};
use crate::life::bounds::Done;
use crate::life::burrowing::Burrowing;
use crate::life::disk::now;
use crate::life::limits::Own;
use crate::life::work;
use crate::server::Server;

/// A drone that was burrowed for having been idle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asleep {
    /// For how long it had been.
    idle: Duration,
    /// Since when, in seconds since 1970.
    at: u64,
    /// When its container had been started (RFC 3339): at a later start it was awake again.
    started_at: Option<String>,
}

impl Asleep {
    /// Of this drone, if it sleeps for that.
    pub fn of(places: &Places, drone: &Drone) -> Option<Self> {
        let file = places.idle_file(&drone.identity.name);
        // What is damaged tells nothing.
        let asleep = recalled(&file, "").ok().flatten();
        asleep.filter(|it: &Self| drone.life == Life::Burrowed && it.started_at == drone.started_at)
    }

    /// The words for it in a list.
    pub fn words(&self) -> String {
        format!(
            "burrowed: idle for {}",
            humantime::format_duration(self.idle)
        )
    }

    /// What a person is told.
    pub fn sentence(&self, drone: &Drone) -> String {
        let since = Duration::from_secs(now().saturating_sub(self.at));
        format!(
            "{} was burrowed {} ago, because it had been idle for {}. Nothing was deleted. `hatchery \
             unburrow {}` starts it again.",
            drone.identity.name,
            humantime::format_duration(since),
            humantime::format_duration(self.idle),
            drone.identity.repo
        )
    }
}

/// Looks at what all drones do, and burrows those that have been idle for too long. Hatchery itself has run
/// something in some.
pub async fn enforce(server: Server<'_>, drones: &[Drone], ours: Ours) -> Result<Vec<Done>> {
    let looks = Looks::look(server.places, drones, ours).await?;
    let mut all = Vec::new();
    let mut asleep = Vec::new();
    for drone in drones {
        let name = &drone.identity.name;
        match burrow(server, drone, &looks).await {
            Ok(false) => {}
            Ok(true) => {
                asleep.push(drone);
                all.push((
                    name.clone(),
                    Ok("burrowed, because it was idle for limits.idle"),
                ));
            }
            // Another hatchery is at work on it.
            Err(error) if error.code() == Code::DroneBusy => {}
            Err(error) => all.push((name.clone(), Err(error))),
        }
    }
    for drone in asleep {
        // Nobody changes it from now on: `list` tells it as it is. Where it takes too long, it does not.
        let _ = work::count(server.docker, server.places, drone).await;
    }
    Ok(all)
}

/// Burrows a drone if it has been idle for too long and still is; whether it was.
async fn burrow(server: Server<'_>, drone: &Drone, looks: &Looks) -> Result<bool> {
    let (places, name) = (server.places, &drone.identity.name);
    let is_too_long = |idle| {
        let limits = Own::of(places, name)?.over(&server.config.limits);
        Ok(limits.idle.get().is_some_and(|most| idle >= most))
    };
    let (Some(idle), Some(container)) = (looks.idle(drone), &drone.container) else {
        return Ok(false);
    };
    if !is_too_long(idle)? {
        return Ok(false);
    }
    let _lock = places.lock(name)?;
    // A person may have connected while others were put to sleep, or have changed it.
    let now_there = server.docker.drone(name).await?;
    let is_same = now_there.is_some_and(|now| {
        (&now.container, &now.started_at, now.life)
            == (&drone.container, &drone.started_at, Life::Running)
    });
    if !is_same
        || !is_too_long(idle)?
        || server.docker.has_terminal_open(container).await?
        || !looks.is_left_alone(drone)
    {
        return Ok(false);
    }
    let asleep = Asleep {
        idle: Duration::from_secs(idle.as_secs()),
        at: now(),
        started_at: drone.started_at.clone(),
    };
    // Before it is stopped, so that nobody finds it asleep without a reason.
    places.remember(&places.idle_file(name), &asleep)?;
    let revoking = server.sockets.revoke(name);
    let stopping = Burrowing::from(&server).stop(drone, container, revoking);
    match stopping.await {
        Ok(warnings) => warnings.iter().for_each(|warning| server.ui.warn(warning)),
        Err(error) => {
            places.forget_idle(name)?;
            return Err(error);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drone::{Identity, Scope};

    #[test]
    fn a_person_is_told_why_it_sleeps_until_it_is_woken() {
        let place = tempfile::tempdir().unwrap();
        let places = Places::under(place.path());
        let repo = "acme/site".parse().unwrap();
        let identity = Identity::new(Scope::new(vec![repo], None).unwrap());
        let mut site = Drone {
            life: Life::Burrowed,
            ..Drone::bare(identity)
        };
        assert_eq!(Asleep::of(&places, &site), None);
        let asleep = Asleep {
            idle: Duration::from_secs(2 * 60 * 60),
            at: now() - 180,
            started_at: site.started_at.clone(),
        };
        let file = places.idle_file(&site.identity.name);
        places.remember(&file, &asleep).unwrap();
        let told = Asleep::of(&places, &site).unwrap();
        assert_eq!(told.words(), "burrowed: idle for 2h");
        let sentence = told.sentence(&site);
        assert!(
            sentence.starts_with("acme-site was burrowed 3m"),
            "{sentence}"
        );
        assert!(
            sentence.contains("idle for 2h. Nothing was deleted"),
            "{sentence}"
        );
        site.life = Life::Running;
        assert_eq!(Asleep::of(&places, &site), None);
        site.life = Life::Burrowed;
        let started_at = site.started_at.replace("2026-01-01T10:00:00Z".to_owned());
        assert_eq!(Asleep::of(&places, &site), None);
        site.started_at = started_at;
        assert!(Asleep::of(&places, &site).is_some());
        places.forget_idle(&site.identity.name).unwrap();
        assert_eq!(Asleep::of(&places, &site), None);
    }
}
