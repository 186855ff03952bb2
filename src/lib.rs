//! Hatchery: devcontainers on one's own server. The map of the house:
//!
//! - what things are: [`repo`] and [`drone`] (names, scope, labels), [`drone_file`] (what a drone
//!   knows of itself), [`permission`], [`config`], [`secret`], [`error`];
//! - what a person meets: [`verbs`] (a file for each), [`ui`], [`voice`];
//! - how a drone comes to be: [`hatching`] goes through the steps; [`clone`](mod@clone) brings the
//!   repository, [`devcontainer`] judges its configuration and runs the CLI, [`inspection`] looks at
//!   the container that came of it, [`furnish`] fills it, [`readiness`] waits for it;
//! - how it goes: [`work`] looks for what would be lost, [`teardown`] removes the rest;
//! - how it gets to GitHub: [`credd`] hands out tokens on its socket, [`helper`] is what asks for
//!   them in the drone;
//! - the edge: [`docker`], [`tailnet`], [`ssh`], [`http`], [`process`], [`host`].
//!
//! Data moves one way: verb, drone, edge.

pub mod clone;
pub mod config;
pub mod credd;
pub mod devcontainer;
pub mod docker;
pub mod drone;
pub mod drone_file;
pub mod error;
pub mod furnish;
pub mod hatching;
pub mod helper;
pub mod host;
pub mod http;
pub mod inspection;
pub mod permission;
pub mod process;
pub mod readiness;
pub mod repo;
pub mod secret;
pub mod ssh;
pub mod tailnet;
pub mod teardown;
pub mod ui;
pub mod verbs;
pub mod voice;
pub mod work;
