//! What GitHub grants: to renamed and lost repositories, wider, narrower, and not to be read.

use serde_json::json;

use crate::bed::{Bed, Setup, eventually};
use crate::description::{INSTALLATION, MINT, REVOKE};
use crate::fake::{API_PATH, Fault};

fn answer(status: u16, body: &str) -> Fault {
    Fault::Answer(status, vec![], body.to_owned())
}

#[tokio::test]
async fn a_renamed_repository_is_followed() {
    let bed = Bed::with(Setup {
        scope: r#"{"repositories": ["acme/site"]}"#,
        ..Setup::default()
    })
    .await;
    bed.github.rename("acme/site", "acme/site2");
    let reply = bed.get_json("/token?repo=acme/site").await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(reply.json()["repositories"], json!(["acme/site2"]));
    assert_eq!(bed.github.live().len(), 1);
}

#[tokio::test]
async fn a_repository_renamed_among_others_is_followed_and_the_others_keep_theirs() {
    let bed = Bed::new().await;
    bed.token().await;
    bed.github.rename("acme/theme", "acme/look");
    bed.pass(3500);
    let reply = bed.get_json("/token?repo=acme/theme").await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(
        reply.json()["repositories"],
        json!(["acme/site", "acme/look"])
    );
    let probe = "the token that only told the name is revoked";
    eventually(probe, || bed.github.live().len() == 2).await;
    assert_eq!(bed.delete().await.status, 204);
    let mints = bed.github.count(MINT);
    bed.token().await;
    assert_eq!(
        bed.github.count(MINT),
        mints + 1,
        "the new name is known by now"
    );
}

#[tokio::test]
async fn a_repository_that_went_to_another_owner_is_not_followed() {
    let bed = Bed::new().await;
    bed.github.rename("acme/theme", "other/theme");
    bed.token().await;
    let reply = bed.get("/token?repo=acme/theme").await;
    assert_eq!(reply.error(502), "repository-gone");
    let setup = Setup {
        scope: r#"{"repositories": ["acme/site"]}"#,
        ..Setup::default()
    };
    let bed = Bed::with(setup).await;
    bed.github.rename("acme/site", "other/site");
    bed.get("/token").await.error(502);
    assert_eq!(
        bed.github.count(MINT),
        0,
        "the other owner's installation was asked"
    );
}

#[tokio::test]
async fn a_redirect_with_307_is_followed_on_this_host() {
    let bed = Bed::new().await;
    let to = format!("{API_PATH}/repos/acme/theme/installation");
    bed.github.fault(
        INSTALLATION,
        Fault::Answer(307, vec![("location", to)], "{}".into()),
        1,
    );
    assert_eq!(
        bed.get("/token?repo=other/lib").await.status,
        502,
        "another owner's installation"
    );
    let bed = Bed::new().await;
    let to = format!(
        "https://localhost:{}{API_PATH}/repos/acme/site/installation",
        bed.github.port
    );
    bed.github.fault(
        INSTALLATION,
        Fault::Answer(307, vec![("location", to)], "{}".into()),
        1,
    );
    assert_eq!(bed.get("/token?repo=acme/theme").await.status, 200);
}

#[tokio::test]
async fn a_redirect_to_another_host_or_without_end_is_not_followed() {
    let other = Bed::new().await;
    let elsewhere = format!(
        "https://localhost:{}{API_PATH}/repos/acme/site/installation",
        other.github.port
    );
    for location in [
        elsewhere,
        "http://localhost/x".to_owned(),
        "https://evil.example/".to_owned(),
        "//evil.example/".to_owned(),
        format!("{API_PATH}/repos/acme/site/installation"),
        "https://".to_owned(),
    ] {
        let bed = Bed::new().await;
        let fault = Fault::Answer(301, vec![("location", location.clone())], "{}".into());
        bed.github.fault(INSTALLATION, fault, usize::MAX);
        assert_eq!(
            bed.get("/token").await.error(502),
            "github-unusable",
            "{location}"
        );
        assert!(bed.github.count(INSTALLATION) <= 4);
    }
    assert!(other.github.state().seen.is_empty());
}

#[tokio::test]
async fn a_repository_that_is_gone_does_not_take_the_others_token_with_it() {
    let bed = Bed::new().await;
    bed.github.delete("acme/theme");
    let reply = bed.get_json("/token").await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(reply.json()["repositories"], json!(["acme/site"]));
    let reply = bed.get("/token?repo=acme/theme").await;
    assert_eq!(reply.error(502), "repository-gone");
    assert!(reply.body.contains("acme/theme"), "{reply:?}");
    let bed = Bed::new().await;
    bed.github.delete("acme/site");
    assert_eq!(
        bed.get("/token?repo=acme/theme").await.status,
        200,
        "the own one is gone"
    );
}

