//! What containers reach: tried from throw-away ones, on the drones' network and on Docker's own.

use std::path::Path;
use std::time::Duration;

use super::Finding;
use super::host;
use super::targets::{Facts, Run, targets, verdicts};
use crate::config::Config;
use crate::docker::{Bridge, Docker};
use crate::error::{Code, Error, Result, host_io};
use crate::helper::probe;
use crate::host::{Places, drone_program};
use crate::teardown;

/// Docker's own network, on which images are built.
const DEFAULT_NETWORK: &str = "bridge";
/// How long the server itself may take to reach GitHub.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

pub(super) async fn findings(docker: &Docker, config: &Config, places: &Places) -> Vec<Finding> {
    match look(docker, config, places).await {
        Ok(findings) => findings,
        Err(error) => vec![Finding::of("reach", Err(error))],
    }
}

async fn look(docker: &Docker, config: &Config, places: &Places) -> Result<Vec<Finding>> {
    let network = &config.docker.network;
    let program = drone_program()?;
    let content = tokio::fs::read(&program)
        .await
        .map_err(|error| host_io("read", &program, error))?;
    // As a spawn does: no slay takes the network away meanwhile.
    let shared = places.network_lock(false)?;
    docker.ensure_network(network).await?;
    let tried = attempt(docker, config, content, &program).await;
    drop(shared);
    teardown::last_one_out(docker, config, places).await?;
    tried
}

async fn attempt(
    docker: &Docker,
    config: &Config,
    program: Vec<u8>,
    path: &Path,
) -> Result<Vec<Finding>> {
    let bridges = docker.bridges().await?;
    let facts = facts(docker, config, &bridges).await?;
    let targets = targets(&facts);
    let networks = [config.docker.network.clone(), DEFAULT_NETWORK.to_owned()];
    let arguments: Vec<_> = ["probe".to_owned()]
        .into_iter()
        .chain(targets.iter().map(|target| target.address.clone()))
        .collect();
    let outputs = docker
        .run_on_networks(program, &arguments, &networks)
        .await
        .map_err(|error| {
            Error::new(Code::DockerFailed, "cannot try what a container reaches")
                .hint(format!(
                    "is {} the static program that `make install` installs?",
                    path.display()
                ))
                .because(error.message())
        })?;
    let runs: Vec<_> = networks
        .into_iter()
        .zip(&outputs)
        .map(|(network, output)| Run {
            network,
            outcomes: probe::read(&output.stdout)
                .map(|(address, outcome)| (address.to_owned(), outcome))
                .collect(),
        })
        .collect();
    let mut findings = verdicts(&facts, &targets, &runs);
    findings.push(names(&bridges));
    Ok(findings)
}

async fn facts(docker: &Docker, config: &Config, bridges: &[Bridge]) -> Result<Facts> {
    let (endpoints, tailnet, internet) =
        tokio::join!(docker.endpoints(), host::tailnet(), internet(config));
    let mut endpoints = endpoints?;
    let published = |port: &u16| endpoints.published.contains(port);
    let ports = host::ports().into_iter().filter(|port| !published(port));
    // The bridges' own first: a container has the shortest way to them.
    let probed = |bridge: &&Bridge| {
        [config.docker.network.as_str(), DEFAULT_NETWORK].contains(&bridge.network.as_str())
    };
    let mut addresses: Vec<_> = bridges
        .iter()
        .filter(probed)
        .flat_map(|bridge| bridge.gateways.clone())
        .collect();
    for address in host::addresses() {
        let of_bridge = bridges
            .iter()
            .any(|bridge| bridge.gateways.contains(&address));
        if !of_bridge {
            addresses.push(address);
        }
    }
    Ok(Facts {
        addresses,
        ports: ports.collect(),
        peers: tailnet.map(|status| {
            let online = status.peers.into_iter().filter(|peer| peer.online);
            online
                .filter_map(|peer| Some((peer.label().to_owned(), *peer.addresses.first()?)))
                .collect()
        }),
        drones: endpoints
            .addresses
            .remove(&config.docker.network)
            .unwrap_or_default(),
        internet,
    })
}

/// `NAME:PORT` of GitHub, if this server gets there.
async fn internet(config: &Config) -> Option<String> {
    let url = &config.github.url;
    let target = format!("{}:{}", url.host_str()?, url.port_or_known_default()?);
    let connecting = tokio::net::TcpStream::connect(target.clone());
    let connected = tokio::time::timeout(CONNECT_WITHIN, connecting).await;
    matches!(connected, Ok(Ok(_))).then_some(target)
}

/// Whether the firewall knows all of Docker's bridges: it goes by their names.
fn names(bridges: &[Bridge]) -> Finding {
    const NAME: &str = "bridges";
    let unknown: Vec<_> = bridges
        .iter()
        .filter(|bridge| !is_known(&bridge.device))
        .map(|bridge| bridge.device.as_str())
        .collect();
    let Some(first) = unknown.first() else {
        return Finding::ok(
            NAME,
            format!("the firewall knows all {} of Docker's", bridges.len()),
        );
    };
    Finding::problem(
        NAME,
        format!("the firewall does not know {}", unknown.join(", ")),
        format!(
            "write `add element inet hatchery closed {{ \"{first}\" }}` into \
             /etc/hatchery/firewall.d/{first}.nft and `systemctl reload hatchery-firewall`, or \
             remove the network"
        ),
    )
}

/// The names in `systemd/hatchery.nft`.
fn is_known(device: &str) -> bool {
    matches!(device, "docker0" | "docker_gwbridge" | "hatchery0")
        || device
            .strip_prefix("br-")
            .and_then(|rest| rest.chars().next())
            .is_some_and(|first| matches!(first, '0'..='9' | 'a'..='f'))
}
