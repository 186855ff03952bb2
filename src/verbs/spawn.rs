//! `hatchery spawn`

use std::cell::Cell;
use std::net::TcpListener;
use std::process::ExitCode;

use clap::Args;
use tokio::signal::unix::SignalKind;

use super::detached::{self, Detach, Started};
use super::timings::Timings;
use super::{
    Context, head, hostname, is_bare, known_hosts_line, scope, signalled, slay, ssh_command,
    told_to_stop,
};
use crate::docker::{Docker, Drone, Life, Wanted};
use crate::drone::head::{BranchName, Head, HeadError, Sought};
use crate::drone::{DroneName, Identity};
use crate::error::{Code, Error, Result};
use crate::failpoint::{self, Point};
use crate::host::Transcript;
use crate::host::transcript::What;
use crate::life::hatching::{Hatched, Hatching, Wishes};
use crate::life::recipe::Extent;
use crate::life::reserve;
use crate::life::starting;
use crate::life::teardown;
use crate::life::work;
use crate::repo::RepoId;
use crate::timeline::Timeline;
use crate::ui::voice;

/// Create a drone: clone a repository, start its devcontainer and join it to the tailnet
///
/// At the end, it prints the ssh command that reaches the drone.
#[derive(Debug, Args)]
pub struct Spawn {
    /// org/repo, its https or git@ URL, or the URL of one of its branches, files or pull requests
    repo: String,

    /// Start from this branch instead of the default branch
    #[arg(long, value_name = "BRANCH", value_parser = branch, conflicts_with = "pr")]
    branch: Option<BranchName>,

    /// Start from this pull request
    ///
    /// If the pull request comes from a fork, the drone's tokens are read-only unless --permission grants
    /// more. The server's secrets, its private images and devcontainer.trust apply only with --trust.
    #[arg(long, value_name = "N", value_parser = pull)]
    pr: Option<Sought>,

    /// Use .devcontainer/NAME/devcontainer.json, if the repository has several
    #[arg(long, value_name = "NAME")]
    config: Option<String>,

    #[command(flatten)]
    scope: scope::Asked,

    /// Clone submodules too
    #[arg(long)]
    submodules: bool,

    /// Let the repository's configuration pass the gate this once
    ///
    /// A trusted configuration can take over this server.
    #[arg(long)]
    trust: bool,

    #[command(flatten)]
    timings: Timings,

    #[command(flatten)]
    detach: Detach,
}

impl Spawn {
    pub async fn run(self, context: Context<'_>) -> Result<ExitCode> {
        if self.detach.is_asked() {
            let (repo, _) = self.asked(&context)?;
            return match detached::start().await? {
                Started::Ended(status) => Ok(status),
                Started::GoesOn => {
                    under_way(&context, &repo);
                    Ok(ExitCode::SUCCESS)
                }
            };
        }
        self.here(context).await.map(|()| ExitCode::SUCCESS)
    }

