//! Volumes, containers by their labels, and images.

use std::collections::HashMap;

use bollard::models::{ContainerSummary, ImageInspect, ImageSummary, Volume, VolumeCreateRequest};
use bollard::query_parameters::{
    ListContainersOptionsBuilder, ListImagesOptionsBuilder, ListVolumesOptionsBuilder,
    RemoveImageOptionsBuilder, RemoveVolumeOptionsBuilder,
};

use super::{Docker, failed, filters, found, status};
use crate::drone::{DroneName, Identity, LABEL_DRONE};
use crate::error::{Code, Error, Result};

/// The label that compose puts on all that it makes.
pub const LABEL_PROJECT: &str = "com.docker.compose.project";

/// The label of a volume that drones share.
const LABEL_SHARED: &str = "hatchery.shared";

impl Docker {
    /// Creates the drone's volume with its labels.
    pub async fn create_volume(&self, identity: &Identity) -> Result<()> {
        let request = VolumeCreateRequest {
            name: Some(identity.name.to_string()),
            labels: Some(identity.label_map()),
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
                    "a volume named {} already exists and does not belong to a drone",
                    identity.name
                ),
            )
            .hint(format!(
                "if nothing in it is needed, remove it with `docker volume rm {}`",
                identity.name
            )));
        }
        Ok(())
    }

    /// Makes a volume that drones share, unless it is there.
    pub async fn create_shared_volume(&self, name: &str) -> Result<()> {
        let request = VolumeCreateRequest {
            name: Some(name.to_owned()),
            labels: Some(HashMap::from([(LABEL_SHARED.to_owned(), "1".to_owned())])),
            ..VolumeCreateRequest::default()
        };
        let created = self.api.create_volume(request).await;
        let volume =
            created.map_err(|error| failed(&format!("create the volume {name}"), error))?;
        // Docker gives an existing volume of this name without a word.
        if volume.labels.contains_key(LABEL_SHARED) && volume.options.is_empty() {
            return Ok(());
        }
        Err(Error::new(
            Code::NameTaken,
            format!("a volume named {name} already exists and does not belong to hatchery"),
        )
        .hint(format!(
            "if nothing in it is needed, remove it with `docker volume rm {name}`"
        )))
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
        let label = format!("{LABEL_PROJECT}={project}");
        let volumes = self.labelled_volumes(&label).await?;
        Ok(volumes.into_iter().map(|volume| volume.name).collect())
    }

    pub(super) async fn labelled_volumes(&self, label: &str) -> Result<Vec<Volume>> {
        let options = ListVolumesOptionsBuilder::new()
            .filters(&filters("label", label.to_owned()))
            .build();
        let listed = self.api.list_volumes(Some(options)).await;
        let listed = listed.map_err(|error| failed("list the volumes", error))?;
        Ok(listed.volumes.unwrap_or_default())
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

    pub(super) async fn labelled(&self, label: &str) -> Result<Vec<ContainerSummary>> {
        let options = ListContainersOptionsBuilder::new()
            .all(true)
            .filters(&filters("label", label.to_owned()))
            .build();
        self.api
            .list_containers(Some(options))
            .await
            .map_err(|error| failed("list the containers", error))
    }

    /// The image of this name, if it is local.
    pub async fn image(&self, name: &str) -> Result<Option<ImageInspect>> {
        let image = self.api.inspect_image(name).await;
        found(&format!("inspect the image {name}"), image)
    }

    /// The labels of the image of this name or id, if it is local.
    pub async fn image_labels(&self, name: &str) -> Result<HashMap<String, String>> {
        match self.api.inspect_image(name).await {
            // Docker finds some names to be none.
            Err(error) if matches!(status(&error), Some(400 | 404)) => Ok(HashMap::new()),
            Err(error) => Err(failed(&format!("inspect the image {name}"), error)),
            Ok(image) => Ok(image
                .config
                .and_then(|config| config.labels)
                .unwrap_or_default()),
        }
    }

    /// What the images that were built for this drone take in bytes, with layers that others have too; `None`
    /// where there are none.
    pub async fn size_of_images(&self, drone: &DroneName) -> Result<Option<u64>> {
        let images = self.images_of(drone, false).await?;
        let sizes = images
            .iter()
            .map(|image| u64::try_from(image.size).unwrap_or_default());
        Ok(sizes.reduce(u64::saturating_add))
    }

    /// The images that were built for this drone; with `all` those that only others stand on.
    async fn images_of(&self, drone: &DroneName, all: bool) -> Result<Vec<ImageSummary>> {
        let options = ListImagesOptionsBuilder::new()
            .all(all)
            .filters(&filters("label", format!("{LABEL_DRONE}={drone}")))
            .build();
        let images = self.api.list_images(Some(options)).await;
        images.map_err(|error| failed("list the images", error))
    }

    /// Removes the images that were built for this drone, tags and all.
    pub async fn remove_images(&self, drone: &DroneName) -> Result<()> {
        for image in self.images_of(drone, true).await? {
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

    /// Removes images that were built for this drone and whose name another has now. What a container is of
    /// stays.
    pub async fn remove_replaced_images(&self, drone: &DroneName) -> Result<()> {
        let mut filters = filters("label", format!("{LABEL_DRONE}={drone}"));
        filters.insert("dangling".to_owned(), vec!["true".to_owned()]);
        let options = ListImagesOptionsBuilder::new().filters(&filters).build();
        let images = self.api.list_images(Some(options)).await;
        for image in images.map_err(|error| failed("list the images", error))? {
            self.remove_image(&image.id).await?;
        }
        Ok(())
    }

    /// Removes an image by a name or its id. One that is gone, or that something stands on, is no error.
    pub async fn remove_image(&self, name: &str) -> Result<()> {
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
