//! Identifiers of features: which a repository has, in any spelling, and which must be added.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::images;
use super::metadata::NO_TARBALL;
use crate::config::{FeatureOptions, TAILSCALE_FEATURE};

/// The registry path of features that are named without a registry.
const HOME: &str = "ghcr.io/devcontainers/features";

/// Old short identifiers that the devcontainer CLI still accepts, and their present names.
const RENAMED: &[(&str, &str)] = &[
    ("golang", "go"),
    ("common", "common-utils"),
    ("docker-from-docker", "docker-outside-of-docker"),
    ("gradle", "java"),
    ("maven", "java"),
    ("jupyterlab", "python"),
];

/// One name for all spellings of a feature: the registry's path, in lower case, without a
/// version or digest.
pub fn canonical(id: &str) -> String {
    let id = id.trim().to_ascii_lowercase();
    if id.starts_with(['.', '/']) || id.contains("://") {
        return id;
    }
    let id = id.split('@').next().unwrap_or(&id);
    let last = id.rfind('/').map_or(0, |slash| slash + 1);
    let id = id[last..]
        .find(':')
        .map_or(id, |colon| &id[..last + colon])
        .trim_end();
    if id.contains('/') {
        return id.to_owned();
    }
    let name = RENAMED
        .iter()
        .find(|(old, _)| *old == id)
        .map_or(id, |(_, new)| new);
    format!("{HOME}/{name}")
}

/// Where a feature comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// An OCI registry.
    Registry,
    /// The repository itself: `./path`.
    Local,
    /// A plain download, or no feature at all.
    Elsewhere,
}

/// Where the feature of this identifier comes from.
pub fn origin(id: &str) -> Origin {
    if id.starts_with("./") || id.starts_with("../") {
        return Origin::Local;
    }
    let plain = id.starts_with(|c: char| c.is_ascii_alphanumeric())
        && !id.contains("://")
        && id.len() <= 512
        && id
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "._-/:@+".contains(c));
    match id.split_once('/') {
        // Without a registry's name it is a release of a GitHub repository, a tarball.
        Some((host, _)) if plain && (host.contains(['.', ':']) || host == "localhost") => {
            Origin::Registry
        }
        None if plain => Origin::Registry,
        _ => Origin::Elsewhere,
    }
}

/// Why the devcontainer CLI may not fetch this feature; `None` if it may. The CLI runs on this server, so a
/// registry must not be something that only this server reaches.
pub fn barred(id: &str) -> Option<&'static str> {
    match origin(id) {
        Origin::Registry => images::registry(id).and_then(|_| images::barred(id)),
        Origin::Local => None,
        Origin::Elsewhere => Some(NO_TARBALL),
    }
}

/// The identifiers of the features that an image or container was made with.
pub fn of_metadata(entries: &[Value]) -> Vec<&str> {
    entries
        .iter()
        .filter_map(|entry| entry.get("id")?.as_str())
        .collect()
}

