//! Inputs that nobody thought of. `HATCHERY_FUZZ_CASES` says how many of each kind (`make test`: a
//! million), `HATCHERY_FUZZ_SEED` makes a run again what it was.

use std::path::PathBuf;

use hatchery::drone::file::DroneFile;
use hatchery::helper::place::Place;
use hatchery::helper::question::{Decision, Question, repository_of};
use proptest::prelude::*;

use crate::bed::Bed;

/// The repositories that a token may be had for, here.
const SCOPE: [&str; 3] = ["acme/site", "acme/theme", "other/lib"];

fn cases() -> u64 {
    let cases = std::env::var("HATCHERY_FUZZ_CASES").ok();
    cases.map_or(100_000, |text| text.parse().unwrap())
}

/// Where inputs come from.
struct Dice(fastrand::Rng);

impl Dice {
    fn new() -> Self {
        let seed = std::env::var("HATCHERY_FUZZ_SEED")
            .map_or_else(|_| fastrand::u64(..), |text| text.parse().unwrap());
        println!("HATCHERY_FUZZ_SEED={seed}");
        Self(fastrand::Rng::with_seed(seed))
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.0.usize(..of.len())]
    }

    /// One of these, changed in a few places; or only pieces, so that they meet in odd ways.
    fn input(&mut self, whole: &[&str], pieces: &[&str]) -> Vec<u8> {
        if self.0.u8(..3) == 0 {
            let count = self.0.usize(..24);
            return (0..count).flat_map(|_| self.piece(pieces)).collect();
        }
        let mut bytes = self.one(whole).as_bytes().to_vec();
        for _ in 0..self.0.usize(..4) {
            let (at, other) = (self.place(&bytes), self.place(&bytes));
            let (from, to) = (at.min(other), at.max(other));
            match self.0.u8(..6) {
                0 => drop(bytes.splice(at..at, self.piece(pieces))),
                1 => drop(bytes.splice(from..to, self.piece(pieces))),
                2 if at < bytes.len() => bytes[at] ^= 1 << self.0.u8(..8),
                3 => bytes.extend_from_within(from..to),
                4 => drop(bytes.drain(from..to)),
                _ => bytes.truncate(at),
            }
        }
        bytes
    }

    fn place(&mut self, bytes: &[u8]) -> usize {
        self.0.usize(..=bytes.len())
    }

    fn piece(&mut self, pieces: &[&str]) -> Vec<u8> {
        if self.0.u8(..5) > 0 {
            return self.one(pieces).as_bytes().to_vec();
        }
        let length = self.0.usize(..20);
        std::iter::repeat_with(|| self.0.u8(..))
            .take(length)
            .collect()
    }
}

const REQUESTS: &[&str] = &[
    "GET /token HTTP/1.1\r\nhost: x\r\n\r\n",
    "GET /token HTTP/1.1\r\nhost: x\r\naccept: application/json\r\nconnection: close\r\n\r\n",
    "GET /token?repo=acme/site HTTP/1.1\r\nhost: x\r\n\r\n",
    "GET /token?repo=other%2Flib HTTP/1.0\r\n\r\n",
    "GET /token?repo=acme/secret HTTP/1.1\r\nhost: x\r\n\r\n",
    "GET /token?repo=acme/secret&repo=acme/site HTTP/1.1\r\nhost: x\r\n\r\n",
    "GET http://localhost/token?repo=acme/secret HTTP/1.1\r\nhost: x\r\nx-repo: acme/site\r\n\r\n",
    "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n",
    "POST /token HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nrepo=",
    "POST /token HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n5\r\nrepo=\r\n0\r\n\r\n",
    "DELETE /token HTTP/1.1\r\nhost: x\r\n\r\n",
];

const REQUEST_PIECES: &[&str] = &[
    "GET ",
    "GET",
    "DELETE",
    "POST",
    "HEAD",
    " ",
    "\r\n",
    "\r\n\r\n",
    "\n",
    "\t",
    "/token",
    "/token ",
    "/healthz",
    "?repo=",
    "repo=acme/site",
    "acme/secret",
    "acme%2Fsecret",
    "ACME/Theme",
    "%2e%2e",
    "%00",
    "+",
    "&",
    "#",
    " HTTP/1.1",
    " HTTP/1.0",
    " HTTP/2.0",
    "host: x",
    ": ",
    "content-length: ",
    "0",
    "5",
    "-1",
    "transfer-encoding: chunked",
    "expect: 100-continue",
    "upgrade: h2c",
    "http://",
    "localhost",
    "..",
    ";",
    "=",
    "\0",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
];

#[tokio::test]
async fn no_request_but_one_for_the_scope_gets_a_token_or_makes_github_be_asked() {
    let bed = Bed::new().await;
    let warm = async || {
        for target in ["/token", "/token?repo=other/lib"] {
            assert_eq!(bed.get(target).await.status, 200);
        }
    };
    warm().await;
    let mut dice = Dice::new();
    let (mut tokens, mut refusals) = (0_u64, 0_u64);
    let mut asked = bed.github.state().seen.len();
    for _ in 0..cases() {
        let bytes = dice.input(REQUESTS, REQUEST_PIECES);
        let text = String::from_utf8_lossy(&bytes);
        let revokes = targets(&text, "DELETE ").any(is_token);
        // To get new tokens takes its time.
        if revokes && dice.0.u16(..2_000) > 0 {
            continue;
        }
        let mut answer = Vec::new();
        let stream = tokio::io::join(&bytes[..], &mut answer);
        bed.server.converse(stream).await;
        let answer = String::from_utf8_lossy(&answer);
        if answer.contains("ghs_") {
            assert!(targets(&text, "GET ").any(is_token), "{text:?}");
            tokens += 1;
        }
        refusals += u64::from(answer.starts_with("HTTP/1.1 4"));
        if revokes {
            bed.pass(3_601);
            warm().await;
            asked = bed.github.state().seen.len();
        }
        let seen = bed.github.state().seen.len();
        assert_eq!(seen, asked, "GitHub was asked: {text:?}");
    }
    println!("{tokens} got a token, {refusals} a refusal");
    assert!(tokens > cases() / 100 && refusals > cases() / 100);
}

