//! What is tried from a container, and what the outcomes mean.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use super::{Finding, State};
use crate::helper::probe::Outcome;

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

/// What is there to be reached.
#[derive(Debug, Clone, Default)]
pub(super) struct Facts {
    /// This server's addresses.
    pub addresses: Vec<IpAddr>,
    /// Ports on which it listens.
    pub ports: BTreeSet<u16>,
    /// Machines of the tailnet that the server is in, by name; `None` where it is in none.
    pub peers: Option<Vec<(String, IpAddr)>>,
    /// Containers on the drones' network.
    pub drones: Vec<IpAddr>,
    /// `NAME:PORT` of GitHub, where the server itself reaches it.
    pub internet: Option<String>,
}

/// What a target is part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Zone {
    Tailnet,
    Server,
    Metadata,
    Drones,
    Internet,
}

/// One try.
#[derive(Debug, Clone)]
pub(super) struct Target {
    zone: Zone,
    /// `ADDRESS:PORT` or `NAME:PORT`.
    pub address: String,
    /// What a person calls it.
    name: String,
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

/// What came of it on one network.
pub(super) struct Run {
    /// The network's name.
    pub network: String,
    /// Each target's address with its outcome.
    pub outcomes: Vec<(String, Outcome)>,
}

impl Run {
    fn of(&self, target: &Target) -> Outcome {
        let mut outcomes = self.outcomes.iter();
        outcomes
            .find(|(address, _)| *address == target.address)
            .map_or(Outcome::Failed, |(_, outcome)| *outcome)
    }
}

/// What all outcomes mean.
pub(super) fn verdicts(facts: &Facts, targets: &[Target], runs: &[Run]) -> Vec<Finding> {
    let firewall = "`systemctl enable --now hatchery-firewall`; where it is active already, something has \
                    emptied the rules: `systemctl reload hatchery-firewall`";
    let neighbours = "the drones' network was not made by hatchery: slay the drones, remove it with \
                      `docker network rm`, and the next spawn makes it anew";
    let closed = |name, what: &str, zone, hint| match zone {
        Zone::Tailnet if facts.peers.is_none() => {
            Finding::skipped(name, "this server is in no tailnet itself")
        }
        Zone::Drones if facts.drones.is_empty() => {
            Finding::skipped(name, "no container is on the drones' network")
        }
        zone => verdict(name, what, zone, hint, targets, runs),
    };
    vec![
        closed(
            "reach-tailnet",
            "this server's tailnet",
            Zone::Tailnet,
            firewall,
        ),
        closed("reach-server", "this server itself", Zone::Server, firewall),
        closed(
            "reach-metadata",
            "the cloud's metadata",
            Zone::Metadata,
            firewall,
        ),
        closed("reach-drones", "each other", Zone::Drones, neighbours),
        internet(facts, targets, runs),
    ]
}

fn verdict(
    name: &'static str,
    what: &str,
    zone: Zone,
    hint: &str,
    targets: &[Target],
    runs: &[Run],
) -> Finding {
    let tried: Vec<_> = targets
        .iter()
        .filter(|target| target.zone == zone)
        .flat_map(|target| runs.iter().map(move |run| (target, run, run.of(target))))
        .filter(|(_, _, outcome)| *outcome != Outcome::Failed)
        .collect();
    if tried.is_empty() {
        return Finding::problem(
            name,
            format!("whether containers reach {what} could not be tried"),
            "try again; the containers of a probe need to start threads and open connections",
        );
    }
    let mut reached: Vec<&str> = Vec::new();
    let mut networks = BTreeSet::new();
    for (target, run, _) in tried.iter().filter(|(_, _, outcome)| outcome.reached()) {
        networks.insert(run.network.as_str());
        if !reached.contains(&target.name.as_str()) {
            reached.push(&target.name);
        }
    }
    if reached.is_empty() {
        let count = tried.len();
        return Finding::ok(
            name,
            format!("containers do not reach {what} ({count} tries)"),
        );
    }
    let more = reached.len().saturating_sub(4);
    reached.truncate(4);
    let more = if more > 0 {
        format!(" and {more} more")
    } else {
        String::new()
    };
    Finding::problem(
        name,
        format!(
            "containers on {} reach {what}: {}{more}",
            Vec::from_iter(networks).join(", "),
            reached.join(", ")
        ),
        hint,
    )
}

fn internet(facts: &Facts, targets: &[Target], runs: &[Run]) -> Finding {
    const NAME: &str = "reach-internet";
    let Some(target) = targets.iter().find(|target| target.zone == Zone::Internet) else {
        return Finding::skipped(NAME, "the server itself does not reach GitHub directly");
    };
    debug_assert_eq!(facts.internet.as_ref(), Some(&target.address));
    let bad: Vec<_> = runs
        .iter()
        .map(|run| (run, run.of(target)))
        .filter(|(_, outcome)| *outcome != Outcome::Connected)
        .collect();
    let Some((run, outcome)) = bad.first() else {
        return Finding::ok(NAME, format!("containers reach {}", target.name));
    };
    let (what, hint) = match outcome {
        Outcome::Unresolved => (
            "has no DNS",
            "where the server's resolver is on the server, containers do not reach it: name \
             another as \"dns\" in /etc/docker/daemon.json",
        ),
        _ => (
            "does not reach it, and the server does",
            "look at `sysctl net.ipv4.ip_forward` and at the server's other firewalls (forward)",
        ),
    };
    Finding {
        state: State::Problem,
        hint: Some(hint.to_owned()),
        ..Finding::ok(
            NAME,
            format!("{}: a container on {} {what}", target.name, run.network),
        )
    }
}
