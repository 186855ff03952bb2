//! The way to the fake GitHub: TLS, HTTP, its headers, and what the description has to say of
//! each exchange.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::http::request::Parts;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::state::{Asked, Given, verify};
use super::{API_PATH, Fault, Seen, State};
use crate::clock::TestClock;
use crate::description::{INSTALLATION, MINT, Operation, REVOKE};

pub(super) async fn serve(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    state: Arc<Mutex<State>>,
    clock: Arc<TestClock>,
) {
    let Ok(stream) = acceptor.accept(stream).await else {
        return;
    };
    let service = service_fn(|request| exchange(request, &state, &clock));
    let _ = hyper::server::conn::http1::Builder::new()
        .auto_date_header(false)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

/// One request and its answer. An error closes the connection.
async fn exchange(
    request: Request<Incoming>,
    state: &Mutex<State>,
    clock: &TestClock,
) -> Result<Response<Full<Bytes>>, std::io::Error> {
    let (head, body) = request.into_parts();
    let bytes = body
        .collect()
        .await
        .map_err(std::io::Error::other)?
        .to_bytes();
    let (delay, reply) = {
        let mut state = state.lock().unwrap();
        (state.delay, reply(&head, &bytes, &mut state, clock))
    };
    tokio::time::sleep(delay).await;
    match reply {
        Reply::Given(response) => Ok(response),
        Reply::Reset => Err(std::io::Error::other("reset")),
        Reply::Hang => {
            std::future::pending::<Infallible>().await;
            unreachable!()
        }
    }
}

enum Reply {
    Given(Response<Full<Bytes>>),
    Reset,
    Hang,
}

fn reply(head: &Parts, bytes: &Bytes, state: &mut State, clock: &TestClock) -> Reply {
    let path = head.uri.path().strip_prefix(API_PATH).unwrap_or("");
    let Some(operation) = operation(head.method.as_str(), path) else {
        let what = format!("no such operation: {} {}", head.method, head.uri);
        state.violations.push(what);
        return Reply::Given(respond(404, &[], "", clock));
    };
    check_request(head, bytes, operation, state);
    let asked = Asked {
        operation,
        path: path.to_owned(),
        bearer: bearer(head).to_owned(),
        body: serde_json::from_slice(bytes).unwrap_or_default(),
    };
    let claims = match operation {
        REVOKE => Ok(Value::Null),
        _ => verify(&asked.bearer, clock.seconds()),
    };
    let fault = state.fault(operation);
    let mut given = match (&claims, &fault) {
        (Err(message), _) => Given::message(401, message),
        // A request that is answered otherwise was not carried out.
        (Ok(_), Some(Fault::Answer(..) | Fault::Reset)) => Given::empty(0),
        (Ok(_), _) => state.answer(&asked, clock),
    };
    let mut text = match &given.body {
        Value::Null => String::new(),
        body => body.to_string(),
    };
    // That a credential is refused goes without saying, and the description leaves it out.
    let refused = given.status == 401 && operation != MINT;
    if fault.is_none()
        && !refused
        && let Err(what) = state
            .description
            .check_answer(operation, given.status, text.as_bytes())
    {
        state
            .violations
            .push(format!("answer to {operation:?}: {what}"));
    }
    match &fault {
        Some(Fault::Answer(status, headers, body)) => {
            given.status = *status;
            given.headers.clone_from(headers);
            text.clone_from(body);
        }
        Some(Fault::Grant(change)) if given.status == 201 => {
            change(&mut given.body);
            text = given.body.to_string();
        }
        Some(Fault::Cut) => {
            let length = (text.len() + 100).to_string();
            given.headers.push(("content-length", length));
        }
        _ => {}
    }
    state.seen.push(Seen {
        operation,
        bearer: asked.bearer,
        body: asked.body,
        status: given.status,
        claims: claims.unwrap_or_default(),
    });
    match fault {
        Some(Fault::Hang) => Reply::Hang,
        Some(Fault::Reset) => Reply::Reset,
        _ => Reply::Given(respond(given.status, &given.headers, &text, clock)),
    }
}

fn operation(method: &str, path: &str) -> Option<Operation> {
    let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
    match (method, &segments[..]) {
        ("GET", ["repos", _, _, "installation"] | ["repositories", _, "installation"]) => {
            Some(INSTALLATION)
        }
        ("POST", ["app", "installations", _, "access_tokens"]) => Some(MINT),
        ("DELETE", ["installation", "token"]) => Some(REVOKE),
        _ => None,
    }
}

fn header<'a>(head: &'a Parts, name: &str) -> &'a str {
    let value = head.headers.get(name).and_then(|value| value.to_str().ok());
    value.unwrap_or_default()
}

fn bearer(head: &Parts) -> &str {
    let value = header(head, "authorization");
    value.strip_prefix("Bearer ").unwrap_or_default()
}

/// What GitHub's documentation asks of every request, and what its description says of this one.
fn check_request(head: &Parts, bytes: &Bytes, operation: Operation, state: &mut State) {
    if header(head, "accept") != "application/vnd.github+json"
        || header(head, "x-github-api-version") != "2022-11-28"
        || !header(head, "user-agent").starts_with("hatchery/")
    {
        let what = format!("headers of {operation:?}: {:?}", head.headers);
        state.violations.push(what);
    }
    if let Err(what) = state.description.check_request(operation, bytes) {
        state
            .violations
            .push(format!("request of {operation:?}: {what}"));
    }
}

fn respond(
    status: u16,
    headers: &[(&'static str, String)],
    text: &str,
    clock: &TestClock,
) -> Response<Full<Bytes>> {
    use hatchery::credd::clock::Clock;
    let mut response = Response::builder()
        .status(status)
        .header("content-type", "application/json; charset=utf-8")
        .header("date", httpdate::fmt_http_date(clock.wall()));
    for (name, value) in headers {
        response = response.header(*name, value);
    }
    response.body(Full::from(text.to_owned())).unwrap()
}
