//! A Headscale on loopback.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hatchery::config::Tailnet;
use hatchery::drone::DroneName;

/// A control server of its own; gone with the value.
pub struct World {
    place: tempfile::TempDir,
    server: Child,
    port: u16,
    drones: String,
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

fn on_path(name: &str) -> bool {
    std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
        .any(|directory| directory.join(name).is_file())
}

pub fn name() -> DroneName {
    DroneName::of(&"acme/site".parse().unwrap())
}

impl World {
    pub async fn new() -> Option<Self> {
        for program in ["headscale", "tailscale", "tailscaled"] {
            if !on_path(program) {
                println!("skipped: there is no {program} on the PATH");
                return None;
            }
        }
        let place = tempfile::tempdir().unwrap();
        let port = free_port();
        let at = place.path().display();
        let config = format!(
            r#"
server_url: http://127.0.0.1:{port}
listen_addr: 127.0.0.1:{port}
metrics_listen_addr: 127.0.0.1:{}
grpc_listen_addr: 127.0.0.1:{}
noise: {{ private_key_path: {at}/noise.key }}
prefixes: {{ v4: 100.64.0.0/10, v6: "fd7a:115c:a1e0::/48", allocation: sequential }}
derp:
  server: {{ enabled: true, region_id: 999, region_code: x, region_name: x, stun_listen_addr: "127.0.0.1:{}", private_key_path: {at}/derp.key, automatically_add_embedded_derp_region: true, ipv4: 127.0.0.1 }}
  urls: []
  auto_update_enabled: false
disable_check_updates: true
node: {{ ephemeral: {{ inactivity_timeout: 120s }} }}
database: {{ type: sqlite, sqlite: {{ path: {at}/db.sqlite }} }}
dns: {{ magic_dns: true, base_domain: tail.example.test, override_local_dns: false, nameservers: {{ global: [] }} }}
unix_socket: {at}/headscale.sock
log: {{ level: warn }}
"#,
            free_port(),
            free_port(),
            free_port()
        );
        std::fs::write(place.path().join("config.yaml"), config).unwrap();
        let server = Command::new("headscale")
            .arg("-c")
            .arg(place.path().join("config.yaml"))
            .arg("serve")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut world = Self {
            place,
            server,
            port,
            drones: String::new(),
        };
        let start = Instant::now();
        while !world.place.path().join("headscale.sock").exists() {
            assert!(
                start.elapsed() < Duration::from_secs(60),
                "headscale is not up"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        world.headscale(&["users", "create", "levin"]);
        let made = world.headscale(&["users", "create", "devcontainer", "-o", "json"]);
        let made: serde_json::Value = serde_json::from_str(&made).unwrap();
        world.drones = made["id"].to_string();
        Some(world)
    }

    /// Runs the `headscale` command; what it prints.
    pub fn headscale(&self, arguments: &[&str]) -> String {
        let output = Command::new("headscale")
            .arg("-c")
            .arg(self.place.path().join("config.yaml"))
            .args(arguments)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "{arguments:?}: {text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        text
    }

    pub fn file(&self, name: &str, content: &str) -> PathBuf {
        // Each in a file of its own: several are in use at once.
        let directory = tempfile::tempdir_in(self.place.path()).unwrap().keep();
        let path = directory.join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    pub fn tailnet(&self, auth_key: Option<&str>, api_key: Option<&str>) -> Tailnet {
        Tailnet {
            login_server: format!("http://127.0.0.1:{}", self.port).parse().unwrap(),
            domain: "tail.example.test".into(),
            user: "devcontainer".into(),
            auth_key_file: auth_key.map(|key| self.file("auth-key", key)),
            api_key_file: api_key.map(|key| self.file("api-key", key)),
        }
    }

    pub fn reusable(&self) -> Tailnet {
        self.with_key(&["--reusable", "--ephemeral", "--expiration", "1h"])
    }

    pub fn with_key(&self, options: &[&str]) -> Tailnet {
        let mut arguments = vec!["preauthkeys", "create", "--user", &self.drones];
        arguments.extend(options);
        let made = self.headscale(&arguments);
        self.tailnet(made.lines().last(), None)
    }

    pub fn api(&self) -> Tailnet {
        let made = self.headscale(&["apikeys", "create"]);
        self.tailnet(None, made.lines().last())
    }

    pub fn state(&self, which: &str) -> PathBuf {
        self.place.path().join(which)
    }

    /// For a machine of a person's.
    pub fn persons(&self) -> Tailnet {
        let made = self.headscale(&["preauthkeys", "create", "--user", "1", "--expiration", "1h"]);
        self.tailnet(made.lines().last(), None)
    }

    /// The number of the one node that there is.
    pub fn node_id(&self) -> String {
        let listed = self.listed();
        assert_eq!(listed.len(), 1, "{listed:?}");
        listed[0]["id"].to_string()
    }

    /// Gives the node with this key another name.
    pub fn rename(&self, node_key: &str, name: &str) {
        let listed = self.listed();
        let node = listed.iter().find(|node| key_of(node) == node_key).unwrap();
        self.headscale(&["nodes", "rename", name, "-i", &node["id"].to_string()]);
    }

    /// Waits until these are the names of the nodes.
    pub async fn until_nodes_are(&self, names: &[&str]) {
        let start = Instant::now();
        while self.nodes() != names {
            assert!(start.elapsed() < Duration::from_secs(30), "not {names:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// How many single-use keys are there that could still be used.
    pub fn unused_keys(&self) -> usize {
        let listed = self.headscale(&["preauthkeys", "list", "-o", "json"]);
        let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap()
            .as_secs();
        let keys = listed.as_array().into_iter().flatten();
        keys.filter(|key| {
            let is = |what: &str| key[what].as_bool().unwrap_or_default();
            let until = key["expiration"]["seconds"].as_u64().unwrap();
            !is("reusable") && !is("used") && until > now
        })
        .count()
    }

    /// The names of the nodes, without the API client that is under test.
    pub fn nodes(&self) -> Vec<String> {
        self.keys().into_iter().map(|(name, _)| name).collect()
    }

    /// The names of the nodes with their keys, by name.
    pub fn keys(&self) -> Vec<(String, String)> {
        let listed = self.listed();
        let named = listed.iter().map(|node| {
            let name = node["given_name"].as_str().unwrap();
            (name.to_owned(), key_of(node))
        });
        let mut keys: Vec<_> = named.collect();
        keys.sort();
        keys
    }

    fn listed(&self) -> Vec<serde_json::Value> {
        let listed = self.headscale(&["nodes", "list", "-o", "json"]);
        serde_json::from_str::<Option<_>>(&listed)
            .unwrap()
            .unwrap_or_default()
    }
}

fn key_of(node: &serde_json::Value) -> String {
    node["node_key"].as_str().unwrap().to_owned()
}
