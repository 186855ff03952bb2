//! What a drone is: its name, its scope, the labels that say so, and what it knows of itself.

pub mod file;
#[cfg(feature = "server")]
pub mod head;
#[cfg(feature = "server")]
mod identity;
#[cfg(feature = "server")]
mod labels;
#[cfg(feature = "server")]
mod name;
#[cfg(feature = "server")]
pub mod permission;
#[cfg(feature = "server")]
mod scope;

#[cfg(feature = "server")]
pub use self::identity::Identity;
#[cfg(feature = "server")]
pub use self::labels::{
    LABEL_DRONE, LABEL_HEAD, LABEL_REPO, LABEL_SCHEMA, LABEL_SCOPE, LabelError, SCHEMA,
};
#[cfg(feature = "server")]
pub use self::name::DroneName;
#[cfg(feature = "server")]
pub use self::scope::{Scope, ScopeError};
