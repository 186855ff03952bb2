//! What this server remembers of a drone: a small JSON file for each matter.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Places, write_whole};
use crate::error::{Code, Error, Result, host_io};

/// Who may read it: the group hatchery, as all that is kept of drones.
const MODE: u32 = 0o640;
/// The largest that is read, in bytes: a kept configuration, as JSON, and 500 repositories.
const MOST: u64 = 8 * 1024 * 1024;

/// What is remembered in this file, if it is there.
///
/// # Errors
/// It cannot be read, or is damaged: `hint` says what to do about that.
pub fn recalled<T: DeserializeOwned>(path: &Path, hint: &'static str) -> Result<Option<T>> {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(MOST).read_to_string(&mut text));
    match read {
        Ok(_) => serde_json::from_str(&text).map(Some).map_err(|error| {
            Error::new(Code::HostFailed, format!("{} is damaged", path.display()))
                .hint(hint)
                .because(error)
        }),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(host_io("read", path, error)),
    }
}

impl Places {
    /// Remembers it in this file, which is one of a drone's.
    pub fn remember(&self, path: &Path, record: &impl Serialize) -> Result<()> {
        self.shared_directory(&self.scopes())?;
        let text = serde_json::json!(record).to_string();
        write_whole(path, MODE, text.as_bytes())
    }
}
