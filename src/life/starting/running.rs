//! Runs the commands of one property of the merged configuration in a drone, as the devcontainer CLI does at its
//! spawn: as the remote user, in the workspace's folder, with `remoteEnv` and what the user's shell sets.

use std::time::Duration;

use serde_json::Value;

use super::{LAST_LINES, commands, not_kept, shell};
use crate::devcontainer::replaced;
use crate::devcontainer::running::lifecycle::{Lifecycle, Stage};
use crate::docker::{Container, Drone, Setting};
use crate::error::Result;
use crate::host::Transcript;
use crate::host::transcript::{Pieces, What};
use crate::life::furnish;
use crate::life::furnish::accounts::Accounts;
use crate::life::teardown;
use crate::secret::Environment;
use crate::server::Server;
use crate::ssh::environment;
use crate::ui::{Ui, clean};

/// Where commands are run.
#[derive(Debug)]
pub struct Job<'a> {
    server: Server<'a>,
    drone: &'a Drone,
    container: &'a Container,
    folder: &'a str,
    metadata: Vec<Value>,
    secrets: Environment,
}

/// How they did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// All have ended well.
    Well,
    /// One has failed.
    Badly(Failure),
    /// They still run in the drone.
    StillRuns,
}

/// A command that has failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The property's name, with that of the command where there are several.
    pub which: String,
    /// Its exit status.
    pub status: i64,
    /// The last lines of what it printed.
    pub lines: Vec<String>,
}

impl<'a> Job<'a> {
    /// In this drone's container, from this folder.
    pub fn new(
        server: Server<'a>,
        drone: &'a Drone,
        container: &'a Container,
        folder: &'a str,
    ) -> Result<Self> {
        Ok(Self {
            metadata: furnish::metadata(container)?,
            secrets: server.config.secrets(&drone.identity)?,
            server,
            drone,
            container,
            folder,
        })
    }

    /// What is said to the person.
    pub const fn ui(&self) -> &'a Ui {
        self.server.ui
    }

    /// What commands there are.
    pub fn lifecycle(&self) -> Lifecycle {
        Lifecycle::of(&self.metadata)
    }

    /// Where what they print is kept from now on; a warning where it is not.
    pub fn transcript(&self, what: What, of: &str) -> Option<Transcript> {
        let begun = Transcript::begin(self.server.places, &self.drone.identity.name, what);
        if let Err(error) = &begun {
            self.server.ui.warn(&not_kept(of, error));
        }
        let transcript = begun.ok()?.hiding(&self.secrets);
        transcript.said(&format!(
            "{} of {}",
            what.as_str(),
            self.drone.identity.repo
        ));
        Some(transcript)
    }

    /// What one property's commands are for the drone's shell; nothing where there are none.
    pub fn script(&self, stage: Stage) -> Option<String> {
        let own = environment::by_name(self.container.environment());
        let id = teardown::devcontainer_id(&self.drone.identity);
        let basename = self.folder.rsplit('/').next().unwrap_or_default();
        let resolve = |text: &str| {
            replaced(text, |variable| match variable {
                "containerWorkspaceFolder" => Some(self.folder.to_owned()),
                "containerWorkspaceFolderBasename" => Some(basename.to_owned()),
                "devcontainerId" => Some(id.clone()),
                _ => environment::of_container(variable, &own),
            })
        };
        commands::script(stage, &self.metadata, &resolve)
    }

    /// Runs this script of that property's, until it ends or this time is over. `said` gets each line that it
    /// prints, harmless for a terminal and without secrets.
    pub async fn run(
        &self,
        (stage, script): (Stage, &str),
        within: Option<Duration>,
        transcript: Option<&Transcript>,
        said: &mut (dyn FnMut(&str) + Send),
    ) -> Result<Ended> {
        let docker = self.server.docker;
        if let Some(transcript) = transcript {
            transcript.said(&format!("Running {stage}"));
        }
        let inside = docker.inside(self.container.id());
        let user = furnish::user_of(self.container);
        let accounts = Accounts::of(docker, self.container.id()).await?;
        let shell = accounts.shell(&user).unwrap_or("/bin/sh");
        let own = environment::by_name(self.container.environment());
        let mut environment = shell::environment(&inside, &user, shell, &self.metadata, &own).await;
        self.secrets.lay_over(&mut environment);
        let setting = Setting {
            user: &user,
            directory: Some(self.folder),
            environment,
        };
        let argv = ["/bin/sh", "-c", script];
        let mut last = Vec::new();
        let mut hear = |line: &str| {
            if let Some(transcript) = transcript {
                transcript.output(line);
            }
            let line = clean::line(&self.secrets.hide(line));
            if !line.trim().is_empty() {
                said(&line);
                if last.len() == LAST_LINES {
                    last.remove(0);
                }
                last.push(line);
            }
        };
        let (mut out, mut err) = (Pieces::default(), Pieces::default());
        let mut heard = |is_error: bool, part: &[u8]| {
            let pieces = if is_error { &mut err } else { &mut out };
            pieces.push(part, &mut hear);
        };
        let running = inside.run_heard(&setting, &argv, b"", &mut heard);
        let ended = match within {
            Some(within) => tokio::time::timeout(within, running).await.ok(),
            None => Some(running.await),
        };
        err.end(&mut hear);
        out.end(&mut hear);
        let Some(output) = ended.transpose()? else {
            return Ok(Ended::StillRuns);
        };
        if output.status == 0 {
            return Ok(Ended::Well);
        }
        let named = last.last().map_or("", String::as_str);
        Ok(Ended::Badly(Failure {
            which: commands::that_failed(stage, named),
            status: output.status,
            lines: last,
        }))
    }
}
