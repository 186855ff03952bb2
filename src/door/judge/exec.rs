//! Commands in a container.

use serde_json::Value;

use crate::door::rewrite::Rewrite;
use crate::door::stop::Judged;

/// The body of a command that is made or begun, without privileges. What it runs, as whom and
/// where is the drone's own affair.
pub fn exec(body: &[u8]) -> Judged<Value> {
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
    body.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_command_has_no_privileges() {
        let plain = json!({"Cmd": ["/bin/sh"], "User": "root", "Tty": false, "Env": ["A=b"]});
        assert_eq!(exec(plain.to_string().as_bytes()), Ok(plain));
        for odd in [
            json!({"Cmd": ["x"], "Privileged": true}),
            json!({"Cmd": ["x"], "privileged": true}),
            json!({"Cmd": "x"}),
        ] {
            assert!(exec(odd.to_string().as_bytes()).is_err(), "{odd}");
        }
    }
}
