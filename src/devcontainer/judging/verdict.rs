//! What the gate found: collected while a configuration is read, told at its end.

use std::fmt;

use crate::config::{Registries, Runtime};
use crate::devcontainer::reading::document::Node;
use crate::docker::Machine;
use crate::error::{Code, Error, Result};
use crate::repo::RepoId;
use crate::ui::clean;

/// Words with which the names of example files begin or end, such as `.env.example`.
const EXAMPLES: &[&str] = &[
    "example", "sample", "template", "dist", "default", "defaults",
];

const CORRECT: &str = "fix it in the repository";

/// The hint for a refusal.
const REMEDY: &str = "remove it from the repository, or trust the repository with this server: once with \
     `--trust`, or permanently with `devcontainer.trust` in the configuration";

/// The hint for a refusal of privileges.
const CONTAIN: &str = "remove it from the repository; or install Sysbox on this server and set \
     `docker.runtime = \"sysbox-runc\"`; or trust the repository with this server: once with `--trust`, or \
     permanently with `devcontainer.trust` in the configuration";

/// The two ways to trust a repository, for a hint.
pub const WAYS_ON: &str =
    "once with `--trust`, or permanently with `devcontainer.trust` in the configuration";

/// The first version of Docker that mounts a part of a volume (`VolumeOptions.Subpath`, Engine API
/// 1.45).
const FIRST_WITH_SUBPATHS: u32 = 26;

/// How many findings an error lists of each sort.
const MAX_TOLD: usize = 8;

/// How many findings are kept of each sort: those that are left out, and all others.
const MAX_FINDINGS: usize = 5_000;

/// How many different hints an error gives.
const MAX_WAYS: usize = 3;

/// How many of the values that are left out are listed.
const MAX_LEFT_OUT: usize = 50;
/// How much an error says of one finding, in characters.
const MAX_LINE: usize = 1000;

/// What a finding means for the repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The policy does not allow it; trust lets it through.
    Refused,
    /// It is not valid, or hatchery cannot do it; trust changes nothing.
    Wrong,
    /// It is valid, and this server cannot do it.
    Lacking,
    /// The drone runs without it. The repository can pass nevertheless.
    LeftOut,
}

impl Kind {
    /// All of them, the most serious last.
    pub const ALL: [Self; 4] = [Self::LeftOut, Self::Lacking, Self::Refused, Self::Wrong];

    /// Its name, a contract: scripts match on it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Wrong => "wrong",
            Self::Lacking => "lacking",
            Self::LeftOut => "left-out",
        }
    }

    /// What a finding of this kind means, in a sentence.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Refused => "The policy does not allow this value; trust would let it through.",
            Self::Wrong => "The value is not valid, or hatchery does not support it.",
            Self::Lacking => "The value is valid, but this server does not support it.",
            Self::LeftOut => "The drone runs without this value.",
        }
    }
}

/// One thing that the gate found. Its texts may contain what a stranger wrote: use [`clean`] before showing
/// them on a terminal.
#[derive(Debug, Clone)]
pub struct Finding {
    file: String,
    line: usize,
    property: String,
    kind: Kind,
    message: String,
    hint: Option<String>,
}

impl Finding {
    /// The file's path in the checkout; empty if the finding is about no file.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The line, from 1; 0 where it is about the file as a whole.
    pub const fn line(&self) -> usize {
        self.line
    }

    /// The property; empty where it is about the file as a whole.
    pub fn property(&self) -> &str {
        &self.property
    }

    /// What it means for the repository.
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// What was found and why it counts: a phrase that names the property, without the place.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What to do about it, where there is something to do.
    pub fn hint(&self) -> Option<&str> {
        match self.kind {
            Kind::Refused => Some(self.hint.as_deref().unwrap_or(REMEDY)),
            _ => self.hint.as_deref(),
        }
    }

