//! The `docker` that the devcontainer CLI is given: hatchery itself, in front of the real one.
//!
//! The CLI goes from building to running without a pause, but between the two the volume must be
//! filled, the tailnet's node put in place and the finished container looked at before a single
//! instruction of it runs. So `docker run` becomes `docker create`, the hatchery that waits is
//! asked, and it starts the container; compose's `up` likewise. Builds get the drone's labels.
//! Everything else goes straight through.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use serde::{Deserialize, Serialize};

use super::contexts;
use super::guard::{Call, Rules};
use crate::docker::LABEL_PROJECT;
use crate::error::Error;

/// The name of the settings beside the link that the CLI calls.
pub const SETTINGS_FILE: &str = "shim.json";

/// A tag that all builds of the devcontainer CLI share: two at once could take each other's.
const SHARED_TAG: &str = "dev_container_feature_content_temp";

/// The longest message on the control socket, in bytes.
pub const MAX_MESSAGE: u64 = 64 * 1024;

/// What the shim must know, written by the hatchery that started the CLI.
#[derive(Debug, Serialize, Deserialize)]
pub struct Settings {
    /// The real docker.
    pub docker: PathBuf,
    /// The real docker-compose, where there is one.
    pub compose: Option<PathBuf>,
    /// The socket at which the waiting hatchery is asked.
    pub control: PathBuf,
    /// Where the CLI writes the files that it builds from.
    pub temporary: PathBuf,
    /// `KEY=VALUE` labels for images.
    pub labels: Vec<String>,
    /// The drone's name, which makes shared tags its own.
    pub drone: String,
    /// The compose service in whose network the drone is, where it is not the drone's own.
    pub network_of: Option<String>,
    /// Whether the repository is trusted with this server.
    pub trusted: bool,
    /// What is held against the policy before anything is built; nothing for a trusted repository.
    pub guard: Option<Rules>,
    /// Whether this docker builds with `BuildKit` when asked by its environment.
    pub buildkit: bool,
}

/// What the shim asks.
#[derive(Debug, Serialize, Deserialize)]
pub struct Question {
    /// The container that was created; compose's is found by its label.
    pub created: Option<String>,
    /// How far compose is.
    #[serde(default)]
    pub phase: Phase,
    /// Why nothing is built or created; then there is nothing to ask.
    #[serde(default)]
    pub refused: Option<Refusal>,
}

/// How far a compose project is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Only the service whose network the drone is to have is created yet, and what that needs.
    Network,
    /// All is created; the drone itself does not run.
    #[default]
    Created,
    /// All was started: compose 1 joins a container to its further networks only then.
    Started,
}

/// What [`Rules`] refused.
#[derive(Debug, Serialize, Deserialize)]
pub struct Refusal {
    /// What was found, where and why it does not pass.
    pub message: String,
    /// What a person can do.
    pub hint: Option<String>,
}

/// What the hatchery answers.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Answer {
    /// Whether the container is to run.
    pub go: bool,
    /// Whether it does already.
    #[serde(default)]
    pub runs: bool,
}

/// The settings for this call, if hatchery was called as the CLI's docker.
pub fn called_as_docker(argv0: &Path) -> Option<(Settings, bool)> {
    let compose = match argv0.file_name()?.to_str()? {
        "docker" => false,
        "docker-compose" => true,
        _ => return None,
    };
    let settings = std::fs::read(argv0.parent()?.join(SETTINGS_FILE)).ok()?;
    Some((serde_json::from_slice(&settings).ok()?, compose))
}

