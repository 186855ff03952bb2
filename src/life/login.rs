//! Whether a person can log in to a drone: tried once, and where it fails, looked for why.

use std::path::Path;
use std::time::Duration;

use tokio::time::sleep;

use crate::docker::{Docker, Tree};
use crate::drone::DroneName;
use crate::error::{Code, Error, Result};
use crate::life::furnish::accounts::Accounts;
use crate::ssh::files::AUTHORIZED_KEYS;
use crate::ssh::identity::ServerSecret;
use crate::ssh::trial::{Login, Trial};
use crate::ui::clean;

/// A second try: the first may have met sshd while it started.
const PAUSE: Duration = Duration::from_millis(500);
/// How long the search for a reason may take in the drone.
const LOOKED_WITHIN: Duration = Duration::from_secs(10);
/// The largest note about closed logins that is read, in bytes.
const MAX_NOTE: usize = 64 * 1024;
/// While one of these is there, only root may log in.
const CLOSED: [&str; 3] = ["/etc/nologin", "/run/nologin", "/var/run/nologin"];
/// What sshd goes by for a user, who is the argument; for an image's `sh`.
const EFFECTIVE: &str = r#"PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
exec "$(command -v sshd)" -T -C "user=$1,host=localhost,addr=127.0.0.1""#;
/// The settings of sshd that keep users out, as `sshd -T` names them.
const LISTS: [(&str, &str); 4] = [
    ("allowusers", "AllowUsers"),
    ("denyusers", "DenyUsers"),
    ("allowgroups", "AllowGroups"),
    ("denygroups", "DenyGroups"),
];

/// Logs in to a drone whose sshd answers, as this user and with a key that is let in for this alone. `place`
/// is a directory for it, `authorized` who may log in.
pub async fn try_once(
    docker: &Docker,
    container: &str,
    name: &DroneName,
    user: &str,
    authorized: &[u8],
    (place, secret): (&Path, &ServerSecret),
) -> Result<()> {
    let Some(trial) = Trial::new(place, secret, name)? else {
        return Ok(());
    };
    let put = |content: Vec<u8>| {
        let tree = Tree::default().file(AUTHORIZED_KEYS, 0o644, content);
        docker.put(container, tree)
    };
    put([authorized, trial.authorized_line().as_bytes()].concat()).await?;
    let tried = log_in(docker, container, &trial, user).await;
    put(authorized.to_vec()).await?;
    let how = match tried? {
        Login::Works => return Ok(()),
        Login::Refused(said) if said.is_empty() => "sshd refuses the login".to_owned(),
        Login::Refused(said) => format!("sshd refuses the login ({said})"),
        Login::NoShell(status) => format!("its shell exits immediately with status {status}"),
        Login::Stuck => "its shell does not run commands".to_owned(),
    };
    let (why, hint) = reason(docker, container, user).await.unwrap_or_else(|| {
        let hint = format!(
            "check how the image changes sshd's configuration, PAM and the startup files of {user}'s shell; \
             or set remoteUser in devcontainer.json to another user"
        );
        (how, hint)
    });
    Err(Error::new(
        Code::DroneUnhealthy,
        format!("{name} is running, but {user} cannot log in to it: {why}"),
    )
    .hint(hint))
}

async fn log_in(docker: &Docker, container: &str, trial: &Trial, user: &str) -> Result<Login> {
    let mut last = Login::Refused("it has no address".to_owned());
    for attempt in 0..2 {
        if attempt > 0 {
            sleep(PAUSE).await;
        }
        let Some(state) = docker.container(container).await? else {
            break;
        };
        for address in docker.addresses(&state).await? {
            last = trial.log_in(address, user).await?;
            match last {
                Login::Refused(_) => {}
                Login::Works | Login::NoShell(_) | Login::Stuck => return Ok(last),
            }
        }
    }
    Ok(last)
}

/// Why sshd lets this user not in, and what helps, as far as it can be seen.
async fn reason(docker: &Docker, container: &str, user: &str) -> Option<(String, String)> {
    let accounts = Accounts::of(docker, container).await.ok()?;
    if let Some(hindrance) = accounts.hindrance_today(user) {
        return Some(hindrance.words(user));
    }
    let inside = docker.inside(container);
    let shell = accounts.shell(user).map(str::to_owned);
    if let Some(shell) = shell {
        let argv = ["test", "-x", &shell];
        let there = inside.run_within(LOOKED_WITHIN, "0:0", &argv, &[]).await;
        if there.is_ok_and(|output| output.status == 1) {
            return Some((
                format!("its shell, {}, is not in the image", clean::line(&shell)),
                format!(
                    "install it in a Dockerfile, or run `RUN usermod --shell /bin/sh {user}` there"
                ),
            ));
        }
    } else {
        return Some((
            "the image's /etc/passwd does not have it".to_owned(),
            format!("add it in a Dockerfile: `RUN useradd --create-home {user}`"),
        ));
    }
    for file in CLOSED {
        let there = docker.file(container, file, MAX_NOTE).await;
        if user != "root" && there.is_ok_and(|content| content.is_some()) {
            return Some((
                format!("{file} exists, which locks out everyone but root"),
                format!("remove it from the image, or remove it in onCreateCommand: {file}"),
            ));
        }
    }
    let argv = ["sh", "-c", EFFECTIVE, "sh", user];
    let effective = inside.run_within(LOOKED_WITHIN, "0:0", &argv, &[]).await;
    let lists = lists(&effective.ok()?.stdout);
    (!lists.is_empty()).then(|| {
        (
            format!("sshd's configuration has {}", lists.join(", ")),
            format!("allow {user} there in a Dockerfile, or remove these lines"),
        )
    })
}

/// What `sshd -T` says of who may log in.
fn lists(effective: &str) -> Vec<String> {
    const MOST: usize = 5;
    let named = effective.lines().filter_map(|line| {
        let (keyword, value) = line.split_once(' ')?;
        let (_, keyword) = LISTS.iter().find(|(name, _)| *name == keyword)?;
        let value: String = clean::line(value).chars().take(100).collect();
        Some(format!("{keyword} {value}"))
    });
    named.take(MOST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_log_in_is_read_from_what_sshd_goes_by() {
        let effective =
            "port 2222\nallowusers admin\nallowusers b@*\ndenygroups x\u{1b}[31my\nallowusers\n";
        assert_eq!(
            lists(effective),
            ["AllowUsers admin", "AllowUsers b@*", "DenyGroups xy"]
        );
        assert!(lists("usepam yes\n").is_empty());
        assert_eq!(lists(&"allowusers a\n".repeat(100)).len(), 5);
    }
}
