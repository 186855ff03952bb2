//! What a spawn starts from where that is not the default branch.

use std::cell::Cell;

use super::spawn::{admit, is_refusal, left_behind};
use super::{Context, interrupted};
use crate::devcontainer::NO_TRUST_HELPS;
use crate::docker::Docker;
use crate::drone::head::{Head, Sought};
use crate::drone::permission::Access;
use crate::drone::{Identity, Scope};
use crate::error::{Code, Error, Result};
use crate::life::clone;
use crate::life::furnish::credentials::Helper;
use crate::life::teardown;
use crate::repo::RepoId;

/// Asks GitHub for it. A private repository is asked with a token, which there is for a drone alone: for this
/// question there is one, whose tokens read and which is gone again afterwards.
pub async fn find(
    context: &Context<'_>,
    docker: &Docker,
    repo: &RepoId,
    sought: &Sought,
    trusted: bool,
) -> Result<Head> {
    context
        .ui
        .step(&format!("Looking for the {sought} of {repo}"));
    let permissions = [("contents", Access::Read), ("metadata", Access::Read)];
    let permissions = permissions.map(|(name, access)| name.parse().map(|name| (name, access)));
    let permissions: std::result::Result<_, _> = permissions.into_iter().collect();
    let scope = Scope::new(vec![repo.clone()], permissions.ok()).map_err(|error| {
        Error::new(Code::HostFailed, format!("cannot make a scope for {repo}")).because(error)
    })?;
    let asking = Identity::new(scope);
    let has_tokens = context.config.github.app_id.is_some();
    let is_there = Cell::new(false);
    let looking = async {
        let sockets = context.sockets().await?;
        if has_tokens {
            is_there.set(true);
            if let Err(error) = admit(context, docker, &asking).await {
                is_there.set(!is_refusal(&error));
                return Err(error);
            }
        }
        let directory = sockets.open(&context.config, &asking).await?;
        let helper = directory
            .as_ref()
            .map(|_| Helper::installed())
            .transpose()?;
        let workshop = context.places.workshop(&asking.name)?;
        let job = clone::Job {
            config: &context.config,
            repo,
            head: None,
            submodules: false,
            shallow: false,
            tokens: directory
                .as_ref()
                .zip(helper.as_ref())
                .map(|(directory, helper)| clone::Tokens {
                    directory,
                    helper: helper.path(),
                }),
            hidden_host: docker.host(),
        };
        let (within, cage) = (workshop.directory("refs")?, workshop.directory("clone")?);
        clone::head::find(&job, sought, trusted, &within, &cage).await
    };
    let found = tokio::select! {
        found = looking => found,
        error = interrupted() => Err(error),
    };
    if !is_there.get() {
        return found;
    }
    let (config, places) = (&context.config, &context.places);
    let left = std::future::ready(Ok(()));
    let failures = teardown::remove(docker, config, places, &asking, left).await;
    let mut failures = failures.into_iter();
    match found {
        Ok(head) => failures.next().map_or(Ok(head), Err),
        Err(error) => Err(left_behind(error, &failures.collect::<Vec<_>>())),
    }
}

/// Says what a drone from a fork's pull request has, and has not.
pub fn tell(context: &Context<'_>, identity: &Identity, has_chosen: bool) {
    let Some(Head::Stranger { number, trusted }) = identity.head else {
        return;
    };
    let repo = &identity.repo;
    context.ui.talk(&format!(
        "Pull request {number} is treated as untrusted: it is not the head of exactly one branch of {repo}."
    ));
    if context.config.github.app_id.is_some() && !has_chosen {
        context
            .ui
            .talk("Its GitHub tokens are read-only; `--permission` grants more.");
    }
    if !trusted {
        context.ui.talk(
            "It gets none of this server's secret variables, files, shared volumes or private images, and \
             devcontainer.trust does not apply to it; `--trust` changes that.",
        );
    }
}

/// Says of a refusal that trust in the repository is none in a fork of it.
pub fn explain(identity: &Identity, error: Error) -> Error {
    let Some(Head::Stranger {
        number,
        trusted: false,
    }) = identity.head
    else {
        return error;
    };
    let is_meant = error.code() == Code::GateRefused
        && error
            .what_next()
            .is_some_and(|hint| hint.contains("trust") && !hint.contains(NO_TRUST_HELPS));
    if !is_meant {
        return error;
    }
    let repo = &identity.repo;
    error.hint(format!(
        "pull request {number} is untrusted: neither devcontainer.trust nor `repositories` in [registries] \
         applies to it; if you trust its author with this server, run `hatchery spawn --trust --pr {number} \
         {repo}`"
    ))
}
