//! Files of this server's that go into a drone's clone, because the repository does not hold them.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::config::Config;
use crate::error::{Code, Error, Result, host_io};
use crate::repo::RepoId;

/// The largest file that is handed in, in bytes.
const MAX_FILE: u64 = 1024 * 1024;

/// Puts the files that the configuration has for this repository into its checkout, each at its path
/// there, in place of what the repository has. A link of the repository's is not followed.
pub fn into(checkout: &Path, repo: &RepoId, config: &Config) -> Result<()> {
    let settings = config.drones.get(repo);
    settings.map_or(Ok(()), |settings| put_all(checkout, &settings.files))
}

fn put_all(checkout: &Path, files: &BTreeMap<String, PathBuf>) -> Result<()> {
    for (path, file) in files {
        let mut content = Vec::new();
        let opened = fs::File::open(file).and_then(|opened| {
            let mut opened = opened.take(MAX_FILE + 1);
            opened.read_to_end(&mut content)
        });
        opened.map_err(|error| host_io("read", file, error))?;
        if content.len() as u64 > MAX_FILE {
            return Err(Error::new(
                Code::ConfigInvalid,
                format!("{} is larger than 1 MiB", file.display()),
            )
            .hint(format!(
                "hand in another file for {path} in the configuration"
            )));
        }
        let at = checkout.join(path);
        let folder = at.parent().unwrap_or(checkout);
        make(checkout, folder)?;
        let put = match fs::remove_file(&at) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&at)
                .and_then(|mut put| put.write_all(&content)),
        };
        put.map_err(|error| host_io("write", &at, error))?;
    }
    Ok(())
}

/// Makes a directory below the checkout, which no link leads out of.
fn make(checkout: &Path, folder: &Path) -> Result<()> {
    let below = folder.strip_prefix(checkout).unwrap_or(Path::new(""));
    let mut at = checkout.to_path_buf();
    for part in below.components() {
        at.push(part);
        match at.symlink_metadata() {
            Ok(found) if found.is_dir() => {}
            Ok(_) => {
                return Err(Error::new(
                    Code::DevcontainerInvalid,
                    format!("{} is not a directory in the repository", below.display()),
                )
                .hint("the configuration hands in a file there; choose another path in the configuration"));
            }
            Err(_) => fs::create_dir(&at).map_err(|error| host_io("make", &at, error))?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn a_file_is_put_where_no_link_leads() {
        let place = tempfile::tempdir().unwrap();
        let (checkout, outside) = (place.path().join("site"), place.path().join("outside"));
        fs::create_dir(&checkout).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("theirs"), "theirs").unwrap();
        symlink("../outside/theirs", checkout.join("link")).unwrap();
        symlink("../outside", checkout.join("folder")).unwrap();
        let secret = place.path().join("secret");
        fs::write(&secret, "A=1\n").unwrap();
        let put = |path: &str| put_all(&checkout, &[(path.to_owned(), secret.clone())].into());
        for path in [".env", "deep/er/.env", "link", ".env"] {
            put(path).unwrap();
            let at = checkout.join(path);
            assert!(at.symlink_metadata().unwrap().is_file(), "{path}");
            assert_eq!(fs::read_to_string(&at).unwrap(), "A=1\n", "{path}");
            let mode = at.metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{path}");
        }
        assert!(put("folder/.env").is_err() && put("deep").is_err());
        let left: Vec<_> = fs::read_dir(&outside).unwrap().collect();
        assert_eq!(left.len(), 1);
        assert_eq!(
            fs::read_to_string(outside.join("theirs")).unwrap(),
            "theirs"
        );
    }
}
