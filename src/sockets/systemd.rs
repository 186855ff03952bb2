//! systemd, as far as the drones' units go: its D-Bus interface (org.freedesktop.systemd1(5)).

use std::path::Path;
use std::time::Duration;

use futures_util::StreamExt;
use zbus::OwnedObjectPath;
use zbus::proxy::CacheProperties;

use crate::error::{Code, Error, Result};

/// What the names of the drones' units begin with; the drone's name follows.
pub const PREFIX: &str = "hatchery-credd@";
/// Where systemd leaves its mark when it runs this machine (`sd_booted(3)`).
const BOOTED: &str = "/run/systemd/system";
/// How long a unit may take to start or stop.
const DONE_WITHIN: Duration = Duration::from_secs(45);

/// The machine's service manager.
#[derive(Debug)]
pub struct Systemd {
    manager: ManagerProxy<'static>,
}

/// A unit as systemd lists it: name, description, load, active and sub state, followed unit, path,
/// job's id, type and path.
type Listed = (
    String,
    String,
    String,
    String,
    String,
    String,
    OwnedObjectPath,
    u32,
    String,
    OwnedObjectPath,
);

impl Systemd {
    /// systemd, where it runs this machine and hatchery's units are installed.
    pub async fn with_units() -> Result<Option<Self>> {
        if !Self::runs() {
            return Ok(None);
        }
        let systemd = Self::connect().await?;
        Ok(systemd
            .knows(&format!("{PREFIX}.socket"))
            .await?
            .then_some(systemd))
    }

    /// Whether systemd runs this machine.
    pub fn runs() -> bool {
        Path::new(BOOTED).is_dir()
    }

    /// systemd, which must run this machine.
    pub async fn connect() -> Result<Self> {
        let connect = async {
            let connection = zbus::Connection::system().await?;
            let manager = ManagerProxy::new(&connection).await?;
            // Once for a connection; without it there are no signals.
            manager.subscribe().await?;
            Ok(manager)
        };
        let manager = connect
            .await
            .map_err(|error| failed("reach systemd", error))?;
        Ok(Self { manager })
    }

    /// Whether a unit file of this name is installed.
    pub async fn knows(&self, unit: &str) -> Result<bool> {
        Ok(self.file_state(unit).await?.is_some())
    }

    /// Whether a unit file is "enabled", "disabled", "static" and so on; `None` where it is not
    /// installed.
    pub async fn file_state(&self, unit: &str) -> Result<Option<String>> {
        match self.manager.get_unit_file_state(unit).await {
            Ok(state) => Ok(Some(state)),
            Err(error) if is(&error, "NoSuchFile") || is(&error, "FileNotFound") => Ok(None),
            Err(error) => Err(failed(&format!("look for {unit}"), error)),
        }
    }

    /// Starts a unit and waits until it is up.
    pub async fn start(&self, unit: &str) -> Result<()> {
        self.job(unit, true).await
    }

    /// Stops a unit and waits until it is down; one that is not there is down.
    pub async fn stop(&self, unit: &str) -> Result<()> {
        self.job(unit, false).await
    }

    /// Whether a unit is up.
    pub async fn is_active(&self, unit: &str) -> Result<bool> {
        let listed = self.manager.list_units_by_names(&[unit]).await;
        let listed = listed.map_err(|error| failed(&format!("look at {unit}"), error))?;
        Ok(listed.iter().any(is_up))
    }

    /// Whether a unit has failed.
    pub async fn has_failed(&self, unit: &str) -> Result<bool> {
        let listed = self.manager.list_units_by_names(&[unit]).await;
        let listed = listed.map_err(|error| failed(&format!("look at {unit}"), error))?;
        Ok(listed.iter().any(|unit| unit.3 == "failed"))
    }

    /// The units of this pattern that are up.
    pub async fn active(&self, pattern: &str) -> Result<Vec<String>> {
        let listed = self.manager.list_units_by_patterns(&[], &[pattern]).await;
        let listed = listed.map_err(|error| failed(&format!("list {pattern}"), error))?;
        Ok(listed
            .into_iter()
            .filter(is_up)
            .map(|unit| unit.0)
            .collect())
    }

