//! Networks, and a container's place in one.

use std::collections::HashMap;

use bollard::models::{EndpointSettings, NetworkInspect};
use serde_json::{Map, Value, json};

use super::{Bounds, labels};
use crate::docker::{Block, DEVICES, LABEL_PROJECT, OPTION_DEVICE};
use crate::door::own::Own;
use crate::door::rewrite::{Rewrite, is_none};
use crate::door::stop::{Judged, Stop};
use crate::drone::LABEL_DRONE;

/// Whether a network, as Docker shows it, is one that the drone's containers may be in: a plain
/// bridge that compose made for its project, or without compose the one that hatchery made for it.
pub fn is_own(network: &NetworkInspect, bounds: &Bounds) -> bool {
    let label = |key: &str| network.labels.as_ref()?.get(key).map(String::as_str);
    let is_drones = if bounds.compose {
        label(LABEL_PROJECT) == Some(bounds.name())
    } else {
        network.name.as_deref() == Some(bounds.name()) && label(LABEL_DRONE) == Some(bounds.name())
    };
    let mut options = network.options.iter().flatten();
    is_drones
        && network.driver.as_deref() == Some("bridge")
        && options.all(|(option, value)| match option.as_str() {
            OPTION_DEVICE => value.starts_with(DEVICES),
            // Docker writes these itself: 28, and one that is told so in its daemon.json.
            "com.docker.network.driver.mtu" => true,
            option => option.starts_with("com.docker.network.enable_ipv"),
        })
}

/// Judges a request for a new network of the drone's project. Returns its body: a bridge without options, and
/// without addresses until [`placed`].
pub fn network(body: &[u8], bounds: &Bounds) -> Judged<Value> {
    let mut body = Rewrite::read(body)?;
    let name: String = body.take("Name")?.unwrap_or_default();
    let rest = name.strip_prefix(bounds.name());
    if !bounds.compose || !rest.is_some_and(|rest| rest.starts_with(['_', '.'])) {
        return Err(Stop::Refused(format!("the network {name:.80?}")));
    }
    body.put("Name", &name)?;
    let driver: Option<String> = body.take("Driver")?;
    if let Some(driver) = driver.filter(|driver| !matches!(driver.as_str(), "" | "bridge")) {
        return Err(Stop::Refused(format!(
            "a network of the driver {driver:.40?}"
        )));
    }
    body.put("Driver", &"bridge")?;
    body.keep::<bool>(&[
        "CheckDuplicate",
        "Internal",
        "EnableIPv4",
        "EnableIPv6",
        "Attachable",
    ])?;
    if let Some(Value::Object(mut addresses)) = body.take("IPAM")? {
        let driver = addresses.remove("Driver");
        let default = matches!(
            driver.as_ref().and_then(Value::as_str),
            None | Some("" | "default")
        );
        if !default || !is_none(&Value::Object(addresses)) {
            return Err(Stop::Refused(
                "a network with addresses of its choice".to_owned(),
            ));
        }
    }
    if let Some(scope) = body.take::<String>("Scope")?
        && !matches!(scope.as_str(), "" | "local")
    {
        return Err(Stop::Refused(format!(
            "a network of the scope {scope:.40?}"
        )));
    }
    let given: Option<HashMap<String, String>> = body.take("Labels")?;
    let mut given = labels::given(given.unwrap_or_default(), bounds)?;
    given.insert(LABEL_PROJECT.to_owned(), bounds.name().to_owned());
    given.extend(bounds.identity.label_map());
    body.put("Labels", &given)?;
    body.finish()
}

/// Whether hatchery chooses the addresses of a trusted repository's network: it does for a bridge that names
/// none itself.
pub fn wants_addresses(body: &Value) -> bool {
    let is = |at: &str, usual: &[&str]| {
        let value = body.pointer(at).unwrap_or(&Value::Null);
        is_none(value) || value.as_str().is_some_and(|text| usual.contains(&text))
    };
    is("/Driver", &["bridge"])
        && is("/IPAM/Driver", &["default"])
        && [
            "/IPAM/Config",
            "/IPAM/Options",
            "/ConfigOnly",
            "/ConfigFrom",
            "/Ingress",
        ]
        .iter()
        .all(|at| is(at, &[]))
}

