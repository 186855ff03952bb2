//! The credential service: short-lived GitHub tokens for a drone, on a socket of its own.
//!
//! A request comes in through [`listener`] and [`server`], is read by [`http`], and is answered
//! by the drone's [`keeper`], which has a token or gets one: [`mint`] decides what to ask,
//! [`github`] asks it, [`token`] holds the grant against what was asked. [`revoke`] takes tokens
//! back, [`audit`] writes all of it down, [`lifetime`] ends the daemon when that loses nothing.
//!
//! That is one drone's. Without systemd [`swarm`] follows Docker and has a [`post`] for each drone
//! that there is; [`reconcile`] says what is to do when that changes.

pub mod audit;
pub mod budget;
pub mod clock;
pub mod daemon;
pub mod failure;
pub mod github;
pub mod http;
pub mod jwt;
pub mod keeper;
pub mod lifetime;
pub mod listener;
pub mod mint;
pub mod post;
pub mod reconcile;
mod revoke;
pub mod server;
pub mod swarm;
pub mod token;
