//! The configuration file: every key has a default, every mistake is named with its line.

mod building;
mod git;
mod home;
mod registries;
mod runtime;
mod size;
mod subnets;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};
use url::Url;

pub use self::building::{Builder, Known};
pub use self::git::{Git, Words};
pub use self::home::{HomePath, InHome, SharedVolume};
pub use self::registries::{Namespace, Registries, Registry};
pub use self::runtime::Runtime;
pub use self::subnets::Subnets;
use crate::drone::Identity;
use crate::drone::permission::{Access, Permission};
use crate::error::{Code, Error, Result};
use crate::repo::RepoId;
use crate::secret::Environment;

/// Where the configuration is when nothing else is said.
pub const DEFAULT_PATH: &str = "/etc/hatchery/config.toml";

/// The largest configuration file that is read, in bytes.
const MAX_FILE: u64 = 1024 * 1024;

/// What is in force.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// GitHub or a GitHub Enterprise Server, and the App.
    pub github: Github,
    /// Who commits in drones.
    pub git: Git,
    /// The tailnet; without it drones are reachable on a loopback port of this server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tailnet: Option<Tailnet>,
    /// Who may log in to drones.
    pub ssh: Ssh,
    /// What a drone may use, and how many there may be.
    pub limits: Limits,
    /// The devcontainer CLI and what is added to repositories.
    pub devcontainer: Devcontainer,
    /// What a person's home gets in each drone.
    pub dotfiles: Dotfiles,
    /// The Docker daemon and the drones' networks.
    pub docker: Docker,
    /// Registries of private images.
    pub registries: Registries,
    /// What a monitoring system is told.
    pub metrics: Metrics,
    /// What is different for one drone.
    pub drones: BTreeMap<RepoId, DroneSettings>,
}

/// `[github]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Github {
    /// Where repositories are cloned from.
    pub url: Url,
    /// Where the REST API is.
    pub api_url: Url,
    /// Client ID or numeric App ID, as a string.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app_id: Option<String>,
    /// The App's private key (PEM), where it is no credential of `hatchery-credd`'s unit alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub private_key_file: Option<PathBuf>,
    /// Certificates to trust beside the system's (PEM), here and in the drone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// What a drone's token may do unless said otherwise.
    pub permissions: BTreeMap<Permission, Access>,
}

impl Default for Github {
    fn default() -> Self {
        let url = |text: &str| Url::parse(text).expect("a constant URL; cannot fail");
        let permissions = [
            ("contents", Access::Write),
            ("pull_requests", Access::Write),
            ("issues", Access::Write),
            ("actions", Access::Read),
            ("checks", Access::Read),
            ("statuses", Access::Read),
            ("metadata", Access::Read),
        ];
        Self {
            url: url("https://github.com"),
            api_url: url("https://api.github.com"),
            app_id: None,
            private_key_file: None,
            ca_file: None,
            permissions: permissions
                .into_iter()
                .filter_map(|(name, access)| Some((name.parse().ok()?, access)))
                .collect(),
        }
    }
}

/// `[tailnet]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tailnet {
    /// Headscale.
    pub login_server: Url,
    /// The tailnet's DNS domain (Headscale's `dns.base_domain`).
    pub domain: String,
    /// The Headscale user that owns the drones' nodes.
    #[serde(default = "default_user")]
    pub user: String,
    /// A reusable, ephemeral pre-auth key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth_key_file: Option<PathBuf>,
    /// A Headscale API key; each join then gets a single-use key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_key_file: Option<PathBuf>,
}

fn default_user() -> String {
    "devcontainer".to_owned()
}

/// `[ssh]`
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ssh {
    /// Lines as in `authorized_keys` (sshd(8)).
    pub authorized_keys: Vec<String>,
    /// URLs whose answer is such lines.
    pub authorized_keys_from: Vec<Url>,
}

/// `[limits]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// How many drones there may be.
    pub drones: usize,
    /// Memory of one drone.
    #[serde(serialize_with = "size::exact")]
    pub memory: ByteSize,
    /// Processors of one drone.
    pub cpus: f64,
    /// Processes and threads of one drone.
    pub pids: i64,
    /// How long a spawn may take to clone and build.
    pub build: Span,
    /// What a drone may take on Docker's disk before it is burrowed; 0 is no limit.
    #[serde(serialize_with = "size::exact")]
    pub disk: ByteSize,
    /// What is left free on Docker's disk: with less, nothing is spawned.
    #[serde(serialize_with = "size::exact")]
    pub reserve: ByteSize,
    /// What a clone may take on the disk.
    #[serde(serialize_with = "size::exact")]
    pub clone: ByteSize,
    /// Files and directories of a clone.
    pub clone_files: u64,
    /// How long nobody and nothing may be at work in a drone before it is burrowed; 0 is no limit.
    pub idle: Period,
    /// How long work is kept that was in a drone slain by force.
    pub remains: Period,
    /// How much of it is kept of one drone.
    #[serde(serialize_with = "size::exact")]
    pub remains_size: ByteSize,
}

impl Limits {
    /// What a drone may take on Docker's disk, in bytes; `None` where there is no limit.
    pub fn most_disk(&self) -> Option<u64> {
        Some(self.disk.as_u64()).filter(|bytes| *bytes > 0)
    }

