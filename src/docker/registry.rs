//! Pulls from registries that want a login: the configuration's, or the caller's own `docker login`.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use bollard::errors::Error as ApiError;
use hyper::header::{HeaderName, HeaderValue};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use url::form_urlencoded;

use super::{Docker, failed, socket_of};
use crate::config::{Namespace, Registries, Registry};
use crate::error::{Code, Error, Result};
use crate::http;
use crate::secret::Secret;
use crate::ui::clean;

/// The largest file of docker's command that is read, in bytes.
const MAX_FILE: u64 = 1024 * 1024;

/// The header of a login (Engine API, "Authentication"): JSON in the base64 that URLs may hold.
pub const REGISTRY_AUTH: HeaderName = HeaderName::from_static("x-registry-auth");

/// How long a pull may take; `limits.build` ends it earlier where that is less.
const PULLED_WITHIN: Duration = Duration::from_secs(24 * 60 * 60);

/// The longest line of Docker's answer to a pull, in bytes.
const MAX_LINE: usize = 1024 * 1024;

/// How registries say that a login is wanted, or does not do, by way of Docker and `BuildKit`.
const DENIALS: [&str; 7] = [
    "pull access denied",
    "no basic auth credentials",
    "unauthorized",
    "authentication required",
    "requested access to the resource is denied",
    "401 Unauthorized",
    "403 Forbidden",
];

/// How Docker Hub is called in the files of docker's command.
const HUB: &str = "https://index.docker.io/v1/";

/// What the registry is to be told, for one pull.
#[derive(Debug, Clone)]
pub struct Login {
    /// Where it is from, for errors.
    source: String,
    user: String,
    proof: Proof,
    /// The registry, as docker's command calls it.
    server: String,
}

#[derive(Debug, Clone)]
enum Proof {
    Password(Secret),
    /// What a registry gives in place of a password (OAuth 2's refresh token).
    Token(Secret),
}

impl Login {
    /// The login for an image that lies in an entry of the configuration, read now; `None` for any other
    /// image. Whether the repository may use it was judged before.
    pub fn of(registries: &Registries, image: &str) -> Result<Option<Self>> {
        let Some((namespace, registry)) = registries.of(image) else {
            return Ok(None);
        };
        Self::read(namespace, registry).map(Some)
    }

    /// The login of an entry.
    pub fn read(namespace: &Namespace, registry: &Registry) -> Result<Self> {
        let table = namespace.table();
        let (Some(user), Some(file)) = (&registry.username, &registry.password_file) else {
            return of_caller(namespace, &config_file());
        };
        let key = format!("{table}.password_file");
        Ok(Self {
            source: format!("username and password_file of [{table}]"),
            user: user.clone(),
            proof: Proof::Password(Secret::read(file, &key)?),
            server: server(namespace),
        })
    }

    /// What it is from: `username and password_file of […]`.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// `config.json` of docker's command with these logins and nothing else. It is a secret.
    pub fn config_file<'a>(logins: impl Iterator<Item = &'a Self>) -> Secret {
        let auths: Map<String, Value> = logins
            .map(|login| (login.server.clone(), login.auth()))
            .collect();
        Secret::new(json!({ "auths": auths }).to_string())
    }

    fn auth(&self) -> Value {
        let pair = |password: &str| STANDARD.encode(format!("{}:{password}", self.user));
        match &self.proof {
            Proof::Password(password) => json!({"auth": pair(password.expose())}),
            Proof::Token(token) => json!({"auth": pair(""), "identitytoken": token.expose()}),
        }
    }

    /// The registry, as docker's command calls it.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// The value of [`REGISTRY_AUTH`]. It is a secret.
    pub fn header(&self) -> HeaderValue {
        let Self {
            user,
            proof,
            server,
            ..
        } = self;
        let told = match proof {
            Proof::Password(password) => {
                json!({"username": user, "password": password.expose(), "serveraddress": server})
            }
            Proof::Token(token) => {
                json!({"username": user, "identitytoken": token.expose(), "serveraddress": server})
            }
        };
        let encoded = URL_SAFE.encode(told.to_string());
        // Base64 is a header's text; without one the registry would say what is wrong.
        let mut value =
            HeaderValue::try_from(encoded).unwrap_or_else(|_| HeaderValue::from_static(""));
        value.set_sensitive(true);
        value
    }
}

