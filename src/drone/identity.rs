//! What a drone is: its name, its scope, and the labels that are its only record.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::drone::head::Head;
use crate::drone::permission::{Access, Permission};
use crate::repo::RepoId;

/// Label with the drone's name; the list of drones is a query for it.
pub const LABEL_DRONE: &str = "hatchery.drone";
/// Label with the repository, as `org/repo`; it decides where two repositories share a name.
pub const LABEL_REPO: &str = "hatchery.repo";
/// Label with the [`Scope`] as JSON.
pub const LABEL_SCOPE: &str = "hatchery.scope";
/// Label with the [`Head`] as JSON, on drones that were not started from the default branch.
pub const LABEL_HEAD: &str = "hatchery.head";
/// Label with the version of this set of labels.
pub const LABEL_SCHEMA: &str = "hatchery.schema";
/// The version that this hatchery writes and reads.
pub const SCHEMA: &str = "1";

/// The longest DNS label (RFC 1035, section 2.3.4).
const MAX_NAME: usize = 63;
/// Hex digits of the repository's hash at the end of a name that was cut.
const HASH_DIGITS: usize = 6;

/// `org-repo`: tailnet hostname, container, volume, socket and label value in one; a DNS label.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct DroneName(String);

impl DroneName {
    /// The name of this repository's drone.
    pub fn of(repo: &RepoId) -> Self {
        let key = repo.key();
        let mut name = squeezed(&key.replace('/', "-"));
        if name.len() > MAX_NAME {
            let hash = Sha256::digest(key.as_bytes());
            name.truncate(MAX_NAME - HASH_DIGITS - 1);
            name = format!(
                "{}-{:02x}{:02x}{:02x}",
                name.trim_end_matches('-'),
                hash[0],
                hash[1],
                hash[2]
            );
        }
        Self(name)
    }

    /// The name in a label, where it is one that [`DroneName::of`] can give.
    pub fn from_label(text: &str) -> Option<Self> {
        let valid = (1..=MAX_NAME).contains(&text.len()) && squeezed(text) == text;
        valid.then(|| Self(text.to_owned()))
    }

    /// Whether a volume of this name can be no other drone's. No drone's name has an underscore or
    /// a dot: compose joins its project and the volume with the one, the gate with the other. `id`
    /// is the drone's `devcontainerId`.
    pub fn owns(&self, id: &str, volume: &str) -> bool {
        let anonymous = volume.is_empty()
            || (volume.len() == 64 && volume.bytes().all(|byte| byte.is_ascii_hexdigit()));
        anonymous
            || volume == self.as_str()
            || volume.contains(id)
            || volume
                .strip_prefix(self.as_str())
                .is_some_and(|rest| rest.starts_with(['_', '.']))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Lower case, everything outside `[a-z0-9-]` a hyphen, runs of hyphens one, none at an end.
fn squeezed(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars().map(|c| c.to_ascii_lowercase()) {
        if c.is_ascii_lowercase() || c.is_ascii_digit() {
            out.push(c);
        } else if !out.is_empty() && !out.ends_with('-') {
            out.push('-');
        }
    }
    out.truncate(out.trim_end_matches('-').len());
    out
}

impl fmt::Display for DroneName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<std::path::Path> for DroneName {
    fn as_ref(&self) -> &std::path::Path {
        self.0.as_ref()
    }
}

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

/// A drone's identity: what is written onto its volume, container and image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The repository.
    pub repo: RepoId,
    /// The name, which follows from the repository.
    pub name: DroneName,
    /// What its tokens may touch.
    pub scope: Scope,
    /// What it was started from, where that is not the default branch.
    pub head: Option<Head>,
}

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
    /// The identity of this scope's own repository.
    pub fn new(scope: Scope) -> Self {
        let repo = scope.own().clone();
        Self {
            name: DroneName::of(&repo),
            repo,
            scope,
            head: None,
        }
    }

    /// The same, started from this.
    #[must_use]
    pub fn started_from(mut self, head: Option<Head>) -> Self {
        self.head = head;
        self
    }

    /// Whether what it was started from is a stranger's whom nobody trusts: it gets none of this server's
    /// secrets.
    pub fn is_strangers(&self) -> bool {
        matches!(self.head, Some(Head::Stranger { trusted: false, .. }))
    }

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
    use super::*;
    use proptest::prelude::*;

    fn repo() -> impl Strategy<Value = RepoId> {
        ("[A-Za-z0-9][A-Za-z0-9-]{0,38}", "[A-Za-z0-9._-]{0,99}x")
            .prop_map(|(owner, name)| format!("{owner}/{name}").parse().unwrap())
    }

    fn name_of(text: &str) -> String {
        DroneName::of(&text.parse().unwrap()).to_string()
    }

    #[test]
    fn names_are_as_the_contract_says() {
        assert_eq!(name_of("levinkeller/homepage"), "levinkeller-homepage");
        assert_eq!(name_of("Acme/My.Site_2"), "acme-my-site-2");
        assert_eq!(name_of("acme/.github"), "acme-github");
        assert_eq!(name_of("acme/--x--"), "acme-x");
        assert_eq!(name_of("a-b/c"), name_of("a/b-c"));
    }

    /// The same table that `nix/drone-name.nix` is held against.
    #[test]
    fn names_are_those_of_the_table() {
        let table = include_str!("../../tests/drone-names.txt");
        let pairs = table
            .lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| line.split_once(' ').unwrap());
        for (repository, name) in pairs {
            assert_eq!(name_of(repository), name, "{repository}");
        }
    }

    #[test]
    fn a_long_name_is_cut_and_tells_its_repository() {
        let long = |last: &str| name_of(&format!("acme/{}{last}", "n".repeat(90)));
        assert_eq!(long("1").len(), 63);
        assert_ne!(long("1"), long("2"));
        assert_eq!(long("A"), long("a"), "GitHub's names have no case");
    }

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
        fn a_name_is_a_dns_label_and_its_own_name(repo in repo()) {
            let name = DroneName::of(&repo);
            let text = name.as_str();
            prop_assert!((1..=63).contains(&text.len()));
            prop_assert!(text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'));
            prop_assert!(!text.starts_with('-') && !text.ends_with('-') && !text.contains("--"));
            prop_assert_eq!(DroneName::from_label(text), Some(name.clone()));
            prop_assert_eq!(squeezed(text), text);
        }

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

        #[test]
        fn no_label_makes_it_panic(name in "\\PC{0,80}", scope in "\\PC{0,80}") {
            let _ = DroneName::from_label(&name);
            let _ = Scope::from_json(&scope);
        }
    }
}
