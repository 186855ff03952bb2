//! What git asks (git-credential(1), "INPUT/OUTPUT FORMAT").

use std::io::{BufRead, BufReader, Read};

use super::place::Place;
use crate::repo::RepoId;

/// The most that is read of a question, in bytes; git's lines are at most 64 KiB.
const MAX_QUESTION: u64 = 256 * 1024;

/// A question for credentials.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Question {
    /// As in a URL: `https`.
    pub protocol: String,
    /// With the port, if the URL has one.
    pub host: String,
    /// Without the leading slash.
    pub path: Option<String>,
}

impl Question {
    /// Reads a question up to its empty line or the end of the input. None if it is none.
    pub fn read(input: impl Read) -> Option<Self> {
        let mut lines = BufReader::new(input.take(MAX_QUESTION + 1));
        let mut text = String::new();
        while lines.read_line(&mut text).ok()? > 0 && !text.ends_with("\n\n") && text != "\n" {}
        if text.len() as u64 > MAX_QUESTION {
            return None;
        }
        Self::parse(&text)
    }

    /// Reads the lines `key=value` up to an empty one. Unknown keys are no concern of ours; a
    /// line that is none, or a second answer to what counts here, makes it no question. So does a
    /// control character anywhere: helpers do not agree on where a carriage return ends a line
    /// (CVE-2024-52006), and what git reads as one host must not be another here.
    pub fn parse(text: &str) -> Option<Self> {
        if text.contains(|c: char| c != '\n' && c.is_control()) {
            return None;
        }
        let (mut protocol, mut host, mut path) = (None, None, None);
        for line in text.split('\n').take_while(|line| !line.is_empty()) {
            let (key, value) = line.split_once('=')?;
            let place = match key {
                "protocol" => &mut protocol,
                "host" => &mut host,
                "path" => &mut path,
                _ => continue,
            };
            if place.replace(value.to_owned()).is_some() {
                return None;
            }
        }
        Some(Self {
            protocol: protocol?,
            host: host?,
            path: path.filter(|path| !path.is_empty()),
        })
    }
}

/// A question that could be ours: asked over https, and for no path or one of a repository.
#[derive(Debug, PartialEq, Eq)]
pub struct Wish {
    host: String,
    repo: Option<RepoId>,
}

/// What becomes of a wish.
#[derive(Debug, PartialEq, Eq)]
pub enum Decision {
    /// It is a stranger's: no answer, no word, no request.
    Nothing,
    /// It is for a repository that is not one of the drone's.
    OutOfScope(RepoId),
    /// The socket is asked for the token of this repository, or for the own owner's.
    Ask(Option<RepoId>),
}

impl Question {
    /// What is wished for; none where it cannot be for us.
    pub fn wish(&self) -> Option<Wish> {
        if self.protocol != "https" {
            return None;
        }
        let repo = match self.path.as_deref() {
            None => None,
            Some(path) => Some(repository_of(path)?),
        };
        Some(Wish {
            host: self.host.clone(),
            repo,
        })
    }
}

impl Wish {
    /// What becomes of it in this drone.
    pub fn at(self, place: &Place) -> Decision {
        if !place.is_host(&self.host) {
            return Decision::Nothing;
        }
        match self.repo {
            Some(repo) if !place.holds(&repo) => Decision::OutOfScope(repo),
            repo => Decision::Ask(repo),
        }
    }
}

/// The repository that a path on GitHub belongs to: `org/name`, with `.git`, and with what git-lfs
/// puts behind it.
pub fn repository_of(path: &str) -> Option<RepoId> {
    let path = path.trim_start_matches('/').trim_end_matches('/');
    let mut parts = path.splitn(3, '/');
    let (owner, name) = (parts.next()?, parts.next()?);
    let lfs = |rest: &str| rest == "info/lfs" || rest.starts_with("info/lfs/");
    if !parts.next().is_none_or(lfs) {
        return None;
    }
    let name = name.strip_suffix(".git").unwrap_or(name);
    RepoId::try_from(format!("{owner}/{name}")).ok()
}
