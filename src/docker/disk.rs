//! What containers and volumes take on Docker's disk, as `docker system df` counts it.

use std::collections::HashMap;
use std::time::Duration;

use serde::Deserialize;

use super::{Docker, LABEL_PROJECT, late, socket_of};
use crate::drone::LABEL_DRONE;
use crate::error::{Code, Error, Result};
use crate::http;

/// The largest answer that is read, in bytes.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

/// Without a version, so that each Docker answers as its own does: only from 1.42 on it can be asked
/// for a part, from 1.52 on it names no container and no volume unless asked to.
const QUESTION: &str = "http://docker/system/df?type=container&type=volume&verbose=1";

/// What everything takes on Docker's disk.
#[derive(Debug, Clone, Default)]
pub struct Disk {
    /// The containers' writable layers.
    pub layers: Vec<Layer>,
    /// The volumes.
    pub volumes: Vec<Volume>,
}

/// A container's writable layer.
#[derive(Debug, Clone)]
pub struct Layer {
    /// The container's id.
    pub container: String,
    /// Its name.
    pub name: String,
    /// The drone whose label the container has, if any.
    pub drone: Option<String>,
    /// The compose project that it belongs to, if any.
    pub project: Option<String>,
    /// Its size in bytes, without the image; `None` where Docker could not tell, as when files come
    /// and go while it counts.
    pub bytes: Option<u64>,
    /// The names of the volumes that are mounted in it.
    pub volumes: Vec<String>,
}

/// A volume.
#[derive(Debug, Clone)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// The compose project that made it, if any.
    pub project: Option<String>,
    /// Its size in bytes; `None` where Docker could not tell.
    pub bytes: Option<u64>,
    /// Where it is on this server.
    pub directory: String,
}

