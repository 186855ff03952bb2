//! Looking at a created container before anything in it runs.
//!
//! Whatever a repository, its features, its images and the devcontainer CLI came to between them:
//! what counts is what Docker is about to do. What a drone may have is listed; the rest is refused.

use std::collections::HashMap;
use std::path::Path;

use bollard::models::{HostConfig, Mount, MountType, PortBinding};
use serde_json::Value;

use crate::config::Limits;
use crate::devcontainer::judging::policy::{self, Judgement};
use crate::devcontainer::{LOG, MAX_SERVICES, SOCKETS_TARGET, cpus};
use crate::docker::{Container, Docker, LABEL_PROJECT, LABELS_OF_HELPERS, Machine};
use crate::drone::{DroneName, Identity, LABEL_DRONE};
use crate::error::{Code, Error, Result};

/// Devices that give away nothing of the host.
const DEVICES: &[&str] = &["/dev/net/tun", "/dev/fuse"];

/// Checks that this is the drone's container.
pub fn is_the_drones(container: &Container, identity: &Identity) -> Result<()> {
    let found = Identity::from_labels(&container.labels());
    if found.as_ref().ok() == Some(identity) {
        return Ok(());
    }
    Err(Error::new(
        Code::DevcontainerFailed,
        format!(
            "the devcontainer CLI came back with a container that is not {}'s",
            identity.name
        ),
    )
    .hint("this is a fault of hatchery or of the CLI; nothing was started"))
}

/// Checks that the drone's volume is where its workspace is to be.
pub fn has_its_volume(container: &Container, name: &DroneName, target: &str) -> Result<()> {
    let there = container
        .volumes()
        .any(|(volume, at)| volume == name.as_str() && at == target);
    if there {
        return Ok(());
    }
    Err(Error::new(
        Code::DevcontainerFailed,
        format!("the volume {name} is not mounted at {target}"),
    )
    .hint("work in this drone would not outlive it; check workspaceMount in its devcontainer.json"))
}

/// Checks that the directory of the drone's socket, and no other, is mounted where it is to be.
pub fn has_its_socket(container: &Container, name: &DroneName, sockets: &Path) -> Result<()> {
    let mounts = container.host().and_then(|host| host.mounts.as_ref());
    let mut mounts = mounts.into_iter().flatten();
    if mounts.any(|mount| is_the_sockets(mount, sockets)) {
        return Ok(());
    }
    Err(Error::new(
        Code::DevcontainerFailed,
        format!(
            "{} is not mounted at {SOCKETS_TARGET} of {name}",
            sockets.display()
        ),
    )
    .hint("git in this drone would have no token; check what its devcontainer.json mounts there"))
}

fn is_the_sockets(mount: &Mount, sockets: &Path) -> bool {
    mount.typ == Some(MountType::BIND)
        && mount.source.as_deref().map(Path::new) == Some(sockets)
        && mount.target.as_deref() == Some(SOCKETS_TARGET)
        && mount.read_only == Some(true)
}

/// What a drone's containers are held against.
#[derive(Debug)]
pub struct Bounds<'a> {
    /// Whose they are.
    pub name: &'a DroneName,
    /// The part of a volume's name that makes it the drone's own, beside its name.
    pub id: &'a str,
    /// The one directory of the host that a drone has.
    pub sockets: Option<&'a Path>,
    /// What each may use.
    pub limits: &'a Limits,
    /// The loopback port that leads to the drone's sshd.
    pub ssh_port: Option<u16>,
    /// The drones' network.
    pub network: &'a str,
    /// What Docker can enforce here.
    pub machine: &'a Machine,
}

/// Refuses what would hand over the host or another drone. `all` are the containers of the drone:
/// itself, and in a compose project its siblings, which are held to the same.
pub async fn are_contained(docker: &Docker, all: &[Container], bounds: &Bounds<'_>) -> Result<()> {
    if all.len() > MAX_SERVICES {
        return Err(Error::new(
            Code::GateRefused,
            format!(
                "{} would have {} containers; a drone's project has at most {MAX_SERVICES}",
                bounds.name,
                all.len()
            ),
        )
        .hint("start fewer services in its compose file, or fewer copies of one"));
    }
    for container in all {
        if let Some(what) = beyond(container, all, bounds) {
            return Err(refused(container, bounds.name, &what));
        }
        for (network, _) in container.networks() {
            let own = network == bounds.network && !is_of_project(container, bounds.name)
                || matches!(network, "none")
                || docker.is_project_network(network, bounds.name).await?;
            if !own {
                let what = format!("a place in the network {network:?}");
                return Err(refused(container, bounds.name, &what));
            }
        }
        for (volume, _) in container.volumes() {
            if !docker.is_plain_volume(volume).await? {
                let what = format!("the volume {volume:?}, which is a part of the host");
                return Err(refused(container, bounds.name, &what));
            }
        }
    }
    Ok(())
}

