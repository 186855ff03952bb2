//! The drone's own builder: `BuildKit` without root, in a container with the drone's limits, on its
//! network. It is made when something is to be built and goes when the drone is made; what it has
//! built stays in a volume of the drone's, so that the next build takes that up.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, OnceCell};

use crate::config::{self, Config};
use crate::devcontainer::building::Build;
use crate::devcontainer::judging::images;
use crate::devcontainer::judging::verdict::WAYS_ON;
use crate::devcontainer::running::cli::Asked;
use crate::devcontainer::running::guard;
use crate::devcontainer::{Repository, cpus};
use crate::docker::{BuilderSpec, Built, Docker, Machine, Tree};
use crate::door::judge::is_usable;
use crate::drone::{DroneName, Identity};
use crate::error::{Code, Error, Result};
use crate::fault::{self, Point};
use crate::host::Places;

/// How a builder is called, before the drone's name. No drone's name has a dot.
const NAMED: &str = "hatchery.builder.";

/// How long `BuildKit` may take to be there.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// How often it is asked.
const ASKED_EVERY: Duration = Duration::from_millis(100);

/// Where `BuildKit`'s image without root looks for its configuration, and keeps what it has built
/// (its Dockerfile, target "rootless").
const SETTINGS: &str = "/home/user/.config/buildkit/buildkitd.toml";
const CACHE: &str = "/home/user/.local/share/buildkit";

/// Where its certificates are.
const CERTIFICATES: &str = "/etc/hatchery/certificates.pem";

/// Where the features are kept for a project that compose 1 or an early compose 2 builds.
const FEATURES: &str = "/tmp/features";
const ABOUT_FEATURES: &str = "/tmp/features.json";

/// Where images are that Docker has, and how many of a Dockerfile's are put there.
const GIVEN: &str = "/tmp/images";
const MAX_GIVEN: usize = 20;

/// The first Docker that saves images as OCI layouts.
const FIRST_WITH_LAYOUTS: u32 = 25;

/// Docker's resolver on every network that has a name; `BuildKit` would take a public one in its
/// place.
const CONFIGURATION: &str = "[dns]\n  nameservers = [\"127.0.0.11\"]\n";

/// Where distributions keep the certificates that a server trusts.
const BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// A drone's builder.
#[derive(Debug)]
pub struct Builder {
    docker: Docker,
    identity: Identity,
    config: Config,
    network: String,
    roots: Vec<PathBuf>,
    /// Whether this Docker saves images as OCI layouts.
    has_layouts: bool,
    started: OnceCell<()>,
    /// Images that the builder has without a registry.
    given: Mutex<BTreeMap<String, Option<Given>>>,
}

/// An image in the builder's container.
#[derive(Debug, Clone)]
struct Given {
    /// Its OCI layout.
    at: String,
    /// The digest of its manifest or index.
    digest: String,
}

impl Builder {
    /// A builder that is made once something is to be built. `roots` are the directories that builds
    /// read, `network` is one of the drone's own.
    pub fn new(
        docker: &Docker,
        identity: &Identity,
        config: &Config,
        network: &str,
        roots: Vec<PathBuf>,
        machine: &Machine,
    ) -> Self {
        Self {
            docker: docker.clone(),
            identity: identity.clone(),
            config: config.clone(),
            network: network.to_owned(),
            roots,
            has_layouts: machine.major() >= FIRST_WITH_LAYOUTS,
            started: OnceCell::new(),
            given: Mutex::default(),
        }
    }

    /// Builds what was asked for and has Docker load it. A build that fails is told to who asked; an
    /// error is the server's, or that of who asked for what is not built.
    pub async fn build(&self, asked: Asked) -> Result<()> {
        let build = &asked.build;
        let most = self.config.limits.memory;
        build
            .check(&self.roots, &self.identity, most)
            .map_err(|what| {
                Error::new(
                    Code::GateRefused,
                    format!("hatchery builds no image with {what}"),
                )
                .hint(format!(
                    "change that in the repository, or trust it: {WAYS_ON}"
                ))
            })?;
        if self.is_built(build, &|line| asked.line(line)).await? {
            asked.is_built();
        }
        Ok(())
    }

