//! What the shim looks at before the devcontainer CLI builds or starts anything.
//!
//! Published features, their dependencies and images without a name in the repository are known only when the
//! CLI has fetched them. By then it has also written the files that it builds from: they must have the form
//! that it gives them, so that no text can have become a part of them.

use std::ffi::OsString;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::Runtime;
use crate::devcontainer::building::Build;
use crate::devcontainer::building::project::{self, Wanted};
use crate::devcontainer::judging::metadata::{self, Entry, Own};
use crate::devcontainer::judging::mounts;
use crate::devcontainer::judging::policy::{self, Judgement};
use crate::devcontainer::judging::verdict::Gate;
use crate::devcontainer::judging::words::NOT_ONE_LINE;
use crate::devcontainer::reading::document::{Data, Node};
use crate::devcontainer::reading::jsonc;
use crate::devcontainer::reading::yaml;
use crate::drone::DroneName;
use crate::error::Result;

/// The largest file that is read, in bytes; the shim changes no larger one either.
const MAX_FILE: u64 = 1024 * 1024;

/// Features and generated files that are looked at.
const MAX_ENTRIES: usize = 1000;

/// What a drone may have, as far as the shim must know it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Rules {
    /// The drone's name.
    drone: String,
    /// The drone's `devcontainerId`: a volume whose name contains it is the drone's own.
    id: String,
    /// The directory of its sockets.
    sockets: Option<PathBuf>,
    /// Volumes that drones share.
    shared: Vec<String>,
    /// Hatchery's own compose file and the service that is the drone.
    compose: Option<(PathBuf, String)>,
    /// What runs its containers, where it is not Docker's default.
    runtime: Option<Runtime>,
}

/// A command that the devcontainer CLI runs.
#[derive(Debug, Clone, Copy)]
pub enum Call<'a> {
    /// `docker` with these arguments.
    Docker(&'a [OsString]),
    /// `docker-compose`, or `docker compose`, with these.
    Compose(&'a [OsString]),
}

impl Rules {
    /// Rules for this drone. `id` is its `devcontainerId`, `compose` hatchery's own compose file
    /// and the drone's service in it.
    pub fn new(
        drone: &DroneName,
        id: String,
        sockets: Option<&Path>,
        compose: Option<(PathBuf, String)>,
        runtime: Option<Runtime>,
    ) -> Self {
        Self {
            drone: drone.to_string(),
            id,
            sockets: sockets.map(Path::to_path_buf),
            shared: Vec::new(),
            compose,
            runtime,
        }
    }

    /// Sets the volumes that the drone shares with others.
    #[must_use]
    pub fn sharing(mut self, volumes: Vec<String>) -> Self {
        self.shared = volumes;
        self
    }

    /// Checks a call that builds or starts; all others pass. `temporary` is where the CLI keeps what it fetched
    /// and generated. The error lists what is refused.
    pub fn check(&self, call: Call<'_>, temporary: &Path) -> Result<()> {
        let mut gate = Gate::new(false, "").run_by(self.runtime);
        let looker = Looker {
            rules: self,
            temporary,
        };
        let changes = match call {
            Call::Docker(args) => looker.docker(args, &mut gate),
            Call::Compose(args) => looker.compose(args, &mut gate),
        };
        if changes {
            looker.fetched(&mut gate);
        }
        gate.verdict().map(|_| ())
    }
}

/// A call of compose that builds or starts.
#[derive(Debug)]
pub struct ComposeCall {
    files: Vec<PathBuf>,
    wanted: Wanted,
    no_cache: bool,
    pull: bool,
}

impl ComposeCall {
    /// What these arguments ask for; `None` where they neither build nor start. The error is a word
    /// that the devcontainer CLI does not write.
    pub fn read(args: &[OsString]) -> std::result::Result<Option<Self>, String> {
        let text = |word: &OsString| {
            word.to_str()
                .map(str::to_owned)
                .ok_or_else(|| word.to_string_lossy().into_owned())
        };
        let mut words = args.iter().filter(|word| *word != "compose");
        let mut files = Vec::new();
        let subcommand = loop {
            let Some(word) = words.next() else {
                return Ok(None);
            };
            match text(word)?.as_str() {
                "-f" => files.extend(words.next().map(PathBuf::from)),
                "--project-name" | "--env-file" | "--profile" => {
                    words.next();
                }
                word if word.starts_with('-') => return Err(word.to_owned()),
                word => break word.to_owned(),
            }
        };
        if !matches!(subcommand.as_str(), "build" | "up") {
            return Ok(None);
        }
        let (mut services, mut no_cache, mut pull) = (Vec::new(), false, false);
        for word in words {
            match text(word)?.as_str() {
                "--no-cache" => no_cache = true,
                "--pull" => pull = true,
                "-d" | "--no-recreate" | "--no-start" => {}
                word if word.starts_with('-') => return Err(word.to_owned()),
                word => services.push(word.to_owned()),
            }
        }
        let wanted = match subcommand.as_str() {
            "build" => Wanted::Build(services),
            _ => Wanted::Up(services),
        };
        Ok(Some(Self {
            files,
            wanted,
            no_cache,
            pull,
        }))
    }

    /// Whether it builds and starts nothing.
    pub const fn only_builds(&self) -> bool {
        matches!(self.wanted, Wanted::Build(_))
    }

    /// The builds that it needs, read from its files. The error says in words what cannot be read.
    pub fn builds(&self) -> std::result::Result<Vec<Build>, String> {
        let files = self.files.iter().map(|path| {
            let document = read(path).and_then(|text| yaml::parse(&text, "").ok());
            document
                .map(|document| document.to_value())
                .ok_or_else(|| format!("{} cannot be read", path.display()))
        });
        let files = files.collect::<std::result::Result<Vec<_>, _>>()?;
        project::builds(&files, &self.wanted, self.no_cache, self.pull)
    }

    fn services(&self) -> &[String] {
        let (Wanted::Build(services) | Wanted::Up(services)) = &self.wanted;
        services
    }
}

/// A check of what the CLI has made.
struct Looker<'a> {
    rules: &'a Rules,
    temporary: &'a Path,
}

