//! `[git]`: who commits in a drone, and how.

use serde::{Deserialize, Serialize};

/// The longest name or address, in bytes.
const MAX: usize = 200;

/// `[git]`
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Git {
    /// The author's name, for drones; the caller's own where it is not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<Words>,
    /// The author's address, likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<Words>,
    /// Whether commits are signed, by a key of the drone's own.
    pub sign: bool,
}

/// A name or an address, as git writes it into a commit: it leaves out `<`, `>` and line ends
/// (git-commit(1), "Commit information").
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Words(String);

impl Words {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Words {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let text = text.trim();
        if text.is_empty() || text.len() > MAX {
            return Err("must have 1 to 200 bytes");
        }
        if text.contains(|c: char| c.is_control() || matches!(c, '<' | '>')) {
            return Err("must be one line without < and >");
        }
        Ok(Self(text.to_owned()))
    }
}

impl From<Words> for String {
    fn from(words: Words) -> Self {
        words.0
    }
}
