//! `hatchery doctor`

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::{Context, interrupted};
use crate::doctor::{self, Finding, State};
use crate::error::Result;

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
        let problems = findings
            .iter()
            .filter(|finding| finding.state == State::Problem)
            .count();
        if context.ui.json() {
            context
                .ui
                .json_result(&json!({ "ok": problems == 0, "checks": findings }));
        } else {
            for finding in &findings {
                show(context, finding);
            }
            context.ui.talk(&match problems {
                0 => "No problems found.".to_owned(),
                1 => "1 problem found.".to_owned(),
                more => format!("{more} problems found."),
            });
        }
        Ok(ExitCode::from(u8::from(problems > 0)))
    }
}

fn show(context: &Context<'_>, finding: &Finding) {
    let word = match finding.state {
        State::Ok => "ok",
        State::Problem => "PROBLEM",
        State::Skipped => "-",
    };
    context
        .ui
        .result(format!("{word:<9}{:<16}{}", finding.name, finding.message));
    if let Some(hint) = &finding.hint {
        context.ui.result(format!("{:25}-> {hint}", ""));
    }
}
