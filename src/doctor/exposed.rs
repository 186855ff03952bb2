//! What there is on this server that a container should not reach.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use crate::http;
use crate::tailnet::Status;
use crate::tailnet::status::MAX_STATUS;

/// Where the server's own tailscaled listens.
const TAILSCALED: &str = "/var/run/tailscale/tailscaled.sock";
/// How long it may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// `LISTEN` in the kernel's table of connections (`include/net/tcp_states.h`).
const LISTEN: &str = "0A";

/// This server's addresses, without loopback and link-local ones.
pub(super) fn addresses() -> Vec<IpAddr> {
    let all = if_addrs::get_if_addrs().unwrap_or_default();
    all.into_iter()
        .filter(|interface| !interface.is_loopback() && !interface.is_link_local())
        .map(|interface| interface.ip())
        .collect()
}

/// The TCP ports on which this server listens for others than itself.
pub(super) fn ports() -> BTreeSet<u16> {
    ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|table| std::fs::read_to_string(table).ok())
        .flat_map(|table| listening(&table))
        .collect()
}

/// The ports in one of the kernel's tables (the kernel's own documentation, `proc_net_tcp`).
fn listening(table: &str) -> Vec<u16> {
    let port = |line: &str| {
        let mut words = line.split_whitespace().skip(1);
        let (address, port) = words.next()?.split_once(':')?;
        if words.nth(1)? != LISTEN {
            return None;
        }
        // Addresses are 32-bit words in the machine's own order: 127.x.x.x and ::1 at its ends.
        let loopback = match address.len() {
            8 => address.ends_with("7F"),
            _ => address == "00000000000000000000000001000000" || address.ends_with("7F"),
        };
        if loopback {
            return None;
        }
        u16::from_str_radix(port, 16).ok()
    };
    table.lines().filter_map(port).collect()
}

/// What the server's own tailscaled says; `None` where none runs.
pub(super) async fn tailnet() -> Option<Status> {
    let client = http::unix_client(TAILSCALED.as_ref(), ANSWER_WITHIN).ok()?;
    let answer = client
        .get("http://local-tailscaled.sock/localapi/v0/status")
        .send()
        .await
        .ok()?;
    let body = http::body(answer, MAX_STATUS).await.ok()?;
    Status::parse(&body).ok().filter(Status::is_running)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_of_others_than_the_server_itself() {
        let table = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1
   1: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 2 1
   2: 0450D50A:01BB 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 3 1
   3: 0450D50A:D431 0250D50A:0050 01 00000000:00000000 00:00000000 00000000     0        0 4 1
   4: 00000000000000000000000000000000:1A0A 00000000000000000000000000000000:0000 0A 0 0
   5: 00000000000000000000000001000000:1A0B 00000000000000000000000000000000:0000 0A 0 0
   6: 0000000000000000FFFF00000100007F:1A0C 00000000000000000000000000000000:0000 0A 0 0
";
        assert_eq!(listening(table), [22, 443, 0x1a0a]);
    }

    #[test]
    fn this_machine_has_its_own_listeners() {
        let listener = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(ports().contains(&port));
        drop(listener);
        // A program that another test is starting holds it, too, until it runs.
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while ports().contains(&port) {
            assert!(std::time::Instant::now() < deadline, "{port} stays");
            std::thread::yield_now();
        }
    }
}