/// The body of a new network with its addresses and the name of its device. A device that has a name
/// keeps it.
pub fn placed(mut body: Value, block: Block) -> Value {
    // Without IPv4 there is nothing to give out of them.
    if body["EnableIPv4"] != Value::Bool(false) {
        body["IPAM"] = json!(block.ipam());
    }
    let mut options = match body["Options"].take() {
        Value::Object(options) => options,
        _ => Map::new(),
    };
    for (option, value) in block.options() {
        options.entry(option).or_insert(Value::String(value));
    }
    body["Options"] = Value::Object(options);
    body
}

/// Judges a request for a container to join or leave a network. Returns its body, with the container's whole
/// id.
pub fn connection(body: &[u8], own: &Own) -> Judged<Value> {
    let mut body = Rewrite::read(body)?;
    let container: String = body.take("Container")?.unwrap_or_default();
    let id = own
        .container(&container)
        .ok_or_else(|| Stop::NotFound(format!("container: {container:.80}")))?;
    body.put("Container", &id)?;
    body.keep::<bool>(&["Force"])?;
    if let Some(asked) = body.take("EndpointConfig")? {
        body.put("EndpointConfig", &endpoint(asked, own)?)?;
    }
    body.finish()
}

/// A container's place in a network: names there, and links to the drone's own containers.
/// Addresses are Docker's to choose. What only Docker's answers hold is left out.
pub fn endpoint(asked: EndpointSettings, own: &Own) -> Judged<EndpointSettings> {
    let refused = |what: &str| Err(Stop::Refused(what.to_owned()));
    if asked.mac_address.is_some_and(|address| !address.is_empty()) {
        return refused("a hardware address of its choice");
    }
    let fixed = asked
        .ipam_config
        .as_ref()
        .and_then(|config| serde_json::to_value(config).ok());
    if fixed.is_some_and(|fixed| !is_none(&fixed)) {
        return refused("an address of its choice in a network");
    }
    if asked.driver_opts.is_some_and(|options| !options.is_empty()) {
        return refused("options of its own in a network");
    }
    if let Some(link) = foreign_link(asked.links.as_deref().unwrap_or_default(), own) {
        return Err(Stop::Refused(link));
    }
    Ok(EndpointSettings {
        links: asked.links,
        aliases: asked.aliases,
        gw_priority: asked.gw_priority,
        ..EndpointSettings::default()
    })
}

