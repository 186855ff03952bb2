//! A Docker that writes down what it is asked.

use std::convert::Infallible;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CONNECTION, UPGRADE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;

#[derive(Default)]
struct Asked {
    lines: Vec<String>,
    bodies: Vec<Vec<u8>>,
    headers: Vec<String>,
    kinds: Vec<String>,
    logins: Vec<String>,
    starts_fail: bool,
    surprises: bool,
    networks: Vec<Value>,
    refused: Vec<String>,
    creates_slowly: bool,
    created: usize,
}

pub struct Fake {
    pub host: String,
    asked: Arc<Mutex<Asked>>,
}

impl Fake {
    pub fn start(socket: &Path) -> Self {
        let listener = UnixListener::bind(socket).unwrap();
        let asked = Arc::new(Mutex::new(Asked::default()));
        let shared = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let asked = Arc::clone(&shared);
                tokio::spawn(async move {
                    let service = service_fn(move |request| answer(Arc::clone(&asked), request));
                    let _ = http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .with_upgrades()
                        .await;
                });
            }
        });
        Self {
            host: format!("unix://{}", socket.display()),
            asked,
        }
    }

    /// The first lines of all requests until now.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().lines.clone()
    }

    /// The names of all headers until now.
    pub fn headers(&self) -> Vec<String> {
        self.asked.lock().unwrap().headers.clone()
    }

    /// The body of the request with this first line.
    pub fn body(&self, line: &str) -> Value {
        let asked = self.asked.lock().unwrap();
        let at = asked.lines.iter().position(|asked| asked == line);
        let at = at.unwrap_or_else(|| panic!("{line} is not in {:?}", asked.lines));
        serde_json::from_slice(&asked.bodies[at]).unwrap()
    }

    /// The types of all bodies until now.
    pub fn kinds(&self) -> Vec<String> {
        self.asked.lock().unwrap().kinds.clone()
    }

    /// The logins of registries that were handed over until now.
    pub fn logins(&self) -> Vec<String> {
        self.asked.lock().unwrap().logins.clone()
    }

    /// The image is another than was shown.
    pub fn surprise(&self) {
        self.asked.lock().unwrap().surprises = true;
    }

    /// A network of somebody's.
    pub fn has_network(&self, name: &str, subnet: &str) {
        let ipam = json!({"Driver": "default", "Config": [{"Subnet": subnet}]});
        let network = json!({"Name": name, "Id": name, "Driver": "bridge", "IPAM": ipam});
        self.asked.lock().unwrap().networks.push(network);
    }

    /// A network of the drone's project, from an earlier spawn.
    pub fn has_project_network(&self, name: &str) {
        let labels = json!({"com.docker.compose.project": "acme-site"});
        let network =
            json!({"Name": format!("acme-site_{name}"), "Driver": "bridge", "Labels": labels});
        self.asked.lock().unwrap().networks.push(network);
    }

    /// These addresses are some device's.
    pub fn refuses_subnet(&self, subnet: &str) {
        self.asked.lock().unwrap().refused.push(subnet.to_owned());
    }

    /// All networks.
    pub fn networks(&self) -> Vec<Value> {
        self.asked.lock().unwrap().networks.clone()
    }

    /// A container takes a while.
    pub fn create_slowly(&self) {
        self.asked.lock().unwrap().creates_slowly = true;
    }

    /// How many containers there are.
    pub fn created(&self) -> usize {
        self.asked.lock().unwrap().created
    }

    pub fn fail_starts(&self) {
        self.asked.lock().unwrap().starts_fail = true;
    }
}

