//! The commands of one property of the merged configuration, as one script for the drone's `sh`: what it holds
//! goes on in order when nobody waits for it any more.

use std::fmt::Write;

use serde_json::Value;

use crate::devcontainer::running::lifecycle::Stage;
use crate::ssh::environment::quoted;
use crate::ui::clean;

/// Where a command ends badly, what it belongs to is said, and nothing after it is run; its status is the script's.
const FAILED: &str = r#"failed() { echo "$1 ended with status $2"; exit "$2"; }
first() { [ -n "$bad" ] || { bad=$1 status=$2; }; }
"#;

/// The commands of all entries, features' first, one after the other; those of an object at once, as the
/// devcontainers specification has it ("Formatting string vs. array properties"). Nothing where there are none.
/// `resolve` puts in what variables stand for.
pub fn script(
    stage: Stage,
    metadata: &[Value],
    resolve: &impl Fn(&str) -> String,
) -> Option<String> {
    let name = stage.as_str();
    let mut script = FAILED.to_owned();
    for entry in metadata {
        let of = match entry.get("id").and_then(Value::as_str) {
            Some(feature) => format!("{name} of the feature {feature}"),
            None => name.to_owned(),
        };
        match entry.get(name) {
            Some(Value::Object(commands)) => {
                let mut waits = String::new();
                for (at, (label, command)) in commands.iter().enumerate() {
                    if let Some(words) = words(command, resolve) {
                        let of = quoted(&format!("{label} of {of}"));
                        let _ = writeln!(script, "{words} < /dev/null & process_{at}=$!");
                        let _ = writeln!(waits, "wait $process_{at} || first {of} $?");
                    }
                }
                if !waits.is_empty() {
                    let _ = write!(
                        script,
                        "bad=\n{waits}[ -z \"$bad\" ] || failed \"$bad\" $status\n"
                    );
                }
            }
            Some(command) => {
                if let Some(words) = words(command, resolve) {
                    let of = quoted(&of);
                    let _ = writeln!(script, "{words} < /dev/null || failed {of} $?");
                }
            }
            None => {}
        }
    }
    (script != FAILED).then_some(script)
}

/// Which command it was that ended badly, from the last line of what the script printed.
pub fn that_failed(stage: Stage, printed: &str) -> String {
    let last = printed.trim_end().lines().next_back().unwrap_or_default();
    let named = last.rsplit_once(" ended with status ");
    match named {
        Some((which, _)) if which.contains(stage.as_str()) => clean::line(which),
        _ => stage.to_string(),
    }
}

/// The words of one command, for a shell. The CLI takes an empty one for none.
fn words(command: &Value, resolve: &impl Fn(&str) -> String) -> Option<String> {
    // No argument of a program can hold a NUL.
    let word = |text: &str| quoted(&resolve(text).replace('\0', ""));
    match command {
        Value::String(text) if !text.trim().is_empty() => {
            Some(format!("/bin/sh -c {}", word(text)))
        }
        Value::Array(words) if !words.is_empty() => {
            let words = words.iter().filter_map(Value::as_str);
            let words: Vec<_> = words.map(word).collect();
            // A program of that name, never what the shell has built in.
            Some(format!("(exec {})", words.join(" ")))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Runs the script of these entries: its status and what it said.
    fn run(metadata: &Value) -> Option<(i32, String)> {
        let resolve = |text: &str| text.replace("${x}", "it's \"X\"");
        let script = script(Stage::PostStart, metadata.as_array().unwrap(), &resolve)?;
        let shell = std::process::Command::new("/bin/sh")
            .args(["-c", &script])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&shell.stdout).into_owned();
        Some((shell.status.code().unwrap(), said))
    }

    #[test]
    fn the_commands_are_run_in_order_until_one_fails() {
        for (metadata, status, said) in [
            (
                json!([{"id": "f", "postStartCommand": "echo \"${x}\""}, {"postStartCommand": ["printf", "%s\n", "${x}", "a  b"]}]),
                0,
                "it's X\nit's \"X\"\na  b\n",
            ),
            (
                json!([{"id": "f", "postStartCommand": "exit 3"}, {"postStartCommand": "echo never"}]),
                3,
                "postStartCommand of the feature f ended with status 3\n",
            ),
            (
                json!([{"postStartCommand": ["exit", "0"]}]),
                127,
                "postStartCommand ended with status 127\n",
            ),
            (
                json!([{"postStartCommand": {"a 'b'": "sleep 0.1; exit 4", "c": "exit 5", "d": ["true"], "e": ""}}, {"postStartCommand": "echo never"}]),
                4,
                "a 'b' of postStartCommand ended with status 4\n",
            ),
            (
                json!([{"postStartCommand": {"a": "exit 1"}}]),
                1,
                "a of postStartCommand ended with status 1\n",
            ),
            (
                json!([{"postStartCommand": {"a": "true"}}, {"postStartCommand": "read x || echo no input"}]),
                0,
                "no input\n",
            ),
        ] {
            assert_eq!(
                run(&metadata),
                Some((status, said.to_owned())),
                "{metadata}"
            );
        }
    }

    #[test]
    fn which_one_failed_is_known_by_the_last_line() {
        for (printed, which) in [
            (
                "x\na of postCreateCommand ended with status 4\n",
                "a of postCreateCommand",
            ),
            (
                "postCreateCommand of the feature f ended with status 1",
                "postCreateCommand of the feature f",
            ),
            ("all ended with status 4\n", "postCreateCommand"),
            ("", "postCreateCommand"),
        ] {
            assert_eq!(that_failed(Stage::PostCreate, printed), which, "{printed}");
        }
    }

    #[test]
    fn those_of_an_object_run_at_once() {
        let both = tempfile::tempdir().unwrap();
        let at = both.path().display();
        let fifo = format!("{at}/fifo");
        let made = std::process::Command::new("mkfifo").arg(&fifo).status();
        assert!(made.unwrap().success());
        // Each waits for the other.
        let metadata = json!([{"postStartCommand": {"one": format!("echo met > {fifo}"), "other": format!("cat {fifo}")}}]);
        assert_eq!(run(&metadata), Some((0, "met\n".to_owned())));
    }

    #[test]
    fn where_there_is_none_nothing_is_run() {
        for metadata in [
            json!([]),
            json!([{"postStartCommand": " "}, {"postStartCommand": []}, {"postStartCommand": {}}]),
            json!([{"postStartCommand": 7}, {"postStartCommand": {"a": ""}}, {"postCreateCommand": "x"}]),
        ] {
            assert_eq!(run(&metadata), None, "{metadata}");
        }
    }
}
