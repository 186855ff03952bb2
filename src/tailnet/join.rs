//! Joining the tailnet from outside: the node is registered on this server, before its drone
//! runs, and its state is then put into the drone.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::headscale::{Headscale, away};
use super::names::Owners;
use super::outside::Outside;
use super::status::Peer;
use crate::config::Tailnet;
use crate::drone::DroneName;
use crate::error::{Code, Error, Result, host_io};
use crate::failpoint::{self, Point};
use crate::http;
use crate::secret::Secret;

/// How long a join may take, in all.
const LIMIT: Duration = Duration::from_secs(90);
/// How long a node may take to hear that the control server has renamed it.
const RENAME: Duration = Duration::from_secs(10);
/// How long forgetting may take.
const FORGET: Duration = Duration::from_secs(45);
/// How long the control server may take to answer at all.
const ANSWER: Duration = Duration::from_secs(20);
/// How long it may take to end a key that was not used.
const EXPIRE: Duration = Duration::from_secs(10);
/// How long a node that was registered before may take to wake up.
const WAKE: Duration = Duration::from_secs(30);
/// For how long a node that does not run is known for certain: Headscale takes no ephemeral
/// timeout of 65 s or less, and the drone has yet to start.
const KNOWN: Duration = Duration::from_secs(30);

/// A node that is registered and does not run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    /// Its name in the tailnet's DNS, without the final dot.
    pub dns_name: String,
    /// Its addresses, IPv4 first.
    pub addresses: Vec<IpAddr>,
    /// `nodekey:…`, its public key.
    pub node_key: String,
    at: Instant,
}

impl Joined {
    fn now(own: Peer) -> Self {
        Self {
            dns_name: own.dns_name,
            addresses: own.addresses,
            node_key: own.key,
            at: Instant::now(),
        }
    }

    /// Whether the control server may soon forget it, or has done so.
    pub fn is_old(&self) -> bool {
        self.at.elapsed() > KNOWN
    }
}

/// A tailscaled that is to register a drone's node, but not yet: it starts meanwhile. Killed when dropped.
#[derive(Debug)]
pub struct Waiting {
    outside: Outside,
    state: PathBuf,
}

impl Waiting {
    /// Starts it, on a directory as [`join`] takes it.
    pub async fn start(tailnet: &Tailnet, state: &Path) -> Result<Self> {
        Ok(Self {
            outside: Outside::start(state, tailnet).await?,
            state: state.to_owned(),
        })
    }

    /// Does what [`join`] does.
    pub async fn join(
        self,
        tailnet: &Tailnet,
        name: &DroneName,
        owners: &Owners,
    ) -> Result<Joined> {
        let mut made = None;
        let registering = register(self, tailnet, name, owners, &mut made);
        let joined = tokio::time::timeout(LIMIT, registering)
            .await
            .unwrap_or_else(|_| {
                Err(away(
                    &tailnet.login_server,
                    format!("the node was not registered within {} s", LIMIT.as_secs()),
                ))
            });
        if let (Err(_), Some(key), Some(api)) = (&joined, made, Headscale::new(tailnet)?) {
            // It ends by itself within minutes; what is told is why there is no node.
            let _ = tokio::time::timeout(EXPIRE, api.expire_key(key)).await;
        }
        joined
    }

    /// Whether it can still do that.
    pub fn runs(&mut self) -> bool {
        self.outside.runs()
    }
}

/// Registers the drone's node and leaves its state in the directory `state`, which is made where
/// it is absent and should be empty. What is in it then belongs into the drone's
/// `/var/lib/tailscale`: its tailscaled wakes up as that node.
///
/// No drone of this name may be in the tailnet. Where there is a key for the API, the name is made
/// free first ([`Headscale::free`]): `owners` says which nodes are those of other drones. Dropping
/// the future stops everything that it started.
pub async fn join(
    tailnet: &Tailnet,
    name: &DroneName,
    owners: &Owners,
    state: &Path,
) -> Result<Joined> {
    let waiting = Waiting::start(tailnet, state).await?;
    waiting.join(tailnet, name, owners).await
}