fn server(namespace: &Namespace) -> String {
    match namespace.host() {
        "docker.io" => HUB.to_owned(),
        host => host.to_owned(),
    }
}

/// `config.json` of docker's command, as that finds it.
fn config_file() -> PathBuf {
    let named = std::env::var_os("DOCKER_CONFIG").filter(|path| !path.is_empty());
    let directory = named.map(PathBuf::from).or_else(|| {
        let home = std::env::var_os("HOME").filter(|path| !path.is_empty())?;
        Some(PathBuf::from(home).join(".docker"))
    });
    directory
        .unwrap_or_else(|| PathBuf::from("/root/.docker"))
        .join("config.json")
}

/// As far as it tells of logins.
#[derive(Deserialize, Default)]
#[serde(default)]
struct ConfigFile {
    auths: BTreeMap<String, Auth>,
    #[serde(rename = "credsStore")]
    store: Option<String>,
    #[serde(rename = "credHelpers")]
    helpers: BTreeMap<String, String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Auth {
    #[serde(rename = "auth")]
    pair: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
}

/// The caller's own login for the registry of an entry.
fn of_caller(namespace: &Namespace, file: &Path) -> Result<Login> {
    let (host, table) = (namespace.host(), namespace.table());
    let lacks = |what: String| {
        Error::new(Code::SecretUnreadable, what).hint(format!(
            "run `docker login {host}` as the user who runs hatchery, or set username and password_file of [{table}]"
        ))
    };
    let unreadable = || {
        lacks(format!(
            "{}, which contains the login for {host}, cannot be read",
            file.display()
        ))
    };
    let text = match read_bounded(file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(lacks(format!(
                "there is no login for {host}: {} is missing",
                file.display()
            )));
        }
        Err(error) => return Err(unreadable().because(error)),
    };
    // What is wrong in it is not told: the parser would show a part of the text.
    let config: ConfigFile = serde_json::from_str(&text).map_err(|_| unreadable())?;
    let is_hosts = |name: &str| is_of(name, host);
    if let Some(auth) = config
        .auths
        .iter()
        .find(|(name, auth)| is_hosts(name) && auth.is_there())
        .map(|(_, auth)| auth)
    {
        let (user, proof) = auth.read().ok_or_else(unreadable)?;
        return Ok(Login {
            source: format!("the login for {host} in {}", file.display()),
            user,
            proof,
            server: server(namespace),
        });
    }
    let helper = config
        .helpers
        .iter()
        .find(|(name, _)| is_hosts(name))
        .map(|(_, helper)| helper)
        .or(config.store.as_ref())
        .filter(|helper| !helper.is_empty());
    match helper {
        Some(helper) => Err(Error::new(
            Code::SecretUnreadable,
            format!(
                "the login for {host} is in the credential helper {}, which hatchery does not run",
                clean::line(helper)
            ),
        )
        .hint(format!("set username and password_file of [{table}]"))),
        None => Err(lacks(format!(
            "there is no login for {host} in {}",
            file.display()
        ))),
    }
}

/// Whether a key of `auths` is a registry's: docker's command has written URLs, too.
fn is_of(key: &str, host: &str) -> bool {
    let key = key
        .strip_prefix("https://")
        .or_else(|| key.strip_prefix("http://"))
        .unwrap_or(key);
    let key = key.split('/').next().unwrap_or_default();
    key.eq_ignore_ascii_case(host) || (host == "docker.io" && key == "index.docker.io")
}

impl Auth {
    /// Whether it says anything: beside a helper stands an empty one.
    fn is_there(&self) -> bool {
        let filled = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
        filled(&self.pair) || filled(&self.username) || filled(&self.identitytoken)
    }

    fn read(&self) -> Option<(String, Proof)> {
        let decoded = match self.pair.as_deref().filter(|pair| !pair.is_empty()) {
            Some(pair) => Some(String::from_utf8(STANDARD.decode(pair).ok()?).ok()?),
            None => None,
        };
        let pair = decoded.as_deref().and_then(|text| text.split_once(':'));
        let user = pair
            .map(|(user, _)| user.to_owned())
            .or_else(|| self.username.clone())
            .unwrap_or_default();
        if let Some(token) = self
            .identitytoken
            .as_ref()
            .filter(|token| !token.is_empty())
        {
            return Some((user, Proof::Token(Secret::new(token.clone()))));
        }
        let password = pair
            // Docker's command of old has filled it up with zeros.
            .map(|(_, password)| password.trim_end_matches('\0').to_owned())
            .or_else(|| self.password.clone())?;
        Some((user, Proof::Password(Secret::new(password))))
    }
}

