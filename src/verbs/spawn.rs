//! `hatchery spawn`

use std::collections::BTreeMap;
use std::net::TcpListener;

use clap::Args;

use super::{Context, interrupted, ssh_command};
use crate::docker::{Docker, Life};
use crate::drone::{Identity, Scope};
use crate::error::{Code, Error, Result};
use crate::hatching::{Hatched, Hatching, Wishes};
use crate::permission::{Access, Permission};
use crate::repo::RepoId;
use crate::{teardown, voice, work};

/// Make a drone: clone a repository, build and start its devcontainer, join it to the tailnet
///
/// Prints the ssh command that reaches it.
#[derive(Debug, Args)]
pub struct Spawn {
    /// org/repo, or its https or git@ URL
    repo: String,

    /// Which of the repository's .devcontainer/NAME/devcontainer.json
    #[arg(long, value_name = "NAME")]
    config: Option<String>,

    /// A further repository that its GitHub tokens may touch
    #[arg(long = "repo", value_name = "ORG/REPO")]
    repositories: Vec<String>,

    /// What its GitHub tokens may do, and nothing beyond: `contents=read`
    #[arg(long = "permission", value_name = "NAME=ACCESS", value_parser = permission)]
    permissions: Vec<(Permission, Access)>,

    /// Clone its submodules too
    #[arg(long)]
    submodules: bool,

    /// Let the repository's configuration through the gate this once
    ///
    /// It can then do on this server whatever it likes.
    #[arg(long)]
    trust: bool,
}

impl Spawn {
    pub async fn run(self, context: &Context<'_>) -> Result<()> {
        let repo = context.repository(&self.repo)?;
        let identity = Identity::new(self.scope(context, &repo)?);
        let _lock = context.places.lock(&identity.name)?;
        context.places.sweep();
        let docker = context.docker().await?;
        make_room(context, &docker, &identity).await?;
        let wishes = Wishes {
            variant: self.config,
            submodules: self.submodules,
            trusted: self.trust || context.config.trusts(&repo),
            ssh_port: match context.config.tailnet {
                Some(_) => None,
                None => Some(free_port(&identity)?),
            },
        };
        let sockets = context.sockets().await?;
        let workshop = context.places.workshop(&identity.name)?;
        let server = context.server(&docker, &sockets);
        let hatching = Hatching::new(server, &identity, &wishes, &workshop)?;
        let hatched = tokio::select! {
            hatched = hatching.run() => hatched,
            error = interrupted() => Err(error),
        };
        match hatched {
            Ok(hatched) => report(context, &docker, &identity, hatched).await,
            Err(error) => Err(take_back(context, &docker, &identity, &hatching, error).await),
        }
    }

    /// What its tokens may touch: its own repository, what the configuration adds and what was
    /// asked for; and what they may do with it.
    fn scope(&self, context: &Context<'_>, repo: &RepoId) -> Result<Scope> {
        let config = &context.config;
        if config.github.app_id.is_none()
            && !(self.repositories.is_empty() && self.permissions.is_empty())
        {
            return Err(Error::new(
                Code::Usage,
                "--repo and --permission are about GitHub tokens, and this server has no GitHub App",
            )
            .hint("set github.app_id in the configuration, and give hatchery-credd the App's key"));
        }
        let settings = config.drones.get(repo).cloned().unwrap_or_default();
        let mut repositories = vec![repo.clone()];
        let asked = self
            .repositories
            .iter()
            .map(|text| context.repository(text));
        for other in settings.repositories.into_iter().map(Ok).chain(asked) {
            let other = other?;
            if !repositories.contains(&other) {
                repositories.push(other);
            }
        }
        let configured = settings.permissions;
        let permissions = if self.permissions.is_empty() {
            configured
        } else {
            let all = configured.as_ref().unwrap_or(&config.github.permissions);
            Some(narrowed(&self.permissions, all)?)
        };
        Scope::new(repositories, permissions).map_err(|error| {
            Error::new(Code::ConfigInvalid, format!("drones.\"{repo}\"")).because(error)
        })
    }
}

/// The permissions that were asked for, which the configured ones must hold.
fn narrowed(
    asked: &[(Permission, Access)],
    configured: &BTreeMap<Permission, Access>,
) -> Result<BTreeMap<Permission, Access>> {
    let mut permissions = BTreeMap::new();
    for &(permission, access) in asked {
        let most = configured.get(&permission);
        if most.is_none_or(|&most| most < access) {
            let most = most.map_or("nothing".to_owned(), ToString::to_string);
            return Err(Error::new(
                Code::Usage,
                format!("{permission}={access} is more than the configuration gives: {most}"),
            )
            .hint("raise it in [github.permissions] or in [drones.\"org/repo\"] first"));
        }
        if permissions.insert(permission, access).is_some() {
            return Err(Error::new(
                Code::Usage,
                format!("{permission} is given twice"),
            ));
        }
    }
    Ok(permissions)
}

/// `NAME=ACCESS`, as GitHub names permissions.
fn permission(text: &str) -> std::result::Result<(Permission, Access), String> {
    let (name, access) = text
        .split_once('=')
        .ok_or("give it as NAME=ACCESS, like contents=read")?;
    let permission: Permission = name.parse().map_err(|error| format!("{error}"))?;
    let access: Access = access.parse().map_err(|error| format!("{error}"))?;
    if !permission.allows(access) {
        return Err(format!("{permission} cannot be {access}"));
    }
    Ok((permission, access))
}

