//! `[registries."HOST/PATH"]`: private images, and which repositories may use them.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::devcontainer::judging::images;
use crate::repo::RepoId;

/// All entries. An image lies in the entry with the longest name that is a prefix of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Registries(BTreeMap<Namespace, Registry>);

/// A registry, or a part of what it holds: `ghcr.io`, `ghcr.io/acme`. One registry of Docker's has one
/// name, `docker.io`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Namespace(String);

/// How hatchery logs in to it, and for whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registry {
    /// The user, with a password; without both the caller's own `docker login` is used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// The file that holds the password or access token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    /// Repositories (`org/repo`, `org/*`) that may use its images. No other may, trusted or not.
    pub repositories: Vec<String>,
}

impl Registries {
    /// The entry that an image lies in.
    pub fn of(&self, image: &str) -> Option<(&Namespace, &Registry)> {
        if self.0.is_empty() {
            return None;
        }
        let whole = images::whole(image)?;
        self.0
            .iter()
            .filter(|(namespace, _)| namespace.holds(&whole))
            .max_by_key(|(namespace, _)| namespace.0.len())
    }

    /// The entry that keeps an image from this repository.
    pub fn barring(&self, image: &str, repo: &RepoId) -> Option<&Namespace> {
        let (namespace, registry) = self.of(image)?;
        (!registry.serves(repo)).then_some(namespace)
    }

    /// What a person is told where an image is kept from this repository: why, and what to do.
    pub fn refusal(&self, image: &str, repo: &RepoId) -> Option<(String, String)> {
        let table = self.barring(image, repo)?.table();
        let why = format!(
            "it is reserved for other repositories: [{table}] in the configuration does not name {repo}"
        );
        let hint = format!(
            "name another image, or add \"{repo}\" to `repositories` of [{table}] in the configuration; trust does \
             not help here"
        );
        Some((why, hint))
    }

    /// From now on no repository may use the images of any entry.
    pub(super) fn serve_nobody(&mut self) {
        for registry in self.0.values_mut() {
            registry.repositories.clear();
        }
    }

    /// All entries, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&Namespace, &Registry)> {
        self.0.iter()
    }

    /// The key of a value that cannot be right, and what is wrong with it.
    pub(super) fn check(&self) -> Result<(), (String, String)> {
        for (namespace, registry) in &self.0 {
            let wrong = |key: &str, what: &str| {
                Err((format!("{}.{key}", namespace.table()), what.to_owned()))
            };
            match (&registry.username, &registry.password_file) {
                (Some(_), None) => {
                    return wrong(
                        "username",
                        "needs password_file; leave out both to use the caller's `docker login`",
                    );
                }
                (None, Some(_)) => return wrong("password_file", "needs username"),
                (Some(user), _) if user.is_empty() || user.contains([':', '\n']) => {
                    return wrong("username", "is not a user name");
                }
                (_, Some(file)) if file.is_relative() => {
                    return wrong("password_file", "must be an absolute path");
                }
                _ => {}
            }
            if registry.repositories.is_empty() {
                return wrong(
                    "repositories",
                    "is empty; list the repositories that may use its images: \"org/repo\" or \"org/*\"",
                );
            }
            if let Some(pattern) = registry
                .repositories
                .iter()
                .find(|pattern| !is_pattern(pattern))
            {
                let what = format!("contains {pattern:?}, which is neither org/repo nor org/*");
                return wrong("repositories", &what);
            }
        }
        Ok(())
    }
}

impl Registry {
    /// Whether this repository may use its images.
    pub fn serves(&self, repo: &RepoId) -> bool {
        names(&self.repositories, repo)
    }
}

impl Namespace {
    /// The registry's host, with its port.
    pub fn host(&self) -> &str {
        self.0.split('/').next().unwrap_or(&self.0)
    }

    /// The name of its table in the configuration, as it is written there.
    pub fn table(&self) -> String {
        format!("registries.\"{self}\"")
    }

