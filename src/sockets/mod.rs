//! The drones' sockets, on the server's side: what lies in their directories and who serves them.
//!
//! On a machine with hatchery's units that is systemd, which starts one `hatchery-credd` for each
//! drone when it is needed ([`systemd`]); elsewhere one `hatchery-credd` serves all of them. A
//! server without a GitHub App has no sockets.

pub mod systemd;

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::UnixStream;

use crate::config::Config;
use crate::drone::file::{SOCKET, write_drone_file};
use crate::drone::{DroneName, Identity, Scope};
use crate::error::{Code, Error, Result, host_io};
use crate::failpoint::{self, Point};
use crate::host::{Places, write_whole};
use crate::http;
use systemd::Systemd;

/// How long the one daemon of all drones may take to see a new one.
const SERVED_WITHIN: Duration = Duration::from_secs(10);
/// How often is looked meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long revoking may take: the service answers within 15 s, whatever GitHub does.
const REVOKE_WITHIN: Duration = Duration::from_secs(20);
/// The longest answer that is read, in bytes.
const MAX_ANSWER: usize = 64 * 1024;

/// Who serves the sockets of this server.
#[derive(Debug)]
pub enum Sockets<'a> {
    /// Nobody: there is no GitHub App.
    None,
    /// systemd, through hatchery's units.
    Systemd(&'a Places, Systemd),
    /// One `hatchery-credd`, which follows Docker.
    Daemon(&'a Places),
}

impl<'a> Sockets<'a> {
    /// Finds out who serves them here.
    pub async fn of(config: &Config, places: &'a Places) -> Result<Self> {
        if config.github.app_id.is_none() {
            return Ok(Self::None);
        }
        if places.are_the_systems()
            && let Some(systemd) = Systemd::with_units().await?
        {
            return Ok(Self::Systemd(places, systemd));
        }
        Ok(Self::Daemon(places))
    }

    /// Makes the drone's directory and has its socket served; gives the directory. The drone's
    /// volume must exist: the one daemon learns of the drone from it.
    pub async fn open(&self, config: &Config, identity: &Identity) -> Result<Option<PathBuf>> {
        let (Self::Systemd(places, _) | Self::Daemon(places)) = self else {
            return Ok(None);
        };
        let directory = prepare(config, places, &identity.scope)?;
        match self {
            Self::Systemd(places, systemd) => {
                write_scope(places, identity)?;
                failpoint::reached(Point::ScopeWritten);
                systemd.start(&socket_unit(&identity.name)).await?;
                failpoint::reached(Point::SocketStarted);
            }
            _ => served(&directory).await?,
        }
        Ok(Some(directory))
    }

    /// Has the socket of a drone whose container has stopped served with another scope: tokens of the old one
    /// are revoked, and what asks from now on gets those of the new one. The one daemon learns the scope from
    /// the container that is made next.
    pub async fn rescope(&self, config: &Config, identity: &Identity) -> Result<()> {
        let (Self::Systemd(places, _) | Self::Daemon(places)) = self else {
            return Ok(());
        };
        prepare(config, places, &identity.scope)?;
        let Self::Systemd(places, systemd) = self else {
            return Ok(());
        };
        write_scope(places, identity)?;
        // GitHub may be away; they expire within the hour.
        let _ = self.revoke(&identity.name).await;
        // It has read the old scope when it started.
        systemd.stop(&service_unit(&identity.name)).await
    }

    /// Revokes the drone's live tokens. Where no service runs for it there are none.
    pub async fn revoke(&self, name: &DroneName) -> Result<()> {
        let (places, asleep) = match self {
            Self::None => return Ok(()),
            Self::Systemd(places, systemd) => {
                (places, !systemd.is_active(&service_unit(name)).await?)
            }
            Self::Daemon(places) => (places, false),
        };
        if asleep {
            return Ok(());
        }
        let path = places.sockets(name).join(SOCKET);
        let client = http::unix_client(&path, REVOKE_WITHIN)?;
        let answer = match client.delete("http://localhost/token").send().await {
            // Nobody holds a token for a drone that nobody serves.
            Err(error) if error.is_connect() => return Ok(()),
            answer => answer.map_err(|error| not_revoked(name).because(error.without_url()))?,
        };
        if answer.status().is_success() {
            return Ok(());
        }
        let body = http::body(answer, MAX_ANSWER).await.unwrap_or_default();
        Err(not_revoked(name).because(reason(&body)))
    }

    /// Revokes what is live and ends the credentials of a drone that goes away.
    pub async fn close(&self, name: &DroneName) -> Result<()> {
        let revoked = self.revoke(name).await;
        failpoint::reached(Point::TokensRevoked);
        if let Self::Systemd(places, systemd) = self {
            // The service first: a client that waits would make the socket start it again.
            systemd.stop(&socket_unit(name)).await?;
            failpoint::reached(Point::SocketStopped);
            systemd.stop(&service_unit(name)).await?;
            failpoint::reached(Point::ServiceStopped);
            let scope = places.scope_file(name);
            match std::fs::remove_file(&scope) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(host_io("remove", &scope, error));
                }
                _ => {}
            }
            failpoint::reached(Point::ScopeRemoved);
        }
        revoked
    }
}

