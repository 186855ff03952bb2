//! Joining a real Headscale with real tailscaled, on loopback.
//!
//! Needs `headscale`, `tailscale` and `tailscaled` on the PATH; says so and passes without them.

mod world;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hatchery::config::Tailnet;
use hatchery::drone::DroneName;
use hatchery::error::Code;
use hatchery::tailnet::{self, Headscale, Joined, Owners, Place, policy};
use serde_json::json;

use world::{World, name};

/// Joins as `acme-site`, where no node is known to be a drone's.
async fn join(tailnet: &Tailnet, state: &Path) -> hatchery::error::Result<Joined> {
    tailnet::join(tailnet, &name(), &Owners::default(), state).await
}

/// The tailscaled that a drone starts on the state that was put into it; its status.
fn wake_up(state: &Path) -> (Child, serde_json::Value) {
    let socket = state.with_extension("sock");
    let mut daemon = Command::new("tailscaled")
        .arg("--tun=userspace-networking")
        .arg(format!("--statedir={}", state.display()))
        .arg(format!("--socket={}", socket.display()))
        .env("TS_DEBUG_USE_DERP_HTTP", "true")
        .env("TS_NO_LOGS_NO_SUPPORT", "true")
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    for _ in 0..200 {
        let output = Command::new("tailscale")
            .arg(format!("--socket={}", socket.display()))
            .args(["status", "--json"])
            .output()
            .unwrap();
        if let Ok(status) = serde_json::from_slice::<serde_json::Value>(&output.stdout)
            && status["BackendState"] == "Running"
        {
            return (daemon, status);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let _ = daemon.kill();
    let _ = daemon.wait();
    panic!("the node does not come up on its state");
}

/// Another drone than [`name`]'s.
fn other() -> DroneName {
    DroneName::of(&"acme/web".parse().unwrap())
}

/// What this server remembers of the nodes that it has registered.
fn owners(registered: &[(&Joined, DroneName)]) -> Owners {
    let keys = registered.iter();
    keys.map(|(joined, drone)| (joined.node_key.clone(), drone.clone()))
        .collect()
}

#[tokio::test]
async fn a_drone_wakes_up_as_the_node_that_was_registered_and_leaves_no_key() {
    let Some(world) = World::new().await else {
        return;
    };
    for (which, tailnet) in [("reusable", world.reusable()), ("api", world.api())] {
        let state = world.state(which);
        let joined = join(&tailnet, &state).await.unwrap();
        assert_eq!(joined.dns_name, "acme-site.tail.example.test", "{which}");
        assert_eq!(joined.addresses.len(), 2);
        for file in std::fs::read_dir(&state).unwrap().flatten() {
            let content = std::fs::read(file.path()).unwrap_or_default();
            let content = String::from_utf8_lossy(&content).into_owned();
            assert!(!content.contains("hskey-"), "{which}: {:?}", file.path());
        }
        let (mut daemon, status) = wake_up(&state);
        let addresses: Vec<_> = joined.addresses.iter().map(ToString::to_string).collect();
        let _ = daemon.kill();
        let _ = daemon.wait();
        assert_eq!(status["Self"]["DNSName"], "acme-site.tail.example.test.");
        assert_eq!(status["Self"]["TailscaleIPs"], json!(addresses));
        tailnet::forget(&tailnet, &name(), &Owners::default(), Some(&state))
            .await
            .unwrap();
        assert_eq!(world.nodes(), [""; 0], "{which}");
    }
}

#[tokio::test]
async fn a_dead_node_that_holds_the_name_is_removed_or_explained() {
    let Some(world) = World::new().await else {
        return;
    };
    let reusable = world.reusable();
    join(&reusable, &world.state("dead")).await.unwrap();

    let error = join(&reusable, &world.state("second")).await.unwrap_err();
    assert_eq!(error.code(), Code::TailnetRefused);
    assert!(
        error
            .what_next()
            .unwrap()
            .contains("headscale nodes delete")
    );
    assert_eq!(
        world.nodes(),
        ["acme-site"],
        "the one with the suffix has left"
    );

    let joined = join(&world.api(), &world.state("third")).await.unwrap();
    assert_eq!(joined.dns_name, "acme-site.tail.example.test");
    assert_eq!(world.nodes(), ["acme-site"]);
}

#[tokio::test]
async fn a_drone_that_calls_itself_by_the_name_of_another_does_not_keep_it_out() {
    let Some(world) = World::new().await else {
        return;
    };
    let tailnet = world.api();
    let (thief, hostname) = (world.state("thief"), "--hostname=acme-site");
    let joined = tailnet::join(&tailnet, &other(), &Owners::default(), &thief)
        .await
        .unwrap();
    let (mut daemon, _) = wake_up(&thief);
    let named = Command::new("tailscale")
        .arg(format!(
            "--socket={}",
            thief.with_extension("sock").display()
        ))
        .args(["set", hostname])
        .status()
        .unwrap();
    assert!(named.success());
    world.until_nodes_are(&["acme-site"]).await;

    let owners = owners(&[(&joined, other())]);
    let own = tailnet::join(&tailnet, &name(), &owners, &world.state("own")).await;
    let nodes = world.keys();
    let _ = daemon.kill();
    let _ = daemon.wait();
    assert_eq!(
        own.as_ref().unwrap().dns_name,
        "acme-site.tail.example.test"
    );
    // It is the thief's all the same, which has lost nothing but what was not its own.
    let both = [
        ("acme-site", own.unwrap().node_key),
        ("acme-web", joined.node_key),
    ];
    assert_eq!(nodes, both.map(|(name, key)| (name.to_owned(), key)));
}

#[tokio::test]
async fn drones_that_have_taken_each_others_names_get_their_own_back() {
    let Some(world) = World::new().await else {
        return;
    };
    let tailnet = world.api();
    let api = Headscale::new(&tailnet).unwrap().unwrap();
    let none = Owners::default();
    let site = tailnet::join(&tailnet, &name(), &none, &world.state("site"))
        .await
        .unwrap();
    let web = tailnet::join(&tailnet, &other(), &none, &world.state("web"))
        .await
        .unwrap();
    for (joined, name) in [(&site, "x"), (&web, "acme-site"), (&site, "acme-web")] {
        world.rename(&joined.node_key, name);
    }
    let owners = owners(&[(&site, name()), (&web, other())]);
    for drone in [name(), other()] {
        let nodes = api.nodes().await.unwrap();
        let place = Place::of(&nodes, &drone, &owners, |_| true);
        assert_eq!(place, Place::Renamed, "{drone}");
        api.give_back(&drone, &owners).await.unwrap();
    }
    let own = [("acme-site", site.node_key), ("acme-web", web.node_key)];
    assert_eq!(world.keys(), own.map(|(name, key)| (name.to_owned(), key)));
}

#[tokio::test]
async fn a_name_that_is_given_back_is_taken_from_a_node_that_is_nobodys_and_from_no_persons() {
    let Some(world) = World::new().await else {
        return;
    };
    let tailnet = world.api();
    let api = Headscale::new(&tailnet).unwrap().unwrap();
    let join = async |tailnet: &Tailnet, drone: &DroneName, state: &str| {
        tailnet::join(tailnet, drone, &Owners::default(), &world.state(state))
            .await
            .unwrap()
    };
    let site = join(&tailnet, &name(), "site").await;
    let owners = owners(&[(&site, name())]);
    let stranger = join(&tailnet, &other(), "stranger").await;
    for (joined, name) in [(&site, "x"), (&stranger, "acme-site")] {
        world.rename(&joined.node_key, name);
    }
    api.give_back(&name(), &owners).await.unwrap();
    assert_eq!(
        world.keys(),
        [("acme-site".to_owned(), site.node_key.clone())]
    );

    let laptop = DroneName::of(&"levin/laptop".parse().unwrap());
    let person = join(&world.persons(), &laptop, "laptop").await;
    for (joined, name) in [(&site, "x"), (&person, "acme-site")] {
        world.rename(&joined.node_key, name);
    }
    let theirs = [("acme-site", &person.node_key), ("x", &site.node_key)];
    let theirs = theirs.map(|(name, key)| (name.to_owned(), key.clone()));
    let error = api.give_back(&name(), &owners).await.unwrap_err();
    assert_eq!(error.code(), Code::TailnetRefused);
    assert!(error.message().contains("levin"), "{error}");
    assert_eq!(world.keys(), theirs);
    // The drone's own leaves, whatever it is called; what has its name is not its.
    tailnet::forget(&tailnet, &name(), &owners, None)
        .await
        .unwrap();
    assert_eq!(world.keys(), theirs[..1]);
}

#[tokio::test]
async fn a_drone_leaves_under_whatever_name_and_takes_no_other_with_it() {
    let Some(world) = World::new().await else {
        return;
    };
    let tailnet = world.api();
    let none = Owners::default();
    let site = tailnet::join(&tailnet, &name(), &none, &world.state("site"))
        .await
        .unwrap();
    let web = tailnet::join(&tailnet, &other(), &none, &world.state("web"))
        .await
        .unwrap();
    for (joined, name) in [(&site, "hidden"), (&web, "acme-site")] {
        world.rename(&joined.node_key, name);
    }
    let owners = owners(&[(&site, name()), (&web, other())]);
    tailnet::forget(&tailnet, &name(), &owners, None)
        .await
        .unwrap();
    assert_eq!(
        world.keys(),
        [("acme-site".to_owned(), web.node_key.clone())]
    );

    // What a drone had before leaves when it joins again.
    world.rename(&web.node_key, "hidden");
    let again = tailnet::join(&tailnet, &other(), &owners, &world.state("again"))
        .await
        .unwrap();
    assert_eq!(world.keys(), [("acme-web".to_owned(), again.node_key)]);
}

#[tokio::test]
async fn another_users_node_keeps_its_name() {
    let Some(world) = World::new().await else {
        return;
    };
    let theirs = world.persons();
    join(&theirs, &world.state("theirs")).await.unwrap();
    let error = join(&world.api(), &world.state("ours")).await.unwrap_err();
    assert_eq!(error.code(), Code::TailnetRefused);
    assert!(error.message().contains("levin"), "{error}");
    assert_eq!(world.nodes(), ["acme-site"]);
    assert_eq!(world.unused_keys(), 0, "a key that no join used is ended");
}

#[tokio::test]
async fn a_node_that_has_not_run_for_long_is_woken_or_registered_anew() {
    let Some(world) = World::new().await else {
        return;
    };
    for (which, tailnet) in [("reusable", world.reusable()), ("api", world.api())] {
        let state = world.state(which);
        let joined = join(&tailnet, &state).await.unwrap();
        assert!(!joined.is_old());
        let woken = tailnet::refresh(&tailnet, &name(), &Owners::default(), &state)
            .await
            .unwrap();
        assert_eq!(woken.node_key, joined.node_key, "{which}: it is known");
        world.headscale(&["nodes", "delete", "--force", "-i", &world.node_id()]);
        let again = tailnet::refresh(&tailnet, &name(), &Owners::default(), &state)
            .await
            .unwrap();
        assert_ne!(again.node_key, joined.node_key, "{which}: it was forgotten");
        assert_eq!(again.dns_name, "acme-site.tail.example.test");
        let (mut daemon, status) = wake_up(&state);
        let _ = daemon.kill();
        let _ = daemon.wait();
        assert_eq!(status["Self"]["PublicKey"], again.node_key);
        tailnet::forget(&tailnet, &name(), &Owners::default(), Some(&state))
            .await
            .unwrap();
        assert_eq!(world.nodes(), [""; 0], "{which}");
    }
}

#[tokio::test]
async fn a_bad_key_is_told_apart_and_never_shown() {
    let Some(world) = World::new().await else {
        return;
    };
    let refused = async |tailnet: &Tailnet, told: &str| {
        let start = Instant::now();
        let error = tailnet::join(tailnet, &name(), &Owners::default(), &world.state("x"))
            .await
            .unwrap_err();
        assert_eq!(error.code(), Code::TailnetRefused, "{error:?}");
        assert!(error.message().contains(told), "{told}: {error:?}");
        assert!(!format!("{error:?}").contains("hskey"), "{error:?}");
        assert!(
            start.elapsed() < Duration::from_secs(10),
            "{told}: too late"
        );
    };
    let mut nobody = world.api();
    nobody.user = "nobody".into();
    refused(&nobody, "no user nobody").await;
    let used = world.with_key(&["--ephemeral", "--expiration", "1h"]);
    join(&used, &world.state("first")).await.unwrap();
    refused(&used, "has already been used").await;
    let expired = world.with_key(&["--expiration", "1s"]);
    tokio::time::sleep(Duration::from_millis(1500)).await;
    refused(&expired, "has expired").await;
    refused(
        &world.tailnet(Some("hskey-auth-nonsense"), None),
        "does not know",
    )
    .await;
    refused(&world.tailnet(Some("nonsense"), None), "does not know").await;
    refused(&world.tailnet(None, Some("hskey-api-nonsense")), "api-key").await;
}

#[tokio::test]
async fn a_control_server_that_is_away_is_told_at_once() {
    let Some(world) = World::new().await else {
        return;
    };
    let mut away = world.reusable();
    away.login_server = "http://127.0.0.1:9".parse().unwrap();
    let start = Instant::now();
    let error = join(&away, &world.state("x")).await.unwrap_err();
    assert_eq!(error.code(), Code::TailnetAway);
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_node_is_deleted_or_expired_by_its_number() {
    let Some(world) = World::new().await else {
        return;
    };
    let tailnet = world.api();
    let api = Headscale::new(&tailnet).unwrap().unwrap();
    join(&tailnet, &world.state("x")).await.unwrap();
    let node = api.nodes().await.unwrap().remove(0);
    assert_eq!(
        (node.is_called(&name()), node.owner()),
        (true, "devcontainer")
    );
    api.expire(node.id).await.unwrap();
    assert!(api.delete(node.id).await.unwrap());
    assert!(!api.delete(node.id).await.unwrap(), "it was gone already");
    assert!(!api.remove(&name(), &Owners::default()).await.unwrap());
    assert!(api.nodes().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_join_that_is_given_up_leaves_no_process() {
    let Some(world) = World::new().await else {
        return;
    };
    let tailnet = world.reusable();
    let state = world.state("given-up");
    // Before the socket, while it joins, at the end.
    for wait in [5, 60, 400] {
        let (name, owners) = (name(), Owners::default());
        let join = tailnet::join(&tailnet, &name, &owners, &state);
        let _ = tokio::time::timeout(Duration::from_millis(wait), join).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        let running: Vec<_> = std::fs::read_dir("/proc")
            .unwrap()
            .flatten()
            .filter_map(|process| std::fs::read(process.path().join("cmdline")).ok())
            .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
            .filter(|line| line.contains(state.to_str().unwrap()))
            .collect();
        assert_eq!(running, [""; 0], "after {wait} ms");
    }
}

#[tokio::test]
async fn headscale_takes_the_policy_and_its_tests_hold() {
    let Some(world) = World::new().await else {
        return;
    };
    let tailnet = world.reusable();
    let people = ["levin".to_owned()];
    let check = |document: &serde_json::Value| {
        let file = world.file("policy.json", &document.to_string());
        Command::new("headscale")
            .arg("-c")
            .arg(world.state("config.yaml"))
            .args(["policy", "check", "-f"])
            .arg(file)
            .output()
            .unwrap()
    };
    let document = policy::document(&tailnet, &people).unwrap();
    assert!(check(&document).status.success(), "without any node");

    join(&tailnet, &world.state("drone")).await.unwrap();
    let theirs = world.persons();
    let laptop = DroneName::of(&"levin/laptop".parse().unwrap());
    tailnet::join(&theirs, &laptop, &Owners::default(), &world.state("laptop"))
        .await
        .unwrap();
    let mut tested = policy::document_with_tests(&tailnet, &people).unwrap();
    let output = check(&tested);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    // With a rule that an owner might write the tests say no.
    tested["acls"].as_array_mut().unwrap().push(json!(
        {"action": "accept", "src": ["autogroup:member"], "dst": ["autogroup:member:*"]}
    ));
    assert!(!check(&tested).status.success(), "drones reach everybody");
}