    /// The finding for an error that ended the reading early; `None` if it is not about the repository. `file`
    /// is the configuration that was read, for an error that names no file.
    pub(in crate::devcontainer) fn of_error(error: &Error, file: &str) -> Option<Self> {
        let kind = match error.code() {
            Code::GateRefused => Kind::Refused,
            Code::DevcontainerInvalid | Code::DevcontainerAmbiguous => Kind::Wrong,
            _ => return None,
        };
        let (file, line) = error.place().unwrap_or((file, 0));
        let message = error.message();
        // Such a message begins with its place, down to the column.
        let after_file = message.strip_prefix(file).unwrap_or(&message);
        let bare = after_file
            .trim_start_matches(|c: char| c == ':' || c.is_ascii_digit())
            .trim_start();
        let message = if after_file.starts_with(':') {
            bare
        } else {
            &message
        };
        Some(Self {
            file: file.to_owned(),
            line,
            property: String::new(),
            kind,
            message: message.to_owned(),
            hint: error.what_next().map(str::to_owned),
        })
    }
}

impl fmt::Display for Finding {
    /// The place and the message.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.file.as_str(), self.line) {
            ("", 0) => f.write_str(&self.message),
            (file, 0) => write!(f, "{file}: {}", self.message),
            (file, line) => write!(f, "{file}:{line}: {}", self.message),
        }
    }
}

/// Collects what is refused, left out and wrong in one reading of a configuration.
#[derive(Debug)]
pub struct Gate {
    trusted: bool,
    repo: Option<RepoId>,
    /// Docker's version, if it is too old to mount a part of a volume.
    old_docker: Option<String>,
    /// The private images, and which repositories may use them.
    registries: Registries,
    /// What runs the drone's containers, where it is not Docker's default.
    runtime: Option<Runtime>,
    file: String,
    findings: Vec<Finding>,
    left_out: usize,
    others: usize,
}

impl Gate {
    /// A gate for this file. With `trusted`, what the policy refuses passes.
    pub fn new(trusted: bool, file: impl Into<String>) -> Self {
        Self {
            trusted,
            repo: None,
            old_docker: None,
            registries: Registries::default(),
            runtime: None,
            file: file.into(),
            findings: Vec::new(),
            left_out: 0,
            others: 0,
        }
    }

    /// Sets the repository, and the Docker that runs it.
    #[must_use]
    pub fn before(mut self, repo: &RepoId, docker: &Machine) -> Self {
        self.repo = Some(repo.clone());
        // One that does not say how old it is may be new.
        let old = (1..FIRST_WITH_SUBPATHS).contains(&docker.major());
        self.old_docker = old.then(|| docker.version.clone());
        self
    }

    /// Sets the private images, which the configuration gives to some repositories alone.
    #[must_use]
    pub fn with(mut self, registries: &Registries) -> Self {
        self.registries = registries.clone();
        self
    }

    /// Sets what runs the containers of an untrusted repository.
    #[must_use]
    pub const fn run_by(mut self, runtime: Option<Runtime>) -> Self {
        self.runtime = runtime;
        self
    }

    /// Refuses an image that the configuration gives to other repositories. Trust does not help: it is
    /// for what a repository does with this server, not for what others keep in a registry.
    pub fn check_registry(&mut self, line: usize, property: &str, image: &str) {
        let Some(repo) = self.repo.clone() else {
            return;
        };
        let Some((why, hint)) = self.registries.refusal(image, &repo) else {
            return;
        };
        let shown = shortened(&format!("{image:?}"));
        let message = format!("{} {shown}: {why}", shortened(property));
        self.find(line, property, Kind::Lacking, message, Some(&hint));
    }

    /// Whether a part of a volume can be mounted here.
    pub const fn mounts_parts(&self) -> bool {
        self.old_docker.is_none()
    }

