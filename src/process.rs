//! Programs that hatchery runs: without the host's environment, and never left behind.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, ChildStdin, Command};

use crate::error::{Code, Error, Result, host_io};

/// How long a program may take to tell its version: Node needs seconds for it where the processor is
/// slow and has much to do.
pub const VERSION_WITHIN: Duration = Duration::from_secs(30);

/// What a program may know of the environment that hatchery was started in: where programs are,
/// and how the network is reached. No value of these is a secret of the host's, proxies'
/// passwords apart, which are dropped.
const KEPT: &[&str] = &[
    "PATH",
    "NODE_EXTRA_CA_CERTS",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "TZ",
];

/// How programs are told by which proxy they reach the network.
pub const PROXIES: [&str; 4] = ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"];

/// And what they reach without it.
pub const NO_PROXIES: [&str; 2] = ["NO_PROXY", "no_proxy"];

/// Empties the environment of a command but for what it cannot work without.
pub fn emptied(command: &mut Command) {
    command.env_clear();
    for name in KEPT.iter().chain(&NO_PROXIES) {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    for name in PROXIES {
        if let Some(value) = handed_on(name) {
            command.env(name, value);
        }
    }
}

/// A proxy in hatchery's own environment, unless there is a password in it.
fn handed_on(name: &str) -> Option<String> {
    let value = std::env::var(name).ok()?;
    (!value.contains('@')).then_some(value)
}

/// The proxy by which this server reaches what is behind TLS, and the hosts that it reaches without
/// one, as the environment has them; empty where it says nothing.
pub fn proxy() -> (String, String) {
    let proxy = PROXIES.iter().take(2).find_map(|name| handed_on(name));
    let direct = NO_PROXIES.iter().find_map(|name| std::env::var(name).ok());
    (proxy.unwrap_or_default(), direct.unwrap_or_default())
}

/// Runs "$@", and kills the whole process group as soon as standard input ends: that is when
/// hatchery is gone, however it ended.
const LIFELINE: &str = r#"exec 3<&0; "$@" 3<&- </dev/null & child=$!
{ read -r _ <&3; kill -KILL 0; } >/dev/null 2>&1 & exec 3<&-; wait $child"#;

/// A command for [`Group::spawn`]: this program, with an emptied environment.
pub fn supervised(program: &str) -> Result<Command> {
    Ok(supervised_at(&found(program)?))
}

/// The same for the program at this path.
pub fn supervised_at(path: &Path) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", LIFELINE, "sh"]).arg(path);
    emptied(&mut command);
    command
}

/// A program with all that it starts: killed as a whole when this is dropped, and when hatchery
/// itself is killed.
#[derive(Debug)]
pub struct Group {
    child: Child,
    id: Option<Pid>,
    program: String,
    /// Its end is what the lifeline waits for.
    lifeline: Option<ChildStdin>,
}

impl Group {
    /// Starts a [`supervised`] command as the leader of a process group of its own.
    pub fn spawn(command: &mut Command, program: &str) -> Result<Self> {
        command
            .process_group(0)
            .kill_on_drop(true)
            .stdin(Stdio::piped());
        let mut child = command.spawn().map_err(|error| {
            Error::new(Code::HostFailed, format!("{program} cannot be started")).because(error)
        })?;
        let lifeline = child.stdin.take();
        let id = child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(Pid::from_raw);
        Ok(Self {
            child,
            id,
            program: program.to_owned(),
            lifeline,
        })
    }

    /// The leader.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Waits for the leader's end; what it left running is then killed.
    pub async fn wait(&mut self) -> Result<ExitStatus> {
        let status = self.child.wait().await.map_err(|error| {
            Error::new(
                Code::HostFailed,
                format!("cannot wait for {}", self.program),
            )
            .because(error)
        })?;
        self.kill();
        Ok(status)
    }

