use super::*;
use crate::config::Runtime;
use crate::docker::{LABELS_OF_HELPERS, Machine};
use crate::door::judge::tests::{ID, bounds};
use proptest::prelude::*;
use serde_json::json;

/// What docker's command asks for when the devcontainer CLI runs it, all its zeros included.
fn asked() -> Value {
    serde_json::from_str(
        r#"{
        "Hostname": "", "Domainname": "", "User": "", "AttachStdin": false, "AttachStdout": true, "AttachStderr": true,
        "ExposedPorts": {"2222/tcp": {}}, "Tty": false, "OpenStdin": false, "StdinOnce": false, "Env": ["A=b"],
        "Cmd": ["-c", "echo Container started"], "Volumes": {}, "WorkingDir": "", "Entrypoint": ["/bin/sh"],
        "MacAddress": "", "OnBuild": null,
        "Labels": {"com.docker.compose.project": "acme-site", "devcontainer.metadata": "[]", "x": "y"},
        "HostConfig": {
            "AutoRemove": false, "Binds": ["acme-site_v:/v:rw"], "BlkioWeight": 0, "BlkioWeightDevice": [],
            "CapAdd": ["NET_ADMIN"], "CapDrop": null, "Cgroup": "", "CgroupParent": "", "CgroupnsMode": "",
            "ConsoleSize": [24, 80], "ContainerIDFile": "", "CpuCount": 0, "CpuPeriod": 0, "CpuQuota": 0,
            "CpuRealtimePeriod": 0, "CpuShares": 0, "CpusetCpus": "", "DeviceCgroupRules": null, "DeviceRequests": null,
            "Devices": [{"PathOnHost": "/dev/net/tun", "PathInContainer": "/dev/net/tun", "CgroupPermissions": "rwm"}],
            "Dns": [], "IOMaximumBandwidth": 0, "IpcMode": "", "Isolation": "", "KernelMemory": 0,
            "LogConfig": {"Type": "", "Config": {}}, "MaskedPaths": null, "Memory": 1073741824, "MemorySwap": 1073741824,
            "MemorySwappiness": -1,
            "Mounts": [
                {"Type": "volume", "Source": "acme-site", "Target": "/workspaces"},
                {"Type": "bind", "Source": "/run/hatchery/acme-site", "Target": "/run/hatchery", "ReadOnly": true}
            ],
            "NanoCpus": 500000000, "NetworkMode": "acme-site_default", "OomKillDisable": false, "OomScoreAdj": 0,
            "PidMode": "", "PidsLimit": 99, "PortBindings": {"2222/tcp": [{"HostIp": "127.0.0.1", "HostPort": "4022"}]},
            "Privileged": false, "PublishAllPorts": false, "ReadonlyPaths": null,
            "RestartPolicy": {"Name": "unless-stopped", "MaximumRetryCount": 0}, "SecurityOpt": null,
            "ShmSize": 67108864, "UTSMode": "", "Ulimits": null, "UsernsMode": "", "VolumeDriver": "", "VolumesFrom": null
        },
        "NetworkingConfig": {"EndpointsConfig": {"acme-site_default": {"Aliases": null, "MacAddress": "", "NetworkID": ""}}}
        }"#,
    )
    .unwrap()
}

fn image() -> ImageInspect {
    serde_json::from_value(json!({"Id": "sha256:0123", "Config": {}})).unwrap()
}

fn own() -> Own {
    let mut own = Own::default();
    own.add("bbbb", "acme-site_db_1");
    own
}

fn judged_as(name: &str, image: &ImageInspect, asked: &Value, bounds: &Bounds) -> Judged<Creation> {
    let own = own();
    let known = Asked {
        name,
        image,
        own: &own,
    };
    creation(Rewrite::read(asked.to_string().as_bytes())?, &known, bounds)
}

fn judged(asked: &Value) -> Judged<Creation> {
    judged_as("acme-site", &image(), asked, &bounds())
}

fn with(key: &str, value: Value) -> Value {
    let mut asked = asked();
    asked["HostConfig"][key] = value;
    asked
}

