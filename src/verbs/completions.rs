//! `hatchery completions`, and what the shell asks for with each Tab.

use std::io::{ErrorKind, Write};
use std::time::Duration;

use clap::{Args, Command, CommandFactory, Parser, ValueHint};
use clap_complete::Shell;
use clap_complete::engine::{ArgValueCandidates, CompletionCandidate};
use clap_complete::env::{CompleteEnv, Shells};

use super::Cli;
use crate::config::Config;
use crate::docker::Docker;
use crate::error::{Code, Error, Result, host_io};

/// By what the shell's part asks hatchery.
const ASKS: &str = "HATCHERY_COMPLETE";
/// How long a person waits for names.
const WITHIN: Duration = Duration::from_secs(2);
/// What stands for a drone in the usage of each verb.
const DRONE: &str = "DRONE";
/// zsh runs the file itself for the first Tab (zshcompsys(1), "Autoloaded files").
const ZSH_FIRST: &str = r#"if [ "$funcstack[1]" = "_hatchery" ]; then _clap_dynamic_completer_hatchery "$@"; fi
"#;

/// Print shell completions, which complete the names of drones too
#[derive(Debug, Args)]
pub struct Completions {
    /// The shell to print completions for
    shell: Shell,
}

/// Write the man pages into a directory
#[derive(Debug, Args)]
pub struct ManPages {
    /// The directory, which must exist
    #[arg(value_hint = ValueHint::DirPath)]
    directory: std::path::PathBuf,
}

/// Answers a shell that asks for completions, and ends; comes back where none does.
pub fn answer_shell() {
    CompleteEnv::with_factory(|| naming(Cli::command()))
        .var(ASKS)
        .bin("hatchery")
        .complete();
}

impl Completions {
    pub fn run(&self) -> Result<()> {
        let mut text = Vec::new();
        let shell = self.shell.to_string();
        if let Some(shell) = Shells::builtins().completer(&shell) {
            shell
                .write_registration(ASKS, "hatchery", "hatchery", "hatchery", &mut text)
                .map_err(unwritten)?;
        }
        if self.shell == Shell::Zsh {
            text.extend(ZSH_FIRST.bytes());
        }
        match std::io::stdout().write_all(&text) {
            Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(unwritten(error)),
            _ => Ok(()),
        }
    }
}

impl ManPages {
    pub fn run(&self) -> Result<()> {
        let command = Cli::command();
        clap_mangen::generate_to(command, &self.directory)
            .map_err(|error| host_io("write in", &self.directory, error))
    }
}

fn unwritten(error: std::io::Error) -> Error {
    Error::new(Code::HostFailed, "cannot write to standard output").because(error)
}

/// The command line, on which each drone is one of those that there are.
fn naming(command: Command) -> Command {
    command.mut_subcommands(|verb| {
        verb.mut_args(|arg| {
            let names = arg.get_value_names().unwrap_or_default();
            if names.iter().any(|name| name == DRONE) {
                arg.add(ArgValueCandidates::new(drones))
            } else {
                arg
            }
        })
    })
}

/// The names of all drones; none where Docker does not tell in time.
fn drones() -> Vec<CompletionCandidate> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let named = async {
        // The environment may name the configuration.
        let cli = Cli::try_parse_from(["hatchery", "list"]).ok()?;
        let config = Config::load(cli.config.as_deref()).ok()?;
        let docker = Docker::connect(&config.docker).await.ok()?;
        let (drones, _) = docker.drones().await.ok()?;
        Some(drones)
    };
    let found = runtime.ok().and_then(|runtime| {
        runtime.block_on(async { tokio::time::timeout(WITHIN, named).await.ok().flatten() })
    });
    let found = found.into_iter().flatten();
    found
        .map(|drone| {
            let help = format!("{}, {}", drone.identity.repo, drone.life.as_str());
            CompletionCandidate::new(drone.identity.name.as_str()).help(Some(help.into()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_verb_that_takes_a_drone_is_told_their_names() {
        let command = naming(Cli::command());
        let mut told = Vec::new();
        for verb in command.get_subcommands() {
            for arg in verb.get_arguments() {
                if arg.get::<ArgValueCandidates>().is_some() {
                    told.push(verb.get_name());
                }
            }
        }
        for verb in [
            "status", "burrow", "unburrow", "rebuild", "rerun", "slay", "ssh", "exec", "logs",
            "ports", "open",
        ] {
            assert!(told.contains(&verb), "{verb} is not among {told:?}");
        }
        assert!(
            !told.contains(&"spawn") && !told.contains(&"check"),
            "{told:?}"
        );
    }

    #[test]
    fn there_is_a_page_for_each_verb() {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().to_owned();
        ManPages { directory }.run().unwrap();
        for page in ["hatchery.1", "hatchery-spawn.1", "hatchery-rerun.1"] {
            let text = std::fs::read_to_string(place.path().join(page)).unwrap();
            assert!(text.contains(".SH"), "{page}");
        }
        assert!(!place.path().join("hatchery-man-pages.1").exists());
        let missing = ManPages {
            directory: place.path().join("missing"),
        };
        assert_eq!(missing.run().unwrap_err().code(), Code::HostFailed);
    }
}
