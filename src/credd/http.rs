//! The requests on a drone's socket and their answers. Nothing in a request widens the scope.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Body, Bytes};
use hyper::header::{
    ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER,
};
use hyper::{Method, Request, Response, StatusCode};
use url::form_urlencoded;

use super::audit::rfc3339;
use super::failure::{Failure, presentable};
use super::keeper::Keeper;
use super::mint::Minted;

/// The largest head of a request, in bytes: request line and headers.
pub const MAX_HEAD: usize = 8 * 1024;
/// The most headers in a request.
pub const MAX_HEADERS: usize = 64;

type Answer = Response<Full<Bytes>>;

/// What is wrong with a request, before any token is thought of.
#[derive(Debug, PartialEq, Eq)]
enum Wrong {
    Path,
    Method(&'static str),
    Body,
    Head,
    Parameter(String),
    Twice,
}

/// What a request is for.
#[derive(Debug, PartialEq, Eq)]
enum Wish {
    Token(Option<String>),
    Revoke,
    Health,
}

/// Answers one request.
pub async fn answer<B: Body>(keeper: Arc<Keeper>, request: Request<B>) -> Answer {
    let wish = match wish(&request) {
        Ok(wish) => wish,
        Err(wrong) => return wrong.answer(),
    };
    match wish {
        Wish::Health => plain(StatusCode::OK, "ok\n".into(), "text/plain"),
        Wish::Token(repo) => {
            let json = wants_json(request.headers());
            match keeper.token(repo.as_deref()).await {
                Ok(minted) if json => token_json(&minted),
                Ok(minted) => {
                    let text = minted.token.secret().expose().to_owned();
                    plain(StatusCode::OK, text, "text/plain")
                }
                Err(failure) => failed(&failure),
            }
        }
        Wish::Revoke => match keeper.revoke_all().await {
            Ok(()) => {
                let mut answer = Response::new(Full::default());
                *answer.status_mut() = StatusCode::NO_CONTENT;
                answer
            }
            Err(failures) => error(
                StatusCode::BAD_GATEWAY,
                "not-revoked",
                &format!(
                    "GitHub did not revoke {}; hatchery has forgotten it and retries the revocation in the \
                     background",
                    failures.join("; ")
                ),
            ),
        },
    }
}

fn wish<B: Body>(request: &Request<B>) -> Result<Wish, Wrong> {
    let headers = request.headers();
    let head: usize = request
        .uri()
        .path_and_query()
        .map_or(0, |text| text.as_str().len())
        + headers
            .iter()
            // Colon, space and line end are part of it.
            .map(|(name, value)| name.as_str().len() + value.len() + 4)
            .sum::<usize>();
    if head > MAX_HEAD || headers.len() > MAX_HEADERS {
        return Err(Wrong::Head);
    }
    let (get, delete) = (Method::GET, Method::DELETE);
    match (request.uri().path(), request.method()) {
        ("/token", method) if *method == get || *method == delete => {}
        ("/healthz", method) if *method == get => {}
        ("/token", _) => return Err(Wrong::Method("GET, DELETE")),
        ("/healthz", _) => return Err(Wrong::Method("GET")),
        _ => return Err(Wrong::Path),
    }
    if !request.body().is_end_stream() {
        return Err(Wrong::Body);
    }
    let takes_repo = request.uri().path() == "/token" && *request.method() == get;
    let mut repo = None;
    for (key, value) in form_urlencoded::parse(request.uri().query().unwrap_or("").as_bytes()) {
        if key != "repo" || !takes_repo {
            return Err(Wrong::Parameter(presentable(&key)));
        }
        if repo.replace(value.into_owned()).is_some() {
            return Err(Wrong::Twice);
        }
    }
    Ok(match request.uri().path() {
        "/healthz" => Wish::Health,
        _ if takes_repo => Wish::Token(repo),
        _ => Wish::Revoke,
    })
}

impl Wrong {
    fn answer(&self) -> Answer {
        let (status, code, message) = match self {
            Self::Path => (
                StatusCode::NOT_FOUND,
                "no-such-path",
                "use /token or /healthz".to_owned(),
            ),
            Self::Method(allowed) => (
                StatusCode::METHOD_NOT_ALLOWED,
                "no-such-method",
                format!("use {allowed}"),
            ),
            Self::Body => (
                StatusCode::PAYLOAD_TOO_LARGE,
                "body-not-taken",
                "send the request without a body".to_owned(),
            ),
            Self::Head => (
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "head-too-large",
                format!("send at most {MAX_HEADERS} headers and {MAX_HEAD} bytes"),
            ),
            Self::Parameter(name) => (
                StatusCode::BAD_REQUEST,
                "no-such-parameter",
                format!("{name:?} is not a parameter; `GET /token` takes `repo=org/name`"),
            ),
            Self::Twice => (
                StatusCode::BAD_REQUEST,
                "parameter-twice",
                "give `repo` once".to_owned(),
            ),
        };
        let mut answer = error(status, code, &message);
        if let Self::Method(allowed) = self {
            answer
                .headers_mut()
                .insert(ALLOW, HeaderValue::from_static(allowed));
        }
        answer
    }
}

/// Whether JSON is named in `Accept` (RFC 9110, section 12.5.1), and liked no less than plain text.
fn wants_json(headers: &HeaderMap) -> bool {
    let weight = |wanted: &str| {
        headers
            .get_all(ACCEPT)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|range| {
                let mut parts = range.split(';').map(str::trim);
                parts
                    .next()
                    .filter(|name| name.eq_ignore_ascii_case(wanted))?;
                let weight = parts.find_map(|part| part.strip_prefix("q="));
                Some(weight.map_or(1.0, |weight| weight.parse().unwrap_or(0.0)))
            })
            .fold(0.0, f32::max)
    };
    let json = weight("application/json");
    json > 0.0 && json >= weight("text/plain")
}

fn token_json(minted: &Minted) -> Answer {
    let body = serde_json::json!({
        "token": minted.token.secret().expose(),
        "expires_at": rfc3339(minted.token.expires_at()),
        "repositories": minted.repositories,
        "permissions": minted.token.permissions(),
    });
    plain(StatusCode::OK, body.to_string(), "application/json")
}

fn failed(failure: &Failure) -> Answer {
    let status = StatusCode::from_u16(failure.status()).unwrap_or(StatusCode::BAD_GATEWAY);
    let mut answer = error(status, failure.code(), &failure.to_string());
    if let Some(wait) = failure.retry_after() {
        let seconds = wait.max(Duration::from_secs(1)).as_secs();
        answer
            .headers_mut()
            .insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    answer
}

fn error(status: StatusCode, code: &str, message: &str) -> Answer {
    let body = serde_json::json!({"error": {"code": code, "message": message}});
    plain(status, body.to_string(), "application/json")
}

fn plain(status: StatusCode, body: String, kind: &'static str) -> Answer {
    let mut answer = Response::new(Full::from(body));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
