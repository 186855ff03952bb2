//! Everything that a person or a script reads: results to stdout, progress and talk to stderr.
//! All of it passes [`clean`] on its way out, whoever said it.

use std::fmt::{self, Display};
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::sync::Mutex;

use super::clean;
use super::progress::{End, Progress};
use super::setting::Setting;
use super::table::Table;
use crate::error::{Code, Error, Result};
use crate::host::Transcript;
use crate::ui::voice;

type Sink = Mutex<Box<dyn Write + Send>>;

/// Where words go.
pub struct Ui {
    json: bool,
    terminal: bool,
    /// Whether each line of whatever is at work is told.
    verbose: bool,
    progress: Progress,
    results: Sink,
    talk: Sink,
    /// Why a part of the result could not be written.
    unwritten: Mutex<Option<io::Error>>,
    /// Where what is said to the person is kept as well.
    transcript: Mutex<Option<Transcript>>,
}

impl fmt::Debug for Ui {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ui")
            .field("json", &self.json)
            .field("terminal", &self.terminal)
            .finish_non_exhaustive()
    }
}

impl Ui {
    /// For a terminal if standard error is one, and for a script with `json`; with `verbose` it tells each line
    /// of whatever is at work.
    pub fn new(json: bool, verbose: bool) -> Self {
        let terminal = io::stderr().is_terminal() && !json;
        Self::writing_to(
            json,
            verbose,
            terminal,
            Setting::of(terminal),
            Box::new(io::stdout()),
            Box::new(io::stderr()),
        )
    }

    fn writing_to(
        json: bool,
        verbose: bool,
        terminal: bool,
        setting: Setting,
        results: Box<dyn Write + Send>,
        talk: Box<dyn Write + Send>,
    ) -> Self {
        Self {
            json,
            terminal,
            verbose,
            progress: Progress::new(setting),
            results: Mutex::new(results),
            talk: Mutex::new(talk),
            unwritten: Mutex::default(),
            transcript: Mutex::default(),
        }
    }

    /// For a test, which reads on paper what is said, where nobody watches.
    #[cfg(test)]
    pub(crate) fn on(paper: &crate::ui::paper::Paper, json: bool) -> Self {
        let (setting, paper) = (Setting::of(false), Box::new(paper.clone()));
        Self::writing_to(json, false, false, setting, paper.clone(), paper)
    }

    /// Whether results are to be JSON.
    pub const fn json(&self) -> bool {
        self.json
    }

    /// Whether a person watches who can be shown a symbol.
    pub const fn has_symbols(&self) -> bool {
        self.progress.has_symbols()
    }

    /// From now on steps, warnings and sentences are kept here as well, until [`Self::transcribed`].
    pub fn transcribe(&self, transcript: Transcript) {
        if let Ok(mut kept) = self.transcript.lock() {
            *kept = Some(transcript);
        }
    }

    /// Where what is said is kept, if it is.
    pub fn transcript(&self) -> Option<Transcript> {
        self.transcript.lock().ok()?.clone()
    }

    /// The same; from now on nothing is kept.
    pub fn transcribed(&self) -> Option<Transcript> {
        self.transcript.lock().ok()?.take()
    }

    /// Keeps a line where [`Self::transcribe`] said, and shows it to nobody.
    pub fn keep(&self, text: &str) {
        if let Some(transcript) = self.transcript() {
            transcript.said(text);
        }
    }

    /// A step of something that takes a while has begun.
    pub fn step(&self, text: &str) {
        self.keep(text);
        self.show_step(text);
    }

    /// The same of a step that the transcript has already.
    pub fn show_step(&self, text: &str) {
        let told = self.progress.begin(&clean::line(text));
        if let Some(line) = told.filter(|_| !self.json) {
            self.tell(&line);
        }
    }

    /// The step that is under way has failed; others may follow.
    pub fn step_failed(&self) {
        self.end(End::Badly);
    }

    fn end(&self, how: End) {
        if let Some(line) = self.progress.end(how) {
            self.tell(&line);
        }
    }

    /// The newest line of whatever is at work; only a person who watches sees it, or who has asked for it.
    pub fn line(&self, text: &str) {
        let text = clean::line(text);
        if self.verbose {
            self.tell(&format!("  {text}"));
        } else {
            self.progress.line(&text);
        }
    }

    /// Something that the person should know, though it does not stop the work.
    pub fn warn(&self, text: &str) {
        self.talk(&format!("warning: {text}"));
    }

    /// A sentence to the person.
    pub fn talk(&self, text: &str) {
        self.keep(text);
        self.tell(&clean::line(text));
    }

    /// The same of a line that is clean.
    fn tell(&self, line: &str) {
        self.progress.aside(|| write_line(&self.talk, line));
    }

    /// Whether a person can be asked.
    pub fn can_ask(&self) -> bool {
        self.terminal && io::stdin().is_terminal()
    }

