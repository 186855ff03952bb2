//! The table "The socket's HTTP", as far as GitHub is well.

use hatchery::credd::keeper::Keeper;
use serde_json::json;

use crate::bed::{Bed, Setup};
use crate::client::{Reply, ask, raw};
use crate::description::{INSTALLATION, MINT};

#[tokio::test]
async fn get_token_is_the_token_alone() {
    let bed = Bed::new().await;
    let reply = bed.get("/token").await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("content-type"), Some("text/plain"));
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    assert_eq!(bed.github.live(), std::slice::from_ref(&reply.body));
    assert!(reply.body.len() > 500 && reply.body.contains(['.', '_', '-']));
}

#[tokio::test]
async fn get_token_covers_all_repositories_of_the_own_owner_and_no_others() {
    let bed = Bed::new().await;
    bed.token().await;
    let seen = bed.github.state().seen.last().unwrap().clone();
    assert_eq!(
        seen.body,
        json!({"repositories": ["Site", "theme"], "permissions": {"contents": "write", "issues": "read"}})
    );
}

#[tokio::test]
async fn a_repository_of_the_scope_is_answered_with_the_token_that_covers_it() {
    let bed = Bed::new().await;
    let own = bed.token().await;
    for target in [
        "/token?repo=acme/site",
        "/token?repo=ACME/SITE",
        "/token?repo=acme%2Ftheme",
        "/token?repo=%61cme/theme&",
    ] {
        assert_eq!(bed.get(target).await.body, own, "{target}");
    }
    let others = bed.get_json("/token?repo=Other/LIB").await.json();
    assert_ne!(others["token"], own);
    assert_eq!(others["repositories"], json!(["other/lib"]));
    assert_eq!(bed.github.count(MINT), 2);
}

#[tokio::test]
async fn a_repository_outside_the_scope_is_refused_and_github_is_not_asked() {
    let bed = Bed::new().await;
    for repo in [
        "acme/secret",
        "other/more",
        "acme/site/",
        "acme/site.git",
        "acme/%2e%2e/acme/site",
        "acme/..%2fsecret",
        "%2e%2e",
        "",
        "acme",
        "acme/*",
        "acme/site%00",
        "acme/site,acme/secret",
        "acme%2Fsite%0d%0ax",
        "acme/s%C4%B1te",
        "%FF%FE/x",
        "https://github.com/acme/site",
    ] {
        let reply = bed.get(&format!("/token?repo={repo}")).await;
        assert_eq!(reply.error(403), "out-of-scope", "{repo}");
    }
    assert!(bed.github.state().seen.is_empty());
}

#[tokio::test]
async fn nothing_else_in_a_request_names_a_repository() {
    let bed = Bed::new().await;
    let own = bed.token().await;
    for headers in [
        "x-repo: acme/secret\r\n",
        "repo: acme/secret\r\nrepository: acme/secret\r\n",
        "x-original-url: /token?repo=acme/secret\r\n",
        "cookie: repo=acme/secret\r\n",
        "x-http-method-override: DELETE\r\n",
        "authorization: Bearer x\r\n",
    ] {
        let reply = ask(&bed.socket, "GET", "/token", headers).await;
        assert_eq!((reply.status, reply.body), (200, own.clone()), "{headers}");
    }
    let absolute = bed.get("http://api.github.com/token").await;
    assert_eq!((absolute.status, absolute.body), (200, own));
    let absolute = bed.get("http://x/token?repo=acme/secret").await;
    assert_eq!(absolute.error(403), "out-of-scope");
    assert_eq!(bed.github.count(MINT), 1);
}

#[tokio::test]
async fn json_tells_token_expiry_repositories_and_permissions() {
    let bed = Bed::new().await;
    let reply = bed.get_json("/token").await;
    assert_eq!(reply.header("content-type"), Some("application/json"));
    let text = bed.github.live().remove(0);
    assert_eq!(
        reply.json(),
        json!({
            "token": text,
            "expires_at": "2026-01-01T01:00:00Z",
            "repositories": ["acme/site", "acme/theme"],
            "permissions": {"contents": "write", "issues": "read", "metadata": "read"},
        })
    );
}

#[tokio::test]
async fn json_is_given_to_whom_it_is_acceptable() {
    let bed = Bed::new().await;
    for (accept, json) in [
        ("application/json", true),
        ("Application/JSON; charset=utf-8", true),
        ("text/html, application/json;q=0.9, */*;q=0.1", true),
        ("text/plain;q=0.5, application/json", true),
        ("text/plain, application/json;q=0.5", false),
        ("application/json;q=0", false),
        ("*/*", false),
        ("application/jsonp", false),
    ] {
        let reply = ask(
            &bed.socket,
            "GET",
            "/token",
            &format!("accept: {accept}\r\n"),
        )
        .await;
        assert_eq!(reply.json().is_object(), json, "{accept}");
    }
}

