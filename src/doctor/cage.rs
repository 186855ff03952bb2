//! The devcontainer CLI's cage: whether this kernel has one, and whether the CLI runs in it.

use std::path::Path;
use std::process::Stdio;

use tokio::process::Command;

use super::Finding;
use crate::cage::{FAILED, Support};
use crate::config::Config;
use crate::devcontainer::running::cli;
use crate::docker;
use crate::error::{Code, Error, Result, host_io};
use crate::process::{self, VERSION_WITHIN};

const NAME: &str = "cage";

pub(super) async fn finding(config: &Config) -> Finding {
    let support = Support::of_this_kernel();
    let Support::Version(version) = support else {
        let lack = support.lack().unwrap_or_default();
        return Finding::problem(NAME, lack, support.remedy().unwrap_or_default());
    };
    let Ok(program) = process::found(&config.devcontainer.command) else {
        return Finding::skipped(NAME, "the devcontainer CLI is not installed");
    };
    let tcp = if support.governs_tcp() {
        ""
    } else {
        ", which does not restrict TCP ports (Linux 6.7 or later does)"
    };
    let caged = format!("the devcontainer CLI runs in its cage, Landlock version {version}{tcp}");
    match trial(config, &program).await {
        Err(error) => Finding::of(NAME, Err(error)),
        Ok(true) => Finding {
            // It does what it can: nothing that must be done.
            hint: support.remedy().map(str::to_owned),
            ..Finding::ok(NAME, support.lack().unwrap_or(caged))
        },
        Ok(false) => Finding {
            hint: Some(IN_SIGHT_HINT.to_owned()),
            ..Finding::ok(
                NAME,
                format!("{caged}, but Docker's own socket is visible in it"),
            )
        },
    }
}

const IN_SIGHT_HINT: &str = "it needs its own mount namespace: allow unprivileged user namespaces (`sysctl \
     user.max_user_namespaces`, and `kernel.apparmor_restrict_unprivileged_userns` on Ubuntu)";

/// Runs the CLI caged as a spawn does, but for its version alone. Gives whether Docker's own socket
/// is out of sight there.
async fn trial(config: &Config, program: &Path) -> Result<bool> {
    let place =
        tempfile::tempdir().map_err(|error| host_io("create", &std::env::temp_dir(), error))?;
    let ca_file = config.github.ca_file.as_deref();
    let rules = cli::rules(program, ca_file, &config.devcontainer.readable)?;
    let socket = docker::socket_of(&config.docker.host);
    let cage = rules
        .hide(socket)
        .install(place.path(), &process::own_path()?)?;
    let mut command = Command::new(&cage);
    process::emptied(&mut command);
    command
        .arg(program)
        .arg("--version")
        .env("HOME", place.path())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let failed = |why: &str| {
        Error::new(
            Code::ProgramMissing,
            format!("the devcontainer CLI does not run in its cage: {why}"),
        )
        .hint(
            "list the directories of its installation in devcontainer.readable, or install it with `npm \
             install -g @devcontainers/cli`",
        )
    };
    let output = tokio::time::timeout(VERSION_WITHIN, command.output())
        .await
        .map_err(|_| {
            failed(&format!(
                "it did not end within {} s",
                VERSION_WITHIN.as_secs()
            ))
        })?
        .map_err(|error| failed("it cannot be run").because(error))?;
    if output.status.success() {
        return Ok(!sees(&cage, socket).await);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let telling = |line: &&str| line.contains(FAILED) || line.contains("ermission denied");
    let why = said.lines().find(telling).or(said.lines().next());
    let why = crate::ui::clean::line(why.unwrap_or("it failed without a message"));
    Err(failed(&why))
}

/// Whether a socket is in sight in this cage.
async fn sees(cage: &Path, socket: &Path) -> bool {
    let Some(test) = process::find("test") else {
        return true;
    };
    let mut command = Command::new(cage);
    process::emptied(&mut command);
    command.arg(test).arg("-S").arg(socket).kill_on_drop(true);
    let status = tokio::time::timeout(VERSION_WITHIN, command.status()).await;
    status.is_ok_and(|status| status.is_ok_and(|status| status.success()))
}
