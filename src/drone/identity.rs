//! Which drone it is.

use crate::drone::head::Head;
use crate::drone::{DroneName, Scope};
use crate::repo::RepoId;

/// A drone's identity: what is written onto its volume, container and image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The repository.
    pub repo: RepoId,
    /// The name, which follows from the repository.
    pub name: DroneName,
    /// What its tokens may touch.
    pub scope: Scope,
    /// What it was started from, where that is not the default branch.
    pub head: Option<Head>,
}

impl Identity {
    /// The identity of this scope's own repository.
    pub fn new(scope: Scope) -> Self {
        let repo = scope.own().clone();
        Self {
            name: DroneName::of(&repo),
            repo,
            scope,
            head: None,
        }
    }

    /// The same, started from this.
    #[must_use]
    pub fn started_from(mut self, head: Option<Head>) -> Self {
        self.head = head;
        self
    }

    /// Whether what it was started from is a stranger's whom nobody trusts: it gets none of this server's
    /// secrets.
    pub fn is_strangers(&self) -> bool {
        matches!(self.head, Some(Head::Stranger { trusted: false, .. }))
    }
}
