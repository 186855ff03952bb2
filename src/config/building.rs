//! What builds the images of repositories.

use serde::{Deserialize, Serialize};

/// `docker.builder`: what untrusted repositories are built by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Builder {
    /// By the drone's own, unless all that runs in the build is of `devcontainer.known`.
    #[default]
    Auto,
    /// By the drone's own.
    Own,
    /// By dockerd's, which all share.
    Shared,
}

/// An entry of `devcontainer.known`: an image or feature, or a namespace of them, by the name of its
/// registry and its path, without a tag: `ghcr.io/devcontainers/*`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Known(String);

impl Known {
    /// Whether this image or feature is meant, by its registry and its path, without a tag.
    pub fn holds(&self, whole: &str) -> bool {
        match self.0.strip_suffix('*') {
            Some(namespace) => whole
                .strip_prefix(namespace)
                .is_some_and(|rest| !rest.is_empty()),
            None => whole == self.0,
        }
    }
}

impl TryFrom<String> for Known {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let mut parts = text.split('/');
        let host = parts.next().unwrap_or_default();
        let path: Vec<&str> = parts.collect();
        let plain = |text: &str, more: &str| {
            let of = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || more.contains(c);
            !text.is_empty() && !matches!(text, "." | "..") && text.chars().all(of)
        };
        let (last, before) = match path.split_last() {
            Some((last, before)) => (*last, before),
            None => ("", &[][..]),
        };
        let fits = plain(host, ".:-")
            && host.contains('.')
            && before.iter().all(|part| plain(part, "._-"))
            && (last == "*" || plain(last, "._-"));
        if fits {
            Ok(Self(text))
        } else {
            Err(format!(
                "{text:?} is not the name of an image or feature; write \"ghcr.io/org/*\", or a full name \
                 without a tag"
            ))
        }
    }
}

impl From<Known> for String {
    fn from(known: Known) -> Self {
        known.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devcontainer::judging::images;

    #[test]
    fn a_namespace_holds_what_is_below_it_and_nothing_beside() {
        let known = ["ghcr.io/devcontainers/*", "docker.io/library/debian"]
            .map(|text| Known::try_from(text.to_owned()).unwrap());
        let is_known = |name: &str| {
            images::whole(name).is_some_and(|whole| known.iter().any(|known| known.holds(&whole)))
        };
        for name in [
            "ghcr.io/devcontainers/features/go:1",
            "GHCR.io/devcontainers/base@sha256:0123",
            "debian",
            "debian:12",
            "docker.io/library/debian:12",
            "library/debian",
        ] {
            assert!(is_known(name), "{name}");
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
            assert!(!is_known(name), "{name}");
        }
    }

    #[test]
    fn only_what_can_be_meant_is_an_entry() {
        for text in [
            "ghcr.io/devcontainers/*",
            "mcr.microsoft.com/*",
            "docker.io/library/debian",
            "registry.example.org:5000/a/b_c",
        ] {
            assert!(Known::try_from(text.to_owned()).is_ok(), "{text}");
        }
        for text in [
            "*",
            "/*",
            "ghcr.io",
            "ghcr.io*",
            "ghcr.io/a*",
            "ghcr.io/*/b",
            "debian",
            "debian/*",
            "ghcr.io/a/../*",
            "ghcr.io/a:1",
            "ghcr.io/A/*",
            "https://x.org/*",
            "",
        ] {
            assert!(Known::try_from(text.to_owned()).is_err(), "{text}");
        }
    }
}