/// Sees to it that the control server knows a node that was registered a while ago, for as long
/// as it takes to start its drone: the node wakes up on its state, and is registered anew where it
/// was forgotten meanwhile.
pub async fn refresh(
    tailnet: &Tailnet,
    name: &DroneName,
    owners: &Owners,
    state: &Path,
) -> Result<Joined> {
    let waking = async {
        let mut outside = Outside::wake(state, tailnet).await?;
        let status = outside
            .wait_for(|status| status.is_running() || status.needs_login())
            .await?;
        outside.kill().await;
        Ok::<_, Error>(status)
    };
    match tokio::time::timeout(WAKE, waking).await {
        Ok(Ok(status)) if status.is_running() && status.own.is_called(name) => {
            check_state(state).await?;
            Ok(Joined::now(status.own))
        }
        Ok(Err(error)) => Err(error),
        // Where the control server is away, the join says so.
        _ => {
            tokio::fs::remove_dir_all(state)
                .await
                .map_err(|error| host_io("remove", state, error))?;
            join(tailnet, name, owners, state).await
        }
    }
}

/// `made` is the number of the single-use key, as soon as there is one.
async fn register(
    waiting: Waiting,
    tailnet: &Tailnet,
    name: &DroneName,
    owners: &Owners,
    made: &mut Option<u64>,
) -> Result<Joined> {
    let Waiting { mut outside, state } = waiting;
    let api = Headscale::new(tailnet)?;
    let mut own = if let Some(api) = &api {
        let (single, freed) = tokio::join!(api.single_use_key(), api.free(name, owners));
        let single = single?;
        *made = Some(single.id);
        failpoint::reached(Point::NodeKeyMade);
        freed?;
        outside.up(tailnet, name, &single.key).await?
    } else {
        let key = reusable_key(tailnet)?;
        tokio::try_join!(outside.up(tailnet, name, &key), answers(tailnet))?.0
    };
    failpoint::reached(Point::NodeRegistered);
    if !own.is_called(name) {
        match claim(&mut outside, api.as_ref(), name, owners, &own).await {
            Ok(renamed) => own = renamed,
            Err(error) => {
                // The error that is told is why the name was not got.
                let _ = outside.logout().await;
                outside.kill().await;
                return Err(error);
            }
        }
    }
    outside.kill().await;
    check_state(&state).await?;
    Ok(Joined::now(own))
}

fn reusable_key(tailnet: &Tailnet) -> Result<Secret> {
    let file = tailnet.auth_key_file.as_ref().ok_or_else(|| {
        Error::new(
            Code::ConfigInvalid,
            "neither tailnet.auth_key_file nor tailnet.api_key_file is set",
        )
    })?;
    Secret::read(file, "tailnet.auth_key_file")
}

/// Whether the control server answers at all: tailscaled would try for ever and not say.
async fn answers(tailnet: &Tailnet) -> Result<()> {
    http::client(ANSWER, reqwest::redirect::Policy::none())?
        .get(tailnet.login_server.clone())
        .send()
        .await
        .map(drop)
        .map_err(|error| away(&tailnet.login_server, error.without_url()))
}

/// Another node has the name, and this one has it with a suffix: gives the name to this node, and
/// waits until it knows.
async fn claim(
    outside: &mut Outside,
    api: Option<&Headscale>,
    name: &DroneName,
    owners: &Owners,
    own: &Peer,
) -> Result<Peer> {
    let Some(api) = api else {
        return Err(Error::new(
            Code::TailnetRefused,
            format!(
                "the name {name} is held by another node of the tailnet (the drone would be {})",
                own.label()
            ),
        )
        .hint("find its ID with `headscale nodes list` and remove it with `headscale nodes delete -i ID`, or \
             set tailnet.api_key_file so that hatchery does this; Headscale removes a killed drone's node \
             after its ephemeral timeout"));
    };
    api.give(name, &own.key, owners).await?;
    let renamed = outside.wait_for(|status| status.own.is_called(name));
    match tokio::time::timeout(RENAME, renamed).await {
        Ok(status) => Ok(status?.own),
        Err(_) => Err(Error::new(
            Code::TailnetRefused,
            format!("the control server did not give the name {name} to the drone's node"),
        )
        .hint("try again")),
    }
}

