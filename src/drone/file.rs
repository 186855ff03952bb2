//! `drone.json`: what a drone may know of itself. The server writes it into the directory that is
//! mounted into the drone; the credential helper reads it there.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::repo::RepoId;
#[cfg(feature = "server")]
pub use server::write_drone_file;

/// The file's name in the drone's directory.
pub const NAME: &str = "drone.json";
/// The drone's socket, beside it.
pub const SOCKET: &str = "github-creds.sock";
/// The most that is read of it, in bytes: 500 repositories are about 75 kB.
const MAX: u64 = 1024 * 1024;

/// What a drone may know of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DroneFile {
    /// Where its GitHub is: `https://github.com`, or an Enterprise Server's URL.
    pub url: String,
    /// The repositories of its scope, its own first.
    pub repositories: Vec<RepoId>,
}

impl DroneFile {
    /// Reads it from this directory.
    pub fn read(directory: &Path) -> std::io::Result<Self> {
        let mut text = String::new();
        File::open(directory.join(NAME))?
            .take(MAX)
            .read_to_string(&mut text)?;
        Ok(serde_json::from_str(&text)?)
    }
}

/// The server's side.
#[cfg(feature = "server")]
mod server {
    use std::path::Path;

    use url::Url;

    use super::{DroneFile, NAME};
    use crate::drone::Scope;
    use crate::error::Result;
    use crate::host::write_whole;

    /// Every process in the drone reads it.
    pub(super) const MODE: u32 = 0o644;

    impl DroneFile {
        /// What the drone of this scope may know.
        pub fn new(github_url: &Url, scope: &Scope) -> Self {
            Self {
                url: github_url.as_str().trim_end_matches('/').to_owned(),
                repositories: scope.repositories().to_vec(),
            }
        }
    }

    /// Writes `drone.json` into this directory, which must exist: whole or not at all, and not at all
    /// where it says the same already.
    pub fn write_drone_file(directory: &Path, github_url: &Url, scope: &Scope) -> Result<()> {
        let file = DroneFile::new(github_url, scope);
        if DroneFile::read(directory).is_ok_and(|there| there == file) {
            return Ok(());
        }
        let text = serde_json::json!(file).to_string();
        write_whole(&directory.join(NAME), MODE, text.as_bytes())
    }
}

#[cfg(all(test, feature = "server"))]
mod tests {
    use super::server::MODE;
    use super::*;
    use crate::drone::Scope;
    use std::os::unix::fs::MetadataExt;
    use url::Url;

    fn scope(text: &str) -> Scope {
        Scope::from_json(text).unwrap()
    }

    #[test]
    fn it_is_as_the_contract_says_and_reads_back() {
        let directory = tempfile::tempdir().unwrap();
        let url = Url::parse("https://github.com").unwrap();
        let scope = scope(r#"{"repositories": ["Acme/Site", "acme/theme"]}"#);
        write_drone_file(directory.path(), &url, &scope).unwrap();
        let text = std::fs::read_to_string(directory.path().join("drone.json")).unwrap();
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&text).unwrap(),
            serde_json::json!({"url": "https://github.com", "repositories": ["Acme/Site", "acme/theme"]})
        );
        let read = DroneFile::read(directory.path()).unwrap();
        assert_eq!(read, DroneFile::new(&url, &scope));
    }

    #[test]
    fn it_is_replaced_whole_open_to_all_and_left_alone_when_nothing_changed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(NAME);
        let url = Url::parse("https://ghe.corp.example:8443/").unwrap();
        let one = scope(r#"{"repositories": ["acme/site"]}"#);
        std::fs::write(&path, "{").unwrap();
        write_drone_file(directory.path(), &url, &one).unwrap();
        let first = std::fs::metadata(&path).unwrap();
        assert_eq!(first.mode() & 0o777, MODE);
        write_drone_file(directory.path(), &url, &one).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().ino(), first.ino());
        let more = scope(r#"{"repositories": ["acme/site", "acme/theme"]}"#);
        write_drone_file(directory.path(), &url, &more).unwrap();
        assert_ne!(std::fs::metadata(&path).unwrap().ino(), first.ino());
        assert_eq!(
            DroneFile::read(directory.path()).unwrap().repositories,
            more.repositories()
        );
        let left = std::fs::read_dir(directory.path()).unwrap().count();
        assert_eq!(left, 1, "nothing else is left in the drone's directory");
    }

    #[test]
    fn a_directory_that_is_not_there_is_named() {
        let url = Url::parse("https://github.com").unwrap();
        let absent = Path::new("/nonexistent/acme-site");
        let error = write_drone_file(absent, &url, &scope(r#"{"repositories": ["a/b"]}"#));
        assert!(
            error
                .unwrap_err()
                .message()
                .contains("/nonexistent/acme-site/drone.json")
        );
    }
}