const THE_CALL: &str = "what the devcontainer CLI calls docker with";
const UNKNOWN_FORM: &str = "hatchery does not know this form of it";
const NOT_THE_CLIS: &str = "the devcontainer CLI does not write this by itself";

impl Looker<'_> {
    /// Judges a call of docker. Returns whether it builds.
    fn docker(&self, args: &[OsString], gate: &mut Gate) -> bool {
        let words = match args {
            [first, rest @ ..] if first == "build" => rest,
            [first, second, rest @ ..] if first == "buildx" && second == "build" => rest,
            _ => return false,
        };
        gate.turn_to(THE_CALL);
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let Some(text) = one_line(word, gate) else {
                continue;
            };
            if !text.starts_with('-') || SWITCHES.contains(&text) {
                continue;
            }
            let (flag, attached) = match text.split_once('=') {
                Some((flag, value)) => (flag, Some(value)),
                None => (text, None),
            };
            if !VALUES.contains(&flag) {
                gate.refuse_text(0, "docker build", &quoted(text), NOT_THE_CLIS);
                continue;
            }
            let value = match attached {
                Some(value) => Some(value),
                None => words.next().and_then(|value| one_line(value, gate)),
            };
            if !value.is_some_and(|value| self.is_build_value(flag, value)) {
                let shown = quoted(value.unwrap_or_default());
                gate.refuse_text(0, &format!("docker build {flag}"), &shown, UNKNOWN_FORM);
            }
        }
        true
    }

    fn is_build_value(&self, flag: &str, value: &str) -> bool {
        match flag {
            "--target" => policy::is_name(value),
            "--cache-from" | "-t" | "--platform" => policy::is_image(value),
            "--network" => matches!(value, "default" | "none"),
            "--build-context" => self.is_content(value),
            "--build-arg" => is_argument(value),
            _ => true,
        }
    }

    /// Whether this is `NAME=DIRECTORY` for the features that the CLI has fetched.
    fn is_content(&self, text: &str) -> bool {
        let directory = text.strip_prefix("dev_containers_feature_content_source=");
        directory.is_some_and(|directory| self.is_temporary(directory))
    }

    fn is_temporary(&self, path: &str) -> bool {
        let path = Path::new(path);
        path.starts_with(self.temporary) && !path.components().any(|part| part.as_os_str() == "..")
    }

    /// Judges a call of compose and the files that the CLI adds. Returns whether it builds or starts.
    fn compose(&self, args: &[OsString], gate: &mut Gate) -> bool {
        gate.turn_to(THE_CALL);
        let mut lines = args.iter();
        if !lines.all(|word| one_line(word, gate).is_some()) {
            return true;
        }
        let call = match ComposeCall::read(args) {
            Ok(Some(call)) => call,
            Ok(None) => return false,
            Err(word) => {
                gate.refuse_text(0, "docker-compose", &quoted(&word), NOT_THE_CLIS);
                return true;
            }
        };
        let subcommand = if call.only_builds() { "build" } else { "up" };
        for name in call.services() {
            if !policy::is_name(name) {
                let property = format!("docker-compose {subcommand}");
                gate.refuse_text(0, &property, &quoted(name), NOT_THE_CLIS);
            }
        }
        let Some((own, service)) = &self.rules.compose else {
            gate.refuse_text(0, "docker-compose", subcommand, NOT_THE_CLIS);
            return true;
        };
        for file in &call.files {
            if file == own {
                continue;
            }
            gate.turn_to("the compose file that the devcontainer CLI generated");
            let shown = file.to_string_lossy();
            let text = self.is_temporary(&shown).then(|| read(file)).flatten();
            match text.and_then(|text| yaml::parse(&text, "").ok()) {
                Some(document) => self.compose_file(&document, service, gate),
                None => {
                    gate.refuse_text(0, "the file", &quoted(&shown), UNKNOWN_FORM);
                }
            }
        }
        true
    }

    /// A compose file that the CLI adds to hatchery's own: a part of the drone's service, and
    /// volumes that are the drone's.
    fn compose_file(&self, document: &Node, service: &str, gate: &mut Gate) {
        for (name, node) in document.properties() {
            match name.as_str() {
                "version" => {}
                "services" => {
                    for (name, node) in node.properties() {
                        if name == service {
                            self.service(node, gate);
                        } else {
                            let property = format!("services.{name:.80}");
                            gate.refuse(node, &property, "it is not the drone's service");
                        }
                    }
                }
                "volumes" => {
                    for (name, node) in node.properties() {
                        let plain = node.properties().iter().all(|(key, _)| key == "external");
                        if !plain || !self.owns(name) {
                            gate.refuse(node, &format!("volumes.{name:.80}"), NOT_OWN);
                        }
                    }
                }
                _ => {
                    gate.refuse(node, name, NOT_THE_CLIS);
                }
            }
        }
        if !document.is_map() {
            gate.refuse(document, "the file", UNKNOWN_FORM);
        }
    }

    fn service(&self, service: &Node, gate: &mut Gate) {
        for (key, node) in service.properties() {
            let fits = match key.as_str() {
                "image" => node.as_text().is_some_and(policy::is_image),
                "build" => {
                    self.build(node, gate);
                    true
                }
                "entrypoint" => {
                    let mut words = node.elements().iter().map(Node::as_text);
                    words.next() == Some(Some("/bin/sh"))
                        && words.next() == Some(Some("-c"))
                        && words.all(|word| word.is_some())
                }
                "command" => node.as_text().is_some() || texts(node).is_some(),
                "init" => matches!(node.data, Data::Bool(_)),
                // The door leaves it out.
                "privileged" if self.rules.runtime.is_some() => matches!(node.data, Data::Bool(_)),
                "user" => node.as_scalar().is_some_and(|user| policy::is_user(&user)),
                "environment" => each(node, |text| {
                    let name = text.split_once('=').map(|(name, _)| name);
                    name.is_some_and(policy::is_env_name)
                }),
                "cap_add" => each(node, |text| policy::capability(text) == Judgement::Pass),
                "security_opt" => each(node, |text| {
                    !matches!(policy::security_opt(text), Judgement::Refuse(_))
                }),
                "labels" => each(node, |text| {
                    ["hatchery.", "devcontainer."]
                        .iter()
                        .any(|own| text.starts_with(own))
                }),
                "volumes" => each(node, |text| {
                    mounts::judge_volume_flag(text, None).is_ok()
                        && text
                            .split_once(':')
                            .is_none_or(|(source, _)| self.owns(source))
                }),
                _ => {
                    gate.refuse(node, key, NOT_THE_CLIS);
                    continue;
                }
            };
            if !fits {
                gate.refuse(node, key, UNKNOWN_FORM);
            }
        }
        if !service.is_map() && service.data != Data::Null {
            gate.refuse(service, "services", UNKNOWN_FORM);
        }
    }

    fn build(&self, build: &Node, gate: &mut Gate) {
        for (key, node) in build.properties() {
            let text = node.as_text();
            let fits = match key.as_str() {
                "dockerfile" | "context" => text.is_some_and(|path| self.is_temporary(path)),
                "target" => text == Some("dev_containers_target_stage"),
                "args" => each(node, is_argument),
                "additional_contexts" => each(node, |text| self.is_content(text)),
                _ => false,
            };
            if !fits {
                gate.refuse(node, &format!("build.{key:.80}"), UNKNOWN_FORM);
            }
        }
        if !build.is_map() {
            gate.refuse(build, "build", UNKNOWN_FORM);
        }
    }

    fn owns(&self, volume: &str) -> bool {
        DroneName::from_label(&self.rules.drone)
            .is_some_and(|drone| policy::is_name(volume) && drone.owns(&self.rules.id, volume))
    }

    /// Judges what the CLI has fetched, and the Dockerfiles that it made of it.
    fn fetched(&self, gate: &mut Gate) {
        let clis = listed(self.temporary, gate).into_iter();
        let features = clis.map(|cli| cli.join("container-features"));
        let runs: Vec<PathBuf> = features.flat_map(|place| listed(&place, gate)).collect();
        for run in runs {
            for feature in listed(&run, gate) {
                // Where it unpacks archives.
                if !feature.ends_with("ociCache") {
                    fetched_feature(&feature, gate);
                }
            }
            for name in ["Dockerfile.extended", "Dockerfile-with-features"] {
                let path = run.join(name);
                if path.symlink_metadata().is_ok() {
                    self.dockerfile(&path, gate);
                }
            }
        }
    }

    fn dockerfile(&self, path: &Path, gate: &mut Gate) {
        let here = "the Dockerfile that the devcontainer CLI generated";
        gate.turn_to(here);
        let drone = DroneName::from_label(&self.rules.drone);
        let (Some(text), Some(drone)) = (read(path), drone) else {
            gate.refuse_text(0, "the file", "as a whole", UNKNOWN_FORM);
            return;
        };
        match generated_label(&text) {
            Ok(label) => {
                let own = Own {
                    drone: &drone,
                    sockets: self.rules.sockets.as_deref(),
                    shared: &self.rules.shared,
                };
                let entries = label.as_deref().map(serde_json::from_str::<Vec<Value>>);
                match entries {
                    Some(Ok(entries)) => metadata::check_entries(&entries, &own, gate),
                    Some(Err(_)) => {
                        gate.refuse_text(0, "LABEL", metadata::LABEL, UNKNOWN_FORM);
                    }
                    None => {}
                }
            }
            Err(instruction) => {
                gate.refuse_text(0, "the instruction", &quoted(&instruction), NOT_THE_CLIS);
            }
        }
    }
}