/// Does what the CLI asked docker for.
pub fn run(settings: &Settings, compose: bool, args: Vec<OsString>) -> ExitCode {
    let program = if compose {
        match &settings.compose {
            Some(program) => program,
            None => return ExitCode::from(127),
        }
    } else {
        &settings.docker
    };
    let subcommand = args.first().and_then(|arg| arg.to_str());
    let call = if compose || subcommand == Some("compose") {
        Call::Compose(&args)
    } else {
        Call::Docker(&args)
    };
    let judged = settings.guard.as_ref();
    if let Some(Err(error)) = judged.map(|guard| guard.check(call, &settings.temporary)) {
        ask(&settings.control, None, Phase::default(), Some(&error));
        return complain(&error.message());
    }
    if compose || subcommand == Some("compose") {
        prepare_files(settings, true, &settings.temporary, 0);
        contexts::send_whole(&settings.temporary);
        return match Up::of(&args) {
            Some(up) => compose_up(settings, program, &up),
            None => replace(build_environment(
                settings,
                Command::new(program).args(args),
            )),
        };
    }
    match subcommand {
        Some("run") => run_container(settings, &args[1..]),
        Some("build") => replace(build_environment(
            settings,
            Command::new(program).args(build_arguments(settings, args)),
        )),
        Some("buildx") => replace(Command::new(program).args(build_arguments(settings, args))),
        _ => replace(Command::new(program).args(args)),
    }
}

/// `docker run` in two halves.
fn run_container(settings: &Settings, args: &[OsString]) -> ExitCode {
    let mut create = Command::new(&settings.docker);
    create.arg("create");
    // An image that compose built somewhere has this label, by which its container would be taken
    // for a part of that project.
    if image_of(args).is_some_and(|image| has_label(settings, image, LABEL_PROJECT)) {
        create.arg(format!("--label={LABEL_PROJECT}="));
    }
    create.args(created(settings, args));
    let output = match create
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
    {
        Ok(output) => output,
        Err(error) => return complain(&format!("docker create: {error}")),
    };
    if !output.status.success() {
        return code(output.status);
    }
    let id = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if !ask(&settings.control, Some(id.clone()), Phase::Created, None).go {
        return complain("the container is not to run");
    }
    // The CLI takes the end of `docker run` for the container's.
    replace(
        Command::new(&settings.docker)
            .arg("wait")
            .arg(id)
            .stdout(Stdio::null()),
    )
}

/// The image among the arguments that the CLI writes, which always names an entrypoint before it.
fn image_of(args: &[OsString]) -> Option<&OsString> {
    let at = args
        .windows(2)
        .position(|pair| pair[0] == "--entrypoint" && pair[1] == "/bin/sh")?;
    args.get(at + 2)
}

fn has_label(settings: &Settings, image: &OsString, label: &str) -> bool {
    let format = format!("{{{{index .Config.Labels {label:?}}}}}");
    let output = Command::new(&settings.docker)
        .args(["image", "inspect", "--format", &format, "--"])
        .arg(image)
        .stderr(Stdio::null())
        .output();
    output.is_ok_and(|output| {
        let value = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        !matches!(value.as_str(), "" | "<no value>")
    })
}

/// The arguments of `docker run` as those of `docker create`.
fn created(settings: &Settings, args: &[OsString]) -> Vec<OsString> {
    let attached = |arg: &&OsString| !arg.to_string_lossy().starts_with("--sig-proxy");
    let confined = |arg: &OsString| {
        if !settings.trusted && arg == UNCONFINED {
            CONFINED.into()
        } else {
            arg.clone()
        }
    };
    args.iter().filter(attached).map(confined).collect()
}

/// Compose's `up -d`, which is done in steps: nothing starts before all was looked at.
struct Up<'a> {
    args: &'a [OsString],
    /// Where `up` stands.
    at: usize,
}

impl<'a> Up<'a> {
    /// If that is what these arguments are.
    fn of(args: &'a [OsString]) -> Option<Self> {
        let at = args
            .windows(2)
            .position(|pair| pair[0] == "up" && pair[1] == "-d")?;
        Some(Self { args, at })
    }

    /// Creates and starts nothing.
    fn create(&self) -> Vec<OsString> {
        self.with(&["up", "--no-start"], &self.args[self.at + 2..])
    }

    /// The same for one service and what it depends on.
    fn create_only(&self, service: &str) -> Vec<OsString> {
        self.with(&["up", "--no-start"], &[service.into()])
    }

