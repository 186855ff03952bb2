//! What the user's shell sets: the devcontainer CLI hands it to the commands that it runs (`userEnvProbe`), and
//! so does hatchery.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use crate::docker::{Inside, Setting};
use crate::ssh::environment;

/// How long a shell may take to start; then its settings are done without.
const WITHIN: Duration = Duration::from_secs(10);
/// What is a process's own.
const NOT_HANDED_ON: [&str; 4] = ["OLDPWD", "PWD", "SHLVL", "_"];
/// Where the environment begins and ends in what a shell prints beside it.
const MARK: &str = "=hatchery-environment=";

/// The environment of the user's commands: the shell's, with `remoteEnv` over it. `own` is the container's.
pub async fn environment(
    inside: &Inside,
    user: &str,
    shell: &str,
    metadata: &[Value],
    own: &BTreeMap<&str, &str>,
) -> Vec<String> {
    let mut all = match flags(metadata) {
        None => BTreeMap::new(),
        Some(flags) => {
            let probe = format!("printf %s {MARK}; cat /proc/self/environ; printf %s {MARK}");
            let setting = Setting {
                user,
                ..Setting::default()
            };
            let argv = [shell, flags, &probe];
            let ran = inside.run_in(&setting, WITHIN, &argv, b"").await;
            ran.map(|output| read(&output.stdout)).unwrap_or_default()
        }
    };
    if let (Some(path), Some(of_container)) = (all.get_mut("PATH"), own.get("PATH")) {
        *path = joined(path, of_container);
    }
    environment::lay_over(&mut all, metadata, own);
    all.into_iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect()
}

/// What makes the shell one of the kind that the configuration names; nothing where none is to be asked.
fn flags(metadata: &[Value]) -> Option<&'static str> {
    let mut last = metadata.iter().rev();
    let named = last.find_map(|entry| entry.get("userEnvProbe")?.as_str());
    match named.unwrap_or("loginInteractiveShell") {
        "none" => None,
        "loginShell" => Some("-lc"),
        "interactiveShell" => Some("-ic"),
        _ => Some("-lic"),
    }
}

/// The environment that stands between the marks.
fn read(printed: &str) -> BTreeMap<String, String> {
    let entries = printed.split(MARK).nth(1).unwrap_or_default().split('\0');
    let named = entries.filter_map(|entry| entry.split_once('='));
    named
        .filter(|(name, _)| !name.is_empty() && !NOT_HANDED_ON.contains(name))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// The shell's `PATH`, and what of the container's is not in it.
fn joined(shell: &str, container: &str) -> String {
    let has: Vec<&str> = shell.split(':').collect();
    let more = container.split(':').filter(|part| !has.contains(part));
    has.iter()
        .copied()
        .chain(more)
        .collect::<Vec<_>>()
        .join(":")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_a_shell_prints_beside_it_is_no_environment() {
        let printed =
            format!("Welcome\nX=no\n{MARK}A=1\0PATH=/a:/b\0PWD=/\0B=x=y\nz\0\0{MARK}C=no");
        let read = read(&printed);
        let expected = [("A", "1"), ("B", "x=y\nz"), ("PATH", "/a:/b")];
        let expected: BTreeMap<_, _> = expected
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        assert_eq!(read, expected);
        for cut in ["", "A=1", MARK] {
            assert!(super::read(cut).is_empty(), "{cut}");
        }
    }

    #[test]
    fn the_last_word_on_the_shell_counts() {
        for (metadata, expected) in [
            (json!([]), Some("-lic")),
            (json!([{"userEnvProbe": "none"}]), None),
            (
                json!([{"userEnvProbe": "none"}, {"userEnvProbe": "loginShell"}, {}]),
                Some("-lc"),
            ),
            (json!([{"userEnvProbe": "interactiveShell"}]), Some("-ic")),
        ] {
            assert_eq!(flags(metadata.as_array().unwrap()), expected, "{metadata}");
        }
    }

    #[test]
    fn no_directory_of_the_containers_path_is_lost() {
        assert_eq!(
            joined("/home/x/bin:/usr/bin", "/opt/go/bin:/usr/bin"),
            "/home/x/bin:/usr/bin:/opt/go/bin"
        );
    }
}
