//! What goes into a drone for its sshd. All of it is root's.

use super::ca::Authority;
use crate::drone::DroneName;
use crate::error::Result;

/// Who may log in.
pub const AUTHORIZED_KEYS: &str = "/etc/ssh/hatchery/authorized_keys";
/// Where the keys are in the drone.
const DIRECTORY: &str = "/etc/ssh/hatchery";
/// The drop-in: sshd takes the first value that it meets, so it must come before others.
const DROP_IN: &str = "/etc/ssh/sshd_config.d/00-hatchery.conf";
/// sshd's own configuration, where [`with_settings`] may have to be applied.
pub const SSHD_CONFIG: &str = "/etc/ssh/sshd_config";

/// Makes a running sshd read its configuration and keys again, without ending sessions. For an
/// image's `sh`; the pid file is where Debian, Alpine and Red Hat have it.
pub const RELOAD: [&str; 3] = [
    "sh",
    "-c",
    r#"for file in /run/sshd.pid /var/run/sshd.pid; do
[ -s "$file" ] && exec kill -HUP "$(cat "$file")"; done; exit 1"#,
];

/// A regular file for the drone, owned by root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DroneFile {
    /// The absolute path in the drone.
    pub path: String,
    /// The permission bits.
    pub mode: u32,
    /// What is in it.
    pub content: Vec<u8>,
}

/// The files for this drone: who may log in, the host key with its certificate, and the drop-in
/// that names them. `domain` is the tailnet's, where there is one.
///
/// Only hatchery's keys count, not the user's own `authorized_keys` in the drone: whoever is taken
/// out of the configuration is out at the drone's next start.
pub fn drone_files(
    authority: &Authority<'_>,
    name: &DroneName,
    domain: Option<&str>,
    authorized_keys: &str,
) -> Result<Vec<DroneFile>> {
    let host = authority.host_key(name, domain)?;
    let file = |path: String, mode, content: String| DroneFile {
        path,
        mode,
        content: content.into_bytes(),
    };
    let key = |name: &str| format!("{DIRECTORY}/{name}");
    Ok(vec![
        file(
            AUTHORIZED_KEYS.to_owned(),
            0o644,
            authorized_keys.to_owned(),
        ),
        file(key("host_key"), 0o600, host.private),
        file(key("host_key.pub"), 0o644, host.public),
        file(key("host_key-cert.pub"), 0o644, host.certificate),
        file(DROP_IN.to_owned(), 0o644, settings()),
    ])
}

/// What sshd is told (`sshd_config(5)`). `MaxSessions` is for many channels over one connection
/// (`ControlMaster`, an editor's terminals), `MaxStartups` for many connections at once.
fn settings() -> String {
    format!(
        "# Written by hatchery at every start of this drone.
HostKey {DIRECTORY}/host_key
HostCertificate {DIRECTORY}/host_key-cert.pub
AuthorizedKeysFile {AUTHORIZED_KEYS}
AuthorizedKeysCommand none
TrustedUserCAKeys none
AuthenticationMethods publickey
PubkeyAuthentication yes
PasswordAuthentication no
KbdInteractiveAuthentication no
HostbasedAuthentication no
PermitEmptyPasswords no
PermitRootLogin prohibit-password
MaxSessions 100
MaxStartups 100
"
    )
}

/// What stands before and after the settings in an `sshd_config` that includes nothing.
const BEGIN: &str = "# Hatchery's settings begin\n";
const END: &str = "# Hatchery's settings end\n";

/// The image's `sshd_config` with the settings before everything else, where it does not include the
/// drop-in there; `None` where it need not be changed. They are not included but written into it: OpenSSH
/// before 8.2 knows no `Include`, and does not start where it meets one.
pub fn with_settings(sshd_config: &str) -> Option<String> {
    let own = sshd_config
        .strip_prefix(BEGIN)
        .and_then(|rest| rest.split_once(END));
    let others = match own {
        Some((_, others)) => others,
        None if includes_first(sshd_config) => return None,
        None => sshd_config,
    };
    let written = format!("{BEGIN}{}{END}{others}", settings());
    (written != sshd_config).then_some(written)
}

/// Whether it includes the drop-in before everything else.
fn includes_first(sshd_config: &str) -> bool {
    let directives = sshd_config
        .lines()
        .map(|line| line.trim_start_matches([' ', '\t']))
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    for directive in directives {
        let mut words = directive
            .split([' ', '\t', '='])
            .filter(|word| !word.is_empty());
        let keyword = words.next().unwrap_or_default();
        // After another directive it is too late: sshd takes the first value, and a `Match` block
        // would swallow it.
        if !keyword.eq_ignore_ascii_case("include") {
            break;
        }
        let includes = |word: &str| {
            let word = word.trim_matches('"');
            word == DROP_IN
                || matches!(
                    word,
                    "/etc/ssh/sshd_config.d/*.conf"
                        | "sshd_config.d/*.conf"
                        | "/etc/ssh/sshd_config.d/*"
                )
        };
        if words.any(includes) {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ssh::identity::ServerSecret;

    #[test]
    fn the_settings_come_first_whether_they_are_included_or_not() {
        for fine in [
            "# Debian\n\nInclude /etc/ssh/sshd_config.d/*.conf\nPort 2222\n",
            "  include\t\"/etc/ssh/sshd_config.d/*.conf\"\n",
            "Include /etc/other.conf\nInclude=/etc/ssh/sshd_config.d/00-hatchery.conf",
        ] {
            assert_eq!(with_settings(fine), None, "{fine:?}");
        }
        for wanting in [
            "",
            "Port 2222\n",
            "#Include /etc/ssh/sshd_config.d/*.conf\nPort 22\n",
            "PasswordAuthentication yes\nInclude /etc/ssh/sshd_config.d/*.conf\n",
            "Match User x\n  Include /etc/ssh/sshd_config.d/*.conf\n",
            "Include /etc/ssh/sshd_config.d/10-*.conf\n",
        ] {
            let text = with_settings(wanting).expect(wanting);
            assert!(text.starts_with(&format!("{BEGIN}# Written by hatchery")));
            assert!(text.ends_with(&format!("MaxStartups 100\n{END}{wanting}")));
            let own = text.strip_suffix(wanting).unwrap();
            assert!(!own.contains("Include"), "OpenSSH 7.6 would not start");
            assert_eq!(with_settings(&text), None, "twice");
        }
    }

    #[test]
    fn older_settings_are_replaced() {
        let old = format!("{BEGIN}HostKey /old\n{END}Port 2222\n");
        let text = with_settings(&old).unwrap();
        assert!(!text.contains("/old") && text.ends_with(&format!("{END}Port 2222\n")));
        let torn = format!("{BEGIN}HostKey /old\n");
        let text = with_settings(&torn).unwrap();
        assert_eq!(with_settings(&text), None);
    }

    #[test]
    fn only_the_private_key_is_private() {
        let place = tempfile::tempdir().unwrap();
        let secret = ServerSecret::load_or_create(place.path()).unwrap();
        let name = DroneName::of(&"acme/site".parse().unwrap());
        let files = drone_files(&Authority::new(&secret), &name, None, "x\n").unwrap();
        for file in files {
            let private = String::from_utf8(file.content)
                .unwrap()
                .contains("PRIVATE KEY");
            assert_eq!(
                file.mode,
                if private { 0o600 } else { 0o644 },
                "{}",
                file.path
            );
            assert!(file.path.starts_with("/etc/ssh/"));
        }
    }
}
