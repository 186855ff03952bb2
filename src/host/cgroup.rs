//! What the kernel counts of a container, in the container's control group.
//!
//! Control groups of version 1 and 2 are read from this host's side: nothing runs in the container.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

/// The memory of a container since it was last started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// How many of its processes the kernel has killed because its limit was reached.
    pub killed: u64,
    /// In use without the inactive page cache, in bytes, as `docker stats` counts.
    pub in_use: u64,
    /// The limit in bytes, where there is one.
    pub limit: Option<u64>,
}

/// Version 1 writes "no limit" as the largest number of whole pages.
const UNLIMITED: u64 = 1 << 62;

/// The memory of the container with this id and this first process. `None` where this host's kernel
/// does not run it, or does not count its memory.
pub fn memory(container: &str, pid: u32) -> Option<Memory> {
    find(container, pid, Controller::Memory, Group::memory)
}

/// How long processors have worked for the container with this id and this first process, since it was
/// last started, all of them together. `None` as with [`memory`].
pub fn processor_time(container: &str, pid: u32) -> Option<Duration> {
    find(
        container,
        pid,
        Controller::Processors,
        Group::processor_time,
    )
}

/// The processes of the container with this id and this first process, by their numbers on this host.
/// `None` as with [`memory`], and where there are more than `most`.
pub fn processes(container: &str, pid: u32, most: usize) -> Option<Vec<i32>> {
    find(container, pid, Controller::Processors, |_, at| {
        let mut found = Vec::new();
        let mut waiting = vec![at.to_owned()];
        let mut groups = 0;
        // What runs in containers of its own is in groups below.
        while let Some(group) = waiting.pop() {
            groups += 1;
            let numbers = read(&group.join("cgroup.procs"))?;
            found.extend(
                numbers
                    .lines()
                    .filter_map(|number| number.parse::<i32>().ok()),
            );
            let below = std::fs::read_dir(&group).into_iter().flatten().flatten();
            let below = below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
            waiting.extend(below.map(|entry| entry.path()).take(most));
            if found.len() > most || groups + waiting.len() > most {
                return None;
            }
        }
        Some(found)
    })
}

/// How many processes and threads there are in the container with this id and this first process. `None` as
/// with [`memory`].
pub fn tasks(container: &str, pid: u32) -> Option<i64> {
    find(container, pid, Controller::Tasks, |_, at| {
        read(&at.join("pids.current"))?.trim().parse().ok()
    })
}

/// What `look` finds in the directory of a container's group.
fn find<T>(
    container: &str,
    pid: u32,
    controller: Controller,
    look: impl Fn(&Group, &Path) -> Option<T>,
) -> Option<T> {
    let groups = read(Path::new(&format!("/proc/{pid}/cgroup")))?;
    let group = Group::of(container, &groups, controller)?;
    group.directories(&MOUNTS).find_map(|at| look(&group, &at))
}

/// The lines of `/proc/self/mountinfo` for control groups, as they were at the first look: they stay, and a server
/// with many containers has hundreds of other mounts, which the kernel takes long to write.
static MOUNTS: LazyLock<String> = LazyLock::new(|| {
    let all = read(Path::new("/proc/self/mountinfo")).unwrap_or_default();
    let lines = all.split_inclusive('\n');
    lines.filter(|line| line.contains(" - cgroup")).collect()
});

/// What a group accounts for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Controller {
    Memory,
    Processors,
    Tasks,
}

impl Controller {
    /// What version 1 calls it.
    const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Processors => "cpuacct",
            Self::Tasks => "pids",
        }
    }
}

/// A control group that accounts for something.
#[derive(Debug, PartialEq, Eq)]
struct Group {
    version: Version,
    controller: Controller,
    /// Its path in the hierarchy.
    path: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

impl Group {
    /// The container's group from the `/proc/PID/cgroup` of a process in it (cgroups(7)). The
    /// process may be in a group below it, and by now be another container's or none's.
    fn of(container: &str, groups: &str, controller: Controller) -> Option<Self> {
        let found = |version, is_it: &dyn Fn(&str, &str) -> bool| {
            groups.lines().find_map(|line| {
                let (hierarchy, rest) = line.split_once(':')?;
                let (controllers, path) = rest.split_once(':')?;
                is_it(hierarchy, controllers).then_some(())?;
                Some(Self {
                    version,
                    controller,
                    path: up_to_container(container, path)?,
                })
            })
        };
        // With both versions mounted, it is version 1's if that has the controller.
        found(Version::One, &|_, controllers| {
            controllers.split(',').any(|name| name == controller.name())
        })
        .or_else(|| {
            found(Version::Two, &|hierarchy, controllers| {
                hierarchy == "0" && controllers.is_empty()
            })
        })
    }

