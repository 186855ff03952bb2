//! Hatchery: devcontainers on one's own server.

pub mod clone;
pub mod config;
pub mod devcontainer;
pub mod docker;
pub mod drone;
pub mod error;
pub mod furnish;
pub mod hatching;
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
