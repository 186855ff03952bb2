//! What listens in a drone, and what its configuration says of ports.
//!
//! All of it is the drone's own word: its kernel tables are read by its own shell.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use crate::docker::Docker;
use crate::error::{Code, Error, Result};
use crate::ssh;
use crate::ui::clean;

/// How long the look may take.
const WITHIN: Duration = Duration::from_secs(10);
/// How many ports are told.
const MOST: usize = 200;
/// The longest name of a process or a port, in characters.
const LONGEST: usize = 60;

/// Prints the sockets that listen (`proc_pid_net(5)`), the names of all processes, and which of them has which
/// socket; each part after a line `=`. The last is known of one's own processes alone, also to root without
/// `CAP_SYS_PTRACE` (`proc_pid_fd(5)`).
const LOOK: &str = r#"grep -h ' 0A ' /proc/net/tcp /proc/net/tcp6 2> /dev/null
echo =
for file in /proc/[0-9]*/comm; do
  if read -r name < "$file"; then echo "$file $name"; fi
done 2> /dev/null
echo =
ls -l /proc/[0-9]*/fd 2> /dev/null | grep -e '^/proc/' -e 'socket:'
true"#;

/// A socket that listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Where.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// The name of a process that has it, where one was found.
    pub process: Option<String>,
}

/// Who can connect to a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reach {
    /// The tailnet, and what else reaches the drone.
    Tailnet,
    /// Only processes in the drone.
    Drone,
    /// It is in another container of the drone's compose project, which the drone reaches.
    Sibling,
    /// Nothing listens.
    Nowhere,
}

/// A port of a drone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Port {
    /// The service that it belongs to, where that is not the drone's own container.
    pub host: Option<String>,
    /// Its number.
    pub port: u16,
    /// The addresses on which something listens.
    pub addresses: Vec<IpAddr>,
    /// The name of a process that listens.
    pub process: Option<String>,
    /// What the configuration calls it.
    pub label: Option<String>,
    /// `https` where the configuration says so, else `http`.
    pub scheme: &'static str,
    /// Whether the configuration has it in `forwardPorts`.
    pub forwarded: bool,
    /// Who can connect to it.
    pub reach: Reach,
}

/// What listens in this container, but for hatchery's own: sshd and tailscaled, and Docker's resolver. The names of
/// root's processes are told, and those of this user.
pub async fn listeners(docker: &Docker, container: &str, user: &str) -> Result<Vec<Listener>> {
    let inside = docker.inside(container);
    let argv = ["/bin/sh", "-c", LOOK];
    let (root, user) = tokio::join!(
        inside.run_within(WITHIN, "0:0", &argv, b""),
        inside.run_within(WITHIN, user, &argv, b""),
    );
    let output = root?;
    if output.status != 0 {
        return Err(Error::new(
            Code::DroneUnhealthy,
            format!(
                "the listening ports cannot be read in the drone (status {})",
                output.status
            ),
        )
        .hint("check with `hatchery exec` that its /bin/sh and grep work"));
    }
    // What the user sees are names alone.
    let user = user.map(|output| output.stdout).unwrap_or_default();
    Ok(parsed(&output.stdout, &user))
}

/// The processes that have a socket, as one of them is named, by the sockets' inodes.
fn owners(text: &str) -> BTreeMap<&str, &str> {
    let mut parts = text.split("\n=\n").skip(1).map(str::lines);
    let (names, files) = (parts.next(), parts.next());
    let names: BTreeMap<&str, &str> = names
        .into_iter()
        .flatten()
        .filter_map(|line| {
            let (file, name) = line.split_once(' ')?;
            Some((file.strip_suffix("/comm")?, name))
        })
        .collect();
    let mut owners = BTreeMap::new();
    let mut process = "";
    for line in files.into_iter().flatten() {
        if let Some(directory) = line.strip_suffix("/fd:") {
            process = directory;
        } else if let Some((_, inode)) = line.rsplit_once("socket:[")
            && let Some(name) = names.get(process)
        {
            owners.entry(inode.trim_end_matches(']')).or_insert(*name);
        }
    }
    owners
}

/// The sockets of what root has seen, with the processes that root and the user have seen.
fn parsed(root: &str, user: &str) -> Vec<Listener> {
    let mut owners_of = owners(user);
    owners_of.extend(owners(root));
    let sockets = root.lines().take_while(|line| *line != "=");
    let all = sockets.filter_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let (address, port) = fields.nth(1)?.split_once(':')?;
        let process = owners_of.get(fields.nth(7)?);
        Some(Listener {
            address: address_of(address)?,
            port: u16::from_str_radix(port, 16).ok()?,
            process: process.map(|name| shown(name)),
        })
    });
    let is_own = |listener: &Listener| {
        let process = listener.process.as_deref();
        listener.port == ssh::PORT
            || listener.address == IpAddr::V4(Ipv4Addr::new(127, 0, 0, 11))
            || matches!(process, Some("sshd" | "tailscaled"))
    };
    all.filter(|listener| !is_own(listener)).collect()
}