/// The directory that is mounted into the drone, with what the drone may know in it.
pub fn prepare(config: &Config, places: &Places, scope: &Scope) -> Result<PathBuf> {
    let directory = places.sockets(&DroneName::of(scope.own()));
    places.shared_directory(&directory)?;
    write_drone_file(&directory, &config.github.url, scope)?;
    failpoint::reached(Point::SocketDirectoryMade);
    Ok(directory)
}

/// Writes the scope where systemd finds it for the service.
fn write_scope(places: &Places, identity: &Identity) -> Result<()> {
    let path = places.scope_file(&identity.name);
    let text = identity.scope.to_json();
    if std::fs::read_to_string(&path).is_ok_and(|there| there == text) {
        return Ok(());
    }
    places.shared_directory(&places.scopes())?;
    write_whole(&path, 0o640, text.as_bytes())
}

/// The socket unit of a drone.
pub fn socket_unit(name: &DroneName) -> String {
    format!("{}{name}.socket", systemd::PREFIX)
}

/// The pattern of all drones' socket units.
pub fn all_socket_units() -> String {
    format!("{}*.socket", systemd::PREFIX)
}

/// Whose socket unit this is.
pub fn drone_of(unit: &str) -> Option<DroneName> {
    let name = unit
        .strip_prefix(systemd::PREFIX)?
        .strip_suffix(".socket")?;
    DroneName::from_label(name)
}

/// The service unit of a drone.
pub fn service_unit(name: &DroneName) -> String {
    format!("{}{name}.service", systemd::PREFIX)
}

async fn served(directory: &Path) -> Result<()> {
    let path = directory.join(SOCKET);
    let looking = async {
        while UnixStream::connect(&path).await.is_err() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    tokio::time::timeout(SERVED_WITHIN, looking)
        .await
        .map_err(|_| {
            Error::new(
                Code::HostFailed,
                format!(
                    "no service provides GitHub credentials on {}",
                    path.display()
                ),
            )
            .hint(
                "install and enable hatchery's systemd units, or start `hatchery-credd`, which \
                 serves all drones",
            )
        })
}

fn not_revoked(name: &DroneName) -> Error {
    Error::new(
        Code::GithubAway,
        format!("the tokens of {name} could not be revoked; they expire within the hour"),
    )
    .hint("the service tries again while it runs; `hatchery audit` shows the result")
}

/// What the service says is wrong.
fn reason(body: &[u8]) -> String {
    let value: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let message = value.as_ref().and_then(|value| {
        value
            .get("error")?
            .get("message")?
            .as_str()
            .map(str::to_owned)
    });
    message.unwrap_or_else(|| "the service gave no reason".to_owned())
}
