//! `hatchery list`

use clap::Args;
use serde_json::json;

use super::{Context, ssh_command};
use crate::docker::{Drone, Life};
use crate::error::Result;
use crate::host::transcript::{Run, What};
use crate::life::memory::Memory;
use crate::life::starting::Start;
use crate::life::starting::setup::Setup;
use crate::life::work::known::Work;

/// List all drones
#[derive(Debug, Args)]
pub struct List {}

impl List {
    pub async fn run(self, context: &Context<'_>) -> Result<()> {
        let (drones, warnings) = context.docker().await?.drones().await?;
        let drones: Vec<_> = drones
            .into_iter()
            .map(|drone| context.known(drone))
            .collect();
        let memories = Memory::of_all(&context.places, &drones).await;
        for warning in warnings {
            context
                .ui
                .warn(&format!("carries a drone's label but is none: {warning}"));
        }
        if context.ui.json() {
            let both = drones.iter().zip(&memories);
            let rows: Vec<_> = both
                .map(|(drone, memory)| row(context, drone, memory))
                .collect();
            context.ui.json_result(&rows);
        } else if drones.is_empty() {
            context
                .ui
                .talk("No drones. `hatchery spawn org/repo` makes one.");
        } else {
            for line in table(context, &drones, &memories) {
                context.ui.result(line);
            }
        }
        Ok(())
    }
}

fn row(context: &Context<'_>, drone: &Drone, memory: &Memory) -> serde_json::Value {
    json!({
        "name": drone.identity.name,
        "repository": drone.identity.repo,
        "state": drone.life,
        "container": drone.container,
        "created": drone.created,
        "hostname": context.config.tailnet.as_ref()
            .map(|tailnet| format!("{}.{}", drone.identity.name, tailnet.domain)),
        "ssh_port": drone.ssh_port,
        "disk": context.disk(drone).to_json(drone),
        "work": Work::read(&context.places, &drone.identity.name).map(Work::to_json),
        "setup": setup(context, drone),
        "under_way": under_way(context, drone).map(What::as_str),
        "memory": {"killed": memory.killed, "near_limit": memory.near_limit},
    })
}

/// What of its setup has not come to a good end; nothing is said of what cannot be read.
pub(super) fn setup(context: &Context<'_>, drone: &Drone) -> Setup {
    let start = Start::of(&context.places, &drone.identity.name);
    let start = start.ok().flatten();
    start.map(|start| start.setup).unwrap_or_default()
}

/// What is under way of a drone that is not there yet.
fn under_way(context: &Context<'_>, drone: &Drone) -> Option<What> {
    let is_made = !matches!(drone.life, Life::Egg | Life::Bare);
    let under_way = || Run::under_way(&context.places, &drone.identity.name);
    if is_made { None } else { under_way() }
}

fn table(context: &Context<'_>, drones: &[Drone], memories: &[Memory]) -> Vec<String> {
    let head = [
        "NAME",
        "STATE",
        "REPOSITORY",
        "DOCKER SAYS",
        "DISK",
        "WORK",
        "REACH IT WITH",
    ]
    .map(str::to_owned);
    let rows = drones.iter().zip(memories).map(|(drone, memory)| {
        let under_way = under_way(context, drone);
        let reach = match drone.life {
            _ if under_way.is_some() => {
                format!("hatchery logs --spawn --follow {}", drone.identity.repo)
            }
            Life::Running => ssh_command(&context.config, drone, "USER"),
            Life::Burrowed | Life::Stopped => format!("hatchery unburrow {}", drone.identity.repo),
            Life::Egg => format!("hatchery spawn {}", drone.identity.repo),
            Life::Bare => format!("hatchery rebuild {}", drone.identity.repo),
        };
        let disk = context.disk(drone);
        [
            drone.identity.name.to_string(),
            drone.life.as_str().to_owned(),
            drone.identity.repo.to_string(),
            match drone.life {
                _ if under_way.is_some() => {
                    format!("{} under way", under_way.map_or("", What::as_str))
                }
                Life::Bare => "container gone, work safe in its volume".to_owned(),
                _ => [
                    Some(drone.docker_status.as_str()),
                    memory.word(),
                    disk.word(drone),
                    setup(context, drone).word().as_deref(),
                ]
                .into_iter()
                .flatten()
                .collect::<Vec<_>>()
                .join(", "),
            },
            disk.amount().unwrap_or_else(|| "not counted".to_owned()),
            Work::read(&context.places, &drone.identity.name)
                .map_or_else(|| "not looked at".to_owned(), |work| work.words()),
            reach,
        ]
    });
    let rows: Vec<_> = std::iter::once(head).chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: [usize; 7] = std::array::from_fn(width);
    rows.iter()
        .map(|row| {
            let cells = row.iter().zip(widths);
            let line: Vec<_> = cells
                .map(|(cell, width)| format!("{cell:width$}"))
                .collect();
            line.join("  ").trim_end().to_owned()
        })
        .collect()
}
