//! Where this server sends what it does not keep.

use ipnet::Ipv4Net;

/// The kernel's table of IPv4 routes (proc(5)).
const ROUTES: &str = "/proc/net/route";

/// The destinations of this server's IPv4 routes, the default route left out. None where they
/// cannot be read.
pub fn destinations() -> Vec<Ipv4Net> {
    parse(&std::fs::read_to_string(ROUTES).unwrap_or_default())
}

fn parse(table: &str) -> Vec<Ipv4Net> {
    let route = |line: &str| {
        let mut fields = line.split_ascii_whitespace();
        let (destination, mask) = (fields.nth(1)?, fields.nth(5)?);
        // In the order of bytes that the network has, printed as this machine's numbers.
        let address = |hex: &str| {
            let number = u32::from_str_radix(hex, 16).ok()?;
            Some(std::net::Ipv4Addr::from(number.to_ne_bytes()))
        };
        let route = Ipv4Net::with_netmask(address(destination)?, address(mask)?).ok()?;
        (route.prefix_len() > 0).then_some(route)
    };
    table.lines().skip(1).filter_map(route).collect()
}

#[cfg(all(test, target_endian = "little"))]
mod tests {
    use super::*;

    #[test]
    fn destinations_are_read_and_the_default_route_is_none() {
        let table = "\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t0102A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0
docker0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0
vpn0\t0400BD0A\t00000000\t0001\t0\t0\t0\tFFFFFFFF\t0\t0\t0
odd\tx\t0\t0\t0\t0\t0\t0000FFFF\t0\t0\t0
short\t000011AC\n";
        let found: Vec<_> = parse(table).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["172.17.0.0/16", "10.189.0.4/32"]);
    }
}
