//! The drone's own builder: `BuildKit` without root, in a container with the drone's limits, on its
//! network. It is made when something is to be built and goes when the drone is made; what it has
//! built stays in a volume of the drone's, so that the next build takes that up.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags, ResolveFlags};

use tokio::sync::{Mutex, OnceCell, watch};

use crate::config::{self, Config, Namespace, Registries};
use crate::devcontainer::Repository;
use crate::devcontainer::building::Build;
use crate::devcontainer::judging::images;
use crate::devcontainer::judging::verdict::WAYS_ON;
use crate::devcontainer::running::cli::Asked;
use crate::devcontainer::running::guard;
use crate::docker::{self, BuilderSpec, Built, Docker, Layout, Login, Machine, Store, Tree};
use crate::door::judge::is_usable;
use crate::drone::{DroneName, Identity, LABEL_DRONE};
use crate::error::{Code, Error, Result};
use crate::failpoint::{self, Point};
use crate::host::Places;
use crate::timeline::Timeline;

/// How a builder is called, before the drone's name. No drone's name has a dot.
const NAMED: &str = "hatchery.builder.";

/// How long `BuildKit` may take to be there.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// How long what it is at may take to end with it.
const SETTLE: Duration = Duration::from_secs(15);

/// How often it is asked.
const ASKED_EVERY: Duration = Duration::from_millis(100);

/// Where `BuildKit`'s image without root looks for its configuration, and keeps what it has built
/// (its Dockerfile, target "rootless").
const SETTINGS: &str = "/home/user/.config/buildkit/buildkitd.toml";
const CACHE: &str = "/home/user/.local/share/buildkit";

/// Where its certificates are.
const CERTIFICATES: &str = "/etc/hatchery/certificates.pem";

/// Where it says what it has built: a file for each build.
const ABOUT: &str = "/etc/hatchery/built";

/// Where `buildctl` looks for logins: no place that `BuildKit` or a build can read.
const LOGINS: &str = "/etc/hatchery/config.json";

/// Where images are, as one OCI layout: those that Docker has, of which at most so many of a Dockerfile's
/// are put there, and what was built. What lies there is not written again.
const IMAGES: &str = "/etc/hatchery/images";
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
    /// Whether it takes layers that it has from there when it loads an image.
    keeps_layers: bool,
    started: OnceCell<()>,
    /// Whose turn it is.
    turn: Mutex<()>,
    ended: watch::Sender<bool>,
    /// Why it could not be prepared.
    failed: Mutex<Option<Error>>,
    /// Images that the builder has without a registry, by the names that it has for them.
    given: Mutex<BTreeMap<String, Given>>,
    /// How many builds it has begun.
    builds: AtomicU32,
    timeline: Timeline,
}

