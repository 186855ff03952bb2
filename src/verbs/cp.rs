//! `hatchery cp`

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use clap::Args;

use super::Context;
use crate::error::{Code, Error, Result};
use crate::process;

/// Copy files between this server and a drone
///
/// Runs this server's scp with your ssh keys. DRONE:PATH is a path in the drone; a relative one starts in the
/// workspace. Every other path is on this server. Write ./a:b for a file on this server whose name contains a
/// colon.
#[derive(Debug, Args)]
pub struct Cp {
    /// Copy directories recursively
    #[arg(short, long)]
    recursive: bool,

    /// Preserve times and permissions
    #[arg(short, long)]
    preserve: bool,

    /// The files to copy, then the destination; one side is DRONE:PATH, the other is on this server
    #[arg(value_name = "PATH", required = true, num_args = 2..)]
    paths: Vec<OsString>,
}

/// Where a path is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place<'a> {
    /// On this server.
    Here,
    /// In this drone, at this path.
    There(&'a str, &'a str),
}

impl Cp {
    /// Becomes scp; comes back only where that cannot be.
    pub async fn run(self, context: &Context<'_>) -> Result<ExitCode> {
        let drone = drone_of(&self.paths)?;
        let docker = context.docker().await?;
        let there = context.running(&docker, drone).await?;
        let client = there.client(context, &docker).await?;
        let name = &there.drone.identity.name;
        let mut scp = Command::new(process::found("scp")?);
        scp.args(client.options());
        for (option, wanted) in [("-r", self.recursive), ("-p", self.preserve)] {
            if wanted {
                scp.arg(option);
            }
        }
        scp.arg("--");
        for path in &self.paths {
            match place(path) {
                Place::Here => scp.arg(here(path)),
                Place::There(_, path) => scp.arg(format!("{name}:{}", within(&there.folder, path))),
            };
        }
        context.ui.finish();
        let error = scp.exec();
        Err(Error::new(Code::HostFailed, "scp cannot be started").because(error))
    }
}

/// The one drone that these paths name, all but the last or the last alone.
fn drone_of(paths: &[OsString]) -> Result<&str> {
    let usage = |what: &str| {
        Error::new(Code::Usage, what).hint(
            "`hatchery cp FILE... DRONE:PATH` copies into a drone, `hatchery cp DRONE:FILE... PATH` copies \
             out of it",
        )
    };
    let Some((to, from)) = paths.split_last() else {
        return Err(usage("there is nothing to copy"));
    };
    let mut drones = from.iter().map(|path| match place(path) {
        Place::Here => None,
        Place::There(drone, _) => Some(drone),
    });
    let first = drones.next().flatten();
    let alike = drones.all(|drone| drone == first);
    match (first, place(to)) {
        _ if !alike => Err(usage(
            "the files to copy must all be on this server or all in one drone",
        )),
        (Some(drone), Place::Here) | (None, Place::There(drone, _)) => Ok(drone),
        (None, Place::Here) => Err(usage("no path is in a drone; write one as DRONE:PATH")),
        (Some(_), Place::There(..)) => Err(usage(
            "either the files or the destination must be on this server",
        )),
    }
}

/// Where this path is. What is before its first colon is a drone, as a name or as org/repo.
fn place(path: &OsStr) -> Place<'_> {
    let split = path.to_str().and_then(|path| path.split_once(':'));
    match split {
        Some((drone, path)) if !drone.is_empty() && !drone.starts_with(['.', '/', '~']) => {
            Place::There(drone, path)
        }
        _ => Place::Here,
    }
}

/// A path on this server, as scp takes it for one.
fn here(path: &OsStr) -> OsString {
    let mut here = OsString::new();
    // scp reads a bracket at the beginning as an address.
    if path.as_encoded_bytes().starts_with(b"[") {
        here.push("./");
    }
    here.push(path);
    here
}

/// A path in a drone whose workspace's folder is this.
fn within(folder: &str, path: &str) -> String {
    match path {
        "" => folder.to_owned(),
        path if path.starts_with(['/', '~']) => path.to_owned(),
        path => format!("{}/{path}", folder.trim_end_matches('/')),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn os(paths: &[&str]) -> Vec<OsString> {
        paths.iter().map(OsString::from).collect()
    }

    #[test]
    fn one_end_is_in_one_drone() {
        for (paths, drone) in [
            (&["a", "acme-site:"][..], Some("acme-site")),
            (&["a", "b", "acme/site:x"], Some("acme/site")),
            (&["acme-site:a:b", "."], Some("acme-site")),
            (&["s:a", "s:b", "/tmp"], Some("s")),
            (&["a", "b"], None),
            (&["s:a", "t:b", "."], None),
            (&["s:a", "b", "."], None),
            (&["s:a", "s:b"], None),
            (&["./a:b", "/c:d"], None),
            (&["a", ":b"], None),
        ] {
            let paths = os(paths);
            assert_eq!(drone_of(&paths).ok(), drone, "{paths:?}");
        }
    }

    #[test]
    fn a_relative_path_begins_in_the_workspace() {
        for (path, expected) in [
            ("", "/w"),
            ("a/b", "/w/a/b"),
            ("/etc/hosts", "/etc/hosts"),
            ("~/x", "~/x"),
        ] {
            assert_eq!(within("/w", path), expected);
        }
        assert_eq!(within("/", "a"), "/a");
        assert_eq!(here(OsStr::new("[a]:b")), "./[a]:b");
    }
}
