//! Docker's bridges, and what is on them.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use bollard::models::Network;
use bollard::query_parameters::ListContainersOptions;

use super::addresses::DEVICES;
use super::networks::LABEL_SHARED;
use super::{Docker, failed};
use crate::drone::LABEL_DRONE;
use crate::error::Result;

/// Docker's option for the name of a bridge's device.
pub const OPTION_DEVICE: &str = "com.docker.network.bridge.name";

/// A network of the driver `bridge`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bridge {
    /// The network's name.
    pub network: String,
    /// The device on this server.
    pub device: String,
    /// This server's addresses on it.
    pub gateways: Vec<IpAddr>,
    /// Whether it is a drone's.
    pub is_drones: bool,
}

/// What running containers offer.
#[derive(Debug, Clone, Default)]
pub struct Endpoints {
    /// Addresses of containers, by network.
    pub addresses: HashMap<String, Vec<IpAddr>>,
    /// Ports of this server that lead to a container.
    pub published: BTreeSet<u16>,
}

impl Docker {
    /// All bridges.
    pub async fn bridges(&self) -> Result<Vec<Bridge>> {
        let networks = self.networks().await?;
        Ok(networks.into_iter().filter_map(bridge).collect())
    }

    /// Where running containers are.
    pub async fn endpoints(&self) -> Result<Endpoints> {
        let containers = self
            .api
            .list_containers(None::<ListContainersOptions>)
            .await
            .map_err(|error| failed("list the containers", error))?;
        let mut endpoints = Endpoints::default();
        for container in containers {
            let ports = container.ports.into_iter().flatten();
            endpoints
                .published
                .extend(ports.filter_map(|port| port.public_port));
            let networks = container.network_settings.and_then(|all| all.networks);
            for (network, endpoint) in networks.into_iter().flatten() {
                let address = endpoint
                    .ip_address
                    .and_then(|text| text.parse::<IpAddr>().ok());
                endpoints
                    .addresses
                    .entry(network)
                    .or_default()
                    .extend(address);
            }
        }
        Ok(endpoints)
    }
}

fn bridge(network: Network) -> Option<Bridge> {
    if network.driver.as_deref() != Some("bridge") {
        return None;
    }
    let id = network.id.unwrap_or_default();
    let labels = network.labels.unwrap_or_default();
    let named = network
        .options
        .and_then(|mut options| options.remove(OPTION_DEVICE));
    Some(Bridge {
        is_drones: labels.contains_key(LABEL_DRONE) || labels.contains_key(LABEL_SHARED),
        network: network.name?,
        device: named.unwrap_or_else(|| format!("br-{}", id.get(..12).unwrap_or(&id))),
        gateways: network
            .ipam
            .and_then(|ipam| ipam.config)
            .into_iter()
            .flatten()
            .filter_map(|subnet| subnet.gateway?.parse().ok())
            .collect(),
    })
}

/// Whether a device of this server has the name of one of Docker's bridges, as `systemd/hatchery.nft`
/// knows them.
pub fn is_a_bridge(device: &str) -> bool {
    matches!(device, "docker0" | "docker_gwbridge")
        || device.starts_with(DEVICES)
        || device
            .strip_prefix("br-")
            .and_then(|rest| rest.chars().next())
            .is_some_and(|first| matches!(first, '0'..='9' | 'a'..='f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dockers_own_names_are_known_and_a_lans_is_not() {
        for (device, known) in [
            ("docker0", true),
            ("docker_gwbridge", true),
            ("hatchery0", true),
            ("hatchery0abd000", true),
            ("br-0123456789ab", true),
            ("br-f3456789abcd", true),
            ("br-lan", false),
            ("br0", false),
            ("mynet0", false),
        ] {
            assert_eq!(is_a_bridge(device), known, "{device}");
        }
    }
}
