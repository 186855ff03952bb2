//! Looking into volumes without running anything that is in them.

use std::path::Path;
use std::time::Duration;

use bollard::container::{AttachContainerResults, LogOutput};
use bollard::models::{
    ContainerCreateBody, HostConfig, HostConfigLogConfig, Mount, MountType, MountVolumeOptions,
};
use bollard::query_parameters::{
    AttachContainerOptionsBuilder, CreateContainerOptionsBuilder, CreateImageOptionsBuilder,
    LogsOptionsBuilder, WaitContainerOptionsBuilder,
};
use futures_util::StreamExt;

use super::{Docker, Login, Output, Owner, Tree, failed, late};
use crate::drone::DroneName;
use crate::error::{Code, Error, Result};

/// On the images and the containers, so that those of a killed hatchery are found.
pub(super) const LABEL: &str = "hatchery.look";

/// On a container by which a drone's image is read, or its clone gets into its volume; the drone's name.
const LABEL_BESIDE: &str = "hatchery.beside";

/// Where this server's programs and what they load may be.
const SYSTEM: &[&str] = &[
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/etc/ld.so.cache",
    "/nix/store",
];

/// How long Docker may take to remove a container that has ended.
const REMOVED_WITHIN: Duration = Duration::from_secs(10);

/// How long a log may take.
const LOG_WITHIN: Duration = Duration::from_secs(10);

/// How long a throw-away container may run.
const ENDS_WITHIN: Duration = Duration::from_secs(60);

/// A program of this server's that looks into volumes.
#[derive(Debug, Clone, Copy)]
pub struct Looking<'a> {
    /// The program.
    pub program: &'a Path,
    /// What it is called as.
    pub called: &'a str,
    /// Its one argument.
    pub argument: &'a str,
    /// Where it finds other programs.
    pub path: &'a str,
    /// The volumes, which must exist.
    pub volumes: &'a [String],
    /// Other places at which a volume, by its number, is found.
    pub links: &'a [(usize, String)],
    /// Whom it runs as.
    pub runs_as: RunsAs,
}

/// Whom a program that looks into volumes runs as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunsAs {
    /// A user, who reads what is that user's or everybody's.
    User(Owner),
    /// One who reads all that is there: as root in a drone, of whose capabilities it has one. It also
    /// has [`SCRATCH`], of [`SCRATCH_SIZE`].
    Reader,
}

/// A directory in memory, where a [`RunsAs::Reader`] can write.
pub const SCRATCH: &str = "/scratch";

/// What fits in there, for tmpfs(5).
const SCRATCH_SIZE: &str = "256m";

impl Looking<'_> {
    fn container(&self, image: &str, mounts: Vec<Mount>) -> ContainerCreateBody {
        let text = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
        let (user, reads_all) = match self.runs_as {
            RunsAs::User(user) => (user, false),
            RunsAs::Reader => (Owner::ROOT, true),
        };
        let scratch = format!("rw,noexec,nosuid,nodev,size={SCRATCH_SIZE},mode=0700");
        ContainerCreateBody {
            image: Some(image.to_owned()),
            entrypoint: Some(text(&[self.called, self.argument])),
            cmd: Some(Vec::new()),
            env: Some(vec![format!("PATH={}", self.path)]),
            user: Some(format!("{}:{}", user.uid, user.gid)),
            attach_stdin: Some(true),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            open_stdin: Some(true),
            stdin_once: Some(true),
            host_config: Some(HostConfig {
                auto_remove: Some(true),
                mounts: Some(mounts),
                network_mode: Some("none".to_owned()),
                cap_drop: Some(text(&["ALL"])),
                cap_add: reads_all.then(|| text(&["DAC_OVERRIDE"])),
                tmpfs: reads_all.then(|| [(SCRATCH.to_owned(), scratch)].into()),
                security_opt: Some(text(&["no-new-privileges"])),
                readonly_rootfs: Some(true),
                log_config: Some(HostConfigLogConfig {
                    typ: Some("none".to_owned()),
                    ..HostConfigLogConfig::default()
                }),
                memory: Some(1024 * 1024 * 1024),
                memory_swap: Some(1024 * 1024 * 1024),
                nano_cpus: Some(1_000_000_000),
                pids_limit: Some(256),
                ..HostConfig::default()
            }),
            ..ContainerCreateBody::default()
        }
    }
}

/// How many lines of a container's log are told.
const LAST_LINES: &str = "12";

impl Docker {
    /// Whether a volume has nothing in it.
    pub async fn volume_is_empty(&self, volume: &str) -> Result<bool> {
        self.sweep(LABEL).await?;
        // Its container is never started. The image is this call's own: others may be looking.
        // The end of an archive is two blocks of zeros; this one has nothing before it.
        let image = self.import(vec![0; 1024], LABEL).await?;
        let mount = volume_mount(volume, "/volume", true);
        let body = ContainerCreateBody {
            image: Some(image.clone()),
            cmd: Some(vec!["/none".to_owned()]),
            host_config: Some(HostConfig {
                mounts: Some(vec![mount]),
                ..HostConfig::default()
            }),
            ..ContainerCreateBody::default()
        };
        let id = self.create(body).await?;
        let empty = self.is_empty_directory(&id, "/volume/").await;
        self.remove_container(&id).await?;
        self.remove_image(&image).await?;
        Ok(empty?.unwrap_or(true))
    }

