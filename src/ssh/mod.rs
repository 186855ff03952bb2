//! Who may log in to a drone, and how a drone proves who it is.
//!
//! [`identity`] holds this server's secret, from which every drone's host key follows; [`ca`]
//! signs them; [`authorized`] gathers the keys that may log in; [`files`] is what of it all goes
//! into the drone; [`trial`] is one login, to see that it works; [`client`] is a
//! person's own.

pub mod authorized;
pub mod ca;
pub mod client;
pub mod environment;
pub mod files;
pub mod identity;
pub mod trial;

pub use authorized::{AuthorizedKeys, authorized_keys};
pub use ca::Authority;
pub use files::{DroneFile, drone_files, with_settings};
pub use identity::ServerSecret;

/// Where sshd listens in a drone: what the sshd feature sets.
pub const PORT: u16 = 2222;
