//! The way to the daemon's socket.

use std::path::Path;
use std::sync::Arc;

use bollard::errors::Error as ApiError;
use bollard::{BollardRequest, ClientVersion, body_full};
use hyper::http::request::Parts;
use hyper::{Method, Request};
use hyper_util::client::legacy::{Builder, Client};
use hyper_util::rt::TokioExecutor;
use hyperlocal::UnixConnector;

use super::ANSWER_WITHIN;

/// How many connections wait open for a next question.
const KEPT: usize = 4;

/// Opens nothing yet. bollard's own way connects for each request, which is an eighth of all that a list of
/// fifty drones takes. This one keeps connections open for what only asks (`GET`): Docker may have been
/// restarted in between, and such a request can be sent again ([RFC 9110, 9.2.2]). Whatever changes something
/// is sent once, on a connection of its own.
///
/// [RFC 9110, 9.2.2]: https://www.rfc-editor.org/rfc/rfc9110#section-9.2.2
pub(super) fn open(socket: &Path, version: &ClientVersion) -> Result<bollard::Docker, ApiError> {
    let socket = Arc::<Path>::from(socket);
    let keeping = |count| {
        Builder::new(TokioExecutor::new())
            .pool_max_idle_per_host(count)
            .build(UnixConnector)
    };
    let (kept, once): (Client<_, _>, Client<_, _>) = (keeping(KEPT), keeping(0));
    let send = move |request: BollardRequest| {
        let (mut parts, body) = request.into_parts();
        let asked = parts.uri.path_and_query().map_or("/", |it| it.as_str());
        parts.uri = hyperlocal::Uri::new(&socket, asked).into();
        let (kept, once) = (kept.clone(), once.clone());
        async move {
            if parts.method == Method::GET {
                match kept.request(question(parts.clone())).await {
                    Err(error) if !error.is_connect() => Ok(once.request(question(parts)).await?),
                    answer => Ok(answer?),
                }
            } else {
                Ok(once.request(Request::from_parts(parts, body)).await?)
            }
        }
    };
    // bollard wants one; `send` puts the socket in its place.
    let host = Some("http://docker");
    bollard::Docker::connect_with_custom_transport(send, host, ANSWER_WITHIN.as_secs(), version)
}

fn question(parts: Parts) -> BollardRequest {
    Request::from_parts(parts, body_full(hyper::body::Bytes::new()))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::UnixListener;

    use super::*;

    const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK";

    /// A Docker that gives these answers on each connection and closes it, and how often it was asked.
    fn docker(socket: &Path, answers: &'static [&str]) -> Arc<AtomicUsize> {
        let listener = UnixListener::bind(socket).unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        tokio::spawn(async move {
            let mut request = [0; 4096];
            loop {
                let (mut connection, _) = listener.accept().await.unwrap();
                for answer in answers {
                    assert_ne!(connection.read(&mut request).await.unwrap(), 0);
                    count.fetch_add(1, Ordering::SeqCst);
                    connection.write_all(answer.as_bytes()).await.unwrap();
                }
            }
        });
        asked
    }

    #[tokio::test]
    async fn a_question_is_asked_again_where_a_kept_connection_was_lost() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("docker.sock");
        let asked = docker(&socket, &[OK, ""]);
        let api = open(&socket, bollard::API_DEFAULT_VERSION).unwrap();
        for so_far in [1, 3] {
            assert_eq!(api.ping().await.unwrap(), "OK");
            assert_eq!(asked.load(Ordering::SeqCst), so_far);
        }
    }

    #[tokio::test]
    async fn what_changes_something_is_asked_for_once() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("docker.sock");
        let asked = docker(&socket, &[""]);
        let api = open(&socket, bollard::API_DEFAULT_VERSION).unwrap();
        api.stop_container("drone", None).await.unwrap_err();
        assert_eq!(asked.load(Ordering::SeqCst), 1);
    }
}
