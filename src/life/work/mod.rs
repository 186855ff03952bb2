//! What would be lost with a drone's volumes. hatchery itself looks, in a container that holds them,
//! read-only, and this server's own programs ([`look`]): nothing of the drone's image runs, and git
//! reads a stranger's repository nowhere else.

pub mod keep;
pub mod known;
pub mod look;
pub mod remains;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use self::known::Work;
use self::look::{Asked, Closed, Counts, Question, Seen, Volume};
use crate::docker::{self, Container, Docker, Drone, Looking, Owner, RunsAs, Tree};
use crate::drone::Identity;
use crate::error::{Code, Error, Result, host_io};
use crate::host::Places;
use crate::life::teardown;
use crate::process;
use crate::ui::clean;

/// How many lines are shown.
const SHOWN: usize = 20;

/// How long a look may take, over all.
const WITHIN: Duration = Duration::from_secs(60);

/// How long a look may take that only counts.
const COUNTED_WITHIN: Duration = Duration::from_secs(20);

/// Whom a look runs as first: somebody who owns nothing.
const NOBODY: Owner = Owner {
    uid: 65_534,
    gid: 65_534,
};

/// How many users a look runs as, where files are closed to others.
const MAX_USERS: usize = 4;

/// Where the volume is mounted in most drones.
const WORKSPACES: &str = "/workspaces";

/// In a drone: when its spawn came to its end. What git ignores and is older was made by the
/// repository's own commands, which the next spawn runs again. A drone whose volume is older than
/// its container has none: all that git ignores counts.
const SPAWNED: &str = "/usr/local/lib/hatchery/spawned";

/// What the file says until then.
const SPAWNING: &str = "spawning";

/// Programs that a look needs, and git on its own.
const PROGRAMS: &[&str] = &["git", "sh", "sha256sum"];

/// Refuses if anything in the drone's volumes exists nowhere else. What it finds is known from then on.
pub async fn check(docker: &Docker, places: &Places, drone: &Drone) -> Result<()> {
    let held = Held::of(docker, drone).await?;
    if held.volumes.is_empty() {
        return Ok(());
    }
    let looks = held.look(docker, WITHIN).await;
    if let Ok(looks) = &looks {
        // Where it cannot be written, what was found before is told.
        let _ = found(looks, held.has_own()).write(places, &drone.identity.name);
    }
    verdict(&held, looks)
}

/// Counts what exists nowhere else in the drone's volumes, in a bounded time. It is known from then on.
pub async fn count(docker: &Docker, places: &Places, drone: &Drone) -> Result<Work> {
    let held = Held::of(docker, drone).await?;
    let mut work = Work::now(Counts::default(), true);
    if !held.volumes.is_empty() {
        let looks = held.look(docker, COUNTED_WITHIN).await?;
        work = found(&looks, held.has_own());
    }
    let _ = work.write(places, &drone.identity.name);
    Ok(work)
}

/// What looks have found, for a person to know.
fn found(looks: &[Seen], own: bool) -> Work {
    let (volumes, closed) = together(looks, own);
    let counts = volumes.iter().map(|volume| volume.counts);
    let stopped = looks.iter().any(|seen| seen.stopped.is_some());
    let whole = closed.is_empty() && !stopped;
    Work::now(counts.fold(Counts::default(), std::ops::Add::add), whole)
}

/// Where a drone can hold work.
struct Held<'a> {
    identity: &'a Identity,
    container: Option<Container>,
    volumes: Vec<String>,
    /// What git ignores counts if it is newer, in seconds since 1970.
    ignored_since: i64,
}

impl<'a> Held<'a> {
    async fn of(docker: &Docker, drone: &'a Drone) -> Result<Self> {
        let container = match &drone.container {
            Some(id) => docker.container(id).await?,
            None => None,
        };
        let since = match &container {
            Some(container) => spawned(docker, container.id()).await?,
            None => None,
        };
        Ok(Self {
            identity: &drone.identity,
            volumes: volumes(docker, &drone.identity, container.as_ref()).await?,
            container,
            ignored_since: since.unwrap_or(i64::MIN),
        })
    }

    /// Whether the first volume is the drone's own.
    fn has_own(&self) -> bool {
        let first = self.volumes.first();
        first.is_some_and(|volume| volume == self.identity.name.as_str())
    }

    /// Where the drone has its volumes.
    fn mounted(&self) -> BTreeMap<&str, &str> {
        let mounted = self.container.as_ref().map(Container::volumes);
        mounted.into_iter().flatten().collect()
    }

