//! The door over its socket: what reaches Docker, what does not, and what clients may do to it.
//! Docker here is a stand-in that writes down what it was asked; the scenarios have the real one.

mod docker;
mod registries;
mod server;

use std::time::Duration;

use bollard::models::ContainerInspectResponse;
use hatchery::config::{Registries, Subnets};
use hatchery::docker::{Addresses, Container};
use hatchery::door::{Bounds, Door, Event, Held};
use hatchery::drone::{Identity, Scope};
use hatchery::host::Places;
use serde_json::{Value, json};

use crate::docker::Fake;

/// What Docker shows of a container whose paths are its default.
const MASKED: [&str; 10] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
];
const LOCKED: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// The pool of addresses where a test is about something else.
const POOL: &[&str] = &["10.189.0.0/16"];

/// How long anything here may take.
const SOON: Duration = Duration::from_secs(20);

/// A door with a Docker behind it.
struct Bed {
    door: Door,
    docker: Fake,
    place: tempfile::TempDir,
}

impl Bed {
    fn new() -> Self {
        Self::with(false)
    }

    fn with(trusted: bool) -> Self {
        Self::of(trusted, false, POOL)
    }

    /// One of either kind, with this pool of addresses.
    fn of(trusted: bool, compose: bool, pool: &[&str]) -> Self {
        let host = json!({"NetworkMode": "none", "MaskedPaths": MASKED, "ReadonlyPaths": LOCKED});
        Self::beside(&host, trusted, compose, pool).unwrap()
    }

    /// A compose project's.
    fn composed() -> Self {
        Self::of(false, true, POOL)
    }

    /// A sibling with this part of the host is there already.
    fn beside(host: &Value, trusted: bool, compose: bool, pool: &[&str]) -> Result<Self, String> {
        Self::configured(host, trusted, compose, pool, Registries::default())
    }

