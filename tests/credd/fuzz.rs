//! Inputs that nobody thought of. `HATCHERY_FUZZ_CASES` says how many; a few by default.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use hatchery::helper::question::{Question, repository_of};
use proptest::prelude::*;

use crate::bed::Bed;
use crate::client::Reply;

fn cases(default: u32) -> ProptestConfig {
    let cases = std::env::var("HATCHERY_FUZZ_CASES")
        .ok()
        .and_then(|text| text.parse().ok());
    ProptestConfig {
        cases: cases.unwrap_or(default),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// A service of its own thread, and how often it has turned to GitHub.
fn service() -> &'static (PathBuf, Box<dyn Fn() -> usize + Send + Sync>) {
    static SERVICE: OnceLock<(PathBuf, Box<dyn Fn() -> usize + Send + Sync>)> = OnceLock::new();
    SERVICE.get_or_init(|| {
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.unwrap().block_on(async {
                let bed = Bed::new().await;
                let state = bed.github.state.clone();
                let seen = move || state.lock().unwrap().seen.len();
                tell.send((bed.socket.clone(), seen)).unwrap();
                std::future::pending::<()>().await;
            });
        });
        let (socket, seen) = told.recv().unwrap();
        (socket, Box::new(seen))
    })
}

/// Sends it, hangs up half, and reads what comes back.
fn send(socket: &Path, bytes: &[u8]) -> Vec<u8> {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(15)))
        .unwrap();
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    answer
}

/// A piece of a request: mostly of those that mean something, so that they meet in odd ways.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let known: Vec<&'static str> = vec![
        "GET",
        "DELETE",
        "POST",
        "HEAD",
        " ",
        "\r\n",
        "\n",
        "\t",
        "/token",
        "/healthz",
        "?repo=",
        "acme/secret",
        "acme%2Fsecret",
        "%2e%2e",
        "&",
        "#",
        " HTTP/1.1",
        " HTTP/1.0",
        "host: x",
        ": ",
        "content-length: ",
        "0",
        "5",
        "transfer-encoding: chunked",
        "expect: 100-continue",
        "upgrade: h2c",
        "http://",
        "localhost",
        "..",
        ";",
        "=",
        "\0",
    ];
    prop_oneof![
        4 => proptest::sample::select(known).prop_map(|text| text.as_bytes().to_vec()),
        1 => proptest::collection::vec(any::<u8>(), 0..40),
    ]
}

proptest! {
    #![proptest_config(cases(2_000))]

    #[test]
    fn no_bytes_on_the_socket_mint_but_a_request_for_a_token(pieces in proptest::collection::vec(piece(), 0..24)) {
        let (socket, seen) = service();
        // A stranger's repository, and no plain `GET /token` or `DELETE /token`.
        let bytes: Vec<u8> = pieces.concat();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let plain = |verb: &str| {
            text.contains(&format!("{verb} /token ")) || text.contains(&format!("{verb} http"))
                || text.contains(&format!("{verb} /token?")) || text.contains(&format!("{verb} /token#"))
        };
        prop_assume!(!plain("GET") && !plain("DELETE"));
        let before = seen();
        let answer = send(socket, &bytes);
        prop_assert!(!String::from_utf8_lossy(&answer).contains("ghs_"), "{text:?}");
        prop_assert_eq!(seen(), before, "{:?}", text);
    }

    #[test]
    fn no_query_but_the_scopes_own_gets_a_token(query in "[?&=a-z/%0-9A-F.;+]{0,40}", name in "[a-z%./0-9-]{0,20}") {
        let (socket, seen) = service();
        for target in [format!("/token?x{query}"), format!("/token?repo=acme/x{name}"), format!("/token{query}x")] {
            let before = seen();
            let request = format!("GET {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
            let answer = send(socket, request.as_bytes());
            let reply = Reply::parse(&answer);
            prop_assert!(reply.is_none_or(|reply| reply.status >= 400), "{target}");
            prop_assert!(seen() == before, "{target}");
        }
    }
}

proptest! {
    #![proptest_config(cases(20_000))]

    #[test]
    fn no_bytes_make_the_question_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Question::read(&bytes[..]);
    }

    #[test]
    fn a_question_is_read_as_git_wrote_it(
        protocol in "[a-z]{0,6}", host in "[a-zA-Z0-9.:@/-]{0,30}", path in "[ -~]{1,40}", other in "[a-z\\[\\]]{1,8}", value in "[ -~]{0,20}",
    ) {
        prop_assume!(!["protocol", "host", "path"].contains(&other.as_str()));
        let text = format!("{other}={value}\nprotocol={protocol}\nhost={host}\n{other}=\npath={path}\n\nhost=evil\n");
        let question = Question::read(text.as_bytes()).unwrap();
        prop_assert_eq!(question, Question { protocol, host, path: Some(path) });
    }

    #[test]
    fn a_path_is_a_repository_or_nothing(path in "[ -~]{0,60}") {
        if let Some(repo) = repository_of(&path) {
            prop_assert!(path.trim_start_matches('/').to_lowercase().starts_with(&repo.key()));
            prop_assert!(!repo.to_string().contains([' ', '?', '%', '&', '#', '\r', '\n']));
        }
    }

    #[test]
    fn no_path_makes_it_panic(path in "\\PC{0,60}") {
        let _ = repository_of(&path);
    }
}