/// An address as the kernel prints it: words of 32 bits, each in this machine's order.
fn address_of(hex: &str) -> Option<IpAddr> {
    let word = |at: usize| {
        let word = u32::from_str_radix(hex.get(at * 8..at * 8 + 8)?, 16).ok()?;
        Some(word.to_ne_bytes())
    };
    match hex.len() {
        8 => Some(IpAddr::V4(word(0)?.into())),
        32 => {
            let mut bytes = [0; 16];
            for at in 0..4 {
                bytes[at * 4..at * 4 + 4].copy_from_slice(&word(at)?);
            }
            Some(Ipv6Addr::from(bytes).to_canonical())
        }
        _ => None,
    }
}

/// A stranger's word, as long as one reads.
fn shown(text: &str) -> String {
    clean::line(text).chars().take(LONGEST).collect()
}

/// The ports that listen or that the configuration forwards, by number, those of siblings last. `metadata` is the
/// merged configuration, of which the later entries count more.
pub fn of(listeners: &[Listener], metadata: &[Value]) -> Vec<Port> {
    let forwarded: BTreeSet<(Option<String>, u16)> = metadata
        .iter()
        .filter_map(|entry| entry.get("forwardPorts")?.as_array())
        .flatten()
        .filter_map(forwarded)
        .collect();
    let own = listeners.iter().map(|listener| (None, listener.port));
    let all: BTreeSet<_> = own.chain(forwarded.iter().cloned()).collect();
    let ports = all.into_iter().take(MOST).map(|key| {
        let (host, port) = &key;
        let here: Vec<_> = listeners
            .iter()
            .filter(|listener| host.is_none() && listener.port == *port)
            .collect();
        let addresses: BTreeSet<_> = here.iter().map(|listener| listener.address).collect();
        let (label, scheme) = attributes(metadata, host.as_deref(), *port);
        Port {
            process: here.iter().find_map(|listener| listener.process.clone()),
            label,
            scheme,
            forwarded: forwarded.contains(&key),
            reach: match host {
                Some(_) => Reach::Sibling,
                None if addresses.is_empty() => Reach::Nowhere,
                None if addresses.iter().copied().any(is_open) => Reach::Tailnet,
                None => Reach::Drone,
            },
            addresses: addresses.into_iter().collect(),
            host: host.clone(),
            port: *port,
        }
    });
    let mut ports: Vec<_> = ports.collect();
    ports.sort_by_key(|port| port.host.is_some());
    ports
}

/// Whether what comes by the tailnet gets there: it is all addresses, or one of a tailnet (Tailscale's
/// `100.64.0.0/10` and `fd7a:115c:a1e0::/48`).
fn is_open(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [first, second, ..] = v4.octets();
            v4.is_unspecified() || (first == 100 && second & 0xc0 == 64)
        }
        IpAddr::V6(v6) => {
            v6.is_unspecified() || v6.segments().starts_with(&[0xfd7a, 0x115c, 0xa1e0])
        }
    }
}

/// An entry of `forwardPorts`: a number, or `"host:port"` (devcontainers specification, "General devcontainer.json
/// properties").
fn forwarded(entry: &Value) -> Option<(Option<String>, u16)> {
    if let Some(number) = entry.as_u64() {
        return Some((None, u16::try_from(number).ok().filter(|port| *port > 0)?));
    }
    let text = entry.as_str()?;
    let (host, port) = text.rsplit_once(':').unwrap_or(("localhost", text));
    let port = port.parse().ok().filter(|port| *port > 0)?;
    let is_service = !host.starts_with(['-', '.'])
        && host.len() <= LONGEST
        && host
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    match host {
        "localhost" | "127.0.0.1" => Some((None, port)),
        host if is_service && !host.is_empty() => Some((Some(host.to_owned()), port)),
        _ => None,
    }
}

