//! The devcontainer CLI, and what repositories get from it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Checked;
use super::building::Known;
use super::home::{HomePath, InHome, SharedVolume};
use super::registries;

/// The properties that a feature or an object of options may have: JSON, as in devcontainer.json.
pub type FeatureOptions = serde_json::Value;

/// `[devcontainer]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Devcontainer {
    /// The devcontainer CLI.
    pub command: String,
    /// The image for a repository without a devcontainer.json.
    pub image: String,
    /// Features that a repository gets where it lacks them.
    pub features: BTreeMap<String, FeatureOptions>,
    /// Repositories (`org/repo`, `org/*`) that the gate lets through.
    pub trust: Vec<String>,
    /// What the CLI may read in its cage beside the system's and its own.
    pub readable: Vec<PathBuf>,
    /// Images and features (`ghcr.io/devcontainers/*`, or a whole name) whose code may run in Docker's
    /// shared builder.
    pub known: Vec<Known>,
    /// Secret variables for all drones: a file as for `docker run --env-file`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env_file: Option<PathBuf>,
    /// Directories of the user's home that outlive a container.
    pub home: Vec<HomePath>,
    /// Volumes that drones share, and where each is in the user's home.
    pub mounts: BTreeMap<SharedVolume, InHome>,
}

/// How many directories of the home may outlive a container: each is a volume.
const MAX_HOME_DIRECTORIES: usize = 32;

/// The feature that starts sshd on port 2222.
pub const SSHD_FEATURE: &str = "ghcr.io/devcontainers/features/sshd:1";
/// The feature that runs tailscaled.
pub const TAILSCALE_FEATURE: &str = "ghcr.io/tailscale/codespace/tailscale";

/// Microsoft's and Tailscale's.
const KNOWN: [&str; 3] = [
    "ghcr.io/devcontainers/*",
    "ghcr.io/tailscale/*",
    "mcr.microsoft.com/*",
];

impl Default for Devcontainer {
    fn default() -> Self {
        let no_options = || serde_json::Value::Object(serde_json::Map::new());
        Self {
            command: "devcontainer".to_owned(),
            image: "mcr.microsoft.com/devcontainers/base:ubuntu".to_owned(),
            features: BTreeMap::from([
                (SSHD_FEATURE.to_owned(), no_options()),
                (TAILSCALE_FEATURE.to_owned(), no_options()),
            ]),
            trust: Vec::new(),
            readable: Vec::new(),
            known: KNOWN
                .into_iter()
                .filter_map(|known| known.to_owned().try_into().ok())
                .collect(),
            env_file: None,
            home: Vec::new(),
            mounts: BTreeMap::new(),
        }
    }
}

impl Devcontainer {
    /// What is mounted in the user's home, each with the key that names it.
    fn in_home(&self) -> impl Iterator<Item = (&'static str, &HomePath)> {
        let own = self.home.iter().map(|path| ("devcontainer.home", path));
        let shared = self.mounts.values();
        own.chain(shared.map(|InHome(path)| ("devcontainer.mounts", path)))
    }

    /// Whether anything is mounted in the user's home.
    pub fn mounts_in_home(&self) -> bool {
        self.in_home().next().is_some()
    }

    /// Refuses what cannot be: the key, and why.
    pub(super) fn check(&self) -> Checked {
        if let Some(path) = self.readable.iter().find(|it| it.is_relative()) {
            return Err((
                "devcontainer.readable",
                format!("must contain only absolute paths, not {}", path.display()),
            ));
        }
        self.check_home()?;
        for pattern in &self.trust {
            if !registries::is_pattern(pattern) {
                return Err((
                    "devcontainer.trust",
                    format!("{pattern:?} is neither org/repo nor org/*"),
                ));
            }
        }
        for (feature, options) in &self.features {
            if !(options.is_object() || options.is_string() || options.is_boolean()) {
                return Err((
                    "devcontainer.features",
                    format!("the options of {feature} must be a table"),
                ));
            }
        }
        Ok(())
    }

    fn check_home(&self) -> Checked {
        let mut before: Vec<&HomePath> = Vec::new();
        for (key, one) in self.in_home() {
            if before.len() >= MAX_HOME_DIRECTORIES {
                let what = format!(
                    "lists more than {MAX_HOME_DIRECTORIES} directories in the home directory"
                );
                return Err((key, what));
            }
            if let Some(other) = before.iter().find(|it| it.overlaps(one)) {
                let (one, other) = (one.as_str(), other.as_str());
                let what =
                    format!("mounts at {other:?} and {one:?}, one of which is inside the other");
                return Err((key, what));
            }
            before.push(one);
        }
        Ok(())
    }
}
