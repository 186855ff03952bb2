//! `hatchery metrics`

use clap::Args;

use super::Context;
use crate::error::{Code, Error, Result};
use crate::life::metrics;

/// Print metrics of all drones in Prometheus's text format
///
/// If the configuration sets metrics.file, `hatchery recover` writes the same metrics to that file every
/// minute.
#[derive(Debug, Args)]
pub struct Metrics {}

impl Metrics {
    pub async fn run(self, context: &Context<'_>) -> Result<()> {
        if context.ui.json() {
            return Err(Error::new(Code::Usage, "metrics cannot be printed as JSON")
                .hint("leave out --json; `hatchery list --json` prints much of the same data"));
        }
        let docker = context.docker().await?;
        let (drones, _) = docker.drones().await?;
        let text = metrics::text(&context.places, &context.config, drones).await?;
        for line in text.lines() {
            context.ui.result(line);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verbs::samples::{Server, is_as_reviewed, remember, running, sleeping};

    #[tokio::test]
    async fn metrics_are_as_reviewed() {
        let server = Server::new(false);
        let context = server.context();
        let drones = vec![running("acme/site"), sleeping("acme/asleep")];
        remember(&context.places, &drones[0], &drones[1]);
        let text = metrics::text(&context.places, &context.config, drones);
        let text = text.await.unwrap();
        let when = "hatchery_written_timestamp_seconds ";
        let lines = text.lines().map(|line| match line.strip_prefix(when) {
            Some(_) => format!("{when}[TIME]\n"),
            None => format!("{line}\n"),
        });
        is_as_reviewed("metrics.txt", &lines.collect::<String>());
    }
}
