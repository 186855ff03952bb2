//! A repository's configuration, read and held against the policy, not yet bound to a server.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::config::Config;
use crate::devcontainer::judging::base::{self, Base};
use crate::devcontainer::judging::build::Place;
use crate::devcontainer::judging::compose::{self, Project};
use crate::devcontainer::judging::from;
use crate::devcontainer::judging::gate::{self, Passed};
use crate::devcontainer::judging::images::{self, Names};
use crate::devcontainer::judging::mounts::{self, Asked};
use crate::devcontainer::judging::verdict::{Finding, Gate};
use crate::devcontainer::judging::workspace::{self, Part, Workspace};
use crate::devcontainer::reading::checkout::Checkout;
use crate::devcontainer::reading::document::Node;
use crate::devcontainer::reading::jsonc;
use crate::devcontainer::reading::locate;
use crate::devcontainer::reading::variables;
use crate::docker::Machine;
use crate::drone::DroneName;
use crate::error::Result;
use crate::repo::RepoId;

/// What the gate says of a repository.
#[derive(Debug)]
pub struct Judgement {
    /// The devcontainer.json's path in the checkout, if there is one.
    pub file: Option<String>,
    /// All findings, in the order in which they were made: what keeps the repository from passing, and what is
    /// left out. Incomplete if `verdict` is an error that is not about the repository.
    pub findings: Vec<Finding>,
    /// The repository if it passes; otherwise the error with which a spawn ends.
    pub verdict: Result<Repository>,
}

/// What a repository asks for, as far as the gate lets it.
#[derive(Debug, Clone)]
pub struct Repository {
    pub(super) checkout: PathBuf,
    pub(super) passed: Passed,
    pub(super) project: Option<Project>,
    pub(super) workspace: Workspace,
    left_out: Vec<String>,
    file: Option<PathBuf>,
    read: BTreeMap<String, String>,
    images: Names,
    /// Whether its image is the one that this server's configuration names.
    is_configured: bool,
}

impl Repository {
    /// Reads the configuration in a checkout and refuses what the policy does not let through.
    ///
    /// `choice` is a variant's name or a path in the repository. Without a devcontainer.json the configured
    /// image is used. A repository that is `trusted`, here or by the configuration, passes as it is, except for
    /// what hatchery must set itself.
    pub fn judge(
        checkout: &Path,
        repo: &RepoId,
        choice: Option<&str>,
        config: &Config,
        docker: &Machine,
        trusted: bool,
    ) -> Judgement {
        let trusted = trusted || config.trusts(repo);
        let mut gate = Gate::new(trusted, "")
            .before(repo, docker)
            .with(&config.registries)
            .run_by(config.docker.runtime);
        let mut file = None;
        let read = locate::locate(checkout, choice).and_then(|found| {
            let checkout = Checkout::open(checkout)?;
            file = found.as_deref().map(|found| checkout.shown(found));
            Self::held_to(&mut gate, &checkout, found, repo, config)
        });
        // What cannot be read to its end is a finding as well.
        let shown = file.as_deref().unwrap_or_default();
        let unread = read.as_ref().err();
        let unread = unread.and_then(|error| Finding::of_error(error, shown));
        let verdict = read.and_then(|read| {
            let left_out = gate.verdict()?;
            Ok(Self { left_out, ..read })
        });
        let mut findings = gate.findings();
        findings.extend(unread);
        Judgement {
            file,
            findings,
            verdict,
        }
    }

