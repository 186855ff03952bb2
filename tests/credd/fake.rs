//! A GitHub that stands in for the real one: it knows its Apps, installations, repositories and
//! tokens, verifies what it is shown, and keeps to the published description, faults apart.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::clock::TestClock;
use crate::description::{Description, INSTALLATION, MINT, Operation, REVOKE};

/// The App that the fake knows.
pub const APP_ID: &str = "Iv23liTESTTESTTEST01";
/// A GitHub Enterprise Server has its API under a path; so does this one, always.
pub const API_PATH: &str = "/api/v3";

/// What goes wrong on purpose.
#[derive(Clone)]
pub enum Fault {
    /// This status, these headers, this body.
    Answer(u16, Vec<(&'static str, String)>, String),
    /// No answer, ever.
    Hang,
    /// The connection is closed instead of an answer.
    Reset,
    /// An answer that ends in its middle.
    Cut,
    /// The grant is changed before it is given.
    Grant(fn(&mut Value)),
}

/// A request that the fake has seen.
#[derive(Debug, Clone)]
pub struct Seen {
    pub operation: Operation,
    pub path: String,
    pub bearer: String,
    pub body: Value,
    pub status: u16,
    /// The JWT's claims, where it was one.
    pub claims: Value,
}

struct Repository {
    number: u64,
    owner: String,
    name: String,
}

struct Installation {
    number: u64,
    owner: String,
    suspended: bool,
}

pub struct Grant {
    pub text: String,
    pub expires: u64,
    pub revoked: bool,
}

/// What the fake GitHub knows.
pub struct State {
    description: Description,
    repositories: Vec<Repository>,
    installations: Vec<Installation>,
    /// Old full names of repositories, in lower case, to their number.
    moved: HashMap<String, u64>,
    faults: Vec<(Operation, Fault, usize)>,
    pub grants: Vec<Grant>,
    pub seen: Vec<Seen>,
    /// Exchanges that do not keep to the description.
    pub violations: Vec<String>,
    /// How long each answer takes.
    pub delay: Duration,
    next_number: u64,
}

/// The fake and the way to it.
pub struct Fake {
    pub state: Arc<Mutex<State>>,
    pub clock: Arc<TestClock>,
    pub port: u16,
    pub certificate: String,
}

impl Fake {
    /// Starts it on a port of the loopback interface.
    pub async fn start(clock: Arc<TestClock>) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let signed = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::try_from(signed.signing_key.serialize_der());
        let config = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![signed.cert.der().clone()], key.unwrap())
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let fake = Self {
            state: Arc::new(Mutex::new(State::new())),
            clock,
            port,
            certificate: signed.cert.pem(),
        };
        let (state, clock) = (fake.state.clone(), fake.clock.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(
                    stream,
                    acceptor.clone(),
                    state.clone(),
                    clock.clone(),
                ));
            }
        });
        fake
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// The App is installed for this owner on these repositories.
    pub fn install(&self, owner: &str, names: &[&str]) {
        let mut state = self.state();
        let number = state.number();
        state.installations.push(Installation {
            number,
            owner: owner.to_owned(),
            suspended: false,
        });
        for name in names {
            let number = state.number();
            state.repositories.push(Repository {
                number,
                owner: owner.to_owned(),
                name: (*name).to_owned(),
            });
        }
    }

    pub fn suspend(&self, owner: &str) {
        for installation in &mut self.state().installations {
            installation.suspended |= installation.owner == owner;
        }
    }

    /// The App is removed and installed again.
    pub fn reinstall(&self, owner: &str) {
        let mut state = self.state();
        let number = state.number();
        for installation in &mut state.installations {
            if installation.owner == owner {
                installation.number = number;
            }
        }
    }

    pub fn delete(&self, full_name: &str) {
        let full = |repo: &Repository| format!("{}/{}", repo.owner, repo.name);
        self.state()
            .repositories
            .retain(|repo| full(repo) != full_name);
    }

    /// Renames or transfers a repository; the old name redirects from then on.
    pub fn rename(&self, from: &str, to: &str) {
        let mut state = self.state();
        let index = state.find(from).unwrap();
        let (owner, name) = to.split_once('/').unwrap();
        let number = state.repositories[index].number;
        state.repositories[index].owner = owner.to_owned();
        state.repositories[index].name = name.to_owned();
        state.moved.insert(from.to_ascii_lowercase(), number);
    }

    /// From now on, so many times.
    pub fn fault(&self, operation: Operation, fault: Fault, times: usize) {
        self.state().faults.push((operation, fault, times));
    }

    pub fn heal(&self) {
        self.state().faults.clear();
    }

    /// How often this operation was asked for.
    pub fn count(&self, operation: Operation) -> usize {
        let state = self.state();
        state
            .seen
            .iter()
            .filter(|seen| seen.operation == operation)
            .count()
    }

    /// The tokens that are good, by GitHub's clock.
    pub fn live(&self) -> Vec<String> {
        let now = self.clock.seconds();
        let state = self.state();
        let live = state
            .grants
            .iter()
            .filter(|grant| !grant.revoked && grant.expires > now);
        live.map(|grant| grant.text.clone()).collect()
    }
}

