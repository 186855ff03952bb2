//! Steps of something that takes a while: on a terminal the one that is under way, with the last line of
//! whatever is at work, below those that are done; elsewhere a line when each begins.

use std::fmt::Write;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::setting::Setting;

/// How a step has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Well,
    Badly,
}

/// What is shown of steps.
#[derive(Debug)]
pub(super) struct Progress {
    setting: Setting,
    bar: ProgressBar,
    step: Mutex<Option<Step>>,
}

/// The step that is under way.
#[derive(Debug)]
struct Step {
    text: String,
    began: Instant,
}

impl Progress {
    pub(super) fn new(setting: Setting) -> Self {
        Self {
            setting,
            bar: ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden()),
            step: Mutex::default(),
        }
    }

    /// Whether a symbol can be shown to the person.
    pub(super) const fn has_symbols(&self) -> bool {
        self.setting.has_symbols
    }

    /// A step begins, and the one before it has come to a good end; a line for the person, if there is one.
    /// The same step again changes nothing.
    pub(super) fn begin(&self, text: &str) -> Option<String> {
        let before = {
            let mut step = self.step.lock().ok()?;
            if step.as_ref().is_some_and(|step| step.text == text) {
                return None;
            }
            step.replace(Step {
                text: text.to_owned(),
                began: Instant::now(),
            })
        };
        if !self.setting.is_live {
            return Some(text.to_owned());
        }
        if self.bar.is_hidden() {
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
            self.bar.enable_steady_tick(Duration::from_millis(100));
            if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix}  {wide_msg:.dim}") {
                self.bar.set_style(if self.setting.has_symbols {
                    style
                } else {
                    style.tick_chars("|/-\\ ")
                });
            }
        }
        self.bar.set_prefix(text.to_owned());
        self.bar.set_message("");
        Some(self.ended(&before?, End::Well))
    }

    /// The steps are over; a line on the last one, if there is one.
    pub(super) fn end(&self, how: End) -> Option<String> {
        self.bar.finish_and_clear();
        self.bar.set_draw_target(ProgressDrawTarget::hidden());
        let step = self.step.lock().ok()?.take()?;
        self.setting.is_live.then(|| self.ended(&step, how))
    }

    /// The newest line of whatever is at work.
    pub(super) fn line(&self, text: &str) {
        self.bar.set_message(without_digests(text));
    }

    /// Does something while nothing is shown.
    pub(super) fn aside(&self, act: impl FnOnce()) {
        self.bar.suspend(act);
    }

    /// `✓ Cloning acme/site  2.1 s`
    fn ended(&self, step: &Step, how: End) -> String {
        let (sign, colour) = match (how, self.setting.has_symbols) {
            (End::Well, true) => ("✓", "32"),
            (End::Badly, true) => ("✗", "33"),
            (End::Well, false) => ("ok:", "32"),
            (End::Badly, false) => ("failed:", "33"),
        };
        let sign = if self.setting.has_colour {
            format!("\u{1b}[{colour}m{sign}\u{1b}[0m")
        } else {
            sign.to_owned()
        };
        format!("{sign} {}  {}", step.text, length(step.began.elapsed()))
    }

    #[cfg(test)]
    pub(super) fn shown(&self) -> [String; 2] {
        let shown = [self.bar.prefix(), self.bar.message()];
        self.bar.set_draw_target(ProgressDrawTarget::hidden());
        shown
    }
}

/// `0.4 s`, `12 s`, `3 min 2 s`
fn length(time: Duration) -> String {
    let (seconds, tenths) = (time.as_secs(), time.subsec_millis() / 100);
    match seconds {
        0..10 => format!("{seconds}.{tenths} s"),
        10..60 => format!("{seconds} s"),
        _ => format!("{} min {} s", seconds / 60, seconds % 60),
    }
}

/// A builder's line without what only tells layers apart: `sha256:` and 64 digits, or the first 12 of them.
fn without_digests(line: &str) -> String {
    let mut kept = String::with_capacity(line.len());
    for word in line.split(' ').filter(|word| !is_digest(word)) {
        let gap = if kept.is_empty() { "" } else { " " };
        // Writing to a string does not fail.
        let _ = write!(kept, "{gap}{word}");
    }
    kept
}

fn is_digest(word: &str) -> bool {
    let word = word.trim_end_matches(':');
    let digits = word.strip_prefix("sha256:").unwrap_or(word);
    matches!(digits.len(), 12 | 64) && digits.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIVE: Setting = Setting {
        is_live: true,
        has_symbols: true,
        has_colour: false,
    };

    fn hidden(setting: Setting) -> Progress {
        Progress::new(setting)
    }

    #[test]
    fn on_a_terminal_a_step_is_told_when_it_has_ended() {
        let progress = hidden(LIVE);
        assert_eq!(progress.begin("Cloning"), None);
        assert_eq!(progress.begin("Cloning"), None);
        assert_eq!(progress.begin("Building").unwrap(), "✓ Cloning  0.0 s");
        assert_eq!(progress.end(End::Badly).unwrap(), "✗ Building  0.0 s");
        assert_eq!(progress.end(End::Well), None);
        assert_eq!(progress.begin("Building"), None);
        let plain = hidden(Setting {
            has_symbols: false,
            has_colour: true,
            ..LIVE
        });
        plain.begin("Cloning");
        let ended = plain.end(End::Badly).unwrap();
        assert_eq!(ended, "\u{1b}[33mfailed:\u{1b}[0m Cloning  0.0 s");
    }

    #[test]
    fn elsewhere_it_is_told_when_it_begins() {
        let progress = hidden(Setting {
            is_live: false,
            ..LIVE
        });
        assert_eq!(progress.begin("Cloning").unwrap(), "Cloning");
        assert_eq!(progress.begin("Cloning"), None);
        assert_eq!(progress.begin("Building").unwrap(), "Building");
        assert_eq!(progress.end(End::Well), None);
    }

    #[test]
    fn a_length_of_time_is_as_exact_as_one_needs() {
        for (milliseconds, told) in [
            (0, "0.0 s"),
            (2190, "2.1 s"),
            (12_900, "12 s"),
            (182_000, "3 min 2 s"),
        ] {
            assert_eq!(length(Duration::from_millis(milliseconds)), told);
        }
    }

    #[test]
    fn digests_are_left_out_and_nothing_else() {
        let digest = "4".repeat(64);
        for (line, left) in [
            (
                format!("#5 sha256:{digest} 10.49MB / 29.72MB 1.2s"),
                "#5 10.49MB / 29.72MB 1.2s",
            ),
            ("4f4fb700ef54: Pull complete".to_owned(), "Pull complete"),
            (format!("exporting {digest}"), "exporting"),
            (
                "Receiving objects: 12%".to_owned(),
                "Receiving objects: 12%",
            ),
            ("cafe".to_owned(), "cafe"),
        ] {
            assert_eq!(without_digests(&line), left);
        }
    }
}
