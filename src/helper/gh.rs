//! `gh`: the real one, with a token of the drone's for as long as it runs.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use super::place::Place;
use super::{BUNDLE, REAL_GH, ask, git, say};

/// Where gh's own host is, whose token has another variable than an Enterprise Server's.
const GITHUB: &str = "github.com";
/// Where gh looks for the token of an Enterprise Server, any of them.
const ENTERPRISE: &str = "GH_ENTERPRISE_TOKEN";
/// As a shell says that a command was not found.
const NOT_FOUND: u8 = 127;
/// As a shell says that a command could not be executed.
const NOT_EXECUTED: u8 = 126;

/// Answers for the real `gh` where that would break git in the drone, and becomes it otherwise.
/// `program` is what we were called as.
pub fn run(program: &OsStr, arguments: &[OsString]) -> ExitCode {
    let words: Vec<&str> = arguments
        .iter()
        .take(3)
        .filter_map(|a| a.to_str())
        .collect();
    match words[..] {
        // Git comes back here with what gh wrote into its configuration.
        ["auth", "git-credential", operation] => return git::run(Some(operation.into())),
        ["auth", verb @ ("setup-git" | "login"), ..] => {
            println!(
                "hatchery: `gh auth {verb}` is not needed: git and gh in this drone have GitHub tokens for \
                 its repositories already, and renew them automatically"
            );
            return ExitCode::SUCCESS;
        }
        _ => {}
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let own = Own::of(program, &path);
    let Some(real) = own.find_behind(&path) else {
        say(
            "there is no gh in this drone; add the feature ghcr.io/devcontainers/features/github-cli:1 to \
             its devcontainer.json, then run `hatchery rebuild` on the server",
        );
        return ExitCode::from(NOT_FOUND);
    };
    let mut command = Command::new(&real);
    command.arg0("gh").args(arguments);
    if let Some(own) = &own.path {
        command.env("GH_PATH", own);
    }
    // Go reads one file of certificates: this one has the image's in it.
    if std::env::var_os("SSL_CERT_FILE").is_none() && Path::new(BUNDLE).exists() {
        command.env("SSL_CERT_FILE", BUNDLE);
    }
    add_token(&mut command, arguments);
    let error = command.exec();
    say(&format!("{} cannot be executed: {error}", real.display()));
    ExitCode::from(NOT_EXECUTED)
}

/// Gives the command a token, unless it has one already. Without one it is to run all the same.
fn add_token(command: &mut Command, arguments: &[OsString]) {
    let place = match Place::read() {
        Ok(place) => place,
        Err(why) => return say(&why),
    };
    let variable = variable_for(place.host());
    if variable == ENTERPRISE && leads_elsewhere(arguments, &place) {
        return;
    }
    if place.host() != GITHUB {
        command.env("GH_HOST", place.host());
    }
    if std::env::var_os(variable).is_some_and(|token| !token.is_empty()) {
        return;
    }
    match ask::token(&place.socket(), None) {
        Ok(token) => {
            command.env(variable, token.token);
        }
        Err(why) => say(&why),
    }
}

/// Whether gh is told to speak to another host. It would send an Enterprise Server's token to any
/// host that is not GitHub's own.
fn leads_elsewhere(arguments: &[OsString], place: &Place) -> bool {
    let foreign = |host: &str| !host.is_empty() && !place.is_host(host);
    if std::env::var("GH_HOST").is_ok_and(|host| foreign(&host)) {
        return true;
    }
    let words: Vec<&str> = arguments.iter().filter_map(|word| word.to_str()).collect();
    words.iter().enumerate().any(|(index, word)| {
        let (flag, value) = match word.split_once('=') {
            Some((flag, value)) => (flag, value),
            None => (*word, words.get(index + 1).copied().unwrap_or_default()),
        };
        match flag {
            "--hostname" => foreign(value),
            // [HOST/]OWNER/REPO, or a URL.
            "-R" | "--repo" => {
                let plain = value.split_once("://").map_or(value, |(_, rest)| rest);
                let parts: Vec<&str> = plain.split('/').collect();
                parts.len() > 2 && foreign(parts[0])
            }
            _ => false,
        }
    })
}

/// The variable in which gh looks for this host's token (`gh help environment`).
fn variable_for(host: &str) -> &'static str {
    if host == GITHUB || host.ends_with(".ghe.com") {
        "GH_TOKEN"
    } else {
        ENTERPRISE
    }
}

/// The program that runs: which file it is, and by which path it was called.
struct Own {
    file: Option<(u64, u64)>,
    path: Option<PathBuf>,
}

impl Own {
    fn of(program: &OsStr, search: &OsStr) -> Self {
        let file = identity(Path::new("/proc/self/exe"));
        let named_gh = Path::new(program).file_name() == Some(OsStr::new("gh"));
        let path = if named_gh && program.as_bytes().contains(&b'/') {
            std::path::absolute(program).ok()
        } else {
            candidates(search).find(|path| file.is_some() && identity(path) == file)
        };
        Self { file, path }
    }

    /// The first `gh` on the search path behind this program; where this program is not on it,
    /// the first of all. Each file counts where it comes first, so that two copies of this
    /// program never call each other in turns.
    fn find_behind(&self, search: &OsStr) -> Option<PathBuf> {
        let mut all: Vec<(PathBuf, Option<(u64, u64)>)> = Vec::new();
        for path in candidates(search) {
            let file = identity(&path);
            if file.is_some() && !all.iter().any(|(_, known)| *known == file) {
                all.push((path, file));
            }
        }
        let own = all.iter().position(|(_, file)| *file == self.file);
        all.into_iter()
            .skip(own.map_or(0, |index| index + 1))
            .map(|(path, _)| path)
            .find(|path| is_executable(path))
            .or_else(|| Some(PathBuf::from(REAL_GH)).filter(|path| is_executable(path)))
    }
}

/// Where a `gh` could be, in the order of the search path. A relative entry is left out: what
/// lies in a working directory is not to get a token.
fn candidates(search: &OsStr) -> impl Iterator<Item = PathBuf> {
    std::env::split_paths(search)
        .filter(|directory| directory.is_absolute())
        .map(|directory| directory.join("gh"))
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let file = fs::metadata(path).ok()?;
    Some((file.dev(), file.ino()))
}

fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}
