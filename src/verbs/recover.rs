//! `hatchery recover`

use clap::Args;

use super::Context;
use crate::error::{Code, Error, Result};
use crate::life::recovery::{self, Report};

/// Restart drones that should be running
///
/// This repairs drones after a reboot, a Docker restart, a Headscale outage or an upgrade of hatchery. A
/// timer runs it every minute. It is safe to run at any time, and returns immediately if there is nothing to
/// do. Every few minutes it also measures the drones' disk usage and burrows those that exceed limits.disk.
#[derive(Debug, Args)]
pub struct Recover {
    /// Only create the drones' sockets, before Docker starts
    #[arg(long)]
    sockets: bool,
}

impl Recover {
    pub async fn run(self, context: &Context<'_>) -> Result<()> {
        let sockets = context.sockets().await?;
        let mut reports = if self.sockets {
            recovery::sockets(&context.config, &context.places, &sockets).await?
        } else {
            let docker = context.docker().await?;
            recovery::drones(context.server(&docker, &sockets)).await?
        };
        reports.sort_by(|one, other| one.drone.cmp(&other.drone));
        tell(context, &reports);
        let failed: Vec<_> = reports
            .iter()
            .filter(|report| report.failed.is_some())
            .collect();
        if failed.is_empty() {
            return Ok(());
        }
        let details = failed.iter().filter_map(|report| {
            let error = report.failed.as_ref();
            error.map(|error| {
                let next = error.what_next().unwrap_or_default();
                format!("{}: {}; {next}", report.drone, error.message())
            })
        });
        Err(Error::new(
            Code::Incomplete,
            format!(
                "{} of {} drones could not be recovered",
                failed.len(),
                reports.len()
            ),
        )
        .hint("`hatchery status org/repo` shows more; fix the errors above, and the next recover continues")
        .with_details(details))
    }
}

fn tell(context: &Context<'_>, reports: &[Report]) {
    let acted = reports.iter().filter(|report| !report.done.is_empty());
    if context.ui.json() {
        let rows: Vec<_> = acted
            .map(|report| serde_json::json!({"name": report.drone, "done": report.done}))
            .collect();
        if reports.iter().all(|report| report.failed.is_none()) {
            context.ui.json_result(&rows);
        }
        return;
    }
    for report in acted {
        context
            .ui
            .result(format!("{}: {}", report.drone, report.done.join(", ")));
    }
}
