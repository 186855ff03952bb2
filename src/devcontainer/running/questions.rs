//! What the devcontainer CLI asks docker only to know it, answered from Docker's Engine API by whoever was called
//! as `docker`. The docker command takes some forty milliseconds to start, and a spawn asks seven times.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::HOST;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::UnixStream;
use url::form_urlencoded;

/// The largest answer, in bytes: as much as the door reads of Docker's.
const MAX_ANSWER: usize = 16 * 1024 * 1024;

/// How many characters of an id `docker ps` shows.
const SHORT: usize = 12;

/// A question as the devcontainer CLI puts it. Whatever is put otherwise is left to docker.
#[derive(Debug, PartialEq, Eq)]
pub enum Question {
    /// Docker's version.
    Version,
    /// The ids of containers, of those that do not run too.
    Containers { all: bool, filters: Filters },
    /// What containers or images are, all that Docker knows.
    Inspect { of: Of, names: Vec<String> },
    /// What happens from now on.
    Events(Filters),
}

/// What is inspected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    Containers,
    Images,
}

/// Values by the key that they are of, as the Engine API takes them.
type Filters = BTreeMap<String, BTreeMap<String, bool>>;

/// Of a container in a list.
#[derive(Deserialize)]
struct Listed {
    #[serde(rename = "Id")]
    id: String,
}

/// Of Docker's version.
#[derive(Deserialize)]
struct Version {
    #[serde(rename = "Version")]
    version: String,
}

impl Question {
    /// The question that these arguments of `docker` are.
    pub fn read(args: &[OsString]) -> Option<Self> {
        let args = args.iter().map(|arg| arg.to_str());
        let args = args.collect::<Option<Vec<_>>>()?;
        match args.as_slice() {
            ["version", "--format", "{{.Server.Version}}"] => Some(Self::Version),
            ["ps", "-q", "-a", rest @ ..] => containers(true, rest),
            ["ps", "-q", rest @ ..] => containers(false, rest),
            ["inspect", "--type", "container", names @ ..] => inspect(Of::Containers, names),
            ["inspect", "--type", "image", names @ ..] => inspect(Of::Images, names),
            ["events", "--format", "{{json .}}", rest @ ..] => filters(rest).map(Self::Events),
            _ => None,
        }
    }

    /// Asks at this socket and writes the answer as docker would. Nothing where nothing was written, so that
    /// docker can be asked instead: it also has the words for what is not there.
    pub fn answer(&self, socket: &Path, out: &mut impl Write) -> Option<ExitCode> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build();
        runtime.ok()?.block_on(self.ask(socket, out))
    }

    async fn ask(&self, socket: &Path, out: &mut impl Write) -> Option<ExitCode> {
        let stream = TokioIo::new(UnixStream::connect(socket).await.ok()?);
        let (mut docker, connection) = handshake(stream).await.ok()?;
        tokio::spawn(connection);
        let text = match self {
            Self::Version => {
                let body = whole(&mut docker, "/version").await?;
                serde_json::from_slice::<Version>(&body).ok()?.version + "\n"
            }
            Self::Containers { all, filters } => {
                let all = if *all { "&all=1" } else { "" };
                let target = with_filters("/containers/json", filters) + all;
                let body = whole(&mut docker, &target).await?;
                let listed = serde_json::from_slice::<Vec<Listed>>(&body).ok()?;
                let shown = |one: &Listed| one.id.get(..SHORT).unwrap_or(&one.id).to_owned() + "\n";
                listed.iter().map(shown).collect::<String>()
            }
            Self::Inspect { of, names } => {
                let mut answers = Vec::new();
                for name in names {
                    let kind = match of {
                        Of::Containers => "containers",
                        Of::Images => "images",
                    };
                    let body = whole(&mut docker, &format!("/{kind}/{name}/json")).await?;
                    answers.push(String::from_utf8(body.into()).ok()?);
                }
                format!("[{}]\n", answers.join(","))
            }
            Self::Events(filters) => {
                let events = get(&mut docker, &with_filters("/events", filters)).await?;
                return Some(follow(events.into_body(), out).await);
            }
        };
        let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        Some(status(written.is_ok()))
    }
}

fn containers(all: bool, rest: &[&str]) -> Option<Question> {
    let filters = filters(rest)?;
    Some(Question::Containers { all, filters })
}

fn inspect(of: Of, names: &[&str]) -> Option<Question> {
    // Names go into a path.
    let plain = |name: &&str| {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || b"._-:@/".contains(&byte);
        let part = |part: &str| part.starts_with(|first: char| first.is_ascii_alphanumeric());
        name.bytes().all(known) && name.split('/').all(part)
    };
    let good = !names.is_empty() && names.iter().all(plain);
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    good.then_some(Question::Inspect { of, names })
}

/// `--filter KEY=VALUE`, as often as it comes, and nothing else.
fn filters(args: &[&str]) -> Option<Filters> {
    let mut filters = Filters::new();
    for pair in args.chunks(2) {
        let ["--filter", filter] = pair else {
            return None;
        };
        let (key, value) = filter.split_once('=')?;
        let values = filters.entry(key.to_owned()).or_default();
        values.insert(value.to_owned(), true);
    }
    Some(filters)
}

fn with_filters(path: &str, filters: &Filters) -> String {
    let filters = serde_json::json!(filters).to_string();
    let encoded: String = form_urlencoded::byte_serialize(filters.as_bytes()).collect();
    format!("{path}?filters={encoded}")
}

async fn get(docker: &mut SendRequest<Empty<Bytes>>, target: &str) -> Option<Response<Incoming>> {
    docker.ready().await.ok()?;
    let request = Request::get(target)
        .header(HOST, "docker")
        .body(Empty::new());
    let answer = docker.send_request(request.ok()?).await.ok()?;
    (answer.status() == StatusCode::OK).then_some(answer)
}