const NOT_OWN: &str = "it is not a volume of the drone's own";

/// Flags of `docker build` without a value.
const SWITCHES: &[&str] = &["--load", "--no-cache", "--pull", "--force-rm"];

/// Flags of `docker build` with one: the CLI's own and those that `build.options` may name.
const VALUES: &[&str] = &[
    "-f",
    "-t",
    "--add-host",
    "--build-arg",
    "--build-context",
    "--cache-from",
    "--label",
    "--network",
    "--platform",
    "--progress",
    "--shm-size",
    "--target",
    "--ulimit",
];

fn one_line<'a>(word: &'a OsString, gate: &mut Gate) -> Option<&'a str> {
    let text = word.to_str().filter(|text| policy::is_one_line(text));
    if text.is_none() {
        let shown = quoted(&word.to_string_lossy());
        gate.refuse_text(0, "an argument", &shown, NOT_ONE_LINE);
    }
    text
}

/// Whether this is a build argument, `NAME=VALUE`, of a form that the CLI writes.
fn is_argument(text: &str) -> bool {
    let Some((name, value)) = text.split_once('=') else {
        return false;
    };
    policy::is_env_name(name)
        && policy::is_one_line(value)
        && match name {
            "_DEV_CONTAINERS_IMAGE_USER" => is_user_of_image(value),
            "_DEV_CONTAINERS_BASE_IMAGE" | "_DEV_CONTAINERS_FEATURE_CONTENT_SOURCE" => {
                policy::is_image(value) || policy::is_name(value)
            }
            _ => true,
        }
}

