//! `hatchery rebuild`

use clap::Args;

use super::spawn::{
    Made, free_port, is_somebodys, left_behind, report, stays, transcribe, transcribed,
};
use super::timings::Timings;
use super::{Context, is_egg, scope, told_to_stop};
use crate::devcontainer::NO_TRUST_HELPS;
use crate::docker::{Docker, Drone, Life, Wanted};
use crate::drone::Identity;
use crate::error::{Code, Error, Result};
use crate::host::transcript::What;
use crate::life::builder;
use crate::life::hatching::{Hatching, Old, Wishes};
use crate::life::limits;
use crate::life::recipe::{Extent, Recipe};
use crate::life::reserve;
use crate::life::starting::Start;
use crate::life::teardown;
use crate::life::waking::STOP_WITHIN;
use crate::life::work;
use crate::timeline::Timeline;

/// Recreate a drone's container from the devcontainer.json in its volume
///
/// The drone keeps its volumes, its name and its host key. Everything that exists only in the old container
/// is lost, such as installed programs and files in the home directory. Before that, rebuild shows what
/// changes in the configuration and in the access of its tokens, and asks for confirmation. The old container
/// keeps running until the new image is built; if the gate refuses or the build fails, it is left untouched.
/// A drone whose container was removed gets a new one.
///
/// The values of --repo and --permission from the spawn or the last rebuild remain in effect. Giving one of
/// these options replaces all of its earlier values.
#[derive(Debug, Args)]
pub struct Rebuild {
    /// org/repo or the drone's name
    #[arg(value_name = "DRONE")]
    drone: String,

    /// Use .devcontainer/NAME/devcontainer.json instead of the current one
    #[arg(long, value_name = "NAME")]
    config: Option<String>,

    #[command(flatten)]
    scope: scope::Asked,

    /// Read the configuration from a new clone of the default branch instead of the drone's volume
    #[arg(long)]
    from_default_branch: bool,

    /// Let the configuration pass the gate this once
    ///
    /// A trusted configuration can take over this server. Anything that ran in the drone may have changed the
    /// files in its volume, so devcontainer.trust does not apply to them.
    #[arg(long)]
    trust: bool,

    #[command(flatten)]
    timings: Timings,

    /// Do not ask for confirmation
    #[arg(long)]
    yes: bool,
}

impl Rebuild {
    pub async fn run(self, mut context: Context<'_>) -> Result<()> {
        let asked = context.asked(&self.drone)?;
        let docker = context.docker().await?;
        let _lock = context.places.lock(&asked.name())?;
        let drone = context.drone(&docker, &asked).await?;
        let repo = &drone.identity.repo;
        let is_strangers = drone.identity.is_strangers();
        let owners = self.from_default_branch && !is_strangers && context.config.trusts(repo);
        let trusted = self.trust || owners;
        if !trusted {
            // It trusts what the repository's owners have written, not what a drone has.
            context.config.devcontainer.trust.clear();
        }
        if is_strangers {
            context.config.trust_no_owner();
        }
        let own = limits::Own::of(&context.places, &drone.identity.name)?;
        context.config.limits = own.over(&context.config.limits);
        let context = &context;
        if drone.life == Life::Egg {
            return Err(is_egg(&drone));
        }
        if drone.life != Life::Bare {
            self.can_ask(context, &drone)?;
        }
        work::check_nameless(&docker, &drone).await?;
        self.replace(context, &docker, drone, trusted).await
    }

    /// Refuses where the person is to be asked whether the old container may go, and cannot be.
    fn can_ask(&self, context: &Context<'_>, drone: &Drone) -> Result<()> {
        if self.yes || context.ui.can_ask() {
            return Ok(());
        }
        let (name, repo) = (&drone.identity.name, &drone.identity.repo);
        Err(Error::new(Code::Usage, Old::goes(name)).hint(format!(
            "copy what you want to keep into its workspace, then run `hatchery rebuild --yes {repo}`"
        )))
    }

