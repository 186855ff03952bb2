//! A container that is to be created.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bollard::models::{
    ContainerInspectResponse, EndpointSettings, HealthConfig, HostConfig, ImageInspect,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{Bounds, healthcheck, host, labels, network};
use crate::config::Runtime;
use crate::docker::LABEL_PROJECT;
use crate::door::own::Own;
use crate::door::rewrite::{Rewrite, is_none};
use crate::door::stop::{Judged, Stop};

/// What is known of a request for a container beside its body.
#[derive(Debug)]
pub struct Asked<'a> {
    /// The container's name.
    pub name: &'a str,
    /// The image that it is to be made of.
    pub image: &'a ImageInspect,
    /// What the drone has by now.
    pub own: &'a Own,
}

/// A container that may be created if its networks and volumes are the drone's own, too.
#[derive(Debug)]
pub struct Creation {
    /// The body of the request.
    pub body: Value,
    /// Networks that it is to be in.
    pub networks: BTreeSet<String>,
    /// Volumes that it is to have, by name.
    pub volumes: BTreeSet<String>,
}

/// How long a container may take to stop, in seconds.
const MAX_STOP: i64 = 60;

/// Words as Docker takes them: one text or a list.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Words {
    One(String),
    List(Vec<String>),
}

/// Judges the body of a request for a container. The caller has taken `Image` out of it.
pub fn creation(mut body: Rewrite, asked: &Asked<'_>, bounds: &Bounds) -> Judged<Creation> {
    let image = asked.image.id.as_deref().unwrap_or_default();
    let of_image = asked.image.config.clone().unwrap_or_default();
    // By its id: a name may lead to something else by the time that Docker reads it.
    body.put("Image", &image)?;
    body.keep::<String>(&["User", "WorkingDir", "StopSignal", "Hostname", "Domainname"])?;
    body.keep::<bool>(&[
        "AttachStdin",
        "AttachStdout",
        "AttachStderr",
        "Tty",
        "OpenStdin",
        "StdinOnce",
        "ArgsEscaped",
        "NetworkDisabled",
    ])?;
    // Docker itself waits so long before it ends.
    if let Some(seconds) = body.take::<i64>("StopTimeout")? {
        body.put("StopTimeout", &seconds.clamp(0, MAX_STOP))?;
    }
    body.keep::<Vec<String>>(&["Env", "Shell"])?;
    body.keep::<Words>(&["Cmd", "Entrypoint"])?;
    for key in ["ExposedPorts", "Volumes"] {
        let named: Option<BTreeMap<String, Value>> = body.take(key)?;
        let Some(named) = named else { continue };
        if let Some((name, value)) = named.iter().find(|(_, value)| !is_none(value)) {
            return Err(Stop::Refused(format!(
                "{key} {name:.80}={:.80}",
                value.to_string()
            )));
        }
        let named: Value = named.into_keys().map(|name| (name, json!({}))).collect();
        body.put(key, &named)?;
    }
    if let Some(address) = body.take::<String>("MacAddress")?
        && !address.is_empty()
    {
        return Err(Stop::Refused("a hardware address of its choice".to_owned()));
    }

    let check: Option<HealthConfig> = body.take("Healthcheck")?;
    let check = check.map(healthcheck::bounded);
    let slowed = healthcheck::of_image(of_image.healthcheck.as_ref(), check.as_ref());
    if let Some(check) = slowed.or(check) {
        body.put("Healthcheck", &check)?;
    }

    let given: Option<HashMap<String, String>> = body.take("Labels")?;
    let mut given = labels::given(given.unwrap_or_default(), bounds)?;
    let is_drone = asked.name == bounds.name();
    if is_drone {
        given.extend(bounds.identity.label_map());
    }
    let of_image = of_image.labels.unwrap_or_default();
    given.extend(labels::emptied(&of_image, &given, bounds)?);
    if bounds.compose && given.get(LABEL_PROJECT).is_none_or(String::is_empty) {
        return Err(Stop::Refused(
            "no part in the project of the drone's compose file".to_owned(),
        ));
    }
    body.put("Labels", &given)?;

    let mut host: Option<Map<String, Value>> = body.take("HostConfig")?;
    if let (Some(host), Some(_)) = (&mut host, bounds.runtime) {
        host.remove("Privileged");
    }
    let host = known_keys(host)?;
    let host = host::host(host, is_drone, asked.own, bounds)?;
    let volumes = host::volumes(&host);
    let mut networks = BTreeSet::new();
    let mode = host.network_mode.as_deref().unwrap_or_default();
    if mode != "none" && !mode.starts_with("container:") {
        networks.insert(mode.to_owned());
    }
    body.put("HostConfig", &host)?;

    if let Some(networking) = body.take::<Map<String, Value>>("NetworkingConfig")? {
        let mut networking = Rewrite::of(networking);
        let asked_for: Option<HashMap<String, Option<EndpointSettings>>> =
            networking.take("EndpointsConfig")?;
        let mut endpoints = HashMap::new();
        for (name, endpoint) in asked_for.unwrap_or_default() {
            let endpoint = network::endpoint(endpoint.unwrap_or_default(), asked.own)?;
            networks.insert(name.clone());
            endpoints.insert(name, endpoint);
        }
        networking.put("EndpointsConfig", &endpoints)?;
        body.put("NetworkingConfig", &networking.finish()?)?;
    }
    Ok(Creation {
        body: body.finish()?,
        networks,
        volumes,
    })
}