fn refused(container: &Container, name: &DroneName, what: &str) -> Error {
    let which = match container.name() {
        own if own == name.as_str() => "the container".to_owned(),
        sibling => format!("the container {sibling}"),
    };
    Error::new(
        Code::GateRefused,
        format!("{which} that came of {name}'s configuration would have {what}"),
    )
    .hint(
        "take it out of devcontainer.json, its compose files, its features or its image; or, if \
         you trust the repository with this server, `--trust` for this once or devcontainer.trust \
         for good",
    )
}

fn is_of_project(container: &Container, name: &DroneName) -> bool {
    container.labels().get(LABEL_PROJECT).map(String::as_str) == Some(name.as_str())
}

/// What this container would have that it may not.
fn beyond(container: &Container, all: &[Container], bounds: &Bounds<'_>) -> Option<String> {
    let Some(host) = container.host() else {
        return Some("rights that Docker does not tell of".to_owned());
    };
    // Only the drone itself has its credentials.
    let is_drone = container.name() == bounds.name.as_str();
    let sockets = bounds.sockets.filter(|_| is_drone);
    let checks = [
        labels(&container.labels(), bounds.name),
        unknown(host),
        namespaces(host, all, bounds),
        capabilities(host),
        security(host),
        paths(host),
        devices(host),
        mounts(host, bounds.name, bounds.id, sockets),
        ports(host, bounds.ssh_port),
        links(container, host, all),
        runtime(host, bounds.machine),
        log(host),
        ulimits(host),
        sysctls(host),
        limits(host, bounds),
    ];
    checks.into_iter().flatten().next()
}

/// An image brings labels along, by which its container would be taken for another drone's, or for
/// one that a killed hatchery has left behind and the next removes.
fn labels(labels: &HashMap<String, String>, name: &DroneName) -> Option<String> {
    if let Some(key) = LABELS_OF_HELPERS
        .iter()
        .find(|key| labels.contains_key(**key))
    {
        return Some(format!("the label {key}, which is hatchery's own"));
    }
    [LABEL_DRONE, LABEL_PROJECT].into_iter().find_map(|key| {
        let claimed = labels.get(key)?;
        (!claimed.is_empty() && claimed != name.as_str())
            .then(|| format!("the label {key}={claimed:.80?}, which is another's"))
    })
}

/// Keys of the host's part of a container that are judged below.
const JUDGED: &[&str] = &[
    "Binds",
    "CapAdd",
    "CgroupnsMode",
    "Devices",
    "IpcMode",
    "Isolation",
    "Links",
    "LogConfig",
    "MaskedPaths",
    "Memory",
    "MemorySwap",
    "Mounts",
    "NanoCpus",
    "NetworkMode",
    "OomScoreAdj",
    "PidsLimit",
    "PortBindings",
    "ReadonlyPaths",
    "Runtime",
    "SecurityOpt",
    "Sysctls",
    "Ulimits",
    "VolumeDriver",
];

/// Keys that can do nothing beyond the container, whatever their value.
const HARMLESS: &[&str] = &[
    "CapDrop",
    "ConsoleSize",
    "ContainerIDFile",
    "Dns",
    "DnsOptions",
    "DnsSearch",
    "ExtraHosts",
    "GroupAdd",
    "Init",
    "MemoryReservation",
    "MemorySwappiness",
    "ReadonlyRootfs",
    "RestartPolicy",
    "ShmSize",
    "Tmpfs",
];

/// All other keys, those of later versions of Docker among them, must be without a value:
/// privileges, namespaces of others, control groups, the real-time scheduler, storage options.
fn unknown(host: &HostConfig) -> Option<String> {
    let Ok(Value::Object(keys)) = serde_json::to_value(host) else {
        return Some("rights that Docker does not tell of".to_owned());
    };
    keys.into_iter()
        .find(|(key, value)| {
            !JUDGED.contains(&key.as_str()) && !HARMLESS.contains(&key.as_str()) && !is_none(value)
        })
        .map(|(key, value)| match key.as_str() {
            "Privileged" => "all privileges (privileged)".to_owned(),
            _ => format!("{key} {:.80}", value.to_string()),
        })
}