    /// Where it is in the file system, given `/proc/self/mountinfo` (`proc_pid_mountinfo(5)`).
    fn directories<'a>(&'a self, mounts: &'a str) -> impl Iterator<Item = PathBuf> + 'a {
        mounts.lines().filter_map(|line| {
            let (mount, filesystem) = line.split_once(" - ")?;
            let mut mount = mount.split(' ').skip(3);
            let (root, point) = (mount.next()?, mount.next()?);
            let mut filesystem = filesystem.split(' ');
            let (kind, options) = (filesystem.next()?, filesystem.nth(1)?);
            let fits = match self.version {
                Version::One => {
                    let name = self.controller.name();
                    kind == "cgroup" && options.split(',').any(|option| option == name)
                }
                Version::Two => kind == "cgroup2",
            };
            fits.then_some(())?;
            let below = self.path.strip_prefix(root).ok()?;
            Some(Path::new(point).join(below))
        })
    }

    fn processor_time(&self, at: &Path) -> Option<Duration> {
        Some(match self.version {
            Version::One => {
                let nanoseconds = read(&at.join("cpuacct.usage"))?;
                Duration::from_nanos(nanoseconds.trim().parse().ok()?)
            }
            Version::Two => {
                Duration::from_micros(value(&read(&at.join("cpu.stat"))?, "usage_usec")?)
            }
        })
    }

    fn memory(&self, at: &Path) -> Option<Memory> {
        let file = |name: &str| read(&at.join(name));
        let number = |name: &str| file(name)?.trim().parse::<u64>().ok();
        let [usage, most, events, cache] = match self.version {
            Version::One => [
                "memory.usage_in_bytes",
                "memory.limit_in_bytes",
                "memory.oom_control",
                "total_inactive_file",
            ],
            Version::Two => [
                "memory.current",
                "memory.max",
                "memory.events",
                "inactive_file",
            ],
        };
        let counted = |name: &str, key: &str| value(&file(name)?, key);
        Some(Memory {
            killed: counted(events, "oom_kill").unwrap_or(0),
            in_use: number(usage)?.saturating_sub(counted("memory.stat", cache).unwrap_or(0)),
            limit: number(most).filter(|&limit| limit < UNLIMITED),
        })
    }
}

/// This path as far as the container's own group: `/docker/ID`, `/system.slice/docker-ID.scope`.
fn up_to_container(container: &str, path: &str) -> Option<PathBuf> {
    let mut parts = path.split('/').skip(1);
    let mut own = PathBuf::from("/");
    loop {
        own.push(parts.next()?);
        // None of "..": what is above this host's own group cannot be reached.
        let name = own.file_name()?.to_str()?;
        if is_group_of(container, name) {
            return Some(own);
        }
    }
}

/// Whether a control group of this name is the container's: `ID`, `docker-ID.scope`.
pub(super) fn is_group_of(container: &str, name: &str) -> bool {
    let name = name.strip_suffix(".scope").unwrap_or(name);
    name.rsplit('-').next() == Some(container)
}

/// The number beside this key, as in `memory.stat`.
fn value(file: &str, key: &str) -> Option<u64> {
    file.lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))?
        .trim()
        .parse()
        .ok()
}

