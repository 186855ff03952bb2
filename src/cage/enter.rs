//! Entering the cage: this process is restricted for good, then it becomes the program.

use std::convert::Infallible;
use std::ffi::OsString;
use std::fmt::Display;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, NetPort, PathBeneath, PathFd, PathFdError, Ruleset,
    RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetStatus, Scope, make_bitflags,
};

use rustix::process::{Resource, Rlimit, setrlimit};
use rustix::thread::{CapabilitySet, remove_capability_from_bounding_set};

use super::{FAILED, LINK, RULES_FILE, Rules, Support, sight};

/// All that is denied unless a rule allows it, as far as the kernel knows it. Later versions also
/// govern connecting to sockets by their paths, Docker's among them.
const ABI_OF_RULES: ABI = ABI::V6;

/// Half of the most there is (`proc_pid_oom_score_adj(5)`).
const DIES_FIRST: &str = "500";

/// The largest file of rules that is read, in bytes.
const MAX_RULES: u64 = 1024 * 1024;

/// The rules' file, if hatchery was called by the link that [`Rules::install`] made.
pub fn called(argv0: &Path) -> Option<PathBuf> {
    if argv0.file_name()? != LINK {
        return None;
    }
    Some(argv0.parent()?.join(RULES_FILE))
}

/// Enters the cage of these rules and becomes the program that the arguments name. Whatever fails,
/// the program does not run.
pub fn enter(rules: &Path, args: Vec<OsString>) -> ExitCode {
    let Err(why) = become_caged(rules, args);
    let _ = writeln!(std::io::stderr(), "hatchery: {FAILED}{why}");
    ExitCode::FAILURE
}

fn become_caged(rules: &Path, args: Vec<OsString>) -> Result<Infallible, String> {
    let mut args = args.into_iter();
    let program = args.next().ok_or("no program was given")?;
    let rules = read(rules).map_err(|error| saying(&rules.display(), &error))?;
    bound(&rules);
    // Where there is no namespace to be had, Landlock still holds; `hatchery doctor` says so.
    let _ = sight::narrow(&rules);
    if Support::of_this_kernel().cages() {
        restrict(&rules)?;
    }
    weaken();
    let error = Command::new(&program).args(args).exec();
    Err(saying(&program.display(), &error))
}

fn read(path: &Path) -> std::io::Result<Rules> {
    let mut text = Vec::new();
    std::fs::File::open(path)?
        .take(MAX_RULES)
        .read_to_end(&mut text)?;
    Ok(serde_json::from_slice(&text)?)
}

/// Leaves root no capabilities but those by which it reads and writes other people's files
/// (capabilities(7)): with the rest it could raise its limits, or reach what is no file. What this
/// process has goes when it becomes the program.
fn weaken() {
    const KEPT: CapabilitySet = CapabilitySet::CHOWN
        .union(CapabilitySet::DAC_OVERRIDE)
        .union(CapabilitySet::DAC_READ_SEARCH)
        .union(CapabilitySet::FOWNER)
        .union(CapabilitySet::FSETID);
    for capability in CapabilitySet::all().difference(KEPT).iter() {
        // Who may not take it has none to lose, and older kernels do not know all.
        let _ = remove_capability_from_bounding_set(capability);
    }
}

/// Bounds what this process and each that it starts takes of the server's memory. Where memory is
/// scarce all the same, they die before what serves.
fn bound(rules: &Rules) {
    let most = Rlimit {
        current: Some(rules.memory),
        maximum: Some(rules.memory),
    };
    // A lower limit is in force already where this fails.
    let _ = setrlimit(Resource::Data, most);
    let _ = std::fs::write("/proc/self/oom_score_adj", DIES_FIRST);
}

fn restrict(rules: &Rules) -> Result<(), String> {
    let read = make_bitflags!(AccessFs::{ReadFile | ReadDir});
    // Neither programs nor devices: what is unpacked is data.
    let write = AccessFs::from_all(ABI_OF_RULES)
        & !make_bitflags!(AccessFs::{Execute | MakeChar | MakeBlock | IoctlDev});
    let devices = make_bitflags!(AccessFs::{ReadFile | WriteFile | IoctlDev});
    let failed = |error: &dyn Display| format!("Landlock: {error}");
    let mut ruleset = Ruleset::default()
        .handle_access(AccessFs::from_all(ABI_OF_RULES))
        .and_then(|ruleset| ruleset.scope(Scope::from_all(ABI_OF_RULES)))
        .and_then(|ruleset| match &rules.connect {
            Some(_) => ruleset.handle_access(AccessNet::from_all(ABI_OF_RULES)),
            None => Ok(ruleset),
        })
        .and_then(Ruleset::create)
        .map_err(|error| failed(&error))?;
    for &port in rules.connect.iter().flatten() {
        ruleset = ruleset
            .add_rule(NetPort::new(port, AccessNet::ConnectTcp))
            .map_err(|error| failed(&error))?;
    }
    for (paths, access) in [
        (&rules.run, read | AccessFs::Execute),
        (&rules.read, read),
        (&rules.devices, devices),
    ] {
        for path in paths {
            // What is not there, or is out of reach anyway, needs no rule.
            if let Some(found) = open(path)? {
                ruleset = allow(ruleset, found, path, access)?;
            }
        }
    }
    for path in &rules.write {
        let found = open(path)?.ok_or_else(|| format!("{} does not exist", path.display()))?;
        ruleset = allow(ruleset, found, path, write)?;
    }
    let status = ruleset.restrict_self().map_err(|error| failed(&error))?;
    if status.ruleset == RulesetStatus::NotEnforced {
        return Err("this kernel has no Landlock".to_owned());
    }
    Ok(())
}

/// The file or directory that this path leads to now, whatever becomes of the path.
fn open(path: &Path) -> Result<Option<PathFd>, String> {
    match PathFd::new(path) {
        Ok(found) => Ok(Some(found)),
        Err(PathFdError::OpenCall { source, .. })
            if matches!(
                source.kind(),
                ErrorKind::NotFound | ErrorKind::PermissionDenied | ErrorKind::NotADirectory
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(saying(&path.display(), &error)),
    }
}

fn allow(
    ruleset: RulesetCreated,
    found: PathFd,
    path: &Path,
    access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, String> {
    let access = if path.is_dir() {
        access
    } else {
        access & AccessFs::from_file(ABI_OF_RULES)
    };
    ruleset
        .add_rule(PathBeneath::new(found, access))
        .map_err(|error| saying(&path.display(), &error))
}

fn saying(what: &dyn Display, error: &dyn Display) -> String {
    format!("{what}: {error}")
}
