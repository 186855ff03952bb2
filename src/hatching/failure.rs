//! What a person is told where the devcontainer CLI ended before there was a container.

use std::path::Path;

use crate::devcontainer::cli::Outcome;
use crate::error::{Code, Error};
use crate::{cage, docker, host};

/// Free space with which a failure is put down to the disk, in bytes: a feature may be as large.
const LITTLE: u64 = 100 * 1024 * 1024;

/// What it means that the CLI ended before a container was there.
pub(super) fn failure(outcome: Outcome, workshop: &Path) -> Error {
    let Outcome::Failed {
        message,
        last_lines,
        ..
    } = outcome
    else {
        return Error::new(
            Code::DevcontainerFailed,
            "the devcontainer CLI reported success but created no container",
        );
    };
    let all = last_lines.join("\n");
    let says = |part: &str| message.contains(part) || all.contains(part);
    if says("no space left on device") {
        return Error::new(
            Code::DiskFull,
            "Docker's disk is full: the image cannot be built",
        )
        .hint("`docker system df` shows what takes the space")
        .with_details(last_lines);
    }
    // The CLI has no word for it when a feature that it fetches does not fit.
    if host::free_space(workshop).is_some_and(|free| free < LITTLE) {
        return Error::new(
            Code::DiskFull,
            format!("almost no space is left in {}", workshop.display()),
        )
        .hint("free some space there, then try again")
        .because(message);
    }
    if docker::is_out_of_addresses(&all) || docker::is_out_of_addresses(&message) {
        return docker::out_of_addresses("create the networks of its compose file");
    }
    // Docker's own fault, not the Dockerfile's.
    if let Some(line) = last_lines
        .iter()
        .find(|line| docker::is_engines_fault(line))
    {
        return Error::new(Code::DockerFailed, "Docker cannot run the container")
            .hint(docker::ENGINE_HINT)
            .because(line.clone());
    }
    if message.contains(cage::FAILED) {
        return Error::new(
            Code::HostFailed,
            format!("the devcontainer CLI was not started: {message}"),
        )
        .hint("`hatchery doctor` tries its cage and says what to do");
    }
    // What Landlock says: to opening, and to moving or linking.
    if ["EACCES", "EXDEV", "ermission denied"]
        .into_iter()
        .any(|word| message.contains(word))
    {
        return Error::new(
            Code::DevcontainerFailed,
            format!("the devcontainer CLI was denied access to a file: {message}"),
        )
        .hint(
            "a feature with a link that leads out of it causes this; if the CLI must read something \
             of this server's, name it in devcontainer.readable",
        )
        .with_details(last_lines);
    }
    if message.contains("Feature") || message.contains("feature") {
        return Error::new(Code::DevcontainerFailed, message)
            .hint("check the feature's name and that this server reaches its registry");
    }
    if message.contains("docker build") || message.contains("buildx") || message.contains("compose")
    {
        let hint = if last_lines.is_empty() {
            "the builder said nothing; `hatchery doctor` looks at the programs that it needs"
        } else {
            "the builder's last lines say why; fix the Dockerfile or feature and try again"
        };
        return Error::new(Code::BuildFailed, "the image could not be built")
            .hint(hint)
            .with_details(last_lines);
    }
    Error::new(
        Code::DevcontainerFailed,
        format!("the devcontainer CLI failed: {message}"),
    )
    .hint("try `devcontainer up` on a clone of the repository by hand")
    .with_details(last_lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(message: &str, lines: &[&str]) -> Error {
        let outcome = Outcome::Failed {
            message: message.to_owned(),
            container: None,
            step: None,
            last_lines: lines.iter().map(|&line| line.to_owned()).collect(),
        };
        failure(outcome, Path::new("/"))
    }

    #[test]
    fn what_docker_cannot_do_is_not_put_down_to_the_dockerfile() {
        let pools = "ERROR: could not find an available, non-overlapping IPv4 address pool among \
                     the defaults to assign to the network";
        let newer = "all predefined address pools have been fully subnetted";
        let cgroup = "OCI runtime create failed: error adding pid 7 to cgroups: unknown";
        for (message, lines, said, helps) in [
            (
                "Command failed: docker compose",
                &[pools][..],
                "address range",
                "docker network prune",
            ),
            (
                "Command failed: docker-compose",
                &["x", newer],
                "address range",
                "default-address-pools",
            ),
            (
                "Command failed: docker run",
                &[cgroup],
                "error adding pid 7",
                "journalctl -u docker",
            ),
        ] {
            let error = failed(message, lines);
            assert_eq!(error.code(), Code::DockerFailed, "{message}");
            assert!(error.message().contains(said), "{}", error.message());
            assert!(error.what_next().unwrap().contains(helps), "{error:?}");
        }
    }

    #[test]
    fn a_program_that_is_not_in_the_image_is_the_dockerfiles() {
        let line = "OCI runtime create failed: exec: \"/bin/sh\": stat /bin/sh: no such file";
        let error = failed("Command failed: docker build", &[line]);
        assert_eq!(error.code(), Code::BuildFailed);
        assert!(error.what_next().unwrap().contains("last lines"));
        let silent = failed("Command failed: docker build", &[]);
        assert!(
            !silent.what_next().unwrap().contains("last lines"),
            "{silent:?}"
        );
    }
}
