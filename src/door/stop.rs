//! Why the door does not do what it was asked for, and what it answers then.

use hyper::StatusCode;

/// Why a request was not carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// A drone may not have what was asked for; the spawn ends. Holds what the drone would have had.
    Refused(String),
    /// No spawn asks for this. Holds what was asked for.
    NotListed(String),
    /// There is no such thing, or it is another's, which for a drone is the same. Holds what was asked for.
    NotFound(String),
    /// The request itself is not one that Docker would understand.
    Malformed(String),
    /// Docker did not answer.
    Away(String),
}

/// The result of judging a request.
pub type Judged<T> = Result<T, Stop>;

impl Stop {
    /// The status of the answer.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Refused(_) | Self::NotListed(_) => StatusCode::FORBIDDEN,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::Malformed(_) => StatusCode::BAD_REQUEST,
            Self::Away(_) => StatusCode::BAD_GATEWAY,
        }
    }

    /// What the container would have had; for other reasons than a refusal, the message.
    pub fn reason(&self) -> String {
        match self {
            Self::Refused(what) => what.clone(),
            other => other.message(),
        }
    }

    /// The message of the answer, as Docker's own clients show it.
    pub fn message(&self) -> String {
        match self {
            Self::Refused(what) => format!("hatchery refuses it: the container would have {what}"),
            Self::NotListed(what) => {
                format!("hatchery refuses it: no spawn asks Docker for {what}")
            }
            // Clients know these words: what is missing is pulled.
            Self::NotFound(what) => format!("No such {what}"),
            Self::Malformed(why) => format!("hatchery does not understand the request: {why}"),
            Self::Away(why) => format!("Docker does not answer: {why}"),
        }
    }
}
