//! Labels: what they say decides whose a container is, to hatchery and to other programs.

use std::collections::HashMap;

use super::Bounds;
use crate::devcontainer::METADATA_LABEL;
use crate::docker::{LABEL_PROJECT, LABEL_RESTART, LABELS_OF_HELPERS, Restart};
use crate::door::stop::{Judged, Stop};

/// Labels that other programs on a server act on: reverse proxies, updaters, schedulers.
const STEERING: &[&str] = &[
    "traefik.",
    "caddy",
    "com.centurylinklabs.watchtower.",
    "io.containers.autoupdate",
    "ofelia.",
    "diun.",
];

/// The labels of a request that may be given. One that claims another drone or project is refused; those that
/// other programs act on are left out.
pub fn given(asked: HashMap<String, String>, bounds: &Bounds) -> Judged<HashMap<String, String>> {
    let mut labels = HashMap::new();
    for (key, value) in asked {
        if key.starts_with("hatchery.") {
            let own = bounds.identity.labels();
            let own = own.iter().any(|(own, is)| *own == key && *is == value)
                || key == LABEL_RESTART && Restart::parse(&value).is_some();
            if !own {
                return Err(claimed(&key, &value));
            }
        } else if key == LABEL_PROJECT {
            // An image of a compose project elsewhere has one, which is emptied.
            if !value.is_empty() && value != bounds.name() {
                return Err(claimed(&key, &value));
            }
        } else if is_steering(&key) || is_dockers(&key) && !key.starts_with("com.docker.compose.") {
            continue;
        }
        labels.insert(key, value);
    }
    Ok(labels)
}

/// The labels that a container must be given, with empty values, so that those of its image do not count: a
/// container inherits the image's labels.
pub fn emptied(
    image: &HashMap<String, String>,
    given: &HashMap<String, String>,
    bounds: &Bounds,
) -> Judged<HashMap<String, String>> {
    let mut labels = HashMap::new();
    for (key, value) in image {
        if given.contains_key(key) {
            continue;
        }
        // hatchery removes what has one of them and is old.
        if LABELS_OF_HELPERS.contains(&key.as_str()) {
            return Err(claimed(key, value));
        }
        let own = bounds.identity.labels();
        // An image that was built for the drone.
        if own.iter().any(|(own, is)| own == key && is == value) {
            continue;
        }
        let reserved = key.starts_with("hatchery.")
            || key.starts_with("devcontainer.") && key != METADATA_LABEL
            || is_dockers(key)
            || is_steering(key);
        if reserved {
            labels.insert(key.clone(), String::new());
        }
    }
    Ok(labels)
}

fn is_dockers(key: &str) -> bool {
    key.starts_with("com.docker.")
}

fn is_steering(key: &str) -> bool {
    STEERING.iter().any(|prefix| key.starts_with(prefix))
}

fn claimed(key: &str, value: &str) -> Stop {
    Stop::Refused(format!(
        "the label {key:.80}={value:.80?}, which is another's"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::door::judge::tests::bounds;

    fn labels(pairs: &[(&str, &str)]) -> HashMap<String, String> {
        let pairs = pairs.iter();
        pairs
            .map(|(key, value)| ((*key).into(), (*value).into()))
            .collect()
    }

    #[test]
    fn only_the_drones_own_labels_are_given() {
        let bounds = bounds();
        let own = labels(&[
            ("hatchery.drone", "acme-site"),
            ("hatchery.restart", "on-failure:3"),
            ("com.docker.compose.project", "acme-site"),
            ("com.docker.compose.service", "db"),
            ("devcontainer.metadata", "[]"),
            ("mine", "1"),
        ]);
        assert_eq!(given(own.clone(), &bounds), Ok(own));
        for (key, value) in [
            ("hatchery.drone", "acme-other"),
            ("hatchery.drone", ""),
            ("hatchery.restart", "yes"),
            ("hatchery.look", "1"),
            ("hatchery.new", "1"),
            ("com.docker.compose.project", "acme-other"),
        ] {
            let asked = labels(&[(key, value)]);
            assert!(given(asked, &bounds).is_err(), "{key}={value}");
        }
        let steering = labels(&[
            ("traefik.enable", "true"),
            ("com.docker.swarm.node.id", "x"),
            ("com.centurylinklabs.watchtower.enable", "true"),
        ]);
        assert_eq!(given(steering, &bounds), Ok(HashMap::new()));
    }

    #[test]
    fn what_an_image_claims_is_emptied() {
        let bounds = bounds();
        let image = labels(&[
            ("hatchery.scope", "{}"),
            ("hatchery.drone", "acme-site"),
            ("com.docker.compose.project", "acme-other"),
            ("devcontainer.local_folder", "/x"),
            ("devcontainer.metadata", "[]"),
            ("traefik.enable", "true"),
            ("maintainer", "x"),
        ]);
        let given = labels(&[("hatchery.restart", "no")]);
        let empty = labels(&[
            ("hatchery.scope", ""),
            ("com.docker.compose.project", ""),
            ("devcontainer.local_folder", ""),
            ("traefik.enable", ""),
        ]);
        assert_eq!(emptied(&image, &given, &bounds), Ok(empty));
        for key in LABELS_OF_HELPERS {
            let image = labels(&[(key, "1")]);
            assert!(emptied(&image, &given, &bounds).is_err(), "{key}");
        }
    }
}
