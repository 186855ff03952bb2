//! Headscale's REST API (0.29, `/api/v1`), with the key from `tailnet.api_key_file`.

use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reqwest::{Method, StatusCode};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};
use url::Url;

use crate::config::Tailnet;
use crate::drone::DroneName;
use crate::error::{Code, Error, Result};
use crate::http;
use crate::secret::Secret;

/// How long a request may take.
const LIMIT: Duration = Duration::from_secs(30);
/// The most that an answer may hold, in bytes: thousands of nodes.
const MAX_BODY: usize = 8 * 1024 * 1024;
/// The life of a single-use key. A join takes seconds; the rest is for clocks that disagree.
const KEY_LIFE: Duration = Duration::from_secs(10 * 60);

/// The API of the tailnet's control server.
#[derive(Debug)]
pub struct Headscale {
    http: reqwest::Client,
    base: Url,
    key: Secret,
    key_file: String,
    user: String,
}

/// A node as Headscale lists it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Node {
    /// The number that `headscale nodes delete -i` takes.
    #[serde(deserialize_with = "number")]
    pub id: u64,
    /// The name in the tailnet's DNS.
    #[serde(default)]
    pub given_name: String,
    /// `nodekey:…`
    #[serde(default)]
    pub node_key: String,
    /// Who it belongs to.
    #[serde(default)]
    pub user: Option<User>,
    /// Its addresses.
    #[serde(default)]
    pub ip_addresses: Vec<IpAddr>,
    /// Whether it is connected.
    #[serde(default)]
    pub online: bool,
}

/// A pre-auth key for one join of one ephemeral node.
#[derive(Debug)]
pub struct SingleUse {
    /// The number that the API goes by.
    pub id: u64,
    /// The key itself.
    pub key: Secret,
}

/// A user of the tailnet.
#[derive(Debug, Clone, Deserialize)]
pub struct User {
    /// The number that the API goes by.
    #[serde(deserialize_with = "number")]
    pub id: u64,
    /// The name.
    #[serde(default)]
    pub name: String,
}

impl Node {
    /// Whether it has the drone's name.
    pub fn is_called(&self, name: &DroneName) -> bool {
        self.given_name.eq_ignore_ascii_case(name.as_str())
    }

    /// The name of the user that it belongs to.
    pub fn owner(&self) -> &str {
        self.user.as_ref().map_or("", |user| &user.name)
    }
}

impl Headscale {
    /// The API, where the configuration has a key for it.
    pub fn new(tailnet: &Tailnet) -> Result<Option<Self>> {
        let Some(file) = &tailnet.api_key_file else {
            return Ok(None);
        };
        Ok(Some(Self {
            // A redirect would carry the key to another place.
            http: http::client(LIMIT, reqwest::redirect::Policy::none())?,
            base: tailnet.login_server.clone(),
            key: Secret::read(file, "tailnet.api_key_file")?,
            key_file: file.display().to_string(),
            user: tailnet.user.clone(),
        }))
    }

    /// A pre-auth key for one join of one ephemeral node, valid for minutes.
    pub async fn single_use_key(&self) -> Result<SingleUse> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Answer {
            pre_auth_key: Key,
        }
        #[derive(Deserialize)]
        struct Key {
            #[serde(deserialize_with = "number")]
            id: u64,
            key: String,
        }
        let user = self.user_id().await?;
        // Without an expiration the API makes a key that has expired already.
        let request = json!({
            "user": user.to_string(),
            "reusable": false,
            "ephemeral": true,
            "expiration": rfc3339(SystemTime::now() + KEY_LIFE),
        });
        let answer: Answer = self
            .ask(Method::POST, "preauthkey", &[], Some(request))
            .await?;
        let Key { id, key } = answer.pre_auth_key;
        if key.is_empty() {
            return Err(self.refused("gave an empty pre-auth key"));
        }
        let key = Secret::new(key);
        Ok(SingleUse { id, key })
    }

    /// Ends a pre-auth key that no join has used.
    pub async fn expire_key(&self, id: u64) -> Result<()> {
        let request = json!({ "id": id.to_string() });
        let (status, body) = self
            .send(Method::POST, "preauthkey/expire", &[], Some(request))
            .await?;
        self.accepted(status, &body)
    }

    async fn user_id(&self) -> Result<u64> {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(default)]
            users: Vec<User>,
        }
        let answer: Answer = self
            .ask(Method::GET, "user", &[("name", &self.user)], None)
            .await?;
        answer
            .users
            .iter()
            .find(|user| user.name == self.user)
            .map(|user| user.id)
            .ok_or_else(|| {
                self.refused(&format!("has no user {}", self.user))
                    .hint(format!(
                        "run `headscale users create {}` on the control server, or fix tailnet.user",
                        self.user
                    ))
            })
    }

    /// All nodes of the tailnet.
    pub async fn nodes(&self) -> Result<Vec<Node>> {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(default)]
            nodes: Vec<Node>,
        }
        let answer: Answer = self.ask(Method::GET, "node", &[], None).await?;
        Ok(answer.nodes)
    }

    /// Deletes the node; whether it was there.
    pub async fn delete(&self, id: u64) -> Result<bool> {
        let path = format!("node/{id}");
        match self.send(Method::DELETE, &path, &[], None).await? {
            (StatusCode::NOT_FOUND, _) => Ok(false),
            (status, body) => self.accepted(status, &body).map(|()| true),
        }
    }

    /// Renames the node. Where another node has the name, or the node is gone, that is refused.
    pub(super) async fn rename(&self, id: u64, name: &str) -> Result<()> {
        let path = format!("node/{id}/rename/{name}");
        let (status, body) = self.send(Method::POST, &path, &[], None).await?;
        self.accepted(status, &body)
    }

    /// Expires the node's key, so that it must register anew.
    pub async fn expire(&self, id: u64) -> Result<()> {
        let path = format!("node/{id}/expire");
        let (status, body) = self.send(Method::POST, &path, &[], None).await?;
        self.accepted(status, &body)
    }

    async fn ask<T: serde::de::DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<Value>,
    ) -> Result<T> {
        let (status, body) = self.send(method, path, query, body).await?;
        self.accepted(status, &body)?;
        // The parser's own words could hold a piece of the answer, and the answer a key.
        serde_json::from_slice(&body).map_err(|_| {
            self.refused("gave an answer that is not one of Headscale's API")
                .hint("check that tailnet.login_server is a Headscale; hatchery uses its API v1 as of \
                     version 0.29")
        })
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<Value>,
    ) -> Result<(StatusCode, Vec<u8>)> {
        let mut url = self.base.clone();
        let root = url.path().trim_end_matches('/').to_owned();
        url.set_path(&format!("{root}/api/v1/{path}"));
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let mut request = self
            .http
            .request(method, url)
            .bearer_auth(self.key.expose());
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request
            .send()
            .await
            .map_err(|error| away(&self.base, error.without_url()))?;
        let status = response.status();
        let body = http::body(response, MAX_BODY)
            .await
            .map_err(|error| away(&self.base, error))?;
        Ok((status, body))
    }

    fn accepted(&self, status: StatusCode, body: &[u8]) -> Result<()> {
        match status {
            status if status.is_success() => Ok(()),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(self
                .refused(&format!(
                    "rejects the API key in {}, named by tailnet.api_key_file",
                    self.key_file
                ))
                .hint("run `headscale apikeys create` on the control server, and write the key into that \
                     file")),
            status if status.is_server_error() && status != StatusCode::INTERNAL_SERVER_ERROR => {
                Err(away(&self.base, format!("it answers {status}")))
            }
            status => Err(self.refused(&format!("answers {status}{}", said(body)))),
        }
    }

    /// The user that owns the drones' nodes.
    pub(super) fn user(&self) -> &str {
        &self.user
    }

    pub(super) fn refused(&self, what: &str) -> Error {
        Error::new(
            Code::TailnetRefused,
            format!("the control server {} {what}", self.base),
        )
    }
}