    /// Starts what was created, and that alone: neither built nor made anew.
    fn start(&self, services: &[OsString]) -> Vec<OsString> {
        let rest = services.iter().filter(|arg| *arg != "--no-recreate");
        let rest: Vec<_> = rest.cloned().collect();
        self.with(&["up", "-d", "--no-build", "--no-recreate"], &rest)
    }

    fn start_all(&self) -> Vec<OsString> {
        self.start(&self.args[self.at + 2..])
    }

    fn with(&self, up: &[&str], rest: &[OsString]) -> Vec<OsString> {
        let global = self.args[..self.at].iter().cloned();
        let up = up.iter().map(OsString::from);
        global.chain(up).chain(rest.iter().cloned()).collect()
    }
}

fn compose_up(settings: &Settings, program: &Path, up: &Up<'_>) -> ExitCode {
    let step = |args: Vec<OsString>| {
        let mut command = Command::new(program);
        build_environment(settings, command.args(args));
        match command.status() {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(code(status)),
            Err(error) => Err(complain(&format!("docker compose: {error}"))),
        }
    };
    let look = |phase| {
        let answer = ask(&settings.control, None, phase, None);
        if answer.go {
            Ok(answer)
        } else {
            Err(complain("the containers are not to run"))
        }
    };
    let steps = || {
        // compose 1 gives a container another's network only while that one runs; without it, it
        // would quietly be created in Docker's default network.
        if let Some(service) = &settings.network_of {
            step(up.create_only(service))?;
            if !look(Phase::Network)?.runs {
                step(up.start(&[service.into()]))?;
            }
        }
        step(up.create())?;
        look(Phase::Created)?;
        step(up.start_all())?;
        look(Phase::Started)
    };
    match steps() {
        Ok(_) => ExitCode::SUCCESS,
        Err(code) => code,
    }
}

/// Adds the drone's labels and makes the shared tag the drone's own.
fn build_arguments(settings: &Settings, args: Vec<OsString>) -> Vec<OsString> {
    prepare_files(settings, false, &settings.temporary, 0);
    contexts::send_whole(&settings.temporary);
    let own_tag = own_tag(settings);
    let mut out: Vec<OsString> = Vec::with_capacity(args.len() + 2 * settings.labels.len());
    let mut labelled = false;
    for arg in args {
        let is_build = !labelled && arg == "build";
        out.push(match arg.into_string() {
            Ok(text) => text.replace(SHARED_TAG, &own_tag).into(),
            Err(arg) => arg,
        });
        if is_build {
            labelled = true;
            for label in &settings.labels {
                out.push("--label".into());
                out.push(label.into());
            }
        }
    }
    out
}

fn own_tag(settings: &Settings) -> String {
    format!("{SHARED_TAG}-{}", settings.drone)
}

/// Images and features for debuggers ask for `seccomp=unconfined`. A drone keeps Docker's filter,
/// under which `ptrace` works as well; this stands in its place and changes nothing.
const UNCONFINED: &str = "seccomp=unconfined";
const CONFINED: &str = "no-new-privileges=false";

/// Changes the files that the CLI generated to build from (`Dockerfile.extended`,
/// `Dockerfile-with-features`, `docker-compose/*.yml`): without buildx the shared tag stands in
/// them, and compose takes no labels for an image by argument.
fn prepare_files(settings: &Settings, label: bool, directory: &Path, depth: usize) {
    const DEEPEST: usize = 4;
    const LARGEST: u64 = 1024 * 1024;
    let Ok(entries) = std::fs::read_dir(directory) else {
        return;
    };
    for entry in entries.flatten() {
        let (path, Ok(kind)) = (entry.path(), entry.file_type()) else {
            continue;
        };
        if kind.is_dir() && depth < DEEPEST {
            prepare_files(settings, label, &path, depth + 1);
        }
        let name = entry.file_name();
        let dockerfile = name == "Dockerfile.extended" || name == "Dockerfile-with-features";
        let generated = dockerfile || path.extension().is_some_and(|kind| kind == "yml");
        let readable = kind.is_file() && entry.metadata().is_ok_and(|file| file.len() <= LARGEST);
        if !generated || !readable {
            continue;
        }
        if let Ok(text) = std::fs::read_to_string(&path) {
            let prepared = prepared_text(settings, label && dockerfile, &text);
            if prepared != text {
                // Should it fail, the build says that the shared tag is not there.
                let _ = std::fs::write(&path, prepared);
            }
        }
    }
}