    /// Where a service's credential of this name comes from, encrypted or not: a path, or a name
    /// in the credential store. `None` where the service has none.
    pub async fn credential_of(&self, unit: &str, name: &str) -> Result<Option<String>> {
        let looking = async {
            let path = self.manager.load_unit(unit).await?;
            let service = ServiceProxy::builder(self.manager.inner().connection())
                .path(path)
                .cache_properties(CacheProperties::No)
                .build()
                .await?;
            let mut all = service.load_credential().await?;
            all.extend(service.load_credential_encrypted().await?);
            Ok(all)
        };
        let all: zbus::Result<Vec<(String, String)>> = looking.await;
        let all = all.map_err(|error| failed(&format!("look at {unit}"), error))?;
        Ok(all
            .into_iter()
            .find(|(id, _)| id == name)
            .map(|(_, from)| from))
    }

    async fn job(&self, unit: &str, start: bool) -> Result<()> {
        let what = if start { "start" } else { "stop" };
        let running = async {
            // Before it is asked for: the job may be done before the answer is here.
            let mut removed = self.manager.receive_job_removed().await?;
            let asked = if start {
                self.manager.start_unit(unit, "replace").await
            } else {
                self.manager.stop_unit(unit, "replace").await
            };
            let job = match asked {
                Err(error) if !start && is(&error, "NoSuchUnit") => return Ok("done".to_owned()),
                asked => asked?,
            };
            while let Some(signal) = removed.next().await {
                let ended = signal.args()?;
                if ended.job == job {
                    return Ok(ended.result.clone());
                }
            }
            Err(zbus::Error::InputOutput(std::sync::Arc::new(
                std::io::ErrorKind::ConnectionAborted.into(),
            )))
        };
        let ended = tokio::time::timeout(DONE_WITHIN, running).await;
        let result = match ended {
            Ok(result) => result.map_err(|error| failed(&format!("{what} {unit}"), error))?,
            Err(_) => format!("it was not done within {} s", DONE_WITHIN.as_secs()),
        };
        if result == "done" {
            return Ok(());
        }
        Err(Error::new(
            Code::HostFailed,
            format!("systemd did not {what} {unit}: {result}"),
        )
        .hint(format!("`systemctl status {unit}` shows why")))
    }
}

fn is_up(unit: &Listed) -> bool {
    matches!(unit.3.as_str(), "active" | "activating" | "reloading")
}

/// Whether systemd answered with an error of this name.
fn is(error: &zbus::Error, name: &str) -> bool {
    matches!(error, zbus::Error::MethodError(full, _, _)
        if full.as_str().rsplit('.').next() == Some(name))
}

fn failed(what: &str, error: zbus::Error) -> Error {
    let refused = ["AccessDenied", "InteractiveAuthorizationRequired"]
        .iter()
        .any(|name| is(&error, name));
    let hint = if refused {
        "only root and members of the group hatchery may do this (`sudo usermod -aG hatchery NAME`, then log \
         in again)"
    } else {
        "check that systemd and D-Bus run: `systemctl status dbus`"
    };
    Error::new(Code::HostFailed, format!("cannot {what}"))
        .hint(hint)
        .because(error)
}

#[zbus::proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1"
)]
trait Manager {
    fn start_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn stop_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn subscribe(&self) -> zbus::Result<()>;
    fn load_unit(&self, name: &str) -> zbus::Result<OwnedObjectPath>;
    fn get_unit_file_state(&self, file: &str) -> zbus::Result<String>;
    fn list_units_by_names(&self, names: &[&str]) -> zbus::Result<Vec<Listed>>;
    fn list_units_by_patterns(
        &self,
        states: &[&str],
        patterns: &[&str],
    ) -> zbus::Result<Vec<Listed>>;

    #[zbus(signal)]
    fn job_removed(
        &self,
        id: u32,
        job: OwnedObjectPath,
        unit: String,
        result: String,
    ) -> zbus::Result<()>;
}

#[zbus::proxy(
    interface = "org.freedesktop.systemd1.Service",
    default_service = "org.freedesktop.systemd1",
    assume_defaults = false
)]
trait Service {
    #[zbus(property)]
    fn load_credential(&self) -> zbus::Result<Vec<(String, String)>>;
    #[zbus(property)]
    fn load_credential_encrypted(&self) -> zbus::Result<Vec<(String, String)>>;
}
