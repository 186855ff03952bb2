//! The `docker` that the devcontainer CLI is given: hatchery itself, in front of the real one.
//!
//! What only asks is answered at once. Before anything is built, what the CLI has fetched and written is held
//! against the policy. Where the drone has a builder of its own, the hatchery that waits is asked for each
//! build; else builds get the drone's labels, and tags that no other drone has. Everything else goes straight
//! through, to the door that stands before Docker.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use serde::{Deserialize, Serialize};

use super::contexts;
use super::guard::{Call, ComposeCall, Rules};
use super::installs;
use super::questions::Question;
use crate::devcontainer::building::Build;
use crate::docker;
use crate::error::Error;

/// The name of the settings beside the link that the CLI calls.
pub const SETTINGS_FILE: &str = "shim.json";

/// A tag that all builds of the devcontainer CLI share: two at once could take each other's.
const SHARED_TAG: &str = "dev_container_feature_content_temp";

/// The longest message on the control socket, in bytes.
pub const MAX_MESSAGE: u64 = 1024 * 1024;

/// What the shim must know, written by the hatchery that started the CLI.
#[derive(Debug, Serialize, Deserialize)]
pub struct Settings {
    /// The real docker.
    pub docker: PathBuf,
    /// The real docker-compose, where there is one.
    pub compose: Option<PathBuf>,
    /// The socket at which the waiting hatchery is told of a refusal, and asked to build.
    pub control: PathBuf,
    /// Where the CLI writes the files that it builds from.
    pub temporary: PathBuf,
    /// `KEY=VALUE` labels for images.
    pub labels: Vec<String>,
    /// The drone's name, which makes shared tags its own.
    pub drone: String,
    /// What is held against the policy before anything is built; nothing for a trusted repository.
    pub guard: Option<Rules>,
    /// Whether this docker builds with `BuildKit` when asked by its environment.
    pub buildkit: bool,
    /// Whether the drone has a builder of its own, which the waiting hatchery is asked for.
    pub own_builder: bool,
}

/// What the waiting hatchery is told or asked.
#[derive(Debug, Serialize, Deserialize)]
pub enum Word {
    /// Nothing is built, because of this.
    Refused(Refusal),
    /// An image is to be built.
    Build(Box<Build>),
}

/// What it answers to a build, line by line.
#[derive(Debug, Serialize, Deserialize)]
pub enum Answer {
    /// A line of the builder's.
    Line(String),
    /// The image is there.
    Built,
    /// It is not; the lines say why.
    Failed,
}

/// What [`Rules`] refused, so that nothing is built.
#[derive(Debug, Serialize, Deserialize)]
pub struct Refusal {
    /// What was found, where and why it does not pass.
    pub message: String,
    /// What a person can do.
    pub hint: Option<String>,
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
        tell(&settings.control, &error);
        return complain(&error.message());
    }
    if let Some(done) = answer(call) {
        return done;
    }
    if settings.own_builder {
        match build_by_hatchery(settings, call) {
            Ok(Some(done)) => return done,
            Ok(None) => {}
            Err(what) => return complain(&what),
        }
        return replace(Command::new(program).args(args));
    }
    if compose || subcommand == Some("compose") {
        prepare(settings, true);
        contexts::send_whole(&settings.temporary);
        return replace(build_environment(
            settings,
            Command::new(program).args(args),
        ));
    }
    match subcommand {
        Some("build") => replace(build_environment(
            settings,
            Command::new(program).args(build_arguments(settings, args)),
        )),
        Some("buildx") => replace(Command::new(program).args(build_arguments(settings, args))),
        _ => replace(Command::new(program).args(args)),
    }
}

/// Answers what only asks, where that can be done without docker.
fn answer(call: Call<'_>) -> Option<ExitCode> {
    let Call::Docker(args) = call else {
        return None;
    };
    let question = Question::read(args)?;
    let host = std::env::var("DOCKER_HOST").ok()?;
    question.answer(docker::socket_of(&host), &mut std::io::stdout().lock())
}

/// Builds what this call would have Docker build; what is left of it for the program itself is
/// nothing where there is an exit status.
fn build_by_hatchery(settings: &Settings, call: Call<'_>) -> Result<Option<ExitCode>, String> {
    match call {
        Call::Docker([first, second]) if first == "buildx" && second == "version" => {
            // The devcontainer CLI goes by it, whether buildx is installed or not.
            let _ = std::io::stdout().write_all(BUILDX.as_bytes());
            Ok(Some(ExitCode::SUCCESS))
        }
        Call::Docker(args) => {
            let Some(build) = Build::read(args) else {
                return Ok(None);
            };
            let mut build = build.map_err(|what| format!("docker build: {what}"))?;
            prepare(settings, false);
            let own = own_tag(settings);
            for tag in &mut build.tags {
                *tag = tag.replace(SHARED_TAG, &own);
            }
            for value in build.args.values_mut() {
                *value = value.replace(SHARED_TAG, &own);
            }
            ask(settings, build)?;
            Ok(Some(ExitCode::SUCCESS))
        }
        Call::Compose(args) => {
            let Some(call) = ComposeCall::read(args)? else {
                return Ok(None);
            };
            prepare(settings, false);
            for build in call.builds()? {
                ask(settings, build)?;
            }
            Ok(call.only_builds().then_some(ExitCode::SUCCESS))
        }
    }
}