/// A second time it changes nothing.
fn prepared_text(settings: &Settings, label: bool, text: &str) -> String {
    let own = own_tag(settings);
    let mut prepared = if text.contains(&own) {
        text.to_owned()
    } else {
        text.replace(SHARED_TAG, &own)
    };
    if !settings.trusted {
        let (asked, given) = (format!("- {UNCONFINED}\n"), format!("- {CONFINED}\n"));
        prepared = prepared.replace(&asked, &given);
    }
    if label {
        let lines = labels(settings);
        // At the very end, where no label of the Dockerfile's comes after them.
        if !prepared.ends_with(&lines) {
            prepared.push_str(&lines);
        }
    }
    prepared
}

/// The drone's labels as instructions of a Dockerfile.
fn labels(settings: &Settings) -> String {
    let line = |entry: &String| {
        let (key, value) = entry.split_once('=').unwrap_or((entry, ""));
        let value = value
            .replace('\\', "\\\\")
            .replace('"', "\\\"")
            .replace('$', "\\$");
        format!("\nLABEL \"{key}\"=\"{value}\"\n")
    };
    settings.labels.iter().map(line).collect()
}

/// `BuildKit` where it is to be had: it sends only what changed and leaves no nameless images.
fn build_environment<'a>(settings: &Settings, command: &'a mut Command) -> &'a mut Command {
    if settings.buildkit {
        command
            .env("DOCKER_BUILDKIT", "1")
            .env("COMPOSE_DOCKER_CLI_BUILD", "1")
            .env("BUILDKIT_PROGRESS", "plain");
    }
    command
}

/// Asks whether to go on, or says why not. Nobody there means no: the hatchery that waited has
/// died.
fn ask(control: &Path, created: Option<String>, phase: Phase, refused: Option<&Error>) -> Answer {
    let refused = refused.map(|error| Refusal {
        message: error.message(),
        hint: error.what_next().map(str::to_owned),
    });
    let asked = || -> std::io::Result<Answer> {
        let mut stream = UnixStream::connect(control)?;
        let mut question = serde_json::to_vec(&Question {
            created,
            phase,
            refused,
        })?;
        question.push(b'\n');
        stream.write_all(&question)?;
        let mut line = String::new();
        BufReader::new(stream.take(MAX_MESSAGE)).read_line(&mut line)?;
        Ok(serde_json::from_str(&line)?)
    };
    asked().unwrap_or_default()
}

fn replace(command: &mut Command) -> ExitCode {
    let error = command.exec();
    complain(&format!("{}: {error}", command.get_program().display()))
}

fn complain(what: &str) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "hatchery: {what}");
    ExitCode::FAILURE
}

