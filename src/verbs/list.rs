//! `hatchery list`

use std::io::IsTerminal;
use std::time::Duration;

use bytesize::ByteSize;
use clap::Args;
use serde_json::json;

use super::{Context, hostname, interrupted, known_hosts_line, ssh_command};
use crate::docker::{Docker, Drone, Life};
use crate::error::{Code, Error, Result};
use crate::host::transcript::{Run, What};
use crate::life::activity::Looks;
use crate::life::furnish;
use crate::life::idle::Asleep;
use crate::life::memory::Memory;
use crate::life::starting::setup::Setup;
use crate::life::starting::{self, Start};
use crate::life::work::known::Work;
use crate::ui::table::{Cell, Column, Table, Tone};

/// How often `--watch` looks.
const LOOKS_EVERY: Duration = Duration::from_secs(2);

/// What stands in the table; what is told elsewhere as well is left out first where there is no room.
const COLUMNS: [Column; 10] = [
    Column::new("NAME", 0),
    Column::new("STATE", 0),
    Column::new("REPOSITORY", 2),
    Column::new("USER", 3),
    Column::new("CPU", 5),
    Column::new("MEMORY", 4),
    Column::new("DISK", 0),
    Column::new("WORK", 0),
    Column::new("DETAILS", 0),
    Column::new("COMMAND", 1),
];

/// Where nothing was counted yet, or looked for.
const UNKNOWN: &str = "?";

/// List all drones
///
/// On a narrow terminal, some columns are left out. `?` means that it has not been counted or checked yet.
#[derive(Debug, Args)]
pub struct List {
    /// Refresh every two seconds until Ctrl-C
    #[arg(short, long, conflicts_with = "json")]
    watch: bool,
}

impl List {
    pub async fn run(self, context: &Context<'_>) -> Result<()> {
        let docker = context.docker().await?;
        if !self.watch {
            return once(context, &docker).await;
        }
        if !std::io::stdout().is_terminal() {
            return Err(Error::new(Code::Usage, "--watch needs a terminal")
                .hint("without a terminal, run `hatchery list` repeatedly instead"));
        }
        tokio::select! {
            done = over_and_over(context, &docker) => done,
            // It is how one leaves it.
            _ = interrupted() => Ok(()),
        }
    }
}

async fn over_and_over(context: &Context<'_>, docker: &Docker) -> Result<()> {
    loop {
        let (drones, known, _) = look(context, docker).await?;
        let now = humantime::format_rfc3339_seconds(std::time::SystemTime::now());
        let title = format!("{} drones at {now}. Press Ctrl-C to stop.", drones.len());
        context
            .ui
            .table_again(&title, &table(context, &drones, &known));
        tokio::time::sleep(LOOKS_EVERY).await;
    }
}

async fn once(context: &Context<'_>, docker: &Docker) -> Result<()> {
    let (drones, known, warnings) = look(context, docker).await?;
    for warning in warnings {
        context
            .ui
            .warn(&format!("has a drone label but is not a drone: {warning}"));
    }
    if context.ui.json() {
        let both = drones.iter().zip(&known);
        let rows: Vec<_> = both
            .map(|(drone, known)| row(context, drone, known))
            .collect();
        context.ui.json_result(&rows);
    } else if drones.is_empty() {
        context
            .ui
            .talk("No drones. `hatchery spawn org/repo` creates one.");
    } else {
        context.ui.table(&table(context, &drones, &known));
    }
    Ok(())
}

/// What is known of a drone beside what Docker tells.
struct Known {
    memory: Memory,
    /// How much of one processor it takes, in percent.
    cpu: Option<f64>,
    /// For how long it has been idle.
    idle: Option<Duration>,
    asleep: Option<Asleep>,
}

/// All drones with what is known of each, and what was found that is none.
async fn look(
    context: &Context<'_>,
    docker: &Docker,
) -> Result<(Vec<Drone>, Vec<Known>, Vec<String>)> {
    let (drones, warnings) = docker.drones().await?;
    let drones: Vec<_> = drones
        .into_iter()
        .map(|drone| context.known(drone))
        .collect();
    let memories = Memory::of_all(&context.places, &drones).await;
    let looks = Looks::read(&context.places);
    let known = drones.iter().zip(memories).map(|(drone, memory)| Known {
        memory,
        cpu: looks.percent(drone),
        idle: looks.idle(drone),
        asleep: Asleep::of(&context.places, drone),
    });
    let known = known.collect();
    Ok((drones, known, warnings))
}

/// Whom a person works as; nothing where there is no container that says so.
fn user(drone: &Drone) -> Option<String> {
    drone.seen.as_deref().map(furnish::user_of)
}

