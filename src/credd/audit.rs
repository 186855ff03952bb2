//! What is written down: each mint, refusal and revocation, with everything but the token.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tracing::{info, warn};

use super::failure::Failure;
use super::token::Token;
use crate::drone::DroneName;

/// The `tracing` target of audit events; in the journal their fields begin with `HATCHERY_`.
pub const TARGET: &str = "hatchery::audit";

/// Refusals that are written at once, and then one in every [`REFUSAL_EVERY`]: a drone must not
/// be able to fill the journal.
const REFUSAL_BURST: u32 = 30;
const REFUSAL_EVERY: Duration = Duration::from_secs(10);

/// One drone's audit trail.
pub struct Audit {
    drone: DroneName,
    refusals: Mutex<Allowance>,
}

struct Allowance {
    left: u32,
    since: Duration,
    unwritten: u64,
}

impl Audit {
    /// The trail of this drone.
    pub const fn new(drone: DroneName) -> Self {
        Self {
            drone,
            refusals: Mutex::new(Allowance {
                left: REFUSAL_BURST,
                since: Duration::ZERO,
                unwritten: 0,
            }),
        }
    }

    /// A token was minted for these repositories.
    pub fn minted(&self, token: &Token, repositories: &[String]) {
        let expires_at = rfc3339(token.expires_at());
        info!(
            target: TARGET,
            event = "mint",
            drone = %self.drone,
            repositories = %serde_json::json!(repositories),
            permissions = %serde_json::json!(token.permissions()),
            expires_at,
            token_sha256 = token.sha256(),
            "token minted for {}", repositories.join(", "),
        );
    }

    /// There is no token for what was asked: a repository, or an owner's repositories. `now` is
    /// the steady clock's.
    pub fn refused(&self, asked: &str, failure: &Failure, now: Duration) {
        let unwritten = {
            let mut allowance = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
            let earned = now.saturating_sub(allowance.since).as_secs() / REFUSAL_EVERY.as_secs();
            if earned > 0 {
                allowance.left = REFUSAL_BURST.min(
                    allowance
                        .left
                        .saturating_add(u32::try_from(earned).unwrap_or(u32::MAX)),
                );
                allowance.since = now;
            }
            if allowance.left == 0 {
                allowance.unwritten += 1;
                return;
            }
            allowance.left -= 1;
            std::mem::take(&mut allowance.unwritten)
        };
        warn!(
            target: TARGET,
            event = "refusal",
            drone = %self.drone,
            repositories = %serde_json::json!([asked]),
            code = failure.code(),
            unwritten,
            "no token for {asked}: {failure}",
        );
    }

    /// GitHub granted what must not be used.
    pub fn rejected(&self, owner: &str, token_sha256: &str, why: &str) {
        warn!(
            target: TARGET,
            event = "rejected-grant",
            drone = %self.drone,
            owner,
            token_sha256,
            "a grant for {owner} was thrown away: {why}",
        );
    }

    /// A repository of the scope is gone at GitHub.
    pub fn gone(&self, repository: &str) {
        warn!(
            target: TARGET,
            event = "repository-gone",
            drone = %self.drone,
            repositories = %serde_json::json!([repository]),
            "{repository} is gone at GitHub or the App is not installed on it; \
             tokens are minted for the drone's other repositories",
        );
    }

    /// A token was revoked.
    pub fn revoked(&self, token_sha256: &str) {
        info!(
            target: TARGET,
            event = "revocation",
            drone = %self.drone,
            token_sha256,
            "token revoked",
        );
    }

    /// A token could not be revoked; it will be tried again.
    pub fn not_revoked(&self, token_sha256: &str, failure: &Failure) {
        warn!(
            target: TARGET,
            event = "revocation-failed",
            drone = %self.drone,
            token_sha256,
            "token not revoked, trying again: {failure}",
        );
    }
}

/// A time as in RFC 3339, in UTC, to the second.
pub fn rfc3339(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}
