//! What gives git and `gh` in a drone their tokens: the helper under its two names, what git is told of it,
//! and the socket where other clients look for it.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::gitconfig::Section;
use crate::config::Github;
use crate::docker::{Docker, Entry, Tree};
use crate::error::{Code, Error, Result, host_io};
use crate::helper::{BUNDLE, REAL_GH};

/// The helper, under the name by which git finds it.
const HELPER: &str = "/usr/local/bin/git-credential-hatchery";
/// Before the image's own `gh` on every usual search path.
const GH: &str = "/usr/local/bin/gh";
/// A link that leads nowhere; what it says is which helper is there.
const VERSION: &str = "/usr/local/lib/hatchery/helper-version";
/// Where the spec's scripts look for the socket.
const SOCKET: &str = "/var/run/github-creds.sock";
/// Certificates that an image trusts (Debian, Alpine, Arch; Red Hat has a link there).
const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";
/// The largest `gh` that is kept, in bytes; 2.62 has 55 MB.
const MAX_GH: usize = 128 * 1024 * 1024;
/// The largest of the other files that is read, in bytes.
const MAX_FILE: usize = 4 * 1024 * 1024;

/// The static program that goes into drones.
#[derive(Debug, Clone)]
pub struct Helper {
    path: PathBuf,
    version: String,
}

impl Helper {
    /// The one that was installed with this hatchery.
    pub fn installed() -> Result<Self> {
        let own = std::env::current_exe()
            .map_err(|error| host_io("find", Path::new("hatchery"), error))?;
        let directory = own.parent().unwrap_or(Path::new("/"));
        let places = [
            "../libexec/hatchery/hatchery-drone",
            "static/hatchery-drone",
        ];
        for place in places.map(|place| directory.join(place)) {
            if let Ok(file) = std::fs::metadata(&place) {
                // In a Nix store nothing but the path tells one version from another.
                let path = std::fs::canonicalize(&place).unwrap_or(place);
                return Ok(Self {
                    version: format!(
                        "{}-{}.{}-{}",
                        file.size(),
                        file.mtime(),
                        file.mtime_nsec(),
                        path.display()
                    ),
                    path,
                });
            }
        }
        Err(Error::new(
            Code::ProgramMissing,
            format!(
                "hatchery-drone is not in its place, {} next to {}",
                places[0],
                directory.display()
            ),
        )
        .hint("install all of hatchery: `make build`, then `make install`"))
    }

    /// Where it is on this server.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether this container has another one, or none.
    pub async fn is_outdated_in(&self, docker: &Docker, container: &str) -> Result<bool> {
        let there = docker.entry(container, VERSION, MAX_FILE).await?;
        Ok(there != Some(Entry::Link(PathBuf::from(&self.version))))
    }
}

/// All of it, added to what goes into this container, and what git is to be told.
pub async fn tree(
    docker: &Docker,
    container: &str,
    github: &Github,
    helper: &Helper,
    mut tree: Tree,
) -> Result<(Tree, Section)> {
    let program = std::fs::read(&helper.path).map_err(|e| host_io("read", &helper.path, e))?;
    let (gh, bundle) =
        tokio::try_join!(own_gh(docker, container), bundle(docker, container, github))?;
    tree = tree.directory("/usr/local/lib/hatchery", 0o755);
    tree = match gh {
        Some(Entry::Link(to)) => tree.link(REAL_GH, Path::new(GH).with_file_name("").join(to)),
        Some(Entry::File(content)) => tree.file(REAL_GH, 0o755, content),
        None => tree,
    };
    tree = tree
        .file(HELPER, 0o755, program)
        .link(VERSION, &helper.version)
        .link(GH, "git-credential-hatchery")
        .link(SOCKET, "/run/hatchery/github-creds.sock");
    let has_bundle = bundle.is_some();
    if let Some(bundle) = bundle {
        tree = tree
            .directory("/etc/hatchery", 0o755)
            .file(BUNDLE, 0o644, bundle);
    }
    Ok((tree, section(github, has_bundle)))
}

/// The image's own `gh`, where that is at the place of ours and we have not been there yet. Later,
/// whatever lies there is the drone's doing.
async fn own_gh(docker: &Docker, container: &str) -> Result<Option<Entry>> {
    match docker.entry(container, VERSION, MAX_FILE).await? {
        Some(_) => Ok(None),
        None => docker.entry(container, GH, MAX_GH).await,
    }
}

/// The certificates that the image trusts and those of the configuration, where it names some.
async fn bundle(docker: &Docker, container: &str, github: &Github) -> Result<Option<Vec<u8>>> {
    let Some(path) = &github.ca_file else {
        return Ok(None);
    };
    let own = std::fs::read(path).map_err(|error| host_io("read", path, error))?;
    let there = docker.file(container, CERTIFICATES, MAX_FILE).await?;
    let mut bundle = there.unwrap_or_default();
    if !bundle.is_empty() && !bundle.ends_with(b"\n") {
        bundle.push(b'\n');
    }
    bundle.extend_from_slice(&own);
    Ok(Some(bundle))
}

/// git's configuration for this GitHub: the empty helper forgets those of the image, of which one
/// might keep the token on the disk.
fn section(github: &Github, has_bundle: bool) -> Section {
    let origin = github.url.origin().ascii_serialization();
    // Of a port the other protocols know nothing: they have their own.
    let host = github.url.host_str().unwrap_or_default();
    let spelled: String = [
        format!("git@{host}:"),
        format!("ssh://git@{host}/"),
        format!("ssh://git@ssh.{host}:443/"),
        format!("git://{host}/"),
        format!("http://{host}/"),
    ]
    .map(|prefix| format!("\tinsteadOf = {prefix}\n"))
    .concat();
    let certificates = if has_bundle {
        format!("[http \"{origin}\"]\n\tsslCAInfo = {BUNDLE}\n")
    } else {
        String::new()
    };
    Section::credentials(format!(
        "[credential \"{origin}\"]\n\thelper =\n\thelper = {HELPER}\n\tuseHttpPath = true\n\
         [url \"{origin}/\"]\n{spelled}{certificates}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn git_is_told_of_this_github_in_all_its_spellings() {
        let told = |url: &str, has_bundle| {
            let github = Github {
                url: url.parse().unwrap(),
                ..Github::default()
            };
            section(&github, has_bundle).text().to_owned()
        };
        let text = told("https://ghe.example:8443", true);
        assert!(!text.contains("github.com"), "{text}");
        assert!(text.contains("[credential \"https://ghe.example:8443\"]"));
        assert!(text.contains("insteadOf = git@ghe.example:\n"));
        assert!(text.contains(BUNDLE));
        assert!(!told("https://github.com", false).contains(BUNDLE));
    }
}
