//! Whether the images that a repository names are anyone's to use.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use futures_util::future::join_all;

use crate::devcontainer::registry;
use crate::docker::Docker;
use crate::drone::{DroneName, LABEL_DRONE};
use crate::error::{Code, Error, Result};
use crate::server::Server;

/// How long a registry's name may take to be resolved. Docker will ask again.
const RESOLVED_WITHIN: Duration = Duration::from_secs(5);

/// Registries whose names lead to no server of one's own.
const KNOWN: &[&str] = &["ghcr.io", "mcr.microsoft.com", "quay.io"];

/// Refuses images that were built here for another drone, and registries whose names lead to this
/// server itself.
pub async fn are_free(server: Server<'_>, name: &DroneName, images: &[String]) -> Result<()> {
    for image in images {
        is_nobodys(server.docker, name, image).await?;
    }
    let hosts: BTreeSet<&str> = images.iter().filter_map(|image| registry(image)).collect();
    let unknown: Vec<&str> = hosts
        .into_iter()
        .filter(|host| !KNOWN.contains(host))
        .collect();
    if unknown.is_empty() {
        return Ok(());
    }
    let own: BTreeSet<IpAddr> = if_addrs::get_if_addrs()
        .unwrap_or_default()
        .into_iter()
        .map(|interface| interface.ip())
        .collect();
    for addresses in join_all(unknown.into_iter().map(addresses)).await {
        let (host, addresses) = addresses;
        if let Some(address) = addresses.iter().find(|address| leads_here(address, &own)) {
            return Err(refused(&format!(
                "the registry {host} is at {address}, which is this server's own"
            )));
        }
    }
    Ok(())
}

/// Refuses an image of another drone, by whatever name or id Docker finds it.
async fn is_nobodys(docker: &Docker, name: &DroneName, image: &str) -> Result<()> {
    let labels = docker.image_labels(image).await?;
    match labels.get(LABEL_DRONE) {
        Some(other) if other != name.as_str() => Err(refused(&format!(
            "the image {image} belongs to the drone {other:.80}"
        ))),
        _ => Ok(()),
    }
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
        format!("the gate refuses an image: {what}"),
    )
    .hint(
        "name another image, or trust the repository with this server: `--trust` for this once, \
         or `devcontainer.trust` in the configuration for good",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

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