    /// Asks; anything but a clear yes is no, and so is an end of the input. Dropped, nobody waits for the answer.
    pub async fn agreed(&self, question: &str) -> bool {
        // It is neither over nor gone wrong.
        drop(self.progress.end(End::Well));
        self.talk(&format!("{question} [y/N]"));
        let (told, answer) = tokio::sync::oneshot::channel();
        // It may never be given: a thread of its own waits for it.
        std::thread::spawn(move || {
            let mut line = String::new();
            let _ = io::stdin().read_line(&mut line);
            let _ = told.send(line);
        });
        let answer = answer.await.unwrap_or_default();
        is_yes(&answer)
    }

    /// The steps are over, and have come to a good end.
    pub fn finish(&self) {
        self.end(End::Well);
    }

    /// A line of the result.
    pub fn result(&self, line: impl Display) {
        self.finish();
        self.write_result(&clean::line(&line.to_string()));
    }

    fn write_result(&self, line: &str) {
        let Ok(mut results) = self.results.lock() else {
            return;
        };
        // A reader that has gone away (`| head`) is no failure.
        if let Err(error) = writeln!(results, "{line}")
            && error.kind() != io::ErrorKind::BrokenPipe
            && let Ok(mut unwritten) = self.unwritten.lock()
        {
            unwritten.get_or_insert(error);
        }
    }

    /// Whether all of the result has got to where it was to go.
    ///
    /// # Errors
    /// A part of it could not be written, as to a full disk.
    pub fn all_is_written(&self) -> Result<()> {
        let unwritten = self.unwritten.lock().ok().and_then(|mut it| it.take());
        unwritten.map_or(Ok(()), |error| Err(not_written(error)))
    }

    /// A table as the result.
    pub fn table<const N: usize>(&self, table: &Table<N>) {
        self.finish();
        self.write_table(table);
    }

    /// The same in the place of one before it, with this above it.
    pub fn table_again<const N: usize>(&self, title: &str, table: &Table<N>) {
        if let Ok(mut results) = self.results.lock() {
            // The cursor goes to the upper left corner, and what was there goes (ECMA-48: CUP, ED).
            let _ = writeln!(results, "\u{1b}[H\u{1b}[2J{}\n", clean::line(title));
        }
        self.write_table(table);
    }

    fn write_table<const N: usize>(&self, table: &Table<N>) {
        let stdout = io::stdout();
        let width = stdout.is_terminal().then(|| width_of(&stdout)).flatten();
        let colour = Setting::of(stdout.is_terminal()).has_colour;
        for line in table.lines(width, colour) {
            self.write_result(&line);
        }
    }

    /// A line of a result that may have no end; false where nobody reads it any more.
    ///
    /// # Errors
    /// It cannot be written, as to a full disk.
    pub fn row(&self, line: &str) -> Result<bool> {
        self.write_row(&clean::line(line))
    }

    /// The same for a script: a value on a line of its own.
    ///
    /// # Errors
    /// It cannot be written, as to a full disk.
    pub fn json_row(&self, value: &serde_json::Value) -> Result<bool> {
        self.write_row(&clean::json(&value.to_string()))
    }

    fn write_row(&self, line: &str) -> Result<bool> {
        let Ok(mut results) = self.results.lock() else {
            return Ok(false);
        };
        match writeln!(results, "{line}") {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
            Err(error) => Err(not_written(error)),
        }
    }

    /// The result for a script.
    pub fn json_result(&self, value: &impl serde::Serialize) {
        self.finish();
        let text = serde_json::to_string_pretty(value).unwrap_or_default();
        self.write_result(&clean::json(&text));
    }

    /// Tells of a failure and gives its exit status.
    pub fn failure(&self, error: &Error) -> ExitCode {
        self.step_failed();
        if self.json {
            self.json_result(&error.to_json());
            // Where it cannot be told there, it is told as to a person.
            if self.all_is_written().is_ok() {
                return error.exit_code();
            }
        }
        if let Some(words) = voice::lament(error.code()) {
            self.talk(words);
        }
        // However long the message is, its code is told.
        let code = error.code().as_str();
        self.tell(&format!("{} [{code}]", clean::line(&error.message())));
        for line in error.details() {
            self.talk(&format!("  | {line}"));
        }
        if let Some(hint) = error.what_next() {
            self.talk(&format!("  -> {hint}"));
        }
        error.exit_code()
    }

    /// What clap says, of help as of a mistake; gives the exit status.
    pub fn usage(&self, error: &clap::Error) -> ExitCode {
        let text = error.to_string();
        if error.use_stderr() && self.json {
            // What is missing, or may stand there, is on lines of its own.
            let lines = text.lines().map(str::trim);
            let said: Vec<_> = lines.take_while(|line| !line.is_empty()).collect();
            let said = said.join(" ");
            let error = Error::new(Code::Usage, said.trim_start_matches("error: "))
                .hint("`hatchery --help` shows the verbs and their arguments");
            return self.failure(&error);
        }
        // Help is our own; a mistake repeats what was typed.
        if !error.use_stderr() || clean::lines(&text).eq(text.lines().map(str::trim_end)) {
            let _ = error.print();
        } else {
            clean::lines(&text).for_each(|line| self.tell(&line));
        }
        ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
    }
}

