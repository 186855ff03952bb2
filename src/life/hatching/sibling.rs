//! A sibling that keeps the drone from starting: compose says so among its other lines.

use crate::docker::Docker;
use crate::drone::DroneName;
use crate::error::{Code, Error};

/// What compose says of a sibling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fallen {
    /// The service, or the id of its container.
    service: String,
    /// What became of it.
    why: String,
}

/// Finds it in the last lines of compose.
pub(super) fn find(drone: &DroneName, last_lines: &[String]) -> Option<Fallen> {
    let mut starting = None;
    let mut found = None;
    for line in last_lines.iter().map(|line| line.trim()) {
        let fallen = |service: &str, why: &str| {
            let plain = service
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
            (plain && !service.is_empty()).then(|| Fallen {
                service: service.to_owned(),
                why: why.trim_end_matches('.').to_owned(),
            })
        };
        // compose 2
        if let Some(rest) = line.strip_prefix("Container ") {
            let name = rest.strip_suffix("Starting").map(str::trim);
            starting = name.and_then(|name| of_container(drone, name)).or(starting);
        } else if let Some(why) = line.strip_prefix("Error response from daemon: ") {
            found = starting.and_then(|service| fallen(service, why)).or(found);
        } else if let Some((_, rest)) = line.split_once("dependency failed to start: container ") {
            let told = rest
                .split_once(' ')
                .and_then(|(name, why)| fallen(of_container(drone, name)?, why));
            found = told.or(found);
        } else if let Some(rest) = line.strip_prefix("service \"") {
            found = rest
                .split_once("\" ")
                .and_then(|(service, why)| fallen(service, why))
                .or(found);
        // compose 1
        } else if let Some((_, rest)) = line.split_once("  Container \"") {
            found = rest
                .split_once("\" ")
                .and_then(|(id, why)| fallen(id, why))
                .or(found);
        } else if let Some((_, rest)) = line.split_once("Cannot start service ") {
            found = rest
                .split_once(": ")
                .and_then(|(service, why)| fallen(service, why))
                .or(found);
        }
    }
    found
}

/// The service of a container, as both versions of compose call it: project, service, number.
fn of_container<'a>(drone: &DroneName, container: &'a str) -> Option<&'a str> {
    let rest = container
        .strip_prefix(drone.as_str())?
        .strip_prefix(['-', '_'])?;
    let (service, number) = rest.rsplit_once(['-', '_'])?;
    number
        .bytes()
        .all(|byte| byte.is_ascii_digit())
        .then_some(service)
}

impl Fallen {
    /// The error, with the last lines of the sibling's own log.
    pub(super) async fn error(mut self, docker: &Docker, drone: &DroneName) -> Error {
        // compose 1 names who waits, and the container that it waits for.
        if let Ok(Some(container)) = docker.container(&self.service).await
            && let Some(service) = of_container(drone, container.name())
        {
            self.service = service.to_owned();
        }
        let mut log = Vec::new();
        for between in ['-', '_'] {
            let container = format!("{drone}{between}{}{between}1", self.service);
            if log.is_empty() {
                log = docker.last_lines(&container).await.unwrap_or_default();
            }
        }
        let hint = if log.is_empty() {
            "fix this service in the compose file"
        } else {
            "fix this service in the compose file; its last lines are above"
        };
        let what = format!(
            "the service {} of the compose project keeps {drone} from starting: {}",
            self.service, self.why
        );
        Error::new(Code::DevcontainerFailed, what)
            .hint(hint)
            .with_details(log)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compose_tells_which_service_it_was() {
        let drone = DroneName::of(&"acme/site".parse().unwrap());
        let runc = "failed to create task for container: exec: \"no-such-program\": not found";
        for (lines, expected) in [
            (
                vec![
                    " Container acme-site-db-1  Starting".to_owned(),
                    " Container acme-site-db-1  Started".to_owned(),
                    " Container acme-site-my-cache-1  Starting".to_owned(),
                    format!("Error response from daemon: {runc}"),
                ],
                Some(("my-cache", runc)),
            ),
            (
                vec![
                    "dependency failed to start: container acme-site-db-1 is unhealthy".to_owned(),
                ],
                Some(("db", "is unhealthy")),
            ),
            (
                vec!["dependency failed to start: container acme-site-db-1 exited (3)".to_owned()],
                Some(("db", "exited (3)")),
            ),
            (
                vec!["service \"migrate\" didn't complete successfully: exit 1".to_owned()],
                Some(("migrate", "didn't complete successfully: exit 1")),
            ),
            (
                vec![format!(
                    "ERROR: for cache  Cannot start service cache: {runc}"
                )],
                Some(("cache", runc)),
            ),
            (
                vec!["ERROR: for app  Container \"cc9974b40a94\" is unhealthy.".to_owned()],
                Some(("cc9974b40a94", "is unhealthy")),
            ),
            // Its own start is told of by another way; a pull is no service's.
            (
                vec![
                    " Container acme-site  Starting".to_owned(),
                    "Error response from daemon: no such runtime".to_owned(),
                ],
                None,
            ),
            (
                vec!["Error response from daemon: manifest unknown".to_owned()],
                None,
            ),
            (vec!["service \"\u{1b}[31m\" x".to_owned()], None),
        ] {
            let found = find(&drone, &lines);
            let found = found
                .as_ref()
                .map(|one| (one.service.as_str(), one.why.as_str()));
            assert_eq!(found, expected, "{lines:?}");
        }
    }
}
