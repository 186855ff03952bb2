//! A drone's credential service in this process, a GitHub for it, and clocks to turn.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hatchery::config::Config;
use hatchery::credd::daemon;
use hatchery::credd::github::Patience;
use hatchery::credd::keeper::Keeper;
use hatchery::credd::lifetime::{self, End, Lifetime};
use hatchery::credd::listener::Listener;
use hatchery::credd::server::{Bounds, Server};
use hatchery::drone::{DroneName, Scope};
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::client::{Reply, ask};
use crate::clock::TestClock;
use crate::fake::{API_PATH, APP_ID, Fake};

/// The scope of most tests: two repositories of the own owner, one of another.
pub const SCOPE: &str = r#"{"repositories": ["Acme/Site", "acme/theme", "other/lib"],
    "permissions": {"contents": "write", "issues": "read"}}"#;

pub struct Bed {
    pub github: Fake,
    /// The server's own clock; GitHub's is `github.clock`.
    pub clock: Arc<TestClock>,
    pub keeper: Arc<Keeper>,
    pub server: Arc<Server>,
    pub socket: PathBuf,
    pub running: JoinHandle<End>,
    stop: Option<oneshot::Sender<()>>,
    _directory: TempDir,
}

/// What a test may want otherwise.
pub struct Setup {
    pub scope: &'static str,
    pub patience: Patience,
    pub bounds: Bounds,
    pub ends_by_itself: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            scope: SCOPE,
            // No answer of this process's own counts as silence, however busy the machine is.
            patience: Patience {
                attempt: Duration::from_secs(60),
                attempts: 3,
                pause: Duration::from_millis(10),
                total: Duration::from_secs(180),
                revocation: Duration::from_millis(50),
            },
            bounds: Bounds::default(),
            ends_by_itself: false,
        }
    }
}

/// The configuration that leads to this fake.
pub fn config(github: &Fake, directory: &Path) -> String {
    let ca = directory.join("ca.pem");
    std::fs::write(&ca, &github.certificate).unwrap();
    format!(
        "[github]\napi_url = \"https://localhost:{}{API_PATH}/\"\napp_id = \"{APP_ID}\"\n\
         private_key_file = \"{}\"\nca_file = \"{}\"\n",
        github.port,
        key("app.pem").display(),
        ca.display(),
    )
}

/// A key of the tests.
pub fn key(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/credd/keys")
        .join(name)
}

impl Bed {
    pub async fn new() -> Self {
        Self::with(Setup::default()).await
    }

    /// One that soon takes GitHub for silent.
    pub async fn hasty() -> Self {
        let setup = Setup::default();
        let patience = Patience {
            attempt: Duration::from_secs(2),
            ..setup.patience
        };
        Self::with(Setup { patience, ..setup }).await
    }

    pub async fn with(setup: Setup) -> Self {
        let github = Fake::start(TestClock::new()).await;
        github.install("acme", &["site", "theme", "secret"]);
        github.install("other", &["lib", "more"]);
        let clock = TestClock::new();
        let directory = tempfile::tempdir().unwrap();
        let text = config(&github, directory.path());
        let config = Config::parse(&text, Path::new("test.toml")).unwrap();
        let scope = Scope::from_json(setup.scope).unwrap();
        let api = daemon::github(&config, clock.clone(), setup.patience).unwrap();
        let permissions = daemon::permissions(&scope, &config);
        let keeper = Keeper::new(DroneName::of(scope.own()), &scope, permissions, api);
        let server = Server::new(keeper.clone(), setup.bounds);
        let socket = directory.path().join("github-creds.sock");
        let listener = Listener::bind(&socket).unwrap();
        let (stop, stopped) = oneshot::channel();
        let running = tokio::spawn({
            let (server, keeper) = (server.clone(), keeper.clone());
            let lifetime = Lifetime {
                tick: Duration::from_millis(10),
                idle: Duration::from_millis(50),
                ..Lifetime::default()
            };
            async move {
                let socket = listener.listen().unwrap();
                let stop = async { stopped.await.unwrap_or(()) };
                lifetime::serve(
                    &server,
                    &keeper,
                    socket,
                    setup.ends_by_itself,
                    lifetime,
                    stop,
                )
                .await
            }
        });
        Self {
            github,
            clock,
            keeper,
            server,
            socket,
            running,
            stop: Some(stop),
            _directory: directory,
        }
    }

    pub async fn get(&self, target: &str) -> Reply {
        ask(&self.socket, "GET", target, "").await
    }

    pub async fn get_json(&self, target: &str) -> Reply {
        ask(&self.socket, "GET", target, "accept: application/json\r\n").await
    }

    pub async fn delete(&self) -> Reply {
        ask(&self.socket, "DELETE", "/token", "").await
    }

    /// The token, which must be there.
    #[track_caller]
    pub fn token(&self) -> impl Future<Output = String> {
        let caller = std::panic::Location::caller();
        async move {
            let reply = self.get("/token").await;
            assert_eq!(reply.status, 200, "at {caller}: {reply:?}");
            reply.body
        }
    }

    /// Lets time pass, here and at GitHub.
    pub fn pass(&self, seconds: u64) {
        self.clock.pass(seconds);
        self.github.clock.pass(seconds);
    }

    /// Tells the service to stop.
    pub fn stop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
    }
}

impl Drop for Bed {
    /// Whatever a test was about: no exchange may have strayed from the published description.
    fn drop(&mut self) {
        let violations = std::mem::take(&mut self.github.state().violations);
        if !std::thread::panicking() {
            assert!(violations.is_empty(), "{violations:#?}");
        }
    }
}

/// Waits for something that happens in the background.
#[track_caller]
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) -> impl Future<Output = ()> {
    let caller = std::panic::Location::caller();
    async move {
        for _ in 0..3000 {
            if holds() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("at {caller}: it never came about: {what}");
    }
}

/// Both ends of many connections are in this process.
pub fn allow_many_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let files = getrlimit(Resource::Nofile);
    let raised = files.maximum.map(|most| most.min(20_000));
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: raised,
            ..files
        },
    );
}