/// Names the first link to a container that is not the drone's own, if there is one.
pub fn foreign_link(links: &[String], own: &Own) -> Option<String> {
    let odd = links.iter().find(|link| {
        let to = link.split(':').next().unwrap_or_default();
        own.exactly(to).is_none()
    });
    odd.map(|link| format!("a link to another container ({link:.80})"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::door::judge::tests::bounds;

    fn own() -> Own {
        let mut own = Own::default();
        own.add("aaaa", "acme-site_db_1");
        own
    }

    #[test]
    fn a_network_is_the_projects_own_bridge() {
        let judged = |body: &Value| network(body.to_string().as_bytes(), &bounds());
        let compose = json!({
            "Name": "acme-site_default", "Driver": "bridge", "CheckDuplicate": true, "Internal": false,
            "IPAM": {"Driver": "default", "Config": [], "Options": null}, "Options": null, "ConfigFrom": {"Network": ""},
            "Labels": {"com.docker.compose.network": "default"}, "Scope": "", "Ingress": false,
        });
        let made = judged(&compose).unwrap();
        assert_eq!(made["Labels"]["com.docker.compose.project"], "acme-site");
        assert_eq!(made["Driver"], "bridge");
        assert_eq!(made["Labels"]["hatchery.drone"], "acme-site");
        for (key, value) in [
            ("Name", json!("acme-other_default")),
            ("Name", json!("acme-site-b_default")),
            ("Name", json!("hatchery")),
            ("Driver", json!("macvlan")),
            ("Driver", json!("host")),
            (
                "Options",
                json!({"com.docker.network.bridge.name": "docker0"}),
            ),
            ("IPAM", json!({"Config": [{"Subnet": "192.168.0.0/16"}]})),
            ("IPAM", json!({"Driver": "null"})),
            ("ConfigFrom", json!({"Network": "x"})),
            ("ConfigOnly", json!(true)),
            ("Ingress", json!(true)),
            ("Scope", json!("swarm")),
            (
                "Labels",
                json!({"com.docker.compose.project": "acme-other"}),
            ),
            ("Labels", json!({"hatchery.network": "1"})),
        ] {
            let mut odd = compose.clone();
            odd[key] = value;
            assert!(judged(&odd).is_err(), "{odd}");
        }
        let alone = Bounds {
            compose: false,
            ..bounds()
        };
        assert!(network(compose.to_string().as_bytes(), &alone).is_err());
    }

    #[test]
    fn a_network_that_is_there_is_own_by_what_docker_says() {
        let is = |shown: Value, compose| {
            let bounds = Bounds {
                compose,
                ..bounds()
            };
            is_own(&serde_json::from_value(shown).unwrap(), &bounds)
        };
        let project = json!({
            "Name": "acme-site_default", "Driver": "bridge", "Labels": {"com.docker.compose.project": "acme-site"},
            "Options": {"com.docker.network.enable_ipv4": "true"},
        });
        assert!(is(project.clone(), true));
        assert!(!is(project.clone(), false));
        let drones = json!({
            "Name": "acme-site", "Driver": "bridge", "Labels": {"hatchery.drone": "acme-site"},
            "Options": {"com.docker.network.bridge.name": "hatchery0abd000"},
        });
        assert!(is(drones.clone(), false));
        assert!(!is(drones.clone(), true));
        for (key, value) in [
            ("Name", json!("acme-other")),
            ("Name", json!("hatchery")),
            ("Labels", json!({"hatchery.drone": "acme-other"})),
            ("Labels", json!({})),
            ("Driver", json!("macvlan")),
            (
                "Options",
                json!({"com.docker.network.bridge.name": "docker0"}),
            ),
        ] {
            let mut odd = drones.clone();
            odd[key] = value;
            assert!(!is(odd.clone(), false), "{odd}");
        }
        for (key, value) in [
            ("Driver", json!("macvlan")),
            (
                "Labels",
                json!({"com.docker.compose.project": "acme-other"}),
            ),
            ("Labels", json!({})),
            (
                "Options",
                json!({"com.docker.network.bridge.name": "docker0"}),
            ),
        ] {
            let mut odd = project.clone();
            odd[key] = value;
            assert!(!is(odd.clone(), true), "{odd}");
        }
    }

    #[test]
    fn a_trusted_repositorys_network_has_the_addresses_that_it_names_or_ours() {
        let compose = json!({"Name": "x", "Driver": "bridge", "IPAM": {"Driver": "default", "Config": []}, "Ingress": false});
        assert!(wants_addresses(&compose) && wants_addresses(&json!({"Name": "x"})));
        for (key, value) in [
            ("Driver", json!("macvlan")),
            ("IPAM", json!({"Config": [{"Subnet": "192.168.0.0/16"}]})),
            ("IPAM", json!({"Driver": "dhcp"})),
            ("ConfigFrom", json!({"Network": "x"})),
            ("ConfigOnly", json!(true)),
            ("Ingress", json!(true)),
        ] {
            let mut odd = compose.clone();
            odd[key] = value;
            assert!(!wants_addresses(&odd), "{odd}");
        }
    }

    #[test]
    fn a_place_in_a_network_is_of_dockers_choice() {
        let judged = |body: Value| connection(body.to_string().as_bytes(), &own());
        let plain = json!({"Container": "acme-site_db_1", "EndpointConfig": {
            "Aliases": ["db"], "Links": ["acme-site_db_1:x"], "IPAMConfig": {}, "MacAddress": "", "Gateway": "192.0.2.1",
        }});
        let kept = json!({"Container": "aaaa", "EndpointConfig": {
            "Aliases": ["db"], "Links": ["acme-site_db_1:x"],
        }});
        assert_eq!(judged(plain), Ok(kept));
        let other = json!({"Container": "acme-other"});
        assert!(matches!(judged(other), Err(Stop::NotFound(_))));
        for (key, value) in [
            ("MacAddress", json!("02:42:ac:11:00:02")),
            ("IPAMConfig", json!({"IPv4Address": "172.17.0.2"})),
            (
                "DriverOpts",
                json!({"com.docker.network.endpoint.ifname": "x"}),
            ),
            ("Links", json!(["acme-other:x"])),
        ] {
            let body = json!({"Container": "aaaa", "EndpointConfig": {key: value}});
            assert!(judged(body.clone()).is_err(), "{body}");
        }
    }
}
