//! Where hatchery keeps things on the host, the locks that keep two of it apart, and what the host's
//! kernel tells of containers and routes.

pub mod activity;
pub mod cgroup;
pub mod kernel_log;
mod record;
pub mod routes;
mod size;
pub mod transcript;

pub use record::recalled;
pub use size::{Size, room_of};
pub use transcript::Transcript;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

use crate::drone::DroneName;
use crate::error::{Code, Error, Result, host_io};
use crate::failpoint::{self, Point};

/// What is gone after a reboot, on a server of root's and the group hatchery's.
const RUNTIME: &str = "/run/hatchery";

/// The locks' directory in there. A dot cannot begin a drone's name.
const LOCKS: &str = ".locks";

/// What drones do, in there.
const ACTIVITY: &str = ".activity";

/// The host's directories. Nothing in them is state: Docker's labels are.
#[derive(Debug, Clone)]
pub struct Places {
    runtime: PathBuf,
    cache: PathBuf,
    state: PathBuf,
}

impl Places {
    /// `/run/hatchery`, `/var/cache/hatchery` and `/var/lib/hatchery` for root and the group
    /// hatchery; where there are none yet, a person's own (XDG base directory specification), who
    /// then needs no more than Docker.
    pub fn of_this_user() -> Result<Self> {
        let system = Self {
            runtime: RUNTIME.into(),
            cache: "/var/cache/hatchery".into(),
            state: "/var/lib/hatchery".into(),
        };
        if rustix::process::geteuid().is_root() || writable(&system.runtime) {
            return Ok(system);
        }
        if is_a_groups(&system.runtime) {
            return Err(Error::new(
                Code::NotAllowed,
                "only root and members of the group hatchery may manage this server's drones",
            )
            .hint("`sudo usermod -aG hatchery $USER`, then log in again; or use sudo"));
        }
        let directory = |variable: &str, fallback: Option<PathBuf>| {
            std::env::var_os(variable)
                .map(PathBuf::from)
                .filter(|path| path.is_absolute())
                .or(fallback)
                .map(|path| path.join("hatchery"))
                .ok_or_else(|| {
                    Error::new(
                        Code::HostFailed,
                        format!("neither {RUNTIME} nor ${variable} can be used"),
                    )
                    .hint("run as root, as a member of the group hatchery, or in a login session")
                })
        };
        let below_home = |path: &str| home().map(|home| home.join(path));
        let cache = directory("XDG_CACHE_HOME", below_home(".cache"))?;
        Ok(Self {
            // Outside a login session there is none.
            runtime: directory("XDG_RUNTIME_DIR", Some(cache.join("run")))?,
            cache,
            state: directory("XDG_STATE_HOME", below_home(".local/state"))?,
        })
    }

    /// Whether these are the server's own, not a person's.
    pub fn are_the_systems(&self) -> bool {
        self.runtime == Path::new(RUNTIME)
    }

    /// Where this server's ssh secret is kept.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// Where the scopes lie for systemd; a copy of the labels, which alone count.
    pub fn scopes(&self) -> PathBuf {
        self.state.join("drones")
    }

    /// The scope of this drone's tokens, for systemd.
    pub fn scope_file(&self, drone: &DroneName) -> PathBuf {
        self.scopes().join(format!("{drone}.json"))
    }

    /// What is remembered of the drone's node in the tailnet.
    pub fn node_file(&self, drone: &DroneName) -> PathBuf {
        self.scopes().join(format!("{drone}.node"))
    }

    /// What is remembered of the drone's last start.
    pub fn start_file(&self, drone: &DroneName) -> PathBuf {
        self.scopes().join(format!("{drone}.start"))
    }

    /// What is remembered of how the drone's container was made.
    pub fn recipe_file(&self, drone: &DroneName) -> PathBuf {
        self.scopes().join(format!("{drone}.recipe"))
    }

    /// The limits that a person has given the drone.
    pub fn limits_file(&self, drone: &DroneName) -> PathBuf {
        self.scopes().join(format!("{drone}.limits"))
    }

