//! What the gate found: collected while a configuration is read, told at its end.

use crate::devcontainer::reading::document::Node;
use crate::docker::Machine;
use crate::error::{Code, Error, Result};
use crate::repo::RepoId;
use crate::ui::clean;

/// How names of files end or begin that are examples of others.
const EXAMPLES: &[&str] = &[
    "example", "sample", "template", "dist", "default", "defaults",
];

const CORRECT: &str = "correct it in the repository";

/// The two ways past a refusal, for its hint.
pub const WAYS_ON: &str =
    "`--trust` for this once, or `devcontainer.trust` in the configuration for good";

/// The first version of Docker that mounts a part of a volume (`VolumeOptions.Subpath`, Engine API
/// 1.45).
const FIRST_WITH_SUBPATHS: u32 = 26;

/// How many refusals are told at once.
const MAX_TOLD: usize = 8;

/// How many different remedies are told at once.
const MAX_WAYS: usize = 3;

/// How many things that are left out are told of.
const MAX_LEFT_OUT: usize = 50;
/// How much is told of each, in characters.
const MAX_LINE: usize = 1000;

/// Collects what is refused, left out and wrong in one reading of a configuration.
#[derive(Debug)]
pub struct Gate {
    trusted: bool,
    repo: Option<RepoId>,
    /// Docker's version, where it is too old for mounts of a volume's part.
    old_docker: Option<String>,
    file: String,
    /// What trust lets through.
    refused: Vec<String>,
    wrong: Vec<Finding>,
    /// What is right, and cannot be had on this server.
    lacking: Vec<Finding>,
    dropped: Vec<String>,
}

/// Something that nothing passes with.
#[derive(Debug)]
struct Finding {
    what: String,
    /// What to do about it.
    hint: String,
}

impl Gate {
    /// A gate before this file; a trusted repository is let through.
    pub fn new(trusted: bool, file: impl Into<String>) -> Self {
        Self {
            trusted,
            repo: None,
            old_docker: None,
            file: file.into(),
            refused: Vec::new(),
            wrong: Vec::new(),
            lacking: Vec::new(),
            dropped: Vec::new(),
        }
    }

    /// The same for this repository, and before a Docker of this version.
    #[must_use]
    pub fn before(mut self, repo: &RepoId, docker: &Machine) -> Self {
        self.repo = Some(repo.clone());
        // One that does not say how old it is may be new.
        let old = (1..FIRST_WITH_SUBPATHS).contains(&docker.major());
        self.old_docker = old.then(|| docker.version.clone());
        self
    }

    /// Whether a part of a volume can be mounted here.
    pub const fn mounts_parts(&self) -> bool {
        self.old_docker.is_none()
    }

    /// Refuses a mount of a part of the repository where this Docker cannot make one.
    pub fn check_part(&mut self, node: &Node, property: &str) -> bool {
        let Some(version) = self.old_docker.clone() else {
            return true;
        };
        let why = format!(
            "mounting a part of the repository takes Docker {FIRST_WITH_SUBPATHS} or later, and this \
             server has {version}"
        );
        let hint = format!("upgrade Docker to {FIRST_WITH_SUBPATHS} or later");
        self.find_lacking(node, property, &why, &hint);
        false
    }

    /// Whether the repository is trusted.
    pub const fn trusted(&self) -> bool {
        self.trusted
    }

    /// What follows stands in another file.
    pub fn turn_to(&mut self, file: impl Into<String>) {
        self.file = file.into();
    }

    /// Refuses a value. The answer is whether it passes all the same, because of trust.
    pub fn refuse(&mut self, node: &Node, property: &str, why: &str) -> bool {
        let shown = node
            .as_text()
            .map_or_else(|| node.to_value().to_string(), |text| format!("{text:?}"));
        self.refuse_text(node.line, property, &shown, why)
    }

    /// The same for a value that is shown in these words.
    pub fn refuse_text(&mut self, line: usize, property: &str, shown: &str, why: &str) -> bool {
        if !self.trusted {
            let place = self.place(line);
            self.refused.push(format!(
                "{place}: {} {}: {why}",
                shortened(property),
                shortened(shown)
            ));
        }
        self.trusted
    }

    /// Refuses what not even trust lets through, because hatchery cannot do it.
    pub fn refuse_always(&mut self, node: &Node, property: &str, why: &str) {
        self.find_wrong(node, property, why, CORRECT);
    }

    /// The same for a fault with a remedy of its own.
    pub fn find_wrong(&mut self, node: &Node, property: &str, why: &str, hint: &str) {
        let finding = self.finding(node, property, why, hint);
        self.wrong.push(finding);
    }

    /// Refuses what this server cannot do, trusted or not.
    pub fn find_lacking(&mut self, node: &Node, property: &str, why: &str, hint: &str) {
        let finding = self.finding(node, property, why, hint);
        self.lacking.push(finding);
    }

