//! What the gate found: collected while a configuration is read, told at its end.

use crate::devcontainer::reading::document::Node;
use crate::docker::Machine;
use crate::error::{Code, Error, Result};
use crate::ui::clean;

/// The two ways past a refusal, for its hint.
pub const WAYS_ON: &str =
    "`--trust` for this once, or `devcontainer.trust` in the configuration for good";

/// The first version of Docker that mounts a part of a volume (`VolumeOptions.Subpath`, Engine API
/// 1.45).
const FIRST_WITH_SUBPATHS: u32 = 26;

/// How many refusals are told at once.
const MAX_TOLD: usize = 8;

/// How many things that are left out are told of.
const MAX_LEFT_OUT: usize = 50;
/// How much is told of each, in characters.
const MAX_LINE: usize = 1000;

/// Collects what is refused, left out and wrong in one reading of a configuration.
#[derive(Debug)]
pub struct Gate {
    trusted: bool,
    /// Docker's version, where it is too old for mounts of a volume's part.
    old_docker: Option<String>,
    file: String,
    refused: Vec<String>,
    wrong: Vec<String>,
    dropped: Vec<String>,
}

impl Gate {
    /// A gate before this file; a trusted repository is let through.
    pub fn new(trusted: bool, file: impl Into<String>) -> Self {
        Self {
            trusted,
            old_docker: None,
            file: file.into(),
            refused: Vec::new(),
            wrong: Vec::new(),
            dropped: Vec::new(),
        }
    }

    /// The same before a Docker of this version.
    #[must_use]
    pub fn before(mut self, docker: &Machine) -> Self {
        // One that does not say how old it is may be new.
        let old = (1..FIRST_WITH_SUBPATHS).contains(&docker.major());
        self.old_docker = old.then(|| docker.version.clone());
        self
    }

    /// Why a part of a volume cannot be mounted here, if it cannot.
    pub fn lacks_subpaths(&self) -> Option<String> {
        let version = self.old_docker.as_ref()?;
        Some(format!(
            "mounting a part of the repository takes Docker {FIRST_WITH_SUBPATHS} or later, and this \
             server has {version}"
        ))
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
        let place = self.place(node.line);
        self.wrong
            .push(format!("{place}: {}: {why}", shortened(property)));
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
        self.wrong
            .push(format!("{place}: {} must be {must}", shortened(property)));
    }

    /// A gate like this one before another file; [`Self::take_in`] brings back what it found.
    pub fn aside(&self, file: &str) -> Self {
        Self::new(self.trusted, file)
    }

    /// Adds what a gate from [`Self::aside`] found.
    pub fn take_in(&mut self, other: Self) {
        self.refused.extend(other.refused);
        self.wrong.extend(other.wrong);
        self.dropped.extend(other.dropped);
    }

    fn place(&self, line: usize) -> String {
        if line == 0 {
            self.file.clone()
        } else {
            format!("{}:{line}", self.file)
        }
    }

    /// The end: what was left out, or why nothing passes.
    pub fn verdict(self) -> Result<Vec<String>> {
        if !self.wrong.is_empty() {
            return Err(Error::new(Code::DevcontainerInvalid, told(&self.wrong))
                .hint("correct it in the repository"));
        }
        if !self.refused.is_empty() {
            return Err(Error::new(
                Code::GateRefused,
                format!("the gate refuses {}", told(&self.refused)),
            )
            .hint(format!(
                "take it out of the repository, or trust the repository with this server: {WAYS_ON}"
            )));
        }
        let mut dropped = self.dropped;
        let more = dropped.len().saturating_sub(MAX_LEFT_OUT);
        if more > 0 {
            dropped.truncate(MAX_LEFT_OUT);
            dropped.push(format!("{}: {more} more are left out", self.file));
        }
        Ok(dropped)
    }
}

fn told(list: &[String]) -> String {
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