fn is_yes(answer: &str) -> bool {
    matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

fn not_written(error: io::Error) -> Error {
    let what = "cannot write the result to standard output";
    Error::new(Code::HostFailed, what).because(error)
}

/// How many characters fit into a line of this terminal.
fn width_of(terminal: &io::Stdout) -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(terminal.as_fd()).ok()?;
    (size.ws_col > 0).then_some(usize::from(size.ws_col))
}

fn write_line(to: &Sink, line: &str) {
    if let Ok(mut to) = to.lock() {
        // Nobody can be told that nothing can be told.
        let _ = writeln!(to, "{line}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::paper::Paper;
    use proptest::prelude::*;

    /// Where nobody watches.
    fn plain(results: Box<dyn Write + Send>, talk: Box<dyn Write + Send>) -> Ui {
        Ui::writing_to(false, false, false, Setting::of(false), results, talk)
    }

    /// Says this in every way there is; what was written, and what the spinner shows.
    fn said(text: &str, json: bool, terminal: bool) -> (String, Vec<String>) {
        let paper = Paper::default();
        let copy = || Box::new(paper.clone());
        let setting = Setting {
            is_live: terminal,
            has_symbols: true,
            has_colour: false,
        };
        let ui = Ui::writing_to(json, false, terminal, setting, copy(), copy());
        ui.warn(text);
        ui.talk(text);
        ui.result(text);
        ui.json_result(&serde_json::json!({ text: [text] }));
        let error = Error::new(Code::GateRefused, text)
            .because(text)
            .hint(text)
            .with_details([text.to_owned()]);
        ui.failure(&error);
        ui.step(text);
        ui.line(text);
        let shown = ui.progress.shown().to_vec();
        (paper.text(), shown)
    }

    #[test]
    fn a_strangers_newline_begins_no_line_of_ours() {
        let (written, _) = said("x\nwarning: all is lost\r\u{1b}[2Kok", false, false);
        let ours = [
            "warning: x",
            "  | x",
            "  -> x",
            "x ",
            "{",
            "  \"x",
            "    \"x",
            "  ]",
            "}",
        ];
        for line in written.lines() {
            assert!(ours.iter().any(|begin| line.starts_with(begin)), "{line:?}");
        }
    }

    #[test]
    fn however_long_a_message_is_its_code_is_told() {
        let paper = Paper::default();
        let ui = plain(Box::new(io::sink()), Box::new(paper.clone()));
        ui.failure(&Error::new(Code::GateRefused, "x".repeat(100_000)));
        let written = paper.text();
        assert!(written.ends_with("… [gate-refused]\n"), "{}", written.len());
    }

    #[test]
    fn only_a_yes_is_one() {
        for (answer, yes) in [
            ("y\n", true),
            (" YES \n", true),
            ("", false),
            ("yep", false),
        ] {
            assert_eq!(is_yes(answer), yes, "{answer:?}");
        }
    }

    #[test]
    fn a_full_disk_is_an_error_and_a_reader_that_is_gone_is_none() {
        struct Gives(io::ErrorKind);
        impl Write for Gives {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(self.0.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        for (kind, is_written) in [
            (io::ErrorKind::StorageFull, false),
            (io::ErrorKind::BrokenPipe, true),
        ] {
            let to = Box::new(Gives(kind));
            let ui = plain(to, Box::new(io::sink()));
            assert!(ui.all_is_written().is_ok());
            ui.result("x");
            assert_eq!(ui.all_is_written().is_ok(), is_written, "{kind:?}");
        }
    }

    #[test]
    fn our_own_words_stay() {
        let (written, shown) = said("Spawning drone... 🟢 Hatchery ready.", false, true);
        assert!(written.contains("\nSpawning drone... 🟢 Hatchery ready.\n"));
        assert_eq!(shown[0], "Spawning drone... 🟢 Hatchery ready.");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn no_input_makes_a_control_character_reach_the_writer(
            any in any::<String>(),
            hostile in "[a-z\\x00-\\x1f\\x7f-\\u{9f}\\u{61c}\\u{200b}-\\u{200f}\\u{2028}-\\u{202e}\\u{2066}-\\u{2069}\\u{feff}\\u{e0041}]{0,40}",
            json in any::<bool>(), terminal in any::<bool>(),
        ) {
            let harmful = |c: char| (c != '\n' && c.is_control()) || matches!(c,
                '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
                | '\u{2066}'..='\u{2069}' | '\u{feff}' | '\u{e0001}'..='\u{e007f}');
            for text in [any, hostile] {
                let (written, shown) = said(&text, json, terminal);
                prop_assert!(!written.contains(harmful), "{written:?}");
                prop_assert!(!shown.iter().any(|text| text.contains(harmful) || text.contains('\n')), "{shown:?}");
            }
        }
    }
}
