//! What is done with the tailnet in a running drone. The drone is not trusted: what it says is
//! bounded and only shown, and it gets nothing that is worth keeping.

use std::net::IpAddr;
use std::time::Duration;

use super::headscale::Headscale;
use super::outside::{refusal, up_arguments};
use super::status::{MAX_STATUS, Status};
use super::{Inside, InsideOutput};
use crate::config::Tailnet;
use crate::drone::DroneName;
use crate::error::{Code, Error, Result};

/// The most peers that are greeted, all at once; each ping is a process in the drone.
const MAX_GREETED: usize = 64;
/// Between two looks at a drone's node. A look is an exec through Docker.
const POLL: Duration = Duration::from_millis(25);
/// How long a status, a logout, the greeting and a join may take in a drone.
const STATUS: Duration = Duration::from_secs(10);
const LOGOUT: Duration = Duration::from_secs(15);
const GREETING: Duration = Duration::from_secs(10);
const REJOIN: Duration = Duration::from_secs(35);

/// Pings every address at once until it answers, a few times, and waits for all: a peer that has
/// not yet heard of this node drops what it sends. `$0` names the script, the addresses follow.
const GREET: &str = r#"for peer in "$@"; do
for try in 1 2 3 4; do
tailscale ping -c 1 --timeout 250ms "$peer" && break
done >/dev/null 2>&1 & done; wait"#;

/// The state of the drone's node. An error means that its tailscaled does not answer.
pub async fn status(drone: &impl Inside) -> Result<Status> {
    let output = bounded(STATUS, drone.run(&["tailscale", "status", "--json"], b"")).await?;
    // With a node that is logged out, `tailscale status` prints the JSON and may end with 1.
    if output.stdout.len() > MAX_STATUS {
        return Err(unhealthy("gives a status larger than 8 MiB"));
    }
    Status::parse(&output.stdout).map_err(|_| match output.status {
        126 | 127 => unhealthy("has no tailscale").hint(
            "add the feature ghcr.io/tailscale/codespace/tailscale, or an image that can run it",
        ),
        _ => unhealthy("does not run tailscaled: it gives no status"),
    })
}

/// Waits until the drone's node is connected, at most `limit`; its status then. Ends at once when
/// the node has lost its registration ([`Status::needs_login`]): it never returns by itself.
pub async fn connected(drone: &impl Inside, limit: Duration) -> Result<Status> {
    let start = tokio::time::Instant::now();
    loop {
        // An error may mean that its tailscaled is starting.
        let answer = status(drone).await;
        let late = start.elapsed() >= limit;
        match &answer {
            Ok(status) if status.is_running() || status.needs_login() => return answer,
            Err(_) if late => return answer,
            Ok(_) if late => {
                return Err(unhealthy(&format!(
                    "is not connected to the tailnet after {} s",
                    limit.as_secs()
                ))
                .hint("check that the drone's network reaches the control server and its relay"));
            }
            _ => tokio::time::sleep(POLL).await,
        }
    }
}

/// Sends one disco ping to every peer that is online, so that their first packet to the drone
/// finds a way; without it a first ssh waits 5 s for the next handshake. How many were greeted.
///
/// One exec, whatever the number of peers: the ping's own answer does not matter.
pub async fn greet(drone: &impl Inside, status: &Status) -> Result<usize> {
    let addresses = whom_to_greet(status);
    if addresses.is_empty() {
        return Ok(0);
    }
    let texts: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
    let mut argv = vec!["sh", "-c", GREET, "greet"];
    argv.extend(texts.iter().map(String::as_str));
    bounded(GREETING, drone.run(&argv, b"")).await?;
    Ok(addresses.len())
}

fn whom_to_greet(status: &Status) -> Vec<IpAddr> {
    status
        .peers
        .iter()
        .filter(|peer| peer.online)
        .filter_map(|peer| peer.addresses.first().copied())
        .take(MAX_GREETED)
        .collect()
}

/// Leaves the tailnet: the control server forgets the node at once and its name is free. A node
/// that was in no tailnet is fine.
pub async fn leave(drone: &impl Inside) -> Result<()> {
    let output = bounded(LOGOUT, drone.run(&["tailscale", "logout"], b"")).await?;
    if output.status == 0 || status(drone).await.is_ok_and(|status| status.needs_login()) {
        return Ok(());
    }
    Err(unhealthy(&format!(
        "did not leave the tailnet: tailscale logout ended with {}",
        output.status
    ))
    .hint("the control server removes its node when its ephemeral timeout is over"))
}

