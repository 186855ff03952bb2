//! A server whose drones are always the same, for tests of how they are shown.

#[path = "../../tests/snapshots/mod.rs"]
mod snapshots;

use std::fmt::Write;
use std::path::Path;

use serde_json::json;
use tempfile::TempDir;

pub use self::snapshots::is_as_reviewed;
use super::Context;
use crate::config::Config;
use crate::devcontainer::running::lifecycle::Stage;
use crate::docker::{Container, Drone, Life};
use crate::drone::{Identity, Scope};
use crate::host::Places;
use crate::life::disk::Taken;
use crate::life::starting::Start;
use crate::life::starting::setup::{How, Setup};
use crate::life::work::known::Work;
use crate::life::work::look::Counts;
use crate::ui::Ui;
use crate::ui::paper::Paper;
use crate::ui::table::Table;

const CONFIG: &str = "[tailnet]\nlogin_server = \"https://headscale.example\"\ndomain = \"tail.example\"\n\
    auth_key_file = \"/k\"\n[github]\napp_id = \"1\"\n";

/// A server.
pub struct Server {
    place: TempDir,
    ui: Ui,
    paper: Paper,
}

impl Server {
    /// One with a tailnet and an App, where a script asks or a person does.
    pub fn new(json: bool) -> Self {
        let paper = Paper::default();
        Self {
            place: tempfile::tempdir().unwrap(),
            ui: Ui::on(&paper, json),
            paper,
        }
    }

    /// What its verbs work with.
    pub fn context(&self) -> Context<'_> {
        Context {
            config: Config::parse(CONFIG, Path::new("config.toml")).unwrap(),
            places: Places::under(self.place.path()),
            ui: &self.ui,
        }
    }

    /// All that was said.
    pub fn said(&self) -> String {
        self.paper.text()
    }
}

/// What this says.
pub fn told(json: bool, telling: impl FnOnce(&Ui)) -> String {
    let paper = Paper::default();
    telling(&Ui::on(&paper, json));
    paper.text()
}

/// A drone of this repository that sleeps.
pub fn sleeping(repo: &str) -> Drone {
    let scope = Scope::new(vec![repo.parse().unwrap()], None).unwrap();
    Drone {
        life: Life::Burrowed,
        container: Some("0123456789ab".to_owned()),
        created: Some(1_767_225_600),
        docker_status: "Exited (0)".to_owned(),
        started_at: Some("2026-01-01T00:00:00Z".to_owned()),
        ..Drone::bare(Identity::new(scope))
    }
}

/// The same that runs, where one works as node. Nothing of it is asked of this machine's kernel.
pub fn running(repo: &str) -> Drone {
    let container = json!({"Id": "0123456789ab", "Config": {"User": "node", "Labels": {}}});
    Drone {
        life: Life::Running,
        docker_status: "Up 3 hours".to_owned(),
        seen: Some(Container::from_json(container).into()),
        ..sleeping(repo)
    }
}

/// Writes down what was found of a drone with work in it, and of one whose setup has failed.
pub fn remember(places: &Places, with_work: &Drone, half_set_up: &Drone) {
    let name = &with_work.identity.name;
    let taken = Taken {
        bytes: 12 << 30,
        ..Taken::default()
    };
    taken.write(places, name).unwrap();
    let counts = Counts {
        uncommitted: 3,
        unpushed: 1,
        stashed: 0,
    };
    let (whole, at) = (true, 0);
    Work { counts, whole, at }.write(places, name).unwrap();
    let how = How::Failed {
        which: "postCreateCommand".to_owned(),
        status: Some(1),
    };
    let start = Start {
        folder: "/workspaces/half".to_owned(),
        setup: Setup::default().with(Stage::PostCreate, how),
        ..Start::default()
    };
    start.write(places, &half_set_up.identity.name).unwrap();
}

/// The text with `[TIME] ago` for each time that it says something is ago.
pub fn without_times(text: &str) -> String {
    let is_time = |word: &str| {
        word.starts_with(|c: char| c.is_ascii_digit()) && word.ends_with(char::is_alphabetic)
    };
    let mut parts = text.split(" ago").peekable();
    let mut shown = String::new();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            shown += part;
            break;
        }
        let mut before = part;
        while let Some((rest, word)) = before.rsplit_once(' ')
            && is_time(word)
        {
            before = rest;
        }
        shown += before;
        shown += " [TIME] ago";
    }
    shown
}

/// A table at each width, without colour and with it. What begins a colour is shown as `ESC`.
pub fn as_table<const N: usize>(table: &Table<N>) -> String {
    let mut shown = String::new();
    for (width, what) in [
        (Some(80), "80 columns"),
        (Some(200), "200 columns"),
        (None, "a file"),
    ] {
        for colour in [false, true] {
            let hue = if colour { ", with colour" } else { "" };
            let lines = table.lines(width, colour).join("\n");
            let lines = lines.replace('\u{1b}', "ESC");
            writeln!(shown, "# {what}{hue}\n{lines}\n").unwrap();
        }
    }
    shown
}