    /// Processors of one drone, or all where this server has fewer: Docker refuses to give more.
    pub fn processors(&self) -> f64 {
        let there = std::thread::available_parallelism().ok();
        let there = there.and_then(|there| u32::try_from(there.get()).ok());
        there.map_or(self.cpus, |there| self.cpus.min(f64::from(there)))
    }

    /// Refuses what cannot be: the key, and why.
    pub(crate) fn check(&self) -> std::result::Result<(), (&'static str, String)> {
        if !(self.cpus.is_finite() && self.cpus > 0.0) {
            return Err(("limits.cpus", "must be more than 0".into()));
        }
        // Of less the kernel makes no time that it can keep count of.
        if self.cpus < 0.01 {
            return Err(("limits.cpus", "must be at least 0.01".into()));
        }
        // Docker refuses less than 6 MiB; a drone's sshd and tailscaled need far more.
        if self.memory < ByteSize::mib(64) {
            return Err(("limits.memory", "must be at least 64MiB".into()));
        }
        // With less a drone is burrowed before anybody has worked in it.
        if self.disk != ByteSize::b(0) && self.disk < ByteSize::mib(64) {
            return Err((
                "limits.disk",
                "must be at least 64MiB, or 0 for no limit".into(),
            ));
        }
        // In less an agent may well wait for an answer.
        if self.idle.get().is_some_and(|idle| idle < SHORTEST_IDLE) {
            let shortest = humantime::format_duration(SHORTEST_IDLE);
            let what = format!("must be at least {shortest}, or 0 for no limit");
            return Err(("limits.idle", what));
        }
        if self.clone < ByteSize::mib(1) {
            return Err(("limits.clone", "must be at least 1MiB".into()));
        }
        if self.clone_files == 0 {
            return Err(("limits.clone_files", "must be more than 0".into()));
        }
        if self.pids < 16 {
            return Err(("limits.pids", "must be at least 16".into()));
        }
        if self.pids > MOST_PIDS {
            return Err(("limits.pids", format!("must be at most {MOST_PIDS}")));
        }
        Ok(())
    }
}

/// The kernel has no more numbers for processes (`PID_MAX_LIMIT`, proc(5)).
const MOST_PIDS: i64 = 4_194_304;

/// The shortest time for which a drone is to be idle before it is burrowed.
const SHORTEST_IDLE: Duration = Duration::from_secs(10 * 60);

/// A length of time, written as `90s`, `45m` or `1h 30m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Span(Duration);

impl TryFrom<String> for Span {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Self, String> {
        match humantime::parse_duration(&text) {
            Ok(Duration::ZERO) => Err("must be more than 0".to_owned()),
            Ok(span) => Ok(Self(span)),
            Err(_) => Err(format!("{text:?} is not a duration; write it as \"2h\"")),
        }
    }
}

impl std::fmt::Display for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

impl From<Span> for String {
    fn from(span: Span) -> Self {
        span.to_string()
    }
}

impl From<Span> for Duration {
    fn from(span: Span) -> Self {
        span.0
    }
}

/// A [`Span`], or `0` where there is none: nothing is kept, nothing is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(into = "String")]
pub struct Period(Option<Span>);

impl std::str::FromStr for Period {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "0" => Ok(Self(None)),
            text => Span::try_from(text.to_owned()).map(|span| Self(Some(span))),
        }
    }
}

impl Period {
    /// The time, where there is one.
    pub fn get(self) -> Option<Duration> {
        self.0.map(Duration::from)
    }
}

impl From<Period> for String {
    fn from(period: Period) -> Self {
        period.0.map_or_else(|| "0".to_owned(), Self::from)
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: serde::Deserializer<'de>>(
        deserializer: D,
    ) -> std::result::Result<Self, D::Error> {
        struct Visitor;

        impl serde::de::Visitor<'_> for Visitor {
            type Value = Period;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a duration such as \"30d\", or 0")
            }

            fn visit_i64<E: serde::de::Error>(self, number: i64) -> std::result::Result<Period, E> {
                match number {
                    0 => Ok(Period(None)),
                    _ => Err(E::invalid_value(
                        serde::de::Unexpected::Signed(number),
                        &self,
                    )),
                }
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> std::result::Result<Period, E> {
                text.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            drones: 16,
            memory: ByteSize::gib(8),
            cpus: 4.0,
            pids: 4096,
            build: Span(Duration::from_secs(2 * 60 * 60)),
            disk: ByteSize::gib(64),
            reserve: ByteSize::gib(1),
            clone: ByteSize::gib(32),
            clone_files: 2_000_000,
            idle: Period(None),
            remains: Period(Some(Span(Duration::from_secs(30 * 24 * 60 * 60)))),
            remains_size: ByteSize::gib(4),
        }
    }
}

/// The properties that a feature or an object of options may have: JSON, as in devcontainer.json.
pub type FeatureOptions = serde_json::Value;

/// `[devcontainer]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Devcontainer {
    /// The devcontainer CLI.
    pub command: String,
    /// The image for a repository without a devcontainer.json.
    pub image: String,
    /// Features that a repository gets where it lacks them.
    pub features: BTreeMap<String, FeatureOptions>,
    /// Repositories (`org/repo`, `org/*`) that the gate lets through.
    pub trust: Vec<String>,
    /// What the CLI may read in its cage beside the system's and its own.
    pub readable: Vec<PathBuf>,
    /// Images and features (`ghcr.io/devcontainers/*`, or a whole name) whose code may run in Docker's
    /// shared builder.
    pub known: Vec<Known>,
    /// Secret variables for all drones: a file as for `docker run --env-file`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env_file: Option<PathBuf>,
    /// Directories of the user's home that outlive a container.
    pub home: Vec<HomePath>,
    /// Volumes that drones share, and where each is in the user's home.
    pub mounts: BTreeMap<SharedVolume, InHome>,
}