impl State {
    fn new() -> Self {
        Self {
            description: Description::load(),
            repositories: Vec::new(),
            installations: Vec::new(),
            moved: HashMap::new(),
            faults: Vec::new(),
            grants: Vec::new(),
            seen: Vec::new(),
            violations: Vec::new(),
            delay: Duration::ZERO,
            next_number: 1000,
        }
    }

    fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    fn find(&self, full_name: &str) -> Option<usize> {
        self.repositories.iter().position(|repo| {
            format!("{}/{}", repo.owner, repo.name).eq_ignore_ascii_case(full_name)
        })
    }

    fn fault(&mut self, operation: Operation) -> Option<Fault> {
        let index = self
            .faults
            .iter()
            .position(|(of, _, times)| *of == operation && *times > 0)?;
        self.faults[index].2 = self.faults[index].2.saturating_sub(1);
        Some(self.faults[index].1.clone())
    }

    /// The answer that the real one would give.
    fn answer(&mut self, request: &Asked, clock: &TestClock) -> Given {
        match request.operation {
            REVOKE => self.revoke(request, clock),
            MINT => self.mint(request, clock),
            _ => self.look_up(request),
        }
    }

    fn revoke(&mut self, request: &Asked, clock: &TestClock) -> Given {
        let now = clock.seconds();
        let grant = self
            .grants
            .iter_mut()
            .find(|grant| grant.text == request.bearer);
        match grant {
            Some(grant) if !grant.revoked && grant.expires > now => {
                grant.revoked = true;
                Given::empty(204)
            }
            _ => Given::message(401, "Bad credentials"),
        }
    }

    fn look_up(&self, request: &Asked) -> Given {
        let segments: Vec<&str> = request.path.trim_matches('/').split('/').collect();
        let index = match segments[..] {
            ["repos", owner, name, "installation"] => {
                let full = format!("{owner}/{name}").to_ascii_lowercase();
                if let Some(number) = self.moved.get(&full) {
                    let mut given = Given::message(301, "Moved Permanently");
                    let to = format!("{API_PATH}/repositories/{number}/installation");
                    given.headers.push(("location", to));
                    return given;
                }
                self.find(&full)
            }
            ["repositories", number, "installation"] => self
                .repositories
                .iter()
                .position(|repo| repo.number.to_string() == number),
            _ => None,
        };
        let owner = index.map(|index| &self.repositories[index].owner);
        let installation = self
            .installations
            .iter()
            .find(|installation| Some(&installation.owner) == owner);
        let Some(installation) = installation else {
            return Given::message(404, "Not Found");
        };
        let mut body = self.description.example("installation");
        body["id"] = json!(installation.number);
        body["account"]["login"] = json!(installation.owner);
        body["suspended_at"] = match installation.suspended {
            true => json!("2025-12-31T00:00:00Z"),
            false => Value::Null,
        };
        Given::json(200, &body)
    }

