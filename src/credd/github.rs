//! GitHub's API, as far as tokens need it: one call with its retries, its redirects and its clock.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use reqwest::header::{DATE, HeaderMap, LOCATION, RETRY_AFTER};
use reqwest::{Certificate, Client, Method, StatusCode, redirect};
use serde::Deserialize;
use tokio::time::{Instant, sleep};
use url::Url;

use super::clock::GithubTime;
use super::failure::{Failure, presentable};
use super::jwt::AppKey;
use crate::error::{Code, Error, Result, host_io};
use crate::http::{self, BodyError};
use crate::secret::Secret;

/// The most that is read of an answer, in bytes: a grant for 500 repositories is about 3 MB.
const MAX_ANSWER: usize = 8 * 1024 * 1024;
/// How many redirects are followed.
const MAX_HOPS: usize = 3;
/// When to come back to a GitHub that is down and does not say when.
const AWAY_WAIT: Duration = Duration::from_secs(10);
/// How long to wait on a rate limit that does not say how long ("wait for at least one minute",
/// says GitHub's documentation).
const LIMIT_WAIT: Duration = Duration::from_secs(60);
/// The longest wait on a rate limit; GitHub's windows are an hour.
const MAX_LIMIT_WAIT: Duration = Duration::from_secs(3600);
/// The version of GitHub's API that this is written against.
const API_VERSION: &str = "2022-11-28";

/// How long GitHub is waited for.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For one answer.
    pub attempt: Duration,
    /// How often a request is sent when GitHub is silent or down.
    pub attempts: u32,
    /// Before the second attempt, about; twice as long before the third.
    pub pause: Duration,
    /// For all that one token needs: look-up, mint, retries.
    pub total: Duration,
    /// Before a failed revocation is tried again; twice as long each time.
    pub revocation: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        // A drone has its answer within 15 s, whatever GitHub does.
        Self {
            attempt: Duration::from_millis(4_300),
            attempts: 3,
            pause: Duration::from_millis(250),
            total: Duration::from_secs(14),
            revocation: Duration::from_secs(5),
        }
    }
}

/// Who asks.
pub enum Auth<'a> {
    /// The App, by a JWT.
    App,
    /// The bearer of an installation access token.
    Token(&'a Secret),
}

/// What GitHub answered, when it was not about rates, clocks or outages.
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The body, whole.
    pub body: Vec<u8>,
    /// Where the answer came from, if GitHub had sent us on.
    pub moved_to: Option<Url>,
}

impl Answer {
    /// This answer as a refusal.
    pub fn refusal(&self) -> Failure {
        Failure::Refused {
            status: self.status,
            message: message_of(&self.body),
        }
    }
}

/// GitHub's API and the App that speaks to it.
pub struct Github {
    client: Client,
    api: Url,
    app_id: String,
    key: AppKey,
    time: GithubTime,
    patience: Patience,
}

impl Github {
    /// The API at `api`, spoken to over TLS; `ca_file` holds certificates to trust beside the
    /// system's.
    pub fn new(
        api: Url,
        app_id: String,
        key: AppKey,
        ca_file: Option<&Path>,
        time: GithubTime,
        patience: Patience,
    ) -> Result<Arc<Self>> {
        let mut builder = http::builder(patience.total)
            .https_only(true)
            .redirect(redirect::Policy::none())
            .pool_idle_timeout(Duration::from_secs(20));
        if let Some(path) = ca_file {
            let pem = std::fs::read(path).map_err(|error| host_io("read", path, error))?;
            let certificates = Certificate::from_pem_bundle(&pem).unwrap_or_default();
            if certificates.is_empty() {
                return Err(Error::new(
                    Code::ConfigInvalid,
                    format!("{} contains no certificate", path.display()),
                )
                .hint("github.ca_file must name a file of PEM certificates"));
            }
            builder = builder.tls_certs_merge(certificates);
        }
        let client = builder.build().map_err(http::cannot_build)?;
        Ok(Arc::new(Self {
            client,
            api,
            app_id,
            key,
            time,
            patience,
        }))
    }

    /// GitHub's time.
    pub const fn time(&self) -> &GithubTime {
        &self.time
    }