    /// The same with private images.
    fn configured(
        host: &Value,
        trusted: bool,
        compose: bool,
        pool: &[&str],
        registries: Registries,
    ) -> Result<Self, String> {
        let place = tempfile::tempdir().unwrap();
        let docker = Fake::start(&place.path().join("docker"));
        let scope = Scope::from_json(r#"{"repositories":["acme/site"]}"#).unwrap();
        let bounds = Bounds {
            identity: Identity::new(scope),
            id: "0123456789abcdefghijklmnopqrstuv".to_owned(),
            shared: Vec::new(),
            sockets: None,
            limits: hatchery::config::Limits::default(),
            ssh_port: None,
            compose,
            machine: hatchery::docker::Machine::default(),
            registries,
            builds: true,
            runtime: None,
            secrets: hatchery::secret::Environment::default(),
        };
        let sibling = json!({"Id": "bbbb", "Name": "/acme-site_db_1", "HostConfig": host});
        let there = [Container::from(
            serde_json::from_value::<ContainerInspectResponse>(sibling).unwrap(),
        )];
        let pool: Vec<String> = pool.iter().map(ToString::to_string).collect();
        let places = Places::under(&place.path().join("places"));
        let addresses = Addresses::new(Subnets::try_from(pool).unwrap(), places);
        let door = Door::open(
            place.path(),
            &docker.host,
            bounds,
            addresses,
            &there,
            trusted,
        )
        .map_err(|error| error.message())?;
        Ok(Self {
            door,
            docker,
            place,
        })
    }

    fn socket(&self) -> std::path::PathBuf {
        self.door.host().strip_prefix("unix://").unwrap().into()
    }

    /// Asks with a body; status and answer.
    async fn ask(&self, method: &str, target: &str, body: &Value) -> (u16, Value) {
        ask(&self.socket(), method, target, body).await
    }

    async fn held(&mut self) -> Held {
        match tokio::time::timeout(SOON, self.door.next()).await {
            Ok(Event::Held(held)) => held,
            other => panic!("not held: {other:?}"),
        }
    }

    async fn refused(&mut self) -> String {
        match tokio::time::timeout(SOON, self.door.next()).await {
            Ok(Event::Refused(error)) => error.message(),
            other => panic!("not refused: {other:?}"),
        }
    }
}

async fn ask(socket: &std::path::Path, method: &str, target: &str, body: &Value) -> (u16, Value) {
    let request = server::request(method, target, body);
    let asked = server::exchange(socket, &request);
    let answer = tokio::time::timeout(SOON, asked).await.expect("an answer");
    server::parsed(&answer)
}

fn container() -> Value {
    json!({"Image": "base", "HostConfig": {"NetworkMode": "acme-site", "Privileged": false}})
}

const CREATE: &str = "/v1.41/containers/create?name=acme-site";

#[tokio::test]
async fn what_is_not_listed_does_not_reach_docker() {
    let bed = Bed::new();
    for (method, target) in [
        ("POST", "/v1.41/containers/bbbb/update"),
        ("POST", "/v1.41/commit?container=bbbb"),
        ("DELETE", "/v1.41/volumes/acme-site"),
        ("GET", "/v1.41/secrets"),
    ] {
        let (status, said) = bed.ask(method, target, &json!({})).await;
        assert_eq!(status, 403, "{method} {target}: {said}");
        assert!(
            said["message"]
                .as_str()
                .unwrap()
                .starts_with("hatchery refuses it")
        );
    }
    assert_eq!(bed.docker.asked(), [""; 0]);
    assert_eq!(bed.door.unlisted().len(), 4);
    assert_eq!(bed.door.unlisted()[3], "GET /secrets");
}

#[tokio::test]
async fn another_drones_things_are_not_there() {
    let bed = Bed::new();
    for (method, target, what) in [
        ("GET", "/containers/acme-other/json", "container"),
        ("POST", "/containers/acme-other/exec", "container"),
        ("POST", "/containers/acme-other/start", "container"),
        ("DELETE", "/containers/acme-other?force=1", "container"),
        ("POST", "/exec/cccc/start", "exec"),
        ("GET", "/volumes/acme-other", "volume"),
        ("GET", "/images/others/json", "image"),
        ("GET", "/networks/bridge", "network"),
    ] {
        let (status, said) = bed.ask(method, target, &json!({})).await;
        assert_eq!(status, 404, "{method} {target}: {said}");
        let message = said["message"].as_str().unwrap();
        assert!(message.starts_with(&format!("No such {what}")), "{message}");
    }
    // Only what an image and a network are was asked.
    assert_eq!(
        bed.docker.asked(),
        ["GET /images/others/json", "GET /networks/bridge"]
    );
    let (_, list) = bed.ask("GET", "/containers/json?all=1", &json!({})).await;
    assert_eq!(list, json!([{"Id": "bbbb"}]));
}

#[tokio::test]
async fn the_drones_start_waits_until_it_was_furnished() {
    let mut bed = Bed::new();
    let (status, made) = bed.ask("POST", CREATE, &container()).await;
    assert_eq!((status, made["Id"].as_str()), (201, Some("aaaa")));
    let body = bed
        .docker
        .body("POST /v1.41/containers/create?name=acme-site");
    assert_eq!(body["Image"], "sha256:0123");
    assert_eq!(body["Labels"]["hatchery.drone"], "acme-site");
    assert!(body["HostConfig"].get("Privileged").is_none());

    let socket = bed.socket();
    let starting = tokio::spawn(async move {
        ask(
            &socket,
            "POST",
            "/v1.41/containers/acme-site/start",
            &json!({}),
        )
        .await
    });
    let held = bed.held().await;
    assert_eq!(held.container, "aaaa");
    let start = "POST /v1.41/containers/aaaa/start";
    assert!(!bed.docker.asked().contains(&start.to_owned()));
    assert!(held.start().await.unwrap());
    assert_eq!(starting.await.unwrap().0, 204);
    assert!(bed.docker.asked().contains(&start.to_owned()));
    // A second time nothing waits.
    let (status, _) = bed
        .ask("POST", "/v1.41/containers/aaaa/start", &json!({}))
        .await;
    assert_eq!(status, 204);
}

#[tokio::test]
async fn nothing_is_replaced_before_the_old_container_has_made_way() {
    const OLD: &str = "cccc";
    for (trusted, method, target) in [
        (false, "POST", CREATE),
        (true, "POST", CREATE),
        (false, "POST", "/v1.41/containers/bbbb/stop"),
        (false, "POST", "/v1.41/containers/bbbb/start"),
        (false, "DELETE", "/v1.41/containers/bbbb"),
    ] {
        let mut bed = Bed::with(trusted);
        bed.door.replaces(Some(OLD.to_owned()));
        // What only looks waits for nothing, and does not see it.
        let (_, list) = bed.ask("GET", "/containers/json?all=1", &json!({})).await;
        assert_eq!(list, json!([{"Id": "bbbb"}]), "{trusted}");
        for made in [false, true] {
            let socket = bed.socket();
            let asking =
                tokio::spawn(async move { ask(&socket, method, target, &container()).await });
            let Ok(Event::Replacing(way)) = tokio::time::timeout(SOON, bed.door.next()).await
            else {
                panic!("{method} {target} did not wait");
            };
            let asked = format!("{method} {target}");
            assert!(!bed.docker.asked().contains(&asked), "{asked}");
            if made {
                way.send(()).unwrap();
            } else {
                drop(way);
            }
            asking.await.unwrap();
            assert_eq!(bed.docker.asked().contains(&asked), made, "{asked}");
        }
        // Once is enough.
        bed.ask(method, target, &container()).await;
        let asked = bed.docker.asked();
        let asked = asked
            .iter()
            .filter(|line| **line == format!("{method} {target}"));
        assert_eq!(asked.count(), 2, "{method} {target}");
    }
}

#[tokio::test]
async fn a_sibling_that_shows_the_clone_waits_until_it_is_there() {
    const START: &str = "/v1.41/containers/bbbb/start";
    for trusted in [false, true] {
        let mut bed = Bed::with(trusted);
        // As for `network_mode: service:`, where there is no drone yet.
        let (status, _) = bed.ask("POST", START, &json!({})).await;
        assert_eq!(status, 204);
        bed.ask("POST", CREATE, &container()).await;
        let starts = |docker: &Fake| {
            let asked = docker.asked();
            asked.iter().filter(|line| line.ends_with("/start")).count()
        };
        let socket = bed.socket();
        let start = |target: &'static str| {
            let socket = socket.clone();
            tokio::spawn(async move { ask(&socket, "POST", target, &json!({})).await.0 })
        };
        let (one, other) = (start(START), start(START));
        let held = bed.held().await;
        assert_eq!((held.container.as_str(), held.is_drones), ("aaaa", false));
        assert_eq!(starts(&bed.docker), 1);
        assert!(held.start().await.unwrap());
        assert_eq!((one.await.unwrap(), other.await.unwrap()), (204, 204));
        assert_eq!(starts(&bed.docker), 3);
        // The drone's own start is told of all the same.
        let own = start("/v1.41/containers/aaaa/start");
        let held = bed.held().await;
        assert!(held.is_drones && starts(&bed.docker) == 3);
        assert!(held.start().await.unwrap());
        assert_eq!(own.await.unwrap(), 204);
    }
}