/// Refuses where the drone, its name or the last free place is taken; clears an egg.
async fn make_room(context: &Context<'_>, docker: &Docker, identity: &Identity) -> Result<()> {
    let (repo, name) = (&identity.repo, &identity.name);
    let (drones, _) = docker.drones().await?;
    let same = drones.iter().find(|drone| &drone.identity.name == name);
    if let Some(drone) = same {
        if &drone.identity.repo != repo {
            return Err(Error::new(
                Code::NameTaken,
                format!(
                    "{name} is the drone of {}; {repo} would have the same name",
                    drone.identity.repo
                ),
            )
            .hint(format!(
                "slay that one first: `hatchery slay {}`",
                drone.identity.repo
            )));
        }
        if drone.life != Life::Egg {
            return Err(Error::new(
                Code::DroneExists,
                format!(
                    "{repo} has a drone already: {name}, {}",
                    drone.life.as_str()
                ),
            )
            .hint(match drone.life {
                Life::Running => format!("`hatchery status {repo}` says how to reach it"),
                _ => format!("`hatchery unburrow {repo}` wakes it"),
            }));
        }
        work::check(docker, drone).await?;
        context.ui.talk(&format!(
            "Clearing the egg that an earlier spawn of {repo} left."
        ));
        let failures =
            teardown::remove(docker, &context.config, &context.places, &drone.identity).await;
        if let Some(error) = failures.into_iter().next() {
            return Err(error);
        }
    }
    let others = drones
        .iter()
        .filter(|drone| &drone.identity.name != name)
        .count();
    if others >= context.config.limits.drones {
        return Err(Error::new(
            Code::LimitReached,
            format!(
                "there are {others} drones; limits.drones is {}",
                context.config.limits.drones
            ),
        )
        .hint("slay one (`hatchery list`), or raise limits.drones in the configuration"));
    }
    if docker.container(name.as_str()).await?.is_some() {
        return Err(Error::new(
            Code::NameTaken,
            format!("a container named {name} is there already and is no drone"),
        )
        .hint(format!("look at it, then `docker rm {name}`")));
    }
    // Compose would take its containers for this drone's, and so would whoever takes back.
    if !docker.project_containers(name).await?.is_empty() {
        return Err(Error::new(
            Code::NameTaken,
            format!("a compose project named {name} is there already and is no drone's"),
        )
        .hint(format!(
            "look at it (`docker ps -a --filter label=com.docker.compose.project={name}`), \
             then remove its containers"
        )));
    }
    Ok(())
}

/// A loopback port for a drone without a tailnet: the same one each time, where it is free.
fn free_port(identity: &Identity) -> Result<u16> {
    const FIRST: u16 = 20_000;
    const COUNT: u16 = 10_000;
    let hash = identity.name.as_str().bytes().fold(0u16, |hash, byte| {
        hash.wrapping_mul(31).wrapping_add(u16::from(byte))
    });
    (0..COUNT)
        .map(|step| FIRST + hash.wrapping_add(step) % COUNT)
        .find(|&port| TcpListener::bind(("127.0.0.1", port)).is_ok())
        .ok_or_else(|| {
            Error::new(
                Code::HostFailed,
                "no loopback port from 20000 to 29999 is free",
            )
            .hint("configure a tailnet, or stop what holds the ports")
        })
}

async fn report(
    context: &Context<'_>,
    docker: &Docker,
    identity: &Identity,
    hatched: Hatched,
) -> Result<()> {
    let drone = context.drone(docker, &identity.repo).await?;
    let ssh = ssh_command(&context.config, &drone, &hatched.user);
    if let Some(error) = hatched.setup_failed {
        return Err(error.hint(format!(
            "the drone stays: `{ssh}`; mend it there, or `hatchery slay {}` and spawn again",
            identity.repo
        )));
    }
    if context.ui.json() {
        let mut result = serde_json::json!({
            "name": identity.name,
            "repository": identity.repo,
            "state": drone.life,
            "hostname": context.config.tailnet.as_ref()
                .map(|tailnet| format!("{}.{}", identity.name, tailnet.domain)),
            "ssh_port": drone.ssh_port.unwrap_or(crate::ssh::PORT),
            "user": hatched.user,
            "workspace": hatched.workspace,
            "ssh": ssh,
        });
        if let Some(stage) = hatched.still_running {
            result["still_running"] = stage.as_str().into();
        }
        context.ui.json_result(&result);
        return Ok(());
    }
    context.ui.finish();
    context.ui.talk(voice::spawned(context.ui.terminal()));
    context.ui.talk(&format!(
        "{} runs; the clone is in {} of the volume {}. Reach it with:",
        identity.repo, hatched.workspace, identity.name
    ));
    context.ui.result(ssh);
    Ok(())
}

/// Removes all that a failed spawn made and adds to its error what could not be removed.
async fn take_back(
    context: &Context<'_>,
    docker: &Docker,
    identity: &Identity,
    hatching: &Hatching<'_>,
    error: Error,
) -> Error {
    context.ui.step("Taking back what was made");
    let mut failures = Vec::new();
    failures.extend(hatching.leave_tailnet().await.err());
    // Docker may still be creating what it was asked for before the devcontainer CLI was killed.
    for _ in 0..3 {
        failures.extend(teardown::remove(docker, &context.config, &context.places, identity).await);
        if !failures.is_empty() || matches!(docker.drone(&identity.name).await, Ok(None)) {
            break;
        }
    }
    context.ui.finish();
    if failures.is_empty() {
        context
            .ui
            .talk("Everything that was made has been taken back.");
        return error;
    }
    let left = failures
        .iter()
        .map(|failure| format!("left behind: {}", failure.message()));
    error.with_details(left)
}
