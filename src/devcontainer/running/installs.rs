//! What is run in an image for the two features that make a drone of it.
//!
//! The published scripts are for images with apt. Hatchery puts one of its own in front of each: it runs the
//! published one in an image with apt, and otherwise does the same with the image's own package manager. Which
//! one that is, is known only in the build. Names, options, entrypoints and metadata stay the published ones.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use super::guard;
use crate::config::TAILSCALE_FEATURE;
use crate::devcontainer::judging::features;

/// How a message begins about an image that has no package manager for what it lacks.
pub const NO_MANAGER: &str = "hatchery: this image has no package manager for ";

/// The name that the published script gets.
const PUBLISHED: &str = "hatchery-published.sh";

/// The script of a feature.
const SCRIPT: &str = "install.sh";

/// The script with which the devcontainer CLI starts it; it names the feature.
const WRAPPER: &str = "devcontainer-features-install.sh";

/// How many features are looked at.
const MAX_FEATURES: usize = 1000;

const SSHD: &str = concat!(
    include_str!("installs/packages.sh"),
    include_str!("installs/sshd.sh")
);
const TAILSCALE: &str = concat!(
    include_str!("installs/packages.sh"),
    include_str!("installs/tailscale.sh")
);

/// Puts hatchery's scripts in front of the published ones that the CLI has fetched into this directory. Calling
/// it again changes nothing. If it fails, the published script runs.
pub fn put_in_front(temporary: &Path) {
    let runs = below(temporary)
        .flat_map(|cli| below(&cli.join("container-features")))
        .flat_map(|run| below(&run));
    for feature in runs.take(MAX_FEATURES) {
        if let Some(script) = script_for(&feature) {
            let _ = put(&feature, script);
        }
    }
}

fn below(directory: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
}

/// Hatchery's script for the feature in this directory, if there is one.
fn script_for(feature: &Path) -> Option<&'static str> {
    let wrapper = open(&feature.join(WRAPPER)).and_then(guard::text_of)?;
    let id = wrapper.lines().find_map(|line| {
        line.strip_prefix("echo 'Id            : ")?
            .strip_suffix('\'')
    })?;
    let id = features::canonical(id);
    if id == features::canonical("sshd") {
        Some(SSHD)
    } else if id == features::canonical(TAILSCALE_FEATURE) {
        Some(TAILSCALE)
    } else {
        None
    }
}

fn put(feature: &Path, script: &str) -> std::io::Result<()> {
    let place = feature.join(SCRIPT);
    if open(&place).and_then(guard::text_of).as_deref() == Some(script) {
        return Ok(());
    }
    let published = feature.join(PUBLISHED);
    let mut own = tempfile::NamedTempFile::new_in(feature)?;
    own.write_all(script.as_bytes())?;
    own.as_file()
        .set_permissions(std::fs::Permissions::from_mode(0o755))?;
    std::fs::rename(&place, &published)?;
    if let Err(lost) = own.persist(&place) {
        std::fs::rename(&published, &place)?;
        return Err(lost.error);
    }
    Ok(())
}

