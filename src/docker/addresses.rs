//! Which addresses a new network of a drone gets: a block of the pool that nobody uses, chosen by
//! one hatchery at a time.

use std::collections::HashMap;
use std::fs::File;

use bollard::models::{Ipam, IpamConfig, Network};
use ipnet::Ipv4Net;

use super::bridges::OPTION_DEVICE;
use crate::config::Subnets;
use crate::error::{Code, Error, Result};
use crate::host::{Places, routes};

/// What the devices of drones' bridges are called: the rules in `systemd/hatchery.nft` go by it.
pub const DEVICES: &str = "hatchery";

/// How often another block is tried where Docker finds that one is in use.
const TRIES: usize = 32;

/// The pool, and who may take of it.
#[derive(Debug, Clone)]
pub struct Addresses {
    subnets: Subnets,
    places: Places,
}

/// The right to choose, for as long as this is there: a block is free until Docker has made a
/// network of it.
#[derive(Debug)]
pub struct Choice<'a> {
    subnets: &'a Subnets,
    taken: Vec<Ipv4Net>,
    tries: usize,
    _lock: File,
}

/// The addresses of one network, and the device that goes with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block(Ipv4Net);

impl Addresses {
    /// The pool of the configuration, with the locks of this server.
    pub fn new(subnets: Subnets, places: Places) -> Self {
        Self { subnets, places }
    }

    /// Waits for the right to choose.
    pub async fn choice(&self) -> Result<Choice<'_>> {
        let places = self.places.clone();
        // Another of this process may hold it, which goes on meanwhile.
        let locked = tokio::task::spawn_blocking(move || places.addresses());
        let lock = locked.await.unwrap_or_else(|error| {
            Err(Error::new(Code::HostFailed, "internal error: a task died").because(error))
        })?;
        let mut taken = routes::destinations();
        // The server reaches more by such a route than the pool; what is more exact counts first.
        taken.retain(|route| !self.subnets.is_within(route));
        Ok(Choice {
            subnets: &self.subnets,
            taken,
            tries: TRIES,
            _lock: lock,
        })
    }
}

impl Choice<'_> {
    /// A block beside these networks, which are all that Docker has. Not one that was given
    /// before.
    pub fn next(&mut self, networks: &[Network]) -> Result<Block> {
        let mut taken = self.taken.clone();
        taken.extend(networks.iter().flat_map(subnets_of));
        let free = self.subnets.free(&taken).filter(|_| self.tries > 0);
        let block = free.ok_or_else(|| exhausted(self.subnets))?;
        self.tries -= 1;
        self.taken.push(block);
        Ok(Block(block))
    }
}

impl Block {
    /// What Docker is to give out.
    pub fn ipam(self) -> Ipam {
        let gateway = self.0.hosts().next().map(|gateway| gateway.to_string());
        Ipam {
            driver: Some("default".to_owned()),
            config: Some(vec![IpamConfig {
                subnet: Some(self.0.to_string()),
                gateway,
                ..IpamConfig::default()
            }]),
            options: None,
        }
    }

    /// The options of its bridge: a device with a name by which the firewall knows it. No two
    /// blocks begin with the same 28 bits, and a device's name may have 15 characters.
    pub fn options(self) -> HashMap<String, String> {
        let number = u32::from(self.0.network()) >> 4;
        HashMap::from([(OPTION_DEVICE.to_owned(), format!("{DEVICES}{number:07x}"))])
    }
}

/// Whether Docker says that these addresses are in use: by another network, or by a device.
pub fn is_overlap(text: &str) -> bool {
    text.to_ascii_lowercase().contains("overlap")
}

/// The IPv4 addresses of a network.
fn subnets_of(network: &Network) -> impl Iterator<Item = Ipv4Net> {
    let ipam = network.ipam.as_ref().and_then(|ipam| ipam.config.as_ref());
    let subnets = ipam.into_iter().flatten();
    subnets.filter_map(|config| config.subnet.as_ref()?.parse().ok())
}

fn exhausted(subnets: &Subnets) -> Error {
    Error::new(
        Code::LimitReached,
        format!("no addresses are left for another drone's network: docker.subnets is {subnets}"),
    )
    .hint(
        "slay a drone (`hatchery list`), remove networks of other programs in this range \
         (`docker network ls`, `ip route`), or add a private range to docker.subnets in the \
         configuration",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn addresses(place: &std::path::Path, subnets: &[&str]) -> Addresses {
        let subnets: Vec<String> = subnets.iter().map(ToString::to_string).collect();
        Addresses::new(Subnets::try_from(subnets).unwrap(), Places::under(place))
    }

    fn network(subnet: &str) -> Network {
        let shown =
            json!({"Name": "x", "IPAM": {"Config": [{"Subnet": "fd00::/64"}, {"Subnet": subnet}]}});
        serde_json::from_value(shown).unwrap()
    }

    #[tokio::test]
    async fn a_block_is_beside_all_networks_and_not_given_again() {
        let place = tempfile::tempdir().unwrap();
        let addresses = addresses(place.path(), &["10.189.0.0/25"]);
        let mut choice = addresses.choice().await.unwrap();
        let networks = [network("10.189.0.0/27"), network("172.17.0.0/16")];
        for subnet in ["10.189.0.32/27", "10.189.0.64/27", "10.189.0.96/27"] {
            let block = choice.next(&networks).unwrap();
            assert_eq!(block.0.to_string(), subnet);
        }
        let error = choice.next(&networks).unwrap_err();
        assert_eq!(error.code(), Code::LimitReached);
        assert!(error.message().contains("10.189.0.0/25"), "{error}");
        assert!(error.what_next().unwrap().contains("docker.subnets"));
    }

    #[tokio::test]
    async fn it_does_not_try_for_ever() {
        let place = tempfile::tempdir().unwrap();
        let addresses = addresses(place.path(), &["10.0.0.0/8"]);
        let mut choice = addresses.choice().await.unwrap();
        let given = (0..1000).take_while(|_| choice.next(&[]).is_ok()).count();
        assert_eq!(given, TRIES);
    }

    #[tokio::test]
    async fn one_chooses_at_a_time() {
        let place = tempfile::tempdir().unwrap();
        let addresses = addresses(place.path(), &["10.189.0.0/16"]);
        let first = addresses.choice().await.unwrap();
        let soon = std::time::Duration::from_millis(200);
        let second = tokio::time::timeout(soon, addresses.choice()).await;
        assert!(second.is_err(), "two choose at once");
        drop(first);
        // The one that has given up may be there first, and is gone at once.
        addresses.choice().await.unwrap();
    }

    #[test]
    fn a_block_is_named_by_its_beginning() {
        let block = |text: &str| Block(text.parse().unwrap());
        let device = |text| block(text).options().remove(OPTION_DEVICE).unwrap();
        assert_eq!(device("10.189.0.0/27"), "hatchery0abd000");
        assert_eq!(device("10.189.0.32/27"), "hatchery0abd002");
        assert_eq!(device("192.168.255.224/27"), "hatcheryc0a8ffe");
        assert_eq!(device("192.168.255.224/27").len(), 15);
        let ipam = serde_json::to_value(block("10.189.0.32/27").ipam()).unwrap();
        let config = json!([{"Subnet": "10.189.0.32/27", "Gateway": "10.189.0.33"}]);
        assert_eq!(ipam["Config"], config);
    }
}
