//! Secrets: read from files when they are needed, never shown.

mod environment;

use std::fmt;
use std::io::Read;
use std::path::Path;

pub use self::environment::{Environment, is_name};
use crate::error::{Code, Error, Result};

/// The most that a secret file may hold, in bytes; a key or a token is far smaller.
const MAX_SECRET: u64 = 64 * 1024;

/// A secret text. It cannot be printed, logged or serialised.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text that must not be shown.
    pub const fn new(text: String) -> Self {
        Self(text)
    }

    /// Reads the secret in this file, without the white space around it. `key` is the
    /// configuration key that names the file.
    pub fn read(path: &Path, key: &str) -> Result<Self> {
        let text = read(path, key)?;
        let trimmed = text.trim();
        if trimmed.is_empty() {
            return Err(unreadable(path, key, "is empty").hint("write the secret into it"));
        }
        Ok(Self(trimmed.to_owned()))
    }

    /// The secret itself, for the one place that must have it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

fn unreadable(path: &Path, key: &str, what: &str) -> Error {
    Error::new(Code::SecretUnreadable, named(path, key, what))
}

/// What is wrong with a file, by its path and the key that names it.
fn named(path: &Path, key: &str, what: &str) -> String {
    format!("{}, named by {key}, {what}", path.display())
}

/// The text of a file that holds secrets.
fn read(path: &Path, key: &str) -> Result<String> {
    let file = std::fs::File::open(path).map_err(|error| {
        unreadable(path, key, "cannot be opened")
            .hint("check the path and that hatchery may read it")
            .because(error)
    })?;
    let mut text = String::new();
    file.take(MAX_SECRET + 1)
        .read_to_string(&mut text)
        .map_err(|error| unreadable(path, key, "cannot be read as text").because(error))?;
    if text.len() as u64 > MAX_SECRET {
        let what = format!("is larger than {MAX_SECRET} bytes");
        return Err(unreadable(path, key, &what).hint("name the file that holds secrets alone"));
    }
    Ok(text)
}
