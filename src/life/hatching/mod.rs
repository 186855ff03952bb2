//! From a repository's name to a running drone: what `spawn` does, in order.
//!
//! Cloning, building and joining the tailnet go on at once. They meet when the devcontainer CLI
//! has created the container: it is looked at, furnished, and only then started.

mod changes;
mod container;
mod failure;
mod replacing;
mod sibling;
mod survey;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bollard::models::ImageInspect;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{Mutex, Notify};
use tokio::task::{JoinHandle, JoinSet};

use self::failure::{Denied, failure};
pub use self::replacing::Old;
use crate::cage::Support;
use crate::config::SharedVolume;
use crate::devcontainer::running::cli::{self, Asked, Event, Failed, Outcome};
use crate::devcontainer::running::guard::Rules;
use crate::devcontainer::running::lifecycle::{Due, Lifecycle, Stage, Vigil};
use crate::devcontainer::{
    ImageFacts, METADATA_LABEL, Prepared, Repository, Seat, check_image, check_metadata, is_number,
    parse_metadata, takes_mounts,
};
use crate::docker::{Container, Login, Machine, Owner, Tree, Wanted};
use crate::door::{self, Bounds, Door, Making};
use crate::drone::Identity;
use crate::error::{Code, Error, Result};
use crate::failpoint::{self, Point};
use crate::host::Workshop;
use crate::life::builder::{self, Builder};
use crate::life::clone;
use crate::life::furnish;
use crate::life::furnish::accounts::Accounts;
use crate::life::furnish::credentials::{self, Helper};
use crate::life::furnish::gitconfig;
use crate::life::furnish::mounts;
use crate::life::furnish::person::Person;
use crate::life::furnish::signing;
use crate::life::hand_in;
use crate::life::login;
use crate::life::parts;
use crate::life::readiness;
use crate::life::recipe::{Extent, Recipe};
use crate::life::registration::Registration;
use crate::life::reserve;
use crate::life::siblings;
use crate::life::starting::setup::{How, Setup};
use crate::life::starting::{self, Start};
use crate::life::teardown;
use crate::life::work;
use crate::outlet::Outlet;
use crate::secret::Environment;
use crate::server::Server;
use crate::ssh::files::{AUTHORIZED_KEYS, DroneFile};
use crate::ssh::identity::ServerSecret;
use crate::tailnet;
use crate::tailnet::{Joined, Waiting};
use crate::timeline::{Step, Timeline};

/// For an older Docker the devcontainer CLI names a frontend in each Dockerfile of its own, which is older
/// than the one in the drone's builder.
const FIRST_WITH_SYNTAX: u32 = 23;

/// How often the free space is looked at while something is cloned or built.
const ROOM_LOOKED_AT_EVERY: Duration = Duration::from_secs(2);

/// How long a join that is under way may take to end before it is cut off.
const SETTLE: Duration = Duration::from_secs(15);

/// What is said where the configuration holds one.
const ATTACHES: &str = "spawn does not run postAttachCommand; an editor runs it when it attaches.";

/// What the person asked for.
#[derive(Debug)]
pub struct Wishes {
    /// Which of several configurations.
    pub variant: Option<String>,
    /// Whether submodules are cloned.
    pub submodules: bool,
    /// Whether the gate lets everything through.
    pub trusted: bool,
    /// The loopback port for ssh, where there is no tailnet.
    pub ssh_port: Option<u16>,
    /// What was asked for its scope, which is in its identity.
    pub extent: Extent,
    /// The drone that is rebuilt, whose volume is kept with all that is in it.
    pub old: Option<Old>,
}

/// A drone that has come up.
#[derive(Debug)]
pub struct Hatched {
    /// The user that a person works as.
    pub user: String,
    /// Where the clone is in the drone.
    pub workspace: String,
    /// A lifecycle command failed; the drone runs all the same.
    pub setup_failed: Option<Error>,
    /// A lifecycle command that was not waited for.
    pub still_running: Option<Stage>,
}

/// One spawn under way.
#[derive(Debug)]
pub struct Hatching<'a> {
    server: Server<'a>,
    identity: &'a Identity,
    wishes: &'a Wishes,
    workshop: &'a Workshop,
    machine: &'a Machine,
    timeline: &'a Timeline,
    /// Where the repository is cloned to on the host. The devcontainer CLI names the image after
    /// this path: another repository's Dockerfile must not be able to build on it.
    checkout: PathBuf,
    /// A text that no repository knows, for names that are the drone's own.
    token: String,
    /// What the drone's sessions and commands have in their environment.
    secrets: Environment,
    /// What is to register the tailnet's node as soon as that may be.
    registrar: RefCell<Option<Waiting>>,
    /// The tailnet's node on its way.
    node: Mutex<JoinSet<Result<Joined>>>,
    /// Whether a node may have been registered, which must then be taken back.
    joining: Cell<bool>,
    /// What the devcontainer CLI is at.
    step: RefCell<String>,
    /// Whether the container is there, so that nothing is built any more.
    created: Cell<bool>,
    /// The container is to be made again.
    again: Notify,
    /// Whether the container of a drone that is rebuilt is gone, or may be.
    replaced: Cell<bool>,
    /// What Docker is making.
    making: RefCell<Option<Making>>,
    /// The drone's own builder, where it has one.
    builder: RefCell<Option<Arc<Builder>>>,
}

/// How a drone gets its tokens.
#[derive(Debug)]
struct Credentials {
    /// Where its socket is.
    directory: PathBuf,
    /// What asks on it.
    helper: Helper,
}

/// What a created container is held against, and what goes into it.
struct Furniture<'a> {
    prepared: &'a Prepared,
    /// The files of the configuration.
    read: &'a BTreeMap<String, String>,
    ssh_files: &'a [DroneFile],
    credentials: Option<&'a Credentials>,
    /// What is known of the user by now.
    person: &'a Known,
}

/// A container with all that goes into it.
struct Whole {
    container: String,
    lifecycle: Lifecycle,
    user: String,
}

/// The container, furnished, or why it has to be made again.
enum Furnished {
    /// All is in it.
    Whole(Whole),
    /// Only the image knows the name of its user, which the configuration must have: people log in by
    /// names, and sshd runs as root. Or it has put the user's home elsewhere than was taken for it.
    Again(Known),
}

