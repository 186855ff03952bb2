//! What goes into a created container before it runs: the clone, the tailnet's node, ssh's files,
//! what git and `gh` need for their tokens ([`credentials`]).

pub mod accounts;
pub mod credentials;
pub mod gitconfig;
pub mod mounts;
pub mod person;
pub mod signing;

use self::accounts::Accounts;
use crate::config::Config;
use crate::devcontainer::{METADATA_LABEL, SOCKETS_TARGET, parse_metadata};
use crate::docker::{Container, Docker, Owner, Tree, WholeFile};
use crate::drone::DroneName;
use crate::error::Result;
use crate::host::Places;
use crate::secret::Environment;
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
pub fn mounts_sockets(container: &Container) -> bool {
    let host = container.host();
    let mut mounts = host.iter().flat_map(|host| host.mounts.iter()).flatten();
    mounts.any(|mount| mount.target.as_deref() == Some(SOCKETS_TARGET))
}

/// Whom a person works as in the container of this id.
pub async fn remote_user_of(docker: &Docker, id: &str) -> Result<String> {
    let container = docker.container(id).await?;
    Ok(container.map_or_else(|| "root".to_owned(), |container| user_of(&container)))
}

/// Whom a person works as in this container.
pub fn user_of(container: &Container) -> String {
    let metadata = metadata(container).unwrap_or_default();
    let user = configured_user(&metadata).unwrap_or_else(|| container.user().to_owned());
    let name = user.split(':').next().unwrap_or_default();
    match name {
        "" | "0" => "root".to_owned(),
        name => name.to_owned(),
    }
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
/// devcontainer's environment with these secrets for those who log in.
pub async fn ssh(
    docker: &Docker,
    container: &Container,
    mut files: Vec<DroneFile>,
    secrets: &Environment,
    mut tree: Tree,
) -> Result<Tree> {
    let environment = environment::of(
        container.environment(),
        &metadata(container).unwrap_or_default(),
    );
    let owner = if secrets.is_empty() {
        Owner::ROOT
    } else {
        let accounts = Accounts::of(docker, container.id()).await?;
        accounts.owner(&user_of(container))?
    };
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
    let own = environment::secrets_file(secrets);
    let file = WholeFile {
        content: own.content,
        mode: own.mode,
        owner,
    };
    tree = tree.whole(own.path, file);
    files.extend(environment::files(&environment, secrets));
    Ok(files.into_iter().fold(tree, |tree, file| {
        tree.file(file.path, file.mode, file.content)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_on_the_user_counts() {
        let entries = parse_metadata(r#"[{"remoteUser":"a"},{"id":"x"},{"remoteUser":"b"},{}]"#);
        assert_eq!(configured_user(&entries.unwrap()).as_deref(), Some("b"));
    }
}
