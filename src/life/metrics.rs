//! What a monitoring system is told of drones, in Prometheus's text format
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/>): all of it is known without asking a drone.

use std::collections::BTreeMap;
use std::path::Path;

use prometheus::{GaugeVec, Opts, Registry, TextEncoder};

use crate::config::Config;
use crate::docker::{Drone, Life};
use crate::error::{Code, Error, Result};
use crate::host::{self, Places};
use crate::life::activity::Looks;
use crate::life::disk::{self, Disk};
use crate::life::known::known;
use crate::life::memory::Memory;
use crate::life::starting::Start;
use crate::life::work::known::Work;

/// Who may read the file: everybody, as the program that does has a user of its own.
const MODE: u32 = 0o644;

/// All metrics of these drones.
pub async fn text(places: &Places, config: &Config, drones: Vec<Drone>) -> Result<String> {
    let drones: Vec<_> = drones
        .into_iter()
        .map(|drone| known(places, drone))
        .collect();
    let memories = Memory::of_all(places, &drones).await;
    let looks = Looks::read(places);
    let metrics = Metrics::new().map_err(cannot)?;
    metrics.of_server(&drones);
    for (drone, memory) in drones.iter().zip(&memories) {
        metrics.of(places, config, drone, memory, &looks);
    }
    let families = metrics.registry.gather();
    TextEncoder::new()
        .encode_to_string(&families)
        .map_err(cannot)
}

/// Writes them into this file, whole.
pub async fn write(
    places: &Places,
    config: &Config,
    drones: Vec<Drone>,
    file: &Path,
) -> Result<()> {
    let text = text(places, config, drones).await?;
    host::write_whole(file, MODE, text.as_bytes())
}

fn cannot(error: prometheus::Error) -> Error {
    let what = "the metrics cannot be written in Prometheus's text format";
    Error::new(Code::HostFailed, what)
        .hint("this is a bug in hatchery")
        .because(error)
}

struct Metrics {
    registry: Registry,
    version: GaugeVec,
    written: GaugeVec,
    drones: GaugeVec,
    up: GaugeVec,
    memory: GaugeVec,
    memory_limit: GaugeVec,
    killed: GaugeVec,
    processors: GaugeVec,
    idle: GaugeVec,
    disk: GaugeVec,
    disk_limit: GaugeVec,
    work: GaugeVec,
    setup: GaugeVec,
}

impl Metrics {
    fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let gauge = |name: &str, help: &str, labels: &[&str]| {
            let gauge = GaugeVec::new(Opts::new(format!("hatchery_{name}"), help), labels)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        let drone = &["drone"];
        Ok(Self {
            version: gauge("build_info", "The version of hatchery.", &["version"])?,
            written: gauge(
                "written_timestamp_seconds",
                "When these metrics were written.",
                &[],
            )?,
            drones: gauge("drones", "The number of drones.", &["state"])?,
            up: gauge(
                "drone_up",
                "Whether the drone is running.",
                &["drone", "repository"],
            )?,
            memory: gauge(
                "drone_memory_bytes",
                "Memory in use, without the page cache.",
                drone,
            )?,
            memory_limit: gauge("drone_memory_limit_bytes", "The memory limit.", drone)?,
            killed: gauge(
                "drone_killed_processes",
                "Processes that the kernel killed for lack of memory since hatchery last reported it.",
                drone,
            )?,
            processors: gauge(
                "drone_processor_share_percent",
                "CPU usage in percent of one processor, since the last measurement.",
                drone,
            )?,
            idle: gauge(
                "drone_idle_seconds",
                "How long it had been idle at the last check.",
                drone,
            )?,
            disk: gauge(
                "drone_disk_bytes",
                "Its usage of Docker's disk at the last count.",
                drone,
            )?,
            disk_limit: gauge(
                "drone_disk_limit_bytes",
                "The limit of its usage of Docker's disk.",
                drone,
            )?,
            work: gauge(
                "drone_work",
                "Pieces of work that exist nowhere else, at the last check.",
                &["drone", "kind"],
            )?,
            setup: gauge(
                "drone_setup_unfinished",
                "Lifecycle commands that failed or have not run yet.",
                drone,
            )?,
            registry,
        })
    }

