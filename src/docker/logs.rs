//! What a container's main process has written, as Docker keeps it.
//!
//! It is read here and not by bollard, as in [`session`](super::session): what a terminal's program writes must not be
//! taken for Docker's frames, and a line has a bound.

use std::collections::VecDeque;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::{Request, StatusCode};
use tokio::time::timeout;

use super::session::{HEADER, answered, away, framed};
use super::{ANSWER_WITHIN, Container, Docker, late};
use crate::error::Result;

/// How much of a line is kept, in bytes: Docker writes a longer one in parts of this length.
const MAX_LINE: usize = 16 * 1024;
/// The longest time that stands before a line, in bytes.
const MAX_TIME: usize = 40;

/// A line that a container's main process has written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// When (RFC 3339, as precise as Docker is); empty where Docker does not say.
    pub at: String,
    /// Whether it was written to standard error. With a terminal nothing is.
    pub is_error: bool,
    /// The line, as it was written.
    pub text: String,
}

/// The lines of one container, the oldest first.
#[derive(Debug)]
pub struct Logs {
    body: Incoming,
    lines: Lines,
    doing: String,
}

impl Docker {
    /// What this container's main process has written: the last `tail` lines, or all. With `follow` also what it
    /// writes from now on, until it ends.
    ///
    /// # Errors
    /// Docker is away, or its logging driver cannot be read.
    pub async fn logs_of(
        &self,
        container: &Container,
        tail: Option<usize>,
        follow: bool,
    ) -> Result<Logs> {
        let doing = format!("read the log of {}", container.name());
        let (version, id) = (self.api.client_version(), container.id());
        let tail = tail.map_or_else(|| "all".to_owned(), |tail| tail.to_string());
        let request = Request::get(format!(
            "/v{version}/containers/{id}/logs?stdout=1&stderr=1&timestamps=1&follow={}&tail={tail}",
            u8::from(follow)
        ));
        let asking = answered(self, request, String::new(), StatusCode::OK, &doing);
        let answer = timeout(ANSWER_WITHIN, asking)
            .await
            .map_err(|_| late(&doing, ANSWER_WITHIN))??;
        Ok(Logs {
            body: answer.into_body(),
            lines: Lines::new(container.has_terminal()),
            doing,
        })
    }
}

impl Logs {
    /// The next line; nothing once there is no other.
    ///
    /// # Errors
    /// Docker went away.
    pub async fn next(&mut self) -> Result<Option<Entry>> {
        loop {
            if let Some(entry) = self.lines.ready.pop_front() {
                return Ok(Some(entry));
            }
            let part = match self.body.frame().await {
                Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
                Some(Err(error)) => return Err(away(&self.doing, &error)),
                None if self.lines.end() => continue,
                None => return Ok(None),
            };
            self.lines.push(&part);
        }
    }
}

/// Takes what Docker sends apart.
#[derive(Debug)]
struct Lines {
    terminal: bool,
    header: Vec<u8>,
    /// How much of the frame is to come.
    left: usize,
    is_error: bool,
    /// The begin of a line of standard output, and of standard error.
    begun: [Vec<u8>; 2],
    ready: VecDeque<Entry>,
}

impl Lines {
    const fn new(terminal: bool) -> Self {
        Self {
            terminal,
            header: Vec::new(),
            left: 0,
            is_error: false,
            begun: [Vec::new(), Vec::new()],
            ready: VecDeque::new(),
        }
    }