/// A user as the CLI cuts it from a Dockerfile, quotes included; a variable may have left nothing.
fn is_user_of_image(text: &str) -> bool {
    text.len() <= 200
        && !text.starts_with('-')
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "_.-:\"'".contains(c))
}

fn texts(node: &Node) -> Option<Vec<&str>> {
    let list = node.is_list().then(|| node.elements());
    list?.iter().map(Node::as_text).collect()
}

fn each(node: &Node, fits: impl Fn(&str) -> bool) -> bool {
    texts(node).is_some_and(|texts| {
        texts
            .into_iter()
            .all(|text| policy::is_one_line(text) && fits(text))
    })
}

fn quoted(text: &str) -> String {
    format!("{text:?}")
}

/// The directories in this one. If they cannot all be listed, this is refused and the list is empty.
fn listed(path: &Path, gate: &mut Gate) -> Vec<PathBuf> {
    directories(path).unwrap_or_else(|| {
        gate.turn_to("what the devcontainer CLI has fetched");
        let why = "it contains a link to a directory, or more files than hatchery checks";
        gate.refuse_text(0, "the directory", &quoted(&path.to_string_lossy()), why);
        Vec::new()
    })
}

/// The directories in this one, which may be missing. `None` if some may be hidden: by an error, a link to a
/// directory, or too many entries.
fn directories(path: &Path) -> Option<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) => return (error.kind() == ErrorKind::NotFound).then(Vec::new),
    };
    let mut found = Vec::new();
    for (number, entry) in entries.enumerate() {
        let path = entry.ok()?.path();
        let kind = path.symlink_metadata().ok()?.file_type();
        if number >= MAX_ENTRIES || (kind.is_symlink() && path.is_dir()) {
            return None;
        }
        if kind.is_dir() {
            found.push(path);
        }
    }
    Some(found)
}

/// The text of a regular file; no link is followed. `None` as for [`text_of`].
fn read(path: &Path) -> Option<String> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    text_of(std::fs::File::from(
        rustix::fs::open(path, flags, Mode::empty()).ok()?,
    ))
}

/// The text of a file; `None` unless it is a regular file of at most 1 MiB in UTF-8.
pub fn text_of(file: std::fs::File) -> Option<String> {
    let metadata = file.metadata().ok()?;
    if !metadata.is_file() || metadata.len() > MAX_FILE {
        return None;
    }
    let mut text = String::new();
    file.take(MAX_FILE).read_to_string(&mut text).ok()?;
    Some(text)
}

/// A feature as the CLI has unpacked or copied it: a directory `<id>_<number>`.
fn fetched_feature(directory: &Path, gate: &mut Gate) {
    let name = directory.file_name().unwrap_or_default().to_string_lossy();
    let id = name.rsplit_once('_').map_or(&*name, |(id, _)| id);
    gate.turn_to(format!("the feature {id:.200}"));
    if !policy::is_name(&name) {
        gate.refuse_text(0, "id", &quoted(id), "this is not the name of a feature");
    }
    let file = "devcontainer-feature.json";
    let parsed = read(&directory.join(file)).and_then(|text| jsonc::parse(&text, file).ok());
    match parsed {
        Some(feature) => metadata::check_entry(&feature, gate, Entry::FetchedFeature),
        None => {
            gate.refuse_text(0, "the file", file, "it is missing or not readable");
        }
    }
}

/// The CLI's own part of a Dockerfile begins here and ends with the file.
const GENERATED: &str = "FROM $_DEV_CONTAINERS_BASE_IMAGE AS dev_containers_target_stage";

/// The label in the CLI's part of a Dockerfile, if there is one. The error is an instruction that the CLI does
/// not write.
fn generated_label(dockerfile: &str) -> std::result::Result<Option<String>, String> {
    let odd = |line: &str| Err(line.to_owned());
    let mut parts = dockerfile.split(GENERATED);
    let (Some(_), Some(generated), None) = (parts.next(), parts.next(), parts.next()) else {
        return odd(GENERATED);
    };
    let mut label = None;
    let mut lines = generated.split('\n');
    while let Some(line) = lines.next() {
        let mut instruction = line.to_owned();
        // Docker takes blanks after the backslash, too.
        while let Some(begun) = instruction.trim_end_matches([' ', '\t']).strip_suffix('\\') {
            let Some(next) = lines.next() else {
                return odd(&instruction);
            };
            // Docker would leave it out.
            if next.trim_start().starts_with('#') {
                return odd(next);
            }
            instruction = format!("{begun}{next}");
        }
        let instruction = instruction.trim();
        if let Some(rest) = instruction.strip_prefix("LABEL devcontainer.metadata=") {
            let Some(text) = unescaped(rest).filter(|_| label.is_none()) else {
                return odd(instruction);
            };
            label = Some(text);
        } else if !is_the_clis(instruction) {
            return odd(instruction);
        }
    }
    Ok(label)
}