/// What is known of the remote user before a container is made.
#[derive(Debug, Clone, Default)]
struct Known {
    /// The name, where only the image knew it.
    remote_user: Option<String>,
    /// The home.
    home: Home,
}

/// Where volumes are mounted that outlive a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
enum Home {
    /// Not known yet.
    #[default]
    Unknown,
    /// As an image has it to which features may be added.
    Likely(String),
    /// As a container of this configuration has had it; nowhere where that has none that takes them.
    Seen(Option<String>),
}

impl Home {
    fn path(&self) -> Option<&str> {
        match self {
            Self::Unknown => None,
            Self::Likely(home) => Some(home),
            Self::Seen(home) => home.as_deref(),
        }
    }
}

impl<'a> Hatching<'a> {
    /// A spawn of this drone; nothing is made yet. Its steps are recorded in `timeline`.
    pub fn new(
        server: Server<'a>,
        identity: &'a Identity,
        wishes: &'a Wishes,
        workshop: &'a Workshop,
        machine: &'a Machine,
        timeline: &'a Timeline,
    ) -> Result<Self> {
        let secret = ServerSecret::load_or_create(server.places.state())?;
        let token = secret.token(&identity.name);
        let checkout = workshop.directory(&token)?.join(identity.repo.name());
        Ok(Self {
            server,
            identity,
            wishes,
            workshop,
            machine,
            timeline,
            checkout,
            token,
            secrets: server.config.secrets(identity)?,
            registrar: RefCell::default(),
            node: Mutex::default(),
            joining: Cell::new(false),
            step: RefCell::default(),
            created: Cell::new(false),
            again: Notify::new(),
            replaced: Cell::new(false),
            making: RefCell::default(),
            builder: RefCell::default(),
        })
    }

    /// Does it, once the drone's volume exists. Whatever fails, what was made is for [`teardown::remove`] and
    /// [`Hatching::leave_tailnet`] to take back.
    pub async fn run(&self) -> Result<Hatched> {
        tokio::select! {
            hatched = self.hatch() => hatched,
            error = self.overdue() => Err(error),
            error = self.out_of_room() => Err(error),
        }
    }

    /// Comes back when nothing was created within the time that a build may take.
    async fn overdue(&self) -> Error {
        let limit = self.server.config.limits.build;
        tokio::time::sleep(limit.into()).await;
        while self.created.get() {
            self.again.notified().await;
        }
        let step = self.step.borrow();
        let at = match step.as_str() {
            "" => String::new(),
            step => format!("; its last step was: {step}"),
        };
        Error::new(
            Code::BuildFailed,
            format!(
                "cloning and building {} took longer than limits.build ({limit}) and was stopped{at}",
                self.identity.repo
            ),
        )
        .hint(
            "fix the command in its Dockerfile or features that does not end, or raise limits.build in the \
             configuration",
        )
    }

    /// Comes back when what is cloned or built leaves too little of Docker's disk.
    async fn out_of_room(&self) -> Error {
        loop {
            if !self.created.get()
                && let Err(error) = reserve::is_left(&self.server.config.limits, self.machine)
            {
                return error;
            }
            tokio::time::sleep(ROOM_LOOKED_AT_EVERY).await;
        }
    }

    async fn hatch(&self) -> Result<Hatched> {
        failpoint::reached(Point::VolumeMade);
        let timeline = self.timeline;
        let credentials = timeline.time("tokens", self.credentials()).await?;
        let ssh_files =
            furnish::ssh_files(self.server.config, self.server.places, &self.identity.name);
        let (clone_is_at, (ssh_files, warnings), ()) = tokio::try_join!(
            self.check_out(credentials.as_ref()),
            timeline.time("keys", ssh_files),
            timeline.time(
                "cli version",
                cli::check(&self.server.config.devcontainer.command)
            ),
        )?;
        failpoint::reached(Point::Cloned);
        for warning in &warnings {
            self.server.ui.warn(warning);
        }
        let repository = timeline.time("gate", self.gate()).await?;
        self.pull_again(&repository).await?;
        self.prepare_to_join().await?;
        self.pull_private(&repository).await?;
        let image = self.image_facts(&repository).await?;
        let own = builder::is_own(self.server.config, &repository, self.wishes.trusted);
        let network = async {
            // Compose makes its networks when all is built.
            if own || !repository.is_compose() {
                let addresses = self.server.addresses();
                let docker = self.server.docker;
                let creating = docker.create_network(self.identity, &addresses);
                timeline.time("network", creating).await?;
                failpoint::reached(Point::NetworkMade);
            }
            Ok(())
        };
        // Both come to their end: what is still being made could not be taken back.
        let (surveyed, made) = tokio::join!(self.survey(&repository, image.as_ref()), network);
        let mut person = surveyed?;
        made?;
        if own {
            self.begin_builder(&repository)?;
        }
        let sockets = credentials.as_ref().map(|it| it.directory.clone());
        let mut door = self.door(sockets, repository.is_compose()).await?;
        failpoint::reached(Point::DoorOpen);

        loop {
            let seat = Seat {
                identity: self.identity,
                config: self.server.config,
                volume: self.identity.name.as_str(),
                ssh_port: self.wishes.ssh_port,
                sockets: credentials.as_ref().map(|it| it.directory.as_path()),
                image: image.as_ref(),
                remote_user: person.remote_user.as_deref(),
                home: person.home.path(),
                work: self.workshop.path(),
                token: &self.token,
            };
            let prepared = repository.prepare(&seat)?;
            self.stays_where_it_is(&prepared, clone_is_at.as_deref())?;
            let furniture = Furniture {
                prepared: &prepared,
                read: repository.read(),
                ssh_files: &ssh_files,
                credentials: credentials.as_ref(),
                person: &person,
            };
            let up = self.up(&furniture, &mut door).await;
            let up = up.map_err(|error| {
                let registries = &self.server.config.registries;
                failure::of_registry(error, repository.bases(), &self.identity.repo, registries)
            });
            match up? {
                Ok(hatched) => return Ok(hatched),
                Err(seen) => {
                    person = seen;
                    self.created.set(false);
                    self.again.notify_one();
                }
            }
        }
    }

