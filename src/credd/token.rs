//! An installation access token, and what GitHub granted with it.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::{Duration, SystemTime};

use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::drone::permission::{Access, Permission};
use crate::repo::RepoId;
use crate::secret::Secret;

/// What a token that GitHub has just made must be good for. One that ends sooner would be minted
/// anew at every request.
const MIN_LIFE: Duration = Duration::from_secs(60);
/// How many names are told of what was granted beyond the ask.
const MAX_TOLD: usize = 5;
/// The longest token that is taken, in bytes; GitHub's are about 520.
const MAX_TOKEN: usize = 4096;

/// What is asked of GitHub: never more than a drone's scope.
#[derive(Debug, Clone)]
pub struct Ask {
    /// The repositories' owner, whose installation is asked.
    pub owner: String,
    /// The repositories.
    pub repositories: Named,
    /// The permissions.
    pub permissions: BTreeMap<Permission, Access>,
}

/// Repositories as GitHub's API takes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Named {
    /// By name, within their owner.
    Names(Vec<String>),
    /// By number, which survives a change of name.
    Numbers(Vec<u64>),
}

impl Ask {
    /// The body of the request that mints.
    pub fn to_json(&self) -> serde_json::Value {
        match &self.repositories {
            Named::Names(names) => {
                serde_json::json!({"repositories": names, "permissions": self.permissions})
            }
            Named::Numbers(numbers) => {
                serde_json::json!({"repository_ids": numbers, "permissions": self.permissions})
            }
        }
    }

    /// Whether this repository is one of those that were asked for.
    fn names(&self, repo: &GrantedRepo) -> bool {
        match &self.repositories {
            Named::Names(names) => repo.name.as_ref().is_some_and(|granted| {
                granted.owner().eq_ignore_ascii_case(&self.owner)
                    && names
                        .iter()
                        .any(|name| name.eq_ignore_ascii_case(granted.name()))
            }),
            Named::Numbers(numbers) => repo.number.is_some_and(|number| numbers.contains(&number)),
        }
    }
}

/// A token that GitHub minted. Its text shows up nowhere but in [`Token::secret`].
#[derive(Debug)]
pub struct Token {
    secret: Secret,
    sha256: String,
    expires_at: SystemTime,
    repositories: Option<Vec<GrantedRepo>>,
    permissions: BTreeMap<Permission, Access>,
}

/// A repository as GitHub's grant names it.
#[derive(Debug, Clone)]
pub struct GrantedRepo {
    /// Its number.
    pub number: Option<u64>,
    /// Its name now, where it is one that GitHub can have.
    pub name: Option<RepoId>,
}

impl GrantedRepo {
    fn told(&self) -> String {
        match (&self.name, self.number) {
            (Some(name), _) => name.to_string(),
            (None, Some(number)) => format!("repository number {number}"),
            (None, None) => "a repository without a name".to_owned(),
        }
    }
}

/// Why a grant is not used.
#[derive(Debug)]
pub struct Rejected {
    /// What is wrong with it.
    pub why: String,
    /// The token in it, which must be revoked.
    pub token: Option<Secret>,
}

impl Token {
    /// Reads GitHub's answer to `ask` and holds it against what was asked; `now` is GitHub's time.
    pub fn from_grant(body: &[u8], ask: &Ask, now: SystemTime) -> Result<Self, Rejected> {
        #[derive(Deserialize)]
        struct Grant {
            token: String,
            expires_at: String,
            permissions: Option<BTreeMap<String, String>>,
            repositories: Option<Vec<Repository>>,
            repository_selection: Option<String>,
        }
        #[derive(Deserialize)]
        struct Repository {
            id: Option<u64>,
            full_name: String,
        }

        let grant: Grant = serde_json::from_slice(body).map_err(|_| Rejected {
            why: "it is not the JSON of a token".to_owned(),
            token: salvaged(body),
        })?;
        let secret = Secret::new(grant.token);
        let reject = |why: &str| {
            Err(Rejected {
                why: why.to_owned(),
                token: Some(secret.clone()),
            })
        };
        if !is_token(secret.expose()) {
            return reject("its token contains invalid characters");
        }
        let Ok(expires_at) = humantime::parse_rfc3339(&grant.expires_at) else {
            return reject("it does not say when the token expires");
        };
        let left = expires_at.duration_since(now).unwrap_or_default();
        if left.is_zero() {
            return reject("the token had expired, by GitHub's own clock, when it was minted");
        }
        if left < MIN_LIFE {
            let left = left.as_secs();
            return reject(&format!("the token expires {left} s after it was minted"));
        }
        let permissions = match within(&ask.permissions, grant.permissions) {
            Ok(permissions) => permissions,
            Err(beyond) => return reject(&beyond),
        };
        let repositories: Option<Vec<GrantedRepo>> = grant.repositories.map(|list| {
            let granted = |repo: Repository| GrantedRepo {
                number: repo.id,
                name: RepoId::try_from(repo.full_name).ok(),
            };
            list.into_iter().map(granted).collect()
        });
        match &repositories {
            None if grant.repository_selection.as_deref() == Some("all") => {
                let owner = &ask.owner;
                return reject(&format!(
                    "it grants all repositories of {owner}, which were not asked for"
                ));
            }
            Some(granted) => {
                let beyond: Vec<_> = granted
                    .iter()
                    .filter(|repo| !ask.names(repo))
                    .map(GrantedRepo::told)
                    .collect();
                if !beyond.is_empty() {
                    return reject(&beyond_the_ask(&beyond));
                }
            }
            None => {}
        }
        Ok(Self {
            sha256: fingerprint(&secret),
            secret,
            expires_at,
            repositories,
            permissions,
        })
    }

