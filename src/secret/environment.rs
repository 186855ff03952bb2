//! Variables of a drone's sessions and commands that nobody else is to see.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use super::{Secret, named, read};
use crate::error::{Code, Error, Result};

/// What stands for a value where it must not be: the devcontainer CLI passes variables on in the arguments of
/// programs. With the variable's name before it, it is put back on its way to Docker.
const STAND_IN: &str = "=hatchery-keeps-it=";

/// What is shown in place of a value.
const HIDDEN: &str = "********";

/// The shortest value that is hidden in what is shown: shorter ones are part of too many words.
const SHORTEST: usize = 4;

/// What a session has of its own.
const RESERVED: [&str; 8] = [
    "HOME", "LOGNAME", "OLDPWD", "PATH", "PWD", "SHELL", "SHLVL", "USER",
];

/// Variables with their values, which cannot be printed.
#[derive(Debug, Clone, Default)]
pub struct Environment(BTreeMap<String, Secret>);

impl Environment {
    /// Reads files as `docker run --env-file` does: a line is `NAME=value`, taken byte for byte after the `=`;
    /// empty lines and those that begin with `#` are left out. Each file comes with the configuration key that
    /// names it; of two values the later file's counts.
    pub fn read<'a>(files: impl IntoIterator<Item = (&'a Path, String)>) -> Result<Self> {
        let mut all = BTreeMap::new();
        for (path, key) in files {
            let text = read(path, &key)?;
            for (at, line) in text.lines().enumerate() {
                let line = line.trim_start();
                if line.is_empty() || line.starts_with('#') {
                    continue;
                }
                let (name, value) =
                    variable(line).map_err(|what| wrong(path, &key, at + 1, what))?;
                all.insert(name.to_owned(), Secret::new(value.to_owned()));
            }
        }
        Ok(Self(all))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether there is one of this name.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Names and values, for the places that must have them.
    pub fn expose(&self) -> impl Iterator<Item = (&str, &str)> {
        let all = self.0.iter();
        all.map(|(name, value)| (name.as_str(), value.expose()))
    }

    /// Puts them over entries `NAME=value`, or `NAME`, which takes a variable away.
    pub fn lay_over(&self, entries: &mut Vec<String>) {
        entries.retain(|entry| {
            let name = entry
                .split_once('=')
                .map_or(entry.as_str(), |(name, _)| name);
            !self.has(name)
        });
        entries.extend(self.expose().map(|(name, value)| format!("{name}={value}")));
    }

    /// The names, each with what stands for its value.
    pub fn stand_ins(&self) -> BTreeMap<&str, &'static str> {
        self.0
            .keys()
            .map(|name| (name.as_str(), STAND_IN))
            .collect()
    }

    /// The entry `NAME=value` that is meant by one with a stand-in; nothing where it is any other entry.
    pub fn meant(&self, entry: &str) -> Option<String> {
        let name = entry.strip_suffix(STAND_IN)?.strip_suffix('=')?;
        let value = self.0.get(name)?;
        Some(format!("{name}={}", value.expose()))
    }

    /// A text in which no value is to be seen.
    pub fn hide<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut shown = Cow::Borrowed(text);
        // The longest first: one may be a part of another.
        let mut values: Vec<_> = self.0.values().map(Secret::expose).collect();
        values.retain(|value| value.len() >= SHORTEST);
        values.sort_by_key(|value| std::cmp::Reverse(value.len()));
        for value in values {
            if shown.contains(value) {
                shown = Cow::Owned(shown.replace(value, HIDDEN));
            }
        }
        shown
    }
}

/// Whether a shell can have a variable of this name (POSIX, "Name").
pub fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// The name and the value of a line.
fn variable(line: &str) -> std::result::Result<(&str, &str), &'static str> {
    // Nothing of the line is told: it may hold a secret.
    let (name, value) = line.split_once('=').ok_or("is not NAME=value")?;
    if !is_name(name) {
        return Err("does not begin with a variable's name and `=`");
    }
    if RESERVED.contains(&name) || name.starts_with("TS_") {
        return Err("sets a variable that a session has of its own");
    }
    if value.chars().any(|c| c.is_control() && c != '\t') {
        return Err("has a control character in its value");
    }
    Ok((name, value))
}

