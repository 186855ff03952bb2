//! `hatchery limit`

use bytesize::ByteSize;
use clap::Args;
use serde_json::json;

use super::{Context, is_egg};
use crate::config::{Limits, Period};
use crate::docker::{Docker, Drone, InForce, Life};
use crate::error::Result;
use crate::life::limits::{Change, Own};
use crate::life::siblings;
use crate::ui::Ui;

/// Show a drone's limits, or change them while it runs
///
/// A new limit takes effect immediately, also for the drone's siblings. It survives a rebuild and lasts until
/// the drone is slain.
#[derive(Debug, Args)]
pub struct Limit {
    /// org/repo or the drone's name
    #[arg(value_name = "DRONE")]
    drone: String,

    /// Memory, such as `12GiB`
    #[arg(long, value_name = "SIZE", value_parser = size)]
    memory: Option<ByteSize>,

    /// Processors, such as `1.5`
    #[arg(long, value_name = "NUMBER")]
    cpus: Option<f64>,

    /// The number of processes and threads
    #[arg(long, value_name = "NUMBER")]
    pids: Option<i64>,

    /// Burrow the drone after it has been idle for this long, such as `8h`, or `never`
    #[arg(long, value_name = "TIME", value_parser = idle)]
    idle: Option<Period>,

    /// Reset all limits that are not given here to the configuration's
    #[arg(long)]
    reset: bool,
}

fn size(text: &str) -> std::result::Result<ByteSize, String> {
    text.parse()
        .map_err(|_| "write it as a size, such as 12GiB".to_owned())
}

fn idle(text: &str) -> std::result::Result<Period, String> {
    match text {
        "never" => "0".parse(),
        text => text.parse(),
    }
}

impl Limit {
    pub async fn run(self, context: &Context<'_>) -> Result<()> {
        let asked = context.asked(&self.drone)?;
        let docker = context.docker().await?;
        let _lock = context.places.lock(&asked.name())?;
        let drone = context.drone(&docker, &asked).await?;
        if drone.life == Life::Egg {
            return Err(is_egg(&drone));
        }
        let (places, name) = (&context.places, &drone.identity.name);
        let given = Own {
            memory: self.memory.map(|memory| memory.as_u64()),
            cpus: self.cpus,
            pids: self.pids,
            idle: self.idle,
        };
        let before = if self.reset {
            Own::default()
        } else {
            Own::of(places, name)?
        };
        let own = before.with(given);
        if self.reset || given != Own::default() {
            self.set(context, &docker, &drone, given, own).await?;
        }
        let limits = own.over(&context.config.limits);
        let there = match &drone.container {
            Some(id) => docker.container(id).await?.map(|it| it.limits()),
            None => None,
        };
        tell(context.ui, &drone, own, &limits, there);
        Ok(())
    }

    /// Puts limits in force and keeps them; where that is refused, all is as it was.
    async fn set(
        &self,
        context: &Context<'_>,
        docker: &Docker,
        drone: &Drone,
        given: Own,
        own: Own,
    ) -> Result<()> {
        let limits = own.over(&context.config.limits);
        let machine = docker.machine().await?;
        let change = Change {
            given,
            resets: self.reset,
            limits: &limits,
            machine: &machine,
        };
        let name = &drone.identity.name;
        let mut containers = Vec::new();
        if let Some(own) = &drone.container {
            containers = siblings::of(docker, name, own).await?;
            containers.extend(docker.container(own).await?);
        }
        change.can_be(drone, &containers)?;
        change.put_in_force(docker, &containers).await?;
        if let Err(error) = own.keep(&context.places, name) {
            change.take_back(docker, &containers).await;
            return Err(error);
        }
        Ok(())
    }
}

/// Tells which limits are in force: those of the container, if there is one, and for it those of a later one.
fn tell(ui: &Ui, drone: &Drone, own: Own, limits: &Limits, there: Option<InForce>) {
    let there = there.unwrap_or(InForce {
        memory: Some(limits.memory.as_u64()),
        cpus: Some(limits.processors()),
        pids: Some(limits.pids),
    });
    let idle = limits.idle.get();
    if ui.json() {
        ui.json_result(&json!({
            "name": drone.identity.name, "repository": drone.identity.repo,
            "limits": {
                "memory": there.memory, "cpus": there.cpus, "pids": there.pids,
                "idle": idle.map(|idle| idle.as_secs()),
            },
            "own": {
                "memory": own.memory, "cpus": own.cpus, "pids": own.pids,
                "idle": own.idle.map(|idle| idle.get().map_or(0, |idle| idle.as_secs())),
            },
        }));
        return;
    }
    let none = || "no limit".to_owned();
    let memory = there
        .memory
        .map(|bytes| ByteSize::b(bytes).display().iec().to_string());
    let rows = [
        ("memory", memory, own.memory.is_some()),
        (
            "cpus",
            there.cpus.map(|cpus| cpus.to_string()),
            own.cpus.is_some(),
        ),
        (
            "pids",
            there.pids.map(|pids| pids.to_string()),
            own.pids.is_some(),
        ),
        (
            "idle",
            idle.map(|idle| humantime::format_duration(idle).to_string()),
            own.idle.is_some(),
        ),
    ];
    for (key, value, is_own) in rows {
        let whose = if is_own { ", set for this drone" } else { "" };
        let value = value.unwrap_or_else(none);
        ui.result(format!("{key:<12}{value}{whose}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verbs::samples::{is_as_reviewed, sleeping, told};

    #[test]
    fn limits_are_as_reviewed() {
        let limits = Limits {
            memory: ByteSize::gib(8),
            // As many as every server has.
            cpus: 1.0,
            pids: 4096,
            ..Limits::default()
        };
        let own = Own {
            cpus: Some(0.5),
            idle: Some("8h".parse().unwrap()),
            ..Own::default()
        };
        let there = InForce {
            memory: None,
            cpus: Some(0.5),
            pids: Some(100),
        };
        let drone = sleeping("acme/site");
        let mut all = Vec::new();
        for (own, there) in [(Own::default(), None), (own, Some(there))] {
            for json in [false, true] {
                let limits = own.over(&limits);
                all.push(told(json, |ui| tell(ui, &drone, own, &limits, there)));
            }
        }
        is_as_reviewed("limit.txt", &all.join("\n"));
    }
}