async fn answer(
    asked: Arc<Mutex<Asked>>,
    mut request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let line = format!("{} {}", request.method(), request.uri());
    let upgrade = hyper::upgrade::on(&mut request);
    let upgrades = request.headers().contains_key(UPGRADE);
    let names: Vec<String> = request.headers().keys().map(ToString::to_string).collect();
    let kind = request.headers().get("content-type").cloned();
    let kind = kind.map(|kind| kind.to_str().unwrap().to_owned());
    let login = request.headers().get("x-registry-auth").cloned();
    let login = login.map(|login| login.to_str().unwrap().to_owned());
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let (starts_fail, surprises, slow) = {
        let mut asked = asked.lock().unwrap();
        asked.lines.push(line.clone());
        asked.bodies.push(body.to_vec());
        asked.headers.extend(names);
        asked.kinds.extend(kind);
        asked.logins.extend(login);
        (asked.starts_fail, asked.surprises, asked.creates_slowly)
    };
    if upgrades {
        tokio::spawn(async move {
            let mut stream = TokioIo::new(upgrade.await.unwrap());
            // Says everything again, until the other side is silent.
            let mut said = Vec::new();
            stream.read_to_end(&mut said).await.unwrap();
            stream.write_all(&said).await.unwrap();
            stream.shutdown().await.unwrap();
        });
        let mut response = Response::new(Full::default());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        response
            .headers_mut()
            .insert(CONNECTION, "Upgrade".parse().unwrap());
        response
            .headers_mut()
            .insert(UPGRADE, "tcp".parse().unwrap());
        return Ok(response);
    }
    if line.contains("/containers/create") {
        if slow {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        asked.lock().unwrap().created += 1;
    }
    let path = line.replace("/v1.41", "");
    let of_networks = match path.split('?').next().unwrap_or_default() {
        "GET /networks" => Some((200, Value::Array(asked.lock().unwrap().networks.clone()))),
        "POST /networks/create" => Some(create(&mut asked.lock().unwrap(), &body)),
        _ => None,
    };
    let usual = || told(line.split('?').next().unwrap(), starts_fail, surprises);
    let (status, body) = of_networks.unwrap_or_else(usual);
    let mut response = Response::new(Full::from(body.to_string()));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    Ok(response)
}

/// A new network. Docker gives each range once.
fn create(asked: &mut Asked, body: &[u8]) -> (u16, Value) {
    let body: Value = serde_json::from_slice(body).unwrap();
    let subnet = |network: &Value| network["IPAM"]["Config"][0]["Subnet"].clone();
    let there = asked
        .networks
        .iter()
        .any(|other| subnet(other) == subnet(&body));
    let refused = asked
        .refused
        .iter()
        .any(|refused| subnet(&body) == **refused);
    if there || refused {
        let message = "Pool overlaps with other one on this address space";
        return (403, json!({"message": message}));
    }
    asked.networks.push(body);
    (201, json!({"Id": "n9", "Warning": ""}))
}

/// What Docker says to this method and path.
fn told(line: &str, starts_fail: bool, surprises: bool) -> (u16, Value) {
    let line = line.replace("/v1.41", "");
    match line.as_str() {
        "GET /images/base/json" => (
            200,
            json!({"Id": "sha256:0123", "RepoTags": ["base:latest"], "Config": {}}),
        ),
        "GET /images/others/json" => {
            let labels = json!({"hatchery.drone": "acme-other"});
            (
                200,
                json!({"Id": "sha256:4567", "Config": {"Labels": labels}}),
            )
        }
        "GET /images/ghcr.io/acme/base:1/json" | "GET /images/sha256:9999/json" => {
            // Another drone's build has given it a name of its own.
            let tags = json!(["ghcr.io/acme/base:1", "vsc-other-0123"]);
            let digests = json!(["ghcr.io/acme/base@sha256:89ab"]);
            let image = json!({"Id": "sha256:9999", "RepoTags": tags, "RepoDigests": digests, "Config": {}});
            (200, image)
        }
        "GET /images/mirrored/json" => {
            let tags = json!(["ghcr.io/acme/mirror:1", "debian:12"]);
            (
                200,
                json!({"Id": "sha256:7777", "RepoTags": tags, "Config": {}}),
            )
        }
        "GET /images/json" => {
            let images = [
                json!({"Id": "1", "RepoTags": ["debian:12"], "RepoDigests": null, "Labels": null}),
                json!({"Id": "2", "RepoTags": ["ghcr.io/acme/base:1"], "Labels": {}}),
                json!({"Id": "3", "RepoTags": ["<none>:<none>"], "RepoDigests": ["ghcr.io/acme/base@sha256:89ab"]}),
            ];
            (200, json!(images))
        }
        "POST /images/create" => (200, json!({"status": "pulled"})),
        "GET /networks/acme-site" => {
            let labels = json!({"hatchery.drone": "acme-site"});
            let network =
                json!({"Id": "n1", "Name": "acme-site", "Driver": "bridge", "Labels": labels});
            (200, network)
        }
        "GET /networks/bridge" => (
            200,
            json!({"Id": "n2", "Name": "bridge", "Driver": "bridge"}),
        ),
        "GET /volumes/acme-site_host" => {
            let host = json!({"device": "/", "o": "bind"});
            let volume = json!({"Name": "acme-site_host", "Driver": "local", "Mountpoint": "/x",
                "Labels": {}, "Scope": "local", "Options": host});
            (200, volume)
        }
        "GET /containers/aaaa/json" if surprises => {
            let labels = json!({"traefik.enable": "true"});
            (200, json!({"Id": "aaaa", "Config": {"Labels": labels}}))
        }
        "GET /containers/aaaa/json" => (200, json!({"Id": "aaaa", "Config": {}})),
        "GET /containers/bbbb/json" => {
            let clone = json!({"Type": "volume", "Name": "acme-site"});
            let mounts = json!([{"Type": "volume", "Name": "a".repeat(64)}, clone]);
            (200, json!({"Id": "bbbb", "Config": {}, "Mounts": mounts}))
        }
        "DELETE /containers/aaaa" => (204, Value::Null),
        "GET /containers/json" => (200, json!([{"Id": "bbbb"}, {"Id": "cccc"}])),
        "POST /containers/create" => (201, json!({"Id": "aaaa", "Warnings": []})),
        line if line.ends_with("/start") && starts_fail => {
            (500, json!({"message": "no such runtime"}))
        }
        line if line.ends_with("/start") => (204, Value::Null),
        line if line.starts_with("GET /_ping") => (200, json!("OK")),
        _ => (404, json!({"message": "not here"})),
    }
}