    /// Refuses a mount of a part of the repository if this Docker cannot make one. Returns whether it passes.
    pub fn check_part(&mut self, node: &Node, property: &str) -> bool {
        let Some(version) = self.old_docker.clone() else {
            return true;
        };
        let why = format!(
            "mounting a part of the repository needs Docker {FIRST_WITH_SUBPATHS} or later, and this server \
             has {version}"
        );
        let hint = format!("upgrade Docker to {FIRST_WITH_SUBPATHS} or later");
        self.find_lacking(node, property, &why, &hint);
        false
    }

    /// Whether the repository is trusted.
    pub const fn trusted(&self) -> bool {
        self.trusted
    }

    /// Names the file of the findings that follow.
    pub fn turn_to(&mut self, file: impl Into<String>) {
        self.file = file.into();
    }

    /// Refuses a value. Returns whether it passes nevertheless, because of trust.
    pub fn refuse(&mut self, node: &Node, property: &str, why: &str) -> bool {
        self.refuse_text(node.line, property, &shown(node), why)
    }

    /// As [`Self::refuse`], for a value that is shown in these words.
    pub fn refuse_text(&mut self, line: usize, property: &str, shown: &str, why: &str) -> bool {
        self.refuse_with(line, property, shown, why, None)
    }

    /// Refuses a container's privileges, or leaves them out if its runtime makes them unnecessary. Returns
    /// whether they pass because of trust.
    pub fn refuse_privileges(&mut self, node: &Node, property: &str, why: &str) -> bool {
        match self.runtime {
            Some(runtime) if !self.trusted => {
                let runtime = runtime.as_str();
                let why = format!("{runtime} makes it unnecessary");
                self.leave_out(node.line, property, &why);
                false
            }
            _ => self.refuse_with(node.line, property, &shown(node), why, Some(CONTAIN)),
        }
    }

    fn refuse_with(
        &mut self,
        line: usize,
        property: &str,
        shown: &str,
        why: &str,
        hint: Option<&str>,
    ) -> bool {
        if !self.trusted {
            let message = format!("{} {}: {why}", shortened(property), shortened(shown));
            self.find(line, property, Kind::Refused, message, hint);
        }
        self.trusted
    }

    /// Refuses what not even trust lets through, because hatchery cannot do it.
    pub fn refuse_always(&mut self, node: &Node, property: &str, why: &str) {
        self.find_wrong(node, property, why, CORRECT);
    }

    /// As [`Self::refuse_always`], with a hint of its own.
    pub fn find_wrong(&mut self, node: &Node, property: &str, why: &str, hint: &str) {
        let message = format!("{}: {why}", shortened(property));
        self.find(node.line, property, Kind::Wrong, message, Some(hint));
    }

    /// Refuses what this server cannot do, trusted or not.
    pub fn find_lacking(&mut self, node: &Node, property: &str, why: &str, hint: &str) {
        let message = format!("{}: {why}", shortened(property));
        self.find(node.line, property, Kind::Lacking, message, Some(hint));
    }

