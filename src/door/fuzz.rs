//! Requests that nobody thought of. `HATCHERY_FUZZ_CASES` says how many (20,000 if it is not set);
//! `HATCHERY_FUZZ_SEED` repeats an earlier run.

use hyper::{Method, Uri};
use serde_json::{Value, json};

use super::call::{Ask, Call};
use super::judge::tests::bounds;
use super::judge::{self, Asked};
use super::own::Own;
use super::rewrite::Rewrite;

/// What spawns were seen to ask for, but for builds: with docker 20.10 and compose 1.29, docker 26.1
/// and 28.5 with compose 2. The last four are asked where a sibling is replaced or an image is not
/// there.
pub(super) const SEEN: &[&str] = &[
    "HEAD /_ping",
    "GET /version",
    "GET /v1.51/info",
    "GET /v1.51/events?filters=%7B%22event%22%3A%7B%22start%22%3Atrue%7D%7D",
    "GET /v1.51/containers/json?all=1&filters=%7B%22label%22%3A%7B%7D%7D",
    "GET /v1.41/containers/json?limit=-1&all=1&size=0&trunc_cmd=0&filters=%7B%7D",
    "GET /v1.51/containers/05fcaf89b28b/json",
    "POST /v1.51/containers/create?name=acme-site",
    "POST /v1.51/containers/05fcaf89b28b/attach?stderr=1&stdout=1&stream=1",
    "POST /v1.51/containers/05fcaf89b28b/wait?condition=next-exit",
    "POST /v1.51/containers/05fcaf89b28b/start",
    "POST /v1.51/containers/05fcaf89b28b/exec",
    "POST /v1.51/exec/05fcaf89b28b/start",
    "GET /v1.41/exec/05fcaf89b28b/json",
    "GET /v1.41/networks/acme-site_default",
    "POST /v1.41/networks/create",
    "GET /v1.41/volumes/acme-site_data",
    "POST /v1.41/volumes/create",
    "GET /v1.51/images/mcr.microsoft.com/devcontainers/base:ubuntu/json",
    "POST /v1.41/networks/acme-site_default/connect",
    "POST /v1.45/images/create?fromImage=debian&tag=12",
    "POST /v1.45/images/sha256:0123/tag?repo=vsc-x-1&tag=latest",
    "DELETE /v1.41/containers/acme-site?v=False&link=False&force=True",
];

/// What requests are made of, and what attacks on them are.
const PIECES: &[&str] = &[
    "/",
    "//",
    "..",
    "/../",
    "%2e%2e",
    "%2F",
    "%00",
    "?",
    "&",
    "=",
    "#",
    "v1.45",
    "v9.9",
    "/json",
    "/start",
    "/update",
    "/commit",
    "/swarm/init",
    "/secrets",
    "/plugins",
    "/prune",
    "/export",
    "/import",
    "/load",
    "/push",
    "/auth",
    "containers",
    "images",
    "networks",
    "volumes",
    "exec",
    "name=",
    "fromSrc=-",
    "force=1",
    "t=x",
    "http://x",
    "@",
    ":",
];

/// Keys and values of a container's host part, as `key=value`.
const HOSTS: &[(&str, &str)] = &[
    ("Privileged", "true"),
    ("privileged", "true"),
    ("PidMode", "\"host\""),
    ("IpcMode", "\"container:cccc\""),
    ("NetworkMode", "\"host\""),
    ("NetworkMode", "\"container:bbbb\""),
    ("NetworkMode", "\"container:cccc\""),
    ("UsernsMode", "\"host\""),
    ("CgroupParent", "\"/\""),
    ("CgroupnsMode", "\"host\""),
    ("Binds", "[\"/:/host\"]"),
    ("Binds", "[\"acme-site_v:/v\"]"),
    (
        "Mounts",
        "[{\"Type\":\"bind\",\"Source\":\"/\",\"Target\":\"/x\"}]",
    ),
    (
        "Mounts",
        "[{\"type\":\"bind\",\"Source\":\"/\",\"Target\":\"/x\"}]",
    ),
    (
        "Mounts",
        "[{\"Type\":\"volume\",\"Source\":\"acme-site\",\"Target\":\"/x\",\"VolumeOptions\":{\"DriverConfig\":{\"Options\":{\"device\":\"/\"}}}}]",
    ),
    ("VolumesFrom", "[\"cccc\"]"),
    ("Devices", "[{\"PathOnHost\":\"/dev/sda\"}]"),
    ("Devices", "[{\"PathOnHost\":\"/dev/fuse\"}]"),
    ("DeviceRequests", "[{\"Count\":-1}]"),
    ("DeviceCgroupRules", "[\"a *:* rwm\"]"),
    ("CapAdd", "[\"SYS_ADMIN\"]"),
    ("CapAdd", "[\"NET_ADMIN\"]"),
    ("SecurityOpt", "[\"seccomp=unconfined\"]"),
    ("SecurityOpt", "[\"apparmor=unconfined\"]"),
    ("MaskedPaths", "[]"),
    ("ReadonlyPaths", "[]"),
    ("Runtime", "\"runsc\""),
    ("OomScoreAdj", "-1000"),
    ("Sysctls", "{\"kernel.core_pattern\":\"|/x\"}"),
    ("Ulimits", "[{\"Name\":\"rtprio\",\"Soft\":9,\"Hard\":9}]"),
    ("PortBindings", "{\"22/tcp\":[{\"HostPort\":\"22\"}]}"),
    ("LogConfig", "{\"Type\":\"syslog\"}"),
    ("Memory", "-1"),
    ("PidsLimit", "0"),
    ("Annotations", "{\"x\":\"y\"}"),
    ("StorageOpt", "{\"size\":\"1\"}"),
    ("Init", "true"),
    ("RestartPolicy", "{\"Name\":\"always\"}"),
];

