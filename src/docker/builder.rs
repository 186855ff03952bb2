//! A drone's own builder: a container with `BuildKit` in it, and its images on their way into Docker.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use bollard::body_try_stream;
use bollard::container::LogOutput;
use bollard::errors::Error as ApiError;
use bollard::exec::{CreateExecOptions, StartExecOptions, StartExecResults};
use bollard::models::{
    ContainerCreateBody, ContainerSummary, HostConfig, HostConfigLogConfig, Mount, MountType,
    Volume, VolumeCreateRequest,
};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, ImportImageOptionsBuilder, UploadToContainerOptionsBuilder,
};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use tokio::sync::mpsc;

use super::archive::received;
use super::look::host_mount;
use super::saved::Archive;
use super::{Docker, Tree, failed, is_connection, status};
use crate::devcontainer::LOG;
use crate::error::{Code, Error, Result};
use crate::ui::clean;

/// On builders and their caches: the drone that they are of.
pub const LABEL: &str = "hatchery.builder";

/// Whom programs run as that must read files of root's.
const ROOT: &str = "0:0";

/// Where they have all that is theirs: no place that `BuildKit` or a build can write to.
const HOME: [&str; 3] = [
    "HOME=/etc/hatchery",
    "DOCKER_CONFIG=/etc/hatchery",
    "TMPDIR=/etc/hatchery",
];

/// The longest line of a build's that is handed on, in bytes.
const MAX_LINE: usize = 4096;

/// What a builder is to be.
#[derive(Debug)]
pub struct BuilderSpec<'a> {
    /// The container's name, and the name of its cache's volume.
    pub name: &'a str,
    /// The drone that it is of.
    pub drone: &'a str,
    /// `BuildKit`'s image, the one that runs without root.
    pub image: &'a str,
    /// Its environment.
    pub environment: Vec<String>,
    /// The network that it, and all that it builds, is in.
    pub network: &'a str,
    /// Where it keeps what it has built.
    pub cache: &'a str,
    /// Directories of this server that it reads.
    pub readable: &'a [PathBuf],
    /// Memory, with swap, in bytes.
    pub memory: u64,
    /// Processors.
    pub cpus: f64,
    /// Processes and threads.
    pub pids: i64,
}

/// How a build ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Built {
    /// Docker has its image.
    Loaded,
    /// It made no image for Docker.
    Done,
    /// It failed; its lines say why.
    Failed,
}

impl Docker {
    /// Creates a builder in place of one that is there; its id. It does not run yet.
    pub async fn create_builder(&self, spec: &BuilderSpec<'_>) -> Result<String> {
        self.remove_container(spec.name).await?;
        let labels = HashMap::from([(LABEL.to_owned(), spec.drone.to_owned())]);
        let volume = VolumeCreateRequest {
            name: Some(spec.name.to_owned()),
            labels: Some(labels.clone()),
            ..VolumeCreateRequest::default()
        };
        let volume = self.api.create_volume(volume).await;
        volume.map_err(|error| failed(&format!("create the volume {}", spec.name), error))?;
        let options = CreateContainerOptionsBuilder::new().name(spec.name).build();
        let created = self
            .api
            .create_container(Some(options), body(spec, labels))
            .await;
        let doing = format!("create the container {}", spec.name);
        Ok(created.map_err(|error| failed(&doing, error))?.id)
    }

    /// Puts an image that Docker has into a container, as an OCI layout below this directory; the
    /// digest of what it holds. `None` for a Docker that saves images otherwise (before 25).
    pub async fn put_image(
        &self,
        container: &str,
        image: &str,
        at: &str,
    ) -> Result<Option<String>> {
        self.put(container, Tree::default().directory(at, 0o755))
            .await?;
        let doing = format!("put the image {image} into {container}");
        let patient = self.api.clone().with_timeout(LOADED_WITHIN);
        let saved = patient
            .export_image(image)
            .map(|part| part.map_err(io::Error::other));
        let options = UploadToContainerOptionsBuilder::new().path(at).build();
        // What is sent must live as long as the request may.
        let (sender, receiver) = mpsc::channel(8);
        let reading = async {
            let mut saved = std::pin::pin!(saved);
            while let Some(part) = saved.next().await {
                if sender.send(part).await.is_err() {
                    break;
                }
            }
            drop(sender);
        };
        let sending = patient.upload_to_container(
            container,
            Some(options),
            body_try_stream(received(receiver)),
        );
        let ((), sent) = tokio::join!(reading, sending);
        sent.map_err(|error| failed(&doing, error))?;
        let index = self
            .file(container, &format!("{at}/index.json"), MAX_INDEX)
            .await?;
        let index: serde_json::Value = index
            .and_then(|index| serde_json::from_slice(&index).ok())
            .unwrap_or_default();
        let digest = index["manifests"][0]["digest"].as_str();
        Ok(digest.map(str::to_owned))
    }

