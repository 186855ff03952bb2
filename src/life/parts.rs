//! Parts of the clone that are mounted beside it, into the drone or its siblings: Docker starts no container
//! that mounts a part which is gone, as after `git clean`.

use std::collections::BTreeSet;
use std::path::Path;

use crate::docker::{Container, Drone, Owner, Tree, WholeFile};
use crate::drone::DroneName;
use crate::error::Result;
use crate::life::furnish;
use crate::life::furnish::accounts::Accounts;
use crate::life::starting::Start;
use crate::life::{siblings, teardown};
use crate::server::Server;

/// Where the volume is in the container that it is looked into with.
const AT: &str = "/workspaces";

/// The parts of the drone's volume that these containers mount, as paths in it.
fn mounted(drone: &DroneName, containers: &[Container]) -> BTreeSet<String> {
    containers
        .iter()
        .flat_map(|container| container.parts_of(drone.as_str()))
        .map(str::to_owned)
        .collect()
}

/// Those that are files, as the clone has them before anybody has worked in it: what is put in the place of one
/// must be one as well. `in_volume` is where the clone is in the volume.
pub async fn files(
    server: Server<'_>,
    drone: &DroneName,
    container: &str,
    (checkout, in_volume): (&Path, &str),
) -> Result<Vec<String>> {
    let all = all(server, drone, container).await?;
    let is_file = |part: &&String| {
        let path = Path::new(part).strip_prefix(in_volume);
        path.is_ok_and(|path| checkout.join(path).is_file())
    };
    Ok(mounted(drone, &all)
        .iter()
        .filter(is_file)
        .cloned()
        .collect())
}

/// Puts something empty where a part is gone; the paths of those, in the volume.
pub async fn restore(server: Server<'_>, drone: &Drone, container: &str) -> Result<Vec<String>> {
    let (docker, name) = (server.docker, &drone.identity.name);
    let all = all(server, name, container).await?;
    let parts = mounted(name, &all);
    let own = all.iter().find(|one| one.id() == container);
    let Some((own, image)) = own
        .filter(|_| !parts.is_empty())
        .and_then(|own| Some((own, own.image()?)))
    else {
        return Ok(Vec::new());
    };
    let beside = teardown::beside(name);
    docker.create_beside(&beside, image, name, Some(AT)).await?;
    let put = async {
        let mut gone = Vec::new();
        for part in parts {
            if !docker.is_there(&beside, &format!("{AT}/{part}")).await? {
                gone.push(part);
            }
        }
        if gone.is_empty() {
            return Ok(gone);
        }
        let files = Start::of(server.places, name)?.map(|start| start.files);
        let files = files.unwrap_or_default();
        let accounts = Accounts::of(docker, &beside).await?;
        let owner = accounts.owner(&furnish::user_of(own));
        let owner = owner.unwrap_or(Owner::ROOT);
        let tree = gone.iter().fold(Tree::default(), |tree, part| {
            let at = format!("{AT}/{part}");
            if files.contains(part) {
                let file = WholeFile {
                    content: Vec::new(),
                    mode: 0o644,
                    owner,
                };
                tree.whole(at, file)
            } else {
                tree.directory_of(at, owner)
            }
        });
        docker.put(&beside, tree).await?;
        Ok(gone)
    };
    let put = put.await;
    docker.remove_container(&beside).await?;
    put
}

async fn all(server: Server<'_>, drone: &DroneName, container: &str) -> Result<Vec<Container>> {
    let mut all = siblings::of(server.docker, drone, container).await?;
    all.extend(server.docker.container(container).await?);
    Ok(all)
}
