//! What becomes of GitHub's refusals, limits, outages and surprises.

use std::time::{Duration, Instant};

use hatchery::credd::github::Patience;
use serde_json::json;

use crate::bed::{Bed, Setup};
use crate::clock::BEGIN;
use crate::description::{INSTALLATION, MINT, REVOKE};
use crate::fake::{APP_ID, Fault};

fn answer(status: u16, body: &str) -> Fault {
    Fault::Answer(status, vec![], body.to_owned())
}

#[tokio::test]
async fn a_refusal_is_502_with_githubs_reason() {
    for status in [400, 401, 403, 404, 410, 422] {
        let bed = Bed::new().await;
        let body = r#"{"message": "Because of this", "documentation_url": "https://docs.github.com/rest"}"#;
        bed.github.fault(MINT, answer(status, body), usize::MAX);
        let reply = bed.get("/token").await;
        assert_eq!(reply.error(502), "github-refused");
        assert!(
            reply.body.contains("Because of this") && reply.body.contains(&status.to_string()),
            "{reply:?}"
        );
    }
}

#[tokio::test]
async fn an_app_that_is_not_installed_is_502_and_told() {
    let bed = Bed::with(Setup {
        scope: r#"{"repositories": ["nobody/x"]}"#,
        ..Setup::default()
    })
    .await;
    let reply = bed.get("/token").await;
    assert_eq!(reply.error(502), "github-refused");
    assert!(reply.body.contains("not installed for nobody"), "{reply:?}");
    assert_eq!(bed.github.count(MINT), 0);
}

#[tokio::test]
async fn a_suspended_installation_is_502_and_told() {
    let bed = Bed::new().await;
    bed.github.suspend("acme");
    let reply = bed.get("/token").await;
    assert_eq!(reply.error(502), "github-refused");
    assert!(reply.body.contains("suspended"), "{reply:?}");
}

#[tokio::test]
async fn an_app_installed_anew_is_found_again() {
    let bed = Bed::new().await;
    bed.token().await;
    bed.github.reinstall("acme");
    bed.pass(3500);
    bed.token().await;
    assert_eq!(bed.github.count(INSTALLATION), 2);
}

#[tokio::test]
async fn a_rate_limit_is_503_with_retry_after_and_silence_until_then() {
    let reset = (BEGIN + 120).to_string();
    let secondary = r#"{"message":"You have exceeded a secondary rate limit. Please wait a few minutes before you try again."}"#;
    let primary = vec![
        ("x-ratelimit-remaining", "0".to_owned()),
        ("x-ratelimit-reset", reset),
    ];
    for (fault, wait) in [
        (
            Fault::Answer(
                403,
                primary.clone(),
                r#"{"message":"API rate limit exceeded"}"#.into(),
            ),
            120,
        ),
        (Fault::Answer(429, primary, "{}".into()), 120),
        (
            Fault::Answer(403, vec![("retry-after", "45".into())], secondary.into()),
            45,
        ),
        (
            Fault::Answer(429, vec![("retry-after", "45".into())], String::new()),
            45,
        ),
        (answer(403, secondary), 60),
        (answer(429, ""), 60),
        (
            Fault::Answer(429, vec![("retry-after", "0".into())], String::new()),
            1,
        ),
        (
            Fault::Answer(429, vec![("retry-after", "999999".into())], String::new()),
            3600,
        ),
    ] {
        let bed = Bed::new().await;
        bed.github.fault(MINT, fault, 1);
        let reply = bed.get("/token").await;
        assert_eq!(reply.error(503), "github-limits");
        assert_eq!(reply.retry_after(), wait);
        bed.pass(wait - 1);
        assert_eq!(bed.get("/token").await.retry_after(), 1);
        assert_eq!(bed.github.count(MINT), 1, "asked before {wait} s were over");
        assert_eq!(
            bed.get("/token?repo=other/lib").await.status,
            200,
            "another owner's goes on"
        );
        bed.pass(1);
        bed.token().await;
    }
}

#[tokio::test]
async fn a_rate_limit_holds_for_revocations_too() {
    let bed = Bed::new().await;
    bed.token().await;
    bed.pass(3400);
    bed.github.fault(
        MINT,
        Fault::Answer(429, vec![("retry-after", "45".into())], String::new()),
        1,
    );
    bed.token().await;
    bed.delete().await.error(502);
    assert_eq!(bed.github.count(REVOKE), 0);
}

