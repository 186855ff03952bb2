//! The times of a spawn's or a rebuild's steps.

use clap::Args;
use serde_json::{Value, json};

use super::Context;
use crate::timeline::Timeline;

/// Whether the times of the steps are shown.
#[derive(Debug, Args)]
pub struct Timings {
    /// Show when each step began and ended, in seconds since the start
    ///
    /// Steps overlap. Without this option the times are only in the log: see `hatchery logs --spawn`.
    #[arg(long)]
    timings: bool,
}

impl Timings {
    /// Writes the times into the transcript, and to standard error for a person who has asked for them.
    pub fn tell(&self, context: &Context<'_>, timeline: &Timeline) {
        let is_shown = self.timings && !context.ui.json();
        for line in timeline.lines() {
            if is_shown {
                context.ui.talk(&line);
            } else {
                context.ui.keep(&line);
            }
        }
    }

    /// The times for a script that has asked for them.
    pub fn result(&self, timeline: &Timeline) -> Option<Value> {
        self.timings.then(|| json!(timeline.timings()))
    }
}