fn cases() -> u64 {
    let cases = std::env::var("HATCHERY_FUZZ_CASES").ok();
    cases.map_or(20_000, |text| text.parse().unwrap())
}

fn dice() -> fastrand::Rng {
    let seed = std::env::var("HATCHERY_FUZZ_SEED")
        .map_or_else(|_| fastrand::u64(..), |text| text.parse().unwrap());
    println!("HATCHERY_FUZZ_SEED={seed}");
    fastrand::Rng::with_seed(seed)
}

/// One of what was seen, changed in a few places.
fn line(dice: &mut fastrand::Rng) -> String {
    let mut line = dice
        .choice(SEEN)
        .copied()
        .unwrap_or_default()
        .as_bytes()
        .to_vec();
    for _ in 0..dice.usize(..4) {
        let (at, other) = (dice.usize(..=line.len()), dice.usize(..=line.len()));
        let piece = dice.choice(PIECES).copied().unwrap_or_default().bytes();
        match dice.u8(..5) {
            0 => drop(line.splice(at..at, piece)),
            1 => drop(line.splice(at.min(other)..at.max(other), piece)),
            2 => line.extend_from_within(at.min(other)..at.max(other)),
            3 if at < line.len() => line[at] = dice.u8(33..127),
            _ => line.truncate(at),
        }
    }
    String::from_utf8_lossy(&line).into_owned()
}

/// What Docker may be asked, written a second time and otherwise: a path of plain parts, one of the
/// endings that a spawn needs, and no parameter beyond them.
fn is_harmless(method: &Method, target: &str) -> bool {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let plain = |part: &str| {
        !matches!(part, "" | "." | "..")
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"._-:@+".contains(&byte))
    };
    let mut parts: Vec<&str> = path.split('/').skip(1).collect();
    if !parts.iter().all(|part| plain(part)) {
        return false;
    }
    if parts
        .first()
        .is_some_and(|part| part.starts_with("v1.") || part.contains('.'))
    {
        parts.remove(0);
    }
    let last = parts.last().copied().unwrap_or_default();
    let reads = matches!(*method, Method::GET | Method::HEAD);
    let may = match parts.first().copied().unwrap_or_default() {
        "_ping" | "info" | "version" | "events" => reads && parts.len() == 1,
        "containers" if reads => ["json", "logs", "archive"].contains(&last),
        "containers" | "networks" if *method == Method::DELETE => parts.len() == 2,
        "containers" => {
            let verbs = [
                "create", "attach", "exec", "wait", "start", "stop", "restart", "rename", "kill",
                "resize", "archive",
            ];
            verbs.contains(&last)
        }
        "exec" => ["json", "start", "resize"].contains(&last),
        "networks" => reads || ["create", "connect", "disconnect"].contains(&last),
        "volumes" => reads || last == "create" && parts.len() == 2,
        "images" => reads && last == "json" || ["create", "tag"].contains(&last),
        "build" | "session" | "grpc" => true,
        _ => false,
    };
    let beyond = ["fromSrc", "checkpoint", "link", "privileged", "remote"];
    let names = query.split('&').map(|pair| pair.split('=').next());
    may && !names.flatten().any(|name| beyond.contains(&name))
}