fn read(path: &Path) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ID: &str = "f7243c14a5a4e7879005f1cea2f1b5f8fc33ca4806316932d9d9d3e78058c3de";
    const OTHER: &str = "b07160650e37bd41bb39bbaaf112d971d79a94c879fe7860f598b8f100ba6172";

    /// As Docker 20.10 with its own driver has it on a host with version 1.
    fn version_1() -> String {
        ["9:name=systemd", "8:pids", "4:memory", "1:cpu", "0:"]
            .map(|hierarchy| format!("{hierarchy}:/docker/{ID}\n"))
            .concat()
    }

    const MOUNTS_1: &str = "\
24 1 0:21 / /proc rw,relatime - proc proc rw\n\
31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct\n\
32 30 0:28 / /sys/fs/cgroup/memory rw,relatime shared:10 - cgroup cgroup rw,memory\n\
39 30 0:35 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";
    const MOUNTS_2: &str =
        "35 24 0:30 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";

    fn group(version: Version, path: &str) -> Group {
        Group {
            version,
            controller: Controller::Memory,
            path: path.into(),
        }
    }

    #[test]
    fn the_group_of_a_container_is_found_in_both_versions() {
        let own = format!("/docker/{ID}");
        let scope = format!("/system.slice/docker-{ID}.scope");
        for (groups, expected) in [
            (version_1(), Some(group(Version::One, &own))),
            (
                format!("12:cpu,memory,pids:{own}\n"),
                Some(group(Version::One, &own)),
            ),
            (format!("0::{scope}\n"), Some(group(Version::Two, &scope))),
            // A systemd in the container has put its first process further down.
            (
                format!("0::{scope}/init.scope\n"),
                Some(group(Version::Two, &scope)),
            ),
            (
                format!("0::{own}/docker/{OTHER}\n"),
                Some(group(Version::Two, &own)),
            ),
            // The process is gone, and its number another's.
            (format!("0::/docker/{OTHER}\n"), None),
            ("0::/user.slice/user-1000.slice\n".to_owned(), None),
            // Outside what this host's own group shows of it.
            (format!("0::/../{ID}\n"), None),
            (format!("3:memory_other:{own}\n"), None),
            (String::new(), None),
            ("::::\n0\n".to_owned(), None),
        ] {
            let found = Group::of(ID, &groups, Controller::Memory);
            assert_eq!(found, expected, "{groups}");
        }
    }

    #[test]
    fn processors_are_accounted_for_by_a_controller_of_their_own() {
        let of = |groups: &str| Group::of(ID, groups, Controller::Processors);
        let groups = format!("4:memory:/docker/{OTHER}\n3:cpu,cpuacct:/docker/{ID}\n");
        let found = of(&groups).unwrap();
        let at: Vec<_> = found.directories(MOUNTS_1).collect();
        assert_eq!(
            at,
            [Path::new("/sys/fs/cgroup/cpu,cpuacct/docker").join(ID)]
        );
    }

    #[test]
    fn the_time_of_processors_is_read_in_both_versions() {
        let place = tempfile::tempdir().unwrap();
        let read = |version| group(version, "/").processor_time(place.path());
        std::fs::write(place.path().join("cpuacct.usage"), "1500000000\n").unwrap();
        assert_eq!(read(Version::One), Some(Duration::from_millis(1500)));
        assert_eq!(read(Version::Two), None);
        let stat = "usage_usec 2500000\nuser_usec 2000000\nsystem_usec 500000\n";
        std::fs::write(place.path().join("cpu.stat"), stat).unwrap();
        assert_eq!(read(Version::Two), Some(Duration::from_millis(2500)));
    }

    #[test]
    fn its_directory_is_below_the_mount_that_shows_it() {
        let found = |version, path: &str, mounts: &str| -> Vec<_> {
            let group = group(version, path);
            let directories = group.directories(mounts).collect::<Vec<_>>();
            directories
                .into_iter()
                .map(|path| path.to_string_lossy().into_owned())
                .collect()
        };
        assert_eq!(
            found(Version::One, "/docker/x", MOUNTS_1),
            ["/sys/fs/cgroup/memory/docker/x"]
        );
        assert_eq!(
            found(Version::Two, "/docker/x", MOUNTS_2),
            ["/sys/fs/cgroup/docker/x"]
        );
        // A container that is shown its own part of the hierarchy alone.
        let part = MOUNTS_1.replace("0:28 /", "0:28 /docker/server");
        assert_eq!(
            found(Version::One, "/docker/server/docker/x", &part),
            ["/sys/fs/cgroup/memory/docker/x"]
        );
        assert!(found(Version::One, "/docker/x", &part).is_empty());
        assert!(found(Version::One, "/docker/x", MOUNTS_2).is_empty());
        assert!(found(Version::Two, "/docker/x", "- - -\nx\n\n").is_empty());
    }

    fn read_from(version: Version, files: &[(&str, &str)]) -> Option<Memory> {
        let place = tempfile::tempdir().unwrap();
        for (name, content) in files {
            std::fs::write(place.path().join(name), content).unwrap();
        }
        group(version, "/").memory(place.path())
    }

    #[test]
    fn version_1_is_read() {
        let files = [
            (
                "memory.oom_control",
                "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n",
            ),
            ("memory.usage_in_bytes", "67108864\n"),
            ("memory.limit_in_bytes", "268435456\n"),
            (
                "memory.stat",
                "cache 4096\ninactive_file 1\ntotal_cache 4096\ntotal_inactive_file 8864\n",
            ),
        ];
        let memory = Memory {
            killed: 3,
            in_use: 67_100_000,
            limit: Some(268_435_456),
        };
        assert_eq!(read_from(Version::One, &files), Some(memory));
        let mut unlimited = files;
        unlimited[2].1 = "9223372036854771712\n";
        let limit = read_from(Version::One, &unlimited).unwrap().limit;
        assert_eq!(limit, None);
        assert_eq!(read_from(Version::Two, &files), None);
    }

    #[test]
    fn version_2_is_read() {
        let files = [
            (
                "memory.events",
                "low 0\nhigh 0\nmax 412\noom 5\noom_kill 2\noom_group_kill 0\n",
            ),
            ("memory.current", "1000\n"),
            ("memory.max", "max\n"),
            ("memory.stat", "anon 10\nfile 20\ninactive_file 2000\n"),
        ];
        let memory = Memory {
            killed: 2,
            in_use: 0,
            limit: None,
        };
        assert_eq!(read_from(Version::Two, &files), Some(memory));
        let mut limited = files;
        limited[2].1 = "2000\n";
        let limit = read_from(Version::Two, &limited).unwrap().limit;
        assert_eq!(limit, Some(2000));
        assert_eq!(read_from(Version::One, &files), None);
    }

    proptest! {
        #[test]
        fn whatever_is_read_nothing_panics(text in "[a-z0-9:/. \\-\\n]{0,200}", any in any::<String>()) {
            for text in [&text, &any] {
                if let Some(group) = Group::of("a", text, Controller::Processors) {
                    let _ = group.directories(text).count();
                }
                let _ = group(Version::Two, "/a").directories(text).count();
                let _ = value(text, "a");
            }
        }
    }
}