/// `[metrics]`
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Metrics {
    /// The file that `hatchery recover` writes them into, in Prometheus's text format.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
}

/// `[dotfiles]`
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Dotfiles {
    /// Where they are cloned from: `org/repo` on GitHub, or a URL of git's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// The program in it that installs them; without it the first of those that the devcontainer CLI looks for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub install: Option<String>,
}

impl Dotfiles {
    fn check(&self) -> std::result::Result<(), (&'static str, String)> {
        // The devcontainer CLI puts both into a shell's script as they are.
        let is_plain = |text: &str, also: &str| {
            let mut all = text.chars();
            !text.is_empty()
                && !text.starts_with('-')
                && all.all(|c| c.is_ascii_alphanumeric() || also.contains(c))
        };
        if let Some(repository) = &self.repository
            && !is_plain(repository, "/.:@_-~+")
        {
            return Err((
                "dotfiles.repository",
                format!("must be org/repo or a git URL, not {repository:?}"),
            ));
        }
        if let Some(install) = &self.install {
            if !is_plain(install, "/._-") || !is_path_in_clone(install) {
                return Err((
                    "dotfiles.install",
                    format!("must be a path in the dotfiles repository, not {install:?}"),
                ));
            }
            if self.repository.is_none() {
                return Err((
                    "dotfiles.install",
                    "needs dotfiles.repository, which is not set".into(),
                ));
            }
        }
        Ok(())
    }
}

/// How many directories of the home may outlive a container: each is a volume.
const MAX_HOME_DIRECTORIES: usize = 32;

/// The feature that starts sshd on port 2222.
pub const SSHD_FEATURE: &str = "ghcr.io/devcontainers/features/sshd:1";
/// The feature that runs tailscaled.
pub const TAILSCALE_FEATURE: &str = "ghcr.io/tailscale/codespace/tailscale";

/// Microsoft's and Tailscale's.
const KNOWN: [&str; 3] = [
    "ghcr.io/devcontainers/*",
    "ghcr.io/tailscale/*",
    "mcr.microsoft.com/*",
];

impl Default for Devcontainer {
    fn default() -> Self {
        let no_options = || serde_json::Value::Object(serde_json::Map::new());
        Self {
            command: "devcontainer".to_owned(),
            image: "mcr.microsoft.com/devcontainers/base:ubuntu".to_owned(),
            features: BTreeMap::from([
                (SSHD_FEATURE.to_owned(), no_options()),
                (TAILSCALE_FEATURE.to_owned(), no_options()),
            ]),
            trust: Vec::new(),
            readable: Vec::new(),
            known: KNOWN
                .into_iter()
                .filter_map(|known| known.to_owned().try_into().ok())
                .collect(),
            env_file: None,
            home: Vec::new(),
            mounts: BTreeMap::new(),
        }
    }
}

impl Devcontainer {
    /// What is mounted in the user's home, each with the key that names it.
    fn in_home(&self) -> impl Iterator<Item = (&'static str, &HomePath)> {
        let own = self.home.iter().map(|path| ("devcontainer.home", path));
        let shared = self.mounts.values();
        own.chain(shared.map(|InHome(path)| ("devcontainer.mounts", path)))
    }

    /// Whether anything is mounted in the user's home.
    pub fn mounts_in_home(&self) -> bool {
        self.in_home().next().is_some()
    }

    fn check_home(&self) -> std::result::Result<(), (&'static str, String)> {
        let mut before: Vec<&HomePath> = Vec::new();
        for (key, one) in self.in_home() {
            if before.len() >= MAX_HOME_DIRECTORIES {
                let what = format!(
                    "lists more than {MAX_HOME_DIRECTORIES} directories in the home directory"
                );
                return Err((key, what));
            }
            if let Some(other) = before.iter().find(|it| it.overlaps(one)) {
                let (one, other) = (one.as_str(), other.as_str());
                let what =
                    format!("mounts at {other:?} and {one:?}, one of which is inside the other");
                return Err((key, what));
            }
            before.push(one);
        }
        Ok(())
    }
}

/// The builder's image.
pub const BUILDKIT: &str = "docker.io/moby/buildkit:v0.26.0-rootless";

/// `[docker]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Docker {
    /// The Engine API, as in `DOCKER_HOST`.
    pub host: String,
    /// What drones' networks get their addresses from.
    pub subnets: Subnets,
    /// What builds untrusted repositories.
    pub builder: Builder,
    /// `BuildKit`'s image, the one that runs without root, for drones' own builders.
    pub buildkit: String,
    /// `NAME:ADDRESS` entries for the drones' `/etc/hosts`.
    pub extra_hosts: Vec<String>,
    /// What runs the containers of untrusted repositories, instead of Docker's default: with it, what asks for
    /// `privileged` works without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime: Option<Runtime>,
}

