//! `hatchery ca`

use clap::Args;

use super::Context;
use crate::error::Result;
use crate::ssh::ca::Authority;
use crate::ssh::identity::ServerSecret;

/// Print the line for `known_hosts` that lets ssh know every drone of this server
#[derive(Debug, Args)]
pub struct Ca {}

impl Ca {
    pub fn run(context: &Context<'_>) -> Result<()> {
        let domain = context
            .config
            .tailnet
            .as_ref()
            .map(|tailnet| tailnet.domain.as_str());
        let secret = ServerSecret::load_or_create(context.places.state())?;
        let line = Authority::new(&secret).known_hosts_line(domain)?;
        if context.ui.json() {
            context
                .ui
                .json_result(&serde_json::json!({ "known_hosts": line }));
        } else {
            context.ui.result(line);
        }
        Ok(())
    }
}
