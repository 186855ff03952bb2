//! Which hosts and addresses the outlet leads to.
//!
//! What is closed to drones by `systemd/hatchery.nft` is closed here; what is open to them, the
//! internet and the LAN, is open here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use if_addrs::{IfAddr, Interface};
use ipnet::{Ipv4Net, Ipv6Net};

use crate::config::Subnets;
use crate::devcontainer::judging::images;
use crate::docker::is_a_bridge;

/// The longest name (RFC 1035, section 2.3.4).
const MAX_NAME: usize = 253;

const NO_NAME: &str = "it is not the name of a host";
const SERVER: &str = "it is an address of this server";
const NEIGHBOUR: &str = "it is a link-local address, where clouds have their metadata service";
const TAILNET: &str = "it is in the tailnet";
const CLOUD: &str = "it is an address of the cloud's own services";
const CONTAINERS: &str = "it is an address of a container on this server";
const NOBODY: &str = "it is not the address of a single host";

/// Why a host may not be connected to, by its name alone; `None` if it may.
pub fn name(host: &str) -> Option<&'static str> {
    let plain = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'-' | b'_');
    if let Some(why) = images::barred_host(host) {
        return Some(why);
    }
    let is_one = host.len() <= MAX_NAME && host.bytes().all(plain);
    (!is_one).then_some(NO_NAME)
}

/// Why a host with these addresses may not be connected to; `None` if it may. One forbidden address is enough:
/// a name that has one beside others is not to be trusted with the rest. `pool` is where drones' networks get
/// their addresses from.
pub fn addresses(
    all: impl IntoIterator<Item = IpAddr>,
    interfaces: &[Interface],
    pool: &Subnets,
) -> Option<&'static str> {
    all.into_iter()
        .flat_map(meanings)
        .find_map(|address| address_is(address, interfaces, pool))
}

/// An address, and the IPv4 address that a gateway or the kernel takes it for.
fn meanings(address: IpAddr) -> Vec<IpAddr> {
    let mut all = vec![address];
    if let IpAddr::V6(address) = address {
        all.extend(within(address).map(IpAddr::V4));
    }
    all
}

/// The IPv4 address in an IPv6 one: mapped and compatible (RFC 4291), NAT64 (RFC 6052, RFC 8215),
/// 6to4 (RFC 3056).
fn within(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let parts = address.segments();
    let ipv4 = |high: u16, low: u16| Ipv4Addr::from(u32::from(high) << 16 | u32::from(low));
    match parts {
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] | [0x64, 0xff9b, 0 | 1, _, _, _, high, low] => {
            Some(ipv4(high, low))
        }
        [0x2002, high, low, ..] => Some(ipv4(high, low)),
        _ => None,
    }
}

fn address_is(address: IpAddr, interfaces: &[Interface], pool: &Subnets) -> Option<&'static str> {
    if address.is_loopback() || address.is_unspecified() {
        return Some(SERVER);
    }
    if interfaces.iter().any(|own| own.ip() == address) {
        return Some(SERVER);
    }
    let of_a_container = interfaces
        .iter()
        .any(|own| is_a_bridge(&own.name) && is_on(address, &own.addr));
    if of_a_container {
        return Some(CONTAINERS);
    }
    match address {
        IpAddr::V4(address) => ipv4_is(address, pool),
        IpAddr::V6(address) => ipv6_is(address),
    }
}

/// Whether an address is of the network that this interface is on.
fn is_on(address: IpAddr, own: &IfAddr) -> bool {
    match (address, own) {
        (IpAddr::V4(address), IfAddr::V4(own)) => {
            Ipv4Net::with_netmask(own.ip, own.netmask).is_ok_and(|net| net.contains(&address))
        }
        (IpAddr::V6(address), IfAddr::V6(own)) => {
            Ipv6Net::with_netmask(own.ip, own.netmask).is_ok_and(|net| net.contains(&address))
        }
        _ => false,
    }
}

fn ipv4_is(address: Ipv4Addr, pool: &Subnets) -> Option<&'static str> {
    if pool.contains(address) {
        return Some(CONTAINERS);
    }
    match address.octets() {
        [0 | 127, ..] => Some(SERVER),
        [169, 254, ..] => Some(NEIGHBOUR),
        [100, 64..=127, ..] => Some(TAILNET),
        // Azure's and Oracle's.
        [168, 63, 129, 16] | [192, 0, 0, _] => Some(CLOUD),
        [224..=255, ..] => Some(NOBODY),
        _ => None,
    }
}

fn ipv6_is(address: Ipv6Addr) -> Option<&'static str> {
    /// Amazon's metadata service.
    const METADATA: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
    if address == METADATA {
        return Some(CLOUD);
    }
    match address.segments() {
        [0xfe80..=0xfebf, ..] => Some(NEIGHBOUR),
        [0xfd7a, 0x115c, 0xa1e0, ..] => Some(TAILNET),
        [0xff00..=0xffff, ..] => Some(NOBODY),
        _ => None,
    }
}
