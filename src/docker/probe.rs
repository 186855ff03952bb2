//! Running a program of hatchery's own in throw-away containers: in an image that holds nothing
//! else, so that it works on a server that has no image and no way to get one.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bollard::models::{ContainerCreateBody, HostConfig, HostConfigLogConfig};
use bollard::query_parameters::{
    CreateImageOptionsBuilder, ListContainersOptionsBuilder, ListImagesOptionsBuilder,
};
use futures_util::StreamExt;
use futures_util::future::join_all;

use super::{Docker, Output, Tree, failed, filters, late};
use crate::config::Runtime;
use crate::error::{Code, Error, Result, host_io};

/// On the image and the containers, so that those of a killed hatchery are found.
pub(super) const LABEL: &str = "hatchery.probe";

/// What is older than this is nobody's any more, in seconds.
const ABANDONED: i64 = 300;

/// How long an image's shell may take, with all that Docker does for it.
const SAYS_WITHIN: Duration = Duration::from_secs(20);

/// Whom it runs as.
const NOBODY: &str = "65534:65534";

/// Where the program is.
const PROGRAM: &str = "/hatchery-drone";

impl Docker {
    /// Runs a static program once on each of these networks, all at once, unprivileged; nothing
    /// is left behind.
    pub async fn run_on_networks(
        &self,
        program: Vec<u8>,
        arguments: &[String],
        networks: &[String],
    ) -> Result<Vec<Output>> {
        self.sweep(LABEL).await?;
        let image = self.image_of(program).await?;
        let runs = networks
            .iter()
            .map(|network| self.run_on_network(&image, arguments, network));
        let outputs = join_all(runs).await;
        self.remove_image(&image).await?;
        outputs.into_iter().collect()
    }

    /// Runs the program in a container that runs already, as everything in a drone is run.
    pub async fn try_exec(&self, program: Vec<u8>) -> Result<()> {
        let run = async |id: &str| self.inside(id).run_as(NOBODY, &[PROGRAM], &[]).await;
        let ran = self.beside_one_that_waits(program, None, run).await;
        ran.map(|_| ())
    }

    /// Which user of this server root is in a container of this runtime, tried with a static program.
    pub async fn root_of(&self, runtime: Runtime, program: Vec<u8>) -> Result<u32> {
        let name = runtime.as_str().to_owned();
        let look = async |id: &str| self.root_in(id).await;
        self.beside_one_that_waits(program, Some(name), look).await
    }

    /// Runs a shell's script in a container of this image, which may be anybody's: as nobody, with no
    /// network, nothing to write to and nothing that it may do.
    pub async fn run_in_image(&self, image: &str, script: &str) -> Result<Output> {
        self.sweep(LABEL).await?;
        let mut body = probe_body(image, &["-c".to_owned(), script.to_owned()], "none");
        body.entrypoint = Some(vec!["/bin/sh".to_owned()]);
        let about = self.api.inspect_image(image).await;
        let about = about.map_err(|error| failed(&format!("inspect the image {image}"), error))?;
        let volumes = about.config.and_then(|config| config.volumes);
        if let Some(host) = &mut body.host_config {
            host.memory_swap = host.memory;
            host.nano_cpus = Some(1_000_000_000);
            // What the image has as volumes would be written to Docker's disk.
            let covered = volumes.into_iter().flatten();
            let covered = covered.map(|at| (at, "ro,size=64k".to_owned()));
            host.tmpfs = Some(covered.collect());
            // It is read from Docker's log, wherever this Docker keeps logs otherwise.
            host.log_config = Some(HostConfigLogConfig {
                typ: Some("json-file".to_owned()),
                config: Some(HashMap::from([("max-size".to_owned(), "64k".to_owned())])),
            });
        }
        let running = tokio::time::timeout(SAYS_WITHIN, self.run_once(body));
        match running.await {
            Ok(output) => output,
            // The next sweep removes the container.
            Err(_) => Err(late("run a shell in a throw-away container", SAYS_WITHIN)),
        }
    }

    async fn root_in(&self, container: &str) -> Result<u32> {
        let shown = self.container(container).await?;
        let pid = shown.and_then(|shown| shown.pid()).unwrap_or_default();
        let map = PathBuf::from(format!("/proc/{pid}/uid_map"));
        let text = tokio::fs::read_to_string(&map).await;
        let text = text.map_err(|error| host_io("read", &map, error))?;
        root_by(&text).ok_or_else(|| {
            Error::new(Code::DockerFailed, "a container has no root")
                .because(format!("{} holds {text:.200?}", map.display()))
        })
    }

    /// An image that holds a static program and nothing else.
    async fn image_of(&self, program: Vec<u8>) -> Result<String> {
        let mut archive = Vec::new();
        Tree::default()
            .file(PROGRAM, 0o755, program)
            .write(&mut archive)
            .map_err(|error| {
                Error::new(Code::HostFailed, "cannot pack a program").because(error)
            })?;
        self.import(archive, LABEL).await
    }

