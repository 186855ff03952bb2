//! The container runtime in which root of a container is harmless to this server.

use serde::{Deserialize, Serialize};

/// A runtime that lets a container do what it would otherwise need `privileged` for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "&'static str")]
pub enum Runtime {
    /// [Sysbox](https://github.com/nestybox/sysbox): each container has a user namespace of its own, and all
    /// capabilities in it.
    Sysbox,
}

impl Runtime {
    /// What Docker knows it by.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sysbox => "sysbox-runc",
        }
    }
}

impl From<Runtime> for &'static str {
    fn from(runtime: Runtime) -> Self {
        runtime.as_str()
    }
}

impl TryFrom<String> for Runtime {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        match text.as_str() {
            "sysbox-runc" => Ok(Self::Sysbox),
            // Tried with gVisor 20260223: TUNSETIFF as tailscaled asks for it is an invalid argument there,
            // and nothing answers at 127.0.0.11 on a network that is not Docker's default.
            "runsc" => Err(
                "gVisor has no tun device for tailscaled, and Docker's DNS does not answer in it; drones \
                 only work in \"sysbox-runc\"",
            ),
            _ => Err("must be \"sysbox-runc\", or be left out"),
        }
    }
}
