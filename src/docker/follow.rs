//! Which drones there are by their labels alone, and word of each change of that.

use std::collections::{BTreeMap, HashMap};
use std::time::{SystemTime, UNIX_EPOCH};

use bollard::models::{EventMessage, EventMessageTypeEnum};
use bollard::query_parameters::{
    EventsOptionsBuilder, ListContainersOptionsBuilder, ListVolumesOptionsBuilder,
};
use futures_util::{Stream, StreamExt};

use super::{Docker, failed, filters};
use crate::drone::{DroneName, Identity, LABEL_DRONE};
use crate::error::Result;

/// What carries a drone's label: an object of Docker's, its name and its labels.
struct Labelled {
    what: &'static str,
    name: String,
    labels: HashMap<String, String>,
}

impl Docker {
    /// The drones that have a volume or a container; without a look at what each is doing. What
    /// carries the label but is no drone, or another than its volume says, is told as a warning.
    pub async fn identities(&self) -> Result<(Vec<Identity>, Vec<String>)> {
        let label = || filters("label", LABEL_DRONE.to_owned());
        let containers = ListContainersOptionsBuilder::new()
            .all(true)
            .filters(&label())
            .build();
        let volumes = ListVolumesOptionsBuilder::new().filters(&label()).build();
        let (containers, volumes) = tokio::try_join!(
            self.api.list_containers(Some(containers)),
            self.api.list_volumes(Some(volumes)),
        )
        .map_err(|error| failed("list the drones", error))?;
        let volumes = volumes
            .volumes
            .unwrap_or_default()
            .into_iter()
            .map(|volume| Labelled {
                what: "volume",
                name: volume.name,
                labels: volume.labels,
            });
        let containers = containers.into_iter().map(|container| Labelled {
            what: "container",
            name: container
                .names
                .unwrap_or_default()
                .first()
                .map(|name| name.trim_start_matches('/').to_owned())
                .unwrap_or_default(),
            labels: container.labels.unwrap_or_default(),
        });
        Ok(sort_out(volumes.chain(containers)))
    }

    /// Word of each volume, and each drone's container, that comes or goes from `since` on.
    pub fn changes(&self, since: SystemTime) -> impl Stream<Item = Result<()>> + use<> {
        let since = since.duration_since(UNIX_EPOCH).unwrap_or_default();
        let wanted = HashMap::from([
            // A volume's events do not tell its labels, so Docker cannot filter by them.
            ("type", vec!["container", "volume"]),
            ("event", vec!["create", "destroy"]),
        ]);
        let options = EventsOptionsBuilder::new()
            .since(&since.as_secs().to_string())
            .filters(&wanted)
            .build();
        self.api.events(Some(options)).filter_map(async |event| {
            let event = event.map_err(|error| failed("follow what Docker does", error));
            event
                .map(|event| concerns_drones(&event).then_some(()))
                .transpose()
        })
    }
}

fn concerns_drones(event: &EventMessage) -> bool {
    let labelled = || {
        let actor = event.actor.as_ref()?;
        let attributes = actor.attributes.as_ref()?;
        attributes.contains_key(LABEL_DRONE).then_some(())
    };
    event.typ == Some(EventMessageTypeEnum::VOLUME) || labelled().is_some()
}

/// The drones among what is labelled as one; volumes come first. Whatever was made from a drone's
/// image has the image's labels, so only what has the drone's name speaks for it. Its container's scope
/// counts, which the door has written; its volume's does as long as there is no container.
fn sort_out(labelled: impl Iterator<Item = Labelled>) -> (Vec<Identity>, Vec<String>) {
    let mut drones: BTreeMap<DroneName, Identity> = BTreeMap::new();
    let mut warnings = Vec::new();
    for Labelled { what, name, labels } in labelled {
        let identity = match Identity::from_labels(&labels) {
            Ok(identity) if identity.name.as_str() == name => identity,
            Ok(_) => continue,
            Err(error) => {
                warnings.push(format!("{what} {name} is ignored: {error}"));
                continue;
            }
        };
        match drones.get(&identity.name) {
            Some(first) if first.repo != identity.repo => warnings.push(format!(
                "{what} {name} is labelled with {}, but the drone's volume with {}, which takes precedence",
                identity.repo, first.repo
            )),
            _ => {
                drones.insert(identity.name.clone(), identity);
            }
        }
    }
    (drones.into_values().collect(), warnings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drone::{LABEL_SCHEMA, LABEL_SCOPE, Scope};

    fn labelled(what: &'static str, scope: &str) -> Labelled {
        let identity = Identity::new(Scope::from_json(scope).unwrap());
        Labelled {
            what,
            name: identity.name.to_string(),
            labels: identity.label_map(),
        }
    }

    fn names(drones: &[Identity]) -> Vec<&str> {
        drones.iter().map(|drone| drone.name.as_str()).collect()
    }

    const SITE: &str = r#"{"repositories":["acme/site"]}"#;
    const WIDER: &str = r#"{"repositories":["acme/site","victim/secret"]}"#;

    #[test]
    fn a_volume_or_a_container_is_enough_and_both_are_one_drone() {
        let other = r#"{"repositories":["other/lib"]}"#;
        let all = [
            labelled("volume", SITE),
            labelled("container", SITE),
            labelled("container", other),
        ];
        let (drones, warnings) = sort_out(all.into_iter());
        assert_eq!(names(&drones), ["acme-site", "other-lib"]);
        assert!(warnings.is_empty(), "{warnings:?}");
    }

    #[test]
    fn labels_that_do_not_fit_together_are_said_and_skipped() {
        for (key, value) in [
            (LABEL_DRONE, "victim-secret"),
            (LABEL_DRONE, "../../etc"),
            (LABEL_SCHEMA, "2"),
            (LABEL_SCOPE, r#"{"repositories":["victim/secret"]}"#),
            (LABEL_SCOPE, "{"),
        ] {
            let mut hostile = labelled("volume", SITE);
            hostile.labels.insert(key.to_owned(), value.to_owned());
            let (drones, warnings) = sort_out([hostile].into_iter());
            assert!(drones.is_empty(), "{key}={value} made {drones:?}");
            assert!(warnings[0].contains("acme-site"), "{warnings:?}");
        }
    }

    #[test]
    fn what_has_another_name_speaks_for_no_drone() {
        let mut sibling = labelled("container", WIDER);
        sibling.name = "acme-site-database".to_owned();
        let mut cache = labelled("volume", WIDER);
        cache.name = "acme-site-tailscale".to_owned();
        let (drones, warnings) = sort_out([cache, sibling].into_iter());
        assert!(drones.is_empty() && warnings.is_empty());
    }

    #[test]
    fn the_scope_is_the_containers_and_without_one_the_volumes() {
        let both = [labelled("volume", WIDER), labelled("container", SITE)];
        let (drones, warnings) = sort_out(both.into_iter());
        assert_eq!(drones[0].scope, Scope::from_json(SITE).unwrap());
        assert!(warnings.is_empty(), "{warnings:?}");
        let (drones, _) = sort_out([labelled("volume", WIDER)].into_iter());
        assert_eq!(drones[0].scope, Scope::from_json(WIDER).unwrap());
    }

    #[test]
    fn a_container_of_another_repository_with_the_same_name_counts_for_nothing() {
        let other = r#"{"repositories":["acme/Site.","victim/secret"]}"#;
        let (drones, warnings) =
            sort_out([labelled("volume", SITE), labelled("container", other)].into_iter());
        assert_eq!(drones[0].scope, Scope::from_json(SITE).unwrap());
        assert_eq!(warnings.len(), 1, "{warnings:?}");
    }
}
