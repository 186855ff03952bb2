//! Whether a repository may use the images that it names.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use bollard::models::ImageInspect;
use futures_util::future::join_all;

use crate::config::Registries;
use crate::devcontainer::judging::images::barred;
use crate::devcontainer::judging::policy;
use crate::devcontainer::registry;
use crate::docker::Docker;
use crate::door::stop::{Judged, Stop};
use crate::drone::{DroneName, Identity, LABEL_DRONE};
use crate::error::{Code, Error, Result};
use crate::repo::RepoId;

/// How long a registry's name may take to be resolved. Docker will ask again.
const RESOLVED_WITHIN: Duration = Duration::from_secs(5);

/// Well-known registries, whose addresses are not looked up.
const KNOWN: &[&str] = &["ghcr.io", "mcr.microsoft.com", "quay.io"];

/// Refuses images that were built here for another drone, and registries whose names lead to this
/// server itself.
pub async fn are_free(docker: &Docker, name: &DroneName, images: &[String]) -> Result<()> {
    for image in images {
        // By whatever name or id Docker finds it.
        let labels = docker.image_labels(image).await?;
        if let Some(other) = is_anothers(&labels, name) {
            return Err(refused(&format!(
                "the image {image} belongs to the drone {other:.80}"
            )));
        }
    }
    are_elsewhere(images).await
}

/// Refuses images and features whose registries' names lead to this server itself.
pub async fn are_elsewhere(names: &[String]) -> Result<()> {
    match leading_here(names).await {
        Some(what) => Err(refused(&what)),
        None => Ok(()),
    }
}

/// Whether an image may be pulled: its name is one that a repository may write, and its registry
/// is elsewhere.
pub async fn pull(name: &str) -> Judged<()> {
    let refused = |what: &str| Stop::Refused(format!("the image {name:.200?}: {what}"));
    if !policy::is_image(name) {
        return Err(refused("that is not the name of an image"));
    }
    if let Some(why) = barred(name) {
        return Err(refused(why));
    }
    match leading_here(&[name.to_owned()]).await {
        Some(what) => Err(refused(&what)),
        None => Ok(()),
    }
}

/// The drone that an image with these labels belongs to, if it is another.
fn is_anothers<'a>(labels: &'a HashMap<String, String>, name: &DroneName) -> Option<&'a str> {
    let drone = labels.get(LABEL_DRONE)?;
    (drone != name.as_str()).then_some(drone)
}

/// Whether an existing image, found by the name or id `asked`, may be the drone's. It may not if it is another
/// drone's, if the configuration has it for other repositories, or if it has neither a name nor a drone's
/// label: the classic builder leaves such images between two steps of a build, and nothing says whose they are.
pub fn is_usable(
    image: &ImageInspect,
    asked: &str,
    identity: &Identity,
    registries: &Registries,
) -> bool {
    if registries.barring(asked, &identity.repo).is_some() {
        return false;
    }
    let labels = image
        .config
        .as_ref()
        .and_then(|config| config.labels.as_ref());
    if let Some(labels) = labels.filter(|labels| labels.contains_key(LABEL_DRONE)) {
        return is_anothers(labels, &identity.name).is_none();
    }
    let names = [&image.repo_tags, &image.repo_digests];
    let mut names = names.into_iter().flatten().flatten().peekable();
    names.peek().is_some() && !is_kept_from(&identity.repo, names.map(String::as_str), registries)
}

/// Whether an image with these names is one that the configuration has for other repositories. It is not if it
/// also has a name that anyone may write; a name that a build has given it does not count.
pub fn is_kept_from<'a>(
    repo: &RepoId,
    names: impl Iterator<Item = &'a str>,
    registries: &Registries,
) -> bool {
    let (mut is_kept, mut is_anyones) = (false, false);
    for name in names.filter(|name| !name.starts_with('<')) {
        if registries.barring(name, repo).is_some() {
            is_kept = true;
        } else {
            is_anyones |= barred(name).is_none();
        }
    }
    is_kept && !is_anyones
}

