//! The commands of a devcontainer's life, and how long a spawn stays with each.

use std::fmt;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// How long the last command may hold a spawn if it need not be waited for.
const LAST: Duration = Duration::from_secs(30);
/// How long an earlier one may: if the spawn leaves it, those after it are not run.
const EARLIER: Duration = Duration::from_secs(5 * 60);
/// After this time a spawn says what it waits for.
const SAID_AFTER: Duration = Duration::from_secs(30);

/// A property of devcontainer.json that holds commands, in the order in which they are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Stage {
    /// Runs on the host, so only a trusted repository may have one. `waitFor` may name it.
    #[serde(rename = "initializeCommand")]
    Initialize,
    /// `onCreateCommand`
    #[serde(rename = "onCreateCommand")]
    OnCreate,
    /// `updateContentCommand`
    #[serde(rename = "updateContentCommand")]
    UpdateContent,
    /// `postCreateCommand`
    #[serde(rename = "postCreateCommand")]
    PostCreate,
    /// `postStartCommand`
    #[serde(rename = "postStartCommand")]
    PostStart,
    /// Runs when an editor attaches, not in a spawn.
    #[serde(rename = "postAttachCommand")]
    PostAttach,
}

impl Stage {
    const ALL: [Self; 6] = [
        Self::Initialize,
        Self::OnCreate,
        Self::UpdateContent,
        Self::PostCreate,
        Self::PostStart,
        Self::PostAttach,
    ];

    /// The property's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Initialize => "initializeCommand",
            Self::OnCreate => "onCreateCommand",
            Self::UpdateContent => "updateContentCommand",
            Self::PostCreate => "postCreateCommand",
            Self::PostStart => "postStartCommand",
            Self::PostAttach => "postAttachCommand",
        }
    }

    /// Those that are run in a drone, in order.
    pub const IN_THE_DRONE: [Self; 5] = [
        Self::OnCreate,
        Self::UpdateContent,
        Self::PostCreate,
        Self::PostStart,
        Self::PostAttach,
    ];

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|stage| stage.as_str() == name)
    }

    /// The property's name without `Command`, as a person types it.
    pub fn short(self) -> &'static str {
        let name = self.as_str();
        name.strip_suffix("Command").unwrap_or(name)
    }

    /// The stage that the devcontainer CLI names when it begins ("Running postStartCommand...").
    pub fn begun(progress: &str) -> Option<Self> {
        Self::named(progress.strip_prefix("Running ")?.trim_end_matches('.'))
    }

    /// The name of one of several commands of a stage that run at once, as the devcontainer CLI tells of it
    /// ("web of postCreateCommand from devcontainer.json").
    pub fn one_of(text: &str) -> Option<&str> {
        Self::ALL.into_iter().find_map(|stage| {
            let (name, _) = text.split_once(&format!(" of {stage} from "))?;
            Some(name)
        })
    }
}

impl Stage {
    /// The stage of a command that failed, and the command in few words, from the devcontainer CLI's report
    /// ("postCreateCommand from devcontainer.json", "web of postCreateCommand from …"). `None` if the text is
    /// about something else.
    pub fn that_failed(text: &str) -> Option<(Self, String)> {
        let stage = Self::ALL
            .into_iter()
            .find(|stage| text.contains(stage.as_str()))?;
        let command = match Self::one_of(text) {
            Some(name) => format!("{name} of {stage}"),
            None => stage.to_string(),
        };
        Some((stage, command))
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What the merged configuration says of its commands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lifecycle {
    wait_for: Option<Stage>,
    present: Vec<Stage>,
}

impl Lifecycle {
    /// Reads the entries of the merged configuration.
    pub fn of(metadata: &[Value]) -> Self {
        let wait_for = metadata
            .iter()
            .rev()
            .find_map(|entry| entry.get("waitFor")?.as_str())
            .and_then(Stage::named);
        let there = |stage: &Stage| {
            let mut commands = metadata
                .iter()
                .filter_map(|entry| entry.get(stage.as_str()));
            commands.any(is_something)
        };
        Self {
            wait_for,
            present: Stage::ALL.into_iter().filter(there).collect(),
        }
    }

    /// Whether there is a command of this stage.
    pub fn has(&self, stage: Stage) -> bool {
        self.present.contains(&stage)
    }

    /// Whether there is a `postAttachCommand`, which only an editor runs.
    pub fn attaches(&self) -> bool {
        self.has(Stage::PostAttach)
    }

    /// The commands that a spawn runs after this one.
    pub fn after(&self, stage: Stage) -> impl Iterator<Item = Stage> {
        let later = move |it: &&Stage| **it > stage && **it != Stage::PostAttach;
        self.present.iter().filter(later).copied()
    }

    /// For how long this command may hold a spawn, or a start; `None` is until it ends.
    pub fn patience(&self, stage: Stage) -> Option<Duration> {
        if stage <= self.wait_for.unwrap_or(Stage::UpdateContent) {
            return None;
        }
        let expected = self.wait_for.is_some() || stage == Stage::PostStart;
        let last = self.after(stage).next().is_none();
        Some(if expected && last { LAST } else { EARLIER })
    }
}

/// Whether a command is set: the CLI takes an empty one for none.
fn is_something(command: &Value) -> bool {
    match command {
        Value::String(text) => !text.trim().is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
        _ => false,
    }
}

/// What is to be done about the command that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Due {
    /// Show this to the user.
    Say(String),
    /// End the spawn without waiting for this command any longer.
    Leave(Stage),
}

/// Watches how long the commands take.
#[derive(Debug)]
pub struct Vigil {
    lifecycle: Lifecycle,
    running: Option<(Stage, Instant)>,
    said: bool,
}

impl Vigil {
    /// Nothing runs yet.
    pub const fn new(lifecycle: Lifecycle) -> Self {
        Self {
            lifecycle,
            running: None,
            said: false,
        }
    }

