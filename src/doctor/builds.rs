//! Builds: who does them, and whether this kernel lets a drone's own builder start.

use std::path::Path;

use super::Finding;
use crate::config::{Builder, Config};

const NAME: &str = "builds";

/// What users' namespaces hang on: a file of proc(5), the value that forbids them, and what to do.
const FORBIDDEN: [(&str, &str, &str); 3] = [
    (
        "user/max_user_namespaces",
        "0",
        "raise it: `sysctl user.max_user_namespaces=65536`",
    ),
    (
        "kernel/unprivileged_userns_clone",
        "0",
        "allow them: `sysctl kernel.unprivileged_userns_clone=1`",
    ),
    (
        "kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "allow them: `sysctl kernel.apparmor_restrict_unprivileged_userns=0`, or an AppArmor profile for \
         /usr/bin/rootlesskit with `userns`",
    ),
];

pub(super) fn finding(config: &Config) -> Finding {
    look(config, Path::new("/proc/sys"))
}

fn look(config: &Config, settings: &Path) -> Finding {
    let docker = &config.docker;
    if docker.builder == Builder::Shared {
        return Finding::ok(NAME, "all builds share Docker's own builder");
    }
    let value = |name: &str| std::fs::read_to_string(settings.join(name));
    let forbids = |name: &str, value_of: &str| value(name).is_ok_and(|it| it.trim() == value_of);
    let found = FORBIDDEN
        .iter()
        .find(|(name, value, _)| forbids(name, value));
    match found {
        Some((name, value, remedy)) => Finding::problem(
            NAME,
            format!(
                "drones' own builders cannot start: unprivileged user namespaces are disabled here ({} is \
                 {value})",
                name.replace('/', ".")
            ),
            format!(
                "{remedy}; or let Docker build without isolation between drones: docker.builder = \"shared\""
            ),
        ),
        None => Finding::ok(
            NAME,
            match docker.builder {
                Builder::Own => format!("each drone has its own builder, {}", docker.buildkit),
                _ => format!(
                    "each drone has its own builder, {}, except for builds that only use devcontainer.known",
                    docker.buildkit
                ),
            },
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::State;

    #[test]
    fn each_setting_that_forbids_namespaces_is_told_with_its_remedy() {
        let config = Config::default();
        for (name, value, _) in FORBIDDEN {
            let settings = tempfile::tempdir().unwrap();
            assert_eq!(look(&config, settings.path()).state, State::Ok, "{name}");
            let file = settings.path().join(name);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(&file, format!("{value}\n")).unwrap();
            let finding = look(&config, settings.path());
            assert_eq!(finding.state, State::Problem, "{name}");
            assert!(
                finding.hint.unwrap().contains(&name.replace('/', ".")),
                "{name}"
            );
            let mut shared = Config::default();
            shared.docker.builder = Builder::Shared;
            assert_eq!(look(&shared, settings.path()).state, State::Ok);
            std::fs::write(&file, "7\n").unwrap();
            assert_eq!(look(&config, settings.path()).state, State::Ok, "{name}");
        }
    }
}