    async fn here(self, mut context: Context<'_>) -> Result<()> {
        let timeline = Timeline::begin();
        let preparing = timeline.step("prepare");
        let (repo, sought) = self.asked(&context)?;
        let extent = self.scope.over(Extent::default(), &context)?;
        let identity = Identity::new(extent.scope(&context.config, &repo, None)?);
        let _lock = context.places.lock(&identity.name)?;
        context.places.sweep();
        let docker = context.docker().await?;
        make_room(&context, &docker, &identity).await?;
        let machine = docker.machine().await?;
        reserve::is_left(&context.config.limits, &machine)?;
        machine.has(context.config.docker.runtime)?;
        let identity = match sought {
            None => identity,
            Some(sought) => {
                let head = head::find(&context, &docker, &repo, &sought, self.trust).await?;
                let scope = extent.scope(&context.config, &repo, Some(&head))?;
                Identity::new(scope).started_from(Some(head))
            }
        };
        let is_from_a_fork = matches!(identity.head, Some(Head::Stranger { .. }));
        if identity.is_strangers() {
            context.config.trust_no_owner();
        }
        if is_from_a_fork {
            head::tell(&context, &identity, extent.permissions.is_some());
        }
        let context = &context;
        let wishes = Wishes {
            variant: self.config,
            submodules: self.submodules,
            trusted: self.trust || context.config.trusts(&repo),
            ssh_port: match context.config.tailnet {
                Some(_) => None,
                None => Some(free_port(&identity)?),
            },
            extent,
            old: None,
        };
        let sockets = context.sockets().await?;
        let workshop = context.places.workshop(&identity.name)?;
        failpoint::reached(Point::WorkshopMade);
        let server = context.server(&docker, &sockets);
        let hatching = Hatching::new(server, &identity, &wishes, &workshop, &machine, &timeline)?;
        let admitted = Cell::new(false);
        let spawning = async {
            admit(context, &docker, &identity).await?;
            admitted.set(true);
            transcribe(context, &identity, What::Spawn);
            if self.detach.is_started() {
                context.ui.finish();
                detached::go_on()?;
            }
            drop(preparing);
            hatching.run().await
        };
        let hatched = tokio::select! {
            hatched = spawning => hatched,
            error = told_to_stop(context) => Err(error),
        };
        let done = match hatched {
            Ok(hatched) => {
                let timings = self.timings.result(&timeline);
                let made = Made::Spawned;
                report(context, &docker, &identity, hatched, made, timings).await
            }
            // Nothing was made, and what has the name is not this drone's.
            Err(error) if !admitted.get() && is_refusal(&error) => Err(error),
            Err(error) => {
                let taking = take_back(context, &docker, &identity, &hatching, error);
                Err(taking.await)
            }
        };
        let done = done.map_err(|error| head::explain(&identity, error));
        self.timings.tell(context, &timeline);
        transcribed(context, &identity, done)
    }

    /// Which repository, and what of it where that is not the default branch.
    fn asked(&self, context: &Context<'_>) -> Result<(RepoId, Option<Sought>)> {
        let malformed = |error: HeadError| {
            Error::new(Code::RepositoryMalformed, error.to_string()).hint(
                "write org/repo, or the URL of the repository, of a branch, of a file or of a pull request",
            )
        };
        let (text, in_url) = match Sought::in_url(&self.repo).map_err(malformed)? {
            Some((repository, sought)) => (repository, Some(sought)),
            None => (self.repo.as_str(), None),
        };
        let repo = context.repository(text)?;
        let named = self.pr.clone();
        let named = named.or_else(|| self.branch.clone().map(Sought::Branch));
        match (in_url, named) {
            (Some(_), Some(_)) => Err(Error::new(
                Code::Usage,
                "the URL already names what to start from, so --branch and --pr cannot be used",
            )
            .hint(format!(
                "leave out the option, or write {repo} instead of the URL"
            ))),
            (Some(sought), None) => Ok((repo, sought)),
            (None, named) => Ok((repo, named)),
        }
    }
}

/// Tells of a spawn that goes on by itself.
fn under_way(context: &Context<'_>, repo: &RepoId) {
    let name = DroneName::of(repo);
    if context.ui.json() {
        context.ui.json_result(&serde_json::json!({
            "name": name, "repository": repo, "state": "spawning",
        }));
        return;
    }
    context.ui.result(format!(
        "{name} is being created. `hatchery logs --spawn --follow {name}` shows its progress."
    ));
}

fn branch(text: &str) -> std::result::Result<BranchName, HeadError> {
    text.parse()
}

fn pull(text: &str) -> std::result::Result<Sought, HeadError> {
    Sought::pull(text)
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
        if !matches!(drone.life, Life::Egg | Life::Bare) {
            return Err(Error::new(
                Code::DroneExists,
                format!(
                    "{repo} already has a drone: {name}, {}",
                    drone.life.as_str()
                ),
            )
            .hint(match drone.life {
                Life::Running => format!("`hatchery status {repo}` shows how to reach it"),
                _ => format!("`hatchery unburrow {repo}` starts it again"),
            }));
        }
        is_to_be_cleared(context, docker, drone).await?;
        context.ui.talk(&format!(
            "Removing the egg that an earlier spawn of {repo} left behind."
        ));
        let (config, places) = (&context.config, &context.places);
        let leaving = teardown::leave_tailnet(config, places, name);
        let failures = teardown::remove(docker, config, places, &drone.identity, leaving).await;
        if let Some(error) = failures.into_iter().next() {
            return Err(error);
        }
    }
    is_within_limit(context, &drones, identity)?;
    if docker.container(name.as_str()).await?.is_some() {
        return Err(Error::new(
            Code::NameTaken,
            format!("a container named {name} already exists and is not a drone"),
        )
        .hint(format!(
            "if nothing needs it, remove it with `docker rm {name}`"
        )));
    }
    // Compose would take its containers for this drone's, and so would whoever takes back.
    if !docker.project_containers(name).await?.is_empty() {
        return Err(Error::new(
            Code::NameTaken,
            format!("a compose project named {name} already exists and does not belong to a drone"),
        )
        .hint(format!(
            "if nothing needs them, remove its containers (`docker ps -a --filter \
             label=com.docker.compose.project={name}`)"
        )));
    }
    Ok(())
}

