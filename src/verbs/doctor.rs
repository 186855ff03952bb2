//! `hatchery doctor`

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::{Context, interrupted};
use crate::doctor::{self, Finding, State};
use crate::error::Result;
use crate::ui::Ui;

/// Check this server: programs, services, limits, and what containers can reach
#[derive(Debug, Args)]
pub struct Doctor;

impl Doctor {
    pub async fn run(context: &Context<'_>) -> Result<ExitCode> {
        context
            .ui
            .step("Checking this server and what its containers can reach");
        let findings = tokio::select! {
            findings = doctor::examine(&context.config, &context.places) => findings,
            error = interrupted() => return Err(error),
        };
        let is_well = tell(context.ui, &findings);
        Ok(ExitCode::from(u8::from(!is_well)))
    }
}

/// Tells all findings; whether none of them is a problem.
fn tell(ui: &Ui, findings: &[Finding]) -> bool {
    let problems = findings
        .iter()
        .filter(|finding| finding.state == State::Problem)
        .count();
    if ui.json() {
        ui.json_result(&json!({ "ok": problems == 0, "checks": findings }));
    } else {
        for finding in findings {
            show(ui, finding);
        }
        ui.talk(&match problems {
            0 => "No problems found.".to_owned(),
            1 => "1 problem found.".to_owned(),
            more => format!("{more} problems found."),
        });
    }
    problems == 0
}

fn show(ui: &Ui, finding: &Finding) {
    let word = match finding.state {
        State::Ok => "ok",
        State::Problem => "PROBLEM",
        State::Skipped => "-",
    };
    ui.result(format!("{word:<9}{:<16}{}", finding.name, finding.message));
    if let Some(hint) = &finding.hint {
        ui.result(format!("{:25}-> {hint}", ""));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verbs::samples::{is_as_reviewed, told};

    fn finding(name: &'static str, state: State, message: &str, hint: Option<&str>) -> Finding {
        Finding {
            name,
            state,
            message: message.to_owned(),
            hint: hint.map(str::to_owned),
        }
    }

    #[test]
    fn findings_are_as_reviewed() {
        let well = [
            finding(
                "docker",
                State::Ok,
                "28.0.1 at unix:///run/docker.sock",
                None,
            ),
            finding(
                "headscale",
                State::Skipped,
                "no tailnet is configured",
                None,
            ),
        ];
        let hint = Some("lower limits.memory in the configuration");
        let problem = finding("limits", State::Problem, "a drone may use too much", hint);
        let [docker, headscale] = well.clone();
        let ill = [docker, problem.clone(), headscale];
        let mut all = Vec::new();
        for (findings, is_well) in [(&well[..], true), (&ill, false)] {
            for json in [false, true] {
                all.push(told(json, |ui| assert_eq!(tell(ui, findings), is_well)));
            }
        }
        all.push(told(false, |ui| {
            tell(ui, &[problem.clone(), problem.clone()]);
        }));
        is_as_reviewed("doctor.txt", &all.join("\n"));
    }
}