fn code(status: std::process::ExitStatus) -> ExitCode {
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    ExitCode::from(code.unwrap_or(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings {
            docker: "/bin/false".into(),
            compose: None,
            control: "/nowhere".into(),
            temporary: "/nowhere".into(),
            labels: vec!["hatchery.drone=a-b".into()],
            drone: "a-b".into(),
            network_of: None,
            trusted: false,
            guard: None,
            buildkit: false,
        }
    }

    fn os(args: &[&str]) -> Vec<OsString> {
        args.iter().map(OsString::from).collect()
    }

    #[test]
    fn a_build_is_labelled_and_shares_no_tag() {
        let args = os(&[
            "buildx",
            "build",
            "--load",
            "-t",
            SHARED_TAG,
            "--build-arg",
            &format!("X={SHARED_TAG}"),
            "build",
        ]);
        assert_eq!(
            build_arguments(&settings(), args),
            os(&[
                "buildx",
                "build",
                "--label",
                "hatchery.drone=a-b",
                "--load",
                "-t",
                "dev_container_feature_content_temp-a-b",
                "--build-arg",
                "X=dev_container_feature_content_temp-a-b",
                "build",
            ])
        );
    }

    #[test]
    fn the_shared_tag_becomes_the_drones_own_in_generated_files() {
        let temporary = tempfile::tempdir().unwrap();
        let deep = temporary.path().join("cli/features");
        std::fs::create_dir_all(&deep).unwrap();
        let file = deep.join("Dockerfile-with-features");
        std::fs::write(&file, format!("FROM {SHARED_TAG} as x\n")).unwrap();
        let settings = Settings {
            temporary: temporary.path().into(),
            ..settings()
        };
        for _ in 0..2 {
            build_arguments(&settings, os(&["build"]));
            let text = std::fs::read_to_string(&file).unwrap();
            assert_eq!(text, format!("FROM {SHARED_TAG}-a-b as x\n"));
        }
    }

    #[test]
    fn an_image_that_compose_builds_is_labelled_once() {
        let labels = vec![r#"hatchery.scope={"a":"$b"}"#.to_owned()];
        let settings = Settings {
            labels,
            ..settings()
        };
        let once = prepared_text(&settings, true, "FROM x");
        assert_eq!(
            once,
            "FROM x\nLABEL \"hatchery.scope\"=\"{\\\"a\\\":\\\"\\$b\\\"}\"\n"
        );
        assert_eq!(prepared_text(&settings, true, &once), once);
    }

    #[test]
    fn no_label_of_a_dockerfile_comes_after_the_drones() {
        let settings = settings();
        let line = "\nLABEL \"hatchery.drone\"=\"a-b\"\n";
        let hostile = format!("FROM x{line}LABEL hatchery.drone=victim\n");
        let prepared = prepared_text(&settings, true, &hostile);
        assert_eq!(prepared, format!("{hostile}{line}"));
    }

    #[test]
    fn compose_creates_before_it_starts() {
        let up = os(&[
            "--project-name",
            "up",
            "-f",
            "x",
            "up",
            "-d",
            "--no-recreate",
            "app",
        ]);
        let parsed = Up::of(&up).unwrap();
        let before = ["--project-name", "up", "-f", "x", "up"];
        let expect = |rest: &[&str]| os(&[&before, rest].concat());
        assert_eq!(
            parsed.create(),
            expect(&["--no-start", "--no-recreate", "app"])
        );
        assert_eq!(parsed.create_only("db"), expect(&["--no-start", "db"]));
        let start = ["-d", "--no-build", "--no-recreate"];
        assert_eq!(
            parsed.start(&["db".into()]),
            expect(&[&start[..], &["db"]].concat())
        );
        assert_eq!(parsed.start_all(), expect(&[&start[..], &["app"]].concat()));
        assert!(Up::of(&os(&["-f", "x", "build"])).is_none());
    }

    #[test]
    fn a_drone_keeps_dockers_filter_unless_it_is_trusted() {
        let args = os(&["--sig-proxy=false", "--security-opt", UNCONFINED, "image"]);
        let kept = os(&["--security-opt", CONFINED, "image"]);
        assert_eq!(created(&settings(), &args), kept);
        let text = "security_opt:\n      - seccomp=unconfined\n";
        assert!(!prepared_text(&settings(), false, text).contains(UNCONFINED));
        let trusted = Settings {
            trusted: true,
            ..settings()
        };
        assert_eq!(created(&trusted, &args), args[1..]);
        assert_eq!(prepared_text(&trusted, false, text), text);
    }

    #[test]
    fn nobody_to_ask_means_no() {
        assert!(!ask(Path::new("/nowhere"), None, Phase::Created, None).go);
    }
}