fn read_bounded(file: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    let file = std::fs::File::open(file)?;
    file.take(MAX_FILE + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_FILE {
        return Err(std::io::Error::other("larger than 1 MiB"));
    }
    Ok(text)
}

impl Docker {
    /// Pulls an image with a login, telling of each step.
    pub(super) async fn pull_as(
        &self,
        login: &Login,
        image: &str,
        tag: &str,
        progress: &(dyn Fn(&str) + Sync),
    ) -> Result<()> {
        let doing = format!("pull the image {image}");
        let lost = |error: reqwest::Error| {
            Error::new(
                Code::DockerAway,
                format!("the Docker daemon went away while hatchery tried to {doing}"),
            )
            .hint("check `systemctl status docker`, then try again")
            .because(error.without_url())
        };
        let said = |error: String| failed(&doing, ApiError::DockerStreamError { error });
        let client = http::unix_client(socket_of(&self.host), PULLED_WITHIN)?;
        let query = form_urlencoded::Serializer::new(String::new())
            .append_pair("fromImage", image)
            .append_pair("tag", tag)
            .finish();
        let mut answer = client
            .post(format!("http://localhost/images/create?{query}"))
            .header(REGISTRY_AUTH, login.header())
            .send()
            .await
            .map_err(lost)?;
        let is_success = answer.status().is_success();
        let mut lines = Vec::new();
        while let Some(part) = answer.chunk().await.map_err(lost)? {
            lines.extend_from_slice(&part);
            while let Some(end) = lines.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = lines.drain(..=end).collect();
                told(&line, is_success, progress).map_err(said)?;
            }
            if lines.len() > MAX_LINE {
                return Err(said("its answer has a line that is too long".to_owned()));
            }
        }
        if lines.is_empty() && is_success {
            return Ok(());
        }
        told(&lines, is_success, progress).map_err(said)
    }
}

/// A line of Docker's answer to a pull; the error is what it says of a failure.
fn told(
    line: &[u8],
    is_success: bool,
    progress: &(dyn Fn(&str) + Sync),
) -> std::result::Result<(), String> {
    let line: Value = serde_json::from_slice(line).unwrap_or_default();
    let text = |key: &str| line[key].as_str();
    if let Some(why) = text("error").or(text("message")) {
        return Err(why.to_owned());
    }
    if !is_success {
        return Err("it gave no reason".to_owned());
    }
    if let Some(status) = text("status") {
        progress(&format!("{} {status}", text("id").unwrap_or_default()));
    }
    Ok(())
}

