//! Docker and the machine under it: limits, memory, disk.

use std::path::Path;

use bytesize::ByteSize;

use super::Finding;
use crate::config::Config;
use crate::docker::{Docker, Machine};
use crate::host::free_space;

/// Below this a build soon ends in a full disk: an image with its features is 1 to 3 GiB.
const ENOUGH_DISK: ByteSize = ByteSize::gib(5);

pub(super) async fn findings(docker: &Docker, config: &Config) -> Vec<Finding> {
    let machine = match docker.machine().await {
        Ok(machine) => machine,
        Err(error) => return vec![Finding::of("docker", Err(error))],
    };
    vec![
        daemon(&machine, docker.host()),
        limits(&machine, config),
        disk(&machine),
    ]
}

fn daemon(machine: &Machine, host: &str) -> Finding {
    if machine.podman {
        return Finding::problem(
            "docker",
            format!(
                "{host} is Podman {}, which is not supported",
                machine.version
            ),
            "install Docker and set docker.host to its socket",
        );
    }
    if machine.rootless {
        return Finding::problem(
            "docker",
            format!("{host} is a rootless Docker"),
            "use a Docker that runs as root: the firewall only works on its networks",
        );
    }
    Finding::ok(
        "docker",
        format!(
            "{} at {host}, storage {}, control groups v{}",
            machine.version, machine.storage, machine.cgroup
        ),
    )
}

fn limits(machine: &Machine, config: &Config) -> Finding {
    let limits = &config.limits;
    let size = |size: ByteSize| size.display().iec().to_string();
    if !machine.unlimited.is_empty() {
        return Finding::problem(
            "limits",
            format!(
                "this server does not enforce limits of {}",
                machine.unlimited.join(", ")
            ),
            "enable control groups on the kernel's command line (cgroup_enable=memory)",
        );
    }
    if limits.memory > machine.memory {
        return Finding::problem(
            "limits",
            format!(
                "a drone may use {} of memory, but the server has only {}",
                size(limits.memory),
                size(machine.memory)
            ),
            "lower limits.memory in the configuration",
        );
    }
    Finding::ok(
        "limits",
        format!(
            "up to {} drones of {} each, on {}",
            limits.drones,
            size(limits.memory),
            size(machine.memory)
        ),
    )
}

fn disk(machine: &Machine) -> Finding {
    let directory = &machine.directory;
    let Some(free) = free_space(Path::new(directory)).map(ByteSize::b) else {
        return Finding::skipped(
            "disk",
            format!("the free space of {directory} cannot be read"),
        );
    };
    let message = format!("{} free in {directory}", free.display().iec());
    if free < ENOUGH_DISK {
        return Finding::problem(
            "disk",
            message,
            "`docker system df` shows what uses the space, `hatchery list` shows the drones",
        );
    }
    Finding::ok("disk", message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::State;

    fn machine() -> Machine {
        Machine {
            memory: ByteSize::gib(16),
            ..Machine::default()
        }
    }

    #[test]
    fn a_drone_may_not_have_more_memory_than_the_server() {
        let mut config = Config::default();
        assert_eq!(limits(&machine(), &config).state, State::Ok);
        config.limits.memory = ByteSize::gib(17);
        let finding = limits(&machine(), &config);
        assert_eq!(finding.state, State::Problem);
        assert!(finding.hint.unwrap().contains("limits.memory"));
    }

    #[test]
    fn limits_that_are_not_enforced_are_named() {
        let lax = Machine {
            unlimited: vec!["memory"],
            ..machine()
        };
        let finding = limits(&lax, &Config::default());
        assert_eq!(finding.state, State::Problem);
        assert!(finding.message.contains("memory"));
    }

    #[test]
    fn podman_is_not_taken_for_docker() {
        let podman = Machine {
            podman: true,
            version: "5.8.6".to_owned(),
            ..machine()
        };
        let finding = daemon(&podman, "unix:///x");
        assert_eq!(finding.state, State::Problem);
        assert!(finding.message.contains("is Podman 5.8.6"), "{finding:?}");
    }

    #[test]
    fn a_rootless_docker_is_none() {
        let rootless = Machine {
            rootless: true,
            ..machine()
        };
        assert_eq!(daemon(&rootless, "unix:///x").state, State::Problem);
    }
}