/// A file in a feature; no link is followed.
fn open(path: &Path) -> Option<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Some(rustix::fs::open(path, flags, Mode::empty()).ok()?.into())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// A feature as the CLI has fetched it, called so in the configuration.
    fn fetched(temporary: &Path, directory: &str, id: &str) -> PathBuf {
        let feature = temporary
            .join("devcontainercli-root/container-features/0.89.0-1")
            .join(directory);
        std::fs::create_dir_all(&feature).unwrap();
        std::fs::write(feature.join(SCRIPT), "#!/bin/sh\necho published\n").unwrap();
        let wrapper = format!(
            "#!/bin/sh\necho 'Feature       : x'\necho 'Id            : {id}'\n./install.sh\n"
        );
        std::fs::write(feature.join(WRAPPER), wrapper).unwrap();
        feature
    }

    fn read(feature: &Path, file: &str) -> String {
        std::fs::read_to_string(feature.join(file)).unwrap_or_default()
    }

    /// An image's programs: these stand-ins, which say what they are called with, and what sh needs.
    fn image(programs: &[&str]) -> tempfile::TempDir {
        let bin = tempfile::tempdir().unwrap();
        for program in programs {
            let file = bin.path().join(program);
            std::fs::write(&file, format!("#!/bin/sh\necho {program} \"$@\"\n")).unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        bin
    }

    /// What a script says with these programs alone, up to where it would change this machine.
    fn said(script: &str, programs: &[&str]) -> String {
        let (bin, place) = (image(programs), tempfile::tempdir().unwrap());
        let published = place.path().join(PUBLISHED);
        std::fs::write(&published, "#!/bin/sh\necho published\n").unwrap();
        std::fs::set_permissions(&published, std::fs::Permissions::from_mode(0o755)).unwrap();
        let script = script.replace(":/usr/local/sbin:/usr/sbin:/sbin", "");
        let script = script.split("\n# What openSUSE").next().unwrap();
        let output = Command::new("/bin/sh")
            .args(["-c", script])
            .env("PATH", bin.path())
            .current_dir(place.path())
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].concat();
        String::from_utf8(said).unwrap()
    }

    #[test]
    fn hatcherys_script_goes_in_front_of_the_two_features_once() {
        let temporary = tempfile::tempdir().unwrap();
        let feature = |directory, id| fetched(temporary.path(), directory, id);
        let ours = [
            feature("sshd_0", "ghcr.io/devcontainers/features/sshd"),
            feature("sshd_1", "sshd"),
            feature("tailscale_2", TAILSCALE_FEATURE),
        ];
        let others = [
            feature("sshd_3", "./sshd"),
            feature("sshd_4", "ghcr.io/acme/features/sshd"),
            feature("go_5", "ghcr.io/devcontainers/features/go"),
        ];
        for _ in 0..2 {
            put_in_front(temporary.path());
            for feature in &ours {
                assert!(read(feature, SCRIPT).contains("hatchery"), "{feature:?}");
                assert!(read(feature, PUBLISHED).contains("published"));
            }
            for feature in &others {
                assert!(read(feature, SCRIPT).contains("published"), "{feature:?}");
                assert_eq!(read(feature, PUBLISHED), "");
            }
        }
    }

    #[test]
    fn a_link_is_neither_followed_nor_replaced_by_what_it_leads_to() {
        let temporary = tempfile::tempdir().unwrap();
        let outside = tempfile::NamedTempFile::new().unwrap();
        let feature = fetched(temporary.path(), "sshd_0", "sshd");
        std::fs::remove_file(feature.join(SCRIPT)).unwrap();
        std::os::unix::fs::symlink(outside.path(), feature.join(SCRIPT)).unwrap();
        put_in_front(temporary.path());
        assert_eq!(std::fs::read(outside.path()).unwrap(), b"");
        assert_eq!(read(&feature, SCRIPT), SSHD);
    }

    #[test]
    fn with_apt_the_published_script_is_run_and_nothing_else() {
        for script in [SSHD, TAILSCALE] {
            assert_eq!(said(script, &["apt-get", "apk"]), "published\n");
        }
    }

    #[test]
    fn elsewhere_the_images_own_package_manager_is_asked() {
        for (manager, call) in [
            ("apk", "apk add --no-cache openssh\n"),
            ("dnf", "dnf install -y openssh-server openssh-clients\n"),
            (
                "microdnf",
                "microdnf install -y openssh-server openssh-clients\n",
            ),
            ("yum", "yum install -y openssh-server openssh-clients\n"),
            ("pacman", "pacman -Syu --noconfirm --needed openssh\n"),
            (
                "zypper",
                "zypper --non-interactive install --no-recommends openssh\n",
            ),
        ] {
            let said = said(SSHD, &[manager]);
            assert!(said.starts_with(call), "{manager}: {said}");
            assert!(said.contains("no sshd after"), "{said}");
        }
        assert_eq!(said(SSHD, &["apk", "sshd"]), "");
        let all = ["bash", "wget", "tar", "gzip", "iptables"];
        assert_eq!(said(TAILSCALE, &all), "published\n");
        assert_eq!(
            said(TAILSCALE, &["apk"]),
            "apk add --no-cache bash\napk add --no-cache curl\napk add --no-cache tar\n\
             apk add --no-cache gzip\napk add --no-cache iptables\npublished\n"
        );
    }

    #[test]
    fn without_one_it_is_said() {
        for script in [SSHD, TAILSCALE] {
            let said = said(script, &[]);
            assert!(said.starts_with(NO_MANAGER), "{said}");
        }
    }
}
