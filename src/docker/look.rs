//! Looking into a volume without running anything that is in it.

use bollard::container::LogOutput;
use bollard::models::{ContainerCreateBody, HostConfig, Mount, MountType};
use bollard::query_parameters::{CreateImageOptionsBuilder, LogsOptionsBuilder};
use futures_util::StreamExt;

use super::{Docker, Output, failed};
use crate::error::Result;

/// How many lines of a container's log are told.
const LAST_LINES: &str = "12";

impl Docker {
    /// Whether a volume has nothing in it.
    pub async fn volume_is_empty(&self, volume: &str) -> Result<bool> {
        // Its container is never started. The image is this call's own: others may be looking.
        // The end of an archive is two blocks of zeros; this one has nothing before it.
        let image = self.import(vec![0; 1024], "hatchery.empty").await?;
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

    /// Runs a program beside a volume, mounted read-only, without network or privileges.
    pub async fn look_into(
        &self,
        volume: &str,
        at: &str,
        image: &str,
        argv: &[&str],
    ) -> Result<Output> {
        let text = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
        let body = ContainerCreateBody {
            image: Some(image.to_owned()),
            entrypoint: Some(text(argv)),
            cmd: Some(Vec::new()),
            user: Some("0:0".to_owned()),
            host_config: Some(HostConfig {
                mounts: Some(vec![volume_mount(volume, at, true)]),
                network_mode: Some("none".to_owned()),
                cap_drop: Some(text(&["ALL"])),
                // The files are another user's.
                cap_add: Some(text(&["DAC_READ_SEARCH"])),
                security_opt: Some(text(&["no-new-privileges"])),
                memory: Some(1024 * 1024 * 1024),
                pids_limit: Some(256),
                ..HostConfig::default()
            }),
            ..ContainerCreateBody::default()
        };
        self.run_once(body).await
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
        let output = self.run_to_the_end(&id).await;
        self.remove_container(&id).await?;
        output
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

    /// Pulls an image, anonymously, telling of each step.
    pub async fn pull(&self, image: &str, progress: &(dyn Fn(&str) + Sync)) -> Result<()> {
        // Without a tag the API would pull all that there are.
        let name = image.rsplit('/').next().unwrap_or(image);
        let tag = if name.contains([':', '@']) {
            ""
        } else {
            "latest"
        };
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
        ..Mount::default()
    }
}
