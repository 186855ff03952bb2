//! `hatchery ssh`

use std::ffi::OsString;
use std::io::IsTerminal;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use clap::Args;

use super::Context;
use crate::error::{Code, Error, Result};
use crate::process;
use crate::ssh::client;

/// Log in to a drone from this server, or run a command in it
///
/// Runs this server's ssh with your keys. The session starts in the workspace. The exit status is that of the
/// command, or 255 if ssh itself fails.
#[derive(Debug, Args)]
pub struct Ssh {
    /// org/repo or the drone's name
    #[arg(value_name = "DRONE")]
    drone: String,

    /// Allocate a terminal for COMMAND
    #[arg(short = 't', long = "tty")]
    terminal: bool,

    /// The command line for the user's shell in the drone; without it, an interactive session
    #[arg(last = true)]
    command: Vec<OsString>,
}

impl Ssh {
    /// Becomes ssh; comes back only where that cannot be.
    pub async fn run(self, context: &Context<'_>) -> Result<ExitCode> {
        let docker = context.docker().await?;
        let there = context.running(&docker, &self.drone).await?;
        let client = there.client(context, &docker).await?;
        let mut ssh = Command::new(process::found("ssh")?);
        ssh.args(client.options());
        if self.terminal || (self.command.is_empty() && std::io::stdin().is_terminal()) {
            ssh.arg("-t");
        }
        ssh.arg("--").arg(there.drone.identity.name.as_str());
        if self.command.is_empty() {
            ssh.arg(client::session_in(&there.folder));
        } else {
            ssh.arg(client::begin_in(&there.folder)).args(self.command);
        }
        context.ui.finish();
        let error = ssh.exec();
        Err(Error::new(Code::HostFailed, "ssh cannot be started").because(error))
    }
}
