//! Revocation: at once where GitHub lets us, otherwise in the background until it does.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use reqwest::Method;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::audit::Subject;
use super::failure::Failure;
use super::github::Auth;
use super::keeper::Keeper;
use crate::secret::Secret;

/// How long whoever revokes waits for GitHub.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest pause between two tries.
const MAX_PAUSE: Duration = Duration::from_secs(300);
/// How long an unusable grant's token is pursued: as long as GitHub's tokens live.
const LIFETIME: Duration = Duration::from_secs(3600);

/// A token that is to be revoked: no longer anybody's.
struct Condemned {
    owner: usize,
    secret: Secret,
    subject: Subject,
    /// How long it is pursued.
    until: SystemTime,
}

impl Keeper {
    /// Revokes every token that may still be good and forgets it. The failures are GitHub's;
    /// those tokens are tried again in the background.
    pub async fn revoke_all(self: &Arc<Self>) -> Result<(), Vec<String>> {
        // A mint under way is asked for by someone who came earlier: its token goes too.
        for owner in &self.owners {
            loop {
                let pending = owner.state().pending.clone();
                let Some(pending) = pending else { break };
                let _ = pending.await;
            }
        }
        let tries: Vec<_> = self
            .condemn_all()
            .into_iter()
            .map(|token| self.revoke_or_pursue(token))
            .collect();
        let failures: Vec<String> = join_all(tries)
            .await
            .into_iter()
            .filter_map(|told| told.ok().flatten())
            .collect();
        if failures.is_empty() {
            Ok(())
        } else {
            Err(failures)
        }
    }

    /// Forgets every token; those that may still be good are to be revoked.
    fn condemn_all(&self) -> Vec<Condemned> {
        let now = self.github.time().now();
        let mut condemned = Vec::new();
        for (index, owner) in self.owners.iter().enumerate() {
            let mut state = owner.state();
            state.current = None;
            let live = std::mem::take(&mut state.live);
            let live = live
                .iter()
                .filter(|minted| !minted.token.remaining(now).is_zero());
            condemned.extend(live.map(|minted| Condemned {
                owner: index,
                secret: minted.token.secret().clone(),
                subject: minted.subject(),
                until: minted.token.expires_at(),
            }));
        }
        condemned
    }

    /// Revokes a token that nobody may have, in the background.
    pub(super) fn revoke_unwanted(
        self: &Arc<Self>,
        owner: usize,
        secret: Secret,
        subject: Subject,
    ) {
        let token = Condemned {
            owner,
            secret,
            subject,
            until: self.github.time().now() + LIFETIME,
        };
        drop(self.revoke_or_pursue(token));
    }

    /// Tries at once, whether or not anybody waits for it, and goes on in the background. What
    /// failed at the first try, if it did.
    fn revoke_or_pursue(self: &Arc<Self>, token: Condemned) -> JoinHandle<Option<String>> {
        self.revoking.fetch_add(1, Ordering::Relaxed);
        let this = self.clone();
        self.runtime.spawn(async move {
            let Err(failure) = this.revoke(&token).await else {
                this.revoking.fetch_sub(1, Ordering::Relaxed);
                return None;
            };
            let told = format!("token {}…: {failure}", &token.subject.sha256[..12]);
            tokio::spawn(async move {
                this.pursue(token, failure).await;
                this.revoking.fetch_sub(1, Ordering::Relaxed);
            });
            Some(told)
        })
    }

    /// Tries until it is revoked or has expired.
    async fn pursue(&self, token: Condemned, mut failure: Failure) {
        let mut pause = self.github.patience().revocation;
        while self.github.time().now() < token.until {
            sleep(match failure {
                Failure::Limited(wait) => wait.max(pause),
                _ => pause,
            })
            .await;
            pause = (pause * 2).min(MAX_PAUSE);
            match self.revoke(&token).await {
                Ok(()) => return,
                Err(again) => failure = again,
            }
        }
    }

    async fn revoke(&self, token: &Condemned) -> Result<(), Failure> {
        let owner = &self.owners[token.owner];
        let outcome = match owner.at_peace(self.steady()) {
            Some(limited @ Failure::Limited(_)) => Err(limited),
            _ => self.send_revocation(&token.secret).await,
        };
        match &outcome {
            Ok(()) => self.audit.revoked(&token.subject),
            Err(failure) => {
                if matches!(failure, Failure::Limited(_)) {
                    owner.failed(failure, self.steady());
                }
                self.audit.not_revoked(&token.subject, failure);
            }
        }
        outcome
    }

    async fn send_revocation(&self, secret: &Secret) -> Result<(), Failure> {
        let url = self.github.url(&["installation", "token"]);
        let deadline = Instant::now() + PATIENCE;
        let answer = self
            .github
            .call(Method::DELETE, url, Auth::Token(secret), None, deadline)
            .await?;
        match answer.status {
            // GitHub does not know it any more: it has expired or was revoked before.
            204 | 401 | 404 => Ok(()),
            _ => Err(answer.refusal()),
        }
    }
}
