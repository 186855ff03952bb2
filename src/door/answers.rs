//! Cuts Docker's answers to what a drone may see: what is its own, and what is nobody's.

use bollard::models::NetworkInspect;
use bytes::{Bytes, BytesMut};
use futures_util::stream::unfold;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use serde_json::Value;

use super::judge::{self, Bounds};
use super::own::Own;
use super::upstream::Body;
use crate::docker::{DEVICES, OPTION_DEVICE};
use crate::drone::LABEL_DRONE;

/// The longest event, in bytes.
const MAX_EVENT: usize = 1024 * 1024;

/// Keeps only the drone's own containers in a list.
pub fn containers(all: &mut Value, own: &Own) {
    keep(all, |container| {
        let id = text(container, "Id");
        own.name(id).is_some()
    });
}

/// Removes this container from a list.
pub fn without(all: &mut Value, id: &str) {
    keep(all, |container| text(container, "Id") != id);
}

/// Keeps only the networks that the drone may be in.
pub fn networks(all: &mut Value, own: &Own, bounds: &Bounds) {
    keep(all, |network| is_own_network(network, bounds));
    for network in all.as_array_mut().into_iter().flatten() {
        one_network(network, own);
    }
}

/// Whether a network, as Docker shows it, is the drone's.
pub fn is_own_network(network: &Value, bounds: &Bounds) -> bool {
    let network = serde_json::from_value::<NetworkInspect>(network.clone());
    network.is_ok_and(|network| judge::is_own_network(&network, bounds))
}

/// Removes from a network the containers of other drones, and what hatchery added to it.
pub fn one_network(network: &mut Value, own: &Own) {
    if let Some(Value::Object(containers)) = network.get_mut("Containers") {
        containers.retain(|id, _| own.name(id).is_some());
    }
    if let Some(Value::Object(labels)) = network.get_mut("Labels") {
        labels.retain(|key, _| !key.starts_with("hatchery."));
    }
    without_device(network);
}

/// Removes from a network the name that hatchery gave to its device: compose 1 takes a network for another one
/// whose options are not those that it asked for.
pub fn without_device(network: &mut Value) {
    if let Some(Value::Object(options)) = network.get_mut("Options") {
        options.retain(|option, value| {
            let is_ours = value.as_str().is_some_and(|name| name.starts_with(DEVICES));
            option != OPTION_DEVICE || !is_ours
        });
    }
}

/// Keeps only the volumes that the drone may have.
pub fn volumes(all: &mut Value, bounds: &Bounds) {
    if let Some(volumes) = all.get_mut("Volumes") {
        keep(volumes, |volume| bounds.has(text(volume, "Name")));
    }
}

/// Removes images of other drones, and those that the configuration has for other repositories.
pub fn images(all: &mut Value, bounds: &Bounds) {
    keep(all, |image| {
        let drone = &image["Labels"][LABEL_DRONE];
        let names = ["RepoTags", "RepoDigests"].map(|key| image[key].as_array());
        let names = names.into_iter().flatten().flatten();
        let is_kept = judge::is_kept_from(
            &bounds.identity.repo,
            names.filter_map(Value::as_str),
            &bounds.registries,
        );
        if drone.is_null() {
            !is_kept
        } else {
            drone.as_str() == Some(bounds.identity.name.as_str())
        }
    });
}

fn keep(list: &mut Value, is_own: impl Fn(&Value) -> bool) {
    if let Value::Array(list) = list {
        list.retain(is_own);
    }
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// Keeps only the events of the drone's own containers in a stream with one event a line. `is_own` is called
/// with each container's id.
pub fn events(all: Incoming, is_own: impl Fn(&str) -> bool + Send + 'static) -> Body {
    let stream = unfold(Some((all, BytesMut::new(), is_own)), |state| async move {
        let (mut all, mut buffer, is_own) = state?;
        loop {
            if let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
                let line = buffer.split_to(end + 1).freeze();
                if is_event_of(&line, &is_own) {
                    return Some((Ok(Frame::data(line)), Some((all, buffer, is_own))));
                }
                continue;
            }
            if buffer.len() > MAX_EVENT {
                return Some((Err("an event without an end".into()), None));
            }
            match all.frame().await? {
                Ok(frame) => {
                    if let Ok(data) = frame.into_data() {
                        buffer.extend_from_slice(&data);
                    }
                }
                Err(error) => return Some((Err(error.into()), None)),
            }
        }
    });
    StreamBody::new(stream).boxed_unsync()
}

fn is_event_of(line: &Bytes, is_own: impl Fn(&str) -> bool) -> bool {
    let Ok(event) = serde_json::from_slice::<Value>(line) else {
        return false;
    };
    let of_container = event.get("Type").and_then(Value::as_str) == Some("container");
    of_container && is_own(event["Actor"]["ID"].as_str().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::door::judge::tests::bounds;
    use serde_json::json;

    fn own() -> Own {
        let mut own = Own::default();
        own.add("aaaa", "acme-site");
        own
    }

    #[test]
    fn lists_hold_what_is_the_drones_own() {
        let mut all =
            json!([{"Id": "aaaa"}, {"Id": "bbbb", "Labels": {"hatchery.drone": "acme-site"}}]);
        containers(&mut all, &own());
        assert_eq!(all, json!([{"Id": "aaaa"}]));

        let mut all =
            json!({"Volumes": [{"Name": "acme-site"}, {"Name": "acme-other"}], "Warnings": null});
        volumes(&mut all, &bounds());
        assert_eq!(all["Volumes"], json!([{"Name": "acme-site"}]));

        let mut all = json!([
            {"Id": "1", "Labels": null},
            {"Id": "2", "Labels": {"hatchery.drone": "acme-site"}},
            {"Id": "3", "Labels": {"hatchery.drone": "acme-other"}},
        ]);
        images(&mut all, &bounds());
        let ids: Vec<_> = all
            .as_array()
            .unwrap()
            .iter()
            .map(|image| text(image, "Id"))
            .collect();
        assert_eq!(ids, ["1", "2"]);

        let project = json!({"com.docker.compose.project": "acme-site"});
        let mut all = json!([
            {"Name": "bridge", "Driver": "bridge", "Containers": {}},
            {"Name": "acme-site_default", "Driver": "bridge", "Labels": project,
                "Containers": {"aaaa": {"Name": "acme-site"}, "bbbb": {"Name": "acme-other"}}},
        ]);
        networks(&mut all, &own(), &bounds());
        assert_eq!(all.as_array().unwrap().len(), 1);
        assert_eq!(all[0]["Containers"], json!({"aaaa": {"Name": "acme-site"}}));
    }

    #[test]
    fn events_are_those_of_own_containers() {
        let is = |line: &'static str| {
            is_event_of(&Bytes::from_static(line.as_bytes()), |id| id == "aaaa")
        };
        assert!(is(
            r#"{"Type":"container","Action":"start","Actor":{"ID":"aaaa"}}"#
        ));
        assert!(!is(
            r#"{"Type":"container","Action":"start","Actor":{"ID":"bbbb","Attributes":{"ID":"aaaa"}}}"#
        ));
        assert!(!is(r#"{"Type":"volume","Actor":{"ID":"aaaa"}}"#));
        assert!(!is("{}") && !is("aaaa"));
    }
}