    /// Tells of a file that is not in the repository, of those that people keep out of theirs. `path` is
    /// where it would be, seen from the checkout; `beside` are the files there.
    pub fn find_missing(&mut self, node: &Node, property: &str, path: &str, beside: &[String]) {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let like = |other: &&String| {
            EXAMPLES.iter().any(|word| {
                let stem = name.trim_start_matches('.');
                other.starts_with(&format!("{name}.{word}"))
                    || other.starts_with(&format!("{name}-{word}"))
                    || **other == format!("{word}.{stem}")
                    || **other == format!("{word}{name}")
                    || **other == format!(".{word}.{stem}")
            })
        };
        let why = match beside.iter().find(like) {
            Some(example) if folder.is_empty() => {
                format!("{path} is not in the repository; its example is {example}")
            }
            Some(example) => {
                format!("{path} is not in the repository; its example is {folder}/{example}")
            }
            None => format!("{path} is not in the repository"),
        };
        let repo = self
            .repo
            .as_ref()
            .map_or_else(String::new, ToString::to_string);
        let hint = format!(
            "commit it, or hand in a file of this server's: `[drones.\"{repo}\"]` with \
             `files = {{ \"{path}\" = \"/etc/hatchery/…\" }}` in the configuration"
        );
        self.find_wrong(node, property, &why, &hint);
    }

    fn finding(&self, node: &Node, property: &str, why: &str, hint: &str) -> Finding {
        let place = self.place(node.line);
        Finding {
            what: format!("{place}: {}: {why}", shortened(property)),
            hint: hint.to_owned(),
        }
    }

    /// Notes that a value is left out, and why.
    pub fn leave_out(&mut self, line: usize, property: &str, why: &str) {
        let place = self.place(line);
        self.dropped.push(format!(
            "{place}: {} is left out: {why}",
            shortened(property)
        ));
    }

    /// Notes that a value is not what its property can be.
    pub fn wrong(&mut self, node: &Node, property: &str, must: &str) {
        let place = self.place(node.line);
        self.wrong.push(Finding {
            what: format!("{place}: {} must be {must}", shortened(property)),
            hint: CORRECT.to_owned(),
        });
    }

    /// A gate like this one before another file; [`Self::take_in`] brings back what it found.
    pub fn aside(&self, file: &str) -> Self {
        Self::new(self.trusted, file)
    }

    /// Adds what a gate from [`Self::aside`] found.
    pub fn take_in(&mut self, other: Self) {
        self.refused.extend(other.refused);
        self.wrong.extend(other.wrong);
        self.lacking.extend(other.lacking);
        self.dropped.extend(other.dropped);
    }

    fn place(&self, line: usize) -> String {
        if line == 0 {
            self.file.clone()
        } else {
            format!("{}:{line}", self.file)
        }
    }

    /// The end: what was left out, or all for which nothing passes.
    pub fn verdict(self) -> Result<Vec<String>> {
        let refused: Vec<&str> = self.refused.iter().map(String::as_str).collect();
        let lacking: Vec<&str> = self
            .lacking
            .iter()
            .map(|found| found.what.as_str())
            .collect();
        let wrong: Vec<&str> = self.wrong.iter().map(|found| found.what.as_str()).collect();
        let barred: Vec<&str> = refused.iter().chain(&lacking).copied().collect();
        if !wrong.is_empty() || !barred.is_empty() {
            let mut said = Vec::new();
            if !wrong.is_empty() {
                said.push(told(&wrong));
            }
            if !barred.is_empty() {
                said.push(format!("the gate refuses {}", told(&barred)));
            }
            let code = if wrong.is_empty() {
                Code::GateRefused
            } else {
                Code::DevcontainerInvalid
            };
            return Err(Error::new(code, said.join("; ")).hint(self.way_on()));
        }
        let mut dropped = self.dropped;
        let more = dropped.len().saturating_sub(MAX_LEFT_OUT);
        if more > 0 {
            dropped.truncate(MAX_LEFT_OUT);
            dropped.push(format!("{}: {more} more are left out", self.file));
        }
        Ok(dropped)
    }

    /// What to do about all that was found; trust is named where it helps.
    fn way_on(&self) -> String {
        let mut ways: Vec<String> = Vec::new();
        for found in self.wrong.iter().chain(&self.lacking) {
            if !ways.contains(&found.hint) && ways.len() < MAX_WAYS {
                ways.push(found.hint.clone());
            }
        }
        if !self.refused.is_empty() {
            let it = if ways.is_empty() {
                "it"
            } else {
                "what the gate refuses"
            };
            ways.push(format!(
                "take {it} out of the repository, or trust the repository with this server: {WAYS_ON}"
            ));
        }
        ways.join("; ")
    }
}

fn told(list: &[&str]) -> String {
    // Names of properties and files are the repository's as well.
    let told: Vec<String> = list[..list.len().min(MAX_TOLD)]
        .iter()
        .map(|line| clean::line(line).chars().take(MAX_LINE).collect())
        .collect();
    let told = told.join("; ");
    match list.len().saturating_sub(MAX_TOLD) {
        0 => told,
        more => format!("{told}; and {more} more"),
    }
}

/// Enough of a value to be recognised.
fn shortened(text: &str) -> String {
    const MAX: usize = 80;
    let text = clean::line(text);
    match text.char_indices().nth(MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
