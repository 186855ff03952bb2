//! The door over its socket: what reaches Docker, what does not, and what clients may do to it.
//! Docker here is a stand-in that writes down what it was asked; the scenarios have the real one.

mod docker;
mod server;

use std::time::Duration;

use bollard::models::ContainerInspectResponse;
use hatchery::docker::Container;
use hatchery::door::{Bounds, Door, Event, Held};
use hatchery::drone::{Identity, Scope};
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
        let host = json!({"NetworkMode": "none", "MaskedPaths": MASKED, "ReadonlyPaths": LOCKED});
        Self::beside(&host, trusted).unwrap()
    }

    /// A sibling with this part of the host is there already.
    fn beside(host: &Value, trusted: bool) -> Result<Self, String> {
        Self::open(host, trusted, false)
    }

    fn composed() -> Self {
        let host = json!({"NetworkMode": "none", "MaskedPaths": MASKED, "ReadonlyPaths": LOCKED});
        Self::open(&host, false, true).unwrap()
    }

    fn open(host: &Value, trusted: bool, compose: bool) -> Result<Self, String> {
        let place = tempfile::tempdir().unwrap();
        let docker = Fake::start(&place.path().join("docker"));
        let scope = Scope::from_json(r#"{"repositories":["acme/site"]}"#).unwrap();
        let bounds = Bounds {
            identity: Identity::new(scope),
            id: "0123456789abcdefghijklmnopqrstuv".to_owned(),
            sockets: None,
            limits: hatchery::config::Limits::default(),
            ssh_port: None,
            network: "hatchery".to_owned(),
            compose,
            machine: hatchery::docker::Machine::default(),
        };
        let sibling = json!({"Id": "bbbb", "Name": "/acme-site_db_1", "HostConfig": host});
        let there = [Container::from(
            serde_json::from_value::<ContainerInspectResponse>(sibling).unwrap(),
        )];
        let door = Door::open(place.path(), &docker.host, bounds, &there, trusted)
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
    json!({"Image": "base", "HostConfig": {"NetworkMode": "hatchery", "Privileged": false}})
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
            json!({"Image": "base", "HostConfig": {"NetworkMode": "hatchery", "Privileged": true}}),
            "the container that came of acme-site's configuration would have all privileges (privileged)",
        ),
        (
            CREATE,
            json!({"Image": "base", "HostConfig": {"NetworkMode": "bridge0"}}),
            "the container that came of acme-site's configuration would have a place in the network",
        ),
        (
            CREATE,
            json!({"Image": "base", "HostConfig": {"NetworkMode": "hatchery", "Binds": ["acme-site_host:/x"]}}),
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
            "what came of acme-site's configuration would have the volume \"acme-other\"",
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
        let refusal = Bed::beside(&host, false).err().unwrap_or_default();
        assert!(refusal.contains(said), "{key}: {refusal}");
        assert!(
            refusal.starts_with("the container acme-site_db_1 that came of"),
            "{refusal}"
        );
        assert!(Bed::beside(&host, true).is_ok());
    }
}

#[tokio::test]
async fn a_volume_without_a_name_is_whose_containers_have_it() {
    let with = |volume: &str| {
        let binds = json!([format!("{volume}:/x")]);
        json!({"Image": "base", "HostConfig": {"NetworkMode": "hatchery", "Binds": binds}})
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
async fn what_all_drones_share_stays_as_it_is() {
    let bed = Bed::new();
    for (method, target, status) in [
        ("DELETE", "/v1.41/networks/hatchery", 403),
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
    for (target, name, most) in [
        ("/v1.41/volumes/create", "acme-site_v", 64),
        ("/v1.41/networks/create", "acme-site_n", 6),
    ] {
        let mut bed = Bed::composed();
        let body = |number: usize| json!({"Name": format!("{name}{number}")});
        for number in 0..most {
            let (status, said) = bed.ask("POST", target, &body(number)).await;
            assert_eq!(status, 404, "the fake has none: {said}");
        }
        let (socket, body) = (bed.socket(), body(most));
        let asking = tokio::spawn(async move { ask(&socket, "POST", target, &body).await });
        let refusal = bed.refused().await;
        assert!(refusal.contains(&format!("more than {most}")), "{refusal}");
        asking.abort();
        assert_eq!(bed.docker.asked().len(), most);
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