    /// The repository's configuration, once it is clear that a drone may be made from it, and the person agrees.
    async fn gate(&self) -> Result<Repository> {
        if !self.identity.is_strangers() {
            hand_in::into(&self.checkout, &self.identity.repo, self.server.config)?;
        }
        let repository = Repository::judge(
            &self.checkout,
            &self.identity.repo,
            self.wishes.variant.as_deref(),
            self.server.config,
            self.machine,
            self.wishes.trusted,
        )
        .verdict?;
        for line in repository.left_out() {
            self.server.ui.warn(line);
        }
        self.tell_changes(repository.read()).await?;
        if repository.is_compose() {
            cli::check_compose(&self.identity.repo).await?;
        }
        if let Some(lack) = Support::of_this_kernel().lack() {
            let lack = format!("{lack}; `hatchery doctor` shows what to do");
            self.server.ui.warn(&lack);
        }
        if !self.wishes.trusted {
            door::judge::are_free(self.server.docker, &self.identity.name, repository.images())
                .await?;
            let features: Vec<String> = repository.features().map(str::to_owned).collect();
            door::judge::are_elsewhere(&features).await?;
        }
        Ok(repository)
    }

    /// Waits until Docker has ended what it was making, once [`Self::run`] has come to its end: what
    /// comes to be later would not be taken back.
    pub async fn settle(&self) {
        let making = self.making.borrow().clone();
        if let Some(making) = making {
            let _ = tokio::time::timeout(SETTLE, making.ended()).await;
        }
        let builder = self.builder.take();
        if let Some(builder) = builder {
            // What is left of it is removed with the drone.
            let _ = builder.end().await;
        }
    }

    /// Takes back a node that was registered for a drone that does not come to be.
    pub async fn leave_tailnet(&self) -> Result<()> {
        let Some(tailnet) = self
            .server
            .config
            .tailnet
            .as_ref()
            .filter(|_| self.joining.get())
        else {
            return Ok(());
        };
        // A registration that is under way comes to its end: one that is cut off may still arrive
        // at the control server after the name was taken back. How it ended does not matter.
        let _ = tokio::time::timeout(SETTLE, self.joined()).await;
        let owners = Registration::owners(self.server.places)?;
        let state = self.node_state();
        tailnet::join::forget(tailnet, &self.identity.name, &owners, Some(&state)).await
    }

    fn node_state(&self) -> PathBuf {
        self.workshop.path().join("node.state")
    }

    /// Has the drone's socket served, where this server has a GitHub App.
    async fn credentials(&self) -> Result<Option<Credentials>> {
        // The old container's tokens are what they were for as long as that is there.
        let old = self.wishes.old.as_ref().map(|old| &old.drone.identity);
        let identity = old.unwrap_or(self.identity);
        let opened = self.server.sockets.open(self.server.config, identity);
        let Some(directory) = opened.await? else {
            return Ok(None);
        };
        let helper = Helper::installed()?;
        Ok(Some(Credentials { directory, helper }))
    }

    /// Gets the clone to where its configuration is read. Where it is in the drone's volume, if it was there
    /// before.
    async fn check_out(&self, credentials: Option<&Credentials>) -> Result<Option<String>> {
        match &self.wishes.old {
            Some(old) if !old.from_default_branch => self.take_out(old).await.map(Some),
            _ => self.clone(credentials).await.map(|()| None),
        }
    }

    /// Clones, and begins to join the tailnet as soon as it is clear that the repository exists.
    async fn clone(&self, credentials: Option<&Credentials>) -> Result<()> {
        self.server
            .ui
            .step(&format!("Cloning {}", self.identity.repo));
        let sending = Notify::new();
        let progress = |line: &str| {
            self.server.ui.line(line);
            if line.starts_with("remote:") || line.starts_with("Receiving objects") {
                sending.notify_one();
            }
        };
        let config = self.server.config;
        let job = clone::Job {
            config,
            repo: &self.identity.repo,
            // A rebuild that clones is from the default branch.
            head: self
                .identity
                .head
                .as_ref()
                .filter(|_| self.wishes.old.is_none()),
            submodules: self.wishes.submodules,
            shallow: false,
            tokens: credentials.map(|it| clone::Tokens {
                directory: &it.directory,
                helper: it.helper.path(),
            }),
            hidden_host: self.server.docker.host(),
        };
        let cage = self.workshop.directory("clone")?;
        let cloning = clone::clone(&job, &self.checkout, &cage, &progress);
        let cloning = self.timeline.time("clone", cloning);
        if self.wishes.old.is_some() {
            // The name is the old container's for as long as that is there.
            return cloning.await;
        }
        let mut cloning = std::pin::pin!(cloning);
        tokio::select! {
            done = &mut cloning => {
                done?;
                self.join().await;
                Ok(())
            }
            () = sending.notified() => {
                self.join().await;
                cloning.await
            }
        }
    }

    async fn join(&self) {
        if let Some(tailnet) = self.server.config.tailnet.clone() {
            self.joining.set(true);
            let (name, state) = (self.identity.name.clone(), self.node_state());
            let owners = Registration::owners(self.server.places);
            let timeline = self.timeline.clone();
            // One that ended while it waited, as for want of memory, registers nothing.
            let registrar = self.registrar.take();
            let registrar = registrar.and_then(|mut it| it.runs().then_some(it));
            let mut node = self.node.lock().await;
            node.spawn(async move {
                let joining = async {
                    let waiting = match registrar {
                        Some(waiting) => waiting,
                        None => Waiting::start(&tailnet, &state).await?,
                    };
                    waiting.join(&tailnet, &name, &owners?).await
                };
                timeline.time("tailnet", joining).await
            });
        }
    }

    /// Waits for the node; `None` where there is no tailnet to join.
    async fn joined(&self) -> Result<Option<Joined>> {
        let mut node = self.node.lock().await;
        let mut last = None;
        while let Some(joined) = node.join_next().await {
            last = Some(joined.unwrap_or_else(|error| Err(lost_task(error)))?);
        }
        Ok(last)
    }