    fn push(&mut self, part: &Bytes) {
        let mut part = &part[..];
        if self.terminal {
            self.take(part);
            return;
        }
        while !part.is_empty() {
            if self.left == 0 {
                let length = part.len().min(HEADER - self.header.len());
                self.header.extend_from_slice(&part[..length]);
                part = &part[length..];
                if let Ok(header) = self.header.as_slice().try_into() {
                    let (stream, left) = framed(header);
                    (self.is_error, self.left) = (stream == 2, left);
                    self.header.clear();
                }
                continue;
            }
            let length = part.len().min(self.left);
            self.take(&part[..length]);
            self.left -= length;
            part = &part[length..];
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        for part in bytes.split_inclusive(|&byte| byte == b'\n') {
            let line = &mut self.begun[usize::from(self.is_error)];
            let room = MAX_LINE.saturating_sub(line.len());
            line.extend_from_slice(&part[..part.len().min(room)]);
            if part.ends_with(b"\n") {
                let line = std::mem::take(line);
                self.ready.push_back(entry(&line, self.is_error));
            }
        }
    }

    /// Nothing more comes; whether there was the begin of a line.
    fn end(&mut self) -> bool {
        for (line, is_error) in self.begun.iter_mut().zip([false, true]) {
            if !line.is_empty() {
                let line = std::mem::take(line);
                self.ready.push_back(entry(&line, is_error));
            }
        }
        !self.ready.is_empty()
    }
}

/// A line, before which Docker puts the time.
fn entry(line: &[u8], is_error: bool) -> Entry {
    let line = String::from_utf8_lossy(line);
    let line = line.trim_end_matches(['\r', '\n']);
    let is_time = |at: &str| {
        at.len() <= MAX_TIME && at.contains('T') && at.starts_with(|c: char| c.is_ascii_digit())
    };
    let (at, text) = match line.split_once(' ') {
        Some((at, text)) if is_time(at) => (at, text),
        _ if is_time(line) => (line, ""),
        _ => ("", line),
    };
    Entry {
        at: at.to_owned(),
        is_error,
        text: text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(stream: u8, text: &[u8]) -> Vec<u8> {
        let length = u32::try_from(text.len()).unwrap().to_be_bytes();
        [&[stream, 0, 0, 0][..], &length, text].concat()
    }

    fn read(sent: &[u8], terminal: bool, chunk: usize) -> Vec<(String, bool, String)> {
        let mut lines = Lines::new(terminal);
        for part in sent.chunks(chunk) {
            lines.push(&Bytes::copy_from_slice(part));
        }
        lines.end();
        let ready = lines.ready.into_iter();
        ready
            .map(|Entry { at, is_error, text }| (at, is_error, text))
            .collect()
    }

    const AT: &str = "2026-01-01T00:00:00.123456789Z";

    #[test]
    fn lines_are_told_apart_however_they_arrive() {
        let sent = [
            frame(1, format!("{AT} out\n").as_bytes()),
            frame(2, format!("{AT} err\r\n").as_bytes()),
            frame(1, format!("{AT} \n").as_bytes()),
            frame(1, format!("{AT} cut").as_bytes()),
        ]
        .concat();
        let line = |is_error, text: &str| (AT.to_owned(), is_error, text.to_owned());
        let expected = [
            line(false, "out"),
            line(true, "err"),
            line(false, ""),
            line(false, "cut"),
        ];
        for chunk in [1, 7, 8, 9, 4096] {
            assert_eq!(read(&sent, false, chunk), expected, "{chunk}");
        }
    }

    #[test]
    fn a_terminals_bytes_are_no_frames() {
        let shown = format!("{AT} \u{1}\0\0\0\r\n{AT} b");
        for chunk in [1, 4096] {
            let read = read(shown.as_bytes(), true, chunk);
            let texts: Vec<_> = read.iter().map(|(_, _, text)| text.as_str()).collect();
            assert_eq!(texts, ["\u{1}\0\0\0", "b"]);
        }
    }

    #[test]
    fn a_line_without_end_takes_little() {
        let part = [AT.as_bytes(), b" ", &vec![b'x'; MAX_LINE]].concat();
        let mut sent = Vec::new();
        for _ in 0..50 {
            sent.extend(frame(1, &part));
        }
        sent.extend(frame(1, format!("{AT} end\n{AT} next\n").as_bytes()));
        let read = read(&sent, false, 4096);
        assert_eq!(read.len(), 2);
        assert!(read[0].2.len() < MAX_LINE && read[0].2.ends_with('x'));
        assert_eq!(read[1].2, "next");
    }

    #[test]
    fn what_is_no_frame_and_has_no_time_ends_as_well() {
        for sent in [&b"\x01\0\0"[..], b"\x01\0\0\0\xff\xff\xff\xffx", b""] {
            assert!(read(sent, false, 2).len() <= 1);
        }
        assert_eq!(entry(b"no time\n", false).text, "no time");
        assert_eq!(entry(b"Tea is here", false).at, "");
    }
}
