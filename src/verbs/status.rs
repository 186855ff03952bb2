//! `hatchery status`

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use serde_json::json;

use super::list::setup;
use super::{Context, ssh_command};
use crate::credd::daemon::permissions;
use crate::docker::{Container, Docker, Drone, Life, Usage};
use crate::drone::permission::{Access, Permission};
use crate::error::Result;
use crate::host::kernel_log::Kill;
use crate::journal::{self, Query};
use crate::life::activity::Looks;
use crate::life::disk::Disk;
use crate::life::furnish::{self, signing};
use crate::life::idle::Asleep;
use crate::life::limits::Own;
use crate::life::memory::Memory;
use crate::life::readiness;
use crate::life::siblings;
use crate::life::way_in::{self, WayIn};
use crate::life::work::{self, known::Work};
use crate::tailnet;
use crate::ui::voice;

/// Show a drone's status and resource usage
#[derive(Debug, Args)]
pub struct Status {
    /// org/repo or the drone's name
    #[arg(value_name = "DRONE")]
    drone: String,
}

/// What can be told of a drone beside its labels.
struct Report {
    user: String,
    memory: Memory,
    disk: Disk,
    /// What the last look found, and whether that was just now.
    work: Option<(Work, bool)>,
    /// The last process that was killed for memory.
    last_kill: Option<Kill>,
    usage: Option<Usage>,
    /// The public half of the key by which its commits are signed.
    signing_key: Option<String>,
    /// The images that were built for it, in bytes.
    images: Option<u64>,
    /// The other containers of its compose project.
    siblings: Vec<Sibling>,
    sshd: Option<bool>,
    tailnet: Option<String>,
    /// Whether a firewall of its own lets in what comes by the tailnet.
    way_in: Option<WayIn>,
    last_mint: LastMint,
    /// Whether its socket is mounted in it: it is not where there was no App when it was spawned.
    has_socket: bool,
}

impl Report {
    /// Before anything was asked.
    fn unknown() -> Self {
        Self {
            user: "root".to_owned(),
            memory: Memory::default(),
            disk: Disk::default(),
            work: None,
            last_kill: None,
            usage: None,
            signing_key: None,
            images: None,
            siblings: Vec::new(),
            sshd: None,
            tailnet: None,
            way_in: None,
            last_mint: LastMint::Never,
            has_socket: true,
        }
    }
}

/// Another container of a drone's compose project.
#[derive(Serialize)]
struct Sibling {
    service: String,
    /// Docker's word for its state.
    state: String,
    /// Docker's word for its health, where it is looked after.
    health: Option<String>,
}

impl Sibling {
    fn of(container: &Container) -> Self {
        Self {
            service: container.service().unwrap_or(container.name()).to_owned(),
            state: container.state_word(),
            health: container.health(),
        }
    }

    /// `db (running, healthy)`.
    fn words(&self) -> String {
        let health = self.health.as_ref().map(|health| format!(", {health}"));
        format!(
            "{} ({}{})",
            self.service,
            self.state,
            health.unwrap_or_default()
        )
    }
}

/// When a drone's tokens were last minted.
enum LastMint {
    /// Then.
    At(Box<journal::Entry>),
    /// Never, as far as the journal goes back.
    Never,
    /// The journal cannot be read.
    Unknown,
}

impl Status {
    pub async fn run(self, context: &Context<'_>) -> Result<()> {
        let asked = context.asked(&self.drone)?;
        let docker = context.docker().await?;
        let drone = context.drone(&docker, &asked).await?;
        let memory = Memory::of(&context.places, &drone).await;
        let (report, work, last_mint, last_kill) = tokio::join!(
            look(context, &docker, &drone),
            work(context, &docker, &drone),
            last_mint(context, &drone),
            memory.last_kill(&drone),
        );
        let report = Report {
            memory,
            disk: context.disk(&drone),
            work,
            last_kill,
            last_mint,
            ..report?
        };
        tell(context, &drone, &report);
        Ok(())
    }
}

fn tell(context: &Context<'_>, drone: &Drone, report: &Report) {
    let ui = context.ui;
    if ui.json() {
        ui.json_result(&as_json(context, drone, report));
        return;
    }
    let memory = &report.memory;
    if let Some(sentence) = memory.sentence(drone, report.last_kill.as_ref()) {
        ui.talk(voice::OUT_OF_MEMORY);
        ui.talk(&sentence);
    }
    if let Some(asleep) = Asleep::of(&context.places, drone) {
        ui.talk(&asleep.sentence(drone));
    }
    if let Some(sentence) = report.disk.sentence(drone) {
        ui.talk(voice::DISK_TAKEN);
        ui.talk(&sentence);
    }
    for (key, value) in as_rows(context, drone, report) {
        ui.result(format!("{key:<12}{value}"));
    }
}

