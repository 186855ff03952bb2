//! The list of drones: a query for a label.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bollard::models::ContainerSummary;
use bollard::query_parameters::{ListContainersOptionsBuilder, ListVolumesOptionsBuilder};
use futures_util::{StreamExt, stream};

use super::{Container, Docker, Wanted, failed, filters};
use crate::drone::{DroneName, Identity, LABEL_DRONE};
use crate::error::Result;

/// How many containers are looked at together. More only costs connections: it is measured.
const AT_ONCE: usize = 4;

/// What a drone is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Life {
    /// Its container runs.
    Running,
    /// It was put to sleep and is to stay so.
    Burrowed,
    /// It should run but does not.
    Stopped,
    /// A spawn that died, or is still under way: a container that was never declared finished, or
    /// a volume into which nothing has been put yet.
    Egg,
    /// Its container is gone; its volume holds what was worked on.
    Bare,
}

impl Life {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Burrowed => "burrowed",
            Self::Stopped => "stopped",
            Self::Egg => "egg",
            Self::Bare => "bare",
        }
    }
}

/// A drone as Docker knows it.
#[derive(Debug, Clone)]
pub struct Drone {
    /// Which repository's, and what it may touch.
    pub identity: Identity,
    /// What it is doing.
    pub life: Life,
    /// The container's id, where there is one.
    pub container: Option<String>,
    /// The loopback port that leads to its sshd, where it was published.
    pub ssh_port: Option<u16>,
    /// When the container was created, in seconds since 1970.
    pub created: Option<i64>,
    /// Docker's own word on how it does ("Up 3 hours").
    pub docker_status: String,
    /// The container's first process on this server, while it runs.
    pub pid: Option<u32>,
    /// When the container was last started (RFC 3339).
    pub started_at: Option<String>,
    /// Whether Docker says that the container's last run ended for want of memory.
    pub out_of_memory: bool,
    /// The container as Docker described it then.
    pub seen: Option<Arc<Container>>,
}

impl Docker {
    /// All drones, by name. What carries the label but is no drone is told as a warning.
    pub async fn drones(&self) -> Result<(Vec<Drone>, Vec<String>)> {
        self.drones_labelled(LABEL_DRONE.to_owned()).await
    }

    /// The drone of this name.
    pub async fn drone(&self, name: &DroneName) -> Result<Option<Drone>> {
        let (drones, _) = self
            .drones_labelled(format!("{LABEL_DRONE}={name}"))
            .await?;
        Ok(drones.into_iter().next())
    }

    async fn drones_labelled(&self, label: String) -> Result<(Vec<Drone>, Vec<String>)> {
        let containers = ListContainersOptionsBuilder::new()
            .all(true)
            .filters(&filters("label", label.clone()))
            .build();
        let volumes = ListVolumesOptionsBuilder::new()
            .filters(&filters("label", label))
            .build();
        let (containers, volumes) = tokio::try_join!(
            self.api.list_containers(Some(containers)),
            self.api.list_volumes(Some(volumes)),
        )
        .map_err(|error| failed("list the drones", error))?;

        let mut drones = BTreeMap::new();
        let mut warnings = Vec::new();
        for volume in volumes.volumes.unwrap_or_default() {
            match Identity::from_labels(&volume.labels) {
                // The drone's other volumes carry the label too; its own has its name.
                Ok(identity) if identity.name.as_str() == volume.name => {
                    drones.insert(identity.name.clone(), Drone::bare(identity));
                }
                Ok(_) => {}
                Err(error) => warnings.push(format!("volume {}: {error}", volume.name)),
            }
        }
        let mut read = stream::iter(containers)
            .map(|container| self.read(container))
            .buffer_unordered(AT_ONCE);
        while let Some(drone) = read.next().await {
            let Some(drone) = drone? else { continue };
            match drone {
                Ok(drone) => {
                    drones.insert(drone.identity.name.clone(), drone);
                }
                Err(warning) => warnings.push(warning),
            }
        }
        Ok((drones.into_values().collect(), warnings))
    }