impl Default for Docker {
    fn default() -> Self {
        Self {
            host: "unix:///var/run/docker.sock".to_owned(),
            subnets: Subnets::default(),
            builder: Builder::default(),
            buildkit: BUILDKIT.to_owned(),
            extra_hosts: Vec::new(),
            runtime: None,
        }
    }
}

/// `[drones."org/repo"]`
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DroneSettings {
    /// The repositories of its scope, its own among them or not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub repositories: Vec<RepoId>,
    /// What its tokens may do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub permissions: Option<BTreeMap<Permission, Access>>,
    /// Files of this server's for its clone: each by its path there.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, PathBuf>,
    /// Secret variables for it, over those for all drones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env_file: Option<PathBuf>,
}

fn own_env_file<'a>((repo, drone): (&RepoId, &'a DroneSettings)) -> Option<(&'a Path, String)> {
    let file = drone.env_file.as_deref()?;
    Some((file, format!("drones.\"{repo}\".env_file")))
}

fn is_path_in_clone(path: &str) -> bool {
    let mut parts = path.split('/');
    !path.is_empty()
        && parts.all(|part| !matches!(part, "" | "." | "..") && !part.eq_ignore_ascii_case(".git"))
}

impl Config {
    /// Reads the file that was named, or the default one, which may be absent.
    pub fn load(named: Option<&Path>) -> Result<Self> {
        let path = named.unwrap_or(Path::new(DEFAULT_PATH));
        let text = match read_bounded(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && named.is_none() => {
                return Ok(Self::default());
            }
            Err(error) => {
                return Err(Error::new(
                    Code::ConfigInvalid,
                    format!("the configuration {} cannot be read", path.display()),
                )
                .hint(
                    "name another file with --config or HATCHERY_CONFIG, or check its permissions",
                )
                .because(error));
            }
        };
        Self::parse(&text, path)
    }

    /// Parses the text of a configuration; `path` is for the errors.
    pub fn parse(text: &str, path: &Path) -> Result<Self> {
        let config: Self = toml::from_str(text).map_err(|error| {
            let line = error.span().map_or(1, |span| line_at(text, span.start));
            // A text with a key that is there twice is no document to find the key in.
            let key = error.span().and_then(|span| {
                key_at(text, span.start).or_else(|| {
                    let twice = error.message().contains("duplicate key");
                    twice.then(|| key_near(text, span)).flatten()
                })
            });
            let what = match key {
                Some(key) => format!("{key}: {}", plain_words(error.message())),
                None => error.message().to_owned(),
            };
            wrong(path, Some(line), &what)
        })?;
        if let Some((line, repo)) = there_twice::<RepoId>(text, "drones") {
            let what = format!(
                "drones.{repo}: duplicate key; names of repositories are not case-sensitive"
            );
            return Err(wrong(path, Some(line), &what));
        }
        if let Some((line, name)) = there_twice::<Namespace>(text, "registries") {
            let what = format!("registries.\"{name}\": another entry names the same registry");
            return Err(wrong(path, Some(line), &what));
        }
        config.registries.check().map_err(|(key, what)| {
            wrong(path, line_of_registry(text, &key), &format!("{key} {what}"))
        })?;
        config
            .check()
            .map_err(|(key, what)| wrong(path, line_of(text, key), &format!("{key} {what}")))?;
        Ok(config)
    }

    fn check_files(&self) -> std::result::Result<(), (&'static str, String)> {
        for (path, file) in self.drones.values().flat_map(|drone| &drone.files) {
            if !is_path_in_clone(path) {
                return Err((
                    "files",
                    format!("{path:?} must be a path in the clone, without `..` and outside .git"),
                ));
            }
            if !file.is_absolute() {
                return Err((
                    "files",
                    format!(
                        "{path:?} must name an absolute path on this server, not {}",
                        file.display()
                    ),
                ));
            }
        }
        Ok(())
    }

    fn check_env_files(&self) -> std::result::Result<(), (&'static str, String)> {
        let absolute = |file: &Option<PathBuf>, key, of: &str| match file {
            Some(file) if file.is_relative() => Err((
                key,
                format!("{of}must be an absolute path, not {}", file.display()),
            )),
            _ => Ok(()),
        };
        absolute(&self.devcontainer.env_file, "devcontainer.env_file", "")?;
        absolute(&self.metrics.file, "metrics.file", "")?;
        for (repo, drone) in &self.drones {
            absolute(&drone.env_file, "drones", &format!("{repo}: env_file "))?;
        }
        Ok(())
    }

    /// The secret variables of a drone, read from the files that the configuration names. A stranger's has none.
    pub fn secrets(&self, drone: &Identity) -> Result<Environment> {
        if drone.is_strangers() {
            return Ok(Environment::default());
        }
        let own = self
            .drones
            .get_key_value(&drone.repo)
            .and_then(own_env_file);
        Environment::read(self.common_env_file().into_iter().chain(own))
    }

    /// All files with secret variables, each with the key that names it.
    pub fn env_files(&self) -> impl Iterator<Item = (&Path, String)> {
        let own = self.drones.iter().filter_map(own_env_file);
        self.common_env_file().into_iter().chain(own)
    }

    fn common_env_file(&self) -> Option<(&Path, String)> {
        let file = self.devcontainer.env_file.as_deref()?;
        Some((file, "devcontainer.env_file".to_owned()))
    }