async fn whole(docker: &mut SendRequest<Empty<Bytes>>, target: &str) -> Option<Bytes> {
    let body = get(docker, target).await?.into_body();
    let body = Limited::new(body, MAX_ANSWER).collect().await.ok()?;
    Some(body.to_bytes())
}

/// Writes what comes, as it comes, for as long as somebody reads it.
async fn follow(mut events: Incoming, out: &mut impl Write) -> ExitCode {
    while let Some(frame) = events.frame().await {
        let Ok(frame) = frame else {
            return ExitCode::FAILURE;
        };
        if let Some(data) = frame.data_ref()
            && out.write_all(data).and_then(|()| out.flush()).is_err()
        {
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn status(good: bool) -> ExitCode {
    if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};
    use std::os::unix::net::UnixListener;
    use std::thread;

    use super::*;

    fn read(args: &[&str]) -> Option<Question> {
        let args: Vec<OsString> = args.iter().map(OsString::from).collect();
        Question::read(&args)
    }

    /// What is written to a question where Docker gives these answers one after the other, and what it was asked.
    fn answered(args: &[&str], answers: &[(u16, &str)]) -> (Option<String>, Vec<String>) {
        let place = tempfile::tempdir().unwrap();
        let socket = place.path().join("docker.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let answer = |(status, body): &(u16, &str)| {
            let length = body.len();
            format!("HTTP/1.1 {status} .\r\nContent-Length: {length}\r\n\r\n{body}")
        };
        let answers: Vec<_> = answers.iter().map(answer).collect();
        let docker = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let mut next = || lines.next().unwrap().unwrap();
            let mut asked = Vec::new();
            for answer in answers {
                asked.push(next());
                while !next().is_empty() {}
                stream.write_all(answer.as_bytes()).unwrap();
            }
            asked
        });
        let mut out = Vec::new();
        let done = read(args).unwrap().answer(&socket, &mut out);
        let out = String::from_utf8(out).unwrap();
        assert!(done.is_some() || out.is_empty(), "{args:?}: {out}");
        (done.map(|_| out), docker.join().unwrap())
    }

    #[test]
    fn what_the_cli_asks_is_answered_as_docker_would() {
        let version = answered(
            &["version", "--format", "{{.Server.Version}}"],
            &[(200, r#"{"Version":"26.1.5+dfsg1"}"#)],
        );
        assert_eq!(version.0.unwrap(), "26.1.5+dfsg1\n");
        assert_eq!(version.1, ["GET /version HTTP/1.1"]);

        let two = r#"[{"Id":"0123456789abcdef"},{"Id":"x"}]"#;
        for (args, filters) in [
            (
                &[
                    "ps",
                    "-q",
                    "-a",
                    "--filter",
                    "label=a=b",
                    "--filter",
                    "label=c=d",
                ][..],
                "%7B%22label%22%3A%7B%22a%3Db%22%3Atrue%2C%22c%3Dd%22%3Atrue%7D%7D&all=1",
            ),
            (&["ps", "-q"], "%7B%7D"),
        ] {
            let (written, asked) = answered(args, &[(200, two)]);
            assert_eq!(written.unwrap(), "0123456789ab\nx\n");
            let wanted = format!("GET /containers/json?filters={filters} HTTP/1.1");
            assert_eq!(asked, [wanted]);
        }

        let image = answered(
            &["inspect", "--type", "image", "ghcr.io/a/b:c"],
            &[(200, r#"{"Id":"sha256:1"}"#)],
        );
        assert_eq!(image.0.unwrap(), "[{\"Id\":\"sha256:1\"}]\n");
        assert_eq!(image.1, ["GET /images/ghcr.io/a/b:c/json HTTP/1.1"]);

        let containers = answered(
            &["inspect", "--type", "container", "12", "ab"],
            &[(200, "{}"), (200, "1")],
        );
        assert_eq!(containers.0.unwrap(), "[{},1]\n");
        assert_eq!(containers.1[1], "GET /containers/ab/json HTTP/1.1");

        let start = "{\"Action\":\"start\"}\n";
        let events = answered(
            &[
                "events",
                "--format",
                "{{json .}}",
                "--filter",
                "event=start",
            ],
            &[(200, start)],
        );
        assert_eq!(events.0.unwrap(), start);
        let asked = "GET /events?filters=%7B%22event%22%3A%7B%22start%22%3Atrue%7D%7D HTTP/1.1";
        assert_eq!(events.1, [asked]);
    }

    #[test]
    fn what_is_not_there_or_not_understood_is_left_to_docker() {
        let (written, _) = answered(
            &["inspect", "--type", "container", "12", "ab"],
            &[(200, "{}"), (404, "{}")],
        );
        assert_eq!(written, None);
        let (written, _) = answered(&["ps", "-q"], &[(200, "nonsense")]);
        assert_eq!(written, None);
        let away = read(&["ps", "-q"]).unwrap();
        assert!(
            away.answer(Path::new("/nowhere"), &mut Vec::new())
                .is_none()
        );
        for args in [
            &["ps"][..],
            &["ps", "-q", "--no-trunc"],
            &["ps", "-q", "--filter"],
            &["ps", "-q", "--filter", "label"],
            &["version"],
            &["inspect", "12"],
            &["inspect", "--type", "image"],
            &["inspect", "--type", "image", "-f"],
            &["inspect", "--type", "image", "../containers/json"],
            &["inspect", "--type", "image", "a//b"],
            &["inspect", "--type", "image", "a?b"],
            &["inspect", "--type", "volume", "a"],
            &["events"],
            &["run", "-q"],
        ] {
            assert_eq!(read(args), None, "{args:?}");
        }
    }
}
