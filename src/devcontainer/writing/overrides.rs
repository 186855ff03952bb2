//! The configuration that the devcontainer CLI reads in place of the repository's.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::compose::{Emission, LOG, SSHD_PORT};
use super::home::HomeMount;
use crate::config::Config;
use crate::devcontainer::Repository;
use crate::devcontainer::judging::base::Base;
use crate::devcontainer::judging::compose::{Project, WORKSPACE};
use crate::devcontainer::judging::features;
use crate::devcontainer::judging::metadata;
use crate::devcontainer::judging::mounts::Asked;
use crate::devcontainer::judging::policy;
use crate::drone::Identity;
use crate::error::{Result, host_io};

/// What a local image says of itself.
#[derive(Debug, Clone, Default)]
pub struct ImageFacts {
    /// Its `USER`.
    pub user: Option<String>,
    /// The entries of its label `devcontainer.metadata`.
    pub metadata: Vec<Value>,
}

impl ImageFacts {
    /// The last text for a property in the metadata that is not empty.
    pub fn says(&self, property: &str) -> Option<&str> {
        let entries = self.metadata.iter().rev();
        entries
            .filter_map(|entry| entry.get(property)?.as_str())
            .find(|text| !text.is_empty())
    }
}

/// The place on this server that a repository is bound to.
#[derive(Debug, Clone, Copy)]
pub struct Seat<'a> {
    /// The drone.
    pub identity: &'a Identity,
    /// Limits, tailnet, features.
    pub config: &'a Config,
    /// The volume that holds the clone.
    pub volume: &'a str,
    /// The loopback port that leads to the drone's sshd.
    pub ssh_port: Option<u16>,
    /// The directory of the drone's sockets.
    pub sockets: Option<&'a Path>,
    /// The image that the drone is made from, where it is known.
    pub image: Option<&'a ImageFacts>,
    /// The remote user, if it is known from a built image; it comes before all else.
    pub remote_user: Option<&'a str>,
    /// The remote user's home, where it is known.
    pub home: Option<&'a str>,
    /// A directory outside the checkout, for the files that hatchery writes.
    pub work: &'a Path,
    /// A text in the names of images that no repository knows.
    pub token: &'a str,
}

/// What the devcontainer CLI is called with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    /// For `--override-config`.
    pub override_config: PathBuf,
    /// For `--workspace-folder`: the checkout.
    pub workspace_folder: PathBuf,
    /// Where the volume is mounted.
    pub volume_target: String,
    /// Where the clone is: `volume_target` itself or below it.
    pub clone_at: String,
    /// The clone's path in the volume; empty where it is the volume's root.
    pub in_volume: String,
    /// What tools open, and where commands begin: mostly where the clone is.
    pub folder: String,
    /// The names of the compose project, if it is one.
    pub compose: Option<ComposeProject>,
    /// What is mounted of the clone although the repository lacks it, by its path in the clone.
    pub absent: Vec<String>,
    /// Whether the drone's own container mounts parts of the clone.
    pub mounts_parts: bool,
    /// Whether a trusted repository has a command for this server itself (`initializeCommand`).
    pub runs_here: bool,
    /// The image that it is made from, where that is known before it is built.
    pub image: Option<String>,
    /// The number of the remote user, if only the image knows its name.
    pub uid: Option<String>,
    /// The volumes in the remote user's home.
    pub home: Vec<HomeMount>,
}

impl Seat<'_> {
    fn home_mounts(&self) -> Vec<HomeMount> {
        let home = self.home.into_iter();
        home.flat_map(|home| HomeMount::all(self.config, &self.identity.name, home))
            .collect()
    }
}

/// The names of a compose project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComposeProject {
    /// The file that hatchery wrote.
    pub file: PathBuf,
    /// For `COMPOSE_PROJECT_NAME`.
    pub project: String,
    /// The service that is the drone.
    pub service: String,
}

