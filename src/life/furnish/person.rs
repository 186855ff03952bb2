//! Who commits in a drone: a part of git's system-wide configuration, over which the person's own goes.

use std::ffi::OsStr;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::process::Command;

use super::gitconfig;
use crate::config::{Git, Words};
use crate::process;

/// How long git may take to read its configuration.
const WITHIN: Duration = Duration::from_secs(5);
/// The longest answer of git's that is read, in bytes.
const MAX_ANSWER: u64 = 4096;
/// What of the caller's environment says where their configuration is (git-config(1), FILES).
const WHERE: [&str; 4] = [
    "HOME",
    "XDG_CONFIG_HOME",
    "GIT_CONFIG_GLOBAL",
    "GIT_CONFIG_SYSTEM",
];

/// Name and address, as far as they are known.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Person {
    name: Option<Words>,
    email: Option<Words>,
}

impl Person {
    /// Whom the configuration names, and where it does not, the caller.
    pub async fn of(config: &Git) -> Self {
        let (name, email) = tokio::join!(
            or_callers(config.name.as_ref(), "user.name"),
            or_callers(config.email.as_ref(), "user.email")
        );
        Self { name, email }
    }

    /// Whom the configuration names in full: nothing is asked of the caller.
    pub fn of_configuration(config: &Git) -> Option<Self> {
        let (name, email) = (config.name.clone()?, config.email.clone()?);
        Some(Self {
            name: Some(name),
            email: Some(email),
        })
    }

    /// What git is told.
    pub fn section(&self) -> gitconfig::Section {
        let line = |key, value: &Option<Words>| {
            let value = value.as_ref().map(Words::as_str);
            value.map_or_else(String::new, |value| {
                format!("\t{key} = {}\n", gitconfig::quoted(value))
            })
        };
        let lines = line("name", &self.name) + &line("email", &self.email);
        let text = if lines.is_empty() {
            lines
        } else {
            format!("[user]\n{lines}")
        };
        gitconfig::Section::person(text)
    }
}

async fn or_callers(configured: Option<&Words>, key: &str) -> Option<Words> {
    match configured {
        Some(words) => Some(words.clone()),
        None => callers(key).await,
    }
}

/// What the caller's git says. That it cannot be asked is no reason not to spawn.
async fn callers(key: &str) -> Option<Words> {
    let mut command = Command::new(process::find("git")?);
    process::emptied(&mut command);
    let here = WHERE.map(|name| (name, std::env::var_os(name)));
    let set = here
        .iter()
        .filter_map(|(name, value)| Some((name, value.as_deref()?)));
    command.envs(set.map(|(name, value): (&&str, &OsStr)| (*name, value)));
    // Of no repository, wherever hatchery was called.
    command.current_dir("/").args(["config", "--get", key]);
    command
        .kill_on_drop(true)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .stdout(Stdio::piped());
    let mut child = command.spawn().ok()?;
    let mut said = String::new();
    let answer = child.stdout.take()?.take(MAX_ANSWER);
    let mut answer = std::pin::pin!(answer);
    let read = tokio::time::timeout(WITHIN, answer.read_to_string(&mut said)).await;
    read.ok()?.ok()?;
    said.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn git(text: &str) -> Git {
        toml::from_str(text).unwrap()
    }

    #[tokio::test]
    async fn the_configuration_comes_first_and_stands_alone_where_it_is_whole() {
        let whole = git("name = \"Ada \\\"L\\\"\"\nemail = \"ada@example.com\"");
        let person = Person::of(&whole).await;
        assert_eq!(Person::of_configuration(&whole), Some(person.clone()));
        let expected = "[user]\n\tname = \"Ada \\\"L\\\"\"\n\temail = \"ada@example.com\"\n";
        assert!(person.section().text().contains(expected), "{person:?}");
        assert_eq!(Person::of_configuration(&git("name = \"Ada\"")), None);
    }

    #[test]
    fn a_name_is_one_line() {
        for (text, expected) in [
            ("Ada", Some("Ada")),
            (" Ada Lovelace\n", Some("Ada Lovelace")),
            ("Ådä", Some("Ådä")),
            ("", None),
            (" \n", None),
            ("a\nb", None),
            ("a\u{1b}[1m", None),
            ("Ada <ada@example.com>", None),
        ] {
            let words = Words::try_from(text.to_owned());
            assert_eq!(words.as_ref().map(Words::as_str).ok(), expected, "{text:?}");
        }
        assert!(Words::try_from("x".repeat(200)).is_ok());
        assert!(Words::try_from("x".repeat(201)).is_err());
    }

    #[test]
    fn nobody_takes_away_who_was_there() {
        let nobody = Person::default().section();
        assert_eq!(nobody.text(), "");
    }
}
