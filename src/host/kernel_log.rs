//! Whom the kernel has killed for memory, read from its log in the journal.
//!
//! The control group's counters say how often; only the log says which process. It names the
//! control group by its path, which holds the container's id, and so is told of no other's.

use std::process::Stdio;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};

use super::cgroup::is_group_of;
use crate::process::{self, Group};
use crate::ui::clean;

/// How long journalctl may take: what is asked is worth no more.
const WITHIN: Duration = Duration::from_secs(3);
/// How much of the log is read at most, in bytes, the newest first.
const MOST: u64 = 16 * 1024 * 1024;
/// The longest name that is told; the kernel's are of 15 bytes.
const LONGEST: usize = 32;
const YEAR_10000: Duration = Duration::from_secs(253_402_300_800);

/// A process that the kernel has killed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kill {
    /// Its name, which it chose itself: one harmless line.
    pub process: String,
    /// When, in microseconds since 1970.
    pub time: u64,
}

impl Kill {
    /// When, as in RFC 3339.
    pub fn at(&self) -> Option<String> {
        // Later years have no such form.
        let time = Duration::from_micros(self.time);
        let at = UNIX_EPOCH.checked_add(time).filter(|_| time < YEAR_10000)?;
        Some(humantime::format_rfc3339_seconds(at).to_string())
    }
}

/// The last process of this container that was killed because the container's memory was full, since
/// then. `None` where the log does not say, cannot be read or is not kept.
pub async fn last_kill(container: &str, since: SystemTime) -> Option<Kill> {
    let reading = tokio::time::timeout(WITHIN, read(container, since));
    reading.await.ok().flatten()
}

async fn read(container: &str, since: SystemTime) -> Option<Kill> {
    let since = since.duration_since(UNIX_EPOCH).ok()?.as_secs();
    let mut command = process::supervised("journalctl").ok()?;
    command
        .args(["--dmesg", "--output=json", "--all", "--reverse"])
        .args(["--output-fields=MESSAGE", "--no-pager", "--quiet"])
        .arg(format!("--since=@{since}"))
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    // Killed when it is dropped: what is older than the first hit is not read.
    let mut group = Group::spawn(&mut command, "journalctl").ok()?;
    let mut from = BufReader::new(group.child().stdout.take()?.take(MOST));
    let mut line = Vec::new();
    while let Ok(1..) = from.read_until(b'\n', &mut line).await {
        if let Some(kill) = parse(container, &line) {
            return Some(kill);
        }
        line.clear();
    }
    None
}

/// The kill that this entry of `journalctl --output=json` tells of, if it is one of this container's.
fn parse(container: &str, entry: &[u8]) -> Option<Kill> {
    let entry: serde_json::Map<String, Value> = serde_json::from_slice(entry).ok()?;
    Some(Kill {
        process: killed(container, &text(entry.get("MESSAGE")?)?)?,
        time: entry.get("__REALTIME_TIMESTAMP")?.as_str()?.parse().ok()?,
    })
}

/// journalctl writes what is no printable text as a list of bytes.
fn text(value: &Value) -> Option<String> {
    if let Some(text) = value.as_str() {
        return Some(text.to_owned());
    }
    let bytes = value.as_array()?.iter();
    let bytes = bytes.map(|byte| byte.as_u64().and_then(|byte| u8::try_from(byte).ok()));
    let bytes: Option<Vec<_>> = bytes.collect();
    Some(String::from_utf8_lossy(&bytes?).into_owned())
}

