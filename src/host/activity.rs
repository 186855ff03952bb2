//! What goes on in a container, as this host's kernel tells it: how long its processes have worked, and
//! whether anybody is connected to it. Nothing runs in the container.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufReader, Read};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use procfs::net::{TcpNetEntries, TcpNetEntry, TcpState};
use procfs::prelude::FromBufReadSI;
use procfs::process::Process;

use super::cgroup;

/// Hatchery's own programs in a drone: they work a little although nobody does.
const OWN: [&str; 4] = ["tailscaled", "sshd", "sshd-session", "sshd-auth"];

/// With more processes than that, a container is at work.
const MANY: usize = 2000;

/// The longest table of sockets that is read, in bytes: some fifty thousand. With more, a container counts as connected.
const LONGEST_TABLE: u64 = 8 * 1024 * 1024;

/// What goes on in a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Activity {
    /// How long processors have worked for it since it was started, but for hatchery's own programs.
    pub worked: Duration,
    /// Whether a client outside is connected to a port of it, as in every ssh session.
    pub connected: bool,
}

/// In the container with this id and this first process. `None` where this host's kernel does not run it.
pub fn of(container: &str, pid: u32) -> Option<Activity> {
    let all = cgroup::processor_time(container, pid)?;
    let Some(processes) = cgroup::processes(container, pid, MANY) else {
        return Some(Activity {
            worked: all,
            connected: true,
        });
    };
    let own = processes.into_iter().filter_map(time_of_own).sum();
    Some(Activity {
        worked: all.saturating_sub(own),
        connected: is_connected(pid),
    })
}

/// How long a process has worked that is one of hatchery's own.
fn time_of_own(pid: i32) -> Option<Duration> {
    let stat = Process::new(pid).ok()?.stat().ok()?;
    OWN.contains(&stat.comm.as_str()).then_some(())?;
    let ticks = stat.utime.saturating_add(stat.stime);
    Some(Duration::from_millis(
        ticks.saturating_mul(1000) / procfs::ticks_per_second().max(1),
    ))
}

fn is_connected(pid: u32) -> bool {
    let mut sockets = Vec::new();
    for table in ["tcp", "tcp6"] {
        match table_of(pid, table) {
            Ok(entries) => sockets.extend(entries),
            Err(TooLong) => return true,
        }
    }
    let sockets = sockets
        .iter()
        .map(|socket| (&socket.state, socket.local_address, socket.remote_address));
    has_guest(sockets)
}

/// A table that is longer than it may be.
struct TooLong;

/// A table of sockets that the container's processes see (`proc_pid_net(5)`); an empty one where it cannot be read.
fn table_of(pid: u32, table: &str) -> Result<Vec<TcpNetEntry>, TooLong> {
    let Ok(file) = File::open(format!("/proc/{pid}/net/{table}")) else {
        return Ok(Vec::new());
    };
    let mut table = BufReader::new(file.take(LONGEST_TABLE));
    let entries = TcpNetEntries::from_buf_read(&mut table, procfs::current_system_info());
    // What was cut off may not be understood.
    if table.get_ref().limit() == 0 {
        return Err(TooLong);
    }
    Ok(entries
        .map(|TcpNetEntries(entries)| entries)
        .unwrap_or_default())
}

/// Whether one of these sockets is a connection to one that listens, from somewhere else.
fn has_guest<'a>(
    sockets: impl Iterator<Item = (&'a TcpState, SocketAddr, SocketAddr)> + Clone,
) -> bool {
    let listening = sockets
        .clone()
        .filter(|(state, ..)| **state == TcpState::Listen);
    let listening: HashSet<u16> = listening.map(|(_, local, _)| local.port()).collect();
    let mut sockets = sockets;
    sockets.any(|(state, local, remote)| {
        *state == TcpState::Established
            && listening.contains(&local.port())
            && !is_here(remote.ip())
    })
}

fn is_here(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_has_come_to_a_port_that_listens() {
        use TcpState::{Established, Listen, TimeWait};
        let socket = |state, local: &str, remote: &str| {
            let [local, remote] = [local, remote].map(|address| address.parse().unwrap());
            (state, local, remote)
        };
        let listens = socket(&Listen, "0.0.0.0:2222", "0.0.0.0:0");
        let listens_on_6 = socket(&Listen, "[::]:2222", "[::]:0");
        let session = socket(&Established, "100.64.0.2:2222", "100.64.0.1:50000");
        let mapped = socket(
            &Established,
            "[::ffff:172.17.0.2]:2222",
            "[::ffff:172.17.0.1]:50000",
        );
        let own = socket(
            &Established,
            "[::ffff:127.0.0.1]:2222",
            "[::ffff:127.0.0.1]:50000",
        );
        let over = socket(&TimeWait, "100.64.0.2:2222", "100.64.0.1:50000");
        let asks = socket(&Established, "172.17.0.2:40000", "140.82.112.3:443");
        let has_guest = |sockets: &[_]| has_guest(sockets.iter().copied());
        assert!(has_guest(&[listens, session]));
        assert!(has_guest(&[listens_on_6, mapped]));
        assert!(!has_guest(&[listens, own, over, asks]));
        assert!(!has_guest(&[session]) && !has_guest(&[]));
    }

    #[test]
    fn this_hosts_own_tables_are_read() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let Ok(sockets) = table_of(std::process::id(), "tcp") else {
            panic!("this host has more sockets than are read");
        };
        let is_it = |socket: &TcpNetEntry| {
            socket.local_address == address && socket.state == TcpState::Listen
        };
        assert!(sockets.iter().any(is_it), "{sockets:?}");
        assert!(table_of(u32::MAX, "tcp").is_ok_and(|sockets| sockets.is_empty()));
    }

    #[test]
    fn of_a_container_that_is_not_there_nothing_is_told() {
        assert_eq!(of("f724", std::process::id()), None);
        assert_eq!(of("f724", u32::MAX), None);
        assert_eq!(time_of_own(-1), None);
    }
}
