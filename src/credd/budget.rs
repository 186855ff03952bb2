//! How many tokens a drone may have minted: so many within any hour.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::failure::Failure;

/// Mints within [`WINDOW`]. A drone needs one or two an hour; one that throws its tokens away
/// must not use up what GitHub grants the App.
pub const MINTS: usize = 30;
/// The window.
pub const WINDOW: Duration = Duration::from_secs(3600);

/// The mints of the last hour, by the steady clock.
#[derive(Default)]
pub struct Budget(Mutex<VecDeque<Duration>>);

impl Budget {
    /// Whether another mint is within bounds at `now`.
    pub fn check(&self, now: Duration) -> Result<(), Failure> {
        let mints = self.recent(now);
        match mints.front() {
            Some(oldest) if mints.len() >= MINTS => Err(Failure::Exhausted {
                limit: MINTS,
                // Rounded up: to come back on time is not to come back too early.
                wait: (*oldest + WINDOW).saturating_sub(now) + Duration::from_secs(1),
            }),
            _ => Ok(()),
        }
    }

    /// Counts a mint at `now`.
    pub fn spend(&self, now: Duration) {
        self.recent(now).push_back(now);
    }

    /// Whether so much was used that it must not be forgotten yet.
    pub fn strained(&self, now: Duration) -> bool {
        self.recent(now).len() > MINTS / 2
    }

    fn recent(&self, now: Duration) -> std::sync::MutexGuard<'_, VecDeque<Duration>> {
        let mut mints = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while mints.front().is_some_and(|mint| *mint + WINDOW <= now) {
            mints.pop_front();
        }
        mints
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_thirty_first_within_an_hour_has_to_wait_for_the_first_to_pass() {
        let budget = Budget::default();
        let at = Duration::from_secs;
        for minute in 0..30 {
            budget.check(at(minute * 60)).unwrap();
            budget.spend(at(minute * 60));
        }
        let Err(Failure::Exhausted { wait, .. }) = budget.check(at(1800)) else {
            panic!("a thirty-first");
        };
        assert!(budget.check(at(3599)).is_err());
        assert!(budget.check(at(1800) + wait).is_ok());
        assert!(budget.strained(at(3600)) && !budget.strained(at(3600 + 15 * 60)));
    }
}