/// An image in the builder's container.
#[derive(Debug, Clone)]
struct Given {
    /// The digest of its manifest or index.
    digest: String,
    /// The digests of its layers' content, where Docker has it too.
    layers: Vec<String>,
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
        timeline: &Timeline,
    ) -> Self {
        Self {
            docker: docker.clone(),
            identity: identity.clone(),
            config: config.clone(),
            network: network.to_owned(),
            roots,
            has_layouts: machine.major() >= FIRST_WITH_LAYOUTS,
            keeps_layers: machine.store == Store::Docker,
            started: OnceCell::new(),
            turn: Mutex::default(),
            ended: watch::Sender::new(false),
            failed: Mutex::default(),
            given: Mutex::default(),
            builds: AtomicU32::new(0),
            timeline: timeline.clone(),
        }
    }

    /// Begins with what a build from this image will need, before one is asked for. What fails here is what the
    /// next build fails with.
    pub async fn prepare(&self, image: &str) {
        let _turn = self.turn.lock().await;
        if let Err(error) = self.is_prepared(image).await {
            *self.failed.lock().await = Some(error);
        }
    }

    async fn is_prepared(&self, image: &str) -> Result<()> {
        let own = &self.config.docker.buildkit;
        // A person is shown how it is pulled, which this cannot.
        if self.has_ended() || self.docker.image(own).await?.is_none() {
            return Ok(());
        }
        self.started.get_or_try_init(|| self.start(&|_| ())).await?;
        let mut all = self.given.lock().await;
        self.give_once(image, &mut all, &|_| ()).await
    }

    /// Builds what was asked for, one after the other, and has Docker load it. A build that fails is told
    /// to who asked; an error is the server's, or that of who asked for what is not built.
    pub async fn build(&self, asked: Asked) -> Result<()> {
        let build = &asked.build;
        let most = self.config.limits.memory;
        build
            .check(&self.roots, &self.identity, most)
            .map_err(|what| {
                Error::new(
                    Code::GateRefused,
                    format!("hatchery does not build an image with {what}"),
                )
                .hint(format!(
                    "change that in the repository, or trust the repository with this server: {WAYS_ON}"
                ))
            })?;
        let _turn = if let Ok(turn) = self.turn.try_lock() {
            turn
        } else {
            asked.line("waiting for the drone's builder");
            self.turn.lock().await
        };
        let outcome = self.is_built(build, &|line| asked.line(line)).await;
        // Whatever came of it then, nobody waits for it any more.
        if self.has_ended() {
            return Ok(());
        }
        if outcome? {
            asked.is_built();
        }
        Ok(())
    }

    /// Whether nothing is built any more.
    fn has_ended(&self) -> bool {
        *self.ended.borrow()
    }

    /// What comes of this, unless the builder is ended meanwhile: what goes to Docker and comes from there does not
    /// go on then.
    async fn unless_ended<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let mut ended = self.ended.subscribe();
        tokio::select! {
            result = work => result,
            _ = ended.wait_for(|ended| *ended) => Err(was_ended()),
        }
    }

    /// Builds an image; whether that has come to an end without a failure of its own.
    async fn is_built(&self, build: &Build, line: &(dyn Fn(&str) + Send + Sync)) -> Result<bool> {
        if self.has_ended() {
            return Ok(false);
        }
        if build.if_missing
            && let Some(name) = build.tags.first()
            && self.docker.image(name).await?.is_some()
        {
            return Ok(true);
        }
        if let Some(error) = self.failed.lock().await.take() {
            return Err(error);
        }
        self.started.get_or_try_init(|| self.start(line)).await?;
        let shared = images::temporary(&self.identity.name);
        // A project's features are an image that only the builder needs.
        let stays = build.tags.contains(&shared);
        let mut argv = self.arguments(build);
        let given = if stays {
            BTreeMap::new()
        } else {
            self.given(build, line).await?
        };
        if !given.is_empty() {
            argv.extend(["--oci-layout".to_owned(), format!("given={IMAGES}")]);
        }
        for (name, Given { digest, .. }) in &given {
            let context = format!("context:{name}=oci-layout://given@{digest}");
            argv.extend(["--opt".to_owned(), context]);
        }
        let is_left = stays || (self.has_layouts && self.keeps_layers);
        let about = format!(
            "{ABOUT}-{}.json",
            self.builds.fetch_add(1, Ordering::Relaxed)
        );
        argv.extend(output(build, is_left, &about));
        let name = name(&self.identity.name);
        let logs_in = self.log_in(&name, build).await?;
        let building = self.docker.build(&name, &argv, &build.tags, line);
        let ended = self
            .timeline
            .time("build", self.unless_ended(building))
            .await;
        if logs_in {
            self.put_logins(&name, &[]).await?;
        }
        match ended? {
            Built::Failed => return Ok(false),
            Built::Done if stays => {
                let digest = self.digest_of_built(&name, &about).await?;
                let layers = Vec::new();
                let features = Given { digest, layers };
                self.given.lock().await.insert(shared, features);
                return Ok(true);
            }
            Built::Done if is_left => {
                let digest = self.digest_of_built(&name, &about).await?;
                let image = Layout {
                    container: &name,
                    at: IMAGES,
                    digest: &digest,
                };
                let known: Vec<_> = given.into_values().map(|given| given.layers).collect();
                let loading = self.docker.load_layout(image, &build.tags, &known);
                let loaded = self.timeline.time("load", self.unless_ended(loading)).await;
                if let Err(error) = loaded {
                    // Docker may have had all of it, and have named it.
                    let _ = self.is_labelled(&build.tags).await;
                    return Err(error);
                }
            }
            Built::Loaded if !is_left => {}
            _ => {
                return Err(Error::new(
                    Code::BuildFailed,
                    "the drone's builder produced no image",
                ));
            }
        }
        self.is_labelled(&build.tags).await?;
        failpoint::reached(Point::ImageBuilt);
        Ok(true)
    }

    /// Removes an image that does not say whose it is: what goes with the drone is found by that.
    async fn is_labelled(&self, names: &[String]) -> Result<()> {
        for name in names {
            let labels = self.docker.image_labels(name).await?;
            if labels.get(LABEL_DRONE).map(String::as_str) != Some(self.identity.name.as_str()) {
                for name in names {
                    self.docker.remove_image(name).await?;
                }
                return Err(Error::new(
                    Code::BuildFailed,
                    "the image that the drone's builder made does not have the drone's label",
                )
                .hint("the frontend that its Dockerfile names (`# syntax=`) may drop labels"));
            }
        }
        Ok(())
    }

    /// Ends it, with what it is at. What it has built stays.
    pub async fn end(&self) -> Result<()> {
        self.ended.send_replace(true);
        let name = name(&self.identity.name);
        self.docker.remove_container(&name).await?;
        // Without its container a build comes to an end of its own; one that had none yet may have one
        // by now.
        if let Ok(_turn) = tokio::time::timeout(SETTLE, self.turn.lock()).await {
            self.docker.remove_container(&name).await?;
        }
        failpoint::reached(Point::BuilderEnded);
        Ok(())
    }

    /// `buildctl build`, but for what becomes of the result.
    fn arguments(&self, build: &Build) -> Vec<String> {
        let mut build = build.clone();
        // It is kept in the cache's volume, not in the image.
        build.args.remove("BUILDKIT_INLINE_CACHE");
        build.labels.extend(self.identity.label_map());
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
    /// into its container, once. Private ones it never pulls: it has no login.
    async fn given(
        &self,
        build: &Build,
        line: &(dyn Fn(&str) + Send + Sync),
    ) -> Result<BTreeMap<String, Given>> {
        // An image that is there is for the server's own platform.
        let text = self.dockerfile(build).unwrap_or_default();
        let pulls = build.pull || build.platform.is_some() || text.contains("--platform");
        let args = build.args.clone().into_iter().collect();
        let stages = images::stages(&text);
        let mut all = self.given.lock().await;
        let mut out = BTreeMap::new();
        for name in images::of_dockerfile(&text, &args) {
            let is_private = self.config.registries.of(&name).is_some();
            if pulls && !is_private {
                continue;
            }
            let key = images::familiar(&name);
            self.give_once(&name, &mut all, line).await?;
            // What has a stage's name would stand in for the stage.
            if let Some(given) = all.get(&key)
                && !stages.contains(&key.to_ascii_lowercase())
            {
                out.insert(key, given.clone());
            }
        }
        Ok(out)
    }

    /// Puts the logins for a Dockerfile's private images where `buildctl` finds them, for a Docker that cannot hand
    /// images over; whether there are any. [`Self::put_logins`] takes them away.
    async fn log_in(&self, builder: &str, build: &Build) -> Result<bool> {
        if self.has_layouts {
            return Ok(false);
        }
        let text = self.dockerfile(build).unwrap_or_default();
        let args = build.args.clone().into_iter().collect();
        let names = images::of_dockerfile(&text, &args);
        let logins = logins(&self.config.registries, &self.identity, &names, &text)?;
        if !logins.is_empty() {
            self.put_logins(builder, &logins).await?;
        }
        Ok(!logins.is_empty())
    }

    async fn put_logins(&self, builder: &str, logins: &[Login]) -> Result<()> {
        let text = Login::config_file(logins.iter());
        let tree = Tree::default().file(LOGINS, 0o600, text.expose().into());
        self.docker.put(builder, tree).await
    }

    /// The Dockerfile, if no link leads to it: who says where it is may make links.
    fn dockerfile(&self, build: &Build) -> Option<String> {
        let path = build.context.join(&build.dockerfile);
        let root = self.roots.iter().find(|root| path.starts_with(root))?;
        let within = path.strip_prefix(root).ok()?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(root, flags, Mode::empty()).ok()?;
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let file = rustix::fs::openat2(root, within, flags, Mode::empty(), resolve).ok()?;
        guard::text_of(file.into())
    }

    async fn give_once(
        &self,
        image: &str,
        all: &mut BTreeMap<String, Given>,
        line: &(dyn Fn(&str) + Send + Sync),
    ) -> Result<()> {
        let key = images::familiar(image);
        if self.has_layouts
            && !all.contains_key(&key)
            && all.len() < MAX_GIVEN
            && images::barred(image).is_none()
        {
            let giving = self.unless_ended(self.give(image, line));
            if let Some(given) = self.timeline.time("hand over", giving).await? {
                all.insert(key, given);
            }
        }
        Ok(())
    }

    async fn give(
        &self,
        image: &str,
        line: &(dyn Fn(&str) + Send + Sync),
    ) -> Result<Option<Given>> {
        let there = self
            .docker
            .image(image)
            .await?
            .filter(|there| is_usable(there, image, &self.identity, &self.config.registries));
        let Some(there) = there else {
            return Ok(None);
        };
        line(&format!("handing {image} to the builder"));
        let builder = name(&self.identity.name);
        let digest = self.docker.put_image(&builder, image, IMAGES).await?;
        let layers = there.root_fs.and_then(|it| it.layers).unwrap_or_default();
        Ok(digest
            .filter(|digest| is_digest(digest))
            .map(|digest| Given { digest, layers }))
    }

    async fn digest_of_built(&self, builder: &str, about: &str) -> Result<String> {
        let about = self
            .docker
            .file(builder, about, 64 * 1024)
            .await?
            .unwrap_or_default();
        let about: serde_json::Value = serde_json::from_slice(&about).unwrap_or_default();
        let digest = about["containerimage.digest"].as_str().unwrap_or_default();
        if is_digest(digest) {
            Ok(digest.to_owned())
        } else {
            Err(Error::new(
                Code::BuildFailed,
                "the drone's builder does not report what it has built",
            ))
        }
    }

    async fn start(&self, line: &(dyn Fn(&str) + Send + Sync)) -> Result<()> {
        let _step = self.timeline.step("builder");
        let image = &self.config.docker.buildkit;
        if self.docker.image(image).await?.is_none() {
            let login = Login::of(&self.config.registries, image)?;
            let progress = |text: &str| line(text);
            let pulling = self.docker.pull(image, login.as_ref(), &progress);
            let pulled = self.unless_ended(pulling).await;
            pulled.map_err(|error| {
                Error::new(Code::BuildFailed, format!("the builder's image {image} cannot be pulled")).hint(
                    "check that this server reaches its registry, set docker.buildkit in the configuration \
                     to another image, or let Docker build without isolation: docker.builder = \"shared\"",
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
            environment: certificates
                .iter()
                .map(|_| format!("SSL_CERT_FILE={CERTIFICATES}"))
                .collect(),
            network: &self.network,
            cache: CACHE,
            readable: &self.roots,
            memory: limits.memory.as_u64(),
            cpus: limits.processors(),
            pids: limits.pids,
        };
        let id = self.docker.create_builder(&spec).await?;
        failpoint::reached(Point::BuilderMade);
        if self.has_ended() {
            return Err(was_ended());
        }
        let mut tree = Tree::default().file(SETTINGS, 0o644, CONFIGURATION.into());
        if let Some(certificates) = certificates {
            tree = tree.file(CERTIFICATES, 0o644, certificates);
        }
        self.docker.put(&id, tree).await?;
        self.docker.start(&id).await?;
        self.ready(&id).await?;
        failpoint::reached(Point::BuilderStarted);
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
                    "it needs unprivileged user namespaces, which `hatchery doctor` checks; or let Docker \
                     build without isolation: docker.builder = \"shared\" in the configuration",
                )
                .with_details(lines));
        }
    }
}

