//! What the outcomes of a probe mean.

use std::collections::BTreeSet;

use super::Finding;
use super::targets::{Facts, Target, Zone};
use super::units::Loader;
use crate::helper::probe::Outcome;

/// How many of the targets that were reached are named.
const NAMED: usize = 4;

/// What came of it on one network.
pub(super) struct Run {
    /// The network's name.
    pub network: String,
    /// Its device, where that has a name that the firewall does not know by itself.
    pub stranger: Option<String>,
    /// Each target's address with its outcome.
    pub outcomes: Vec<(String, Outcome)>,
}

impl Run {
    fn of(&self, target: &Target) -> Outcome {
        let mut outcomes = self.outcomes.iter();
        outcomes
            .find(|(address, _)| *address == target.address)
            .map_or(Outcome::Failed, |(_, outcome)| *outcome)
    }
}

/// A finding for each zone.
pub(super) fn verdicts(facts: &Facts, targets: &[Target], runs: &[Run]) -> Vec<Finding> {
    let closed = |name, what, zone| closed(name, what, zone, targets, runs, facts.loader);
    vec![
        match facts.peers {
            Some(_) => closed("reach-tailnet", "this server's tailnet", Zone::Tailnet),
            None => Finding::skipped("reach-tailnet", "this server itself is not in a tailnet"),
        },
        closed("reach-server", "this server itself", Zone::Server),
        closed(
            "reach-metadata",
            "the cloud's metadata service",
            Zone::Metadata,
        ),
        if facts.drones.is_empty() {
            Finding::skipped("reach-drones", "no drone is running")
        } else {
            closed("reach-drones", "the drones", Zone::Drones)
        },
        open(targets, runs),
    ]
}

/// What nothing may reach.
fn closed(
    name: &'static str,
    what: &str,
    zone: Zone,
    targets: &[Target],
    runs: &[Run],
    loader: Loader,
) -> Finding {
    let tries: Vec<_> = targets
        .iter()
        .filter(|target| target.zone == zone)
        .flat_map(|target| runs.iter().map(move |run| (target, run, run.of(target))))
        .filter(|(_, _, outcome)| *outcome != Outcome::Failed)
        .collect();
    if tries.is_empty() {
        return Finding::problem(
            name,
            format!("cannot check whether containers reach {what}"),
            "try again when this server is less busy",
        );
    }
    let reached: Vec<_> = tries
        .iter()
        .filter(|(_, _, outcome)| outcome.reached())
        .collect();
    if reached.is_empty() {
        let tries = tries.len();
        return Finding::ok(
            name,
            format!("containers do not reach {what} ({tries} tries)"),
        );
    }
    let stranger = reached
        .iter()
        .find_map(|(_, run, _)| run.stranger.as_deref());
    let hint = match (zone, stranger, loader) {
        (Zone::Drones, _, _) => "Docker's rules between its networks are missing (iptables, chains \
             DOCKER-ISOLATION-STAGE-1 and DOCKER-FORWARD): `systemctl restart docker` restores them, \
             unless \"iptables\" is off in /etc/docker/daemon.json"
            .to_owned(),
        (_, Some(device), Loader::Unit) => format!(
            "the firewall does not know the device {device}: write `add element inet hatchery closed {{ \
             \"{device}\" }}` into /etc/hatchery/firewall.d/{device}.nft, then run `systemctl reload \
             hatchery-firewall`"
        ),
        (_, Some(device), Loader::Nixos) => format!(
            "the firewall does not know the device {device}: add it to \
             `services.hatchery.firewall.closedBridges` in the NixOS configuration"
        ),
        (_, None, Loader::Unit) => {
            "run `systemctl enable --now hatchery-firewall`; if it is already active, something has emptied \
             the rules: run `systemctl reload hatchery-firewall`"
                .to_owned()
        }
        (_, None, Loader::Nixos) => {
            "set `services.hatchery.firewall.enable` in the NixOS configuration; if it is already set, \
             something has emptied the rules: run `systemctl reload-or-restart nftables`"
                .to_owned()
        }
    };
    let listed = |names: Vec<&str>| names.join(", ");
    let networks: BTreeSet<_> = reached.iter().map(|(_, run, _)| &*run.network).collect();
    let names: BTreeSet<_> = reached.iter().map(|(target, _, _)| &*target.name).collect();
    let more = match names.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Finding::problem(
        name,
        format!(
            "containers on {} reach {what}: {}{more}",
            listed(networks.into_iter().collect()),
            listed(names.into_iter().take(NAMED).collect())
        ),
        hint,
    )
}

