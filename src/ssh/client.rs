//! A person's own ssh on its way from this server into a drone: what OpenSSH's client is told, over whatever
//! `~/.ssh/config` says (`ssh_config(5)`; the first value counts, and the command line comes first).

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::identity::ServerSecret;
use super::{Authority, environment};
use crate::drone::DroneName;
use crate::error::{Result, host_io};
use crate::host::write_whole;

/// The line that vouches for every drone of this server by its name, beside the secret that it follows from.
const KNOWN_HOSTS: &str = "ssh-known-hosts";

/// The way to one drone.
#[derive(Debug, Clone)]
pub struct Client {
    name: DroneName,
    user: String,
    address: SocketAddr,
    known_hosts: PathBuf,
}

impl Client {
    /// The way to this drone's sshd, which listens at `address`, as `user`. `state` is the directory of this
    /// server's secret.
    pub fn new(
        state: &Path,
        name: &DroneName,
        user: impl Into<String>,
        address: SocketAddr,
    ) -> Result<Self> {
        Ok(Self {
            name: name.clone(),
            user: user.into(),
            address,
            known_hosts: known_hosts(state)?,
        })
    }

    /// The options, for `ssh`, `scp` and `sftp` alike. The host that they are for is the drone's name, so that a
    /// person's own `Host` block for it counts where these say nothing: it may name keys.
    ///
    /// A drone is not to be trusted: it is known by its certificate alone, and gets neither the person's agent
    /// nor their display. Its address may have been another drone's a moment ago, so connections are not
    /// shared.
    pub fn options(&self) -> Vec<String> {
        let settings = [
            format!("HostName={}", self.address.ip()),
            format!("Port={}", self.address.port()),
            format!("User={}", self.user),
            format!("HostKeyAlias={}", self.name),
            format!("UserKnownHostsFile=\"{}\"", self.known_hosts.display()),
            "GlobalKnownHostsFile=/dev/null".to_owned(),
            "StrictHostKeyChecking=yes".to_owned(),
            "HostKeyAlgorithms=ssh-ed25519-cert-v01@openssh.com,ssh-ed25519".to_owned(),
            "UpdateHostKeys=no".to_owned(),
            "CheckHostIP=no".to_owned(),
            "ProxyCommand=none".to_owned(),
            "RemoteCommand=none".to_owned(),
            "ControlPath=none".to_owned(),
            "ForwardAgent=no".to_owned(),
            "ForwardX11=no".to_owned(),
        ];
        let pairs = settings.into_iter();
        pairs
            .flat_map(|setting| ["-o".to_owned(), setting])
            .collect()
    }
}

/// What the remote shell does before a command: it goes to this folder, or the command is not run. For every
/// shell that a user may have, fish and csh included.
pub fn begin_in(folder: &str) -> String {
    format!("cd {} || exit 1;", environment::quoted(folder))
}

/// What the remote shell does for a session: it goes to this folder, if it is there, and becomes a login shell.
pub fn session_in(folder: &str) -> String {
    format!("cd {}; exec \"$SHELL\" -l", environment::quoted(folder))
}

/// The file by which ssh knows every drone of this server, written where it does not say so yet.
fn known_hosts(state: &Path) -> Result<PathBuf> {
    let secret = ServerSecret::load_or_create(state)?;
    let line = Authority::new(&secret).known_hosts_line_of_names()? + "\n";
    let path = state.join(KNOWN_HOSTS);
    match std::fs::read(&path) {
        Ok(content) if content == line.as_bytes() => return Ok(path),
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(host_io("read", &path, error));
        }
        _ => {}
    }
    write_whole(&path, 0o644, line.as_bytes())?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(state: &Path) -> Client {
        let name = DroneName::of(&"acme/site".parse().unwrap());
        Client::new(state, &name, "vscode", "10.189.0.2:2222".parse().unwrap()).unwrap()
    }

    #[test]
    fn ssh_reads_the_options_as_they_are_meant() {
        let place = tempfile::tempdir().unwrap();
        let state = place.path().join("with a space");
        let client = client(&state);
        let known = std::fs::read_to_string(state.join(KNOWN_HOSTS)).unwrap();
        assert!(
            known.starts_with("@cert-authority * ssh-ed25519 "),
            "{known}"
        );
        // As a person's configuration may be.
        let config = place.path().join("config");
        let text = "Host acme-*\n IdentityFile /my/key\nHost *\n User me\n Port 1\n ForwardAgent yes\n \
                    ProxyJump bastion\n ControlMaster auto\n ControlPath /c\n StrictHostKeyChecking no\n \
                    HostName elsewhere\n UserKnownHostsFile /mine\n RemoteCommand tmux\n";
        std::fs::write(&config, text).unwrap();
        let told = std::process::Command::new("ssh")
            .arg("-G")
            .arg("-F")
            .arg(&config)
            .args(client.options())
            .args(["--", "acme-site", "id"])
            .output();
        let Ok(told) = told else {
            eprintln!("no ssh here");
            return;
        };
        let told = String::from_utf8(told.stdout).unwrap();
        for line in [
            "hostname 10.189.0.2",
            "port 2222",
            "user vscode",
            "hostkeyalias acme-site",
            "stricthostkeychecking true",
            "forwardagent no",
            "identityfile /my/key",
            &format!("userknownhostsfile {}", state.join(KNOWN_HOSTS).display()),
        ] {
            assert!(
                told.lines().any(|one| one == line),
                "{line:?} is not in {told}"
            );
        }
        for keyword in ["proxyjump", "proxycommand", "controlpath", "remotecommand"] {
            let set = told.lines().find(|line| line.starts_with(keyword));
            assert!(set.is_none_or(|line| line.ends_with(" none")), "{set:?}");
        }
    }

    #[test]
    fn the_file_is_written_again_where_it_says_something_else() {
        let place = tempfile::tempdir().unwrap();
        let path = known_hosts(place.path()).unwrap();
        let line = std::fs::read(&path).unwrap();
        std::fs::write(&path, "old").unwrap();
        assert_eq!(known_hosts(place.path()).unwrap(), path);
        assert_eq!(std::fs::read(&path).unwrap(), line);
    }

    #[test]
    fn a_shell_goes_to_the_folder_or_no_further() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("it's a \"folder\"");
        std::fs::create_dir(&folder).unwrap();
        let run = |script: String| {
            let shell = std::process::Command::new("sh")
                .env("SHELL", "/bin/true")
                .args(["-c", &script])
                .output()
                .unwrap();
            (
                shell.status.code(),
                String::from_utf8(shell.stdout).unwrap(),
            )
        };
        let here = folder.to_str().unwrap();
        let there = run(format!("{} pwd; exit 3", begin_in(here)));
        assert_eq!(there, (Some(3), format!("{here}\n")));
        assert_eq!(
            run(format!("{} pwd", begin_in("/nonexistent"))),
            (Some(1), String::new())
        );
        assert_eq!(run(session_in("/nonexistent")), (Some(0), String::new()));
    }
}
