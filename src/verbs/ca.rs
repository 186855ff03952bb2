//! `hatchery ca`

use clap::Args;

use super::{Context, known_hosts_line};
use crate::error::Result;
use crate::ssh::{Authority, ServerSecret};

/// Print the `known_hosts` lines by which ssh recognizes the drones of this server
#[derive(Debug, Args)]
pub struct Ca {}

impl Ca {
    pub async fn run(context: &Context<'_>) -> Result<()> {
        let lines = match &context.config.tailnet {
            Some(tailnet) => {
                let secret = ServerSecret::load_or_create(context.places.state())?;
                vec![Authority::new(&secret).known_hosts_line(&tailnet.domain)?]
            }
            None => of_ports(context).await?,
        };
        if context.ui.json() {
            let lines = lines.join("\n");
            context
                .ui
                .json_result(&serde_json::json!({ "known_hosts": lines }));
            return Ok(());
        }
        if lines.is_empty() {
            context.ui.talk(
                "Without a tailnet, each drone has its own line, and no drone is running. `hatchery spawn` \
                 prints the line of the drone that it creates.",
            );
        }
        for line in lines {
            context.ui.result(line);
        }
        Ok(())
    }
}

/// A line for each drone that has a loopback port.
async fn of_ports(context: &Context<'_>) -> Result<Vec<String>> {
    let docker = context.docker().await?;
    let (drones, _) = docker.drones().await?;
    let lines = drones.iter().map(|drone| known_hosts_line(context, drone));
    Ok(lines
        .collect::<Result<Vec<_>>>()?
        .into_iter()
        .flatten()
        .collect())
}