    /// Notes that a file is missing that people keep out of their repositories, such as `.env`. `path` is where
    /// it would be in the checkout; `beside` are the names of the files there.
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
                format!("{path} is not in the repository, only its example {example}")
            }
            Some(example) => {
                format!("{path} is not in the repository, only its example {folder}/{example}")
            }
            None => format!("{path} is not in the repository"),
        };
        let repo = self
            .repo
            .as_ref()
            .map_or_else(String::new, ToString::to_string);
        let hint = format!(
            "commit it, or hand in a file of this server: `[drones.\"{repo}\"]` with `files = {{ \"{path}\" \
             = \"/etc/hatchery/…\" }}` in the configuration"
        );
        self.find_wrong(node, property, &why, &hint);
    }

    /// Notes that a value is left out, and why.
    pub fn leave_out(&mut self, line: usize, property: &str, why: &str) {
        let message = format!("{} is left out: {why}", shortened(property));
        self.find(line, property, Kind::LeftOut, message, None);
    }

    /// Notes that a value is not valid; `must` says what its property must be.
    pub fn wrong(&mut self, node: &Node, property: &str, must: &str) {
        let message = format!("{} must be {must}", shortened(property));
        self.find(node.line, property, Kind::Wrong, message, Some(CORRECT));
    }

    /// A gate like this one for another file; [`Self::take_in`] adds what it found to this one.
    pub fn aside(&self, file: &str) -> Self {
        Self {
            repo: self.repo.clone(),
            registries: self.registries.clone(),
            runtime: self.runtime,
            ..Self::new(self.trusted, file)
        }
    }

    /// Adds what a gate from [`Self::aside`] found.
    pub fn take_in(&mut self, other: Self) {
        self.findings.extend(other.findings);
    }

    /// All findings, in the order in which they were made.
    pub fn findings(self) -> Vec<Finding> {
        self.findings
    }

    fn find(
        &mut self,
        line: usize,
        property: &str,
        kind: Kind,
        message: String,
        hint: Option<&str>,
    ) {
        // What is left out lets everything pass, so all else has a count of its own.
        let count = match kind {
            Kind::LeftOut => &mut self.left_out,
            _ => &mut self.others,
        };
        *count += 1;
        if *count > MAX_FINDINGS {
            return;
        }
        self.findings.push(Finding {
            file: self.file.clone(),
            line,
            property: shortened(property),
            kind,
            message,
            hint: hint.map(str::to_owned),
        });
    }

    fn of(&self, kind: Kind) -> impl Iterator<Item = &Finding> {
        self.findings
            .iter()
            .filter(move |finding| finding.kind == kind)
    }

    /// The verdict: what is left out, one line each, or an error with all that keeps the repository from
    /// passing.
    pub fn verdict(&self) -> Result<Vec<String>> {
        let wrong: Vec<&Finding> = self.of(Kind::Wrong).collect();
        let barred: Vec<&Finding> = self
            .of(Kind::Refused)
            .chain(self.of(Kind::Lacking))
            .collect();
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
        let dropped = self.of(Kind::LeftOut);
        let mut told: Vec<String> = dropped.take(MAX_LEFT_OUT).map(Finding::to_string).collect();
        let more = self.of(Kind::LeftOut).skip(MAX_LEFT_OUT).count();
        if more > 0 {
            told.push(format!("{}: {more} more are left out", self.file));
        }
        Ok(told)
    }

    /// What to do about all that was found; trust is named where it helps.
    fn way_on(&self) -> String {
        let mut ways: Vec<String> = Vec::new();
        let found = self.of(Kind::Wrong).chain(self.of(Kind::Lacking));
        for hint in found.filter_map(Finding::hint) {
            if !ways.iter().any(|way| way == hint) && ways.len() < MAX_WAYS {
                ways.push(hint.to_owned());
            }
        }
        if self.of(Kind::Refused).next().is_some() {
            let it = if ways.is_empty() {
                "it"
            } else {
                "what the gate refuses"
            };
            let contained = self.of(Kind::Refused).all(|found| found.hint.is_some());
            let or = if contained {
                "install Sysbox on this server and set `docker.runtime = \"sysbox-runc\"`, or "
            } else {
                ""
            };
            ways.push(format!(
                "remove {it} from the repository, or {or}trust the repository with this server: {WAYS_ON}"
            ));
        }
        ways.join("; ")
    }
}

fn told(list: &[&Finding]) -> String {
    // Names of properties and files are the repository's as well.
    let told: Vec<String> = list[..list.len().min(MAX_TOLD)]
        .iter()
        .map(|found| {
            clean::line(&found.to_string())
                .chars()
                .take(MAX_LINE)
                .collect()
        })
        .collect();
    let told = told.join("; ");
    match list.len().saturating_sub(MAX_TOLD) {
        0 => told,
        more => format!("{told}; and {more} more"),
    }
}

/// A value, as it is shown.
fn shown(node: &Node) -> String {
    node.as_text()
        .map_or_else(|| node.to_value().to_string(), |text| format!("{text:?}"))
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
