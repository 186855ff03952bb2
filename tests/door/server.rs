//! The door as an HTTP server, to clients of all kinds.

use std::path::Path;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::{Bed, SOON};

/// A request as bytes, after whose answer the connection ends.
pub fn request(method: &str, target: &str, body: &Value) -> Vec<u8> {
    let body = body.to_string();
    format!(
        "{method} {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Sends these bytes and reads until the door closes the connection.
pub async fn exchange(socket: &Path, bytes: &[u8]) -> Vec<u8> {
    let mut stream = UnixStream::connect(socket).await.unwrap();
    // The door may close before it has read all.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    answer
}

/// Status and body of one answer.
pub fn parsed(answer: &[u8]) -> (u16, Value) {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    (
        status.unwrap_or_default(),
        serde_json::from_str(body).unwrap_or_default(),
    )
}

async fn said(bed: &Bed, bytes: &[u8]) -> String {
    let answer = tokio::time::timeout(SOON, exchange(&bed.socket(), bytes)).await;
    String::from_utf8_lossy(&answer.expect("the connection ends")).into_owned()
}

#[tokio::test]
async fn a_connection_becomes_a_stream_of_bytes_both_ways() {
    let bed = Bed::new();
    let mut stream = UnixStream::connect(bed.socket()).await.unwrap();
    let head = "POST /v1.41/containers/bbbb/attach?stream=1&stdin=1&stdout=1 HTTP/1.1\r\nhost: x\r\n\
                connection: Upgrade\r\nupgrade: tcp\r\n\r\nspoken";
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&[0, 255]).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = Vec::new();
    let read = tokio::time::timeout(SOON, stream.read_to_end(&mut answer));
    read.await.unwrap().unwrap();
    assert!(
        answer.starts_with(b"HTTP/1.1 101 "),
        "{}",
        String::from_utf8_lossy(&answer)
    );
    assert!(answer.ends_with(b"spoken\x00\xff"), "{answer:?}");
}

#[tokio::test]
async fn no_password_of_a_registry_is_handed_on() {
    let bed = Bed::new();
    said(&bed, b"GET /_ping HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx-registry-auth: e30=\r\ncookie: y\r\n\r\n").await;
    assert_eq!(bed.docker.asked(), ["GET /_ping"]);
    let headers = bed.docker.headers();
    assert!(
        !headers
            .iter()
            .any(|name| name == "x-registry-auth" || name == "cookie"),
        "{headers:?}"
    );
}

#[tokio::test]
async fn no_parameter_comes_in_a_form() {
    let bed = Bed::new();
    let form = "networkmode=host&t=debian:12&remote=http://127.0.0.1/x";
    for kind in [
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
    ] {
        for target in ["/build?version=1", "/containers/bbbb/kill"] {
            let asked = format!(
                "POST {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: {kind}\r\n\
                 content-length: {}\r\n\r\n{form}",
                form.len()
            );
            said(&bed, asked.as_bytes()).await;
        }
    }
    assert_eq!(
        bed.docker.kinds(),
        [
            "application/x-tar",
            "application/json",
            "application/x-tar",
            "application/json"
        ]
    );
}

#[tokio::test]
async fn requests_that_follow_each_other_are_judged_each() {
    let bed = Bed::new();
    let many = "GET /_ping HTTP/1.1\r\nhost: x\r\n\r\nGET /secrets HTTP/1.1\r\nhost: x\r\n\r\n\
                GET /_ping HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let answers = said(&bed, many.as_bytes()).await;
    let statuses: Vec<_> = answers
        .split("HTTP/1.1 ")
        .skip(1)
        .map(|answer| &answer[..3])
        .collect();
    assert_eq!(statuses, ["200", "403", "200"], "{answers}");
    assert_eq!(bed.docker.asked(), ["GET /_ping", "GET /_ping"]);
}

#[tokio::test]
async fn a_request_within_a_body_is_none() {
    let bed = Bed::new();
    let inner = "GET /secrets HTTP/1.1\r\nhost: x\r\n\r\n";
    let both = format!(
        "POST /containers/bbbb/exec HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{inner}",
        inner.len() + 5
    );
    said(&bed, both.as_bytes()).await;
    let asked = bed.docker.asked();
    assert!(
        !asked.iter().any(|line| line.contains("secrets")),
        "{asked:?}"
    );
}

#[tokio::test]
async fn what_is_too_large_or_no_http_ends_and_the_next_is_served() {
    let bed = Bed::new();
    let long_head = format!(
        "GET /_ping HTTP/1.1\r\nx: {}\r\n\r\n",
        "y".repeat(1024 * 1024)
    );
    let long_target = format!(
        "GET /images/{}/json HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
        "y".repeat(20_000)
    );
    let large = json!({"Image": "x".repeat(5 * 1024 * 1024)});
    let large = request("POST", crate::CREATE, &large);
    let deep = "[".repeat(100_000);
    let deep = format!(
        "POST /containers/bbbb/exec HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{deep}",
        deep.len()
    );
    for odd in [
        b"\x16\x03\x01\x02\x00\x01\x00".to_vec(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        b"GET / HTTP/9.9\r\n\r\n".to_vec(),
        long_head.into_bytes(),
        long_target.into_bytes(),
        large,
        deep.into_bytes(),
    ] {
        let answer = said(&bed, &odd).await;
        let fine = answer.is_empty()
            || answer.starts_with("HTTP/1.1 4")
            || answer.starts_with("HTTP/1.0 4");
        assert!(fine, "{answer:.200}");
    }
    assert_eq!(bed.docker.asked(), [""; 0]);
    assert_eq!(bed.ask("GET", "/_ping", &json!({})).await.0, 200);
}

#[tokio::test]
async fn half_requests_and_idle_connections_keep_nobody_out() {
    let bed = Bed::new();
    let mut waiting = Vec::new();
    for at in 0..100 {
        let mut stream = UnixStream::connect(bed.socket()).await.unwrap();
        let half =
            &b"POST /containers/bbbb/exec HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{"[..];
        stream
            .write_all(&half[..half.len() - at % 60])
            .await
            .unwrap();
        waiting.push(stream);
    }
    assert_eq!(bed.ask("GET", "/_ping", &json!({})).await.0, 200);
    // What was begun and given up does not reach Docker.
    drop(waiting);
    assert_eq!(bed.ask("GET", "/_ping", &json!({})).await.0, 200);
    assert_eq!(bed.docker.asked(), ["GET /_ping", "GET /_ping"]);
}

#[tokio::test]
async fn a_door_that_is_closed_ends_its_connections() {
    let bed = Bed::new();
    let (socket, place) = (bed.socket(), bed.place);
    let mut stream = UnixStream::connect(&socket).await.unwrap();
    stream
        .write_all(b"GET /_ping HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    drop(bed.door);
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(SOON, stream.read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "the connection stays open");
    assert!(!socket.exists());
    drop(place);
}