    /// The drones that builders are of.
    pub async fn builders(&self) -> Result<Vec<String>> {
        let containers = self.labelled(LABEL).await?;
        let drone = |container: ContainerSummary| container.labels?.remove(LABEL);
        Ok(containers.into_iter().filter_map(drone).collect())
    }

    /// The drones that builders' caches are of.
    pub async fn caches(&self) -> Result<Vec<String>> {
        let volumes = self.labelled_volumes(LABEL).await?;
        let drone = |mut volume: Volume| volume.labels.remove(LABEL);
        Ok(volumes.into_iter().filter_map(drone).collect())
    }

    /// Runs a program of a builder's. What it prints is an image with these names, which goes into
    /// Docker, looked at on its way; what it says goes to `line`.
    ///
    /// Nothing of an image that is not whole, or is another than it should be, is taken.
    pub async fn build(
        &self,
        builder: &str,
        argv: &[String],
        names: &[String],
        line: &(dyn Fn(&str) + Send + Sync),
    ) -> Result<Built> {
        let doing = format!("build in {builder}");
        let error = |error| failed(&doing, error);
        let options = CreateExecOptions {
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            user: Some(ROOT),
            // Nothing that a build may have written is read or followed.
            env: Some(HOME.to_vec()),
            cmd: Some(argv.iter().map(String::as_str).collect()),
            ..CreateExecOptions::default()
        };
        let exec = self
            .api
            .create_exec(builder, options)
            .await
            .map_err(error)?
            .id;
        let started = self.api.start_exec(&exec, None::<StartExecOptions>).await;
        let StartExecResults::Attached { output, .. } = started.map_err(error)? else {
            return Err(Error::new(Code::DockerFailed, doing));
        };
        let (sender, receiver) = mpsc::channel(8);
        let sending = async move {
            let built = self.send(&exec, output, names, &sender, line).await;
            if !matches!(built, Ok(Some(Built::Loaded | Built::Done))) {
                // An archive that ends here must not look whole.
                let _ = sender.send(Err(io::ErrorKind::InvalidData.into())).await;
            }
            built
        };
        let (built, loaded) = tokio::join!(sending, self.load(receiver));
        match built? {
            Some(Built::Loaded) => loaded.map(|()| Built::Loaded),
            Some(ended) => Ok(ended),
            None => Err(loaded
                .err()
                .unwrap_or_else(|| no_image("Docker stopped accepting it"))),
        }
    }

    /// Sends what a builder's program prints on, looked at; `None` where nobody takes it any more. Its
    /// end is sent last, when all is known to be well: Docker reads no further.
    async fn send(
        &self,
        exec: &str,
        mut output: impl Stream<Item = std::result::Result<LogOutput, ApiError>> + Unpin,
        names: &[String],
        sender: &mpsc::Sender<io::Result<Bytes>>,
        line: &(dyn Fn(&str) + Send + Sync),
    ) -> Result<Option<Built>> {
        let mut archive = Archive::new(names);
        let mut lines = Lines::default();
        let mut end: Vec<Bytes> = Vec::new();
        let mut any = false;
        while let Some(part) = output.next().await {
            match part.map_err(lost)? {
                LogOutput::StdErr { message } => lines.read(&message, line),
                part => {
                    let bytes = part.into_bytes();
                    any = true;
                    archive.pass(&bytes).map_err(|why| no_image(&why))?;
                    if archive.has_ended() {
                        end.push(bytes);
                        if end.len() > MAX_END {
                            return Err(no_image("the image's archive is incomplete"));
                        }
                    } else if sender.send(Ok(bytes)).await.is_err() {
                        return Ok(None);
                    }
                }
            }
        }
        lines.end(line);
        let ended = self.api.inspect_exec(exec).await.map_err(lost)?;
        if ended.exit_code != Some(0) {
            return Ok(Some(Built::Failed));
        }
        if !any {
            return Ok(Some(Built::Done));
        }
        archive.end().map_err(|why| no_image(&why))?;
        for bytes in end {
            if sender.send(Ok(bytes)).await.is_err() {
                return Ok(None);
            }
        }
        Ok(Some(Built::Loaded))
    }

    /// Has Docker load what comes, once something comes.
    pub(super) async fn load(&self, mut chunks: mpsc::Receiver<io::Result<Bytes>>) -> Result<()> {
        let Some(Ok(first)) = chunks.recv().await else {
            return Ok(());
        };
        let whole = body_try_stream(stream::once(async { Ok(first) }).chain(received(chunks)));
        let options = ImportImageOptionsBuilder::new().quiet(true).build();
        // It answers once it has all, which takes as long as that takes.
        let patient = self.api.clone().with_timeout(LOADED_WITHIN);
        let mut loading = std::pin::pin!(patient.import_image(options, whole, None));
        while let Some(part) = loading.next().await {
            part.map_err(|error| failed("load the image that was built", error))?;
        }
        Ok(())
    }
}

