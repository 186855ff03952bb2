//! The Zerg's words, in one place. They are the owner's, word for word; a plain line always follows.

use crate::error::Code;

/// What the hatchery says when a drone has come up. Where no symbol can be shown the lamp is left out.
pub const fn spawned(symbols: bool) -> &'static str {
    if symbols {
        "Spawning drone... 🟢 Hatchery ready."
    } else {
        "Spawning drone... Hatchery ready."
    }
}

/// What the hatchery says of memory that has run out, or nearly.
pub const OUT_OF_MEMORY: &str = "Nuclear launch detected.";

/// What the hatchery says of a drone that takes too much of the disk.
pub const DISK_TAKEN: &str = "Insufficient vespene gas.";

/// What the hatchery says of a failure, where it has a word for it.
pub const fn lament(code: Code) -> Option<&'static str> {
    match code {
        Code::RepositoryNotFound => Some("We require more minerals."),
        Code::LimitReached => Some("Spawn more overlords. Insufficient vespene gas."),
        Code::DroneNotFound => {
            Some("Your warriors have engaged the enemy. ...just kidding. Drone not found.")
        }
        Code::DroneExists => Some("Evolution chamber occupied."),
        _ => None,
    }
}
