//! What is done with the tailnet in a running drone. The drone is not trusted: what it says is
//! bounded and only shown, and it gets nothing that is worth keeping.

use std::net::IpAddr;
use std::time::Duration;

use super::status::{MAX_STATUS, Status};
use super::{Inside, InsideOutput};
use crate::error::{Code, Error, Result};

/// The most peers that are greeted, all at once; each ping is a process in the drone.
const MAX_GREETED: usize = 64;
/// Between two looks at a drone's node. A look is an exec through Docker.
const POLL: Duration = Duration::from_millis(25);
/// How long a status, a logout, the greeting and starting over may take in a drone.
const STATUS: Duration = Duration::from_secs(10);
const LOGOUT: Duration = Duration::from_secs(15);
const GREETING: Duration = Duration::from_secs(10);
const OVER: Duration = Duration::from_secs(20);

/// Pings every address at once until it answers, a few times, and waits for all: a peer that has
/// not yet heard of this node drops what it sends. `$0` names the script, the addresses follow.
const GREET: &str = r#"for peer in "$@"; do
for try in 1 2 3 4; do
tailscale ping -c 1 --timeout 250ms "$peer" && break
done >/dev/null 2>&1 & done; wait"#;

/// Ends tailscaled and starts it again as it was started (its arguments, and what is its own of its
/// environment), with the state in `$2` in place of the one in `$1`. It is halted meanwhile, so that
/// it writes nothing; what watches over it may be quicker to start it, on the same state. It is gone,
/// and its socket with it, when its last thread is. `$3` is where processes are, `$4` where it logs.
const START_OVER: &str = r#"state=$1 new=$2 proc=$3 log=$4 all=
for process in "$proc"/[0-9]*; do
read -r name < $process/comm && [ -e $process/exe ] || continue
case $name in tailscaled | tailscaled.*) all="$all ${process##*/}" ;; esac
done 2>/dev/null
[ -n "$all" ] || exit 3
gone() {
at=$proc/$1 stat=
read -r stat 2>/dev/null < "$at/stat"
set -- "$at"/task/*
[ $# -le 1 ] && case $stat in '' | *') Z '* | *') X '*) ;; *) false ;; esac
}
for pid in $all; do
words=$(tr '\0' '\n' < "$proc/$pid/environ" | grep '^TS_[A-Z_]*='; tr '\0' '\n' < "$proc/$pid/cmdline")
done
kill -STOP $all || exit 4
mv -f "$new/tailscaled.state" "$state/tailscaled.state" || { kill -CONT $all; exit 4; }
rm -rf "$new"
kill -KILL $all
for pid in $all; do
tries=0
until gone $pid || [ $tries -ge 50 ]; do sleep 0.1; tries=$((tries + 1)); done
done
set --
while IFS= read -r word; do set -- "$@" "$word"; done <<END
$words
END
env "$@" >> "$log" 2>&1 < /dev/null &"#;

/// The state of the drone's node. An error means that its tailscaled does not answer.
pub async fn status(drone: &impl Inside) -> Result<Status> {
    let output = bounded(STATUS, drone.run(&["tailscale", "status", "--json"], b"")).await?;
    // With a node that is logged out, `tailscale status` prints the JSON and may end with 1.
    if output.stdout.len() > MAX_STATUS {
        return Err(unhealthy("reports a status larger than 8 MiB"));
    }
    Status::parse(&output.stdout).map_err(|_| match output.status {
        126 | 127 => unhealthy("has no tailscale").hint(
            "add the feature ghcr.io/tailscale/codespace/tailscale, or an image that can run it",
        ),
        _ => unhealthy("does not run tailscaled, or it reports no status"),
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
    .hint("the control server removes its node after its ephemeral timeout"))
}

/// Has the drone's tailscaled start over on the state in this directory of the drone, as another
/// node; what else runs in the drone goes on. No key is needed in there: the node was registered
/// from outside.
pub async fn start_over(drone: &impl Inside, state: &str, new: &str) -> Result<()> {
    let argv = [
        "sh",
        "-c",
        START_OVER,
        "start-over",
        state,
        new,
        "/proc",
        "/var/log/tailscaled.log",
    ];
    let output = bounded(OVER, drone.run(&argv, b"")).await?;
    match output.status {
        0 => Ok(()),
        3 => Err(unhealthy("does not run tailscaled")),
        _ => Err(unhealthy("did not let its tailscaled restart")),
    }
    .map_err(|error| error.hint("`hatchery burrow`, then `hatchery unburrow`, restart it"))
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

    #[tokio::test]
    async fn a_drone_without_a_tailscaled_cannot_start_it_over() {
        for (status, said) in [(3, "not run tailscaled"), (4, "restart")] {
            let drone = Drone::saying(&[(status, "")]);
            let error = start_over(&drone, "/state", "/new").await.unwrap_err();
            assert!(error.message().contains(said), "{error}");
            assert!(error.what_next().is_some());
        }
    }

    #[test]
    fn a_daemon_starts_over_as_it_was_started() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name).display().to_string();
        let (proc, state, new) = (at("proc"), at("state"), at("new"));
        for directory in [&proc, &state, &new] {
            std::fs::create_dir(directory).unwrap();
        }
        std::fs::write(at("new/tailscaled.state"), "new").unwrap();
        std::fs::write(at("state/tailscaled.state"), "old").unwrap();
        let daemon = at("daemon");
        let script = format!("#!/bin/sh\necho $TS_A $OTHER $* > {}\n", at("started"));
        std::fs::write(&daemon, script).unwrap();
        std::fs::set_permissions(&daemon, std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .unwrap();
        let mut running = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let process = at(&format!("proc/{}", running.id()));
        std::fs::create_dir(&process).unwrap();
        for (file, content) in [
            ("comm", "tailscaled\n".to_owned()),
            ("environ", "OTHER=no\0TS_A=of the node\0".to_owned()),
            ("cmdline", format!("{daemon}\0--a b\0--c\0")),
        ] {
            std::fs::write(format!("{process}/{file}"), content).unwrap();
        }
        let start_over = || {
            std::process::Command::new("sh")
                .args([
                    "-c",
                    START_OVER,
                    "start-over",
                    &state,
                    &new,
                    &proc,
                    &at("log"),
                ])
                .status()
                .unwrap()
                .code()
        };
        // A process that has ended, and that nobody has waited for, has no program any more.
        assert_eq!(start_over(), Some(3));
        for real in ["exe", "stat", "task"] {
            let target = format!("/proc/{}/{real}", running.id());
            std::os::unix::fs::symlink(target, format!("{process}/{real}")).unwrap();
        }
        assert_eq!(start_over(), Some(0));
        assert!(!running.wait().unwrap().success());
        let started = std::iter::repeat_with(|| std::fs::read_to_string(at("started")));
        let started = started
            .inspect(|_| std::thread::sleep(Duration::from_millis(20)))
            .take(500)
            .flatten()
            .find(|text| text.ends_with('\n'));
        assert_eq!(started.as_deref(), Some("of the node --a b --c\n"));
        let state = std::fs::read_to_string(at("state/tailscaled.state"));
        assert_eq!(state.unwrap(), "new");
        assert!(!std::path::Path::new(&new).exists());
    }
}
