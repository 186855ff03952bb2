//! Whether a person was in a container, as far as this server can tell without running anything in it.

use std::time::Duration;

use super::{Docker, failed, late};
use crate::error::Result;

/// How long Docker may take to list processes.
const LISTED_WITHIN: Duration = Duration::from_secs(10);
/// Where logins with a terminal are written down (wtmp(5)).
const LOGINS: &str = "/var/log/wtmp";
/// The largest that is read, in bytes.
const MAX_LOGINS: usize = 4 * 1024 * 1024;

impl Docker {
    /// Whether somebody is logged in to it over ssh, or was with a terminal.
    pub async fn was_visited(&self, container: &str) -> Result<bool> {
        let logins = self.file(container, LOGINS, MAX_LOGINS).await?;
        if logins.is_some_and(|logins| !logins.is_empty()) {
            return Ok(true);
        }
        let doing = format!("list the processes of {container}");
        let listing = self.api.top_processes(container, None);
        let listed = tokio::time::timeout(LISTED_WITHIN, listing)
            .await
            .map_err(|_| late(&doing, LISTED_WITHIN))?;
        let processes = match listed {
            Ok(listed) => listed.processes.unwrap_or_default(),
            // It does not run.
            Err(error) if super::status(&error) == Some(409) => return Ok(false),
            Err(error) => return Err(failed(&doing, error)),
        };
        Ok(processes.iter().flatten().any(|cell| is_session(cell)))
    }
}

/// What sshd calls the process of a session: `sshd: vscode@pts/0`, from 9.8 on `sshd-session: …`.
fn is_session(title: &str) -> bool {
    let who = title
        .strip_prefix("sshd: ")
        .or_else(|| title.strip_prefix("sshd-session: "));
    who.is_some_and(|who| who.split(' ').next().is_some_and(|who| who.contains('@')))
}

#[cfg(test)]
mod tests {
    use super::is_session;

    #[test]
    fn a_session_is_not_the_listener() {
        for (title, expected) in [
            ("sshd: vscode@pts/0", true),
            ("sshd-session: vscode@notty", true),
            ("sshd: vscode [net]", false),
            (
                "sshd: /usr/sbin/sshd -p 2222 [listener] 0 of 10-100 startups",
                false,
            ),
            ("vim a@b", false),
        ] {
            assert_eq!(is_session(title), expected, "{title}");
        }
    }
}
