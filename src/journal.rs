//! The credential service's trail in the journal, read back.

use std::process::Stdio;
use std::time::Duration;

use serde::Serialize;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};

use crate::credd::audit::field;
use crate::drone::DroneName;
use crate::error::{Code, Error, Result};
use crate::process::{self, Group};

/// How long journalctl may take.
const LIMIT: Duration = Duration::from_secs(30);
/// How much of what it complains about is kept, in bytes.
const KEPT: u64 = 4096;
/// The longest entry that is read, in bytes: 500 repositories are about 75 kB.
const MAX_ENTRY: u64 = 1024 * 1024;

/// What the service wrote down: a mint, a refusal, a revocation.
#[derive(Debug, Clone, Serialize)]
pub struct Entry {
    /// When, in microseconds since 1970.
    #[serde(skip)]
    pub time: u64,
    /// When, as in RFC 3339.
    pub at: String,
    /// What: `mint`, `refusal`, `revocation` and others.
    pub event: String,
    /// Of which drone.
    pub drone: String,
    /// Of which repositories.
    pub repositories: Vec<String>,
    /// What the token may do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub permissions: Option<serde_json::Value>,
    /// When it expires, as in RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    /// Its SHA-256, by which GitHub's own audit log knows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_sha256: Option<String>,
    /// All of it in words.
    pub message: String,
}

/// Which entries.
#[derive(Debug, Clone, Copy)]
pub struct Query<'a> {
    /// Of this drone only.
    pub drone: Option<&'a DroneName>,
    /// Of this event only.
    pub event: Option<&'a str>,
    /// Since then, as journalctl(1) takes it.
    pub since: Option<&'a str>,
    /// At most so many, the newest.
    pub limit: usize,
}

/// The newest entries, the oldest of them first.
pub async fn read(query: Query<'_>) -> Result<Vec<Entry>> {
    let reading = tokio::time::timeout(LIMIT, run(query));
    reading.await.unwrap_or_else(|_| {
        Err(Error::new(
            Code::HostFailed,
            format!("journalctl did not end within {} s", LIMIT.as_secs()),
        )
        .hint("ask for fewer entries with --since or --limit"))
    })
}

async fn run(query: Query<'_>) -> Result<Vec<Entry>> {
    let mut command = process::supervised("journalctl")?;
    command
        .args([
            "--output=json",
            "--all",
            "--reverse",
            "--no-pager",
            "--quiet",
        ])
        .arg(format!("--lines={}", query.limit))
        // Trusted: journald itself notes which program wrote it.
        .args(["_COMM=hatchery-credd"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    match query.drone {
        Some(drone) => command.arg(format!("{}={drone}", field::DRONE)),
        None => &mut command,
    };
    match query.event {
        Some(event) => command.arg(format!("{}={event}", field::EVENT)),
        None => &mut command,
    };
    if let Some(since) = query.since {
        command.arg(format!("--since={since}"));
    }
    let mut group = Group::spawn(&mut command, "journalctl")?;
    let (stdout, stderr) = (group.child().stdout.take(), group.child().stderr.take());
    let complaints = async {
        let mut said = String::new();
        if let Some(stderr) = stderr {
            let _ = stderr.take(KEPT).read_to_string(&mut said).await;
        }
        said
    };
    let entries = async {
        let mut entries = Vec::new();
        if let Some(stdout) = stdout {
            let mut reader = BufReader::new(stdout);
            let mut line = Vec::new();
            while let Ok(1..) = (&mut reader)
                .take(MAX_ENTRY)
                .read_until(b'\n', &mut line)
                .await
            {
                entries.extend(parse(&line));
                line.clear();
            }
        }
        entries
    };
    let (mut entries, said) = tokio::join!(entries, complaints);
    let status = group.wait().await?;
    if !status.success() && entries.is_empty() && !said.trim().is_empty() {
        let unseen = said.contains("not seeing messages") || said.contains("ermission");
        return Err(Error::new(Code::HostFailed, "the journal cannot be read")
            .hint(if unseen {
                "only root and members of the groups systemd-journal, adm and hatchery may read it"
            } else {
                "try `journalctl -u 'hatchery-credd@*'` by hand"
            })
            .because(said.lines().next().unwrap_or_default().to_owned()));
    }
    entries.reverse();
    Ok(entries)
}

/// One entry of `journalctl --output=json`; `None` for what is no event.
fn parse(line: &[u8]) -> Option<Entry> {
    let raw: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(line).ok()?;
    let text = |key| raw.get(key)?.as_str().map(str::to_owned);
    let time = text("__REALTIME_TIMESTAMP")?.parse().ok()?;
    let at = std::time::UNIX_EPOCH.checked_add(Duration::from_micros(time))?;
    Some(Entry {
        time,
        at: humantime::format_rfc3339_seconds(at).to_string(),
        event: text(field::EVENT)?,
        drone: text(field::DRONE)?,
        repositories: text(field::REPOSITORIES)
            .and_then(|list| serde_json::from_str(&list).ok())
            .unwrap_or_default(),
        permissions: text(field::PERMISSIONS).and_then(|map| serde_json::from_str(&map).ok()),
        expires_at: text(field::EXPIRES_AT),
        token_sha256: text(field::TOKEN_SHA256),
        message: text("MESSAGE")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_read_and_other_entries_are_not() {
        let line = br#"{"__REALTIME_TIMESTAMP":"1700000000123456","MESSAGE":"token minted for a/b",
            "HATCHERY_EVENT":"mint","HATCHERY_DRONE":"a-b","HATCHERY_REPOSITORIES":"[\"a/b\"]",
            "HATCHERY_PERMISSIONS":"{\"contents\":\"read\"}","HATCHERY_EXPIRES_AT":"2023-11-14T23:13:20Z",
            "HATCHERY_TOKEN_SHA256":"00ff","_PID":"1"}"#;
        let entry = parse(line).unwrap();
        assert_eq!(entry.at, "2023-11-14T22:13:20Z");
        assert_eq!(entry.repositories, ["a/b"]);
        assert_eq!(entry.permissions.unwrap()["contents"], "read");
        for other in [
            &br#"{"__REALTIME_TIMESTAMP":"1","MESSAGE":"ready"}"#[..],
            br#"{"__REALTIME_TIMESTAMP":"x","MESSAGE":"m","HATCHERY_EVENT":"mint","HATCHERY_DRONE":"a"}"#,
            br#"{"__REALTIME_TIMESTAMP":"1","MESSAGE":"m","HATCHERY_DRONE":"a-b"}"#,
            br#"{"__REALTIME_TIMESTAMP":"1","MESSAGE":"m","HATCHERY_EVENT":"mint"}"#,
            br#"{"MESSAGE":[1,2]}"#,
            b"",
            b"\xff",
        ] {
            assert!(parse(other).is_none());
        }
    }
}
