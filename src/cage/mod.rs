//! The cage: what programs that handle strangers' files may touch on this server (Landlock).
//!
//! The devcontainer CLI unpacks archives, follows links and writes files whose names and contents
//! a repository or a registry chose. Whatever goes wrong there, it and all that it starts read the
//! system's programs and libraries, the repository's checkout and little else, and write below two
//! directories of their own.
//!
//! Landlock says nothing of connecting to a socket, and root may connect to all of them: Docker's,
//! systemd's, D-Bus. So the directory of the services' sockets is out of sight as well, where the
//! kernel gives a mount namespace (`sight`).
//!
//! Where the rules say so, one port is all that it connects to: the [`outlet`](crate::outlet)'s.
//!
//! hatchery enters the cage by calling itself under another name: [`Rules::install`] makes a link
//! to hatchery with the rules beside it, [`called`] recognizes a call by that link, and [`enter`]
//! restricts the process for good and becomes the program. Its process id and group stay.

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
