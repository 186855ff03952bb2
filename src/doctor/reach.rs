//! What containers reach: tried from throw-away ones, on a network like a drone's and on Docker's own.

use std::path::Path;
use std::time::Duration;

use super::Finding;
use super::exposed;
use super::targets::{Facts, targets};
use super::units::Loader;
use super::verdicts::{Run, verdicts};
use crate::config::Config;
use crate::docker::{Addresses, Bridge, Docker, ENGINE_HINT, is_a_bridge};
use crate::error::{Code, Error, Result, host_io};
use crate::helper::probe;
use crate::host::Places;
use crate::life::furnish::credentials::Helper;

/// Docker's own network, on which images are built.
const DEFAULT_NETWORK: &str = "bridge";
/// How many other networks are tried.
const MAX_OTHERS: usize = 6;
/// How long the server itself may take to reach GitHub.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

pub(super) async fn findings(docker: &Docker, config: &Config, places: &Places) -> Vec<Finding> {
    match look(docker, config, places).await {
        Ok(findings) => findings,
        Err(error) => vec![Finding::of("reach", Err(error))],
    }
}

async fn look(docker: &Docker, config: &Config, places: &Places) -> Result<Vec<Finding>> {
    let helper = Helper::installed()?;
    let program = helper.path();
    let content = tokio::fs::read(program)
        .await
        .map_err(|error| host_io("read", program, error))?;
    let addresses = Addresses::new(config.docker.subnets.clone(), places.clone());
    let network = docker.create_probes_network(&addresses).await?;
    let (tried, executed, runtime) = tokio::join!(
        attempt(docker, config, &network, content.clone(), program),
        docker.try_exec(content.clone()),
        runtime(docker, config, content)
    );
    docker.remove_network(&network).await?;
    let executed = executed.map(|()| "programs can run in containers".to_owned());
    let executed = Finding::of("exec", executed);
    let own = vec![executed, runtime];
    Ok(match tried {
        Ok(findings) => [own, findings].concat(),
        Err(error) => [own, vec![Finding::of("reach", Err(error))]].concat(),
    })
}

/// Whether the configured runtime makes root in a container harmless.
async fn runtime(docker: &Docker, config: &Config, program: Vec<u8>) -> Finding {
    let Some(runtime) = config.docker.runtime else {
        return Finding::skipped(
            "runtime",
            "drones run in Docker's own runtime, without privileges",
        );
    };
    let tried = async {
        docker.machine().await?.has(Some(runtime))?;
        docker.root_of(runtime, program).await
    };
    let name = runtime.as_str();
    match tried.await {
        Ok(0) => Finding::problem(
            "runtime",
            format!("root in a container of {name} is root on this server"),
            format!(
                "check that {name} in /etc/docker/daemon.json is Sysbox; otherwise drones start, but \
                 programs that need privileges fail in them"
            ),
        ),
        Ok(user) => Finding::ok(
            "runtime",
            format!("root in a container of {name} is user {user} on this server"),
        ),
        Err(error) if error.what_next().is_none() => Finding::problem(
            "runtime",
            error.message(),
            "check that Sysbox is running (`systemctl status sysbox`)",
        ),
        Err(error) => Finding::of("runtime", Err(error)),
    }
}

async fn attempt(
    docker: &Docker,
    config: &Config,
    network: &str,
    program: Vec<u8>,
    path: &Path,
) -> Result<Vec<Finding>> {
    let bridges = docker.bridges().await?;
    let probed = probed(network, &bridges);
    let facts = facts(docker, config, &bridges, &probed).await?;
    let targets = targets(&facts);
    let networks: Vec<_> = probed.iter().map(|bridge| bridge.network.clone()).collect();
    let arguments: Vec<_> = ["probe".to_owned()]
        .into_iter()
        .chain(targets.iter().map(|target| target.address.clone()))
        .collect();
    let useless = |why: String| {
        Error::new(
            Code::DockerFailed,
            "cannot check what a container can reach",
        )
        .hint(hint(&why, path))
        .because(why)
    };
    let outputs = docker
        .run_on_networks(program, &arguments, &networks)
        .await
        .map_err(|error| useless(error.message()))?;
    if let Some(output) = outputs.iter().find(|output| output.status != 0) {
        return Err(useless(output.stderr.trim().to_owned()));
    }
    let runs: Vec<_> = probed
        .into_iter()
        .zip(&outputs)
        .map(|(bridge, output)| Run {
            network: bridge.network.clone(),
            stranger: (!is_a_bridge(&bridge.device)).then(|| bridge.device.clone()),
            outcomes: probe::read(&output.stdout)
                .map(|(address, outcome)| (address.to_owned(), outcome))
                .collect(),
        })
        .collect();
    Ok(verdicts(&facts, &targets, &runs))
}

/// What helps where the probe did not run: it is to blame where it cannot be executed.
fn hint(why: &str, path: &Path) -> String {
    let of_the_program = [
        "no such file or directory",
        "exec format error",
        "call it as",
    ];
    if of_the_program.iter().any(|part| why.contains(part)) {
        return format!(
            "check that {} is the static program that `make install` installs",
            path.display()
        );
    }
    ENGINE_HINT.to_owned()
}

async fn facts(
    docker: &Docker,
    config: &Config,
    bridges: &[Bridge],
    probed: &[&Bridge],
) -> Result<Facts> {
    let (endpoints, tailnet, internet, loader) = tokio::join!(
        docker.endpoints(),
        exposed::tailnet(),
        internet(config),
        Loader::find(),
    );
    let endpoints = endpoints?;
    let published = |port: &u16| endpoints.published.contains(port);
    let ports = exposed::ports().into_iter().filter(|port| !published(port));
    // The bridges' own first: a container has the shortest way to them.
    let mut addresses: Vec<_> = probed
        .iter()
        .flat_map(|bridge| bridge.gateways.clone())
        .collect();
    for address in exposed::addresses() {
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
        drones: bridges
            .iter()
            .filter(|bridge| bridge.is_drones)
            .filter_map(|bridge| endpoints.addresses.get(&bridge.network))
            .flatten()
            .copied()
            .collect(),
        internet,
        loader,
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

/// The networks to try from: the one that is like a drone's, Docker's own, and those with a name of
/// their own, by which the firewall goes.
fn probed<'a>(network: &str, bridges: &'a [Bridge]) -> Vec<&'a Bridge> {
    let named = |name: &str| bridges.iter().find(move |bridge| bridge.network == name);
    let usual = [named(network), named(DEFAULT_NETWORK)];
    let mut networks: Vec<_> = usual.into_iter().flatten().collect();
    let unknown = bridges
        .iter()
        .filter(|bridge| !is_a_bridge(&bridge.device) && !usual.contains(&Some(bridge)));
    networks.extend(unknown.take(MAX_OTHERS));
    networks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_probe_that_cannot_be_executed_is_put_down_to_the_probe() {
        let path = Path::new("/x/hatchery-drone");
        for (why, of_the_program) in [
            ("exec /hatchery-drone: no such file or directory", true),
            (
                "standard_init_linux.go:228: exec user process caused: exec format error",
                true,
            ),
            ("hatchery: call it as git-credential-hatchery or gh", true),
            (
                "OCI runtime create failed: error adding pid 7 to cgroups: unknown",
                false,
            ),
            (
                "failed to disable IPv6 on container's interface eth0",
                false,
            ),
            ("", false),
        ] {
            let hint = hint(why, path);
            assert_eq!(hint.contains("static"), of_the_program, "{why}: {hint}");
        }
    }
}
