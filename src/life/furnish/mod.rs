//! What goes into a created container before it runs: the clone, the tailnet's node, ssh's files,
//! what git and `gh` need for their tokens ([`credentials`]).

pub mod accounts;
pub mod credentials;
pub mod mounts;

use crate::config::Config;
use crate::devcontainer::{METADATA_LABEL, SOCKETS_TARGET, is_number, parse_metadata};
use crate::docker::{Container, Docker, Owner, Tree};
use crate::drone::DroneName;
use crate::error::{Code, Error, Result};
use crate::host::Places;
use crate::ssh;
use crate::ssh::ca::Authority;
use crate::ssh::environment;
use crate::ssh::files::DroneFile;
use crate::ssh::identity::ServerSecret;

/// Where the tailscale feature keeps its state.
pub const TAILSCALE_STATE: &str = "/var/lib/tailscale";

/// The largest user database or sshd configuration that is read, in bytes.
const MAX_FILE: usize = 1024 * 1024;

/// The merged configuration that the container was created from, as the CLI wrote it down.
pub fn metadata(container: &Container) -> Result<Vec<serde_json::Value>> {
    match container.labels().get(METADATA_LABEL) {
        Some(text) => parse_metadata(text),
        None => Ok(Vec::new()),
    }
}

/// Whom a person works as, if the merged configuration says so.
pub fn configured_user(metadata: &[serde_json::Value]) -> Option<String> {
    metadata
        .iter()
        .rev()
        .find_map(|entry| entry.get("remoteUser")?.as_str())
        .map(str::to_owned)
}

/// Whether the directory of its socket is mounted into this container.
pub async fn has_sockets(docker: &Docker, id: &str) -> Result<bool> {
    Ok(docker
        .container(id)
        .await?
        .as_ref()
        .is_some_and(mounts_sockets))
}

/// The same of a container that was looked at.
pub fn mounts_sockets(container: &Container) -> bool {
    let host = container.host();
    let mut mounts = host.iter().flat_map(|host| host.mounts.iter()).flatten();
    mounts.any(|mount| mount.target.as_deref() == Some(SOCKETS_TARGET))
}

/// Whom a person works as in this container.
pub async fn remote_user_of(docker: &Docker, id: &str) -> Result<String> {
    let Some(container) = docker.container(id).await? else {
        return Ok("root".to_owned());
    };
    let metadata = metadata(&container).unwrap_or_default();
    let user = configured_user(&metadata).unwrap_or_else(|| container.user().to_owned());
    let name = user.split(':').next().unwrap_or_default();
    Ok(match name {
        "" | "0" => "root".to_owned(),
        name => name.to_owned(),
    })
}

/// The ids of a user in a container that need not run.
pub async fn owner(docker: &Docker, container: &str, user: &str) -> Result<Owner> {
    if user == "root" {
        return Ok(Owner::ROOT);
    }
    let passwd = docker.file(container, "/etc/passwd", MAX_FILE).await?;
    let passwd = String::from_utf8_lossy(&passwd.unwrap_or_default()).into_owned();
    owner_in(&passwd, user).ok_or_else(|| {
        Error::new(
            Code::DevcontainerInvalid,
            format!("the image has no user {user:?}"),
        )
        .hint("check remoteUser in devcontainer.json")
    })
}

/// The name of a user, who may be a number in a configuration or an image's `USER`. The container
/// need not run. The name goes into a configuration and into the command that reaches the drone.
pub async fn user_name(docker: &Docker, container: &str, user: &str) -> Result<String> {
    if !is_number(user) {
        return is_login(user).then(|| user.to_owned()).ok_or_else(|| {
            Error::new(
                Code::DevcontainerInvalid,
                format!("the image's USER, {user:?}, is no user's name"),
            )
            .hint("fix USER in the Dockerfile, or set remoteUser in devcontainer.json")
        });
    }
    let passwd = docker.file(container, "/etc/passwd", MAX_FILE).await?;
    let passwd = String::from_utf8_lossy(&passwd.unwrap_or_default()).into_owned();
    name_in(&passwd, user).ok_or_else(|| {
        Error::new(
            Code::DevcontainerInvalid,
            format!(
                "the user is given as {user}, and none in the image's /etc/passwd has that number"
            ),
        )
        .hint(format!(
            "ssh goes by names: add one in a Dockerfile (`RUN useradd --create-home --uid {user} \
             dev`), or set remoteUser in devcontainer.json to a user of the image"
        ))
    })
}