    /// Looks at a container of the program's that runs, in this runtime or Docker's own; it is removed then.
    async fn beside_one_that_waits<T>(
        &self,
        program: Vec<u8>,
        runtime: Option<String>,
        look: impl AsyncFnOnce(&str) -> Result<T>,
    ) -> Result<T> {
        let image = self.image_of(program).await?;
        let mut body = waiting_body(&image);
        if let Some(host) = &mut body.host_config {
            host.runtime = runtime;
        }
        let looked = async {
            let id = self.create(body).await?;
            let looked = async {
                self.start(&id).await?;
                look(&id).await
            };
            let looked = looked.await;
            self.remove_container(&id).await?;
            looked
        };
        let looked = looked.await;
        self.remove_image(&image).await?;
        looked
    }

    async fn run_on_network(
        &self,
        image: &str,
        arguments: &[String],
        network: &str,
    ) -> Result<Output> {
        self.run_once(probe_body(image, arguments, network)).await
    }

    /// Removes what a killed hatchery left under this label.
    pub(super) async fn sweep(&self, label: &str) -> Result<()> {
        let label = filters("label", label.to_owned());
        let containers = ListContainersOptionsBuilder::new()
            .all(true)
            .filters(&label)
            .build();
        let containers = self
            .api
            .list_containers(Some(containers))
            .await
            .map_err(|error| failed("list the containers", error))?;
        for container in containers {
            if let (Some(id), true) = (container.id, abandoned(container.created)) {
                self.remove_container(&id).await?;
            }
        }
        let images = ListImagesOptionsBuilder::new().filters(&label).build();
        let images = self
            .api
            .list_images(Some(images))
            .await
            .map_err(|error| failed("list the images", error))?;
        for image in images {
            if abandoned(Some(image.created)) {
                self.remove_image(&image.id).await?;
            }
        }
        Ok(())
    }

    /// Imports an archive as an image with this label and without a name; its id.
    pub(super) async fn import(&self, archive: Vec<u8>, label: &str) -> Result<String> {
        let options = CreateImageOptionsBuilder::new()
            .from_src("-")
            .changes(vec![format!("LABEL {label}=1")])
            .build();
        let archive = bollard::body_full(archive.into());
        let mut importing =
            std::pin::pin!(self.api.create_image(Some(options), Some(archive), None));
        let mut id = String::new();
        while let Some(part) = importing.next().await {
            let part = part.map_err(|error| failed("import an image", error))?;
            id = part.status.unwrap_or(id);
        }
        Ok(id)
    }
}

/// A container that runs until it is removed.
fn waiting_body(image: &str) -> ContainerCreateBody {
    // It waits for a question on its standard input.
    let words = ["git-credential".to_owned(), "get".to_owned()];
    ContainerCreateBody {
        open_stdin: Some(true),
        ..probe_body(image, &words, "none")
    }
}

/// The user outside that is root inside, by `/proc/PID/uid_map` (`user_namespaces(7)`): lines of a first user
/// inside, the same outside, and how many.
fn root_by(map: &str) -> Option<u32> {
    map.lines().find_map(|line| {
        let mut numbers = line.split_whitespace().map(str::parse);
        match (numbers.next()?, numbers.next()?) {
            (Ok(0), Ok(outside)) => Some(outside),
            _ => None,
        }
    })
}

fn probe_body(image: &str, arguments: &[String], network: &str) -> ContainerCreateBody {
    ContainerCreateBody {
        image: Some(image.to_owned()),
        entrypoint: Some(vec![PROGRAM.to_owned()]),
        cmd: Some(arguments.to_vec()),
        user: Some(NOBODY.to_owned()),
        labels: Some(HashMap::from([(LABEL.to_owned(), "1".to_owned())])),
        host_config: Some(HostConfig {
            network_mode: Some(network.to_owned()),
            cap_drop: Some(vec!["ALL".to_owned()]),
            security_opt: Some(vec!["no-new-privileges".to_owned()]),
            readonly_rootfs: Some(true),
            memory: Some(128 * 1024 * 1024),
            // A thread for each try.
            pids_limit: Some(512),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    }
}

fn abandoned(created: Option<i64>) -> bool {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    created.is_some_and(|created| created < now - ABANDONED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_who_the_map_says() {
        for (map, outside) in [
            ("         0          0 4294967295\n", Some(0)),
            ("         0     231072      65536\n", Some(231_072)),
            (
                "      1000       1000          1\n         0     100000       1000\n",
                Some(100_000),
            ),
            ("      1000       1000          1\n", None),
            ("0 x 1\n0\n", None),
            ("", None),
        ] {
            assert_eq!(root_by(map), outside, "{map:?}");
        }
    }
}
