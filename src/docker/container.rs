//! One container: looking at it, starting and stopping it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use bollard::models::{
    ContainerInspectResponse, ContainerUpdateBody, EndpointSettings, HostConfig, RestartPolicy,
    RestartPolicyNameEnum,
};
use bollard::query_parameters::{
    RemoveContainerOptionsBuilder, StatsOptionsBuilder, StopContainerOptionsBuilder,
};
use futures_util::StreamExt;

use super::{Docker, failed, found, late, status};
use crate::error::Result;

/// How long Docker may take to read what a container uses.
const STATS_WITHIN: Duration = Duration::from_secs(10);

/// The label by which compose tells a container's service.
const LABEL_SERVICE: &str = "com.docker.compose.service";

/// A container as `docker inspect` shows it.
#[derive(Debug, Clone)]
pub struct Container(ContainerInspectResponse);

/// What is wanted of a drone's container. Labels cannot be changed; the restart policy can, and
/// so it says this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// To run, across reboots (`unless-stopped`).
    Running,
    /// To sleep until it is woken (`no`).
    Asleep,
    /// Its spawn has not come to an end (`on-failure`).
    Undecided,
}

/// What a container uses at this moment.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub struct Usage {
    /// Processor time as a share of one processor, in percent.
    pub cpu_percent: f64,
    /// Memory without the page cache, in bytes.
    pub memory: u64,
    /// The most memory it may have, in bytes.
    pub memory_limit: u64,
    /// Processes and threads.
    pub pids: u64,
}

impl From<ContainerInspectResponse> for Container {
    fn from(inspected: ContainerInspectResponse) -> Self {
        Self(inspected)
    }
}

impl Container {
    #[cfg(test)]
    pub(crate) fn from_json(inspected: serde_json::Value) -> Self {
        Self(serde_json::from_value(inspected).expect("what Docker answers"))
    }

    /// The id.
    pub fn id(&self) -> &str {
        self.0.id.as_deref().unwrap_or_default()
    }

    /// The labels.
    pub fn labels(&self) -> HashMap<String, String> {
        self.config()
            .and_then(|config| config.labels.clone())
            .unwrap_or_default()
    }

    /// What the restart policy says is wanted of it.
    pub fn wanted(&self) -> Wanted {
        let policy = self.host().and_then(|host| host.restart_policy.as_ref());
        match policy.and_then(|policy| policy.name) {
            Some(RestartPolicyNameEnum::UNLESS_STOPPED | RestartPolicyNameEnum::ALWAYS) => {
                Wanted::Running
            }
            Some(RestartPolicyNameEnum::ON_FAILURE) => Wanted::Undecided,
            _ => Wanted::Asleep,
        }
    }

    /// Whether it runs.
    pub fn runs(&self) -> bool {
        self.state()
            .is_some_and(|state| state.running == Some(true))
    }

    /// Docker's word for its state (`running`, `exited` and others); empty where it has none.
    pub fn state_word(&self) -> String {
        let state = self.state().and_then(|state| state.status);
        state.map_or_else(String::new, |state| state.to_string())
    }

    /// Docker's word for its health (`starting`, `healthy`, `unhealthy`), where it has a health check.
    pub fn health(&self) -> Option<String> {
        use bollard::models::HealthStatusEnum::{EMPTY, NONE};
        let status = self.state()?.health.as_ref()?.status?;
        (!matches!(status, EMPTY | NONE)).then(|| status.to_string())
    }

    /// Whether it was ever started.
    pub fn has_run(&self) -> bool {
        use bollard::models::ContainerStateStatusEnum::CREATED;
        self.state().and_then(|state| state.status) != Some(CREATED)
    }

    /// Whether it has run and does so no more.
    pub fn ended(&self) -> bool {
        use bollard::models::ContainerStateStatusEnum::{DEAD, EXITED};
        self.state()
            .and_then(|state| state.status)
            .is_some_and(|status| matches!(status, EXITED | DEAD))
    }

    /// Its first process on this server, while it runs.
    pub fn pid(&self) -> Option<u32> {
        let pid = self.state()?.pid.filter(|_| self.runs())?;
        u32::try_from(pid).ok().filter(|&pid| pid > 0)
    }

    /// Whether its last run was short of memory when it ended. Docker says the same of a container that
    /// has been started since; that counts where Docker has restarted it by itself, as nobody
    /// was told.
    pub fn out_of_memory(&self) -> bool {
        let restarted = self.0.restart_count.unwrap_or(0) > 0;
        self.state()
            .is_some_and(|state| state.oom_killed == Some(true))
            && (restarted || !self.runs())
    }

    /// When it was last started (RFC 3339).
    pub fn started_at(&self) -> Option<&str> {
        self.state()?.started_at.as_deref()
    }

    /// When it last ended (RFC 3339); in the year 1 where it never did.
    pub fn finished_at(&self) -> Option<&str> {
        self.state()?.finished_at.as_deref()
    }

