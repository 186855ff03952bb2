//! What is written down, and that no secret is among it.

use std::collections::HashSet;
use std::fmt::Write;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::bed::key;
use crate::client::ask;
use crate::description::{INSTALLATION, MINT, REVOKE};
use crate::drone::{Drone, TOKEN, http, text};
use crate::fake::Fault;
use crate::process::Server;

/// What was said, by every 12 bytes of it.
struct Said(HashSet<[u8; 12]>);

impl Said {
    fn new(text: &[u8]) -> Self {
        Self(
            text.windows(12)
                .map(|piece| piece.try_into().unwrap())
                .collect(),
        )
    }

    /// No 12 characters of the secret are in it.
    #[track_caller]
    fn holds_nothing_of(&self, secret: &str) {
        for piece in secret.as_bytes().windows(12) {
            let found = self.0.contains(piece);
            assert!(!found, "{} was said", String::from_utf8_lossy(piece));
        }
    }
}

const ECHOED: &str = "ghs_1000000_echoedechoedechoedechoedechoedechoedechoedechoed";

/// A fault that sends back what a careless service would repeat: the token, in every field.
fn echo(status: u16) -> Fault {
    let body = format!(
        r#"{{"message": "{ECHOED}", "token": ["{ECHOED}"], "id": "{ECHOED}", "expires_at": "{ECHOED}"}}"#
    );
    Fault::Answer(status, vec![], body)
}

#[tokio::test]
async fn no_secret_comes_out_on_any_path_or_error() {
    let (mut said, mut secrets) = (String::new(), vec![ECHOED.to_owned()]);
    for operation in [INSTALLATION, MINT, REVOKE] {
        for status in [200, 201, 204, 301, 400, 401, 403, 404, 422, 429, 500] {
            let server = Server::new().await;
            let mut daemon = server.running().await;
            server.github.fault(operation, echo(status), 2);
            for (method, target) in [
                ("GET", "/token"),
                ("GET", "/token?repo=acme/secret"),
                ("DELETE", "/token"),
                ("GET", "/healthz"),
                ("GET", "/token"),
            ] {
                let reply = ask(&server.socket(), method, target, "").await;
                if reply.status != 200 || target != "/token" {
                    said.push_str(&reply.body);
                }
                let _ = write!(said, "{:?}", reply.headers);
            }
            said.push_str(&daemon.stopped().await.2);
            let state = server.github.state();
            secrets.extend(state.grants.iter().map(|grant| grant.text.clone()));
            secrets.extend(state.seen.iter().map(|seen| seen.bearer.clone()));
        }
    }
    let pem = std::fs::read_to_string(key("app.pem")).unwrap();
    let lines = pem.lines().filter(|line| !line.starts_with('-'));
    secrets.extend(lines.map(str::to_owned));
    assert!(secrets.len() > 100, "{}", secrets.len());
    assert!(said.contains("event=\"mint\"") && said.contains("event=\"refusal\""));
    let said = Said::new(said.as_bytes());
    for secret in secrets {
        said.holds_nothing_of(&secret);
    }
}

#[tokio::test]
async fn a_token_that_is_sent_along_is_not_repeated() {
    let server = Server::new().await;
    let mut daemon = server.running().await;
    let token = server.get("/token").await.body;
    let mut said = String::new();
    for (method, target) in [
        ("GET", format!("/token?repo={token}")),
        ("GET", format!("/token?repo=acme/site/{token}")),
        ("GET", format!("/token?{token}")),
        ("GET", format!("/token?repo=acme/site&{token}=x")),
        ("GET", format!("/{token}")),
        ("DELETE", format!("/token?token={token}")),
        (&*token, "/token".to_owned()),
    ] {
        let reply = ask(&server.socket(), method, &target, "").await;
        assert!(reply.status >= 400);
        said.push_str(&reply.body);
        let headers = format!("authorization: Bearer {token}\r\n");
        ask(&server.socket(), method, "/x", &headers)
            .await
            .error(404);
    }
    said.push_str(&daemon.stopped().await.2);
    assert!(said.contains("event=\"refusal\""), "{said}");
    Said::new(said.as_bytes()).holds_nothing_of(&token);
}

