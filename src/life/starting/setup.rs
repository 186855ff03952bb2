//! What of a drone's setup has not come to a good end: lifecycle commands that failed, were not run because of
//! that, or went on when nobody waited for them any more.

use serde::{Deserialize, Serialize};

use super::running::Ended;
use crate::devcontainer::running::lifecycle::{Lifecycle, Stage};
use crate::ui::clean;

/// The commands of one property.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unfinished {
    /// Which property.
    #[serde(rename = "command")]
    pub stage: Stage,
    /// How they are.
    #[serde(flatten)]
    pub how: How,
}

/// How commands are that have not come to a good end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum How {
    /// One has failed.
    Failed {
        /// Which one: the property's name, with that of the command before it where there are several.
        which: String,
        /// Its exit status, where that is known.
        status: Option<i64>,
    },
    /// They were left running.
    LeftRunning,
    /// They were not run, for those before them did not end well or in time.
    NotRun,
}

/// All of them, in the order in which they are run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Setup(Vec<Unfinished>);

impl Setup {
    /// After a spawn that ran commands until this one, which is how it is said.
    pub fn until(stage: Stage, how: How, lifecycle: &Lifecycle) -> Self {
        let later = lifecycle.after(stage).map(|stage| Unfinished {
            stage,
            how: How::NotRun,
        });
        let this = Unfinished { stage, how };
        Self(std::iter::once(this).chain(later).collect())
    }

    /// The same after the commands of this property were run.
    #[must_use]
    pub(super) fn and(self, stage: Stage, ended: &Ended) -> Self {
        match ended {
            Ended::Well => self.without(stage),
            Ended::StillRuns => self.with(stage, How::LeftRunning),
            Ended::Badly(failure) => {
                let (which, status) = (failure.which.clone(), Some(failure.status));
                self.with(stage, How::Failed { which, status })
            }
        }
    }

    /// The same with this of one property.
    #[must_use]
    pub fn with(self, stage: Stage, how: How) -> Self {
        let mut all = self.without(stage).0;
        all.push(Unfinished { stage, how });
        all.sort_by_key(|it| it.stage);
        Self(all)
    }

    /// The same once the commands of this property have ended well.
    #[must_use]
    pub fn without(mut self, stage: Stage) -> Self {
        self.0.retain(|it| it.stage != stage);
        self
    }

    /// The same after the container was stopped: nothing of it runs any more.
    #[must_use]
    pub fn after_a_stop(mut self) -> Self {
        self.0.retain(|it| it.how != How::LeftRunning);
        self
    }

    /// What is left to be run, in order.
    pub fn due(&self) -> Vec<Stage> {
        let is_due = |it: &&Unfinished| it.how != How::LeftRunning;
        self.0.iter().filter(is_due).map(|it| it.stage).collect()
    }

    /// The failure that stands for all in a list.
    pub fn word(&self) -> Option<String> {
        self.0.iter().find_map(|it| match &it.how {
            How::Failed { .. } => Some(format!("{} failed", it.stage.short())),
            How::LeftRunning | How::NotRun => None,
        })
    }

    /// All in words. Nothing where all is well.
    pub fn words(&self) -> Option<String> {
        let said = self.0.iter().map(|it| match &it.how {
            How::Failed { which, status } => {
                let which = clean::line(which);
                status.map_or_else(
                    || format!("{which} failed"),
                    |status| format!("{which} failed with exit status {status}"),
                )
            }
            How::LeftRunning => format!("{} was left running", it.stage),
            How::NotRun => format!("{} was not run", it.stage),
        });
        let said = said.collect::<Vec<_>>().join(", ");
        (!said.is_empty()).then_some(said)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_failed_and_what_comes_after_it_is_due() {
        let metadata = [json!({"onCreateCommand": "x", "postCreateCommand": "x"})];
        let metadata = [
            &metadata[0],
            &json!({"postStartCommand": ["x"], "postAttachCommand": "x"}),
        ];
        let lifecycle = Lifecycle::of(&metadata.map(Clone::clone));
        let failed = How::Failed {
            which: "web of postCreateCommand".to_owned(),
            status: Some(3),
        };
        let setup = Setup::until(Stage::PostCreate, failed, &lifecycle);
        assert_eq!(setup.due(), [Stage::PostCreate, Stage::PostStart]);
        assert_eq!(setup.word().unwrap(), "postCreate failed");
        assert_eq!(
            setup.words().unwrap(),
            "web of postCreateCommand failed with exit status 3, postStartCommand was not run"
        );
        let text = json!(setup).to_string();
        assert_eq!(serde_json::from_str::<Setup>(&text).unwrap(), setup);
        let started = setup.without(Stage::PostStart);
        assert_eq!(started.due(), [Stage::PostCreate]);
        let well = started.without(Stage::PostCreate);
        assert_eq!(
            (well.due(), well.word(), well.words()),
            (vec![], None, None)
        );
    }

    #[test]
    fn what_was_left_running_is_neither_due_nor_a_failure_and_ends_with_the_container() {
        let lifecycle =
            Lifecycle::of(&[json!({"postCreateCommand": "x", "postStartCommand": "x"})]);
        let setup = Setup::until(Stage::PostCreate, How::LeftRunning, &lifecycle);
        assert_eq!((setup.due(), setup.word()), (vec![Stage::PostStart], None));
        let setup = setup.with(Stage::PostStart, How::LeftRunning);
        assert_eq!(setup.due(), []);
        let said = "postCreateCommand was left running, postStartCommand was left running";
        assert_eq!(setup.words().unwrap(), said);
        assert_eq!(setup.after_a_stop(), Setup::default());
    }
}
