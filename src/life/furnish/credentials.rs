//! What gives git and `gh` in a drone their tokens: the helper under its two names, git's
//! system-wide configuration, and the socket where other clients look for it.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

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
/// git's configuration for all users (git-config(1), FILES).
const GITCONFIG: &str = "/etc/gitconfig";
/// Where the spec's scripts look for the socket.
const SOCKET: &str = "/var/run/github-creds.sock";
/// Certificates that an image trusts (Debian, Alpine, Arch; Red Hat has a link there).
const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";
/// The largest `gh` that is kept, in bytes; 2.62 has 55 MB.
const MAX_GH: usize = 128 * 1024 * 1024;
/// The largest of the other files that is read, in bytes.
const MAX_FILE: usize = 4 * 1024 * 1024;

const BEGIN: &str = "# hatchery: begin; written anew at every start of this drone";
const END: &str = "# hatchery: end";

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
                "hatchery-drone is not where it belongs, {} beside {}",
                places[0],
                directory.display()
            ),
        )
        .hint("install hatchery whole: `make build`, then `make install`"))
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

/// All of it, added to what goes into this container.
pub async fn tree(
    docker: &Docker,
    container: &str,
    github: &Github,
    helper: &Helper,
    mut tree: Tree,
) -> Result<Tree> {
    let program = std::fs::read(&helper.path).map_err(|e| host_io("read", &helper.path, e))?;
    let (gh, gitconfig, bundle) = tokio::try_join!(
        own_gh(docker, container),
        docker.file(container, GITCONFIG, MAX_FILE),
        bundle(docker, container, github),
    )?;
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
    let before = gitconfig.unwrap_or_default();
    let before = String::from_utf8_lossy(&before);
    let config = with_block(&before, &block(github, has_bundle));
    Ok(tree.file(GITCONFIG, 0o644, config.into_bytes()))
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
fn block(github: &Github, has_bundle: bool) -> String {
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
    format!(
        "{BEGIN}\n[credential \"{origin}\"]\n\thelper =\n\thelper = {HELPER}\n\tuseHttpPath = true\n\
         [url \"{origin}/\"]\n{spelled}{certificates}{END}\n"
    )
}

/// The configuration with our block at its end, in place of the one that an earlier start wrote.
/// Of a block whose end somebody has removed only the first line goes: what follows may be theirs.
fn with_block(before: &str, block: &str) -> String {
    let mut text = String::with_capacity(before.len() + block.len());
    let mut lines = before.lines();
    // Once none is found there is none: a drone may write as many beginnings as it likes.
    let mut has_end = true;
    while let Some(line) = lines.next() {
        if line == BEGIN {
            let mut behind = lines.clone();
            has_end = has_end && behind.any(|line| line == END);
            if has_end {
                lines = behind;
            }
            continue;
        }
        text.push_str(line);
        text.push('\n');
    }
    text + block
}

#[cfg(test)]
mod tests {
    use super::*;

    fn github(url: &str) -> Github {
        Github {
            url: url.parse().unwrap(),
            ..Github::default()
        }
    }

    #[test]
    fn the_image_s_own_configuration_stays_and_ours_is_written_anew() {
        let own = "[user]\n\tname = x\n[credential]\n\thelper = store";
        let first = with_block(own, &block(&github("https://github.com"), false));
        assert!(first.starts_with(&format!("{own}\n{BEGIN}\n")), "{first}");
        let again = with_block(&first, &block(&github("https://github.com"), false));
        assert_eq!(first, again);
        let other = with_block(&first, &block(&github("https://ghe.example:8443"), true));
        assert!(!other.contains("github.com"), "{other}");
        assert!(other.contains("[credential \"https://ghe.example:8443\"]"));
        assert!(other.contains("insteadOf = git@ghe.example:\n"));
        assert!(other.contains(BUNDLE));
        assert!(other.starts_with(&format!("{own}\n")));
    }

    #[test]
    fn nothing_is_lost_behind_a_block_without_an_end() {
        let block = block(&github("https://github.com"), false);
        let damaged = block.replace(END, "[alias]\n\tco = checkout");
        let mended = with_block(&damaged, &block);
        assert!(mended.contains("[alias]\n\tco = checkout\n"), "{mended}");
        assert_eq!(mended.matches(BEGIN).count(), 1, "{mended}");
        assert_eq!(with_block(&mended, &block), mended);
    }

    #[test]
    fn beginnings_without_end_cost_no_more_than_their_length() {
        let block = block(&github("https://github.com"), false);
        let line = format!("{BEGIN}\n");
        let hostile = line.repeat(MAX_FILE / line.len());
        let begun = std::time::Instant::now();
        assert_eq!(with_block(&hostile, &block), block);
        assert!(begun.elapsed().as_secs() < 10, "{:?}", begun.elapsed());
    }
}