#[tokio::test]
async fn a_start_that_is_not_to_be_does_not_reach_docker() {
    for trusted in [false, true] {
        let mut bed = Bed::with(trusted);
        bed.ask("POST", CREATE, &container()).await;
        let socket = bed.socket();
        let starting = tokio::spawn(async move {
            ask(&socket, "POST", "/v1.41/containers/aaaa/start", &json!({})).await
        });
        drop(bed.held().await);
        assert_eq!(starting.await.unwrap().0, 404);
        let asked = bed.docker.asked();
        assert!(
            !asked.iter().any(|line| line.ends_with("/start")),
            "{asked:?}"
        );
        if !trusted {
            let (status, _) = bed.ask("GET", "/containers/aaaa/json", &json!({})).await;
            assert_eq!(status, 404, "it is the drone's no more");
        }
    }
}

#[tokio::test]
async fn why_docker_did_not_start_it_reaches_both() {
    let mut bed = Bed::new();
    bed.docker.fail_starts();
    bed.ask("POST", CREATE, &container()).await;
    let socket = bed.socket();
    let starting = tokio::spawn(async move {
        ask(&socket, "POST", "/v1.41/containers/aaaa/start", &json!({})).await
    });
    let error = bed.held().await.start().await.unwrap_err();
    assert!(
        format!("{error:?}").contains("no such runtime"),
        "{error:?}"
    );
    let (status, said) = starting.await.unwrap();
    assert_eq!(
        (status, said["message"].as_str()),
        (500, Some("no such runtime"))
    );
}