    /// Forgets those: the configuration's count.
    pub fn forget_limits(&self, drone: &DroneName) -> Result<()> {
        remove_file(&self.limits_file(drone))
    }

    /// Since when the drone is burrowed for having been idle.
    pub fn idle_file(&self, drone: &DroneName) -> PathBuf {
        self.scopes().join(format!("{drone}.idle"))
    }

    /// Forgets that, once a person has woken it.
    pub fn forget_idle(&self, drone: &DroneName) -> Result<()> {
        remove_file(&self.idle_file(drone))
    }

    /// What is remembered of processes of the drone that were killed for memory.
    pub fn memory_file(&self, drone: &DroneName) -> PathBuf {
        self.scopes().join(format!("{drone}.memory"))
    }

    /// Forgets those, once a person was told.
    pub fn forget_memory(&self, drone: &DroneName) -> Result<()> {
        remove_file(&self.memory_file(drone))
    }

    /// What is remembered of what the drone took on Docker's disk.
    pub fn disk_file(&self, drone: &DroneName) -> PathBuf {
        self.scopes().join(format!("{drone}.disk"))
    }

    /// Forgets that.
    pub fn forget_disk(&self, drone: &DroneName) -> Result<()> {
        remove_file(&self.disk_file(drone))
    }

    /// What is remembered of work that the drone holds.
    pub fn work_file(&self, drone: &DroneName) -> PathBuf {
        self.scopes().join(format!("{drone}.work"))
    }

    /// Where work is kept that was in drones slain by force.
    pub fn remains(&self) -> PathBuf {
        self.state.join("remains")
    }

    /// Makes that directory, for the group hatchery alone.
    pub fn make_remains(&self) -> Result<PathBuf> {
        let path = self.remains();
        create_private(&self.state, 0o2770)?;
        create_private(&path, 0o2770)?;
        Ok(path)
    }

    /// What is remembered of a burrow that the drone's owner did not ask for.
    pub fn bounds_file(&self, drone: &DroneName) -> PathBuf {
        self.scopes().join(format!("{drone}.bounds"))
    }

    /// Forgets that, once it no longer counts.
    pub fn forget_bounds(&self, drone: &DroneName) -> Result<()> {
        remove_file(&self.bounds_file(drone))
    }

    /// Makes a directory in which the whole group hatchery works.
    pub fn shared_directory(&self, path: &Path) -> Result<()> {
        create_private(&self.runtime, 0o755)?;
        create_private(path, 0o2775)
    }

    /// All of them under this directory.
    pub fn under(directory: &Path) -> Self {
        Self {
            runtime: directory.to_owned(),
            cache: directory.join(".cache"),
            state: directory.join(".state"),
        }
    }

    /// The directory of a drone's socket.
    pub fn sockets(&self, drone: &DroneName) -> PathBuf {
        self.runtime.join(drone)
    }

    /// The link to the drone's socket that the spec names.
    pub fn socket_link(&self, drone: &DroneName) -> PathBuf {
        self.runtime.join(format!("{drone}.sock"))
    }

    /// Makes the directory of a drone's socket, which is mounted into the drone.
    pub fn make_sockets(&self, drone: &DroneName) -> Result<PathBuf> {
        let path = self.sockets(drone);
        create_private(&self.runtime, 0o755)?;
        create_private(&path, 0o755)?;
        Ok(path)
    }

