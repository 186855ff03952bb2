//! What this server remembers of a drone's last start. Without it the command is run at the next one all the
//! same.

use serde::{Deserialize, Serialize};

use super::setup::Setup;
use crate::drone::DroneName;
use crate::error::{Code, Error, Result, host_io};
use crate::host::{Places, write_whole};

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
        let path = places.start_file(drone);
        match std::fs::read_to_string(&path) {
            Ok(text) => serde_json::from_str(&text).map(Some).map_err(|error| {
                Error::new(Code::HostFailed, format!("{} is damaged", path.display()))
                    .hint("remove it; it is written again at the drone's next start")
                    .because(error)
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(host_io("read", &path, error)),
        }
    }

    /// Writes it down.
    pub fn write(&self, places: &Places, drone: &DroneName) -> Result<()> {
        places.shared_directory(&places.scopes())?;
        let text = serde_json::json!(self).to_string();
        write_whole(&places.start_file(drone), 0o640, text.as_bytes())
    }
}
