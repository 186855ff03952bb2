//! The way into a drone through a firewall of its own.
//!
//! Sandboxes for agents close everything and open a list, at each start. What comes by the tailnet is let in
//! all the same: a person is to reach their drone, and nothing gets out by that. What the drone says of it is
//! only shown.

use std::time::Duration;

use serde::Serialize;

use crate::docker::Docker;

/// The script, for an image's `sh`, as root. Where there is neither `iptables` nor `nft` it does nothing.
const SCRIPT: &str = include_str!("way_in.sh");
/// How long it may take.
const WITHIN: Duration = Duration::from_secs(20);

/// How the way in is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum WayIn {
    /// The drone has no firewall of its own.
    None,
    /// Its firewall lets in what comes by the tailnet.
    Open,
    /// Its firewall keeps it out.
    Closed,
}

/// Opens it, where a firewall has closed it.
pub async fn open(docker: &Docker, container: &str) -> WayIn {
    run(docker, container, "open").await.unwrap_or(WayIn::None)
}

/// Looks at it; nothing where that cannot be told.
pub async fn look(docker: &Docker, container: &str) -> Option<WayIn> {
    run(docker, container, "look").await
}

async fn run(docker: &Docker, container: &str, what: &str) -> Option<WayIn> {
    let argv = ["/bin/sh", "-c", SCRIPT, "way-in", what];
    let inside = docker.inside(container);
    let ran = inside.run_within(WITHIN, "0:0", &argv, b"").await.ok()?;
    read(&ran.stdout)
}

fn read(printed: &str) -> Option<WayIn> {
    match printed.lines().last()?.trim() {
        "none" => Some(WayIn::None),
        "open" => Some(WayIn::Open),
        "closed" => Some(WayIn::Closed),
        _ => None,
    }
}

/// What a person must know where it stays closed.
pub fn told(drone: &str) -> String {
    format!(
        "{drone} has its own firewall that blocks ssh from the tailnet; accept connections on tailscale0 in \
         the script that sets it up"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;
    use std::process::Command;

    /// Stands for iptables, with its rules in a file; a line that it could not take is refused.
    const IPTABLES: &str = r#"#!/bin/sh
rules=$0.rules
[ -e "$rules" ] || exit 1
shift 2
what=$1 chain=$2
shift
case $what in
-S) if [ $# -eq 2 ]; then grep "^-A $chain " "$rules" | sed -n "$2p"; else cat "$rules"; fi ;;
-C) shift; grep -qxF -- "-A $chain $*" "$rules" ;;
-I) [ ! -e "$0.stubborn" ] || exit 1
  shift 2; { echo "-A $chain $*"; cat "$rules"; } > "$rules.new" && mv "$rules.new" "$rules" ;;
-D) shift; grep -qxF -- "-A $chain $*" "$rules" || exit 1
  grep -vxF -- "-A $chain $*" "$rules" > "$rules.new"; mv "$rules.new" "$rules" ;;
