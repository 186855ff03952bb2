//! Why a drone gets no token, and how that is told on its socket.

use std::time::Duration;

use crate::repo::RepoId;

/// Why there is no token. It never holds a secret, and it is cheap to give to a thousand waiters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Not one of the drone's repositories.
    #[error(
        "{0:?} is not in this drone's scope; spawn the drone with `--repo` to add a repository"
    )]
    OutOfScope(String),
    /// GitHub says no: 401, 403, 404, 422 and other answers that trying again will not change.
    #[error("GitHub refuses ({status}): {message}")]
    Refused {
        /// GitHub's status.
        status: u16,
        /// GitHub's reason and what to do.
        message: String,
    },
    /// GitHub gave a token, but not for this repository.
    #[error(
        "GitHub issues no token for {0}: it was deleted or moved to another owner, or the App is not \
         installed on it"
    )]
    Gone(RepoId),
    /// GitHub's answer is not what it should be; nothing of it is used.
    #[error("GitHub's response was discarded: {0}")]
    Unusable(&'static str),
    /// GitHub granted what must not be used, and why that is so.
    #[error("GitHub's grant was discarded: {0}")]
    Rejected(String),
    /// GitHub limits the rate.
    #[error("GitHub's rate limit is reached; try again in {} s", .0.as_secs())]
    Limited(Duration),
    /// GitHub is down.
    #[error("GitHub is unavailable ({what}); try again in {} s", .wait.as_secs())]
    Away {
        /// What was seen of it.
        what: String,
        /// When to try again.
        wait: Duration,
    },
    /// GitHub does not answer.
    #[error("GitHub does not answer; try again, and check the server's network")]
    Silent,
    /// The drone had as many tokens as it may have in an hour.
    #[error("this drone was given {limit} tokens within an hour; try again in {} s", .wait.as_secs())]
    Exhausted {
        /// How many there may be.
        limit: usize,
        /// When there may be another.
        wait: Duration,
    },
}

impl Failure {
    /// The HTTP status on the drone's socket.
    pub const fn status(&self) -> u16 {
        match self {
            Self::OutOfScope(_) => 403,
            Self::Refused { .. } | Self::Gone(_) | Self::Unusable(_) | Self::Rejected(_) => 502,
            Self::Limited(_) | Self::Away { .. } => 503,
            Self::Silent => 504,
            Self::Exhausted { .. } => 429,
        }
    }

    /// The stable name in the error's JSON.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::OutOfScope(_) => "out-of-scope",
            Self::Refused { .. } => "github-refused",
            Self::Gone(_) => "repository-gone",
            Self::Unusable(_) | Self::Rejected(_) => "github-unusable",
            Self::Limited(_) => "github-limits",
            Self::Away { .. } => "github-away",
            Self::Silent => "github-silent",
            Self::Exhausted { .. } => "too-many-mints",
        }
    }

    /// After what time it is worth trying again, where that is known.
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Limited(wait) | Self::Away { wait, .. } | Self::Exhausted { wait, .. } => {
                Some(*wait)
            }
            _ => None,
        }
    }
}

/// A text from outside, fit for an error: short, printable, and without any word that is long
/// enough to be a token or a piece of one.
pub fn presentable(text: &str) -> String {
    let words = text.split_whitespace().map(|word| {
        if word.len() < 40 && word.chars().all(|c| !c.is_control()) {
            word
        } else {
            "…"
        }
    });
    let line = words.collect::<Vec<_>>().join(" ");
    line.chars().take(300).collect()
}
