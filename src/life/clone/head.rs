//! Other heads than the default branch: found at the server before anything is cloned, and checked out.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt;

use super::{Git, Job, last_words, url_of};
use crate::drone::head::{Head, Sought};
use crate::error::{Code, Error, Result};
use crate::process::Group;

/// The most that is read of a repository's list of refs, in bytes; a ref takes about a hundred.
const MAX_REFS: u64 = 32 * 1024 * 1024;
/// How long the server may take for that list.
const WITHIN: Duration = Duration::from_secs(120);

/// Asks the server for a branch or a pull request. `trusted` is what [`Sought::among`] takes.
///
/// It is [`Code::HeadNotFound`] where the repository has none such. git runs as in [`super::clone`], in `within`,
/// an empty directory.
pub async fn find(
    job: &Job<'_>,
    sought: &Sought,
    trusted: bool,
    within: &Path,
    cage: &Path,
) -> Result<Head> {
    let silent = |_: &str| {};
    let git = Git {
        job,
        into: within,
        cage,
        progress: &silent,
    };
    let refs = tokio::time::timeout(WITHIN, git.refs(sought)).await;
    let refs = refs.map_err(|_| {
        Error::new(
            Code::GithubAway,
            format!(
                "{} did not list its branches within {} s",
                url_of(&job.config.github, job.repo),
                WITHIN.as_secs()
            ),
        )
        .hint("try again later")
    })??;
    sought.among(&refs, trusted).ok_or_else(|| {
        Error::new(
            Code::HeadNotFound,
            format!("{} has no {sought}", job.repo),
        )
        .hint(format!(
            "`git ls-remote {}` lists its branches and pull requests; without `--branch` and `--pr` a drone \
             starts from the default branch",
            url_of(&job.config.github, job.repo)
        ))
    })
}

impl Git<'_> {
    /// The refs among which this is, as git-ls-remote(1) prints them.
    async fn refs(&self, sought: &Sought) -> Result<String> {
        let url = url_of(&self.job.config.github, self.job.repo);
        let mut command = self.command(Some(self.into))?;
        // The settings of a repository that this server's own directories may be in do not count.
        command.env(
            "GIT_CEILING_DIRECTORIES",
            self.into.parent().unwrap_or(self.into),
        );
        command.args(["ls-remote", "--", &url]);
        match sought {
            Sought::Pull(number) => {
                command.arg("refs/heads/*");
                command.arg(format!("refs/pull/{number}/head"));
            }
            branch => {
                let names = branch.branches();
                command.args(names.iter().map(|name| format!("refs/heads/{name}")));
            }
        }
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut group = Group::spawn(&mut command, "git")?;
        let (stdout, stderr) = (group.child().stdout.take(), group.child().stderr.take());
        let answering = async {
            let mut answer = Vec::new();
            if let Some(stdout) = stdout {
                let mut stdout = stdout.take(MAX_REFS + 1);
                let _ = stdout.read_to_end(&mut answer).await;
            }
            answer
        };
        let saying = async {
            match stderr {
                Some(stderr) => last_words(stderr, self.progress).await,
                None => String::new(),
            }
        };
        let (answer, said) = tokio::join!(answering, saying);
        if answer.len() as u64 > MAX_REFS {
            return Err(Error::new(
                Code::LimitReached,
                format!("{} has too many branches to search", self.job.repo),
            )
            .hint("name the branch: `--branch BRANCH`"));
        }
        if !group.wait().await?.success() {
            return Err(self.refused(&url, &said));
        }
        // A name that is no text is none that can be meant.
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    /// Checks out a pull request from a fork in a clone in which nothing is: on a branch `pr-N` that follows it,
    /// so that `git pull` works and `git push` finds nowhere to go. Its head is kept as a remote's branch, so it
    /// is no work that exists nowhere else.
    pub(super) async fn check_out_pull(&self, number: u32, url: &str) -> Result<()> {
        let there = format!("refs/pull/{number}/head");
        let here = format!("refs/remotes/pull/{number}/head");
        let (refspec, branch) = (format!("+{there}:{here}"), format!("pr-{number}"));
        let (remote, merge) = (
            format!("branch.{branch}.remote"),
            format!("branch.{branch}.merge"),
        );
        for arguments in [
            &[
                "config",
                "--local",
                "--add",
                "remote.origin.fetch",
                &refspec,
            ][..],
            &["-c", "gc.auto=0", "fetch", "--progress", "origin", &refspec],
            &["checkout", "--quiet", "--no-track", "-B", &branch, &here],
            &["config", "--local", &remote, "origin"],
            &["config", "--local", &merge, &there],
        ] {
            let mut command = self.command(Some(self.into))?;
            command.args(arguments);
            let (said, is_well) = self.run(command).await?;
            if !is_well {
                return Err(self.refused(url, &said));
            }
        }
        Ok(())
    }
}
