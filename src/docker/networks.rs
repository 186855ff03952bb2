//! Drones' networks: each drone has bridges that no other is on.

use std::collections::HashMap;
use std::path::Path;

use bollard::models::{
    Network, NetworkConnectRequest, NetworkCreateRequest, NetworkDisconnectRequest,
};
use bollard::query_parameters::ListNetworksOptions;

use super::addresses::{Addresses, is_overlap};
use super::{Docker, LABEL_PROJECT, failed, probe, status};
use crate::drone::{DroneName, Identity, LABEL_DRONE};
use crate::error::{Code, Error, Result};

/// On the one bridge for all drones, which hatchery made before each had its own.
pub(super) const LABEL_SHARED: &str = "hatchery.network";

/// How the network is called that `doctor` makes for a moment, before its process's number. No drone's
/// name has a dot.
const OF_PROBES: &str = "hatchery.doctor.";

impl Docker {
    /// All networks.
    pub(super) async fn networks(&self) -> Result<Vec<Network>> {
        let all = self.api.list_networks(None::<ListNetworksOptions>).await;
        all.map_err(|error| failed("list the networks", error))
    }

    /// Makes the network of a drone that is no compose project; its name is the drone's. One that an
    /// earlier container of the drone was in is taken as it is.
    pub async fn create_network(&self, identity: &Identity, addresses: &Addresses) -> Result<()> {
        let name = identity.name.as_str();
        let named = |network: &Network| network.name.as_deref() == Some(name);
        if let Some(there) = self.networks().await?.into_iter().find(named) {
            let labels = there.labels.unwrap_or_default();
            // Its scope may have been another then.
            if Identity::from_labels(&labels).is_ok_and(|it| it.repo == identity.repo) {
                return Ok(());
            }
            return Err(Error::new(
                Code::NameTaken,
                format!("a network named {name} already exists and does not belong to a drone"),
            )
            .hint(format!(
                "if nothing needs it, remove it with `docker network rm {name}`"
            )));
        }
        self.create_bridge(name, identity.label_map(), addresses)
            .await
    }

    /// Gives a drone that sleeps a new network where its own is gone: `docker network prune` removes
    /// what no running container is in. Those of compose projects, and the bridge that was shared,
    /// are not hatchery's to make.
    pub async fn restore_network(
        &self,
        identity: &Identity,
        container: &str,
        addresses: &Addresses,
    ) -> Result<()> {
        let name = identity.name.as_str();
        let networks = self.networks().await?;
        let shown = self.container(container).await?;
        let is_in_it = shown.is_some_and(|shown| shown.networks().any(|(it, _)| it == name));
        if !is_in_it
            || networks
                .iter()
                .any(|network| network.name.as_deref() == Some(name))
        {
            return Ok(());
        }
        self.create_network(identity, addresses).await?;
        // It goes by the id of the one that is gone, until it has left it.
        let leaving = NetworkDisconnectRequest {
            container: container.to_owned(),
            force: Some(true),
        };
        let joining = NetworkConnectRequest {
            container: container.to_owned(),
            endpoint_config: None,
        };
        let left = self.api.disconnect_network(name, leaving).await;
        left.map_err(|error| failed(&format!("disconnect {name} from its old network"), error))?;
        let joined = self.api.connect_network(name, joining).await;
        joined.map_err(|error| failed(&format!("connect {name} to its network"), error))
    }

    /// Makes a network like a drone's, from which `doctor` tries what a drone reaches. Its name.
    pub async fn create_probes_network(&self, addresses: &Addresses) -> Result<String> {
        let own = std::process::id();
        for network in self.networks().await? {
            let number = network
                .name
                .as_deref()
                .and_then(|name| name.strip_prefix(OF_PROBES));
            let number = number.and_then(|number| number.parse::<u32>().ok());
            let is_left = |number: &u32| *number == own || !is_process(*number);
            if number.as_ref().is_some_and(is_left) {
                self.remove_network(&network.id.unwrap_or_default()).await?;
            }
        }
        let name = format!("{OF_PROBES}{own}");
        let labels = HashMap::from([(probe::LABEL.to_owned(), "1".to_owned())]);
        self.create_bridge(&name, labels, addresses).await?;
        Ok(name)
    }

    async fn create_bridge(
        &self,
        name: &str,
        labels: HashMap<String, String>,
        addresses: &Addresses,
    ) -> Result<()> {
        let mut choice = addresses.choice().await?;
        loop {
            let block = choice.next(&self.networks().await?)?;
            let request = NetworkCreateRequest {
                name: name.to_owned(),
                driver: Some("bridge".to_owned()),
                ipam: Some(block.ipam()),
                options: Some(block.options()),
                labels: Some(labels.clone()),
                ..NetworkCreateRequest::default()
            };
            match self.api.create_network(request).await {
                Ok(_) => return Ok(()),
                Err(error) if is_overlap(&error.to_string()) => {}
                Err(error) => return Err(failed(&format!("create the network {name}"), error)),
            }
        }
    }

    /// Removes the networks of a drone: its own and those of its compose project.
    pub async fn remove_networks(&self, drone: &DroneName) -> Result<()> {
        let networks = self.networks().await?;
        let of_drone = |network: &&Network| {
            let label = |key: &str| network.labels.as_ref()?.get(key).map(String::as_str);
            [LABEL_DRONE, LABEL_PROJECT]
                .map(label)
                .contains(&Some(drone.as_str()))
        };
        for network in networks.iter().filter(of_drone) {
            self.remove_network(network.id.as_deref().unwrap_or_default())
                .await?;
        }
        Ok(())
    }

    /// Removes the network that is called like a drone where the drone's container is not in it, whether that
    /// runs or not.
    pub async fn remove_unused_network(&self, identity: &Identity) -> Result<()> {
        let name = identity.name.as_str();
        let container = match self.container_of(&identity.name).await? {
            Some(id) => self.container(&id).await?,
            None => None,
        };
        let is_in_it = container
            .is_some_and(|container| container.networks().any(|(network, _)| network == name));
        if is_in_it {
            return Ok(());
        }
        self.remove_network(name).await
    }

    /// Removes a network by its name or id. One that is gone is no error.
    pub async fn remove_network(&self, name: &str) -> Result<()> {
        match self.api.remove_network(name).await {
            Err(error) if status(&error) != Some(404) => {
                Err(failed(&format!("remove the network {name}"), error))
            }
            _ => Ok(()),
        }
    }

    /// Removes the bridge that all drones once shared, where no drone is left that may be on it.
    pub async fn remove_shared_network(&self) -> Result<()> {
        let mut networks = self.networks().await?;
        networks.retain(|network| {
            let labels = network.labels.as_ref();
            labels.is_some_and(|labels| labels.contains_key(LABEL_SHARED))
        });
        if networks.is_empty() {
            return Ok(());
        }
        let (drones, warnings) = self.drones().await?;
        if !drones.is_empty() || !warnings.is_empty() {
            return Ok(());
        }
        for network in networks {
            self.remove_network(&network.id.unwrap_or_default()).await?;
        }
        Ok(())
    }
}

fn is_process(number: u32) -> bool {
    Path::new("/proc").join(number.to_string()).exists()
}
