//! The programs that hatchery runs.

use std::process::Stdio;

use tokio::process::Command;

use super::Finding;
use crate::config::Config;
use crate::devcontainer::running::cli;
use crate::error::{Code, Error, Result};
use crate::process::{self, VERSION_WITHIN};
use crate::ui::clean;

pub(super) async fn findings(config: &Config) -> Vec<Finding> {
    let (devcontainer, docker, git, tailscale, compose, buildx) = tokio::join!(
        devcontainer(&config.devcontainer.command),
        version("docker"),
        version("git"),
        tailscale(),
        compose(),
        cli::plugin("buildx"),
    );
    let mut findings = vec![
        Finding::of("devcontainer", devcontainer),
        Finding::of("docker-command", docker),
        Finding::of("git", git),
        with_or_without("compose", compose, NO_COMPOSE),
        with_or_without("buildx", buildx, NO_BUILDX),
    ];
    if config.tailnet.is_some() {
        findings.push(Finding::of("tailscale", tailscale));
    }
    findings
}

/// What is said where they are not; a hatchery works without.
const NO_COMPOSE: &str =
    "docker compose is not installed: no repository with a compose file can be spawned";
const NO_BUILDX: &str =
    "docker buildx is not installed: images are built with what Docker itself has";

fn with_or_without(name: &'static str, found: Option<String>, without: &str) -> Finding {
    match found {
        Some(version) => Finding::ok(name, version),
        None => Finding {
            hint: (name == "compose").then(|| cli::COMPOSE_HINT.to_owned()),
            ..Finding::skipped(name, without)
        },
    }
}

/// The plugin's version, or the older program's.
async fn compose() -> Option<String> {
    match cli::plugin("compose").await {
        Some(version) => Some(version),
        None => version("docker-compose").await.ok(),
    }
}

async fn devcontainer(command: &str) -> Result<String> {
    cli::check(command).await?;
    let cli = version(command).await?;
    Ok(match version("node").await {
        Ok(node) => format!("{cli}, node {node}"),
        // The command brings a Node of its own.
        Err(_) => cli,
    })
}

/// A drone is joined by the server's own programs.
async fn tailscale() -> Result<String> {
    version("tailscaled").await?;
    version("tailscale").await
}

/// The first line of what `PROGRAM --version` prints.
async fn version(program: &str) -> Result<String> {
    let path = process::find(program).ok_or_else(|| {
        Error::new(Code::ProgramMissing, format!("{program} is not installed"))
            .hint(format!("install {program} so that it is on the PATH"))
    })?;
    let mut command = Command::new(path);
    process::emptied(&mut command);
    command
        .arg("--version")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    let broken = |why: &str| {
        Error::new(Code::ProgramMissing, format!("{program} --version {why}"))
            .hint(format!("reinstall {program}"))
    };
    let output =
        tokio::time::timeout(VERSION_WITHIN, command.output())
            .await
            .map_err(|_| {
                broken(&format!("did not end within {} s", VERSION_WITHIN.as_secs())).hint(format!(
                "try again when the server is less busy; if the problem remains, reinstall {program}"
            ))
            })?
            .map_err(|error| broken("cannot be run").because(error))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let first = clean::line(text.lines().next().unwrap_or_default().trim());
    if !output.status.success() || first.is_empty() {
        return Err(broken("fails"));
    }
    // "git version 2.39.5", "Docker version 20.10.24+dfsg1, build 297e128"
    let start = first.find(|c: char| c.is_ascii_digit()).unwrap_or(0);
    Ok(first[start..].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_program_that_is_not_there_or_fails_is_a_problem() {
        let absent = version("no-such-program").await.unwrap_err();
        assert_eq!(absent.code(), Code::ProgramMissing);
        assert!(
            version("false")
                .await
                .unwrap_err()
                .message()
                .contains("fails")
        );
        assert!(version("git").await.unwrap().starts_with(char::is_numeric));
    }
}
