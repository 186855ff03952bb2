//! The credential service and what speaks to it, against a GitHub that is held to its own
//! published description.

mod bed;
mod client;
mod clock;
mod description;
mod fake;
mod requests;
