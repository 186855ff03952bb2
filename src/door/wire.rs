//! Reads whole bodies of requests and answers, and removes headers that concern only one of the two
//! connections.

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, TRANSFER_ENCODING, UPGRADE,
};
use hyper::{Request, Response, StatusCode};
use serde_json::Value;

use super::stop::{Judged, Stop};
use super::upstream::{Body, full, passing, whole};

/// The largest body that is judged, in bytes. An image's metadata in a label is the most of it.
const MAX_BODY: usize = 1024 * 1024;

/// The upgraded connection, if the client asks for another protocol on this one.
pub fn becomes_another<T>(request: &mut Request<T>) -> Option<hyper::upgrade::OnUpgrade> {
    let asked = request.headers().contains_key(UPGRADE);
    asked.then(|| hyper::upgrade::on(request))
}

/// Reads the whole body of a request. Fails if it is larger than 1 MiB.
pub async fn taken(request: Request<Incoming>) -> Judged<(Request<()>, Bytes)> {
    let (head, body) = request.into_parts();
    let body = Limited::new(body, MAX_BODY).collect().await;
    let body = body.map_err(|error| Stop::Malformed(error.to_string()))?;
    Ok((Request::from_parts(head, ()), body.to_bytes()))
}

/// Removes the headers that describe a request's body, after the body was replaced.
pub fn resized(mut request: Request<Body>) -> Request<Body> {
    for name in [CONTENT_LENGTH, TRANSFER_ENCODING, CONNECTION] {
        request.headers_mut().remove(name);
    }
    request
}

/// Reads the whole of Docker's answer. Returns the answer to pass on, and its body.
pub async fn collected(answer: Response<Incoming>) -> Judged<(Response<Body>, Bytes)> {
    let status = answer.status();
    let kind = answer.headers().get(CONTENT_TYPE).cloned();
    let bytes = whole(answer).await?;
    let mut answer = Response::new(full(bytes.clone()));
    *answer.status_mut() = status;
    if let Some(kind) = kind {
        answer.headers_mut().insert(CONTENT_TYPE, kind);
    }
    Ok((answer, bytes))
}

/// Docker's answer as it arrives.
pub fn plain(answer: Response<Incoming>) -> Response<Body> {
    replaced(answer, passing)
}

/// Docker's answer with another body.
pub fn replaced(answer: Response<Incoming>, with: impl FnOnce(Incoming) -> Body) -> Response<Body> {
    let (mut head, body) = answer.into_parts();
    // Between Docker and the door alone.
    head.headers.remove(CONNECTION);
    head.headers.remove(TRANSFER_ENCODING);
    Response::from_parts(head, with(body))
}

/// An answer of the door's own.
pub fn told(status: StatusCode, what: &Value) -> Response<Body> {
    let mut answer = Response::new(full(what.to_string()));
    *answer.status_mut() = status;
    let kind = HeaderValue::from_static("application/json");
    answer.headers_mut().insert(CONTENT_TYPE, kind);
    answer
}