fn was_ended() -> Error {
    Error::new(Code::Interrupted, "the builder was stopped")
}

/// The logins for the private images among those of a Dockerfile, one for each registry. `BuildKit` uses a login for all
/// of a registry, so there is none where the Dockerfile names an image beside the entry, or has an image read it that
/// could ask for others.
fn logins(
    registries: &Registries,
    identity: &Identity,
    names: &[String],
    dockerfile: &str,
) -> Result<Vec<Login>> {
    if images::has_foreign_reader(dockerfile) {
        return Ok(Vec::new());
    }
    let mut entries: BTreeMap<&str, BTreeSet<Option<&Namespace>>> = BTreeMap::new();
    let namespace = |name: &str| registries.of(name).map(|(namespace, _)| namespace);
    let hosts: BTreeSet<&str> = names
        .iter()
        .filter_map(|name| namespace(name).map(Namespace::host))
        .collect();
    for name in names {
        let whole = images::whole(name).unwrap_or_default();
        let host = whole.split('/').next().unwrap_or_default();
        if let Some(host) = hosts.get(host) {
            entries.entry(host).or_default().insert(namespace(name));
        }
    }
    let of_one = entries.into_values().filter(|entries| entries.len() == 1);
    of_one
        .flatten()
        .flatten()
        .filter_map(|namespace| registries.iter().find(|(other, _)| *other == namespace))
        .filter(|(_, registry)| registry.serves(&identity.repo))
        .map(|(namespace, registry)| Login::read(namespace, registry))
        .collect()
}