    /// The id of its image.
    pub fn image(&self) -> Option<&str> {
        self.0.image.as_deref()
    }

    /// Its environment, an entry `NAME=value` each.
    pub fn environment(&self) -> impl Iterator<Item = &str> {
        let entries = self.config().and_then(|config| config.env.as_ref());
        entries.into_iter().flatten().map(String::as_str)
    }

    /// Whether its main process has a terminal.
    pub fn has_terminal(&self) -> bool {
        self.config().is_some_and(|config| config.tty == Some(true))
    }

    /// Its service in the compose file that it was made from.
    pub fn service(&self) -> Option<&str> {
        let labels = self.config()?.labels.as_ref()?;
        labels.get(LABEL_SERVICE).map(String::as_str)
    }

    /// The user that its main process runs as.
    pub fn user(&self) -> &str {
        self.config()
            .and_then(|config| config.user.as_deref())
            .unwrap_or_default()
    }

    /// Its addresses on Docker's networks.
    fn addresses(&self) -> Vec<IpAddr> {
        let networks = self
            .0
            .network_settings
            .as_ref()
            .and_then(|settings| settings.networks.as_ref());
        networks
            .into_iter()
            .flat_map(HashMap::values)
            .filter_map(|endpoint| endpoint.ip_address.as_deref()?.parse().ok())
            .collect()
    }

    /// The port of this server that leads to this port of the container.
    pub(super) fn published(&self, port: u16) -> Option<u16> {
        let ports = self.0.network_settings.as_ref()?.ports.as_ref()?;
        let bindings = ports.get(&format!("{port}/tcp"))?.as_ref()?;
        bindings
            .iter()
            .find_map(|binding| binding.host_port.as_deref()?.parse().ok())
    }

    /// The container whose network this one shares, if it does.
    pub fn network_of(&self) -> Option<&str> {
        self.host()?
            .network_mode
            .as_deref()?
            .strip_prefix("container:")
    }

    /// Its name.
    pub fn name(&self) -> &str {
        let name = self.0.name.as_deref().unwrap_or_default();
        name.trim_start_matches('/')
    }

    /// The networks that it is to be in, by name.
    pub fn networks(&self) -> impl Iterator<Item = (&str, &EndpointSettings)> {
        let settings = self.0.network_settings.as_ref();
        settings
            .and_then(|settings| settings.networks.as_ref())
            .into_iter()
            .flatten()
            .map(|(name, endpoint)| (name.as_str(), endpoint))
    }

    /// Names of the volumes mounted into it, with where.
    pub fn volumes(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .mounts
            .iter()
            .flatten()
            .filter_map(|mount| Some((mount.name.as_deref()?, mount.destination.as_deref()?)))
    }

    /// The parts of this volume that are mounted into it, as paths in the volume.
    pub fn parts_of(&self, volume: &str) -> impl Iterator<Item = &str> {
        let mounts = self.host().and_then(|host| host.mounts.as_ref());
        mounts
            .into_iter()
            .flatten()
            .filter(move |mount| mount.source.as_deref() == Some(volume))
            .filter_map(|mount| mount.volume_options.as_ref()?.subpath.as_deref())
            .filter(|part| !part.is_empty())
    }

    /// Where its writable layer is on this server, with the storage drivers that say so.
    pub fn layer(&self) -> Option<&str> {
        let data = self.0.graph_driver.as_ref().map(|driver| &driver.data)?;
        data.get("UpperDir").map(String::as_str)
    }

    /// What it may do on the host.
    pub fn host(&self) -> Option<&HostConfig> {
        self.0.host_config.as_ref()
    }

    fn config(&self) -> Option<&bollard::models::ContainerConfig> {
        self.0.config.as_ref()
    }

    fn state(&self) -> Option<&bollard::models::ContainerState> {
        self.0.state.as_ref()
    }
}

impl Docker {
    /// The container of this id or name, if there is one.
    pub async fn container(&self, id: &str) -> Result<Option<Container>> {
        let container = self.api.inspect_container(id, None).await;
        Ok(found(&format!("inspect the container {id}"), container)?.map(Container))
    }

    /// The addresses at which what runs in it is reached from this server.
    pub async fn addresses(&self, container: &Container) -> Result<Vec<IpAddr>> {
        match container.network_of() {
            Some(other) => Ok(self
                .container(other)
                .await?
                .map(|other| other.addresses())
                .unwrap_or_default()),
            None => Ok(container.addresses()),
        }
    }

    /// Starts it; one that runs already stays as it is.
    pub async fn start(&self, id: &str) -> Result<()> {
        match self.api.start_container(id, None).await {
            Err(error) if status(&error) != Some(304) => {
                Err(failed(&format!("start the container {id}"), error))
            }
            _ => Ok(()),
        }
    }