#[test]
fn the_helper_repeats_no_token_that_it_cannot_hand_on() {
    let question = b"protocol=https\nhost=github.com\npath=acme/site\npassword=ghs_1\n\n";
    let mut said = String::new();
    for answer in [
        TOKEN.to_owned(),
        http(200, TOKEN),
        http(200, &format!(r#"["{TOKEN}"]"#)),
        http(200, &format!(r#"{{"token": ["{TOKEN}"]}}"#)),
        http(200, &format!(r#"{{"token": "{TOKEN}", "expires_at": 5}}"#)),
        http(
            200,
            &format!(r#"{{"token": "{TOKEN} ", "expires_at": "x"}}"#),
        ),
        http(500, TOKEN),
        format!("HTTP/1.1 {TOKEN}\r\n\r\n"),
    ] {
        let drone = Drone::answering("https://github.com", &answer);
        let output = drone.helper("get", question);
        assert_eq!(text(&output.stdout), "");
        assert!(!output.stderr.is_empty());
        said.push_str(&text(&output.stderr));
    }
    Said::new(said.as_bytes()).holds_nothing_of(TOKEN);
}

#[tokio::test]
async fn no_core_is_dumped_and_no_secret_is_in_arguments_or_environment() {
    // Where the machine allows core dumps at all, the daemon is started with them allowed.
    let allowed = getrlimit(Resource::Core).maximum;
    let limit = Rlimit {
        current: allowed,
        maximum: allowed,
    };
    setrlimit(Resource::Core, limit).unwrap();
    let server = Server::new().await;
    let daemon = server.running().await;
    let token = server.get("/token").await.body;
    let of = |name: &str| std::fs::read(format!("/proc/{}/{name}", daemon.0.id())).unwrap();
    let limits = text(&of("limits"));
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"))
        .unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
    for place in ["cmdline", "environ"] {
        Said::new(&of(place)).holds_nothing_of(&token);
    }
}

#[tokio::test]
async fn mints_refusals_and_revocations_are_written_down_without_the_token() {
    let server = Server::new().await;
    let mut daemon = server.running().await;
    let token = server.get("/token").await.body;
    server.get("/token?repo=acme/secret").await.error(403);
    ask(&server.socket(), "DELETE", "/token", "").await;
    server.github.suspend("acme");
    server.get("/token").await.error(502);
    let (_, _, said) = daemon.stopped().await;
    let sha256 = hatchery::credd::token::fingerprint(&hatchery::secret::Secret::new(token));
    let line = |event: &str| {
        let mark = format!("event=\"{event}\"");
        said.lines()
            .find(|line| line.contains(&mark))
            .unwrap_or_else(|| panic!("{event}: {said}"))
    };
    let mint = line("mint");
    for part in [
        "drone=acme-site",
        r#"repositories=["acme/site","acme/theme"]"#,
        r#"permissions={"contents":"read","metadata":"read"}"#,
        "expires_at=\"20",
        &sha256,
    ] {
        assert!(mint.contains(part), "{part}: {mint}");
    }
    assert!(line("revocation").contains(&sha256));
    assert!(line("refusal").contains("acme/secret"));
    assert!(said.contains("suspended"), "{said}");
}

#[tokio::test]
async fn refusals_without_end_do_not_fill_the_journal() {
    let server = Server::new().await;
    let mut daemon = server.running().await;
    for _ in 0..500 {
        server.get("/token?repo=acme/secret").await.error(403);
    }
    let (_, _, said) = daemon.stopped().await;
    let written = said.matches("event=\"refusal\"").count();
    assert!((30..40).contains(&written), "{written}");
}
