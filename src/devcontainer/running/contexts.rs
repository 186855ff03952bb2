//! What `BuildKit` keeps of the directories that images are built from.
//!
//! It keeps a copy of each, so that the next build sends only the files whose size or time of modification has
//! changed. A copy is found by the name of the directory and by a number that buildx draws once for its home.
//! Each spawn has a home of its own: with another number each time it would find no copy, and leave another one
//! of all its features. Docker's command without buildx uses the whole path, which the devcontainer CLI
//! changes.

use std::path::Path;

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, utimensat};

use crate::error::{Result, host_io};

/// Where buildx has its number, and where Docker's command before 23 has it, below the home.
const PLACES: [&str; 2] = [".docker/buildx", ".docker"];

/// The name of the number's file.
const FILE: &str = ".buildNodeID";

/// Lets the builds of this home find the copies that earlier builds of the same `owner` left. Two drones must
/// not be one owner: one could make a file that passes for the other's.
pub fn share_copies(home: &Path, owner: &str) -> Result<()> {
    for place in PLACES {
        let directory = home.join(place);
        let file = directory.join(FILE);
        std::fs::create_dir_all(&directory)
            .and_then(|()| std::fs::write(&file, owner))
            .map_err(|error| host_io("write", &file, error))?;
    }
    Ok(())
}

/// Marks all files below this directory as changed now, so that they are sent no matter what the copy holds:
/// the files of a feature have the sizes and times that its publisher chose, so that those of another version
/// may pass for them. What cannot be changed is left as it is.
pub fn send_whole(directory: &Path) {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            send_whole(&path);
        } else {
            let _ = utimensat(CWD, &path, &NOW, AtFlags::SYMLINK_NOFOLLOW);
        }
    }
}

const NOW: Timestamps = Timestamps {
    last_access: THE_TIME,
    last_modification: THE_TIME,
};
const THE_TIME: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: UTIME_NOW,
};

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    #[test]
    fn a_home_has_its_owners_number() {
        let home = tempfile::tempdir().unwrap();
        share_copies(home.path(), "0123456789abcdef").unwrap();
        for place in [".docker/buildx/.buildNodeID", ".docker/.buildNodeID"] {
            let number = std::fs::read_to_string(home.path().join(place)).unwrap();
            assert_eq!(number, "0123456789abcdef");
        }
    }

    #[test]
    fn no_file_keeps_a_time_that_its_publisher_chose() {
        let all = tempfile::tempdir().unwrap();
        let outside = tempfile::NamedTempFile::new().unwrap();
        let deep = all.path().join("a/b/c/d/e/f");
        std::fs::create_dir_all(&deep).unwrap();
        let file = deep.join("install.sh");
        std::fs::write(&file, "echo").unwrap();
        std::os::unix::fs::symlink(outside.path(), deep.join("link")).unwrap();
        let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        for path in [file.as_path(), outside.path()] {
            let open = std::fs::File::options().write(true).open(path).unwrap();
            open.set_modified(old).unwrap();
        }
        send_whole(all.path());
        let modified = |path: &Path| std::fs::symlink_metadata(path).unwrap().modified().unwrap();
        assert!(modified(&file) > old + Duration::from_secs(1));
        assert_eq!(modified(outside.path()), old, "a link was followed");
    }
}