/// Whether these words are those of a registry that wants a login, or another one. Most say no more of
/// an image that is not there.
pub fn is_denial(text: &str) -> bool {
    DENIALS.iter().any(|denial| text.contains(denial))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn namespace(name: &str) -> Namespace {
        Namespace::try_from(name.to_owned()).unwrap()
    }

    fn told(login: &Login) -> Value {
        let header = login.header();
        assert!(header.is_sensitive());
        let text = URL_SAFE.decode(header.as_bytes()).unwrap();
        serde_json::from_slice(&text).unwrap()
    }

    fn of_file(host: &str, text: &str) -> Result<Login> {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("config.json");
        std::fs::write(&file, text).unwrap();
        of_caller(&namespace(host), &file)
    }

    #[test]
    fn a_password_is_read_from_its_file_and_shown_nowhere() {
        let file = tempfile::NamedTempFile::new().unwrap();
        // What the other base64 has its own characters for.
        std::fs::write(file.path(), "hunter2>>>???~~~\n").unwrap();
        let registry = Registry {
            username: Some("dev".to_owned()),
            password_file: Some(file.path().to_owned()),
            repositories: vec!["acme/*".to_owned()],
        };
        let login = Login::read(&namespace("ghcr.io/acme"), &registry).unwrap();
        assert_eq!(
            told(&login),
            json!({"username": "dev", "password": "hunter2>>>???~~~", "serveraddress": "ghcr.io"})
        );
        assert!(login.source().contains("registries.\"ghcr.io/acme\""));
        let shown = format!("{login:?} {:?} {}", login.header(), login.source());
        assert!(!shown.contains("hunter2"), "{shown}");

        std::fs::write(file.path(), "").unwrap();
        let error = Login::read(&namespace("ghcr.io/acme"), &registry).unwrap_err();
        assert_eq!(error.code(), Code::SecretUnreadable);
        let message = error.message();
        assert!(
            message.contains("registries.\"ghcr.io/acme\".password_file"),
            "{message}"
        );
    }

    #[test]
    fn the_callers_login_is_found_as_docker_writes_it() {
        // dev:secret
        let auth = r#"{"auth": "ZGV2OnNlY3JldA=="}"#;
        let secret = json!({"username": "dev", "password": "secret", "serveraddress": "ghcr.io"});
        for key in [
            "ghcr.io",
            "https://ghcr.io",
            "https://ghcr.io/v2/",
            "GHCR.io",
        ] {
            let login = of_file(
                "ghcr.io/acme",
                &format!(r#"{{"auths": {{"{key}": {auth}}}}}"#),
            );
            assert_eq!(told(&login.unwrap()), secret, "{key}");
        }
        let hub = format!(r#"{{"auths": {{"https://index.docker.io/v1/": {auth}}}}}"#);
        assert_eq!(
            told(&of_file("docker.io/acme", &hub).unwrap())["serveraddress"],
            HUB
        );
        let token = r#"{"auths": {"ghcr.io": {"auth": "ZGV2Og==", "identitytoken": "t"}}}"#;
        assert_eq!(
            told(&of_file("ghcr.io", token).unwrap()),
            json!({"username": "dev", "identitytoken": "t", "serveraddress": "ghcr.io"})
        );
    }

    #[test]
    fn what_is_written_for_a_build_is_read_as_dockers_own() {
        let hub = r#"{"auths": {"https://index.docker.io/v1/": {"auth": "ZGV2OnNlY3JldA=="}}}"#;
        let token = r#"{"auths": {"ghcr.io": {"auth": "ZGV2Og==", "identitytoken": "t"}}}"#;
        for (host, text) in [("docker.io/acme", hub), ("ghcr.io/acme", token)] {
            let login = of_file(host, text).unwrap();
            let written = Login::config_file(std::iter::once(&login));
            let again = of_file(host, written.expose()).unwrap();
            assert_eq!(told(&again), told(&login), "{host}");
        }
    }

    #[test]
    fn where_there_is_no_login_it_is_said_what_to_do() {
        for (text, what, hint) in [
            ("{}", "no login for ghcr.io", "docker login ghcr.io"),
            (
                r#"{"auths": {"ghcr.io.evil": {"auth": "ZGV2OnNlY3JldA=="}}}"#,
                "no login",
                "docker login",
            ),
            (
                r#"{"auths": {"ghcr.io": {}}, "credsStore": "pass"}"#,
                "helper pass",
                "password_file",
            ),
            (
                r#"{"credHelpers": {"ghcr.io": "gcloud"}}"#,
                "helper gcloud",
                "password_file",
            ),
            (
                r#"{"auths": {"ghcr.io": {"auth": "hunter2"}}}"#,
                "cannot be read",
                "docker login",
            ),
            (r#"{"auths": "hunter2"}"#, "cannot be read", "docker login"),
        ] {
            let error = of_file("ghcr.io/acme", text).unwrap_err();
            assert_eq!(error.code(), Code::SecretUnreadable);
            assert!(
                error.message().contains(what),
                "{text}: {}",
                error.message()
            );
            assert!(error.what_next().unwrap().contains(hint), "{text}");
            assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
        }
        let missing = of_caller(&namespace("ghcr.io"), Path::new("/nowhere/config.json"));
        assert!(
            missing
                .unwrap_err()
                .message()
                .contains("/nowhere/config.json is missing")
        );
    }

    #[test]
    fn what_docker_says_of_a_pull_is_progress_or_a_failure() {
        let told = |line: &str, is_success| super::told(line.as_bytes(), is_success, &|_| {});
        assert_eq!(told(r#"{"status": "Pulling", "id": "1"}"#, true), Ok(()));
        assert_eq!(
            told(r#"{"errorDetail": {}, "error": "no"}"#, true),
            Err("no".to_owned())
        );
        assert_eq!(told(r#"{"message": "no"}"#, false), Err("no".to_owned()));
        assert!(told("", false).is_err());
    }
}