    #[allow(clippy::cast_precision_loss)] // seconds, and as many drones as a server has
    fn of_server(&self, drones: &[Drone]) {
        set(&self.version, &[env!("CARGO_PKG_VERSION")], 1.0);
        set(&self.written, &[], disk::now() as f64);
        let states = [
            Life::Running,
            Life::Burrowed,
            Life::Stopped,
            Life::Egg,
            Life::Bare,
        ];
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for drone in drones {
            *counts.entry(drone.life.as_str()).or_default() += 1;
        }
        for state in states.map(Life::as_str) {
            let count = counts.get(state).copied().unwrap_or_default();
            set(&self.drones, &[state], count as f64);
        }
    }

    #[allow(clippy::cast_precision_loss)] // bytes: one in some millions is nothing
    fn of(&self, places: &Places, config: &Config, drone: &Drone, memory: &Memory, looks: &Looks) {
        let name = drone.identity.name.as_str();
        let repo = drone.identity.repo.to_string();
        let up = drone.life == Life::Running;
        set(&self.up, &[name, &repo], if up { 1.0 } else { 0.0 });
        let disk = Disk::of(places, &drone.identity.name, config.limits.most_disk());
        let start = Start::of(places, &drone.identity.name).ok().flatten();
        let known = [
            (&self.memory, memory.in_use.map(|bytes| bytes as f64)),
            (&self.memory_limit, memory.limit.map(|bytes| bytes as f64)),
            (&self.killed, Some(memory.killed as f64)),
            (&self.processors, looks.percent(drone)),
            (&self.idle, looks.idle(drone).map(|idle| idle.as_secs_f64())),
            (&self.disk, disk.taken.map(|taken| taken.bytes as f64)),
            (&self.disk_limit, disk.most.map(|bytes| bytes as f64)),
            (
                &self.setup,
                start.map(|start| start.setup.due().len() as f64),
            ),
        ];
        for (gauge, value) in known {
            if let Some(value) = value {
                set(gauge, &[name], value);
            }
        }
        if let Some(work) = Work::read(places, &drone.identity.name) {
            let counts = work.counts;
            for (kind, count) in [
                ("uncommitted", counts.uncommitted),
                ("unpushed", counts.unpushed),
                ("stashed", counts.stashed),
            ] {
                set(&self.work, &[name, kind], count as f64);
            }
        }
    }
}

/// The labels are as many as the gauge has.
fn set(gauge: &GaugeVec, labels: &[&str], value: f64) {
    if let Ok(gauge) = gauge.get_metric_with_label_values(labels) {
        gauge.set(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drone::{Identity, Scope};
    use crate::life::disk::Taken;

    #[tokio::test]
    async fn what_is_known_is_written_and_what_is_not_is_left_out() {
        let place = tempfile::tempdir().unwrap();
        let places = Places::under(place.path());
        let repo = "acme/site".parse().unwrap();
        let identity = Identity::new(Scope::new(vec![repo], None).unwrap());
        let name = identity.name.clone();
        let drones = vec![Drone {
            life: Life::Burrowed,
            ..Drone::bare(identity)
        }];
        let config = Config::default();
        let before = text(&places, &config, drones.clone()).await.unwrap();
        assert!(!before.contains("hatchery_drone_disk_bytes"), "{before}");
        let taken = Taken {
            bytes: 1 << 30,
            at: 7,
            ..Taken::default()
        };
        taken.write(&places, &name).unwrap();
        let file = place.path().join("hatchery.prom");
        write(&places, &config, drones, &file).await.unwrap();
        let text = std::fs::read_to_string(&file).unwrap();
        for line in [
            "# TYPE hatchery_drones gauge",
            "hatchery_drones{state=\"burrowed\"} 1",
            "hatchery_drones{state=\"running\"} 0",
            "hatchery_drone_up{drone=\"acme-site\",repository=\"acme/site\"} 0",
            "hatchery_drone_disk_bytes{drone=\"acme-site\"} 1073741824",
            "hatchery_drone_killed_processes{drone=\"acme-site\"} 0",
        ] {
            assert!(text.lines().any(|it| it == line), "{line}\n{text}");
        }
        assert!(!text.contains("hatchery_drone_memory_bytes"), "{text}");
    }
}
