//! `hatchery ssh-config`

use clap::Args;
use serde::Serialize;

use super::{Context, ssh_address};
use crate::docker::{Docker, Drone, Life};
use crate::error::Result;
use crate::life::furnish;

/// Print an ssh configuration that makes drones reachable by name
///
/// The output has a `Host` block for each drone, to be included from ~/.ssh/config: on any machine in the
/// tailnet or, without one, on this server.
#[derive(Debug, Args)]
pub struct SshConfig {
    /// org/repo or the drone's name; without it, all drones that can be reached
    #[arg(value_name = "DRONE")]
    drone: Option<String>,
}

/// What ssh is told of one drone (`ssh_config(5)`).
#[derive(Debug, Serialize)]
struct Block {
    host: String,
    hostname: String,
    port: u16,
    user: String,
}

impl SshConfig {
    pub async fn run(self, context: &Context<'_>) -> Result<()> {
        let docker = context.docker().await?;
        let drones = match &self.drone {
            Some(asked) => vec![context.running(&docker, asked).await?.drone],
            None => docker.drones().await?.0,
        };
        let mut blocks = Vec::new();
        for drone in drones {
            blocks.extend(block(context, &docker, &drone).await?);
        }
        if context.ui.json() {
            context.ui.json_result(&blocks);
        } else {
            for block in blocks {
                for line in block.lines() {
                    context.ui.result(line);
                }
            }
        }
        Ok(())
    }
}

/// The block of a drone that has an address to name. In a tailnet a burrowed one will have the same again.
async fn block(context: &Context<'_>, docker: &Docker, drone: &Drone) -> Result<Option<Block>> {
    if !matches!(drone.life, Life::Running | Life::Burrowed | Life::Stopped) {
        return Ok(None);
    }
    let name = &drone.identity.name;
    let Some((hostname, port)) = ssh_address(&context.config, drone) else {
        return Ok(None);
    };
    let container = drone.container.as_deref().unwrap_or_default();
    Ok(Some(Block {
        host: name.to_string(),
        hostname,
        port,
        user: furnish::remote_user_of(docker, container).await?,
    }))
}

impl Block {
    fn lines(&self) -> [String; 4] {
        [
            format!("Host {}", self.host),
            format!("    HostName {}", self.hostname),
            format!("    Port {}", self.port),
            format!("    User {}", self.user),
        ]
    }
}
