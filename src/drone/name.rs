//! What a drone is called.

use std::fmt;

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::repo::RepoId;

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

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(in crate::drone) fn repo() -> impl Strategy<Value = RepoId> {
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
        fn no_text_makes_it_panic(text in "\\PC{0,80}") {
            let _ = DroneName::from_label(&text);
        }
    }
}