/// Registers a node anew that lost its registration while its drone runs, with a single-use key
/// by standard input. The reusable key is never given to a drone. A node that has its registration
/// keeps it, unless the control server has `forgotten` it: a tailscaled that is connected does not
/// notice that.
pub async fn rejoin(
    drone: &impl Inside,
    tailnet: &Tailnet,
    name: &DroneName,
    forgotten: bool,
) -> Result<Status> {
    let Some(api) = Headscale::new(tailnet)? else {
        return Err(Error::new(
            Code::TailnetRefused,
            format!("{name} has lost its place in the tailnet"),
        )
        .hint(
            "it is registered anew at its next start: hatchery burrow, then unburrow; with \
             tailnet.api_key_file hatchery can do it while the drone runs",
        ));
    };
    // To remove the node of a drone that is in the tailnet would put it out.
    let before = status(drone).await?;
    if !before.needs_login() && !forgotten {
        return called(before, name);
    }
    let (single, _stale) = tokio::try_join!(api.single_use_key(), api.remove(name))?;
    let arguments = up_arguments(tailnet, name);
    let mut argv = vec!["tailscale"];
    argv.extend(arguments.iter().map(String::as_str));
    // Prefs that the drone changed meanwhile must not make this an error.
    argv.push("--reset");
    if forgotten {
        argv.push("--force-reauth");
    }
    let output = bounded(REJOIN, drone.run(&argv, single.key.expose().as_bytes())).await?;
    if output.status != 0 {
        return Err(refusal(&String::from_utf8_lossy(&output.stderr)));
    }
    called(status(drone).await?, name)
}

/// The status, if the node has its drone's name.
fn called(status: Status, name: &DroneName) -> Result<Status> {
    if status.own.is_called(name) {
        return Ok(status);
    }
    Err(Error::new(
        Code::TailnetRefused,
        format!(
            "the drone is {:?} in the tailnet, not {name}",
            status.own.label()
        ),
    )
    .hint("another node holds the name: `headscale nodes list` shows it"))
}

fn unhealthy(what: &str) -> Error {
    Error::new(Code::DroneUnhealthy, format!("the drone {what}"))
}

