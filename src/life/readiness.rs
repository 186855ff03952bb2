//! Waiting until a drone is what it was made for: sshd answers, the tailnet knows it.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::docker::{Container, Docker};
use crate::drone::DroneName;
use crate::error::{Code, Error, Result};
use crate::life::way_in;
use crate::ssh;
use crate::tailnet;

/// How long sshd and tailscaled may take from the container's start.
const WITHIN: Duration = Duration::from_secs(30);
/// How long an sshd may take to answer that has answered before.
const STARTS_OVER_WITHIN: Duration = Duration::from_secs(5);
/// How long tailscaled may take before a firewall of the drone's own is thought of.
const BEFORE_A_FIREWALL: Duration = Duration::from_secs(8);
/// Between two tries: a connection refused costs next to nothing.
const PAUSE: Duration = Duration::from_millis(25);
/// How long one try may take.
const TRY: Duration = Duration::from_secs(2);

/// Waits for the banner of the drone's sshd.
pub async fn sshd(docker: &Docker, container: &str, name: &DroneName) -> Result<()> {
    let waiting = async {
        loop {
            let Some(state) = docker.container(container).await? else {
                return Err(ended(docker, container, name).await);
            };
            if state.ended() {
                return Err(ended(docker, container, name).await);
            }
            if sshd_answers(docker, &state).await {
                return Ok(());
            }
            sleep(PAUSE).await;
        }
    };
    timeout(WITHIN, waiting).await.unwrap_or_else(|_| {
        Err(Error::new(
            Code::DroneUnhealthy,
            format!("{name} is running, but no sshd answers on its port {}", ssh::PORT),
        )
        .hint(
            "the sshd feature must be installed and start as root; check `docker logs` of the container, and \
             `overrideCommand` in devcontainer.json",
        ))
    })
}

/// Whether an sshd answers at one of the container's addresses.
pub async fn sshd_answers(docker: &Docker, container: &Container) -> bool {
    sshd_at(docker, container).await.is_some()
}

/// The address of the container at which an sshd answers this server; in a tailnet it is the shorter way, and
/// this server need be no member.
pub async fn sshd_at(docker: &Docker, container: &Container) -> Option<SocketAddr> {
    for address in docker.addresses(container).await.unwrap_or_default() {
        if answers(address).await {
            return Some(SocketAddr::new(address, ssh::PORT));
        }
    }
    None
}

/// The same of an sshd that was just told to start over, or that starts with its drone.
pub async fn sshd_soon(docker: &Docker, container: &Container) -> Option<SocketAddr> {
    let waiting = async {
        loop {
            sleep(PAUSE).await;
            if let Some(address) = sshd_at(docker, container).await {
                return address;
            }
        }
    };
    timeout(STARTS_OVER_WITHIN, waiting).await.ok()
}

/// Reads the identification that an SSH server begins with (RFC 4253, section 4.2).
async fn answers(address: IpAddr) -> bool {
    let banner = async {
        let mut stream = TcpStream::connect(SocketAddr::new(address, ssh::PORT)).await?;
        let mut start = [0; 4];
        stream.read_exact(&mut start).await?;
        Ok::<_, std::io::Error>(&start == b"SSH-")
    };
    matches!(timeout(TRY, banner).await, Ok(Ok(true)))
}

async fn ended(docker: &Docker, container: &str, name: &DroneName) -> Error {
    let last_lines = docker.last_lines(container).await.unwrap_or_default();
    Error::new(
        Code::DroneUnhealthy,
        format!("{name}'s container stopped by itself"),
    )
    .hint("its last lines may show why")
    .with_details(last_lines)
}

/// Waits until the drone's tailscaled is connected under the drone's name, then greets its peers.
pub async fn node(docker: &Docker, container: &str, name: &DroneName) -> Result<()> {
    let inside = docker.inside(container);
    let at_once = tailnet::node::connected(&inside, BEFORE_A_FIREWALL).await;
    let status = if let Ok(status) = at_once {
        status
    } else {
        // A firewall of its own may have been quicker.
        way_in::open(docker, container).await;
        tailnet::node::connected(&inside, WITHIN).await?
    };
    if status.needs_login() {
        return Err(Error::new(
            Code::TailnetRefused,
            format!("{name} is no longer registered in the tailnet"),
        )
        .hint("`hatchery burrow`, then `hatchery unburrow`, register it again"));
    }
    if !status.own.is_called(name) {
        return Err(Error::new(
            Code::TailnetRefused,
            format!("{name} is called {} in the tailnet", status.own.label()),
        )
        .hint(
            "if tailnet.api_key_file is set, `hatchery recover` restores its name; `headscale nodes list` \
             shows which node has that name now",
        ));
    }
    // Without a greeting the first ssh of a peer takes 5 s; that it reaches nobody is no failure.
    let _ = tailnet::node::greet(&inside, &status).await;
    Ok(())
}