/// What buildx would say of itself: the features of `BuildKit` that hatchery's builder has came with it.
const BUILDX: &str = "github.com/docker/buildx 0.30.0 (hatchery's builder)\n";

/// Has the waiting hatchery build this.
fn ask(settings: &Settings, build: Build) -> Result<(), String> {
    let away = |error: std::io::Error| format!("the hatchery that builds has ended: {error}");
    contexts::send_whole(&settings.temporary);
    let mut stream = say(&settings.control, &Word::Build(Box::new(build))).map_err(away)?;
    let answers = BufReader::new(&mut stream);
    for answer in answers.lines() {
        match serde_json::from_str(&answer.map_err(away)?) {
            Ok(Answer::Line(line)) => {
                let _ = writeln!(std::io::stderr(), "{line}");
            }
            Ok(Answer::Built) => return Ok(()),
            Ok(Answer::Failed) => return Err("the build failed".to_owned()),
            Err(error) => return Err(away(error.into())),
        }
    }
    Err(away(std::io::ErrorKind::UnexpectedEof.into()))
}

/// Sends a word to the waiting hatchery.
fn say(control: &Path, word: &Word) -> std::io::Result<UnixStream> {
    let mut stream = UnixStream::connect(control)?;
    let mut line = serde_json::to_vec(word)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    Ok(stream)
}

/// Adds the drone's labels and makes the shared tag the drone's own.
fn build_arguments(settings: &Settings, args: Vec<OsString>) -> Vec<OsString> {
    prepare(settings, false);
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

/// Makes what the CLI has fetched and generated the drone's own, before something is built from it.
fn prepare(settings: &Settings, label: bool) {
    installs::put_in_front(&settings.temporary);
    prepare_files(settings, label, &settings.temporary, 0);
}

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

/// Says why nothing is built, and stands still until hatchery ends the spawn. Nobody there means
/// that the hatchery which waited has died.
fn tell(control: &Path, refused: &Error) {
    let refusal = Refusal {
        message: refused.message(),
        hint: refused.what_next().map(str::to_owned),
    };
    // What it would say is said by the exit status too.
    if let Ok(mut stream) = say(control, &Word::Refused(refusal)) {
        let _ = stream.read_to_end(&mut Vec::new());
    }
}

fn replace(command: &mut Command) -> ExitCode {
    let error = command.exec();
    complain(&format!("{}: {error}", command.get_program().display()))
}

fn complain(what: &str) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "hatchery: {what}");
    ExitCode::FAILURE
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
            guard: None,
            buildkit: false,
            own_builder: false,
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
    fn a_build_is_asked_for_where_the_drone_has_a_builder() {
        let place = tempfile::tempdir().unwrap();
        let control = place.path().join("control");
        let listener = std::os::unix::net::UnixListener::bind(&control).unwrap();
        let settings = Settings {
            control,
            temporary: place.path().into(),
            own_builder: true,
            ..settings()
        };
        let answers = [
            (r#"{"Line":"1 done"}"#, "\"Built\"", true),
            (r#"{"Line":"no"}"#, "\"Failed\"", false),
            ("", "\"Failed\"", false),
            ("", "", false),
            ("", "nonsense", false),
        ];
        let hatchery = std::thread::spawn(move || {
            answers.map(|(first, last, _)| {
                let (mut stream, _) = listener.accept().unwrap();
                let mut line = String::new();
                BufReader::new(&stream).read_line(&mut line).unwrap();
                writeln!(stream, "{}{last}", first.replace('}', "}\n")).unwrap();
                line
            })
        });
        let args = os(&["buildx", "build", "--load", "-t", SHARED_TAG, "/x"]);
        for (_, last, built) in answers {
            let done = build_by_hatchery(&settings, Call::Docker(&args));
            assert_eq!(matches!(done, Ok(Some(_))), built, "{last}: {done:?}");
        }
        for line in hatchery.join().unwrap() {
            let Ok(Word::Build(build)) = serde_json::from_str(&line) else {
                panic!("{line}");
            };
            assert_eq!(build.tags, ["dev_container_feature_content_temp-a-b"]);
        }
        for (args, left) in [(&["ps", "-q"][..], true), (&["buildx", "version"], false)] {
            let done = build_by_hatchery(&settings, Call::Docker(&os(args)));
            assert_eq!(matches!(done, Ok(None)), left, "{args:?}");
        }
        let unknown = os(&["build", "--ssh=default", "/x"]);
        assert!(build_by_hatchery(&settings, Call::Docker(&unknown)).is_err());
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
}
