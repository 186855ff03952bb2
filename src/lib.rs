//! Hatchery: devcontainers on one's own server. The map of the house:
//!
//! - what things are: [`repo`] and [`drone`] (names, scope, labels), [`drone_file`] (what a drone
//!   knows of itself), [`permission`], [`config`], [`secret`], [`error`];
//! - what a person meets: [`verbs`] (a file for each), [`ui`], [`voice`];
//! - how a drone comes to be: [`hatching`] goes through the steps; [`clone`](mod@clone) brings the
//!   repository, [`devcontainer`] judges its configuration and runs the CLI, [`images`] looks at
//!   the images that it names and [`inspection`] at the containers that came of it, [`furnish`]
//!   fills the drone, [`readiness`] waits for it;
//! - how it comes back: [`waking`] starts it, [`recovery`] finds those that should run and do not,
//!   [`registration`] remembers its node in the tailnet, [`siblings`] are the services beside it;
//! - how it goes: [`work`] looks for what would be lost, [`teardown`] removes the rest;
//! - whether the server is fit for it: [`doctor`];
//! - how it gets to GitHub: [`credd`] hands out tokens on its socket, [`sockets`] sees to it that
//!   somebody serves that, [`helper`] is what asks for tokens in the drone, [`journal`] remembers;
//! - what programs of others' may touch here: [`cage`];
//! - the edge: [`docker`], [`tailnet`], [`ssh`], [`http`], [`process`], [`host`].
//!
//! Data moves one way: verb, drone, edge.

#[cfg(feature = "server")]
pub mod cage;
#[cfg(feature = "server")]
pub mod clone;
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
pub mod drone;
pub mod drone_file;
#[cfg(feature = "server")]
pub mod error;
#[cfg(feature = "server")]
pub mod furnish;
#[cfg(feature = "server")]
pub mod hatching;
pub mod helper;
#[cfg(feature = "server")]
pub mod host;
#[cfg(feature = "server")]
pub mod http;
#[cfg(feature = "server")]
pub mod images;
#[cfg(feature = "server")]
pub mod inspection;
#[cfg(feature = "server")]
pub mod journal;
#[cfg(feature = "server")]
pub mod permission;
#[cfg(feature = "server")]
pub mod process;
#[cfg(feature = "server")]
pub mod readiness;
#[cfg(feature = "server")]
pub mod recovery;
#[cfg(feature = "server")]
pub mod registration;
pub mod repo;
#[cfg(feature = "server")]
pub mod secret;
#[cfg(feature = "server")]
pub mod server;
#[cfg(feature = "server")]
pub mod siblings;
#[cfg(feature = "server")]
pub mod sockets;
#[cfg(feature = "server")]
pub mod ssh;
#[cfg(feature = "server")]
pub mod tailnet;
#[cfg(feature = "server")]
pub mod teardown;
pub mod ui;
#[cfg(feature = "server")]
pub mod verbs;
#[cfg(feature = "server")]
pub mod voice;
#[cfg(feature = "server")]
pub mod waking;
#[cfg(feature = "server")]
pub mod work;