#[tokio::test]
async fn the_scope_without_permissions_has_those_of_the_configuration() {
    let bed = Bed::with(Setup {
        scope: r#"{"repositories": ["acme/site"]}"#,
        ..Setup::default()
    })
    .await;
    bed.token().await;
    let body = bed.github.state().seen.last().unwrap().body.clone();
    assert_eq!(
        body["permissions"],
        json!({"contents": "write", "pull_requests": "write", "issues": "write", "actions": "read",
            "checks": "read", "statuses": "read", "metadata": "read"})
    );
}

#[tokio::test]
async fn healthz_is_well_and_holds_no_secret() {
    let bed = Bed::new().await;
    bed.token().await;
    let reply = bed.get("/healthz").await;
    assert_eq!((reply.status, reply.body.as_str()), (200, "ok\n"));
}

#[tokio::test]
async fn any_other_parameter_and_a_repeated_one_is_400() {
    let bed = Bed::new().await;
    for target in [
        "/token?repository=acme/site",
        "/token?Repo=acme/site",
        "/token?repo[]=acme/site",
        "/token?repo=acme/site&permissions=admin",
        "/token?repo=acme/site&repo=acme/site",
        "/token?repo=acme/site&%72epo=acme/secret",
        "/token?x",
        "/healthz?x=1",
    ] {
        bed.get(target).await.error(400);
    }
    ask(&bed.socket, "DELETE", "/token?repo=acme/site", "")
        .await
        .error(400);
    never_asked(&bed);
}

#[tokio::test]
async fn any_other_path_is_404() {
    let bed = Bed::new().await;
    for target in [
        "/",
        "/Token",
        "/token/",
        "//token",
        "/token/../token",
        "/%74oken",
        "/x/token",
        "/token%3Frepo=acme/site",
        "/token;repo=acme/site",
        "/healthz/",
        "/../token",
        "http://x/y",
    ] {
        bed.get(target).await.error(404);
    }
    never_asked(&bed);
}

#[tokio::test]
async fn any_other_method_is_405_and_says_which_there_are() {
    let bed = Bed::new().await;
    for method in [
        "POST", "PUT", "PATCH", "OPTIONS", "TRACE", "get", "GETT", "PROPFIND",
    ] {
        let reply = ask(&bed.socket, method, "/token", "").await;
        reply.error(405);
        assert_eq!(reply.header("allow"), Some("GET, DELETE"), "{method}");
    }
    let reply = ask(&bed.socket, "HEAD", "/token", "").await;
    assert_eq!((reply.status, reply.body.as_str()), (405, ""));
    let reply = ask(&bed.socket, "DELETE", "/healthz", "").await;
    reply.error(405);
    assert_eq!(reply.header("allow"), Some("GET"));
    let connect = raw(
        &bed.socket,
        b"CONNECT api.github.com:443 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
    )
    .await;
    assert!(Reply::parse(&connect).unwrap().status >= 400);
    never_asked(&bed);
}

#[tokio::test]
async fn a_body_is_413_and_is_not_waited_for() {
    let bed = Bed::new().await;
    for headers in [
        "content-length: 1\r\n",
        "content-length: 99999999999\r\n",
        "transfer-encoding: chunked\r\n",
        "expect: 100-continue\r\ncontent-length: 5\r\n",
    ] {
        ask(&bed.socket, "GET", "/token", headers).await.error(413);
    }
    let empty = ask(&bed.socket, "DELETE", "/token", "content-length: 0\r\n").await;
    assert_eq!(empty.status, 204);
    never_asked(&bed);
}

#[tokio::test]
async fn a_head_too_large_is_431() {
    let bed = Bed::new().await;
    let large = format!("x-large: {}\r\n", "x".repeat(9_000));
    ask(&bed.socket, "GET", "/token", &large).await.error(431);
    ask(&bed.socket, "GET", "/token", &"x: y\r\n".repeat(70))
        .await
        .error(431);
    let long = format!("/token?repo=acme/{}", "x".repeat(9_000));
    bed.get(&long).await.error(431);
    for bytes in [20_000, 2_000_000] {
        let endless = format!("GET /token HTTP/1.1\r\nx: {}\r\n\r\n", "x".repeat(bytes));
        let reply = Reply::parse(&raw(&bed.socket, endless.as_bytes()).await);
        assert!(reply.is_none_or(|reply| reply.status == 431));
    }
    never_asked(&bed);
}

#[tokio::test]
async fn several_requests_go_over_one_connection() {
    let bed = Bed::new().await;
    let request = "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\nGET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let answers = String::from_utf8(raw(&bed.socket, request.as_bytes()).await).unwrap();
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 2);
}

/// No request so far made the service turn to GitHub.
#[track_caller]
fn never_asked(bed: &Bed) {
    assert_eq!(bed.github.count(MINT) + bed.github.count(INSTALLATION), 0);
    assert!(!Keeper::has_something_to_lose(&bed.keeper));
}
