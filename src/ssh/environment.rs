//! What a person's session has in its environment: what the devcontainer has.
//!
//! sshd hands nothing on of the environment that it was started in. `SetEnv` of a drop-in is for
//! every session, of every shell, with a command or without; a login shell's `/etc/profile` sets
//! `PATH` once more on Debian and others, so a script of `/etc/profile.d` puts it back.

use std::collections::BTreeMap;

use serde_json::Value;

use super::files::DroneFile;
use crate::devcontainer::replaced;
use crate::secret::{Environment, is_name};

/// Before hatchery's own settings in order, and never read by a sshd that does not know `Include`,
/// nor therefore `SetEnv`.
pub const DROP_IN: &str = "/etc/ssh/sshd_config.d/00-hatchery-environment.conf";
const PROFILE: &str = "/etc/profile.d/zz-hatchery.sh";
/// What is read by that script and by the user alone.
const SECRETS: &str = "/etc/ssh/hatchery/secrets.sh";

/// What a session has of its own, and what is hatchery's alone.
const NOT_HANDED_ON: &[&str] = &[
    "HOME",
    "HOSTNAME",
    "LOGNAME",
    "MAIL",
    "OLDPWD",
    "PWD",
    "SHELL",
    "SHLVL",
    "TERM",
    "TS_DEBUG_USE_DERP_HTTP",
    "TS_NO_LOGS_NO_SUPPORT",
    "USER",
    "_",
];

/// The most that is handed on, in bytes.
const MAX: usize = 256 * 1024;

/// The environment of the devcontainer: its container's, and `remoteEnv` of its merged metadata.
pub fn of<'a>(
    container: impl Iterator<Item = &'a str>,
    metadata: &[Value],
) -> BTreeMap<String, String> {
    let own = by_name(container);
    let mut all: BTreeMap<String, String> = own
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    lay_over(&mut all, metadata, &own);
    all.retain(|name, _| is_name(name) && !NOT_HANDED_ON.contains(&name.as_str()));
    let mut left = MAX;
    all.retain(|name, value| {
        let size = name.len() + value.len();
        let fits = size <= left;
        left -= if fits { size } else { 0 };
        fits
    });
    all
}

/// The same for a program that Docker starts, which has the container's environment already: a name without a
/// value is taken out of it. What is a session's own, such as HOME, is the caller's to add.
pub fn over(container: &[&str], metadata: &[Value]) -> Vec<String> {
    let of = of(container.iter().copied(), metadata);
    let own = by_name(container.iter().copied());
    let unset = own.into_keys().filter(|name| {
        let hatcherys = name.starts_with("TS_");
        !of.contains_key(*name) && (hatcherys || !NOT_HANDED_ON.contains(name))
    });
    let unset: Vec<String> = unset.map(str::to_owned).collect();
    let set = of.iter().map(|(name, value)| format!("{name}={value}"));
    set.chain(unset).collect()
}

/// Lays `remoteEnv` of the merged metadata over an environment; `own` is the container's.
pub fn lay_over(
    environment: &mut BTreeMap<String, String>,
    metadata: &[Value],
    own: &BTreeMap<&str, &str>,
) {
    let entries = metadata.iter().filter_map(|entry| entry.get("remoteEnv"));
    for (name, value) in entries.filter_map(Value::as_object).flatten() {
        match value.as_str() {
            Some(text) => environment.insert(name.clone(), resolved(text, own)),
            None => environment.remove(name),
        };
    }
}

/// Entries of the form `NAME=value`, by their name.
pub fn by_name<'a>(entries: impl Iterator<Item = &'a str>) -> BTreeMap<&'a str, &'a str> {
    entries.filter_map(|entry| entry.split_once('=')).collect()
}

/// `${containerEnv:NAME}` and `${containerEnv:NAME:default}` (devcontainers specification, "Variables in
/// devcontainer.json").
fn resolved(text: &str, own: &BTreeMap<&str, &str>) -> String {
    replaced(text, |variable| of_container(variable, own))
}

/// What a variable stands for that is `containerEnv:NAME`, with a default or without.
pub fn of_container(variable: &str, own: &BTreeMap<&str, &str>) -> Option<String> {
    let asked = variable.strip_prefix("containerEnv:")?;
    let (name, default) = asked.split_once(':').unwrap_or((asked, ""));
    Some(own.get(name).copied().unwrap_or(default).to_owned())
}

