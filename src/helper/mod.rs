//! What runs in a drone: the git credential helper and the `gh` wrapper, one program under the
//! names of what it stands in for.
//!
//! It goes into every drone and git starts it at every turn, so it is small and quick: nothing of
//! the rest of this crate but names, types and what keeps a terminal clean, no runtime, no shell, no libc of the image's.

mod ask;
mod gh;
mod git;
pub mod place;
pub mod probe;
pub mod question;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use rustix::process::{DumpableBehavior, set_dumpable_behavior};

use crate::ui::clean;

/// Where an image's own `gh` is kept, if it was at the place of ours.
pub const REAL_GH: &str = "/usr/local/lib/hatchery/gh";
/// The image's certificates and the configuration's, where it names some.
pub const BUNDLE: &str = "/etc/hatchery/ca-bundle.pem";

/// What went wrong, in one line for the person in the drone.
type Result<T> = std::result::Result<T, String>;

/// Runs what the first of these arguments, the program's name, stands for.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    // A token passes through here; no core dump gets it. What is executed from here is its own.
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let mut arguments = arguments.into_iter();
    let program = arguments.next().unwrap_or_default();
    let mut name = Path::new(&program)
        .file_name()
        .unwrap_or_default()
        .to_owned();
    if name == "hatchery-drone" {
        name = arguments.next().unwrap_or_default();
    }
    match name.to_str() {
        Some("git-credential-hatchery" | "git-credential") => git::run(arguments.next()),
        Some("gh") => gh::run(&program, &arguments.collect::<Vec<_>>()),
        // Not for a person: how `hatchery doctor` sees what a container can reach.
        Some("probe") => probe::run(&arguments.collect::<Vec<_>>()),
        _ => {
            say("call it as git-credential-hatchery or gh, or with one of git-credential and gh");
            ExitCode::from(2)
        }
    }
}

/// Tells the person in the drone.
fn say(what: &str) {
    eprintln!("hatchery: {}", clean::line(what));
}