    fn question(&self) -> Question {
        let (own, mounted) = (self.has_own(), self.mounted());
        let asked = self
            .volumes
            .iter()
            .enumerate()
            .map(|(number, volume)| Asked {
                at: PathBuf::from(format!("/volumes/{number}")),
                told_as: match mounted.get(volume.as_str()) {
                    Some(at) => (*at).to_owned(),
                    None => volume.clone(),
                },
                loose: own && number == 0,
            });
        Question {
            volumes: asked.collect(),
            ignored_since: self.ignored_since,
        }
    }

    /// Refuses if any of it exists nowhere else.
    async fn judged(&self, docker: &Docker) -> Result<()> {
        if self.volumes.is_empty() {
            return Ok(());
        }
        verdict(self, self.look(docker, WITHIN).await)
    }

    /// Looks as nobody, then, as long as something is closed, as those who can read it.
    async fn look(&self, docker: &Docker, within: Duration) -> Result<Vec<Seen>> {
        let program = program()?;
        let path = path()?;
        let volumes = &self.volumes;
        let argument = serde_json::json!(self.question()).to_string();
        let links = links(volumes, &self.mounted());
        let begun = std::time::Instant::now();
        let mut users = vec![NOBODY];
        let mut looks: Vec<Seen> = Vec::new();
        while let Some(&user) = users.get(looks.len()) {
            let looking = Looking {
                program: &program,
                called: look::PROGRAM,
                argument: &argument,
                path: &path,
                volumes,
                links: &links,
                runs_as: RunsAs::User(user),
            };
            let printed = docker
                .look(looking, within.saturating_sub(begun.elapsed()))
                .await?;
            let seen: Seen = serde_json::from_slice(&printed).map_err(|_| {
                Error::new(
                    Code::WorkWouldBeLost,
                    format!(
                        "{} could not be checked for work: the check was interrupted",
                        volumes.join(", ")
                    ),
                )
                .hint("try again; `hatchery doctor` checks this server")
            })?;
            if seen.volumes.len() != volumes.len() {
                return Err(Error::new(
                    Code::DockerFailed,
                    "the check for work saw other volumes",
                ));
            }
            let done = |number: usize| {
                looks
                    .iter()
                    .any(|look| look.volumes[number].closed.is_empty())
            };
            let open: Vec<_> = (0..volumes.len()).filter(|&number| !done(number)).collect();
            for closed in open.iter().flat_map(|&number| &seen.volumes[number].closed) {
                let owner = Owner {
                    uid: closed.uid.into(),
                    gid: closed.gid.into(),
                };
                if users.len() < MAX_USERS && !users.iter().any(|user| user.uid == owner.uid) {
                    users.push(owner);
                }
            }
            let all_read = open
                .iter()
                .all(|&number| seen.volumes[number].closed.is_empty());
            looks.push(seen);
            if all_read {
                break;
            }
        }
        Ok(looks)
    }
}

/// Refuses if a person has changed anything in the volumes of a drone whose spawn has not come to
/// its end. What git ignores does not count: commands of the repository's were at work.
pub async fn check_unfinished(docker: &Docker, identity: &Identity, id: &str) -> Result<()> {
    let container = docker.container(id).await?;
    let held = Held {
        identity,
        volumes: volumes(docker, identity, container.as_ref()).await?,
        container,
        ignored_since: i64::MAX,
    };
    held.judged(docker).await
}

/// Refuses if anything exists nowhere else that is in volumes without a name, which go with the drone's
/// container.
pub async fn check_nameless(docker: &Docker, drone: &Drone) -> Result<()> {
    let Some(id) = &drone.container else {
        return Ok(());
    };
    let Some(container) = docker.container(id).await? else {
        return Ok(());
    };
    let mut volumes = volumes(docker, &drone.identity, Some(&container)).await?;
    volumes.retain(|volume| is_nameless(volume));
    let held = Held {
        identity: &drone.identity,
        volumes,
        container: Some(container),
        ignored_since: i64::MAX,
    };
    held.judged(docker)
        .await
        .map_err(|error| match error.code() {
            Code::WorkWouldBeLost => error.hint(
                "push what you want to keep or copy it into the workspace; this volume has no name \
                 and is removed with the old container",
            ),
            _ => error,
        })
}

/// Adds to what goes into a new drone that its spawn has not come to its end.
pub fn spawning(tree: Tree) -> Tree {
    noted(tree, SPAWNING)
}

