//! How much of a disk a directory takes.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

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

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

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
