//! All drones of a server from one process, as Docker names them.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::bed::eventually;
use crate::client::{Reply, ask, raw};
use crate::description::{INSTALLATION, MINT, REVOKE};
use crate::docker::{Labelled, Way, is_absent, owner};
use crate::drone::text;
use crate::fake::Fault;
use crate::process::{Daemon, Server};

/// What all drones' daemon has, and a GitHub that knows an owner of the test's own.
pub struct Host {
    pub server: Server,
    owner: String,
}

impl Host {
    pub async fn new() -> Self {
        let server = Server::new().await;
        let owner = owner();
        server.github.install(&owner, &["site", "theme"]);
        Self { server, owner }
    }

    pub fn scope(&self, names: &[&str]) -> String {
        let full: Vec<String> = names
            .iter()
            .map(|name| format!("{}/{name}", self.owner))
            .collect();
        serde_json::json!({"repositories": full, "permissions": {"contents": "read"}}).to_string()
    }

    fn runtime(&self) -> PathBuf {
        self.server.path("run")
    }

    pub fn socket(&self, drone: &Labelled) -> PathBuf {
        self.runtime().join(drone.name()).join("github-creds.sock")
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hatchery-credd"));
        command
            .env_clear()
            .arg("--runtime")
            .arg(self.runtime())
            .arg("--config")
            .arg(self.server.path("config.toml"))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub fn start(&self) -> Daemon {
        Daemon(self.command().spawn().unwrap())
    }

    /// Waits until this drone is served.
    pub async fn served(&self, drone: &Labelled) {
        let socket = self.socket(drone);
        eventually(&format!("{} is served", drone.name()), || {
            UnixStream::connect(&socket).is_ok()
        })
        .await;
    }

    pub async fn get(&self, drone: &Labelled, target: &str) -> Reply {
        ask(&self.socket(drone), "GET", target, "").await
    }

    /// Changes the configuration.
    fn configure(&self, more: &str) {
        let path = self.server.path("config.toml");
        let configured = std::fs::read_to_string(&path).unwrap();
        std::fs::write(path, configured + more).unwrap();
    }
}

fn is_link_to(link: &Path, socket: &Path) -> bool {
    let (Ok(link), Ok(socket)) = (std::fs::canonicalize(link), std::fs::canonicalize(socket))
    else {
        return false;
    };
    link == socket
}

#[tokio::test]
async fn a_drone_that_is_there_and_one_that_comes_are_served_and_one_that_goes_is_forgotten() {
    if is_absent() {
        return;
    }
    let host = Host::new().await;
    let there = Labelled::volume(&host.scope(&["site", "theme"]));
    let _daemon = host.start();
    host.served(&there).await;
    let comes = Labelled::container(&host.scope(&["theme"]));
    host.served(&comes).await;

    let directory = host.runtime().join(there.name());
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&directory), 0o755);
    assert_eq!(mode(&host.socket(&there)), 0o666);
    assert_eq!(mode(&directory.join("drone.json")), 0o644);
    let known = std::fs::read_to_string(directory.join("drone.json")).unwrap();
    let owner = &host.owner;
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&known).unwrap(),
        serde_json::json!({"url": "https://github.com",
            "repositories": [format!("{owner}/site"), format!("{owner}/theme")]})
    );
    let link = host.runtime().join(format!("{}.sock", there.name()));
    assert!(is_link_to(&link, &host.socket(&there)));

    let first = host.get(&there, "/token").await;
    let second = host.get(&comes, "/token").await;
    assert_eq!((first.status, second.status), (200, 200));
    assert_ne!(first.body, second.body);
    let foreign = host.get(&comes, &format!("/token?repo={owner}/site")).await;
    assert_eq!(foreign.error(403), "out-of-scope");

    let (gone, kept) = (directory.clone(), second.body);
    there.remove();
    eventually("its directory is gone", || !gone.exists()).await;
    eventually("its link is gone", || link.symlink_metadata().is_err()).await;
    eventually("its token is revoked", || {
        host.server.github.live() == [kept.clone()]
    })
    .await;
    assert_eq!(host.get(&comes, "/token").await.body, kept);
}

