//! GitHub or a GitHub Enterprise Server, and the App.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use url::Url;

use super::Checked;
use super::text::is_plain_url;
use crate::drone::permission::{Access, Permission};

/// `[github]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Github {
    /// Where repositories are cloned from.
    pub url: Url,
    /// Where the REST API is.
    pub api_url: Url,
    /// Client ID or numeric App ID, as a string.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app_id: Option<String>,
    /// The App's private key (PEM), where it is no credential of `hatchery-credd`'s unit alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub private_key_file: Option<PathBuf>,
    /// Certificates to trust beside the system's (PEM), here and in the drone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// What a drone's token may do unless said otherwise.
    pub permissions: BTreeMap<Permission, Access>,
}

impl Default for Github {
    fn default() -> Self {
        let url = |text: &str| Url::parse(text).expect("a constant URL; cannot fail");
        let permissions = [
            ("contents", Access::Write),
            ("pull_requests", Access::Write),
            ("issues", Access::Write),
            ("actions", Access::Read),
            ("checks", Access::Read),
            ("statuses", Access::Read),
            ("metadata", Access::Read),
        ];
        Self {
            url: url("https://github.com"),
            api_url: url("https://api.github.com"),
            app_id: None,
            private_key_file: None,
            ca_file: None,
            permissions: permissions
                .into_iter()
                .filter_map(|(name, access)| Some((name.parse().ok()?, access)))
                .collect(),
        }
    }
}

impl Github {
    /// Refuses what cannot be: the key, and why.
    pub(super) fn check(&self) -> Checked {
        for (key, url) in [("github.url", &self.url), ("github.api_url", &self.api_url)] {
            if url.scheme() != "https" || !is_plain_url(url) {
                return Err((
                    key,
                    format!("must be an https URL without user, query or fragment, not {url}"),
                ));
            }
        }
        for (permission, access) in &self.permissions {
            if !permission.allows(*access) {
                return Err((
                    "github.permissions",
                    format!("{permission} cannot be {access}"),
                ));
            }
        }
        if self.permissions.is_empty() {
            return Err((
                "github.permissions",
                "is empty; leave it out for the defaults".into(),
            ));
        }
        if self.app_id.is_none() && self.private_key_file.is_some() {
            return Err((
                "github.private_key_file",
                "needs github.app_id, which is not set".into(),
            ));
        }
        Ok(())
    }
}
