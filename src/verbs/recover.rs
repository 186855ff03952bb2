//! `hatchery recover`

use clap::Args;

use super::Context;
use crate::error::{Code, Error, Result};
use crate::life::recovery::{self, Report};

/// Bring back every drone that should run
///
/// After a reboot, a restart of Docker, an outage of Headscale or a new version of hatchery. Safe
/// beside any other verb, and done at once where there is nothing to do; a timer runs it. Every few
/// minutes it has Docker count what drones take on its disk, and burrows those beyond limits.disk.
#[derive(Debug, Args)]
pub struct Recover {
    /// Only make the drones' sockets, before Docker runs
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
                "{} of {} drones are not as they should be",
                failed.len(),
                reports.len()
            ),
        )
        .hint("`hatchery status org/repo` tells more; what is mended is found by the next recover")
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
