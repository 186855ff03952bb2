//! How much of a disk a directory takes.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Instant;

/// What `st_blocks` counts in, in bytes (stat(3type)).
const BLOCK: u64 = 512;

/// An amount of files and of what they take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Room on the disk, in bytes.
    pub bytes: u64,
    /// Files, directories and links.
    pub files: u64,
}

impl Size {
    /// Whether there is more than this below a directory. No link is followed, what cannot be read is
    /// not counted, and the look ends as soon as it is clear.
    pub fn is_exceeded_by(self, directory: &Path) -> bool {
        let mut left = self;
        let mut waiting = vec![directory.to_owned()];
        while let Some(next) = waiting.pop() {
            for entry in fs::read_dir(next).into_iter().flatten().flatten() {
                // Of the link, not of what it leads to.
                let Ok(found) = entry.metadata() else {
                    continue;
                };
                let taken = found.blocks().saturating_mul(BLOCK);
                let (Some(bytes), Some(files)) =
                    (left.bytes.checked_sub(taken), left.files.checked_sub(1))
                else {
                    return true;
                };
                left = Self { bytes, files };
                if found.is_dir() {
                    waiting.push(entry.path());
                }
            }
        }
        false
    }
}

/// What a directory takes, in bytes. No link is followed, a file with several names counts once, and
/// what cannot be read, or is gone meanwhile, counts nothing. The count ends where `enough` is reached.
/// Whether that is all: not if the directory itself cannot be read, or the time is up before.
pub fn room_of(directory: &Path, enough: u64, until: Instant) -> (u64, bool) {
    if fs::read_dir(directory).is_err() {
        return (0, false);
    }
    let mut taken = 0_u64;
    let mut seen = HashSet::new();
    let mut waiting = vec![directory.to_owned()];
    while let Some(next) = waiting.pop() {
        for entry in fs::read_dir(next).into_iter().flatten().flatten() {
            if taken >= enough {
                return (taken, true);
            }
            if Instant::now() >= until {
                return (taken, false);
            }
            // Of the link, not of what it leads to.
            let Ok(found) = entry.metadata() else {
                continue;
            };
            if found.is_dir() {
                waiting.push(entry.path());
            } else if found.nlink() < 2 || seen.insert((found.dev(), found.ino())) {
                taken = taken.saturating_add(found.blocks().saturating_mul(BLOCK));
            }
        }
    }
    (taken, true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::time::Duration;

    #[test]
    fn what_a_directory_takes_is_counted_once_and_within_a_time() {
        let place = tempfile::tempdir().unwrap();
        let inside = place.path().join("in");
        fs::create_dir_all(inside.join("a")).unwrap();
        fs::write(inside.join("a/file"), vec![1; 1 << 20]).unwrap();
        fs::hard_link(inside.join("a/file"), inside.join("again")).unwrap();
        fs::write(place.path().join("out"), vec![1; 1 << 20]).unwrap();
        symlink(place.path(), inside.join("link")).unwrap();
        let later = Instant::now() + Duration::from_secs(60);
        let (taken, all) = room_of(&inside, u64::MAX, later);
        assert!(all && (1 << 20..3 << 19).contains(&taken), "{taken}");
        assert!(!room_of(&inside, u64::MAX, Instant::now()).1);
        assert_eq!(room_of(&inside.join("missing"), 1, later), (0, false));
        fs::write(inside.join("a/more"), vec![1; 1 << 20]).unwrap();
        let (taken, all) = room_of(&inside, 1 << 20, later);
        assert!(all && taken >= 1 << 20);
    }

    #[test]
    fn room_and_number_are_counted_and_no_link_is_followed() {
        let place = tempfile::tempdir().unwrap();
        let (inside, outside) = (place.path().join("in"), place.path().join("out"));
        fs::create_dir_all(inside.join("a/b")).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(inside.join("a/b/file"), vec![1; 100_000]).unwrap();
        fs::write(outside.join("large"), vec![1; 1_000_000]).unwrap();
        symlink(&outside, inside.join("link")).unwrap();
        symlink("..", inside.join("a/round")).unwrap();
        let of = |bytes, files| Size { bytes, files };
        assert!(!of(500_000, 5).is_exceeded_by(&inside));
        assert!(of(500_000, 4).is_exceeded_by(&inside));
        assert!(of(50_000, 5).is_exceeded_by(&inside));
        assert!(!of(0, 0).is_exceeded_by(&place.path().join("missing")));
    }
}
