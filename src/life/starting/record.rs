//! What this server remembers of a drone's last start. Without it the command is run at the next one all the
//! same.

use serde::{Deserialize, Serialize};

use super::setup::Setup;
use crate::drone::DroneName;
use crate::error::Result;
use crate::host::{Places, recalled};

/// A start of a drone for which `postStartCommand` was run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// The workspace's folder in the drone, where commands begin.
    pub folder: String,
    /// When the container was started, in Docker's words.
    pub ran_for: String,
    /// Whether the command was left running: it may close the way in at any moment.
    #[serde(default)]
    pub goes_on: bool,
    /// The parts of the volume that are mounted and are files, as paths in it.
    #[serde(default)]
    pub files: Vec<String>,
    /// Which of several configurations the container was made from, where one was chosen.
    #[serde(default)]
    pub config: Option<String>,
    /// What of the drone's setup has not come to a good end.
    #[serde(default)]
    pub setup: Setup,
}

impl Start {
    /// What is remembered, if anything is.
    pub fn of(places: &Places, drone: &DroneName) -> Result<Option<Self>> {
        const HINT: &str = "remove it; it is written again at the drone's next start";
        recalled(&places.start_file(drone), HINT)
    }

    /// Writes it down.
    pub fn write(&self, places: &Places, drone: &DroneName) -> Result<()> {
        places.remember(&places.start_file(drone), self)
    }
}
