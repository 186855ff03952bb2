//! Directories of the user's home that outlive a container, some of them shared by drones.

use serde::{Deserialize, Serialize};

/// The longest path, in characters: a volume is named after it.
const MAX: usize = 100;

/// An entry of `devcontainer.home`: a directory by its path in the home, as `.config/gh`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HomePath(String);

impl HomePath {
    /// The path, seen from the home.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path as a part of a volume's name; no other path has the same.
    pub fn in_a_name(&self) -> String {
        self.0.replace('_', "_u").replace('/', "_s")
    }

    /// Whether one of the two is the other, or in it.
    pub fn overlaps(&self, other: &Self) -> bool {
        let (one, two) = (self.0.split('/'), other.0.split('/'));
        one.zip(two).all(|(one, two)| one == two)
    }
}

impl TryFrom<String> for HomePath {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let is_part = |part: &str| {
            !matches!(part, "" | "." | "..")
                && part
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
        };
        if text.len() <= MAX && text.split('/').all(is_part) {
            return Ok(Self(text));
        }
        Err(format!(
            "{text:?} is not a directory in a home directory; write \".claude\" or \".config/gh\": a path \
             without `..`, of letters, digits, dots, hyphens and underscores, and of at most {MAX} \
             characters"
        ))
    }
}

impl From<HomePath> for String {
    fn from(path: HomePath) -> Self {
        path.0
    }
}

/// Where an entry of `devcontainer.mounts` is mounted: a directory of the home, as `~/.claude`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct InHome(pub HomePath);

impl TryFrom<String> for InHome {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.strip_prefix("~/") {
            Some(path) => path.to_owned().try_into().map(Self),
            None => Err(format!(
                "{text:?} is not in the home directory; write \"~/.claude\""
            )),
        }
    }
}

impl From<InHome> for String {
    fn from(InHome(path): InHome) -> Self {
        format!("~/{}", path.as_str())
    }
}

/// The name of a volume that drones share, as in `devcontainer.mounts`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SharedVolume(String);

impl SharedVolume {
    /// What Docker calls it. No drone's name is `hatchery`, so it is no drone's own.
    pub fn in_docker(&self) -> String {
        format!("hatchery.shared.{}", self.0)
    }
}

impl TryFrom<String> for SharedVolume {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if (1..=MAX).contains(&text.len()) && text.chars().all(plain) {
            return Ok(Self(text));
        }
        Err(format!(
            "{text:?} is not a volume name; use letters, digits, dots, hyphens and underscores"
        ))
    }
}

impl From<SharedVolume> for String {
    fn from(volume: SharedVolume) -> Self {
        volume.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path(text: &str) -> HomePath {
        HomePath::try_from(text.to_owned()).unwrap()
    }

    #[test]
    fn only_a_path_in_the_home_is_one() {
        for text in [".claude", ".config/gh", "a", "x_y/z-1"] {
            assert_eq!(path(text).as_str(), text);
        }
        let long = "x".repeat(MAX + 1);
        for text in [
            "", "/", "/etc", "..", "../x", "a/../b", ".", "./a", "a/", "a//b", "~/a", "a,b", "a b",
            "a\nb", "$HOME", "a:b", "é", &long,
        ] {
            assert!(HomePath::try_from(text.to_owned()).is_err(), "{text:?}");
        }
    }

    #[test]
    fn paths_overlap_where_one_is_in_the_other() {
        for (one, two, overlap) in [
            (".config", ".config", true),
            (".config", ".config/gh", true),
            (".config/gh", ".config", true),
            (".config/gh", ".config/glab", false),
            (".config", ".config2", false),
        ] {
            assert_eq!(path(one).overlaps(&path(two)), overlap, "{one}, {two}");
        }
    }

    #[test]
    fn a_shared_volume_has_a_plain_name_and_lies_in_the_home() {
        for (text, path) in [("~/.claude", Some(".claude")), ("~/a/b", Some("a/b"))] {
            let parsed = InHome::try_from(text.to_owned()).ok();
            assert_eq!(parsed.as_ref().map(|it| it.0.as_str()), path);
            assert_eq!(parsed.map(String::from).as_deref(), Some(text));
        }
        for text in ["/etc", "~", "~/", "~/..", "~dev/x", ".claude", "~//x"] {
            assert!(InHome::try_from(text.to_owned()).is_err(), "{text}");
        }
        let name = |text: &str| SharedVolume::try_from(text.to_owned());
        assert_eq!(
            name("claude").unwrap().in_docker(),
            "hatchery.shared.claude"
        );
        for text in ["", "a/b", "a,b", "a b", "é"] {
            assert!(name(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_two_paths_have_one_name(one in "[a-z_./]{1,6}", two in "[a-z_./]{1,6}") {
            if let (Ok(one), Ok(two)) = (HomePath::try_from(one), HomePath::try_from(two)) {
                prop_assert_eq!(one == two, one.in_a_name() == two.in_a_name());
            }
        }
    }
}
