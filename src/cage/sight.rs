//! Hides the services' sockets from the caged process.
//!
//! The process gets a mount namespace of its own (`mount_namespaces(7)`), in which `/run` holds only what the
//! rules let it read. A user who is not root needs a user namespace for this (`user_namespaces(7)`), in which
//! they keep their user and group. Once Landlock restricts the process, it cannot change mounts any more
//! (`landlock(7)`).

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{getegid, geteuid};
use rustix::fs::{CWD, Mode, OFlags, openat};

use super::Rules;

/// Where services have their sockets (hier(7)).
const SERVICES: &str = "/run";

/// Hides the services' sockets from this process permanently. On an error `/run` stays as it was, but new
/// namespaces may remain.
pub(super) fn narrow(rules: &Rules) -> io::Result<()> {
    enter_namespaces()?;
    // What is mounted here is seen nowhere else.
    let apart = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(NOTHING, "/", NOTHING, apart, NOTHING)?;
    let services = Path::new(SERVICES);
    for socket in hidden(rules, services) {
        bind(Path::new("/dev/null"), &socket)?;
    }
    // Mounts of the namespace before cannot be bound, so they are opened in this one.
    let (kept, links) = (kept(rules, services)?, links(services)?);
    let plain = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let form = Some("mode=755,size=1m");
    mount(Some("tmpfs"), services, Some("tmpfs"), plain, form)?;
    let filled = fill(kept, links);
    if filled.is_err() {
        umount2(services, MntFlags::MNT_DETACH)?;
    }
    filled
}

/// Puts the links and paths that stay visible back in their places.
fn fill(kept: Vec<(PathBuf, OwnedFd)>, links: Vec<(PathBuf, PathBuf)>) -> io::Result<()> {
    for (path, to) in links {
        symlink(to, path)?;
    }
    for (path, opened) in kept {
        let from = PathBuf::from(format!("/proc/self/fd/{}", opened.as_raw_fd()));
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        if fs::metadata(&from)?.is_dir() {
            fs::create_dir_all(&path)?;
        } else {
            fs::File::create(&path)?;
        }
        bind(&from, &path)?;
    }
    Ok(())
}

const NOTHING: Option<&str> = None;

fn bind(from: &Path, to: &Path) -> io::Result<()> {
    let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
    Ok(mount(Some(from), to, NOTHING, flags, NOTHING)?)
}

/// Enters a mount namespace. Only root may do this alone; others also enter a user namespace, in which they
/// have the same user and group.
fn enter_namespaces() -> io::Result<()> {
    let (user, group) = (geteuid(), getegid());
    if user.is_root() {
        return Ok(unshare(CloneFlags::CLONE_NEWNS)?);
    }
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS)?;
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("{user} {user} 1"))?;
    fs::write("/proc/self/gid_map", format!("{group} {group} 1"))
}

/// The readable paths below the services' directory, opened before that is covered.
fn kept(rules: &Rules, services: &Path) -> io::Result<Vec<(PathBuf, OwnedFd)>> {
    let real = rules.readable().filter_map(|path| path.canonicalize().ok());
    let mut paths: Vec<PathBuf> = real.filter(|path| path.starts_with(services)).collect();
    paths.sort();
    let mut kept: Vec<(PathBuf, OwnedFd)> = Vec::new();
    for path in paths {
        // With a directory comes all that is in it.
        if kept
            .last()
            .is_some_and(|(above, _)| path.starts_with(above))
        {
            continue;
        }
        let opened = openat(CWD, &path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        kept.push((path, opened));
    }
    Ok(kept)
}

/// The sockets to hide that are not in the services' directory.
fn hidden(rules: &Rules, services: &Path) -> Vec<PathBuf> {
    let real = rules
        .hidden
        .iter()
        .filter_map(|path| path.canonicalize().ok());
    real.filter(|path| !path.starts_with(services)).collect()
}

/// Links in the services' directory, by which a system's programs are found (`/run/current-system`).
fn links(services: &Path) -> io::Result<Vec<(PathBuf, PathBuf)>> {
    let mut links = Vec::new();
    for entry in fs::read_dir(services)? {
        let path = entry?.path();
        if let Ok(to) = fs::read_link(&path) {
            links.push((path, to));
        }
    }
    Ok(links)
}