/// Whether the state can be read by another tailscaled: plain JSON with a profile in it.
async fn check_state(state: &Path) -> Result<()> {
    let file = state.join("tailscaled.state");
    let whole = tokio::fs::read(&file)
        .await
        .ok()
        .and_then(|bytes| serde_json::from_slice::<serde_json::Value>(&bytes).ok())
        .and_then(|json| {
            let has = |wanted: &str| json.as_object()?.keys().find(|key| key.starts_with(wanted));
            has("_machinekey").and(has("profile-")).map(drop)
        })
        .is_some();
    if whole {
        return Ok(());
    }
    Err(Error::new(
        Code::HostFailed,
        "tailscaled joined the tailnet but left no state that a drone could take over",
    )
    .hint("if a policy of this server encrypts Tailscale's state (EncryptState), exempt hatchery"))
}

/// Undoes a join: the drone's node leaves the tailnet. Through the API where there is a key for it
/// ([`Headscale::remove`]), else as the node itself, from its state directory, if its drone does not
/// run. Without either it is left to the control server's ephemeral timeout, and that is an error
/// that says so.
pub async fn forget(
    tailnet: &Tailnet,
    name: &DroneName,
    owners: &Owners,
    state: Option<&Path>,
) -> Result<()> {
    let forgotten = async {
        if let Some(api) = Headscale::new(tailnet)? {
            api.remove(name, owners).await?;
            failpoint::reached(Point::NodeForgotten);
            return Ok(());
        }
        let Some(state) = state else {
            return Err(Error::new(
                Code::TailnetRefused,
                format!("hatchery cannot remove the tailnet node {name}"),
            )
            .hint(
                "Headscale removes it after its ephemeral timeout; with tailnet.api_key_file set, hatchery \
                 can remove it",
            ));
        };
        let mut outside = Outside::start(state, tailnet).await?;
        outside
            .wait_for(|status| status.is_registered() || status.needs_login())
            .await?;
        let left = outside.logout().await;
        outside.kill().await;
        left
    };
    tokio::time::timeout(FORGET, forgotten)
        .await
        .unwrap_or_else(|_| {
            Err(away(
                &tailnet.login_server,
                format!("{name} was not removed within {} s", FORGET.as_secs()),
            ))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tailnet(server: &str, key: &Path) -> Tailnet {
        Tailnet {
            login_server: server.parse().unwrap(),
            domain: "t.example".into(),
            user: "devcontainer".into(),
            auth_key_file: Some(key.to_owned()),
            api_key_file: None,
        }
    }

    #[tokio::test]
    async fn a_control_server_that_is_away_is_told_at_once() {
        let place = tempfile::tempdir().unwrap();
        let key = place.path().join("key");
        std::fs::write(&key, "hskey-auth-SECRET").unwrap();
        // The discard port: nobody listens there.
        let mut away = tailnet("http://127.0.0.1:9", &key);
        let name = DroneName::of(&"acme/site".parse().unwrap());
        let error = answers(&away).await.unwrap_err();
        assert_eq!(error.code(), Code::TailnetAway);
        away.api_key_file = away.auth_key_file.take();
        let error = forget(&away, &name, &Owners::default(), None)
            .await
            .unwrap_err();
        assert_eq!(error.code(), Code::TailnetAway);
        assert!(!format!("{error:?}").contains("SECRET"));
    }

    #[tokio::test]
    async fn a_state_that_a_drone_could_not_read_is_an_error() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("tailscaled.state");
        for (content, fine) in [
            (&br#"{"_machinekey":"x","profile-1":"y"}"#[..], true),
            (br#"{"_machinekey":"x"}"#, false),
            (br#"{"key":"sealed","nonce":"","data":""}"#, false),
            (b"", false),
        ] {
            std::fs::write(&file, content).unwrap();
            assert_eq!(check_state(place.path()).await.is_ok(), fine);
        }
    }
}
