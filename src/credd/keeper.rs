//! One drone's tokens: cached, minted once however many ask, revoked.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::audit::Audit;
use super::budget::Budget;
use super::failure::{Failure, presentable};
use super::github::Github;
use super::mint::{Known, Mint, Minted};
use crate::drone::permission::{Access, Permission};
use crate::drone::{DroneName, Scope};
use crate::repo::RepoId;

/// A token with no more than this left is not handed out if another can be had.
pub const FRESH: Duration = Duration::from_secs(5 * 60);
/// A token with no more than this left is not handed out at all: it would expire on the way.
const SPENT: Duration = Duration::from_secs(5);
/// How long one who could have an older token waits for a new one.
const PATIENCE_WITH_FALLBACK: Duration = Duration::from_secs(3);
/// Failures in a row before GitHub is left in peace between two tries.
const FAILURES: u32 = 5;
/// The longest such peace.
const MAX_PEACE: Duration = Duration::from_secs(60);

type Outcome = Result<Arc<Minted>, Failure>;

/// The tokens of one drone.
pub struct Keeper {
    pub(super) github: Arc<Github>,
    pub(super) audit: Audit,
    pub(super) owners: Vec<Owner>,
    permissions: BTreeMap<Permission, Access>,
    budget: Budget,
    /// Tokens that are still to be revoked.
    pub(super) revoking: AtomicUsize,
    /// Where GitHub is spoken to: whoever asks may hang up, and may be on another thread, whose
    /// crowd must not delay what goes over connections that all share.
    pub(super) runtime: Handle,
}

/// The scope's repositories of one owner: they share an installation, and so a token.
pub(super) struct Owner {
    name: String,
    repositories: Vec<RepoId>,
    state: Mutex<State>,
}

#[derive(Default)]
pub(super) struct State {
    known: Known,
    pub(super) current: Option<Arc<Minted>>,
    /// All that may still be good, the current one among them.
    pub(super) live: Vec<Arc<Minted>>,
    pub(super) pending: Option<Shared<BoxFuture<'static, Outcome>>>,
    /// No request before this time, on the steady clock; and why.
    peace: Option<(Duration, Failure)>,
    failures: u32,
}

impl Owner {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why GitHub must not be asked about this owner at `now`, if it must not.
    pub(super) fn at_peace(&self, now: Duration) -> Option<Failure> {
        let state = self.state();
        let (until, failure) = state.peace.as_ref()?;
        let left = until.checked_sub(now).filter(|left| !left.is_zero())?;
        Some(match failure {
            Failure::Limited(_) => Failure::Limited(left.max(Duration::from_secs(1))),
            other => other.clone(),
        })
    }

    /// Takes note of a failure: of a rate limit for as long as it lasts, of others when they
    /// become many.
    pub(super) fn failed(&self, failure: &Failure, now: Duration) {
        if matches!(failure, Failure::Exhausted { .. }) {
            return;
        }
        let mut state = self.state();
        state.failures = state.failures.saturating_add(1);
        let wait = match failure {
            Failure::Limited(wait) => *wait,
            _ if state.failures > FAILURES => {
                let doublings = (state.failures - FAILURES).min(6);
                Duration::from_secs(1 << doublings).min(MAX_PEACE)
            }
            _ => return,
        };
        state.peace = Some((now + wait, failure.clone()));
    }
}

impl Keeper {
    /// The keeper of this drone's tokens. It speaks to GitHub on the runtime that this is called on.
    pub fn new(
        drone: DroneName,
        scope: &Scope,
        permissions: BTreeMap<Permission, Access>,
        github: Arc<Github>,
    ) -> Arc<Self> {
        // The own repository comes first in a scope, and so its owner here.
        let mut owners: Vec<Owner> = Vec::new();
        for repo in scope.repositories() {
            match owners
                .iter_mut()
                .find(|owner| owner.name.eq_ignore_ascii_case(repo.owner()))
            {
                Some(owner) => owner.repositories.push(repo.clone()),
                None => owners.push(Owner {
                    name: repo.owner().to_owned(),
                    repositories: vec![repo.clone()],
                    state: Mutex::default(),
                }),
            }
        }
        Arc::new(Self {
            github,
            audit: Audit::new(drone, permissions.clone()),
            owners,
            permissions,
            budget: Budget::default(),
            revoking: AtomicUsize::new(0),
            runtime: Handle::current(),
        })
    }

    /// The token that covers this repository; without one, the own owner's.
    pub async fn token(self: &Arc<Self>, repo: Option<&str>) -> Outcome {
        let (index, repo) = self.find(repo).inspect_err(|failure| {
            let asked = shown(repo.unwrap_or_default());
            self.audit.refused(&[asked], failure, self.steady());
        })?;
        let minted = self.fresh(index).await?;
        match repo {
            Some(repo) if !minted.covers.contains(&repo) => Err(Failure::Gone(repo)),
            _ => Ok(minted),
        }
    }