    /// What the types alone do not say. The error is the key and what is wrong with it.
    fn check(&self) -> std::result::Result<(), (&'static str, String)> {
        for (key, url) in [
            ("github.url", &self.github.url),
            ("github.api_url", &self.github.api_url),
        ] {
            if url.scheme() != "https" || !plain(url) {
                return Err((
                    key,
                    format!("must be an https URL without user, query or fragment, not {url}"),
                ));
            }
        }
        for (permission, access) in &self.github.permissions {
            if !permission.allows(*access) {
                return Err((
                    "github.permissions",
                    format!("{permission} cannot be {access}"),
                ));
            }
        }
        if self.github.permissions.is_empty() {
            return Err((
                "github.permissions",
                "is empty; leave it out for the defaults".into(),
            ));
        }
        if self.github.app_id.is_none() && self.github.private_key_file.is_some() {
            return Err((
                "github.private_key_file",
                "needs github.app_id, which is not set".into(),
            ));
        }
        self.check_files()?;
        if let Some(tailnet) = &self.tailnet {
            if !matches!(tailnet.login_server.scheme(), "https" | "http")
                || !plain(&tailnet.login_server)
            {
                return Err((
                    "tailnet.login_server",
                    "must be an http or https URL".into(),
                ));
            }
            if !is_domain(&tailnet.domain) {
                return Err((
                    "tailnet.domain",
                    format!("{:?} is not a DNS domain", tailnet.domain),
                ));
            }
            if tailnet.auth_key_file.is_none() && tailnet.api_key_file.is_none() {
                return Err((
                    "tailnet.auth_key_file",
                    "or tailnet.api_key_file is needed to join drones".into(),
                ));
            }
        }
        for line in &self.ssh.authorized_keys {
            if line.contains('\n') || line.parse::<ssh_key::authorized_keys::Entry>().is_err() {
                return Err((
                    "ssh.authorized_keys",
                    format!("contains a line that is not a public key: {line:?}"),
                ));
            }
        }
        for url in &self.ssh.authorized_keys_from {
            if url.scheme() != "https" {
                return Err((
                    "ssh.authorized_keys_from",
                    format!("must contain only https URLs, not {url}"),
                ));
            }
        }
        if let Some(path) = self
            .devcontainer
            .readable
            .iter()
            .find(|it| it.is_relative())
        {
            return Err((
                "devcontainer.readable",
                format!("must contain only absolute paths, not {}", path.display()),
            ));
        }
        self.check_env_files()?;
        self.devcontainer.check_home()?;
        self.dotfiles.check()?;
        self.limits.check()?;
        for pattern in &self.devcontainer.trust {
            if !registries::is_pattern(pattern) {
                return Err((
                    "devcontainer.trust",
                    format!("{pattern:?} is neither org/repo nor org/*"),
                ));
            }
        }
        for (feature, options) in &self.devcontainer.features {
            if !(options.is_object() || options.is_string() || options.is_boolean()) {
                return Err((
                    "devcontainer.features",
                    format!("the options of {feature} must be a table"),
                ));
            }
        }
        if self
            .docker
            .host
            .strip_prefix("unix://")
            .is_none_or(|path| !path.starts_with('/'))
        {
            return Err((
                "docker.host",
                "must be unix:///PATH: drones live on this server".into(),
            ));
        }
        for (repo, drone) in &self.drones {
            let permissions = drone.permissions.iter().flatten();
            for (permission, access) in permissions {
                if !permission.allows(*access) {
                    return Err(("drones", format!("{repo}: {permission} cannot be {access}")));
                }
            }
            if drone.permissions.as_ref().is_some_and(BTreeMap::is_empty) {
                return Err((
                    "drones",
                    format!("{repo}: permissions are empty; leave them out for the defaults"),
                ));
            }
        }
        Ok(())
    }

    /// Lowers what is allowed to what this server has: Docker refuses more processors than there
    /// are.
    pub fn fit_to_this_server(&mut self) {
        self.limits.cpus = self.limits.processors();
    }

    /// Takes back what it gives repositories because their owners write what is in them: trust, private
    /// images, and what drones share, which holds their logins.
    pub fn trust_no_owner(&mut self) {
        self.devcontainer.trust.clear();
        self.devcontainer.mounts.clear();
        self.registries.serve_nobody();
    }

    /// Whether the gate lets this repository through without asking.
    pub fn trusts(&self, repo: &RepoId) -> bool {
        registries::names(&self.devcontainer.trust, repo)
    }
}

fn wrong(path: &Path, line: Option<usize>, what: &str) -> Error {
    let place = line.map_or_else(
        || path.display().to_string(),
        |line| format!("{}:{line}", path.display()),
    );
    Error::new(Code::ConfigInvalid, format!("{place}: {what}"))
        .hint("fix it, then run `hatchery config --check`")
}

/// No user, password, query or fragment in it.
fn plain(url: &Url) -> bool {
    url.has_host()
        && url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none()
}

fn is_domain(text: &str) -> bool {
    text.len() <= 253
        && text.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
        })
}

/// The line on which `table.key` stands, where it can be told.
fn line_of(text: &str, key: &str) -> Option<usize> {
    let document = toml::de::DeTable::parse(text).ok()?;
    let (table, key) = key.split_once('.').unwrap_or((key, ""));
    let (name, value) = document.get_ref().get_key_value(table)?;
    let start = value
        .get_ref()
        .as_table()
        .and_then(|inner| inner.get_key_value(key))
        .map_or(name.span().start, |(name, _)| name.span().start);
    Some(line_at(text, start))
}

