//! A drone that floods its socket, and what the daemon, as a process, has left for the others.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::bed::allow_many_files;
use crate::client::Reply;
use crate::docker::{Labelled, is_absent};
use crate::process::{Daemon, Server};
use crate::swarm::Host;

/// A crowd that comes again and again, until it is dropped: some ask without end, some have their
/// tokens revoked, some say nothing. Nobody reads.
struct Crowd(Arc<AtomicBool>);

impl Crowd {
    fn at(socket: &Path) -> Self {
        let go_on = Arc::new(AtomicBool::new(true));
        for kind in 0..3 {
            let (socket, go_on) = (socket.to_owned(), go_on.clone());
            std::thread::spawn(move || {
                let asks = "GET /token HTTP/1.1\r\nhost: x\r\n\r\n".repeat(500);
                let says = [&asks, "DELETE /token HTTP/1.1\r\nhost: x\r\n\r\n", ""][kind];
                let mut held = std::collections::VecDeque::new();
                while go_on.load(Ordering::Relaxed) {
                    let Ok(mut stream) = UnixStream::connect(&socket) else {
                        continue;
                    };
                    stream.set_nonblocking(true).unwrap();
                    let _ = stream.write(says.as_bytes());
                    held.push_back(stream);
                    if held.len() > 1500 {
                        held.pop_front();
                    }
                    // The processors are this server's too.
                    std::thread::sleep(Duration::from_micros(200));
                }
            });
        }
        Self(go_on)
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// A client that waits for its turn, as curl does.
fn in_the_queue(socket: &Path) -> Option<Reply> {
    let mut stream = UnixStream::connect(socket).ok()?;
    let request = b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    stream.write_all(request).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    Reply::parse(&answer)
}

/// What it has, or had at most, in memory, by `/proc/PID/status`.
fn mib(daemon: &Daemon, what: &str) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.0.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with(what)).unwrap();
    let kib: f64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib / 1024.0
}

#[tokio::test]
async fn a_flood_at_two_sockets_leaves_a_third_its_quick_answers_and_the_server_its_memory() {
    if is_absent() {
        return;
    }
    allow_many_files();
    let host = Host::new().await;
    let flooded = ["site", "other"].map(|name| Labelled::volume(&host.scope(&[name])));
    let calm = Labelled::volume(&host.scope(&["theme"]));
    let daemon = host.start();
    for drone in flooded.iter().chain([&calm]) {
        host.served(drone).await;
    }
    assert_eq!(host.get(&calm, "/token").await.status, 200);
    let crowds = [&flooded[0], &flooded[1]].map(|drone| Crowd::at(&host.socket(drone)));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut times = Vec::new();
    for _ in 0..200 {
        let begin = Instant::now();
        assert_eq!(host.get(&calm, "/token").await.status, 200);
        times.push(begin.elapsed());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let memory = mib(&daemon, "VmRSS");
    let begin = Instant::now();
    let socket = host.socket(&flooded[0]);
    let reply = tokio::task::spawn_blocking(move || in_the_queue(&socket)).await;
    assert_eq!(reply.unwrap().unwrap().status, 200);
    let own = begin.elapsed();
    drop(crowds);
    times.sort();
    println!(
        "the third's answers: median {:?}, slowest {:?}; the flooded one's own: {own:?}; {memory:.1} MiB",
        times[100], times[199]
    );
    assert!(times[100] < Duration::from_millis(20), "{:?}", times[100]);
    assert!(times[199] < Duration::from_secs(1), "{:?}", times[199]);
    assert!(own < Duration::from_secs(60), "{own:?}");
    assert!(memory < 64.0, "{memory} MiB");
}

#[tokio::test]
async fn whatever_a_drone_holds_open_its_daemon_stays_under_64_mib() {
    allow_many_files();
    let server = Server::new().await;
    let daemon = server.running().await;
    server.get("/token").await;
    let long = format!("GET /token HTTP/1.1\r\nx: {}", "x".repeat(15_000));
    let asks = "GET /token HTTP/1.1\r\nhost: x\r\n\r\n".repeat(2_000);
    let socket = server.socket();
    let flood = tokio::task::spawn_blocking(move || {
        let mut held = Vec::new();
        for says in ["", &long, &asks, &long] {
            for _ in 0..1_500 {
                let mut stream = UnixStream::connect(&socket).unwrap();
                stream.set_nonblocking(true).unwrap();
                let _ = stream.write(says.as_bytes());
                held.push(stream);
            }
        }
        let reply = in_the_queue(&socket);
        (reply, held)
    });
    let (reply, _held) = flood.await.unwrap();
    assert_eq!(reply.unwrap().status, 200);
    let most = mib(&daemon, "VmHWM");
    println!("{most:.1} MiB at most");
    assert!(most < 64.0, "{most} MiB");
}