#[tokio::test]
async fn what_a_drone_may_not_have_ends_the_spawn() {
    for (target, body, said) in [
        (
            CREATE,
            json!({"Image": "base", "HostConfig": {"NetworkMode": "acme-site", "Privileged": true}}),
            "the container that acme-site's configuration creates would have all privileges (privileged)",
        ),
        (
            CREATE,
            json!({"Image": "base", "HostConfig": {"NetworkMode": "bridge0"}}),
            "the container that acme-site's configuration creates would have a place in the network",
        ),
        (
            CREATE,
            json!({"Image": "base", "HostConfig": {"NetworkMode": "acme-site", "Binds": ["acme-site_host:/x"]}}),
            "which is a part of the host",
        ),
        (
            "/v1.41/containers/create?name=acme-other",
            container(),
            "would have the name \"acme-other\"",
        ),
        (
            "/v1.41/volumes/create",
            json!({"Name": "acme-other"}),
            "a container that acme-site's configuration creates would have the volume \"acme-other\"",
        ),
        (
            "/v1.41/images/create?fromImage=localhost:5000/x&tag=1",
            json!({}),
            "would have the image \"localhost:5000/x:1\"",
        ),
        (
            "/v1.41/images/base/tag?repo=debian&tag=12",
            json!({}),
            "would have its image called \"debian\"",
        ),
        (
            "/v1.41/containers/create?name=acme-site&platform=linux%2Fa%2Fb%2Fc",
            container(),
            "would have the platform",
        ),
        (
            "/v1.41/containers/bbbb/rename?name=acme-other",
            json!({}),
            "would have the name \"acme-other\"",
        ),
        (
            "/v1.41/containers/bbbb/rename?name=acme-site",
            json!({}),
            "would have the name \"acme-site\"",
        ),
        (
            "/v1.41/build?t=debian%3A12&dockerfile=Dockerfile",
            json!({}),
            "would have its image called \"debian:12\"",
        ),
        (
            "/v1.41/containers/bbbb/exec",
            json!({"Cmd": ["x"], "Privileged": true}),
            "would have all privileges",
        ),
    ] {
        let mut bed = Bed::new();
        let socket = bed.socket();
        let asking = tokio::spawn(async move { ask(&socket, "POST", target, &body).await });
        let refusal = bed.refused().await;
        assert!(refusal.contains(said), "{target}: {refusal}");
        // Who asked is left without an answer, so that nothing else is told first.
        assert!(!asking.is_finished());
        asking.abort();
        let asked = bed.docker.asked();
        assert!(
            asked.iter().all(|line| line.starts_with("GET ")),
            "{asked:?}"
        );
    }
}

#[tokio::test]
async fn a_trusted_repository_gets_what_it_asks_for() {
    let bed = Bed::with(true);
    let body = json!({"Image": "base", "HostConfig": {"Privileged": true}});
    let (status, _) = bed.ask("POST", CREATE, &body).await;
    assert_eq!(status, 201);
    let made = bed
        .docker
        .body("POST /v1.41/containers/create?name=acme-site");
    assert_eq!(made["HostConfig"], body["HostConfig"]);
    bed.ask("GET", "/v1.41/secrets?x=1", &json!({})).await;
    assert!(
        bed.docker
            .asked()
            .contains(&"GET /v1.41/secrets?x=1".to_owned())
    );
}

#[tokio::test]
async fn what_is_there_already_is_held_to_the_same() {
    let plain = json!({"NetworkMode": "none", "MaskedPaths": MASKED, "ReadonlyPaths": LOCKED});
    for (key, value, said) in [
        ("Privileged", json!(true), "all privileges"),
        ("Binds", json!(["/:/x"]), "\"/:/x\" mounted"),
        ("MaskedPaths", Value::Null, "/proc and /sys"),
    ] {
        let mut host = plain.clone();
        host[key] = value;
        let refusal = Bed::beside(&host, false, false, POOL)
            .err()
            .unwrap_or_default();
        assert!(refusal.contains(said), "{key}: {refusal}");
        assert!(
            refusal.starts_with("the container acme-site_db_1 that acme-site's"),
            "{refusal}"
        );
        assert!(Bed::beside(&host, true, false, POOL).is_ok());
    }
}

#[tokio::test]
async fn a_volume_without_a_name_is_whose_containers_have_it() {
    let with = |volume: &str| {
        let binds = json!([format!("{volume}:/x")]);
        json!({"Image": "base", "HostConfig": {"NetworkMode": "acme-site", "Binds": binds}})
    };
    let bed = Bed::new();
    let (status, _) = bed.ask("POST", CREATE, &with(&"a".repeat(64))).await;
    assert_eq!(status, 201, "the sibling has it");
    let mut bed = Bed::new();
    let (socket, body) = (bed.socket(), with(&"b".repeat(64)));
    let asking = tokio::spawn(async move { ask(&socket, "POST", CREATE, &body).await });
    let refusal = bed.refused().await;
    assert!(refusal.contains("which is not its own"), "{refusal}");
    asking.abort();
    let (status, _) = bed
        .ask("GET", &format!("/volumes/{}", "b".repeat(64)), &json!({}))
        .await;
    assert_eq!(status, 404);
}