#[tokio::test]
async fn labels_that_make_no_drone_are_said_and_the_others_are_served() {
    if is_absent() {
        return;
    }
    let host = Host::new().await;
    let victim = Host::new().await;
    let victims = victim.scope(&["site"]);
    let hostile = [
        ("hatchery.scope", victims.as_str()),
        ("hatchery.schema", "7"),
        ("hatchery.drone", "../../../etc"),
    ];
    let hostile: Vec<Labelled> = hostile
        .iter()
        .zip(["a", "b", "c"])
        .map(|(label, name)| Labelled::volume_with(&host.scope(&[name]), &[*label]))
        .collect();
    let honest = Labelled::volume(&host.scope(&["site"]));
    let mut daemon = host.start();
    host.served(&honest).await;
    for drone in &hostile {
        assert!(
            !host.runtime().join(drone.name()).exists(),
            "{}",
            drone.name()
        );
    }
    let more = Labelled::volume(&host.scope(&["more"]));
    host.served(&more).await;
    let (_, _, said) = daemon.stopped().await;
    for drone in &hostile {
        let lines: Vec<&str> = said.lines().filter(|l| l.contains(drone.name())).collect();
        assert!(lines[0].contains("is ignored"), "{said}");
        assert_eq!(lines.len(), 1, "said once: {said}");
    }
}

#[tokio::test]
async fn while_docker_is_away_it_serves_on_and_then_looks_again() {
    if is_absent() {
        return;
    }
    let host = Host::new().await;
    let path = host.server.path("docker.sock");
    host.configure(&format!("[docker]\nhost = \"unix://{}\"\n", path.display()));
    let mut way = Way::at(&path);
    let before = Labelled::volume(&host.scope(&["site"]));
    let leaves = Labelled::volume(&host.scope(&["other"]));
    let mut daemon = host.start();
    host.served(&before).await;
    host.served(&leaves).await;
    let token = host.get(&before, "/token").await.body;
    way.close();
    let gone = host.socket(&leaves);
    leaves.remove();
    let comes = Labelled::volume(&host.scope(&["theme"]));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(host.get(&before, "/token").await.body, token);
    assert!(gone.exists(), "it cannot know");
    way.open();
    host.served(&comes).await;
    eventually("what went meanwhile is forgotten", || !gone.exists()).await;
    assert_eq!(
        host.get(&before, "/token").await.body,
        token,
        "not disturbed"
    );
    let after = Labelled::volume(&host.scope(&["more"]));
    host.served(&after).await;
    let (_, _, said) = daemon.stopped().await;
    assert_eq!(said.matches("still served").count(), 1, "{said}");
}

#[tokio::test]
async fn it_waits_for_a_docker_that_is_not_there_yet() {
    if is_absent() {
        return;
    }
    let host = Host::new().await;
    let path = host.server.path("docker.sock");
    host.configure(&format!("[docker]\nhost = \"unix://{}\"\n", path.display()));
    let drone = Labelled::volume(&host.scope(&["site"]));
    let notify = host.server.path("notify.sock");
    let notices = UnixDatagram::bind(&notify).unwrap();
    notices.set_nonblocking(true).unwrap();
    let mut command = host.command();
    let mut daemon = Daemon(command.env("NOTIFY_SOCKET", &notify).spawn().unwrap());
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut notice = [0; 100];
    assert!(notices.recv(&mut notice).is_err(), "it serves nobody yet");
    let _way = Way::at(&path);
    notices.set_nonblocking(false).unwrap();
    notices
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let length = notices.recv(&mut notice).unwrap();
    assert_eq!(text(&notice[..length]).trim(), "READY=1");
    assert!(
        UnixStream::connect(host.socket(&drone)).is_ok(),
        "it said that it serves"
    );
    let (status, _, said) = daemon.stopped().await;
    assert_eq!(status.code(), Some(0));
    assert!(said.contains("no Docker daemon answers"), "{said}");
}

