//! When the service ends, and what it leaves.

use std::time::Duration;

use hatchery::credd::lifetime::End;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;

use crate::bed::{Bed, Setup, eventually};
use crate::description::REVOKE;
use crate::fake::Fault;

/// A service on a socket that somebody else holds.
async fn inherited() -> Bed {
    Bed::with(Setup {
        ends_by_itself: true,
        ..Setup::default()
    })
    .await
}

/// Some rounds of its clock.
async fn a_moment() {
    tokio::time::sleep(Duration::from_millis(150)).await;
}

/// It is still there, and ends before a minute has passed.
async fn ends_within_a_minute(mut bed: Bed) {
    bed.pass(20);
    a_moment().await;
    assert!(!bed.running.is_finished(), "after 20 s already");
    bed.pass(39);
    let ended = tokio::time::timeout(Duration::from_secs(5), &mut bed.running).await;
    assert_eq!(ended.expect("within a minute").unwrap(), End::Idle);
}

#[tokio::test]
async fn never_asked_it_ends_within_a_minute() {
    ends_within_a_minute(inherited().await).await;
}

#[tokio::test]
async fn without_a_live_token_it_ends_within_a_minute_after_the_last_request() {
    let bed = inherited().await;
    for _ in 0..5 {
        bed.pass(25);
        bed.get("/healthz").await;
        a_moment().await;
    }
    ends_within_a_minute(bed).await;
}

#[tokio::test]
async fn with_a_live_token_it_stays_and_ends_within_a_minute_after_the_expiry() {
    let bed = inherited().await;
    bed.token().await;
    for _ in 0..35 {
        bed.pass(100);
        a_moment().await;
        assert!(!bed.running.is_finished());
    }
    bed.pass(100);
    a_moment().await;
    ends_within_a_minute(bed).await;
}

#[tokio::test]
async fn revoked_tokens_do_not_keep_it() {
    let bed = inherited().await;
    bed.token().await;
    bed.delete().await;
    ends_within_a_minute(bed).await;
}

#[tokio::test]
async fn a_revocation_that_is_still_to_be_tried_again_keeps_it() {
    let bed = inherited().await;
    bed.token().await;
    bed.github.fault(REVOKE, Fault::Reset, usize::MAX);
    bed.delete().await;
    bed.pass(120);
    a_moment().await;
    assert!(!bed.running.is_finished());
    bed.github.heal();
    eventually("it is revoked", || bed.github.live().is_empty()).await;
    ends_within_a_minute(bed).await;
}

#[tokio::test]
async fn a_drone_that_used_up_its_mints_does_not_get_them_back_by_an_ending() {
    let bed = inherited().await;
    for _ in 0..30 {
        bed.get("/token").await;
        bed.delete().await;
    }
    bed.pass(120);
    a_moment().await;
    assert!(!bed.running.is_finished());
    bed.get("/token").await.error(429);
}

#[tokio::test]
async fn an_idle_connection_does_not_keep_it() {
    let bed = inherited().await;
    let _idle = UnixStream::connect(&bed.socket).await.unwrap();
    a_moment().await;
    ends_within_a_minute(bed).await;
}

#[tokio::test]
async fn ending_by_itself_revokes_nothing() {
    let bed = inherited().await;
    bed.token().await;
    bed.pass(3600);
    a_moment().await;
    bed.pass(40);
    eventually("it ends", || bed.running.is_finished()).await;
    assert_eq!(bed.github.count(REVOKE), 0);
}

#[tokio::test]
async fn on_its_own_socket_it_stays() {
    let bed = Bed::new().await;
    bed.pass(3600 * 24 * 30);
    a_moment().await;
    bed.token().await;
}

#[tokio::test]
async fn told_to_stop_it_answers_what_is_in_flight_and_revokes_nothing() {
    let mut bed = Bed::new().await;
    bed.github.state().delay = Duration::from_millis(150);
    let socket = bed.socket.clone();
    let asked = tokio::spawn(async move { crate::client::ask(&socket, "GET", "/token", "").await });
    a_moment().await;
    let _idle = UnixStream::connect(&bed.socket).await.unwrap();
    bed.stop();
    assert_eq!(asked.await.unwrap().status, 200);
    assert_eq!((&mut bed.running).await.unwrap(), End::Stopped);
    assert_eq!(bed.github.count(REVOKE), 0);
    assert!(!bed.socket.exists(), "its own socket goes with it");
}

#[tokio::test]
async fn told_to_stop_it_waits_no_longer_than_its_bounds() {
    let mut bed = Bed::with(Setup {
        bounds: hatchery::credd::server::Bounds {
            drain: Duration::from_millis(200),
            ..Default::default()
        },
        ..Setup::default()
    })
    .await;
    let mut slow = UnixStream::connect(&bed.socket).await.unwrap();
    slow.write_all(b"GET /token HTTP/1.1\r\n").await.unwrap();
    a_moment().await;
    bed.stop();
    let ended = tokio::time::timeout(Duration::from_secs(2), &mut bed.running).await;
    assert_eq!(ended.unwrap().unwrap(), End::Stopped);
}
