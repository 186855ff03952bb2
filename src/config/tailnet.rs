//! The tailnet that drones join.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use url::Url;

use super::Checked;
use super::text::is_plain_url;

/// `[tailnet]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tailnet {
    /// Headscale.
    pub login_server: Url,
    /// The tailnet's DNS domain (Headscale's `dns.base_domain`).
    pub domain: String,
    /// The Headscale user that owns the drones' nodes.
    #[serde(default = "default_user")]
    pub user: String,
    /// A reusable, ephemeral pre-auth key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth_key_file: Option<PathBuf>,
    /// A Headscale API key; each join then gets a single-use key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_key_file: Option<PathBuf>,
}

fn default_user() -> String {
    "devcontainer".to_owned()
}

impl Tailnet {
    /// Refuses what cannot be: the key, and why.
    pub(super) fn check(&self) -> Checked {
        if !matches!(self.login_server.scheme(), "https" | "http")
            || !is_plain_url(&self.login_server)
        {
            return Err((
                "tailnet.login_server",
                "must be an http or https URL".into(),
            ));
        }
        if !is_domain(&self.domain) {
            return Err((
                "tailnet.domain",
                format!("{:?} is not a DNS domain", self.domain),
            ));
        }
        if self.auth_key_file.is_none() && self.api_key_file.is_none() {
            return Err((
                "tailnet.auth_key_file",
                "or tailnet.api_key_file is needed to join drones".into(),
            ));
        }
        Ok(())
    }
}

fn is_domain(text: &str) -> bool {
    text.len() <= 253
        && text.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
        })
}
