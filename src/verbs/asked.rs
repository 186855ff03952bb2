//! Which drone a person means: its repository, or its name.

use super::Context;
use crate::drone::DroneName;
use crate::error::Result;
use crate::repo::RepoId;

/// A drone as a person names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// The drone of this repository.
    Repository(RepoId),
    /// The drone of this name; its labels tell whose it is.
    Name(DroneName),
}

impl Asked {
    /// The name that the drone has, if it exists.
    pub fn name(&self) -> DroneName {
        match self {
            Self::Repository(repo) => DroneName::of(repo),
            Self::Name(name) => name.clone(),
        }
    }

    /// Whether a drone of this repository is meant.
    pub fn is_of(&self, repo: &RepoId) -> bool {
        match self {
            Self::Repository(asked) => asked == repo,
            Self::Name(_) => true,
        }
    }
}

impl From<&Self> for Asked {
    fn from(asked: &Self) -> Self {
        asked.clone()
    }
}

impl From<&RepoId> for Asked {
    fn from(repo: &RepoId) -> Self {
        Self::Repository(repo.clone())
    }
}

impl Context<'_> {
    /// The drone that a person typed: as `org/repo`, as a URL of it, or by name. A name has no slash and a
    /// repository always has one, so no text is both.
    pub(super) fn asked(&self, text: &str) -> Result<Asked> {
        match DroneName::from_label(text) {
            Some(name) => Ok(Asked::Name(name)),
            None => self
                .repository(text)
                .map(Asked::Repository)
                .map_err(|error| {
                    error.hint(
                        "write it as org/repo, as its https or git@ URL, or as the drone's name; `hatchery \
                         list` shows all names",
                    )
                }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_any_repositorys_and_a_repository_is_its_own() {
        let site: RepoId = "acme/site".parse().unwrap();
        let other: RepoId = "Acme/Site.".parse().unwrap();
        let name = Asked::Name(DroneName::of(&site));
        let repository = Asked::from(&site);
        assert_eq!(name.name(), repository.name());
        assert_eq!(name.name(), DroneName::of(&other));
        assert!(name.is_of(&site) && name.is_of(&other));
        assert!(repository.is_of(&"ACME/site".parse().unwrap()) && !repository.is_of(&other));
    }
}
