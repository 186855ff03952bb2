//! What a tailscaled says of itself: `tailscale status --json`, as far as it matters here.

use std::collections::HashMap;
use std::net::IpAddr;

use serde::Deserialize;

use crate::drone::DroneName;

/// The most that is read of a status, in bytes: a few thousand peers.
pub const MAX_STATUS: usize = 8 * 1024 * 1024;

/// The most peers and addresses that are looked at.
const MAX_PEERS: usize = 4096;
const MAX_ADDRESSES: usize = 8;

/// The state of a node and what it knows of its peers. What a drone says of itself is no proof.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// `Running`, `Starting`, `NeedsLogin`, `NeedsMachineAuth`, `Stopped` or `NoState`.
    pub backend_state: String,
    /// Whether the control server wants a login, which nobody gives: it does not know the node. A
    /// tailscaled that remembers the tailnet says `Running` all the same.
    pub login_wanted: bool,
    /// The node's own entry.
    pub own: Peer,
    /// The others that it may know of.
    pub peers: Vec<Peer>,
}

/// A node in a [`Status`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Peer {
    /// The name in the tailnet, with its domain, without the final dot; empty before the node is
    /// registered.
    pub dns_name: String,
    /// Its addresses in the tailnet, IPv4 first.
    pub addresses: Vec<IpAddr>,
    /// Whether the control server calls it online; that is not whether it can be reached.
    pub online: bool,
    /// `nodekey:…`, its public key.
    pub key: String,
}

impl Peer {
    /// Whether this node has the drone's name, and not that name with a `-1`.
    pub fn is_called(&self, name: &DroneName) -> bool {
        self.label().eq_ignore_ascii_case(name.as_str())
    }

    /// The first label of its name.
    pub fn label(&self) -> &str {
        self.dns_name.split('.').next().unwrap_or_default()
    }
}

impl Status {
    /// Reads the JSON. Unknown and absent members do not matter.
    pub fn parse(json: &[u8]) -> Result<Self, serde_json::Error> {
        let raw: RawStatus = serde_json::from_slice(json)?;
        let mut peers: Vec<_> = raw
            .peer
            .unwrap_or_default()
            .into_values()
            .flatten()
            .take(MAX_PEERS)
            .map(Peer::from)
            .collect();
        peers.sort_by(|a, b| a.dns_name.cmp(&b.dns_name));
        Ok(Self {
            backend_state: raw.backend_state.unwrap_or_default(),
            login_wanted: raw.auth_url.is_some_and(|url| !url.is_empty()),
            own: raw.own.map(Peer::from).unwrap_or_default(),
            peers,
        })
    }

    /// Whether the node is registered: it knows its name and its addresses.
    pub fn is_registered(&self) -> bool {
        matches!(self.backend_state.as_str(), "Running" | "Starting")
            && !self.own.dns_name.is_empty()
            && !self.own.addresses.is_empty()
    }

    /// Whether the node is in the tailnet and connected.
    pub fn is_running(&self) -> bool {
        self.backend_state == "Running" && !self.login_wanted
    }

    /// Whether the node has lost its registration, or never had one.
    pub fn needs_login(&self) -> bool {
        self.backend_state == "NeedsLogin" || self.login_wanted
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawStatus {
    backend_state: Option<String>,
    #[serde(rename = "AuthURL")]
    auth_url: Option<String>,
    #[serde(rename = "Self")]
    own: Option<RawPeer>,
    peer: Option<HashMap<String, Option<RawPeer>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawPeer {
    #[serde(rename = "DNSName")]
    dns_name: Option<String>,
    #[serde(rename = "TailscaleIPs")]
    addresses: Option<Vec<String>>,
    online: Option<bool>,
    public_key: Option<String>,
}

impl From<RawPeer> for Peer {
    fn from(raw: RawPeer) -> Self {
        let mut addresses: Vec<IpAddr> = raw
            .addresses
            .unwrap_or_default()
            .iter()
            .filter_map(|text| text.parse().ok())
            .take(MAX_ADDRESSES)
            .collect();
        addresses.sort_by_key(IpAddr::is_ipv6);
        Self {
            dns_name: raw
                .dns_name
                .filter(|name| is_dns_name(name))
                .map(|name| name.trim_end_matches('.').to_owned())
                .unwrap_or_default(),
            addresses,
            online: raw.online.unwrap_or_default(),
            key: raw.public_key.unwrap_or_default(),
        }
    }
}

/// Only what can be shown on a terminal and put into a URL.
fn is_dns_name(text: &str) -> bool {
    text.len() <= 254
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_status_is_read() {
        let status = Status::parse(
            br#"{"Version":"1","BackendState":"Running","Self":{"DNSName":"acme-site.t.x.",
            "TailscaleIPs":["fd7a::1","100.64.0.1"],"Online":true,"PublicKey":"nodekey:1"},
            "Peer":{"nodekey:2":{"DNSName":"laptop.t.x.","TailscaleIPs":null},"nodekey:3":null}}"#,
        )
        .unwrap();
        assert!(status.is_registered() && status.is_running());
        assert_eq!(status.own.dns_name, "acme-site.t.x");
        assert_eq!(status.own.addresses[0].to_string(), "100.64.0.1");
        assert_eq!(status.peers.len(), 1);
        assert!(!status.peers[0].online);
    }

    #[test]
    fn a_node_that_only_remembers_the_tailnet_does_not_run() {
        let status = |url: &str| {
            let json = format!(r#"{{"BackendState":"Running","AuthURL":{url}}}"#);
            Status::parse(json.as_bytes()).unwrap()
        };
        let forgotten = status(r#""https://h.example/register/x""#);
        assert!(forgotten.needs_login() && !forgotten.is_running());
        for url in ["null", "\"\""] {
            assert!(status(url).is_running() && !status(url).needs_login());
        }
    }

    #[test]
    fn the_name_with_a_suffix_is_another_name() {
        let name = DroneName::of(&"acme/site".parse().unwrap());
        for (dns_name, ours) in [
            ("acme-site.t.x", true),
            ("Acme-Site", true),
            ("acme-site-1.t.x", false),
            ("acme.site", false),
            ("", false),
        ] {
            let peer = Peer {
                dns_name: dns_name.into(),
                ..Peer::default()
            };
            assert_eq!(peer.is_called(&name), ours, "{dns_name}");
        }
    }

    #[test]
    fn a_node_without_a_name_is_not_registered() {
        for json in [
            r#"{"BackendState":"NeedsLogin","Self":{"DNSName":"","TailscaleIPs":null},"Peer":null}"#,
            r#"{"BackendState":"Starting","Self":{"TailscaleIPs":["100.64.0.1"]}}"#,
            r#"{"BackendState":"Starting","Self":{"DNSName":"a\u001b[2J.t.","TailscaleIPs":["100.64.0.1"]}}"#,
            r#"{"BackendState":"NeedsLogin","Self":{"DNSName":"a.t.","TailscaleIPs":["100.64.0.1"]}}"#,
            r#"{"Self":null}"#,
            "{}",
        ] {
            assert!(
                !Status::parse(json.as_bytes()).unwrap().is_registered(),
                "{json}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Status::parse(&bytes);
        }
    }
}