/// Whether the CLI writes such an instruction after the stage that it begins.
fn is_the_clis(instruction: &str) -> bool {
    let (word, rest) = instruction.split_once(' ').unwrap_or((instruction, ""));
    match word {
        "" => rest.is_empty(),
        "USER" => matches!(rest, "root" | "$_DEV_CONTAINERS_IMAGE_USER"),
        "ARG" => rest == "_DEV_CONTAINERS_IMAGE_USER=root",
        "COPY" => {
            !rest.contains("<<")
                && rest
                    .trim_start_matches("--chown=root:root ")
                    .starts_with("--from=dev_containers_feature_content_")
        }
        "RUN" => {
            const BEGINS: &[&str] = &[
                "mkdir -p /tmp/dev-container-features",
                "echo \"_CONTAINER_USER_HOME=",
                "--mount=type=bind,from=dev_containers_feature_content_source,",
                "chmod -R 0755 /tmp/dev-container-features/",
            ];
            // What follows `<<` would be the command's input.
            !rest.contains("<<")
                && BEGINS
                    .iter()
                    .any(|begin| rest.trim_start().starts_with(begin))
        }
        "ENV" => rest
            .split_once('=')
            .is_some_and(|(name, value)| policy::is_env_name(name) && unescaped(value).is_some()),
        // The shim's own.
        "LABEL" => rest.starts_with("\"hatchery."),
        _ => false,
    }
}

