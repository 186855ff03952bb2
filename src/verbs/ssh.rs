//! `hatchery ssh`

use std::ffi::OsString;
use std::io::IsTerminal;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use clap::Args;

use super::Context;
use crate::drone::DroneName;
use crate::error::{Code, Error, Result};
use crate::process;
use crate::ssh::client;

/// Log in to a drone from this server, or run a command in it
///
/// Runs this server's ssh with your keys. The session starts in the workspace. The exit status is that of the
/// command, or 255 if ssh itself fails.
///
/// -L, -R, -D and -N mean what they mean to ssh(1), and can be combined. `hatchery ssh -N -L 8080:localhost:80 DRONE`
/// makes port 80 of the drone available as port 8080 of this server until you press Ctrl-C.
#[derive(Debug, Args)]
pub struct Ssh {
    /// org/repo or the drone's name
    #[arg(value_name = "DRONE")]
    drone: String,

    /// Allocate a terminal for COMMAND
    #[arg(short = 't', long = "tty")]
    terminal: bool,

    /// Forward a port or socket of this server to one that the drone can reach (repeatable)
    #[arg(short = 'L', value_name = "[ADDRESS:]PORT:HOST:PORT", value_parser = forwarding)]
    local: Vec<String>,

    /// Forward a port or socket of the drone to one that this server can reach (repeatable)
    ///
    /// Everything in the drone can then use it, and without HOST:PORT everything that this server can reach.
    #[arg(short = 'R', value_name = "[ADDRESS:]PORT[:HOST:PORT]", value_parser = forwarding)]
    remote: Vec<String>,

    /// Listen on this port of this server as a SOCKS proxy that connects from the drone (repeatable)
    #[arg(short = 'D', value_name = "[ADDRESS:]PORT", value_parser = forwarding)]
    dynamic: Vec<String>,

    /// Forward ports only: start no session and run no command
    #[arg(short = 'N', conflicts_with_all = ["terminal", "command"])]
    no_session: bool,

    /// The command line for the user's shell in the drone; without it, an interactive session
    #[arg(last = true)]
    command: Vec<OsString>,
}

impl Ssh {
    /// Becomes ssh; comes back only where that cannot be.
    pub async fn run(self, context: &Context<'_>) -> Result<ExitCode> {
        let docker = context.docker().await?;
        let there = context.running(&docker, &self.drone).await?;
        let client = there.client(context, &docker).await?;
        let mut ssh = Command::new(process::found("ssh")?);
        let name = &there.drone.identity.name;
        ssh.args(client.options());
        ssh.args(self.arguments(name, &there.folder, std::io::stdin().is_terminal()));
        context.ui.finish();
        let error = ssh.exec();
        Err(Error::new(Code::HostFailed, "ssh cannot be started").because(error))
    }

    /// What ssh is told after the way to this drone: what to forward, and what to run in this folder. A session
    /// gets a terminal where the person has one.
    fn arguments(self, name: &DroneName, folder: &str, has_terminal: bool) -> Vec<OsString> {
        let forwardings = [
            ("-L", self.local),
            ("-R", self.remote),
            ("-D", self.dynamic),
        ];
        let mut arguments: Vec<OsString> = forwardings
            .into_iter()
            .flat_map(|(option, values)| values.into_iter().map(move |value| (option, value)))
            .flat_map(|(option, value)| [option.into(), value.into()])
            .collect();
        let is_session = self.command.is_empty() && !self.no_session;
        if self.terminal || (is_session && has_terminal) {
            arguments.push("-t".into());
        }
        if self.no_session {
            // With nothing but forwardings, one that cannot be had is the end of it.
            arguments.extend(["-N", "-oExitOnForwardFailure=yes"].map(OsString::from));
        }
        arguments.extend(["--", name.as_str()].map(OsString::from));
        if is_session {
            arguments.push(client::session_in(folder).into());
        } else if !self.no_session {
            arguments.push(client::begin_in(folder).into());
            arguments.extend(self.command);
        }
        arguments
    }
}

/// A value of -L, -R or -D, which ssh itself checks. It must be one that cannot be read as another option.
fn forwarding(text: &str) -> std::result::Result<String, &'static str> {
    match text.chars().next() {
        None => Err("it is empty"),
        Some('-') => Err("it begins with a hyphen, like an option"),
        Some(_) => Ok(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Typed {
        #[command(flatten)]
        verb: Ssh,
    }

    fn typed(words: &[&str]) -> std::result::Result<Ssh, clap::Error> {
        let words = ["ssh"].iter().chain(words);
        Typed::try_parse_from(words).map(|typed| typed.verb)
    }

    fn arguments(words: &[&str], has_terminal: bool) -> Vec<OsString> {
        let name = DroneName::of(&"acme/site".parse().unwrap());
        typed(words)
            .unwrap()
            .arguments(&name, "/work", has_terminal)
    }

    #[test]
    fn a_session_or_a_command_in_the_workspace() {
        let session = client::session_in("/work");
        let begin = client::begin_in("/work");
        assert_eq!(
            arguments(&["acme/site"], true),
            ["-t", "--", "acme-site", &session]
        );
        assert_eq!(
            arguments(&["acme/site"], false),
            ["--", "acme-site", &session]
        );
        assert_eq!(
            arguments(&["acme/site", "--", "ls", "-N"], true),
            ["--", "acme-site", &begin, "ls", "-N"]
        );
        assert_eq!(
            arguments(&["-t", "acme/site", "--", "top"], false),
            ["-t", "--", "acme-site", &begin, "top"]
        );
    }

    #[test]
    fn what_is_to_be_forwarded_is_handed_on_as_it_is() {
        let words = [
            "-L",
            "8080:localhost:80",
            "acme/site",
            "-R9000",
            "-D",
            "[::1]:1080",
            "-L",
            "/a b:/c",
        ];
        let forwarded = [
            "-L",
            "8080:localhost:80",
            "-L",
            "/a b:/c",
            "-R",
            "9000",
            "-D",
            "[::1]:1080",
        ];
        let session = client::session_in("/work");
        assert_eq!(
            arguments(&words, true),
            [&forwarded[..], &["-t", "--", "acme-site", &session]].concat()
        );
        let only = [&["-N"], &words[..]].concat();
        assert_eq!(
            arguments(&only, true),
            [
                &forwarded[..],
                &["-N", "-oExitOnForwardFailure=yes", "--", "acme-site"]
            ]
            .concat()
        );
    }

    #[test]
    fn nothing_forwarded_is_taken_for_an_option() {
        for option in ["-L", "-R", "-D"] {
            for value in ["", "-oProxyCommand=id", "-", "--"] {
                for words in [
                    &[option, value, "acme/site"][..],
                    &[&format!("{option}={value}"), "acme/site"],
                ] {
                    assert!(typed(words).is_err(), "{words:?}");
                }
            }
        }
    }

    #[test]
    fn without_a_session_there_is_nothing_to_run() {
        for words in [
            &["-N", "acme/site", "--", "id"][..],
            &["-N", "-t", "acme/site"],
        ] {
            let kind = typed(words).unwrap_err().kind();
            assert_eq!(kind, clap::error::ErrorKind::ArgumentConflict, "{words:?}");
        }
    }
}
