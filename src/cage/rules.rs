//! What a caged program may access. What no rule names can be neither read nor written.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tokio::process::Command;

use super::{LINK, RULES_FILE};
use crate::error::{Code, Error, Result, host_io};
use crate::process;

/// Where distributions keep programs and libraries. Nothing in them is secret, which cannot be said
/// of `/opt` or `/srv`: a program there is let in by [`Rules::program`].
const PROGRAMS: &[&str] = &[
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/nix/store",
    "/gnu/store",
];

/// System files that programs read: those of the loader, the resolver and the certificates, and what Node and
/// Go ask the kernel. Neither `/etc` as a whole, which holds secrets, nor `/etc/ssl/private` and its like are
/// among them.
const SYSTEM: &[&str] = &[
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/ld.so.preload",
    "/etc/ld-nix.so.preload",
    "/etc/resolv.conf",
    // Replaced as a whole, by renaming, while a build goes on.
    "/run/systemd/resolve",
    "/run/resolvconf",
    // Who looks up names for all programs on NixOS.
    "/run/nscd",
    "/etc/hosts",
    "/etc/host.conf",
    "/etc/gai.conf",
    "/etc/nsswitch.conf",
    "/etc/protocols",
    "/etc/services",
    "/etc/passwd",
    "/etc/group",
    "/etc/localtime",
    "/etc/timezone",
    "/etc/mime.types",
    "/etc/apache2/mime.types",
    "/etc/httpd/conf/mime.types",
    "/etc/ssl/certs",
    "/etc/ssl/cert.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/openssl.cnf",
    "/etc/pki/tls/certs",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/tls/cert.pem",
    "/etc/pki/tls/openssl.cnf",
    "/etc/pki/tls/openssl.d",
    "/etc/pki/ca-trust",
    "/etc/ca-certificates",
    "/etc/crypto-policies",
    "/var/lib/ca-certificates",
    // Not all of `/proc`: root reads other processes' environments there, Landlock or not (Linux 6.14).
    "/proc/cpuinfo",
    "/proc/filesystems",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/sys/fs",
    "/proc/sys/kernel",
    "/proc/sys/net/core",
    "/proc/sys/vm",
    "/proc/uptime",
    "/proc/version",
    "/sys/fs/cgroup",
    "/sys/kernel/mm/transparent_hugepage",
    "/sys/devices/system/cpu",
    "/sys/devices/system/node",
];

/// How the names of further files in `/etc` begin or end, which differ between systems: start-up files of
/// Debian's Python, which runs compose 1, musl's loader, and the files that say which system this is.
const VERSIONED: (&[&str], &[&str]) = (&["python3", "ld-musl-"], &["-release", "_version"]);

/// Devices that hold nothing.
const DEVICES: &[&str] = &[
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
];

/// The memory that each process may have, in bytes: Node's own default for its heap on a large machine.
const MEMORY: u64 = 4 * 1024 * 1024 * 1024;

/// Environment variables that name further certificates.
const CERTIFICATES: &[&str] = &["NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE", "SSL_CERT_DIR"];

/// Files and directories, each with everything below it. Symbolic links among them are followed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    /// May be read, and programs in them run.
    pub run: Vec<PathBuf>,
    /// May be read.
    pub read: Vec<PathBuf>,
    /// May be read and written. Programs in them cannot be run, no matter who put them there.
    pub write: Vec<PathBuf>,
    /// Devices that may be read and written.
    pub devices: Vec<PathBuf>,
    /// Sockets to hide, beside those in `/run`.
    pub hidden: Vec<PathBuf>,
    /// The only TCP ports that may be connected to; none may be listened on then. `None` leaves all open.
    /// Kernels before Linux 6.7 cannot enforce this.
    pub connect: Option<Vec<u16>>,
    /// How much private memory each process may have, in bytes (`RLIMIT_DATA`, setrlimit(2)).
    pub memory: u64,
}

