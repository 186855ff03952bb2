//! Whose clock counts: GitHub's, as the `Date` of its answers tells it.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rustix::time::{ClockId, clock_gettime};

/// The two clocks of this machine. Tests bring their own.
pub trait Clock: Send + Sync {
    /// The time of day. It may be wrong, and it may jump.
    fn wall(&self) -> SystemTime;
    /// Time since some fixed point. It never jumps, and it runs on while the machine sleeps.
    fn steady(&self) -> Duration;
}

/// The kernel's clocks.
#[derive(Debug, Clone, Copy)]
pub struct KernelClock;

impl Clock for KernelClock {
    fn wall(&self) -> SystemTime {
        SystemTime::now()
    }

    fn steady(&self) -> Duration {
        let now = clock_gettime(ClockId::Boottime);
        Duration::new(
            now.tv_sec.try_into().unwrap_or(0),
            now.tv_nsec.try_into().unwrap_or(0),
        )
    }
}

/// GitHub's time: what its last `Date` said, and what has passed since. Before the first answer
/// this machine's time of day stands in.
pub struct GithubTime {
    clock: std::sync::Arc<dyn Clock>,
    anchor: Mutex<Option<Anchor>>,
}

#[derive(Clone, Copy)]
struct Anchor {
    github: SystemTime,
    wall: SystemTime,
    steady: Duration,
}

impl GithubTime {
    /// GitHub's time as far as this clock can tell it.
    pub const fn new(clock: std::sync::Arc<dyn Clock>) -> Self {
        Self {
            clock,
            anchor: Mutex::new(None),
        }
    }

    /// What GitHub's clock says now.
    ///
    /// A virtual machine that was paused sees the pause in its time of day alone, once that is
    /// set right; a time of day that was set back must not make a token look younger. So the
    /// longer of both counts: at worst a token is minted early.
    pub fn now(&self) -> SystemTime {
        let Some(anchor) = *self.anchor.lock().unwrap_or_else(PoisonError::into_inner) else {
            return self.clock.wall();
        };
        let by_wall = self
            .clock
            .wall()
            .duration_since(anchor.wall)
            .unwrap_or_default();
        let by_steady = self.clock.steady().saturating_sub(anchor.steady);
        anchor
            .github
            .checked_add(by_wall.max(by_steady))
            .unwrap_or(anchor.github)
    }

    /// Takes the `Date` of an answer that has just arrived.
    pub fn correct(&self, date: SystemTime) {
        let anchor = Anchor {
            github: date,
            wall: self.clock.wall(),
            steady: self.clock.steady(),
        };
        *self.anchor.lock().unwrap_or_else(PoisonError::into_inner) = Some(anchor);
    }

    /// Time since some fixed point, for waiting.
    pub fn steady(&self) -> Duration {
        self.clock.steady()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    struct Still(Mutex<(u64, u64)>);

    impl Clock for Still {
        fn wall(&self) -> SystemTime {
            SystemTime::UNIX_EPOCH + Duration::from_secs(self.0.lock().unwrap().0)
        }
        fn steady(&self) -> Duration {
            Duration::from_secs(self.0.lock().unwrap().1)
        }
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn githubs_date_counts_and_the_time_of_day_may_jump() {
        let clock = Arc::new(Still(Mutex::new((1_000_000, 50))));
        let time = GithubTime::new(clock.clone());
        assert_eq!(time.now(), at(1_000_000), "nothing else is known yet");
        time.correct(at(1_000_600));
        *clock.0.lock().unwrap() = (1_000_010, 60);
        assert_eq!(time.now(), at(1_000_610));
        *clock.0.lock().unwrap() = (990_000, 70);
        assert_eq!(time.now(), at(1_000_620), "set back: no time is lost");
        *clock.0.lock().unwrap() = (1_003_600, 70);
        assert_eq!(time.now(), at(1_004_200), "asleep: the time of day tells");
    }
}
