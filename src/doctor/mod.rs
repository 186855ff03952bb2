//! Whether this server can be a hatchery: the programs, the services, the machine, and what its
//! containers can reach, each with what to do.

mod builds;
mod cage;
mod exposed;
mod machine;
mod programs;
mod reach;
mod services;
mod targets;
mod units;
mod verdicts;

use std::time::Duration;

use serde::Serialize;

use crate::config::Config;
use crate::docker::Docker;
use crate::error::Error;
use crate::host::Places;

/// How long one examination may take.
const WITHIN: Duration = Duration::from_secs(60);

/// How something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it should be.
    Ok,
    /// Something has to be done.
    Problem,
    /// Not looked at, because of something else.
    Skipped,
}

/// What one look has shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at; a stable name.
    pub name: &'static str,
    /// How it is.
    pub state: State,
    /// In words.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

impl Finding {
    fn ok(name: &'static str, message: impl Into<String>) -> Self {
        Self {
            name,
            state: State::Ok,
            message: message.into(),
            hint: None,
        }
    }

    fn problem(name: &'static str, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            state: State::Problem,
            hint: Some(hint.into()),
            ..Self::ok(name, message)
        }
    }

    fn skipped(name: &'static str, message: impl Into<String>) -> Self {
        Self {
            state: State::Skipped,
            ..Self::ok(name, message)
        }
    }

    fn of(name: &'static str, result: Result<String, Error>) -> Self {
        match result {
            Ok(message) => Self::ok(name, message),
            Err(error) => Self {
                state: State::Problem,
                message: error.message(),
                hint: error.what_next().map(str::to_owned),
                name,
            },
        }
    }
}

/// Looks at everything, at once.
pub async fn examine(config: &Config, places: &Places) -> Vec<Finding> {
    let docker = Docker::connect(&config.docker).await;
    let connected = docker.as_ref().ok();
    let (machine, programs, cage, units, services, reach) = tokio::join!(
        bounded("docker", async {
            match &docker {
                Ok(docker) => machine::findings(docker, config).await,
                Err(error) => vec![Finding {
                    state: State::Problem,
                    hint: error.what_next().map(str::to_owned),
                    ..Finding::ok("docker", error.message())
                }],
            }
        }),
        bounded("programs", programs::findings(config)),
        bounded("cage", async {
            vec![cage::finding(config).await, builds::finding(config)]
        }),
        bounded("units", async { vec![units::finding().await] }),
        bounded("services", services::findings(config, places, connected)),
        bounded("containers", async {
            match connected {
                Some(docker) => reach::findings(docker, config, places).await,
                None => vec![Finding::skipped(
                    "containers",
                    "cannot be checked without Docker",
                )],
            }
        }),
    );
    [machine, programs, cage, units, services, reach].concat()
}

async fn bounded(name: &'static str, look: impl Future<Output = Vec<Finding>>) -> Vec<Finding> {
    tokio::time::timeout(WITHIN, look)
        .await
        .unwrap_or_else(|_| {
            vec![Finding::problem(
                name,
                format!("no answer within {} s", WITHIN.as_secs()),
                "check the load of this server and `journalctl -u docker`, then try again",
            )]
        })
}
