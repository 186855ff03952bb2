//! The daemon as a process, a GitHub for it, and what it reads.

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::bed::config;
use crate::client::{Reply, ask};
use crate::clock::TestClock;
use crate::fake::Fake;

const SCOPE: &str =
    r#"{"repositories": ["acme/site", "acme/theme"], "permissions": {"contents": "read"}}"#;

/// A GitHub whose clock is the world's, and a directory with all that the daemon reads.
pub struct Server {
    pub github: Fake,
    directory: TempDir,
}

impl Server {
    pub async fn new() -> Self {
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

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn socket(&self) -> PathBuf {
        self.path("github-creds.sock")
    }

    /// The daemon's command line.
    pub fn command(&self) -> Command {
        self.command_for("acme-site")
    }

    pub fn command_for(&self, drone: &str) -> Command {
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
    pub async fn running(&self) -> Daemon {
        let mut command = self.command();
        self.answering(Daemon(
            command.arg("--socket").arg(self.socket()).spawn().unwrap(),
        ))
        .await
    }

    /// The daemon as systemd starts it: with a socket that listens already as its descriptor 3.
    pub fn activated(&self, environment: &[(&str, &str)]) -> Daemon {
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

    pub async fn answering(&self, daemon: Daemon) -> Daemon {
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

    pub async fn get(&self, target: &str) -> Reply {
        ask(&self.socket(), "GET", target, "").await
    }

    /// The daemon, which must not start.
    pub fn refused(&self) -> Output {
        let mut command = self.command();
        command.arg("--socket").arg(self.socket());
        let output = command.output().unwrap();
        assert!(!output.status.success(), "{output:?}");
        output
    }
}

/// A running daemon. It does not outlive its test.
pub struct Daemon(pub Child);

impl Daemon {
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.0);
        kill_process(pid, signal).unwrap();
    }

    /// Waits for its end; how it ended, how long that took, and what it said.
    pub async fn ended(&mut self) -> (ExitStatus, Duration, String) {
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

    pub async fn stopped(&mut self) -> (ExitStatus, Duration, String) {
        self.signal(Signal::TERM);
        self.ended().await
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
