//! Which repository: parsed once from what a person types, a label or a file holds.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A repository on GitHub: an owner and a name, both valid there.
///
/// Compared as GitHub does, without case; shown as it was given.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RepoId {
    owner: String,
    name: String,
}

/// Why a text is not a repository.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RepoIdError {
    /// Neither `org/repo` nor a URL of one.
    #[error("{0:?} is not of the form org/repo")]
    Form(String),
    /// The owner is not one that GitHub can have.
    #[error(
        "{0:?} is not a GitHub user or organisation: letters, digits and inner hyphens, at most 39"
    )]
    Owner(String),
    /// The name is not one that GitHub can have.
    #[error("{0:?} is not a repository name: letters, digits, '.', '_' and '-', at most 100")]
    Name(String),
}

impl RepoId {
    /// The user or organisation.
    pub fn owner(&self) -> &str {
        &self.owner
    }

    /// The repository's name within its owner.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `owner/name` in lower case: what equality and hashes go by.
    pub fn key(&self) -> String {
        format!("{}/{}", self.owner, self.name).to_ascii_lowercase()
    }

    /// The host in a URL of a repository, where `text` is one; which it must be is for the
    /// configuration to say.
    pub fn host_in(text: &str) -> Option<&str> {
        let text = text.trim();
        match text.strip_prefix("https://") {
            Some(rest) => rest.split('/').next(),
            None => text.strip_prefix("git@")?.split(':').next(),
        }
    }

    /// `local/NAME` for a directory that is no clone from GitHub; what a repository's name cannot hold
    /// becomes a hyphen.
    pub fn local(directory: &str) -> Self {
        const LONGEST: usize = 80;
        let fit = |c: char| match c {
            c if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') => c,
            _ => '-',
        };
        let mut name: String = directory.chars().take(LONGEST).map(fit).collect();
        if name.chars().all(|c| c == '.') {
            "directory".clone_into(&mut name);
        }
        if name.to_ascii_lowercase().ends_with(".git") {
            name.push('-');
        }
        Self {
            owner: "local".to_owned(),
            name,
        }
    }

    fn new(owner: &str, name: &str) -> Result<Self, RepoIdError> {
        // Enterprise Managed Users have an underscore before their enterprise's short code.
        let owner_ok = owner.len() <= 39
            && owner.starts_with(|c: char| c.is_ascii_alphanumeric())
            && owner
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
        if !owner_ok {
            return Err(RepoIdError::Owner(shortened(owner)));
        }
        let name_ok = (1..=100).contains(&name.len())
            && name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
            && name != "."
            && name != ".."
            && !name.to_ascii_lowercase().ends_with(".git");
        if !name_ok {
            return Err(RepoIdError::Name(shortened(name)));
        }
        Ok(Self {
            owner: owner.to_owned(),
            name: name.to_owned(),
        })
    }
}

/// Enough of a text to be recognised in an error.
fn shortened(text: &str) -> String {
    text.chars().take(120).collect()
}

impl FromStr for RepoId {
    type Err = RepoIdError;

    /// Takes `org/repo`, `https://HOST/org/repo[.git]` and `git@HOST:org/repo.git`.
    /// Which host it is, is for the configuration to say.
    fn from_str(text: &str) -> Result<Self, RepoIdError> {
        let trimmed = text.trim();
        let path = if let Some(rest) = trimmed.strip_prefix("https://") {
            rest.split_once('/').map(|(_host, path)| path)
        } else if let Some(rest) = trimmed.strip_prefix("git@") {
            rest.split_once(':').map(|(_host, path)| path)
        } else {
            Some(trimmed)
        };
        let path = path.ok_or_else(|| RepoIdError::Form(shortened(text)))?;
        let path = if path.len() == trimmed.len() {
            path
        } else {
            path.strip_suffix('/').unwrap_or(path)
        };
        let path = path.strip_suffix(".git").unwrap_or(path);
        match path.split_once('/') {
            Some((owner, name)) if !owner.is_empty() && !name.is_empty() && !name.contains('/') => {
                Self::new(owner, name)
            }
            _ => Err(RepoIdError::Form(shortened(text))),
        }
    }
}

impl TryFrom<String> for RepoId {
    type Error = RepoIdError;

    fn try_from(text: String) -> Result<Self, RepoIdError> {
        match text.split_once('/') {
            Some((owner, name)) => Self::new(owner, name),
            None => Err(RepoIdError::Form(shortened(&text))),
        }
    }
}

impl From<RepoId> for String {
    fn from(repo: RepoId) -> Self {
        repo.to_string()
    }
}

impl fmt::Display for RepoId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.owner, self.name)
    }
}

impl PartialEq for RepoId {
    fn eq(&self, other: &Self) -> bool {
        self.owner.eq_ignore_ascii_case(&other.owner) && self.name.eq_ignore_ascii_case(&other.name)
    }
}

impl Eq for RepoId {}

impl PartialOrd for RepoId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for RepoId {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

impl Hash for RepoId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_three_spellings_name_one_repository() {
        for text in [
            "acme/site",
            "https://github.com/acme/site",
            "https://github.com/acme/site.git",
            "https://github.com/acme/site/",
            "git@github.com:acme/site.git",
            "ACME/Site",
        ] {
            let repo: RepoId = text.parse().unwrap();
            assert_eq!(repo.key(), "acme/site", "{text}");
        }
    }

    #[test]
    fn what_github_cannot_have_is_refused() {
        for text in [
            "",
            "acme",
            "/site",
            "acme/",
            "acme/site/tree",
            "acme//site",
            "-acme/site",
            "acme/..",
            "acme/.",
            "ac me/site",
            "acme/si te",
            "../../etc",
            "acme/site\0",
            "http://github.com/acme/site",
            "acmé/site",
            "acme/.git",
            "git@github.com",
            "https://github.com",
            "acme/site/",
            "ssh://git@github.com/acme/site",
            "acme/$(reboot)",
            "--help/x",
            "acme/site.git.git",
        ] {
            assert!(text.parse::<RepoId>().is_err(), "{text:?} was taken");
        }
        assert!(format!("a/{}", "b".repeat(101)).parse::<RepoId>().is_err());
        assert!(format!("{}/b", "a".repeat(40)).parse::<RepoId>().is_err());
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,200}") {
            let _ = text.parse::<RepoId>();
        }

        #[test]
        fn a_directory_of_any_name_is_one(name in prop_oneof!["\\PC{0,200}", "[a.]{0,3}(\\.git|\\.GIT)?"]) {
            let repo = RepoId::local(&name);
            prop_assert_eq!(&repo, &repo.to_string().parse().unwrap());
        }

        #[test]
        fn shown_and_parsed_again_it_is_the_same(owner in "[A-Za-z0-9][A-Za-z0-9-]{0,38}", name in "[A-Za-z0-9_-][A-Za-z0-9._-]{0,90}x") {
            let repo: RepoId = format!("{owner}/{name}").parse().unwrap();
            let again: RepoId = repo.to_string().parse().unwrap();
            prop_assert_eq!(&repo, &again);
            let upper: RepoId = repo.to_string().to_uppercase().parse().unwrap();
            prop_assert_eq!(repo, upper);
        }
    }
}