impl Repository {
    /// Writes the configuration for this seat into its work directory.
    pub fn prepare(&self, seat: &Seat<'_>) -> Result<Prepared> {
        let user = self.remote_user(seat);
        // A feature's script would take the number for a name.
        let uid = user
            .clone()
            .filter(|user| seat.remote_user.is_none() && is_number(user));
        let user = if uid.is_some() {
            Some("root".to_owned())
        } else {
            user
        };
        let mut config = self.common(seat, user);
        let mut compose = None;
        match (&self.passed.base, &self.project) {
            (_, Some(project)) => {
                let file = seat.work.join("compose.yaml");
                write(&file, &project.emit(&self.emission(seat)))?;
                config.insert("dockerComposeFile".into(), json!([file]));
                config.insert("service".into(), json!(project.service));
                compose = Some(ComposeProject {
                    file: file.clone(),
                    project: seat.identity.name.to_string(),
                    service: project.service.clone(),
                });
            }
            (Some(Base::Build(build)), None) => {
                config.insert("build".into(), Value::Object(build.clone()));
                self.seat_container(&mut config, seat);
            }
            (Some(Base::Image(image)), None) => {
                config.insert("image".into(), json!(image));
                self.seat_container(&mut config, seat);
            }
            // The gate lets nothing pass that is made from nothing.
            _ => {}
        }
        let override_config = seat.work.join("devcontainer.json");
        write(&override_config, &Value::Object(config))?;
        Ok(Prepared {
            override_config,
            workspace_folder: self.checkout.clone(),
            volume_target: self.workspace.target.clone(),
            clone_at: self.workspace.clone_at.clone(),
            in_volume: self.workspace.in_volume().to_owned(),
            folder: self.workspace.folder.clone(),
            compose,
            absent: self.absent().collect(),
            mounts_parts: self.mounts_parts(),
            runs_here: self.passed.plain.contains_key("initializeCommand"),
            image: self
                .image()
                .map(str::to_owned)
                .or_else(|| self.image_of_dockerfile()),
            uid,
            home: seat.home_mounts(),
        })
    }

    /// The properties that images, Dockerfiles and compose projects have in common.
    fn common(&self, seat: &Seat<'_>, remote_user: Option<String>) -> Map<String, Value> {
        let passed = &self.passed;
        let mut config = passed.plain.clone();
        let mut env = passed.container_env.clone();
        if let Some(tailnet) = &seat.config.tailnet {
            // With a control server of one's own, logs are not another company's.
            env.insert("TS_NO_LOGS_NO_SUPPORT".into(), json!("true"));
            if tailnet.login_server.scheme() == "http" {
                env.insert("TS_DEBUG_USE_DERP_HTTP".into(), json!("true"));
            }
        }
        // The devcontainer CLI makes a line of a Dockerfile of it.
        env.retain(|_, value| stays_on_its_line(value));
        if !env.is_empty() {
            config.insert("containerEnv".into(), Value::Object(env));
        }
        let mut wanted = passed.features.clone();
        let of_image = seat
            .image
            .map(|image| features::of_metadata(&image.metadata));
        let present = self.features().chain(of_image.into_iter().flatten());
        let missing = features::missing(
            present,
            &seat.config.devcontainer.features,
            seat.config.tailnet.is_some(),
        );
        wanted.extend(missing);
        if !wanted.is_empty() {
            config.insert("features".into(), Value::Object(wanted));
        }
        config.insert("workspaceFolder".into(), json!(self.workspace.folder));
        // An image with another USER and no sudo runs neither sshd nor tailscaled.
        config.insert("containerUser".into(), json!("root"));
        if let Some(user) = remote_user {
            config.insert("remoteUser".into(), json!(user));
        }
        let text = |asked: &Asked| asked.to_value(&seat.identity.name, self.workspace.in_volume());
        let mounts: Vec<Value> = if self.is_compose() {
            // What the CLI would make of them loses tmpfs and readonly; see `emission`.
            let beyond = passed.mounts.iter().filter(|asked| asked.mount().is_none());
            beyond.map(text).collect()
        } else {
            let sockets = seat.sockets.map(metadata::sockets_mount);
            let own = self.mounts().map(text);
            // Of two at one place the last counts.
            let home = seat.home_mounts();
            let home = home.iter().map(|mount| json!(mount.to_text()));
            own.chain(home).chain(sockets.map(Value::String)).collect()
        };
        if !mounts.is_empty() {
            config.insert("mounts".into(), Value::Array(mounts));
        }
        config
    }

    /// The user that people and editors work as in the drone.
    fn remote_user(&self, seat: &Seat<'_>) -> Option<String> {
        let known = seat.remote_user.map(str::to_owned);
        known.or_else(|| self.user(seat.image))
    }