    fn mint(&mut self, request: &Asked, clock: &TestClock) -> Given {
        let number = request.path.split('/').nth(3).unwrap_or_default();
        let found = self
            .installations
            .iter()
            .find(|installation| installation.number.to_string() == number);
        let Some(Installation {
            owner, suspended, ..
        }) = found
        else {
            return Given::message(404, "Not Found");
        };
        if *suspended {
            return Given::message(403, "This installation has been suspended");
        }
        let list = |key: &str| request.body[key].as_array().cloned();
        let (names, numbers) = (list("repositories"), list("repository_ids"));
        let wanted = |repo: &&Repository| {
            let has = |list: &Option<Vec<Value>>, is: &dyn Fn(&Value) -> bool| {
                list.as_ref().is_some_and(|list| list.iter().any(is))
            };
            let named = |value: &Value| {
                value
                    .as_str()
                    .is_some_and(|n| n.eq_ignore_ascii_case(&repo.name))
            };
            &repo.owner == owner
                && (has(&names, &named)
                    || has(&numbers, &|value| value.as_u64() == Some(repo.number))
                    || (names.is_none() && numbers.is_none()))
        };
        let granted: Vec<&Repository> = self.repositories.iter().filter(wanted).collect();
        let asked = names.as_ref().map_or(0, Vec::len) + numbers.as_ref().map_or(0, Vec::len);
        if granted.len() < asked {
            let mut given = Given::message(
                422,
                "There is at least one repository that does not exist or is not accessible to the parent installation.",
            );
            given.body["documentation_url"] = json!("https://docs.github.com/rest");
            return given;
        }
        let example = self.description.example("installation-token");
        let mut body = example.clone();
        let repositories = granted.iter().map(|repo| {
            let mut value = example["repositories"][0].clone();
            value["id"] = json!(repo.number);
            value["name"] = json!(repo.name);
            value["full_name"] = json!(format!("{}/{}", repo.owner, repo.name));
            value
        });
        body["repositories"] = repositories.collect();
        body["permissions"] = request.body["permissions"].clone();
        body["permissions"]["metadata"] = json!("read");
        let expires = clock.seconds() + 3600;
        body["expires_at"] = json!(rfc3339(expires));
        let text = token_text(self.grants.len());
        body["token"] = json!(text);
        self.grants.push(Grant {
            text,
            expires,
            revoked: false,
        });
        Given::json(201, &body)
    }
}

/// Like GitHub's stateless tokens: about 520 characters, with dots, underscores and hyphens.
/// No 12 characters of it occur in another.
fn token_text(index: usize) -> String {
    use sha2::Digest;
    let mut text = format!("ghs_{}_", 1_000_000 + index);
    for block in 0..11 {
        let hash = sha2::Sha256::digest(format!("{index} {block}"));
        let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        text.push_str(&hex[..44]);
        text.push(['.', '_', '-'][block % 3]);
    }
    text.push_str("end");
    text
}

pub fn rfc3339(seconds: u64) -> String {
    let time = std::time::UNIX_EPOCH + Duration::from_secs(seconds);
    humantime::format_rfc3339_seconds(time).to_string()
}

struct Asked {
    operation: Operation,
    path: String,
    bearer: String,
    body: Value,
}

struct Given {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Value,
}

impl Given {
    fn json(status: u16, body: &Value) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: body.clone(),
        }
    }

    fn message(status: u16, message: &str) -> Self {
        Self::json(status, &json!({"message": message}))
    }

    fn empty(status: u16) -> Self {
        Self::json(status, &Value::Null)
    }
}

/// The claims of this JWT, or why GitHub refuses it.
fn verify(jwt: &str, now: u64) -> Result<Value, &'static str> {
    let mut rules = Validation::new(Algorithm::RS256);
    rules.validate_exp = false;
    rules.required_spec_claims.clear();
    let key = DecodingKey::from_rsa_pem(include_bytes!("keys/public.pem")).unwrap();
    let claims = jsonwebtoken::decode::<Value>(jwt, &key, &rules)
        .map_err(|_| "A JSON web token could not be decoded")?
        .claims;
    match (claims["iat"].as_u64(), claims["exp"].as_u64()) {
        _ if claims["iss"] != APP_ID => Err("Integration not found"),
        (Some(iat), _) if iat > now => Err(
            "'Issued at' claim ('iat') must be an Integer representing the time that the assertion was issued",
        ),
        (_, Some(exp)) if exp > now + 600 => {
            Err("'Expiration time' claim ('exp') is too far in the future")
        }
        (Some(_), Some(exp)) if exp > now => Ok(claims),
        _ => Err(
            "'Expiration time' claim ('exp') must be a numeric value representing the future time at which the assertion expires",
        ),
    }
}

