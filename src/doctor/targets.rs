//! What is tried from a container.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use super::units::Loader;

/// The most that is tried of each: enough to see whether a door is open.
const PORTS: usize = 6;
const ADDRESSES: usize = 12;
const PEERS: usize = 8;
const DRONES: usize = 4;

/// Where ssh listens, tried whether anybody does or not: a refusal says as much as a banner.
const SSH: u16 = 22;
/// What is tried on a machine of the tailnet.
const PEER_PORTS: [u16; 3] = [SSH, 443, 80];
/// The service address of every tailscaled: it always answers, even where no peer does.
const TAILSCALE_SERVICE: &str = "100.100.100.100:80";
/// Where clouds tell a machine its secrets.
const METADATA: &str = "169.254.169.254:80";

/// What is there to be reached, and who is to close it.
#[derive(Debug, Clone, Default)]
pub(super) struct Facts {
    /// This server's addresses.
    pub addresses: Vec<IpAddr>,
    /// Ports on which it listens.
    pub ports: BTreeSet<u16>,
    /// Machines of the tailnet that the server is in, by name; `None` where it is in none.
    pub peers: Option<Vec<(String, IpAddr)>>,
    /// Containers on the drones' networks.
    pub drones: Vec<IpAddr>,
    /// `NAME:PORT` of GitHub, where the server itself reaches it.
    pub internet: Option<String>,
    /// Who loads the firewall's rules.
    pub loader: Loader,
}

/// What a target is part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Zone {
    /// What the server reaches as a member of the tailnet.
    Tailnet,
    /// The server's own listeners.
    Server,
    /// What the cloud tells a machine.
    Metadata,
    /// Other drones.
    Drones,
    /// What has to be open.
    Internet,
}

/// One try.
#[derive(Debug, Clone)]
pub(super) struct Target {
    /// What it is part of.
    pub zone: Zone,
    /// `ADDRESS:PORT` or `NAME:PORT`.
    pub address: String,
    /// What a person calls it.
    pub name: String,
}

impl Target {
    fn new(zone: Zone, address: String) -> Self {
        Self {
            zone,
            name: address.clone(),
            address,
        }
    }
}

/// What is to be tried, with what is there.
pub(super) fn targets(facts: &Facts) -> Vec<Target> {
    let mut targets = Vec::new();
    if let Some(peers) = &facts.peers {
        targets.push(Target::new(Zone::Tailnet, TAILSCALE_SERVICE.to_owned()));
        for (name, address) in peers.iter().take(PEERS) {
            targets.extend(PEER_PORTS.map(|port| {
                let address = SocketAddr::new(*address, port).to_string();
                Target {
                    zone: Zone::Tailnet,
                    name: format!("{name} ({address})"),
                    address,
                }
            }));
        }
    }
    let ports: BTreeSet<u16> = [SSH]
        .into_iter()
        .chain(facts.ports.iter().copied().take(PORTS))
        .collect();
    for address in facts.addresses.iter().take(ADDRESSES) {
        targets.extend(ports.iter().map(|port| {
            let address = SocketAddr::new(*address, *port).to_string();
            Target::new(Zone::Server, address)
        }));
    }
    targets.push(Target::new(Zone::Metadata, METADATA.to_owned()));
    for address in facts.drones.iter().take(DRONES) {
        let address = SocketAddr::new(*address, crate::ssh::PORT).to_string();
        targets.push(Target::new(Zone::Drones, address));
    }
    let internet = facts.internet.clone();
    targets.extend(internet.map(|address| Target::new(Zone::Internet, address)));
    targets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_of_the_server_is_tried_on_ssh_and_its_listeners() {
        let facts = Facts {
            addresses: vec!["172.17.0.1".parse().unwrap(), "fd00::1".parse().unwrap()],
            ports: BTreeSet::from([22, 443]),
            ..Facts::default()
        };
        let targets = targets(&facts);
        let addresses: Vec<_> = targets.iter().map(|target| &*target.address).collect();
        assert_eq!(
            addresses,
            [
                "172.17.0.1:22",
                "172.17.0.1:443",
                "[fd00::1]:22",
                "[fd00::1]:443",
                METADATA
            ]
        );
    }

    #[test]
    fn a_server_in_a_tailnet_without_peers_is_tried_all_the_same() {
        let facts = Facts {
            peers: Some(Vec::new()),
            ..Facts::default()
        };
        let first = targets(&facts).swap_remove(0);
        assert_eq!(
            (first.zone, &*first.address),
            (Zone::Tailnet, TAILSCALE_SERVICE)
        );
    }

    #[test]
    fn large_servers_do_not_make_it_endless() {
        let address: IpAddr = "10.0.0.1".parse().unwrap();
        let facts = Facts {
            addresses: vec![address; 1000],
            ports: (1..1000).collect(),
            peers: Some(vec![("laptop".to_owned(), address); 1000]),
            drones: vec![address; 1000],
            internet: None,
            ..Facts::default()
        };
        assert!(targets(&facts).len() <= 128);
    }
}
