//! Entering the cage: restricts this process permanently, then executes the program in it.

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

/// The version of Landlock's interface whose access rights are denied unless a rule allows them; an older
/// kernel denies those that it knows. Later versions also govern connecting to sockets by their paths, such as
/// Docker's.
const ABI_OF_RULES: ABI = ABI::V6;

/// The `oom_score_adj` of caged processes: half of the maximum (`proc_pid_oom_score_adj(5)`).
const DIES_FIRST: &str = "500";

/// The largest file of rules that is read, in bytes.
const MAX_RULES: u64 = 1024 * 1024;

/// The path of the rules file, if hatchery was called by the link that [`Rules::install`] made. `argv0` is the
/// path by which it was called.
pub fn called(argv0: &Path) -> Option<PathBuf> {
    if argv0.file_name()? != LINK {
        return None;
    }
    Some(argv0.parent()?.join(RULES_FILE))
}

/// Enters the cage that the file `rules` describes, then executes the program `args[0]` with the other
/// arguments.
///
/// Returns only on failure: it has printed why, and the program does not run. A kernel without Landlock or
/// namespaces is not a failure; what it lacks is skipped.
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

/// Drops all capabilities from the bounding set except those to read and write other users' files
/// (capabilities(7)): with the rest, root could raise its limits, or reach what is not a file. Takes effect
/// when this process executes the program.
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

/// Limits the memory of this process and of each that it starts. If the server still runs out of memory, the
/// kernel ends them before its services.
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

/// Opens the file or directory at this path; `None` if it is missing or out of reach.
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