    /// Stops it, killing what has not ended after these seconds.
    pub async fn stop(&self, id: &str, seconds: i32) -> Result<()> {
        let options = StopContainerOptionsBuilder::new().t(seconds).build();
        match self.api.stop_container(id, Some(options)).await {
            Err(error) if !matches!(status(&error), Some(304 | 404)) => {
                Err(failed(&format!("stop the container {id}"), error))
            }
            _ => Ok(()),
        }
    }

    /// Kills and removes it with its anonymous volumes. One that is gone is no error.
    pub async fn remove_container(&self, id: &str) -> Result<()> {
        let options = RemoveContainerOptionsBuilder::new()
            .force(true)
            .v(true)
            .build();
        match self.api.remove_container(id, Some(options)).await {
            // 409: its removal is already under way.
            Err(error) if !matches!(status(&error), Some(404 | 409)) => {
                Err(failed(&format!("remove the container {id}"), error))
            }
            _ => Ok(()),
        }
    }

    /// Says whether it is to run from now on, across reboots.
    pub async fn set_wanted(&self, id: &str, wanted: Wanted) -> Result<()> {
        let name = match wanted {
            Wanted::Running => RestartPolicyNameEnum::UNLESS_STOPPED,
            Wanted::Asleep => RestartPolicyNameEnum::NO,
            Wanted::Undecided => RestartPolicyNameEnum::ON_FAILURE,
        };
        let body = ContainerUpdateBody {
            restart_policy: Some(RestartPolicy {
                name: Some(name),
                maximum_retry_count: None,
            }),
            ..ContainerUpdateBody::default()
        };
        self.api
            .update_container(id, body)
            .await
            .map_err(|error| failed(&format!("set the restart policy of {id}"), error))
    }

    /// What it uses; `None` where it does not run.
    pub async fn usage(&self, id: &str) -> Result<Option<Usage>> {
        // Two readings a second apart: the share of a processor is a difference.
        let options = StatsOptionsBuilder::new().stream(false).build();
        let mut reading = self.api.stats(id, Some(options));
        let stats = tokio::time::timeout(STATS_WITHIN, reading.next()).await;
        let stats =
            stats.map_err(|_| late(&format!("read the resource usage of {id}"), STATS_WITHIN))?;
        let stats = match stats {
            Some(Ok(stats)) => stats,
            Some(Err(error)) => {
                return Err(failed(&format!("read the resource usage of {id}"), error));
            }
            None => return Ok(None),
        };
        let memory = stats.memory_stats.unwrap_or_default();
        let Some(used) = memory.usage else {
            return Ok(None);
        };
        // As `docker stats` counts: the inactive page cache is not the drone's.
        let cache = memory
            .stats
            .as_ref()
            .and_then(|stats| {
                stats
                    .get("inactive_file")
                    .or_else(|| stats.get("total_inactive_file"))
            })
            .copied()
            .unwrap_or(0);
        Ok(Some(Usage {
            cpu_percent: cpu_percent(stats.cpu_stats, stats.precpu_stats),
            memory: used.saturating_sub(cache),
            memory_limit: memory.limit.unwrap_or(0),
            pids: stats.pids_stats.and_then(|pids| pids.current).unwrap_or(0),
        }))
    }
}

#[allow(clippy::cast_precision_loss)] // nanoseconds of processor time; a percentage is rough anyway
fn cpu_percent(
    now: Option<bollard::models::ContainerCpuStats>,
    before: Option<bollard::models::ContainerCpuStats>,
) -> f64 {
    let (now, before) = (now.unwrap_or_default(), before.unwrap_or_default());
    let used = |stats: &bollard::models::ContainerCpuStats| {
        stats
            .cpu_usage
            .as_ref()
            .and_then(|usage| usage.total_usage)
            .unwrap_or(0)
    };
    let of_all = now
        .system_cpu_usage
        .unwrap_or(0)
        .saturating_sub(before.system_cpu_usage.unwrap_or(0));
    if of_all == 0 {
        return 0.0;
    }
    let of_this = used(&now).saturating_sub(used(&before));
    of_this as f64 / of_all as f64 * f64::from(now.online_cpus.unwrap_or(1)) * 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dockers_word_on_memory_counts_once_per_run() {
        for (killed, runs, restarts, tells) in [
            (true, false, 0, true),
            (true, false, 3, true),
            // Docker has started it again by itself.
            (true, true, 1, true),
            // A person has, or hatchery: then it is of the run before.
            (true, true, 0, false),
            (false, false, 0, false),
            (false, true, 2, false),
        ] {
            let container = Container::from_json(serde_json::json!({
                "RestartCount": restarts,
                "State": {"OOMKilled": killed, "Running": runs, "Pid": if runs { 7 } else { 0 }},
            }));
            let case = format!("{killed}, {runs}, {restarts}");
            assert_eq!(container.out_of_memory(), tells, "{case}");
            assert_eq!(container.pid(), runs.then_some(7), "{case}");
        }
    }
}