#[test]
fn no_request_but_one_of_the_list_reaches_docker() {
    let mut dice = dice();
    let (mut passed, mut stopped) = (0_u64, 0_u64);
    for _ in 0..cases() {
        let line = line(&mut dice);
        let Some((method, target)) = line.split_once(' ') else {
            continue;
        };
        let (Ok(method), Ok(target)) = (method.parse::<Method>(), target.parse::<Uri>()) else {
            continue;
        };
        let Ok(call) = Call::read(&method, &target) else {
            stopped += 1;
            continue;
        };
        passed += 1;
        let written = call.target();
        assert!(
            is_harmless(&method, &written),
            "{line} became {method} {written}"
        );
        let again = Call::read(&method, &written.parse().unwrap());
        assert_eq!(
            again.as_ref(),
            Ok(&call),
            "{line} became {method} {written}"
        );
        assert!(
            !matches!(call.ask, Ask::Build(_)),
            "{line}: none was there to begin with"
        );
    }
    println!("{passed} are of the list, {stopped} are not");
    assert!(passed > cases() / 20 && stopped > cases() / 20);
}

#[test]
fn what_was_seen_is_of_the_list() {
    for line in SEEN {
        let (method, target) = line.split_once(' ').unwrap();
        let call = Call::read(&method.parse().unwrap(), &target.parse().unwrap());
        assert!(call.is_ok(), "{line}: {call:?}");
    }
}

/// A body with a few of the keys above, spelled as they are or otherwise.
fn body(dice: &mut fastrand::Rng) -> String {
    let mut keys = vec!["\"Memory\":1".to_owned()];
    if dice.bool() {
        keys.push("\"NetworkMode\":\"acme-site_default\"".to_owned());
    }
    for _ in 0..dice.usize(..3) {
        let Some((key, value)) = dice.choice(HOSTS) else {
            continue;
        };
        let key = match dice.u8(..12) {
            0 => key.to_ascii_lowercase(),
            1 => key.to_ascii_uppercase(),
            // Go takes it for an s.
            2 => key.replace('s', "\u{17f}"),
            _ => (*key).to_owned(),
        };
        keys.push(format!("{key:?}:{value}"));
    }
    dice.shuffle(&mut keys);
    let host = keys.join(",");
    let labels = "\"Labels\":{\"com.docker.compose.project\":\"acme-site\"}";
    format!("{{\"Image\":\"x\",{labels},\"HostConfig\":{{{host}}}}}")
}

/// The container that Docker would make of it: no value that reaches beyond the drone.
fn is_contained(made: &Value) -> bool {
    let host = &made["HostConfig"];
    let text = made.to_string().to_ascii_lowercase();
    let never = [
        "privileged",
        "\"host\"",
        "cccc",
        "\"/:/",
        "\"source\":\"/",
        "sda",
        "sys_admin",
        "unconfined",
        "maskedpaths",
        "readonlypaths",
        "runsc",
        "kernel.",
        "rtprio",
        "hostport",
        "syslog",
        "\"x\"",
        "device\":\"/",
        "\u{17f}",
    ];
    !never.iter().any(|never| text.contains(never))
        && host["OomScoreAdj"].as_i64() >= Some(0)
        && host["Memory"].as_i64() > Some(0)
        && host["PidsLimit"].as_i64() > Some(0)
        && host["LogConfig"]["Config"]["max-size"] == json!("10m")
}

#[test]
fn no_container_reaches_beyond_its_drone() {
    let mut dice = dice();
    let (bounds, mut own) = (bounds(), Own::default());
    own.add("bbbb", "acme-site_db_1");
    let image = serde_json::from_value(json!({"Id": "sha256:0123", "Config": {}})).unwrap();
    let (mut passed, mut stopped) = (0_u64, 0_u64);
    // A body costs twenty times what a line does.
    for _ in 0..cases() / 5 {
        let asked = body(&mut dice);
        let mut body = Rewrite::read(asked.as_bytes()).unwrap();
        let _ = body.take::<String>("Image");
        let known = Asked {
            name: "acme-site",
            image: &image,
            own: &own,
        };
        match judge::creation(body, &known, &bounds) {
            Ok(made) => {
                passed += 1;
                assert!(is_contained(&made.body), "{asked} became {}", made.body);
            }
            Err(_) => stopped += 1,
        }
    }
    println!("{passed} are made, {stopped} are not");
    assert!(passed > cases() / 100 && stopped > cases() / 100);
}
