//! How long a token is handed out, and how often GitHub is asked.

use std::time::Duration;

use futures_util::future::join_all;

use crate::bed::{Bed, allow_many_files, eventually};
use crate::description::{INSTALLATION, MINT};
use crate::fake::Fault;

#[tokio::test]
async fn a_token_with_more_than_five_minutes_left_is_handed_out_again() {
    let bed = Bed::new().await;
    let first = bed.token().await;
    bed.pass(3600 - 301);
    assert_eq!(bed.token().await, first, "5:01 left");
    assert_eq!(bed.github.count(MINT), 1);
}

#[tokio::test]
async fn at_exactly_five_minutes_a_new_one_is_minted() {
    let bed = Bed::new().await;
    let first = bed.token().await;
    bed.pass(3600 - 300);
    let second = bed.token().await;
    assert_ne!(second, first, "5:00 left");
    assert_eq!(bed.token().await, second);
    assert_eq!(
        (bed.github.count(INSTALLATION), bed.github.count(MINT)),
        (1, 2)
    );
}

#[tokio::test]
async fn with_less_than_five_minutes_a_new_one_is_minted() {
    let bed = Bed::new().await;
    let first = bed.token().await;
    bed.pass(3600 - 299);
    assert_ne!(bed.token().await, first, "4:59 left");
}

#[tokio::test]
async fn while_a_cached_token_is_valid_it_is_served_whatever_github_does() {
    for fault in [
        Fault::Reset,
        Fault::Hang,
        Fault::Answer(500, vec![], String::new()),
        Fault::Answer(401, vec![], r#"{"message":"Bad credentials"}"#.into()),
        Fault::Answer(429, vec![("retry-after", "30".into())], "{}".into()),
        Fault::Answer(201, vec![], "[".into()),
    ] {
        let bed = Bed::hasty().await;
        let first = bed.token().await;
        bed.github.fault(MINT, fault, usize::MAX);
        bed.pass(3600 - 120);
        for _ in 0..3 {
            assert_eq!(bed.token().await, first);
        }
        bed.pass(114);
        assert_eq!(bed.token().await, first, "6 s left");
        bed.pass(6);
        assert!(bed.get("/token").await.status >= 500, "an expired token");
    }
}

#[tokio::test]
async fn an_expired_token_is_never_served() {
    let bed = Bed::new().await;
    let first = bed.token().await;
    bed.pass(3600);
    assert_ne!(bed.token().await, first);
    bed.github.fault(MINT, Fault::Reset, usize::MAX);
    bed.pass(3600);
    bed.get("/token").await.error(503);
}

#[tokio::test]
async fn a_thousand_requests_at_once_are_one_look_up_and_one_mint() {
    allow_many_files();
    let bed = Bed::new().await;
    bed.github.state().delay = Duration::from_millis(300);
    let replies = join_all((0..1000).map(|_| bed.get("/token"))).await;
    let live = bed.github.live();
    assert_eq!(live.len(), 1);
    assert!(replies.iter().all(|reply| reply.body == live[0]));
    assert_eq!(
        (bed.github.count(INSTALLATION), bed.github.count(MINT)),
        (1, 1)
    );
}

#[tokio::test]
async fn a_thousand_requests_at_once_share_one_failure_too() {
    allow_many_files();
    let bed = Bed::new().await;
    bed.github.suspend("acme");
    let replies = join_all((0..1000).map(|_| bed.get("/token"))).await;
    assert!(replies.iter().all(|reply| reply.status == 502));
    assert_eq!(
        (bed.github.count(INSTALLATION), bed.github.count(MINT)),
        (1, 1)
    );
}

#[tokio::test]
async fn who_asked_and_hung_up_leaves_the_token_to_the_next() {
    let bed = Bed::new().await;
    bed.github.state().delay = Duration::from_millis(100);
    let _ = tokio::time::timeout(Duration::from_millis(50), bed.get("/token")).await;
    eventually("the mint goes on", || bed.github.live().len() == 1).await;
    bed.token().await;
    assert_eq!(bed.github.count(MINT), 1);
}

#[tokio::test]
async fn more_than_thirty_mints_within_an_hour_are_429_with_retry_after() {
    let bed = Bed::new().await;
    for _ in 0..30 {
        bed.token().await;
        assert_eq!(bed.delete().await.status, 204);
        bed.pass(60);
    }
    let reply = bed.get("/token").await;
    assert_eq!(reply.error(429), "too-many-mints");
    let wait = reply.retry_after();
    assert!((1800..=1802).contains(&wait), "{wait}");
    assert_eq!(bed.github.count(MINT), 30);
    bed.pass(wait);
    bed.token().await;
}

#[tokio::test]
async fn the_clock_that_counts_is_githubs() {
    for wrong_by in [-600, -3600 * 24, 600, 3600 * 24 * 365] {
        let bed = Bed::new().await;
        bed.clock.set_wrong_by(wrong_by);
        let first = bed.token().await;
        bed.pass(3600 - 301);
        assert_eq!(bed.token().await, first, "5:01 left, wrong by {wrong_by}");
        bed.pass(1);
        assert_ne!(bed.token().await, first, "5:00 left, wrong by {wrong_by}");
    }
}

#[tokio::test]
async fn a_clock_that_jumps_makes_no_expired_token_look_good() {
    let bed = Bed::new().await;
    let first = bed.token().await;
    bed.clock.set_wrong_by(-1800);
    bed.pass(3600);
    assert_ne!(bed.token().await, first);
}