/// The key, with its tables, whose value stands at this place.
fn key_at(text: &str, place: usize) -> Option<String> {
    fn find(table: &toml::de::DeTable<'_>, place: usize) -> Option<String> {
        table.iter().find_map(|(name, value)| {
            let name = name.get_ref();
            match value.get_ref().as_table() {
                Some(inner) if !inner.is_empty() => {
                    find(inner, place).map(|key| format!("{name}.{key}"))
                }
                _ => value.span().contains(&place).then(|| name.to_string()),
            }
        })
    }
    find(toml::de::DeTable::parse(text).ok()?.get_ref(), place)
}

/// The key whose second mention stands here, with its table as far as the lines above tell it.
fn key_near(text: &str, span: std::ops::Range<usize>) -> Option<String> {
    let key = text.get(span.clone())?.trim();
    let line = text[..span.start].rfind('\n').map_or(0, |end| end + 1);
    let before = text[line..span.start].trim_start();
    if before.starts_with('[') {
        // It is a table itself: the whole of its name.
        let header = text[line..].lines().next()?.trim();
        let name = header.trim_start_matches('[').split(']').next()?;
        return Some(name.trim().to_owned());
    }
    let within = before.split_once('=').map(|(outer, _)| outer.trim());
    let table = text[..line].lines().rev().find_map(|line| {
        let name = line.trim().strip_prefix('[')?;
        Some(name.trim_start_matches('[').split(']').next()?.trim())
    });
    let parts = [table, within, Some(key)];
    Some(parts.into_iter().flatten().collect::<Vec<_>>().join("."))
}

/// The line in which this byte of a text is, counted from 1.
fn line_at(text: &str, at: usize) -> usize {
    text[..at.min(text.len())].matches('\n').count() + 1
}

/// The line on which what is one key to hatchery, and two to TOML, stands for the second time, and the
/// key as it is written there: GitHub does not tell names apart by their case, Docker not its own hosts.
fn there_twice<T: TryFrom<String> + Ord>(text: &str, table: &str) -> Option<(usize, String)> {
    let document = toml::de::DeTable::parse(text).ok()?;
    let table = document.get_ref().get(table)?.get_ref().as_table()?;
    let mut names: Vec<_> = table
        .keys()
        .filter_map(|name| {
            let key = T::try_from(name.get_ref().to_string()).ok()?;
            Some((name.span().start, key, name.get_ref().to_string()))
        })
        .collect();
    names.sort();
    let mut seen = BTreeSet::new();
    let (start, _, name) = names.iter().find(|(_, key, _)| !seen.insert(key))?;
    Some((line_at(text, *start), name.clone()))
}

/// The line of a key of `registries."NAME"`, or of that table.
fn line_of_registry(text: &str, key: &str) -> Option<usize> {
    let (name, key) = key.strip_prefix("registries.\"")?.rsplit_once("\".")?;
    let document = toml::de::DeTable::parse(text).ok()?;
    let all = document.get_ref().get("registries")?.get_ref().as_table()?;
    let meant = |text: &str| {
        Namespace::try_from(text.to_owned()).is_ok_and(|namespace| namespace.to_string() == name)
    };
    let (name, value) = all.iter().find(|(name, _)| meant(name.get_ref()))?;
    let table = value.get_ref().as_table();
    let start = table
        .and_then(|inner| inner.get_key_value(key))
        .map_or(name.span().start, |(name, _)| name.span().start);
    Some(line_at(text, start))
}

/// What serde expects, without Rust's names for it.
fn plain_words(message: &str) -> String {
    [
        ("expected usize", "expected a whole number from 0"),
        ("expected i64", "expected a whole number"),
        ("expected f64", "expected a number"),
        (
            "expected parsable string",
            "expected a size such as \"8GiB\"",
        ),
    ]
    .iter()
    .fold(message.to_owned(), |text, (from, to)| {
        text.replace(from, to)
    })
}

