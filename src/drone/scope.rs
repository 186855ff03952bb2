//! What a drone's tokens are good for.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::drone::permission::{Access, Permission};
use crate::repo::RepoId;

/// What a drone's tokens may touch. It stays the same for as long as the drone's container is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Scope {
    repositories: Vec<RepoId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    permissions: Option<BTreeMap<Permission, Access>>,
}

/// Why a scope is not one.
#[derive(Debug, thiserror::Error)]
pub enum ScopeError {
    /// Not the JSON of a scope; unknown keys and permissions included.
    #[error("not a scope: {0}")]
    Json(#[from] serde_json::Error),
    /// No repository in it.
    #[error("a scope names at least the drone's own repository")]
    Empty,
    /// The same repository twice, in whatever case.
    #[error("{0} is named twice")]
    Twice(RepoId),
    /// A permission table without an entry.
    #[error("an empty set of permissions; leave it out to use the configuration's")]
    NoPermission,
    /// A level that this permission does not have.
    #[error("the permission {0} cannot be {1}")]
    Level(Permission, Access),
}

impl Scope {
    /// A scope of these repositories, the drone's own first. Absent permissions are the
    /// configuration's.
    pub fn new(
        repositories: Vec<RepoId>,
        permissions: Option<BTreeMap<Permission, Access>>,
    ) -> Result<Self, ScopeError> {
        if repositories.is_empty() {
            return Err(ScopeError::Empty);
        }
        for (index, repo) in repositories.iter().enumerate() {
            if repositories[..index].contains(repo) {
                return Err(ScopeError::Twice(repo.clone()));
            }
        }
        if let Some(permissions) = &permissions {
            if permissions.is_empty() {
                return Err(ScopeError::NoPermission);
            }
            for (&permission, &access) in permissions {
                if !permission.allows(access) {
                    return Err(ScopeError::Level(permission, access));
                }
            }
        }
        Ok(Self {
            repositories,
            permissions,
        })
    }

    /// Reads the label's (or the scope file's) JSON.
    pub fn from_json(text: &str) -> Result<Self, ScopeError> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Raw {
            repositories: Vec<RepoId>,
            permissions: Option<BTreeMap<Permission, Access>>,
        }
        let raw: Raw = serde_json::from_str(text)?;
        Self::new(raw.repositories, raw.permissions)
    }

    /// The JSON for the label.
    pub fn to_json(&self) -> String {
        serde_json::json!(self).to_string()
    }

    /// The drone's own repository.
    pub fn own(&self) -> &RepoId {
        // A scope cannot be made without one.
        &self.repositories[0]
    }

    /// All repositories, the own first.
    pub fn repositories(&self) -> &[RepoId] {
        &self.repositories
    }

    /// What this drone's tokens may do, where it was said for this drone.
    pub fn permissions(&self) -> Option<&BTreeMap<Permission, Access>> {
        self.permissions.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_scope_takes_only_what_it_knows() {
        for bad in [
            r#"{"repositories":[]}"#,
            r#"{"repositories":["a/b","A/B"]}"#,
            r#"{"repositories":["a/b"],"permissions":{}}"#,
            r#"{"repositories":["a/b"],"permissions":{"contents":"own"}}"#,
            r#"{"repositories":["a/b"],"permissions":{"contents":"admin"}}"#,
            r#"{"repositories":["a/b"],"permissions":{"everything":"read"}}"#,
            r#"{"repositories":["a/b"],"more":1}"#,
            r#"{"repositories":["a/b/c"]}"#,
            "",
            "[]",
        ] {
            assert!(Scope::from_json(bad).is_err(), "{bad} was taken");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,80}") {
            let _ = Scope::from_json(&text);
        }
    }
}