/// Writes down in the drone that its spawn has come to its end. That it cannot be written only makes
/// a later look stricter.
pub async fn spawn_ended(docker: &Docker, container: &str) {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let tree = noted(Tree::default(), &now.to_string());
    let _ = docker.put(container, tree).await;
}

/// Makes all count that git ignores in the volumes of a drone whose spawn has failed, and in which
/// a person has worked meanwhile.
pub async fn all_counts(docker: &Docker, container: &str) -> Result<()> {
    docker.put(container, noted(Tree::default(), "0")).await
}

/// Whether nobody has written down that the drone's spawn has come to its end.
pub async fn is_spawning(docker: &Docker, container: &str) -> Result<bool> {
    let noted = note(docker, container).await?;
    Ok(noted.as_deref() == Some(SPAWNING.as_bytes()))
}

fn noted(tree: Tree, text: &str) -> Tree {
    tree.directory("/usr/local/lib/hatchery", 0o755)
        .file(SPAWNED, 0o644, text.as_bytes().to_vec())
}

/// What is written down in the drone.
async fn note(docker: &Docker, container: &str) -> Result<Option<Vec<u8>>> {
    match docker.file(container, SPAWNED, 64).await {
        // A part of the clone that it mounts is gone, or was never there: Docker does not open it.
        Err(error) if docker::lacks_a_part(&error) => Ok(None),
        noted => noted,
    }
}

async fn spawned(docker: &Docker, container: &str) -> Result<Option<i64>> {
    let text = note(docker, container).await?;
    Ok(text.and_then(|text| match &*text {
        text if text == SPAWNING.as_bytes() => Some(i64::MAX),
        text => String::from_utf8_lossy(text).trim().parse().ok(),
    }))
}

/// What the looks come to.
fn verdict(held: &Held<'_>, looks: Result<Vec<Seen>>) -> Result<()> {
    let (name, repo) = (&held.identity.name, &held.identity.repo);
    let refuse = |what: String| {
        Error::new(Code::WorkWouldBeLost, format!("{name} {what}")).hint(format!(
            "push or copy what you want to keep; `hatchery slay --force {repo}` removes the drone anyway"
        ))
    };
    let looks = match looks {
        Err(error) if error.code() == Code::TimedOut => {
            return Err(refuse(format!(
                "cannot be checked for work: it takes longer than {} s",
                WITHIN.as_secs()
            )));
        }
        looks => looks?,
    };
    let (lost, closed) = together(&looks, held.has_own());
    let more: usize = lost.iter().map(|volume| volume.more).sum();
    let mut lines: Vec<_> = lost
        .iter()
        .flat_map(|volume| &volume.lost)
        .map(|line| clean::line(line))
        .collect();
    let stopped = looks.iter().find_map(|seen| seen.stopped.as_deref());
    let what = if let Some(why) = stopped {
        format!("cannot be checked for work: {why}")
    } else if lines.is_empty() && !closed.is_empty() {
        "cannot be checked for work: some of it cannot be read".to_owned()
    } else if lines.is_empty() {
        return Ok(());
    } else {
        "holds work that exists nowhere else".to_owned()
    };
    lines.extend(
        closed
            .iter()
            .map(|closed| clean::line(&format!("cannot be read: {}: {}", closed.path, closed.why))),
    );
    let more = more + lines.len().saturating_sub(SHOWN);
    let tail = (more > 0).then(|| format!("and {more} more"));
    Err(refuse(what).with_details(lines.into_iter().take(SHOWN).chain(tail)))
}

fn program() -> Result<PathBuf> {
    std::env::current_exe().map_err(|error| host_io("find", Path::new("hatchery"), error))
}

/// Where a look finds the volumes, beside their numbers. What is mounted below another one would have to be
/// in that, to which nothing is written.
fn links(volumes: &[String], mounted: &BTreeMap<&str, &str>) -> Vec<(usize, String)> {
    let mut all: Vec<_> = volumes
        .iter()
        .enumerate()
        .filter_map(|(number, volume)| match mounted.get(volume.as_str()) {
            Some(at) => Some((number, (*at).to_owned())),
            None => (number == 0).then(|| (number, WORKSPACES.to_owned())),
        })
        .filter(|(_, at)| can_be_linked(at))
        .collect();
    let places: Vec<String> = all.iter().map(|(_, at)| at.clone()).collect();
    all.retain(|(_, at)| {
        let is_below = |other: &String| at != other && Path::new(at).starts_with(other);
        !places.iter().any(is_below)
    });
    all
}

