//! What happens to a drone.
//!
//! - how it comes to be: [`hatching`] goes through the steps; [`clone`](mod@clone) brings the
//!   repository, [`hand_in`] adds files of this server's, [`builder`] builds its images, [`furnish`] fills
//!   the container, [`readiness`] waits for it, [`login`] tries whether a person gets in,
//!   [`recipe`] is what is remembered of that;
//! - how it comes back: [`waking`] starts it, [`starting`] does what is due after each start, [`recovery`] finds
//!   those that should run and do not, [`registration`] remembers its node in the tailnet, [`siblings`] are the
//!   services beside it, [`parts`] of the clone are put back where they are mounted, [`way_in`] is kept open
//!   through a firewall of its own;
//! - how it sleeps: [`burrowing`] stops it and keeps it whole, [`idle`] where nobody needs it;
//! - how it does: [`known`](mod@known) says what it is, [`activity`] tells what goes on in it, [`limits`] are those
//!   that a person gave it, [`metrics`] are for a monitoring system, [`memory`] tells of processes that the kernel
//!   has killed in it, [`disk`] of what it takes on Docker's disk, which [`bounds`] counts and keeps to its limit,
//!   while [`reserve`] is left for all;
//! - how it goes: [`work`] looks for what would be lost, [`teardown`] removes the rest.

pub mod activity;
pub mod bounds;
pub mod builder;
pub mod burrowing;
pub mod clone;
pub mod disk;
pub mod furnish;
pub mod hand_in;
pub mod hatching;
pub mod idle;
pub mod known;
pub mod limits;
pub mod login;
pub mod memory;
pub mod metrics;
pub mod parts;
pub mod ports;
pub mod readiness;
pub mod recipe;
pub mod recovery;
pub mod registration;
pub mod reserve;
pub mod siblings;
pub mod starting;
pub mod teardown;
pub mod waking;
pub mod way_in;
pub mod work;
