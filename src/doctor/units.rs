//! hatchery's units, where systemd runs this machine.

use super::Finding;
use crate::error::Result;
use crate::sockets::systemd::Systemd;

const NAME: &str = "units";
/// What has to be up, before anybody types anything.
const UNITS: [&str; 3] = [
    "hatchery-firewall.service",
    "hatchery-sockets.service",
    "hatchery-recover.timer",
];
/// What runs now and then.
const RECOVER: &str = "hatchery-recover.service";

/// Who loads the firewall's rules.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Loader {
    /// Its own unit.
    #[default]
    Unit,
    /// NixOS, as one of its tables.
    Nixos,
}

impl Loader {
    /// NixOS's module alone installs the other units without this one.
    pub(super) async fn find() -> Self {
        match Systemd::with_units().await {
            Ok(Some(systemd)) if matches!(systemd.knows(UNITS[0]).await, Ok(false)) => Self::Nixos,
            _ => Self::Unit,
        }
    }
}

pub(super) async fn finding() -> Finding {
    if !Systemd::runs() {
        return Finding::skipped(
            NAME,
            "there is no systemd here; you must load the firewall and run `hatchery recover` yourself",
        );
    }
    match look().await {
        Ok(finding) => finding,
        Err(error) => Finding::of(NAME, Err(error)),
    }
}

async fn look() -> Result<Finding> {
    let systemd = Systemd::connect().await?;
    let (mut installed, mut down, mut off) = (Vec::new(), Vec::new(), Vec::new());
    for unit in UNITS {
        // One that is absent is so by choice, or none is there: NixOS may load the firewall's
        // rules itself.
        let Some(state) = systemd.file_state(unit).await? else {
            continue;
        };
        installed.push(unit);
        if !systemd.is_active(unit).await? {
            down.push(unit);
        } else if state == "disabled" {
            off.push(unit);
        }
    }
    let failed = systemd.has_failed(RECOVER).await?;
    Ok(verdict(&installed, &down, &off, failed))
}

fn verdict(installed: &[&str], down: &[&str], off: &[&str], recover_failed: bool) -> Finding {
    let enable = |units: &[&str]| {
        format!(
            "run `systemctl enable --now {}`; `journalctl -u {}` shows more",
            units.join(" "),
            units[0]
        )
    };
    if installed.is_empty() {
        return Finding::problem(
            NAME,
            "hatchery's units are not installed: there is no firewall, and drones do not recover \
             automatically",
            "run `make install` as root and `systemctl daemon-reload`, then enable them",
        );
    }
    if !down.is_empty() {
        return Finding::problem(
            NAME,
            format!("not active: {}", down.join(", ")),
            enable(down),
        );
    }
    if !off.is_empty() {
        return Finding::problem(
            NAME,
            format!("active, but not enabled at boot: {}", off.join(", ")),
            enable(off),
        );
    }
    if recover_failed {
        return Finding::problem(
            NAME,
            "the last `hatchery recover` failed",
            format!("`journalctl -u {RECOVER}` shows why"),
        );
    }
    Finding::ok(NAME, format!("{} active", installed.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::State;

    #[test]
    fn each_state_of_the_units_has_its_word() {
        let firewall = [UNITS[0]];
        for (finding, said, hint) in [
            (
                verdict(&[], &[], &[], false),
                "not installed",
                "make install",
            ),
            (
                verdict(&UNITS, &firewall, &[], true),
                "not active: hatchery-firewall.service",
                "enable --now hatchery-firewall.service",
            ),
            (
                verdict(&UNITS, &[], &firewall, true),
                "not enabled at boot",
                "enable --now hatchery-firewall.service",
            ),
            (
                verdict(&UNITS, &[], &[], true),
                "failed",
                "journalctl -u hatchery-recover",
            ),
        ] {
            assert_eq!(finding.state, State::Problem, "{finding:?}");
            assert!(finding.message.contains(said), "{finding:?}");
            assert!(finding.hint.as_ref().unwrap().contains(hint), "{finding:?}");
        }
        assert_eq!(verdict(&UNITS, &[], &[], false).state, State::Ok);
    }
}
