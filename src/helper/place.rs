//! What a drone knows of itself: the directory that the server mounts into it.

use std::path::PathBuf;

use super::Result;
use crate::drone::file::{self, DroneFile};
use crate::repo::RepoId;

/// Where the server's directory is in a drone. `HATCHERY_DIR` names another, for the server's own
/// use of a drone's socket.
const DIRECTORY: &str = "/run/hatchery";

/// The drone's place in the world.
pub struct Place {
    host: String,
    repositories: Vec<RepoId>,
    directory: PathBuf,
}

impl Place {
    /// Reads `drone.json`.
    pub(super) fn read() -> Result<Self> {
        let directory = directory();
        let path = directory.join(file::NAME);
        let unreadable = |why: &dyn std::fmt::Display| {
            format!(
                "{} cannot be read ({why}); is this a drone, and is the server's directory mounted?",
                path.display()
            )
        };
        let drone = DroneFile::read(&directory).map_err(|error| unreadable(&error))?;
        Self::new(drone, directory).ok_or_else(|| unreadable(&"its url is not an https URL"))
    }

    /// The place of a drone that knows this; none where its GitHub is at no https URL.
    pub fn new(drone: DroneFile, directory: PathBuf) -> Option<Self> {
        let host = drone
            .url
            .strip_prefix("https://")
            .and_then(|rest| rest.split('/').next())
            .filter(|host| !host.is_empty() && !host.contains('@'))?;
        Some(Self {
            host: without_default_port(host).to_ascii_lowercase(),
            repositories: drone.repositories,
            directory,
        })
    }

    /// GitHub's host, in lower case, with its port where that is not 443.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Whether this is GitHub's host, in any case, with or without its default port.
    pub fn is_host(&self, host: &str) -> bool {
        without_default_port(host).eq_ignore_ascii_case(&self.host)
    }

    /// Whether this repository is one of the drone's.
    pub fn holds(&self, repo: &RepoId) -> bool {
        self.repositories.contains(repo)
    }
}

/// The server's directory in this drone.
fn directory() -> PathBuf {
    std::env::var_os("HATCHERY_DIR").map_or_else(|| DIRECTORY.into(), PathBuf::from)
}

impl Place {
    /// The drone's socket.
    pub fn socket(&self) -> PathBuf {
        self.directory.join(file::SOCKET)
    }
}

fn without_default_port(host: &str) -> &str {
    host.strip_suffix(":443").unwrap_or(host)
}