/// Refuses where there are as many other drones as there may be; eggs count.
fn is_within_limit(context: &Context<'_>, drones: &[Drone], identity: &Identity) -> Result<()> {
    let others = drones
        .iter()
        .filter(|drone| drone.identity.name != identity.name)
        .count();
    let limit = context.config.limits.drones;
    if others < limit {
        return Ok(());
    }
    Err(Error::new(
        Code::LimitReached,
        format!("there are {others} drones; limits.drones is {limit}"),
    )
    .hint("slay one (`hatchery list`), or raise limits.drones in the configuration"))
}

/// Counts the drones once more and creates this one's volume, one spawn at a time: from then on
/// others count it, and who serves the sockets of all drones knows of it.
pub(super) async fn admit(
    context: &Context<'_>,
    docker: &Docker,
    identity: &Identity,
) -> Result<()> {
    let _admission = context.places.admission()?;
    let (drones, _) = docker.drones().await?;
    is_within_limit(context, &drones, identity)?;
    context.places.mark_egg(&identity.name);
    failpoint::reached(Point::EggMarked);
    let created = docker.create_volume(identity).await;
    if created.as_ref().is_err_and(is_refusal) {
        context.places.unmark_egg(&identity.name)?;
    }
    created
}

/// Whether [`admit`] has refused and made nothing.
pub(super) fn is_refusal(error: &Error) -> bool {
    matches!(error.code(), Code::LimitReached | Code::NameTaken)
}

/// Refuses where what is left of a drone holds something that a new spawn would remove. A drone that holds
/// work and has run stays what it is.
async fn is_to_be_cleared(context: &Context<'_>, docker: &Docker, drone: &Drone) -> Result<()> {
    let (name, repo) = (&drone.identity.name, &drone.identity.repo);
    // Nobody can have worked in what is marked: it may be half a clone, which is not to be gone on with.
    let is_egg = context.places.is_egg(name);
    let is_rebuild = !is_egg && context.places.is_rebuild(name);
    let Some(id) = drone.container.as_ref().filter(|_| !is_rebuild) else {
        if is_egg || docker.volume_is_empty(name.as_str()).await? {
            return Ok(());
        }
        return Err(is_bare(drone, Code::DroneExists));
    };
    let has_run = docker.container(id).await?.is_some_and(|it| it.has_run());
    if is_egg && !has_run {
        return Ok(());
    }
    let Err(error) = context.check_work(docker, drone).await else {
        return Ok(());
    };
    if error.code() != Code::WorkWouldBeLost {
        return Err(error);
    }
    if !has_run {
        docker.remove_container(id).await?;
        return Err(is_bare(drone, Code::DroneExists));
    }
    work::all_counts(docker, id).await?;
    docker.set_wanted(id, Wanted::Running).await?;
    Err(error.hint(format!(
        "its spawn did not finish, and it is kept because of this work; `hatchery status {repo}` shows how \
         to reach it, `hatchery slay {repo}` removes it once nothing would be lost"
    )))
}

/// A loopback port for a drone without a tailnet: the same one each time, where it is free.
pub(super) fn free_port(identity: &Identity) -> Result<u16> {
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
            .hint("configure a tailnet, or stop the programs that use these ports")
        })
}

