//! What a person is told where the devcontainer CLI ended before there was a container.

use std::path::Path;

use crate::cage;
use crate::config::Registries;
use crate::devcontainer::judging::{images, policy};
use crate::devcontainer::running::cli::Outcome;
use crate::devcontainer::running::installs::NO_MANAGER;
use crate::docker::{self, Login};
use crate::error::{Code, Error};
use crate::host;
use crate::outlet::Refusal;
use crate::repo::RepoId;

/// Free space with which a failure is put down to the disk, in bytes: a feature may be as large.
const LITTLE: u64 = 100 * 1024 * 1024;

/// In how many lines, at the end, a builder says that it has lost Docker.
const LAST: usize = 3;

/// What was kept from the CLI, which does not say so itself.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Denied<'a> {
    /// What the door did not hand on, because no spawn asks for it.
    pub unlisted: &'a [String],
    /// What the outlet did not fetch.
    pub refusals: &'a [Refusal],
}

/// What it means that the CLI ended before a container was there; `disks` are where the CLI and Docker write,
/// `image` is what the drone is made from, where it is known.
pub(super) fn failure(
    outcome: Outcome,
    denied: Denied<'_>,
    disks: [&Path; 2],
    image: Option<&str>,
) -> Error {
    let mut error = of_outcome(outcome, disks, image);
    if let [first, ..] = denied.unlisted {
        error = error.because(format!(
            "hatchery rejected a request to Docker for {first}, which no spawn needs"
        ));
    }
    match denied.refusals {
        [] => error,
        // The CLI says of it only that it got no answer.
        [first, ..] if error.code() == Code::DevcontainerFailed => Error::new(
            Code::GateRefused,
            format!(
                "the gate refuses what a feature would fetch from {}: {}",
                first.host, first.why
            ),
        )
        .hint(
            "remove the feature that needs it, itself or through a dependency or its registry; or, if you \
             trust the repository with this server, use `--trust` once or devcontainer.trust permanently",
        )
        .because(error),
        [first, ..] => error.because(format!(
            "nothing was fetched from {}: {}",
            first.host, first.why
        )),
    }
}