async fn serve(
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

fn reply(
    head: &hyper::http::request::Parts,
    bytes: &Bytes,
    state: &mut State,
    clock: &TestClock,
) -> Reply {
    let header = |name: &str| {
        head.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or("")
    };
    let path = head
        .uri
        .path()
        .strip_prefix(API_PATH)
        .unwrap_or("")
        .to_owned();
    let operation = match (
        head.method.as_str(),
        path.trim_matches('/')
            .split('/')
            .collect::<Vec<_>>()
            .as_slice(),
    ) {
        ("GET", ["repos", _, _, "installation"] | ["repositories", _, "installation"]) => {
            INSTALLATION
        }
        ("POST", ["app", "installations", _, "access_tokens"]) => MINT,
        ("DELETE", ["installation", "token"]) => REVOKE,
        (method, _) => {
            let what = format!("no such operation: {method} {}", head.uri);
            state.violations.push(what);
            return Reply::Given(respond(404, &[], "", clock));
        }
    };
    if header("accept") != "application/vnd.github+json"
        || header("x-github-api-version") != "2022-11-28"
        || !header("user-agent").starts_with("hatchery/")
    {
        state
            .violations
            .push(format!("headers of {operation:?}: {:?}", head.headers));
    }
    if let Err(what) = state.description.check_request(operation, bytes) {
        state
            .violations
            .push(format!("request of {operation:?}: {what}"));
    }
    let asked = Asked {
        operation,
        path: path.clone(),
        bearer: header("authorization")
            .strip_prefix("Bearer ")
            .unwrap_or("")
            .to_owned(),
        body: serde_json::from_slice(bytes).unwrap_or_default(),
    };
    let claims = match operation {
        REVOKE => Ok(Value::Null),
        _ => verify(&asked.bearer, clock.seconds()),
    };
    let mut fault = state.fault(operation);
    let mut given = match &claims {
        Err(message) => Given::message(401, message),
        // A request that is answered otherwise was not carried out.
        Ok(_) if matches!(fault, Some(Fault::Answer(..) | Fault::Reset)) => Given::empty(0),
        Ok(_) => state.answer(&asked, clock),
    };
    if let Some(Fault::Grant(change)) = &fault
        && given.status == 201
    {
        change(&mut given.body);
    }
    let mut text = match &given.body {
        Value::Null => String::new(),
        body => body.to_string(),
    };
    if fault.is_none()
        // A look-up with a bad JWT is refused like anything else, which the description leaves out.
        && !(operation == INSTALLATION && given.status == 401)
        && !(operation == REVOKE && given.status == 401)
        && let Err(what) = state.description.check_answer(operation, given.status, text.as_bytes())
    {
        state
            .violations
            .push(format!("answer to {operation:?}: {what}"));
    }
    if let Some(Fault::Answer(status, headers, body)) = &mut fault {
        given.status = *status;
        given.headers.clone_from(headers);
        text.clone_from(body);
    }
    state.seen.push(Seen {
        operation,
        path,
        bearer: asked.bearer,
        body: asked.body,
        status: given.status,
        claims: claims.unwrap_or_default(),
    });
    match fault {
        Some(Fault::Hang) => Reply::Hang,
        Some(Fault::Reset) => Reply::Reset,
        Some(Fault::Cut) => {
            given
                .headers
                .push(("content-length", (text.len() + 100).to_string()));
            Reply::Given(respond(given.status, &given.headers, &text, clock))
        }
        _ => Reply::Given(respond(given.status, &given.headers, &text, clock)),
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