/// Keeps from now on what is said while this drone is made.
pub(super) fn transcribe(context: &Context<'_>, identity: &Identity, what: What) {
    match Transcript::begin(&context.places, &identity.name, what) {
        Ok(transcript) => {
            transcript.said(&format!("{} of {}", what.as_str(), identity.repo));
            context.ui.transcribe(transcript);
        }
        Err(error) => {
            let what = format!("this {}", what.as_str());
            context.ui.warn(&starting::not_kept(&what, &error));
        }
    }
}

/// Ends that, with what came of it. Where what ran has said something, an error names the verb that shows it.
pub(super) fn transcribed(
    context: &Context<'_>,
    identity: &Identity,
    done: Result<()>,
) -> Result<()> {
    let Some(transcript) = context.ui.transcribed() else {
        return done;
    };
    let Err(error) = done else {
        transcript.said("done");
        return done;
    };
    transcript.failed(&error);
    let explains = transcript.has_output()
        && matches!(
            error.code(),
            Code::BuildFailed
                | Code::DevcontainerFailed
                | Code::DiskFull
                | Code::DockerFailed
                | Code::DroneUnhealthy
                | Code::LifecycleFailed
                | Code::TimedOut
        );
    if !explains {
        return Err(error);
    }
    let before = error.what_next().map(|hint| format!("{hint}; "));
    let hint = format!(
        "{}`hatchery logs --spawn {}` shows the whole output",
        before.unwrap_or_default(),
        identity.name
    );
    Err(error.hint(hint))
}

/// How a drone came to its container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Made {
    /// A spawn.
    Spawned,
    /// A rebuild.
    Rebuilt,
}

/// Tells how the drone is reached, and a script that wants them these times.
pub(super) async fn report(
    context: &Context<'_>,
    docker: &Docker,
    identity: &Identity,
    hatched: Hatched,
    made: Made,
    timings: Option<serde_json::Value>,
) -> Result<()> {
    let drone = context.drone(docker, &identity.repo).await?;
    let ssh = ssh_command(&context.config, &drone, &hatched.user);
    let known_hosts = known_hosts_line(context, &drone)?;
    if let Some(error) = hatched.setup_failed {
        let name = &identity.name;
        return Err(error.hint(match made {
            Made::Spawned => format!(
                "the drone is kept: log in with `{ssh}` and fix the command, then `hatchery rerun {name}` \
                 continues the setup; or `hatchery slay {name}` and spawn again"
            ),
            Made::Rebuilt => format!(
                "the drone is kept: log in with `{ssh}` and fix the command, then `hatchery rerun {name}` \
                 continues the setup"
            ),
        }));
    }
    if context.ui.json() {
        let mut result = serde_json::json!({
            "name": identity.name,
            "repository": identity.repo,
            "state": drone.life,
            "hostname": hostname(&context.config, &identity.name),
            "ssh_port": drone.ssh_port.unwrap_or(crate::ssh::PORT),
            "user": hatched.user,
            "workspace": hatched.workspace,
            "ssh": ssh,
        });
        if let Some(line) = known_hosts {
            result["known_hosts"] = line.into();
        }
        if let Some(timings) = timings {
            result["timings"] = timings;
        }
        if let Some(stage) = hatched.still_running {
            result["still_running"] = stage.as_str().into();
        }
        context.ui.json_result(&result);
        return Ok(());
    }
    context.ui.finish();
    let (repo, name, at) = (&identity.repo, &identity.name, &hatched.workspace);
    context.ui.talk(&match made {
        Made::Spawned => {
            context.ui.talk(voice::spawned(context.ui.has_symbols()));
            format!("{repo} is running; its clone is at {at} in the volume {name}. Reach it with:")
        }
        Made::Rebuilt => format!(
            "{name} is rebuilt and kept its volume {name}; its clone is at {at}. Reach it with:"
        ),
    });
    context.ui.result(ssh);
    if let Some(line) = known_hosts {
        let what =
            "To log in without a question about the host key, add this line to ~/.ssh/known_hosts:";
        context.ui.talk(what);
        context.ui.talk(&line);
    }
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
    context.ui.step_failed();
    context.ui.step("Undoing the failed spawn");
    hatching.settle().await;
    let kept = match docker.container_of(&identity.name).await {
        Ok(Some(id)) => is_somebodys(docker, identity, &id, false).await,
        Ok(None) => None,
        // What cannot be looked at is not removed.
        Err(error) => Some(error),
    };
    let is_to_stay = match &kept {
        Some(why) => {
            !(error.code() == Code::Interrupted && may_go(context, docker, identity, why).await)
        }
        None => false,
    };
    if let Some(why) = kept.filter(|_| is_to_stay) {
        context.ui.finish();
        let repo = &identity.repo;
        let next = format!("`hatchery slay {repo}` removes it once nothing would be lost");
        return stays(context, identity, error, &why, &next);
    }
    let mut failures = Vec::new();
    failures.extend(hatching.leave_tailnet().await.err());
    // Docker may still be creating what it was asked for before the devcontainer CLI was killed.
    for _ in 0..3 {
        let (config, places) = (&context.config, &context.places);
        let left = std::future::ready(Ok(()));
        failures.extend(teardown::remove(docker, config, places, identity, left).await);
        if !failures.is_empty() || matches!(docker.drone(&identity.name).await, Ok(None)) {
            break;
        }
    }
    context.ui.finish();
    if failures.is_empty() {
        context
            .ui
            .talk("The failed spawn was undone; nothing is left of it.");
    }
    left_behind(error, &failures)
}

