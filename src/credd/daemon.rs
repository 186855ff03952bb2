//! The daemon, of one drone or of all: from its command line to its end.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::prelude::*;

use super::audit::JOURNAL_PREFIX;
use super::clock::{Clock, GithubTime, KernelClock};
use super::github::{Github, Patience};
use super::jwt::AppKey;
use super::keeper::Keeper;
use super::lifetime::{Lifetime, serve};
use super::listener::Listener;
use super::server::{Bounds, Server};
use super::swarm::Swarm;
use crate::config::Config;
use crate::drone::permission::{Access, Permission};
use crate::drone::{DroneName, Scope};
use crate::error::{Code, Error, Result, host_io};
use crate::host::Places;

/// What the credential with the App's key is called.
pub const APP_KEY: &str = "app-key";
/// The largest scope file, in bytes: 500 repositories are about 75 kB.
const MAX_SCOPE: u64 = 1024 * 1024;
/// Open files that are not connections: runtime, GitHub, journal.
const OTHER_FILES: u64 = 64;

/// The most connections of one drone where all are served: what they take together when each is
/// flooded stays within what one may take alone.
const CONNECTIONS_OF_ONE_AMONG_ALL: usize = 128;

/// What the daemon of one drone is started with.
#[derive(Debug)]
pub struct Options {
    /// The drone.
    pub drone: DroneName,
    /// What its tokens may touch, as in the label.
    pub scope: PathBuf,
    /// The configuration, if not the default one.
    pub config: Option<PathBuf>,
    /// Where to bind; without it the socket is inherited.
    pub socket: Option<PathBuf>,
}

/// Serves one drone until the end.
pub fn run(options: &Options) -> Result<()> {
    keep_memory_private();
    let config = Config::load(options.config.as_deref())?;
    let scope = read_scope(&options.scope)?;
    if DroneName::of(scope.own()) != options.drone {
        return Err(Error::new(
            Code::Usage,
            format!(
                "{} is the scope of {}, which is not the repository of the drone {}",
                options.scope.display(),
                scope.own(),
                options.drone
            ),
        ));
    }
    let github = github(&config, Arc::new(KernelClock), Patience::default())?;
    let listener = match &options.socket {
        Some(path) => Listener::bind(path)?,
        None => Listener::inherited()?.ok_or_else(|| {
            Error::new(Code::Usage, "no socket was passed")
                .hint("start it through its socket unit, or name a path with --socket")
        })?,
    };
    start_logging();
    let permissions = permissions(&scope, &config);
    let bounds = bounds(Bounds::default(), 1);
    until_stopped(async |stop| {
        let keeper = Keeper::new(options.drone.clone(), &scope, permissions, github);
        let server = Server::new(keeper.clone(), bounds);
        let socket = listener.listen()?;
        let ends = listener.is_inherited();
        serve(&server, &keeper, socket, ends, Lifetime::default(), stop).await;
        Ok(())
    })
}

/// Serves all drones of this server until it is told to stop. `runtime` is where their sockets
/// go, if not to the usual place.
pub fn run_all(config: Option<&Path>, runtime: Option<&Path>) -> Result<()> {
    keep_memory_private();
    let config = Config::load(config)?;
    let places = match runtime {
        Some(directory) => Places::under(directory),
        None => Places::of_this_user()?,
    };
    let github = github(&config, Arc::new(KernelClock), Patience::default())?;
    start_logging();
    let each = Bounds {
        connections: CONNECTIONS_OF_ONE_AMONG_ALL,
        ..Bounds::default()
    };
    let bounds = bounds(each, config.limits.drones as u64);
    until_stopped(async |stop| {
        Swarm::new(config, github, places, bounds).serve(stop).await;
        Ok(())
    })
}

/// Runs this until the end, and tells it when it is to stop.
fn until_stopped(
    run: impl AsyncFnOnce(Pin<Box<dyn Future<Output = ()>>>) -> Result<()>,
) -> Result<()> {
    let failed = |error| Error::new(Code::HostFailed, "cannot start").because(error);
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(failed)?
        .block_on(async {
            let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
            let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
            let stop = async move {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
            };
            run(Box::pin(stop)).await
        })
}