#[tokio::test]
async fn an_outage_is_503_with_retry_after_once_retries_are_used_up() {
    for fault in [
        answer(500, ""),
        answer(502, "<html>"),
        answer(503, "{}"),
        Fault::Reset,
        Fault::Cut,
    ] {
        let bed = Bed::new().await;
        bed.github.fault(INSTALLATION, fault, usize::MAX);
        let reply = bed.get("/token").await;
        assert_eq!(reply.error(503), "github-away");
        assert!(reply.retry_after() > 0);
        bed.github.heal();
        bed.token().await;
    }
}

#[tokio::test]
async fn an_outage_that_passes_is_not_noticed() {
    for fault in [
        answer(500, ""),
        answer(503, "{}"),
        Fault::Reset,
        Fault::Cut,
        Fault::Hang,
    ] {
        for operation in [INSTALLATION, MINT] {
            let bed = Bed::hasty().await;
            bed.github.fault(operation, fault.clone(), 2);
            bed.token().await;
        }
    }
}

#[tokio::test]
async fn an_outage_that_says_when_it_ends_is_told_so() {
    let bed = Bed::new().await;
    bed.github.fault(
        MINT,
        Fault::Answer(503, vec![("retry-after", "77".into())], String::new()),
        usize::MAX,
    );
    assert_eq!(bed.get("/token").await.retry_after(), 77);
}

#[tokio::test]
async fn a_silent_github_is_504() {
    for operation in [INSTALLATION, MINT] {
        let bed = Bed::hasty().await;
        bed.github.fault(operation, Fault::Hang, usize::MAX);
        assert_eq!(bed.get("/token").await.error(504), "github-silent");
    }
}

#[tokio::test]
async fn a_silent_github_is_504_within_fifteen_seconds() {
    let bed = Bed::with(Setup {
        patience: Patience::default(),
        ..Setup::default()
    })
    .await;
    bed.github.fault(INSTALLATION, Fault::Hang, usize::MAX);
    let begin = Instant::now();
    bed.get("/token").await.error(504);
    let took = begin.elapsed();
    assert!(
        took > Duration::from_secs(5) && took < Duration::from_secs(15),
        "{took:?}"
    );
}

#[tokio::test]
async fn a_github_that_fails_again_and_again_is_left_in_peace() {
    let bed = Bed::new().await;
    bed.github.suspend("acme");
    for _ in 0..50 {
        bed.get("/token").await.error(502);
    }
    assert_eq!(bed.github.count(MINT), 6);
    bed.pass(60);
    bed.get("/token").await.error(502);
    assert_eq!(bed.github.count(MINT), 7);
}

#[tokio::test]
async fn the_jwt_is_the_apps_and_its_times_are_within_bounds() {
    let bed = Bed::new().await;
    bed.token().await;
    for seen in &bed.github.state().seen {
        assert_eq!(
            seen.claims,
            json!({"iss": APP_ID, "iat": BEGIN - 60, "exp": BEGIN + 540})
        );
        assert!(seen.bearer.starts_with("eyJ"));
    }
}

#[tokio::test]
async fn a_refused_clock_is_corrected_once_by_githubs_date() {
    for wrong_by in [600, -700, 3600 * 24 * 400, -3600 * 24 * 400] {
        let bed = Bed::new().await;
        bed.clock.set_wrong_by(wrong_by);
        bed.token().await;
        let statuses: Vec<u16> = bed
            .github
            .state()
            .seen
            .iter()
            .map(|seen| seen.status)
            .collect();
        assert_eq!(statuses, [401, 200, 201], "wrong by {wrong_by}");
    }
    let bed = Bed::new().await;
    let message = r#"{"message": "'Expiration time' claim ('exp') is too far in the future"}"#;
    bed.github
        .fault(INSTALLATION, answer(401, message), usize::MAX);
    bed.get("/token").await.error(502);
    assert_eq!(bed.github.count(INSTALLATION), 2, "one retry, no more");
}

#[tokio::test]
async fn a_401_that_is_not_about_the_clock_is_not_repeated() {
    let bed = Bed::new().await;
    bed.github.fault(
        INSTALLATION,
        answer(401, r#"{"message": "Bad credentials"}"#),
        usize::MAX,
    );
    bed.get("/token").await.error(502);
    assert_eq!(bed.github.count(INSTALLATION), 1);
}
