//! A program in a drone with a person, or a person's script, at its ends: bytes go through as they are.
//!
//! What Docker sends of a program with a terminal are its bytes; without one they are in frames, each with eight
//! bytes before it: the stream, and the length in the last four (Engine API, "Attach to a container"). bollard
//! takes a terminal's bytes for a frame where they begin like one, and then keeps as much as that promises, so
//! they are read here.

use std::io;
use std::time::Duration;

use bollard::exec::CreateExecOptions;
use bollard::query_parameters::ResizeExecOptionsBuilder;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST, UPGRADE};
use hyper::http::request;
use hyper::upgrade::Upgraded;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::exec::{Inside, Setting};
use super::{ANSWER_WITHIN, Docker, failed, late, socket_of};
use crate::error::{Code, Error, Result};
use crate::ui::clean;

/// What is kept of a stream on its way, in bytes.
const CHUNK: usize = 32 * 1024;
/// The largest error of Docker's that is read, in bytes.
const MAX_ERROR: usize = 64 * 1024;
/// Keys by which Docker leaves a program with a terminal; it cannot be told that none do. Its own choice, Ctrl-P
/// first, would hold back each Ctrl-P until the next key.
const DETACH_KEYS: &str = "ctrl-\\,ctrl-],ctrl-\\,ctrl-]";
/// How often, and how far apart, Docker is asked again where a program has just begun or ended.
const TRIES: usize = 100;
const PAUSE: Duration = Duration::from_millis(20);
/// How long a signal may take to be sent.
const SIGNALLED_WITHIN: Duration = Duration::from_secs(10);

/// A program that runs in a drone.
#[derive(Debug, Clone)]
pub struct Running {
    inside: Inside,
    id: String,
    /// What is done where Docker fails, as "run true in 0123".
    doing: String,
}

/// Its streams.
#[derive(Debug)]
pub struct Streams {
    stream: TokioIo<Upgraded>,
    terminal: bool,
}

/// Why bytes do not go through any more.
#[derive(Debug)]
pub enum Broken {
    /// Docker's connection.
    Docker(io::Error),
    /// Standard output or standard error of hatchery's own.
    Own(io::Error),
}

impl Inside {
    /// Starts a program in this setting, with a terminal of its own or without.
    pub async fn start(
        &self,
        setting: &Setting<'_>,
        argv: &[&str],
        terminal: bool,
    ) -> Result<(Running, Streams)> {
        let doing = format!("run a program in {}", self.container());
        let options = CreateExecOptions {
            attach_stdin: Some(true),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            tty: Some(terminal),
            detach_keys: terminal.then_some(DETACH_KEYS),
            user: Some(setting.user),
            working_dir: setting.directory,
            env: Some(setting.environment.iter().map(String::as_str).collect()),
            cmd: Some(argv.to_vec()),
            ..CreateExecOptions::default()
        };
        let docker = self.docker();
        let created = docker.api.create_exec(self.container(), options).await;
        let id = created.map_err(|error| failed(&doing, error))?.id;
        let stream = timeout(ANSWER_WITHIN, attached(docker, &id, terminal, &doing))
            .await
            .map_err(|_| late(&doing, ANSWER_WITHIN))??;
        let running = Running {
            inside: self.clone(),
            id,
            doing,
        };
        Ok((running, Streams { stream, terminal }))
    }
}

/// Starts what was created; the connection is then the program's.
async fn attached(
    docker: &Docker,
    id: &str,
    terminal: bool,
    doing: &str,
) -> Result<TokioIo<Upgraded>> {
    let body = serde_json::json!({"Detach": false, "Tty": terminal}).to_string();
    let version = docker.api.client_version();
    let request = Request::post(format!("/v{version}/exec/{id}/start"))
        .header(CONTENT_TYPE, "application/json")
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, "tcp");
    let expected = StatusCode::SWITCHING_PROTOCOLS;
    let answer = answered(docker, request, body, expected, doing).await?;
    let upgraded = hyper::upgrade::on(answer).await;
    Ok(TokioIo::new(upgraded.map_err(|error| away(doing, &error))?))
}

/// Docker's answer to a request on a connection of its own, where it has the status that is expected.
pub(super) async fn answered(
    docker: &Docker,
    request: request::Builder,
    body: String,
    expected: StatusCode,
    doing: &str,
) -> Result<Response<Incoming>> {
    let away = |error: &dyn std::fmt::Display| away(doing, error);
    let stream = UnixStream::connect(socket_of(docker.host())).await;
    let stream = TokioIo::new(stream.map_err(|error| away(&error))?);
    let handshake = hyper::client::conn::http1::handshake(stream).await;
    let (mut sender, connection) = handshake.map_err(|error| away(&error))?;
    tokio::spawn(connection.with_upgrades());
    let request = request
        .header(HOST, "docker")
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| away(&error))?;
    let answer = sender.send_request(request).await;
    let answer = answer.map_err(|error| away(&error))?;
    if answer.status() == expected {
        return Ok(answer);
    }
    let status = answer.status();
    let body = Limited::new(answer.into_body(), MAX_ERROR).collect().await;
    let body = body.map(http_body_util::Collected::to_bytes);
    Err(
        Error::new(Code::DockerFailed, format!("Docker could not {doing}"))
            .because(said(status, &body.unwrap_or_default())),
    )
}