/// A port's label and scheme, by `portsAttributes` with its number, a range that it is in, or `host:port`, else by
/// `otherPortsAttributes`. Keys that are patterns for command lines do not count.
fn attributes(metadata: &[Value], host: Option<&str>, port: u16) -> (Option<String>, &'static str) {
    let whole = host.map_or_else(|| port.to_string(), |host| format!("{host}:{port}"));
    let is_in = |key: &str| {
        let range = key.split_once('-').filter(|_| host.is_none());
        let range = range.and_then(|(from, to)| {
            Some(from.trim().parse::<u16>().ok()?..=to.trim().parse().ok()?)
        });
        range.is_some_and(|range| range.contains(&port))
    };
    let named = |name: &str| {
        let own = metadata.iter().rev().find_map(|entry| {
            let all = entry.get("portsAttributes")?.as_object()?;
            let ranged = || {
                all.iter()
                    .find(|(key, _)| is_in(key))
                    .map(|(_, value)| value)
            };
            all.get(&whole).or_else(ranged)?.get(name)?.as_str()
        });
        let other = || {
            let mut entries = metadata.iter().rev();
            entries.find_map(|entry| entry.get("otherPortsAttributes")?.get(name)?.as_str())
        };
        own.or_else(other)
    };
    let scheme = match named("protocol") {
        Some("https") => "https",
        _ => "http",
    };
    (named("label").map(shown), scheme)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    /// As Linux prints it on x86.
    const SEEN: &str = "\
   0: 00000000:0BB8 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 101 1 0 100 0 0 10 0
   1: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 102 1 0 100 0 0 10 0
   2: 0B00007F:9C41 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 103 1 0 100 0 0 10 0
   3: 00000000:08AE 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 104 1 0 100 0 0 10 0
   0: 00000000000000000000000001000000:1F90 00000000000000000000000000000000:0000 0A 0:0 0:0 0 1000 0 105 1 0
   1: 0000000000000000FFFF00000100007F:1F91 00000000000000000000000000000000:0000 0A 0:0 0:0 0 1000 0 106 1 0
   2: 5C117AFD0000E0A10000000001000000:A411 00000000000000000000000000000000:0000 0A 0:0 0:0 0 0 0 107 1 0
=
/proc/7/comm node
/proc/8/comm tailscaled
/proc/9/comm \u{1b}[31mpython3 x
=
/proc/7/fd:
lrwx------ 1 vscode vscode 64 Nov 30 11:00 18 -> socket:[101]
/proc/8/fd:
lrwx------ 1 root root 64 Nov 30 11:00 3 -> socket:[107]
/proc/9/fd:
lrwx------ 1 vscode vscode 64 Nov 30 11:00 3 -> socket:[105]
";

    #[test]
    #[cfg(target_endian = "little")]
    fn what_the_kernel_lists_is_read_and_what_is_hatcherys_is_left_out() {
        // The user sees other processes' sockets than root does.
        let of_user = SEEN.replace("socket:[101]", "socket:[106]");
        let found = parsed(SEEN, &of_user);
        let found: Vec<_> = found
            .iter()
            .map(|it| (it.address.to_string(), it.port, it.process.as_deref()))
            .collect();
        let expected = [
            ("0.0.0.0", 3000, Some("node")),
            ("127.0.0.1", 8080, None),
            ("::1", 8080, Some("python3 x")),
            ("127.0.0.1", 8081, Some("node")),
        ];
        assert_eq!(
            found,
            expected.map(|(address, port, process)| (address.to_owned(), port, process))
        );
        assert_eq!(parsed("=\n/proc/7/comm a\n=\n", ""), []);
    }

    #[test]
    fn a_port_is_told_with_what_the_configuration_says_of_it() {
        let listener = |address: &str, port| Listener {
            address: address.parse().unwrap(),
            port,
            process: None,
        };
        let listeners = [
            listener("::", 3000),
            listener("127.0.0.1", 3000),
            listener("127.0.0.1", 5173),
            listener("172.18.0.2", 9000),
            listener("100.64.0.3", 9001),
        ];
        let metadata = [
            json!({"forwardPorts": [3000, "db:5432", "localhost:8080", 0, 70000, "-x:1", "a b:1", null, {}],
                   "portsAttributes": {"3000": {"label": "old", "protocol": "https"}, "5000-6000": {"label": "dev"},
                                       "db:5432": {"label": "Postgres"}, ".+": {"label": "no"}}}),
            json!({"portsAttributes": {"3000": {"label": "we\u{1b}b"}}, "forwardPorts": 7}),
            json!({"otherPortsAttributes": {"label": "other"}}),
            json!(7),
        ];
        let told: Vec<_> = of(&listeners, &metadata)
            .into_iter()
            .map(|it| {
                (
                    it.host,
                    it.port,
                    it.label.unwrap(),
                    it.scheme,
                    it.forwarded,
                    it.reach,
                )
            })
            .collect();
        let text = str::to_owned;
        assert_eq!(
            told,
            [
                (
                    None,
                    3000,
                    text("we\u{fffd}b"),
                    "https",
                    true,
                    Reach::Tailnet
                ),
                (None, 5173, text("dev"), "http", false, Reach::Drone),
                (None, 8080, text("other"), "http", true, Reach::Nowhere),
                (None, 9000, text("other"), "http", false, Reach::Drone),
                (None, 9001, text("other"), "http", false, Reach::Tailnet),
                (
                    Some(text("db")),
                    5432,
                    text("Postgres"),
                    "http",
                    true,
                    Reach::Sibling
                ),
            ]
        );
    }

    proptest! {
        #[test]
        fn nothing_that_a_drone_says_makes_it_panic(text in "(\\PC|\n|=){0,200}", hex in "\\PC{0,40}", port in "\\PC{0,8}") {
            let seen = format!(" 0: {hex}:{port} 0:0 0A 0 0 0 0 0 1\n=\n{text}\n=\n{text}");
            let found = parsed(&seen, &text);
            let metadata = [json!({"forwardPorts": [text, hex], "portsAttributes": {text: {"label": hex}}})];
            of(&found, &metadata);
        }
    }
}