    fn holds(&self, whole: &str) -> bool {
        whole
            .strip_prefix(self.0.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Namespace {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let (host, path) = match text.split_once('/') {
            Some((host, path)) => (host, Some(path)),
            None => (text.as_str(), None),
        };
        let host = host.to_ascii_lowercase();
        let name = host.split(':').next().unwrap_or_default();
        if images::barred_host(name).is_some() {
            return Err(format!(
                "{text:?} is not a registry that images may come from; write its public name, with a path to \
                 mean only a part of it: \"ghcr.io/org\""
            ));
        }
        let host = if images::is_dockers(&host) {
            "docker.io"
        } else {
            &host
        };
        let whole = match path {
            Some(path) => format!("{host}/{path}"),
            None => host.to_owned(),
        };
        let probe = format!("{whole}/x");
        if images::whole(&probe) == Some(probe) && !whole.chars().any(char::is_uppercase) {
            Ok(Self(whole))
        } else {
            Err(format!(
                "{text:?} is not a registry; write its name without a tag, with a path to mean only a part \
                 of it: \"ghcr.io/org\""
            ))
        }
    }
}

impl From<Namespace> for String {
    fn from(namespace: Namespace) -> Self {
        namespace.0
    }
}

/// Whether this is `org/repo` or `org/*`.
pub(super) fn is_pattern(pattern: &str) -> bool {
    let repo = pattern
        .strip_suffix("/*")
        .map_or_else(|| pattern.to_owned(), |owner| format!("{owner}/x"));
    RepoId::try_from(repo).is_ok()
}

/// Whether one of these patterns names a repository.
pub(super) fn names(patterns: &[String], repo: &RepoId) -> bool {
    patterns.iter().any(|pattern| {
        pattern.strip_suffix("/*").map_or_else(
            || pattern.eq_ignore_ascii_case(&repo.to_string()),
            |owner| owner.eq_ignore_ascii_case(repo.owner()),
        )
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;
    use crate::config::Config;

    fn registries(text: &str) -> Registries {
        Config::parse(text, Path::new("c.toml")).unwrap().registries
    }

    #[test]
    fn the_longest_prefix_on_a_boundary_counts() {
        let registries = registries(
            "[registries.\"ghcr.io/acme\"]\nrepositories = [\"acme/*\"]\n\
             [registries.\"ghcr.io/acme/secret\"]\nrepositories = [\"acme/vault\"]\n\
             [registries.\"registry.example.test:5000\"]\nrepositories = [\"acme/*\"]\n",
        );
        for (image, namespace) in [
            ("ghcr.io/acme/base:1", Some("ghcr.io/acme")),
            ("GHCR.io/acme/base", Some("ghcr.io/acme")),
            ("ghcr.io/acme", Some("ghcr.io/acme")),
            (
                "ghcr.io/acme/secret@sha256:0123",
                Some("ghcr.io/acme/secret"),
            ),
            ("ghcr.io/acme/secret/a/b:2", Some("ghcr.io/acme/secret")),
            ("ghcr.io/acme/secrets", Some("ghcr.io/acme")),
            ("ghcr.io/acme-evil/base", None),
            ("ghcr.io/other/acme", None),
            ("evil.example/ghcr.io/acme/base", None),
            (
                "registry.example.test:5000/x",
                Some("registry.example.test:5000"),
            ),
            ("registry.example.test/x", None),
            ("acme/base", None),
        ] {
            let found = registries
                .of(image)
                .map(|(namespace, _)| namespace.to_string());
            assert_eq!(found.as_deref(), namespace, "{image}");
        }
        let bars =
            |image: &str, repo: &str| registries.barring(image, &repo.parse().unwrap()).is_some();
        assert!(!bars("ghcr.io/acme/base", "Acme/site") && bars("ghcr.io/acme/base", "other/site"));
        assert!(!bars("ghcr.io/acme/secret", "acme/VAULT"));
        assert!(bars("ghcr.io/acme/secret", "acme/site"));
        assert!(!bars("debian", "other/site"));
    }

    #[test]
    fn dockers_own_registry_has_one_spelling() {
        for name in [
            "docker.io/acme",
            "index.docker.io/acme",
            "registry-1.docker.io/acme",
            "Docker.IO/acme",
        ] {
            let namespace = Namespace::try_from(name.to_owned()).unwrap();
            assert_eq!(namespace.to_string(), "docker.io/acme", "{name}");
            for image in ["acme/x", "docker.io/acme/x:1", "index.docker.io/acme/x"] {
                assert!(namespace.holds(&images::whole(image).unwrap()), "{image}");
            }
        }
        let library = Namespace::try_from("docker.io/library".to_owned()).unwrap();
        assert!(library.holds(&images::whole("debian").unwrap()));
        assert!(!library.holds(&images::whole("acme/debian").unwrap()));
    }

    #[test]
    fn an_entry_is_a_public_name_with_or_without_a_path() {
        for text in ["ghcr.io", "ghcr.io/acme", "a.b:5000/c/d_e"] {
            assert!(Namespace::try_from(text.to_owned()).is_ok(), "{text}");
        }
        for text in [
            "",
            "ghcr",
            "acme/base",
            "localhost:5000",
            "127.0.0.1/x",
            "ghcr.io/",
            "ghcr.io/acme/",
            "ghcr.io/acme/*",
            "ghcr.io/Acme",
            "ghcr.io/acme:1",
            "ghcr.io/../x",
            "https://ghcr.io/acme",
        ] {
            assert!(Namespace::try_from(text.to_owned()).is_err(), "{text}");
        }
    }

    #[test]
    fn a_wrong_entry_is_named_with_its_line() {
        let table = "\n[registries.\"ghcr.io/acme\"]\n";
        for (rest, line, parts) in [
            ("", 2, &["repositories"][..]),
            (
                "repositories = []",
                3,
                &["registries.\"ghcr.io/acme\".repositories is empty"],
            ),
            ("repositories = [\"*\"]", 3, &["repositories", "\"*\""]),
            (
                "repositories = [\"a/b\"]\nusername = \"x\"",
                4,
                &["username", "password_file"],
            ),
            (
                "repositories = [\"a/b\"]\npassword_file = \"/x\"",
                4,
                &["password_file", "username"],
            ),
            (
                "repositories = [\"a/b\"]\nusername = \"x\"\npassword_file = \"x\"",
                5,
                &["password_file", "absolute"],
            ),
            (
                "repositories = [\"a/b\"]\npassword = \"hunter2\"",
                4,
                &["password"],
            ),
            (
                "repositories = [\"a/b\"]\n[registries.\"GHCR.io/acme\"]\nrepositories = [\"a/b\"]",
                4,
                &["GHCR.io/acme", "same registry"],
            ),
            (
                "repositories = [\"a/b\"]\n[registries.\"localhost\"]\nrepositories = [\"a/b\"]",
                4,
                &["localhost"],
            ),
        ] {
            let text = format!("{table}{rest}");
            let error = Config::parse(&text, Path::new("c.toml")).unwrap_err();
            let message = error.message();
            assert!(
                message.starts_with(&format!("c.toml:{line}: ")),
                "{rest}: {message}"
            );
            assert!(
                parts.iter().all(|part| message.contains(part)),
                "{rest}: {message}"
            );
            assert!(!message.contains("hunter2"), "{message}");
        }
    }

    #[test]
    fn what_is_printed_is_read_back() {
        let text = "[registries.\"index.docker.io/acme\"]\nusername = \"dev\"\npassword_file = \"/k\"\n\
                    repositories = [\"acme/*\"]\n";
        let config = Config::parse(text, Path::new("c.toml")).unwrap();
        let printed = toml::to_string(&config).unwrap();
        assert!(
            printed.contains("[registries.\"docker.io/acme\"]"),
            "{printed}"
        );
        let again = Config::parse(&printed, Path::new("c.toml")).unwrap();
        assert_eq!(again.registries, config.registries);
    }

    proptest! {
        #[test]
        fn no_name_makes_it_panic(text in "[a-zA-Z./:@*é-]{0,40}") {
            let registries = registries("[registries.\"ghcr.io\"]\nrepositories = [\"a/b\"]\n");
            let _ = (Namespace::try_from(text.clone()), registries.of(&text).is_some());
        }
    }
}
