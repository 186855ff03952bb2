//! The configuration file: every key has a default, every mistake is named with its line.

mod building;
mod devcontainer;
mod docker;
mod dotfiles;
mod drones;
mod git;
mod github;
mod home;
mod limits;
mod metrics;
mod registries;
mod runtime;
mod size;
mod span;
mod ssh;
mod subnets;
mod tailnet;
mod text;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use self::building::{Builder, Known};
pub use self::devcontainer::{Devcontainer, FeatureOptions, SSHD_FEATURE, TAILSCALE_FEATURE};
pub use self::docker::{BUILDKIT, Docker};
pub use self::dotfiles::Dotfiles;
pub use self::drones::DroneSettings;
use self::drones::{is_path_in_clone, own_env_file};
pub use self::git::{Git, Words};
pub use self::github::Github;
pub use self::home::{HomePath, InHome, SharedVolume};
pub use self::limits::Limits;
pub use self::metrics::Metrics;
pub use self::registries::{Namespace, Registries, Registry};
pub use self::runtime::Runtime;
pub use self::span::{Period, Span};
pub use self::ssh::Ssh;
pub use self::subnets::Subnets;
pub use self::tailnet::Tailnet;
use self::text::{
    key_at, key_near, line_at, line_of, line_of_registry, plain_words, read_bounded, there_twice,
    wrong,
};
use crate::drone::Identity;
use crate::error::{Code, Error, Result};
use crate::repo::RepoId;
use crate::secret::Environment;

/// Nothing, or the key that is wrong and what is wrong with it.
pub(crate) type Checked = std::result::Result<(), (&'static str, String)>;

/// Where the configuration is when nothing else is said.
pub const DEFAULT_PATH: &str = "/etc/hatchery/config.toml";

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

    fn check_files(&self) -> Checked {
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

    fn check_env_files(&self) -> Checked {
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

    /// What the types alone do not say.
    fn check(&self) -> Checked {
        self.github.check()?;
        self.check_files()?;
        self.tailnet.iter().try_for_each(Tailnet::check)?;
        self.ssh.check()?;
        self.check_env_files()?;
        self.devcontainer.check()?;
        self.dotfiles.check()?;
        self.limits.check()?;
        self.docker.check()?;
        for (repo, drone) in &self.drones {
            let wrong = |(key, what)| (key, format!("{repo}: {what}"));
            drone.check().map_err(wrong)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drone::Scope;
    use crate::drone::head::Head;
    use bytesize::ByteSize;
    use proptest::prelude::*;
    use std::time::Duration;

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