    /// The token itself, for the one who may have it.
    pub const fn secret(&self) -> &Secret {
        &self.secret
    }

    /// SHA-256 of the token in hex, by which GitHub's audit log and ours name it.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// When it expires, by GitHub's clock.
    pub const fn expires_at(&self) -> SystemTime {
        self.expires_at
    }

    /// How much longer it is good, at GitHub's time `now`. Nothing, once it has expired.
    pub fn remaining(&self, now: SystemTime) -> Duration {
        self.expires_at.duration_since(now).unwrap_or_default()
    }

    /// What it was granted for, where GitHub said so.
    pub fn repositories(&self) -> Option<&[GrantedRepo]> {
        self.repositories.as_deref()
    }

    /// What it may do.
    pub const fn permissions(&self) -> &BTreeMap<Permission, Access> {
        &self.permissions
    }
}

/// SHA-256 in hex.
pub fn fingerprint(secret: &Secret) -> String {
    Sha256::digest(secret.expose().as_bytes()).iter().fold(
        String::with_capacity(64),
        |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        },
    )
}

/// The granted permissions, unless one goes beyond those asked for: then which. `metadata: read`
/// comes with every token. What GitHub does not say is taken as asked.
fn within(
    asked: &BTreeMap<Permission, Access>,
    granted: Option<BTreeMap<String, String>>,
) -> Result<BTreeMap<Permission, Access>, String> {
    let Some(granted) = granted else {
        return Ok(asked.clone());
    };
    let (mut permissions, mut beyond) = (BTreeMap::new(), Vec::new());
    for (name, access) in granted {
        let known = (name.parse::<Permission>(), access.parse::<Access>());
        if let (Ok(permission), Ok(access)) = known {
            let implied = permission.as_str() == "metadata" && access == Access::Read;
            let within = asked.get(&permission).is_some_and(|most| access <= *most);
            if implied || within {
                permissions.insert(permission, access);
                continue;
            }
        }
        beyond.push(format!("{}={}", word(&name), word(&access)));
    }
    if beyond.is_empty() {
        Ok(permissions)
    } else {
        Err(beyond_the_ask(&beyond))
    }
}

fn beyond_the_ask(what: &[String]) -> String {
    let told = what[..what.len().min(MAX_TOLD)].join(", ");
    let more = match what.len().saturating_sub(MAX_TOLD) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("it grants {told}{more}, which was not asked for")
}

/// A name that GitHub uses, if it looks like one: no token does.
fn word(text: &str) -> &str {
    let fits = (1..40).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    if fits { text } else { "?" }
}