/// What puts the devcontainer's `PATH` first in a session, before what other scripts have added.
fn set_path(quoted: &str) -> String {
    format!(
        "if [ -n \"${{SSH_CONNECTION-}}\" ]; then
hatchery_path={quoted} hatchery_rest=$PATH:
while [ -n \"$hatchery_rest\" ]; do
hatchery_one=${{hatchery_rest%%:*}} hatchery_rest=${{hatchery_rest#*:}}
case \":$hatchery_path:\" in *\":$hatchery_one:\"*) ;;
*) [ -z \"$hatchery_one\" ] || hatchery_path=$hatchery_path:$hatchery_one ;; esac
done
export PATH=\"$hatchery_path\"
unset hatchery_path hatchery_rest hatchery_one
fi
"
    )
}

/// The files for it, with secrets over it. The script is as open as `/etc/environment`, where the devcontainer
/// CLI writes the same; no secret is in it.
pub fn files(environment: &BTreeMap<String, String>, secrets: &Environment) -> Vec<DroneFile> {
    let mut all: BTreeMap<&str, &str> = environment
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    all.extend(secrets.expose());
    // The first SetEnv counts, so all of it is one.
    let set: Vec<String> = all
        .iter()
        .filter(|(_, value)| is_plain(value))
        .map(|(name, value)| format!("\"{name}={value}\""))
        .collect();
    let settings = match set.as_slice() {
        [] => String::new(),
        set => format!("SetEnv {}\n", set.join(" ")),
    };
    let path = environment.get("PATH").map(|path| set_path(&quoted(path)));
    let others = environment
        .iter()
        .filter(|(name, value)| *name != "PATH" && !is_plain(value) && !secrets.has(name))
        .map(|(name, value)| exported(name, value));
    // Nobody else's shell, root's least of all, runs what the user may have written there.
    let reading = format!("[ ! -O {SECRETS} ] || . {SECRETS}\n");
    let script: String = path.into_iter().chain(others).chain([reading]).collect();
    vec![
        DroneFile {
            path: DROP_IN.to_owned(),
            mode: 0o600,
            content: format!("# Written by hatchery: the devcontainer's environment.\n{settings}").into_bytes(),
        },
        DroneFile {
            path: PROFILE.to_owned(),
            mode: 0o644,
            content: format!("# Written by hatchery: what sshd cannot set, or /etc/profile has changed.\n{script}").into_bytes(),
        },
    ]
}

/// The file with the secrets that sshd cannot set; for the user's own eyes. Without any it has none, so that
/// none stays there.
pub fn secrets_file(secrets: &Environment) -> DroneFile {
    let hidden = secrets.expose().filter(|(_, value)| !is_plain(value));
    let script: String = hidden.map(|(name, value)| exported(name, value)).collect();
    DroneFile {
        path: SECRETS.to_owned(),
        mode: 0o400,
        content: format!("# Written by hatchery: secret variables that sshd cannot set.\n{script}")
            .into_bytes(),
    }
}

fn exported(name: &str, value: &str) -> String {
    format!("export {name}={}\n", quoted(value))
}

/// A text as one word of a shell.
pub fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Whether sshd reads a quoted value as it is written, in every version: before 8.7 it knows no
/// backslash within quotes.
fn is_plain(value: &str) -> bool {
    !value
        .chars()
        .any(|c| matches!(c, '"' | '\\') || c.is_control())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn text(environment: &BTreeMap<String, String>, path: &str) -> String {
        let files = files(environment, &Environment::default());
        let file = files.into_iter().find(|file| file.path == path).unwrap();
        String::from_utf8(file.content).unwrap()
    }

    #[test]
    fn a_session_has_what_the_devcontainer_has() {
        let container = [
            "PATH=/usr/bin:/bin",
            "A=1",
            "HOME=/root",
            "TERM=x",
            "TS_NO_LOGS_NO_SUPPORT=true",
            "B=of the image",
            "GONE=1",
            "bad",
        ];
        let metadata = [
            json!({"remoteEnv": {"B": "of a feature", "C": "${containerEnv:A}-${containerEnv:NONE:x}-${containerEnv:NONE}"}}),
            json!({"remoteEnv": {"B": "2", "PATH": "/opt/x/bin:${containerEnv:PATH}", "GONE": null, "no name": "x"}}),
        ];
        let environment = of(container.into_iter(), &metadata);
        let expected = [
            ("A", "1"),
            ("B", "2"),
            ("C", "1-x-"),
            ("PATH", "/opt/x/bin:/usr/bin:/bin"),
        ];
        let expected: BTreeMap<_, _> = expected
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        assert_eq!(environment, expected);
        let settings = text(&environment, DROP_IN);
        assert!(
            settings.ends_with(
                "\nSetEnv \"A=1\" \"B=2\" \"C=1-x-\" \"PATH=/opt/x/bin:/usr/bin:/bin\"\n"
            ),
            "{settings}"
        );
        for (before, session, expected) in [
            (
                "/bin:/usr/bin:/opt/java/bin::/games",
                "1.2.3.4 1 1.2.3.5 2222",
                "/opt/x/bin:/usr/bin:/bin:/opt/java/bin:/games",
            ),
            ("/bin:/opt/java/bin", "", "/bin:/opt/java/bin"),
        ] {
            let script = text(&environment, PROFILE);
            let shell = std::process::Command::new("/bin/sh")
                .env("PATH", before)
                .env("SSH_CONNECTION", session)
                .args([
                    "-euc",
                    &format!("{script}echo \"$PATH${{hatchery_path-}}\""),
                ])
                .output()
                .unwrap();
            assert_eq!(
                String::from_utf8_lossy(&shell.stdout).trim(),
                expected,
                "{shell:?}"
            );
        }
        assert!(!text(&BTreeMap::new(), DROP_IN).contains("SetEnv"));
    }

    #[test]
    fn a_program_that_docker_starts_has_the_same_and_loses_the_rest() {
        let container = [
            "A=1",
            "B=2",
            "HOME=/root",
            "TS_NO_LOGS_NO_SUPPORT=true",
            "PATH=/bin",
        ];
        let metadata = [json!({"remoteEnv": {"B": null, "C": "c=${containerEnv:A}"}})];
        assert_eq!(
            over(&container, &metadata),
            ["A=1", "C=c=1", "PATH=/bin", "B", "TS_NO_LOGS_NO_SUPPORT"]
        );
    }

    #[test]
    fn a_secret_is_in_no_file_that_others_read() {
        let of_secrets = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(
            of_secrets.path(),
            "A=plain-secret\nB={\"key\": \"it's secret\"}\n",
        )
        .unwrap();
        let secrets = Environment::read([(of_secrets.path(), String::new())]).unwrap();
        let environment = [("A", "1"), ("B", "a\"b"), ("C", "3")];
        let environment: BTreeMap<_, _> = environment
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        let all = files(&environment, &secrets);
        let text = |file: &DroneFile| String::from_utf8(file.content.clone()).unwrap();
        for file in &all {
            assert_eq!(
                text(file).contains("secret\""),
                file.mode == 0o600 && file.path == DROP_IN,
                "{}",
                file.path
            );
        }
        assert!(
            text(&all[0]).ends_with("\nSetEnv \"A=plain-secret\" \"C=3\"\n"),
            "{}",
            text(&all[0])
        );
        assert!(!text(&all[1]).contains("export B"), "{}", text(&all[1]));
        let own = secrets_file(&secrets);
        assert_eq!(own.mode, 0o400);
        let shell = std::process::Command::new("sh")
            .args(["-c", &format!("{}printf %s \"$B\"", text(&own))])
            .output()
            .unwrap();
        assert_eq!(
            String::from_utf8_lossy(&shell.stdout),
            "{\"key\": \"it's secret\"}"
        );
        assert!(!text(&secrets_file(&Environment::default())).contains("export"));
    }

    #[test]
    fn what_sshd_could_take_for_its_own_is_for_the_shell() {
        for value in [
            "a \"b\"",
            "a\\b",
            "one\ntwo",
            "x\" \"LD_PRELOAD=/x",
            "it's\n'$(id)'",
        ] {
            let environment: BTreeMap<_, _> = [("X".to_owned(), value.to_owned())].into();
            assert!(!text(&environment, DROP_IN).contains("SetEnv"), "{value:?}");
            let script = text(&environment, PROFILE);
            let shell = std::process::Command::new("sh")
                .args(["-c", &format!("{script}printf %s \"$X\"")])
                .output()
                .unwrap();
            assert_eq!(String::from_utf8_lossy(&shell.stdout), value);
        }
        for value in [
            "a # b",
            "$HOME $$x",
            "  padded  ",
            "",
            "ü€",
            "a=b=c",
            "it's",
        ] {
            let environment: BTreeMap<_, _> = [("X".to_owned(), value.to_owned())].into();
            let line = format!("SetEnv \"X={value}\"\n");
            assert!(text(&environment, DROP_IN).ends_with(&line), "{value:?}");
        }
        let large = format!("X={}", "x".repeat(MAX));
        assert!(
            of([large.as_str(), "Y=1"].into_iter(), &[])
                .keys()
                .eq(["Y"])
        );
    }
}
