//! Connections at the outlet: one request each, and what becomes of it.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::Refusals;
use super::pass::pass;
use super::way::{Closed, Stream, Ways};

/// Connections at once. The CLI fetches one thing after the other, buildx a few at a time.
pub(super) const CONNECTIONS: usize = 64;

/// The longest head, in bytes: the least that hyper takes for a limit. A name and a port need 300.
pub(super) const MAX_HEAD: usize = 8192;

/// How long things may take.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// A request's head: it comes from this server.
    pub head: Duration,
    /// A tunnel in which nothing moves.
    pub idle: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(10),
            idle: Duration::from_secs(5 * 60),
        }
    }
}

const ONLY_TLS: &str = "it was requested without TLS (http://)";

/// A tunnel that was promised to the client: its upgraded connection, and the target.
type Promise = Mutex<Option<(OnUpgrade, Box<dyn Stream>)>>;

/// Accepts connections until it is aborted, which also ends all of them.
pub async fn serve(listener: TcpListener, ways: Arc<Ways>, refusals: Arc<Refusals>, times: Times) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < CONNECTIONS => match accepted {
                Ok((stream, _)) => {
                    let (ways, refusals) = (Arc::clone(&ways), Arc::clone(&refusals));
                    connections.spawn(connection(stream, ways, refusals, times));
                }
                // Out of descriptors: one may be free soon.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(stream: TcpStream, ways: Arc<Ways>, refusals: Arc<Refusals>, times: Times) {
    let promise = Promise::default();
    let service = service_fn(|request| {
        let (ways, refusals, promise) = (&ways, &refusals, &promise);
        async move { Ok::<_, Infallible>(answer(request, ways, refusals, promise).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(times.head)
        .max_buf_size(MAX_HEAD)
        // Each connection is for one request, which is judged before anything else is read.
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
    let promised = promise.into_inner().unwrap_or_else(PoisonError::into_inner);
    let (Ok(()), Some((upgrade, target))) = (served, promised) else {
        return;
    };
    if let Ok(client) = upgrade.await {
        pass(TokioIo::new(client), target, times.idle).await;
    }
}

async fn answer(
    mut request: Request<Incoming>,
    ways: &Ways,
    refusals: &Refusals,
    promise: &Promise,
) -> Response<Full<Bytes>> {
    let refused = |host: &str, why: &str| {
        refusals.add(host, why);
        let what = format!("hatchery does not fetch anything from {host}: {why}");
        told(StatusCode::FORBIDDEN, what)
    };
    let uri = request.uri();
    if request.method() != Method::CONNECT {
        return match uri.authority() {
            Some(authority) => refused(authority.as_str(), ONLY_TLS),
            None => told(StatusCode::FORBIDDEN, "this is a proxy for TLS".to_owned()),
        };
    }
    let authority = uri.authority().cloned();
    let Some((authority, port)) = authority.and_then(|it| it.port_u16().map(|port| (it, port)))
    else {
        let what = "CONNECT needs a host and a port".to_owned();
        return told(StatusCode::BAD_REQUEST, what);
    };
    if authority.as_str().contains('@') {
        let what = "a host name must not contain @".to_owned();
        return told(StatusCode::BAD_REQUEST, what);
    }
    match ways.to(authority.host(), port).await {
        Ok(target) => {
            let upgrade = hyper::upgrade::on(&mut request);
            let mut promise = promise.lock().unwrap_or_else(PoisonError::into_inner);
            *promise = Some((upgrade, target));
            Response::new(Full::default())
        }
        Err(Closed::Refused(why)) => refused(authority.host(), why),
        Err(Closed::Failed(why)) => {
            let what = format!("{} cannot be reached: {why}", authority.host());
            told(StatusCode::BAD_GATEWAY, what)
        }
    }
}

/// An answer in a sentence.
fn told(status: StatusCode, what: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(what + "\n"));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