    /// Reads the configuration in the checkout; the gate collects the findings.
    fn held_to(
        gate: &mut Gate,
        checkout: &Checkout,
        file: Option<PathBuf>,
        repo: &RepoId,
        config: &Config,
    ) -> Result<Self> {
        let drone = DroneName::of(repo);
        let shown = file
            .as_deref()
            .map_or_else(String::new, |file| checkout.shown(file));
        gate.turn_to(&shown);
        let document = match &file {
            Some(file) => jsonc::parse(&checkout.read(file)?, &shown)?,
            None => Node::from_value(&json!({"image": config.devcontainer.image})),
        };
        let document = if base::is_named(&document) {
            document
        } else {
            document.with("image", Node::text(0, config.devcontainer.image.as_str()))
        };
        let document = document.map_texts(&|text| variables::resolve(text, repo.name()));
        let base = file
            .as_deref()
            .and_then(Path::parent)
            .unwrap_or(checkout.root());
        let place = Place { checkout, base };
        let mut passed = gate::read(&document, &place, gate);
        let project = match &passed.base {
            Some(Base::Compose { files, service }) => {
                compose::read(files, service, checkout, &drone, gate)?
            }
            _ => None,
        };
        let mut images = project
            .as_ref()
            .map(|project| project.images.clone())
            .unwrap_or_default();
        gate.turn_to(&shown);
        if let Some(Base::Image(image)) = &passed.base {
            // The configured image too: which repositories a registry's images are for is said there.
            let line = document.get("image").map_or(0, |node| node.line);
            gate.check_registry(line, "image", image);
        }
        if file.is_some() {
            check_images(&document, &passed, checkout, config, &mut images, gate)?;
        }
        if let (Some(project), Some(services)) = (&project, document.get("runServices")) {
            gate.turn_to(&shown);
            project.check_services(services, gate);
        }
        let mount = match &project {
            Some(project) => project.workspace.as_ref(),
            None => passed.workspace_mount.as_ref(),
        };
        let mount = mount.map(|(root, target)| (*root, target.as_str()));
        let workspace = workspace::plan(repo.name(), mount, passed.workspace_folder.as_deref());
        let name = Path::new(&workspace.folder)
            .file_name()
            .and_then(OsStr::to_str);
        for value in passed.environment() {
            // Sessions have it too, and there nothing else replaces these.
            *value = value
                .replace("${containerWorkspaceFolder}", &workspace.folder)
                .replace(
                    "${containerWorkspaceFolderBasename}",
                    name.unwrap_or_default(),
                );
        }
        check_parts(&passed, &workspace, &shown, gate);
        let configured = &config.devcontainer.image;
        let is_configured = matches!(&passed.base, Some(Base::Image(image)) if image == configured);
        Ok(Self {
            checkout: checkout.root().to_path_buf(),
            passed,
            project,
            workspace,
            left_out: Vec::new(),
            file,
            read: checkout.seen(),
            images,
            is_configured,
        })
    }

    /// The devcontainer.json, where there is one.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// The texts of the files that describe it, by path in the checkout: devcontainer.json, Dockerfiles,
    /// compose files, features of its own. Files with variables' values are not among them.
    pub const fn read(&self) -> &BTreeMap<String, String> {
        &self.read
    }

    /// The image that is named directly, by devcontainer.json or the drone's service.
    pub fn image(&self) -> Option<&str> {
        match &self.passed.base {
            Some(Base::Image(image)) => Some(image),
            _ => self.project.as_ref().and_then(Project::image),
        }
    }

    /// The images that it names and that are not built for it.
    pub fn images(&self) -> &[String] {
        self.images.all()
    }

    /// The images that its containers and Dockerfiles are made from, each once.
    pub fn bases(&self) -> impl Iterator<Item = &str> {
        let named = self.images.bases().iter().map(String::as_str);
        let configured = self.image().filter(|_| self.is_configured);
        named.chain(configured)
    }

    /// The image that the drone's Dockerfile begins with, where its text says so.
    pub fn image_of_dockerfile(&self) -> Option<String> {
        let build = match (&self.project, &self.passed.base) {
            (Some(project), _) => project.build()?,
            (None, Some(Base::Build(build))) => build,
            _ => return None,
        };
        let text = |key: &str| build.get(key).and_then(Value::as_str);
        let file = Path::new(text("context").unwrap_or_default())
            .join(text("dockerfile").unwrap_or("Dockerfile"));
        let checkout = Checkout::open(&self.checkout).ok()?;
        let dockerfile = checkout.inside(checkout.root(), file.to_str()?).ok()?;
        let dockerfile = checkout.read(&dockerfile).ok()?;
        from::image(&dockerfile, text("target"))
    }

    /// Whether building its images runs only known code: it has no Dockerfile of its own, and `known` accepts
    /// its image and its features, which have no options but those in `options`, by feature: a feature may
    /// fetch and run what an option names.
    pub fn is_built_of(
        &self,
        known: impl Fn(&str) -> bool,
        options: &BTreeMap<String, Value>,
    ) -> bool {
        let builds = match &self.project {
            Some(project) => project.builds(),
            None => !matches!(self.passed.base, Some(Base::Image(_))),
        };
        let image = self
            .image()
            .is_some_and(|image| self.is_configured || known(image));
        let mut features = self.passed.features.iter();
        let is_plain = |name: &str, given: &Value| {
            given.as_object().is_some_and(serde_json::Map::is_empty)
                || options.get(name) == Some(given)
        };
        !builds && image && features.all(|(name, given)| known(name) && is_plain(name, given))
    }