/// Those of `wanted` that are not among `present`, in any spelling. Tailscale's is wanted only on a tailnet.
pub fn missing<'a>(
    present: impl IntoIterator<Item = &'a str>,
    wanted: &BTreeMap<String, FeatureOptions>,
    tailnet: bool,
) -> BTreeMap<String, FeatureOptions> {
    let mut have: BTreeSet<String> = present.into_iter().map(canonical).collect();
    let tailscale = canonical(TAILSCALE_FEATURE);
    wanted
        .iter()
        .filter(|(id, _)| {
            let id = canonical(id);
            (tailnet || id != tailscale) && have.insert(id)
        })
        .map(|(id, options)| (id.clone(), options.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn every_spelling_of_a_feature_is_the_same_feature() {
        for (name, spellings) in [
            (
                "ghcr.io/devcontainers/features/sshd",
                &[
                    "sshd",
                    "sshd:1",
                    "sshd@latest",
                    "ghcr.io/devcontainers/features/sshd",
                    "ghcr.io/devcontainers/features/sshd:1",
                    "ghcr.io/devcontainers/features/sshd:1.1.0",
                    "ghcr.io/devcontainers/features/sshd:latest",
                    "GHCR.io/DevContainers/Features/SSHD:1",
                    "ghcr.io/devcontainers/features/sshd@sha256:0123abcd",
                    "ghcr.io/devcontainers/features/sshd:1@sha256:0123abcd",
                    " ghcr.io/devcontainers/features/sshd ",
                ][..],
            ),
            ("ghcr.io/devcontainers/features/go", &["golang", "go:1"]),
            (
                "localhost:5000/x/sshd",
                &["localhost:5000/x/sshd:1", "localhost:5000/x/sshd"],
            ),
            ("./sshd", &["./sshd"]),
        ] {
            for spelling in spellings {
                assert_eq!(canonical(spelling), name, "{spelling}");
            }
        }
    }

    #[test]
    fn only_what_is_missing_is_added_and_tailscale_only_on_a_tailnet() {
        let wanted = Config::default().devcontainer.features;
        let ids = |present: &[&str], tailnet| -> Vec<String> {
            missing(present.iter().copied(), &wanted, tailnet)
                .into_keys()
                .collect()
        };
        assert_eq!(ids(&[], true).len(), 2);
        assert_eq!(ids(&[], false), ["ghcr.io/devcontainers/features/sshd:1"]);
        assert_eq!(
            ids(&["sshd"], true),
            ["ghcr.io/tailscale/codespace/tailscale"]
        );
        assert!(
            ids(
                &[
                    "ghcr.io/devcontainers/features/sshd:1.1.0",
                    "ghcr.io/tailscale/codespace/tailscale:1"
                ],
                true
            )
            .is_empty()
        );
        let metadata = [
            json!({"id": "ghcr.io/devcontainers/features/sshd:1"}),
            json!({"remoteUser": "x"}),
            json!(3),
        ];
        assert_eq!(
            of_metadata(&metadata),
            ["ghcr.io/devcontainers/features/sshd:1"]
        );
    }

    #[test]
    fn one_feature_wanted_twice_is_added_once() {
        let wanted = BTreeMap::from([
            ("sshd:1".to_owned(), json!({})),
            (
                "ghcr.io/devcontainers/features/sshd:1".to_owned(),
                json!({}),
            ),
        ]);
        assert_eq!(missing([], &wanted, true).len(), 1);
    }

    #[test]
    fn no_feature_is_fetched_from_this_server() {
        for id in [
            "ghcr.io/a/b:1",
            "ghcr.io/a/b@sha256:0123",
            "registry.example.org:5000/a/b",
            "sshd",
            "./local",
        ] {
            assert_eq!(barred(id), None, "{id}");
        }
        for id in [
            "localhost/a/b",
            "localhost:5000/a/b:1",
            "LocalHost:5000/a/b:1",
            "x.localhost/a/b",
            "127.0.0.1:5000/a/b",
            "0x7f.1/a/b",
            "2130706433:80/a/b",
            "169.254.169.254/a/b",
            "host.docker.internal/a/b",
            "server:5000/a/b",
            "http://localhost/devcontainer-feature-x.tgz",
        ] {
            assert!(barred(id).is_some(), "{id}");
        }
    }

    #[test]
    fn tarballs_are_told_from_registries() {
        for (id, expected) in [
            ("ghcr.io/a/b:1", Origin::Registry),
            ("sshd", Origin::Registry),
            ("localhost:5000/a", Origin::Registry),
            ("./local", Origin::Local),
            ("../local", Origin::Local),
            (
                "https://example.com/devcontainer-feature-x.tgz",
                Origin::Elsewhere,
            ),
            ("octocat/features/x", Origin::Elsewhere),
            ("/abs", Origin::Elsewhere),
            ("ghcr.io/a b", Origin::Elsewhere),
            ("-x", Origin::Elsewhere),
            ("", Origin::Elsewhere),
        ] {
            assert_eq!(origin(id), expected, "{id}");
        }
    }

    proptest! {
        #[test]
        fn no_identifier_makes_it_panic_and_it_settles(id in "\\PC{0,60}") {
            let once = canonical(&id);
            let _ = origin(&id);
            prop_assert_eq!(canonical(&once), once);
        }
    }
}
