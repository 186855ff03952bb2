//! Everything that a person or a script reads: results to stdout, progress and talk to stderr.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::error::Error;
use crate::{process, voice};

/// Where words go.
#[derive(Debug)]
pub struct Ui {
    json: bool,
    terminal: bool,
    spinner: ProgressBar,
    /// The step that is under way, so that none is told twice in a row.
    step: Mutex<String>,
}

impl Ui {
    /// For a terminal if standard error is one, and for a script with `json`.
    pub fn new(json: bool) -> Self {
        let terminal = io::stderr().is_terminal() && !json;
        let spinner = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        Self {
            json,
            terminal,
            spinner,
            step: Mutex::default(),
        }
    }

    /// Whether results are to be JSON.
    pub const fn json(&self) -> bool {
        self.json
    }

    /// Whether a person watches.
    pub const fn terminal(&self) -> bool {
        self.terminal
    }

    /// A step of something that takes a while has begun.
    pub fn step(&self, text: &str) {
        if let Ok(mut step) = self.step.lock()
            && std::mem::replace(&mut *step, text.to_owned()) == text
        {
            return;
        }
        if self.terminal {
            if self.spinner.is_hidden() {
                self.spinner.set_draw_target(ProgressDrawTarget::stderr());
                self.spinner.enable_steady_tick(Duration::from_millis(100));
                if let Ok(style) =
                    ProgressStyle::with_template("{spinner} {prefix}  {wide_msg:.dim}")
                {
                    self.spinner.set_style(style);
                }
            }
            self.spinner.set_prefix(text.to_owned());
            self.spinner.set_message("");
        } else if !self.json {
            self.talk(text);
        }
    }

    /// The newest line of whatever is at work; only a person who watches sees it.
    pub fn line(&self, text: &str) {
        if self.terminal {
            self.spinner.set_message(process::printable(text));
        }
    }

    /// Something that the person should know, though it does not stop the work.
    pub fn warn(&self, text: &str) {
        self.talk(&format!("warning: {text}"));
    }

    /// A sentence to the person.
    pub fn talk(&self, text: &str) {
        self.spinner.suspend(|| {
            let _ = writeln!(io::stderr(), "{text}");
        });
    }

    /// The steps are over: the spinner goes.
    pub fn finish(&self) {
        self.spinner.finish_and_clear();
        self.spinner.set_draw_target(ProgressDrawTarget::hidden());
    }

    /// A line of the result.
    pub fn result(&self, line: impl Display) {
        self.finish();
        // A reader that has gone away (`| head`) is no failure.
        let _ = writeln!(io::stdout(), "{line}");
    }

    /// The result for a script.
    pub fn json_result(&self, value: &impl serde::Serialize) {
        let text = serde_json::to_string_pretty(value).unwrap_or_default();
        self.result(text);
    }

    /// Tells of a failure and gives its exit status.
    pub fn failure(&self, error: &Error) -> ExitCode {
        self.finish();
        if self.json {
            self.json_result(&error.to_json());
            return error.exit_code();
        }
        if let Some(words) = voice::lament(error.code()) {
            self.talk(words);
        }
        self.talk(&format!("{} [{}]", error.message(), error.code().as_str()));
        for line in error.details() {
            self.talk(&format!("  | {line}"));
        }
        if let Some(hint) = error.what_next() {
            self.talk(&format!("  -> {hint}"));
        }
        error.exit_code()
    }
}
