//! A repository's devcontainer.json, and the CLI that runs it.
//!
//! A repository's configuration is a stranger's code, part of which would run on this server. So the
//! devcontainer CLI never sees it: [`Repository::judge`] holds it against an allow list and reports all that it
//! found, and [`Repository::prepare`] writes a configuration of hatchery's own from what passed. Neither of
//! them uses Docker or the network.
//!
//! - `reading`: text becomes values;
//! - `judging`: values are held against the policy;
//! - `building`: what is built, parsed and judged;
//! - `writing`: what the CLI is given;
//! - [`running`]: the CLI at work.

pub mod building;
pub(crate) mod judging;
mod reading;
mod repository;
pub mod running;
mod writing;

pub(crate) use judging::compose::{MAX_NETWORKS, MAX_SERVICES};
pub(crate) use judging::images::registry;
pub use judging::metadata::{
    LABEL as METADATA_LABEL, SOCKETS_TARGET, check_image, check_metadata, parse_metadata,
};
pub use judging::properties;
pub use judging::verdict::{Finding, Kind};
pub use reading::locate::{NO_TRUST_HELPS, locate};
pub use reading::variables::replaced;
pub use repository::{Judgement, Repository};
pub(crate) use writing::compose::LOG;
pub use writing::home::{HomeMount, takes_mounts};
pub use writing::overrides::{ComposeProject, ImageFacts, Prepared, Seat, is_number};
