//! All that speaks to Docker, over its Engine API.

mod addresses;
mod archive;
mod bridges;
mod builder;
mod connection;
mod container;
mod disk;
mod drones;
mod exec;
mod extract;
mod follow;
mod layers;
mod limits;
mod logs;
mod look;
mod machine;
mod networks;
mod objects;
mod probe;
mod registry;
mod restart;
mod saved;
mod session;
mod visits;

use std::path::Path;
use std::time::Duration;

use bollard::ClientVersion;
use bollard::errors::Error as ApiError;

pub use self::addresses::{Addresses, Block, DEVICES, is_overlap};
pub use self::archive::{Directory, Entry, Owner, Tree, WholeFile};
pub use self::bridges::{Bridge, Endpoints, OPTION_DEVICE, is_a_bridge};
pub use self::builder::{BuilderSpec, Built};
pub use self::container::{Container, Usage, Wanted};
pub use self::disk::{Disk, Layer, Volume};
pub use self::drones::{Drone, Life};
pub use self::exec::{Inside, Output, Setting};
pub use self::extract::Held;
pub use self::layers::Layout;
pub use self::limits::{InForce, billionths};
pub use self::logs::{Entry as LogEntry, Logs};
pub use self::look::{Looking, RunsAs, SCRATCH};
pub use self::machine::{Machine, Store};
pub use self::objects::LABEL_PROJECT;
pub use self::registry::{Login, REGISTRY_AUTH, is_denial};
pub use self::restart::{LABEL_RESTART, Restart, UNSAID};
pub use self::session::{Broken, Running, Streams};

use crate::config;
use crate::error::{Code, Error, Result};

/// On what hatchery runs for a moment. What has one of them and is old is removed.
pub const LABELS_OF_HELPERS: [&str; 2] = [look::LABEL, probe::LABEL];

/// How long Docker may take to answer a request that is not a stream.
const ANSWER_WITHIN: Duration = Duration::from_secs(120);

/// How long Docker may take to say that it is there.
const HELLO_WITHIN: Duration = Duration::from_secs(10);

/// The version of the API that is tried first: Docker 20.10's, which everything here is in.
const OLDEST: ClientVersion = ClientVersion {
    major_version: 1,
    minor_version: 41,
};

/// A Docker daemon that answers.
#[derive(Debug, Clone)]
pub struct Docker {
    api: bollard::Docker,
    host: String,
}

impl Docker {
    /// Connects, agrees on a version of the API, and so knows that the daemon is there.
    pub async fn connect(config: &config::Docker) -> Result<Self> {
        let away = || {
            Error::new(
                Code::DockerAway,
                format!("no Docker daemon answers at {}", config.host),
            )
            .hint(
                "start it (`systemctl start docker`), join the group docker, or set docker.host in the \
                 configuration to its socket",
            )
        };
        let open = |version| {
            connection::open(socket_of(&config.host), version)
                .map_err(|error| away().because(reason(&error)))
        };
        let hello = async {
            let api = open(&OLDEST)?;
            match api.ping().await {
                Ok(_) => Ok(api),
                // A Docker that speaks it no more says so; to ask for its version costs more.
                Err(error) if status(&error) == Some(400) => open(bollard::API_DEFAULT_VERSION)?
                    .negotiate_version()
                    .await
                    .map_err(|error| away().because(reason(&error))),
                Err(error) => Err(away().because(reason(&error))),
            }
        };
        let api = tokio::time::timeout(HELLO_WITHIN, hello)
            .await
            .map_err(|_| away())??;
        Ok(Self {
            api,
            host: config.host.clone(),
        })
    }

    /// The daemon's address, as in `DOCKER_HOST`.
    pub fn host(&self) -> &str {
        &self.host
    }
}

/// The socket's path in a daemon's address, which is as in `DOCKER_HOST`.
pub fn socket_of(host: &str) -> &Path {
    Path::new(host.strip_prefix("unix://").unwrap_or(host))
}

/// Something of Docker's or in a container did not come to its end in time; `doing` reads like
/// "remove the volume acme-site".
fn late(doing: &str, within: Duration) -> Error {
    Error::new(
        Code::TimedOut,
        format!("could not {doing} within {} s", within.as_secs()),
    )
    .hint("it may hang; check `docker logs` and `systemctl status docker`, then try again")
}

/// What Docker's error means to a person; `doing` reads like "remove the volume acme-site".
fn failed(doing: &str, error: ApiError) -> Error {
    let text = error.to_string();
    if is_connection(&error) {
        return Error::new(
            Code::DockerAway,
            format!("the Docker daemon went away while hatchery tried to {doing}"),
        )
        .hint("check `systemctl status docker`, then try again")
        .because(reason(&error));
    }
    if text.contains("no space left on device") || text.contains("disk quota exceeded") {
        return Error::new(
            Code::DiskFull,
            format!("Docker's disk is full: cannot {doing}"),
        )
        .hint("`docker system df` shows what uses the space, `hatchery list` shows the drones");
    }
    if is_out_of_addresses(&text) {
        return out_of_addresses(doing);
    }
    Error::new(Code::DockerFailed, format!("Docker could not {doing}")).because(error)
}

/// Whether Docker could not open a container because a part of a volume that it mounts is not there.
pub fn lacks_a_part(error: &Error) -> bool {
    error.message().contains("cannot access path /")
}

/// Whether Docker, or who called it, says that no address range is left for a network.
pub fn is_out_of_addresses(text: &str) -> bool {
    text.contains("non-overlapping IPv4 address pool")
        || text.contains("address pools have been fully subnetted")
}

/// The error for that.
pub fn out_of_addresses(doing: &str) -> Error {
    Error::new(
        Code::DockerFailed,
        format!("Docker has no address range left for another network: cannot {doing}"),
    )
    .hint(
        "`docker network prune` removes networks that nothing uses; `default-address-pools` in \
         /etc/docker/daemon.json gives Docker more, after `systemctl restart docker`",
    )
}

/// What helps where Docker can run nothing.
pub const ENGINE_HINT: &str = "this is Docker's own error and does not come from the repository; check \
     `journalctl -u docker`, and try `docker run --rm` and `docker exec` by hand";

/// Whether these words are those of a container runtime that fails whatever it is to run; that a
/// program is not there, or is none, is the image's fault.
pub fn is_engines_fault(text: &str) -> bool {
    let runtime = text.contains("OCI runtime") || text.contains("error adding pid");
    runtime && !text.contains("exec: \"") && !text.contains("executable file not found")
}

/// Why a connection failed, without the words of the libraries in between.
fn reason(error: &ApiError) -> String {
    let mut deepest: &dyn std::error::Error = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string()
}

fn is_connection(error: &ApiError) -> bool {
    matches!(
        error,
        ApiError::HyperResponseError { .. }
            | ApiError::HyperLegacyError { .. }
            | ApiError::RequestTimeoutError
            | ApiError::SocketNotFoundError(_)
            | ApiError::IOError { .. }
    )
}

/// The HTTP status of Docker's refusal, if it was one.
fn status(error: &ApiError) -> Option<u16> {
    match error {
        ApiError::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

/// `None` where Docker says that there is no such thing.
fn found<T>(doing: &str, result: Result<T, ApiError>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if status(&error) == Some(404) => Ok(None),
        Err(error) => Err(failed(doing, error)),
    }
}

/// Whether this is a SHA-256 in hexadecimal digits, as Docker numbers what it has.
pub fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The `filters` of a list request.
fn filters(key: &str, value: String) -> std::collections::HashMap<String, Vec<String>> {
    std::iter::once((key.to_owned(), vec![value])).collect()
}