    /// Puts the node into the container, right before that starts: the control server forgets a
    /// node that does not run, and a build may take longer than it waits.
    async fn move_in(&self, joined: Option<Joined>, container: &str) -> Result<()> {
        let (Some(mut joined), Some(tailnet)) = (joined, self.server.config.tailnet.clone()) else {
            return Ok(());
        };
        let (name, state) = (&self.identity.name, self.node_state());
        if joined.is_old() {
            let (name, state) = (name.clone(), state.clone());
            let owners = Registration::owners(self.server.places)?;
            // Comes to its end as a join does, whatever becomes of the spawn.
            let timeline = self.timeline.clone();
            let mut node = self.node.lock().await;
            node.spawn(async move {
                let refreshing = tailnet::refresh(&tailnet, &name, &owners, &state);
                timeline.time("tailnet", refreshing).await
            });
            drop(node);
            joined = self.joined().await?.unwrap_or(joined);
        }
        Registration::remember(self.server.places, name, &joined.node_key)?;
        failpoint::reached(Point::NodeRemembered);
        let tree = Tree::default().copy(furnish::TAILSCALE_STATE, &state, Owner::ROOT);
        self.server.docker.put(container, tree).await?;
        failpoint::reached(Point::NodePut);
        Ok(())
    }

    /// Pulls what only this server's login can: neither the devcontainer CLI nor a builder, where a
    /// stranger's code runs, is given one. Builds take it from Docker, or have it handed over.
    async fn pull_private(&self, repository: &Repository) -> Result<()> {
        for image in repository.bases() {
            let is_private = self.server.config.registries.of(image).is_some();
            if is_private && self.server.docker.image(image).await?.is_none() {
                self.server.ui.step(&format!("Pulling {image}"));
                self.pull(image).await?;
                failpoint::reached(Point::ImagePulled);
            }
        }
        Ok(())
    }

    async fn image_facts(&self, repository: &Repository) -> Result<Option<ImageFacts>> {
        let Some(name) = repository.image() else {
            // A build fetches its image itself; then the shim sees what it says.
            if let Some(name) = repository.image_of_dockerfile()
                && let Some(image) = self.server.docker.image(&name).await?
            {
                self.judged(&name, image)?;
            }
            return Ok(None);
        };
        let mut image = self.server.docker.image(name).await?;
        if image.is_none() {
            // What its metadata says decides which features are added.
            self.server.ui.step(&format!("Pulling {name}"));
            self.pull(name).await?;
            failpoint::reached(Point::ImagePulled);
            image = self.server.docker.image(name).await?;
        }
        image.map(|image| self.judged(name, image)).transpose()
    }

    /// Looks into an image that is there before anything is built on it: what cannot become a drone is
    /// refused at once. What it knows of the user.
    async fn survey(&self, repository: &Repository, facts: Option<&ImageFacts>) -> Result<Known> {
        let (Some(image), Some(facts)) = (repository.image(), facts) else {
            return Ok(Known::default());
        };
        let _step = self.timeline.step("survey");
        let docker = self.server.docker;
        let container = teardown::beside(&self.identity.name);
        docker
            .create_beside(&container, image, &self.identity.name, None)
            .await?;
        // A feature may still add a user, or change one.
        let is_final = repository.features().next().is_none();
        let user = repository.user(Some(facts));
        let named = facts.says("remoteUser");
        let seen = survey::of(docker, &container, image, user.as_deref(), named, is_final).await;
        docker.remove_container(&container).await?;
        seen
    }

    /// What an image says of itself, held against the policy.
    fn judged(&self, name: &str, image: ImageInspect) -> Result<ImageFacts> {
        let config = image.config.unwrap_or_default();
        let labels = config.labels.unwrap_or_default();
        let metadata = match labels.get(METADATA_LABEL) {
            Some(text) => parse_metadata(text)?,
            None => Vec::new(),
        };
        let user = config.user.filter(|user| !user.is_empty());
        check_image(
            name,
            user.as_deref(),
            &metadata,
            &self.identity.name,
            self.wishes.trusted,
            self.server.config.docker.runtime,
        )?;
        Ok(ImageFacts { user, metadata })
    }

    async fn pull(&self, image: &str) -> Result<()> {
        let _step = self.timeline.step(format!("pull {image}"));
        let progress = |line: &str| self.server.ui.line(line);
        let login = Login::of(&self.server.config.registries, image)?;
        let pulled = self.server.docker.pull(image, login.as_ref(), &progress);
        pulled.await.map_err(|error| match error.code() {
            Code::DockerFailed => {
                failure::not_pulled(image, login.as_ref(), &self.identity.repo, error)
            }
            _ => error,
        })
    }