/// The name of the first user with this number; one who is called by that number comes before.
fn name_in(passwd: &str, uid: &str) -> Option<String> {
    let named = |at: usize| {
        let mut lines = passwd.lines().map(|line| line.split(':'));
        lines
            .find(|fields| fields.clone().nth(at) == Some(uid))
            .and_then(|mut fields| fields.next())
    };
    let name = named(0).or_else(|| named(2));
    name.filter(|name| is_login(name)).map(str::to_owned)
}

/// Whether somebody can be called that: no option, nothing that a shell or a terminal would read.
pub fn is_login(name: &str) -> bool {
    name.len() <= 64
        && name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
}

/// passwd(5): name, password, user id, group id.
fn owner_in(passwd: &str, user: &str) -> Option<Owner> {
    let mut numeric = None;
    for line in passwd.lines() {
        let mut fields = line.split(':');
        let (name, _, uid, gid) = (fields.next()?, fields.next(), fields.next(), fields.next());
        let ids = || {
            Some(Owner {
                uid: uid?.parse().ok()?,
                gid: gid?.parse().ok()?,
            })
        };
        if name == user {
            return ids();
        }
        if uid == Some(user) {
            numeric = numeric.or_else(ids);
        }
    }
    numeric.or_else(|| {
        let uid = user.parse().ok()?;
        Some(Owner { uid, gid: uid })
    })
}

/// The files that say who may log in and which host this is, with what was left out of them.
pub async fn ssh_files(
    config: &Config,
    places: &Places,
    name: &DroneName,
) -> Result<(Vec<DroneFile>, Vec<String>)> {
    let keys = ssh::authorized::authorized_keys(&config.ssh).await?;
    let secret = ServerSecret::load_or_create(places.state())?;
    let domain = config
        .tailnet
        .as_ref()
        .map(|tailnet| tailnet.domain.as_str());
    let files = ssh::files::drone_files(&Authority::new(&secret), name, domain, &keys.text())?;
    Ok((files, keys.warnings))
}

/// ssh's files, an sshd configuration that reads them where the image's does not, and the
/// devcontainer's environment for those who log in.
pub async fn ssh(
    docker: &Docker,
    container: &Container,
    mut files: Vec<DroneFile>,
    mut tree: Tree,
) -> Result<Tree> {
    let environment = environment::of(
        container.environment(),
        &metadata(container).unwrap_or_default(),
    );
    let container = container.id();
    tree = tree
        .directory("/etc/ssh", 0o755)
        .directory("/etc/ssh/sshd_config.d", 0o755)
        .directory("/etc/ssh/hatchery", 0o755)
        .directory("/etc/profile.d", 0o755);
    let config = docker
        .file(container, ssh::files::SSHD_CONFIG, MAX_FILE)
        .await?;
    let config = config.map(|config| String::from_utf8_lossy(&config).into_owned());
    if let Some(written) = config.as_deref().and_then(ssh::files::with_settings) {
        tree = tree.file(ssh::files::SSHD_CONFIG, 0o644, written.into_bytes());
    }
    files.extend(environment::files(&environment));
    Ok(files.into_iter().fold(tree, |tree, file| {
        tree.file(file.path, file.mode, file.content)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_name_or_number() {
        let passwd =
            "root:x:0:0:root:/root:/bin/sh\n\nvscode:x:1000:1001::/home/vscode:/bin/bash\n";
        let ids = |user| owner_in(passwd, user).map(|owner| (owner.uid, owner.gid));
        assert_eq!(ids("vscode"), Some((1000, 1001)));
        assert_eq!(ids("1000"), Some((1000, 1001)));
        assert_eq!(ids("1234"), Some((1234, 1234)));
        assert_eq!(ids("nobody-here"), None);
    }

    #[test]
    fn a_number_has_the_name_that_the_image_gives_it() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\n\nnode:x:1000:1000::/home/node:/bin/sh\n\
                      also:x:1000:1000::/:/bin/sh\n12:x:1001:1001::/:/bin/sh\n:x:1002:1::/:\n\
                      -oProxyCommand=x:x:1003:1::/:\n";
        for (uid, name) in [
            ("1000", Some("node")),
            ("12", Some("12")),
            ("1002", None),
            ("1003", None),
            ("100", None),
            ("x", None),
        ] {
            assert_eq!(name_in(passwd, uid).as_deref(), name, "{uid}");
        }
    }

    #[test]
    fn the_last_word_on_the_user_counts() {
        let entries = parse_metadata(r#"[{"remoteUser":"a"},{"id":"x"},{"remoteUser":"b"},{}]"#);
        assert_eq!(configured_user(&entries.unwrap()).as_deref(), Some("b"));
    }
}
