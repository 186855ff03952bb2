//! The one error type: what happened, to what, and what to do next.

use std::fmt;
use std::process::ExitCode;

/// A result whose error is [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of failure this is. Its name ([`Code::as_str`]) is a contract: scripts match on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// The command line asks for something that does not exist or contradicts itself.
    Usage,
    /// What was given as a repository is not one.
    RepositoryMalformed,
    /// The configuration file is unreadable, has an unknown key or a bad value.
    ConfigInvalid,
    /// A secret named by the configuration cannot be read or is not what it should be.
    SecretUnreadable,
    /// No Docker daemon answers.
    DockerAway,
    /// Docker refused or failed to do something.
    DockerFailed,
    /// Something in a container, or Docker itself, did not come to its end in time.
    TimedOut,
    /// A program that hatchery needs is not installed.
    ProgramMissing,
    /// Node is older than the devcontainer CLI needs.
    NodeTooOld,
    /// The repository's devcontainer.json cannot be read.
    DevcontainerInvalid,
    /// The repository has several devcontainer.json and none was chosen, or not the one asked for.
    DevcontainerAmbiguous,
    /// Building the image failed.
    BuildFailed,
    /// The devcontainer CLI failed before the container ran.
    DevcontainerFailed,
    /// A lifecycle command (`postCreateCommand` and its like) failed; the drone runs.
    LifecycleFailed,
    /// The drone runs but something that it must serve does not.
    DroneUnhealthy,
    /// No space is left on a disk.
    DiskFull,
    /// There is no such repository, or it is not visible.
    RepositoryNotFound,
    /// The repository has no such branch or pull request to start from.
    HeadNotFound,
    /// There is no such drone.
    DroneNotFound,
    /// The drone is there but does not run.
    DroneNotRunning,
    /// The drone exists already.
    DroneExists,
    /// Another repository's drone has this name.
    NameTaken,
    /// Another hatchery is at work on this drone.
    DroneBusy,
    /// The work in the drone's volume would be lost.
    WorkWouldBeLost,
    /// As many drones as the configuration allows.
    LimitReached,
    /// The gate refused something in the repository's configuration.
    GateRefused,
    /// GitHub, or the way to it, is away.
    GithubAway,
    /// GitHub refused.
    GithubRefused,
    /// The control server of the tailnet is away.
    TailnetAway,
    /// The control server refused the key, the name or the request.
    TailnetRefused,
    /// No public key may log in to the drone.
    NoAuthorizedKey,
    /// Whoever calls may not do this on this server.
    NotAllowed,
    /// The person said stop.
    Interrupted,
    /// Several things failed while something was removed.
    Incomplete,
    /// A file or directory of the host cannot be read or written.
    HostFailed,
}

impl Code {
    /// The stable name, as in `--json` and in docs/troubleshooting.md.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Usage => "usage",
            Self::RepositoryMalformed => "repository-malformed",
            Self::ConfigInvalid => "config-invalid",
            Self::SecretUnreadable => "secret-unreadable",
            Self::DockerAway => "docker-away",
            Self::DockerFailed => "docker-failed",
            Self::TimedOut => "timed-out",
            Self::ProgramMissing => "program-missing",
            Self::NodeTooOld => "node-too-old",
            Self::DevcontainerInvalid => "devcontainer-invalid",
            Self::DevcontainerAmbiguous => "devcontainer-ambiguous",
            Self::BuildFailed => "build-failed",
            Self::DevcontainerFailed => "devcontainer-failed",
            Self::LifecycleFailed => "lifecycle-failed",
            Self::DroneUnhealthy => "drone-unhealthy",
            Self::DiskFull => "disk-full",
            Self::RepositoryNotFound => "repository-not-found",
            Self::HeadNotFound => "head-not-found",
            Self::DroneNotFound => "drone-not-found",
            Self::DroneNotRunning => "drone-not-running",
            Self::DroneExists => "drone-exists",
            Self::NameTaken => "name-taken",
            Self::DroneBusy => "drone-busy",
            Self::WorkWouldBeLost => "work-would-be-lost",
            Self::LimitReached => "limit-reached",
            Self::GateRefused => "gate-refused",
            Self::GithubAway => "github-away",
            Self::GithubRefused => "github-refused",
            Self::TailnetAway => "tailnet-away",
            Self::TailnetRefused => "tailnet-refused",
            Self::NoAuthorizedKey => "no-authorized-key",
            Self::NotAllowed => "not-allowed",
            Self::Interrupted => "interrupted",
            Self::Incomplete => "incomplete",
            Self::HostFailed => "host-failed",
        }
    }

    /// The exit status that goes with it: 1 failed, 2 usage, 3 not found, 4 exists already,
    /// 5 a limit, 6 the gate, 7 GitHub or the tailnet, 130 interrupted (128 + SIGINT).
    pub const fn status(self) -> u8 {
        match self {
            Self::Usage | Self::RepositoryMalformed | Self::ConfigInvalid => 2,
            Self::RepositoryNotFound | Self::HeadNotFound | Self::DroneNotFound => 3,
            Self::DroneExists | Self::NameTaken | Self::DroneBusy => 4,
            Self::LimitReached => 5,
            Self::GateRefused => 6,
            Self::GithubAway | Self::GithubRefused | Self::TailnetAway | Self::TailnetRefused => 7,
            Self::Interrupted => 130,
            Self::SecretUnreadable
            | Self::DockerAway
            | Self::DockerFailed
            | Self::TimedOut
            | Self::ProgramMissing
            | Self::NodeTooOld
            | Self::DevcontainerInvalid
            | Self::DevcontainerAmbiguous
            | Self::BuildFailed
            | Self::DevcontainerFailed
            | Self::LifecycleFailed
            | Self::DroneNotRunning
            | Self::DroneUnhealthy
            | Self::DiskFull
            | Self::WorkWouldBeLost
            | Self::NoAuthorizedKey
            | Self::NotAllowed
            | Self::Incomplete
            | Self::HostFailed => 1,
        }
    }
}

