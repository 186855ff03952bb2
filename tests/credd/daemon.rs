//! The daemon as a process: what systemd and people see of it.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::bed::{config, key};
use crate::client::{Reply, ask};
use crate::clock::TestClock;
use crate::description::{INSTALLATION, MINT, REVOKE};
use crate::drone::text;
use crate::fake::{Fake, Fault};

const SCOPE: &str =
    r#"{"repositories": ["acme/site", "acme/theme"], "permissions": {"contents": "read"}}"#;

/// A GitHub whose clock is the world's, and a directory with all that the daemon reads.
struct Server {
    github: Fake,
    directory: TempDir,
}

impl Server {
    async fn new() -> Self {
        let clock = TestClock::new();
        let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
        clock.pass(now - clock.seconds());
        let github = Fake::start(clock).await;
        github.install("acme", &["site", "theme"]);
        let directory = tempfile::tempdir().unwrap();
        let server = Self { github, directory };
        std::fs::write(server.path("scope.json"), SCOPE).unwrap();
        let config = config(&server.github, server.directory.path());
        std::fs::write(server.path("config.toml"), config).unwrap();
        server
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn socket(&self) -> PathBuf {
        self.path("github-creds.sock")
    }

    /// The daemon's command line.
    fn command(&self) -> Command {
        self.command_for("acme-site")
    }

    fn command_for(&self, drone: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hatchery-credd"));
        command
            .env_clear()
            .args(["--drone", drone, "--scope"])
            .arg(self.path("scope.json"))
            .arg("--config")
            .arg(self.path("config.toml"))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// The daemon on a socket of its own, once it answers.
    async fn running(&self) -> Daemon {
        let mut command = self.command();
        self.answering(Daemon(
            command.arg("--socket").arg(self.socket()).spawn().unwrap(),
        ))
        .await
    }

    /// The daemon as systemd starts it: with a socket that listens already as its descriptor 3.
    fn activated(&self, environment: &[(&str, &str)]) -> Daemon {
        let mut command = Command::new("systemd-socket-activate");
        command.arg("--listen").arg(self.socket());
        for (name, value) in environment {
            command.arg("--setenv").arg(format!("{name}={value}"));
        }
        let daemon = self.command();
        command.arg(daemon.get_program()).args(daemon.get_args());
        Daemon(
            command
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap(),
        )
    }

    async fn answering(&self, daemon: Daemon) -> Daemon {
        let begin = Instant::now();
        while UnixStream::connect(self.socket()).is_err() {
            assert!(
                begin.elapsed() < Duration::from_secs(10),
                "it does not answer"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        daemon
    }

    async fn get(&self, target: &str) -> Reply {
        ask(&self.socket(), "GET", target, "").await
    }

    /// The daemon, which must not start.
    fn refused(&self) -> Output {
        let mut command = self.command();
        command.arg("--socket").arg(self.socket());
        let output = command.output().unwrap();
        assert!(!output.status.success(), "{output:?}");
        output
    }
}

/// A running daemon. It does not outlive its test.
struct Daemon(Child);

impl Daemon {
    fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Waits for its end; how it ended, how long that took, and what it said.
    async fn ended(&mut self) -> (std::process::ExitStatus, Duration, String) {
        let begin = Instant::now();
        let status = loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                break status;
            }
            assert!(begin.elapsed() < Duration::from_secs(60), "it does not end");
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        let mut said = String::new();
        self.0
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut said)
            .unwrap();
        (status, begin.elapsed(), said)
    }

    async fn stopped(&mut self) -> (std::process::ExitStatus, Duration, String) {
        self.signal(rustix::process::Signal::TERM);
        self.ended().await
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn it_serves_on_the_socket_it_inherits() {
    let server = Server::new().await;
    let _daemon = server.answering(server.activated(&[])).await;
    assert_eq!(server.get("/token").await.body, server.github.live()[0]);
}

#[tokio::test]
async fn it_tells_systemd_when_it_serves_lives_and_stops() {
    let server = Server::new().await;
    let notify = server.path("notify.sock");
    let notices = UnixDatagram::bind(&notify).unwrap();
    notices
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let next = || {
        let mut notice = [0; 100];
        let length = notices.recv(&mut notice).unwrap();
        text(&notice[..length]).trim().to_owned()
    };
    let mut command = server.command();
    command.arg("--socket").arg(server.socket());
    command
        .env("NOTIFY_SOCKET", &notify)
        .env("WATCHDOG_USEC", "300000");
    let daemon = Daemon(command.spawn().unwrap());
    assert_eq!(next(), "READY=1");
    assert!(
        UnixStream::connect(server.socket()).is_ok(),
        "it said that it serves"
    );
    assert_eq!(
        (next(), next()),
        ("WATCHDOG=1".to_owned(), "WATCHDOG=1".to_owned())
    );
    daemon.signal(rustix::process::Signal::TERM);
    while next() != "STOPPING=1" {}
}

#[tokio::test]
async fn sigterm_ends_it_with_0_and_revokes_nothing() {
    let server = Server::new().await;
    let mut daemon = server.running().await;
    server.get("/token").await;
    let (status, took, _) = daemon.stopped().await;
    assert_eq!(status.code(), Some(0));
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert_eq!(server.github.count(REVOKE), 0);
    assert!(!server.socket().exists());
}

#[tokio::test]
async fn sigterm_gives_a_request_in_flight_its_answer_or_five_seconds() {
    let server = Server::new().await;
    let mut daemon = server.running().await;
    server.github.state().delay = Duration::from_millis(400);
    let socket = server.socket();
    let asked = tokio::spawn(async move { ask(&socket, "GET", "/token", "").await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(daemon.stopped().await.0.code(), Some(0));
    assert_eq!(asked.await.unwrap().status, 200);

    let mut daemon = server.running().await;
    server.github.fault(INSTALLATION, Fault::Hang, usize::MAX);
    let socket = server.socket();
    let asked =
        tokio::spawn(
            async move { crate::client::raw(&socket, b"GET /token HTTP/1.1\r\n\r\n").await },
        );
    tokio::time::sleep(Duration::from_millis(200)).await;
    let (status, took, _) = daemon.stopped().await;
    assert_eq!(status.code(), Some(0));
    assert!((4..7).contains(&took.as_secs()), "{took:?}");
    asked.await.unwrap();
}

#[tokio::test]
async fn its_own_socket_is_open_to_every_process_of_the_drone() {
    let server = Server::new().await;
    let _daemon = server.running().await;
    let mode = std::fs::metadata(server.socket())
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o666);
}

#[tokio::test]
async fn a_stale_socket_file_is_replaced_and_a_live_one_is_not() {
    let server = Server::new().await;
    drop(UnixListener::bind(server.socket()).unwrap());
    let mut daemon = server.running().await;
    daemon.signal(rustix::process::Signal::KILL);
    assert_eq!(daemon.ended().await.0.signal(), Some(9));
    assert!(server.socket().exists(), "a killed one leaves its file");
    let _daemon = server.running().await;
    let live = std::fs::metadata(server.socket()).unwrap().ino();
    let output = server.refused();
    assert!(
        text(&output.stderr).contains("somebody serves"),
        "{output:?}"
    );
    assert_eq!(std::fs::metadata(server.socket()).unwrap().ino(), live);
    assert_eq!(server.get("/healthz").await.status, 200);
}

#[tokio::test]
async fn a_file_that_is_no_socket_is_left_alone() {
    let server = Server::new().await;
    std::fs::write(server.socket(), "precious").unwrap();
    let output = server.refused();
    assert!(text(&output.stderr).contains("not a socket"), "{output:?}");
    assert_eq!(
        std::fs::read_to_string(server.socket()).unwrap(),
        "precious"
    );
}

#[tokio::test]
async fn the_key_is_the_credential_that_systemd_passes_before_the_configured_one() {
    let server = Server::new().await;
    let configured = std::fs::read_to_string(server.path("config.toml")).unwrap();
    let absent = configured.replace("keys/app.pem", "keys/absent.pem");
    std::fs::write(server.path("config.toml"), absent).unwrap();
    server.refused();
    std::fs::create_dir(server.path("credentials")).unwrap();
    std::fs::copy(key("app-pkcs8.pem"), server.path("credentials/app-key")).unwrap();
    let mut command = server.command();
    command.arg("--socket").arg(server.socket());
    command.env("CREDENTIALS_DIRECTORY", server.path("credentials"));
    let _daemon = server.answering(Daemon(command.spawn().unwrap())).await;
    assert_eq!(server.get("/token").await.status, 200);
}

#[tokio::test]
async fn a_bad_key_is_named_at_start() {
    let server = Server::new().await;
    let good = std::fs::read_to_string(key("app.pem")).unwrap();
    let bad = |name: &str| std::fs::read_to_string(key(name)).unwrap();
    let lines: Vec<&str> = good.lines().collect();
    let configured = std::fs::read_to_string(server.path("config.toml")).unwrap();
    for (what, pem, reason) in [
        (
            "encrypted, old style",
            bad("encrypted-pkcs1.pem"),
            "is encrypted",
        ),
        ("encrypted", bad("encrypted-pkcs8.pem"), "is encrypted"),
        ("EC", bad("ec.pem"), "an EC key"),
        ("EC", bad("ec-pkcs8.pem"), "another algorithm"),
        ("public", bad("public.pem"), "a public key"),
        ("public", bad("public-pkcs1.pem"), "a public key"),
        ("short", bad("small.pem"), "cannot sign"),
        ("cut", good[..good.len() / 2].to_owned(), "cut off"),
        ("cut", lines[..lines.len() - 1].join("\n"), "cut off"),
        (
            "a line lost",
            [&lines[..5], &lines[6..]].concat().join("\n"),
            "damaged",
        ),
        (
            "a character wrong",
            good.replacen("MII", "M!I", 1),
            "damaged",
        ),
        ("empty", String::new(), "is empty"),
        (
            "another text",
            "ghp_0123456789".to_owned(),
            "not a private key",
        ),
    ] {
        std::fs::write(server.path("bad.pem"), pem).unwrap();
        let config = configured.replace(
            &key("app.pem").display().to_string(),
            &server.path("bad.pem").display().to_string(),
        );
        std::fs::write(server.path("config.toml"), config).unwrap();
        let output = server.refused();
        let said = text(&output.stderr);
        assert!(
            said.contains(reason) && said.contains("bad.pem"),
            "{what}: {said}"
        );
        assert!(said.contains("github.private_key_file"), "{what}: {said}");
        assert!(!said.contains("MII"), "{what}: {said}");
    }
}

#[tokio::test]
async fn what_it_cannot_serve_is_a_usage_error() {
    let server = Server::new().await;
    let output = Command::new(env!("CARGO_BIN_EXE_hatchery-credd"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("--drone"), "{output:?}");
    let output = server.command().output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("--socket"), "{output:?}");
    for drone in ["acme-theme", "Acme-Site", "../x", ""] {
        let mut command = server.command_for(drone);
        let output = command
            .arg("--socket")
            .arg(server.socket())
            .output()
            .unwrap();
        assert!(!text(&output.stderr).contains("Usage:"), "{output:?}");
        assert_eq!(output.status.code(), Some(2), "{drone}");
    }
}

#[tokio::test]
async fn a_scope_that_is_none_is_refused() {
    let server = Server::new().await;
    for scope in [
        "",
        "{}",
        r#"{"repositories": []}"#,
        r#"{"repositories": ["acme/site"], "permissions": {}}"#,
        r#"{"repositories": ["acme/site"], "permissions": {"everything": "write"}}"#,
        r#"{"repositories": ["acme/site"], "owner": "acme"}"#,
    ] {
        std::fs::write(server.path("scope.json"), scope).unwrap();
        let output = server.refused();
        assert!(text(&output.stderr).contains("scope.json"), "{output:?}");
    }
}

#[tokio::test]
async fn a_configuration_without_an_app_is_refused() {
    let server = Server::new().await;
    std::fs::write(server.path("config.toml"), "").unwrap();
    let output = server.refused();
    assert!(text(&output.stderr).contains("github.app_id"), "{output:?}");
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

#[tokio::test]
async fn no_core_is_dumped_and_no_secret_is_in_arguments_or_environment() {
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
    let owner = std::fs::metadata(format!("/proc/{}/mem", daemon.0.id()))
        .unwrap()
        .uid();
    assert_eq!(owner, 0, "not dumpable: its memory is root's alone");
}

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
                said.push_str(&format!("{:?}", reply.headers));
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
async fn killed_and_started_again_it_goes_on() {
    let server = Server::new().await;
    let mut daemon = server.running().await;
    let first = server.get("/token").await.body;
    daemon.signal(rustix::process::Signal::KILL);
    daemon.ended().await;
    let _daemon = server.running().await;
    let second = server.get("/token").await.body;
    assert_ne!(first, second, "nothing is kept");
    assert_eq!(server.get("/token").await.body, second);
}

#[tokio::test]
async fn with_this_machines_clock_ten_minutes_off_it_goes_on() {
    let server = Server::new().await;
    server.github.clock.set_wrong_by(600);
    let _daemon = server.running().await;
    assert_eq!(server.get("/token").await.status, 200);
}

#[tokio::test]
async fn activated_it_ends_by_itself_within_a_minute_with_0() {
    let server = Server::new().await;
    let mut daemon = server.answering(server.activated(&[])).await;
    assert_eq!(server.get("/healthz").await.status, 200);
    let (status, took, _) = daemon.ended().await;
    assert_eq!(status.code(), Some(0));
    assert!((20..60).contains(&took.as_secs()), "{took:?}");
}

#[tokio::test]
async fn it_takes_only_one_socket_that_listens() {
    let server = Server::new().await;
    let mut command = Command::new("systemd-socket-activate");
    command
        .arg("--listen")
        .arg(server.socket())
        .arg("--listen")
        .arg(server.path("second.sock"));
    let daemon = server.command();
    command.arg(daemon.get_program()).args(daemon.get_args());
    let mut daemon = Daemon(
        command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let _ = connected(&server.socket()).await.write_all(b"x");
    let (status, _, said) = daemon.ended().await;
    assert_eq!(status.code(), Some(2));
    assert!(said.contains("there are 2"), "{said}");
}

async fn connected(socket: &Path) -> UnixStream {
    for _ in 0..1000 {
        if let Ok(stream) = UnixStream::connect(socket) {
            return stream;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("nobody listens on {}", socket.display());
}