/// What all looks together have seen of each volume, and what none of them could read of the
/// drone's own. Services keep what they have from everybody's eyes: that is not counted.
fn together(looks: &[Seen], own: bool) -> (Vec<Volume>, Vec<Closed>) {
    let count = looks.first().map_or(0, |seen| seen.volumes.len());
    let mut volumes = Vec::new();
    let mut closed = Vec::new();
    for number in 0..count {
        let seen: Vec<&Volume> = looks.iter().map(|look| &look.volumes[number]).collect();
        if let Some(whole) = seen.iter().find(|volume| volume.closed.is_empty()) {
            volumes.push((*whole).clone());
            continue;
        }
        let lost: BTreeSet<_> = seen.iter().flat_map(|volume| volume.lost.clone()).collect();
        volumes.push(Volume {
            lost: lost.into_iter().collect(),
            more: seen.iter().map(|volume| volume.more).max().unwrap_or(0),
            counts: seen
                .iter()
                .fold(Counts::default(), |most, volume| most.max(volume.counts)),
            closed: Vec::new(),
        });
        if own && number == 0 {
            let all = seen.iter().flat_map(|volume| &volume.closed);
            closed.extend(
                all.filter(|one| seen.iter().all(|volume| volume.hides(&one.path)))
                    .cloned(),
            );
        }
    }
    closed.sort_by(|one, other| one.path.cmp(&other.path));
    closed.dedup_by(|one, other| one.path == other.path);
    (volumes, closed)
}

impl Volume {
    /// Whether this look could not read what lies at a path.
    fn hides(&self, path: &str) -> bool {
        self.closed
            .iter()
            .any(|closed| Path::new(path).starts_with(&closed.path))
    }
}

/// The volumes that would go with the drone, its own first.
async fn volumes(
    docker: &Docker,
    identity: &Identity,
    container: Option<&Container>,
) -> Result<Vec<String>> {
    let mut all = teardown::volumes(docker, identity).await?;
    // Volumes without a name go with the container that they were made for.
    let nameless = container.into_iter().flat_map(Container::volumes);
    all.extend(
        nameless
            .filter(|(volume, _)| is_nameless(volume))
            .map(|(volume, _)| volume.to_owned()),
    );
    // Docker makes a volume that it is asked to mount and that is not there.
    let there: BTreeSet<String> = docker.volume_names().await?.into_iter().collect();
    all.retain(|volume| there.contains(volume));
    all.sort_by_key(|volume| volume != identity.name.as_str());
    Ok(all)
}

fn is_nameless(volume: &str) -> bool {
    docker::is_id(volume)
}

/// Where a look finds its programs.
fn path() -> Result<String> {
    let mut directories = Vec::new();
    for program in PROGRAMS {
        let found = process::find(program).and_then(|path| path.canonicalize().ok());
        match found.as_deref().and_then(Path::parent) {
            Some(directory) => directories.push(directory.to_string_lossy().into_owned()),
            None if *program == "git" => {
                return Err(Error::new(Code::ProgramMissing, "git is not installed")
                    .hint("install git so that it is on the PATH"));
            }
            None => {}
        }
    }
    directories.extend(["/usr/local/bin", "/usr/bin", "/bin"].map(str::to_owned));
    Ok(directories.join(":"))
}

/// Whether a link there is in nobody's way.
fn can_be_linked(at: &str) -> bool {
    const TAKEN: &[&str] = &[
        "usr",
        "bin",
        "sbin",
        "lib",
        "lib32",
        "lib64",
        "libx32",
        "nix",
        "etc",
        "proc",
        "sys",
        "dev",
        "volumes",
        "hatchery-keeps",
        "hatchery-looks",
        "scratch",
        "",
    ];
    let first = at
        .trim_start_matches('/')
        .split('/')
        .next()
        .unwrap_or_default();
    at.starts_with('/') && !TAKEN.contains(&first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_is_found_where_the_drone_has_it_unless_that_is_in_another() {
        let volumes = ["site", "modules", "data", "system", "other"].map(str::to_owned);
        let mounted = [
            ("site", "/workspaces"),
            ("modules", "/workspaces/site/node_modules"),
            ("data", "/workspaces-data"),
            ("system", "/usr/data"),
        ];
        let found = links(&volumes, &mounted.into());
        let expected = [
            (0, "/workspaces".to_owned()),
            (2, "/workspaces-data".to_owned()),
        ];
        assert_eq!(found, expected);
        let alone = links(&volumes[..1], &BTreeMap::new());
        assert_eq!(alone, [(0, WORKSPACES.to_owned())]);
    }
}
