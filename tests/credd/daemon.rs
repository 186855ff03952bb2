//! The daemon as a process: what systemd sees of it.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use rustix::process::Signal;

use crate::client::{ask, raw};
use crate::description::{INSTALLATION, REVOKE};
use crate::drone::text;
use crate::fake::Fault;
use crate::process::{Daemon, Server};

#[tokio::test]
async fn it_serves_on_the_socket_it_inherits() {
    let server = Server::new().await;
    let _daemon = server.answering(server.activated(1)).await;
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
    daemon.signal(Signal::TERM);
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
    let asked = tokio::spawn(async move { raw(&socket, b"GET /token HTTP/1.1\r\n\r\n").await });
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
    daemon.signal(Signal::KILL);
    assert_eq!(daemon.ended().await.0.signal(), Some(9));
    assert!(server.socket().exists(), "a killed one leaves its file");
    let _daemon = server.running().await;
    let live = std::fs::metadata(server.socket()).unwrap().ino();
    let output = server.refused();
    assert!(
        text(&output.stderr).contains("another process already serves"),
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
async fn killed_and_started_again_it_goes_on() {
    let server = Server::new().await;
    let mut daemon = server.running().await;
    let first = server.get("/token").await.body;
    daemon.signal(Signal::KILL);
    daemon.ended().await;
    let _daemon = server.running().await;
    let second = server.get("/token").await.body;
    assert_ne!(first, second, "nothing is kept");
    assert_eq!(server.get("/token").await.body, second);
}

#[tokio::test]
async fn started_with_this_machines_clock_ten_minutes_off_it_goes_on() {
    for wrong_by in [600, -600] {
        let server = Server::new().await;
        server.github.clock.set_wrong_by(wrong_by);
        let mut daemon = server.running().await;
        let first = server.get("/token").await;
        assert_eq!(first.status, 200, "{wrong_by}: {first:?}");
        assert_eq!(server.get("/token").await.body, first.body, "{wrong_by}");
        daemon.signal(Signal::KILL);
        daemon.ended().await;
        let _daemon = server.running().await;
        assert_eq!(server.get("/token").await.status, 200, "{wrong_by}");
    }
}

#[tokio::test]
async fn activated_it_ends_by_itself_within_a_minute_with_0() {
    let server = Server::new().await;
    let mut daemon = server.answering(server.activated(1)).await;
    assert_eq!(server.get("/healthz").await.status, 200);
    let (status, took, _) = daemon.ended().await;
    assert_eq!(status.code(), Some(0));
    assert!((20..60).contains(&took.as_secs()), "{took:?}");
}