/// In how many pieces an archive may end.
const MAX_END: usize = 64;

/// The longest index of an image that is read, in bytes.
const MAX_INDEX: usize = 64 * 1024;

/// How long an image may take on its way; `limits.build` ends it earlier where that is less.
pub(super) const LOADED_WITHIN: Duration = Duration::from_secs(2 * 60 * 60);

/// The builder was there, and is not any more.
fn lost(error: ApiError) -> Error {
    if !is_connection(&error) && status(&error) != Some(404) {
        return failed("build in the drone's builder", error);
    }
    Error::new(
        Code::DockerFailed,
        "the drone's builder was stopped during the build: Docker was restarted, or the builder was removed",
    )
    .hint("spawn again; `journalctl -u docker` shows whether Docker was restarted")
    .because(error)
}

pub(super) fn no_image(why: &str) -> Error {
    Error::new(
        Code::BuildFailed,
        "the image from the drone's builder was rejected",
    )
    .hint("check that docker.buildkit in the configuration names an image of BuildKit")
    .because(clean::line(why))
}

/// Lines out of pieces.
#[derive(Default)]
struct Lines(Vec<u8>);

impl Lines {
    fn read(&mut self, mut bytes: &[u8], line: &(dyn Fn(&str) + Send + Sync)) {
        while let Some(at) = bytes.iter().position(|&byte| byte == b'\n') {
            self.keep(&bytes[..at]);
            self.end(line);
            bytes = &bytes[at + 1..];
        }
        self.keep(bytes);
    }

    fn keep(&mut self, part: &[u8]) {
        let room = MAX_LINE.saturating_sub(self.0.len());
        self.0.extend_from_slice(&part[..part.len().min(room)]);
    }

    fn end(&mut self, line: &(dyn Fn(&str) + Send + Sync)) {
        let text = clean::line(&String::from_utf8_lossy(&self.0));
        self.0.clear();
        if !text.trim().is_empty() {
            line(&text);
        }
    }
}

fn body(spec: &BuilderSpec<'_>, labels: HashMap<String, String>) -> ContainerCreateBody {
    let cache = Mount {
        typ: Some(MountType::VOLUME),
        source: Some(spec.name.to_owned()),
        target: Some(spec.cache.to_owned()),
        ..Mount::default()
    };
    let readable = spec
        .readable
        .iter()
        .map(|path| host_mount(path, &path.to_string_lossy()));
    let memory = i64::try_from(spec.memory).unwrap_or(i64::MAX);
    let options = LOG.1.map(|(key, value)| (key.to_owned(), value.to_owned()));
    ContainerCreateBody {
        image: Some(spec.image.to_owned()),
        env: Some(spec.environment.clone()),
        labels: Some(labels),
        host_config: Some(HostConfig {
            network_mode: Some(spec.network.to_owned()),
            mounts: Some(std::iter::once(cache).chain(readable).collect()),
            memory: Some(memory),
            memory_swap: Some(memory),
            #[allow(clippy::cast_possible_truncation, reason = "a number of processors")]
            nano_cpus: Some((spec.cpus * 1e9) as i64),
            pids_limit: Some(spec.pids),
            oom_score_adj: Some(OOM_SCORE),
            cap_drop: Some(vec!["ALL".to_owned()]),
            cap_add: Some(CAPABILITIES.map(str::to_owned).into()),
            security_opt: Some(UNCONFINED.map(str::to_owned).into()),
            masked_paths: Some(Vec::new()),
            readonly_paths: Some(Vec::new()),
            log_config: Some(HostConfigLogConfig {
                typ: Some(LOG.0.to_owned()),
                config: Some(options.into()),
            }),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    }
}

/// Like what runs in the cage: before drones, sshd and dockerd.
const OOM_SCORE: i64 = 500;

/// `newuidmap(1)` and `newgidmap(1)` map the ids that a build uses, and `buildctl` reads what the
/// clone holds, closed files too. `BuildKit` and what it runs are an ordinary user's.
const CAPABILITIES: [&str; 3] = ["SETUID", "SETGID", "DAC_OVERRIDE"];

/// A user makes its namespaces and mounts in them only where Docker's own filters do not forbid it
/// (`BuildKit`, docs/rootless.md); each `RUN` is under `BuildKit`'s, which are as Docker's are.
const UNCONFINED: [&str; 3] = ["seccomp=unconfined", "apparmor=unconfined", "label=disable"];