fn is_none(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Bool(true) => false,
        Value::Number(number) => number.as_i64() == Some(0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}

fn namespaces(host: &HostConfig, all: &[Container], bounds: &Bounds<'_>) -> Option<String> {
    let ipc = host.ipc_mode.as_deref().unwrap_or_default();
    if !matches!(ipc, "" | "private" | "shareable" | "none") {
        return Some(format!("another's IPC namespace ({ipc})"));
    }
    let mode = host.network_mode.as_deref().unwrap_or_default();
    let own = match mode.strip_prefix("container:") {
        Some(other) => all.iter().any(|container| container.id() == other),
        // Which networks those are is asked of Docker.
        None => !matches!(mode, "" | "host" | "bridge" | "default"),
    };
    if !own {
        return Some(format!("another's network namespace ({mode})"));
    }
    let cgroup = host.cgroupns_mode.map(|mode| mode.to_string());
    // With the first version of control groups it is Docker's default.
    (cgroup.as_deref() == Some("host") && bounds.machine.cgroup != "1")
        .then(|| "a view of all the host's control groups".to_owned())
}

fn capabilities(host: &HostConfig) -> Option<String> {
    let mut added = host.cap_add.iter().flatten();
    let beyond = added.find(|capability| policy::capability(capability) != Judgement::Pass);
    beyond.map(|capability| format!("the capability {capability}"))
}

fn security(host: &HostConfig) -> Option<String> {
    let mut options = host.security_opt.iter().flatten();
    let odd = options.find(|option| {
        !matches!(
            option.replace(':', "=").as_str(),
            "no-new-privileges" | "no-new-privileges=true" | "no-new-privileges=false"
        )
    });
    odd.map(|option| format!("the security option {option:?}"))
}

/// What Docker has hidden and locked in `/proc` and `/sys` at least since 20.10.
const MASKED: &[&str] = &[
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
];
const LOCKED: &[&str] = &[
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

fn paths(host: &HostConfig) -> Option<String> {
    let lists = [(MASKED, &host.masked_paths), (LOCKED, &host.readonly_paths)];
    lists.into_iter().find_map(|(least, given)| {
        let given = given.as_deref().unwrap_or_default();
        let open = least
            .iter()
            .find(|path| !given.iter().any(|given| given == *path))?;
        Some(format!("{open} of the host open to it"))
    })
}

fn devices(host: &HostConfig) -> Option<String> {
    let mut devices = host.devices.iter().flatten();
    let odd = devices
        .find(|device| !DEVICES.contains(&device.path_on_host.as_deref().unwrap_or_default()));
    odd.map(|device| {
        format!(
            "the device {}",
            device.path_on_host.as_deref().unwrap_or("without a name")
        )
    })
}

fn mounts(host: &HostConfig, name: &DroneName, id: &str, sockets: Option<&Path>) -> Option<String> {
    if !matches!(host.volume_driver.as_deref(), None | Some("" | "local")) {
        return Some("volumes of a driver's own".to_owned());
    }
    for mount in host.mounts.iter().flatten() {
        let source = mount.source.as_deref().unwrap_or_default();
        let fine = match mount.typ {
            Some(MountType::TMPFS) => true,
            Some(MountType::VOLUME) => {
                let options = mount.volume_options.as_ref();
                let plain = options.is_none_or(|options| options.driver_config.is_none());
                plain && owns(name, id, source)
            }
            _ => sockets.is_some_and(|sockets| is_the_sockets(mount, sockets)),
        };
        if !fine {
            return Some(format!("{source:?} of the host mounted"));
        }
    }
    let mut binds = host.binds.iter().flatten();
    let odd = binds.find(|bind| {
        let source = bind.split(':').next().unwrap_or_default();
        source.starts_with(['/', '.', '~']) || !owns(name, id, source)
    });
    odd.map(|bind| format!("{bind:?} mounted"))
}

/// The one port is sshd's, on loopback.
fn ports(host: &HostConfig, ssh_port: Option<u16>) -> Option<String> {
    let own = |binding: &PortBinding| {
        let port = binding.host_port.as_deref().unwrap_or_default();
        binding.host_ip.as_deref() == Some("127.0.0.1")
            && ssh_port.is_some_and(|own| port == own.to_string())
    };
    for (port, bindings) in host.port_bindings.iter().flatten() {
        if let Some(odd) = bindings.iter().flatten().find(|binding| !own(binding)) {
            return Some(format!(
                "its port {port} published at {}:{} of this server",
                odd.host_ip
                    .as_deref()
                    .filter(|ip| !ip.is_empty())
                    .unwrap_or("0.0.0.0"),
                odd.host_port.as_deref().unwrap_or_default(),
            ));
        }
    }
    None
}

/// Links are to containers of the same project.
fn links(container: &Container, host: &HostConfig, all: &[Container]) -> Option<String> {
    let of_networks = container
        .networks()
        .flat_map(|(_, endpoint)| endpoint.links.iter().flatten());
    let mut links = host.links.iter().flatten().chain(of_networks);
    let odd = links.find(|link| {
        let to = link.split(':').next().unwrap_or_default();
        let to = to.trim_start_matches('/');
        !all.iter().any(|own| own.name() == to || own.id() == to)
    });
    if let Some(link) = odd {
        return Some(format!("a link to another container ({link})"));
    }
    let mut networks = container.networks();
    let odd = networks.find(|(_, endpoint)| {
        let options = endpoint.driver_opts.as_ref();
        options.is_some_and(|options| !options.is_empty())
    });
    odd.map(|(network, _)| format!("options of its own in the network {network}"))
}

fn runtime(host: &HostConfig, machine: &Machine) -> Option<String> {
    let runtime = host.runtime.as_deref().unwrap_or_default();
    let isolation = host.isolation.map(|isolation| isolation.to_string());
    if !matches!(runtime, "" | "runc") && runtime != machine.runtime {
        return Some(format!("the runtime {runtime:?}"));
    }
    let isolation = isolation.unwrap_or_default();
    if !matches!(isolation.as_str(), "" | "default") {
        return Some(format!("the isolation {isolation:?}"));
    }
    let score = host.oom_score_adj.unwrap_or_default();
    (score < 0).then(|| format!("precedence when memory is short (oom_score_adj {score})"))
}

fn log(host: &HostConfig) -> Option<String> {
    let (driver, options) = LOG;
    let log = host.log_config.as_ref();
    let given = log.and_then(|log| log.config.as_ref());
    let fine = log.and_then(|log| log.typ.as_deref()) == Some(driver)
        && given.is_some_and(|given| given.len() == options.len())
        && options.iter().all(|(key, value)| {
            given.and_then(|given| given.get(*key)).map(String::as_str) == Some(*value)
        });
    (!fine).then(|| "a log without bounds, or elsewhere".to_owned())
}

/// What a process may be limited to by itself. Beyond it lie the real-time scheduler (`rtprio`) and
/// priority over others (`nice`).
fn ulimits(host: &HostConfig) -> Option<String> {
    const MOST_FILES: i64 = 1024 * 1024;
    let mut ulimits = host.ulimits.iter().flatten();
    let odd = ulimits.find(|ulimit| {
        let most = ulimit.hard.unwrap_or(-1).max(ulimit.soft.unwrap_or(-1));
        let unlimited = ulimit.hard.unwrap_or(-1) < 0 || ulimit.soft.unwrap_or(-1) < 0;
        match ulimit.name.as_deref().unwrap_or_default() {
            "core" | "cpu" | "data" | "fsize" | "memlock" | "nproc" | "rss" | "rttime"
            | "stack" | "as" => false,
            "nofile" | "locks" | "sigpending" | "msgqueue" => unlimited || most > MOST_FILES,
            _ => most != 0,
        }
    });
    odd.map(|ulimit| {
        format!(
            "the ulimit {}={}",
            ulimit.name.as_deref().unwrap_or_default(),
            ulimit.hard.unwrap_or(-1)
        )
    })
}

/// Those of the network are the namespace's, which is the drone's own.
fn sysctls(host: &HostConfig) -> Option<String> {
    let mut sysctls = host.sysctls.iter().flatten();
    let odd = sysctls.find(|(name, _)| !name.starts_with("net."));
    odd.map(|(name, _)| format!("the sysctl {name}"))
}

/// Neither an image nor the tools between can have stripped them, or raised them.
fn limits(host: &HostConfig, bounds: &Bounds<'_>) -> Option<String> {
    let (limits, machine) = (bounds.limits, bounds.machine);
    let memory = i64::try_from(limits.memory.as_u64()).unwrap_or(i64::MAX);
    let within =
        |given: Option<i64>, most: i64| given.is_some_and(|given| (1..=most).contains(&given));
    let enforced = |limit| !machine.unlimited.contains(&limit);
    if enforced("memory") {
        if !within(host.memory, memory) {
            return Some("more memory than limits.memory".to_owned());
        }
        if machine.swap_limit && !within(host.memory_swap, memory) {
            return Some("swap beyond limits.memory".to_owned());
        }
    }
    if enforced("pids") && !within(host.pids_limit, limits.pids) {
        return Some("more processes than limits.pids".to_owned());
    }
    // The devcontainer CLI and compose round to billionths of a processor.
    #[allow(clippy::cast_possible_truncation)]
    let cpus = (cpus(limits) * 1e9).ceil() as i64;
    (enforced("cpus") && !within(host.nano_cpus, cpus))
        .then(|| "more processors than limits.cpus".to_owned())
}

/// Whether a volume of this name can be no other drone's. No drone's name has an underscore or a
/// dot: compose joins its project and the volume with the one, the gate with the other.
pub fn owns(name: &DroneName, id: &str, volume: &str) -> bool {
    let anonymous = volume.is_empty()
        || (volume.len() == 64 && volume.bytes().all(|byte| byte.is_ascii_hexdigit()));
    anonymous
        || volume == name.as_str()
        || volume.contains(id)
        || volume
            .strip_prefix(name.as_str())
            .is_some_and(|rest| rest.starts_with(['_', '.']))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const ID: &str = "0123456789abcdefghijklmnopqrstuv0123456789abcdefghij";

    /// A container as Docker shows one that hatchery had created.
    fn inspected() -> Value {
        serde_json::from_str(
            r#"{
            "Id": "aaaa", "Name": "/acme-site",
            "Config": {"Labels": {"hatchery.drone": "acme-site", "com.docker.compose.project": "acme-site"}},
            "NetworkSettings": {"Networks": {"acme-site_default": {}}},
            "HostConfig": {
                "AutoRemove": false, "Binds": ["acme-site_v:/v:rw"], "BlkioWeight": 0, "CapAdd": ["NET_ADMIN"],
                "CapDrop": null, "CgroupParent": "", "CgroupnsMode": "private", "ConsoleSize": [0, 0],
                "CpuRealtimePeriod": 0, "DeviceCgroupRules": null, "Devices": [{"PathOnHost": "/dev/net/tun"}],
                "IpcMode": "private", "Isolation": "",
                "LogConfig": {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}},
                "MaskedPaths": ["/proc/asound", "/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
                    "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware"],
                "Memory": 1073741824, "MemorySwap": 1073741824, "MemorySwappiness": null,
                "Mounts": [
                    {"Type": "volume", "Source": "acme-site", "Target": "/workspaces"},
                    {"Type": "bind", "Source": "/run/hatchery/acme-site", "Target": "/run/hatchery", "ReadOnly": true}
                ],
                "NanoCpus": 500000000, "NetworkMode": "acme-site_default", "OomKillDisable": false, "OomScoreAdj": 0,
                "PidMode": "", "PidsLimit": 99, "PortBindings": {"2222/tcp": [{"HostIp": "127.0.0.1", "HostPort": "4022"}]},
                "Privileged": false, "PublishAllPorts": false,
                "ReadonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
                "RestartPolicy": {"Name": "unless-stopped"}, "Runtime": "runc", "SecurityOpt": ["no-new-privileges=false"],
                "ShmSize": 67108864, "UTSMode": "", "Ulimits": null, "UsernsMode": "", "VolumeDriver": "", "VolumesFrom": null
            }}"#,
        )
        .unwrap()
    }

    fn judged(inspected: Value, machine: &Machine) -> Option<String> {
        let read = |value| {
            Container::from(
                serde_json::from_value::<bollard::models::ContainerInspectResponse>(value).unwrap(),
            )
        };
        let sibling = read(json!({"Id": "bbbb", "Name": "/acme-site_db_1"}));
        let all = [read(inspected), sibling];
        let limits = Limits {
            memory: bytesize::ByteSize::gib(1),
            cpus: 0.5,
            pids: 99,
            ..Limits::default()
        };
        let bounds = Bounds {
            name: &DroneName::of(&"acme/site".parse().unwrap()),
            id: ID,
            sockets: Some(Path::new("/run/hatchery/acme-site")),
            limits: &limits,
            ssh_port: Some(4022),
            network: "hatchery",
            machine,
        };
        beyond(&all[0], &all, &bounds)
    }

    fn machine() -> Machine {
        Machine {
            cgroup: "2".into(),
            runtime: "crun".into(),
            swap_limit: true,
            ..Machine::default()
        }
    }

    fn with(key: &str, value: Value) -> Value {
        let mut inspected = inspected();
        inspected["HostConfig"][key] = value;
        inspected
    }

    #[test]
    fn what_hatchery_asks_for_passes() {
        assert_eq!(judged(inspected(), &machine()), None);
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
        ] {
            assert_eq!(
                judged(with(key, value.clone()), &machine()),
                None,
                "{key} {value}"
            );
        }
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
                json!([{"Type": "volume", "Source": "acme-site", "Target": "/x", "VolumeOptions": {"DriverConfig": {"Name": "local"}}}]),
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
            ("SecurityOpt", json!(["seccomp=unconfined"]), "seccomp"),
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
            ("LogConfig", json!({"Type": "syslog", "Config": {}}), "log"),
            (
                "LogConfig",
                json!({"Type": "json-file", "Config": {}}),
                "log",
            ),
            (
                "LogConfig",
                json!({"Type": "json-file", "Config": {"max-size": "10g", "max-file": "3"}}),
                "log",
            ),
            (
                "LogConfig",
                json!({"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3", "tag": "x"}}),
                "log",
            ),
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
            ("MaskedPaths", json!([]), "/proc/acpi"),
            ("MaskedPaths", Value::Null, "/proc/acpi"),
            ("MaskedPaths", json!(["/proc/acpi"]), "/proc/kcore"),
            ("ReadonlyPaths", json!([]), "/proc/bus"),
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
            ("Memory", json!(0), "limits.memory"),
            ("Memory", json!(1_073_741_825), "limits.memory"),
            ("MemorySwap", json!(-1), "swap"),
            ("MemorySwap", json!(0), "swap"),
            ("PidsLimit", Value::Null, "limits.pids"),
            ("PidsLimit", json!(-1), "limits.pids"),
            ("NanoCpus", json!(0), "limits.cpus"),
            ("NanoCpus", json!(4_000_000_000_i64), "limits.cpus"),
        ] {
            let found = judged(with(key, value.clone()), &machine()).unwrap_or_default();
            assert!(found.contains(named), "{key} {value}: {found:?}");
        }
    }

    #[test]
    fn a_label_of_another_drone_a_foreign_link_and_a_siblings_socket_are_found() {
        for label in ["hatchery.drone", "com.docker.compose.project"] {
            let mut inspected = inspected();
            inspected["Config"]["Labels"][label] = json!("acme-other");
            assert!(judged(inspected, &machine()).unwrap().contains("another's"));
        }
        for label in LABELS_OF_HELPERS {
            let mut inspected = inspected();
            inspected["Config"]["Labels"][label] = json!("1");
            assert!(judged(inspected, &machine()).unwrap().contains(label));
        }
        let mut linked = inspected();
        linked["NetworkSettings"]["Networks"]["acme-site_default"] =
            json!({"Links": ["acme-other:x"]});
        assert!(judged(linked, &machine()).unwrap().contains("acme-other"));
        let mut sibling = inspected();
        sibling["Name"] = json!("/acme-site_web_1");
        assert!(
            judged(sibling, &machine())
                .unwrap()
                .contains("/run/hatchery")
        );
    }

    #[test]
    fn a_limit_that_this_docker_cannot_enforce_is_not_missed() {
        let lax = Machine {
            unlimited: vec!["memory", "cpus", "pids"],
            ..machine()
        };
        let mut inspected = inspected();
        for key in ["Memory", "MemorySwap", "NanoCpus", "PidsLimit"] {
            inspected["HostConfig"][key] = Value::Null;
        }
        assert_eq!(judged(inspected, &lax), None);
        let no_swap = Machine {
            swap_limit: false,
            ..machine()
        };
        assert_eq!(judged(with("MemorySwap", json!(-1)), &no_swap), None);
        let old = Machine {
            cgroup: "1".into(),
            ..machine()
        };
        assert_eq!(judged(with("CgroupnsMode", json!("host")), &old), None);
    }
}
