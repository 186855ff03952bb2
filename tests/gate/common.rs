//! A checkout with these files, read and prepared for a drone.

use std::path::{Path, PathBuf};

use hatchery::config::Config;
use hatchery::devcontainer::{ImageFacts, Judgement, Prepared, Repository, Seat};
use hatchery::docker::Machine;
use hatchery::drone::{Identity, Scope};
use hatchery::error::{Code, Error, Result};
use hatchery::repo::RepoId;
use serde_json::Value;

pub const TAILNET: &str = "[tailnet]\nlogin_server = \"http://headscale.example\"\ndomain = \"tail.example\"\nauth_key_file = \"/k\"\n";

/// A repository on disk; `site` is its name.
pub struct World {
    directory: tempfile::TempDir,
    pub config: Config,
    pub docker: Machine,
}

impl World {
    pub fn new(files: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let world = Self {
            directory,
            config: config(""),
            docker: Machine::default(),
        };
        std::fs::create_dir_all(world.checkout()).unwrap();
        std::fs::create_dir_all(world.work()).unwrap();
        for (file, text) in files {
            world.write(file, text);
        }
        world
    }

    pub fn devcontainer(text: &str) -> Self {
        Self::new(&[(".devcontainer/devcontainer.json", text)])
    }

    pub fn write(&self, file: &str, text: &str) {
        let path = self.checkout().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub fn checkout(&self) -> PathBuf {
        self.directory.path().canonicalize().unwrap().join("site")
    }

    pub fn work(&self) -> PathBuf {
        self.directory.path().join("work")
    }

    pub fn judge(&self, trusted: bool) -> Judgement {
        let (checkout, docker) = (self.checkout(), &self.docker);
        Repository::judge(&checkout, &repo(), None, &self.config, docker, trusted)
    }

    pub fn read(&self) -> Result<Repository> {
        self.judge(false).verdict
    }

    pub fn trusted(&self) -> Result<Repository> {
        self.judge(true).verdict
    }

    pub fn refused(&self) -> Error {
        let error = self.read().unwrap_err();
        assert_eq!(error.code(), Code::GateRefused, "{}", error.message());
        let hint = error.what_next().unwrap();
        assert!(
            hint.contains("--trust") && hint.contains("devcontainer.trust"),
            "{hint}"
        );
        error
    }

    pub fn prepare(&self, repository: &Repository, image: Option<&ImageFacts>) -> Prepared {
        let identity = identity();
        let seat = Seat {
            identity: &identity,
            config: &self.config,
            volume: "acme-site",
            ssh_port: Some(4022),
            sockets: Some(Path::new("/run/hatchery/acme-site")),
            image,
            remote_user: None,
            home: Some("/home/dev"),
            work: &self.work(),
            token: "0123456789abcdef",
        };
        repository.prepare(&seat).unwrap()
    }

    /// What the CLI is handed.
    pub fn written(&self) -> Value {
        self.written_from(
            &self
                .read()
                .unwrap_or_else(|error| panic!("{}", error.message())),
        )
    }

    pub fn written_from(&self, repository: &Repository) -> Value {
        json_file(&self.prepare(repository, None).override_config)
    }

    /// What compose is handed.
    pub fn composed(&self) -> Value {
        let override_config = self.written();
        json_file(Path::new(
            override_config["dockerComposeFile"][0].as_str().unwrap(),
        ))
    }
}

pub fn config(text: &str) -> Config {
    Config::parse(text, Path::new("config.toml")).unwrap()
}

pub fn repo() -> RepoId {
    "acme/site".parse().unwrap()
}

fn identity() -> Identity {
    Identity::new(Scope::new(vec![repo()], None).unwrap())
}

pub fn json_file(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// `--flag` is among the run arguments.
pub fn has_arg(config: &Value, arg: &str) -> bool {
    config["runArgs"]
        .as_array()
        .unwrap()
        .iter()
        .any(|each| each == arg)
}
