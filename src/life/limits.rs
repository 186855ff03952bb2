//! Limits that a person has given one drone. They go before the configuration's `[limits]`, hold for a
//! container that runs and for every later one, and end with the drone.

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

use crate::config::{Limits, Period};
use crate::docker::{Container, Docker, Drone, InForce, Machine};
use crate::drone::DroneName;
use crate::error::{Code, Error, Result};
use crate::host::{Places, cgroup, recalled};

/// What to do about a damaged file.
const HINT: &str = "remove it, then set the limits again with `hatchery limit DRONE`";

/// A drone's own limits; `None` where the configuration's counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Own {
    /// Memory in bytes: a size is written with one decimal.
    pub memory: Option<u64>,
    /// Processors.
    pub cpus: Option<f64>,
    /// Processes and threads.
    pub pids: Option<i64>,
    /// How long it may be idle before it is burrowed.
    pub idle: Option<Period>,
}

impl Own {
    /// Of this drone.
    ///
    /// # Errors
    /// What is kept of it cannot be read, or is damaged.
    pub fn of(places: &Places, name: &DroneName) -> Result<Self> {
        let kept = recalled(&places.limits_file(name), HINT)?;
        Ok(kept.unwrap_or_default())
    }

    /// Keeps them, for as long as the drone is.
    pub fn keep(self, places: &Places, name: &DroneName) -> Result<()> {
        if self == Self::default() {
            return places.forget_limits(name);
        }
        places.remember(&places.limits_file(name), &self)
    }

    /// With those that are set in `other` in the place of these.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self {
            memory: other.memory.or(self.memory),
            cpus: other.cpus.or(self.cpus),
            pids: other.pids.or(self.pids),
            idle: other.idle.or(self.idle),
        }
    }

    /// The configuration's, with these in their place.
    #[must_use]
    pub fn over(self, limits: &Limits) -> Limits {
        Limits {
            memory: self.memory.map_or(limits.memory, ByteSize::b),
            cpus: self.cpus.unwrap_or(limits.cpus),
            pids: self.pids.unwrap_or(limits.pids),
            idle: self.idle.unwrap_or(limits.idle),
            ..limits.clone()
        }
    }
}

/// A change of limits: what was not given stays as it is.
#[derive(Debug, Clone, Copy)]
pub struct Change<'a> {
    /// What was given.
    pub given: Own,
    /// Whether all that was not given is the configuration's again.
    pub resets: bool,
    /// All that holds from now on.
    pub limits: &'a Limits,
    /// Docker's machine.
    pub machine: &'a Machine,
}

