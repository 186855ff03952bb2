//! The figures of the credential service and of what asks it, each beside what it is held to.
//! `make bench` runs this; `HATCHERY_DRONE` names the static build of hatchery-drone.

// What the tests have beside.
#![allow(dead_code)]

mod bed;
mod client;
mod clock;
mod description;
mod fake;
mod process;

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::process::{Daemon, Server};

const CLIENTS: usize = 64;
const REQUESTS: usize = 1_000_000;
const ASK: &[u8] = b"GET /token HTTP/1.1\r\nhost: localhost\r\n\r\n";
const ASK_ONCE: &[u8] = b"GET /token HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        memory().await;
        first_connection().await;
        git().await;
        crowd().await;
    });
}

fn row(name: &str, figure: &str, wanted: &str, met: bool) {
    let missed = if met { "" } else { "  MISSED" };
    println!("{name:<44} {figure}, wanted {wanted}{missed}");
}

/// In milliseconds: the median, the lowest and the highest.
struct Times(f64, f64, f64);

impl Times {
    fn of(mut times: Vec<Duration>) -> Self {
        times.sort();
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        Self(
            ms(times[times.len() / 2]),
            ms(times[0]),
            ms(times[times.len() - 1]),
        )
    }
}

impl std::fmt::Display for Times {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.2} ms ({:.2} to {:.2})", self.0, self.1, self.2)
    }
}

fn timed(action: impl FnOnce()) -> Duration {
    let begin = Instant::now();
    action();
    begin.elapsed()
}

/// What it has in memory, in KiB (`VmRSS`, proc(5)).
fn resident(daemon: &Daemon) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.0.id())).unwrap();
    let line = status.lines().find(|l| l.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[allow(clippy::cast_precision_loss)]
fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}

/// One request on a connection of its own.
fn asked(socket: &Path) -> UnixStream {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.write_all(ASK_ONCE).unwrap();
    stream
}

fn answered(mut stream: UnixStream) {
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200"));
}

/// What a credd holds that has handed out a token.
async fn memory() {
    let server = Server::new().await;
    let daemon = server.running().await;
    server.get("/token").await;
    let resident = mib(resident(&daemon));
    row(
        "memory of a running credd",
        &format!("{resident:.1} MiB"),
        "under 12 MiB",
        resident < 12.0,
    );
}

/// From the first connection, which starts the daemon as systemd would, until the token is there;
/// against the same at a daemon that runs but has no token.
async fn first_connection() {
    let (mut started, mut running) = (Vec::new(), Vec::new());
    for _ in 0..15 {
        let server = Server::new().await;
        let _daemon = server.running().await;
        let socket = server.socket();
        let took = tokio::task::spawn_blocking(move || timed(|| answered(asked(&socket))));
        running.push(took.await.unwrap());

        let server = Server::new().await;
        let socket = server.socket();
        let listener = UnixListener::bind(&socket).unwrap();
        let begin = Instant::now();
        let stream = asked(&socket);
        let _daemon = activated(&server, listener);
        let took = tokio::task::spawn_blocking(move || {
            answered(stream);
            begin.elapsed()
        });
        started.push(took.await.unwrap());
    }
    let (started, running) = (Times::of(started), Times::of(running));
    let more = started.0 - running.0;
    row(
        "first connection until the token",
        &format!("{started} against {running} = {more:.1} ms more"),
        "at most 30 ms more",
        more <= 30.0,
    );
}

/// The daemon on this listener.
fn activated(server: &Server, listener: UnixListener) -> Daemon {
    let daemon = server.command();
    let mut command = Command::new("/bin/sh");
    let script = "LISTEN_PID=$$ LISTEN_FDS=1 exec \"$@\" 3<&0 </dev/null";
    command.args(["-c", script, "sh"]);
    command.arg(daemon.get_program()).args(daemon.get_args());
    command.stdin(OwnedFd::from(listener)).stderr(Stdio::null());
    Daemon(command.spawn().unwrap())
}

/// `git credential fill` with the token cached, against a helper that does nothing but answer.
async fn git() {
    let server = Server::new().await;
    let _daemon = server.running().await;
    server.get("/token").await;
    let place = tempfile::tempdir().unwrap();
    let known = r#"{"url": "https://github.com", "repositories": ["acme/site"]}"#;
    std::fs::write(server.path("drone.json"), known).unwrap();
    let own = std::env::var_os("HATCHERY_DRONE").map_or_else(
        || env!("CARGO_BIN_EXE_hatchery-drone").into(),
        PathBuf::from,
    );
    symlink(own, place.path().join("git-credential-hatchery")).unwrap();
    nothing(&place.path().join("git-credential-nothing"));
    let run = server.path("");
    let fill = move |helper: &str| {
        let path = format!("{}:/usr/bin:/bin", place.path().display());
        let mut git = Command::new("git")
            .args(["-c", "credential.useHttpPath=true", "-c"])
            .arg(format!("credential.https://github.com.helper={helper}"))
            .args(["credential", "fill"])
            .env_clear()
            .env("PATH", path)
            .env("HATCHERY_DIR", &run)
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_TERMINAL_PROMPT", "0")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let question = b"url=https://github.com/acme/site.git\n\n";
        git.stdin.take().unwrap().write_all(question).unwrap();
        let output = git.wait_with_output().unwrap();
        assert!(String::from_utf8_lossy(&output.stdout).contains("password="));
    };
    let both = tokio::task::spawn_blocking(move || {
        let (mut ours, mut nothing) = (Vec::new(), Vec::new());
        for turn in 0..520 {
            let times = (timed(|| fill("hatchery")), timed(|| fill("nothing")));
            if turn >= 20 {
                ours.push(times.0);
                nothing.push(times.1);
            }
        }
        (Times::of(ours), Times::of(nothing))
    });
    let (ours, nothing) = both.await.unwrap();
    let more = ours.0 - nothing.0;
    row(
        "git credential fill, token cached",
        &format!("{ours} against a helper that does nothing {nothing} = {more:.2} ms more"),
        "at most 0.7 ms more",
        more <= 0.7,
    );
}

