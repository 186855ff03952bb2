//! The cage: what programs that handle strangers' files may touch on this server (Landlock).
//!
//! The devcontainer CLI unpacks archives, follows links and writes files whose names and contents
//! a repository or a registry chose. Whatever goes wrong there, it and all that it starts read the
//! system's programs and libraries, the repository's checkout and little else, and write below two
//! directories of their own.
//!
//! Landlock does not govern connecting to a socket by its path, and root may connect to all of them: Docker's,
//! systemd's, D-Bus. So the directory of the services' sockets is hidden as well, if the kernel allows a mount
//! namespace (`sight`).
//!
//! If the rules say so, it can connect to one TCP port only: that of the [`outlet`](crate::outlet).
//!
//! hatchery enters the cage by calling itself under another name: [`Rules::install`] makes a link to hatchery
//! with the rules beside it, [`called`] recognizes a call by that link, and [`enter`] restricts the process
//! permanently and executes the program in it. The process keeps its id and group.

mod enter;
mod rules;
mod sight;
mod support;

pub use enter::{called, enter};
pub use rules::Rules;
pub use support::Support;

/// The name of the link by which hatchery is called to enter the cage.
const LINK: &str = "hatchery-cage";

/// The name of the rules beside the link.
const RULES_FILE: &str = "cage.json";

/// How a message begins that says why the cage could not be entered.
pub const FAILED: &str = "the cage failed: ";