    /// Builds an image; whether that has come to an end without a failure of its own.
    async fn is_built(&self, build: &Build, line: &(dyn Fn(&str) + Send + Sync)) -> Result<bool> {
        if build.if_missing
            && let Some(name) = build.tags.first()
            && self.docker.image(name).await?.is_some()
        {
            return Ok(true);
        }
        self.started.get_or_try_init(|| self.start(line)).await?;
        let shared = images::temporary(&self.identity.name);
        let keeps = build.tags.contains(&shared);
        let mut argv = self.arguments(build);
        if keeps {
            argv.extend(
                [
                    "--output",
                    &format!("type=oci,tar=false,dest={FEATURES}"),
                    "--metadata-file",
                    ABOUT_FEATURES,
                ]
                .map(str::to_owned),
            );
        } else {
            for (number, (name, given)) in self.given(build, line).await?.into_iter().enumerate() {
                let Given { at, digest } = given;
                let name = images::familiar(&name);
                argv.extend(["--oci-layout".to_owned(), format!("given{number}={at}")]);
                let context = format!("context:{name}=oci-layout://given{number}@{digest}");
                argv.extend(["--opt".to_owned(), context]);
            }
            let names = build.tags.join(",");
            let output = format!("type=docker,compression=uncompressed,\"name={names}\"");
            argv.extend(["--output".to_owned(), output]);
        }
        let name = name(&self.identity.name);
        match self.docker.build(&name, &argv, &build.tags, line).await? {
            Built::Failed(_) => Ok(false),
            Built::Done if keeps => {
                let digest = self.digest_of_features(&name).await?;
                let at = FEATURES.to_owned();
                self.given
                    .lock()
                    .await
                    .insert(shared, Some(Given { at, digest }));
                Ok(true)
            }
            Built::Loaded if !keeps => {
                fault::reached(Point::ImageBuilt);
                Ok(true)
            }
            _ => Err(Error::new(
                Code::BuildFailed,
                "the drone's builder made no image",
            )),
        }
    }

    /// Ends it. What it has built stays.
    pub async fn end(&self) -> Result<()> {
        let name = name(&self.identity.name);
        self.docker.remove_container(&name).await?;
        fault::reached(Point::BuilderEnded);
        Ok(())
    }

    /// `buildctl build`, but for what becomes of the result.
    fn arguments(&self, build: &Build) -> Vec<String> {
        let mut build = build.clone();
        // It is kept in the cache's volume, not in the image.
        build.args.remove("BUILDKIT_INLINE_CACHE");
        let own: BTreeMap<_, _> = self
            .identity
            .labels()
            .map(|(key, value)| (key.to_owned(), value))
            .into();
        build.labels.extend(own);
        let mut argv = [
            "buildctl",
            "build",
            "--progress",
            "plain",
            "--frontend",
            "dockerfile.v0",
        ]
        .map(str::to_owned)
        .to_vec();
        let mut put = |flag: &str, value: String| argv.extend([flag.to_owned(), value]);
        for (name, path) in build.directories() {
            put("--local", format!("{name}={}", path.display()));
        }
        for (key, value) in build.options() {
            put("--opt", format!("{key}={value}"));
        }
        for image in &build.cache_from {
            put("--import-cache", format!("type=registry,ref={image}"));
        }
        argv
    }

    /// The images of a Dockerfile that the builder need not, or cannot, pull: what Docker has is put
    /// into its container, once.
    async fn given(
        &self,
        build: &Build,
        line: &(dyn Fn(&str) + Send + Sync),
    ) -> Result<Vec<(String, Given)>> {
        let text = guard::read(&build.context.join(&build.dockerfile)).unwrap_or_default();
        let args = build.args.clone().into_iter().collect();
        let mut all = self.given.lock().await;
        let mut out = Vec::new();
        let named = images::of_dockerfile(&text, &args);
        for name in named.into_iter().take(MAX_GIVEN).filter(|_| !build.pull) {
            if self.has_layouts && !all.contains_key(&name) {
                let given = self.give(&name, all.len(), line).await?;
                all.insert(name.clone(), given);
            }
            if let Some(Some(given)) = all.get(&name) {
                out.push((name, given.clone()));
            }
        }
        Ok(out)
    }

    async fn give(
        &self,
        image: &str,
        number: usize,
        line: &(dyn Fn(&str) + Send + Sync),
    ) -> Result<Option<Given>> {
        let there = self.docker.image(image).await?;
        if !there.is_some_and(|there| is_usable(&there, &self.identity.name)) {
            return Ok(None);
        }
        line(&format!("handing {image} to the builder"));
        let at = format!("{GIVEN}/{number}");
        let digest = self
            .docker
            .put_image(&name(&self.identity.name), image, &at)
            .await?;
        Ok(digest
            .filter(|digest| is_digest(digest))
            .map(|digest| Given { at, digest }))
    }

    async fn digest_of_features(&self, builder: &str) -> Result<String> {
        let about = self
            .docker
            .file(builder, ABOUT_FEATURES, 64 * 1024)
            .await?
            .unwrap_or_default();
        let about: serde_json::Value = serde_json::from_slice(&about).unwrap_or_default();
        let digest = about["containerimage.digest"].as_str().unwrap_or_default();
        if is_digest(digest) {
            Ok(digest.to_owned())
        } else {
            Err(Error::new(
                Code::BuildFailed,
                "the drone's builder does not say what it made of the features",
            ))
        }
    }