/// The text of a quoted string, its escapes resolved; `None` if this is not exactly one quoted string.
fn unescaped(quoted: &str) -> Option<String> {
    let mut inside = quoted.strip_prefix('"')?.strip_suffix('"')?.chars();
    let mut text = String::with_capacity(quoted.len());
    while let Some(c) = inside.next() {
        match c {
            '\\' => text.push(inside.next()?),
            '"' => return None,
            c => text.push(c),
        }
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Code, Error};
    use serde_json::json;

    const ID: &str = "0123456789abcdef";

    /// A directory as the CLI leaves it, with the rules of a drone `a-b` of service `app`.
    struct Bed {
        directory: tempfile::TempDir,
        rules: Rules,
    }

    impl Bed {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let drone = DroneName::from_label("a-b").unwrap();
            let own = directory.path().join("compose.yaml");
            let rules = Rules::new(
                &drone,
                ID.into(),
                Some(Path::new("/run/hatchery/a-b")),
                Some((own, "app".into())),
                None,
            );
            Self { directory, rules }
        }

        fn temporary(&self) -> PathBuf {
            self.directory.path().join("tmp")
        }

        fn run(&self) -> PathBuf {
            self.temporary()
                .join("devcontainercli-root/container-features/0.89.0-1")
        }

        fn write(&self, file: &str, text: &str) -> PathBuf {
            let path = self.run().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, text).unwrap();
            path
        }

        fn feature(&self, directory: &str, feature: &Value) {
            let file = format!("{directory}/devcontainer-feature.json");
            self.write(&file, &feature.to_string());
        }

        fn docker(&self, args: &[&str]) -> Result<()> {
            let args: Vec<OsString> = args.iter().map(OsString::from).collect();
            self.rules.check(Call::Docker(&args), &self.temporary())
        }

        fn build(&self) -> Result<()> {
            self.docker(&["build", "-t", "x", "."])
        }

        fn compose(&self, args: &[&str]) -> Result<()> {
            let own = self.directory.path().join("compose.yaml");
            let own = own.to_str().unwrap();
            let own = ["--project-name", "a-b", "-f", own];
            let args: Vec<OsString> = own.iter().chain(args).map(OsString::from).collect();
            self.rules.check(Call::Compose(&args), &self.temporary())
        }

        /// Compose with this file of the CLI's, `/T` being its directory.
        fn generated(&self, text: &str) -> Result<()> {
            let run = self.run();
            let file = self.write("x.yml", &text.replace("/T", run.to_str().unwrap()));
            self.compose(&["-f", file.to_str().unwrap(), "up", "-d"])
        }
    }

    fn passes(what: &str, result: Result<()>) {
        assert!(result.is_ok(), "{what}: {}", result.unwrap_err().message());
    }

    fn refused(what: &str, result: Result<()>) -> Error {
        let Err(error) = result else {
            panic!("passes: {what}");
        };
        assert_eq!(error.code(), Code::GateRefused, "{what}");
        error
    }

    #[test]
    fn what_the_cli_fetched_is_named_by_feature_and_property() {
        let sshd = json!({"id": "sshd", "version": "1.1.0", "options": {"version": {"type": "string", "default": "latest"}},
            "entrypoint": "/usr/local/share/ssh-init.sh", "installsAfter": ["ghcr.io/devcontainers/features/common-utils"],
            "someFutureProperty": {"a": "b\nc"}, "description": "In two\nlines."});
        for (feature, property) in [
            (json!({"id": "../../x"}), "id"),
            (json!({"id": "x", "privileged": true}), "privileged"),
            (
                json!({"id": "x", "entrypoint": "a\"]\n    pid: host"}),
                "entrypoint",
            ),
            (
                json!({"id": "x", "mounts": "type=bind,source=/etc,target=/x"}),
                "mounts",
            ),
            (
                json!({"id": "x", "containerEnv": {"A": "x\nRUN id"}}),
                "containerEnv.A",
            ),
            (json!({"id": "x", "capAdd": ["SYS_ADMIN"]}), "capAdd"),
            (
                json!({"id": "x", "securityOpt": ["apparmor=unconfined"]}),
                "securityOpt",
            ),
            (
                json!({"id": "x", "options": {"o": {"default": "\n"}}}),
                "options.o",
            ),
            (json!({"id": "x", "version": "1\n"}), "version"),
            (
                json!({"id": "x", "dependsOn": {"https://a.example/x.tgz": {}}}),
                "dependsOn",
            ),
            (json!({"id": "x", "buildArg": "A"}), "buildArg"),
        ] {
            let bed = Bed::new();
            bed.feature("sshd_0", &sshd);
            std::fs::create_dir_all(bed.run().join("ociCache")).unwrap();
            passes("sshd", bed.build());
            bed.feature("x_1", &feature);
            passes("no build", bed.docker(&["inspect", "x"]));
            let message = refused("build", bed.build()).message();
            assert!(message.contains("the feature x"), "{message}");
            assert!(message.contains(property), "{message}");
            refused("buildx", bed.docker(&["buildx", "build", "."]));
            refused("compose", bed.compose(&["build"]));
            refused("compose", bed.compose(&["up", "-d", "--no-recreate"]));
            passes("no build", bed.compose(&["config"]));
        }
    }

    /// Those of the world, and published ones where `HATCHERY_FEATURES` names a directory of
    /// `<id>/devcontainer-feature.json`. What hands over the host is refused for that alone.
    #[test]
    fn published_features_pass() {
        let world = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/world/features");
        let more = std::env::var_os("HATCHERY_FEATURES").map(PathBuf::from);
        let features: Vec<PathBuf> = [Some(world), more]
            .into_iter()
            .flatten()
            .flat_map(|place| directories(&place).unwrap())
            .collect();
        assert!(!features.is_empty());
        for feature in features {
            let name = feature.file_name().unwrap().to_str().unwrap();
            let Some(text) = read(&feature.join("devcontainer-feature.json")) else {
                continue;
            };
            let bed = Bed::new();
            bed.write(&format!("{name}_0/devcontainer-feature.json"), &text);
            if let Err(error) = bed.build() {
                let message = error.message();
                let host = ["privileged true", "mounts {"];
                assert!(host.iter().any(|why| message.contains(why)), "{message}");
                eprintln!("{message}");
            }
        }
    }

    #[test]
    fn a_feature_without_a_file_of_its_own_is_refused() {
        let bed = Bed::new();
        bed.write("x_0/devcontainer-features.json", "{}");
        refused("v1", bed.build());
        let bed = Bed::new();
        let elsewhere = bed.write("elsewhere", "{}");
        std::fs::create_dir(bed.run().join("x_0")).unwrap();
        let link = bed.run().join("x_0/devcontainer-feature.json");
        std::os::unix::fs::symlink(elsewhere, link).unwrap();
        refused("a link", bed.build());
        let bed = Bed::new();
        bed.feature("a b_0", &json!({}));
        refused("a directory's name", bed.build());
    }

    #[test]
    fn what_is_not_looked_at_does_not_pass() {
        let bed = Bed::new();
        for number in 0..=MAX_ENTRIES {
            std::fs::create_dir_all(bed.temporary().join(number.to_string())).unwrap();
        }
        refused("more than is looked at", bed.build());
        let bed = Bed::new();
        bed.feature("x_0", &json!({"id": "x"}));
        passes("x", bed.build());
        let elsewhere = bed.directory.path().join("elsewhere");
        std::fs::create_dir(&elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, bed.run().join("y_1")).unwrap();
        refused("a link to a feature", bed.build());
    }

    const DOCKERFILE: &str = r#"# syntax=docker/dockerfile:1.4
ARG _DEV_CONTAINERS_BASE_IMAGE=scratch
FROM debian AS dev_container_auto_added_stage_label
RUN anything <<END
LABEL devcontainer.metadata="not this one"
END


ARG _DEV_CONTAINERS_BASE_IMAGE=scratch

FROM $_DEV_CONTAINERS_BASE_IMAGE AS dev_containers_feature_content_normalize
USER root
COPY --from=dev_containers_feature_content_source devcontainer-features.builtin.env /tmp/build-features/
RUN chmod -R 0755 /tmp/build-features/

FROM $_DEV_CONTAINERS_BASE_IMAGE AS dev_containers_target_stage

USER root

RUN mkdir -p /tmp/dev-container-features
COPY --from=dev_containers_feature_content_normalize /tmp/build-features/ /tmp/dev-container-features

RUN \
echo "_CONTAINER_USER_HOME=$( (command -v getent >/dev/null 2>&1 && getent passwd 'root' || grep -E '^root|^[^:]*:[^:]*:root:' /etc/passwd || true) | cut -d: -f6)" >> /tmp/dev-container-features/devcontainer-features.builtin.env && \
echo "_REMOTE_USER_HOME=x" >> /tmp/dev-container-features/devcontainer-features.builtin.env

