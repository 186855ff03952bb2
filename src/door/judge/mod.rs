//! What a drone's containers, networks, volumes and commands may be.

mod build;
mod container;
mod exec;
mod healthcheck;
mod host;
mod image;
mod labels;
mod network;
mod volume;

use std::path::PathBuf;

pub use self::build::{PARAMETERS as OF_BUILD, build};
pub use self::container::{Asked, Creation, creation, labelled, present, surprise};
pub use self::exec::{exec, reveal};
pub use self::host::is_the_sockets;
pub use self::image::{are_elsewhere, are_free, is_kept_from, is_usable, not_for, pull};
pub use self::network::{connection, is_own as is_own_network, network, placed, wants_addresses};
pub use self::volume::{is_plain, volume};

use crate::config::{Limits, Registries, Runtime};
use crate::docker::{self, Machine};
use crate::drone::Identity;
use crate::secret::Environment;

/// What a drone's containers are held against.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// The drone.
    pub identity: Identity,
    /// The drone's `devcontainerId`: a volume whose name contains it is the drone's own.
    pub id: String,
    /// The drone's directory of sockets, the only one of the host that it has.
    pub sockets: Option<PathBuf>,
    /// Volumes that the configuration has drones share.
    pub shared: Vec<String>,
    /// What each may use.
    pub limits: Limits,
    /// The loopback port that leads to the drone's sshd.
    pub ssh_port: Option<u16>,
    /// Whether it is a compose project, with networks of its own.
    pub compose: bool,
    /// What Docker can enforce here.
    pub machine: Machine,
    /// Private images, and which repositories may use them.
    pub registries: Registries,
    /// Whether Docker builds its images, and not a builder of its own.
    pub builds: bool,
    /// What runs its containers, where it is not Docker's default. Privileges are then left out.
    pub runtime: Option<Runtime>,
    /// The secrets that take the place of their stand-ins in the environment of commands.
    pub secrets: Environment,
}

impl Bounds {
    fn name(&self) -> &str {
        self.identity.name.as_str()
    }

    /// Whether a volume of this name can be no other drone's. This is never so for one without a name: only the
    /// containers that have it tell whose it is.
    pub fn owns(&self, volume: &str) -> bool {
        self.identity.name.owns(&self.id, volume) && !is_nameless(volume)
    }

    /// Whether it may have a volume of this name: its own, or one that drones share.
    pub fn has(&self, volume: &str) -> bool {
        self.owns(volume) || self.shared.iter().any(|shared| shared == volume)
    }

    /// Whether a container may be called so: like the drone, or in the way of compose 1 and 2
    /// (`acme-site_db_1`, `acme-site-db-1`), which put an id before the name of one that they
    /// replace.
    pub fn names(&self, container: &str) -> bool {
        if container == self.name() {
            return true;
        }
        let replaced = container
            .split_once('_')
            .filter(|(id, _)| id.len() == 12 && id.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let container = replaced.map_or(container, |(_, name)| name);
        let rest = container.strip_prefix(self.name());
        let numbered = |rest: &str| {
            let last = rest.rsplit_once('-');
            last.is_some_and(|(_, last)| last.parse::<u16>().is_ok())
        };
        self.compose
            && rest.is_some_and(|rest| {
                rest.starts_with(['_', '.']) || rest.starts_with('-') && numbered(rest)
            })
    }
}

/// Whether this is the name that Docker makes for a volume that was given none.
pub fn is_nameless(volume: &str) -> bool {
    docker::is_id(volume)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::drone::Scope;

    pub(in crate::door) const ID: &str = "0123456789abcdefghijklmnopqrstuv0123456789abcdefghij";

    pub(in crate::door) fn bounds() -> Bounds {
        let scope = Scope::from_json(r#"{"repositories":["acme/site"]}"#).unwrap();
        Bounds {
            identity: Identity::new(scope),
            id: ID.to_owned(),
            sockets: Some("/run/hatchery/acme-site".into()),
            shared: vec!["hatchery.shared.claude".to_owned()],
            limits: Limits {
                memory: bytesize::ByteSize::gib(1),
                cpus: 0.5,
                pids: 99,
                ..Limits::default()
            },
            registries: Registries::default(),
            builds: true,
            ssh_port: Some(4022),
            compose: true,
            machine: Machine {
                cgroup: "2".into(),
                runtime: "crun".into(),
                swap_limit: true,
                ..Machine::default()
            },
            runtime: None,
            secrets: Environment::default(),
        }
    }

    #[test]
    fn a_container_is_called_like_its_drone() {
        let mut bounds = bounds();
        for own in [
            "acme-site",
            "acme-site_db_1",
            "acme-site-db-1",
            "0123456789ab_acme-site_db_1",
        ] {
            assert!(bounds.names(own), "{own}");
        }
        for other in [
            "",
            "acme",
            "acme-sites",
            "acme-other",
            "acme-site-b",
            "x_acme-site_db_1",
        ] {
            assert!(!bounds.names(other), "{other}");
        }
        bounds.compose = false;
        assert!(bounds.names("acme-site") && !bounds.names("acme-site_db_1"));
    }
}