/// GitHub as the configuration names it, spoken to as its App.
pub fn github(config: &Config, clock: Arc<dyn Clock>, patience: Patience) -> Result<Arc<Github>> {
    let settings = &config.github;
    let app_id = settings.app_id.clone().ok_or_else(|| {
        Error::new(Code::ConfigInvalid, "github.app_id is not set")
            .hint("set github.app_id to the GitHub App's ID and give hatchery-credd its key")
    })?;
    Github::new(
        settings.api_url.clone(),
        app_id,
        app_key(settings.private_key_file.as_deref())?,
        settings.ca_file.as_deref(),
        GithubTime::new(clock),
        patience,
    )
}

/// The App's key: a credential that systemd passes on, else the file of the configuration.
fn app_key(configured: Option<&Path>) -> Result<AppKey> {
    if let Some(directory) = std::env::var_os("CREDENTIALS_DIRECTORY") {
        let path = Path::new(&directory).join(APP_KEY);
        if path.exists() {
            return AppKey::read(&path, "CREDENTIALS_DIRECTORY");
        }
    }
    let path = configured.ok_or_else(|| {
        Error::new(
            Code::SecretUnreadable,
            "the GitHub App's key is missing: there is neither a credential app-key nor \
             github.private_key_file",
        )
        .hint(
            "let the unit load it (LoadCredential= or LoadCredentialEncrypted=app-key:FILE), or name its \
             file in github.private_key_file",
        )
    })?;
    AppKey::read(path, "github.private_key_file")
}

/// What this drone's tokens may do: as its scope says, else as the configuration does.
pub fn permissions(scope: &Scope, config: &Config) -> BTreeMap<Permission, Access> {
    scope
        .permissions()
        .or_else(|| config.drones.get(scope.own())?.permissions.as_ref())
        .unwrap_or(&config.github.permissions)
        .clone()
}

fn read_scope(path: &Path) -> Result<Scope> {
    let mut text = String::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(MAX_SCOPE).read_to_string(&mut text))
        .map_err(|error| host_io("read", path, error))?;
    Scope::from_json(&text).map_err(|error| {
        Error::new(
            Code::ConfigInvalid,
            format!("{} is not the scope of a drone", path.display()),
        )
        .hint("write the JSON of the drone's label hatchery.scope")
        .because(error)
    })
}

/// No core dump and no debugger of the same user gets at the tokens and the key.
fn keep_memory_private() {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    let _ = setrlimit(Resource::Core, none);
    let _ = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

/// These bounds for each of so many drones, with as many connections as the limit on open files
/// allows.
fn bounds(mut bounds: Bounds, drones: u64) -> Bounds {
    let drones = drones.max(1);
    let wanted = bounds.connections as u64 * drones + OTHER_FILES;
    let limit = getrlimit(Resource::Nofile);
    let raised = limit.maximum.map_or(wanted, |most| most.min(wanted));
    if limit.current.is_some_and(|current| current < raised) {
        let _ = setrlimit(
            Resource::Nofile,
            Rlimit {
                current: Some(raised),
                maximum: limit.maximum,
            },
        );
    }
    if let Some(files) = getrlimit(Resource::Nofile).current {
        let connections = (files.saturating_sub(OTHER_FILES) / drones).max(8);
        bounds.connections = bounds
            .connections
            .min(usize::try_from(connections).unwrap_or(usize::MAX));
    }
    bounds
}

/// To the journal as structured fields where stderr leads there, else to stderr as lines.
fn start_logging() {
    let ours = filter_fn(|metadata| metadata.target().starts_with("hatchery"));
    let journal = stderr_is_the_journal()
        .then(tracing_journald::layer)
        .and_then(std::io::Result::ok)
        .map(|layer| layer.with_field_prefix(Some(JOURNAL_PREFIX.to_owned())));
    let lines = journal.is_none().then(|| {
        tracing_subscriber::fmt::layer()
            .with_ansi(false)
            .with_writer(std::io::stderr)
    });
    tracing_subscriber::registry()
        .with(journal.with_filter(ours.clone()))
        .with(lines.with_filter(ours))
        .init();
}

/// `JOURNAL_STREAM` names the device and inode of the stream (systemd.exec(5)); a child whose
/// stderr was led elsewhere has the variable all the same.
fn stderr_is_the_journal() -> bool {
    let Some((device, inode)) = std::env::var("JOURNAL_STREAM").ok().and_then(|stream| {
        let (device, inode) = stream.split_once(':')?;
        Some((device.parse::<u64>().ok()?, inode.parse::<u64>().ok()?))
    }) else {
        return false;
    };
    rustix::fs::fstat(std::io::stderr().as_fd())
        .is_ok_and(|stat| stat.st_dev == device && stat.st_ino == inode)
}
