//! What a container would have of the host.

use std::collections::BTreeSet;
use std::path::Path;

use bollard::models::{
    HostConfig, HostConfigLogConfig, Mount, MountType, MountVolumeOptions, PortBinding,
    ResourcesUlimits,
};

use super::{Bounds, is_nameless, network};
use crate::config::Runtime;
use crate::devcontainer::judging::policy::{self, Judgement};
use crate::devcontainer::{LOG, SOCKETS_TARGET};
use crate::docker::billionths;
use crate::door::own::Own;
use crate::door::stop::{Judged, Stop};

/// Devices that give away nothing of the host.
const DEVICES: &[&str] = &["/dev/net/tun", "/dev/fuse"];

/// How readily the kernel ends a drone's processes when the whole server is out of memory (`oom_score_adj`,
/// proc(5)): before sshd, dockerd and everything that has the default, 0.
const OOM_SCORE: i64 = 300;

/// Keys that are judged or set below.
pub const JUDGED: &[&str] = &[
    "Binds",
    "CapAdd",
    "CgroupnsMode",
    "Devices",
    "IpcMode",
    "Isolation",
    "Links",
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
    "ShmSize",
    "Sysctls",
    "Ulimits",
    "VolumeDriver",
];

/// Keys that can do nothing beyond the container, whatever their value.
pub const HARMLESS: &[&str] = &[
    "CapDrop",
    "Dns",
    "DnsOptions",
    "DnsSearch",
    "ExtraHosts",
    "GroupAdd",
    "Init",
    "MemoryReservation",
    "ReadonlyRootfs",
    "RestartPolicy",
    "Tmpfs",
];

/// Keys that are left out: the client's own, what is set in any case, and -1 for nothing said.
pub const DROPPED: &[&str] = &[
    "ConsoleSize",
    "ContainerIDFile",
    "LogConfig",
    "MemorySwappiness",
];

/// Judges what a container is to have of the host, and sets its limits. `is_drone` is whether it is the drone
/// itself, which alone may mount the directory of sockets.
pub fn host(asked: HostConfig, is_drone: bool, own: &Own, bounds: &Bounds) -> Judged<HostConfig> {
    let sockets = bounds.sockets.as_deref().filter(|_| is_drone);
    let checks = [
        namespaces(&asked, own, bounds),
        capabilities(&asked),
        security(&asked),
        paths(&asked),
        devices(&asked),
        mounts(&asked, bounds, sockets),
        ports(&asked, bounds.ssh_port),
        network::foreign_link(asked.links.as_deref().unwrap_or_default(), own),
        runtime(&asked, bounds),
        ulimits(asked.ulimits.as_deref().unwrap_or_default()),
        sysctls(&asked),
    ];
    if let Some(what) = checks.into_iter().flatten().next() {
        return Err(Stop::Refused(what));
    }
    Ok(limited(rebuilt(asked, own, bounds), bounds))
}

