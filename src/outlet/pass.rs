//! Bytes through a tunnel, both ways, until both ends are done or nothing moves any more.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};
use tokio::time::{Instant, sleep_until};

/// The size of each direction's buffer, in bytes.
const HELD: usize = 16 * 1024;

/// Passes on what each end sends to the other. An end that has sent everything may still receive the rest.
/// Returns on an error, or when nothing has moved in either direction for the time `idle`.
pub async fn pass(
    one: impl AsyncRead + AsyncWrite,
    other: impl AsyncRead + AsyncWrite,
    idle: Duration,
) {
    let moved = Moved::new();
    let (mut from_one, mut to_one) = split(one);
    let (mut from_other, mut to_other) = split(other);
    let there = hand_on(&mut from_one, &mut to_other, &moved);
    let back = hand_on(&mut from_other, &mut to_one, &moved);
    tokio::select! {
        // A fault of one direction is the end of both.
        _ = async { tokio::try_join!(there, back) } => {}
        () = moved.none_in(idle) => {}
    }
}

async fn hand_on(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    moved: &Moved,
) -> io::Result<()> {
    let mut held = vec![0; HELD];
    loop {
        let read = from.read(&mut held).await?;
        moved.now();
        if read == 0 {
            return to.shutdown().await;
        }
        to.write_all(&held[..read]).await?;
        moved.now();
    }
}

/// When something moved last, in milliseconds since the beginning.
struct Moved {
    begun: Instant,
    last: AtomicU64,
}

impl Moved {
    fn new() -> Self {
        Self {
            begun: Instant::now(),
            last: AtomicU64::new(0),
        }
    }

    fn now(&self) {
        let passed = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(passed, Ordering::Relaxed);
    }

    /// Waits until nothing has moved for so long.
    async fn none_in(&self, idle: Duration) {
        loop {
            let last = Duration::from_millis(self.last.load(Ordering::Relaxed));
            let end = self.begun + last + idle;
            if end <= Instant::now() {
                return;
            }
            sleep_until(end).await;
        }
    }
}
