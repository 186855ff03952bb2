//! What drones may take of this server.

use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

use super::Checked;
use super::size;
use super::span::{Period, Span};

/// `[limits]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// How many drones there may be.
    pub drones: usize,
    /// Memory of one drone.
    #[serde(serialize_with = "size::exact")]
    pub memory: ByteSize,
    /// Processors of one drone.
    pub cpus: f64,
    /// Processes and threads of one drone.
    pub pids: i64,
    /// How long a spawn may take to clone and build.
    pub build: Span,
    /// What a drone may take on Docker's disk before it is burrowed; 0 is no limit.
    #[serde(serialize_with = "size::exact")]
    pub disk: ByteSize,
    /// What is left free on Docker's disk: with less, nothing is spawned.
    #[serde(serialize_with = "size::exact")]
    pub reserve: ByteSize,
    /// What a clone may take on the disk.
    #[serde(serialize_with = "size::exact")]
    pub clone: ByteSize,
    /// Files and directories of a clone.
    pub clone_files: u64,
    /// How long nobody and nothing may be at work in a drone before it is burrowed; 0 is no limit.
    pub idle: Period,
    /// How long work is kept that was in a drone slain by force.
    pub remains: Period,
    /// How much of it is kept of one drone.
    #[serde(serialize_with = "size::exact")]
    pub remains_size: ByteSize,
}

impl Limits {
    /// What a drone may take on Docker's disk, in bytes; `None` where there is no limit.
    pub fn most_disk(&self) -> Option<u64> {
        Some(self.disk.as_u64()).filter(|bytes| *bytes > 0)
    }

    /// Processors of one drone, or all where this server has fewer: Docker refuses to give more.
    pub fn processors(&self) -> f64 {
        let there = std::thread::available_parallelism().ok();
        let there = there.and_then(|there| u32::try_from(there.get()).ok());
        there.map_or(self.cpus, |there| self.cpus.min(f64::from(there)))
    }

    /// Refuses what cannot be: the key, and why.
    pub(crate) fn check(&self) -> Checked {
        if !(self.cpus.is_finite() && self.cpus > 0.0) {
            return Err(("limits.cpus", "must be more than 0".into()));
        }
        // Of less the kernel makes no time that it can keep count of.
        if self.cpus < 0.01 {
            return Err(("limits.cpus", "must be at least 0.01".into()));
        }
        // Docker refuses less than 6 MiB; a drone's sshd and tailscaled need far more.
        if self.memory < ByteSize::mib(64) {
            return Err(("limits.memory", "must be at least 64MiB".into()));
        }
        // With less a drone is burrowed before anybody has worked in it.
        if self.disk != ByteSize::b(0) && self.disk < ByteSize::mib(64) {
            return Err((
                "limits.disk",
                "must be at least 64MiB, or 0 for no limit".into(),
            ));
        }
        // In less an agent may well wait for an answer.
        if self.idle.get().is_some_and(|idle| idle < SHORTEST_IDLE) {
            let shortest = humantime::format_duration(SHORTEST_IDLE);
            let what = format!("must be at least {shortest}, or 0 for no limit");
            return Err(("limits.idle", what));
        }
        if self.clone < ByteSize::mib(1) {
            return Err(("limits.clone", "must be at least 1MiB".into()));
        }
        if self.clone_files == 0 {
            return Err(("limits.clone_files", "must be more than 0".into()));
        }
        if self.pids < 16 {
            return Err(("limits.pids", "must be at least 16".into()));
        }
        if self.pids > MOST_PIDS {
            return Err(("limits.pids", format!("must be at most {MOST_PIDS}")));
        }
        Ok(())
    }
}

/// The kernel has no more numbers for processes (`PID_MAX_LIMIT`, proc(5)).
const MOST_PIDS: i64 = 4_194_304;

/// The shortest time for which a drone is to be idle before it is burrowed.
const SHORTEST_IDLE: Duration = Duration::from_secs(10 * 60);

impl Default for Limits {
    fn default() -> Self {
        Self {
            drones: 16,
            memory: ByteSize::gib(8),
            cpus: 4.0,
            pids: 4096,
            build: Span(Duration::from_secs(2 * 60 * 60)),
            disk: ByteSize::gib(64),
            reserve: ByteSize::gib(1),
            clone: ByteSize::gib(32),
            clone_files: 2_000_000,
            idle: Period(None),
            remains: Period(Some(Span(Duration::from_secs(30 * 24 * 60 * 60)))),
            remains_size: ByteSize::gib(4),
        }
    }
}
