//! A repository's devcontainer.json, and the CLI that runs it.
//!
//! A repository's configuration is a stranger's code, part of which would run on this server.
//! So the devcontainer CLI never sees it: [`Repository::read`] holds it against an allow list,
//! and [`Repository::prepare`] writes an own configuration from what passed. Nothing in these
//! two speaks to Docker or the network.

mod base;
mod build;
mod checkout;
pub mod cli;
mod compose;
mod contexts;
mod document;
pub mod features;
mod from;
mod gate;
pub mod guard;
mod images;
mod jsonc;
mod last_lines;
pub mod lifecycle;
mod local_feature;
mod locate;
mod metadata;
mod mounts;
mod overrides;
pub mod policy;
mod repository;
mod run_args;
pub mod shim;
mod variables;
mod verdict;
mod words;
mod workspace;
mod yaml;

pub(crate) use compose::{LOG, MAX_SERVICES, cpus};
pub(crate) use images::registry;
pub use locate::locate;
pub use metadata::{
    LABEL as METADATA_LABEL, SOCKETS_TARGET, check_image, check_metadata, parse_metadata,
};
pub use overrides::{ComposeProject, ImageFacts, Prepared, Seat};
pub use repository::Repository;
