//! A drone that floods its socket.

use std::time::{Duration, Instant};

use hatchery::credd::server::Bounds;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;

use crate::bed::{Bed, Setup, allow_many_files, eventually};
use crate::client::{Reply, raw};
use crate::description::MINT;

async fn few_connections() -> Bed {
    Bed::with(Setup {
        bounds: Bounds {
            connections: 16,
            head: Duration::from_secs(10),
            drain: Duration::from_secs(5),
        },
        ..Setup::default()
    })
    .await
}

#[tokio::test]
async fn ten_thousand_idle_connections_do_not_keep_a_new_client_waiting() {
    allow_many_files();
    let bed = Bed::new().await;
    let mut crowd = Vec::new();
    for _ in 0..10_000 {
        crowd.push(UnixStream::connect(&bed.socket).await.unwrap());
        // The kernel's queue of the socket is shorter than the crowd.
        tokio::task::yield_now().await;
    }
    let begin = Instant::now();
    bed.token().await;
    assert!(
        begin.elapsed() < Duration::from_secs(2),
        "{:?}",
        begin.elapsed()
    );
    assert!(bed.server.connections() <= Bounds::default().connections);
}

#[tokio::test]
async fn slow_requests_do_not_keep_a_new_client_waiting() {
    let bed = few_connections().await;
    let mut crowd = Vec::new();
    for _ in 0..200 {
        let mut slow = UnixStream::connect(&bed.socket).await.unwrap();
        slow.write_all(b"GET /token HTTP/1.1\r\nx: ").await.unwrap();
        crowd.push(slow);
    }
    let begin = Instant::now();
    bed.token().await;
    assert!(
        begin.elapsed() < Duration::from_secs(2),
        "{:?}",
        begin.elapsed()
    );
}

#[tokio::test]
async fn the_idlest_makes_room_and_one_that_waits_for_its_answer_does_not() {
    let bed = few_connections().await;
    bed.github.state().delay = Duration::from_millis(300);
    let (waiting, crowd) = tokio::join!(bed.get("/token"), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let mut crowd = Vec::new();
        for _ in 0..40 {
            crowd.push(UnixStream::connect(&bed.socket).await.unwrap());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        crowd
    });
    assert_eq!((waiting.status, crowd.len()), (200, 40));
}

#[tokio::test]
async fn when_all_wait_for_their_answer_the_next_waits_for_its_turn() {
    let bed = few_connections().await;
    bed.github.state().delay = Duration::from_millis(200);
    let replies = futures_util::future::join_all((0..64).map(|_| bed.get("/token"))).await;
    assert!(replies.iter().all(|reply| reply.status == 200));
    assert_eq!(bed.github.count(MINT), 1);
}

#[tokio::test]
async fn while_others_wait_a_connection_is_good_for_one_request() {
    let bed = few_connections().await;
    let two = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n\
        GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let answers = async || {
        let bytes = raw(&bed.socket, two).await;
        String::from_utf8_lossy(&bytes)
            .matches("HTTP/1.1 200")
            .count()
    };
    let mut crowd = Vec::new();
    for _ in 0..15 {
        crowd.push(UnixStream::connect(&bed.socket).await.unwrap());
    }
    eventually("they are taken", || bed.server.connections() == 15).await;
    assert_eq!(answers().await, 1);
    drop(crowd);
    eventually("they are gone", || bed.server.connections() == 0).await;
    assert_eq!(answers().await, 2);
}

#[tokio::test]
async fn a_head_that_takes_too_long_ends_the_connection() {
    let bounds = Bounds {
        head: Duration::from_millis(100),
        ..Bounds::default()
    };
    let bed = Bed::with(Setup {
        bounds,
        ..Setup::default()
    })
    .await;
    let mut silent = Vec::new();
    for part in ["", "GET", "GET /token HTTP/1.1\r\nhost: x\r\n"] {
        let mut stream = UnixStream::connect(&bed.socket).await.unwrap();
        stream.write_all(part.as_bytes()).await.unwrap();
        silent.push(stream);
    }
    eventually("they are taken", || bed.server.connections() == 3).await;
    eventually("they are closed", || bed.server.connections() == 0).await;
}

#[tokio::test]
async fn a_client_that_does_not_read_is_not_kept_for_ever() {
    let bounds = Bounds {
        head: Duration::from_millis(100),
        ..Bounds::default()
    };
    let bed = Bed::with(Setup {
        bounds,
        ..Setup::default()
    })
    .await;
    let mut deaf = UnixStream::connect(&bed.socket).await.unwrap();
    let requests = "GET /token HTTP/1.1\r\nhost: x\r\n\r\n".repeat(20_000);
    let _ = tokio::time::timeout(
        Duration::from_millis(300),
        deaf.write_all(requests.as_bytes()),
    )
    .await;
    eventually("it is closed", || bed.server.connections() == 0).await;
    bed.token().await;
}

#[tokio::test]
async fn garbage_gets_no_token_and_harms_nobody() {
    let bed = Bed::new().await;
    for garbage in [
        "\0\0\0\0",
        "\r\n\r\n\r\n\r\n",
        "GET",
        "GET /token\r\n\r\n",
        "GET /token HTTP/0.9\r\n\r\n",
        "GET /token HTTP/2.0\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "GET /token HTTP/1.1\nhost x\n\n",
        "GET /to\u{e9}ken HTTP/1.1\r\n\r\n",
        "GET /token HTTP/1.1\r\n : x\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01\x00",
        "GET /token HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        "GET /token HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
        "POST /token HTTP/1.1\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    ] {
        let mut stream = UnixStream::connect(&bed.socket).await.unwrap();
        stream.write_all(garbage.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let answer = tokio::time::timeout(Duration::from_secs(2), async {
            let mut answer = Vec::new();
            let _ = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut answer).await;
            answer
        });
        let answer = answer.await.expect(garbage);
        assert!(
            Reply::parse(&answer).is_none_or(|reply| reply.status >= 400),
            "{garbage:?}"
        );
    }
    assert_eq!(bed.github.count(MINT), 0);
    bed.token().await;
}

#[tokio::test]
async fn an_old_client_is_answered_too() {
    let bed = Bed::new().await;
    let reply = Reply::parse(&raw(&bed.socket, b"GET /token HTTP/1.0\r\n\r\n").await).unwrap();
    assert_eq!(reply.status, 200);
}