ENV PATH="/go/bin:${PATH}"
ENV QUOTED="a\"b\\"
RUN --mount=type=bind,from=dev_containers_feature_content_source,source=sshd_0,target=/tmp/build-features-src/sshd_0 \
    cp -ar /tmp/build-features-src/sshd_0 /tmp/dev-container-features \
 && chmod -R 0755 /tmp/dev-container-features/sshd_0 \
 && ./devcontainer-features-install.sh
COPY --chown=root:root --from=dev_containers_feature_content_source /tmp/build-features/x_1 /tmp/dev-container-features/x_1
RUN chmod -R 0755 /tmp/dev-container-features/x_1 \
&& ./devcontainer-features-install.sh

#MORE
ARG _DEV_CONTAINERS_IMAGE_USER=root
USER $_DEV_CONTAINERS_IMAGE_USER

LABEL devcontainer.metadata="[ \
{\"id\":\"ghcr.io/devcontainers/features/sshd:1\",\"entrypoint\":\"/usr/local/share/ssh-init.sh\"}, \
{\"remoteUser\":\"vscode\",\"remoteEnv\":{\"A\":\"\${containerEnv:PATH}\\n\"},\"mounts\":[\"type=bind,source=/run/hatchery/a-b,target=/run/hatchery,readonly\"]} \
]"

ENV TS_NO_LOGS_NO_SUPPORT="true"

