//! What a container may take of the machine, read and changed while it runs.

use bollard::models::ContainerUpdateBody;
use serde::Serialize;

use super::{Container, Docker, Machine, failed};
use crate::error::Result;

/// A container's limits; `None` where it has none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct InForce {
    /// Memory in bytes.
    pub memory: Option<u64>,
    /// Processors.
    pub cpus: Option<f64>,
    /// Processes and threads.
    pub pids: Option<i64>,
}

/// Processors in billionths, as Docker keeps them; the devcontainer CLI and compose round up too.
#[allow(clippy::cast_possible_truncation)] // it is as many processors as there are
pub fn billionths(processors: f64) -> i64 {
    (processors * 1e9).ceil() as i64
}

impl Container {
    /// The limits that Docker has of it.
    pub fn limits(&self) -> InForce {
        let Some(host) = self.host() else {
            return InForce::default();
        };
        // Docker writes "no limit" as 0 or -1.
        let set = |limit: Option<i64>| limit.filter(|limit| *limit > 0);
        #[allow(clippy::cast_precision_loss)] // billionths of a processor
        let cpus = set(host.nano_cpus).map(|billionths| billionths as f64 / 1e9);
        InForce {
            memory: set(host.memory).and_then(|bytes| u64::try_from(bytes).ok()),
            cpus,
            pids: set(host.pids_limit),
        }
    }
}

impl Docker {
    /// Gives a container these limits, at once where it runs; those that are not given, and those that this
    /// machine cannot enforce, are left as they are.
    pub async fn limit(&self, id: &str, limits: InForce, machine: &Machine) -> Result<()> {
        let enforced = |limit| !machine.unlimited.contains(&limit);
        let memory = limits
            .memory
            .map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX))
            .filter(|_| enforced("memory"));
        let body = ContainerUpdateBody {
            memory,
            // With swap: no more than the memory.
            memory_swap: memory.filter(|_| machine.swap_limit),
            nano_cpus: limits.cpus.map(billionths).filter(|_| enforced("cpus")),
            pids_limit: limits.pids.filter(|_| enforced("pids")),
            ..ContainerUpdateBody::default()
        };
        if body == ContainerUpdateBody::default() {
            return Ok(());
        }
        let done = self.api.update_container(id, body).await;
        done.map_err(|error| failed(&format!("limit the container {id}"), error))
    }
}