/// The process in the line with which the kernel sums up what it does about a full control group:
/// `oom-kill:constraint=CONSTRAINT_MEMCG,…,task_memcg=/docker/ID,task=NAME,pid=N,uid=N`.
fn killed(container: &str, message: &str) -> Option<String> {
    let facts = message.strip_prefix("oom-kill:constraint=CONSTRAINT_MEMCG,")?;
    let (_, facts) = facts.split_once(",task_memcg=")?;
    // The path is Docker's as far as the id; the name is a stranger's, and may look like the rest.
    let (group, facts) = facts.split_once(",task=")?;
    let (name, _) = facts.rsplit_once(",pid=")?;
    let mut groups = group.split('/');
    groups.any(|name| is_group_of(container, name)).then(|| {
        let name = clean::line(name);
        name.trim().chars().take(LONGEST).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ID: &str = "f7243c14a5a4e7879005f1cea2f1b5f8fc33ca4806316932d9d9d3e78058c3de";
    const OTHER: &str = "b07160650e37bd41bb39bbaaf112d971d79a94c879fe7860f598b8f100ba6172";

    /// What Linux 6 says, with this of the control group and of the process.
    fn message(group: &str, task: &str) -> String {
        format!(
            "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset={ID},mems_allowed=0,\
             oom_memcg={group},task_memcg={group},task={task},pid=9878,uid=0"
        )
    }

    fn entry(message: &Value) -> Vec<u8> {
        let entry = serde_json::json!({
            "__REALTIME_TIMESTAMP": "1700000000123456", "MESSAGE": message, "_BOOT_ID": "00ff",
        });
        entry.to_string().into_bytes()
    }

    #[test]
    fn the_process_is_named() {
        for group in [
            format!("/docker/{ID}"),
            format!("/system.slice/docker-{ID}.scope"),
            format!("/system.slice/docker-{ID}.scope/init.scope"),
        ] {
            let message = message(&group, "tail");
            let kill = Kill {
                process: "tail".to_owned(),
                time: 1_700_000_000_123_456,
            };
            for value in [message.clone().into(), message.as_bytes().into()] {
                assert_eq!(parse(ID, &entry(&value)), Some(kill.clone()), "{group}");
            }
        }
    }

    #[test]
    fn what_was_killed_elsewhere_or_for_another_reason_is_not() {
        let own = format!("/docker/{ID}");
        for message in [
            message(&format!("/docker/{OTHER}"), "tail"),
            message("/", "tail"),
            message("/user.slice", ID),
            message(&own, "tail").replace("CONSTRAINT_MEMCG", "CONSTRAINT_NONE"),
            format!("x {}", message(&own, "tail")),
            "Memory cgroup out of memory: Killed process 9878 (tail) total-vm:66788kB, \
             anon-rss:64256kB, file-rss:1180kB, shmem-rss:0kB, UID:0 pgtables:164kB oom_score_adj:0"
                .to_owned(),
            format!("Memory cgroup stats for {own}:"),
        ] {
            assert_eq!(
                parse(ID, &entry(&message.clone().into())),
                None,
                "{message}"
            );
        }
        let nothing: &[&[u8]] = &[
            b"",
            b"\xff",
            b"[]",
            b"{}",
            br#"{"MESSAGE": null, "__REALTIME_TIMESTAMP": "1"}"#,
            br#"{"MESSAGE": [300, -1], "__REALTIME_TIMESTAMP": "1"}"#,
        ];
        for entry in nothing {
            assert_eq!(parse(ID, entry), None);
        }
    }

    #[test]
    fn a_hostile_name_stays_a_name_and_harmless() {
        let own = format!("/docker/{ID}");
        for (task, told) in [
            ("a,pid=1,uid=0", "a,pid=1,uid=0"),
            ("x\u{1b}[31m\nwarning:", "x warning:"),
            (") ,task=", ") ,task="),
            ("", ""),
        ] {
            assert_eq!(killed(ID, &message(&own, task)).as_deref(), Some(told));
        }
        let long = killed(ID, &message(&own, &"x".repeat(10_000))).unwrap();
        assert_eq!(long.len(), LONGEST);
    }

    #[test]
    fn whenever_it_was_no_time_panics() {
        let at = |time| {
            let process = String::new();
            Kill { process, time }.at()
        };
        let then = at(1_700_000_000_123_456);
        assert_eq!(then.as_deref(), Some("2023-11-14T22:13:20Z"));
        assert_eq!(at(u64::MAX), None);
    }

    proptest! {
        #[test]
        fn whatever_the_log_holds_the_name_is_one_line(name in "[\\x00-\\x9f,=a-z\\u{2028}]{0,20}", rest in any::<String>()) {
            let own = format!("/docker/{ID}");
            if let Some(told) = killed(ID, &message(&own, &name)) {
                prop_assert!(!told.chars().any(char::is_control), "{told:?}");
            }
            let _ = parse(ID, rest.as_bytes());
        }
    }
}
