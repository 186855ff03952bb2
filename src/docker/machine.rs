//! What Docker says of itself and of the machine that it runs on.

use bollard::models::SystemVersion;
use bytesize::ByteSize;

use super::{Docker, failed};
use crate::config::Runtime;
use crate::error::{Code, Error, Result};

/// A Docker daemon's machine.
#[derive(Debug, Clone, Default)]
pub struct Machine {
    /// Docker's version.
    pub version: String,
    /// The storage driver.
    pub storage: String,
    /// What keeps images.
    pub store: Store,
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
    /// All that can run containers, by name.
    pub runtimes: Vec<String>,
    /// Whether Docker runs as a person and not as root.
    pub rootless: bool,
    /// Whether it is Podman that speaks as Docker does.
    pub podman: bool,
}

/// What keeps images and their layers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Store {
    /// Docker itself.
    #[default]
    Docker,
    /// containerd, the default of Docker 29.
    Containerd,
}

impl Machine {
    /// The first number of Docker's version; 0 where it has none.
    pub fn major(&self) -> u32 {
        let first = self.version.split('.').next();
        first
            .and_then(|first| first.parse().ok())
            .unwrap_or_default()
    }

    /// Refuses where the configuration names a runtime that Docker does not have; the error says how to get it.
    pub fn has(&self, configured: Option<Runtime>) -> Result<()> {
        let Some(name) = configured.map(Runtime::as_str) else {
            return Ok(());
        };
        if self.runtimes.iter().any(|has| has == name) {
            return Ok(());
        }
        Err(Error::new(
            Code::ProgramMissing,
            format!("Docker has no runtime {name}, which docker.runtime names"),
        )
        .hint(
            "install Sysbox (https://github.com/nestybox/sysbox), which adds it to /etc/docker/daemon.json, \
             and reload Docker; or remove docker.runtime from the configuration",
        ))
    }
}

/// Where containerd keeps images, Docker says what kind of driver it uses (moby, `daemon/containerd/service.go`).
fn store(driver_status: &[Vec<String>]) -> Store {
    let says = |entry: &Vec<String>| entry.first().is_some_and(|name| name == "driver-type");
    if driver_status.iter().any(says) {
        Store::Containerd
    } else {
        Store::Docker
    }
}

/// Podman names its engine among the components, as Docker does; its server's version is its own.
fn is_podman(version: &SystemVersion) -> bool {
    let mut components = version.components.iter().flatten();
    components.any(|component| component.name.starts_with("Podman"))
}

impl Docker {
    /// Docker's version alone, which it tells sooner than the rest.
    pub async fn version(&self) -> Result<String> {
        let version = self.api.version().await;
        let version = version.map_err(|error| failed("report its version", error))?;
        Ok(version.version.unwrap_or_default())
    }

    /// What Docker's machine is.
    pub async fn machine(&self) -> Result<Machine> {
        let (info, version) = tokio::try_join!(self.api.info(), self.api.version())
            .map_err(|error| failed("describe itself", error))?;
        let limits = [
            ("memory", info.memory_limit),
            ("cpus", info.cpu_cfs_quota),
            ("pids", info.pids_limit),
        ];
        let memory = info.mem_total.unwrap_or_default();
        Ok(Machine {
            version: info.server_version.unwrap_or_default(),
            storage: info.driver.unwrap_or_default(),
            store: store(info.driver_status.as_deref().unwrap_or_default()),
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
            runtimes: info
                .runtimes
                .into_iter()
                .flatten()
                .map(|(name, _)| name)
                .collect(),
            rootless: info
                .security_options
                .into_iter()
                .flatten()
                .any(|option| option.contains("rootless")),
            podman: is_podman(&version),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_keeps_images_is_told_by_the_driver() {
        let status = |text: &str| serde_json::from_str::<Vec<Vec<String>>>(text).unwrap();
        let docker = r#"[["Backing Filesystem", "extfs"], ["Supports d_type", "true"]]"#;
        let containerd = r#"[["driver-type", "io.containerd.snapshotter.v1"]]"#;
        assert_eq!(store(&status(docker)), Store::Docker);
        assert_eq!(store(&status(containerd)), Store::Containerd);
        assert_eq!(store(&[]), Store::Docker);
    }

    #[test]
    fn podman_is_told_from_docker() {
        for (version, podman) in [
            (
                r#"{"Version": "5.8.6", "ApiVersion": "1.41", "Components": [{"Name": "Podman Engine",
                "Version": "5.8.6", "Details": {"APIVersion": "5.8.6"}}, {"Name": "Conmon", "Version": "2.1"}]}"#,
                true,
            ),
            (
                r#"{"Version": "28.5.2", "Components": [{"Name": "Engine", "Version": "28.5.2"},
                {"Name": "containerd", "Version": "v1.7"}]}"#,
                false,
            ),
            ("{}", false),
        ] {
            let version = serde_json::from_str(version).unwrap();
            assert_eq!(is_podman(&version), podman, "{version:?}");
        }
    }
}