LABEL "hatchery.drone"="a-b"
"#;

    #[test]
    fn the_generated_dockerfile_has_the_clis_instructions_and_no_other() {
        let bed = Bed::new();
        let dockerfile = |text: &str| {
            bed.write("Dockerfile-with-features", text);
            bed.compose(&["build"])
        };
        passes(
            "as the CLI writes it",
            dockerfile(&DOCKERFILE.replace("#MORE", "")),
        );
        let empty = "\n    ARG _DEV_CONTAINERS_BASE_IMAGE=scratch\n\nFROM $_DEV_CONTAINERS_BASE_IMAGE AS dev_containers_target_stage\n\n";
        passes("without features", dockerfile(empty));
        for more in [
            "ENV A=\"x\nRUN id\"",
            "ENV A=\"x\"\nRUN id #\"",
            "ENV A=\"x\" B=\"y\"",
            "ENV A.\"=\"x\"",
            "LABEL devcontainer.metadata=\"[]\"",
            "LABEL a=\"b\"",
            "RUN chmod -R 0755 /tmp/dev-container-features/x <<END",
            "RUN mkdir -p /tmp/dev-container-features\\\n# x",
            "ONBUILD RUN id",
            "ENTRYPOINT [\"x\"]",
            "FROM debian",
            "FROM $_DEV_CONTAINERS_BASE_IMAGE AS dev_containers_target_stage",
            "COPY --from=other / /",
            "ADD https://a.example/ /",
            "USER nobody",
            "run id",
            "# comment",
        ] {
            refused(more, dockerfile(&DOCKERFILE.replace("#MORE", more)));
        }
        refused("no stage", dockerfile("FROM debian\n"));
        refused("too large", dockerfile(&"\n".repeat(1024 * 1024 + 1)));
    }

    #[test]
    fn the_label_in_it_is_held_to_the_policy() {
        for (entry, named) in [
            (
                json!({"id": "ghcr.io/a/b:1", "privileged": true}),
                "the feature ghcr.io/a/b:1: privileged",
            ),
            (
                json!({"id": "ghcr.io/a/b:1", "entrypoint": "a\"\n"}),
                "entrypoint",
            ),
            (
                json!({"remoteUser": ["root\n"]}),
                "the image's metadata: remoteUser",
            ),
        ] {
            let bed = Bed::new();
            let escaped: String = entry
                .to_string()
                .chars()
                .flat_map(|c| {
                    ["\\"]
                        .iter()
                        .filter(move |_| "\"\\$".contains(c))
                        .flat_map(|it| it.chars())
                        .chain([c])
                        .collect::<Vec<_>>()
                })
                .collect();
            let text = DOCKERFILE.replace("#MORE", "").replace(
                "{\\\"remoteUser\\\":",
                &format!("{escaped}, \\\n{{\\\"remoteUser\\\":"),
            );
            bed.write("Dockerfile.extended", &text);
            let message = refused("label", bed.build()).message();
            assert!(message.contains(named), "{message}");
        }
    }

    const OVERRIDE: &str = r#"services:
  'app':
    entrypoint: ["/bin/sh", "-c", "echo Container started\n
trap \"exit 0\" 15\n
/usr/local/share/ssh-init.sh\n
exec \"$$@\"\n
while sleep 1 & wait $$!; do :; done", "-"]
    command: ["sleep","infinity"]
    init: true
    user: root
    environment:
      - 'PATH=/go/bin:$${PATH}'
    cap_add:
      - NET_ADMIN
    security_opt:
      - seccomp=unconfined
      - no-new-privileges=false
    labels:
      - 'hatchery.drone=a-b'
      - 'devcontainer.metadata=[{"a":"it''s"}]'
    volumes:
      - tailscale-0123456789abcdef:/var/lib/tailscale
      - a-b.x:/x
      - /anonymous
volumes:
  tailscale-0123456789abcdef:
  a-b.x:
    external: true
"#;

    const BUILD: &str = "services:
  app:
    image: vsc-site-0123
    build:
      dockerfile: /T/Dockerfile-with-features
      target: dev_containers_target_stage
      context: /T/empty-folder
      args:
        - BUILDKIT_INLINE_CACHE=1
        - _DEV_CONTAINERS_BASE_IMAGE=dev_container_auto_added_stage_label
        - _DEV_CONTAINERS_IMAGE_USER=1000:1000
        - _DEV_CONTAINERS_FEATURE_CONTENT_SOURCE=dev_container_feature_content_temp-a-b
      additional_contexts:
        - dev_containers_feature_content_source=/T
";

    #[test]
    fn compose_files_of_the_clis_hold_its_keys_and_no_other() {
        let bed = Bed::new();
        passes("override", bed.generated(OVERRIDE));
        passes("build", bed.generated(BUILD));
        for (file, from, to) in [
            (
                BUILD,
                "=dev_container_auto_added_stage_label",
                "=base\n  db:\n    privileged: true",
            ),
            (BUILD, "=1000:1000", "=x\n      ssh: [default]"),
            (BUILD, "=1000:1000", "=x\n    pid: host"),
            (BUILD, "=1000:1000", "=$(id)"),
            (BUILD, "  app:", "  db:"),
            (BUILD, "/T/Dockerfile-with-features", "/etc/Dockerfile"),
            (BUILD, "/T/empty-folder", "/T/../../.."),
            (BUILD, "source=/T", "source=/etc"),
            (BUILD, "target: dev", "target: other"),
            (BUILD, "image: ", "image: -"),
            (OVERRIDE, "user: root", "user: root\n    privileged: true"),
            (OVERRIDE, "user: root", "user: root\n    network_mode: host"),
            (OVERRIDE, "user: root", "user: [root]"),
            (OVERRIDE, "- NET_ADMIN", "- SYS_ADMIN"),
            (
                OVERRIDE,
                "- NET_ADMIN",
                "- NET_ADMIN\n    devices:\n      - /dev/sda",
            ),
            (OVERRIDE, "- seccomp=unconfined", "- apparmor=unconfined"),
            (OVERRIDE, "- 'PATH=", "- 'A\\' B="),
            (OVERRIDE, "- a-b.x:/x", "- /etc:/x"),
            (OVERRIDE, "- a-b.x:/x", "- other-drone:/x"),
            (
                OVERRIDE,
                "- a-b.x:/x",
                "- {type: bind, source: /, target: /x}",
            ),
            (OVERRIDE, "  a-b.x:", "  other-drone:"),
            (
                OVERRIDE,
                "    external: true",
                "    driver_opts: {type: none, device: /, o: bind}",
            ),
            (OVERRIDE, "    external: true", "    name: other-drone"),
            (
                OVERRIDE,
                "- 'hatchery.drone",
                "- 'com.docker.compose.project",
            ),
            (
                OVERRIDE,
                "volumes:\n  tail",
                "networks: {x: {external: true}}\nvolumes:\n  tail",
            ),
            (OVERRIDE, "\"/bin/sh\"", "\"nsenter\""),
            (OVERRIDE, "services:", "- services:"),
        ] {
            assert!(file.contains(from), "{from}");
            refused(to, bed.generated(&file.replacen(from, to, 1)));
        }
        refused("not YAML", bed.generated("services: ["));
        refused("none", bed.compose(&["-f", "/etc/compose.yml", "up", "-d"]));
    }

    #[test]
    fn calls_hold_the_clis_flags_and_no_other() {
        let bed = Bed::new();
        let content = format!(
            "dev_containers_feature_content_source={}",
            bed.run().display()
        );
        passes(
            "buildx",
            bed.docker(&[
                "buildx",
                "build",
                "--load",
                "--build-arg",
                "BUILDKIT_INLINE_CACHE=1",
                "--build-context",
                &content,
                "--build-arg",
                "_DEV_CONTAINERS_BASE_IMAGE=mcr.microsoft.com/x:y",
                "--build-arg",
                "_DEV_CONTAINERS_IMAGE_USER=root",
                "--build-arg",
                "VARIANT=a b",
                "--target",
                "dev_containers_target_stage",
                "-f",
                "/x/Dockerfile.extended",
                "-t",
                "vsc-x-features",
                "--shm-size=1g",
                "--pull",
                "/x/empty-folder",
            ]),
        );
        for args in [
            &["--ssh=default=/root/.ssh/id"][..],
            &["--secret", "id=x,src=/etc/shadow"],
            &["--output=/"],
            &["--network=host"],
            &["--target", "a\nb"],
            &["--target", "-x"],
            &["--build-arg", "A=b\nc"],
            &["--build-arg", "HOME"],
            &["--build-arg", "_DEV_CONTAINERS_IMAGE_USER=a b"],
            &["--build-context", "x=/etc"],
            &[
                "--build-context",
                "dev_containers_feature_content_source=/etc",
            ],
            &["--cache-from", "type=local,src=/etc"],
            &["-f"],
        ] {
            let args: Vec<&str> = ["build"].iter().chain(args).copied().collect();
            refused(&format!("{args:?}"), bed.docker(&args));
        }
        passes(
            "up",
            bed.compose(&["up", "-d", "--no-recreate", "app", "db"]),
        );
        for args in [
            &["build", "--build-arg=INJECTED=1"][..],
            &["build", "--ssh=default=/root/.ssh/id", "app"],
            &["up", "-d", "--privileged"],
            &["up", "-d", "a\nb"],
            &["--file=/etc/x", "up", "-d"],
        ] {
            refused(&format!("{args:?}"), bed.compose(args));
        }
    }
}
