//! A clock that the tests turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use hatchery::credd::clock::Clock;

/// Where the tests' clocks begin: 2026-01-01T00:00:00Z.
pub const BEGIN: u64 = 1_767_225_600;

/// Time that passes only when a test says so. Its time of day may be wrong besides.
#[derive(Default)]
pub struct TestClock {
    passed: AtomicU64,
    wrong_by: AtomicI64,
}

impl TestClock {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Lets time pass.
    pub fn pass(&self, seconds: u64) {
        self.passed.fetch_add(seconds, Ordering::SeqCst);
    }

    /// Sets the time of day off by so many seconds.
    pub fn set_wrong_by(&self, seconds: i64) {
        self.wrong_by.store(seconds, Ordering::SeqCst);
    }

    /// Seconds since the Unix epoch.
    pub fn seconds(&self) -> u64 {
        (BEGIN + self.passed.load(Ordering::SeqCst))
            .checked_add_signed(self.wrong_by.load(Ordering::SeqCst))
            .unwrap()
    }
}

impl Clock for TestClock {
    fn wall(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(self.seconds())
    }

    fn steady(&self) -> Duration {
        Duration::from_secs(1_000 + self.passed.load(Ordering::SeqCst))
    }
}
