//! The audit trail as it reaches the journal.

use std::collections::BTreeMap;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::time::Duration;

use hatchery::credd::audit::{Event, field};

use crate::client::ask;
use crate::process::{Daemon, Server};

type Entry = BTreeMap<String, String>;

/// A journal's socket where journald has its own, for one process: it gets a /run of its own.
const IN_A_RUN_OF_ITS_OWN: &str = r#"
mount -t tmpfs none /run && mkdir -p /run/systemd/journal && mount --bind "$0" /run/systemd/journal &&
    JOURNAL_STREAM=$(stat -Lc %d:%i /proc/self/fd/2) exec "$@"
"#;

fn may_mount() -> bool {
    let may = Command::new("unshare")
        .args(["--mount", "mount", "-t", "tmpfs", "none", "/run"])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !may {
        println!("skipped: this process may not mount, so it cannot stand in for journald");
    }
    may
}

/// An entry in journald's own protocol (<https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>).
fn entry(mut bytes: &[u8]) -> Entry {
    let mut fields = Entry::new();
    while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
        let (line, rest) = (&bytes[..end], &bytes[end + 1..]);
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        if let Some(equals) = line.iter().position(|byte| *byte == b'=') {
            fields.insert(text(&line[..equals]), text(&line[equals + 1..]));
            bytes = rest;
        } else {
            let (length, rest) = rest.split_at(8);
            let length = u64::from_le_bytes(length.try_into().unwrap());
            let length = usize::try_from(length).unwrap();
            fields.insert(text(line), text(&rest[..length]));
            bytes = &rest[length + 1..];
        }
    }
    fields
}

#[tokio::test]
async fn mints_refusals_and_revocations_are_entries_with_the_fields_that_are_promised() {
    if !may_mount() {
        return;
    }
    let server = Server::new().await;
    let directory = server.path("journal");
    std::fs::create_dir(&directory).unwrap();
    let journal = UnixDatagram::bind(directory.join("socket")).unwrap();
    journal
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let daemon = server.command();
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "sh", "-c", IN_A_RUN_OF_ITS_OWN])
        .arg(&directory);
    command.arg(daemon.get_program()).args(daemon.get_args());
    command.arg("--socket").arg(server.socket());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut daemon = server.answering(Daemon(command.spawn().unwrap())).await;
    let next = || {
        let mut bytes = vec![0; 64 * 1024];
        // A first empty one only tries whether somebody listens.
        let length = loop {
            match journal.recv(&mut bytes).unwrap() {
                0 => {}
                length => break length,
            }
        };
        let text = String::from_utf8_lossy(&bytes[..length]);
        assert!(!text.contains("ghs_"), "{text}");
        entry(&bytes[..length])
    };

    let token = server.get("/token").await.body;
    let sha256 = hatchery::credd::token::fingerprint(&hatchery::secret::Secret::new(token));
    let mint = next();
    server.get("/token?repo=acme/secret").await.error(403);
    let refusal = next();
    ask(&server.socket(), "DELETE", "/token", "").await;
    let revocation = next();
    for (entry, event) in [
        (&mint, Event::Mint),
        (&refusal, Event::Refusal),
        (&revocation, Event::Revocation),
    ] {
        assert_eq!(entry[field::EVENT], event.as_str());
        assert_eq!(entry[field::DRONE], "acme-site");
        assert!(!entry["MESSAGE"].is_empty());
    }
    for entry in [&mint, &revocation] {
        assert_eq!(entry[field::TOKEN_SHA256], sha256);
        assert_eq!(entry[field::REPOSITORIES], r#"["acme/site","acme/theme"]"#);
        assert_eq!(
            entry[field::PERMISSIONS],
            r#"{"contents":"read","metadata":"read"}"#
        );
        assert!(humantime::parse_rfc3339(&entry[field::EXPIRES_AT]).is_ok());
    }
    assert_eq!(refusal[field::REPOSITORIES], r#"["acme/secret"]"#);
    assert_eq!(refusal[field::CODE], "out-of-scope");
    assert_eq!(
        (mint["PRIORITY"].as_str(), refusal["PRIORITY"].as_str()),
        ("5", "4")
    );
    let (_, _, said) = daemon.stopped().await;
    assert_eq!(said, "", "the journal has it already");
}