impl Rules {
    /// What every program needs of the system.
    pub fn of_system() -> Self {
        let paths = |of: &[&str]| of.iter().map(PathBuf::from).collect::<Vec<_>>();
        let mut read = paths(SYSTEM);
        let (beginnings, endings) = VERSIONED;
        let versioned = |name: &str| {
            beginnings.iter().any(|part| name.starts_with(part))
                || endings.iter().any(|part| name.ends_with(part))
        };
        let etc = std::fs::read_dir("/etc").into_iter().flatten().flatten();
        read.extend(
            etc.filter(|entry| entry.file_name().to_str().is_some_and(versioned))
                .map(|entry| entry.path()),
        );
        read.extend(
            CERTIFICATES
                .iter()
                .filter_map(std::env::var_os)
                .flat_map(|paths| std::env::split_paths(&paths).collect::<Vec<_>>())
                .filter(|path| path.is_absolute()),
        );
        Self {
            run: paths(PROGRAMS),
            read,
            write: Vec::new(),
            devices: paths(DEVICES),
            hidden: Vec::new(),
            connect: None,
            memory: MEMORY,
        }
    }

    /// Lets a program be run from where it was installed, with what was installed beside it.
    #[must_use]
    pub fn program(mut self, path: &Path) -> Self {
        let real = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
        for path in [path, &real] {
            let system = PROGRAMS.iter().any(|place| path.starts_with(place));
            if !system {
                self.run.push(path.to_path_buf());
                self.run.extend(installed_with(path));
            }
        }
        self
    }

    /// Lets a file or a directory be read, and programs in it be run.
    #[must_use]
    pub fn run(mut self, path: &Path) -> Self {
        self.run.push(path.to_path_buf());
        self
    }

    /// Lets a file or a directory be read.
    #[must_use]
    pub fn read(mut self, path: &Path) -> Self {
        self.read.push(path.to_path_buf());
        self
    }

    /// Lets a directory be written.
    #[must_use]
    pub fn write(mut self, path: &Path) -> Self {
        self.write.push(path.to_path_buf());
        self
    }

    /// Puts a socket out of sight.
    #[must_use]
    pub fn hide(mut self, socket: &Path) -> Self {
        self.hidden.push(socket.to_path_buf());
        self
    }

    /// Lets this TCP port be connected to. All ports that are not allowed in this way are closed then.
    #[must_use]
    pub fn connect(mut self, port: u16) -> Self {
        self.connect.get_or_insert_default().push(port);
        self
    }

    /// All that may be read.
    pub fn readable(&self) -> impl Iterator<Item = &PathBuf> {
        [&self.run, &self.read, &self.write, &self.devices]
            .into_iter()
            .flatten()
    }

    /// A command for [`process::Group`] that runs this program in the cage, with the arguments that are added
    /// to it. `place` is a directory for the rules, where the caged program must not be able to write.
    pub fn supervised(&self, place: &Path, program: &Path) -> Result<Command> {
        let cage = self.install(place, &process::own_path()?)?;
        let mut command = process::supervised_at(&cage);
        command.arg(program);
        Ok(command)
    }

    /// Writes the rules and a link to `hatchery` into this directory, where the caged program must not be able
    /// to write. Returns the link's path: called with a program and its arguments, it runs them in the cage.
    /// Fails if a path in the rules is not UTF-8.
    pub fn install(&self, directory: &Path, hatchery: &Path) -> Result<PathBuf> {
        let file = directory.join(RULES_FILE);
        let text = serde_json::to_vec(self).map_err(|error| {
            Error::new(
                Code::HostFailed,
                "the cage's rules name a path that is not UTF-8",
            )
            .hint("the paths of this server's programs and of hatchery's directories must be UTF-8")
            .because(error)
        })?;
        std::fs::write(&file, text).map_err(|error| host_io("write", &file, error))?;
        let link = directory.join(LINK);
        match symlink(hatchery, &link) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                Err(host_io("create", &link, error))
            }
            _ => Ok(link),
        }
    }
}

