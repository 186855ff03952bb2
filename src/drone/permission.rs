//! What an installation access token may do: the permissions of a GitHub App by name.
//!
//! Names and levels are those of the schema `app-permissions` of GitHub's published API
//! description (<https://github.com/github/rest-api-description>), and `actions_variables`,
//! which GitHub grants though the schema leaves it out.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A level of access.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// Look.
    Read,
    /// Look and change.
    Write,
    /// Everything.
    Admin,
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Admin => "admin",
        })
    }
}

impl FromStr for Access {
    type Err = UnknownPermission;

    fn from_str(text: &str) -> Result<Self, UnknownPermission> {
        match text {
            "read" => Ok(Self::Read),
            "write" => Ok(Self::Write),
            "admin" => Ok(Self::Admin),
            _ => Err(UnknownPermission(text.chars().take(60).collect())),
        }
    }
}

/// A permission that GitHub knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Permission(&'static str);

/// A permission or a level that GitHub does not know.
#[derive(Debug, thiserror::Error)]
#[error("GitHub has no permission or access level {0:?}")]
pub struct UnknownPermission(String);

impl Permission {
    /// The name, as in GitHub's API.
    pub const fn as_str(self) -> &'static str {
        self.0
    }

    /// Whether this permission has that level.
    pub fn allows(self, access: Access) -> bool {
        KNOWN
            .iter()
            .any(|(name, levels)| *name == self.0 && levels.contains(&access))
    }
}

impl FromStr for Permission {
    type Err = UnknownPermission;

    fn from_str(text: &str) -> Result<Self, UnknownPermission> {
        KNOWN
            .iter()
            .find(|(name, _)| *name == text)
            .map(|(name, _)| Self(name))
            .ok_or_else(|| UnknownPermission(text.chars().take(60).collect()))
    }
}

impl<'de> Deserialize<'de> for Permission {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

const READ: &[Access] = &[Access::Read];
const WRITE: &[Access] = &[Access::Write];
const READ_WRITE: &[Access] = &[Access::Read, Access::Write];
const ALL: &[Access] = &[Access::Read, Access::Write, Access::Admin];

const KNOWN: &[(&str, &[Access])] = &[
    ("actions", READ_WRITE),
    ("actions_variables", READ_WRITE),
    ("administration", READ_WRITE),
    ("artifact_metadata", READ_WRITE),
    ("attestations", READ_WRITE),
    ("checks", READ_WRITE),
    ("code_quality", READ_WRITE),
    ("codespaces", READ_WRITE),
    ("contents", READ_WRITE),
    ("custom_properties_for_organizations", READ_WRITE),
    ("dependabot_secrets", READ_WRITE),
    ("deployments", READ_WRITE),
    ("discussions", READ_WRITE),
    ("email_addresses", READ_WRITE),
    ("enterprise_custom_properties_for_organizations", ALL),
    ("environments", READ_WRITE),
    ("followers", READ_WRITE),
    ("git_ssh_keys", READ_WRITE),
    ("gpg_keys", READ_WRITE),
    ("interaction_limits", READ_WRITE),
    ("issues", READ_WRITE),
    ("members", READ_WRITE),
    ("merge_queues", READ_WRITE),
    ("metadata", READ_WRITE),
    ("organization_administration", READ_WRITE),
    ("organization_announcement_banners", READ_WRITE),
    ("organization_copilot_agent_settings", READ_WRITE),
    ("organization_copilot_seat_management", READ_WRITE),
    ("organization_custom_org_roles", READ_WRITE),
    ("organization_custom_properties", ALL),
    ("organization_custom_roles", READ_WRITE),
    ("organization_events", READ),
    ("organization_hooks", READ_WRITE),
    ("organization_packages", READ_WRITE),
    ("organization_personal_access_token_requests", READ_WRITE),
    ("organization_personal_access_tokens", READ_WRITE),
    ("organization_plan", READ),
    ("organization_projects", ALL),
    ("organization_secrets", READ_WRITE),
    ("organization_self_hosted_runners", READ_WRITE),
    ("organization_user_blocking", READ_WRITE),
    ("packages", READ_WRITE),
    ("pages", READ_WRITE),
    ("profile", WRITE),
    ("pull_requests", READ_WRITE),
    ("repository_custom_properties", READ_WRITE),
    ("repository_hooks", READ_WRITE),
    ("repository_projects", ALL),
    ("secret_scanning_alerts", READ_WRITE),
    ("secrets", READ_WRITE),
    ("security_events", READ_WRITE),
    ("single_file", READ_WRITE),
    ("starring", READ_WRITE),
    ("statuses", READ_WRITE),
    ("vulnerability_alerts", READ_WRITE),
    ("workflows", WRITE),
];
