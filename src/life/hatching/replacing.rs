//! What a rebuild does that a spawn does not: the configuration comes out of the drone's volume, and the
//! old container is there until all is built.

use std::time::Duration;

use super::Hatching;
use crate::devcontainer::{Prepared, Repository};
use crate::docker::{Drone, Held, Life, Wanted};
use crate::door::judge;
use crate::drone::DroneName;
use crate::error::{Code, Error, Result};
use crate::failpoint::{self, Point};
use crate::host::Size;
use crate::life::recipe::Recipe;
use crate::life::siblings;
use crate::life::starting::Start;
use crate::life::teardown;
use crate::life::waking::STOP_WITHIN;
use crate::tailnet::{self, Waiting};

/// How long the old container may take to leave the tailnet.
const LEAVE_WITHIN: Duration = Duration::from_secs(10);

/// What git has in a clone. Nothing is built of it, and a stranger's is not to be near a git of this server's.
const GIT: &str = ".git";

/// What is rebuilt.
#[derive(Debug)]
pub struct Old {
    /// The drone as it was.
    pub drone: Drone,
    /// Whether the configuration is that of the default branch, not that of the volume.
    pub from_default_branch: bool,
    /// How its container was made, where that is known.
    pub recipe: Option<Recipe>,
    /// Whether the person is asked before anything is made.
    pub asks: bool,
}

impl Old {
    /// What is said of the old container of this drone.
    pub fn goes(name: &DroneName) -> String {
        format!(
            "everything that exists only in the old container of {name} will be lost: installed programs, \
             files in the home directory"
        )
    }
}