esac
"#;
    const OWN: &str = "-P INPUT DROP\n-P OUTPUT DROP\n-A INPUT -i lo -j ACCEPT\n";
    const IN: &str = "-A INPUT -i tailscale0 -j ACCEPT";

    fn program(at: &Path, text: &str) {
        std::fs::write(at, text).unwrap();
        std::fs::set_permissions(at, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn said(bin: &Path, what: &str) -> Option<WayIn> {
        let path = format!("{}:/usr/bin:/bin", bin.display());
        // The machine's own would be found behind it.
        let script = SCRIPT.replace("PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin", "");
        let ran = Command::new("/bin/sh")
            .args(["-c", &script, "way-in", what])
            .env("PATH", path)
            .output()
            .unwrap();
        assert!(ran.stderr.is_empty(), "{ran:?}");
        read(&String::from_utf8_lossy(&ran.stdout))
    }

    #[test]
    fn a_firewall_is_opened_for_the_tailnet_and_no_other_rule_is_touched() {
        let bin = tempfile::tempdir().unwrap();
        let tool = bin.path().join("iptables");
        let rules = bin.path().join("iptables.rules");
        let now = || std::fs::read_to_string(&rules).unwrap();
        program(&tool, IPTABLES);
        assert_eq!(
            said(bin.path(), "open"),
            Some(WayIn::None),
            "it cannot be asked"
        );
        std::fs::write(&rules, "-P INPUT ACCEPT\n-A INPUT -i lo -j ACCEPT\n").unwrap();
        assert_eq!(said(bin.path(), "open"), Some(WayIn::None));
        assert!(!now().contains("tailscale0"));

        std::fs::write(&rules, OWN).unwrap();
        assert_eq!(said(bin.path(), "look"), Some(WayIn::Closed));
        assert_eq!(now(), OWN, "who looks changes nothing");
        assert_eq!(said(bin.path(), "open"), Some(WayIn::Open));
        let opened = now();
        assert!(opened.starts_with(IN) && opened.ends_with(OWN), "{opened}");
        assert_eq!(opened.lines().count(), OWN.lines().count() + 4, "{opened}");
        assert_eq!(said(bin.path(), "look"), Some(WayIn::Open));
        assert_eq!(said(bin.path(), "open"), Some(WayIn::Open));
        assert_eq!(now(), opened, "once is enough");

        // A script that has put something before it since.
        std::fs::write(&rules, format!("-A INPUT -j REJECT\n{opened}")).unwrap();
        assert_eq!(said(bin.path(), "look"), Some(WayIn::Closed));
        assert_eq!(said(bin.path(), "open"), Some(WayIn::Open));
        assert_eq!(now().matches(IN).count(), 1, "{}", now());

        std::fs::write(&rules, OWN).unwrap();
        std::fs::write(bin.path().join("iptables.stubborn"), "").unwrap();
        assert_eq!(said(bin.path(), "open"), Some(WayIn::Closed));
    }

    #[test]
    fn chains_of_nft_are_opened_too() {
        const NFT: &str = r#"#!/bin/sh
echo "$*" >> "$0.asked"
case "$1 $2" in
"list chains") cat "$0.chains" ;;
"list chain") cat "$0.$5" ;;
"insert rule") [ ! -e "$0.stubborn" ] || exit 1; echo "$*" >> "$0.$5" ;;
esac
"#;
        let bin = tempfile::tempdir().unwrap();
        let file = |name: &str| bin.path().join(name);
        program(&file("nft"), NFT);
        let chain = |name: &str, hook: &str| {
            format!(
                "\tchain {name} {{\n\t\ttype filter hook {hook} priority filter; policy drop;\n\t}}\n"
            )
        };
        let chains = format!(
            "table inet own {{\n{}{}}}\ntable ip filter {{\n{}}}\ntable ip nat {{\n\tchain post {{\n\t\ttype nat hook postrouting priority srcnat; policy accept;\n\t}}\n}}\n",
            chain("incoming", "input"),
            chain("outgoing", "output"),
            chain("INPUT", "input"),
        );
        std::fs::write(file("nft.chains"), chains).unwrap();
        for name in ["incoming", "outgoing", "INPUT"] {
            std::fs::write(file(&format!("nft.{name}")), "policy drop;\n").unwrap();
        }
        assert_eq!(said(bin.path(), "look"), Some(WayIn::Closed));
        assert_eq!(said(bin.path(), "open"), Some(WayIn::Open));
        assert_eq!(said(bin.path(), "open"), Some(WayIn::Open));
        let asked = std::fs::read_to_string(file("nft.asked")).unwrap();
        let inserted: Vec<_> = asked
            .lines()
            .filter(|line| line.starts_with("insert"))
            .collect();
        assert_eq!(
            inserted,
            [
                r#"insert rule inet own incoming iifname tailscale0 accept comment "hatchery""#,
                r#"insert rule inet own outgoing meta mark and 0xff0000 == 0x80000 accept comment "hatchery""#,
            ]
        );
        std::fs::write(file("nft.incoming"), "policy drop;\n").unwrap();
        std::fs::write(file("nft.stubborn"), "").unwrap();
        assert_eq!(said(bin.path(), "open"), Some(WayIn::Closed));
    }

    #[test]
    fn a_drone_that_says_something_else_says_nothing() {
        assert_eq!(read("open\nclosed\n"), Some(WayIn::Closed));
        for printed in ["", "sh: no\n", "OPEN"] {
            assert_eq!(read(printed), None, "{printed}");
        }
    }
}
