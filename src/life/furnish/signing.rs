//! `git.sign`: commits in a drone are signed by a key of its own, as ssh keys sign (`gpg.format`, git-config(1)).

use ssh_key::LineEnding;

use super::gitconfig::Section;
use super::user_of;
use crate::docker::{Container, Docker, Tree, WholeFile};
use crate::drone::{DroneName, Identity};
use crate::error::{Code, Error, Result};
use crate::host::Places;
use crate::life::furnish::accounts::Accounts;
use crate::server::Server;
use crate::ssh::ServerSecret;
use crate::ssh::ca::public;

/// The key, in the directory of ssh's files.
const KEY: &str = "/etc/ssh/hatchery/signing_key";
/// Who signs what: `ssh-keygen(1)`, ALLOWED SIGNERS.
const SIGNERS: &str = "/etc/ssh/hatchery/allowed_signers";
/// The first git that signs with ssh keys; an older one does not commit at all where it is told to.
const FIRST: (u32, u32) = (2, 34);
/// What tells whether commits can be signed in an image.
const LOOK: &str = "command -v ssh-keygen > /dev/null && git --version";

/// What is needed to sign in this container, added to what goes into it, and what git is told; `None` where that
/// is to stay as it is. Where nothing can be signed there git is told nothing, and a person is warned. A
/// stranger's drone signs nothing.
pub async fn tree(
    server: Server<'_>,
    identity: &Identity,
    container: &Container,
    tree: Tree,
) -> Result<(Tree, Option<Section>)> {
    let nothing = || Some(Section::signing(String::new()));
    if !server.config.git.sign || identity.is_strangers() {
        return Ok((tree, nothing()));
    }
    let name = &identity.name;
    match hindrance(server.docker, container).await {
        Ok(None) => {}
        Ok(Some(why)) => {
            server
                .ui
                .warn(&format!("{name} does not sign commits: {why}"));
            return Ok((tree, nothing()));
        }
        // What it signed with before, it goes on to sign with.
        Err(error) => {
            let error = error.message();
            server.ui.warn(&format!(
                "cannot find out whether {name} can sign commits: {error}"
            ));
            return Ok((tree, None));
        }
    }
    let cannot = |error| {
        let what = format!("cannot make the signing key of {name}");
        Error::new(Code::HostFailed, what).because(error)
    };
    let secret = ServerSecret::load_or_create(server.places.state())?;
    let key = secret.signing_key(name);
    let private = key.to_openssh(LineEnding::LF).map_err(cannot)?;
    let public = public(&key)?;
    let accounts = Accounts::of(server.docker, container.id()).await?;
    let file = WholeFile {
        content: private.as_bytes().to_vec(),
        mode: 0o600,
        owner: accounts.owner(&user_of(container))?,
    };
    let signers = format!("* namespaces=\"git\" {public}\n");
    let tree = tree
        .directory("/etc/ssh/hatchery", 0o755)
        .whole(KEY, file)
        .file(
            format!("{KEY}.pub"),
            0o644,
            format!("{public}\n").into_bytes(),
        )
        .file(SIGNERS, 0o644, signers.into_bytes());
    let text = format!(
        "[gpg]\n\tformat = ssh\n[gpg \"ssh\"]\n\tallowedSignersFile = {SIGNERS}\n[user]\n\tsigningKey = \
         {KEY}\n[commit]\n\tgpgSign = true\n[tag]\n\tgpgSign = true\n"
    );
    Ok((tree, Some(Section::signing(text))))
}

/// The public half of the key by which a drone signs, as GitHub takes it.
pub fn public_key(places: &Places, name: &DroneName) -> Result<String> {
    public(&ServerSecret::load_or_create(places.state())?.signing_key(name))
}

/// Whether the key was put into this container.
pub async fn has_key(docker: &Docker, container: &str) -> bool {
    docker.is_there(container, KEY).await.unwrap_or_default()
}

/// Why git in this container's image cannot sign, if it cannot.
async fn hindrance(docker: &Docker, container: &Container) -> Result<Option<String>> {
    let image = container.image().unwrap_or_default();
    let output = docker.run_in_image(image, LOOK).await?;
    if output.status != 0 {
        return Ok(Some("its image has no git, or no ssh-keygen".to_owned()));
    }
    Ok(match version(&output.stdout) {
        Some(version) if version >= FIRST => None,
        Some((major, minor)) => Some(format!(
            "its image has git {major}.{minor}, and signing with ssh keys needs {}.{} or later",
            FIRST.0, FIRST.1
        )),
        None => Some("its git does not report its version".to_owned()),
    })
}

/// The first two numbers of `git version 2.39.5 (Apple Git-154)`.
fn version(said: &str) -> Option<(u32, u32)> {
    let version = said.trim().strip_prefix("git version ")?;
    let mut numbers = version.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gits_version_is_read_from_what_it_says() {
        for (said, expected) in [
            ("git version 2.39.5\n", Some((2, 39))),
            ("git version 2.50.1 (Apple Git-155)\n", Some((2, 50))),
            ("git version 2.34.rc0\n", Some((2, 34))),
            ("git version 2\n", None),
            ("", None),
            ("busybox", None),
        ] {
            assert_eq!(version(said), expected, "{said:?}");
        }
        assert!(version("git version 2.30.2").unwrap() < FIRST);
        assert!(version("git version 3.0.0").unwrap() > FIRST);
    }
}
