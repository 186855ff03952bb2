//! Commands in a container.

use serde_json::Value;

use crate::door::rewrite::Rewrite;
use crate::door::stop::Judged;
use crate::secret::Environment;

/// The body of a request to create or start a command, without privileges. What it runs, as which user and
/// where is the drone's own affair. Stand-ins for secrets are replaced by the secrets.
pub fn exec(body: &[u8], secrets: &Environment) -> Judged<Value> {
    let mut body = Rewrite::read(body)?;
    body.keep::<bool>(&[
        "AttachStdin",
        "AttachStdout",
        "AttachStderr",
        "Tty",
        "Detach",
    ])?;
    body.keep::<String>(&["DetachKeys", "User", "WorkingDir"])?;
    body.keep::<Vec<String>>(&["Env", "Cmd"])?;
    body.keep::<Vec<u32>>(&["ConsoleSize"])?;
    // compose 1 repeats the container there; the path counts.
    body.drop(&["Container"]);
    let mut body = body.finish()?;
    reveal(&mut body, secrets);
    Ok(body)
}

/// Replaces the stand-ins for secrets in the environment of a command by the secrets.
pub fn reveal(body: &mut Value, secrets: &Environment) {
    let entries = body.get_mut("Env").and_then(Value::as_array_mut);
    for entry in entries.into_iter().flatten() {
        if let Some(meant) = entry.as_str().and_then(|entry| secrets.meant(entry)) {
            *entry = Value::String(meant);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_command_has_no_privileges() {
        let plain = json!({"Cmd": ["/bin/sh"], "User": "root", "Tty": false, "Env": ["A=b"]});
        assert_eq!(
            exec(plain.to_string().as_bytes(), &Environment::default()),
            Ok(plain)
        );
        for odd in [
            json!({"Cmd": ["x"], "Privileged": true}),
            json!({"Cmd": ["x"], "privileged": true}),
            json!({"Cmd": "x"}),
        ] {
            assert!(
                exec(odd.to_string().as_bytes(), &Environment::default()).is_err(),
                "{odd}"
            );
        }
    }

    #[test]
    fn a_secret_comes_in_place_of_what_stands_for_it() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "KEY=s3cret\n").unwrap();
        let secrets = Environment::read([(file.path(), String::new())]).unwrap();
        let stand_in = secrets.stand_ins()["KEY"];
        let asked = json!({"Cmd": ["x", format!("KEY={stand_in}")], "Env": ["A=b", format!("KEY={stand_in}"), format!("B={stand_in}")]});
        let made = exec(asked.to_string().as_bytes(), &secrets).unwrap();
        assert_eq!(
            made["Env"],
            json!(["A=b", "KEY=s3cret", format!("B={stand_in}")])
        );
        assert_eq!(made["Cmd"], asked["Cmd"]);
    }
}
