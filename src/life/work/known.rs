//! What is known of the work that a drone holds: what the last look found. A small file per drone holds it, so
//! that telling it costs nothing.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::look::Counts;
use crate::drone::DroneName;
use crate::error::Result;
use crate::host::Places;

/// What a look has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    /// How much of which kind.
    pub counts: Counts,
    /// Whether all of it could be looked through.
    pub whole: bool,
    /// When that was, in seconds since 1970.
    pub at: u64,
}

impl Work {
    /// What is found now.
    pub fn now(counts: Counts, whole: bool) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            counts,
            whole,
            at: since.map_or(0, |since| since.as_secs()),
        }
    }

    /// What was found in this drone.
    pub fn read(places: &Places, name: &DroneName) -> Option<Self> {
        let text = std::fs::read(places.work_file(name)).ok()?;
        // What is damaged is found again by the next look.
        serde_json::from_slice(&text).ok()
    }

    /// Writes it down.
    pub fn write(&self, places: &Places, name: &DroneName) -> Result<()> {
        places.remember(&places.work_file(name), self)
    }

    /// In words: `3 uncommitted, 1 unpushed`.
    pub fn words(&self) -> String {
        let Counts {
            uncommitted,
            unpushed,
            stashed,
        } = self.counts;
        let all = [
            (uncommitted, "uncommitted"),
            (unpushed, "unpushed"),
            (stashed, "stashed"),
        ];
        let words: Vec<_> = all
            .into_iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, word)| format!("{count} {word}"))
            .collect();
        match (words.is_empty(), self.whole) {
            (true, true) => "none".to_owned(),
            (true, false) => "unreadable".to_owned(),
            (false, true) => words.join(", "),
            (false, false) => format!("{}, rest unreadable", words.join(", ")),
        }
    }

    /// How long ago that was, to the second.
    pub fn age(&self) -> Duration {
        let then = UNIX_EPOCH.checked_add(Duration::from_secs(self.at));
        let since = then.and_then(|then| SystemTime::now().duration_since(then).ok());
        Duration::from_secs(since.unwrap_or_default().as_secs())
    }

    /// For `--json`.
    pub fn to_json(self) -> serde_json::Value {
        serde_json::json!({
            "uncommitted": self.counts.uncommitted,
            "unpushed": self.counts.unpushed,
            "stashed": self.counts.stashed,
            "whole": self.whole,
            "looked_at": self.at,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_is_told_in_words() {
        let work = |uncommitted, unpushed, stashed, whole| {
            let counts = Counts {
                uncommitted,
                unpushed,
                stashed,
            };
            Work::now(counts, whole).words()
        };
        assert_eq!(work(0, 0, 0, true), "none");
        assert_eq!(work(3, 1, 0, true), "3 uncommitted, 1 unpushed");
        assert_eq!(work(0, 0, 2, true), "2 stashed");
        assert_eq!(work(0, 0, 0, false), "unreadable");
        assert_eq!(work(1, 0, 0, false), "1 uncommitted, rest unreadable");
    }

    #[test]
    fn what_was_found_is_known_until_the_drone_is_gone() {
        let place = tempfile::tempdir().unwrap();
        let places = Places::under(place.path());
        let name = DroneName::from_label("acme-site").unwrap();
        assert_eq!(Work::read(&places, &name), None);
        let work = Work::now(Counts::default(), true);
        work.write(&places, &name).unwrap();
        assert_eq!(Work::read(&places, &name), Some(work));
        std::fs::write(places.work_file(&name), "x").unwrap();
        assert_eq!(Work::read(&places, &name), None);
        places.forget(&name).unwrap();
        assert!(!places.work_file(&name).exists());
    }
}
