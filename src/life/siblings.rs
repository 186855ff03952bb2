//! The other containers of a drone's compose project: they sleep and wake with the drone, each by
//! its own restart policy. A service that has done its work is not started again.

use std::time::{Duration, SystemTime};

use futures_util::future::try_join_all;

use crate::docker::{Container, Docker, Drone, Life, Restart, Wanted};
use crate::drone::DroneName;
use crate::error::Result;
use crate::failpoint::{self, Point};

/// How far apart containers end that are stopped together: Docker kills after ten seconds.
const TOGETHER: Duration = Duration::from_secs(15);

/// The siblings of a drone's container.
pub async fn of(docker: &Docker, drone: &DroneName, container: &str) -> Result<Vec<Container>> {
    let mut ids = docker.project_containers(drone).await?;
    ids.retain(|id| id != container);
    let looking = ids.iter().map(|id| docker.container(id));
    Ok(try_join_all(looking).await?.into_iter().flatten().collect())
}

/// Before they are stopped: nothing brings them back by itself.
pub async fn hush(docker: &Docker, siblings: &[Container]) -> Result<()> {
    let hushing = siblings
        .iter()
        .map(|sibling| docker.set_restart(sibling.id(), Restart::NO));
    try_join_all(hushing).await.map(|_| ())
}

/// After they were stopped: marks those that ran, so that [`start`] knows them. Docker does not
/// start what was stopped by hand and is `unless-stopped`, not after a reboot either.
pub async fn remember(docker: &Docker, siblings: &[Container]) -> Result<()> {
    let ran = siblings
        .iter()
        .filter(|sibling| sibling.runs() && sibling.own_restart().is_some());
    let marking = ran.map(|sibling| docker.set_restart(sibling.id(), Restart::UNLESS_STOPPED));
    try_join_all(marking).await.map(|_| ())
}

/// Starts a drone's container with those of its siblings that are to run, each with the restart
/// policy that is its own, and whoever holds another's network before that one.
pub async fn start(docker: &Docker, drone: &Drone, container: &str) -> Result<()> {
    let siblings = of(docker, &drone.identity.name, container).await?;
    docker.set_wanted(container, Wanted::Running).await?;
    failpoint::reached(Point::MarkedAwake);
    let Some(own) = docker.container(container).await? else {
        return docker.start(container).await;
    };
    let asleep = drone.life == Life::Burrowed;
    let chosen = chosen(&siblings, &own, asleep);
    for sibling in &siblings {
        match sibling.own_restart() {
            Some(restart) => docker.set_restart(sibling.id(), restart).await?,
            None => docker.set_wanted(sibling.id(), Wanted::Running).await?,
        }
    }
    start_all(
        docker,
        chosen.into_iter().chain([&own]).collect(),
        container,
    )
    .await?;
    failpoint::reached(Point::ContainersAwake);
    Ok(())
}

/// Starts containers, `last` as late as can be.
pub async fn start_all(docker: &Docker, all: Vec<&Container>, last: &str) -> Result<()> {
    for together in in_order(all, last) {
        let starting = together.iter().map(|id| docker.start(id));
        try_join_all(starting).await?;
    }
    Ok(())
}

/// Siblings that Docker does not bring back, and that ended only because the server did.
pub async fn left_behind(
    docker: &Docker,
    drone: &DroneName,
    container: &str,
) -> Result<Vec<Container>> {
    let Some(own) = docker.container(container).await? else {
        return Ok(Vec::new());
    };
    let mut siblings = of(docker, drone, container).await?;
    siblings.retain(|sibling| is_unsaid(sibling) && ended_with(sibling, &own));
    Ok(siblings)
}

/// The siblings that are to run.
fn chosen<'a>(siblings: &'a [Container], own: &Container, asleep: bool) -> Vec<&'a Container> {
    let lasts = |sibling: &Container| sibling.wanted() == Wanted::Running;
    // Where no mark is, there was nothing to mark, or a burrow was cut off.
    let marked = asleep
        && siblings
            .iter()
            .any(|sibling| sibling.own_restart().is_some() && lasts(sibling));
    let to_run = |sibling: &Container| match sibling.own_restart() {
        // Made by a hatchery that knew no policy but its own.
        None => true,
        Some(restart) => {
            lasts(sibling)
                || restart.lasts()
                || (!marked && is_unsaid(sibling) && ended_with(sibling, own))
        }
    };
    let mut chosen: Vec<&Container> = siblings
        .iter()
        .filter(|sibling| sibling.runs() || to_run(sibling))
        .collect();
    // Nothing starts in the network of what does not run.
    let mut holders: Vec<&str> = own.network_of().into_iter().collect();
    holders.extend(chosen.iter().filter_map(|sibling| sibling.network_of()));
    while let Some(holder) = holders.pop() {
        let down = |sibling: &&Container| {
            sibling.id() == holder && chosen.iter().all(|other| other.id() != holder)
        };
        if let Some(sibling) = siblings.iter().find(down) {
            holders.extend(sibling.network_of());
            chosen.push(sibling);
        }
    }
    chosen
}

fn is_unsaid(sibling: &Container) -> bool {
    sibling
        .own_restart()
        .is_some_and(|restart| !restart.is_said())
}