    async fn read(&self, container: ContainerSummary) -> Result<Option<Result<Drone, String>>> {
        let id = container.id.unwrap_or_default();
        let names = container.names.unwrap_or_default();
        let labels: HashMap<_, _> = container.labels.unwrap_or_default();
        // The label of an image, which the door has emptied.
        if labels.get(LABEL_DRONE).is_some_and(String::is_empty) {
            return Ok(None);
        }
        let identity = match Identity::from_labels(&labels) {
            Ok(identity) => identity,
            Err(error) => {
                let short = id.get(..12).unwrap_or(&id);
                return Ok(Some(Err(format!("container {short}: {error}"))));
            }
        };
        // A container made by hand of a drone's image has the image's labels.
        if !names
            .iter()
            .any(|name| name.trim_start_matches('/') == identity.name.as_str())
        {
            return Ok(None);
        }
        // What the list does not hold, or not yet. One that is gone meanwhile is no container.
        let Some(inspected) = self.container(&id).await? else {
            return Ok(None);
        };
        let published = match inspected.network_of() {
            // A sibling whose network it shares has published the port for it.
            Some(other) => self
                .container(other)
                .await?
                .and_then(|other| other.published(crate::ssh::PORT)),
            None => inspected.published(crate::ssh::PORT),
        };
        let listed = container.state.map(|state| state.to_string());
        let (life, docker_status) = standing(listed.as_deref(), container.status, &inspected);
        Ok(Some(Ok(Drone {
            identity,
            life,
            container: Some(id),
            ssh_port: published,
            created: container.created,
            docker_status,
            pid: inspected.pid(),
            started_at: inspected.started_at().map(str::to_owned),
            out_of_memory: inspected.out_of_memory(),
            seen: Some(Arc::new(inspected)),
        })))
    }
}

/// What a drone is doing, with Docker's word on it. The list may be late: Docker 26 calls a
/// container running for a tenth of a second after it has stopped it. Looking at it never is.
fn standing(listed: Option<&str>, word: Option<String>, inspected: &Container) -> (Life, String) {
    let state = inspected.state_word();
    let life = match (state.as_str(), inspected.wanted()) {
        ("created", _) | (_, Wanted::Undecided) => Life::Egg,
        ("running" | "paused" | "restarting", _) => Life::Running,
        (_, Wanted::Running) => Life::Stopped,
        (_, Wanted::Asleep) => Life::Burrowed,
    };
    let word = word.filter(|_| listed == Some(&state));
    (life, word.unwrap_or(state))
}

impl Drone {
    /// What only has a volume. Whether it is an egg Docker does not know.
    pub(crate) fn bare(identity: Identity) -> Self {
        Self {
            identity,
            life: Life::Bare,
            container: None,
            ssh_port: None,
            created: None,
            docker_status: String::new(),
            pid: None,
            started_at: None,
            out_of_memory: false,
            seen: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inspected(state: &str, policy: &str) -> Container {
        Container::from_json(serde_json::json!({
            "State": {"Status": state},
            "HostConfig": {"RestartPolicy": {"Name": policy}},
        }))
    }

    #[test]
    fn what_a_drone_does_is_what_its_container_says_and_not_the_list() {
        let late = Some("Up 3 hours".to_owned());
        for (state, policy, life) in [
            ("exited", "no", Life::Burrowed),
            ("exited", "unless-stopped", Life::Stopped),
            ("running", "unless-stopped", Life::Running),
            ("restarting", "unless-stopped", Life::Running),
            ("paused", "always", Life::Running),
            ("running", "no", Life::Running),
            ("dead", "unless-stopped", Life::Stopped),
            ("created", "no", Life::Egg),
            ("running", "on-failure", Life::Egg),
        ] {
            let container = inspected(state, policy);
            for listed in [Some("running"), Some("exited"), Some(state), None] {
                let (is, word) = standing(listed, late.clone(), &container);
                assert_eq!(is, life, "{state}, {policy}, listed as {listed:?}");
                let told = if listed == Some(state) {
                    "Up 3 hours"
                } else {
                    state
                };
                assert_eq!(word, told);
            }
        }
    }
}