/// Docker's answer, before and after version 1.52 of its API.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Answer {
    containers: Option<Vec<ListedContainer>>,
    volumes: Option<Vec<ListedVolume>>,
    container_usage: Option<Items<ListedContainer>>,
    volume_usage: Option<Items<ListedVolume>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Items<T> {
    #[serde(default = "Option::default")]
    items: Option<Vec<T>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct ListedContainer {
    id: String,
    names: Option<Vec<String>>,
    labels: Option<HashMap<String, String>>,
    /// Left out where it is 0, -1 where Docker does not know it.
    size_rw: Option<i64>,
    mounts: Option<Vec<Mount>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Mount {
    #[serde(rename = "Type")]
    kind: Option<String>,
    name: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct ListedVolume {
    name: String,
    mountpoint: Option<String>,
    labels: Option<HashMap<String, String>>,
    usage_data: Option<UsageData>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct UsageData {
    /// -1 where Docker does not know it.
    size: i64,
}

impl From<Answer> for Disk {
    fn from(answer: Answer) -> Self {
        let containers = answer
            .containers
            .or_else(|| answer.container_usage?.items)
            .unwrap_or_default();
        let volumes = answer
            .volumes
            .or_else(|| answer.volume_usage?.items)
            .unwrap_or_default();
        Self {
            layers: containers.into_iter().map(Layer::from).collect(),
            volumes: volumes.into_iter().map(Volume::from).collect(),
        }
    }
}

impl From<ListedContainer> for Layer {
    fn from(listed: ListedContainer) -> Self {
        let mut labels = listed.labels.unwrap_or_default();
        let names = listed.names.unwrap_or_default();
        let own = names
            .iter()
            .map(|name| name.trim_start_matches('/'))
            // `/other/alias` is what another container calls it.
            .find(|name| !name.contains('/'));
        let mounts = listed.mounts.unwrap_or_default();
        Self {
            container: listed.id,
            name: own.unwrap_or_default().to_owned(),
            drone: labels.remove(LABEL_DRONE),
            project: labels.remove(LABEL_PROJECT),
            bytes: u64::try_from(listed.size_rw.unwrap_or(0)).ok(),
            volumes: mounts
                .into_iter()
                .filter(|mount| mount.kind.as_deref() == Some("volume"))
                .filter_map(|mount| mount.name)
                .collect(),
        }
    }
}

impl From<ListedVolume> for Volume {
    fn from(listed: ListedVolume) -> Self {
        Self {
            name: listed.name,
            project: listed
                .labels
                .and_then(|mut labels| labels.remove(LABEL_PROJECT)),
            bytes: listed
                .usage_data
                .and_then(|usage| u64::try_from(usage.size).ok()),
            directory: listed.mountpoint.unwrap_or_default(),
        }
    }
}

impl Docker {
    /// What containers and volumes take on the disk. Docker looks through all of their files for
    /// it, which may take minutes; it has this long.
    pub async fn disk(&self, within: Duration) -> Result<Disk> {
        let doing = "measure the drones' disk usage";
        let failed = |error: reqwest::Error| {
            if error.is_timeout() {
                return late(doing, within);
            }
            Error::new(Code::DockerFailed, format!("Docker could not {doing}"))
                .because(error.without_url())
        };
        let client = http::unix_client(socket_of(self.host()), within)?;
        let answer = client.get(QUESTION).send().await.map_err(failed)?;
        let status = answer.status();
        let body = match http::body(answer, MAX_ANSWER).await {
            Ok(body) => body,
            Err(http::BodyError::Broken(error)) => return Err(failed(error)),
            Err(error) => {
                return Err(
                    Error::new(Code::DockerFailed, format!("Docker could not {doing}"))
                        .because(error),
                );
            }
        };
        if !status.is_success() {
            return Err(Error::new(
                Code::DockerFailed,
                format!(
                    "Docker could not {doing}: {status}, {}",
                    String::from_utf8_lossy(&body)
                ),
            ));
        }
        let answer: Answer = serde_json::from_slice(&body).map_err(|error| {
            Error::new(Code::DockerFailed, format!("Docker could not {doing}")).because(error)
        })?;
        Ok(answer.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_dockers_answer_are_read() {
        let container = r#"{"Id": "f7", "Names": ["/web/db", "/acme-site"], "SizeRw": 7, "SizeRootFs": 900,
            "Labels": {"hatchery.drone": "acme-site", "com.docker.compose.project": "acme-site"},
            "Mounts": [{"Type": "volume", "Name": "acme-site"}, {"Type": "bind", "Source": "/run"}]}"#;
        // A container that wrote nothing has no SizeRw.
        let idle = r#"{"Id": "b0", "Names": null, "Labels": null, "Mounts": null}"#;
        let busy = r#"{"Id": "c1", "SizeRw": -1}"#;
        let volume = r#"{"Name": "acme-site", "Labels": null, "Mountpoint": "/v/acme-site", "UsageData": {"RefCount": 1, "Size": 12}}"#;
        let unknown = r#"{"Name": "other", "UsageData": {"RefCount": -1, "Size": -1}}"#;
        for answer in [
            format!(
                r#"{{"LayersSize": 5, "Images": null, "Containers": [{container}, {idle}, {busy}],
                "Volumes": [{volume}, {unknown}], "BuildCache": []}}"#
            ),
            format!(
                r#"{{"ContainerUsage": {{"TotalCount": 2, "Items": [{container}, {idle}, {busy}]}},
                "VolumeUsage": {{"TotalSize": 12, "Items": [{volume}, {unknown}]}}}}"#
            ),
        ] {
            let disk = Disk::from(serde_json::from_str::<Answer>(&answer).unwrap());
            let layer = &disk.layers[0];
            assert_eq!(
                (layer.name.as_str(), layer.container.as_str()),
                ("acme-site", "f7")
            );
            assert_eq!(layer.drone.as_deref(), Some("acme-site"));
            assert_eq!(layer.project.as_deref(), Some("acme-site"));
            assert_eq!(layer.volumes, ["acme-site"]);
            let sizes: Vec<_> = disk.layers.iter().map(|layer| layer.bytes).collect();
            assert_eq!(sizes, [Some(7), Some(0), None]);
            let sizes: Vec<_> = disk.volumes.iter().map(|volume| volume.bytes).collect();
            assert_eq!(sizes, [Some(12), None]);
            assert_eq!(disk.volumes[0].directory, "/v/acme-site");
        }
        for nothing in [
            "{}",
            r#"{"Containers": null, "Volumes": null}"#,
            r#"{"VolumeUsage": {}}"#,
        ] {
            let disk = Disk::from(serde_json::from_str::<Answer>(nothing).unwrap());
            assert!(disk.layers.is_empty() && disk.volumes.is_empty());
        }
    }
}
