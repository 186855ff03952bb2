//! Volumes, networks and images.

use std::collections::HashMap;
use std::time::Duration;

use bollard::models::{ContainerSummary, ImageInspect, NetworkCreateRequest, VolumeCreateRequest};
use bollard::query_parameters::{
    ListContainersOptionsBuilder, ListImagesOptionsBuilder, ListNetworksOptionsBuilder,
    ListVolumesOptionsBuilder, RemoveImageOptionsBuilder, RemoveVolumeOptionsBuilder,
};

use super::bridges::OPTION_DEVICE;
use super::{Docker, failed, filters, found, status};
use crate::drone::{DroneName, Identity, LABEL_DRONE};
use crate::error::{Code, Error, Result};

/// The network device of the drones' bridge: what firewall rules name.
pub const NETWORK_DEVICE: &str = "hatchery0";

/// The label that compose puts on all that it makes.
pub const LABEL_PROJECT: &str = "com.docker.compose.project";

/// Marks a network as made by hatchery.
const LABEL_NETWORK: &str = "hatchery.network";

/// How often, and in between how long, a network is looked for that another spawn is creating.
const LOOKS: usize = 20;
const BETWEEN_LOOKS: Duration = Duration::from_millis(100);

impl Docker {
    /// Creates the drone's volume with its labels.
    pub async fn create_volume(&self, identity: &Identity) -> Result<()> {
        let labels = identity
            .labels()
            .map(|(key, value)| (key.to_owned(), value));
        let request = VolumeCreateRequest {
            name: Some(identity.name.to_string()),
            labels: Some(labels.into()),
            ..VolumeCreateRequest::default()
        };
        let doing = format!("create the volume {}", identity.name);
        let volume = self
            .api
            .create_volume(request)
            .await
            .map_err(|error| failed(&doing, error))?;
        // Docker gives an existing volume of this name without a word.
        if Identity::from_labels(&volume.labels).ok().as_ref() != Some(identity) {
            return Err(Error::new(
                Code::NameTaken,
                format!(
                    "a volume named {} is there already and is not a drone's",
                    identity.name
                ),
            )
            .hint(format!(
                "look into it, then `docker volume rm {}`",
                identity.name
            )));
        }
        Ok(())
    }

    /// Removes a volume. One that is gone is no error.
    pub async fn remove_volume(&self, name: &str) -> Result<()> {
        let options = RemoveVolumeOptionsBuilder::new().build();
        match self.api.remove_volume(name, Some(options)).await {
            Err(error) if status(&error) != Some(404) => {
                Err(failed(&format!("remove the volume {name}"), error))
            }
            _ => Ok(()),
        }
    }

    /// The names of all volumes.
    pub async fn volume_names(&self) -> Result<Vec<String>> {
        let volumes = self
            .api
            .list_volumes(None::<bollard::query_parameters::ListVolumesOptions>)
            .await
            .map_err(|error| failed("list the volumes", error))?;
        let names = volumes.volumes.unwrap_or_default();
        Ok(names.into_iter().map(|volume| volume.name).collect())
    }

    /// Volumes that compose made for this drone's project.
    pub async fn project_volumes(&self, project: &DroneName) -> Result<Vec<String>> {
        let options = ListVolumesOptionsBuilder::new()
            .filters(&filters("label", format!("{LABEL_PROJECT}={project}")))
            .build();
        let volumes = self
            .api
            .list_volumes(Some(options))
            .await
            .map_err(|error| failed("list the volumes", error))?;
        let names = volumes.volumes.unwrap_or_default();
        Ok(names.into_iter().map(|volume| volume.name).collect())
    }

    /// The drone's own container. Others that carry its labels were made by hand of its image.
    pub async fn container_of(&self, drone: &DroneName) -> Result<Option<String>> {
        let containers = self.labelled(&format!("{LABEL_DRONE}={drone}")).await?;
        let own = |container: &ContainerSummary| {
            let mut names = container.names.iter().flatten();
            names.any(|name| name.trim_start_matches('/') == drone.as_str())
        };
        Ok(containers
            .into_iter()
            .find(own)
            .and_then(|container| container.id))
    }

    /// All containers of the drone's compose project: its own among them, and its siblings.
    ///
    /// An image's labels cannot make a container one of them: compose sets this label itself, and
    /// no other container starts that has it.
    pub async fn project_containers(&self, project: &DroneName) -> Result<Vec<String>> {
        let containers = self.labelled(&format!("{LABEL_PROJECT}={project}")).await?;
        Ok(containers
            .into_iter()
            .filter_map(|container| container.id)
            .collect())
    }

    async fn labelled(&self, label: &str) -> Result<Vec<ContainerSummary>> {
        let options = ListContainersOptionsBuilder::new()
            .all(true)
            .filters(&filters("label", label.to_owned()))
            .build();
        self.api
            .list_containers(Some(options))
            .await
            .map_err(|error| failed("list the containers", error))
    }

