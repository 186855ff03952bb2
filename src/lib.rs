//! Hatchery: devcontainers on one's own server. The map of the house:
//!
//! - what things are: [`repo`], [`drone`] (name, scope, labels, permissions), [`config`],
//!   [`secret`], [`error`];
//! - what a person meets: [`verbs`] (a file for each), [`ui`];
//! - what happens to a drone, from its first step to its last: [`life`];
//! - how a repository's configuration is read, judged and run: [`devcontainer`], with
//!   [`door`] between what runs it and Docker;
//! - whether the server is fit for it: [`doctor`];
//! - how it gets to GitHub: [`credd`] hands out tokens on its socket, [`sockets`] sees to it that
//!   somebody serves that, [`helper`] is what asks for tokens in the drone, [`journal`] remembers;
//! - what programs of others' may touch here: [`cage`]; what they may fetch: [`outlet`];
//! - the edge: [`docker`], [`tailnet`], [`ssh`], [`http`], [`process`], [`host`];
//! - how long each step of a spawn takes: [`timeline`];
//! - where a test kills it: [`failpoint`].
//!
//! Data moves one way: verb, drone, edge.

#[cfg(feature = "server")]
pub mod cage;
#[cfg(feature = "server")]
pub mod config;
#[cfg(feature = "server")]
pub mod credd;
#[cfg(feature = "server")]
pub mod devcontainer;
#[cfg(feature = "server")]
pub mod docker;
#[cfg(feature = "server")]
pub mod doctor;
#[cfg(feature = "server")]
pub mod door;
pub mod drone;
#[cfg(feature = "server")]
pub mod error;
#[cfg(feature = "server")]
pub mod failpoint;
pub mod helper;
#[cfg(feature = "server")]
pub mod host;
#[cfg(feature = "server")]
pub mod http;
#[cfg(feature = "server")]
pub mod journal;
#[cfg(feature = "server")]
pub mod life;
#[cfg(feature = "server")]
pub mod outlet;
#[cfg(feature = "server")]
pub mod process;
pub mod repo;
#[cfg(feature = "server")]
pub mod secret;
#[cfg(feature = "server")]
pub mod server;
#[cfg(feature = "server")]
pub mod sockets;
#[cfg(feature = "server")]
pub mod ssh;
#[cfg(feature = "server")]
pub mod tailnet;
#[cfg(feature = "server")]
pub mod timeline;
pub mod ui;
#[cfg(feature = "server")]
pub mod verbs;