/// What it means that Docker's connection failed.
pub(super) fn away(doing: &str, error: &dyn std::fmt::Display) -> Error {
    Error::new(
        Code::DockerAway,
        format!("the Docker daemon went away while hatchery tried to {doing}"),
    )
    .hint("check `systemctl status docker`, then try again")
    .because(error.to_string())
}

/// What Docker's refusal says.
fn said(status: StatusCode, body: &[u8]) -> String {
    let value: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let message = value.as_ref().and_then(|value| value["message"].as_str());
    let text = message.map_or_else(|| format!("status {status}"), clean::line);
    text.chars().take(400).collect()
}

impl Running {
    /// Tells the program's terminal its size, in characters.
    pub async fn resize(&self, rows: u16, columns: u16) {
        let api = &self.inside.docker().api;
        // Docker takes it once the program runs, which may be a moment away. A program whose window has another
        // size than it believes still works.
        for _ in 0..TRIES {
            let size = ResizeExecOptionsBuilder::new()
                .h(rows.into())
                .w(columns.into())
                .build();
            if api.resize_exec(&self.id, size).await.is_ok() {
                return;
            }
            sleep(PAUSE).await;
        }
    }

    /// Sends the program and its process group a signal, which is named as for `kill`; whether it was sent.
    /// Docker has no request for that.
    pub async fn signal(&self, signal: &str) -> bool {
        let Some(pid) = self.pid().await else {
            return false;
        };
        let argv = ["/bin/sh", "-c", &format!("kill -s {signal} -- -{pid}")];
        let sending = self.inside.run_within(SIGNALLED_WITHIN, "0:0", &argv, b"");
        sending.await.is_ok_and(|output| output.status == 0)
    }

    /// The program's number in its container, which it has a moment after it was started and until it ends.
    async fn pid(&self) -> Option<u32> {
        for _ in 0..TRIES {
            let exec = self.inside.docker().api.inspect_exec(&self.id).await.ok()?;
            match exec.pid {
                // Another process of this server may have its number by now.
                _ if exec.exit_code.is_some() => return None,
                None | Some(0) => sleep(PAUSE).await,
                Some(pid) => return pid_inside(pid),
            }
        }
        None
    }

    /// The exit status of the program, which has ended.
    pub async fn status(&self) -> Result<i64> {
        for _ in 0..TRIES {
            let exec = self.inside.docker().api.inspect_exec(&self.id).await;
            let exec = exec.map_err(|error| failed(&self.doing, error))?;
            if let (Some(status), Some(false)) = (exec.exit_code, exec.running) {
                return Ok(status);
            }
            sleep(PAUSE).await;
        }
        Err(Error::new(
            Code::DockerFailed,
            "Docker does not report how the program ended",
        )
        .hint("it may still be running in the drone; check with `ps` there"))
    }
}

/// The number of a process in its own container, of which this server's is known: the last of its namespaces
/// (`proc_pid_status(5)`).
fn pid_inside(pid: i64) -> Option<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    last_namespace(&status)
}

fn last_namespace(status: &str) -> Option<u32> {
    let numbers = status
        .lines()
        .find_map(|line| line.strip_prefix("NSpid:"))?;
    let pid = numbers.split_whitespace().last()?.parse().ok()?;
    (pid > 1).then_some(pid)
}

impl Streams {
    /// Passes on what comes from `input`, and then its end, and what the program says, until it has ended. Little
    /// is kept of either, however slow the other end is.
    pub async fn pass(
        self,
        mut input: mpsc::Receiver<Vec<u8>>,
        out: impl AsyncWrite + Unpin,
        err: impl AsyncWrite + Unpin,
    ) -> Result<(), Broken> {
        let (from, mut to) = tokio::io::split(self.stream);
        let feeding = async {
            while let Some(part) = input.recv().await {
                // A program that does not read its input is not an error.
                if to.write_all(&part).await.is_err() || to.flush().await.is_err() {
                    break;
                }
            }
            // A terminal's end is a key, and without the connection there is no program.
            if !self.terminal {
                let _ = to.shutdown().await;
            }
            std::future::pending::<()>().await;
        };
        let from = BufReader::with_capacity(CHUNK, from);
        let hearing = async {
            if self.terminal {
                bytes(from, out).await
            } else {
                frames(from, out, err).await
            }
        };
        tokio::select! {
            heard = hearing => heard,
            () = feeding => Ok(()),
        }
    }
}

