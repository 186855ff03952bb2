//! The credential service: short-lived GitHub tokens for one drone, on a socket of its own.
//!
//! A request comes in through [`listener`] and [`server`], is read by [`http`], and is answered
//! by the drone's [`keeper`], which has a token or gets one: [`mint`] decides what to ask,
//! [`github`] asks it, [`token`] holds the grant against what was asked. [`revoke`] takes tokens
//! back, [`audit`] writes all of it down, [`lifetime`] ends the daemon when that loses nothing.

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
mod revoke;
pub mod server;
pub mod token;
