//! The one program that goes into a drone, under the names of what it stands in for.

use std::process::ExitCode;

fn main() -> ExitCode {
    hatchery::helper::run(std::env::args_os())
}