/// Whether what ended the drone ended this one too: a shutdown, a power cut, a burrow.
fn ended_with(sibling: &Container, own: &Container) -> bool {
    let time = |text: Option<&str>| -> Option<SystemTime> {
        humantime::parse_rfc3339_weak(text?.trim_end_matches('Z')).ok()
    };
    let (Some(end), Some(drones)) = (time(sibling.finished_at()), time(own.finished_at())) else {
        return false;
    };
    let latest = match time(own.started_at()) {
        Some(again) if again > drones => again,
        _ => drones + TOGETHER,
    };
    !sibling.runs() && end + TOGETHER >= drones && end <= latest
}

/// The ids in groups to start one after the other, `last` as late as can be.
fn in_order<'a>(mut waiting: Vec<&'a Container>, last: &str) -> Vec<Vec<&'a str>> {
    let mut groups = Vec::new();
    while !waiting.is_empty() {
        let free = |container: &&Container| {
            container
                .network_of()
                .is_none_or(|holder| waiting.iter().all(|other| other.id() != holder))
        };
        let mut ready: Vec<_> = waiting.iter().copied().filter(free).collect();
        if ready.is_empty() {
            // In a circle: Docker says so.
            ready.clone_from(&waiting);
        }
        if ready.len() > 1 {
            ready.retain(|container| container.id() != last);
        }
        waiting.retain(|one| ready.iter().all(|other| other.id() != one.id()));
        groups.push(ready.into_iter().map(Container::id).collect());
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::docker::LABEL_RESTART;
    use serde_json::json;

    /// A container: its policy as written down, the one in force, when it ended.
    fn one(id: &str, own: Option<&str>, policy: &str, ended: &str) -> Container {
        let labels = own.map(|own| json!({LABEL_RESTART: own}));
        Container::from_json(json!({
            "Id": id,
            "Config": {"Labels": labels},
            "HostConfig": {"RestartPolicy": {"Name": policy}},
            "State": {"Running": false, "FinishedAt": format!("2026-01-01T{ended}.5Z"),
                      "StartedAt": "2026-01-01T00:00:00Z"},
        }))
    }

    fn in_network_of(holder: &str, id: &str) -> Container {
        Container::from_json(json!({
            "Id": id,
            "HostConfig": {"NetworkMode": format!("container:{holder}")},
            "State": {"Running": false},
        }))
    }

    fn chosen_ids<'a>(siblings: &'a [Container], own: &Container, asleep: bool) -> Vec<&'a str> {
        let chosen = chosen(siblings, own, asleep);
        chosen.into_iter().map(Container::id).collect()
    }

    #[test]
    fn what_ran_at_the_burrow_is_woken_and_what_was_done_is_not() {
        let own = one("app", None, "no", "12:00:00");
        let siblings = vec![
            one("migrate", Some("no"), "no", "11:59:58"),
            one("seed", Some("unsaid"), "no", "11:59:58"),
            one("db", Some("unsaid"), "unless-stopped", "12:00:00"),
            one("worker", Some("no"), "unless-stopped", "12:00:00"),
            one("retried", Some("on-failure:3"), "no", "11:00:00"),
            one("cache", Some("always"), "no", "11:00:00"),
            one("of-old", None, "no", "11:00:00"),
        ];
        assert_eq!(
            chosen_ids(&siblings, &own, true),
            ["db", "worker", "cache", "of-old"]
        );
    }

    #[test]
    fn what_a_shutdown_ended_comes_back_unless_its_policy_says_no() {
        let own = one("app", None, "unless-stopped", "12:00:10");
        let siblings = vec![
            one("migrate", Some("no"), "no", "12:00:00"),
            one("seed", Some("unsaid"), "no", "11:59:00"),
            one("db", Some("unsaid"), "no", "12:00:00"),
            one("stopped-later", Some("unsaid"), "no", "12:30:00"),
            one(
                "cache",
                Some("unless-stopped"),
                "unless-stopped",
                "12:00:00",
            ),
        ];
        assert_eq!(chosen_ids(&siblings, &own, false), ["db", "cache"]);
    }

    #[test]
    fn who_holds_a_network_runs_whatever_its_policy_and_comes_first() {
        let own = in_network_of("vpn", "app");
        let siblings = vec![
            in_network_of("app", "probe"),
            in_network_of("db", "vpn"),
            one("db", Some("no"), "no", "11:00:00"),
        ];
        let mut chosen = chosen(&siblings, &own, true);
        chosen.push(&own);
        assert_eq!(
            in_order(chosen, "app"),
            [vec!["db"], vec!["vpn"], vec!["app"], vec!["probe"]]
        );
    }

    #[test]
    fn the_drone_starts_after_all_that_need_it_not() {
        let (own, db, web) = (
            one("app", None, "no", "12:00:00"),
            one("db", Some("no"), "no", "12:00:00"),
            one("web", Some("no"), "no", "12:00:00"),
        );
        let circle = [in_network_of("b", "a"), in_network_of("a", "b")];
        assert_eq!(
            in_order(vec![&own, &db, &web], "app"),
            [vec!["db", "web"], vec!["app"]]
        );
        assert_eq!(in_order(circle.iter().collect(), "app").len(), 1);
    }
}