/// The error for an image that the configuration has for other repositories; `None` if this repository may use
/// it.
pub fn not_for(repo: &RepoId, image: &str, registries: &Registries) -> Option<Error> {
    let (what, hint) = registries.refusal(image, repo)?;
    let error = Error::new(
        Code::GateRefused,
        format!("the gate refuses the image {image:.200}: {what}"),
    );
    Some(error.hint(hint))
}

/// Says which registry of these images is on this server; `None` if none is.
async fn leading_here(images: &[String]) -> Option<String> {
    let hosts: BTreeSet<&str> = images.iter().filter_map(|image| registry(image)).collect();
    let unknown: Vec<&str> = hosts
        .into_iter()
        .filter(|host| !KNOWN.contains(host))
        .collect();
    if unknown.is_empty() {
        return None;
    }
    let own: BTreeSet<IpAddr> = if_addrs::get_if_addrs()
        .unwrap_or_default()
        .into_iter()
        .map(|interface| interface.ip())
        .collect();
    for (host, addresses) in join_all(unknown.into_iter().map(addresses)).await {
        if let Some(address) = addresses.iter().find(|address| leads_here(address, &own)) {
            return Some(format!(
                "the registry {host} is at {address}, which is this server's own"
            ));
        }
    }
    None
}

async fn addresses(host: &str) -> (&str, Vec<IpAddr>) {
    let resolving = tokio::net::lookup_host((host, 443));
    let addresses = match tokio::time::timeout(RESOLVED_WITHIN, resolving).await {
        Ok(Ok(addresses)) => addresses.map(|address| address.ip()).collect(),
        // What has no address is not pulled either.
        _ => Vec::new(),
    };
    (host, addresses)
}

fn leads_here(address: &IpAddr, own: &BTreeSet<IpAddr>) -> bool {
    let address = address.to_canonical();
    let link_local = match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    address.is_loopback() || address.is_unspecified() || link_local || own.contains(&address)
}

fn refused(what: &str) -> Error {
    Error::new(
        Code::GateRefused,
        format!("the gate refuses an image or feature: {what}"),
    )
    .hint(
        "name another, or trust the repository with this server: once with `--trust`, or permanently with \
         `devcontainer.trust` in the configuration",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_on_this_server_or_no_name_is_not_pulled() {
        for name in [
            "localhost:5000/x",
            "127.0.0.1:5000/x",
            "hatchery.invalid/x/y:z",
            "../x",
            "-x",
            "x y",
        ] {
            assert!(pull(name).await.is_err(), "{name}");
        }
        for name in ["debian", "debian:12", "ghcr.io/acme/base@sha256:0123"] {
            assert_eq!(pull(name).await, Ok(()), "{name}");
        }
    }

    #[test]
    fn an_image_is_its_drones() {
        let name = DroneName::of(&"acme/site".parse().unwrap());
        let of = |drone: &str| HashMap::from([(LABEL_DRONE.to_owned(), drone.to_owned())]);
        assert_eq!(is_anothers(&HashMap::new(), &name), None);
        assert_eq!(is_anothers(&of("acme-site"), &name), None);
        assert_eq!(is_anothers(&of("acme-other"), &name), Some("acme-other"));
        assert_eq!(is_anothers(&of(""), &name), Some(""));
    }

    #[test]
    fn this_servers_addresses_are_told_from_others() {
        let own = ["192.0.2.1".parse().unwrap()].into();
        for here in [
            "127.0.0.1",
            "127.9.9.9",
            "::1",
            "0.0.0.0",
            "169.254.169.254",
            "fe80::1",
            "::ffff:127.0.0.1",
            "192.0.2.1",
        ] {
            assert!(leads_here(&here.parse().unwrap(), &own), "{here}");
        }
        for elsewhere in ["192.0.2.2", "10.0.0.1", "2001:db8::1"] {
            assert!(
                !leads_here(&elsewhere.parse().unwrap(), &own),
                "{elsewhere}"
            );
        }
    }
}