fn read_bounded(path: &Path) -> std::io::Result<String> {
    use std::io::Read;
    let mut text = String::new();
    std::fs::File::open(path)?
        .take(MAX_FILE + 1)
        .read_to_string(&mut text)?;
    if text.len() as u64 > MAX_FILE {
        return Err(std::io::Error::other("larger than 1 MiB"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drone::Scope;
    use crate::drone::head::Head;
    use proptest::prelude::*;

    fn error_of(text: &str) -> String {
        Config::parse(text, Path::new("c.toml"))
            .unwrap_err()
            .message()
    }

    #[test]
    fn an_empty_file_is_a_configuration() {
        let config = Config::parse("", Path::new("c.toml")).unwrap();
        assert!(config.tailnet.is_none());
        assert_eq!(config.limits.drones, 16);
        assert_eq!(config.github.permissions.len(), 7);
    }

    #[test]
    fn directories_of_the_home_are_apart() {
        for (home, told) in [
            (
                r#""../x""#,
                "home: \"../x\" is not a directory in a home directory",
            ),
            (
                r#"".config/gh", ".config""#,
                "home mounts at \".config/gh\" and \".config\"",
            ),
        ] {
            let text = format!("[devcontainer]\nhome = [{home}]\n");
            let error = Config::parse(&text, Path::new("c.toml")).unwrap_err();
            let said = error.message();
            assert!(said.contains("c.toml:2") && said.contains(told), "{said}");
        }
        for (mounts, fits) in [
            (r#"claude = "~/.claude""#, true),
            (r#"claude = "~/.config/x""#, false),
            (r#"a = "~/a", b = "~/a/b""#, false),
            (r#"a = "/etc""#, false),
            (r#""a/b" = "~/a""#, false),
        ] {
            let text = format!("[devcontainer]\nhome = [\".config\"]\nmounts = {{ {mounts} }}\n");
            let parsed = Config::parse(&text, Path::new("c.toml"));
            assert_eq!(parsed.is_ok(), fits, "{mounts}: {parsed:?}");
        }
    }

    #[test]
    fn mistakes_are_named_with_file_line_and_key() {
        for (text, line, key) in [
            (
                "[github]\nurl = \"https://github.com\"\n\nappid = \"1\"\n",
                4,
                "appid",
            ),
            ("[limits]\nmemory = \"lots\"\n", 2, "limits.memory: "),
            (
                "[limits]\n\ndrones = -1\n",
                3,
                "limits.drones: invalid value: integer `-1`, expected a whole number from 0",
            ),
            (
                "[drones.\"a/b\"]\npermissions = { contents = 3 }",
                2,
                "drones.a/b.permissions.contents: ",
            ),
            ("\n[limits]\ndrones = 1\ncpus = -1.0\n", 4, "limits.cpus"),
            (
                "[limits]\nbuild = \"0s\"\n",
                2,
                "limits.build: must be more than 0",
            ),
            (
                "[limits]\nbuild = \"soon\"\n",
                2,
                "limits.build: \"soon\" is not a duration",
            ),
            ("[limits]\nbuild = 3\n", 2, "limits.build: "),
            (
                "[docker]\nruntime = \"runc\"\n",
                2,
                "docker.runtime: must be \"sysbox-runc\"",
            ),
            (
                "[docker]\nruntime = \"runsc\"\n",
                2,
                "docker.runtime: gVisor has no tun device",
            ),
            (
                "[limits]\ndisk = \"63MiB\"\n",
                2,
                "limits.disk must be at least 64MiB, or 0 for no limit",
            ),
            ("[limits]\ndisk = \"all\"\n", 2, "limits.disk: "),
            (
                "[ssh]\nauthorized_keys = [\"ssh-ed25519 nonsense\"]",
                2,
                "ssh.authorized_keys",
            ),
            ("[github]\nurl = \"http://github.com\"", 2, "github.url"),
            ("[github.permissions]\ncontent = \"write\"", 2, "content"),
            ("[github.permissions]\ncontents = \"admin\"", 1, "contents"),
            (
                "[tailnet]\nlogin_server = \"https://h.example\"\ndomain = \"t.example\"",
                1,
                "tailnet.auth_key_file",
            ),
            ("[tailnet]\ndomain = \"t.example\"", 1, "login_server"),
            ("[docker]\nhost = \"tcp://10.0.0.1:2375\"", 2, "docker.host"),
            ("[drones.\"not a repo\"]\n", 1, "not a repo"),
            ("[devcontainer]\ntrust = [\"*\"]\n", 2, "devcontainer.trust"),
            ("[github", 1, ""),
            (
                "[github]\nurl = \"https://github.com\"\nurl = \"https://github.com\"\n",
                3,
                "github.url: duplicate key",
            ),
            (
                "[limits]\ndrones = 1\n\n[ssh]\n[limits]\ndrones = 2\n",
                5,
                "limits: duplicate key",
            ),
            (
                "[github]\npermissions = { contents = \"read\", contents = \"write\" }",
                2,
                "github.permissions.contents: duplicate key",
            ),
            (
                "[github.permissions]\ncontents = \"read\"\n\"contents\" = \"write\"",
                3,
                "contents",
            ),
            (
                "[drones.\"a/b\"]\n[drones.\"A/B\"]\n",
                2,
                "drones.A/B: duplicate key",
            ),
            ("[github]\nprivate_key_file = \"/k\"", 2, "github.app_id"),
        ] {
            assert_named(text, line, key);
        }
    }

    fn assert_named(text: &str, line: usize, key: &str) {
        let message = error_of(text);
        assert!(
            message.starts_with(&format!("c.toml:{line}: ")),
            "{text:?}: {message}"
        );
        assert!(message.contains(key), "{text:?}: {message}");
    }

    #[test]
    fn env_files_and_dotfiles_are_what_a_shell_and_another_directory_can_take() {
        for (text, line, key) in [
            (
                "[devcontainer]\nenv_file = \"agents.env\"\n",
                2,
                "devcontainer.env_file must be an absolute path",
            ),
            (
                "\n[drones.\"a/b\"]\nenv_file = \"x\"\n",
                2,
                "drones a/b: env_file must be an absolute path",
            ),
            (
                "[dotfiles]\nrepository = \"a/b; id\"\n",
                2,
                "dotfiles.repository must be org/repo",
            ),
            (
                "[dotfiles]\nrepository = \"--upload-pack=x\"\n",
                2,
                "dotfiles.repository must be org/repo",
            ),
            (
                "[dotfiles]\nrepository = \"a/b\"\ninstall = \"../x\"\n",
                3,
                "dotfiles.install must be a path",
            ),
            (
                "[dotfiles]\ninstall = \"x\"\n",
                2,
                "dotfiles.install needs dotfiles.repository",
            ),
        ] {
            assert_named(text, line, key);
        }
    }

    #[test]
    fn a_drone_may_have_the_whole_disk() {
        for (text, most) in [
            ("", Some(64 << 30)),
            ("[limits]\ndisk = \"0\"\n", None),
            ("[limits]\ndisk = 0\n", None),
            ("[limits]\ndisk = \"64MiB\"\n", Some(64 << 20)),
        ] {
            let config = Config::parse(text, Path::new("c.toml")).unwrap();
            assert_eq!(config.limits.most_disk(), most, "{text:?}");
            // As `hatchery config` prints it.
            let printed = toml::to_string(&config).unwrap();
            let again = Config::parse(&printed, Path::new("c.toml")).unwrap();
            assert_eq!(again.limits.most_disk(), most, "{printed}");
        }
    }

    #[test]
    fn what_remains_of_drones_may_be_kept_for_no_time() {
        let day = Duration::from_secs(24 * 60 * 60);
        for (text, kept) in [
            ("", Some(day * 30)),
            ("[limits]\nremains = \"36h\"\n", Some(day * 3 / 2)),
            ("[limits]\nremains = \"0\"\n", None),
            ("[limits]\nremains = 0\n", None),
        ] {
            let config = Config::parse(text, Path::new("c.toml")).unwrap();
            assert_eq!(config.limits.remains.get(), kept, "{text:?}");
            let printed = toml::to_string(&config).unwrap();
            let again = Config::parse(&printed, Path::new("c.toml")).unwrap();
            assert_eq!(again.limits.remains.get(), kept, "{printed}");
        }
        for (value, wrong) in [
            ("\"long\"", "\"long\" is not a duration"),
            ("30", "invalid value: integer `30`, expected a duration"),
        ] {
            let message = error_of(&format!("[limits]\nremains = {value}\n"));
            assert!(
                message.starts_with(&format!("c.toml:2: limits.remains: {wrong}")),
                "{message}"
            );
        }
    }

    #[test]
    fn the_apps_key_may_be_a_credential_of_the_unit_alone() {
        let config = Config::parse("[github]\napp_id = \"1\"", Path::new("c.toml")).unwrap();
        assert!(config.github.private_key_file.is_none());
    }

    #[test]
    fn trust_is_by_repository_or_owner() {
        let config = Config::parse(
            "[devcontainer]\ntrust = [\"acme/*\", \"a/b\"]",
            Path::new("c"),
        )
        .unwrap();
        for (repo, trusted) in [
            ("Acme/x", true),
            ("A/B", true),
            ("a/c", false),
            ("acme2/x", false),
        ] {
            assert_eq!(config.trusts(&repo.parse().unwrap()), trusted, "{repo}");
        }
    }

    #[test]
    fn a_strangers_drone_has_nothing_of_what_its_repositorys_owners_have() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "KEY=sting\n").unwrap();
        let file = file.path().display();
        let text = format!(
            "[devcontainer]\ntrust = [\"acme/*\"]\nenv_file = \"{file}\"\nmounts = {{ claude = \"~/.claude\" }}\n[drones.\"acme/site\"]\nenv_file = \"{file}\"\n\
             [registries.\"ghcr.io/acme\"]\nrepositories = [\"acme/*\"]\n"
        );
        let mut config = Config::parse(&text, Path::new("c")).unwrap();
        let repo: RepoId = "acme/site".parse().unwrap();
        let scope = || Scope::new(vec![repo.clone()], None).unwrap();
        let stranger = |trusted| Head::Stranger { number: 7, trusted };
        for (head, has) in [
            (None, true),
            (Some(stranger(true)), true),
            (Some(stranger(false)), false),
        ] {
            let drone = Identity::new(scope()).started_from(head);
            assert_eq!(config.secrets(&drone).unwrap().has("KEY"), has, "{drone:?}");
        }
        let image = "ghcr.io/acme/base:1";
        assert!(config.trusts(&repo) && config.registries.barring(image, &repo).is_none());
        assert!(config.devcontainer.mounts_in_home());
        config.trust_no_owner();
        assert!(!config.devcontainer.mounts_in_home());
        assert!(!config.trusts(&repo) && config.registries.barring(image, &repo).is_some());
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[\\[\\]a-z_.=\"\\n{}é0-9 ]{0,200}") {
            let _ = Config::parse(&text, Path::new("c.toml"));
        }

        #[test]
        fn what_is_printed_is_read_back(drones in 0usize..1000, mib in 64u64..100_000, cpus in 0.1f64..64.0, seconds in 1u64..1_000_000, owner in "[a-z]{1,8}") {
            let build = Span(Duration::from_secs(seconds));
            let limits = Limits {
                drones,
                memory: ByteSize::mib(mib),
                cpus,
                pids: 100,
                build,
                ..Limits::default()
            };
            let mut config = Config { limits, ..Config::default() };
            config.drones.insert(format!("{owner}/x").parse().unwrap(), DroneSettings::default());
            let text = toml::to_string(&config).unwrap();
            let again = Config::parse(&text, Path::new("c.toml")).unwrap();
            prop_assert_eq!(toml::to_string(&again).unwrap(), text);
            prop_assert_eq!(again.limits.memory, config.limits.memory);
        }
    }
}