    /// Removes the networks that compose made for this drone's project.
    pub async fn remove_project_networks(&self, project: &DroneName) -> Result<()> {
        let options = ListNetworksOptionsBuilder::new()
            .filters(&filters("label", format!("{LABEL_PROJECT}={project}")))
            .build();
        let networks = self
            .api
            .list_networks(Some(options))
            .await
            .map_err(|error| failed("list the networks", error))?;
        for network in networks.into_iter().filter_map(|network| network.name) {
            self.remove_network(&network).await?;
        }
        Ok(())
    }

    async fn remove_network(&self, name: &str) -> Result<()> {
        match self.api.remove_network(name).await {
            Err(error) if status(&error) != Some(404) => {
                Err(failed(&format!("remove the network {name}"), error))
            }
            _ => Ok(()),
        }
    }

    /// Makes the drones' own bridge where it is missing: neighbours on it cannot talk.
    pub async fn ensure_network(&self, name: &str) -> Result<()> {
        let doing = format!("create the network {name}");
        let inspected = self.api.inspect_network(name, None).await;
        if found(&doing, inspected)?.is_some() {
            return Ok(());
        }
        let options = HashMap::from([
            (OPTION_DEVICE, NETWORK_DEVICE),
            ("com.docker.network.bridge.enable_icc", "false"),
        ]);
        let request = NetworkCreateRequest {
            name: name.to_owned(),
            driver: Some("bridge".to_owned()),
            options: Some(
                options
                    .into_iter()
                    .map(|(key, value)| (key.to_owned(), value.to_owned()))
                    .collect(),
            ),
            labels: Some(HashMap::from([(LABEL_NETWORK.to_owned(), "1".to_owned())])),
            ..NetworkCreateRequest::default()
        };
        match self.api.create_network(request).await {
            Ok(_) => Ok(()),
            Err(error) => {
                // Another spawn may have been quicker; which status that gives depends on how
                // far Docker has come with it, and until it is done the network cannot be seen.
                for _ in 0..LOOKS {
                    let inspected = self.api.inspect_network(name, None).await;
                    if found(&doing, inspected)?.is_some() {
                        return Ok(());
                    }
                    tokio::time::sleep(BETWEEN_LOOKS).await;
                }
                Err(failed(&doing, error))
            }
        }
    }

    /// Removes the drones' bridge if hatchery made it and no drone is left.
    pub async fn remove_network_if_last(&self, name: &str) -> Result<()> {
        let (drones, warnings) = self.drones().await?;
        if !drones.is_empty() || !warnings.is_empty() {
            return Ok(());
        }
        let inspected = self.api.inspect_network(name, None).await;
        let network = found(&format!("look at the network {name}"), inspected)?;
        let ours = network
            .and_then(|network| network.labels)
            .is_some_and(|labels| labels.contains_key(LABEL_NETWORK));
        if ours {
            self.remove_network(name).await?;
        }
        Ok(())
    }

    /// The image of this name, if it is local.
    pub async fn image(&self, name: &str) -> Result<Option<ImageInspect>> {
        let image = self.api.inspect_image(name).await;
        found(&format!("look at the image {name}"), image)
    }

    /// The labels of the image of this name or id, if it is local.
    pub async fn image_labels(&self, name: &str) -> Result<HashMap<String, String>> {
        match self.api.inspect_image(name).await {
            // Docker finds some names to be none.
            Err(error) if matches!(status(&error), Some(400 | 404)) => Ok(HashMap::new()),
            Err(error) => Err(failed(&format!("look at the image {name}"), error)),
            Ok(image) => Ok(image
                .config
                .and_then(|config| config.labels)
                .unwrap_or_default()),
        }
    }

    /// Removes the images that were built for this drone, tags and all.
    pub async fn remove_images(&self, drone: &DroneName) -> Result<()> {
        let options = ListImagesOptionsBuilder::new()
            .all(true)
            .filters(&filters("label", format!("{LABEL_DRONE}={drone}")))
            .build();
        let images = self
            .api
            .list_images(Some(options))
            .await
            .map_err(|error| failed("list the images", error))?;
        for image in images {
            for tag in image
                .repo_tags
                .iter()
                .filter(|tag| !tag.starts_with("<none>"))
            {
                self.remove_image(tag).await?;
            }
            self.remove_image(&image.id).await?;
        }
        Ok(())
    }

    pub(super) async fn remove_image(&self, name: &str) -> Result<()> {
        let options = RemoveImageOptionsBuilder::new().build();
        match self.api.remove_image(name, Some(options), None).await {
            // 409: something that is not this drone's still stands on it.
            Err(error) if !matches!(status(&error), Some(404 | 409)) => {
                Err(failed(&format!("remove the image {name}"), error))
            }
            _ => Ok(()),
        }
    }
}
