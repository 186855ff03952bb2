//! Requests to Docker itself.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST, HeaderMap, HeaderName, UPGRADE};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::sync::watch;

use super::call::{Ask, Call};
use super::stop::{Judged, Stop};
use crate::docker::{self, Login, REGISTRY_AUTH};

/// A body on its way through the door.
pub type Body = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// The largest answer that is read as a whole, in bytes: the list of a large server's images.
const MAX_ANSWER: usize = 16 * 1024 * 1024;

/// Headers of a request that are passed on, beside those that are written for it. Passwords of registries
/// (`X-Registry-Auth`, `X-Registry-Config`) are not among them: the configuration says which are used.
const HANDED_ON: [&str; 4] = [
    "x-docker-expose-session-uuid",
    "x-docker-expose-session-name",
    "x-docker-expose-session-sharedkey",
    "x-docker-expose-session-grpc-method",
];

/// Docker's own socket.
#[derive(Debug)]
pub struct Upstream {
    socket: PathBuf,
    /// What Docker is creating.
    pub making: Making,
}

/// Counts the containers, networks and volumes that Docker is creating. It goes on with them even if the client
/// is gone, so a removal that does not wait for this may miss some.
#[derive(Debug, Clone, Default)]
pub struct Making(Arc<watch::Sender<usize>>);

impl Making {
    /// Waits until nothing is being created.
    pub async fn ended(&self) {
        let mut count = self.0.subscribe();
        let _ = count.wait_for(|count| *count == 0).await;
    }

    fn begin(&self) -> Begun {
        self.0.send_modify(|count| *count += 1);
        Begun(self.clone())
    }
}

struct Begun(Making);

impl Drop for Begun {
    fn drop(&mut self) {
        self.0.0.send_modify(|count| *count -= 1);
    }
}

impl Upstream {
    /// The daemon at this address, as in `DOCKER_HOST`.
    pub fn new(host: &str) -> Self {
        Self {
            socket: docker::socket_of(host).to_owned(),
            making: Making::default(),
        }
    }

    /// Sends a request that was judged. `head` is that of the client's request.
    pub async fn ask(
        &self,
        method: &Method,
        call: &Call,
        head: &HeaderMap,
        body: Body,
    ) -> Judged<Response<Incoming>> {
        self.ask_as(None, method, call, head, body).await
    }

    /// As [`Self::ask`], with a login of this server's for the registry.
    pub async fn ask_as(
        &self,
        login: Option<&Login>,
        method: &Method,
        call: &Call,
        head: &HeaderMap,
        body: Body,
    ) -> Judged<Response<Incoming>> {
        let mut request = Request::builder()
            .method(method)
            .uri(call.target())
            .header(HOST, "docker");
        for name in HANDED_ON {
            for value in head.get_all(HeaderName::from_static(name)) {
                request = request.header(name, value);
            }
        }
        // Docker reads parameters out of a form too, and takes those before the query's.
        if *method == Method::POST || *method == Method::PUT {
            request = request.header(CONTENT_TYPE, call.ask.content_type());
        }
        if let Some(login) = login {
            request = request.header(REGISTRY_AUTH, login.header());
        }
        if let Some(protocol) = head.get(UPGRADE) {
            request = request
                .header(CONNECTION, "Upgrade")
                .header(UPGRADE, protocol);
        }
        let request = request
            .body(body)
            .map_err(|error| Stop::Malformed(error.to_string()))?;
        if matches!(
            call.ask,
            Ask::Create | Ask::CreateNetwork | Ask::CreateVolume
        ) {
            self.make(request).await
        } else {
            self.send(request).await
        }
    }

    /// Sends a request to create something, and waits for the answer even if the caller stops waiting.
    pub async fn make(&self, request: Request<Body>) -> Judged<Response<Incoming>> {
        let (socket, begun) = (self.socket.clone(), self.making.begin());
        let sending = tokio::spawn(async move {
            let _begun = begun;
            send(&socket, request).await
        });
        sending
            .await
            .unwrap_or_else(|error| Err(Stop::Away(error.to_string())))
    }

    /// Sends a request on a connection of its own.
    pub async fn send(&self, request: Request<Body>) -> Judged<Response<Incoming>> {
        send(&self.socket, request).await
    }

    /// What Docker shows of something; `None` if there is no such thing.
    pub async fn show<T: DeserializeOwned>(&self, call: &Call) -> Judged<Option<T>> {
        let answer = self
            .ask(&Method::GET, call, &HeaderMap::new(), empty())
            .await?;
        match answer.status() {
            // Docker finds some names to be none.
            StatusCode::NOT_FOUND | StatusCode::BAD_REQUEST => Ok(None),
            status if status.is_success() => read(answer).await.map(Some),
            status => Err(Stop::Away(format!("status {status}"))),
        }
    }
}

async fn send(socket: &Path, request: Request<Body>) -> Judged<Response<Incoming>> {
    let away = |error: &dyn std::fmt::Display| Stop::Away(error.to_string());
    let stream = UnixStream::connect(socket)
        .await
        .map_err(|error| away(&error))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake::<_, Body>(TokioIo::new(stream))
            .await
            .map_err(|error| away(&error))?;
    // Ends with the answer's body, or with the connection that it has become.
    tokio::spawn(connection.with_upgrades());
    sender
        .send_request(request)
        .await
        .map_err(|error| away(&error))
}

/// The whole body of an answer. Fails if it is larger than 16 MiB.
pub async fn whole(answer: Response<Incoming>) -> Judged<Bytes> {
    let body = Limited::new(answer.into_body(), MAX_ANSWER);
    let body = body.collect().await;
    body.map(http_body_util::Collected::to_bytes)
        .map_err(|error| Stop::Away(error.to_string()))
}

async fn read<T: DeserializeOwned>(answer: Response<Incoming>) -> Judged<T> {
    let bytes = whole(answer).await?;
    serde_json::from_slice(&bytes).map_err(|error| Stop::Away(error.to_string()))
}

/// No body.
pub fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// A body that is there as a whole.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// A body as it arrives.
pub fn passing(body: Incoming) -> Body {
    body.map_err(Into::into).boxed_unsync()
}
