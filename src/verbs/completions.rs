//! `hatchery completions`

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::Cli;

/// Print completions for a shell
#[derive(Debug, Args)]
pub struct Completions {
    /// Which shell
    shell: Shell,
}

impl Completions {
    pub fn run(self) {
        clap_complete::generate(
            self.shell,
            &mut Cli::command(),
            "hatchery",
            &mut std::io::stdout(),
        );
    }
}
