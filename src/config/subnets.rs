//! The pool of addresses that drones' networks come from.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

/// The size of one network, as a prefix length: 29 addresses for containers, more than a compose
/// project may have.
pub const BLOCK: u8 = 27;

/// The most ranges that a pool may have.
const MOST: usize = 16;

/// Which addresses are private (RFC 1918).
const PRIVATE: [(Ipv4Addr, u8); 3] = [
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
];

/// `docker.subnets`: private IPv4 ranges, of which each network of a drone gets a block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct Subnets(Vec<Ipv4Net>);

impl Default for Subnets {
    /// Out of the way of Docker's own pools (172.17.0.0/16 and up, 192.168.0.0/16), of tailnets
    /// (100.64.0.0/10), and of what Kubernetes, Podman and home routers usually take of 10.0.0.0/8.
    fn default() -> Self {
        let range = Ipv4Net::new_assert(Ipv4Addr::new(10, 189, 0, 0), 16);
        Self(vec![range])
    }
}

impl TryFrom<Vec<String>> for Subnets {
    type Error = String;

    fn try_from(texts: Vec<String>) -> Result<Self, String> {
        if texts.is_empty() {
            return Err("is empty; leave it out for the default".to_owned());
        }
        if texts.len() > MOST {
            return Err(format!(
                "lists {} ranges; at most {MOST} are allowed",
                texts.len()
            ));
        }
        let mut ranges: Vec<Ipv4Net> = Vec::new();
        for text in &texts {
            let range = range(text)?;
            if let Some(other) = ranges.iter().find(|other| overlap(**other, range)) {
                return Err(format!("{range} and {other} overlap"));
            }
            ranges.push(range);
        }
        Ok(Self(ranges))
    }
}

impl From<Subnets> for Vec<String> {
    fn from(subnets: Subnets) -> Self {
        subnets.0.iter().map(ToString::to_string).collect()
    }
}

impl std::fmt::Display for Subnets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&Vec::from(self.clone()).join(", "))
    }
}

impl Subnets {
    /// The first block that overlaps with nothing that is taken. `None` where all are taken.
    pub fn free(&self, taken: &[Ipv4Net]) -> Option<Ipv4Net> {
        self.0.iter().find_map(|range| first_free(*range, taken))
    }

    /// Whether this address is one of the pool's.
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        self.0.iter().any(|range| range.contains(&address))
    }

    /// Whether a range is wider than one of the pool's that lies in it.
    pub fn is_within(&self, wider: &Ipv4Net) -> bool {
        let mut ranges = self.0.iter();
        ranges.any(|range| wider != range && wider.contains(range))
    }
}

fn first_free(range: Ipv4Net, taken: &[Ipv4Net]) -> Option<Ipv4Net> {
    let last = u32::from(range.broadcast());
    let mut at = u32::from(range.network());
    while at <= last {
        let block = Ipv4Net::new(at.into(), BLOCK).ok()?;
        let in_the_way = taken.iter().filter(|other| overlap(**other, block));
        let Some(end) = in_the_way.map(|other| u32::from(other.broadcast())).max() else {
            return Some(block);
        };
        let end = end.max(u32::from(block.broadcast()));
        // To the end of its block, and on.
        at = (end | u32::from(block.hostmask())).checked_add(1)?;
    }
    None
}

fn overlap(one: Ipv4Net, other: Ipv4Net) -> bool {
    one.contains(&other) || other.contains(&one)
}

