//! What the fake GitHub knows, and what it answers while it is well.

use std::collections::HashMap;
use std::fmt::Write;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use serde_json::{Value, json};

use super::{API_PATH, APP_ID, Fault, Grant, Installation, Repository, State};
use crate::clock::TestClock;
use crate::description::{Description, MINT, Operation, REVOKE};

impl State {
    pub(super) fn new() -> Self {
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

    pub(super) fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    pub(super) fn find(&self, full_name: &str) -> Option<usize> {
        self.repositories.iter().position(|repo| {
            format!("{}/{}", repo.owner, repo.name).eq_ignore_ascii_case(full_name)
        })
    }

    pub(super) fn fault(&mut self, operation: Operation) -> Option<Fault> {
        let index = self
            .faults
            .iter()
            .position(|(of, _, times)| *of == operation && *times > 0)?;
        self.faults[index].2 = self.faults[index].2.saturating_sub(1);
        Some(self.faults[index].1.clone())
    }

    /// The answer that the real one would give.
    pub(super) fn answer(&mut self, request: &Asked, clock: &TestClock) -> Given {
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
        let since = installation.suspended.then_some("2025-12-31T00:00:00Z");
        body["suspended_at"] = json!(since);
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
        let is_asked = |repo: &&Repository| {
            let has = |list: &Option<Vec<Value>>, is: &dyn Fn(&Value) -> bool| {
                list.as_ref().is_some_and(|list| list.iter().any(is))
            };
            let is_name = |value: &Value| {
                value
                    .as_str()
                    .is_some_and(|n| n.eq_ignore_ascii_case(&repo.name))
            };
            &repo.owner == owner
                && (has(&names, &is_name)
                    || has(&numbers, &|value| value.as_u64() == Some(repo.number))
                    || (names.is_none() && numbers.is_none()))
        };
        let found: Vec<&Repository> = self.repositories.iter().filter(is_asked).collect();
        let asked = names.as_ref().map_or(0, Vec::len) + numbers.as_ref().map_or(0, Vec::len);
        if found.len() < asked {
            let mut given = Given::message(
                422,
                "There is at least one repository that does not exist or is not accessible to the parent installation.",
            );
            given.body["documentation_url"] = json!("https://docs.github.com/rest");
            return given;
        }
        let example = self.description.example("installation-token");
        let mut body = example.clone();
        let repositories = found.iter().map(|repo| {
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
        for byte in &hash[..22] {
            let _ = write!(text, "{byte:02x}");
        }
        text.push(['.', '_', '-'][block % 3]);
    }
    text.push_str("end");
    text
}

pub fn rfc3339(seconds: u64) -> String {
    let time = std::time::UNIX_EPOCH + Duration::from_secs(seconds);
    humantime::format_rfc3339_seconds(time).to_string()
}

pub(super) struct Asked {
    pub operation: Operation,
    pub path: String,
    pub bearer: String,
    pub body: Value,
}

pub(super) struct Given {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Value,
}

impl Given {
    fn json(status: u16, body: &Value) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: body.clone(),
        }
    }

    pub fn message(status: u16, message: &str) -> Self {
        Self::json(status, &json!({"message": message}))
    }

    pub fn empty(status: u16) -> Self {
        Self::json(status, &Value::Null)
    }
}

/// What this JWT claims, if the App's key signed it with RS256 (RFC 7515, section 5.2).
pub(super) fn signed_claims(jwt: &str) -> Option<Value> {
    let (signed, signature) = jwt.rsplit_once('.')?;
    let (header, payload) = signed.split_once('.')?;
    let part = |text: &str| URL_SAFE_NO_PAD.decode(text).ok();
    let header: Value = serde_json::from_slice(&part(header)?).ok()?;
    if header != json!({"alg": "RS256", "typ": "JWT"}) {
        return None;
    }
    let pem: String = include_str!("../keys/public-pkcs1.pem")
        .lines()
        .filter(|line| !line.starts_with("-----"))
        .collect();
    UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, STANDARD.decode(pem).unwrap())
        .verify(signed.as_bytes(), &part(signature)?)
        .ok()?;
    serde_json::from_slice(&part(payload)?).ok()
}

/// The claims of this JWT, or why GitHub refuses it.
pub(super) fn verify(jwt: &str, now: u64) -> Result<Value, &'static str> {
    let claims = signed_claims(jwt).ok_or("A JSON web token could not be decoded")?;
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

#[test]
fn only_what_the_apps_key_signed_is_a_claim() {
    use hatchery::credd::jwt::AppKey;
    use std::time::SystemTime;

    let signed_by = |pem: &str| {
        let jwt = AppKey::from_pem(pem)
            .unwrap()
            .sign(APP_ID, SystemTime::now())
            .unwrap();
        jwt.expose().to_owned()
    };
    for pem in [
        include_str!("../keys/app.pem"),
        include_str!("../keys/app-pkcs8.pem"),
    ] {
        let jwt = signed_by(pem);
        assert_eq!(signed_claims(&jwt).unwrap()["iss"], APP_ID);
        let parts: Vec<&str> = jwt.split('.').collect();
        let [header, payload, signature] = parts[..] else {
            panic!("{jwt} has not three parts")
        };
        let other = URL_SAFE_NO_PAD.encode(r#"{"iss":"another","iat":0,"exp":9999999999}"#);
        let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"JWT"}"#);
        for forged in [
            format!("{header}.{other}.{signature}"),
            format!("{none}.{payload}.{signature}"),
            format!("{none}.{payload}."),
            format!("{header}.{payload}.{}", &signature[4..]),
            format!("{header}.{payload}"),
        ] {
            assert_eq!(signed_claims(&forged), None, "{forged}");
        }
    }
}
