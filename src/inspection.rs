//! Looking at a created container before anything in it runs.
//!
//! Whatever a repository, its features, its images and the devcontainer CLI came to between them:
//! what counts is what Docker is about to do. What a drone may have is listed; the rest is refused.

use std::path::Path;

use bollard::models::{HostConfig, Mount, MountType};

use crate::devcontainer::SOCKETS_TARGET;
use crate::devcontainer::policy::{self, Judgement};
use crate::docker::Container;
use crate::drone::{DroneName, Identity};
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

/// Refuses what would hand over the host. `id` is the part of a volume's name that makes it the
/// drone's own, beside its name; `sockets` the one directory of the host that a drone has.
pub fn is_contained(
    container: &Container,
    name: &DroneName,
    id: &str,
    sockets: Option<&Path>,
) -> Result<()> {
    let Some(host) = container.host() else {
        return Err(refused(name, "Docker does not say what it may do"));
    };
    let checks = [
        privileged(host),
        namespaces(host),
        capabilities(host),
        security(host),
        devices(host),
        mounts(host, name, id, sockets),
    ];
    match checks.into_iter().flatten().next() {
        Some(what) => Err(refused(name, &what)),
        None => Ok(()),
    }
}

fn refused(name: &DroneName, what: &str) -> Error {
    Error::new(
        Code::GateRefused,
        format!("the container that came of {name}'s configuration would have {what}"),
    )
    .hint(
        "take it out of devcontainer.json, its features or its image; or, if you trust the \
         repository with this server, `--trust` for this once or devcontainer.trust for good",
    )
}

fn privileged(host: &HostConfig) -> Option<String> {
    (host.privileged == Some(true)).then(|| "all privileges (privileged)".to_owned())
}

fn namespaces(host: &HostConfig) -> Option<String> {
    let modes = [
        ("process", &host.pid_mode),
        ("IPC", &host.ipc_mode),
        ("UTS", &host.uts_mode),
        ("user", &host.userns_mode),
        ("network", &host.network_mode),
    ];
    for (kind, mode) in modes {
        let mode = mode.as_deref().unwrap_or_default();
        // Compose joins siblings by "container:ID"; the sibling itself was checked as text.
        let joined = mode.starts_with("container:") && kind != "network";
        if mode == "host" || joined {
            return Some(format!("another's {kind} namespace ({mode})"));
        }
    }
    let cgroup = host.cgroupns_mode.map(|mode| mode.to_string());
    (cgroup.as_deref() == Some("host") && host.cgroup_parent.as_deref().unwrap_or_default() != "")
        .then(|| "a place of its choice among the host's control groups".to_owned())
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

fn devices(host: &HostConfig) -> Option<String> {
    if host
        .device_requests
        .as_ref()
        .is_some_and(|requests| !requests.is_empty())
        || host
            .device_cgroup_rules
            .as_ref()
            .is_some_and(|rules| !rules.is_empty())
    {
        return Some("devices of the host".to_owned());
    }
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
