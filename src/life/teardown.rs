//! Removing a drone with everything that it ever had. It goes on past a failure and tells of all.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::{join_all, try_join_all};
use sha2::{Digest, Sha256};

use crate::config::Config;
use crate::docker::{self, Docker, Wanted};
use crate::drone::{DroneName, Identity};
use crate::error::{Error, Result};
use crate::failpoint::{self, Point};
use crate::host::Places;
use crate::life::builder;
use crate::life::registration::Registration;
use crate::sockets::Sockets;
use crate::tailnet;

/// Revokes its tokens, removes containers, siblings, volumes, networks, images and the socket, while
/// it leaves the tailnet as `leaving` says. What could not be removed is what comes back.
///
/// The drone's own volume is removed last, and only where Docker and the tailnet have nothing else of
/// it: by the volume a later slay or spawn finds a drone of which something is left.
pub async fn remove(
    docker: &Docker,
    config: &Config,
    places: &Places,
    identity: &Identity,
    leaving: impl Future<Output = Result<()>>,
) -> Vec<Error> {
    let name = &identity.name;
    let closing = close(config, places, identity);
    let objects = objects(docker, places, identity);
    let (closed, left, mut results) = tokio::join!(closing, leaving, objects);
    results.push(left);
    let all_gone = results.iter().all(Result::is_ok);
    results.extend([closed, places.forget_all_but_egg(name)]);
    failpoint::reached(Point::FilesRemoved);
    if all_gone {
        results.push(docker.remove_volume(name.as_str()).await);
        failpoint::reached(Point::OwnVolumeRemoved);
        results.extend([
            places.unmark_egg(name),
            docker.remove_shared_network().await,
        ]);
    }
    results.into_iter().filter_map(Result::err).collect()
}

/// Takes the drone's node out of the tailnet, where that can be done from outside.
pub async fn leave_tailnet(config: &Config, places: &Places, name: &DroneName) -> Result<()> {
    match &config.tailnet {
        Some(tailnet) if tailnet.api_key_file.is_some() => {
            let owners = Registration::owners(places)?;
            tailnet::join::forget(tailnet, name, &owners, None).await
        }
        _ => Ok(()),
    }
}

/// Takes back what a rebuild has made in the place of a drone's container. Its volumes stay, and the other
/// containers of its compose project: what has no name is theirs alone.
pub async fn remove_own_container(
    docker: &Docker,
    config: &Config,
    places: &Places,
    identity: &Identity,
) -> Vec<Error> {
    let name = &identity.name;
    let mut results = vec![close(config, places, identity).await];
    for helper in [builder::name(name), beside(name)] {
        results.push(docker.remove_container(&helper).await);
    }
    match docker.container_of(name).await {
        Ok(Some(own)) => results.push(docker.remove_container(&own).await),
        Ok(None) => {}
        Err(error) => results.push(Err(error)),
    }
    match docker.project_containers(name).await {
        Ok(siblings) if siblings.is_empty() => results.push(docker.remove_networks(name).await),
        Ok(_) => {}
        Err(error) => results.push(Err(error)),
    }
    results.extend([
        docker.remove_images(name).await,
        places.unmark_rebuild(name),
    ]);
    results.into_iter().filter_map(Result::err).collect()
}

/// What the container is called by which a drone's image is read, and its clone gets into the volume,
/// where the drone's own container is not there or cannot be opened.
pub fn beside(drone: &DroneName) -> String {
    format!("hatchery.beside.{drone}")
}

async fn close(config: &Config, places: &Places, identity: &Identity) -> Result<()> {
    let sockets = Sockets::of(config, places).await?;
    sockets.close(&identity.name).await
}