    /// The mounts of a container outside compose: those of `mounts` and `runArgs`.
    pub(super) fn mounts(&self) -> impl Iterator<Item = &Asked> {
        let of_args = self.passed.run_args.mounts.iter();
        self.passed.mounts.iter().chain(of_args)
    }

    /// What is mounted of the clone although the repository lacks it, by its path in the clone.
    pub(super) fn absent(&self) -> impl Iterator<Item = String> {
        let project = self
            .project
            .iter()
            .flat_map(|project| project.absent.clone());
        let parts = self
            .mounts()
            .filter_map(|asked| Some(asked.mount()?.part()?.absent()?.to_owned()));
        project.chain(parts)
    }

    /// Whether the drone's own container mounts parts of the clone.
    pub(super) fn mounts_parts(&self) -> bool {
        let mut parts = self.mounts().filter_map(Asked::mount);
        self.project
            .as_ref()
            .is_some_and(|project| project.mounts_parts)
            || parts.any(|mount| mount.part().is_some())
    }

    /// Whether it is a compose project.
    pub const fn is_compose(&self) -> bool {
        self.project.is_some()
    }

    /// What the drone runs without, one line each: place, property and why.
    pub fn left_out(&self) -> &[String] {
        &self.left_out
    }

    /// The identifiers of the features that it asks for.
    pub fn features(&self) -> impl Iterator<Item = &str> {
        self.passed.features.keys().map(String::as_str)
    }
}

/// Checks that the parts of the repository that devcontainer.json mounts are in the drone's volume, and that
/// this Docker can mount them.
fn check_parts(passed: &Passed, workspace: &Workspace, shown: &str, gate: &mut Gate) {
    let of_args = passed
        .run_args
        .mounts
        .iter()
        .map(|asked| ("runArgs", asked));
    let of_mounts = passed.mounts.iter().map(|asked| ("mounts", asked));
    for (property, asked) in of_mounts.chain(of_args) {
        let Asked::Judged { mount, line } = asked else {
            continue;
        };
        let Some(part) = mount.part() else {
            continue;
        };
        gate.turn_to(shown);
        let node = Node::text(*line, mount.target());
        if *part == Part::Parent && workspace.in_volume().is_empty() {
            let why = "the directory that holds the clone is not in the drone";
            gate.refuse_always(&node, property, why);
        } else if mounts::subpath(part, workspace.in_volume()).is_some() {
            gate.check_part(&node, property);
        }
    }
}

/// Checks the images that devcontainer.json and its Dockerfile name, and adds them to `names`.
fn check_images(
    document: &Node,
    passed: &Passed,
    checkout: &Checkout,
    config: &Config,
    names: &mut Names,
    gate: &mut Gate,
) -> Result<()> {
    match &passed.base {
        // The administrator's own choice may be anywhere.
        Some(Base::Image(image)) if *image == config.devcontainer.image => {}
        Some(Base::Image(image)) => {
            let why = images::barred(image);
            if let (Some(why), Some(node)) = (why, document.get("image")) {
                gate.refuse(node, "image", why);
            }
            names.add(image);
        }
        Some(Base::Build(build)) => {
            let mut args = compose::arguments(build.get("args"));
            let listed = |key: &str| {
                build
                    .get(key)
                    .and_then(Value::as_array)
                    .into_iter()
                    .flatten()
            };
            for option in listed("options").filter_map(Value::as_str) {
                let argument = option.strip_prefix("--build-arg=");
                if let Some((name, value)) = argument.and_then(|text| text.split_once('=')) {
                    args.insert(name.to_owned(), value.to_owned());
                }
            }
            for image in listed("cacheFrom").filter_map(Value::as_str) {
                names.add_cache(image);
            }
            if let Some(file) = build.get("dockerfile").and_then(Value::as_str) {
                let file = Path::new(file);
                images::check_dockerfile(checkout, file, &args, &[], names, gate)?;
            }
        }
        _ => {}
    }
    Ok(())
}