    fn find(&self, asked: Option<&str>) -> Result<(usize, Option<RepoId>), Failure> {
        let Some(text) = asked else {
            return Ok((0, None));
        };
        let outside = || Failure::OutOfScope(shown(text));
        let repo = RepoId::try_from(text.to_owned()).map_err(|_| outside())?;
        let index = self
            .owners
            .iter()
            .position(|owner| owner.repositories.contains(&repo))
            .ok_or_else(outside)?;
        Ok((index, Some(repo)))
    }

    /// A token that is good for a while: the cached one, or a new one, or, where that fails,
    /// the cached one as long as it is good at all.
    async fn fresh(self: &Arc<Self>, index: usize) -> Outcome {
        let (fallback, attempt) = {
            let now = self.github.time().now();
            let peace = self.owners[index].at_peace(self.steady());
            let mut state = self.owners[index].state();
            let left = |minted: &Arc<Minted>| minted.token.remaining(now);
            let current = state.current.clone();
            if let Some(minted) = current.as_ref().filter(|minted| left(minted) > FRESH) {
                return Ok(minted.clone());
            }
            let fallback = current.filter(|minted| left(minted) > SPENT);
            let attempt = match (state.pending.clone(), peace) {
                (Some(pending), _) => pending,
                (None, Some(failure)) => return fallback.ok_or(failure),
                (None, None) => state.pending.insert(self.start(index)).clone(),
            };
            (fallback, attempt)
        };
        match fallback {
            None => attempt.await,
            Some(older) => match timeout(PATIENCE_WITH_FALLBACK, attempt).await {
                Ok(Ok(minted)) => Ok(minted),
                Ok(Err(_)) | Err(_) => Ok(older),
            },
        }
    }

    /// Starts a mint of its own: whoever asked for it may hang up, others may wait for it too.
    fn start(self: &Arc<Self>, index: usize) -> Shared<BoxFuture<'static, Outcome>> {
        let this = self.clone();
        let deadline = self.github.deadline();
        let task = self.runtime.spawn(async move {
            let owner = &this.owners[index];
            let mut mint = Mint {
                github: &this.github,
                audit: &this.audit,
                budget: &this.budget,
                owner: &owner.name,
                repositories: &owner.repositories,
                permissions: &this.permissions,
                deadline,
                known: owner.state().known.clone(),
                unwanted: Vec::new(),
                moved: BTreeMap::new(),
                gone: std::collections::BTreeSet::new(),
            };
            let outcome = mint.run().await.map(Arc::new);
            let (known, unwanted) = (mint.known, mint.unwanted);
            this.settle(index, known, &outcome);
            for (secret, subject) in unwanted {
                this.revoke_unwanted(index, secret, subject);
            }
            outcome
        });
        async move {
            task.await
                .unwrap_or(Err(Failure::Unusable("reading it failed")))
        }
        .boxed()
        .shared()
    }

    fn settle(&self, index: usize, known: Known, outcome: &Outcome) {
        let owner = &self.owners[index];
        let now = self.github.time().now();
        match outcome {
            Ok(minted) => {
                let mut state = owner.state();
                state.live.retain(|old| !old.token.remaining(now).is_zero());
                state.live.push(minted.clone());
                state.current = Some(minted.clone());
                state.failures = 0;
                state.peace = None;
            }
            Err(failure) => {
                owner.failed(failure, self.steady());
                let asked: Vec<String> =
                    owner.repositories.iter().map(ToString::to_string).collect();
                self.audit.refused(&asked, failure, self.steady());
            }
        }
        let mut state = owner.state();
        state.known = known;
        state.pending = None;
    }

    pub(super) fn steady(&self) -> Duration {
        self.github.time().steady()
    }

    /// Whether something would be lost if the process ended now: a token that is still good, a
    /// request under way, a revocation to be tried again, or the memory of a drone that has had
    /// more mints than any drone needs.
    pub fn has_something_to_lose(&self) -> bool {
        let now = self.github.time().now();
        let busy = self.owners.iter().any(|owner| {
            let state = owner.state();
            let live = |minted: &Arc<Minted>| !minted.token.remaining(now).is_zero();
            state.pending.is_some() || state.live.iter().any(live)
        });
        busy || self.revoking.load(Ordering::Relaxed) > 0 || self.budget.strained(self.steady())
    }
}

/// A name that was asked for, fit to be told and written down: if it is not a repository's, it may
/// be anything, a token too.
fn shown(asked: &str) -> String {
    RepoId::try_from(asked.to_owned()).map_or_else(|_| presentable(asked), |repo| repo.to_string())
}