/// What every container must reach.
fn open(targets: &[Target], runs: &[Run]) -> Finding {
    const NAME: &str = "reach-internet";
    let Some(target) = targets.iter().find(|target| target.zone == Zone::Internet) else {
        return Finding::skipped(NAME, "the server itself does not reach GitHub directly");
    };
    // A network with a name of its own may well be one without internet.
    let mut usual = runs.iter().filter(|run| run.stranger.is_none());
    let Some(run) = usual.find(|run| run.of(target) != Outcome::Connected) else {
        return Finding::ok(NAME, format!("containers reach {}", target.name));
    };
    let (what, hint) = match run.of(target) {
        Outcome::Unresolved => (
            "cannot resolve its name",
            "containers cannot reach a resolver on this server itself: set \"dns\" in \
             /etc/docker/daemon.json to another one",
        ),
        _ => (
            "cannot reach it, although the server can",
            "check `sysctl net.ipv4.ip_forward` and other firewalls on this server",
        ),
    };
    Finding::problem(
        NAME,
        format!("{}: a container on {} {what}", target.name, run.network),
        hint,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::State;
    use crate::doctor::targets::targets;

    fn facts() -> Facts {
        Facts {
            addresses: vec!["10.0.0.1".parse().unwrap()],
            peers: Some(vec![("laptop".to_owned(), "100.64.0.1".parse().unwrap())]),
            drones: vec!["172.18.0.2".parse().unwrap()],
            internet: Some("github.com:443".to_owned()),
            ..Facts::default()
        }
    }

    /// All is as it should be but for these.
    fn run(network: &str, but: &[(&str, Outcome)]) -> Run {
        let usual = |target: Target| {
            let outcome = match target.zone {
                Zone::Internet => Outcome::Connected,
                _ => Outcome::Prohibited,
            };
            let other = but.iter().find(|(address, _)| *address == target.address);
            let outcome = other.map_or(outcome, |(_, outcome)| *outcome);
            (target.address, outcome)
        };
        Run {
            network: network.to_owned(),
            stranger: None,
            outcomes: targets(&facts()).into_iter().map(usual).collect(),
        }
    }

    fn problems(runs: &[Run]) -> Vec<Finding> {
        let findings = verdicts(&facts(), &targets(&facts()), runs);
        assert_eq!(findings.len(), 5);
        let bad = |finding: &Finding| finding.state != State::Ok;
        findings.into_iter().filter(bad).collect()
    }

    #[test]
    fn nothing_is_reached_but_the_internet() {
        assert_eq!(problems(&[run("hatchery", &[]), run("bridge", &[])]), []);
    }

    #[test]
    fn each_door_is_named_with_network_and_target() {
        for (address, outcome, name) in [
            ("100.64.0.1:22", Outcome::Connected, "reach-tailnet"),
            ("100.100.100.100:80", Outcome::Refused, "reach-tailnet"),
            ("10.0.0.1:22", Outcome::Refused, "reach-server"),
            ("169.254.169.254:80", Outcome::Connected, "reach-metadata"),
            ("172.18.0.2:2222", Outcome::Connected, "reach-drones"),
            ("github.com:443", Outcome::Unresolved, "reach-internet"),
            ("github.com:443", Outcome::Silent, "reach-internet"),
            ("github.com:443", Outcome::Refused, "reach-internet"),
        ] {
            let found = problems(&[run("hatchery", &[]), run("bridge", &[(address, outcome)])]);
            let [finding] = &found[..] else {
                panic!("{address}: {found:?}")
            };
            assert_eq!(finding.name, name);
            assert!(finding.message.contains("bridge"), "{finding:?}");
            assert!(finding.message.contains(address), "{finding:?}");
            assert!(!finding.message.contains("hatchery"), "{finding:?}");
        }
    }

    #[test]
    fn a_bridge_with_a_name_of_its_own_is_to_be_added() {
        let stranger = Run {
            stranger: Some("mynet0".to_owned()),
            ..run("mine", &[("10.0.0.1:22", Outcome::Connected)])
        };
        let found = problems(&[run("hatchery", &[]), stranger]);
        assert!(found[0].hint.as_ref().unwrap().contains("\"mynet0\""));
    }

    #[test]
    fn where_nixos_loads_the_rules_no_hint_names_a_unit_that_is_not_there() {
        let open = run("bridge", &[("10.0.0.1:22", Outcome::Connected)]);
        let stranger = Run {
            stranger: Some("mynet0".to_owned()),
            ..run("mine", &[("10.0.0.1:22", Outcome::Connected)])
        };
        for (run, said) in [
            (open, "systemctl reload-or-restart nftables"),
            (stranger, "closedBridges"),
        ] {
            let facts = Facts {
                loader: Loader::Nixos,
                ..facts()
            };
            let findings = verdicts(&facts, &targets(&facts), &[run]);
            let mut hints = findings.iter().filter_map(|finding| finding.hint.as_ref());
            let hint = hints.next().unwrap();
            assert!(hint.contains(said), "{hint}");
            assert!(!hint.contains("hatchery-firewall"), "{hint}");
            assert_eq!(hints.next(), None);
        }
    }

    #[test]
    fn a_probe_that_tried_nothing_proves_nothing() {
        let mute = Run {
            outcomes: Vec::new(),
            ..run("hatchery", &[])
        };
        assert_eq!(problems(&[mute]).len(), 5);
    }
}