    /// Runs the devcontainer CLI once. The inner error is what is known of the user, to try again with.
    async fn up(
        &self,
        furniture: &Furniture<'_>,
        door: &mut Door,
    ) -> Result<std::result::Result<Hatched, Known>> {
        let prepared = furniture.prepared;
        // It ends with the CLI, and with it all that is fetched.
        let outlet = if self.wishes.trusted {
            None
        } else {
            Some(Outlet::open(self.server.config.docker.subnets.clone())?)
        };
        let cli = self.timeline.step("cli");
        let mut at = None;
        let mut running = self.start_cli(furniture, &door.host(), outlet.as_ref())?;
        failpoint::reached(Point::CliStarted);
        let mut ready = JoinSet::new();
        // What is being built ends with its builder, not with this.
        let mut builds = FuturesUnordered::new();
        let mut furnished: Option<Whole> = None;
        let mut started = None;
        let mut stage = running.stage();
        let mut vigil = Vigil::new(Lifecycle::default());
        let outcome = loop {
            tokio::select! {
                event = running.next() => match event {
                    Event::Step(step) => at = self.is_at(step),
                    Event::Line(line) => self.server.ui.line(&line),
                    Event::Warning(warning) => self.server.ui.warn(&warning),
                    Event::Refused(error) => return Err(error),
                    Event::Build(asked) => builds.extend(self.build(asked)),
                    Event::Ended(outcome) => break outcome,
                },
                event = door.next() => match event {
                    door::Event::Held(held) => {
                        drop(at.take());
                        if furnished.as_ref().is_none_or(|whole| whole.container != held.container) {
                            match self.furnish(&held.container, furniture).await? {
                                Furnished::Whole(whole) => furnished = Some(whole),
                                Furnished::Again(known) => return Ok(Err(known)),
                            }
                        }
                        let is_drones = held.is_drones;
                        let start = is_drones.then(|| self.timeline.step("start"));
                        // Where who asked has given up, the CLI ends and says why.
                        if held.start().await? && is_drones
                            && let Some(Whole { container, lifecycle, user }) = furnished.take()
                        {
                            drop(start);
                            failpoint::reached(Point::ContainerStarted);
                            self.await_readiness(&mut ready, &container, user, furniture.ssh_files)?;
                            started = Some(container);
                            if lifecycle.attaches() {
                                self.server.ui.talk(ATTACHES);
                            }
                            vigil = Vigil::new(lifecycle);
                        }
                    }
                    door::Event::Replacing(made) => {
                        self.make_way().await?;
                        let _ = made.send(());
                    }
                    door::Event::Refused(error) => return Err(error),
                },
                Some(result) = builds.next() => result.unwrap_or_else(lost)?,
                Some(result) = ready.join_next() => result.unwrap_or_else(lost)?,
                Ok(()) = stage.changed() => {
                    let begun = *stage.borrow_and_update();
                    if let Some(begun) = begun {
                        vigil.begun(begun, Instant::now());
                    }
                }
                // Only a drone that can be reached may be left to itself.
                () = until(vigil.next()), if started.is_some() && ready.is_empty() => {
                    match (vigil.due(Instant::now()), &started) {
                        (Some(Due::Say(what)), _) => self.server.ui.talk(&what),
                        (Some(Due::Leave(stage)), Some(container)) => {
                            // What runs in the drone goes on without the CLI.
                            drop((running, cli, at));
                            let name = self.identity.name.as_str();
                            self.server.ui.talk(&vigil.left(stage, name));
                            let setup = Setup::until(stage, How::LeftRunning, vigil.lifecycle());
                            let hatched = self.full(container, furniture, setup, None, Some(stage));
                            return hatched.await.map(Ok);
                        }
                        _ => {}
                    }
                }
            }
        };
        drop((cli, at));
        let Some(container) = started else {
            let refusals = outlet.map(|outlet| outlet.refusals()).unwrap_or_default();
            let denied = Denied {
                unlisted: &door.unlisted(),
                refusals: &refusals,
            };
            return Err(self.not_started(outcome, denied, prepared).await);
        };
        self.server.ui.step("Waiting for ssh");
        while let Some(result) = ready.join_next().await {
            result.unwrap_or_else(lost)?;
        }
        self.hatched(outcome, container, furniture, vigil.lifecycle())
            .await
            .map(Ok)
    }

    /// Why the devcontainer CLI has ended and nothing was started.
    async fn not_started(
        &self,
        outcome: Outcome,
        denied: Denied<'_>,
        prepared: &Prepared,
    ) -> Error {
        if let Outcome::Failed { last_lines, .. } = &outcome
            && prepared.compose.is_some()
            && let Some(fallen) = sibling::find(&self.identity.name, last_lines)
        {
            return fallen.error(self.server.docker, &self.identity.name).await;
        }
        failure(outcome, denied, self.disks(), prepared.image.as_deref())
    }

    /// Records a step of the devcontainer CLI that is not recorded where it is done.
    fn timed(&self, step: &str) -> Option<Step> {
        let name = match Stage::begun(step) {
            Some(stage) => stage.as_str(),
            None if step == cli::BUILDING && self.builder.borrow().is_none() => "build",
            None if step == cli::DOTFILES => "dotfiles",
            None => return None,
        };
        Some(self.timeline.step(name))
    }

    /// The devcontainer CLI has begun with this.
    fn is_at(&self, step: String) -> Option<Step> {
        let timed = self.timed(&step);
        self.server.ui.show_step(&step);
        self.step.replace(step);
        timed
    }

    /// Begins a build in the drone's own builder, where it has one.
    fn build(&self, asked: Asked) -> Option<JoinHandle<Result<()>>> {
        let builder = self.builder.borrow().clone()?;
        Some(tokio::spawn(async move { builder.build(asked).await }))
    }

    fn start_cli(
        &self,
        furniture: &Furniture<'_>,
        docker_host: &str,
        outlet: Option<&Outlet>,
    ) -> Result<cli::Running> {
        let prepared = furniture.prepared;
        cli::up(&cli::Up {
            command: &self.server.config.devcontainer.command,
            checkout: &prepared.workspace_folder,
            override_config: &prepared.override_config,
            identity: self.identity,
            workshop: self.workshop,
            token: &self.token,
            docker_host,
            hidden_host: self.server.docker.host(),
            guard: (!self.wishes.trusted).then(|| self.guard(furniture)),
            asks_for_builds: self.builder.borrow().is_some(),
            omits_syntax: self.builder.borrow().is_some()
                && self.machine.major() < FIRST_WITH_SYNTAX,
            ca_file: self.server.config.github.ca_file.as_deref(),
            outlet,
            // A command for this server, which its owner trusts, is meant to change this server.
            caged: !prepared.runs_here,
            readable: &self.server.config.devcontainer.readable,
            secrets: &self.secrets,
            dotfiles: &self.server.config.dotfiles,
            transcript: self
                .server
                .ui
                .transcript()
                .map(|it| it.hiding(&self.secrets)),
        })
    }

    /// Where the devcontainer CLI and Docker write.
    fn disks(&self) -> [&Path; 2] {
        [self.workshop.path(), Path::new(&self.machine.directory)]
    }

    /// What the devcontainer CLI may build and create.
    fn guard(&self, furniture: &Furniture<'_>) -> Rules {
        let compose = furniture.prepared.compose.as_ref();
        Rules::new(
            &self.identity.name,
            teardown::devcontainer_id(self.identity),
            furniture.credentials.map(|it| it.directory.as_path()),
            compose.map(|compose| (compose.file.clone(), compose.service.clone())),
            self.server.config.docker.runtime,
        )
        .sharing(self.shared())
    }