    /// How long GitHub is waited for.
    pub const fn patience(&self) -> Patience {
        self.patience
    }

    /// The moment at which whoever asks now must have an answer.
    pub fn deadline(&self) -> Instant {
        Instant::now() + self.patience.total
    }

    /// The URL of an operation: `segments` under the API's own path.
    pub fn url(&self, segments: &[&str]) -> Url {
        let mut url = self.api.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        url
    }

    /// One operation. Silence and outages are tried again; a refused clock is corrected once;
    /// redirects are followed on this host.
    pub async fn call(
        &self,
        method: Method,
        mut url: Url,
        auth: Auth<'_>,
        body: Option<&serde_json::Value>,
        deadline: Instant,
    ) -> Result<Answer, Failure> {
        let mut attempt = 1;
        let mut hops = 0;
        let mut clock_corrected = false;
        loop {
            let before = self.time.now();
            let failure = match self.once(&method, &url, &auth, body, deadline).await {
                Ok((status, headers, body)) => match self.judge(status, &headers, body) {
                    Judged::Answer(answer)
                        if answer.status == 401
                            && matches!(auth, Auth::App)
                            && !clock_corrected
                            && self.clock_was_refused(&answer, before) =>
                    {
                        clock_corrected = true;
                        continue;
                    }
                    Judged::Answer(mut answer) => {
                        answer.moved_to = (hops > 0).then_some(url);
                        return Ok(answer);
                    }
                    Judged::Moved(location) => {
                        hops += 1;
                        url = self.next_hop(&url, &location, hops)?;
                        continue;
                    }
                    Judged::Failed(failure) => failure,
                },
                Err(failure) => failure,
            };
            if !matches!(failure, Failure::Away { .. } | Failure::Silent) {
                return Err(failure);
            }
            let pause = self.patience.pause * 2u32.pow(attempt - 1);
            let pause = pause.mul_f64(0.5 + fastrand::f64());
            if attempt == self.patience.attempts || Instant::now() + pause >= deadline {
                return Err(failure);
            }
            attempt += 1;
            sleep(pause).await;
        }
    }

