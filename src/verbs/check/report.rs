//! What was found, in the three forms in which it is told. Names and texts are the repository's: they
//! pass [`clean`], and their number is bounded.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::devcontainer::{Finding, Kind};
use crate::error::{Code, Error};
use crate::repo::RepoId;
use crate::ui::clean;

/// How many findings are told.
const MAX_FINDINGS: usize = 1000;
/// How much is told of each, in characters.
const MAX_TEXT: usize = 1000;

/// Where a finding is shown that is about no file.
const USUAL_FILE: &str = ".devcontainer/devcontainer.json";

/// What was found in a repository.
#[derive(Debug)]
pub struct Report<'a> {
    repo: &'a RepoId,
    file: Option<&'a str>,
    /// What nothing passes with, then what is left out.
    findings: Vec<&'a Finding>,
    /// How many there are beyond these.
    more: usize,
    /// How many of all are such that nothing passes with them.
    barring: usize,
    verdict: &'static str,
}

impl<'a> Report<'a> {
    /// Of these findings; `file` is the devcontainer.json.
    pub fn new(repo: &'a RepoId, file: Option<&'a str>, findings: &'a [Finding]) -> Self {
        let (mut findings, left_out): (Vec<_>, Vec<_>) = findings
            .iter()
            .partition(|finding| finding.kind() != Kind::LeftOut);
        let barring = findings.len();
        let verdict = match barring {
            0 => "passes",
            _ if findings.iter().any(|it| it.kind() == Kind::Wrong) => "invalid",
            _ => "refused",
        };
        findings.extend(left_out);
        let more = findings.len().saturating_sub(MAX_FINDINGS);
        findings.truncate(MAX_FINDINGS);
        Self {
            repo,
            file,
            findings,
            more,
            barring,
            verdict,
        }
    }

    /// Whether the verdict's error is one about the repository, which the findings then explain.
    pub fn is_about(&self, error: &Error) -> bool {
        matches!(
            error.code(),
            Code::GateRefused | Code::DevcontainerInvalid | Code::DevcontainerAmbiguous
        ) && self.barring > 0
    }

    /// A line for each finding, for people.
    pub fn lines(&self) -> Vec<String> {
        let line = |finding: &&Finding| {
            let said = cleaned(&finding.to_string());
            match finding.kind() {
                Kind::LeftOut => format!("warning: {said}"),
                Kind::Refused | Kind::Wrong | Kind::Lacking => said,
            }
        };
        let mut lines: Vec<_> = self.findings.iter().map(line).collect();
        if self.more > 0 {
            lines.push(format!("and {} more findings", self.more));
        }
        lines
    }

    /// The last line, for people.
    pub fn conclusion(&self) -> String {
        let repo = self.repo;
        match (self.barring, self.findings.len() + self.more) {
            (0, 0) => format!("{repo} passes."),
            (0, 1) => format!("{repo} passes, with 1 warning."),
            (0, warnings) => format!("{repo} passes, with {warnings} warnings."),
            (1, _) => format!("{repo} does not pass: 1 finding."),
            (findings, _) => format!("{repo} does not pass: {findings} findings."),
        }
    }

    /// For scripts.
    pub fn json(&self) -> Value {
        let finding = |finding: &&Finding| {
            let property = cleaned(finding.property());
            json!({
                "file": some(cleaned(finding.file())),
                "line": (finding.line() > 0).then_some(finding.line()),
                "property": some(property),
                "kind": finding.kind().as_str(),
                "message": cleaned(finding.message()),
                "hint": finding.hint().map(cleaned),
            })
        };
        let mut report = json!({
            "repository": self.repo,
            "file": self.file.map(cleaned),
            "verdict": self.verdict,
            "findings": self.findings.iter().map(finding).collect::<Vec<_>>(),
        });
        if self.more > 0 {
            report["more"] = self.more.into();
        }
        report
    }

    /// A run of SARIF. One of several has the repository for its category in code scanning.
    fn run(&self, is_of_several: bool) -> Value {
        let rules = Kind::ALL.map(|kind| {
            json!({
                "id": kind.as_str(),
                "shortDescription": {"text": kind.meaning()},
                "defaultConfiguration": {"level": level(kind)},
            })
        });
        let result = |finding: &&Finding| {
            let hint = finding.hint();
            let hint = hint.map_or_else(String::new, |hint| format!(" ({hint})"));
            json!({
                "ruleId": finding.kind().as_str(),
                "ruleIndex": Kind::ALL.iter().position(|kind| *kind == finding.kind()),
                "level": level(finding.kind()),
                "message": {"text": cleaned(finding.message()) + &cleaned(&hint)},
                "locations": [{"physicalLocation": {
                    "artifactLocation": {"uri": self.uri(finding), "uriBaseId": "%SRCROOT%"},
                    "region": {"startLine": finding.line().max(1)},
                }}],
            })
        };
        let mut run = json!({
            "tool": {"driver": {
                "name": "hatchery",
                "version": env!("CARGO_PKG_VERSION"),
                "informationUri": env!("CARGO_PKG_REPOSITORY"),
                "rules": rules,
            }},
            "results": self.findings.iter().map(result).collect::<Vec<_>>(),
        });
        if is_of_several {
            run["automationDetails"] = json!({"id": format!("{}/", self.repo)});
        }
        run
    }

    /// The finding's file as a URI relative to the repository's root (RFC 3986, section 4.2).
    fn uri(&self, finding: &Finding) -> String {
        let file = Some(finding.file()).filter(|file| !file.is_empty() && !file.starts_with('/'));
        let file = file.or(self.file).unwrap_or(USUAL_FILE);
        let mut uri = String::with_capacity(file.len());
        for byte in file.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' | b'~' => {
                    uri.push(char::from(byte));
                }
                // Writing to a string does not fail.
                _ => drop(write!(uri, "%{byte:02X}")),
            }
        }
        uri
    }
}

/// SARIF 2.1.0 (OASIS, 27 March 2020), for code scanning: a run for each repository.
pub fn sarif(reports: &[Report<'_>]) -> Value {
    let run = |report: &Report<'_>| report.run(reports.len() > 1);
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": reports.iter().map(run).collect::<Vec<_>>(),
    })
}

const fn level(kind: Kind) -> &'static str {
    match kind {
        Kind::LeftOut => "warning",
        Kind::Refused | Kind::Wrong | Kind::Lacking => "error",
    }
}

fn cleaned(text: &str) -> String {
    clean::line(text).chars().take(MAX_TEXT).collect()
}

fn some(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}