    /// Removes the workshops of spawns that were killed: those whose lock nobody holds.
    pub fn sweep(&self) {
        let Ok(entries) = std::fs::read_dir(&self.cache) else {
            return;
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some(drone) = name.to_str().and_then(DroneName::from_label) else {
                continue;
            };
            if let Ok(_lock) = self.lock(&drone) {
                // What cannot be removed now is tried again by the next one.
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
    }

    /// Writes down that nobody can have worked in this drone's volume yet. Where it cannot be
    /// written the volume is taken for one that holds work.
    pub fn mark_egg(&self, drone: &DroneName) {
        let _ = self.mark(&self.egg(drone));
    }

    /// From now on somebody may work in this drone's volume.
    pub fn unmark_egg(&self, drone: &DroneName) -> Result<()> {
        remove_file(&self.egg(drone))
    }

    /// Whether nobody can have worked in this drone's volume.
    pub fn is_egg(&self, drone: &DroneName) -> bool {
        self.egg(drone).exists()
    }

    fn egg(&self, drone: &DroneName) -> PathBuf {
        // A dot cannot be in a drone's name.
        self.cache.join(format!("{drone}.egg"))
    }

    /// Writes down, before its old container is removed, that this drone is being rebuilt: a container that
    /// is not finished is then no egg.
    pub fn mark_rebuild(&self, drone: &DroneName) -> Result<()> {
        self.mark(&self.rebuild(drone))
    }

    fn mark(&self, path: &Path) -> Result<()> {
        create_private(&self.cache, 0o755)?;
        match File::create(path) {
            Ok(_) => Ok(()),
            Err(error) => Err(host_io("write", path, error)),
        }
    }

    /// The rebuild has come to its end.
    pub fn unmark_rebuild(&self, drone: &DroneName) -> Result<()> {
        remove_file(&self.rebuild(drone))
    }

    /// Whether a rebuild of this drone has begun and not come to its end.
    pub fn is_rebuild(&self, drone: &DroneName) -> bool {
        self.rebuild(drone).exists()
    }

    fn rebuild(&self, drone: &DroneName) -> PathBuf {
        self.cache.join(format!("{drone}.rebuild"))
    }

    /// Removes the drone's workshop, socket directory and link, and what is remembered of it.
    pub fn forget(&self, drone: &DroneName) -> Result<()> {
        self.forget_all_but_egg(drone)?;
        self.unmark_egg(drone)
    }

    /// The same, but for its mark as an egg, which its volume needs for as long as it is there.
    pub fn forget_all_but_egg(&self, drone: &DroneName) -> Result<()> {
        remove_file(&self.socket_link(drone))?;
        remove_file(&self.node_file(drone))?;
        remove_file(&self.start_file(drone))?;
        remove_file(&self.recipe_file(drone))?;
        self.forget_memory(drone)?;
        self.forget_disk(drone)?;
        remove_file(&self.work_file(drone))?;
        self.unmark_rebuild(drone)?;
        self.forget_bounds(drone)?;
        self.forget_limits(drone)?;
        self.forget_idle(drone)?;
        self.forget_unfinished(drone)?;
        remove_tree(&self.cache.join(drone))?;
        remove_tree(&self.sockets(drone))
    }

    /// The drones of which anything is on this server beside what Docker has.
    pub fn known(&self) -> BTreeSet<DroneName> {
        [
            &self.runtime,
            &self.runtime.join(LOCKS),
            &self.cache,
            &self.scopes(),
        ]
        .into_iter()
        .filter_map(|directory| std::fs::read_dir(directory).ok())
        .flat_map(Iterator::flatten)
        .filter_map(|entry| {
            // A dot cannot be in a drone's name.
            DroneName::from_label(entry.file_name().to_str()?.split('.').next()?)
        })
        .collect()
    }

    /// Removes what is left of writes to the drone's files that were cut off.
    fn forget_unfinished(&self, drone: &DroneName) -> Result<()> {
        let Ok(entries) = std::fs::read_dir(self.scopes()) else {
            return Ok(());
        };
        let begin = format!(".{drone}.");
        entries
            .flatten()
            .filter(|entry| entry.file_name().as_bytes().starts_with(begin.as_bytes()))
            .try_for_each(|entry| remove_file(&entry.path()))
    }

    /// A fresh private directory for one spawn; always the same path for one drone, because the
    /// devcontainer CLI derives the image's tag from it.
    pub fn workshop(&self, drone: &DroneName) -> Result<Workshop> {
        let path = self.cache.join(drone);
        create_private(&self.cache, 0o755)?;
        remove_tree(&path)?;
        create_private(&path, 0o700)?;
        Ok(Workshop { path })
    }

    /// Takes the lock of this drone, so that one hatchery works on it at a time.
    pub fn lock(&self, drone: &DroneName) -> Result<Lock> {
        let directory = self.locks()?;
        let path = directory.join(drone);
        loop {
            let file = open_lock(&path)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    return Err(Error::new(
                        Code::DroneBusy,
                        format!("another hatchery command is working on {drone}"),
                    )
                    .hint("wait for it to finish, then try again"));
                }
                Err(TryLockError::Error(error)) => return Err(host_io("lock", &path, error)),
            }
            // Its last holder may have removed the file between our opening and locking it.
            if same_file(&file, &path) {
                return Ok(Lock { path, _file: file });
            }
        }
    }

