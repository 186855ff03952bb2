//! What a compose file says of a service's restarts. Docker's own policy cannot keep it: it is
//! taken away while the drone sleeps, so it is written down in a label as well.

use bollard::models::{ContainerUpdateBody, RestartPolicy, RestartPolicyNameEnum};

use super::{Container, Docker, failed};
use crate::error::Result;

/// Label with a sibling's own restart policy, as in a compose file.
pub const LABEL_RESTART: &str = "hatchery.restart";

/// The label's value where the compose file says nothing, which is `no` to compose.
pub const UNSAID: &str = "unsaid";

/// A restart policy of compose's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restart {
    name: RestartPolicyNameEnum,
    retries: Option<i64>,
    said: bool,
}

impl Restart {
    /// Not started again, whatever happens.
    pub const NO: Self = Self::of(RestartPolicyNameEnum::NO);
    /// Started again, but after it was stopped by hand.
    pub const UNLESS_STOPPED: Self = Self::of(RestartPolicyNameEnum::UNLESS_STOPPED);

    const fn of(name: RestartPolicyNameEnum) -> Self {
        Self {
            name,
            retries: None,
            said: true,
        }
    }

    /// Reads what stands in a compose file, or [`UNSAID`].
    pub fn parse(text: &str) -> Option<Self> {
        let (name, retries) = match text.split_once(':') {
            Some((name, retries)) => (name, Some(retries.parse().ok()?)),
            None => (text, None),
        };
        let policy = match name {
            "no" => Self::NO,
            UNSAID => Self {
                said: false,
                ..Self::NO
            },
            "always" => Self::of(RestartPolicyNameEnum::ALWAYS),
            "unless-stopped" => Self::UNLESS_STOPPED,
            "on-failure" => Self {
                retries,
                ..Self::of(RestartPolicyNameEnum::ON_FAILURE)
            },
            _ => return None,
        };
        (retries.is_none() || name == "on-failure").then_some(policy)
    }

    /// Whether it is to run for as long as the server does.
    pub const fn lasts(self) -> bool {
        matches!(
            self.name,
            RestartPolicyNameEnum::ALWAYS | RestartPolicyNameEnum::UNLESS_STOPPED
        )
    }

    /// Whether the compose file says it.
    pub const fn is_said(self) -> bool {
        self.said
    }
}

impl Container {
    /// Its own restart policy; `None` where no hatchery wrote it down.
    pub fn own_restart(&self) -> Option<Restart> {
        Restart::parse(self.labels().get(LABEL_RESTART)?)
    }
}

impl Docker {
    /// Puts a restart policy in force.
    pub async fn set_restart(&self, id: &str, restart: Restart) -> Result<()> {
        let body = ContainerUpdateBody {
            restart_policy: Some(RestartPolicy {
                name: Some(restart.name),
                maximum_retry_count: restart.retries,
            }),
            ..ContainerUpdateBody::default()
        };
        self.api
            .update_container(id, body)
            .await
            .map_err(|error| failed(&format!("set the restart policy of {id}"), error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_read_as_compose_reads_them() {
        for (text, lasts, said) in [
            ("no", false, true),
            ("always", true, true),
            ("unless-stopped", true, true),
            ("on-failure", false, true),
            ("on-failure:3", false, true),
            (UNSAID, false, false),
        ] {
            let read = Restart::parse(text).unwrap();
            assert_eq!((read.lasts(), read.is_said()), (lasts, said), "{text}");
        }
        assert_eq!(Restart::parse("on-failure:3").unwrap().retries, Some(3));
        for text in ["", "never", "always:3", "on-failure:x", "on-failure:"] {
            assert_eq!(Restart::parse(text), None, "{text}");
        }
    }
}
