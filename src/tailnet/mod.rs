//! The tailnet: joining, greeting and leaving.
//!
//! A drone's node is registered from outside, before the drone runs ([`join()`]): no auth key ever
//! enters a drone. [`node`] is what is then done in the running drone; [`headscale`] asks the
//! control server's API, where there is a key for it; [`names`] says which node is whose and gives
//! names back; [`policy`] is what the control server must enforce. [`status`] and `outside` are how
//! one reads and runs a tailscaled.

use std::future::Future;

use crate::error::Result;

pub mod headscale;
pub mod join;
pub mod names;
pub mod node;
mod outside;
pub mod policy;
pub mod status;

pub use headscale::Headscale;
pub use join::{Joined, Waiting, forget, join, refresh};
pub use names::{Owners, Place};
pub use status::Status;

/// A way to run programs in a drone, as root.
pub trait Inside {
    /// Runs this program with this standard input and waits for its end. What it prints comes
    /// from the drone: it is bounded, and not to be believed.
    fn run(&self, argv: &[&str], stdin: &[u8])
    -> impl Future<Output = Result<InsideOutput>> + Send;
}

/// How a program in a drone ended.
#[derive(Debug, Clone, Default)]
pub struct InsideOutput {
    /// The exit status; 126 and 127 where it could not be started.
    pub status: i64,
    /// What it wrote to standard output, bounded.
    pub stdout: Vec<u8>,
    /// What it wrote to standard error, bounded.
    pub stderr: Vec<u8>,
}