/// Paths in `/proc` and `/sys` that Docker hides by default, at least since 20.10.
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
/// Paths in `/proc` and `/sys` that Docker makes read-only by default, at least since 20.10.
const LOCKED: &[&str] = &[
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// Turns what Docker shows of a container into what a client would have asked for: Docker's default paths
/// become none.
pub fn as_asked(mut shown: HostConfig) -> HostConfig {
    let whole = |given: &Option<Vec<String>>, least: &[&str]| {
        let given = given.as_deref().unwrap_or_default();
        least
            .iter()
            .all(|path| given.iter().any(|given| given == path))
    };
    if whole(&shown.masked_paths, MASKED) && whole(&shown.readonly_paths, LOCKED) {
        (shown.masked_paths, shown.readonly_paths) = (None, None);
    } else {
        // None at all, which is what a privileged one has, is a choice.
        shown.masked_paths = Some(shown.masked_paths.unwrap_or_default());
    }
    shown
}

/// Names of the volumes that a judged container is to have.
pub fn volumes(host: &HostConfig) -> BTreeSet<String> {
    let mounts = host.mounts.iter().flatten();
    let mounted = mounts
        .filter(|mount| mount.typ == Some(MountType::VOLUME))
        .filter_map(|mount| mount.source.as_deref());
    let binds = host.binds.iter().flatten();
    let bound = binds.filter_map(|bind| bind.split_once(':').map(|(source, _)| source));
    let named = mounted.chain(bound).filter(|name| !name.is_empty());
    named.map(str::to_owned).collect()
}

/// Removes what is asked for and not given, and the fields of mounts that are not judged.
fn rebuilt(mut host: HostConfig, own: &Own, bounds: &Bounds) -> HostConfig {
    if let Some(runtime) = bounds.runtime {
        host.runtime = Some(runtime.as_str().to_owned());
    }
    let shared = host.network_mode.as_deref().unwrap_or_default();
    if let Some(id) = shared
        .strip_prefix("container:")
        .and_then(|it| own.container(it))
    {
        host.network_mode = Some(format!("container:{id}"));
    }
    // To Docker, a port without an address is at all of them.
    if let Some(ports) = &mut host.port_bindings {
        ports.retain(|_, bindings| bindings.as_ref().is_some_and(|list| !list.is_empty()));
    }
    if let Some(options) = &mut host.security_opt {
        options.retain(|option| policy::security_opt(option) == Judgement::Pass);
    }
    for mount in host.mounts.iter_mut().flatten() {
        mount.bind_options = None;
        mount.image_options = None;
        // Labels would be the new volume's.
        mount.volume_options = mount
            .volume_options
            .take()
            .map(|options| MountVolumeOptions {
                labels: None,
                driver_config: None,
                ..options
            });
    }
    host
}

/// Sets the limits of a drone, as far as this Docker can enforce them.
fn limited(mut host: HostConfig, bounds: &Bounds) -> HostConfig {
    let (limits, machine) = (&bounds.limits, &bounds.machine);
    let enforced = |limit| !machine.unlimited.contains(&limit);
    let within = |given: Option<i64>, most: i64| {
        given
            .filter(|given| (1..=most).contains(given))
            .or(Some(most))
    };
    let memory = i64::try_from(limits.memory.as_u64()).unwrap_or(i64::MAX);
    if enforced("memory") {
        host.memory = within(host.memory, memory);
        // Memory with swap: no more than the memory.
        host.memory_swap = host.memory.filter(|_| machine.swap_limit);
    }
    if enforced("pids") {
        host.pids_limit = within(host.pids_limit, limits.pids);
    }
    if enforced("cpus") {
        host.nano_cpus = within(host.nano_cpus, billionths(limits.processors()));
    }
    host.shm_size = host.shm_size.map(|size| size.min(memory));
    host.oom_score_adj = host.oom_score_adj.max(Some(OOM_SCORE));
    let (driver, options) = LOG;
    let options = options.map(|(key, value)| (key.to_owned(), value.to_owned()));
    host.log_config = Some(HostConfigLogConfig {
        typ: Some(driver.to_owned()),
        config: Some(options.into()),
    });
    host
}

fn namespaces(host: &HostConfig, own: &Own, bounds: &Bounds) -> Option<String> {
    let ipc = host.ipc_mode.as_deref().unwrap_or_default();
    if !matches!(ipc, "" | "private" | "shareable" | "none") {
        return Some(format!("another's IPC namespace ({ipc:.80})"));
    }
    let mode = host.network_mode.as_deref().unwrap_or_default();
    let is_own = match mode.strip_prefix("container:") {
        Some(other) => own.container(other).is_some(),
        // Which networks those are is asked of Docker.
        None => !matches!(mode, "" | "host" | "bridge" | "default"),
    };
    if !is_own {
        return Some(format!("another's network namespace ({mode:.80})"));
    }
    let cgroup = host.cgroupns_mode.map(|mode| mode.to_string());
    // With the first version of control groups it is Docker's default.
    (cgroup.as_deref() == Some("host") && bounds.machine.cgroup != "1")
        .then(|| "a view of all the host's control groups".to_owned())
}

fn capabilities(host: &HostConfig) -> Option<String> {
    let mut added = host.cap_add.iter().flatten();
    let beyond = added.find(|capability| policy::capability(capability) != Judgement::Pass);
    beyond.map(|capability| format!("the capability {capability:.40}"))
}

fn security(host: &HostConfig) -> Option<String> {
    let mut options = host.security_opt.iter().flatten();
    let odd = options.find(|option| matches!(policy::security_opt(option), Judgement::Refuse(_)));
    odd.map(|option| format!("the security option {option:.80?}"))
}

/// Refuses any choice of hidden or read-only paths: without one, Docker sets its own.
fn paths(host: &HostConfig) -> Option<String> {
    let lists = [
        ("MaskedPaths", &host.masked_paths),
        ("ReadonlyPaths", &host.readonly_paths),
    ];
    let said = lists.into_iter().find(|(_, given)| given.is_some());
    said.map(|(key, _)| format!("a choice of its own in /proc and /sys ({key})"))
}

fn devices(host: &HostConfig) -> Option<String> {
    let mut devices = host.devices.iter().flatten();
    let path = |path: Option<&str>| path.unwrap_or("without a name").to_owned();
    let odd = devices
        .find(|device| !DEVICES.contains(&device.path_on_host.as_deref().unwrap_or_default()));
    odd.map(|device| format!("the device {:.80}", path(device.path_on_host.as_deref())))
}

fn mounts(host: &HostConfig, bounds: &Bounds, sockets: Option<&Path>) -> Option<String> {
    // Whose a nameless one is, is asked of Docker.
    let is_own = |volume: &str| bounds.has(volume) || is_nameless(volume);
    if !matches!(host.volume_driver.as_deref(), None | Some("" | "local")) {
        return Some("volumes of a driver's own".to_owned());
    }
    for mount in host.mounts.iter().flatten() {
        let source = mount.source.as_deref().unwrap_or_default();
        let fine = match mount.typ {
            Some(MountType::TMPFS) => true,
            Some(MountType::VOLUME) => {
                let options = mount.volume_options.as_ref();
                let driver = options.and_then(|options| options.driver_config.as_ref());
                let named = driver.and_then(|driver| driver.name.as_deref());
                let plain = driver.is_none_or(|driver| {
                    matches!(named, None | Some("" | "local"))
                        && driver
                            .options
                            .as_ref()
                            .is_none_or(std::collections::HashMap::is_empty)
                });
                plain && is_own(source)
            }
            _ => sockets.is_some_and(|sockets| is_the_sockets(mount, sockets)),
        };
        if !fine {
            return Some(format!("{source:.200?} of the host mounted"));
        }
    }
    let mut binds = host.binds.iter().flatten();
    let odd = binds.find(|bind| {
        let source = bind.split(':').next().unwrap_or_default();
        source.starts_with(['/', '.', '~']) || !is_own(source)
    });
    odd.map(|bind| format!("{bind:.200?} mounted"))
}

/// Whether a mount is the drone's directory of sockets, at its place and read-only.
pub fn is_the_sockets(mount: &Mount, sockets: &Path) -> bool {
    mount.typ == Some(MountType::BIND)
        && mount.source.as_deref().map(Path::new) == Some(sockets)
        && mount.target.as_deref() == Some(SOCKETS_TARGET)
        && mount.read_only == Some(true)
}

/// Refuses to publish any port but sshd's, on loopback. A sibling has that port if the drone is in its network.
fn ports(host: &HostConfig, ssh_port: Option<u16>) -> Option<String> {
    let own = |binding: &PortBinding| {
        let port = binding.host_port.as_deref().unwrap_or_default();
        binding.host_ip.as_deref() == Some("127.0.0.1")
            && ssh_port.is_some_and(|own| port == own.to_string())
    };
    for (port, bindings) in host.port_bindings.iter().flatten() {
        if let Some(odd) = bindings.iter().flatten().find(|binding| !own(binding)) {
            return Some(format!(
                "its port {port:.40} published at {:.40}:{:.40} of this server",
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

fn runtime(host: &HostConfig, bounds: &Bounds) -> Option<String> {
    let runtime = host.runtime.as_deref().unwrap_or_default();
    let isolation = host.isolation.map(|isolation| isolation.to_string());
    let own = bounds.runtime.map(Runtime::as_str);
    if !matches!(runtime, "" | "runc") && runtime != bounds.machine.runtime && own != Some(runtime)
    {
        return Some(format!("the runtime {runtime:.80?}"));
    }
    let isolation = isolation.unwrap_or_default();
    if !matches!(isolation.as_str(), "" | "default") {
        return Some(format!("the isolation {isolation:?}"));
    }
    let score = host.oom_score_adj.unwrap_or_default();
    (score < 0).then(|| format!("precedence when memory is short (oom_score_adj {score})"))
}

/// The first limit that is refused: of the real-time scheduler (`rtprio`), of priority over others (`nice`), or
/// any other that is too high or not known to concern only the process itself.
pub fn ulimits(asked: &[ResourcesUlimits]) -> Option<String> {
    const MOST_FILES: i64 = 1024 * 1024;
    let odd = asked.iter().find(|ulimit| {
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
            "the ulimit {:.40}={}",
            ulimit.name.as_deref().unwrap_or_default(),
            ulimit.hard.unwrap_or(-1)
        )
    })
}

/// Refuses all settings but those of the network, which belong to the drone's own namespace.
fn sysctls(host: &HostConfig) -> Option<String> {
    let mut sysctls = host.sysctls.iter().flatten();
    let odd = sysctls.find(|(name, _)| !name.starts_with("net."));
    odd.map(|(name, _)| format!("the sysctl {name:.80}"))
}
