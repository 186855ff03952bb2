//! A verb that goes on without the terminal it was started from: hatchery starts itself once more, and leaves when
//! that has made sure that there is something to go on with.

use std::fs::File;
use std::io::{Read, Write, pipe};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, ExitCode};

use clap::Args;

use crate::error::{Code, Error, Result, host_io};
use crate::process;

/// By what a person asks for it, and by what hatchery then calls itself.
const ASKED: &str = "--detach";
/// See [`ASKED`].
const STARTED: &str = "--detached";

/// Whether it goes on without the terminal.
#[derive(Debug, Args)]
pub struct Detach {
    /// Return once the spawn has started; `hatchery logs --spawn --follow` shows its progress
    #[arg(long)]
    detach: bool,

    /// It was started for one that comes back
    #[arg(long, hide = true, conflicts_with = "detach")]
    detached: bool,
}

impl Detach {
    /// A person wants it.
    pub const fn is_asked(&self) -> bool {
        self.detach
    }

    /// This is the one that goes on.
    pub const fn is_started(&self) -> bool {
        self.detached
    }
}

/// How the one that was started has come along.
#[derive(Debug)]
pub enum Started {
    /// It goes on by itself.
    GoesOn,
    /// It has ended and has said why.
    Ended(ExitCode),
}

/// Starts hatchery with what it was called with, and waits until that [goes on by itself](go_on) or ends.
pub async fn start() -> Result<Started> {
    let cannot =
        |error| Error::new(Code::HostFailed, "cannot continue in the background").because(error);
    let (mut told, tell) = pipe().map_err(cannot)?;
    let args = std::env::args_os().skip(1);
    let args = args.map(|arg| if arg == ASKED { STARTED.into() } else { arg });
    let mut child = Command::new(process::own_path()?)
        .args(args)
        // What it is told by: of all that a program has, this it does not need.
        .stdin(tell)
        .spawn()
        .map_err(cannot)?;
    let waiting = tokio::task::spawn_blocking(move || {
        let mut word = [0; 1];
        if told.read(&mut word)? > 0 {
            return Ok(Started::GoesOn);
        }
        let status = child
            .wait()?
            .code()
            .and_then(|code| u8::try_from(code).ok());
        Ok(Started::Ended(
            status.map_or(ExitCode::FAILURE, ExitCode::from),
        ))
    });
    let waited = waiting.await.map_err(|error| cannot(error.into()))?;
    waited.map_err(cannot)
}

/// Leaves the terminal, in the one that was started: it has no input and output any more, and who has started it
/// waits no longer.
pub fn go_on() -> Result<()> {
    let path = Path::new("/dev/null");
    let open = || File::options().read(true).write(true).open(path);
    let null = open().map_err(|error| host_io("open", path, error))?;
    let leave = || -> std::io::Result<()> {
        let told = std::io::stdin().as_fd().try_clone_to_owned()?;
        rustix::stdio::dup2_stdin(&null)?;
        rustix::stdio::dup2_stdout(&null)?;
        rustix::stdio::dup2_stderr(&null)?;
        // It fails where this leads its process group, as from a terminal by hand: then it stays there.
        let _ = rustix::process::setsid();
        // Where nobody waits it is nobody's loss.
        let _ = File::from(told).write_all(b"\n");
        Ok(())
    };
    leave().map_err(|error| {
        Error::new(Code::HostFailed, "cannot detach from the terminal").because(error)
    })
}
