//! What is different for one drone.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Checked;
use crate::drone::permission::{Access, Permission};
use crate::repo::RepoId;

/// `[drones."org/repo"]`
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DroneSettings {
    /// The repositories of its scope, its own among them or not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub repositories: Vec<RepoId>,
    /// What its tokens may do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub permissions: Option<BTreeMap<Permission, Access>>,
    /// Files of this server's for its clone: each by its path there.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, PathBuf>,
    /// Secret variables for it, over those for all drones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env_file: Option<PathBuf>,
}

pub(super) fn own_env_file<'a>(
    (repo, drone): (&RepoId, &'a DroneSettings),
) -> Option<(&'a Path, String)> {
    let file = drone.env_file.as_deref()?;
    Some((file, format!("drones.\"{repo}\".env_file")))
}

/// Whether it names something in a clone, and nothing that is git's.
pub(super) fn is_path_in_clone(path: &str) -> bool {
    let mut parts = path.split('/');
    !path.is_empty()
        && parts.all(|part| !matches!(part, "" | "." | "..") && !part.eq_ignore_ascii_case(".git"))
}

impl DroneSettings {
    /// Refuses what cannot be: the key, and why.
    pub(super) fn check(&self) -> Checked {
        let permissions = self.permissions.iter().flatten();
        for (permission, access) in permissions {
            if !permission.allows(*access) {
                return Err(("drones", format!("{permission} cannot be {access}")));
            }
        }
        if self.permissions.as_ref().is_some_and(BTreeMap::is_empty) {
            return Err((
                "drones",
                "permissions are empty; leave them out for the defaults".into(),
            ));
        }
        Ok(())
    }
}
