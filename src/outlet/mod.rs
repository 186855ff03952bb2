//! The outlet: the only way by which the devcontainer CLI reaches the network.
//!
//! What the CLI fetches is named by strangers: a feature's name, what that feature depends on, where
//! a registry redirects to, where it says that tokens are to be had. The CLI runs on this server, so
//! each of these could be a request to what only this server reaches: its own services, the tailnet,
//! a cloud's metadata. So while the CLI runs, hatchery is its HTTP proxy (RFC 9110, section 9.3.6):
//! it opens tunnels for TLS and serves nothing else, only to hosts that have a public kind of name
//! ([`barred_host`](crate::devcontainer::judging::images)), and only to addresses that a drone may
//! reach as well ([`judge`]).

mod judge;
mod pass;
mod serve;
#[cfg(test)]
mod tests;
mod way;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::task::JoinHandle;

use self::serve::Times;
use self::way::Ways;
use crate::config::Subnets;
use crate::error::{Result, host_io};
use crate::process::{NO_PROXIES, PROXIES};
use crate::ui::clean;

/// How many refusals are remembered.
const MAX_REFUSALS: usize = 8;

/// The longest host that is shown, in characters; a name has at most 253.
const MAX_SHOWN: usize = 260;

/// The host that the CLI itself asks for a list of bad features. It works without an answer, so a refusal is
/// not reported.
const OF_THE_CLI: &str = "containers.dev";

/// Something that was not fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The host that it would have come from.
    pub host: String,
    /// Why it may not.
    pub why: String,
}

/// What was refused so far.
#[derive(Debug, Default)]
struct Refusals(Mutex<Vec<Refusal>>);

impl Refusals {
    fn add(&self, host: &str, why: &str) {
        let host: String = clean::line(host).chars().take(MAX_SHOWN).collect();
        let refusal = Refusal {
            host,
            why: why.to_owned(),
        };
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let new = refusal.host != OF_THE_CLI && !all.contains(&refusal);
        if new && all.len() < MAX_REFUSALS {
            all.push(refusal);
        }
    }
}

/// An outlet that is open. Dropping it closes it, with all connections.
#[derive(Debug)]
pub struct Outlet {
    address: SocketAddr,
    refusals: Arc<Refusals>,
    serving: JoinHandle<()>,
}

impl Outlet {
    /// Opens an outlet on a free port of this server's loopback. `pool` is where drones' networks
    /// get their addresses from. Where hatchery has a proxy in its own environment, the outlet goes
    /// on through that.
    pub fn open(pool: Subnets) -> Result<Self> {
        Self::with(Ways::of_this_server(pool), Times::default())
    }

    fn with(ways: Ways, times: Times) -> Result<Self> {
        let listen = || {
            let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            listener.set_nonblocking(true)?;
            Ok((listener.local_addr()?, TcpListener::from_std(listener)?))
        };
        let (address, listener) =
            listen().map_err(|error| host_io("listen on", Path::new("127.0.0.1"), error))?;
        let refusals = Arc::new(Refusals::default());
        let serving = serve::serve(listener, Arc::new(ways), Arc::clone(&refusals), times);
        Ok(Self {
            address,
            refusals,
            serving: tokio::spawn(serving),
        })
    }

    /// The port that it listens on.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Sets the proxy variables of a program, so that it and all that it starts use this outlet for everything
    /// that they fetch. `ALL_PROXY` is left out: compose 1 would take it for Docker's socket as well.
    pub fn lead(&self, command: &mut Command) {
        let url = format!("http://{}", self.address);
        for name in PROXIES {
            command.env(name, &url);
        }
        for name in NO_PROXIES {
            command.env_remove(name);
        }
    }

    /// What was refused so far.
    pub fn refusals(&self) -> Vec<Refusal> {
        let all = self.refusals.0.lock();
        all.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        self.serving.abort();
    }
}