    /// The volumes that the configuration has drones share, by Docker's names.
    fn shared(&self) -> Vec<String> {
        let shared = self.server.config.devcontainer.mounts.keys();
        shared.map(SharedVolume::in_docker).collect()
    }

    async fn make_shared(&self) -> Result<()> {
        for volume in self.shared() {
            self.server.docker.create_shared_volume(&volume).await?;
        }
        Ok(())
    }

    /// Looks at the created container and fills it.
    async fn furnish(&self, id: &str, furniture: &Furniture<'_>) -> Result<Furnished> {
        let prepared = furniture.prepared;
        let sockets = furniture.credentials.map(|it| it.directory.as_path());
        self.created.set(true);
        failpoint::reached(Point::ContainerCreated);
        self.server.ui.step("Setting up the container");
        let _step = self.timeline.step("furnish");
        let container = self.created_container(id).await?;
        let metadata = furnish::metadata(&container)?;
        check_metadata(
            &metadata,
            &self.identity.name,
            sockets,
            &self.shared(),
            self.wishes.trusted,
            self.server.config.docker.runtime,
        )?;
        container::has_its_volume(&container, &self.identity.name, &prepared.volume_target)?;
        if let Some(sockets) = sockets {
            container::has_its_socket(&container, &self.identity.name, sockets)?;
        }
        let id = container.id().to_owned();
        let docker = self.server.docker;
        // Docker opens no container that mounts a part of a volume which is not there yet.
        let beside = match container.image().filter(|_| prepared.mounts_parts) {
            Some(image) => {
                let name = teardown::beside(&self.identity.name);
                let (drone, at) = (&self.identity.name, prepared.volume_target.as_str());
                docker.create_beside(&name, image, drone, Some(at)).await?;
                failpoint::reached(Point::BesideMade);
                Some(name)
            }
            None => None,
        };
        let accounts = Accounts::of(docker, beside.as_deref().unwrap_or(&id)).await?;
        let configured = furnish::configured_user(&metadata);
        let unnamed = match &configured {
            _ if furniture.person.remote_user.is_some() => None,
            _ if prepared.uid.is_some() => prepared.uid.clone(),
            Some(user) => Some(user.clone()).filter(|user| is_number(user)),
            None => self.user_of_image(&container).await?,
        };
        let remote_user = unnamed.map(|user| accounts.name(&user)).transpose()?;
        let known = remote_user.clone();
        let user = known.or(configured).unwrap_or_else(|| "root".to_owned());
        let moved = self.moved_home(&accounts, &user, &furniture.person.home)?;
        if remote_user.is_some() || moved.is_some() {
            docker.remove_container(&id).await?;
            failpoint::reached(Point::ContainerDiscarded);
            if let Some(beside) = beside {
                docker.remove_container(&beside).await?;
            }
            let Known {
                remote_user: before,
                home,
            } = furniture.person.clone();
            return Ok(Furnished::Again(Known {
                remote_user: remote_user.or(before),
                home: moved.unwrap_or(home),
            }));
        }
        container::has_its_home(&container, &self.identity.name, &prepared.home)?;
        let owner = accounts.owner(&user)?;
        if let Some(beside) = &beside {
            let tree = self.clone_into(beside, Tree::default(), prepared, owner);
            docker.put(beside, tree.await?).await?;
            failpoint::reached(Point::ClonePut);
            docker.remove_container(beside).await?;
        }
        let equipped = self.equipped(&container, furniture);
        accounts.check(&user)?;
        let (tree, joined) = tokio::try_join!(equipped, self.joined())?;
        let mut tree = accounts.unlocked(&user, tree);
        if self.wishes.old.is_none() {
            tree = work::spawning(tree);
        }
        if beside.is_none() {
            tree = self.clone_into(&id, tree, prepared, owner).await?;
        }
        docker.put(&id, tree).await?;
        let given = self.given(&container, &accounts, &user, owner, prepared);
        let given = given.await?;
        if !given.is_empty() {
            docker.put(&id, given).await?;
        }
        failpoint::reached(Point::FilesPut);
        // Until the spawn has come to its end it is an egg, whatever happens to hatchery.
        let egg = docker.set_wanted(&id, Wanted::Undecided);
        let built = self.end_builder(prepared.compose.is_some());
        tokio::try_join!(self.move_in(joined, &id), egg, built)?;
        failpoint::reached(Point::MarkedUnfinished);
        self.server.places.unmark_egg(&self.identity.name)?;
        failpoint::reached(Point::EggUnmarked);
        Ok(Furnished::Whole(Whole {
            container: id,
            lifecycle: Lifecycle::of(&metadata),
            user,
        }))
    }

    /// What goes into a container for ssh, git and tokens.
    async fn equipped(&self, container: &Container, furniture: &Furniture<'_>) -> Result<Tree> {
        let (docker, id) = (self.server.docker, container.id());
        let ssh_files = furniture.ssh_files.to_vec();
        let tree = Tree::default();
        let tree = furnish::ssh(docker, container, ssh_files, &self.secrets, tree).await?;
        let person = Person::of(&self.server.config.git).await.section();
        let (mut tree, signing) =
            signing::tree(self.server, self.identity, container, tree).await?;
        let mut told = vec![person];
        told.extend(signing);
        if let Some(Credentials { helper, .. }) = furniture.credentials {
            let github = &self.server.config.github;
            let (all, section) = credentials::tree(docker, id, github, helper, tree).await?;
            tree = all;
            told.push(section);
        }
        gitconfig::tree(docker, id, &told, tree).await
    }

    /// Where the home of a container's user is, if that is not what it was taken for.
    fn moved_home(&self, accounts: &Accounts, user: &str, taken: &Home) -> Result<Option<Home>> {
        if !self.server.config.devcontainer.mounts_in_home() {
            return Ok(None);
        }
        let home = accounts.home(user).filter(|home| takes_mounts(home));
        match taken {
            Home::Likely(taken) if Some(taken.as_str()) == home => Ok(None),
            Home::Seen(seen) if seen.as_deref() == home => Ok(None),
            Home::Seen(_) => Err(Error::new(
                Code::DevcontainerInvalid,
                format!("the home directory of {user} is different in each build of the image"),
            )
            .hint(
                "give the user a fixed home directory in the image's /etc/passwd, or leave out \
                 devcontainer.home and devcontainer.mounts",
            )),
            Home::Unknown | Home::Likely(_) => {
                if home.is_none() {
                    self.server.ui.warn(&format!(
                        "devcontainer.home and devcontainer.mounts are ignored: the image's /etc/passwd has \
                         no home directory of {user} that volumes can be mounted in"
                    ));
                }
                Ok(Some(Home::Seen(home.map(str::to_owned))))
            }
        }
    }