#[tokio::test]
async fn a_live_socket_of_somebody_else_is_not_replaced_and_is_tried_again() {
    if is_absent() {
        return;
    }
    let host = Host::new().await;
    let drone = Labelled::volume(&host.scope(&["site"]));
    let socket = host.socket(&drone);
    std::fs::create_dir_all(socket.parent().unwrap()).unwrap();
    let others = UnixListener::bind(&socket).unwrap();
    others.set_nonblocking(true).unwrap();
    let honest = Labelled::volume(&host.scope(&["theme"]));
    let mut daemon = host.start();
    host.served(&honest).await;
    assert!(
        others.accept().is_err(),
        "it was not even called: that would start somebody"
    );
    assert!(UnixStream::connect(&socket).is_ok() && others.accept().is_ok());
    let more = Labelled::volume(&host.scope(&["more"]));
    host.served(&more).await;
    drop(others);
    let begin = Instant::now();
    while host.get_if(&drone).await.is_none() {
        assert!(
            begin.elapsed() < Duration::from_secs(15),
            "it is not tried again"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let (_, _, said) = daemon.stopped().await;
    let complaint = format!(
        "{} is not served: another process already serves",
        drone.name()
    );
    assert_eq!(said.matches(&complaint).count(), 1, "{said}");
}

impl Host {
    async fn get_if(&self, drone: &Labelled) -> Option<Reply> {
        UnixStream::connect(self.socket(drone)).ok()?;
        Some(self.get(drone, "/healthz").await)
    }
}

#[tokio::test]
async fn sigterm_gives_requests_in_flight_five_seconds_and_leaves_the_directories() {
    if is_absent() {
        return;
    }
    let host = Host::new().await;
    let drones = ["site", "theme"].map(|name| Labelled::volume(&host.scope(&[name])));
    let mut daemon = host.start();
    host.served(&drones[0]).await;
    host.served(&drones[1]).await;
    host.get(&drones[1], "/token").await;
    host.server.github.state().delay = Duration::from_millis(600);
    let socket = host.socket(&drones[0]);
    let asked = tokio::spawn(async move { ask(&socket, "GET", "/token", "").await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    let (status, took, _) = daemon.stopped().await;
    assert_eq!(status.code(), Some(0));
    assert_eq!(asked.await.unwrap().status, 200);
    assert!(took < Duration::from_secs(3), "{took:?}");
    assert_eq!(host.server.github.count(REVOKE), 0);
    for drone in &drones {
        assert!(!host.socket(drone).exists());
        assert!(
            host.runtime()
                .join(drone.name())
                .join("drone.json")
                .exists()
        );
    }

    let mut daemon = host.start();
    host.served(&drones[0]).await;
    host.server
        .github
        .fault(INSTALLATION, Fault::Hang, usize::MAX);
    let socket = host.socket(&drones[0]);
    let asked = tokio::spawn(async move { raw(&socket, b"GET /token HTTP/1.1\r\n\r\n").await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    let (status, took, _) = daemon.stopped().await;
    assert_eq!(status.code(), Some(0));
    assert!((4..7).contains(&took.as_secs()), "{took:?}");
    asked.await.unwrap();
}

#[tokio::test]
async fn killed_and_started_again_it_serves_all_again_in_the_same_directories() {
    if is_absent() {
        return;
    }
    let host = Host::new().await;
    let drone = Labelled::volume(&host.scope(&["site"]));
    let mut daemon = host.start();
    host.served(&drone).await;
    let directory = host.runtime().join(drone.name());
    let inode = |path: &Path| std::fs::metadata(path).unwrap().ino();
    let before = (inode(&directory), inode(&directory.join("drone.json")));
    // As the mount does: a number that is in use is not given to another.
    let _held = ["", "drone.json"].map(|name| std::fs::File::open(directory.join(name)).unwrap());
    daemon.signal(Signal::KILL);
    daemon.ended().await;
    let _daemon = host.start();
    host.served(&drone).await;
    let after = (inode(&directory), inode(&directory.join("drone.json")));
    assert_eq!(
        after, before,
        "what is mounted into the drone is another now"
    );
    assert_eq!(host.get(&drone, "/token").await.status, 200);
}

#[tokio::test]
async fn a_socket_that_was_taken_away_is_put_back() {
    if is_absent() {
        return;
    }
    let host = Host::new().await;
    let drone = Labelled::volume(&host.scope(&["site"]));
    let _daemon = host.start();
    host.served(&drone).await;
    std::fs::remove_dir_all(host.runtime().join(drone.name())).unwrap();
    let begin = Instant::now();
    while !host.socket(&drone).exists() {
        assert!(begin.elapsed() < Duration::from_secs(15));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    host.served(&drone).await;
    assert!(
        host.runtime()
            .join(drone.name())
            .join("drone.json")
            .exists()
    );
}

#[tokio::test]
async fn each_drone_has_mints_of_its_own() {
    if is_absent() {
        return;
    }
    let host = Host::new().await;
    let greedy = Labelled::volume(&host.scope(&["site"]));
    let modest = Labelled::volume(&host.scope(&["theme"]));
    let _daemon = host.start();
    host.served(&greedy).await;
    host.served(&modest).await;
    for _ in 0..31 {
        host.get(&greedy, "/token").await;
        ask(&host.socket(&greedy), "DELETE", "/token", "").await;
    }
    assert_eq!(
        host.get(&greedy, "/token").await.error(429),
        "too-many-mints"
    );
    assert_eq!(host.server.github.count(MINT), 30);
    assert_eq!(host.get(&modest, "/token").await.status, 200);
}