/// The least that a helper can be: static, and it only answers.
fn nothing(path: &Path) {
    let source = "#include <unistd.h>\nint main(void) { static const char answer[] = \
                  \"username=x\\npassword=y\\n\"; return write(1, answer, sizeof answer - 1) < 0; }\n";
    let mut compiler = Command::new("cc")
        .args(["-static", "-O2", "-x", "c", "-", "-o"])
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    compiler
        .stdin
        .take()
        .unwrap()
        .write_all(source.as_bytes())
        .unwrap();
    assert!(compiler.wait().unwrap().success());
}

/// `GET /token` by 64 clients that keep their connections, each asking again as soon as it has its
/// answer; and what the daemon has in memory before and after a million requests.
async fn crowd() {
    let server = Server::new().await;
    let daemon = server.running().await;
    server.get("/token").await;
    let (socket, pid) = (server.socket(), daemon.0.id());
    let load = move |requests| {
        let socket = socket.clone();
        std::thread::spawn(move || {
            let before = cpu(pid);
            let begin = Instant::now();
            let times = asked_by_all(&socket, requests);
            (times, begin.elapsed(), cpu(pid).saturating_sub(before))
        })
    };
    load(REQUESTS / 5).join().unwrap();
    let before = resident(&daemon);
    let (mut times, took, used) = load(REQUESTS).join().unwrap();
    let after = resident(&daemon);
    times.sort_unstable();
    let at = |part: usize| f64::from(times[times.len() * part / 1000]) / 1e3;
    let p99 = at(990);
    #[allow(clippy::cast_precision_loss)]
    let each = used.as_secs_f64() * 1e6 / REQUESTS as f64;
    row(
        "GET /token cached, 64 clients, p99",
        &format!(
            "{p99:.2} ms (median {:.2}, p99.9 {:.2}; {:.0} a second, {each:.1} us of the daemon's each)",
            at(500),
            at(999),
            f64::from(u32::try_from(REQUESTS).unwrap()) / took.as_secs_f64(),
        ),
        "under 2 ms",
        p99 < 2.0,
    );
    let grown = after.saturating_sub(before);
    row(
        "memory after a million requests",
        &format!(
            "{:.1} MiB against {:.1} MiB before",
            mib(after),
            mib(before)
        ),
        "no growth (of half a byte for each)",
        grown <= 512,
    );
}

/// The processor time that a process has had.
fn cpu(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap();
    Duration::from_nanos(stat.split_whitespace().next().unwrap().parse().unwrap())
}

/// Each answer's time in microseconds.
fn asked_by_all(socket: &Path, requests: usize) -> Vec<u32> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| tokio::spawn(asked_by_one(socket.to_owned(), requests / CLIENTS)))
            .collect();
        let mut times = Vec::with_capacity(requests);
        for client in clients {
            times.extend(client.await.unwrap());
        }
        times
    })
}

async fn asked_by_one(socket: PathBuf, requests: usize) -> Vec<u32> {
    let mut stream = tokio::net::UnixStream::connect(socket).await.unwrap();
    let mut times = Vec::with_capacity(requests);
    let mut answer = [0; 4096];
    // All answers are as long as the first.
    let mut length = None;
    for _ in 0..requests {
        let begin = Instant::now();
        stream.write_all(ASK).await.unwrap();
        let mut read = 0;
        loop {
            read += stream.read(&mut answer[read..]).await.unwrap();
            if length.is_none() {
                length = whole(&answer[..read]);
            }
            if length.is_some_and(|length| read >= length) {
                break;
            }
        }
        assert!(answer.starts_with(b"HTTP/1.1 200"));
        times.push(u32::try_from(begin.elapsed().as_micros()).unwrap());
    }
    times
}

/// How long this answer is, once its head is there.
fn whole(bytes: &[u8]) -> Option<usize> {
    let mut headers = [httparse::EMPTY_HEADER; 16];
    let mut answer = httparse::Response::new(&mut headers);
    let head = answer.parse(bytes).unwrap();
    let httparse::Status::Complete(head) = head else {
        return None;
    };
    let length = answer
        .headers
        .iter()
        .find(|h| h.name.eq_ignore_ascii_case("content-length"))?;
    Some(
        head + std::str::from_utf8(length.value)
            .ok()?
            .parse::<usize>()
            .ok()?,
    )
}
