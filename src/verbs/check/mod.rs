//! `hatchery check`

mod origin;
mod report;

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueHint};

use self::report::Report;
use super::{Context, interrupted};
use crate::config::Config;
use crate::devcontainer::{Finding, Judgement, Repository};
use crate::docker::{Docker, Machine};
use crate::drone::DroneName;
use crate::drone::file::SOCKET;
use crate::error::{Code, Error, Result};
use crate::host::Places;
use crate::life::clone;
use crate::life::furnish::credentials::Helper;
use crate::life::hand_in;
use crate::repo::RepoId;
use crate::ui::Ui;

/// How long Docker may take to tell its version.
const VERSION_WITHIN: Duration = Duration::from_secs(2);

/// Check whether repositories' configurations pass the gate
///
/// Nothing is built or started, and Docker is not needed. Exit status: 0 all pass, 1 a configuration is
/// invalid, 6 the gate refuses one.
#[derive(Debug, Args)]
pub struct Check {
    /// Directories or repositories (org/repo or a URL), which are cloned for the check
    #[arg(value_name = "PATH|ORG/REPO", default_value = ".", value_hint = ValueHint::AnyPath)]
    what: Vec<OsString>,

    /// Check .devcontainer/NAME/devcontainer.json, if the repository has several
    #[arg(long, value_name = "NAME")]
    config: Option<String>,

    /// Report only what is wrong even if the repository is trusted
    #[arg(long)]
    trust: bool,

    /// Print the findings as SARIF 2.1.0, for code scanning in CI
    #[arg(long, conflicts_with = "json")]
    sarif: bool,
}

impl Check {
    /// Needs no directories of this server's for a directory, so that it runs for everyone and in CI.
    pub async fn run(self, config: Config, ui: &Ui) -> Result<ExitCode> {
        let whats: Vec<What> = self
            .what
            .iter()
            .map(|what| What::read(what))
            .collect::<Result<_>>()?;
        let machine = machine(&config).await;
        let github = config.github.url.host_str().unwrap_or_default();
        let mut all = Vec::with_capacity(whats.len());
        for what in whats {
            let (repo, judgement) = match what {
                What::Directory(path) => {
                    let repo = origin::of(path, github);
                    let judgement = self.judge(path, &repo, &config, &machine);
                    (repo, judgement)
                }
                What::Repository(name) => self.fetched(&name, &config, &machine, ui).await?,
            };
            all.push(Checked::of(repo, judgement)?);
        }
        Ok(self.tell(&all, ui))
    }

    /// The repository of this name, which is cloned, and what is found in it.
    async fn fetched(
        &self,
        name: &str,
        config: &Config,
        machine: &Machine,
        ui: &Ui,
    ) -> Result<(RepoId, Judgement)> {
        let context = Context {
            config: config.clone(),
            places: Places::of_this_user()?,
            ui,
        };
        let repo = context.repository(name).map_err(|error| {
            error.hint("write a directory, org/repo, or the repository's https or git@ URL")
        })?;
        let judgement = tokio::select! {
            judgement = self.cloned(&context, &repo, machine) => judgement,
            error = interrupted() => Err(error),
        }?;
        Ok((repo, judgement))
    }

    fn judge(&self, path: &Path, repo: &RepoId, config: &Config, machine: &Machine) -> Judgement {
        let choice = self.config.as_deref();
        Repository::judge(path, repo, choice, config, machine, self.trust)
    }