/// What Docker has of it, but for its own volume.
async fn objects(docker: &Docker, places: &Places, identity: &Identity) -> Vec<Result<()>> {
    let mut results = Vec::new();
    // What cannot be halted is removed all the same.
    if halt(docker, identity).await.is_ok() {
        // Nobody works in it any more, and it was decided that it goes with all that is in it. Once
        // Docker is asked to remove the container, it may do so after hatchery was killed.
        places.mark_egg(&identity.name);
    }
    failpoint::reached(Point::ContainersHalted);
    remove_containers(docker, identity, &mut results).await;
    failpoint::reached(Point::ContainersRemoved);
    // What the containers held is free now.
    let (volumes, networks, images) = tokio::join!(
        at(Point::VolumesRemoved, remove_volumes(docker, identity)),
        at(
            Point::NetworksRemoved,
            docker.remove_networks(&identity.name)
        ),
        at(Point::ImagesRemoved, docker.remove_images(&identity.name)),
    );
    results.extend(volumes);
    results.extend([networks, images]);
    results
}

/// Does this, which is where the point is.
async fn at<T>(point: Point, doing: impl Future<Output = T>) -> T {
    let done = doing.await;
    failpoint::reached(point);
    done
}

async fn remove_containers(docker: &Docker, identity: &Identity, results: &mut Vec<Result<()>>) {
    for helper in [builder::name(&identity.name), beside(&identity.name)] {
        results.push(docker.remove_container(&helper).await);
    }
    match containers(docker, identity).await {
        Ok(all) => {
            let removing = all.iter().map(|id| docker.remove_container(id));
            results.extend(join_all(removing).await);
        }
        Err(error) => results.push(Err(error)),
    }
}

/// Stops the containers at once. The drone is then an egg, which nothing starts again.
async fn halt(docker: &Docker, identity: &Identity) -> Result<()> {
    if let Some(own) = docker.container_of(&identity.name).await? {
        docker.set_wanted(&own, Wanted::Undecided).await?;
    }
    let all = containers(docker, identity).await?;
    try_join_all(all.iter().map(|id| docker.stop(id, 0))).await?;
    Ok(())
}

async fn containers(docker: &Docker, identity: &Identity) -> Result<BTreeSet<String>> {
    let (own, project) = tokio::try_join!(
        docker.container_of(&identity.name),
        docker.project_containers(&identity.name),
    )?;
    Ok(own.into_iter().chain(project).collect())
}

async fn remove_volumes(docker: &Docker, identity: &Identity) -> Vec<Result<()>> {
    match volumes(docker, identity).await {
        Ok(mut volumes) => {
            volumes.retain(|volume| volume != identity.name.as_str());
            volumes.push(builder::name(&identity.name));
            join_all(volumes.iter().map(|volume| docker.remove_volume(volume))).await
        }
        Err(error) => vec![Err(error)],
    }
}

/// The volumes that go with it: its own, those that compose made and those named after its devcontainer id.
pub async fn volumes(docker: &Docker, identity: &Identity) -> Result<Vec<String>> {
    let id = devcontainer_id(identity);
    let mut names = docker.project_volumes(&identity.name).await?;
    let others = docker.volume_names().await?;
    names.extend(
        others
            .into_iter()
            .filter(|volume| !docker::is_id(volume) && identity.name.owns(&id, volume)),
    );
    names.sort();
    names.dedup();
    Ok(names)
}

/// `${devcontainerId}`: what the devcontainer CLI names volumes after, derived from its labels
/// (devcontainers specification, "devcontainer-id-variable": SHA-256 in base 32, 52 digits).
pub fn devcontainer_id(identity: &Identity) -> String {
    let labels: BTreeMap<_, _> = identity.lasting_labels().into();
    let hash = Sha256::digest(serde_json::json!(labels).to_string());
    let bit = |index: usize| (hash[index / 8] >> (7 - index % 8)) & 1;
    // 52 digits of 5 bits hold 260; the number has 256, so that it begins with four zeros.
    (0..52_usize)
        .map(|digit| {
            let value = (0..5).fold(0, |value, offset: usize| {
                let index = digit * 5 + offset;
                value << 1 | index.checked_sub(4).map_or(0, bit)
            });
            char::from_digit(u32::from(value), 32).unwrap_or('0')
        })
        .collect()
}