    /// What the user gets of the places where the drone's own volumes are mounted.
    async fn given(
        &self,
        container: &Container,
        accounts: &Accounts,
        user: &str,
        owner: Owner,
        prepared: &Prepared,
    ) -> Result<Tree> {
        let (name, id) = (
            &self.identity.name,
            teardown::devcontainer_id(self.identity),
        );
        let shared = self.shared();
        let is_own =
            |volume: &str| name.owns(&id, volume) || shared.iter().any(|shared| shared == volume);
        let points: Vec<&str> = container
            .volumes()
            .filter(|(volume, at)| *at != prepared.volume_target && is_own(volume))
            .map(|(_, at)| at)
            .collect();
        let places: Vec<&str> = accounts
            .home(user)
            .into_iter()
            .chain([prepared.clone_at.as_str()])
            .collect();
        let docker = self.server.docker;
        mounts::given(docker, container.id(), &points, &places, owner).await
    }

    /// The tree with the clone, and with what of it is mounted and not in the repository. A volume that
    /// is taken up keeps what it has.
    async fn clone_into(
        &self,
        container: &str,
        tree: Tree,
        prepared: &Prepared,
        owner: Owner,
    ) -> Result<Tree> {
        let at = &prepared.clone_at;
        if self.has_its_clone(container, at).await? {
            return Ok(tree);
        }
        // `git worktree add ../x` is for the user to do.
        let above = Path::new(at).ancestors().skip(1);
        let above = above.take_while(|path| path.starts_with(&prepared.volume_target));
        let tree = above.fold(tree, |tree, path| tree.directory_of(path, owner));
        let tree = tree.copy(at, &self.checkout, owner);
        let absent = prepared.absent.iter();
        Ok(absent.fold(tree, |tree, path| {
            tree.directory_of(format!("{at}/{path}"), owner)
        }))
    }

    /// The door that stands before Docker for as long as this spawn goes on. What drones share is there by then.
    async fn door(&self, sockets: Option<PathBuf>, compose: bool) -> Result<Door> {
        self.make_shared().await?;
        let docker = self.server.docker;
        // Siblings of a drone that is rebuilt: compose takes them up again.
        let own = self.wishes.old.as_ref();
        let own = own.and_then(|old| old.drone.container.as_deref());
        let there = if compose {
            siblings::of(docker, &self.identity.name, own.unwrap_or_default()).await?
        } else {
            Vec::new()
        };
        let bounds = Bounds {
            identity: self.identity.clone(),
            id: teardown::devcontainer_id(self.identity),
            sockets,
            shared: self.shared(),
            limits: self.server.config.limits.clone(),
            ssh_port: self.wishes.ssh_port,
            compose,
            machine: self.machine.clone(),
            registries: self.server.config.registries.clone(),
            builds: self.builder.borrow().is_none(),
            runtime: self.server.config.docker.runtime,
            secrets: self.secrets.clone(),
        };
        let (trusted, addresses) = (self.wishes.trusted, self.server.addresses());
        let place = self.workshop.path();
        let door = Door::open(place, docker.host(), bounds, addresses, &there, trusted)?;
        door.times(self.timeline);
        if let Some(old) = &self.wishes.old {
            door.replaces(old.drone.container.clone());
        }
        self.making.replace(Some(door.making()));
        Ok(door)
    }

    /// A builder that reads the clone and what the devcontainer CLI puts beside it.
    fn own_builder(&self) -> Result<Builder> {
        let roots = vec![
            self.checkout.clone(),
            self.workshop.directory(cli::TEMPORARY)?,
        ];
        let Server { docker, config, .. } = self.server;
        // Its own network is called like the drone.
        Ok(Builder::new(
            docker,
            self.identity,
            config,
            self.identity.name.as_str(),
            roots,
            self.machine,
            self.timeline,
        ))
    }

    /// Has a builder of the drone's own, which begins while the devcontainer CLI looks for the features.
    fn begin_builder(&self, repository: &Repository) -> Result<()> {
        let builder = Arc::new(self.own_builder()?);
        let is_extended = repository.features().next().is_some();
        let image = repository.image().filter(|_| is_extended);
        let base = repository.image_of_dockerfile();
        if let Some(base) = base.or_else(|| image.map(str::to_owned)) {
            let builder = builder.clone();
            tokio::spawn(async move { builder.prepare(&base).await });
        }
        self.builder.replace(Some(builder));
        Ok(())
    }

    /// Ends the builder, and the network that it alone was in: everything is built.
    async fn end_builder(&self, compose: bool) -> Result<()> {
        // Who asks now is not heard any more.
        let Some(builder) = self.builder.take() else {
            return Ok(());
        };
        builder.end().await?;
        if compose {
            let network = self.identity.name.as_str();
            self.server.docker.remove_network(network).await?;
        }
        Ok(())
    }

    /// Whether a volume that is taken up has something where the clone would be: it is left as it is.
    async fn has_its_clone(&self, container: &str, at: &str) -> Result<bool> {
        if self.wishes.old.is_none() {
            return Ok(false);
        }
        let at = format!("{}/", at.trim_end_matches('/'));
        let empty = self
            .server
            .docker
            .is_empty_directory(container, &at)
            .await?;
        Ok(empty == Some(false))
    }

    /// The container that waits, which must be this drone's.
    async fn created_container(&self, id: &str) -> Result<Container> {
        let container = self.server.docker.container(id).await?;
        let container = container.ok_or_else(|| {
            Error::new(
                Code::DevcontainerFailed,
                "the devcontainer CLI created no container",
            )
            .hint("this is a bug in hatchery or in the CLI; nothing was started")
        })?;
        container::is_the_drones(&container, self.identity)?;
        Ok(container)
    }

