//! What this server remembers of how a drone's container was made: what was asked for its scope, and the
//! configuration as it was read. A rebuild begins with it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::drone::head::Head;
use crate::drone::permission::{Access, Permission};
use crate::drone::{DroneName, Scope};
use crate::error::{Code, Error, Result};
use crate::host::{Places, recalled};
use crate::repo::RepoId;

/// The most that is kept of a configuration, in bytes.
const MAX_KEPT: usize = 512 * 1024;

/// What was asked for a drone's scope beyond the configuration of this server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extent {
    /// Further repositories, as `--repo` names them.
    #[serde(default)]
    pub repositories: Vec<RepoId>,
    /// What its tokens may do, as `--permission` says; without it as the configuration says.
    #[serde(default)]
    pub permissions: Option<BTreeMap<Permission, Access>>,
}

impl Extent {
    /// What must have been asked for, where only the scope itself is known.
    pub fn of(scope: &Scope) -> Self {
        Self {
            repositories: scope.repositories()[1..].to_vec(),
            permissions: scope.permissions().cloned(),
        }
    }

    /// The scope of this repository's drone: the repository itself, what the configuration adds, and what was
    /// asked for. What was started from a stranger's `head` only reads, unless more was asked for.
    ///
    /// # Errors
    /// A permission that was asked for is more than the configuration gives.
    pub fn scope(&self, config: &Config, repo: &RepoId, head: Option<&Head>) -> Result<Scope> {
        let settings = config.drones.get(repo).cloned().unwrap_or_default();
        let mut repositories = vec![repo.clone()];
        for other in settings.repositories.iter().chain(&self.repositories) {
            if !repositories.contains(other) {
                repositories.push(other.clone());
            }
        }
        let configured = settings.permissions;
        let most = configured.as_ref().unwrap_or(&config.github.permissions);
        let permissions = match (&self.permissions, head) {
            (Some(asked), _) => {
                is_within(asked, most)?;
                Some(asked.clone())
            }
            (None, Some(Head::Stranger { .. })) => Some(reading(most)),
            (None, _) => configured,
        };
        Scope::new(repositories, permissions).map_err(|error| {
            Error::new(Code::ConfigInvalid, format!("drones.\"{repo}\"")).because(error)
        })
    }
}

/// These permissions, none of which changes anything.
fn reading(all: &BTreeMap<Permission, Access>) -> BTreeMap<Permission, Access> {
    let metadata = "metadata".parse().ok().map(|name| (name, Access::Read));
    let own = all.keys().map(|&name| (name, Access::Read));
    own.filter(|(name, access)| name.allows(*access))
        .chain(metadata)
        .collect()
}

/// Refuses permissions that the configured ones do not hold.
fn is_within(
    asked: &BTreeMap<Permission, Access>,
    configured: &BTreeMap<Permission, Access>,
) -> Result<()> {
    for (permission, &access) in asked {
        let most = configured.get(permission);
        if most.is_none_or(|&most| most < access) {
            let most = most.map_or("nothing".to_owned(), ToString::to_string);
            return Err(Error::new(
                Code::Usage,
                format!("{permission}={access} is more than the configuration allows: {most}"),
            )
            .hint(
                "raise it in [github.permissions] or in [drones.\"org/repo\"] first, or ask for less with \
                 `--permission`",
            ));
        }
    }
    Ok(())
}

/// How a drone's container was made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipe {
    /// What was asked for its scope.
    pub extent: Extent,
    /// The files of its configuration, by path in the repository; absent where they were too large to keep.
    pub files: Option<BTreeMap<String, String>>,
}

impl Recipe {
    /// How it was made, with these files, if they are not too large.
    pub fn new(extent: &Extent, files: &BTreeMap<String, String>) -> Self {
        let size: usize = files
            .iter()
            .map(|(path, text)| path.len() + text.len())
            .sum();
        Self {
            extent: extent.clone(),
            files: (size <= MAX_KEPT).then(|| files.clone()),
        }
    }

    /// What is remembered, if anything is.
    pub fn of(places: &Places, drone: &DroneName) -> Result<Option<Self>> {
        const HINT: &str = "remove it; the drone's scope is then read from its label";
        recalled(&places.recipe_file(drone), HINT)
    }

