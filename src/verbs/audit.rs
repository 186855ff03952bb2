//! `hatchery audit`

use clap::Args;

use super::Context;
use crate::error::Result;
use crate::journal::{self, Entry, Query};
use crate::ui::Ui;

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
        tell(context.ui, &entries);
        Ok(())
    }
}

fn tell(ui: &Ui, entries: &[Entry]) {
    if ui.json() {
        ui.json_result(&entries);
        return;
    }
    if entries.is_empty() {
        ui.talk("No entries.");
    }
    for entry in entries {
        let sha256 = entry.token_sha256.as_deref().unwrap_or("-");
        ui.result(format!(
            "{}  {:<24} {:<17} {:<12}  {}",
            entry.at,
            entry.drone,
            entry.event,
            sha256.get(..12).unwrap_or(sha256),
            entry.message,
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verbs::samples::{is_as_reviewed, told};
    use serde_json::json;

    fn entry(event: &str, token_sha256: Option<&str>, message: &str) -> Entry {
        let is_mint = event == "mint";
        Entry {
            time: 0,
            at: "2026-01-31T12:00:00Z".to_owned(),
            event: event.to_owned(),
            drone: "acme-site".to_owned(),
            repositories: vec!["acme/site".to_owned()],
            permissions: is_mint.then(|| json!({"contents": "write"})),
            expires_at: is_mint.then(|| "2026-01-31T13:00:00Z".to_owned()),
            token_sha256: token_sha256.map(str::to_owned),
            message: message.to_owned(),
        }
    }

    #[test]
    fn entries_are_as_reviewed() {
        let sha256 = Some("9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08");
        let entries = [
            entry("mint", sha256, "token minted for acme/site"),
            entry(
                "refusal",
                None,
                "no token for acme/site: GitHub does not answer",
            ),
            entry("revocation", sha256, "token for acme/site revoked"),
        ];
        let all = [
            told(false, |ui| tell(ui, &entries)),
            told(true, |ui| tell(ui, &entries)),
            told(false, |ui| tell(ui, &[])),
            told(true, |ui| tell(ui, &[])),
        ];
        is_as_reviewed("audit.txt", &all.join("\n"));
    }
}
