//! What is written down: each mint, refusal and revocation, with everything but the token.
//!
//! In the journal an event is an entry with the fields of [`field`]; elsewhere a line on stderr.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tracing::{info, warn};

use super::failure::Failure;
use crate::drone::DroneName;
use crate::drone::permission::{Access, Permission};

/// The `tracing` target of audit events.
pub const TARGET: &str = "hatchery::audit";

/// What the journal puts before each of our fields' names.
pub const JOURNAL_PREFIX: &str = "HATCHERY";

/// The journal's names of an audit event's fields: whoever reads the journal goes by these. What
/// an event does not know, it leaves out. `MESSAGE` says the same to a person.
pub mod field {
    /// What happened: an [`Event`](super::Event)'s name. An entry with this field is an audit event.
    pub const EVENT: &str = "HATCHERY_EVENT";
    /// The drone's name.
    pub const DRONE: &str = "HATCHERY_DRONE";
    /// The repositories that it is about: a JSON array of `org/name`, or what was asked for instead.
    pub const REPOSITORIES: &str = "HATCHERY_REPOSITORIES";
    /// The token's permissions, or those that were asked for: a JSON object.
    pub const PERMISSIONS: &str = "HATCHERY_PERMISSIONS";
    /// When the token expires: RFC 3339, in UTC.
    pub const EXPIRES_AT: &str = "HATCHERY_EXPIRES_AT";
    /// The token's SHA-256 in hex, by which GitHub's audit log names it too.
    pub const TOKEN_SHA256: &str = "HATCHERY_TOKEN_SHA256";
    /// Why there is no token, or why it was not revoked: a stable name.
    pub const CODE: &str = "HATCHERY_CODE";
    /// How many refusals came before this one and were not written.
    pub const UNWRITTEN: &str = "HATCHERY_UNWRITTEN";
}

/// What an audit event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A token was minted.
    Mint,
    /// There was no token for what was asked.
    Refusal,
    /// GitHub granted what must not be used; the token is revoked.
    RejectedGrant,
    /// A repository of the scope is gone at GitHub.
    RepositoryGone,
    /// A token was revoked.
    Revocation,
    /// A token could not be revoked yet.
    RevocationFailed,
}

impl Event {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Mint,
        Self::Refusal,
        Self::RejectedGrant,
        Self::RepositoryGone,
        Self::Revocation,
        Self::RevocationFailed,
    ];

    /// The stable name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Mint => "mint",
            Self::Refusal => "refusal",
            Self::RejectedGrant => "rejected-grant",
            Self::RepositoryGone => "repository-gone",
            Self::Revocation => "revocation",
            Self::RevocationFailed => "revocation-failed",
        }
    }
}

/// What a token is for, to be written down.
#[derive(Debug, Clone)]
pub struct Subject {
    /// The repositories that it covers.
    pub repositories: Vec<String>,
    /// What it may do.
    pub permissions: BTreeMap<Permission, Access>,
    /// When it expires, where that is known.
    pub expires_at: Option<SystemTime>,
    /// Its SHA-256 in hex; empty where GitHub's answer held none.
    pub sha256: String,
}

/// Refusals that are written at once, and then one in every [`REFUSAL_EVERY`]: a drone must not
/// be able to fill the journal.
const REFUSAL_BURST: u32 = 30;
const REFUSAL_EVERY: Duration = Duration::from_secs(10);

/// One drone's audit trail.
pub struct Audit {
    drone: DroneName,
    /// What its tokens may do, as it is asked of GitHub.
    permissions: BTreeMap<Permission, Access>,
    refusals: Mutex<Allowance>,
}

struct Allowance {
    left: u32,
    since: Duration,
    unwritten: u64,
}

impl Audit {
    /// The trail of this drone, whose tokens are asked for with these permissions.
    pub const fn new(drone: DroneName, permissions: BTreeMap<Permission, Access>) -> Self {
        Self {
            drone,
            permissions,
            refusals: Mutex::new(Allowance {
                left: REFUSAL_BURST,
                since: Duration::ZERO,
                unwritten: 0,
            }),
        }
    }

    /// A token was minted.
    pub fn minted(&self, token: &Subject) {
        info!(
            target: TARGET,
            event = Event::Mint.as_str(),
            drone = %self.drone,
            repositories = %json(&token.repositories),
            permissions = %json(&token.permissions),
            expires_at = token.expiry(),
            token_sha256 = token.sha256,
            "token minted for {}", token.repositories.join(", "),
        );
    }

    /// There is no token for what was asked. `now` is the steady clock's.
    pub fn refused(&self, asked: &[String], failure: &Failure, now: Duration) {
        let Some(unwritten) = self.may_write_refusal(now) else {
            return;
        };
        warn!(
            target: TARGET,
            event = Event::Refusal.as_str(),
            drone = %self.drone,
            repositories = %json(&asked),
            permissions = %json(&self.permissions),
            code = failure.code(),
            unwritten,
            "no token for {}: {failure}", asked.join(", "),
        );
    }

    /// Whether another refusal may be written; and how many were not, before.
    fn may_write_refusal(&self, now: Duration) -> Option<u64> {
        let mut allowance = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        let earned = now.saturating_sub(allowance.since).as_secs() / REFUSAL_EVERY.as_secs();
        if earned > 0 {
            let earned = u32::try_from(earned).unwrap_or(u32::MAX);
            allowance.left = REFUSAL_BURST.min(allowance.left.saturating_add(earned));
            allowance.since = now;
        }
        if allowance.left == 0 {
            allowance.unwritten += 1;
            return None;
        }
        allowance.left -= 1;
        Some(std::mem::take(&mut allowance.unwritten))
    }