impl Change<'_> {
    /// What Docker is told.
    fn in_force(&self) -> InForce {
        let limits = self.limits;
        let changes = |given: bool| given || self.resets;
        InForce {
            memory: Some(limits.memory.as_u64()).filter(|_| changes(self.given.memory.is_some())),
            cpus: Some(limits.processors()).filter(|_| changes(self.given.cpus.is_some())),
            pids: Some(limits.pids).filter(|_| changes(self.given.pids.is_some())),
        }
    }

    /// Refuses what this machine cannot give, and what a drone's containers have outgrown.
    pub fn can_be(&self, drone: &Drone, containers: &[Container]) -> Result<()> {
        self.limits.check().map_err(|(key, what)| {
            let option = key.trim_start_matches("limits.");
            Error::new(Code::Usage, format!("--{option} {what}"))
        })?;
        let (given, has) = (self.given, self.machine.memory);
        if given.memory.is_some_and(|memory| memory > has.as_u64()) {
            let has = has.display().iec();
            let what = format!("this server has only {has} of memory");
            return Err(Error::new(Code::Usage, what).hint("give a smaller --memory"));
        }
        if given
            .cpus
            .is_some_and(|cpus| cpus > self.limits.processors())
        {
            let has = self.limits.processors();
            let what = format!("this server has only {has} processors");
            return Err(Error::new(Code::Usage, what).hint("give a smaller --cpus"));
        }
        containers
            .iter()
            .try_for_each(|container| self.is_enough(drone, container))
    }

    fn is_enough(&self, drone: &Drone, container: &Container) -> Result<()> {
        let Some(pid) = container.pid() else {
            return Ok(());
        };
        let (new, id) = (self.in_force(), container.id());
        let name = match container.service() {
            Some(service) if drone.container.as_deref() != Some(id) => {
                format!("{service} of {}", drone.identity.name)
            }
            _ => drone.identity.name.to_string(),
        };
        let outgrown = |uses: String, option| {
            let what = format!("{name} currently uses {uses}, which is more than the new limit");
            Error::new(Code::LimitReached, what).hint(format!(
                "stop something in it first, or give a larger --{option}"
            ))
        };
        let in_use = new.memory.and_then(|_| cgroup::memory(id, pid));
        match (new.memory, in_use) {
            (Some(most), Some(memory)) if memory.in_use > most => {
                let uses = ByteSize::b(memory.in_use).display().iec();
                return Err(outgrown(format!("{uses} of memory"), "memory"));
            }
            _ => {}
        }
        match (new.pids, cgroup::tasks(id, pid)) {
            (Some(most), Some(tasks)) if tasks > most => {
                let uses = format!("{tasks} processes and threads");
                Err(outgrown(uses, "pids"))
            }
            _ => Ok(()),
        }
    }

    /// Puts it in force for these containers, as far as this Docker can; where one refuses, those that were
    /// changed get back what they had.
    pub async fn put_in_force(&self, docker: &Docker, containers: &[Container]) -> Result<()> {
        for (at, container) in containers.iter().enumerate() {
            let new = self.in_force();
            if let Err(error) = docker.limit(container.id(), new, self.machine).await {
                self.take_back(docker, &containers[..at]).await;
                return Err(error);
            }
        }
        Ok(())
    }

    /// Gives these containers what they had.
    pub async fn take_back(&self, docker: &Docker, containers: &[Container]) {
        for container in containers {
            // What had no limit keeps the new one: Docker cannot take one away.
            let _ = docker
                .limit(container.id(), container.limits(), self.machine)
                .await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::docker::Life;
    use crate::drone::{Identity, Scope};

    fn site() -> Drone {
        let repo = "acme/site".parse().unwrap();
        Drone {
            life: Life::Burrowed,
            ..Drone::bare(Identity::new(Scope::new(vec![repo], None).unwrap()))
        }
    }

    #[test]
    fn what_is_set_goes_before_the_configuration_and_is_forgotten_with_the_drone() {
        let place = tempfile::tempdir().unwrap();
        let places = Places::under(place.path());
        let name = site().identity.name;
        let limits = Limits::default();
        assert_eq!(Own::of(&places, &name).unwrap(), Own::default());
        let memory = ByteSize::mib(12_345);
        let own = Own {
            memory: Some(memory.as_u64()),
            ..Own::default()
        };
        own.keep(&places, &name).unwrap();
        let more = Own {
            cpus: Some(1.5),
            ..Own::default()
        };
        let both = Own::of(&places, &name).unwrap().with(more);
        both.keep(&places, &name).unwrap();
        let kept = Own::of(&places, &name).unwrap().over(&limits);
        assert_eq!((kept.memory, kept.cpus), (memory, 1.5));
        assert_eq!(kept.pids, limits.pids);
        places.forget(&name).unwrap();
        assert_eq!(Own::of(&places, &name).unwrap(), Own::default());
        both.keep(&places, &name).unwrap();
        Own::default().keep(&places, &name).unwrap();
        assert!(!places.limits_file(&name).exists());
    }

    #[test]
    fn what_this_machine_cannot_give_is_refused_by_its_option() {
        let machine = Machine {
            memory: ByteSize::gib(16),
            ..Machine::default()
        };
        let refused = |given: Own| {
            let change = Change {
                given,
                resets: false,
                limits: &given.over(&Limits::default()),
                machine: &machine,
            };
            let done = change.can_be(&site(), &[]);
            done.map_err(|error| error.message())
        };
        for (memory, told) in [
            (1, "--memory must be"),
            (17 << 10, "only 16.0 GiB of memory"),
        ] {
            let own = Own {
                memory: Some(ByteSize::mib(memory).as_u64()),
                ..Own::default()
            };
            let error = refused(own).unwrap_err();
            assert!(error.contains(told), "{error}");
        }
        for (cpus, told) in [
            (0.0, "--cpus must be"),
            (0.001, "--cpus must be"),
            (100_000.0, "processors"),
        ] {
            let own = Own {
                cpus: Some(cpus),
                ..Own::default()
            };
            let error = refused(own).unwrap_err();
            assert!(error.contains(told), "{error}");
        }
        assert_eq!(refused(Own::default()), Ok(()));
    }

    #[test]
    fn what_was_not_given_stays_as_it_is_unless_all_is_reset() {
        let given = Own {
            pids: Some(600),
            ..Own::default()
        };
        let mut change = Change {
            given,
            resets: false,
            limits: &given.over(&Limits::default()),
            machine: &Machine::default(),
        };
        let pids_alone = InForce {
            pids: Some(600),
            ..InForce::default()
        };
        assert_eq!(change.in_force(), pids_alone);
        change.resets = true;
        let all = change.in_force();
        assert_eq!(all.memory, Some(Limits::default().memory.as_u64()));
        assert!(all.cpus.is_some() && all.pids == Some(600));
    }
}