/// Writes all that comes.
async fn bytes(
    mut from: BufReader<impl AsyncRead + Unpin>,
    mut out: impl AsyncWrite + Unpin,
) -> Result<(), Broken> {
    loop {
        let part = from.fill_buf().await.map_err(Broken::Docker)?;
        if part.is_empty() {
            return Ok(());
        }
        write(&mut out, part).await?;
        let length = part.len();
        from.consume(length);
    }
}

/// The length of what stands before the bytes of a frame.
pub(super) const HEADER: usize = 8;

/// The stream of a frame, and how many bytes it has.
pub(super) fn framed(header: [u8; HEADER]) -> (u8, usize) {
    let [stream, _, _, _, length @ ..] = header;
    let length = usize::try_from(u32::from_be_bytes(length));
    (stream, length.unwrap_or(usize::MAX))
}

/// Writes what is in the frames, each to its stream.
async fn frames(
    mut from: BufReader<impl AsyncRead + Unpin>,
    mut out: impl AsyncWrite + Unpin,
    mut err: impl AsyncWrite + Unpin,
) -> Result<(), Broken> {
    loop {
        let mut header = [0; HEADER];
        match from.read_exact(&mut header).await {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(Broken::Docker(error)),
        }
        let (stream, mut left) = framed(header);
        while left > 0 {
            let part = from.fill_buf().await.map_err(Broken::Docker)?;
            if part.is_empty() {
                return Ok(());
            }
            let part = &part[..part.len().min(left)];
            // 3 is Docker's own word on what went wrong.
            match stream {
                2 | 3 => write(&mut err, part).await?,
                _ => write(&mut out, part).await?,
            }
            let length = part.len();
            left -= length;
            from.consume(length);
        }
    }
}

async fn write(to: &mut (impl AsyncWrite + Unpin), part: &[u8]) -> Result<(), Broken> {
    to.write_all(part).await.map_err(Broken::Own)?;
    to.flush().await.map_err(Broken::Own)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(stream: u8, text: &[u8]) -> Vec<u8> {
        let length = u32::try_from(text.len()).unwrap().to_be_bytes();
        [&[stream, 0, 0, 0][..], &length, text].concat()
    }

    #[tokio::test]
    async fn what_is_in_frames_gets_to_its_stream_however_it_arrives() {
        let large = vec![b'x'; CHUNK * 2 + 7];
        let sent = [
            frame(1, b"out"),
            frame(2, b"err\x01\x00"),
            frame(1, &[]),
            frame(1, &large),
            frame(3, b"!"),
        ]
        .concat();
        let expected = [b"out".as_slice(), &large].concat();
        for capacity in [1, 7, 8, 9, CHUNK] {
            let (mut out, mut err) = (Vec::new(), Vec::new());
            let from = BufReader::with_capacity(capacity, sent.as_slice());
            frames(from, &mut out, &mut err).await.unwrap();
            assert!(out == expected, "{capacity}");
            assert_eq!(err, b"err\x01\x00!");
        }
    }

    #[tokio::test]
    async fn what_a_terminal_shows_is_never_taken_for_a_frame() {
        for shown in [
            &b"\x01\x00\x00\x00\xff\xff\xff\xff"[..],
            b"\x00",
            b"\x02a\n",
            b"",
        ] {
            let mut out = Vec::new();
            let from = BufReader::with_capacity(3, shown);
            bytes(from, &mut out).await.unwrap();
            assert_eq!(out, shown);
        }
    }

    #[tokio::test]
    async fn what_is_cut_off_is_the_end() {
        for cut in [&frame(1, b"abc")[..9], &[1, 0, 0], &frame(1, b"")] {
            let (mut out, mut err) = (Vec::new(), Vec::new());
            let from = BufReader::with_capacity(CHUNK, cut);
            frames(from, &mut out, &mut err).await.unwrap();
            assert!(out.len() <= 1 && err.is_empty());
        }
    }

    #[test]
    fn a_process_is_called_what_its_own_container_calls_it() {
        assert_eq!(
            last_namespace("Name:\tx\nNSpid:\t4711\t81\t42\nNSsid:\t9\n"),
            Some(42)
        );
        for none in ["", "NSpid:\n", "NSpid:\t77\t1\n", "NSpid:\tx\n"] {
            assert_eq!(last_namespace(none), None, "{none:?}");
        }
    }

    #[test]
    fn dockers_refusal_is_one_clean_line() {
        let of = |body: &[u8]| said(StatusCode::BAD_REQUEST, body);
        assert_eq!(
            of(b"{\"message\":\"no \\u001b[31muser\\n x\"}"),
            clean::line("no \u{1b}[31muser\n x")
        );
        assert_eq!(of(b"<html>"), "status 400 Bad Request");
    }
}