#[tokio::test]
async fn what_docker_is_making_outlasts_the_door_and_is_waited_for() {
    let bed = Bed::new();
    bed.docker.create_slowly();
    let socket = bed.socket();
    let asking = tokio::spawn(async move { ask(&socket, "POST", CREATE, &container()).await });
    while !bed
        .docker
        .asked()
        .iter()
        .any(|line| line.starts_with("POST "))
    {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let (making, docker) = (bed.door.making(), bed.docker);
    drop(bed.door);
    asking.abort();
    assert_eq!(docker.created(), 0);
    tokio::time::timeout(SOON, making.ended()).await.unwrap();
    assert_eq!(docker.created(), 1);
    // With nothing under way there is nothing to wait for.
    tokio::time::timeout(SOON, making.ended()).await.unwrap();
}

#[tokio::test]
async fn what_all_drones_share_stays_as_it_is() {
    let bed = Bed::new();
    for (method, target, status) in [
        ("DELETE", "/v1.41/networks/hatchery", 404),
        ("POST", "/v1.41/images/create?fromImage=debian", 403),
        ("POST", "/v1.41/images/others/tag?repo=vsc-site&tag=1", 404),
    ] {
        let (is, said) = bed.ask(method, target, &json!({})).await;
        assert_eq!(is, status, "{method} {target}: {said}");
    }
    let asked = bed.docker.asked();
    assert!(
        asked.iter().all(|line| line.starts_with("GET ")),
        "{asked:?}"
    );
}

#[tokio::test]
async fn volumes_and_networks_are_not_without_number() {
    // The fake has no volumes.
    for (target, name, most, made) in [
        ("/v1.41/volumes/create", "acme-site_v", 64, 404),
        ("/v1.41/networks/create", "acme-site_n", 6, 201),
    ] {
        let mut bed = Bed::composed();
        let body = |number: usize| json!({"Name": format!("{name}{number}")});
        for number in 0..most {
            let (status, said) = bed.ask("POST", target, &body(number)).await;
            assert_eq!(status, made, "{said}");
        }
        let (socket, body) = (bed.socket(), body(most));
        let asking = tokio::spawn(async move { ask(&socket, "POST", target, &body).await });
        let refusal = bed.refused().await;
        assert!(refusal.contains(&format!("more than {most}")), "{refusal}");
        asking.abort();
        let asked = bed.docker.asked();
        let made = asked.iter().filter(|line| line.starts_with("POST "));
        assert_eq!(made.count(), most, "{asked:?}");
    }
}

#[tokio::test]
async fn what_docker_made_of_another_image_is_removed() {
    let mut bed = Bed::new();
    bed.docker.surprise();
    let socket = bed.socket();
    let asking = tokio::spawn(async move { ask(&socket, "POST", CREATE, &container()).await });
    let refusal = bed.refused().await;
    assert!(refusal.contains("traefik.enable"), "{refusal}");
    asking.abort();
    let asked = bed.docker.asked();
    assert_eq!(
        asked.last().map(String::as_str),
        Some("DELETE /v1.41/containers/aaaa")
    );
}

#[tokio::test]
async fn a_container_is_started_once_and_not_for_somebody_who_is_gone() {
    let mut bed = Bed::new();
    bed.ask("POST", CREATE, &container()).await;
    let socket = bed.socket();
    let starting = tokio::spawn(async move {
        ask(&socket, "POST", "/v1.41/containers/aaaa/start", &json!({})).await
    });
    let held = bed.held().await;
    for again in ["start", "restart"] {
        let target = format!("/v1.41/containers/aaaa/{again}");
        assert_eq!(bed.ask("POST", &target, &json!({})).await.0, 403);
    }
    starting.abort();
    let _ = starting.await;
    assert!(!held.start().await.unwrap());
    let asked = bed.docker.asked();
    assert!(
        !asked.iter().any(|line| line.ends_with("start")),
        "{asked:?}"
    );
}

const NETWORK: &str = "/v1.41/networks/create";

/// What compose asks for.
fn network(name: &str) -> Value {
    json!({"Name": format!("acme-site_{name}"), "Driver": "bridge", "CheckDuplicate": true,
        "IPAM": {"Driver": "default", "Config": []}, "Options": null,
        "Labels": {"com.docker.compose.network": name}})
}

#[tokio::test]
async fn each_network_has_addresses_of_the_pool_and_a_device_that_the_firewall_knows() {
    for trusted in [false, true] {
        let bed = Bed::of(trusted, true, POOL);
        // The first is another's, and the second one is not to be had, whatever the list says.
        bed.docker.has_network("others", "10.189.0.0/27");
        bed.docker.refuses_subnet("10.189.0.32/27");
        for name in ["a", "b"] {
            let (status, said) = bed.ask("POST", NETWORK, &network(name)).await;
            assert_eq!(status, 201, "{said}");
        }
        let made = bed.docker.networks();
        let of = |key: &str| -> Vec<Value> {
            let made = made.iter().skip(1);
            made.map(|network| network.pointer(key).cloned().unwrap_or_default())
                .collect()
        };
        assert_eq!(
            of("/IPAM/Config/0/Subnet"),
            ["10.189.0.64/27", "10.189.0.96/27"]
        );
        assert_eq!(of("/IPAM/Config/0/Gateway"), ["10.189.0.65", "10.189.0.97"]);
        let device = "/Options/com.docker.network.bridge.name";
        assert_eq!(of(device), ["hatchery0abd004", "hatchery0abd006"]);
        if !trusted {
            assert_eq!(of("/Labels/hatchery.drone"), ["acme-site", "acme-site"]);
        }
    }
}

#[tokio::test]
async fn networks_that_are_made_at_once_get_different_addresses() {
    let bed = Bed::of(false, true, POOL);
    let names = ["a", "b", "c", "d", "e", "f"].map(network);
    let asking = names.iter().map(|body| bed.ask("POST", NETWORK, body));
    for (status, said) in futures_util::future::join_all(asking).await {
        assert_eq!(status, 201, "{said}");
    }
    let made = bed.docker.networks();
    let subnets: std::collections::HashSet<_> = made
        .iter()
        .map(|network| network["IPAM"]["Config"][0]["Subnet"].to_string())
        .collect();
    assert_eq!(subnets.len(), 6, "{made:?}");
}

#[tokio::test]
async fn one_repository_asks_for_networks_without_end_and_gets_a_few() {
    let mut bed = Bed::of(false, true, POOL);
    for number in 0..6 {
        let (status, said) = bed
            .ask("POST", NETWORK, &network(&format!("n{number}")))
            .await;
        assert_eq!(status, 201, "{said}");
    }
    let socket = bed.socket();
    let asking = tokio::spawn(async move {
        server::exchange(&socket, &server::request("POST", NETWORK, &network("more"))).await
    });
    let refused = bed.refused().await;
    assert!(refused.contains("more than 6 networks"), "{refused}");
    assert_eq!(bed.docker.networks().len(), 6);
    asking.abort();

    // Nor does it get more by asking at another spawn.
    let mut bed = Bed::of(false, true, POOL);
    for number in 0..6 {
        bed.docker.has_project_network(&format!("n{number}"));
    }
    let socket = bed.socket();
    let asking = tokio::spawn(async move {
        server::exchange(&socket, &server::request("POST", NETWORK, &network("more"))).await
    });
    assert!(bed.refused().await.contains("more than 6 networks"));
    assert_eq!(bed.docker.networks().len(), 6);
    asking.abort();
}

#[tokio::test]
async fn a_pool_that_is_used_up_ends_the_spawn_and_holds_nobody_up() {
    for trusted in [false, true] {
        let mut bed = Bed::of(trusted, true, &["10.189.7.0/27"]);
        bed.docker.has_network("others", "10.189.0.0/16");
        let socket = bed.socket();
        let asking = tokio::spawn(async move {
            server::exchange(&socket, &server::request("POST", NETWORK, &network("a"))).await
        });
        let refused = bed.refused().await;
        assert!(refused.contains("no addresses are left"), "{refused}");
        assert!(refused.contains("10.189.7.0/27"), "{refused}");
        // Others may choose while that client waits for the end.
        let places = Places::under(&bed.place.path().join("places"));
        let lock = tokio::task::spawn_blocking(move || places.addresses().map(drop));
        tokio::time::timeout(SOON, lock)
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        asking.abort();
    }
}

#[tokio::test]
async fn what_hatchery_added_to_a_network_is_not_shown() {
    let bed = Bed::of(false, true, POOL);
    bed.ask("POST", NETWORK, &network("a")).await;
    let (_, shown) = bed.ask("GET", "/v1.41/networks", &json!({})).await;
    let shown = shown.to_string();
    assert!(shown.contains("acme-site_a"), "{shown}");
    assert!(!shown.contains("hatchery"), "{shown}");
}