    /// The user that people and editors work as in the drone, by name or by number. `None` if that is root by
    /// default, or if the metadata of `image`, which the drone is made from, names it.
    pub fn user(&self, image: Option<&ImageFacts>) -> Option<String> {
        let by_name = |user: &str| match user.split(':').next() {
            Some("0") => "root".to_owned(),
            name => name.unwrap_or(user).to_owned(),
        };
        if let Some(user) = &self.passed.remote_user {
            return Some(by_name(user));
        }
        if let Some(user) = image.and_then(|image| image.says("remoteUser")) {
            let name = by_name(user);
            return is_number(&name).then_some(name);
        }
        let container_user = self
            .passed
            .container_user
            .as_deref()
            .or(self.passed.run_args.user.as_deref())
            .or_else(|| image.and_then(|image| image.says("containerUser")))
            .or_else(|| self.project.as_ref().and_then(Project::user))
            .or_else(|| image.and_then(|image| image.user.as_deref()))?;
        let name = container_user.split(':').next().unwrap_or(container_user);
        (!matches!(name, "" | "root" | "0")).then(|| name.to_owned())
    }

    /// The variables of `containerEnv` that the devcontainer CLI cannot pass on: those of several lines.
    fn env_of_lines(&self) -> Map<String, Value> {
        let mut env = self.passed.container_env.clone();
        env.retain(|_, value| !stays_on_its_line(value));
        env
    }

    /// Adds what a container outside compose has.
    fn seat_container(&self, config: &mut Map<String, Value>, seat: &Seat<'_>) {
        let (name, limits) = (&seat.identity.name, &seat.config.limits);
        let mut args = self.passed.run_args.args.clone();
        let env = self.env_of_lines();
        args.extend(
            env.iter().map(|(name, value)| {
                format!("--env={name}={}", value.as_str().unwrap_or_default())
            }),
        );
        args.extend([
            format!("--name={name}"),
            format!("--hostname={name}"),
            // The network that is the drone's own has its name.
            format!("--network={name}"),
            "--restart=unless-stopped".to_owned(),
            format!("--memory={}", limits.memory.as_u64()),
            format!("--memory-swap={}", limits.memory.as_u64()),
            format!("--cpus={}", limits.processors()),
            format!("--pids-limit={}", limits.pids),
            format!("--log-driver={}", LOG.0),
        ]);
        args.extend(LOG.1.map(|(key, value)| format!("--log-opt={key}={value}")));
        args.extend(
            seat.config
                .docker
                .extra_hosts
                .iter()
                .map(|host| format!("--add-host={host}")),
        );
        if seat.config.tailnet.is_some() {
            args.push("--device=/dev/net/tun".to_owned());
        }
        if let Some(port) = seat.ssh_port {
            args.push(format!("--publish=127.0.0.1:{port}:{SSHD_PORT}"));
        }
        config.insert("runArgs".into(), json!(args));
        // What the image has there does not get into the clone.
        let mount = format!(
            "type=volume,source={},target={},volume-nocopy",
            seat.volume, self.workspace.target
        );
        config.insert("workspaceMount".into(), json!(mount));
    }

    fn emission<'a>(&'a self, seat: &Seat<'a>) -> Emission<'a> {
        Emission {
            drone: &seat.identity.name,
            config: seat.config,
            volume: seat.volume,
            target: &self.workspace.target,
            ssh_port: seat.ssh_port,
            sockets: seat.sockets,
            token: seat.token,
            labels: seat.identity.labels().into_iter().collect(),
            environment: self.env_of_lines(),
            home: seat.home_mounts(),
            mounts: self
                .passed
                .mounts
                .iter()
                .filter_map(Asked::mount)
                .map(|mount| {
                    let (name, workspace) = (&seat.identity.name, &self.workspace);
                    mount.to_compose(name, &workspace.folder, WORKSPACE, workspace.in_volume())
                })
                .collect(),
        }
    }
}

/// Whether a user is given by number.
pub fn is_number(user: &str) -> bool {
    !user.is_empty() && user.bytes().all(|byte| byte.is_ascii_digit())
}

fn stays_on_its_line(value: &Value) -> bool {
    value.as_str().is_none_or(policy::is_one_line)
}

/// Writes a file that only its owner can read: environments may hold secrets.
fn write(path: &Path, value: &Value) -> Result<()> {
    let text = escaped_for_yaml(&format!("{value:#}\n"));
    std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|error| host_io("write", path, error))
}

/// Escapes what YAML does not allow unescaped, but JSON does. Only texts contain such characters.
fn escaped_for_yaml(json: &str) -> String {
    let special = |c: char| {
        matches!(
            c,
            '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}'
        )
    };
    json.chars()
        .flat_map(|c| {
            let escaped = special(c).then(|| format!("\\u{:04x}", u32::from(c)));
            escaped
                .unwrap_or_else(|| c.to_string())
                .chars()
                .collect::<Vec<_>>()
        })
        .collect()
}
