//! The credential service and what speaks to it, against a GitHub that is held to its own
//! published description.

mod bed;
mod caching;
mod client;
mod clock;
mod crowds;
mod daemon;
mod description;
mod docker;
mod drone;
mod ending;
mod fake;
mod flood;
mod fuzz;
mod gh;
mod github;
mod grants;
mod helper;
mod journal;
mod process;
mod requests;
mod revoking;
mod secrets;
mod starting;
mod swarm;