/// What follows this verb, wherever it stands.
fn targets<'a>(text: &'a str, verb: &'static str) -> impl Iterator<Item = &'a str> {
    text.match_indices(verb).map(move |(at, _)| {
        let rest = &text[at + verb.len()..];
        rest.split([' ', '\r', '\n']).next().unwrap_or_default()
    })
}

/// Whether the contract has a token for this target, or more. A second opinion: it shares no
/// code with the service.
fn is_token(target: &str) -> bool {
    let target = target.split('#').next().unwrap();
    let target = match target.split_once("://") {
        Some((_, rest)) => rest.find(['/', '?']).map_or("", |at| &rest[at..]),
        None => target,
    };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut repos = query.split('&').filter(|part| !part.is_empty());
    let repo = repos.next().map(decoded);
    let known = |repo: &str| SCOPE.iter().any(|known| known.eq_ignore_ascii_case(repo));
    path == "/token"
        && repos.next().is_none()
        && repo.is_none_or(|repo| repo.strip_prefix("repo=").is_some_and(known))
}

fn decoded(text: &str) -> String {
    let mut bytes = text.bytes();
    let mut out = Vec::new();
    while let Some(byte) = bytes.next() {
        let ahead: Vec<u8> = bytes.clone().take(2).collect();
        let code = std::str::from_utf8(&ahead)
            .ok()
            .filter(|code| code.len() == 2);
        match (
            byte,
            code.and_then(|code| u8::from_str_radix(code, 16).ok()),
        ) {
            (b'%', Some(value)) => {
                out.push(value);
                bytes.nth(1);
            }
            (b'+', _) => out.push(b' '),
            _ => out.push(byte),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

const QUESTIONS: &[&str] = &[
    "protocol=https\nhost=github.com\n\n",
    "protocol=https\nhost=github.com\npath=acme/site.git\nwwwauth[]=Basic realm=\"GitHub\"\n\n",
    "capability[]=authtype\nprotocol=https\nhost=GitHub.com:443\npath=acme/theme/info/lfs\n\n",
    "protocol=https\nhost=github.com\npath=other/lib\nusername=x\npassword=y\n\n",
    "protocol=https\nhost=github.com\npath=acme/secret.git\n\n",
    "protocol=http\nhost=127.0.0.1:9999\npath=acme/site\n\n",
    "protocol=https\nhost=evil.example\npath=acme/site\n\n",
    "protocol=ssh\nhost=github.com\n\n",
];

const QUESTION_PIECES: &[&str] = &[
    "protocol=",
    "host=",
    "path=",
    "https",
    "http",
    "github.com",
    "evil.example",
    "@",
    ":443",
    ":",
    "/",
    "acme/site",
    "acme/secret",
    "..",
    "%2e",
    ".git",
    "/info/lfs",
    "\n",
    "\r\n",
    "\n\n",
    "\0",
    "=",
    " ",
    "url=https://github.com/acme/site",
    "[]",
    "protocol=https\n",
    "host=github.com\n",
];

#[test]
fn no_question_but_one_about_the_drones_repositories_is_answered() {
    let known = DroneFile {
        url: "https://github.com".to_owned(),
        repositories: SCOPE.map(|repo| repo.parse().unwrap()).to_vec(),
    };
    let place = Place::new(known, PathBuf::new()).unwrap();
    let mut dice = Dice::new();
    let (mut asked, mut strange) = (0_u64, 0_u64);
    for _ in 0..cases() {
        let bytes = dice.input(QUESTIONS, QUESTION_PIECES);
        let wish = Question::read(&bytes[..]).and_then(|question| question.wish());
        let decision = wish.map_or(Decision::Nothing, |wish| wish.at(&place));
        if matches!(decision, Decision::Ask(_)) {
            asked += 1;
            assert!(is_ours(&bytes), "{:?}", String::from_utf8_lossy(&bytes));
        }
        strange += u64::from(decision == Decision::Nothing);
    }
    println!("{asked} are answered, {strange} are strange");
    assert!(asked > cases() / 100 && strange > cases() / 100);
}

/// Whether this question is about one of the drone's repositories, or none. A second opinion.
fn is_ours(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let lines: Vec<&str> = text
        .split('\n')
        .map(|line| line.strip_suffix('\r').unwrap_or(line))
        .take_while(|line| !line.is_empty())
        .collect();
    let only = |key: &str| {
        let mut values = lines.iter().filter_map(|line| line.strip_prefix(key));
        let value = values.next();
        values.next().is_none().then_some(value).flatten()
    };
    let host = only("host=").unwrap_or("").to_ascii_lowercase();
    let path = only("path=").unwrap_or("").to_ascii_lowercase();
    let path = path.trim_matches('/');
    only("protocol=") == Some("https")
        && (host == "github.com" || host == "github.com:443")
        && (path.is_empty()
            || SCOPE.iter().any(|repo| {
                let rest = path.strip_prefix(repo).unwrap_or("?");
                let rest = rest.strip_prefix(".git").unwrap_or(rest);
                rest.is_empty() || rest == "/info/lfs" || rest.starts_with("/info/lfs/")
            }))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2_000) })]

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
}