    /// Kills it with all that it started.
    pub fn kill(&mut self) {
        drop(self.lifeline.take());
        if let Some(group) = self.id.take() {
            // An error means that nobody is left in it.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Where the running hatchery is.
pub fn own_path() -> Result<PathBuf> {
    let path = std::env::current_exe()
        .map_err(|error| host_io("find", Path::new("the running hatchery"), error))?;
    // A test runs in cargo's `deps`; hatchery itself, which it calls by its links, lies above.
    let test = path.parent().filter(|place| place.ends_with("deps"));
    let tested = test
        .and_then(Path::parent)
        .map(|above| above.join("hatchery"));
    Ok(tested.filter(|path| path.is_file()).unwrap_or(path))
}

/// The full path of a program that must be there.
pub fn found(program: &str) -> Result<PathBuf> {
    find(program).ok_or_else(|| {
        Error::new(Code::ProgramMissing, format!("{program} is not installed"))
            .hint(format!("install {program} so that it is on the PATH"))
    })
}

/// Where programs are that only root's PATH has, tailscaled among them.
const BEHIND_PATH: [&str; 4] = [
    "/usr/local/sbin",
    "/usr/sbin",
    "/sbin",
    "/run/current-system/sw/bin",
];

/// The full path of a program on the PATH, or where only root's PATH leads.
pub fn find(program: &str) -> Option<PathBuf> {
    if program.contains('/') {
        return Some(program.into());
    }
    find_in(&std::env::var_os("PATH").unwrap_or_default(), program)
}

fn find_in(path: &OsStr, program: &str) -> Option<PathBuf> {
    std::env::split_paths(path)
        // An empty entry would mean the working directory.
        .filter(|directory| !directory.as_os_str().is_empty())
        .chain(BEHIND_PATH.map(PathBuf::from))
        .map(|directory| directory.join(program))
        .find(|candidate| {
            candidate.is_file()
                && rustix::fs::access(candidate, rustix::fs::Access::EXEC_OK).is_ok()
        })
}

/// The longest line that is passed on; the rest of a longer one is dropped.
const MAX_LINE: usize = 256 * 1024;

/// Calls `each` with every line until the end. Memory stays bounded whatever is sent.
pub async fn lines(
    from: impl tokio::io::AsyncRead + Unpin,
    mut each: impl FnMut(&str),
) -> std::io::Result<()> {
    use tokio::io::AsyncBufReadExt;
    let mut from = tokio::io::BufReader::new(from);
    let mut line = Vec::new();
    loop {
        let chunk = from.fill_buf().await?;
        if chunk.is_empty() {
            break;
        }
        let end = chunk.iter().position(|&byte| byte == b'\n');
        let part = &chunk[..end.unwrap_or(chunk.len())];
        let room = MAX_LINE.saturating_sub(line.len());
        line.extend_from_slice(&part[..part.len().min(room)]);
        let used = end.map_or(chunk.len(), |end| end + 1);
        if end.is_some() {
            each(&String::from_utf8_lossy(&line));
            line.clear();
        }
        from.consume(used);
    }
    if !line.is_empty() {
        each(&String::from_utf8_lossy(&line));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_roots_path_has_is_found_too() {
        // Debian has it in /usr/sbin, and every system has something there.
        let only_there = std::fs::read_dir("/usr/sbin")
            .unwrap()
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .find(|name| find_in(OsStr::new("/usr/bin:/bin"), name).is_some())
            .unwrap();
        let found = find_in(OsStr::new("/nonexistent"), &only_there).unwrap();
        assert!(found.to_string_lossy().contains("sbin"), "{found:?}");
        assert_eq!(find_in(OsStr::new("/bin"), "sh"), Some("/bin/sh".into()));
        assert_eq!(find_in(OsStr::new(""), "no-such-program"), None);
    }

    /// Ends by itself in a minute, should the product be wrong.
    fn supervised_script(script: &str) -> Command {
        let mut command = supervised("sh").unwrap();
        command.args(["-c", script]);
        command
    }

    #[tokio::test]
    async fn what_is_supervised_dies_with_the_one_who_started_it() {
        let mut group = Group::spawn(&mut supervised_script("exec sleep 60"), "sh").unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
        let ended = group.child().try_wait().unwrap();
        assert!(ended.is_none(), "it lives while we do");
        drop(group.lifeline.take());
        let ended = tokio::time::timeout(Duration::from_secs(10), group.child().wait()).await;
        assert!(!ended.expect("it outlived us").unwrap().success());
    }

    #[tokio::test]
    async fn its_own_end_is_seen() {
        let mut group = Group::spawn(&mut supervised_script("exit 3"), "sh").unwrap();
        let ended = tokio::time::timeout(Duration::from_secs(10), group.wait()).await;
        assert_eq!(ended.expect("it goes on").unwrap().code(), Some(3));
    }

    #[tokio::test]
    async fn a_line_without_end_is_cut() {
        let long = vec![b'x'; MAX_LINE * 3];
        let mut seen = Vec::new();
        lines(long.as_slice(), |line| seen.push(line.len()))
            .await
            .unwrap();
        assert_eq!(seen, [MAX_LINE]);
    }
}