    async fn start(&self, line: &(dyn Fn(&str) + Send + Sync)) -> Result<()> {
        let image = &self.config.docker.buildkit;
        if self.docker.image(image).await?.is_none() {
            let pulled = self.docker.pull(image, &|text: &str| line(text)).await;
            pulled.map_err(|error| {
                Error::new(Code::BuildFailed, format!("the builder's image {image} cannot be pulled")).hint(
                    "check that this server reaches its registry, name another as docker.buildkit in the configuration, or let \
                     Docker build without protection: docker.builder = \"shared\"",
                ).because(error)
            })?;
        }
        let limits = &self.config.limits;
        let certificates = certificates(&self.config);
        let name = name(&self.identity.name);
        let spec = BuilderSpec {
            name: &name,
            drone: self.identity.name.as_str(),
            image,
            arguments: Vec::new(),
            environment: certificates
                .iter()
                .map(|_| format!("SSL_CERT_FILE={CERTIFICATES}"))
                .collect(),
            network: &self.network,
            cache: CACHE,
            readable: &self.roots,
            memory: limits.memory.as_u64(),
            cpus: cpus(limits),
            pids: limits.pids,
        };
        let id = self.docker.create_builder(&spec).await?;
        fault::reached(Point::BuilderMade);
        let mut tree = Tree::default().file(SETTINGS, 0o644, CONFIGURATION.into());
        if let Some(certificates) = certificates {
            tree = tree.file(CERTIFICATES, 0o644, certificates);
        }
        self.docker.put(&id, tree).await?;
        self.docker.start(&id).await?;
        self.ready(&id).await?;
        fault::reached(Point::BuilderStarted);
        Ok(())
    }

    async fn ready(&self, id: &str) -> Result<()> {
        let begun = Instant::now();
        let inside = self.docker.inside(id);
        loop {
            let asked = inside
                .run_as("0:0", &["buildctl", "debug", "workers"], &[])
                .await;
            if asked.as_ref().is_ok_and(|output| output.status == 0) {
                return Ok(());
            }
            let runs = self
                .docker
                .container(id)
                .await?
                .is_some_and(|container| container.runs());
            if runs && begun.elapsed() < READY_WITHIN {
                tokio::time::sleep(ASKED_EVERY).await;
                continue;
            }
            let mut lines = self.docker.last_lines(id).await.unwrap_or_default();
            lines.drain(..lines.len().saturating_sub(10));
            return Err(Error::new(Code::BuildFailed, "the drone's builder does not start")
                .hint(
                    "it needs namespaces that a user may make: see `hatchery doctor`; else let Docker build without \
                     protection: docker.builder = \"shared\" in the configuration",
                )
                .with_details(lines));
        }
    }
}

fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:")
        .is_some_and(|it| it.len() == 64 && it.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// Whether a repository's images are built by a builder of the drone's own. What is trusted is built by
/// dockerd's, where nothing is kept from it.
pub fn is_own(config: &Config, repository: &Repository, trusted: bool) -> bool {
    let known = |name: &str| {
        let known = &config.devcontainer.known;
        images::whole(name).is_some_and(|whole| known.iter().any(|known| known.holds(&whole)))
    };
    !trusted
        && match config.docker.builder {
            config::Builder::Auto => !repository.is_built_of(known),
            config::Builder::Own => true,
            config::Builder::Shared => false,
        }
}

/// How a drone's builder and its cache are called.
pub fn name(drone: &DroneName) -> String {
    format!("{NAMED}{drone}")
}

/// Ends the builders of spawns that were killed, those whose lock nobody holds, and removes the caches
/// of drones that are gone.
pub async fn sweep(docker: &Docker, places: &Places) -> Result<()> {
    for drone in docker.builders().await? {
        let Some(drone) = DroneName::from_label(&drone) else {
            continue;
        };
        if let Ok(_lock) = places.lock(&drone) {
            docker.remove_container(&name(&drone)).await?;
        }
    }
    // A drone's own volume is removed after its builder's.
    let volumes = docker.volume_names().await?;
    for drone in docker.caches().await? {
        let is_gone = !volumes.contains(&drone);
        if let Some(drone) = DroneName::from_label(&drone).filter(|_| is_gone)
            && let Ok(_lock) = places.lock(&drone)
        {
            docker.remove_volume(&name(&drone)).await?;
        }
    }
    Ok(())
}

/// The certificates that this server trusts, and the configuration's.
fn certificates(config: &Config) -> Option<Vec<u8>> {
    let named = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    let mut bundles = named.into_iter().chain(BUNDLES.map(PathBuf::from));
    let mut all = bundles.find_map(|path| std::fs::read(path).ok())?;
    if let Some(more) = config
        .github
        .ca_file
        .as_ref()
        .and_then(|path| std::fs::read(path).ok())
    {
        all.push(b'\n');
        all.extend(more);
    }
    Some(all)
}