#[tokio::test]
async fn permissions_that_the_app_has_not_are_refused_with_githubs_reason() {
    let bed = Bed::new().await;
    let body = r#"{"message": "The permissions requested are not granted to this installation.", "documentation_url": "x"}"#;
    bed.github.fault(MINT, answer(422, body), usize::MAX);
    let reply = bed.get("/token").await;
    assert_eq!(reply.error(502), "github-refused");
    assert!(reply.body.contains("permissions requested"), "{reply:?}");
    assert_eq!(
        bed.github.count(MINT),
        1,
        "all repositories are there: nothing else to ask for"
    );
}

#[tokio::test]
async fn a_wider_grant_is_revoked_and_thrown_away() {
    type Change = fn(&mut serde_json::Value);
    let wider: [(Change, &str); 5] = [
        (
            |grant| grant["permissions"]["administration"] = json!("write"),
            "administration=write",
        ),
        (
            |grant| grant["permissions"]["issues"] = json!("write"),
            "issues=write",
        ),
        (
            |grant| grant["permissions"]["metadata"] = json!("write"),
            "metadata=write",
        ),
        (
            |grant| grant["repositories"][1]["full_name"] = json!("acme/secret"),
            "acme/secret",
        ),
        (
            |grant| {
                grant["repositories"] = serde_json::Value::Null;
                grant["repository_selection"] = json!("all");
            },
            "all repositories",
        ),
    ];
    for (change, told) in wider {
        let bed = Bed::new().await;
        bed.github.fault(MINT, Fault::Grant(change), 1);
        let reply = bed.get("/token").await;
        assert_eq!(reply.error(502), "github-unusable");
        assert!(reply.body.contains(told), "{told}: {reply:?}");
        eventually("it is revoked", || bed.github.live().is_empty()).await;
        assert_eq!(bed.github.count(REVOKE), 1);
        bed.token().await;
    }
}

#[tokio::test]
async fn a_token_that_has_expired_when_it_is_minted_is_not_handed_out() {
    let expired: [fn(&mut serde_json::Value); 2] = [
        |grant| grant["expires_at"] = json!("2001-01-01T00:00:00Z"),
        |grant| grant["expires_at"] = json!("1970-01-01T00:00:00Z"),
    ];
    for change in expired {
        let bed = Bed::new().await;
        bed.github.fault(MINT, Fault::Grant(change), 1);
        let reply = bed.get("/token").await;
        assert_eq!(reply.error(502), "github-unusable");
        assert!(reply.body.contains("had expired"), "{reply:?}");
        assert_eq!(
            bed.github.count(MINT),
            1,
            "no drone pays for GitHub's clock"
        );
        bed.token().await;
    }
}

#[tokio::test]
async fn a_narrower_grant_is_taken_and_what_it_grants_is_what_is_told() {
    let bed = Bed::new().await;
    let change = |grant: &mut serde_json::Value| {
        grant["permissions"] = json!({"contents": "read"});
        grant["repositories"].as_array_mut().unwrap().truncate(1);
    };
    bed.github.fault(MINT, Fault::Grant(change), 1);
    let reply = bed.get_json("/token").await.json();
    assert_eq!(reply["permissions"], json!({"contents": "read"}));
    assert_eq!(reply["repositories"], json!(["acme/site"]));
    assert_eq!(
        bed.get("/token?repo=acme/theme").await.error(502),
        "repository-gone"
    );
}

#[tokio::test]
async fn a_grant_that_does_not_say_is_taken_as_asked() {
    let bed = Bed::new().await;
    let change = |grant: &mut serde_json::Value| {
        let grant = grant.as_object_mut().unwrap();
        grant.retain(|key, _| key == "token" || key == "expires_at");
    };
    bed.github.fault(MINT, Fault::Grant(change), 1);
    let reply = bed.get_json("/token?repo=acme/theme").await.json();
    assert_eq!(
        reply["permissions"],
        json!({"contents": "write", "issues": "read"})
    );
    assert_eq!(reply["repositories"], json!(["Acme/Site", "acme/theme"]));
}

#[tokio::test]
async fn malformed_json_is_502_and_a_token_in_it_is_revoked() {
    for body in [
        "",
        "[",
        "null",
        "{}",
        "\u{0}",
        r#"{"token": 1}"#,
        r#"{"token": "a b", "expires_at": "2026-01-01T01:00:00Z"}"#,
    ] {
        let bed = Bed::new().await;
        bed.github.fault(MINT, answer(201, body), 1);
        assert_eq!(
            bed.get("/token").await.error(502),
            "github-unusable",
            "{body}"
        );
        bed.github.fault(INSTALLATION, answer(200, body), 1);
        assert_eq!(
            bed.get("/token?repo=other/lib").await.error(502),
            "github-unusable",
            "{body}"
        );
    }
    let bed = Bed::new().await;
    bed.github.fault(
        MINT,
        Fault::Grant(|grant| grant["expires_at"] = json!(7)),
        1,
    );
    bed.get("/token").await.error(502);
    eventually("it is revoked", || bed.github.live().is_empty()).await;
}

#[tokio::test]
async fn an_answer_without_end_is_not_read_to_it() {
    let bed = Bed::new().await;
    bed.github
        .fault(MINT, answer(201, &" ".repeat(9_000_000)), 1);
    assert_eq!(bed.get("/token").await.error(502), "github-unusable");
}
