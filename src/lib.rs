//! Hatchery: devcontainers on one's own server.

pub mod config;
pub mod devcontainer;
pub mod drone;
pub mod error;
pub mod http;
pub mod permission;
pub mod repo;
pub mod secret;
pub mod ssh;
pub mod tailnet;
pub mod voice;