    /// Creates a container of this image's for a drone, in place of one that has this name. It is never
    /// started: its files can be read, and what is put at the volume's place is in the volume.
    pub async fn create_beside(
        &self,
        name: &str,
        image: &str,
        drone: &DroneName,
        volume_at: Option<&str>,
    ) -> Result<()> {
        self.remove_container(name).await?;
        let mounts = volume_at.map(|at| vec![volume_mount(drone.as_str(), at, false)]);
        let body = ContainerCreateBody {
            image: Some(image.to_owned()),
            entrypoint: Some(vec!["/none".to_owned()]),
            labels: Some([(LABEL_BESIDE.to_owned(), drone.to_string())].into()),
            host_config: Some(HostConfig {
                mounts,
                network_mode: Some("none".to_owned()),
                ..HostConfig::default()
            }),
            ..ContainerCreateBody::default()
        };
        let options = CreateContainerOptionsBuilder::new().name(name).build();
        let created = self.api.create_container(Some(options), body).await;
        let doing = format!("create the container {name}");
        created.map(|_| ()).map_err(|error| failed(&doing, error))
    }

    /// Runs a program of this server's beside volumes, each at `/volumes/` and its number, in a
    /// container that holds nothing else: no image's files, no network, no capability, nothing to
    /// write to. It ends with the connection to it, however hatchery ends; what it prints is
    /// bounded, and so is the time until then.
    pub async fn look(&self, looking: Looking<'_>, within: Duration) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        let mut keep = |part: &[u8]| {
            super::exec::keep(&mut out, part);
            Ok(())
        };
        self.look_into(looking, within, &mut keep).await?;
        Ok(out)
    }

    /// The same, with all that it prints given on as it comes; an error there ends it.
    pub async fn look_into(
        &self,
        looking: Looking<'_>,
        within: Duration,
        to: &mut (dyn FnMut(&[u8]) -> Result<()> + Send),
    ) -> Result<()> {
        self.sweep(LABEL).await?;
        let mut image = Tree::default();
        let mut mounts = Vec::new();
        for place in SYSTEM.iter().map(Path::new) {
            let Ok(about) = place.symlink_metadata() else {
                continue;
            };
            if let Ok(to) = std::fs::read_link(place) {
                image = image.link(place, to);
            } else if about.is_dir() || about.is_file() {
                mounts.push(host_mount(place, &place.to_string_lossy()));
            }
        }
        mounts.push(host_mount(looking.program, looking.called));
        for (number, volume) in looking.volumes.iter().enumerate() {
            mounts.push(volume_mount(volume, &format!("/volumes/{number}"), true));
        }
        for (number, at) in looking.links {
            image = image.link(at, format!("/volumes/{number}"));
        }
        let mut archive = Vec::new();
        image
            .directory("/volumes", 0o755)
            .directory(SCRATCH, 0o755)
            .write(&mut archive)
            .map_err(|error| Error::new(Code::HostFailed, "cannot pack an image").because(error))?;
        let image = self.import(archive, LABEL).await?;
        let body = looking.container(&image, mounts);
        let run = async {
            let id = self.create(body).await?;
            let printed = tokio::time::timeout(within, self.attached(&id, to)).await;
            // It removes itself when it ends; one that has not ended must.
            self.remove_container(&id).await?;
            self.is_removed(&id).await;
            printed.unwrap_or_else(|_| {
                Err(late(
                    &format!("look into {}", looking.volumes.join(", ")),
                    within,
                ))
            })
        };
        let printed = run.await;
        self.remove_image(&image).await?;
        printed
    }

    /// Waits until a container's removal has come to its end: until then it holds its volumes.
    async fn is_removed(&self, id: &str) {
        let options = WaitContainerOptionsBuilder::new()
            .condition("removed")
            .build();
        let mut waiting = std::pin::pin!(self.api.wait_container(id, Some(options)));
        // An error says that it is gone.
        let _ = tokio::time::timeout(REMOVED_WITHIN, waiting.next()).await;
    }

    /// Starts a created container and gives on all that it prints, while its input stays open.
    async fn attached(
        &self,
        id: &str,
        to: &mut (dyn FnMut(&[u8]) -> Result<()> + Send),
    ) -> Result<()> {
        let doing = format!("attach to {id}");
        let options = AttachContainerOptionsBuilder::new()
            .stdin(true)
            .stdout(true)
            .stderr(true)
            .stream(true)
            .build();
        let attached = self.api.attach_container(id, Some(options)).await;
        let AttachContainerResults { mut output, input } =
            attached.map_err(|error| failed(&doing, error))?;
        self.start(id).await?;
        let (mut printed, mut err) = (false, Vec::new());
        while let Some(part) = output.next().await {
            match part.map_err(|error| failed(&doing, error))? {
                LogOutput::StdErr { message } => super::exec::keep(&mut err, &message),
                part => {
                    printed = true;
                    to(&part.into_bytes())?;
                }
            }
        }
        drop(input);
        if !printed && !err.is_empty() {
            let said = String::from_utf8_lossy(&err);
            let said = crate::ui::clean::line(said.lines().next().unwrap_or_default());
            return Err(Error::new(Code::DockerFailed, "reading a volume failed").because(said));
        }
        Ok(())
    }

    /// The last lines that a container printed.
    pub async fn last_lines(&self, container: &str) -> Result<Vec<String>> {
        let (out, err) = self.logs(container, LAST_LINES).await?;
        let text = out + &err;
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// Runs a container to its end and removes it, whatever came of it.
    pub(super) async fn run_once(&self, body: ContainerCreateBody) -> Result<Output> {
        let id = self.create(body).await?;
        let output = tokio::time::timeout(ENDS_WITHIN, self.run_to_the_end(&id)).await;
        self.remove_container(&id).await?;
        output.unwrap_or_else(|_| Err(late("run a throw-away container", ENDS_WITHIN)))
    }

    async fn run_to_the_end(&self, id: &str) -> Result<Output> {
        self.start(id).await?;
        let mut waiting = std::pin::pin!(self.api.wait_container(id, None));
        let status = match waiting.next().await {
            Some(Ok(ended)) => ended.status_code,
            Some(Err(bollard::errors::Error::DockerContainerWaitError { code, .. })) => code,
            Some(Err(error)) => return Err(failed(&format!("wait for {id}"), error)),
            None => -1,
        };
        let (stdout, stderr) = self.logs(id, "1000").await?;
        Ok(Output {
            status,
            stdout,
            stderr,
        })
    }

    async fn logs(&self, id: &str, tail: &str) -> Result<(String, String)> {
        tokio::time::timeout(LOG_WITHIN, self.read_logs(id, tail))
            .await
            .unwrap_or_else(|_| Err(late(&format!("read the log of {id}"), LOG_WITHIN)))
    }

    async fn read_logs(&self, id: &str, tail: &str) -> Result<(String, String)> {
        let options = LogsOptionsBuilder::new()
            .stdout(true)
            .stderr(true)
            .tail(tail)
            .build();
        let mut logs = std::pin::pin!(self.api.logs(id, Some(options)));
        let (mut out, mut err) = (Vec::new(), Vec::new());
        while let Some(part) = logs.next().await {
            match part.map_err(|error| failed(&format!("read the log of {id}"), error))? {
                LogOutput::StdErr { message } => super::exec::keep(&mut err, &message),
                part => super::exec::keep(&mut out, &part.into_bytes()),
            }
        }
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok((text(out), text(err)))
    }

    pub(super) async fn create(&self, body: ContainerCreateBody) -> Result<String> {
        self.api
            .create_container(None, body)
            .await
            .map(|created| created.id)
            .map_err(|error| failed("create a throw-away container", error))
    }

    /// Pulls an image, telling of each step; anonymously without a login.
    pub async fn pull(
        &self,
        image: &str,
        login: Option<&Login>,
        progress: &(dyn Fn(&str) + Sync),
    ) -> Result<()> {
        // Without a tag the API would pull all that there are.
        let name = image.rsplit('/').next().unwrap_or(image);
        let tag = if name.contains([':', '@']) {
            ""
        } else {
            "latest"
        };
        if let Some(login) = login {
            return self.pull_as(login, image, tag, progress).await;
        }
        let options = CreateImageOptionsBuilder::new()
            .from_image(image)
            .tag(tag)
            .build();
        let mut pulling = std::pin::pin!(self.api.create_image(Some(options), None, None));
        while let Some(part) = pulling.next().await {
            let part = part.map_err(|error| failed(&format!("pull the image {image}"), error))?;
            if let Some(status) = part.status {
                progress(&format!("{} {status}", part.id.unwrap_or_default()));
            }
        }
        Ok(())
    }
}

fn volume_mount(volume: &str, at: &str, read_only: bool) -> Mount {
    Mount {
        typ: Some(MountType::VOLUME),
        source: Some(volume.to_owned()),
        target: Some(at.to_owned()),
        read_only: Some(read_only),
        // An image's own files are not to come into it.
        volume_options: Some(MountVolumeOptions {
            no_copy: Some(true),
            ..MountVolumeOptions::default()
        }),
        ..Mount::default()
    }
}

pub(super) fn host_mount(place: &Path, at: &str) -> Mount {
    Mount {
        typ: Some(MountType::BIND),
        source: Some(place.to_string_lossy().into_owned()),
        target: Some(at.to_owned()),
        read_only: Some(true),
        ..Mount::default()
    }
}