/// What becomes of a build: one more image beside those that were given, or an archive that `buildctl` prints.
/// Layers are compressed nowhere: they go no further than to this server's Docker.
fn output(build: &Build, is_left: bool, about: &str) -> Vec<String> {
    if is_left {
        let output = format!("type=oci,tar=false,compression=uncompressed,dest={IMAGES}");
        return ["--output", &output, "--metadata-file", about]
            .map(str::to_owned)
            .to_vec();
    }
    let names = build.tags.join(",");
    let output = format!("type=docker,compression=uncompressed,\"name={names}\"");
    vec!["--output".to_owned(), output]
}

fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:").is_some_and(docker::is_id)
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
            config::Builder::Auto => !repository.is_built_of(known, &config.devcontainer.features),
            config::Builder::Own => true,
            config::Builder::Shared => false,
        }
}

/// How a drone's builder and its cache are called.
pub fn name(drone: &DroneName) -> String {
    format!("{NAMED}{drone}")
}

/// Ends the builders of spawns that were killed, those whose lock nobody holds, and removes the caches
/// of drones that are gone. What cannot be removed now is tried again by the next sweep; the errors.
pub async fn sweep(docker: &Docker, places: &Places) -> Vec<Error> {
    let found = tokio::try_join!(docker.builders(), docker.volume_names(), docker.caches());
    let (builders, volumes, mut caches) = match found {
        Ok(found) => found,
        Err(error) => return vec![error],
    };
    // A drone's own volume is removed after its builder's.
    caches.retain(|drone| !volumes.contains(drone));
    let mut errors = Vec::new();
    for drone in builders
        .iter()
        .filter_map(|drone| DroneName::from_label(drone))
    {
        if let Ok(_lock) = places.lock(&drone) {
            errors.extend(docker.remove_container(&name(&drone)).await.err());
        }
    }
    for drone in caches
        .iter()
        .filter_map(|drone| DroneName::from_label(drone))
    {
        if let Ok(_lock) = places.lock(&drone) {
            errors.extend(docker.remove_volume(&name(&drone)).await.err());
        }
    }
    errors
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_build_has_no_login_that_could_be_used_for_more() {
        let secret = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(secret.path(), "secret").unwrap();
        let entry = |name: &str, repositories: &str| {
            format!(
                "[registries.\"{name}\"]\nusername = \"dev\"\npassword_file = \"{}\"\nrepositories = [{repositories}]\n",
                secret.path().display()
            )
        };
        let text = entry("ghcr.io/acme", "\"acme/*\"")
            + &entry("ghcr.io/acme/more", "\"acme/*\"")
            + &entry("docker.io/acme", "\"acme/*\"")
            + &entry("quay.io", "\"other/*\"");
        let config = Config::parse(&text, std::path::Path::new("c.toml")).unwrap();
        let scope = crate::drone::Scope::from_json(r#"{"repositories":["acme/site"]}"#).unwrap();
        let identity = Identity::new(scope);
        let servers = |names: &[&str], dockerfile: &str| {
            let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
            let logins = logins(&config.registries, &identity, &names, dockerfile).unwrap();
            let servers = logins.iter().map(|login| login.server().to_owned());
            servers.collect::<Vec<_>>()
        };
        let hub = "https://index.docker.io/v1/";
        for (names, expected) in [
            (
                &["ghcr.io/acme/a:1", "ghcr.io/acme/b", "debian"][..],
                &["ghcr.io"][..],
            ),
            (&["acme/a", "ghcr.io/acme/b"], &[hub, "ghcr.io"]),
            (&["acme/a", "debian"], &[]),
            (&["ghcr.io/acme/a", "ghcr.io/others/a"], &[]),
            (&["ghcr.io/acme/a", "ghcr.io/acme/more/a"], &[]),
            (&["quay.io/a/b"], &[]),
            (&["debian"], &[]),
        ] {
            assert_eq!(servers(names, "FROM x"), expected, "{names:?}");
        }
        for (reader, expected) in [
            ("evil/frontend", &[][..]),
            ("ghcr.io/docker/dockerfile", &[]),
            ("docker/dockerfile:1", &["ghcr.io"]),
        ] {
            let text = format!("# syntax={reader}\nFROM ghcr.io/acme/a");
            assert_eq!(servers(&["ghcr.io/acme/a"], &text), expected, "{reader}");
        }
    }

    #[test]
    fn a_strangers_code_is_built_by_the_drones_own_builder() {
        let image = "mcr.microsoft.com/devcontainers/base:ubuntu";
        let go = "ghcr.io/devcontainers/features/go:1";
        let config = Config::default();
        let mut shared = Config::default();
        shared.docker.builder = config::Builder::Shared;
        for (document, own) in [
            (json!({"image": image}), false),
            (json!({"image": image, "features": {go: {}}}), false),
            (
                json!({"image": image, "features": {go: {"version": "1.26"}}}),
                true,
            ),
            (
                json!({"image": image, "features": {"ghcr.io/acme/x:1": {}}}),
                true,
            ),
            (json!({"image": image, "features": {"./x": {}}}), true),
            (json!({"image": "debian", "features": {go: {}}}), true),
            (json!({"build": {"dockerfile": "Dockerfile"}}), true),
        ] {
            let checkout = tempfile::tempdir().unwrap();
            let place = checkout.path().join(".devcontainer");
            std::fs::create_dir_all(place.join("x")).unwrap();
            for (file, text) in [
                ("devcontainer.json", document.to_string()),
                ("Dockerfile", format!("FROM {image}\n")),
                (
                    "x/devcontainer-feature.json",
                    json!({"id": "x", "version": "1.0.0"}).to_string(),
                ),
                ("x/install.sh", String::new()),
            ] {
                std::fs::write(place.join(file), text).unwrap();
            }
            let repo = "acme/site".parse().unwrap();
            let machine = Machine::default();
            let read = Repository::judge(checkout.path(), &repo, None, &config, &machine, false);
            let read = read.verdict.unwrap();
            assert_eq!(is_own(&config, &read, false), own, "{document}");
            assert!(!is_own(&config, &read, true) && !is_own(&shared, &read, false));
        }
    }
}
