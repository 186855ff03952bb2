//! The devcontainer CLI at work: how it is started, what it says, what stands between it and Docker.

pub mod cli;
pub mod contexts;
pub mod guard;
pub mod installs;
mod last_lines;
pub mod lifecycle;
mod questions;
pub mod shim;
