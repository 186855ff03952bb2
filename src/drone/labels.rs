//! The labels of Docker's that are the only record of a drone.

use std::collections::HashMap;

use crate::drone::{DroneName, Identity, Scope, ScopeError};
use crate::repo::RepoId;

/// Label with the drone's name; the list of drones is a query for it.
pub const LABEL_DRONE: &str = "hatchery.drone";
/// Label with the repository, as `org/repo`; it decides where two repositories share a name.
pub const LABEL_REPO: &str = "hatchery.repo";
/// Label with the [`Scope`] as JSON.
pub const LABEL_SCOPE: &str = "hatchery.scope";
/// Label with the [`Head`](crate::drone::head::Head) as JSON, on drones that were not started from the default branch.
pub const LABEL_HEAD: &str = "hatchery.head";
/// Label with the version of this set of labels.
pub const LABEL_SCHEMA: &str = "hatchery.schema";
/// The version that this hatchery writes and reads.
pub const SCHEMA: &str = "1";

/// Why labels do not make a drone.
#[derive(Debug, thiserror::Error)]
pub enum LabelError {
    /// A label that every drone has is absent.
    #[error("the label {0} is missing")]
    Missing(&'static str),
    /// Written by another version of hatchery.
    #[error("labels of schema {0:?}; this hatchery reads {SCHEMA}")]
    Schema(String),
    /// Not a drone's name.
    #[error("{0:?} is not a drone's name")]
    Name(String),
    /// Not a repository.
    #[error("the label {LABEL_REPO}: {0}")]
    Repo(#[from] crate::repo::RepoIdError),
    /// Not a scope.
    #[error("the label {LABEL_SCOPE}: {0}")]
    Scope(#[from] ScopeError),
    /// Not something to start from.
    #[error("the label {LABEL_HEAD}: {0}")]
    Head(serde_json::Error),
    /// The name and the repository do not belong together.
    #[error("{0} is not the drone of {1}")]
    Mismatch(DroneName, RepoId),
}

impl Identity {
    /// The labels as key and value.
    pub fn labels(&self) -> Vec<(&'static str, String)> {
        let head = self.head.iter().map(|head| (LABEL_HEAD, head.to_json()));
        let always = [
            (LABEL_DRONE, self.name.to_string()),
            (LABEL_REPO, self.repo.to_string()),
            (LABEL_SCOPE, self.scope.to_json()),
            (LABEL_SCHEMA, SCHEMA.to_owned()),
        ];
        always.into_iter().chain(head).collect()
    }

    /// The same as Docker takes them.
    pub fn label_map(&self) -> HashMap<String, String> {
        let labels = self.labels().into_iter();
        labels.map(|(key, value)| (key.to_owned(), value)).collect()
    }

    /// The labels that stay the same for as long as the drone is there, whatever its scope becomes: the
    /// devcontainer CLI finds it by them, and makes `${devcontainerId}` of them.
    pub fn lasting_labels(&self) -> [(&'static str, String); 3] {
        [
            (LABEL_DRONE, self.name.to_string()),
            (LABEL_REPO, self.repo.to_string()),
            (LABEL_SCHEMA, SCHEMA.to_owned()),
        ]
    }

    /// Reads the labels back.
    pub fn from_labels(labels: &HashMap<String, String>) -> Result<Self, LabelError> {
        let get = |key: &'static str| labels.get(key).ok_or(LabelError::Missing(key));
        let schema = get(LABEL_SCHEMA)?;
        if schema != SCHEMA {
            return Err(LabelError::Schema(schema.clone()));
        }
        let name = get(LABEL_DRONE)?;
        let name = DroneName::from_label(name).ok_or_else(|| LabelError::Name(name.clone()))?;
        let repo: RepoId = get(LABEL_REPO)?.parse()?;
        let scope = Scope::from_json(get(LABEL_SCOPE)?)?;
        if DroneName::of(&repo) != name || scope.own() != &repo {
            return Err(LabelError::Mismatch(name, repo));
        }
        // The door empties what an image claims.
        let head = labels.get(LABEL_HEAD).filter(|text| !text.is_empty());
        let head = head.map(|text| serde_json::from_str(text));
        Ok(Self {
            repo,
            name,
            scope,
            head: head.transpose().map_err(LabelError::Head)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::drone::head::Head;
    use crate::drone::name::tests::repo;
    use crate::drone::permission::Access;

    #[test]
    fn labels_of_another_schema_or_owner_are_not_taken() {
        let identity = Identity::new(Scope::from_json(r#"{"repositories":["a/b"]}"#).unwrap());
        let with = |key: &str, value: &str| {
            let mut labels: HashMap<String, String> = identity.label_map();
            labels.insert(key.to_owned(), value.to_owned());
            Identity::from_labels(&labels)
        };
        assert!(with("other", "x").is_ok());
        assert!(matches!(
            with(LABEL_SCHEMA, "2"),
            Err(LabelError::Schema(_))
        ));
        assert!(matches!(with(LABEL_DRONE, "A_b"), Err(LabelError::Name(_))));
        assert!(matches!(
            with(LABEL_DRONE, "a-c"),
            Err(LabelError::Mismatch(..))
        ));
        assert!(matches!(
            with(LABEL_REPO, "a/c"),
            Err(LabelError::Mismatch(..))
        ));
        assert!(with(LABEL_SCOPE, r#"{"repositories":["x/y"]}"#).is_err());
        assert_eq!(with(LABEL_HEAD, "").unwrap(), identity);
        assert!(matches!(with(LABEL_HEAD, "{}"), Err(LabelError::Head(_))));
        let strangers = with(
            LABEL_HEAD,
            r#"{"kind":"stranger","number":7,"trusted":false}"#,
        );
        assert!(strangers.unwrap().is_strangers() && !identity.is_strangers());
    }

    proptest! {
        #[test]
        fn labels_read_back_as_they_were_written(own in repo(), others in proptest::collection::vec(repo(), 0..4), narrow in any::<bool>()) {
            let mut repositories = vec![own];
            for other in others {
                if !repositories.contains(&other) {
                    repositories.push(other);
                }
            }
            let permissions = narrow.then(|| BTreeMap::from([("contents".parse().unwrap(), Access::Read)]));
            let identity = Identity::new(Scope::new(repositories, permissions).unwrap());
            let head = narrow.then_some(Head::Stranger { number: 7, trusted: false });
            let identity = identity.started_from(head);
            let labels = identity.label_map();
            prop_assert_eq!(Identity::from_labels(&labels).unwrap(), identity);
        }
    }
}
