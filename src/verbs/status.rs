//! `hatchery status`

use clap::Args;
use serde_json::json;

use super::{Context, ssh_command};
use crate::credd::daemon::permissions;
use crate::docker::{Docker, Drone, Life, Usage};
use crate::error::Result;
use crate::journal::{self, Query};
use crate::life::furnish;
use crate::life::readiness;
use crate::tailnet;
use crate::ui::voice;

/// How long a drone's `cat` may take.
const COUNTED_WITHIN: std::time::Duration = std::time::Duration::from_secs(5);

/// Memory in use from which the hatchery speaks up, in percent of the drone's limit.
const HIGH_MEMORY: u64 = 90;

/// Show how a drone is and what it uses
#[derive(Debug, Args)]
pub struct Status {
    /// org/repo
    repo: String,
}

/// What can be told of a drone beside its labels.
struct Report {
    user: String,
    out_of_memory: bool,
    started_at: Option<String>,
    usage: Option<Usage>,
    sshd: Option<bool>,
    tailnet: Option<String>,
    last_mint: LastMint,
    /// Whether its socket is mounted in it: it is not where there was no App when it was spawned.
    has_socket: bool,
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
        let repo = context.repository(&self.repo)?;
        let docker = context.docker().await?;
        let drone = context.drone(&docker, &repo).await?;
        let (report, last_mint) =
            tokio::join!(look(context, &docker, &drone), last_mint(context, &drone));
        let mut report = report?;
        report.last_mint = last_mint;
        if context.ui.json() {
            context.ui.json_result(&as_json(context, &drone, &report));
            return Ok(());
        }
        if report.is_short_of_memory() {
            context.ui.talk(voice::OUT_OF_MEMORY);
            context.ui.talk(if report.out_of_memory {
                "The kernel killed something in this drone for want of memory; limits.memory says how much it has."
            } else {
                "This drone's memory is nearly full; limits.memory says how much it has."
            });
        }
        for (key, value) in as_rows(context, &drone, &report) {
            context.ui.result(format!("{key:<12}{value}"));
        }
        Ok(())
    }
}

impl Report {
    fn is_short_of_memory(&self) -> bool {
        self.out_of_memory
            || self.usage.is_some_and(|usage| {
                usage.memory_limit > 0 && usage.memory >= usage.memory_limit / 100 * HIGH_MEMORY
            })
    }
}

async fn look(context: &Context<'_>, docker: &Docker, drone: &Drone) -> Result<Report> {
    let mut report = Report {
        user: "root".to_owned(),
        out_of_memory: false,
        started_at: None,
        usage: None,
        sshd: None,
        tailnet: None,
        last_mint: LastMint::Never,
        has_socket: true,
    };
    let Some(id) = &drone.container else {
        return Ok(report);
    };
    if let Some(container) = docker.container(id).await? {
        report.out_of_memory = container.out_of_memory();
        report.started_at = container.started_at().map(str::to_owned);
        report.user = furnish::remote_user_of(docker, id).await?;
        report.has_socket = furnish::mounts_sockets(&container);
        if container.runs() {
            let node = async {
                match context.config.tailnet {
                    Some(_) => Some(node(docker, id).await),
                    None => None,
                }
            };
            let (killed, usage, sshd, tailnet) = tokio::join!(
                killed_for_memory(docker, id),
                docker.usage(id),
                readiness::sshd_answers(docker, &container),
                node,
            );
            report.out_of_memory |= killed;
            report.usage = usage?;
            report.sshd = Some(sshd);
            report.tailnet = tailnet;
        }
    }
    Ok(report)
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
fn may_do(context: &Context<'_>, drone: &Drone) -> String {
    let permissions = permissions(&drone.identity.scope, &context.config);
    let all: Vec<_> = permissions
        .iter()
        .map(|(permission, access)| format!("{permission}={access}"))
        .collect();
    all.join(", ")
}

/// How long ago that was, to the second.
fn ago(micros: u64) -> String {
    let then = std::time::UNIX_EPOCH + std::time::Duration::from_micros(micros);
    let since = then.elapsed().unwrap_or_default().as_secs();
    humantime::format_duration(std::time::Duration::from_secs(since)).to_string()
}

/// Whether the kernel has killed something in the drone: its control group counts that
/// (`memory.events`, or `memory.oom_control` of version 1). Docker only tells of the first process.
async fn killed_for_memory(docker: &Docker, id: &str) -> bool {
    const COUNTERS: [&str; 3] = [
        "cat",
        "/sys/fs/cgroup/memory.events",
        "/sys/fs/cgroup/memory/memory.oom_control",
    ];
    let inside = docker.inside(id);
    let counters = inside.run_within(COUNTED_WITHIN, "0:0", &COUNTERS, &[]);
    let counters = counters.await;
    counters.is_ok_and(|output| {
        let mut counts = output
            .stdout
            .lines()
            .filter_map(|line| line.strip_prefix("oom_kill "));
        counts.any(|count| count.trim() != "0")
    })
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
            "has lost its registration: burrow and unburrow it to register it anew".to_owned()
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
        "scope": drone.identity.scope,
        "container": drone.container,
        "created": drone.created,
        "started_at": report.started_at,
        "user": report.user,
        "ssh": (drone.life == Life::Running)
            .then(|| ssh_command(&context.config, drone, &report.user)),
        "sshd_answers": report.sshd,
        "tailnet": report.tailnet,
        "permissions": context.config.github.app_id.as_ref().filter(|_| report.has_socket)
            .map(|_| permissions(&drone.identity.scope, &context.config)),
        "last_mint": match &report.last_mint {
            LastMint::At(entry) => Some(&entry.at),
            _ => None,
        },
        "usage": report.usage,
        "out_of_memory": report.out_of_memory,
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
                    "bare (its container is gone, its work is safe in the volume {}; \
                     `hatchery spawn {}` makes a new container for it)",
                    drone.identity.name, drone.identity.repo
                ),
                life => format!("{} ({})", life.as_str(), drone.docker_status),
            },
        ),
        ("scope", scope.join(", ")),
    ];
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
    if context.config.github.app_id.is_some() && !report.has_socket {
        let repo = &drone.identity.repo;
        rows.push((
            "github",
            format!(
                "no tokens: spawned before the GitHub App was configured; \
                 `hatchery slay {repo}`, then `hatchery spawn {repo}`"
            ),
        ));
    } else if context.config.github.app_id.is_some() {
        rows.push(("github", may_do(context, drone)));
        rows.push((
            "last token",
            match &report.last_mint {
                LastMint::At(entry) => format!("{} ago", ago(entry.time)),
                LastMint::Never => "none that the journal knows of".to_owned(),
                LastMint::Unknown => "unknown: the journal cannot be read".to_owned(),
            },
        ));
    }
    if let Some(usage) = report.usage {
        let size = |bytes| bytesize::ByteSize::b(bytes).display().iec().to_string();
        rows.push(("cpu", format!("{:.1} %", usage.cpu_percent)));
        rows.push((
            "memory",
            format!("{} of {}", size(usage.memory), size(usage.memory_limit)),
        ));
        rows.push(("processes", usage.pids.to_string()));
    }
    rows
}