async fn look(context: &Context<'_>, docker: &Docker, drone: &Drone) -> Result<Report> {
    let mut report = Report {
        images: docker.size_of_images(&drone.identity.name).await?,
        ..Report::unknown()
    };
    let Some(id) = &drone.container else {
        return Ok(report);
    };
    if context.config.git.sign && signing::has_key(docker, id).await {
        let key = signing::public_key(&context.places, &drone.identity.name);
        report.signing_key = Some(key?);
    }
    let siblings = siblings::of(docker, &drone.identity.name, id).await?;
    report.siblings = siblings.iter().map(Sibling::of).collect();
    if let Some(container) = docker.container(id).await? {
        report.user = furnish::user_of(&container);
        report.has_socket = furnish::mounts_sockets(&container);
        if container.runs() {
            let node = async {
                match context.config.tailnet {
                    Some(_) => Some(node(docker, id).await),
                    None => None,
                }
            };
            let way_in = async {
                let look = context
                    .config
                    .tailnet
                    .as_ref()
                    .map(|_| way_in::look(docker, id));
                look?.await
            };
            let (usage, sshd, tailnet, way_in) = tokio::join!(
                docker.usage(id),
                readiness::sshd_answers(docker, &container),
                node,
                way_in,
            );
            report.usage = usage?;
            report.sshd = Some(sshd);
            report.tailnet = tailnet;
            report.way_in = way_in.filter(|way_in| *way_in != WayIn::None);
        }
    }
    Ok(report)
}

/// What the drone holds that exists nowhere else: counted now, or, where that takes too long, what was
/// found before.
async fn work(context: &Context<'_>, docker: &Docker, drone: &Drone) -> Option<(Work, bool)> {
    if !context.may_hold_work(docker, drone).await.ok()? {
        return None;
    }
    match work::count(docker, &context.places, drone).await {
        Ok(work) => Some((work, true)),
        Err(_) => Some((Work::read(&context.places, &drone.identity.name)?, false)),
    }
}

async fn last_mint(context: &Context<'_>, drone: &Drone) -> LastMint {
    if context.config.github.app_id.is_none() {
        return LastMint::Never;
    }
    let query = Query {
        drone: Some(&drone.identity.name),
        event: Some("mint"),
        since: None,
        limit: 1,
    };
    match journal::read(query).await.map(|mut entries| entries.pop()) {
        Ok(Some(entry)) => LastMint::At(Box::new(entry)),
        Ok(None) => LastMint::Never,
        Err(_) => LastMint::Unknown,
    }
}

/// What its tokens may do, as `NAME=ACCESS`.
fn may_do(permissions: &BTreeMap<Permission, Access>) -> String {
    let all: Vec<_> = permissions
        .iter()
        .map(|(permission, access)| format!("{permission}={access}"))
        .collect();
    all.join(", ")
}

/// Whether its tokens can push workflow files, for which GitHub has a permission of its own; nothing
/// where they cannot push at all.
fn may_change_workflows(permissions: &BTreeMap<Permission, Access>) -> Option<&'static str> {
    let can_write = |name: &str| {
        permissions
            .iter()
            .any(|(permission, access)| permission.as_str() == name && *access >= Access::Write)
    };
    can_write("contents").then(|| {
        if can_write("workflows") {
            "yes"
        } else {
            "no: GitHub refuses pushes that create or update files in .github/workflows"
        }
    })
}

/// How long ago that was, to the second.
fn ago(micros: u64) -> String {
    let then = std::time::UNIX_EPOCH + std::time::Duration::from_micros(micros);
    let since = then.elapsed().unwrap_or_default().as_secs();
    humantime::format_duration(std::time::Duration::from_secs(since)).to_string()
}

async fn node(docker: &Docker, id: &str) -> String {
    match tailnet::node::status(&docker.inside(id)).await {
        Ok(status) if status.is_running() => {
            let addresses: Vec<_> = status
                .own
                .addresses
                .iter()
                .map(ToString::to_string)
                .collect();
            format!(
                "connected as {} ({})",
                status.own.label(),
                addresses.join(", ")
            )
        }
        Ok(status) if status.needs_login() => {
            "not registered any more; burrow and unburrow it to register it again".to_owned()
        }
        Ok(_) => "not connected".to_owned(),
        Err(_) => "its tailscaled does not answer".to_owned(),
    }
}