/// The control server cannot be reached or does not answer.
pub(super) fn away(
    server: &Url,
    cause: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> Error {
    Error::new(
        Code::TailnetAway,
        format!("the control server {server} is unavailable"),
    )
    .hint("check that Headscale runs and that this server reaches it, then try again")
    .because(cause)
}

/// Another node has the drone's name.
pub(super) fn name_held(name: &DroneName, node: &Node) -> Error {
    Error::new(
        Code::TailnetRefused,
        format!(
            "the name {name} is held by node {} of the tailnet user {}",
            node.id,
            shortened(node.owner())
        ),
    )
    .hint(format!(
        "rename that node, or remove it with `headscale nodes delete -i {}`",
        node.id
    ))
}

/// Headscale's `message`, if it is one that can be shown.
fn said(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Refusal {
        message: String,
    }
    serde_json::from_slice::<Refusal>(body).map_or_else(
        |_| String::new(),
        |refusal| format!(": {}", shortened(&refusal.message)),
    )
}

/// At most 200 characters.
fn shortened(text: &str) -> String {
    text.chars().take(200).collect()
}

/// The API writes 64-bit numbers as strings (protobuf's JSON mapping).
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Number {
        Number(u64),
        Text(String),
    }
    match Number::deserialize(deserializer)? {
        Number::Number(number) => Ok(number),
        Number::Text(text) => text.parse().map_err(serde::de::Error::custom),
    }
}

/// The time in UTC as RFC 3339 writes it, to the second.
fn rfc3339(time: SystemTime) -> String {
    let seconds = time
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let mut year = 1970;
    let mut day = days;
    loop {
        let length = if is_leap(year) { 366 } else { 365 };
        if day < length {
            break;
        }
        day -= length;
        year += 1;
    }
    let february = if is_leap(year) { 29 } else { 28 };
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if day < length {
            break;
        }
        day -= length;
        month += 1;
    }
    format!(
        "{year:04}-{month:02}-{:02}T{:02}:{:02}:{:02}Z",
        day + 1,
        rest / 3600,
        rest / 60 % 60,
        rest % 60
    )
}

const fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_the_api_reads_them() {
        let at = |seconds| rfc3339(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(0), "1970-01-01T00:00:00Z");
        assert_eq!(at(951_782_399), "2000-02-28T23:59:59Z");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(at(1_767_225_599), "2025-12-31T23:59:59Z");
        assert_eq!(at(4_107_542_400), "2100-03-01T00:00:00Z");
    }

    #[test]
    fn nodes_are_read_with_numbers_as_text() {
        let node: Node = serde_json::from_str(
            r#"{"id":"7","givenName":"acme-site","user":{"id":"2","name":"devcontainer"},
            "ipAddresses":["100.64.0.7","fd7a::7"],"online":true,"more":{}}"#,
        )
        .unwrap();
        assert_eq!((node.id, node.owner()), (7, "devcontainer"));
        assert!(node.is_called(&DroneName::of(&"acme/site".parse().unwrap())));
    }

    #[test]
    fn what_the_server_says_is_cut() {
        assert_eq!(said(br#"{"message":"no such user"}"#), ": no such user");
        assert_eq!(said(b"<html>"), "");
        assert_eq!(
            said(format!(r#"{{"message":"{}"}}"#, "x".repeat(5000)).as_bytes()).len(),
            202
        );
    }
}