fn row(context: &Context<'_>, drone: &Drone, known: &Known) -> serde_json::Value {
    let memory = &known.memory;
    let user = user(drone);
    // What cannot be read says nothing.
    let start = Start::of(&context.places, &drone.identity.name).ok();
    let workspace = start
        .as_ref()
        .zip(drone.seen.as_deref())
        .map(|(start, seen)| starting::folder(start.as_ref(), seen, drone));
    let setup = start.flatten().map(|start| start.setup);
    let runs = drone.life == Life::Running;
    json!({
        "name": drone.identity.name,
        "repository": drone.identity.repo,
        "state": drone.life,
        "container": drone.container,
        "created": drone.created,
        "hostname": hostname(&context.config, &drone.identity.name),
        "ssh_port": drone.ssh_port,
        "ssh": user.as_deref().filter(|_| runs)
            .map(|user| ssh_command(&context.config, drone, user)),
        "known_hosts": known_hosts_line(context, drone).ok().flatten(),
        "user": user,
        "workspace": workspace,
        "disk": context.disk(drone).to_json(drone),
        "work": Work::read(&context.places, &drone.identity.name).map(Work::to_json),
        "setup": setup.unwrap_or_default(),
        "under_way": under_way(context, drone).map(What::as_str),
        "memory": memory,
        "cpu_percent": known.cpu,
        "idle": known.idle.map(|idle| idle.as_secs()),
        "burrowed_for_idle": known.asleep.is_some(),
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

fn table(context: &Context<'_>, drones: &[Drone], known: &[Known]) -> Table<10> {
    let rows = drones.iter().zip(known);
    let rows = rows.map(|(drone, known)| cells(context, drone, known));
    Table::new(COLUMNS, rows.collect())
}

fn size(bytes: u64) -> String {
    ByteSize::b(bytes).display().iec().to_string()
}

fn cells(context: &Context<'_>, drone: &Drone, known: &Known) -> [Cell; 10] {
    let memory = &known.memory;
    let name = &drone.identity.name;
    let repo = &drone.identity.repo;
    let (disk, user) = (context.disk(drone), user(drone));
    let (under_way, setup) = (under_way(context, drone), setup(context, drone));
    let reach = match drone.life {
        _ if under_way.is_some() => format!("hatchery logs --spawn --follow {repo}"),
        Life::Running => ssh_command(&context.config, drone, user.as_deref().unwrap_or("root")),
        Life::Burrowed | Life::Stopped => format!("hatchery unburrow {repo}"),
        Life::Egg => format!("hatchery spawn {repo}"),
        Life::Bare => format!("hatchery rebuild {repo}"),
    };
    let (troubles, how) = match (under_way, drone.life) {
        (Some(what), _) => (Vec::new(), format!("{} in progress", what.as_str())),
        (None, Life::Bare) => (
            Vec::new(),
            "no container, work safe in its volume".to_owned(),
        ),
        (None, _) => {
            let failed = setup.word();
            let troubles = [memory.word(), disk.word(drone), failed.as_deref()];
            let troubles: Vec<_> = troubles.into_iter().flatten().map(str::to_owned).collect();
            (troubles, drone.docker_status.clone())
        }
    };
    let tone = match drone.life {
        _ if !troubles.is_empty() => Tone::Bad,
        Life::Running => Tone::Good,
        Life::Burrowed => Tone::Quiet,
        _ if under_way.is_some() => Tone::Plain,
        Life::Stopped | Life::Egg | Life::Bare => Tone::Bad,
    };
    // What is wrong comes first: the end may be cut off.
    let asleep = known.asleep.as_ref().map(Asleep::words);
    let how: Vec<_> = troubles.into_iter().chain(asleep).chain([how]).collect();
    [
        Cell::from(name.to_string()),
        Cell::toned(drone.life.as_str(), tone),
        Cell::from(repo.to_string()),
        Cell::from(user.unwrap_or_default()),
        Cell::from(
            known
                .cpu
                .map_or_else(String::new, |cpu| format!("{cpu:.0} %")),
        ),
        Cell::from(memory.in_use.map_or_else(String::new, size)),
        Cell::from(disk.in_use().unwrap_or_else(|| UNKNOWN.to_owned())),
        Cell::from(
            Work::read(&context.places, name)
                .map_or_else(|| UNKNOWN.to_owned(), |work| work.words()),
        ),
        Cell::toned(
            &how.join(", "),
            if tone == Tone::Bad { tone } else { Tone::Plain },
        ),
        Cell::from(reach),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verbs::samples::{Server, as_table, is_as_reviewed, remember, running, sleeping};

    /// A drone of each kind, with what is known of it.
    fn drones() -> (Vec<Drone>, Vec<Known>) {
        let drone = |life, repo| Drone {
            life,
            container: None,
            docker_status: String::new(),
            ..sleeping(repo)
        };
        let drones = vec![
            running("acme/site"),
            running("acme/heavy"),
            sleeping("acme/asleep"),
            Drone {
                life: Life::Stopped,
                ..sleeping("acme/half")
            },
            drone(Life::Egg, "acme/egg"),
            drone(Life::Bare, "acme/bare"),
        ];
        let known = drones.iter().map(|drone| {
            let runs = drone.life == Life::Running;
            let mut memory = Memory::default();
            memory.in_use = runs.then_some(1 << 30);
            memory.killed = u64::from(drone.identity.repo.name() == "heavy");
            Known {
                memory,
                cpu: runs.then_some(12.4),
                idle: runs.then_some(Duration::from_secs(60)),
                asleep: None,
            }
        });
        let known = known.collect();
        (drones, known)
    }

    #[test]
    fn drones_are_listed_as_reviewed() {
        let server = Server::new(true);
        let context = server.context();
        let (drones, known) = drones();
        remember(&context.places, &drones[0], &drones[3]);
        let table = as_table(&table(&context, &drones, &known));
        let rows = drones.iter().zip(&known);
        let rows: Vec<_> = rows
            .map(|(drone, known)| row(&context, drone, known))
            .collect();
        context.ui.json_result(&rows);
        is_as_reviewed("list.txt", &(table + &server.said()));
    }
}