fn as_json(context: &Context<'_>, drone: &Drone, report: &Report) -> serde_json::Value {
    json!({
        "name": drone.identity.name,
        "repository": drone.identity.repo,
        "state": drone.life,
        "head": drone.identity.head,
        "scope": drone.identity.scope,
        "container": drone.container,
        "created": drone.created,
        "started_at": drone.started_at,
        "user": report.user,
        "ssh": (drone.life == Life::Running)
            .then(|| ssh_command(&context.config, drone, &report.user)),
        "sshd_answers": report.sshd,
        "tailnet": report.tailnet,
        "firewall": report.way_in,
        "permissions": context.config.github.app_id.as_ref().filter(|_| report.has_socket)
            .map(|_| permissions(&drone.identity.scope, &context.config)),
        "last_mint": match &report.last_mint {
            LastMint::At(entry) => Some(&entry.at),
            _ => None,
        },
        "usage": report.usage,
        "idle": Looks::read(&context.places).idle(drone).map(|idle| idle.as_secs()),
        "burrowed_for_idle": Asleep::of(&context.places, drone).is_some(),
        "images": report.images,
        "siblings": report.siblings,
        "signing_key": report.signing_key,
        "memory": report.memory,
        "disk": report.disk.to_json(drone),
        "work": report.work.map(|(work, _)| work.to_json()),
        "setup": setup(context, drone),
        "last_kill": report.last_kill.as_ref()
            .map(|kill| json!({"process": kill.process, "at": kill.at()})),
        "out_of_memory": report.memory.killed > 0,
    })
}

fn as_rows(context: &Context<'_>, drone: &Drone, report: &Report) -> Vec<(&'static str, String)> {
    let scope: Vec<_> = drone
        .identity
        .scope
        .repositories()
        .iter()
        .map(ToString::to_string)
        .collect();
    let mut rows = vec![
        ("name", drone.identity.name.to_string()),
        ("repository", drone.identity.repo.to_string()),
        (
            "state",
            match drone.life {
                Life::Bare => format!(
                    "bare (its container is gone, its work is safe in the volume {}; `hatchery rebuild {}` \
                     creates a new container for it)",
                    drone.identity.name, drone.identity.repo
                ),
                life => format!("{} ({})", life.as_str(), drone.docker_status),
            },
        ),
        ("scope", scope.join(", ")),
    ];
    if let Some(head) = &drone.identity.head {
        rows.insert(2, ("from", head.to_string()));
    }
    if drone.life == Life::Running {
        rows.push(("ssh", ssh_command(&context.config, drone, &report.user)));
    }
    if let Some(answers) = report.sshd {
        rows.push((
            "sshd",
            if answers {
                "answers"
            } else {
                "does not answer"
            }
            .to_owned(),
        ));
    }
    if let Some(tailnet) = &report.tailnet {
        rows.push(("tailnet", tailnet.clone()));
    }
    match report.way_in {
        Some(WayIn::Closed) => rows.push((
            "firewall",
            format!(
                "the drone's own firewall blocks ssh from the tailnet; `hatchery burrow {0}` and `hatchery \
                 unburrow {0}` allow it again",
                drone.identity.repo
            ),
        )),
        Some(WayIn::Open) => rows.push((
            "firewall",
            "the drone's own firewall allows ssh from the tailnet".to_owned(),
        )),
        Some(WayIn::None) | None => {}
    }
    if context.config.github.app_id.is_some() && !report.has_socket {
        let repo = &drone.identity.repo;
        rows.push((
            "github",
            format!(
                "no tokens: the drone was spawned before the GitHub App was configured; `hatchery rebuild \
                 {repo}` mounts its socket"
            ),
        ));
    } else if context.config.github.app_id.is_some() {
        let permissions = permissions(&drone.identity.scope, &context.config);
        rows.push(("github", may_do(&permissions)));
        if let Some(may) = may_change_workflows(&permissions) {
            rows.push(("workflows", may.to_owned()));
        }
        rows.push((
            "last token",
            match &report.last_mint {
                LastMint::At(entry) => format!("{} ago", ago(entry.time)),
                LastMint::Never => "none in the journal".to_owned(),
                LastMint::Unknown => "unknown: the journal cannot be read".to_owned(),
            },
        ));
    }
    if let Some(key) = &report.signing_key {
        rows.push(("signs with", key.clone()));
    }
    rows.extend(usage_rows(context, drone, report));
    rows.extend(setup_row(context, drone));
    rows.extend(work_row(drone, report));
    rows
}

/// What it uses.
fn usage_rows(
    context: &Context<'_>,
    drone: &Drone,
    report: &Report,
) -> Vec<(&'static str, String)> {
    let size = |bytes| bytesize::ByteSize::b(bytes).display().iec().to_string();
    let mut rows = Vec::new();
    if let Some(usage) = report.usage {
        rows.push(("cpu", format!("{:.1} %", usage.cpu_percent)));
        rows.push((
            "memory",
            format!("{} of {}", size(usage.memory), size(usage.memory_limit)),
        ));
        rows.push(("processes", usage.pids.to_string()));
    }
    rows.extend(idle_row(context, drone));
    if !report.siblings.is_empty() {
        let siblings: Vec<_> = report.siblings.iter().map(Sibling::words).collect();
        rows.push(("siblings", siblings.join(", ")));
    }
    if let Some(amount) = report.disk.amount_then() {
        rows.push(("disk", amount));
    }
    rows.extend(report.disk.made_of().map(|parts| ("  of that", parts)));
    if let Some(images) = report.images {
        let images = bytesize::ByteSize::b(images).display().iec();
        rows.push((
            "images",
            format!("{images} in addition, partly shared with other drones"),
        ));
    }
    rows
}

