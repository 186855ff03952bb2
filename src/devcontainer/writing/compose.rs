//! The one compose file that hatchery hands to compose. It is JSON, which is YAML, and without a
//! `version`, which both compose 1.29 and 2 take as the current specification.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::home::HomeMount;
use crate::config::Config;
use crate::devcontainer::judging::compose::{Project, WORKSPACE};
use crate::devcontainer::judging::images;
use crate::devcontainer::judging::metadata::SOCKETS_TARGET;
use crate::docker::{LABEL_RESTART, UNSAID};
use crate::drone::DroneName;

/// What hatchery adds to a project when it writes its file.
pub struct Emission<'a> {
    /// The drone's name: its container's and its host's.
    pub drone: &'a DroneName,
    /// Limits, hosts, the tailnet.
    pub config: &'a Config,
    /// The volume that holds the clone.
    pub volume: &'a str,
    /// Where it is mounted in the drone's service.
    pub target: &'a str,
    /// The loopback port that leads to the drone's sshd.
    pub ssh_port: Option<u16>,
    /// The directory of the drone's sockets.
    pub sockets: Option<&'a Path>,
    /// The mounts of devcontainer.json, in compose's long form.
    pub mounts: Vec<Value>,
    /// The volumes in the remote user's home.
    pub home: Vec<HomeMount>,
    /// A text in the names of its images that no repository knows.
    pub token: &'a str,
    /// Variables of devcontainer.json that the devcontainer CLI cannot pass on.
    pub environment: Map<String, Value>,
    /// The drone's labels.
    pub labels: Vec<(&'static str, String)>,
}

/// The restart policy of what runs for as long as the server does.
const LASTING: &str = "unless-stopped";
/// The log of each container, whatever Docker's default is: the driver, and its options.
pub(crate) const LOG: (&str, [(&str, &str); 2]) =
    ("json-file", [("max-size", "10m"), ("max-file", "3")]);

/// sshd's port in a drone.
pub(crate) const SSHD_PORT: u16 = 2222;

impl Project {
    /// The whole compose file, as JSON.
    pub fn emit(&self, with: &Emission<'_>) -> Value {
        let mut services = Map::new();
        for (name, service) in &self.services {
            let mut service = service.as_object().cloned().unwrap_or_default();
            own_build(&mut service, name, with);
            // What the repository says holds no variables any more.
            escape(&mut service);
            limit(&mut service, with.config);
            if name != &self.service {
                restart(&mut service, name == &self.network_of);
            }
            services.insert(name.clone(), Value::Object(service));
        }
        self.seat(&mut services, with);
        let mut volumes = self.volumes.clone();
        for service in services.values() {
            for mount in service
                .get("volumes")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
            {
                if mount["type"] == "volume"
                    && let Some(name) = mount["source"].as_str()
                {
                    volumes.entry(name).or_insert(json!({}));
                }
            }
        }
        for mount in &with.home {
            mount.declare(&mut volumes);
        }
        volumes.insert(
            WORKSPACE.into(),
            json!({"external": true, "name": with.volume}),
        );
        let networks = self.networks();
        let mut file = json!({"services": services, "volumes": volumes});
        if !networks.is_empty() {
            file["networks"] = Value::Object(networks);
        }
        file
    }

