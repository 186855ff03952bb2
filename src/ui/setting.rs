//! What a terminal, or what stands in its place, can show.

use std::ffi::OsString;

/// What may be shown where words go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // three questions to a terminal, each with its own answer
pub(super) struct Setting {
    /// Whether a line can be written over.
    pub is_live: bool,
    /// Whether it has more than ASCII's characters.
    pub has_symbols: bool,
    /// Whether colour is wanted.
    pub has_colour: bool,
}

impl Setting {
    /// Of this process, with words that go to a terminal or not.
    pub(super) fn of(is_terminal: bool) -> Self {
        Self::by(is_terminal, |name| std::env::var_os(name))
    }

    fn by(is_terminal: bool, variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let set = |name| variable(name).filter(|value| !value.is_empty());
        let is_live = is_terminal && set("TERM").is_some_and(|term| term != "dumb");
        // The first that is set counts (locale(7)).
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(set);
        let locale = locale.map(|name| name.to_string_lossy().to_ascii_lowercase());
        let is_utf8 = |name: String| name.contains("utf-8") || name.contains("utf8");
        Self {
            is_live,
            has_symbols: is_terminal && locale.is_some_and(is_utf8),
            // https://no-color.org
            has_colour: is_live && set("NO_COLOR").is_none(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> (bool, bool, bool) {
        let setting = Setting::by(true, |name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| OsString::from(value))
        });
        (setting.is_live, setting.has_symbols, setting.has_colour)
    }

    #[test]
    fn a_terminal_is_asked_by_the_variables_that_tell_of_it() {
        assert_eq!(
            of(&[("TERM", "xterm"), ("LANG", "de_DE.UTF-8")]),
            (true, true, true)
        );
        assert_eq!(
            of(&[("TERM", "dumb"), ("LANG", "C.utf8")]),
            (false, true, false)
        );
        assert_eq!(of(&[("LANG", "C.utf8")]), (false, true, false));
        let posix = [("TERM", "xterm"), ("LC_ALL", "C"), ("LANG", "C.UTF-8")];
        assert_eq!(of(&posix), (true, false, true));
        let empty = [("TERM", "xterm"), ("LC_ALL", ""), ("LANG", "C.UTF-8")];
        assert_eq!(of(&empty), (true, true, true));
        assert_eq!(
            of(&[("TERM", "xterm"), ("NO_COLOR", "1")]),
            (true, false, false)
        );
        assert_eq!(
            of(&[("TERM", "xterm"), ("NO_COLOR", "")]),
            (true, false, true)
        );
        let elsewhere = Setting::by(false, |_| Some("C.UTF-8".into()));
        assert!(!elsewhere.is_live && !elsewhere.has_symbols && !elsewhere.has_colour);
    }
}