/// One range, or what is wrong with it.
fn range(text: &str) -> Result<Ipv4Net, String> {
    let range: Ipv4Net = text
        .parse()
        .map_err(|_| format!("{text:?} is not an IPv4 range; write it as \"10.189.0.0/16\""))?;
    if range.trunc() != range {
        return Err(format!(
            "{range} does not begin at its network address; write {}",
            range.trunc()
        ));
    }
    let private = PRIVATE.map(|(address, length)| Ipv4Net::new_assert(address, length));
    if !private.iter().any(|private| private.contains(&range)) {
        let private = private.map(|range| range.to_string()).join(", ");
        return Err(format!(
            "{range} is not private: it must lie in one of {private}"
        ));
    }
    if range.prefix_len() > BLOCK {
        return Err(format!("{range} is too small: one network is a /{BLOCK}"));
    }
    Ok(range)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn subnets(texts: &[&str]) -> Result<Subnets, String> {
        let texts: Vec<String> = texts.iter().map(ToString::to_string).collect();
        Subnets::try_from(texts)
    }

    fn net(text: &str) -> Ipv4Net {
        text.parse().unwrap()
    }

    #[test]
    fn a_pool_is_of_private_ranges_that_are_whole_and_apart() {
        for fine in [
            &["10.189.0.0/16"][..],
            &["10.0.0.0/8"],
            &["192.168.7.0/27", "192.168.7.32/27", "172.16.0.0/12"],
        ] {
            let made = subnets(fine).unwrap();
            assert_eq!(Vec::from(made), fine);
        }
        for (wrong, said) in [
            (&[][..], "empty"),
            (&["10.189.0.0"], "is not an IPv4 range"),
            (&["10.189.0.0/33"], "is not an IPv4 range"),
            (&["fd00::/64"], "is not an IPv4 range"),
            (&[""], "is not an IPv4 range"),
            (&["10.189.0.1/16"], "write 10.189.0.0/16"),
            (&["100.64.0.0/16"], "not private"),
            (&["8.8.8.0/24"], "not private"),
            (&["0.0.0.0/0"], "not private"),
            (&["172.0.0.0/8"], "not private"),
            (&["10.189.0.0/28"], "too small"),
            (&["10.189.0.0/16", "10.0.0.0/8"], "overlap"),
            (&["10.189.0.0/16", "10.189.0.0/16"], "overlap"),
            (&["10.0.0.0/27"; 17], "17 ranges"),
        ] {
            let error = subnets(wrong).unwrap_err();
            assert!(error.contains(said), "{wrong:?}: {error}");
        }
    }

    #[test]
    fn the_default_is_in_nobodys_way() {
        let made = Subnets::default();
        assert_eq!(subnets(&["10.189.0.0/16"]).as_ref(), Ok(&made));
        for others in [
            "172.17.0.0/16",
            "172.20.0.0/14",
            "192.168.0.0/16",
            "100.64.0.0/10",
        ] {
            assert!(
                made.0.iter().all(|range| !overlap(*range, net(others))),
                "{others}"
            );
        }
    }

    #[test]
    fn what_is_taken_is_gone_round_and_a_full_pool_has_nothing() {
        let pool = subnets(&["10.1.0.0/26", "10.9.0.0/27"]).unwrap();
        let mut taken = Vec::new();
        for block in ["10.1.0.0/27", "10.1.0.32/27", "10.9.0.0/27"] {
            assert_eq!(pool.free(&taken), Some(net(block)));
            taken.push(net(block));
        }
        assert_eq!(pool.free(&taken), None);
        assert_eq!(pool.free(&[net("10.0.0.0/8")]), None);
        // One address is enough to be in the way.
        assert_eq!(pool.free(&[net("10.1.0.31/32")]), Some(net("10.1.0.32/27")));
        let end = subnets(&["10.255.255.224/27"]).unwrap();
        assert_eq!(end.free(&[net("10.255.255.255/32")]), None);
    }

    #[test]
    fn a_wider_range_is_told_from_the_pools_own() {
        let pool = subnets(&["10.189.0.0/16"]).unwrap();
        for (range, wider) in [
            ("10.0.0.0/8", true),
            ("0.0.0.0/0", true),
            ("10.189.0.0/16", false),
            ("10.189.4.0/24", false),
            ("10.190.0.0/16", false),
        ] {
            assert_eq!(pool.is_within(&net(range)), wider, "{range}");
        }
    }

    fn ranges() -> impl Strategy<Value = Ipv4Net> {
        (any::<u16>(), 20_u8..=32).prop_map(|(low, length)| {
            let address = u32::from(Ipv4Addr::new(10, 189, 0, 0)) | u32::from(low);
            Ipv4Net::new_assert(address.into(), length).trunc()
        })
    }

    proptest! {
        #[test]
        fn a_free_block_is_of_the_pool_and_in_nobodys_way(taken in prop::collection::vec(ranges(), 0..200)) {
            let pool = subnets(&["10.189.0.0/20", "10.189.64.0/19"]).unwrap();
            match pool.free(&taken) {
                Some(block) => {
                    prop_assert_eq!(block.prefix_len(), BLOCK);
                    prop_assert_eq!(block.trunc(), block);
                    prop_assert!(pool.0.iter().any(|range| range.contains(&block)));
                    prop_assert!(!taken.iter().any(|other| overlap(*other, block)));
                }
                None => for range in &pool.0 {
                    for block in range.subnets(BLOCK).unwrap() {
                        prop_assert!(taken.iter().any(|other| overlap(*other, block)), "{block} is free");
                    }
                },
            }
        }

        #[test]
        fn one_after_the_other_all_blocks_are_given_once(length in 20_u8..=27) {
            let pool = subnets(&[&format!("10.189.0.0/{length}")]).unwrap();
            let mut taken = Vec::new();
            while let Some(block) = pool.free(&taken) {
                prop_assert!(!taken.contains(&block));
                taken.push(block);
            }
            prop_assert_eq!(taken.len(), 1 << (BLOCK - length));
        }

        #[test]
        fn no_text_is_taken_that_does_not_read_back(text in "[0-9./]{0,20}") {
            if let Ok(pool) = subnets(&[&text]) {
                let again: Vec<String> = pool.clone().into();
                prop_assert_eq!(Subnets::try_from(again), Ok(pool));
            }
        }
    }
}
