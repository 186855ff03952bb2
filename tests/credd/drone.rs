//! A drone as its own processes see it: the server's directory with a socket that answers as it
//! is told, and the one program under its two names.

use std::io::{Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use tempfile::TempDir;

/// A token as long and as odd as GitHub's.
pub const TOKEN: &str = concat!(
    "ghs_1234567_eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9.eyJzY29wZSI6InJlcG9zIiwibiI6MX0_AbCdEfGhIj-KlMnOp",
    "QrStUvWxYz0123456789-_.0a1b2c3d4e5f60718293a4b5c6d7e8f9_Aa0Bb1Cc2Dd3Ee4Ff5Gg6Hh7Ii8Jj9Kk-Ll_Mm.Nn0Oo",
);

pub struct Drone {
    directory: TempDir,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Drone {
    /// A drone of acme/site, which may use acme/theme as well; the socket gives [`TOKEN`].
    pub fn new() -> Self {
        let body = format!(
            r#"{{"token":"{TOKEN}","expires_at":"2026-01-01T01:00:00Z","repositories":["acme/site"],"permissions":{{}}}}"#
        );
        Self::answering("https://github.com", &http(200, &body))
    }

    /// A drone of a GitHub at `url`, whose socket sends `answer` to whatever comes.
    pub fn answering(url: &str, answer: &str) -> Self {
        let drone = Self::without_socket(url);
        let listener = UnixListener::bind(drone.run().join("github-creds.sock")).unwrap();
        let (requests, answer) = (drone.requests.clone(), answer.to_owned());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut request = vec![0; 4096];
                let length = stream.read(&mut request).unwrap_or(0);
                let text = String::from_utf8_lossy(&request[..length]).into_owned();
                requests.lock().unwrap().push(text);
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        drone
    }

    /// A drone whose socket is not there.
    pub fn without_socket(url: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let drone = Self {
            directory,
            requests: Arc::default(),
        };
        for folder in ["run", "usr/local/bin", "usr/bin", "home"] {
            std::fs::create_dir_all(drone.path().join(folder)).unwrap();
        }
        let known = format!(r#"{{"url": "{url}", "repositories": ["acme/site", "acme/theme"]}}"#);
        std::fs::write(drone.run().join("drone.json"), known).unwrap();
        for name in ["git-credential-hatchery", "gh"] {
            let link = drone.path().join("usr/local/bin").join(name);
            symlink(env!("CARGO_BIN_EXE_hatchery-drone"), link).unwrap();
        }
        drone
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    pub fn run(&self) -> PathBuf {
        self.path().join("run")
    }

    /// A program in the drone.
    pub fn program(&self, path: &str) -> PathBuf {
        self.path().join(path)
    }

    /// Puts a script into the drone.
    pub fn script(&self, path: &str, text: &str) -> PathBuf {
        let path = self.path().join(path);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        path
    }

    /// What came to the socket so far.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    /// A command with the environment of a process in the drone.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        let path = format!(
            "{}:{}:/usr/bin:/bin",
            self.path().join("usr/local/bin").display(),
            self.path().join("usr/bin").display()
        );
        command
            .env_clear()
            .env("PATH", path)
            .env("HOME", self.path().join("home"))
            .env("HATCHERY_DIR", self.run())
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .current_dir(self.path());
        command
    }

    /// What the credential helper says to this question.
    pub fn helper(&self, operation: &str, question: &[u8]) -> Output {
        let program = self.program("usr/local/bin/git-credential-hatchery");
        let mut command = self.command(program);
        fed(command.arg(operation), question)
    }
}

/// Runs it with this input.
pub fn fed(command: &mut Command, input: &[u8]) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may have gone without reading.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

/// An HTTP answer.
pub fn http(status: u16, body: &str) -> String {
    format!(
        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}

/// The refusal that the service would give.
pub fn refusal(status: u16, message: &str) -> String {
    http(
        status,
        &format!(r#"{{"error":{{"code":"x","message":"{message}"}}}}"#),
    )
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