fn wrong(path: &Path, key: &str, line: usize, what: &str) -> Error {
    let what = format!("cannot be used: line {line} {what}");
    Error::new(Code::ConfigInvalid, named(path, key, &what)).hint(
        "a line is NAME=value, as for `docker run --env-file`: without quotes around the value",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(text: &str) -> Result<Environment> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Environment::read([(file.path(), "devcontainer.env_file".to_owned())])
    }

    #[test]
    fn a_value_is_taken_as_it_is() {
        let text = "# who\n\nA=1\n B=\"x\" # $y \\\r\nEMPTY=\nA=2\n";
        let environment = of(text).unwrap();
        let all: Vec<_> = environment.expose().collect();
        assert_eq!(all, [("A", "2"), ("B", "\"x\" # $y \\"), ("EMPTY", "")]);
    }

    #[test]
    fn a_later_file_counts() {
        let (all, one) = (
            tempfile::NamedTempFile::new().unwrap(),
            tempfile::NamedTempFile::new().unwrap(),
        );
        std::fs::write(all.path(), "A=all\nB=all\n").unwrap();
        std::fs::write(one.path(), "B=one\n").unwrap();
        let files = [(all.path(), "a".to_owned()), (one.path(), "b".to_owned())];
        let environment = Environment::read(files).unwrap();
        let values: Vec<_> = environment.expose().collect();
        assert_eq!(values, [("A", "all"), ("B", "one")]);
    }

    #[test]
    fn what_is_wrong_is_named_by_its_line_and_never_shown() {
        for text in [
            "A=1\nghp_secret",
            "A=1\nghp secret=x",
            "A=1\nPATH=ghp_secret",
            "A=1\nTS_AUTHKEY=ghp_secret",
            "A=1\nB=ghp_secret\u{1b}[2J",
        ] {
            let error = of(text).unwrap_err();
            assert_eq!(error.code(), Code::ConfigInvalid, "{text:?}");
            let told = format!("{error:?} {error}");
            assert!(told.contains("line 2") && !told.contains("ghp"), "{told}");
        }
        assert!(Environment::read([(Path::new("/none"), String::new())]).is_err());
    }

    #[test]
    fn they_count_over_what_was_there() {
        let environment = of("A=1\nB=2").unwrap();
        let mut entries = ["A=0", "B", "C=3", "AA=4"].map(str::to_owned).to_vec();
        environment.lay_over(&mut entries);
        assert_eq!(entries, ["C=3", "AA=4", "A=1", "B=2"]);
    }

    #[test]
    fn only_a_whole_stand_in_is_put_back() {
        let environment = of("A=it's \"a\"\nB=2\n").unwrap();
        for (name, value) in environment.stand_ins() {
            let meant = environment.meant(&format!("{name}={value}"));
            assert!(meant.is_some_and(|entry| !entry.contains(STAND_IN)));
        }
        assert_eq!(
            environment.meant(&format!("A={STAND_IN}")).as_deref(),
            Some("A=it's \"a\"")
        );
        for other in [
            "A=1",
            "A",
            "A=",
            &format!("C={STAND_IN}"),
            &format!("A={STAND_IN} "),
            STAND_IN,
        ] {
            assert_eq!(environment.meant(other), None, "{other}");
        }
    }

    #[test]
    fn a_value_is_hidden_wherever_it_stands() {
        let environment = of("A=secret\nB=secret-and-more\nC=x\n").unwrap();
        for (text, shown) in [
            ("a secret!", "a ********!"),
            ("secret-and-more", "********"),
            ("secretsecret", "****************"),
            ("x and no more", "x and no more"),
        ] {
            assert_eq!(environment.hide(text), shown);
        }
        let told = format!("{environment:?}");
        assert!(
            !told.contains("secret-and") && told.contains("\"A\""),
            "{told}"
        );
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[A-Z=# \n\\PC]{0,80}", line in "\\PC{0,40}") {
            if let Ok(environment) = of(&text) {
                environment.hide(&line);
                environment.meant(&line);
            }
        }
    }
}
