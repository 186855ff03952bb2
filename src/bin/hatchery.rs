//! The command on the server. Called as `docker` by the devcontainer CLI it is that, too, and the
//! way into the CLI's cage.

use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use hatchery::cage;
use hatchery::devcontainer::running::shim;
use hatchery::error::{Code, Error};
use hatchery::life::work::{keep, look};
use hatchery::ui::Ui;
use hatchery::verbs::{Cli, answer_shell};

fn main() -> ExitCode {
    let mut args = std::env::args_os();
    let argv0 = args.next().unwrap_or_default();
    if let Some((settings, compose)) = shim::called_as_docker(Path::new(&argv0)) {
        return shim::run(&settings, compose, args.collect());
    }
    if let Some(rules) = cage::called(Path::new(&argv0)) {
        return cage::enter(&rules, args.collect());
    }
    let question = args.next();
    if let Some(ended) = look::called(&argv0, question.as_deref())
        .or_else(|| keep::called(&argv0, question.as_deref()))
    {
        return ended;
    }
    answer_shell();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let json = std::env::args_os().any(|arg| arg == "--json");
            return Ui::new(json, false).usage(&error);
        }
    };
    let ui = Ui::new(cli.json(), cli.verbose());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let done = match runtime {
        Ok(runtime) => runtime.block_on(cli.run(&ui)),
        Err(error) => Err(Error::new(Code::HostFailed, "cannot start").because(error)),
    };
    match done {
        Ok(status) => ui
            .all_is_written()
            .map_or_else(|error| ui.failure(&error), |()| status),
        Err(error) => ui.failure(&error),
    }
}