    /// GitHub granted what must not be used.
    pub fn rejected(&self, asked: &Subject, why: &str) {
        warn!(
            target: TARGET,
            event = Event::RejectedGrant.as_str(),
            drone = %self.drone,
            repositories = %json(&asked.repositories),
            permissions = %json(&asked.permissions),
            token_sha256 = asked.sha256,
            "a grant for {} was discarded: {why}", asked.repositories.join(", "),
        );
    }

    /// A repository of the scope is gone at GitHub.
    pub fn gone(&self, repository: &str) {
        warn!(
            target: TARGET,
            event = Event::RepositoryGone.as_str(),
            drone = %self.drone,
            repositories = %json(&[repository]),
            permissions = %json(&self.permissions),
            "{repository} no longer exists on GitHub or the App is not installed on it; tokens are minted \
             for the drone's other repositories",
        );
    }

    /// A token was revoked.
    pub fn revoked(&self, token: &Subject) {
        info!(
            target: TARGET,
            event = Event::Revocation.as_str(),
            drone = %self.drone,
            repositories = %json(&token.repositories),
            permissions = %json(&token.permissions),
            expires_at = token.expiry(),
            token_sha256 = token.sha256,
            "token for {} revoked", token.repositories.join(", "),
        );
    }

    /// A token could not be revoked; it will be tried again.
    pub fn not_revoked(&self, token: &Subject, failure: &Failure) {
        warn!(
            target: TARGET,
            event = Event::RevocationFailed.as_str(),
            drone = %self.drone,
            repositories = %json(&token.repositories),
            permissions = %json(&token.permissions),
            expires_at = token.expiry(),
            token_sha256 = token.sha256,
            code = failure.code(),
            "token for {} not revoked, will be retried: {failure}", token.repositories.join(", "),
        );
    }
}

impl Subject {
    fn expiry(&self) -> Option<String> {
        self.expires_at.map(rfc3339)
    }
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::json!(value).to_string()
}

/// A time as in RFC 3339, in UTC, to the second.
pub fn rfc3339(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::fmt::Debug;
    use std::sync::Arc;
    use tracing::field::{Field, Visit};
    use tracing_subscriber::layer::{Context, SubscriberExt};

    type Written = Arc<Mutex<Vec<BTreeMap<String, String>>>>;

    /// What reaches the journal, by its names there.
    struct Journal(Written);

    struct Entry(BTreeMap<String, String>);

    impl Visit for Entry {
        fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
            let name = match field.name() {
                "message" => "MESSAGE".to_owned(),
                name => format!("{JOURNAL_PREFIX}_{}", name.to_ascii_uppercase()),
            };
            self.0.insert(name, format!("{value:?}"));
        }

        fn record_str(&mut self, field: &Field, value: &str) {
            self.record_debug(field, &format_args!("{value}"));
        }
    }

    impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Journal {
        fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
            let mut entry = Entry(BTreeMap::new());
            event.record(&mut entry);
            self.0.lock().unwrap().push(entry.0);
        }
    }

    fn subject() -> Subject {
        Subject {
            repositories: vec!["acme/site".to_owned()],
            permissions: permissions(),
            expires_at: Some(SystemTime::UNIX_EPOCH),
            sha256: "5a".repeat(32),
        }
    }

    fn permissions() -> BTreeMap<Permission, Access> {
        [("contents".parse().unwrap(), Access::Write)].into()
    }

    #[test]
    fn the_journal_has_the_fields_that_are_promised() {
        let written = Written::default();
        let journal = tracing_subscriber::registry().with(Journal(written.clone()));
        let drone = DroneName::from_label("acme-site").unwrap();
        let audit = Audit::new(drone, permissions());
        let failure = Failure::Silent;
        tracing::subscriber::with_default(journal, || {
            audit.minted(&subject());
            audit.refused(&["acme/secret".to_owned()], &failure, Duration::ZERO);
            audit.rejected(&subject(), "it is too long");
            audit.gone("acme/site");
            audit.revoked(&subject());
            audit.not_revoked(&subject(), &failure);
        });
        let common = [
            "MESSAGE",
            field::EVENT,
            field::DRONE,
            field::REPOSITORIES,
            field::PERMISSIONS,
        ];
        let own: [&[&str]; 6] = [
            &[field::EXPIRES_AT, field::TOKEN_SHA256],
            &[field::CODE, field::UNWRITTEN],
            &[field::TOKEN_SHA256],
            &[],
            &[field::EXPIRES_AT, field::TOKEN_SHA256],
            &[field::EXPIRES_AT, field::TOKEN_SHA256, field::CODE],
        ];
        let written = written.lock().unwrap();
        assert_eq!(written.len(), Event::ALL.len());
        for ((entry, event), own) in written.iter().zip(Event::ALL).zip(own) {
            let names: BTreeSet<&str> = entry.keys().map(String::as_str).collect();
            let promised: BTreeSet<&str> = common.iter().chain(own).copied().collect();
            assert_eq!(names, promised, "{event:?}");
            assert_eq!(entry[field::EVENT], event.as_str());
            assert_eq!(entry[field::DRONE], "acme-site");
            assert_eq!(entry[field::PERMISSIONS], r#"{"contents":"write"}"#);
            assert!(entry[field::REPOSITORIES].starts_with(r#"["acme/s"#));
        }
        assert_eq!(written[0][field::EXPIRES_AT], "1970-01-01T00:00:00Z");
        assert_eq!(written[1][field::CODE], "github-silent");
    }
}