    /// Sends the request once and reads the answer whole.
    async fn once(
        &self,
        method: &Method,
        url: &Url,
        auth: &Auth<'_>,
        body: Option<&serde_json::Value>,
        deadline: Instant,
    ) -> Result<(StatusCode, HeaderMap, Vec<u8>), Failure> {
        let mut request = self
            .client
            .request(method.clone(), url.clone())
            .header("accept", "application/vnd.github+json")
            .header("x-github-api-version", API_VERSION);
        request = match auth {
            Auth::App => {
                let signed = self.key.sign(&self.app_id, self.time.now());
                let jwt =
                    signed.map_err(|_| Failure::Unusable("the App's key can no longer sign"))?;
                request.bearer_auth(jwt.expose())
            }
            Auth::Token(token) => request.bearer_auth(token.expose()),
        };
        if let Some(body) = body {
            request = request.json(body);
        }
        let until = deadline.min(Instant::now() + self.patience.attempt);
        let exchange = async {
            let response = request.send().await?;
            // Taken as the headers arrive: a slow body must not make the time older than it is.
            if let Some(date) = http_date(response.headers().get(DATE)) {
                self.time.correct(date);
            }
            let (status, headers) = (response.status(), response.headers().clone());
            http::body(response, MAX_ANSWER)
                .await
                .map(|body| (status, headers, body))
        };
        match tokio::time::timeout_at(until, exchange).await {
            Err(_) => Err(Failure::Silent),
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(BodyError::TooLarge(_))) => Err(Failure::Unusable("it is too long")),
            Ok(Err(BodyError::Broken(error))) => Err(away(&error)),
        }
    }

    /// Sorts an answer into answers, rate limits, outages and redirects.
    fn judge(&self, status: StatusCode, headers: &HeaderMap, body: Vec<u8>) -> Judged {
        match status.as_u16() {
            301 | 302 | 307 | 308 => {
                let location = headers.get(LOCATION).and_then(|value| value.to_str().ok());
                location.map_or(
                    Judged::Failed(Failure::Unusable("a redirect without a valid location")),
                    |location| Judged::Moved(location.to_owned()),
                )
            }
            500.. => Judged::Failed(Failure::Away {
                what: format!("status {}", status.as_u16()),
                wait: self.retry_after(headers).unwrap_or(AWAY_WAIT),
            }),
            403 | 429 => match self.limit(status, headers, &body) {
                Some(wait) => Judged::Failed(Failure::Limited(
                    wait.clamp(Duration::from_secs(1), MAX_LIMIT_WAIT),
                )),
                None => Judged::answer(status, body),
            },
            _ => Judged::answer(status, body),
        }
    }

    /// How long a rate limit lasts, if the answer is one: the primary limit says when it ends,
    /// the secondary one how long to wait, or nothing but that it is one.
    fn limit(&self, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Option<Duration> {
        if let Some(wait) = self.retry_after(headers) {
            return Some(wait);
        }
        let number = |name: &str| -> Option<u64> { headers.get(name)?.to_str().ok()?.parse().ok() };
        if number("x-ratelimit-remaining") == Some(0) {
            let reset = number("x-ratelimit-reset").and_then(|seconds| {
                let end = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))?;
                Some(end.duration_since(self.time.now()).unwrap_or_default())
            });
            return Some(reset.unwrap_or(LIMIT_WAIT));
        }
        let says_so = message_of(body).to_ascii_lowercase().contains("rate limit");
        (says_so || status == StatusCode::TOO_MANY_REQUESTS).then_some(LIMIT_WAIT)
    }

    /// `Retry-After` (RFC 9110, section 10.2.3): seconds, or a date by GitHub's clock.
    fn retry_after(&self, headers: &HeaderMap) -> Option<Duration> {
        let value = headers.get(RETRY_AFTER)?;
        match value.to_str().ok()?.trim().parse() {
            Ok(seconds) => Some(Duration::from_secs(seconds)),
            Err(_) => http_date(Some(value))?.duration_since(self.time.now()).ok(),
        }
    }

    /// Whether a 401 to a JWT was about its times: the message says so, or the clock that signed
    /// it, `before`, turns out to have been off by more than a JWT allows for.
    fn clock_was_refused(&self, answer: &Answer, before: SystemTime) -> bool {
        let now = self.time.now();
        let apart = now
            .duration_since(before)
            .or_else(|_| before.duration_since(now))
            .unwrap_or_default();
        let message = message_of(&answer.body);
        apart > Duration::from_secs(50) || message.contains("'iat'") || message.contains("'exp'")
    }

    /// Where a redirect leads. The App's authority goes to no other host.
    fn next_hop(&self, from: &Url, location: &str, hops: usize) -> Result<Url, Failure> {
        let to = from
            .join(location)
            .map_err(|_| Failure::Unusable("a redirect without a valid location"))?;
        if to.origin() != self.api.origin() || !to.username().is_empty() {
            return Err(Failure::Unusable("a redirect to another host"));
        }
        if hops > MAX_HOPS {
            return Err(Failure::Unusable("too many redirects"));
        }
        Ok(to)
    }
}

enum Judged {
    Answer(Answer),
    Moved(String),
    Failed(Failure),
}

impl Judged {
    const fn answer(status: StatusCode, body: Vec<u8>) -> Self {
        Self::Answer(Answer {
            status: status.as_u16(),
            body,
            moved_to: None,
        })
    }
}

fn http_date(value: Option<&reqwest::header::HeaderValue>) -> Option<SystemTime> {
    httpdate::parse_http_date(value?.to_str().ok()?).ok()
}

/// What went wrong below HTTP, in words that hold no URL and no header.
fn away(error: &reqwest::Error) -> Failure {
    let mut deepest: &dyn std::error::Error = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    let what = if error.is_connect() {
        format!("no connection: {deepest}")
    } else {
        format!("the connection broke: {deepest}")
    };
    Failure::Away {
        what: presentable(&what),
        wait: AWAY_WAIT,
    }
}

/// The `message` of GitHub's error object.
fn message_of(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct BasicError {
        message: String,
    }
    serde_json::from_slice::<BasicError>(body).map_or_else(
        |_| "no reason given".to_owned(),
        |error| presentable(&error.message),
    )
}
