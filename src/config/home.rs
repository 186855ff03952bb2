//! Directories of the user's home that outlive a container.

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
            "{text:?} is no directory of a home; write \".claude\" or \".config/gh\": a path without `..`, of \
             letters, digits, dots, hyphens and underscores, and of at most {MAX} characters"
        ))
    }
}

impl From<HomePath> for String {
    fn from(path: HomePath) -> Self {
        path.0
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

    proptest! {
        #[test]
        fn no_two_paths_have_one_name(one in "[a-z_./]{1,6}", two in "[a-z_./]{1,6}") {
            if let (Ok(one), Ok(two)) = (HomePath::try_from(one), HomePath::try_from(two)) {
                prop_assert_eq!(one == two, one.in_a_name() == two.in_a_name());
            }
        }
    }
}