/// Since when nobody has been at work in it, where it is burrowed for that.
fn idle_row(context: &Context<'_>, drone: &Drone) -> Option<(&'static str, String)> {
    let own = Own::of(&context.places, &drone.identity.name).ok()?;
    let most = own.over(&context.config.limits).idle.get()?;
    let idle = Looks::read(&context.places).idle(drone)?;
    let [idle, most] = [idle, most].map(|time| Duration::from_secs(time.as_secs()));
    let [idle, most] = [idle, most].map(humantime::format_duration);
    Some(("idle", format!("{idle}; burrowed after {most}")))
}

/// What of its setup has not come to a good end.
fn setup_row(context: &Context<'_>, drone: &Drone) -> Option<(&'static str, String)> {
    let setup = setup(context, drone);
    let mut words = setup.words()?;
    if drone.life == Life::Running && !setup.due().is_empty() {
        words = format!(
            "{words}; `hatchery rerun {}` runs it again",
            drone.identity.repo
        );
    }
    Some(("setup", words))
}

/// What exists nowhere else of it.
fn work_row(drone: &Drone, report: &Report) -> Option<(&'static str, String)> {
    let words = match report.work {
        Some((work, true)) => work.words(),
        Some((work, false)) => {
            let ago = humantime::format_duration(work.age());
            format!("{}, {ago} ago; checking takes too long now", work.words())
        }
        None if drone.life == Life::Egg => return None,
        None => "unknown: checking takes too long".to_owned(),
    };
    Some(("work", words))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::life::disk::{Bounds, Parts, Taken, Why};
    use crate::life::work::look::Counts;
    use crate::verbs::samples::{Server, is_as_reviewed, running, sleeping, without_times};

    fn taken(bytes: u64) -> Taken {
        let parts = Parts {
            containers: 1 << 30,
            volumes: bytes - (1 << 30),
            cache: 0,
        };
        Taken {
            bytes,
            parts: Some(parts),
            ..Taken::default()
        }
    }

    /// One that runs, with all that can be told of it.
    fn at_work() -> Report {
        let mut memory = Memory::default();
        memory.killed = 2;
        memory.limit = Some(8 << 30);
        let counts = Counts {
            uncommitted: 3,
            unpushed: 1,
            stashed: 0,
        };
        let work = Work {
            counts,
            whole: true,
            at: 0,
        };
        Report {
            user: "node".to_owned(),
            memory,
            disk: Disk {
                taken: Some(taken(12 << 30)),
                most: Some(64 << 30),
                bounds: None,
            },
            work: Some((work, true)),
            last_kill: Some(Kill {
                process: "cc1plus".to_owned(),
                time: 0,
            }),
            usage: Some(Usage {
                cpu_percent: 12.5,
                memory: 1 << 30,
                memory_limit: 8 << 30,
                pids: 42,
            }),
            images: Some(3 << 30),
            siblings: vec![Sibling {
                service: "db".to_owned(),
                state: "running".to_owned(),
                health: Some("healthy".to_owned()),
            }],
            sshd: Some(true),
            tailnet: Some("connected as acme-site (100.64.0.7)".to_owned()),
            way_in: Some(WayIn::Closed),
            ..Report::unknown()
        }
    }

    /// One that was burrowed for its disk.
    fn asleep() -> Report {
        let bounds = Bounds {
            why: Why::Limit(64 << 30),
            taken: 70 << 30,
            at: 0,
            let_up: None,
        };
        Report {
            disk: Disk {
                taken: Some(taken(70 << 30)),
                most: Some(64 << 30),
                bounds: Some(bounds),
            },
            has_socket: false,
            ..Report::unknown()
        }
    }

    #[test]
    fn a_drone_is_told_as_reviewed() {
        let bare = Drone {
            life: Life::Bare,
            container: None,
            ..sleeping("acme/bare")
        };
        let mut all = String::new();
        for (drone, report) in [
            (running("acme/site"), at_work()),
            (sleeping("acme/large"), asleep()),
            (bare, Report::unknown()),
        ] {
            for json in [false, true] {
                let server = Server::new(json);
                tell(&server.context(), &drone, &report);
                all += &without_times(&server.said());
                all.push('\n');
            }
        }
        is_as_reviewed("status.txt", &all);
    }
}
