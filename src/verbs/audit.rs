//! `hatchery audit`

use clap::Args;

use super::Context;
use crate::error::Result;
use crate::journal::{self, Query};

/// Show the GitHub tokens that drones were given: every mint, refusal and revocation
///
/// The entries come from the systemd journal. A token is identified by its SHA-256, which GitHub's own audit
/// log shows as well.
#[derive(Debug, Args)]
pub struct Audit {
    /// org/repo or the drone's name; without it, all drones, including removed ones
    #[arg(value_name = "DRONE")]
    drone: Option<String>,

    /// Show only entries since this time, in journalctl's format ("yesterday", "-2h", "2026-01-31")
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    since: Option<String>,

    /// Show only the N newest entries
    #[arg(long, value_name = "N", default_value_t = 200)]
    limit: usize,
}

impl Audit {
    pub async fn run(self, context: &Context<'_>) -> Result<()> {
        let asked = self.drone.map(|text| context.asked(&text)).transpose()?;
        let drone = asked.map(|asked| asked.name());
        let entries = journal::read(Query {
            drone: drone.as_ref(),
            event: None,
            since: self.since.as_deref(),
            limit: self.limit,
        })
        .await?;
        if context.ui.json() {
            context.ui.json_result(&entries);
            return Ok(());
        }
        if entries.is_empty() {
            context.ui.talk("No entries.");
        }
        for entry in entries {
            let sha256 = entry.token_sha256.as_deref().unwrap_or("-");
            context.ui.result(format!(
                "{}  {:<24} {:<17} {:<12}  {}",
                entry.at,
                entry.drone,
                entry.event,
                sha256.get(..12).unwrap_or(sha256),
                entry.message,
            ));
        }
        Ok(())
    }
}