impl Hatching<'_> {
    /// Whether the old container is gone, or may be: from then on there is nothing to go back to.
    pub fn has_replaced(&self) -> bool {
        self.replaced.get()
    }

    /// Copies the clone, as it is in the drone's volume, to where a spawn clones to. Where in the volume it is.
    pub(super) async fn take_out(&self, old: &Old) -> Result<String> {
        let name = &self.identity.name;
        self.server
            .ui
            .step(&format!("Reading the configuration in {name}"));
        let _step = self.timeline.step("read volume");
        let beside = teardown::beside(name);
        let held = self.server.docker.hold(&beside, name).await?;
        let taken = self.copied(old, &held).await;
        held.release().await?;
        taken
    }

    async fn copied(&self, old: &Old, held: &Held<'_>) -> Result<String> {
        let limits = &self.server.config.limits;
        let most = Size {
            bytes: limits.clone.as_u64(),
            files: limits.clone_files,
        };
        for place in self.candidates(old).await? {
            let git = format!("{place}/{GIT}");
            if held.has(git.trim_start_matches('/')).await? {
                held.copy(&place, &self.checkout, GIT, most).await?;
                return Ok(place);
            }
        }
        let repo = &self.identity.repo;
        Err(Error::new(
            Code::DevcontainerInvalid,
            format!("there is no clone of {repo} in the volume {}", self.identity.name),
        )
        .hint(format!(
            "`hatchery rebuild --from-default-branch {repo}` uses the configuration of the default branch; \
             the volume stays as it is"
        )))
    }

    /// Where the clone may be in the volume, the likeliest first.
    async fn candidates(&self, old: &Old) -> Result<Vec<String>> {
        let name = self.identity.name.as_str();
        let mut all = Vec::new();
        // A file that cannot be read says nothing.
        let start = Start::of(self.server.places, &self.identity.name);
        if let (Some(start), Some(id)) = (start.ok().flatten(), &old.drone.container)
            && let Some(container) = self.server.docker.container(id).await?
            && let Some((_, at)) = container.volumes().find(|(volume, _)| *volume == name)
        {
            all.extend(above(&start.folder, at));
        }
        for usual in [self.identity.repo.name(), ""] {
            if !all.iter().any(|place| place == usual) {
                all.push(usual.to_owned());
            }
        }
        Ok(all)
    }

    /// Refuses a configuration that looks for the clone elsewhere than it is.
    pub(super) fn stays_where_it_is(&self, prepared: &Prepared, is: Option<&str>) -> Result<()> {
        match is {
            Some(is) if is != prepared.in_volume => Err(Error::new(
                Code::GateRefused,
                format!(
                    "workspaceMount and workspaceFolder put the clone at /{} of the volume {}; it is at /{is}",
                    prepared.in_volume, self.identity.name
                ),
            )
            .hint("a rebuild does not move the clone; keep both as they were at the spawn")),
            _ => Ok(()),
        }
    }

    /// Pulls the images that the drone is made from and that are here already; who pulls them else gets the
    /// newest anyway. Where that fails, what is here is used.
    pub(super) async fn pull_again(&self, repository: &Repository) -> Result<()> {
        if self.wishes.old.is_none() {
            return Ok(());
        }
        for image in repository.bases() {
            let is_pinned = image.contains('@');
            if is_pinned || self.server.docker.image(image).await?.is_none() {
                continue;
            }
            self.server.ui.step(&format!("Pulling {image}"));
            let pulled = async {
                if !self.wishes.trusted && judge::pull(image).await.is_err() {
                    return Err(Error::new(Code::GateRefused, "it does not name a registry"));
                }
                self.pull(image).await
            };
            match pulled.await {
                Ok(()) => failpoint::reached(Point::ImagePulled),
                Err(error) => self.server.ui.warn(&format!(
                    "{image} cannot be pulled; this server's copy is used: {}",
                    error.message()
                )),
            }
        }
        Ok(())
    }

    /// Starts what is to register the new container's node: the name is the old one's until all is built.
    pub(super) async fn prepare_to_join(&self) -> Result<()> {
        if let (Some(_), Some(tailnet)) = (&self.wishes.old, &self.server.config.tailnet) {
            let waiting = Waiting::start(tailnet, &self.node_state()).await?;
            self.registrar.replace(Some(waiting));
        }
        Ok(())
    }

    /// Makes way for the new container: the old one is stopped, leaves the tailnet and is removed. Its
    /// volumes stay, and its siblings are compose's to keep or to replace.
    pub(super) async fn make_way(&self) -> Result<()> {
        let Some(Old { drone, recipe, .. }) = &self.wishes.old else {
            return Ok(());
        };
        let (docker, config, places) = (self.server.docker, self.server.config, self.server.places);
        let name = &self.identity.name;
        let _step = self.timeline.step("replace");
        // From here on there is no label to read a scope from.
        let recipe = Recipe {
            extent: self.wishes.extent.clone(),
            files: recipe.as_ref().and_then(|it| it.files.clone()),
        };
        recipe.write(places, name)?;
        places.mark_rebuild(name)?;
        if let Some(container) = &drone.container {
            self.server.ui.step("Removing the old container");
            // A rebuild that is killed now leaves a burrowed drone, which can be woken.
            docker.set_wanted(container, Wanted::Asleep).await?;
            let revoking = self.server.sockets.revoke(name);
            let tailnet = config.tailnet.as_ref();
            let leaves_itself = tailnet.is_some_and(|it| it.api_key_file.is_none());
            let stopping = async {
                if drone.life == Life::Running && leaves_itself {
                    // It can only leave while it runs.
                    let inside = docker.inside(container);
                    let leaving = tailnet::node::leave(&inside);
                    let _ = tokio::time::timeout(LEAVE_WITHIN, leaving).await;
                }
                docker.stop(container, STOP_WITHIN).await
            };
            if !leaves_itself {
                // Which makes the name free first, although the old container still runs.
                self.join().await;
            }
            // Whether its tokens are revoked is not what its new container waits for.
            let (revoked, stopped) = tokio::join!(revoking, stopping);
            stopped?;
            if let Err(error) = revoked {
                self.server.ui.warn(&error.message());
            }
            for sibling in siblings::of(docker, name, container).await? {
                if let Some(restart) = sibling.own_restart() {
                    docker.set_restart(sibling.id(), restart).await?;
                }
            }
            self.replaced.set(true);
            docker.remove_container(container).await?;
        }
        self.replaced.set(true);
        if drone.identity.scope != self.identity.scope {
            self.server.sockets.rescope(config, self.identity).await?;
        }
        if !self.joining.get() {
            self.join().await;
        }
        Ok(())
    }
}

/// The paths in a volume, mounted at this place, at which the clone may be whose folder that is.
fn above(folder: &str, at: &str) -> Vec<String> {
    let Some(below) = folder.strip_prefix(at.trim_end_matches('/')) else {
        return Vec::new();
    };
    let mut parts: Vec<&str> = below.split('/').filter(|part| !part.is_empty()).collect();
    let mut all = Vec::new();
    while !parts.is_empty() {
        all.push(parts.join("/"));
        parts.pop();
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clone_is_looked_for_where_tools_open_and_above() {
        for (folder, at, all) in [
            ("/workspaces/site", "/workspaces", &["site"][..]),
            (
                "/workspaces/site/app",
                "/workspaces/",
                &["site/app", "site"],
            ),
            ("/srv", "/srv", &[]),
            ("/elsewhere", "/workspaces", &[]),
        ] {
            assert_eq!(above(folder, at), all, "{folder} in {at}");
        }
    }
}
