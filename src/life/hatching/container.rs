//! The container that the devcontainer CLI has created: whether it is what was wanted.

use std::path::Path;

use crate::devcontainer::{HomeMount, SOCKETS_TARGET};
use crate::docker::Container;
use crate::door::judge::is_the_sockets;
use crate::drone::{DroneName, Identity};
use crate::error::{Code, Error, Result};

/// Checks that this is the drone's container.
pub(super) fn is_the_drones(container: &Container, identity: &Identity) -> Result<()> {
    let found = Identity::from_labels(&container.labels());
    if found.as_ref().ok() == Some(identity) {
        return Ok(());
    }
    Err(Error::new(
        Code::DevcontainerFailed,
        format!(
            "the devcontainer CLI returned a container that does not belong to {}",
            identity.name
        ),
    )
    .hint("this is a bug in hatchery or in the CLI; nothing was started"))
}

/// Checks that the drone's volume is where its workspace is to be.
pub(super) fn has_its_volume(container: &Container, name: &DroneName, target: &str) -> Result<()> {
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
    .hint(
        "work in this drone would be lost with its container; check workspaceMount in its \
         devcontainer.json",
    ))
}

/// Checks that the volumes in the user's home are where they are to be.
pub(super) fn has_its_home(
    container: &Container,
    name: &DroneName,
    home: &[HomeMount],
) -> Result<()> {
    let lacks = home.iter().find(|mount| {
        !container
            .volumes()
            .any(|(volume, at)| volume == mount.volume && at == mount.target)
    });
    let Some(lacks) = lacks else {
        return Ok(());
    };
    Err(Error::new(
        Code::DevcontainerFailed,
        format!(
            "the volume {} is not mounted at {} of {name}",
            lacks.volume, lacks.target
        ),
    )
    .hint(
        "devcontainer.home or devcontainer.mounts names it; check what its devcontainer.json or image mounts \
         there",
    ))
}

/// Checks that the directory of the drone's socket, and no other, is mounted where it is to be.
pub(super) fn has_its_socket(
    container: &Container,
    name: &DroneName,
    sockets: &Path,
) -> Result<()> {
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
