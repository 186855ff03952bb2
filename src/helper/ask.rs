//! The drone's socket, asked for a token: one request of HTTP/1.1, one answer.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use serde::Deserialize;

use super::Result;
use crate::repo::RepoId;

/// How long all of it may take. The service answers within 15 s, whatever GitHub does.
const PATIENCE: Duration = Duration::from_secs(20);
/// The largest answer that is read, in bytes.
const MAX_ANSWER: usize = 1024 * 1024;
/// The most headers in an answer.
const MAX_HEADERS: usize = 32;
/// The longest reason that is repeated, in characters.
const MAX_REASON: usize = 400;

/// A token and when it expires.
#[derive(Deserialize)]
pub struct Token {
    /// The token: printable ASCII.
    pub token: String,
    expires_at: String,
}

impl Token {
    /// Seconds since the Unix epoch.
    pub fn expiry(&self) -> Option<u64> {
        let time = humantime::parse_rfc3339(&self.expires_at).ok()?;
        let since = time.duration_since(std::time::UNIX_EPOCH).ok()?;
        Some(since.as_secs())
    }
}

/// The token that covers this repository; without one, the own owner's.
pub fn token(socket: &Path, repo: Option<&RepoId>) -> Result<Token> {
    let query = repo.map_or_else(String::new, |repo| format!("?repo={repo}"));
    let request = format!(
        "GET /token{query} HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n\
         Connection: close\r\n\r\n"
    );
    let answer = exchange(socket, request.as_bytes()).map_err(|error| {
        let why = match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => {
                format!("no answer within {} s", PATIENCE.as_secs())
            }
            _ => error.to_string(),
        };
        format!(
            "no GitHub token: {}: {why}; `hatchery status` on the server shows more",
            socket.display()
        )
    })?;
    read(&answer)
}

/// Sends the request and reads until the service closes, for a bounded time and length.
fn exchange(socket: &Path, request: &[u8]) -> std::io::Result<Vec<u8>> {
    let end = Instant::now() + PATIENCE;
    let left = || {
        end.checked_duration_since(Instant::now())
            .filter(|left| !left.is_zero())
            .ok_or_else(|| std::io::Error::from(ErrorKind::TimedOut))
    };
    // The standard library cannot bound a connect, and one to a service that does not accept
    // waits for ever once the socket's queue is full.
    let handle = socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    set_socket_timeout(&handle, Timeout::Send, Some(PATIENCE))?;
    connect(&handle, &SocketAddrUnix::new(socket)?)?;
    let mut stream = UnixStream::from(handle);
    stream.write_all(request)?;
    let mut answer = Vec::with_capacity(4096);
    let mut chunk = [0; 4096];
    loop {
        stream.set_read_timeout(Some(left()?))?;
        match stream.read(&mut chunk) {
            Ok(0) => return Ok(answer),
            Ok(length) if answer.len() + length > MAX_ANSWER => {
                return Err(std::io::Error::other("the answer is too long"));
            }
            Ok(length) => answer.extend_from_slice(&chunk[..length]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// The token in an answer, or the service's reason for giving none.
fn read(answer: &[u8]) -> Result<Token> {
    #[derive(Deserialize)]
    struct Refusal {
        error: Reason,
    }
    #[derive(Deserialize)]
    struct Reason {
        message: String,
    }
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let strange = || "no GitHub token: the socket's answer is invalid".to_owned();
    let Ok(httparse::Status::Complete(length)) = response.parse(answer) else {
        return Err(strange());
    };
    let body = &answer[length..];
    if response.code != Some(200) {
        let reason = serde_json::from_slice::<Refusal>(body).map_or_else(
            |_| format!("status {}", response.code.unwrap_or_default()),
            |refusal| refusal.error.message.chars().take(MAX_REASON).collect(),
        );
        return Err(format!("no GitHub token: {reason}"));
    }
    let token: Token = serde_json::from_slice(body).map_err(|_| strange())?;
    let fit = !token.token.is_empty() && token.token.bytes().all(|byte| byte.is_ascii_graphic());
    if fit { Ok(token) } else { Err(strange()) }
}
