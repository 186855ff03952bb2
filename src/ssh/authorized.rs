//! The public keys that may log in to drones: the configuration's lines, and what its URLs answer.

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::future::join_all;
use ssh_key::authorized_keys::Entry;
use url::Url;

use crate::config::Ssh;
use crate::error::{Code, Error, Result};
use crate::http;

/// How long a URL may take to answer.
const LIMIT: Duration = Duration::from_secs(5);
/// The most that is read of a URL's answer or of a file, in bytes.
const MAX_BODY: usize = 64 * 1024;
/// The most lines of one source that are looked at.
const MAX_LINES: usize = 1000;
/// The most `.pub` files of the person that are looked at.
const MAX_FILES: usize = 100;

/// Who may log in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuthorizedKeys {
    /// Lines as in `authorized_keys` (sshd(8)), each a valid one, none twice.
    pub lines: Vec<String>,
    /// What was left out and why, for the person to read.
    pub warnings: Vec<String>,
}

impl AuthorizedKeys {
    /// The text of the file.
    pub fn text(&self) -> String {
        let mut text = self.lines.join("\n");
        text.push('\n');
        text
    }

    fn add(&mut self, text: &str, source: &str) {
        let mut bad = Vec::new();
        for (number, line) in text.lines().enumerate() {
            if number == MAX_LINES {
                self.warnings.push(format!(
                    "{source}: lines after line {MAX_LINES} are ignored"
                ));
                break;
            }
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            match entry(line) {
                Some(line) if self.lines.contains(&line) => {}
                Some(line) => self.lines.push(line),
                // Not the line itself: it could be anything.
                None => bad.push((number + 1).to_string()),
            }
        }
        if !bad.is_empty() {
            let more = if bad.len() > 5 { ", …" } else { "" };
            bad.truncate(5);
            self.warnings.push(format!(
                "{source}: no public key on line {}{more}; ignored",
                bad.join(", ")
            ));
        }
    }
}

/// The line as it was understood, on which sshd and we agree.
fn entry(line: &str) -> Option<String> {
    if line.chars().any(char::is_control) {
        return None;
    }
    line.parse::<Entry>().ok().map(|entry| entry.to_string())
}

/// Gathers the keys. A URL that is away is a warning as long as any key remains. With nothing
/// configured they are the invoking person's own: `~/.ssh/*.pub` and `~/.ssh/authorized_keys`.
pub async fn authorized_keys(ssh: &Ssh) -> Result<AuthorizedKeys> {
    if ssh.authorized_keys.is_empty() && ssh.authorized_keys_from.is_empty() {
        return tokio::task::spawn_blocking(|| of_person(home_of_person().as_deref()))
            .await
            .map_err(|error| {
                Error::new(Code::HostFailed, "cannot read your public keys").because(error)
            })?;
    }
    let mut keys = AuthorizedKeys::default();
    keys.add(&ssh.authorized_keys.join("\n"), "ssh.authorized_keys");
    if !ssh.authorized_keys_from.is_empty() {
        // Keys over anything but https could be anyone's.
        let client = http::client(
            LIMIT,
            reqwest::redirect::Policy::custom(|attempt| {
                if attempt.url().scheme() == "https" && attempt.previous().len() < 4 {
                    attempt.follow()
                } else {
                    attempt.stop()
                }
            }),
        )?;
        let urls = &ssh.authorized_keys_from;
        let answers = join_all(urls.iter().map(|url| fetch(&client, url))).await;
        for (url, answer) in urls.iter().zip(answers) {
            match answer {
                Ok(text) => keys.add(&text, url.as_str()),
                Err(why) => keys.warnings.push(format!("{url}: {why}; ignored")),
            }
        }
    }
    if keys.lines.is_empty() {
        return Err(nobody(&format!(
            "there is no key that may log in to the drone: {}",
            match &keys.warnings[..] {
                [] => "the configured URLs contain none".to_owned(),
                warnings => warnings.join("; "),
            }
        ))
        .hint("fix ssh.authorized_keys or ssh.authorized_keys_from, or try again"));
    }
    Ok(keys)
}

async fn fetch(client: &reqwest::Client, url: &Url) -> Result<String, String> {
    let told = |error: &dyn std::error::Error| {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            text = format!("{text}: {cause}");
            source = cause.source();
        }
        text
    };
    let response = client
        .get(url.clone())
        .send()
        .await
        .map_err(|error| told(&error.without_url()))?;
    if !response.status().is_success() {
        return Err(format!("it answers {}", response.status()));
    }
    let body = http::body(response, MAX_BODY)
        .await
        .map_err(|error| told(&error))?;
    String::from_utf8(body).map_err(|_| "the answer is not text".to_owned())
}

fn of_person(home: Option<&Path>) -> Result<AuthorizedKeys> {
    let mut keys = AuthorizedKeys::default();
    if let Some(home) = home {
        let directory = home.join(".ssh");
        let mut files: Vec<PathBuf> = std::fs::read_dir(&directory)
            .into_iter()
            .flatten()
            .flatten()
            .map(|file| file.path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "pub"))
            .take(MAX_FILES)
            .collect();
        files.sort();
        files.push(directory.join("authorized_keys"));
        for file in files {
            if let Some(text) = read(&file) {
                keys.add(&text, &file.display().to_string());
            }
        }
    }
    if keys.lines.is_empty() {
        let place = home.map_or("your home directory".to_owned(), |home| {
            home.join(".ssh").display().to_string()
        });
        return Err(nobody(&format!(
            "no public key was found in {place} that may log in to the drone"
        ))
        .hint(
            "create one with `ssh-keygen -t ed25519`, or set ssh.authorized_keys in the \
                     configuration",
        ));
    }
    Ok(keys)
}