    /// Waits for the right to count the drones and add one; it is held until the new one's volume
    /// exists, so that spawns that start together do not exceed `limits.drones`.
    pub fn admission(&self) -> Result<File> {
        self.wait_for(".admission")
    }

    /// Waits for the right to choose addresses for a network; it is held until Docker has made it.
    pub fn addresses(&self) -> Result<File> {
        self.wait_for(".addresses")
    }

    /// The right to have Docker's disk counted, unless another hatchery is at it. What is in the file,
    /// and when that was written, tells of the last count; it is gone after a reboot.
    pub fn disk_count(&self) -> Result<Option<File>> {
        let path = self.locks()?.join(".disk");
        let file = open_lock(&path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(host_io("lock", &path, error)),
        }
    }

    /// What was last seen of what drones do; it is gone after a reboot.
    pub fn activity_file(&self) -> PathBuf {
        self.runtime.join(LOCKS).join(ACTIVITY)
    }

    /// Waits for the right to write that file: the file.
    pub fn activity(&self) -> Result<File> {
        self.wait_for(ACTIVITY)
    }

    /// Waits for this lock of the whole server's. A dot cannot begin a drone's name.
    fn wait_for(&self, name: &str) -> Result<File> {
        let path = self.locks()?.join(name);
        let file = open_lock(&path)?;
        file.lock().map_err(|error| host_io("lock", &path, error))?;
        Ok(file)
    }

    fn locks(&self) -> Result<PathBuf> {
        let directory = self.runtime.join(LOCKS);
        create_private(&self.runtime, 0o755)?;
        create_private(&directory, 0o770)?;
        Ok(directory)
    }
}

/// The lock of one drone, until it is dropped.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    _file: File,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Removed while still held, so that whoever waits for it sees that it is gone.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// A socket in this directory, with a name of its own, and where it is. The name is short: a socket's
/// path may have 107 bytes (unix(7)).
pub fn listen(place: &Path) -> Result<(UnixListener, PathBuf)> {
    let bound = tempfile::Builder::new()
        .prefix("s")
        .rand_bytes(4)
        .make_in(place, |path| UnixListener::bind(path))
        .and_then(|bound| bound.keep().map_err(|error| error.error));
    bound.map_err(|error| host_io("listen in", place, error))
}

/// A spawn's private directory, removed with all in it when it is dropped.
#[derive(Debug)]
pub struct Workshop {
    path: PathBuf,
}

impl Workshop {
    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A new directory in it.
    pub fn directory(&self, name: &str) -> Result<PathBuf> {
        let path = self.path.join(name);
        create_private(&path, 0o700)?;
        Ok(path)
    }
}

impl Drop for Workshop {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// The home of who runs this: `HOME`, else the passwd entry's, as a unit or a cron job may have none.
pub fn home() -> Option<PathBuf> {
    std::env::home_dir().filter(|home| home.is_absolute())
}

/// Creates a directory with its parents; one that exists keeps its mode.
fn create_private(path: &Path, mode: u32) -> Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .map_err(|error| host_io("create", path, error))?;
    // The umask of whoever calls must not decide who can work with hatchery.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
        .map_err(|error| host_io("create", path, error))
}

/// Removes a file that may be gone.
fn remove_file(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(host_io("remove", path, error))
        }
        _ => Ok(()),
    }
}

