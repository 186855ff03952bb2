//! Hands out GitHub tokens on a drone's socket, or on those of all.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use hatchery::credd::daemon::{Options, run, run_all};
use hatchery::drone::DroneName;
use hatchery::error::{Code, Error, Result};
use hatchery::ui::clean;

/// Serve short-lived GitHub tokens on a drone's socket, for exactly its repositories
///
/// Without --drone, it serves all drones that Docker knows.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The drone to serve
    #[arg(long, value_name = "NAME", requires = "scope")]
    drone: Option<String>,
    /// What its tokens may access: a file with the JSON of the drone's label hatchery.scope
    #[arg(long, value_name = "FILE", requires = "drone")]
    scope: Option<PathBuf>,
    /// Bind this socket instead of inheriting one (`LISTEN_FDS`)
    #[arg(long, value_name = "PATH", requires = "drone")]
    socket: Option<PathBuf>,
    /// Create the drones' sockets in this directory [default: /run/hatchery]
    #[arg(long, value_name = "DIR", conflicts_with = "drone")]
    runtime: Option<PathBuf>,
    /// Use this configuration file [default: /etc/hatchery/config.toml, if it exists]
    #[arg(long, value_name = "FILE", env = "HATCHERY_CONFIG")]
    config: Option<PathBuf>,
}

/// Pause before exiting on an error, so that a waiting client does not restart us in a tight loop.
const BREATH: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let by_connection = std::env::var_os("LISTEN_FDS").is_some();
    match serve(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hatchery-credd: {}", clean::line(&error.message()));
            if let Some(hint) = error.what_next() {
                eprintln!("  {}", clean::line(hint));
            }
            if by_connection {
                std::thread::sleep(BREATH);
            }
            error.exit_code()
        }
    }
}

fn serve(arguments: Arguments) -> Result<()> {
    let (Some(drone), Some(scope)) = (arguments.drone, arguments.scope) else {
        return run_all(arguments.config.as_deref(), arguments.runtime.as_deref());
    };
    let drone = DroneName::from_label(&drone)
        .ok_or_else(|| Error::new(Code::Usage, format!("{drone:?} is not a drone's name")))?;
    run(&Options {
        drone,
        scope,
        config: arguments.config,
        socket: arguments.socket,
    })
}