/// A token as GitHub makes them: it goes into headers and credential lines as it is.
fn is_token(text: &str) -> bool {
    (1..=MAX_TOKEN).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// The token in an answer that is otherwise not to be read, so that it can be revoked.
fn salvaged(body: &[u8]) -> Option<Secret> {
    let value: serde_json::Value = serde_json::from_slice(body).ok()?;
    let text = value.get("token")?.as_str()?;
    is_token(text).then(|| Secret::new(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn ask() -> Ask {
        Ask {
            owner: "acme".into(),
            repositories: Named::Names(vec!["Site".into()]),
            permissions: BTreeMap::from([
                ("contents".parse().unwrap(), Access::Write),
                ("issues".parse().unwrap(), Access::Read),
            ]),
        }
    }

    fn granted(change: &serde_json::Value) -> Result<Token, Rejected> {
        let mut grant = json!({"token": "ghs_x", "expires_at": "2026-01-01T00:00:00Z"});
        for (key, value) in change.as_object().unwrap() {
            grant[key] = value.clone();
        }
        Token::from_grant(
            grant.to_string().as_bytes(),
            &ask(),
            at("2025-12-31T23:00:00Z"),
        )
    }

    fn at(time: &str) -> SystemTime {
        humantime::parse_rfc3339(time).unwrap()
    }

    #[test]
    fn a_grant_within_the_ask_is_taken() {
        for change in [
            json!({}),
            json!({"permissions": {"contents": "write", "metadata": "read"}}),
            json!({"permissions": {"contents": "read"}}),
            json!({"permissions": {}}),
            json!({"repositories": [{"id": 1, "full_name": "ACME/site"}]}),
            json!({"repositories": []}),
            json!({"repository_selection": "selected"}),
        ] {
            assert!(granted(&change).is_ok(), "{change}");
        }
    }

    #[test]
    fn a_wider_grant_is_rejected_and_its_token_kept_for_revocation() {
        for change in [
            json!({"permissions": {"issues": "write"}}),
            json!({"permissions": {"metadata": "write"}}),
            json!({"permissions": {"administration": "read"}}),
            json!({"permissions": {"unheard_of": "read"}}),
            json!({"permissions": {"contents": "owner"}}),
            json!({"repositories": [{"id": 1, "full_name": "acme/site"}, {"id": 2, "full_name": "acme/other"}]}),
            json!({"repositories": [{"id": 1, "full_name": "evil/site"}]}),
            json!({"repositories": [{"id": 1, "full_name": "?"}]}),
            json!({"repository_selection": "all"}),
            json!({"expires_at": "soon"}),
            json!({"expires_at": 7}),
            json!({"repositories": "all"}),
        ] {
            let rejected = granted(&change).expect_err(&change.to_string());
            assert_eq!(rejected.token.unwrap().expose(), "ghs_x", "{change}");
        }
    }

    #[test]
    fn a_wider_grant_says_what_is_too_wide() {
        for (change, told) in [
            (
                json!({"permissions": {"issues": "write"}}),
                "it grants issues=write, which",
            ),
            (
                json!({"permissions": {"unheard_of": "read"}}),
                "unheard_of=read",
            ),
            (
                json!({"permissions": {"ghs_VERYSECRET": "ghs_VERYSECRET"}}),
                "it grants ?=?",
            ),
            (
                json!({"repositories": [{"id": 1, "full_name": "acme/site"}, {"id": 2, "full_name": "acme/other"}]}),
                "it grants acme/other, which",
            ),
            (
                json!({"repositories": [{"id": 2, "full_name": "?"}]}),
                "repository number 2",
            ),
            (
                json!({"repository_selection": "all"}),
                "all repositories of acme",
            ),
        ] {
            let why = granted(&change).unwrap_err().why;
            assert!(why.contains(told), "{change}: {why}");
        }
        let many: Vec<_> = (0..500)
            .map(|n| json!({"id": n, "full_name": format!("acme/x{n}")}))
            .collect();
        let why = granted(&json!({ "repositories": many })).unwrap_err().why;
        assert!(why.contains("acme/x4 and 495 more"), "{why}");
    }

    #[test]
    fn a_token_must_be_good_for_a_while_by_githubs_clock() {
        let grant = json!({"token": "ghs_x", "expires_at": "2026-01-01T00:00:00Z"}).to_string();
        for (now, good) in [
            ("2025-12-31T23:00:00Z", true),
            ("2025-12-31T23:59:00Z", true),
            ("2025-12-31T23:59:01Z", false),
            ("2026-01-01T00:00:00Z", false),
            ("2027-01-01T00:00:00Z", false),
        ] {
            let token = Token::from_grant(grant.as_bytes(), &ask(), at(now));
            assert_eq!(token.is_ok(), good, "{now}");
            if let Err(rejected) = token {
                assert!(rejected.why.contains("expire"), "{}", rejected.why);
                assert_eq!(rejected.token.unwrap().expose(), "ghs_x");
            }
        }
    }

    #[test]
    fn nothing_of_a_token_is_shown() {
        let token = granted(&json!({"token": "ghs_veryveryverysecret"})).unwrap();
        assert!(!format!("{token:?}").contains("veryvery"));
        let rejected =
            granted(&json!({"token": "ghs_veryveryverysecret", "expires_at": 1})).unwrap_err();
        assert!(!format!("{rejected:?}").contains("veryvery"));
    }
}
