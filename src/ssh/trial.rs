//! One login to a drone, with a key that is made for it: whether a person's would work.

use std::fs::Permissions;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use ssh_key::LineEnding;

use super::PORT;
use super::identity::{self, ServerSecret};
use crate::drone::DroneName;
use crate::error::{Code, Error, Result, host_io};
use crate::process::{self, Group};
use crate::ui::clean;

/// How long one login may take, the shell's own start included.
const WITHIN: Duration = Duration::from_secs(30);
/// What OpenSSH's client ends with where there was no login.
const NO_LOGIN: i32 = 255;
/// How much is kept of what the client says: its last line, and of that so many characters.
const MAX_SAID: usize = 200;

/// A key for one login. Its private half is gone when this is dropped.
#[derive(Debug)]
pub struct Trial {
    directory: tempfile::TempDir,
    name: DroneName,
    public: String,
}

/// How a login went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Login {
    /// A shell ran as the user.
    Works,
    /// sshd let nobody in; what the client said.
    Refused(String),
    /// sshd let them in, but the shell ended with this status.
    NoShell(i32),
    /// No end came.
    Stuck,
}

impl Trial {
    /// A key, in a directory of its own below `place`. `None` where this server has no ssh to try it with.
    pub fn new(place: &Path, secret: &ServerSecret, name: &DroneName) -> Result<Option<Self>> {
        if process::find("ssh").is_none() {
            return Ok(None);
        }
        let failed = |error: ssh_key::Error| {
            Error::new(Code::HostFailed, "cannot make a key for one login").because(error)
        };
        let key = identity::new_key("hatchery, for one login")?;
        let public = key.public_key().to_openssh().map_err(failed)?;
        let host = secret.host_key(name);
        let host = host.public_key().to_openssh().map_err(failed)?;
        let directory = tempfile::Builder::new()
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in(place)
            .map_err(|error| host_io("make", place, error))?;
        let trial = Self {
            directory,
            name: name.clone(),
            public,
        };
        key.write_openssh_file(&trial.key(), LineEnding::LF)
            .map_err(failed)?;
        let known = trial.known_hosts();
        std::fs::write(&known, format!("{name} {host}\n"))
            .map_err(|error| host_io("write", &known, error))?;
        Ok(Some(trial))
    }

    /// The line that lets the key in, for nothing but to see that a shell starts. It has the options that
    /// every OpenSSH knows.
    pub fn authorized_line(&self) -> String {
        format!(
            "command=\"exit 0\",no-pty,no-port-forwarding,no-agent-forwarding,no-X11-forwarding {}\n",
            self.public
        )
    }

    /// Logs in as this user, once.
    pub async fn log_in(&self, address: IpAddr, user: &str) -> Result<Login> {
        let mut command = process::supervised("ssh")?;
        command.args(["-F", "none", "-a", "-x", "-T"]);
        let file = |option: &str, path: PathBuf| format!("{option}={}", path.display());
        for option in [
            "BatchMode=yes",
            "IdentitiesOnly=yes",
            "IdentityAgent=none",
            "PreferredAuthentications=publickey",
            "StrictHostKeyChecking=yes",
            "UpdateHostKeys=no",
            "GlobalKnownHostsFile=/dev/null",
            "ConnectTimeout=10",
            "LogLevel=ERROR",
            &file("UserKnownHostsFile", self.known_hosts()),
            &file("IdentityFile", self.key()),
            &format!("HostKeyAlias={}", self.name),
            &format!("Port={PORT}"),
            &format!("User={user}"),
        ] {
            command.arg("-o").arg(option);
        }
        command
            .arg(address.to_string())
            .arg("exit")
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut group = Group::spawn(&mut command, "ssh")?;
        let stderr = group.child().stderr.take();
        let mut said = String::new();
        let running = async {
            if let Some(stderr) = stderr {
                let _ = process::lines(stderr, |line| {
                    said = clean::line(line).trim().chars().take(MAX_SAID).collect();
                })
                .await;
            }
            group.wait().await
        };
        let status = match tokio::time::timeout(WITHIN, running).await {
            Ok(status) => status?.code(),
            Err(_) => return Ok(Login::Stuck),
        };
        Ok(match status {
            Some(0) => Login::Works,
            Some(NO_LOGIN) | None => Login::Refused(said),
            Some(status) => Login::NoShell(status),
        })
    }

    fn key(&self) -> PathBuf {
        self.directory.path().join("key")
    }

    fn known_hosts(&self) -> PathBuf {
        self.directory.path().join("known_hosts")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_private_and_goes_with_the_trial() {
        let place = tempfile::tempdir().unwrap();
        let secret = ServerSecret::load_or_create(place.path()).unwrap();
        let name = DroneName::of(&"acme/site".parse().unwrap());
        let trial = Trial::new(place.path(), &secret, &name);
        let trial = trial.unwrap().expect("the tests run where ssh is");
        let other = Trial::new(place.path(), &secret, &name).unwrap().unwrap();
        assert_ne!(trial.authorized_line(), other.authorized_line());
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&trial.key()), 0o600);
        assert_eq!(mode(trial.directory.path()), 0o700);
        let line = trial.authorized_line();
        assert!(line.starts_with("command=\"exit 0\",no-pty,") && line.ends_with('\n'));
        let gone = trial.directory.path().to_owned();
        drop(trial);
        assert!(!gone.exists());
    }
}