fn nobody(what: &str) -> Error {
    Error::new(Code::NoAuthorizedKey, what)
}

/// The file's text, if it is a file, is text and is not too large.
fn read(path: &Path) -> Option<String> {
    use std::io::Read;
    // Looked at before it is opened: to open a FIFO would wait for ever.
    if !std::fs::metadata(path).ok()?.is_file() {
        return None;
    }
    let mut text = String::new();
    std::fs::File::open(path)
        .ok()?
        .take(MAX_BODY as u64)
        .read_to_string(&mut text)
        .ok()?;
    Some(text)
}

/// The home of who typed the command: with sudo, not root's.
fn home_of_person() -> Option<PathBuf> {
    if rustix::process::geteuid().is_root()
        && let Some(user) = std::env::var("SUDO_USER")
            .ok()
            .filter(|user| user != "root")
    {
        let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        return home_in(&passwd, &user).or_else(|| {
            // Users from a directory service are not in the file.
            Some(Path::new("/home").join(user)).filter(|home| home.is_dir())
        });
    }
    crate::host::home()
}

/// The home directory of this user in a passwd(5) file.
fn home_in(passwd: &str, user: &str) -> Option<PathBuf> {
    passwd
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields.len() == 7 && fields[0] == user)
        .map(|fields| PathBuf::from(fields[5]))
        .filter(|home| home.is_absolute())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti";

    fn with(lines: &[&str], urls: &[&str]) -> Ssh {
        Ssh {
            authorized_keys: lines.iter().map(ToString::to_string).collect(),
            authorized_keys_from: urls.iter().map(|url| url.parse().unwrap()).collect(),
        }
    }

    #[test]
    fn lines_that_are_no_keys_are_left_out_and_told_by_number() {
        let mut keys = AuthorizedKeys::default();
        let comment = format!("{KEY} levin@laptop");
        keys.add(
            &format!("# mine\n\n{comment}\r\nSECRET\n{comment}\n{KEY} a\u{7}b\n"),
            "somewhere",
        );
        assert_eq!(keys.text(), format!("{comment}\n"));
        assert_eq!(
            keys.warnings,
            ["somewhere: no public key on line 4, 6; ignored"]
        );
    }

    #[test]
    fn a_source_gives_no_more_than_a_thousand_lines() {
        let mut keys = AuthorizedKeys::default();
        keys.add(&format!("{}{KEY}\n", "#\n".repeat(MAX_LINES)), "somewhere");
        assert!(keys.lines.is_empty());
        assert_eq!(keys.warnings.len(), 1);
    }

    #[tokio::test]
    async fn a_url_that_is_away_matters_only_when_no_key_remains() {
        let away = "https://127.0.0.1:9/levin.keys";
        let keys = authorized_keys(&with(&[KEY], &[away])).await.unwrap();
        assert_eq!(keys.lines.len(), 1);
        assert!(keys.warnings[0].starts_with(away), "{:?}", keys.warnings);
        let error = authorized_keys(&with(&[], &[away])).await.unwrap_err();
        assert_eq!(error.code(), Code::NoAuthorizedKey);
        assert!(error.message().contains(away), "{error}");
    }

    #[test]
    fn with_nothing_configured_they_are_the_persons_own() {
        let home = tempfile::tempdir().unwrap();
        let error = of_person(Some(home.path())).unwrap_err();
        assert_eq!(error.code(), Code::NoAuthorizedKey);
        assert!(error.what_next().unwrap().contains("ssh-keygen"));
        assert!(of_person(None).is_err());

        let ssh = home.path().join(".ssh");
        std::fs::create_dir(&ssh).unwrap();
        std::fs::write(ssh.join("id_ed25519.pub"), format!("{KEY} a\n")).unwrap();
        std::fs::write(
            ssh.join("id_ed25519"),
            "-----BEGIN OPENSSH PRIVATE KEY-----\n",
        )
        .unwrap();
        std::fs::write(ssh.join("authorized_keys"), format!("no-pty {KEY} b\n")).unwrap();
        let keys = of_person(Some(home.path())).unwrap();
        assert_eq!(keys.lines, [format!("{KEY} a"), format!("no-pty {KEY} b")]);
        assert!(keys.warnings.is_empty());
    }

    #[test]
    fn the_home_is_the_one_in_passwd() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\nlevin:x:1000:1000:L:/data/levin:/bin/zsh\nodd:x:1:1::relative:\n";
        assert_eq!(home_in(passwd, "levin"), Some("/data/levin".into()));
        assert_eq!(home_in(passwd, "lev"), None);
        assert_eq!(home_in(passwd, "odd"), None);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic_and_what_is_taken_is_one_line(text in "\\PC{0,40}( |\t|\u{0}|\n)\\PC{0,80}") {
            let mut keys = AuthorizedKeys::default();
            keys.add(&text, "x");
            prop_assert!(keys.lines.iter().all(|line| !line.chars().any(char::is_control)));
        }
    }
}