/// What belongs to a program outside the system's directories: the packages among which it lies,
/// and the libraries beside its `bin`.
fn installed_with(program: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let packages = program
        .ancestors()
        .filter(|path| path.ends_with("node_modules"));
    found.extend(packages.last().map(Path::to_path_buf));
    let Some(bin) = program.parent().filter(|path| path.ends_with("bin")) else {
        return found;
    };
    let prefix = bin.parent().unwrap_or(bin);
    // With programs that it runs itself (git), and what a Python environment is known by.
    found.extend(["lib", "libexec", "pyvenv.cfg"].map(|name| prefix.join(name)));
    // The devcontainer CLI's own installer brings a node.
    if prefix.join("cli/current/package/devcontainer.js").is_file() {
        found.extend([prefix.join("cli"), prefix.join("node")]);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(path: &Path) -> Vec<PathBuf> {
        let before = Rules::of_system();
        let mut run = before.clone().program(path).run;
        run.split_off(before.run.len())
    }

    #[test]
    fn no_secret_of_the_servers_is_in_the_system() {
        let rules = Rules::of_system();
        for secret in [
            "/etc/shadow",
            "/etc/gshadow",
            "/etc/hatchery/app-key.pem",
            "/etc/ssh/ssh_host_ed25519_key",
            "/etc/ssl/private/key.pem",
            "/etc/pki/tls/private/localhost.key",
            "/etc/docker/key.json",
            "/root/.ssh/id_ed25519",
            "/home/overlord/.netrc",
            "/opt/stack/.env",
            "/var/lib/hatchery/ssh-secret",
            "/run/secrets/key",
            "/proc/1/environ",
            "/proc/kcore",
            "/dev/sda",
            "/dev/pts/0",
        ] {
            let all = [&rules.run, &rules.read, &rules.write, &rules.devices];
            let rule = all
                .into_iter()
                .flatten()
                .find(|rule| Path::new(secret).starts_with(rule));
            assert_eq!(rule, None, "{secret}");
        }
        assert_eq!(rules.write, [""; 0].map(PathBuf::from));
    }

    #[test]
    fn a_program_of_the_systems_needs_no_rule() {
        assert_eq!(program(Path::new("/usr/bin/env")), Vec::<PathBuf>::new());
    }

    #[test]
    fn a_program_in_a_home_brings_its_packages_and_libraries_and_no_more() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path().canonicalize().unwrap();
        let package = home.join("v22/lib/node_modules/@devcontainers/cli");
        std::fs::create_dir_all(&package).unwrap();
        std::fs::create_dir_all(home.join("v22/bin")).unwrap();
        std::fs::write(package.join("devcontainer.js"), "").unwrap();
        let link = home.join("v22/bin/devcontainer");
        symlink(
            "../lib/node_modules/@devcontainers/cli/devcontainer.js",
            &link,
        )
        .unwrap();
        assert_eq!(
            program(&link),
            [
                link.clone(),
                home.join("v22/lib"),
                home.join("v22/libexec"),
                home.join("v22/pyvenv.cfg"),
                package.join("devcontainer.js"),
                home.join("v22/lib/node_modules"),
            ]
        );
    }

    #[test]
    fn the_clis_own_installer_brings_a_node() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path().canonicalize().unwrap();
        let command = home.join("bin/devcontainer");
        std::fs::create_dir_all(home.join("cli/current/package")).unwrap();
        std::fs::create_dir_all(home.join("bin")).unwrap();
        std::fs::write(&command, "").unwrap();
        assert!(!program(&command).contains(&home.join("node")));
        std::fs::write(home.join("cli/current/package/devcontainer.js"), "").unwrap();
        assert!(program(&command).contains(&home.join("node")));
    }
}