/// What a created container has, as Docker shows it, that was not judged; `None` if there is nothing. An image
/// may be a different one for another platform.
pub fn surprise(
    shown: &ContainerInspectResponse,
    judged: &Value,
    bounds: &Bounds,
) -> Option<String> {
    let config = shown.config.as_ref()?;
    let given = judged["Labels"].as_object().into_iter().flatten();
    let given =
        given.map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned()));
    let has = config.labels.clone().unwrap_or_default();
    match labels::emptied(&has, &given.collect(), bounds) {
        Ok(more) if more.is_empty() => {}
        Ok(more) => return Some(format!("the labels {:.200?} of an image", more.keys())),
        Err(stop) => return Some(stop.reason()),
    }
    let check = config.healthcheck.as_ref();
    check
        .is_some_and(|check| !healthcheck::is_bounded(check))
        .then(|| "a health check more often than every five seconds".to_owned())
}

/// Checks that a container that exists already, as Docker shows it, keeps to these bounds.
pub fn present(shown: &HostConfig, own: &Own, bounds: &Bounds) -> Judged<()> {
    let mut shown = host::as_asked(shown.clone());
    // The configuration may have named another when it was made.
    if shown
        .runtime
        .clone()
        .is_some_and(|name| Runtime::try_from(name).is_ok())
    {
        shown.runtime = None;
    }
    let shown = serde_json::to_value(shown).unwrap_or_default();
    let host = known_keys(shown.as_object().cloned())?;
    host::host(host, false, own, bounds).map(|_| ())
}

/// For a trusted repository: the body of a request for the container of this name, unchanged except for labels:
/// those that its image claims are emptied, and the drone's own container gets the drone's.
pub fn labelled(body: &[u8], name: &str, image: &ImageInspect, bounds: &Bounds) -> Judged<Value> {
    let mut body: Map<String, Value> = serde_json::from_slice(body)
        .map_err(|error| Stop::Malformed(format!("the body: {error}")))?;
    let given = body.remove("Labels").unwrap_or_default();
    let given: Option<HashMap<String, String>> = serde_json::from_value(given)
        .map_err(|error| Stop::Malformed(format!("Labels: {error}")))?;
    let mut given = given.unwrap_or_default();
    if name == bounds.name() {
        given.extend(bounds.identity.label_map());
    }
    let of_image = image.config.clone().and_then(|config| config.labels);
    given.extend(labels::emptied(
        &of_image.unwrap_or_default(),
        &given,
        bounds,
    )?);
    body.insert("Labels".to_owned(), json!(given));
    Ok(Value::Object(body))
}

/// The host's part, all of whose keys are judged or can do nothing beyond the container. Others,
/// those of later versions of Docker among them, must be without a value: privileges, namespaces of
/// others, control groups, the real-time scheduler, storage options.
fn known_keys(asked: Option<Map<String, Value>>) -> Judged<HostConfig> {
    let mut asked = Rewrite::of(asked.unwrap_or_default());
    for key in host::JUDGED.iter().chain(host::HARMLESS) {
        asked.keep::<Value>(&[key])?;
    }
    asked.drop(host::DROPPED);
    serde_json::from_value(asked.finish()?)
        .map_err(|error| Stop::Malformed(format!("HostConfig: {error}")))
}

#[cfg(test)]
mod tests;