    /// The user that the container's image names, where it is not root.
    async fn user_of_image(&self, container: &Container) -> Result<Option<String>> {
        let image = match container.image() {
            Some(image) => self.server.docker.image(image).await?,
            None => None,
        };
        let user = image
            .and_then(|image| image.config?.user)
            .unwrap_or_default();
        let name = user.split(':').next().unwrap_or_default();
        Ok((!matches!(name, "" | "root" | "0")).then(|| name.to_owned()))
    }

    fn await_readiness(
        &self,
        ready: &mut JoinSet<Result<()>>,
        container: &str,
        user: String,
        ssh_files: &[DroneFile],
    ) -> Result<()> {
        let (docker, id, name) = (
            self.server.docker.clone(),
            container.to_owned(),
            self.identity.name.clone(),
        );
        let joined = self.server.config.tailnet.is_some();
        let authorized = ssh_files
            .iter()
            .find(|file| file.path == AUTHORIZED_KEYS)
            .map_or_else(Vec::new, |file| file.content.clone());
        let secret = ServerSecret::load_or_create(self.server.places.state())?;
        let place = self.workshop.path().to_owned();
        let timeline = self.timeline.clone();
        ready.spawn(async move {
            let sshd = async {
                readiness::sshd(&docker, &id, &name).await?;
                let with = (place.as_path(), &secret);
                login::try_once(&docker, &id, &name, &user, &authorized, with).await
            };
            let sshd = timeline.time("ssh", sshd);
            if joined {
                let node = timeline.time("node", readiness::node(&docker, &id, &name));
                tokio::try_join!(sshd, node).map(|_| ())
            } else {
                sshd.await
            }
        });
        Ok(())
    }

    /// Believes nothing: the container that the CLI speaks of is the one that was furnished.
    async fn hatched(
        &self,
        outcome: Outcome,
        container: String,
        furniture: &Furniture<'_>,
        lifecycle: &Lifecycle,
    ) -> Result<Hatched> {
        let mut setup = Setup::default();
        let setup_failed = match outcome {
            Outcome::Success {
                container: other, ..
            } if other != container => {
                return Err(Error::new(
                    Code::DevcontainerFailed,
                    "the devcontainer CLI reports another container than the one it created",
                ));
            }
            Outcome::Success { .. } => None,
            Outcome::Failed {
                step,
                failed,
                last_lines,
                message,
                ..
            } => {
                let lost = step.is_none() && failure::is_of_the_start(&message);
                let what = step.unwrap_or(message);
                self.still_runs(&container, &what, lost).await?;
                if let Some(Failed {
                    stage,
                    command: which,
                    status,
                }) = failed
                {
                    setup = Setup::until(stage, How::Failed { which, status }, lifecycle);
                }
                let error = Error::new(
                    Code::LifecycleFailed,
                    format!(
                        "{} is running, but its setup failed: {what}",
                        self.identity.name
                    ),
                )
                .with_details(last_lines);
                // The CLI keeps to itself what Docker said, where it could run nothing at all.
                let inside = self.server.docker.inside(&container);
                let tried = inside.run_as("0:0", &["/bin/sh", "-c", ":"], &[]).await;
                Some(match tried {
                    Err(engine) => error.because(engine),
                    Ok(_) => error,
                })
            }
        };
        self.full(&container, furniture, setup, setup_failed, None)
            .await
    }

    /// Fails where the container has ended, or nobody was told of its start: then it is not the setup
    /// that is to be fixed in it.
    async fn still_runs(&self, container: &str, step: &str, lost: bool) -> Result<()> {
        let seen = self.server.docker.container(container).await?;
        if !lost && seen.is_some_and(|container| container.runs()) {
            return Ok(());
        }
        let name = &self.identity.name;
        Err(Error::new(
            Code::DockerFailed,
            format!("the container of {name} stopped before its setup was complete: {step}"),
        )
        .hint(
            "spawn again if Docker was restarted (`journalctl -u docker`); otherwise a lifecycle command \
             stopped the container",
        ))
    }

    /// From now on it is a drone, no egg.
    async fn full(
        &self,
        container: &str,
        furniture: &Furniture<'_>,
        setup: Setup,
        setup_failed: Option<Error>,
        still_running: Option<Stage>,
    ) -> Result<Hatched> {
        failpoint::reached(Point::Reachable);
        let _step = self.timeline.step("finish");
        let docker = self.server.docker;
        let (server, drone) = (self.server, &self.identity.name);
        let prepared = furniture.prepared;
        Recipe::new(&self.wishes.extent, furniture.read).write(server.places, drone)?;
        let files = if prepared.mounts_parts {
            let clone = (self.checkout.as_path(), prepared.in_volume.as_str());
            parts::files(server, drone, container, clone).await?
        } else {
            Vec::new()
        };
        let known = Start {
            folder: prepared.folder.clone(),
            goes_on: still_running == Some(Stage::PostStart),
            files,
            config: self.wishes.variant.clone(),
            setup,
            ..Start::default()
        };
        starting::spawned(server, drone, container, known).await?;
        failpoint::reached(Point::StartRemembered);
        let ended = async {
            if self.wishes.old.is_none() {
                work::spawn_ended(docker, container).await;
            }
            Ok(())
        };
        let ((), (), user) = tokio::try_join!(
            ended,
            docker.set_wanted(container, Wanted::Running),
            furnish::remote_user_of(docker, container),
        )?;
        failpoint::reached(Point::MarkedRunning);
        self.server.places.unmark_rebuild(drone)?;
        Ok(Hatched {
            user,
            workspace: prepared.clone_at.clone(),
            setup_failed,
            still_running,
        })
    }
}

/// Until then; for ever where nothing is to come.
async fn until(when: Option<Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when.into()).await,
        None => std::future::pending().await,
    }
}

fn lost(error: tokio::task::JoinError) -> Result<()> {
    Err(lost_task(error))
}

fn lost_task(error: tokio::task::JoinError) -> Error {
    Error::new(Code::HostFailed, "internal error: a task died").because(error)
}
