//! Which builder builds a repository's images.

use serde::{Deserialize, Serialize};

use crate::devcontainer::Repository;
use crate::devcontainer::judging::images;

/// `docker.builder`: what untrusted repositories are built by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Choice {
    /// By the drone's own, unless all that runs in the build is of `devcontainer.known`.
    #[default]
    Auto,
    /// By the drone's own.
    Own,
    /// By dockerd's, which all share.
    Shared,
}

impl Choice {
    /// Whether the drone has a builder of its own. What is trusted is built by dockerd's, where
    /// nothing is kept from it.
    pub fn is_own(self, repository: &Repository, known: &[String], trusted: bool) -> bool {
        let auto = || !repository.is_built_of(|name| is_known(known, name));
        !trusted
            && match self {
                Self::Auto => auto(),
                Self::Own => true,
                Self::Shared => false,
            }
    }
}

/// Whether an image or published feature is in one of these namespaces: `ghcr.io/devcontainers/*`, or
/// a whole name.
pub fn is_known(known: &[String], name: &str) -> bool {
    let Some(whole) = images::whole(name) else {
        return false;
    };
    known.iter().any(|pattern| match pattern.strip_suffix('*') {
        Some(namespace) => whole
            .strip_prefix(namespace)
            .is_some_and(|rest| !rest.is_empty()),
        None => whole == *pattern,
    })
}

/// Whether this can stand in `devcontainer.known`.
pub fn is_pattern(text: &str) -> bool {
    let name = match text.strip_suffix('*') {
        Some(namespace) if namespace.ends_with('/') => format!("{namespace}x"),
        _ => text.to_owned(),
    };
    images::whole(&name).is_some_and(|whole| whole == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_holds_what_is_below_it_and_nothing_beside() {
        let known = [
            "ghcr.io/devcontainers/*".to_owned(),
            "docker.io/library/debian".to_owned(),
        ];
        for name in [
            "ghcr.io/devcontainers/features/go:1",
            "GHCR.io/devcontainers/base@sha256:0123",
            "debian",
            "debian:12",
            "docker.io/library/debian:12",
            "library/debian",
        ] {
            assert!(is_known(&known, name), "{name}");
        }
        for name in [
            "ghcr.io/devcontainers",
            "ghcr.io/devcontainers/",
            "ghcr.io/devcontainers-evil/x",
            "ghcr.io/devcontainers/../evil/x",
            "ghcr.io/devcontainers/./x",
            "ghcr.io/devcontainers//x",
            "ghcr.io:444/devcontainers/x",
            "evil.example/ghcr.io/devcontainers/x",
            "ghcr.io.evil.example/devcontainers/x",
            "./devcontainers",
            "https://ghcr.io/devcontainers/x.tgz",
            "evil/debian",
            "debian-evil",
            "",
        ] {
            assert!(!is_known(&known, name), "{name}");
        }
        for text in [
            "ghcr.io/devcontainers/*",
            "mcr.microsoft.com/*",
            "docker.io/library/debian",
        ] {
            assert!(is_pattern(text), "{text}");
        }
        for text in [
            "/*",
            "debian/*",
            "*",
            "ghcr.io*",
            "debian",
            "ghcr.io/a/../*",
            "ghcr.io/a:1",
            "",
            "https://x/*",
        ] {
            assert!(!is_pattern(text), "{text}");
        }
    }
}