/// A hostile drone can keep an exec open for as long as it likes.
async fn bounded(
    limit: Duration,
    run: impl Future<Output = Result<InsideOutput>>,
) -> Result<InsideOutput> {
    tokio::time::timeout(limit, run).await.unwrap_or_else(|_| {
        Err(unhealthy(&format!(
            "did not answer within {} s",
            limit.as_secs()
        )))
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// A drone that gives these answers, one after the other, and remembers what was run.
    struct Drone {
        answers: Mutex<Vec<InsideOutput>>,
        ran: Mutex<Vec<Vec<String>>>,
    }

    impl Drone {
        fn saying(answers: &[(i64, &str)]) -> Self {
            let answers = answers.iter().rev().map(|(status, stdout)| InsideOutput {
                status: *status,
                stdout: stdout.as_bytes().to_vec(),
                stderr: Vec::new(),
            });
            Self {
                answers: Mutex::new(answers.collect()),
                ran: Mutex::default(),
            }
        }
    }

    impl Inside for Drone {
        async fn run(&self, argv: &[&str], _stdin: &[u8]) -> Result<InsideOutput> {
            let argv = argv.iter().map(ToString::to_string).collect();
            self.ran.lock().unwrap().push(argv);
            Ok(self.answers.lock().unwrap().pop().unwrap_or_default())
        }
    }

    const LOGGED_OUT: &str = r#"{"BackendState":"NeedsLogin","Self":null}"#;
    const RUNNING: &str = r#"{"BackendState":"Running","Self":{"DNSName":"a-b.t.x.","TailscaleIPs":["100.64.0.9"]},
        "Peer":{"1":{"DNSName":"on.t.x.","TailscaleIPs":["100.64.0.1","fd7a::1"],"Online":true},
        "2":{"DNSName":"off.t.x.","TailscaleIPs":["100.64.0.2"],"Online":false},
        "3":{"DNSName":"odd.t.x.","TailscaleIPs":["--help","$(id)"],"Online":true},
        "4":{"DNSName":"six.t.x.","TailscaleIPs":["fd7a::4"],"Online":true}}}"#;

    #[tokio::test]
    async fn peers_that_are_online_are_greeted_in_one_exec() {
        let drone = Drone::saying(&[(0, "")]);
        let status = Status::parse(RUNNING.as_bytes()).unwrap();
        assert_eq!(greet(&drone, &status).await.unwrap(), 2);
        let ran = drone.ran.lock().unwrap();
        assert_eq!(ran.len(), 1);
        assert_eq!(ran[0][3..], ["greet", "100.64.0.1", "fd7a::4"]);
    }

    #[tokio::test]
    async fn a_drone_with_a_thousand_peers_is_not_flooded_with_processes() {
        let peers: Vec<_> = (0..1000)
            .map(|n| {
                format!(
                    r#""{n}":{{"TailscaleIPs":["100.64.{}.{}"],"Online":true}}"#,
                    n / 250,
                    n % 250
                )
            })
            .collect();
        let json = format!(r#"{{"Peer":{{{}}}}}"#, peers.join(","));
        let status = Status::parse(json.as_bytes()).unwrap();
        assert_eq!(whom_to_greet(&status).len(), MAX_GREETED);
    }

    #[tokio::test]
    async fn nobody_is_waited_for_who_lost_the_registration() {
        let drone = Drone::saying(&[
            (1, ""),
            (0, r#"{"BackendState":"Starting"}"#),
            (1, LOGGED_OUT),
        ]);
        let status = connected(&drone, Duration::from_secs(30)).await.unwrap();
        assert!(status.needs_login());
        assert_eq!(drone.ran.lock().unwrap().len(), 3);
    }

    #[tokio::test]
    async fn a_silent_tailscaled_is_an_error_in_the_end() {
        let drone = Drone::saying(&[]);
        let error = connected(&drone, Duration::from_millis(150))
            .await
            .unwrap_err();
        assert_eq!(error.code(), Code::DroneUnhealthy);
        let drone = Drone::saying(&[(127, "sh: tailscale: not found")]);
        assert!(
            status(&drone)
                .await
                .unwrap_err()
                .message()
                .contains("no tailscale")
        );
    }

    #[tokio::test]
    async fn who_has_left_already_has_left() {
        assert!(leave(&Drone::saying(&[(0, "")])).await.is_ok());
        assert!(
            leave(&Drone::saying(&[(1, ""), (0, LOGGED_OUT)]))
                .await
                .is_ok()
        );
        assert!(
            leave(&Drone::saying(&[(1, ""), (0, RUNNING)]))
                .await
                .is_err()
        );
        assert!(leave(&Drone::saying(&[(1, ""), (1, "")])).await.is_err());
    }

    /// A control server that is away: whoever asks it fails.
    fn away(api_key_file: Option<&std::path::Path>) -> Tailnet {
        Tailnet {
            login_server: "http://127.0.0.1:9".parse().unwrap(),
            domain: "t.x".into(),
            user: "devcontainer".into(),
            auth_key_file: Some("/dev/null".into()),
            api_key_file: api_key_file.map(Into::into),
        }
    }

    #[tokio::test]
    async fn a_node_that_is_registered_is_left_alone() {
        let place = tempfile::tempdir().unwrap();
        let key = place.path().join("key");
        std::fs::write(&key, "k").unwrap();
        let tailnet = away(Some(&key));
        let name = |repo: &str| DroneName::of(&repo.parse().unwrap());
        let drone = Drone::saying(&[(0, RUNNING)]);
        assert!(rejoin(&drone, &tailnet, &name("a/b"), false).await.is_ok());
        let drone = Drone::saying(&[(0, RUNNING)]);
        let error = rejoin(&drone, &tailnet, &name("a/c"), false)
            .await
            .unwrap_err();
        assert_eq!(error.code(), Code::TailnetRefused);
        let drone = Drone::saying(&[(0, LOGGED_OUT)]);
        let error = rejoin(&drone, &tailnet, &name("a/b"), false)
            .await
            .unwrap_err();
        assert_eq!(error.code(), Code::TailnetAway, "this one would be joined");
    }

    #[tokio::test]
    async fn a_drone_never_gets_the_reusable_key() {
        let drone = Drone::saying(&[]);
        let tailnet = away(None);
        let name = DroneName::of(&"a/b".parse().unwrap());
        let error = rejoin(&drone, &tailnet, &name, false).await.unwrap_err();
        assert_eq!(error.code(), Code::TailnetRefused);
        assert!(drone.ran.lock().unwrap().is_empty());
    }
}