    /// The commands that it looks at.
    pub const fn lifecycle(&self) -> &Lifecycle {
        &self.lifecycle
    }

    /// Records that a command has begun. Several commands of one stage share its time.
    pub fn begun(&mut self, stage: Stage, now: Instant) {
        if self.running.is_none_or(|(before, _)| before != stage) {
            self.running = Some((stage, now));
            self.said = false;
        }
    }

    /// When to call [`Self::due`] again; `None` if there is no need.
    pub fn next(&self) -> Option<Instant> {
        let (stage, since) = self.running?;
        let end = self
            .lifecycle
            .patience(stage)
            .map(|patience| since + patience);
        let say = (!self.said).then_some(since + SAID_AFTER);
        [end, say].into_iter().flatten().min()
    }

    /// What is due by now.
    pub fn due(&mut self, now: Instant) -> Option<Due> {
        let (stage, since) = self.running?;
        let patience = self.lifecycle.patience(stage);
        if patience.is_some_and(|patience| now >= since + patience) {
            return Some(Due::Leave(stage));
        }
        if self.said || now < since + SAID_AFTER {
            return None;
        }
        self.said = true;
        Some(Due::Say(match patience {
            Some(patience) => format!(
                "{stage} is still running; waiting up to {} minutes for it to end.",
                patience.as_secs() / 60
            ),
            None => {
                format!("{stage} is still running; waiting for it to end, as waitFor says.")
            }
        }))
    }

    /// What to tell the user about a command that was left running in this drone.
    pub fn left(&self, stage: Stage, drone: &str) -> String {
        let missed: Vec<_> = self.lifecycle.after(stage).map(Stage::as_str).collect();
        let mut text = format!("{stage} is still running in the drone and is no longer waited for");
        if !missed.is_empty() {
            let missed = missed.join(", ");
            text = format!(
                "{text}; {missed} was not run: once it has ended, `hatchery rerun {drone}` runs it"
            );
        }
        text + "."
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn lifecycle(entries: &Value) -> Lifecycle {
        Lifecycle::of(entries.as_array().unwrap())
    }

    #[test]
    fn what_wait_for_names_is_waited_for_and_what_follows_is_not_for_ever() {
        use Stage::{OnCreate, PostCreate, PostStart, UpdateContent};
        let usual = lifecycle(&json!([{"postCreateCommand": "x"}, {"postStartCommand": ["x"]}]));
        let short =
            lifecycle(&json!([{"waitFor": "onCreateCommand", "postCreateCommand": {"a": "x"}}]));
        let all = lifecycle(&json!([{"waitFor": "x"}, {"waitFor": "postStartCommand"}]));
        let plain = lifecycle(&json!([{"postCreateCommand": "x", "postStartCommand": ""}]));
        for (lifecycle, stage, patience) in [
            (&usual, OnCreate, None),
            (&usual, UpdateContent, None),
            (&usual, PostCreate, Some(EARLIER)),
            (&usual, PostStart, Some(LAST)),
            (&short, OnCreate, None),
            (&short, UpdateContent, Some(EARLIER)),
            (&short, PostCreate, Some(LAST)),
            (&all, PostStart, None),
            (&plain, PostCreate, Some(EARLIER)),
        ] {
            assert_eq!(lifecycle.patience(stage), patience, "{lifecycle:?} {stage}");
        }
        assert!(!usual.attaches());
        for (command, attaches) in [
            (json!({"s": "x"}), true),
            (json!({}), false),
            (json!(" "), false),
        ] {
            let lifecycle = lifecycle(&json!([{"postAttachCommand": command}]));
            assert_eq!(lifecycle.attaches(), attaches, "{lifecycle:?}");
        }
    }

    #[test]
    fn it_is_said_once_and_left_in_time() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let entries = json!([{"postCreateCommand": "x", "postStartCommand": "y"}]);
        let mut vigil = Vigil::new(lifecycle(&entries));
        assert_eq!((vigil.next(), vigil.due(at(999))), (None, None));
        vigil.begun(Stage::PostCreate, start);
        vigil.begun(Stage::PostCreate, at(20));
        assert_eq!(vigil.next(), Some(at(30)));
        assert_eq!(vigil.due(at(29)), None);
        assert!(matches!(vigil.due(at(30)), Some(Due::Say(text)) if text.contains("5 minutes")));
        assert_eq!((vigil.due(at(31)), vigil.next()), (None, Some(at(300))));
        assert_eq!(vigil.due(at(300)), Some(Due::Leave(Stage::PostCreate)));
        assert!(vigil.left(Stage::PostCreate, "acme-site").contains(
            "postStartCommand was not run: once it has ended, `hatchery rerun acme-site` runs it"
        ));
        vigil.begun(Stage::PostStart, at(40));
        assert_eq!(vigil.due(at(70)), Some(Due::Leave(Stage::PostStart)));
        vigil.begun(Stage::OnCreate, at(100));
        assert!(matches!(vigil.due(at(999)), Some(Due::Say(_))));
        assert_eq!((vigil.due(at(9999)), vigil.next()), (None, None));
    }

    #[test]
    fn the_clis_words_name_a_stage() {
        assert_eq!(
            Stage::begun("Running postStartCommand..."),
            Some(Stage::PostStart)
        );
        for other in ["Running compose", "postStartCommand", "", "Running "] {
            assert_eq!(Stage::begun(other), None, "{other}");
        }
    }
}