/// A failure, told to the person who meets it. It never holds a secret.
#[derive(Debug)]
pub struct Error {
    code: Code,
    message: String,
    hint: Option<String>,
    details: Vec<String>,
    place: Option<Box<(String, usize)>>,
    cause: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error of this kind; `message` says what happened, to what.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            hint: None,
            details: Vec::new(),
            place: None,
            cause: None,
        }
    }

    /// What the person can do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Lines that belong to it: the builder's last ones, the commits that would be lost.
    #[must_use]
    pub fn with_details(mut self, lines: impl IntoIterator<Item = String>) -> Self {
        self.details.extend(lines);
        self
    }

    /// The file that this is about and the line in it, 0 for the file as a whole. The message names
    /// them too.
    #[must_use]
    pub fn at(mut self, file: impl Into<String>, line: usize) -> Self {
        self.place = Some(Box::new((file.into(), line)));
        self
    }

    /// What this came from; its text is shown after the message.
    #[must_use]
    pub fn because(mut self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// The kind.
    pub const fn code(&self) -> Code {
        self.code
    }

    /// The message followed by its causes, on one line.
    pub fn message(&self) -> String {
        let mut text = self.message.clone();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            let part = error.to_string();
            // Some libraries repeat their source in their own text.
            if !text.contains(&part) {
                text.push_str(": ");
                text.push_str(&part);
            }
            cause = error.source();
        }
        text
    }

    /// What to do next, where something is known.
    pub fn what_next(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// The lines that belong to it.
    pub fn details(&self) -> &[String] {
        &self.details
    }

    /// The file and line that [`Self::at`] was given.
    pub fn place(&self) -> Option<(&str, usize)> {
        let (file, line) = self.place.as_deref()?;
        Some((file, *line))
    }

    /// The process exit status.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code.status())
    }

    /// `{"error": {"code", "message", "hint"}}`, what `--json` prints; `details` where there are.
    pub fn to_json(&self) -> serde_json::Value {
        let mut error = serde_json::json!({
            "code": self.code.as_str(),
            "message": self.message(),
            "hint": self.hint,
        });
        if !self.details.is_empty() {
            error["details"] = serde_json::json!(self.details);
        }
        serde_json::json!({ "error": error })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause.as_deref().map(|cause| cause as _)
    }
}

/// Whether an I/O error means that a disk or quota is full.
pub fn is_disk_full(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(
        error.kind(),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded
    )
}

/// Names the file or directory that an I/O operation failed on; `doing` reads like "write".
pub fn host_io(doing: &str, path: &std::path::Path, error: std::io::Error) -> Error {
    let code = if is_disk_full(&error) {
        Code::DiskFull
    } else {
        Code::HostFailed
    };
    let hint = match error.kind() {
        std::io::ErrorKind::PermissionDenied => {
            "run as root or as a member of the group hatchery".to_owned()
        }
        _ if code == Code::DiskFull => format!(
            "free some space on the disk that holds {}; `hatchery list` shows the drones",
            path.display()
        ),
        _ => return Error::new(code, format!("cannot {doing} {}", path.display())).because(error),
    };
    Error::new(code, format!("cannot {doing} {}", path.display()))
        .hint(hint)
        .because(error)
}
