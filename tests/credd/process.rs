//! The daemon as a process, a GitHub for it, and what it reads.

use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
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

    /// The daemon as systemd starts it: with so many sockets that listen already, from its
    /// descriptor 3 on (`sd_listen_fds(3)`). It takes the place of the shell that arranges that.
    pub fn activated(&self, sockets: usize) -> Daemon {
        let listener = UnixListener::bind(self.socket()).unwrap();
        let mut command = Command::new("/bin/sh");
        let redirections = ["3<&0", "4<&0"][..sockets].join(" ");
        let script =
            format!("LISTEN_PID=$$ LISTEN_FDS={sockets} exec \"$@\" {redirections} </dev/null");
        let daemon = self.command();
        command.args(["-c", &script, "sh"]);
        command.arg(daemon.get_program()).args(daemon.get_args());
        command.stdin(OwnedFd::from(listener));
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

    /// The daemon, which must not start: what it says instead.
    pub fn refused(&self) -> Output {
        self.refused_for("acme-site")
    }

    /// The same under this drone's name.
    pub fn refused_for(&self, drone: &str) -> Output {
        let mut command = self.command_for(drone);
        let mut daemon = command.arg("--socket").arg(self.socket()).spawn().unwrap();
        let begin = Instant::now();
        while daemon.try_wait().unwrap().is_none() {
            if begin.elapsed() > Duration::from_secs(10) {
                daemon.kill().unwrap();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let output = daemon.wait_with_output().unwrap();
        assert!(
            output.status.code().is_some_and(|code| code != 0),
            "it started: {output:?}"
        );
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