fn why(asked: &Value) -> String {
    match judged(asked) {
        Ok(creation) => panic!("passed: {asked}\nas {}", creation.body),
        Err(stop) => stop.message(),
    }
}

#[test]
fn what_hatchery_asks_for_passes_with_the_drones_limits() {
    let made = judged(&asked()).unwrap();
    assert_eq!(made.networks, ["acme-site_default".to_owned()].into());
    let volumes = ["acme-site".to_owned(), "acme-site_v".to_owned()];
    assert_eq!(made.volumes, volumes.into());
    let host = &made.body["HostConfig"];
    assert_eq!(made.body["Image"], "sha256:0123");
    assert_eq!(made.body["Labels"]["hatchery.drone"], "acme-site");
    assert_eq!(host["OomScoreAdj"], 300);
    let log = json!({"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}});
    assert_eq!(host["LogConfig"], log);
    for (key, value) in [
        ("NetworkMode", json!("container:bbbb")),
        ("NetworkMode", json!("none")),
        ("Links", json!(["/acme-site_db_1:/acme-site/db"])),
        ("Runtime", json!("crun")),
        ("OomScoreAdj", json!(500)),
        ("Memory", json!(4_194_304)),
        (
            "Ulimits",
            json!([{"Name": "nofile", "Soft": 65536, "Hard": 65536}, {"Name": "memlock", "Soft": -1, "Hard": -1}]),
        ),
        ("Sysctls", json!({"net.core.somaxconn": "1024"})),
        (
            "Mounts",
            json!([{"Type": "tmpfs", "Target": "/x"}, {"Type": "volume", "Source": format!("x-{ID}"), "Target": "/y"}]),
        ),
        ("Binds", json!([format!("{}:/v", "a".repeat(64))])),
        ("Binds", json!(["hatchery.shared.claude:/root/.claude"])),
        ("SomethingNew", json!({"None": [], "Of": {"It": 0}})),
    ] {
        let made = judged(&with(key, value.clone()));
        assert!(made.is_ok(), "{key} {value}: {made:?}");
    }
}

#[test]
fn what_would_weaken_the_drone_is_left_out_or_replaced() {
    let becomes = |key: &str, value: Value| {
        judged(&with(key, value)).unwrap().body["HostConfig"][key].clone()
    };
    let options = json!([
        "seccomp=unconfined",
        "no-new-privileges=false",
        "label=disable",
        "no-new-privileges"
    ]);
    assert_eq!(
        becomes("SecurityOpt", options),
        json!(["no-new-privileges"])
    );
    for (key, value, most) in [
        ("Memory", json!(0), json!(1_073_741_824)),
        ("Memory", json!(1_073_741_825), json!(1_073_741_824)),
        ("Memory", Value::Null, json!(1_073_741_824)),
        ("MemorySwap", json!(-1), json!(1_073_741_824)),
        ("PidsLimit", json!(-1), json!(99)),
        ("PidsLimit", Value::Null, json!(99)),
        ("NanoCpus", json!(0), json!(500_000_000)),
        ("NanoCpus", json!(4_000_000_000_i64), json!(500_000_000)),
        ("NanoCpus", json!(1), json!(1)),
        ("OomScoreAdj", json!(1), json!(300)),
        ("ShmSize", json!(i64::MAX), json!(1_073_741_824)),
        ("MemorySwappiness", json!(100), Value::Null),
        (
            "LogConfig",
            json!({"Type": "syslog"}),
            becomes("LogConfig", Value::Null),
        ),
    ] {
        assert_eq!(becomes(key, value.clone()), most, "{key} {value}");
    }
    assert_eq!(
        becomes("NetworkMode", json!("container:bb")),
        "container:bbbb"
    );
    for open in [json!([]), Value::Null] {
        let ports = json!({"80/tcp": open});
        assert_eq!(becomes("PortBindings", ports), json!({}));
    }
    for (seconds, kept) in [(-1, 0), (10, 10), (1_000_000, 60)] {
        let mut asked = asked();
        asked["StopTimeout"] = json!(seconds);
        assert_eq!(judged(&asked).unwrap().body["StopTimeout"], kept);
    }
    let labels = json!({"hatchery.drone": "acme-other"});
    let volume = json!([{"Type": "volume", "Source": "acme-site_n", "Target": "/n", "VolumeOptions": {"NoCopy": true, "Labels": labels}}]);
    let plain = json!([{"Type": "volume", "Source": "acme-site_n", "Target": "/n", "VolumeOptions": {"NoCopy": true}}]);
    assert_eq!(becomes("Mounts", volume), plain);
}

#[test]
#[allow(clippy::too_many_lines)] // A table.
fn what_reaches_beyond_the_drone_does_not() {
    for (key, value, named) in [
        ("Privileged", json!(true), "privileged"),
        ("PidMode", json!("host"), "PidMode"),
        ("PidMode", json!("container:bbbb"), "PidMode"),
        ("IpcMode", json!("host"), "IPC"),
        ("IpcMode", json!("container:cccc"), "IPC"),
        ("UTSMode", json!("host"), "UTSMode"),
        ("UsernsMode", json!("host"), "UsernsMode"),
        ("CgroupnsMode", json!("host"), "control groups"),
        ("CgroupParent", json!("/"), "CgroupParent"),
        ("Cgroup", json!("container:x"), "Cgroup"),
        ("NetworkMode", json!("host"), "network"),
        ("NetworkMode", json!("bridge"), "network"),
        ("NetworkMode", json!("default"), "network"),
        ("NetworkMode", json!("container:cccc"), "network"),
        ("NetworkMode", json!("container:acme-other"), "network"),
        ("VolumesFrom", json!(["acme-other"]), "VolumesFrom"),
        ("VolumeDriver", json!("nfs"), "driver"),
        ("Binds", json!(["/:/host"]), "/:/host"),
        ("Binds", json!(["acme-other:/x"]), "acme-other"),
        ("Binds", json!(["acme-site-b:/x"]), "acme-site-b"),
        (
            "Mounts",
            json!([{"Type": "bind", "Source": "/etc", "Target": "/x"}]),
            "/etc",
        ),
        (
            "Mounts",
            json!([{"Type": "bind", "Source": "/run/hatchery/acme-site", "Target": "/x", "ReadOnly": true}]),
            "mounted",
        ),
        (
            "Mounts",
            json!([{"Type": "bind", "Source": "/run/hatchery/acme-site", "Target": "/run/hatchery"}]),
            "mounted",
        ),
        (
            "Mounts",
            json!([{"Type": "volume", "Source": "acme-other", "Target": "/x"}]),
            "acme-other",
        ),
        (
            "Mounts",
            json!([{"Type": "volume", "Source": "hatchery.shared.other", "Target": "/x"}]),
            "hatchery.shared.other",
        ),
        (
            "Mounts",
            json!([{"Type": "volume", "Source": "acme-site", "Target": "/x", "VolumeOptions": {"DriverConfig": {"Name": "local", "Options": {"device": "/"}}}}]),
            "mounted",
        ),
        (
            "Mounts",
            json!([{"Type": "npipe", "Source": "x", "Target": "/x"}]),
            "mounted",
        ),
        ("Devices", json!([{"PathOnHost": "/dev/sda"}]), "/dev/sda"),
        (
            "DeviceCgroupRules",
            json!(["a *:* rwm"]),
            "DeviceCgroupRules",
        ),
        (
            "DeviceRequests",
            json!([{"Driver": "nvidia"}]),
            "DeviceRequests",
        ),
        ("CapAdd", json!(["SYS_ADMIN"]), "SYS_ADMIN"),
        ("CapAdd", json!(["ALL"]), "ALL"),
        ("SecurityOpt", json!(["apparmor:unconfined"]), "apparmor"),
        (
            "PortBindings",
            json!({"80/tcp": [{"HostIp": "", "HostPort": "80"}]}),
            "0.0.0.0:80",
        ),
        (
            "PortBindings",
            json!({"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "4022"}]}),
            "0.0.0.0:4022",
        ),
        (
            "PortBindings",
            json!({"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8099"}]}),
            "127.0.0.1:8099",
        ),
        ("PublishAllPorts", json!(true), "PublishAllPorts"),
        ("Links", json!(["/acme-other:/acme-site/x"]), "acme-other"),
        ("Links", json!(["bb:x"]), "bb:x"),
        (
            "Ulimits",
            json!([{"Name": "rtprio", "Soft": 99, "Hard": 99}]),
            "rtprio",
        ),
        (
            "Ulimits",
            json!([{"Name": "nice", "Soft": 40, "Hard": 40}]),
            "nice",
        ),
        (
            "Ulimits",
            json!([{"Name": "nofile", "Soft": 1, "Hard": 1_000_000_000}]),
            "nofile",
        ),
        (
            "Ulimits",
            json!([{"Name": "nofile", "Soft": -1, "Hard": -1}]),
            "nofile",
        ),
        ("Sysctls", json!({"kernel.msgmax": "1"}), "kernel.msgmax"),
        ("MaskedPaths", json!([]), "MaskedPaths"),
        ("MaskedPaths", json!(["/proc/acpi"]), "MaskedPaths"),
        ("ReadonlyPaths", json!([]), "ReadonlyPaths"),
        ("Runtime", json!("runsc"), "runsc"),
        ("Isolation", json!("process"), "process"),
        ("OomKillDisable", json!(true), "OomKillDisable"),
        ("OomScoreAdj", json!(-1), "oom_score_adj"),
        ("CpuRealtimeRuntime", json!(950_000), "CpuRealtimeRuntime"),
        ("CpuRealtimePeriod", json!(1_000_000), "CpuRealtimePeriod"),
        ("CpuShares", json!(262_144), "CpuShares"),
        ("CpuQuota", json!(-1), "CpuQuota"),
        ("CpusetCpus", json!("0"), "CpusetCpus"),
        ("BlkioWeight", json!(1000), "BlkioWeight"),
        ("StorageOpt", json!({"size": "1t"}), "StorageOpt"),
        ("Annotations", json!({"run.oci.x": "y"}), "Annotations"),
        ("AutoRemove", json!(true), "AutoRemove"),
        ("KernelMemory", json!(1), "KernelMemory"),
        ("privileged", json!(true), "privileged"),
        ("PRIVILEGED", json!(1), "PRIVILEGED"),
        ("binds", json!(["/:/host"]), "binds"),
    ] {
        let found = why(&with(key, value.clone()));
        assert!(found.contains(named), "{key} {value}: {found:?}");
    }
    for (key, value, named) in [
        ("MacAddress", json!("02:42:ac:11:00:02"), "hardware address"),
        ("OnBuild", json!(["RUN x"]), "OnBuild"),
        ("Volumes", json!({"/x": {"y": 1}}), "Volumes"),
        ("hostConfig", json!({"Privileged": true}), "hostConfig"),
        ("HostConfig", json!("x"), "HostConfig"),
        ("HostConfig", Value::Null, "network namespace"),
        ("NetworkingConfig", json!({"Other": 1}), "Other"),
        (
            "NetworkingConfig",
            json!({"EndpointsConfig": {"x": {"MacAddress": "02:42:ac:11:00:02"}}}),
            "hardware address",
        ),
        (
            "Labels",
            json!({"com.docker.compose.project": "acme-other"}),
            "another's",
        ),
        ("Labels", json!({}), "project"),
    ] {
        let mut asked = asked();
        asked[key] = value.clone();
        let found = why(&asked);
        assert!(found.contains(named), "{key} {value}: {found:?}");
    }
}

#[test]
fn a_network_that_is_only_named_in_the_endpoints_is_asked_about_too() {
    let mut asked = asked();
    asked["NetworkingConfig"]["EndpointsConfig"]["other"] = Value::Null;
    assert!(judged(&asked).unwrap().networks.contains("other"));
}

#[test]
fn a_sibling_has_neither_the_drones_socket_nor_its_labels() {
    let sibling = |asked: &Value| judged_as("acme-site_web_1", &image(), asked, &bounds());
    let found = sibling(&asked()).unwrap_err().message();
    assert!(found.contains("/run/hatchery"), "{found}");
    // In whose network the drone may be, so that its port is there.
    let labels = sibling(&with("Mounts", json!([]))).unwrap().body["Labels"].clone();
    assert!(labels.get("hatchery.drone").is_none(), "{labels}");
}

#[test]
fn what_an_image_brings_does_not_count() {
    let image: ImageInspect = serde_json::from_value(json!({"Id": "sha256:0123", "Config": {
        "Labels": {"com.docker.compose.project": "acme-other", "traefik.enable": "true"},
        "Healthcheck": {"Test": ["CMD", "x"], "Interval": 1},
    }}))
    .unwrap();
    let alone = Bounds {
        compose: false,
        ..bounds()
    };
    let mut asked = with("NetworkMode", json!("acme-site"));
    asked["Labels"] = json!({});
    let made = judged_as("acme-site", &image, &asked, &alone).unwrap().body;
    assert_eq!(made["Labels"]["com.docker.compose.project"], "");
    assert_eq!(made["Labels"]["traefik.enable"], "");
    assert_eq!(made["Healthcheck"]["Interval"], 5_000_000_000_i64);
    for label in LABELS_OF_HELPERS {
        let mut image = image.clone();
        let config = image.config.as_mut().unwrap();
        config
            .labels
            .as_mut()
            .unwrap()
            .insert(label.to_owned(), "1".to_owned());
        let found = judged_as("acme-site", &image, &asked, &alone).unwrap_err();
        assert!(found.message().contains(label));
    }
}

#[test]
fn a_trusted_repositorys_container_is_its_own_but_for_labels() {
    let image: ImageInspect = serde_json::from_value(json!({"Id": "sha256:0123", "Config": {
        "Labels": {"com.docker.compose.project": "acme-other"},
    }}))
    .unwrap();
    let asked = json!({"Image": "x", "HostConfig": {"Privileged": true}, "Labels": {"a": "b"}});
    let made = labelled(
        asked.to_string().as_bytes(),
        "acme-site-db",
        &image,
        &bounds(),
    )
    .unwrap();
    assert_eq!(made["HostConfig"], asked["HostConfig"]);
    assert_eq!(
        made["Labels"],
        json!({"a": "b", "com.docker.compose.project": ""})
    );
}

#[test]
fn with_a_runtime_that_contains_root_privileges_are_left_out() {
    let contained = Bounds {
        runtime: Some(Runtime::Sysbox),
        ..bounds()
    };
    for asked in [
        asked(),
        with("Privileged", json!(true)),
        with("Runtime", json!("sysbox-runc")),
    ] {
        let made = judged_as("acme-site", &image(), &asked, &contained)
            .unwrap()
            .body;
        let host = &made["HostConfig"];
        assert_eq!(host["Runtime"], "sysbox-runc", "{asked}");
        assert_eq!(host.get("Privileged"), None, "{asked}");
    }
    // Nothing else is let through with it.
    for (key, value) in [
        ("Runtime", json!("runsc")),
        ("privileged", json!(true)),
        ("CapAdd", json!(["SYS_ADMIN"])),
        ("PidMode", json!("host")),
    ] {
        let asked = with(key, value);
        assert!(
            judged_as("acme-site", &image(), &asked, &contained).is_err(),
            "{asked}"
        );
    }
    assert!(judged(&with("Runtime", json!("sysbox-runc"))).is_err());
}

#[test]
fn what_ran_a_container_before_may_differ_but_it_has_no_privileges() {
    let shown = |runtime: &str, privileged: bool| {
        let host = json!({
            "NetworkMode": "none", "Runtime": runtime, "Privileged": privileged,
            "MaskedPaths": [
                "/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
                "/proc/sched_debug", "/proc/scsi", "/sys/firmware"
            ],
            "ReadonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        });
        serde_json::from_value::<HostConfig>(host).unwrap()
    };
    let contained = Bounds {
        runtime: Some(Runtime::Sysbox),
        ..bounds()
    };
    for bounds in [bounds(), contained] {
        for runtime in ["runc", "sysbox-runc"] {
            let judged =
                |privileged| present(&shown(runtime, privileged), &Own::default(), &bounds);
            assert!(judged(false).is_ok(), "{runtime}");
            assert!(judged(true).is_err(), "{runtime}");
        }
    }
}

#[test]
fn a_limit_that_this_docker_cannot_enforce_is_not_set() {
    let lax = Bounds {
        machine: Machine {
            unlimited: vec!["memory", "cpus", "pids"],
            ..bounds().machine
        },
        ..bounds()
    };
    let mut asked = asked();
    for key in ["Memory", "MemorySwap", "NanoCpus", "PidsLimit"] {
        asked["HostConfig"][key] = Value::Null;
    }
    let made = judged_as("acme-site", &image(), &asked, &lax).unwrap().body;
    for key in ["Memory", "MemorySwap", "NanoCpus", "PidsLimit"] {
        assert!(made["HostConfig"].get(key).is_none(), "{key}");
    }
    let old = Bounds {
        machine: Machine {
            cgroup: "1".into(),
            ..bounds().machine
        },
        ..bounds()
    };
    let asked = with("CgroupnsMode", json!("host"));
    assert!(judged_as("acme-site", &image(), &asked, &old).is_ok());
}

/// A JSON value of the kinds that stand in a request.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "(|host|/|/etc|private|container:bbbb|acme-site|acme-other|[a-z=:/.-]{1,9})"
            .prop_map(Value::from),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::hash_map(
                "(Type|Source|Target|PathOnHost|Name|[A-Za-z]{1,6})",
                inner,
                0..3
            )
            .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Keys of a request's host part, spelled as Docker does and otherwise.
fn key() -> impl Strategy<Value = String> {
    let known: Vec<&'static str> = host::JUDGED
        .iter()
        .chain(host::HARMLESS)
        .chain(host::DROPPED)
        .chain(&[
            "Privileged",
            "PidMode",
            "UTSMode",
            "UsernsMode",
            "VolumesFrom",
            "CgroupParent",
            "DeviceRequests",
            "Annotations",
        ])
        .copied()
        .collect();
    prop_oneof![
        prop::sample::select(known.clone()).prop_map(str::to_owned),
        prop::sample::select(known).prop_map(str::to_ascii_lowercase),
        "[A-Z][A-Za-z]{2,9}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Whatever is asked for: what passes holds only keys that are judged or harmless, no value of
    /// which reaches beyond the drone.
    #[test]
    fn nothing_unlisted_passes(pairs in prop::collection::vec((key(), value()), 1..4)) {
        let mut asked = asked();
        for (key, value) in pairs {
            asked["HostConfig"][key] = value;
        }
        let Ok(made) = judged(&asked) else { return Ok(()) };
        let host = made.body["HostConfig"].as_object().unwrap();
        for (key, value) in host {
            let known = host::JUDGED.contains(&key.as_str()) || host::HARMLESS.contains(&key.as_str()) || key == "LogConfig";
            prop_assert!(known, "{} {}", key, value);
        }
        let text = |key: &str| host.get(key).and_then(Value::as_str).unwrap_or_default();
        prop_assert!(matches!(text("NetworkMode"), "none" | "container:bbbb" | "acme-site_default") || made.networks.contains(text("NetworkMode")));
        prop_assert!(!text("IpcMode").starts_with("container:") && text("IpcMode") != "host");
        prop_assert!(!host.contains_key("MaskedPaths") && !host.contains_key("ReadonlyPaths"));
        for mount in host.get("Mounts").and_then(Value::as_array).into_iter().flatten() {
            if mount["Type"] == "bind" {
                prop_assert_eq!(&mount["Source"], "/run/hatchery/acme-site");
                prop_assert_eq!(&mount["ReadOnly"], true);
            }
        }
        prop_assert!(host["Memory"].as_i64().unwrap() <= 1_073_741_824);
        prop_assert!(host["PidsLimit"].as_i64().unwrap() <= 99);
    }
}
