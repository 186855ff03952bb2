//! What the devcontainer CLI asks docker without changing anything. hatchery, which is called in docker's place,
//! asks Docker's Engine API itself: that takes less time than the docker command takes to start.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use reqwest::{Client, RequestBuilder, Response, StatusCode, Url};
use serde::Deserialize;

use crate::http;

/// The largest answer, in bytes: as much as the door reads of Docker's.
const MAX_ANSWER: usize = 16 * 1024 * 1024;

/// How long an answer may take. Events come for as long as the CLI reads them.
const ANSWER_WITHIN: Duration = Duration::from_secs(120);
const EVENTS_FOR: Duration = Duration::from_secs(24 * 60 * 60);

/// How many characters of an id `docker ps` shows.
const SHORT: usize = 12;

/// A question as the devcontainer CLI puts it, with where it is answered. Any other is left to docker.
#[derive(Debug, PartialEq, Eq)]
pub enum Question {
    /// Docker's version.
    Version(Url),
    /// The ids of containers.
    Containers(Url),
    /// All that Docker knows of containers or images.
    Inspect(Vec<Url>),
    /// What happens from now on.
    Events(Url),
}

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
    /// Reads the arguments of `docker`; `None` if docker has to be asked.
    pub fn read(args: &[OsString]) -> Option<Self> {
        let args = args.iter().map(|arg| arg.to_str());
        let args = args.collect::<Option<Vec<_>>>()?;
        match args.as_slice() {
            ["version", "--format", "{{.Server.Version}}"] => url("version").map(Self::Version),
            ["ps", "-q", "-a", rest @ ..] => {
                let mut containers = filtered("containers/json", rest)?;
                containers.query_pairs_mut().append_pair("all", "1");
                Some(Self::Containers(containers))
            }
            ["ps", "-q", rest @ ..] => filtered("containers/json", rest).map(Self::Containers),
            [
                "inspect",
                "--type",
                kind @ ("container" | "image"),
                names @ ..,
            ] => {
                if names.is_empty() || !names.iter().all(|name| is_plain(name)) {
                    return None;
                }
                let urls = names
                    .iter()
                    .map(|name| url(&format!("{kind}s/{name}/json")));
                urls.collect::<Option<_>>().map(Self::Inspect)
            }
            ["events", "--format", "{{json .}}", rest @ ..] => {
                filtered("events", rest).map(Self::Events)
            }
            _ => None,
        }
    }

    /// Asks at this socket and writes the answer as docker would. `None` if nothing was written, so that docker
    /// can be asked instead: it also has the words for what is not there.
    pub fn answer(self, socket: &Path, out: &mut impl Write) -> Option<ExitCode> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.ok()?.block_on(self.ask(socket, out))
    }

    async fn ask(self, socket: &Path, out: &mut impl Write) -> Option<ExitCode> {
        let docker = http::unix_client(socket, ANSWER_WITHIN).ok()?;
        let text = match self {
            Self::Version(url) => {
                let body = whole(&docker, url).await?;
                serde_json::from_slice::<Version>(&body).ok()?.version + "\n"
            }
            Self::Containers(url) => {
                let body = whole(&docker, url).await?;
                let listed = serde_json::from_slice::<Vec<Listed>>(&body).ok()?;
                let shown = |one: &Listed| one.id.get(..SHORT).unwrap_or(&one.id).to_owned() + "\n";
                listed.iter().map(shown).collect::<String>()
            }
            Self::Inspect(urls) => {
                let mut answers = Vec::new();
                for url in urls {
                    answers.push(String::from_utf8(whole(&docker, url).await?).ok()?);
                }
                format!("[{}]\n", answers.join(","))
            }
            Self::Events(url) => {
                let events = answered(docker.get(url).timeout(EVENTS_FOR)).await?;
                return Some(status(follow(events, out).await));
            }
        };
        Some(status(write(out, text.as_bytes())))
    }
}

/// The names go into a path.
fn is_plain(name: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"._-:@/".contains(&byte);
    let part = |part: &str| part.starts_with(|first: char| first.is_ascii_alphanumeric());
    name.bytes().all(known) && name.split('/').all(part)
}

/// The address of a list, narrowed by any number of `--filter KEY=VALUE`; `None` if there is another argument.
fn filtered(path: &str, args: &[&str]) -> Option<Url> {
    let mut filters = BTreeMap::<_, BTreeMap<_, _>>::new();
    for pair in args.chunks(2) {
        let ["--filter", filter] = pair else {
            return None;
        };
        let (key, value) = filter.split_once('=')?;
        filters.entry(key).or_default().insert(value, true);
    }
    let mut url = url(path)?;
    let filters = serde_json::json!(filters).to_string();
    url.query_pairs_mut().append_pair("filters", &filters);
    Some(url)
}

/// The host is not used: the socket takes its place.
fn url(path: &str) -> Option<Url> {
    Url::parse(&format!("http://docker/{path}")).ok()
}

async fn answered(question: RequestBuilder) -> Option<Response> {
    let answer = question.send().await.ok()?;
    (answer.status() == StatusCode::OK).then_some(answer)
}

async fn whole(docker: &Client, url: Url) -> Option<Vec<u8>> {
    let answer = answered(docker.get(url)).await?;
    http::body(answer, MAX_ANSWER).await.ok()
}

/// Writes events as they come, until Docker ends. False if the connection breaks, or if nothing reads them any more.
async fn follow(mut events: Response, out: &mut impl Write) -> bool {
    loop {
        match events.chunk().await {
            Ok(Some(chunk)) if write(out, &chunk) => {}
            Ok(None) => return true,
            _ => return false,
        }
    }
}

fn write(out: &mut impl Write, bytes: &[u8]) -> bool {
    out.write_all(bytes).and_then(|()| out.flush()).is_ok()
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
            format!(
                "HTTP/1.1 {status} .\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
            )
        };
        let answers: Vec<_> = answers.iter().map(answer).collect();
        let docker = thread::spawn(move || {
            let mut asked = Vec::new();
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
                let mut next = || lines.next().unwrap().unwrap();
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
