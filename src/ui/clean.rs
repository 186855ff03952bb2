//! What others said, fit for a terminal. Names, labels, commit subjects, a builder's output and
//! GitHub's reasons are strangers' words: none of them may move the cursor, colour or reorder what
//! stands beside it, hide in it, or look like a line of ours.

use std::borrow::Cow;
use std::fmt::Write;

/// The longest line that is shown, in characters.
const MAX_LINE: usize = 4000;

/// One line. White space of any kind becomes a space, escape sequences that set colours and the
/// like are left out, and whatever else a terminal would obey or not show is replaced by `U+FFFD`.
pub fn line(text: &str) -> String {
    let mut out = String::with_capacity(text.len().min(MAX_LINE));
    let mut rest = text;
    let mut left = MAX_LINE;
    while let Some(c) = rest.chars().next() {
        let sequence = control_sequence(rest);
        rest = &rest[sequence.unwrap_or(c.len_utf8())..];
        if sequence.is_some() || (c == '\r' && ends_line(rest)) {
            continue;
        }
        if left == 0 {
            out.push('…');
            break;
        }
        left -= 1;
        out.push(match c {
            '\t' | '\n' | '\u{b}' | '\u{c}' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}' => ' ',
            c if is_unseen(c) => char::REPLACEMENT_CHARACTER,
            c => c,
        });
    }
    out.truncate(out.trim_end().len());
    out
}

/// Lines of ours, each as [`line`] has it.
pub fn lines(text: &str) -> impl Iterator<Item = String> {
    text.lines().map(line)
}

/// JSON that says the same and is harmless on a terminal: JSON itself escapes but a few of the
/// characters that a terminal obeys.
pub fn json(text: &str) -> Cow<'_, str> {
    let special = |c: char| c != '\n' && is_unseen(c);
    if !text.contains(special) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if special(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing to a string does not fail.
                let _ = write!(out, "\\u{unit:04x}");
            }
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

/// How long the control sequence is that the text begins with (ECMA-48, section 5.4). Only a
/// whole one of those that builders print is one: an unfinished one must not swallow our words.
fn control_sequence(text: &str) -> Option<usize> {
    let body = text
        .strip_prefix("\u{1b}[")
        .or_else(|| text.strip_prefix('\u{9b}'))?;
    let end = body.find(|c: char| !matches!(c, '0'..='9' | ';' | ':' | '?'))?;
    let last = body[end..].chars().next()?;
    last.is_ascii_alphabetic()
        .then(|| text.len() - body.len() + end + 1)
}

fn ends_line(rest: &str) -> bool {
    rest.is_empty() || rest.starts_with('\n')
}

/// Whether a terminal would obey this character or show nothing for it: control characters, line
/// and paragraph separators, and what Unicode has without a glyph of its own (its properties
/// `Cc`, `Cf`, `Zl`, `Zp` and `Default_Ignorable_Code_Point`), bidirectional controls and tags
/// among it.
fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}'
                | '\u{34f}'
                | '\u{600}'..='\u{605}'
                | '\u{61c}'
                | '\u{6dd}'
                | '\u{70f}'
                | '\u{890}'..='\u{891}'
                | '\u{8e2}'
                | '\u{115f}'..='\u{1160}'
                | '\u{17b4}'..='\u{17b5}'
                | '\u{180b}'..='\u{180f}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{3164}'
                | '\u{fe00}'..='\u{fe0f}'
                | '\u{feff}'
                | '\u{ffa0}'
                | '\u{fff0}'..='\u{fffb}'
                | '\u{fffe}'..='\u{ffff}'
                | '\u{110bd}'
                | '\u{110cd}'
                | '\u{13430}'..='\u{1343f}'
                | '\u{1bca0}'..='\u{1bca3}'
                | '\u{1d173}'..='\u{1d17a}'
                | '\u{e0000}'..='\u{e0fff}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What no line may hold, told apart from the implementation's own list.
    fn is_harmful(c: char) -> bool {
        matches!(
            c,
            '\0'..='\u{1f}'
                | '\u{7f}'..='\u{9f}'
                | '\u{61c}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{2069}'
                | '\u{feff}'
                | '\u{e0001}'..='\u{e007f}'
        )
    }

    #[test]
    fn a_builders_colours_go_and_its_words_stay() {
        for (said, shown) in [
            ("\u{1b}[1;31mred\u{1b}[0m!\r", "red!"),
            ("\u{9b}31mred\u{9b}0m", "red"),
            ("\u{1b}[2K\u{1b}[?25l 50 %\r\n", " 50 %"),
            ("Grün 🟢 日本語", "Grün 🟢 日本語"),
            ("a\tb", "a b"),
        ] {
            assert_eq!(line(said), shown, "{said:?}");
        }
    }

    #[test]
    fn nothing_fakes_a_line_or_hides_in_one() {
        for (said, shown) in [
            ("x\nwarning: y", "x warning: y"),
            ("x\rwarning: y", "x warning: y"),
            ("x\u{2028}y\u{85}z\u{b}", "x y z"),
            ("\u{7}a\u{8}b\u{7f}", "�a�b�"),
            ("\u{202e}cba\u{2066}x\u{200b}y\u{e0041}", "�cba�x�y�"),
            ("\u{1b}]0;title\u{7}", "�]0;title�"),
        ] {
            assert_eq!(line(said), shown, "{said:?}");
        }
    }

    #[test]
    fn an_unfinished_sequence_swallows_none_of_our_words() {
        for strangers in [
            "\u{1b}[",
            "\u{1b}[31",
            "\u{1b}]0;",
            "\u{1b}P",
            "\u{9b}",
            "\u{1b}",
        ] {
            let told = line(&format!("the gate refuses {strangers}: not allowed"));
            assert!(told.ends_with(": not allowed"), "{strangers:?}: {told}");
        }
    }

    #[test]
    fn a_line_is_no_longer_than_a_person_reads() {
        for long in ["x".repeat(1_000_000), "\u{200b}".repeat(1_000_000)] {
            assert_eq!(line(&long).chars().count(), MAX_LINE + 1);
        }
    }

    #[test]
    fn json_says_the_same() {
        let value = serde_json::json!({"\u{1b}[31m": "\u{9b}\u{202e}\u{e0041}\u{7f}\n", "ü": "🟢"});
        let text = serde_json::to_string_pretty(&value).unwrap();
        let cleaned = json(&text);
        assert!(
            !cleaned.chars().any(|c| c != '\n' && is_harmful(c)),
            "{cleaned:?}"
        );
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&cleaned).unwrap(),
            value
        );
    }

    proptest! {
        #[test]
        fn whatever_is_said_a_line_is_one_and_harmless(text in any::<String>(), at in "[\\x00-\\x9f\\u{61c}\\u{200b}-\\u{2069}\\u{feff}\\[;0-9m]{0,40}") {
            for said in [&text, &at] {
                let shown = line(said);
                prop_assert!(!shown.chars().any(is_harmful), "{shown:?}");
                prop_assert_eq!(line(&shown), shown);
            }
        }

        #[test]
        fn whatever_json_holds_it_is_harmless_and_the_same(text in any::<String>(), at in "[\\x00-\\x9f\\u{61c}\\u{200b}-\\u{2069}\\u{feff}]{0,40}") {
            let value = serde_json::json!([text, at]);
            let plain = value.to_string();
            let shown = json(&plain);
            prop_assert!(!shown.chars().any(is_harmful), "{shown:?}");
            prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
        }
    }
}