    /// Writes it down.
    pub fn write(&self, places: &Places, drone: &DroneName) -> Result<()> {
        places.remember(&places.recipe_file(drone), self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repo(text: &str) -> RepoId {
        text.parse().unwrap()
    }

    fn config() -> Config {
        let text = r#"
            [drones."acme/site"]
            repositories = ["acme/theme"]
            permissions = { contents = "write", issues = "read" }
        "#;
        let config = Config::parse(text, "config.toml".as_ref());
        config.unwrap()
    }

    #[test]
    fn a_scope_is_what_the_configuration_says_now_and_what_was_asked_for() {
        let site = repo("acme/site");
        let asked = Extent {
            repositories: vec![repo("Acme/Theme"), repo("acme/lib"), site.clone()],
            permissions: None,
        };
        let scope = asked.scope(&config(), &site, None).unwrap();
        let all = [site.clone(), repo("acme/theme"), repo("acme/lib")];
        assert_eq!(scope.repositories(), all);
        assert_eq!(scope.permissions().unwrap().len(), 2);
        let of = Extent::of(&scope);
        assert_eq!(of.repositories, all[1..]);
        assert_eq!(of.scope(&config(), &site, None).unwrap(), scope);
        let bare = Extent::default()
            .scope(&Config::default(), &site, None)
            .unwrap();
        assert_eq!(bare.repositories(), &all[..1]);
        assert_eq!(bare.permissions(), None);
    }

    #[test]
    fn nothing_beyond_the_configuration_can_be_asked_for() {
        for (permission, fits) in [
            (r#"{"contents": "read"}"#, true),
            (r#"{"contents": "write"}"#, true),
            (r#"{"issues": "write"}"#, false),
            (r#"{"actions": "read"}"#, false),
        ] {
            let asked = Extent {
                repositories: Vec::new(),
                permissions: Some(serde_json::from_str(permission).unwrap()),
            };
            let scope = asked.scope(&config(), &repo("acme/site"), None);
            assert_eq!(scope.is_ok(), fits, "{permission}: {scope:?}");
        }
    }

    #[test]
    fn it_reads_back_what_it_wrote_and_keeps_no_configuration_that_is_too_large() {
        let directory = tempfile::tempdir().unwrap();
        let places = Places::under(directory.path());
        let drone = DroneName::of(&repo("acme/site"));
        assert_eq!(Recipe::of(&places, &drone).unwrap(), None);
        let extent = Extent::default();
        let small = BTreeMap::from([("a".to_owned(), "{}".to_owned())]);
        let made = Recipe::new(&extent, &small);
        made.write(&places, &drone).unwrap();
        assert_eq!(Recipe::of(&places, &drone).unwrap(), Some(made));
        let large = BTreeMap::from([("a".to_owned(), "x".repeat(MAX_KEPT))]);
        assert_eq!(Recipe::new(&extent, &large).files, None);
        std::fs::write(places.recipe_file(&drone), "{").unwrap();
        assert!(Recipe::of(&places, &drone).is_err());
        places.forget(&drone).unwrap();
        assert_eq!(Recipe::of(&places, &drone).unwrap(), None);
    }

    #[test]
    fn what_only_reads_changes_nothing() {
        let all = [
            ("contents", Access::Write),
            ("actions", Access::Read),
            ("workflows", Access::Write),
            ("repository_projects", Access::Admin),
        ];
        let all = all
            .map(|(name, access)| (name.parse().unwrap(), access))
            .into();
        let read: Vec<String> = reading(&all).keys().map(ToString::to_string).collect();
        assert_eq!(
            read,
            ["actions", "contents", "metadata", "repository_projects"]
        );
        assert!(reading(&all).values().all(|access| *access == Access::Read));
        assert_eq!(reading(&BTreeMap::new()).len(), 1);
    }

    #[test]
    fn a_stranger_only_reads_unless_more_is_asked_for() {
        let site = repo("acme/site");
        let head = Head::Stranger {
            number: 7,
            trusted: true,
        };
        let scope = |extent: &Extent| extent.scope(&config(), &site, Some(&head)).unwrap();
        let reads = scope(&Extent::default());
        let mut reads = reads.permissions().unwrap().values();
        assert!(reads.all(|access| *access == Access::Read));
        let asked: BTreeMap<_, _> = [("contents".parse().unwrap(), Access::Write)].into();
        let writes = Extent {
            permissions: Some(asked.clone()),
            ..Extent::default()
        };
        assert_eq!(scope(&writes).permissions(), Some(&asked));
    }
}
