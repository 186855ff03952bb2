//! What Docker says of itself and of the machine that it runs on.

use bytesize::ByteSize;

use super::{Docker, failed};
use crate::error::Result;

/// A Docker daemon's machine.
#[derive(Debug, Clone, Default)]
pub struct Machine {
    /// Docker's version.
    pub version: String,
    /// The storage driver.
    pub storage: String,
    /// The version of control groups, 1 or 2.
    pub cgroup: String,
    /// Where Docker keeps images and volumes.
    pub directory: String,
    /// Memory.
    pub memory: ByteSize,
    /// Limits that Docker cannot enforce on this machine.
    pub unlimited: Vec<&'static str>,
    /// Whether memory is limited together with swap.
    pub swap_limit: bool,
    /// What runs containers that ask for nothing else.
    pub runtime: String,
    /// Whether Docker runs as a person and not as root.
    pub rootless: bool,
}

impl Docker {
    /// What Docker's machine is.
    pub async fn machine(&self) -> Result<Machine> {
        let info = self
            .api
            .info()
            .await
            .map_err(|error| failed("tell of itself", error))?;
        let limits = [
            ("memory", info.memory_limit),
            ("cpus", info.cpu_cfs_quota),
            ("pids", info.pids_limit),
        ];
        let memory = info.mem_total.unwrap_or_default();
        Ok(Machine {
            version: info.server_version.unwrap_or_default(),
            storage: info.driver.unwrap_or_default(),
            cgroup: info
                .cgroup_version
                .map_or_else(String::new, |version| version.to_string()),
            directory: info.docker_root_dir.unwrap_or_default(),
            memory: ByteSize::b(u64::try_from(memory).unwrap_or_default()),
            unlimited: limits
                .into_iter()
                .filter(|(_, enforced)| *enforced == Some(false))
                .map(|(limit, _)| limit)
                .collect(),
            swap_limit: info.swap_limit != Some(false),
            runtime: info.default_runtime.unwrap_or_default(),
            rootless: info
                .security_options
                .into_iter()
                .flatten()
                .any(|option| option.contains("rootless")),
        })
    }
}