    /// Makes the drone's service the drone. The service that holds its network gets the host name and the port.
    fn seat(&self, services: &mut Map<String, Value>, with: &Emission<'_>) {
        if let Some(drone) = services
            .get_mut(&self.service)
            .and_then(Value::as_object_mut)
        {
            drone.insert("container_name".into(), json!(with.drone));
            drone.insert("restart".into(), json!(LASTING));
            // Without sudo in the image nobody else can start sshd and tailscaled.
            drone.insert("user".into(), json!("root"));
            if !with.environment.is_empty() {
                let environment = drone.entry("environment").or_insert(json!({}));
                if let Some(environment) = environment.as_object_mut() {
                    let mut own = with.environment.clone();
                    escape(&mut own);
                    environment.extend(own);
                }
            }
            if with.config.tailnet.is_some() {
                append(drone, "devices", json!("/dev/net/tun:/dev/net/tun"));
            }
            let home = with.home.iter().map(HomeMount::to_compose);
            for mount in with.mounts.iter().cloned().chain(home) {
                put_mount(drone, mount);
            }
            // What the image has there does not get into the clone.
            let workspace = json!({
                "type": "volume", "source": WORKSPACE, "target": with.target,
                "volume": {"nocopy": true},
            });
            put_mount(drone, workspace);
            if let Some(sockets) = with.sockets {
                put_mount(
                    drone,
                    json!({
                        "type": "bind",
                        "source": sockets,
                        "target": SOCKETS_TARGET,
                        "read_only": true,
                        // Compose 1.29 knows no create_host_path; any `bind` makes it a mount.
                        "bind": {"propagation": "rprivate"},
                    }),
                );
            }
            if self.network_of != self.service {
                // Docker refuses these beside another container's network.
                for key in [
                    "hostname",
                    "extra_hosts",
                    "dns",
                    "dns_search",
                    "links",
                    "expose",
                ] {
                    drone.remove(key);
                }
            }
        }
        if let Some(holder) = services
            .get_mut(&self.network_of)
            .and_then(Value::as_object_mut)
        {
            holder.insert("hostname".into(), json!(with.drone));
            for host in &with.config.docker.extra_hosts {
                append(holder, "extra_hosts", json!(host));
            }
            if let Some(port) = with.ssh_port {
                append(
                    holder,
                    "ports",
                    json!(format!("127.0.0.1:{port}:{SSHD_PORT}")),
                );
            }
        }
    }
}

fn limit(service: &mut Map<String, Value>, config: &Config) {
    let limits = &config.limits;
    service.insert("mem_limit".into(), json!(limits.memory.as_u64()));
    service.insert("memswap_limit".into(), json!(limits.memory.as_u64()));
    service.insert("cpus".into(), json!(limits.processors()));
    service.insert("pids_limit".into(), json!(limits.pids));
    let options: Map<String, Value> = LOG
        .1
        .map(|(key, value)| (key.into(), json!(value)))
        .into_iter()
        .collect();
    service.insert(
        "logging".into(),
        json!({"driver": LOG.0, "options": options}),
    );
}

/// What compose builds is the drone's: it gets a name of the drone's own, and its labels.
fn own_build(service: &mut Map<String, Value>, name: &str, with: &Emission<'_>) {
    let Some(build) = service.get_mut("build").and_then(Value::as_object_mut) else {
        return;
    };
    let labels = build.entry("labels").or_insert(json!({}));
    if let Some(labels) = labels.as_object_mut() {
        for (key, value) in &with.labels {
            labels.insert((*key).to_owned(), json!(value));
        }
    }
    let tag = images::own_tag(with.drone, with.token, name);
    service.insert("image".into(), json!(tag));
}

/// Sets the service's restart policy and keeps it in a label, because the policy is removed while the drone
/// sleeps.
fn restart(service: &mut Map<String, Value>, holds_the_network: bool) {
    let said = service.get("restart").and_then(Value::as_str);
    let (policy, noted) = match said {
        Some(policy) => (policy.to_owned(), policy.to_owned()),
        // What holds the drone's network comes back with the drone.
        None if holds_the_network => (LASTING.to_owned(), LASTING.to_owned()),
        None => ("no".to_owned(), UNSAID.to_owned()),
    };
    service.insert("restart".into(), json!(policy));
    let labels = service.entry("labels").or_insert(json!({}));
    if let Some(labels) = labels.as_object_mut() {
        labels.insert(LABEL_RESTART.into(), json!(noted));
    }
}

fn append(service: &mut Map<String, Value>, key: &str, value: Value) {
    let list = service.entry(key).or_insert(json!([]));
    if let Some(list) = list.as_array_mut() {
        list.push(value);
    }
}

/// Adds a mount in place of whatever stands at its target.
fn put_mount(service: &mut Map<String, Value>, mount: Value) {
    let list = service.entry("volumes").or_insert(json!([]));
    if let Some(list) = list.as_array_mut() {
        list.retain(|before| before["target"] != mount["target"]);
        list.push(mount);
    }
}

/// Doubles each dollar sign: compose replaces variables in every text.
fn escape(map: &mut Map<String, Value>) {
    map.values_mut().for_each(escape_value);
}

fn escape_value(value: &mut Value) {
    match value {
        Value::String(text) if text.contains('$') => *text = text.replace('$', "$$"),
        Value::Array(list) => list.iter_mut().for_each(escape_value),
        Value::Object(map) => escape(map),
        _ => {}
    }
}