    /// Clones the repository as spawn does, but for its history, and judges that.
    async fn cloned(
        &self,
        context: &Context<'_>,
        repo: &RepoId,
        machine: &Machine,
    ) -> Result<Judgement> {
        let (config, places) = (&context.config, &context.places);
        let name = DroneName::of(repo);
        let _lock = places.lock(&name)?;
        let workshop = places.workshop(&name)?;
        // A drone that is there lends its tokens.
        let sockets = places.sockets(&name);
        let lent = UnixStream::connect(sockets.join(SOCKET)).is_ok();
        let helper = if lent { Helper::installed().ok() } else { None };
        let checkout = workshop.directory("check")?.join(repo.name());
        let job = clone::Job {
            config,
            repo,
            head: None,
            submodules: false,
            shallow: true,
            tokens: helper.as_ref().map(|helper| clone::Tokens {
                directory: &sockets,
                helper: helper.path(),
            }),
            hidden_host: &config.docker.host,
        };
        context.ui.step(&format!("Cloning {repo}"));
        let cage = workshop.directory("clone")?;
        clone::clone(&job, &checkout, &cage, &|line| context.ui.line(line)).await?;
        hand_in::into(&checkout, repo, config)?;
        Ok(self.judge(&checkout, repo, config, machine))
    }

    /// The reports, and the exit status that a spawn would have had: of what is wrong, if anything is.
    fn tell(&self, all: &[Checked], ui: &Ui) -> ExitCode {
        let reports: Vec<_> = all.iter().map(Checked::report).collect();
        if self.sarif {
            ui.json_result(&report::sarif(&reports));
        } else if ui.json() {
            match reports.as_slice() {
                [only] => ui.json_result(&only.json()),
                several => ui.json_result(&several.iter().map(Report::json).collect::<Vec<_>>()),
            }
        } else {
            for (at, (checked, report)) in all.iter().zip(&reports).enumerate() {
                if at > 0 {
                    ui.result("");
                }
                for line in report.lines() {
                    ui.result(line);
                }
                if let Some(hint) = checked.error.as_ref().and_then(Error::what_next) {
                    ui.result(format!("  -> {hint}"));
                }
                ui.result(report.conclusion());
            }
        }
        let errors = all.iter().filter_map(|checked| checked.error.as_ref());
        let wrong = errors.min_by_key(|error| error.code() == Code::GateRefused);
        wrong.map_or(ExitCode::SUCCESS, Error::exit_code)
    }
}

/// What is to be checked.
#[derive(Debug)]
enum What<'a> {
    Directory(&'a Path),
    Repository(Cow<'a, str>),
}

impl<'a> What<'a> {
    /// A directory that is there or is written as one, or else a repository.
    fn read(what: &'a OsStr) -> Result<Self> {
        let path = Path::new(what);
        let begins = what.as_encoded_bytes().first();
        match (path.is_dir(), begins) {
            (true, _) => Ok(Self::Directory(path)),
            (false, Some(b'.' | b'/')) => Err(Error::new(
                Code::Usage,
                format!("{} is not a directory", path.display()),
            )
            .hint("write a directory, or a repository as org/repo")),
            _ => Ok(Self::Repository(what.to_string_lossy())),
        }
    }
}

/// One repository, and what was found in it.
#[derive(Debug)]
struct Checked {
    repo: RepoId,
    file: Option<String>,
    findings: Vec<Finding>,
    /// What a spawn would say.
    error: Option<Error>,
}

impl Checked {
    /// The error is one that is not about the repository: there is no verdict then.
    fn of(repo: RepoId, judgement: Judgement) -> Result<Self> {
        let mut checked = Self {
            repo,
            file: judgement.file,
            findings: judgement.findings,
            error: None,
        };
        match judgement.verdict.err() {
            Some(error) if !checked.report().is_about(&error) => Err(error),
            error => {
                checked.error = error;
                Ok(checked)
            }
        }
    }

    fn report(&self) -> Report<'_> {
        Report::new(&self.repo, self.file.as_deref(), &self.findings)
    }
}

/// What Docker says that it is; without an answer, one that is taken for new.
async fn machine(config: &Config) -> Machine {
    let asking = async { Docker::connect(&config.docker).await?.version().await };
    let version = tokio::time::timeout(VERSION_WITHIN, asking).await;
    Machine {
        version: version.ok().and_then(Result::ok).unwrap_or_default(),
        ..Machine::default()
    }
}
