//! The Docker daemon, drones' networks and builders.

use serde::{Deserialize, Serialize};

use super::Checked;
use super::building::Builder;
use super::runtime::Runtime;
use super::subnets::Subnets;

/// The builder's image.
pub const BUILDKIT: &str = "docker.io/moby/buildkit:v0.26.0-rootless";

/// `[docker]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Docker {
    /// The Engine API, as in `DOCKER_HOST`.
    pub host: String,
    /// What drones' networks get their addresses from.
    pub subnets: Subnets,
    /// What builds untrusted repositories.
    pub builder: Builder,
    /// `BuildKit`'s image, the one that runs without root, for drones' own builders.
    pub buildkit: String,
    /// `NAME:ADDRESS` entries for the drones' `/etc/hosts`.
    pub extra_hosts: Vec<String>,
    /// What runs the containers of untrusted repositories, instead of Docker's default: with it, what asks for
    /// `privileged` works without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime: Option<Runtime>,
}

impl Default for Docker {
    fn default() -> Self {
        Self {
            host: "unix:///var/run/docker.sock".to_owned(),
            subnets: Subnets::default(),
            builder: Builder::default(),
            buildkit: BUILDKIT.to_owned(),
            extra_hosts: Vec::new(),
            runtime: None,
        }
    }
}

impl Docker {
    /// Refuses what cannot be: the key, and why.
    pub(super) fn check(&self) -> Checked {
        if self
            .host
            .strip_prefix("unix://")
            .is_none_or(|path| !path.starts_with('/'))
        {
            return Err((
                "docker.host",
                "must be unix:///PATH: drones live on this server".into(),
            ));
        }
        Ok(())
    }
}