/// After an interrupted spawn: asks the person whether the drone may go although somebody is in it, or has worked
/// in it. With a yes what exists nowhere else is kept; where that cannot be done the drone stays.
async fn may_go(context: &Context<'_>, docker: &Docker, identity: &Identity, why: &Error) -> bool {
    if !context.ui.can_ask() {
        return false;
    }
    for line in why.details() {
        context.ui.talk(&format!("  | {line}"));
    }
    let (name, why) = (&identity.name, why.message());
    let question = format!(
        "{why}. Remove {name} anyway, and keep a copy on this server of work that exists nowhere else?"
    );
    tokio::select! {
        agreed = context.ui.agreed(&question) => if !agreed { return false },
        () = signalled(SignalKind::interrupt()) => return false,
    }
    let kept = async {
        match docker.drone(name).await? {
            Some(drone) => slay::keep(context, docker, &drone).await.map(drop),
            None => Ok(()),
        }
    };
    if let Err(error) = kept.await {
        context.ui.warn(&error.message());
        return false;
    }
    true
}

/// Says that a drone stays, and adds to the error of what failed why, and what to do `next`.
pub(super) fn stays(
    context: &Context<'_>,
    identity: &Identity,
    error: Error,
    why: &Error,
    next: &str,
) -> Error {
    let (name, repo) = (&identity.name, &identity.repo);
    let why_it_stays = why.message();
    context.ui.talk(&format!("{name} is kept: {why_it_stays}."));
    error
        .hint(format!(
            "{name} is kept: {why_it_stays}; `hatchery status {repo}` shows how to reach it, {next}"
        ))
        .with_details(why.details().to_vec())
}

/// Adds to an error what could not be removed.
pub(super) fn left_behind(error: Error, failures: &[Error]) -> Error {
    let left = failures.iter().map(Error::message);
    error.with_details(left.map(|message| format!("left behind: {message}")))
}

/// Why a drone whose spawn has failed is not taken back: somebody is in it, or has worked in it. It
/// is then a drone like others.
/// Its volume's content counts unless it was `there_before`.
pub(super) async fn is_somebodys(
    docker: &Docker,
    identity: &Identity,
    id: &str,
    there_before: bool,
) -> Option<Error> {
    match docker.container(id).await {
        Ok(Some(container)) if container.has_run() => {}
        Ok(_) => return None,
        Err(error) => return Some(error),
    }
    let why = match docker.was_visited(id).await {
        Ok(true) => Some(Error::new(
            Code::WorkWouldBeLost,
            "a user has logged in to it",
        )),
        Ok(false) if there_before => None,
        Ok(false) => work::check_unfinished(docker, identity, id).await.err(),
        Err(error) => Some(error),
    }?;
    // What cannot be said now is said by its state: it goes on as what it is.
    let _ = work::all_counts(docker, id).await;
    let _ = docker.set_wanted(id, Wanted::Running).await;
    Some(why)
}