    async fn replace(
        self,
        context: &Context<'_>,
        docker: &Docker,
        drone: Drone,
        trusted: bool,
    ) -> Result<()> {
        let timeline = Timeline::begin();
        let preparing = timeline.step("prepare");
        let recipe = Recipe::of(&context.places, &drone.identity.name)?;
        let extent = match &recipe {
            Some(recipe) => recipe.extent.clone(),
            None => Extent::of(&drone.identity.scope),
        };
        let extent = self.scope.over(extent, context)?;
        let head = drone.identity.head.clone();
        let scope = extent.scope(&context.config, &drone.identity.repo, head.as_ref())?;
        let identity = Identity::new(scope).started_from(head);
        let (name, repo) = (&identity.name, &identity.repo);
        context.places.sweep();
        let machine = docker.machine().await?;
        reserve::is_left(&context.config.limits, &machine)?;
        machine.has(context.config.docker.runtime)?;
        let ssh_port = match (&context.config.tailnet, drone.ssh_port) {
            (Some(_), _) => None,
            // The drone itself has it.
            (None, Some(port)) => Some(port),
            (None, None) => Some(free_port(&identity)?),
        };
        let variant = match self.config {
            Some(variant) => Some(variant),
            None => Start::of(&context.places, name)?.and_then(|start| start.config),
        };
        let wishes = Wishes {
            variant,
            submodules: false,
            trusted,
            ssh_port,
            extent,
            old: Some(Old {
                drone: drone.clone(),
                from_default_branch: self.from_default_branch,
                recipe,
                asks: !self.yes && drone.life != Life::Bare,
            }),
        };
        let sockets = context.sockets().await?;
        let workshop = context.places.workshop(name)?;
        let server = context.server(docker, &sockets);
        let hatching = Hatching::new(server, &identity, &wishes, &workshop, &machine, &timeline)?;
        transcribe(context, &identity, What::Rebuild);
        drop(preparing);
        let hatched = tokio::select! {
            hatched = hatching.run() => hatched,
            error = told_to_stop(context) => Err(error),
        };
        let ended = match hatched {
            Ok(hatched) => {
                let forgotten = context.places.forget_memory(name);
                let forgotten = forgotten.and_then(|()| context.places.forget_bounds(name));
                let forgotten = forgotten.and_then(|()| context.places.forget_idle(name));
                if let Err(error) = docker.remove_replaced_images(name).await {
                    context.ui.warn(&error.message());
                }
                let timings = self.timings.result(&timeline);
                match forgotten {
                    Ok(()) => {
                        let made = Made::Rebuilt;
                        report(context, docker, &identity, hatched, made, timings).await
                    }
                    error => error,
                }
            }
            Err(error) => {
                context.ui.step_failed();
                context.ui.step("Undoing the failed rebuild");
                hatching.settle().await;
                let taken_back = if hatching.has_replaced() || drone.container.is_none() {
                    take_back(context, docker, &drone, &hatching, error).await
                } else {
                    leave(context, docker, &drone, &hatching, error).await
                };
                context.ui.finish();
                Err(match taken_back {
                    error if trusted || error.code() != Code::GateRefused => error,
                    error if offers_trust(&error) => {
                        error.hint(format!(
                            "change it in the drone; or, if you trust everything that ever ran in the drone \
                             with this server, run `hatchery rebuild --trust {repo}`: devcontainer.trust \
                             does not apply to the files in a volume"
                        ))
                    }
                    error => error,
                })
            }
        };
        self.timings.tell(context, &timeline);
        transcribed(context, &identity, ended)
    }
}

/// Whether the error's hint names trust as a way past the gate.
fn offers_trust(error: &Error) -> bool {
    error
        .what_next()
        .is_some_and(|hint| hint.contains("devcontainer.trust") && !hint.contains(NO_TRUST_HELPS))
}

/// Removes what was made beside an old container that was not touched, or only stopped.
async fn leave(
    context: &Context<'_>,
    docker: &Docker,
    old: &Drone,
    hatching: &Hatching<'_>,
    error: Error,
) -> Error {
    let (name, repo) = (&old.identity.name, &old.identity.repo);
    let mut failures = Vec::new();
    failures.extend(hatching.leave_tailnet().await.err());
    failures.extend(finish_stopping(docker, old).await.err());
    for helper in [builder::name(name), teardown::beside(name)] {
        failures.extend(docker.remove_container(&helper).await.err());
    }
    failures.extend(docker.remove_unused_network(&old.identity).await.err());
    failures.extend(docker.remove_replaced_images(name).await.err());
    if old.life != Life::Bare {
        failures.extend(context.places.unmark_rebuild(name).err());
    }
    let now = docker.drone(name).await.ok().flatten();
    let is_same = now.is_some_and(|now| context.known(now).life == old.life);
    context.ui.talk(&if is_same {
        format!("{name} is unchanged: {}.", old.life.as_str())
    } else {
        format!(
            "{name} was stopped and is otherwise unchanged. `hatchery unburrow {repo}` starts it again."
        )
    });
    left_behind(error, &failures)
}

/// Stops an old container that was about to be stopped: its node may be gone already, and what wakes it makes
/// another one.
async fn finish_stopping(docker: &Docker, old: &Drone) -> Result<()> {
    let Some(id) = &old.container else {
        return Ok(());
    };
    match docker.container(id).await? {
        Some(now) if now.runs() && now.wanted() == Wanted::Asleep => {
            docker.stop(id, STOP_WITHIN).await
        }
        _ => Ok(()),
    }
}

/// Removes what was made in the place of an old container, but for the volumes.
async fn take_back(
    context: &Context<'_>,
    docker: &Docker,
    old: &Drone,
    hatching: &Hatching<'_>,
    error: Error,
) -> Error {
    let identity = &old.identity;
    let (name, repo) = (&identity.name, &identity.repo);
    let kept = match docker.container_of(name).await {
        Ok(Some(id)) if hatching.has_replaced() => is_somebodys(docker, identity, &id, true).await,
        Ok(_) => None,
        // What cannot be looked at is not removed.
        Err(error) => Some(error),
    };
    if let Some(why) = kept {
        let _ = context.places.unmark_rebuild(name);
        let next = format!("`hatchery rebuild {repo}` tries again");
        return stays(context, identity, error, &why, &next);
    }
    let mut failures = Vec::new();
    failures.extend(hatching.leave_tailnet().await.err());
    let (config, places) = (&context.config, &context.places);
    // Docker may still be creating what it was asked for before the devcontainer CLI was killed.
    for _ in 0..3 {
        failures.extend(teardown::remove_own_container(docker, config, places, identity).await);
        if !failures.is_empty() || matches!(docker.container_of(name).await, Ok(None)) {
            break;
        }
    }
    if failures.is_empty() {
        context.ui.talk(&format!(
            "The failed rebuild was undone. {name} has no container now, and its volume is unchanged. \
             `hatchery rebuild {repo}` tries again."
        ));
    }
    left_behind(error, &failures)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trust_is_a_way_on_only_where_it_helps() {
        for (hint, offers) in [
            (
                "once with `--trust`, or permanently with `devcontainer.trust`",
                true,
            ),
            (NO_TRUST_HELPS, false),
            ("name another image", false),
        ] {
            let error = Error::new(Code::GateRefused, "x").hint(hint);
            assert_eq!(offers_trust(&error), offers, "{hint}");
        }
    }
}