/// Removes what a killed spawn left.
fn remove_tree(path: &Path) -> Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(host_io("remove", path, error))
        }
        _ => Ok(()),
    }
}

/// Opens a lock's file; the next to want it may be another member of the group.
fn open_lock(path: &Path) -> Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(|error| host_io("open", path, error))?;
    // Refused where it is another's, who has done the same.
    let _ = file.set_permissions(std::fs::Permissions::from_mode(0o660));
    Ok(file)
}

fn same_file(file: &File, path: &Path) -> bool {
    match (file.metadata(), path.metadata()) {
        (Ok(open), Ok(named)) => open.ino() == named.ino() && open.dev() == named.dev(),
        _ => false,
    }
}

/// Writes a file whole or not at all, with a mode that the umask does not decide.
pub fn write_whole(path: &Path, mode: u32, content: &[u8]) -> Result<()> {
    let write = || -> std::io::Result<()> {
        let directory = path.parent().unwrap_or(Path::new("/"));
        // If this is cut off, the name tells whose file it was to be.
        let mut prefix = OsString::from(".");
        prefix.push(path.file_name().unwrap_or_default());
        prefix.push(".");
        let mut new = tempfile::Builder::new()
            .prefix(&prefix)
            .tempfile_in(directory)?;
        std::io::Write::write_all(&mut new, content)?;
        failpoint::reached(Point::FileHalfWritten);
        new.as_file()
            .set_permissions(std::fs::Permissions::from_mode(mode))?;
        new.as_file().sync_all()?;
        new.persist(path)?;
        Ok(())
    };
    write().map_err(|error| host_io("write", path, error))
}

/// What is left on the disk of this path, in bytes.
pub fn free_space(path: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(path).ok()?;
    Some(disk.f_bavail * disk.f_frsize)
}

/// Whether a group shares this directory, as that of root and the group hatchery is shared; one that
/// root alone has made keeps nobody from having drones of their own.
fn is_a_groups(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|about| about.mode() & 0o020 != 0)
}

fn writable(path: &Path) -> bool {
    rustix::fs::access(
        path,
        rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK,
    )
    .is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_spawn_at_a_time_is_admitted() {
        let place = tempfile::tempdir().unwrap();
        let places = Places::under(place.path());
        let held = places.admission().unwrap();
        let other = open_lock(&places.locks().unwrap().join(".admission")).unwrap();
        assert!(matches!(other.try_lock(), Err(TryLockError::WouldBlock)));
        drop(held);
        other.try_lock().unwrap();
    }

    #[test]
    fn what_a_killed_verb_has_left_is_known_and_forgotten() {
        let place = tempfile::tempdir().unwrap();
        let places = Places::under(place.path());
        let drone = |name: &str| DroneName::from_label(name).unwrap();
        for directory in [
            places.scopes(),
            places.locks().unwrap(),
            places.cache.clone(),
        ] {
            create_private(&directory, 0o700).unwrap();
        }
        let half = places.scopes().join(".acme-site.node.Xy12");
        let anothers = places.scopes().join(".acme-site-two.node.Xy12");
        for file in [
            &half,
            &anothers,
            &places.egg(&drone("acme-egg")),
            &places.node_file(&drone("acme-node")),
            &places.locks().unwrap().join("acme-lock"),
            &places.socket_link(&drone("acme-link")),
        ] {
            File::create(file).unwrap();
        }
        places.make_sockets(&drone("acme-sockets")).unwrap();
        let known: Vec<_> = places.known().into_iter().collect();
        let names = [
            "acme-egg",
            "acme-link",
            "acme-lock",
            "acme-node",
            "acme-sockets",
        ];
        assert_eq!(known, names.map(drone));
        for name in known {
            drop(places.lock(&name).unwrap());
            places.forget(&name).unwrap();
        }
        assert!(places.known().is_empty());
        places.forget(&drone("acme-site")).unwrap();
        assert!(!half.exists() && anothers.exists());
    }
}