fn of_outcome(outcome: Outcome, disks: [&Path; 2], image: Option<&str>) -> Error {
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
    // As Go says it, and as the C library does in a step of the build.
    let full = ["no space left on device", "No space left on device"];
    if full
        .iter()
        .any(|part| message.contains(part) || all.contains(part))
    {
        return Error::new(
            Code::DiskFull,
            "Docker's disk is full: the image cannot be built",
        )
        .hint("`docker system df` shows what uses the space")
        .with_details(last_lines);
    }
    // The CLI has no word for it when a feature that it fetches does not fit, and what ends in a build may have
    // none either.
    let is_full = |disk: &&Path| host::free_space(disk).is_some_and(|free| free < LITTLE);
    if let Some(disk) = disks.into_iter().find(is_full) {
        return Error::new(
            Code::DiskFull,
            format!("almost no space left in {}", disk.display()),
        )
        .hint("free some space there, then try again")
        .because(message)
        .with_details(last_lines);
    }
    if let Some(error) = of_docker(&message, &last_lines) {
        return error;
    }
    if let Some(error) = of_image(&last_lines, image) {
        return error;
    }
    if let Some(error) = of_pull(&message, &last_lines, image) {
        return error;
    }
    if message.contains(cage::FAILED) {
        return Error::new(
            Code::HostFailed,
            format!("the devcontainer CLI was not started: {message}"),
        )
        .hint("`hatchery doctor` checks its cage and shows what to do");
    }
    // What Landlock says: to opening, and to moving or linking. A link to nothing is said otherwise.
    let denied = ["EACCES", "EXDEV", "ermission denied"];
    let missing = ["ENOENT", "ENOTDIR", "ELOOP"];
    let is = |words: &[&str]| words.iter().any(|word| message.contains(word));
    let feature = feature_in(&message);
    if is(&denied) || (feature.is_some() && is(&missing)) {
        let how = if is(&denied) {
            "was denied access to"
        } else {
            "did not find"
        };
        let whose = feature.map_or_else(String::new, |id| format!(" of the feature {id}"));
        return Error::new(
            Code::DevcontainerFailed,
            format!("the devcontainer CLI {how} a file{whose}: {message}"),
        )
        .hint(
            "a feature with a link that points outside it causes this; if the CLI has to read a file of this \
             server, list it in devcontainer.readable",
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
            "the builder printed nothing; `hatchery doctor` checks the programs that it needs"
        } else {
            "the builder's last lines show why; fix the Dockerfile or feature and try again"
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

/// A pull that failed, with what Docker says of it.
fn of_pull(message: &str, last_lines: &[String], image: Option<&str>) -> Option<Error> {
    if !message.starts_with("Command failed: docker pull") {
        return None;
    }
    let called = image.map_or_else(
        || "the image".to_owned(),
        |name| format!("the image {name}"),
    );
    let mut lines = last_lines.iter().rev();
    let said = lines
        .find_map(|line| line.trim().strip_prefix("Error response from daemon: "))
        .unwrap_or("Docker gave no reason");
    Some(
        Error::new(
            Code::DevcontainerFailed,
            format!("{called} could not be pulled: {said}"),
        )
        .hint("check its name in devcontainer.json, and that this server reaches its registry"),
    )
}

/// A pull of hatchery's own that failed.
pub(super) fn not_pulled(image: &str, login: Option<&Login>, repo: &RepoId, error: Error) -> Error {
    let is_denied = docker::is_denial(&error.message());
    match login {
        Some(login) if is_denied => Error::new(
            Code::DevcontainerFailed,
            format!(
                "its registry does not give out the image {image} to {}",
                login.source()
            ),
        )
        .hint("check the image's name, and that the registry lets this login read it")
        .because(error),
        None if is_denied => wants_login(image, repo).because(error),
        _ => Error::new(
            Code::DevcontainerFailed,
            format!("the image {image} cannot be pulled"),
        )
        .hint("check its name in devcontainer.json, and that this server reaches its registry")
        .because(error),
    }
}

/// The same error, or another where one of these images could not be had without a login.
pub(super) fn of_registry<'a>(
    error: Error,
    mut images: impl Iterator<Item = &'a str>,
    repo: &RepoId,
    registries: &Registries,
) -> Error {
    let message = error.message();
    let lines = error.details().iter().map(String::as_str);
    let denials: Vec<&str> = lines
        .chain([message.as_str()])
        .filter(|line| docker::is_denial(line))
        .collect();
    let is_meant = |image: &&str| {
        let bare = image.split(['@']).next().unwrap_or(image);
        denials.iter().any(|denial| denial.contains(bare))
    };
    let Some(image) = images.find(is_meant) else {
        return error;
    };
    let details = error.details().to_vec();
    let denied = match registries.of(image) {
        None => wants_login(image, repo),
        // No build is given a login that it could use for more.
        Some(_) => Error::new(
            Code::BuildFailed,
            format!("the build pulls {image}, and has no login for its registry"),
        )
        .hint(
            "remove `--pull` from build.options: hatchery has already pulled the image; with Docker before \
             version 25, name no other image of that registry in the same Dockerfile",
        ),
    };
    denied.with_details(details)
}

fn wants_login(image: &str, repo: &RepoId) -> Error {
    let whole = images::whole(image).unwrap_or_default();
    let namespace = whole
        .rsplit_once('/')
        .map_or("", |(namespace, _)| namespace);
    Error::new(
        Code::DevcontainerFailed,
        format!(
            "the image {image} cannot be pulled: its registry has no image of this name, or requires a login"
        ),
    )
    .hint(format!(
        "check its name; if it is private, run `docker login` and add `[registries.\"{namespace}\"]` with \
         `repositories = [\"{repo}\"]` to the configuration (\"Private images\" in docs/devcontainers.md)"
    ))
}

/// Whether the CLI says that the start of the container failed, not a command in it.
pub(super) fn is_of_the_start(message: &str) -> bool {
    ["docker run", "docker compose", "docker-compose"]
        .iter()
        .any(|command| message.starts_with(&format!("Command failed: {command}")))
}

/// What Docker is to blame for, not the Dockerfile.
fn of_docker(message: &str, last_lines: &[String]) -> Option<Error> {
    let mut lines = last_lines.iter();
    if docker::is_out_of_addresses(message)
        || lines.clone().any(|line| docker::is_out_of_addresses(line))
    {
        return Some(docker::out_of_addresses(
            "create the networks of its compose file",
        ));
    }
    if let Some(line) = lines.find(|line| docker::is_engines_fault(line)) {
        let error = Error::new(Code::DockerFailed, "Docker cannot run the container");
        return Some(error.hint(docker::ENGINE_HINT).because(line.clone()));
    }
    let lost = last_lines
        .iter()
        .rev()
        .take(LAST)
        .find(|line| is_lost(line))?;
    Some(
        Error::new(
            Code::DockerFailed,
            "Docker stopped or was restarted while the image was built",
        )
        .hint("`journalctl -u docker` shows why; spawn again once `docker version` answers")
        .because(lost.clone()),
    )
}

/// What is missing in the image itself, so that no change of a feature or line helps.
fn of_image(last_lines: &[String], image: Option<&str>) -> Option<Error> {
    let called = image.map_or_else(
        || "the image".to_owned(),
        |name| format!("the image {name}"),
    );
    let lacks = |what: String, hint: &str| {
        Error::new(Code::BuildFailed, format!("{called} {what}")).hint(hint)
    };
    let missing = last_lines.iter().find_map(|line| {
        let (_, packages) = line.split_once(NO_MANAGER)?;
        Some(packages.trim().to_owned())
    });
    if let Some(packages) = missing {
        return Some(lacks(
            format!(
                "has none of the package managers that hatchery supports (apt, apk, dnf, microdnf, yum, \
                 pacman, zypper), so {packages} cannot be installed in it"
            ),
            "use an image with one of them, or one with sshd, bash and curl",
        ));
    }
    let (_, what) = NO_SYSTEM.iter().find(|(signs, _)| {
        last_lines
            .iter()
            .any(|line| signs.iter().all(|sign| line.contains(sign)))
    })?;
    Some(lacks((*what).to_owned(), ONE_PROGRAM).with_details(last_lines.to_vec()))
}

/// What it means that this image has no shell.
pub(super) fn no_shell(image: &str) -> Error {
    Error::new(Code::BuildFailed, format!("the image {image} {NO_SHELL}")).hint(ONE_PROGRAM)
}

const NO_SHELL: &str = "has no /bin/sh, which features and lifecycle commands need";
const ONE_PROGRAM: &str = "distroless and scratch images only run one program; name an image with a shell in \
     devcontainer.json";

/// What a container runtime says in one line of an image with one program and nothing else, and what that
/// means.
const NO_SYSTEM: [(&[&str], &str); 2] = [
    (
        &["exec: \"/bin/sh\"", "no such file or directory"],
        NO_SHELL,
    ),
    (
        &["unable to find user root"],
        "has no user root in its /etc/passwd, which the installation of features needs",
    ),
];

/// Whether a builder says in this line that it has lost Docker.
fn is_lost(line: &str) -> bool {
    [
        "error reading from server: EOF",
        "code = Unavailable",
        "Cannot connect to the Docker daemon",
        "error during connect:",
    ]
    .iter()
    .any(|words| line.contains(words))
}

/// The feature that the first path in this text belongs to, where the CLI unpacks them:
/// `container-features/<run>/<id>_<number>/`.
fn feature_in(text: &str) -> Option<&str> {
    let (_, path) = text.split_once("/container-features/")?;
    let directory = path.split('/').nth(1)?;
    let (id, number) = directory.rsplit_once('_')?;
    (policy::is_name(id) && number.parse::<u16>().is_ok()).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With room.
    fn disks() -> [&'static Path; 2] {
        [Path::new("/"); 2]
    }

    fn failed(message: &str, lines: &[&str]) -> Error {
        let outcome = Outcome::Failed {
            message: message.to_owned(),
            container: None,
            step: None,
            failed: None,
            last_lines: lines.iter().map(|&line| line.to_owned()).collect(),
        };
        failure(
            outcome,
            Denied::default(),
            disks(),
            Some("ghcr.io/acme/small:1"),
        )
    }

    #[test]
    fn what_the_outlet_refused_is_why_there_is_no_feature() {
        let refusals = [Refusal {
            host: "127.0.0.1:8098".to_owned(),
            why: "it is not TLS".to_owned(),
        }];
        let failed = |message: &str| {
            let outcome = Outcome::Failed {
                message: message.to_owned(),
                container: None,
                step: None,
                failed: None,
                last_lines: vec!["the last line".to_owned()],
            };
            let denied = Denied {
                refusals: &refusals,
                ..Denied::default()
            };
            failure(outcome, denied, disks(), None)
        };
        for message in ["socket hang up", "ERR: Feature 'x' could not be processed"] {
            let error = failed(message);
            assert_eq!(error.code(), Code::GateRefused, "{message}");
            let said = error.message();
            assert!(said.contains("127.0.0.1:8098: it is not TLS"), "{said}");
        }
        // A build that fails may have other reasons.
        let error = failed("Command failed: docker buildx build");
        assert_eq!(error.code(), Code::BuildFailed);
        assert!(format!("{error:?}").contains("127.0.0.1:8098"), "{error:?}");
    }

    #[test]
    fn a_pull_that_fails_is_told_with_dockers_words() {
        let denied = "pull access denied for acme/x, repository does not exist";
        let outcome = Outcome::Failed {
            message: "Command failed: docker pull acme/x".to_owned(),
            container: None,
            step: None,
            failed: None,
            last_lines: vec![format!("Error response from daemon: {denied}")],
        };
        let error = failure(outcome, Denied::default(), disks(), Some("acme/x"));
        assert_eq!(
            error.message(),
            format!("the image acme/x could not be pulled: {denied}")
        );
        assert!(!error.what_next().unwrap().contains("Dockerfile"));
    }

    #[test]
    fn an_image_that_wants_a_login_is_named_with_what_to_configure() {
        let repo: RepoId = "acme/site".parse().unwrap();
        let image = "registry.example.test/acme/base:1";
        let bases = || ["debian", image].into_iter();
        let registries = Registries::default();
        let at = |line: &str| {
            let error = failed("Command failed: docker buildx build", &["#1 x", line]);
            of_registry(error, bases(), &repo, &registries)
        };
        for line in [
            "ERROR: failed to solve: registry.example.test/acme/base:1: failed to authorize: 401 Unauthorized",
            "pull access denied for registry.example.test/acme/base:1, repository does not exist",
        ] {
            let error = at(line);
            assert_eq!(error.code(), Code::DevcontainerFailed, "{line}");
            assert!(error.message().contains(image), "{}", error.message());
            let hint = error.what_next().unwrap();
            for part in [
                "[registries.\"registry.example.test/acme\"]",
                "\"acme/site\"",
            ] {
                assert!(hint.contains(part), "{hint}");
            }
            assert_eq!(error.details().len(), 2);
        }
        for line in [
            "make: 401 Unauthorized",
            "ERROR: registry.example.test/acme/base:1: not found",
        ] {
            assert_eq!(at(line).code(), Code::BuildFailed, "{line}");
        }
        let docker = |text: &str| Error::new(Code::DockerFailed, "x").because(text.to_owned());
        let error = not_pulled(image, None, &repo, docker("no basic auth credentials"));
        assert!(
            error.what_next().unwrap().contains("[registries."),
            "{error:?}"
        );
        let error = not_pulled(image, None, &repo, docker("no such host"));
        assert!(
            !error.what_next().unwrap().contains("[registries."),
            "{error:?}"
        );
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
    fn a_docker_that_was_restarted_is_not_put_down_to_the_dockerfile() {
        let command = "Command failed: docker buildx build";
        for line in [
            "ERROR: failed to solve: Unavailable: error reading from server: EOF",
            "Cannot connect to the Docker daemon at unix:///w/d. Is the docker daemon running?",
            "error during connect: Post \"http://%2Fw%2Fd/v1.41/build\": EOF",
        ] {
            let error = failed(command, &["#9 RUN make", line]);
            assert_eq!(error.code(), Code::DockerFailed, "{line}");
            assert!(!error.what_next().unwrap().contains("Dockerfile"), "{line}");
        }
        let earlier = [
            "error during connect: x",
            "1",
            "2",
            "make: *** [all] Error 1",
        ];
        assert_eq!(failed(command, &earlier).code(), Code::BuildFailed);
    }

    #[test]
    fn a_start_that_was_lost_is_no_setup_that_failed() {
        for (message, is) in [
            ("Command failed: docker run", true),
            ("Command failed: docker compose", true),
            ("Command failed: docker exec", false),
            ("Command failed: /bin/sh -c docker run x", false),
        ] {
            assert_eq!(is_of_the_start(message), is, "{message}");
        }
    }

    #[test]
    fn a_full_disk_is_called_so_by_whomever_it_is_told() {
        for line in [
            "write /var/lib/docker/tmp/x: no space left on device",
            "0.345 cp: error writing 'tailscaled': No space left on device",
        ] {
            let error = failed("Command failed: docker buildx", &[line]);
            assert_eq!(error.code(), Code::DiskFull, "{line}");
        }
    }

    #[test]
    fn a_disk_of_dockers_that_is_full_is_named_where_nothing_that_was_said_does() {
        let failed = |docker: &str| {
            let outcome = Outcome::Failed {
                message: "Command failed: docker buildx".into(),
                container: None,
                step: None,
                failed: None,
                last_lines: vec!["#9 ERROR: Feature \"x\" failed to install!".into()],
            };
            failure(
                outcome,
                Denied::default(),
                [Path::new("/"), Path::new(docker)],
                None,
            )
        };
        assert_eq!(failed("/").code(), Code::BuildFailed);
        // A file system on which nothing is ever free.
        let error = failed("/proc");
        assert_eq!(error.code(), Code::DiskFull);
        assert!(
            error.message().contains("left in /proc"),
            "{}",
            error.message()
        );
        assert_eq!(error.details().len(), 1);
    }

    #[test]
    fn what_an_image_lacks_is_told_with_its_name() {
        let no_shell = "OCI runtime create failed: runc create failed: exec: \"/bin/sh\": stat \
                        /bin/sh: no such file or directory: unknown";
        let no_manager = format!("#9 0.1 {NO_MANAGER}openssh\r");
        for (line, reason) in [
            (no_shell, "has no /bin/sh"),
            (
                "#10 ERROR: process \"/bin/sh -c mkdir\" did not complete successfully: unable to find \
                 user root: invalid argument",
                "has no user root",
            ),
            (&no_manager, "so openssh cannot be installed"),
        ] {
            let error = failed("Command failed: docker buildx build", &["#9 x", line, "y"]);
            assert_eq!(error.code(), Code::BuildFailed, "{line}");
            let message = error.message();
            assert!(
                message.starts_with("the image ghcr.io/acme/small:1 has no"),
                "{message}"
            );
            assert!(message.contains(reason), "{message}");
            assert!(
                !error.what_next().unwrap().contains("Dockerfile"),
                "{error:?}"
            );
        }
    }

    #[test]
    fn a_program_that_is_not_in_the_image_is_the_dockerfiles() {
        let line = "OCI runtime create failed: exec: \"/bin/my\": stat /bin/my: no such file";
        let error = failed("Command failed: docker build", &[line]);
        assert_eq!(error.code(), Code::BuildFailed);
        assert!(error.what_next().unwrap().contains("last lines"));
        let silent = failed("Command failed: docker build", &[]);
        assert!(
            !silent.what_next().unwrap().contains("last lines"),
            "{silent:?}"
        );
    }

    #[test]
    fn a_link_out_of_a_feature_is_told_with_its_name_wherever_it_leads() {
        let path =
            "/w/tmp/devcontainercli-root/container-features/0.89.0-1795910196690/my_wrap_2/x.sh";
        for problem in [
            "EACCES: permission denied",
            "ENOENT: no such file or directory",
            "ELOOP: too many symbolic links encountered",
        ] {
            let error = failed(&format!("{problem}, open '{path}'"), &[]);
            assert_eq!(error.code(), Code::DevcontainerFailed);
            let message = error.message();
            assert!(message.contains("of the feature my_wrap: "), "{message}");
            let hint = error.what_next().unwrap();
            assert!(hint.contains("a feature with a link"), "{hint}");
        }
        let elsewhere = failed("ENOENT: no such file or directory, open '/w/feature'", &[]);
        assert!(
            !elsewhere.what_next().unwrap().contains("link"),
            "{elsewhere:?}"
        );
    }
}
