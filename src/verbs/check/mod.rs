//! `hatchery check`

mod origin;
mod report;

use std::ffi::{OsStr, OsString};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueHint};

use self::report::Report;
use super::{Context, interrupted};
use crate::config::Config;
use crate::devcontainer::{Judgement, Repository};
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

/// Check whether a repository's configuration passes the gate
///
/// Builds and starts nothing, and does not need Docker. Exit status: 0 it passes, 6 the gate refuses it, 1 something in it is wrong.
#[derive(Debug, Args)]
pub struct Check {
    /// A directory, or org/repo (or its https or git@ URL), which is cloned for the check
    #[arg(value_name = "PATH|ORG/REPO", default_value = ".", value_hint = ValueHint::AnyPath)]
    what: OsString,

    /// Which of the repository's .devcontainer/NAME/devcontainer.json
    #[arg(long, value_name = "NAME")]
    config: Option<String>,

    /// Check what remains wrong if the repository is trusted
    #[arg(long)]
    trust: bool,

    /// Print the findings as SARIF 2.1.0, for code scanning in CI
    #[arg(long, conflicts_with = "json")]
    sarif: bool,
}

impl Check {
    /// Needs no directories of this server's for a directory, so that it runs for everyone and in CI.
    pub async fn run(self, config: Config, ui: &Ui) -> Result<ExitCode> {
        let (repo, judgement) = if is_path(&self.what) {
            let path = Path::new(&self.what);
            if !path.is_dir() {
                let what = format!("{} is not a directory", path.display());
                return Err(Error::new(Code::Usage, what)
                    .hint("give a directory, or a repository as org/repo"));
            }
            let github = config.github.url.host_str().unwrap_or_default();
            let repo = origin::of(path, github);
            let machine = machine(&config).await;
            let judgement = self.judge(path, &repo, &config, &machine);
            (repo, judgement)
        } else {
            let places = Places::of_this_user()?;
            let context = Context { config, places, ui };
            let what = self.what.to_string_lossy();
            let repo = context.repository(&what).map_err(|error| {
                error.hint("give a directory, org/repo, or the repository's https or git@ URL")
            })?;
            let judgement = tokio::select! {
                judgement = self.cloned(&context, &repo) => judgement,
                error = interrupted() => Err(error),
            }?;
            (repo, judgement)
        };
        self.tell(&repo, judgement, ui)
    }

    fn judge(&self, path: &Path, repo: &RepoId, config: &Config, machine: &Machine) -> Judgement {
        let choice = self.config.as_deref();
        Repository::judge(path, repo, choice, config, machine, self.trust)
    }

    /// Clones the repository as spawn does, but for its history, and judges that.
    async fn cloned(&self, context: &Context<'_>, repo: &RepoId) -> Result<Judgement> {
        let (config, places) = (&context.config, &context.places);
        let name = DroneName::of(repo);
        let _lock = places.lock(&name)?;
        let workshop = places.workshop(&name)?;
        let machine = machine(config).await;
        // A drone that is there lends its tokens.
        let sockets = places.sockets(&name);
        let lent = UnixStream::connect(sockets.join(SOCKET)).is_ok();
        let helper = if lent { Helper::installed().ok() } else { None };
        let checkout = workshop.directory("check")?.join(repo.name());
        let job = clone::Job {
            config,
            repo,
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
        Ok(self.judge(&checkout, repo, config, &machine))
    }

    /// The report, and the exit status that a spawn would have had.
    fn tell(&self, repo: &RepoId, judgement: Judgement, ui: &Ui) -> Result<ExitCode> {
        let file = judgement.file.as_deref();
        let report = Report::new(repo, file, &judgement.findings);
        let error = match judgement.verdict {
            Ok(_) => None,
            Err(error) if report.is_about(&error) => Some(error),
            // Nothing of the repository's: there is no verdict.
            Err(error) => return Err(error),
        };
        let error = error.as_ref();
        if self.sarif {
            ui.json_result(&report.sarif());
        } else if ui.json() {
            ui.json_result(&report.json());
        } else {
            for line in report.lines() {
                ui.result(line);
            }
            if let Some(hint) = error.and_then(Error::what_next) {
                ui.result(format!("  -> {hint}"));
            }
            ui.result(report.conclusion());
        }
        Ok(error.map_or(ExitCode::SUCCESS, Error::exit_code))
    }
}

/// A directory that is there, or what is written as one.
fn is_path(what: &OsStr) -> bool {
    let begins = what.as_encoded_bytes().first();
    matches!(begins, Some(b'.' | b'/')) || Path::new(what).is_dir()
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
