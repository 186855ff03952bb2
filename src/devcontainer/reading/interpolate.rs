//! `${VARIABLE}` in compose files, with the repository's own `.env` as the whole environment.

use std::collections::BTreeMap;

/// The variables that a compose file may use.
pub type Variables = BTreeMap<String, String>;

/// Defaults within defaults that are followed.
const MAX_DEPTH: usize = 8;
/// How long the result may be, in bytes.
const MAX_TEXT: usize = 64 * 1024;

/// How much of an `.env` file's values is kept, in bytes.
const MAX_ENV: usize = 1024 * 1024;

/// Replaces the variables of a text as compose does; `$$` is a dollar sign. The error is the rest of a sentence
/// about the text, such as "is too long".
pub fn interpolate(text: &str, variables: &Variables) -> Result<String, String> {
    expand(text, variables, MAX_DEPTH)
}

fn expand(text: &str, variables: &Variables, depth: usize) -> Result<String, String> {
    let Some(depth) = depth.checked_sub(1) else {
        return Err("has too many variables within variables".into());
    };
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some(braced) = rest.strip_prefix('{') {
            let end = closing(braced).ok_or("has a ${ without a }")?;
            out.push_str(&braces(&braced[..end], variables, depth)?);
            rest = &braced[end + 1..];
        } else {
            let length = name_length(rest);
            if length == 0 {
                return Err(
                    "has a $ that does not begin a variable; write a dollar sign as $$".into(),
                );
            }
            out.push_str(variables.get(&rest[..length]).map_or("", String::as_str));
            rest = &rest[length..];
        }
        if out.len() > MAX_TEXT {
            return Err("is too long".into());
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// The inside of `${…}`: a name, and what to do where it is unset (`-`, `?`), set (`+`) or, with
/// a colon before, empty.
fn braces(inside: &str, variables: &Variables, depth: usize) -> Result<String, String> {
    let (name, rest) = inside.split_at(name_length(inside));
    if name.is_empty() {
        return Err("has a ${ without the name of a variable".into());
    }
    let value = variables.get(name).map(String::as_str);
    let (value, operator) = match rest.strip_prefix(':') {
        Some(operator) => (value.filter(|value| !value.is_empty()), operator),
        None => (value, rest),
    };
    let mut characters = operator.chars();
    match (characters.next(), value) {
        (None, _) if rest.is_empty() => Ok(value.unwrap_or_default().to_owned()),
        (Some('-' | '?'), Some(value)) => Ok(value.to_owned()),
        (Some('-'), None) | (Some('+'), Some(_)) => expand(characters.as_str(), variables, depth),
        (Some('+'), None) => Ok(String::new()),
        (Some('?'), None) => Err(format!(
            "needs the variable {name}, which the repository's .env does not set"
        )),
        _ => Err(format!("has ${{{inside:.80}}}, which is not a variable")),
    }
}

/// Where the brace that was opened is closed.
fn closing(text: &str) -> Option<usize> {
    let mut open = 0_usize;
    let mut before = ' ';
    for (at, c) in text.char_indices() {
        match c {
            '{' if before == '$' => open += 1,
            '}' if open == 0 => return Some(at),
            '}' => open -= 1,
            _ => {}
        }
        before = c;
    }
    None
}

fn name_length(text: &str) -> usize {
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        return 0;
    }
    text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .unwrap_or(text.len())
}

/// Reads an `.env` file's lines; later ones may use earlier ones.
pub fn read_env(text: &str, variables: &mut Variables) {
    let mut left = MAX_ENV;
    for line in text.lines() {
        let line = line.trim();
        let line = line.strip_prefix("export ").unwrap_or(line);
        let Some((name, value)) = line.split_once('=') else {
            continue;
        };
        let (name, value) = (name.trim(), value.trim());
        if name.is_empty() || name_length(name) != name.len() {
            continue;
        }
        let value = env_value(value, variables);
        // Each may hold all before it.
        let taken: usize = value.len() + name.len();
        let Some(next) = left.checked_sub(taken) else {
            return;
        };
        left = next;
        variables.insert(name.to_owned(), value);
    }
}

/// A value with its quotes and variables resolved; within single quotes there are none.
fn env_value(text: &str, variables: &Variables) -> String {
    let resolved = |text: &str| interpolate(text, variables).unwrap_or_else(|_| text.to_owned());
    if let Some(inner) = text.strip_prefix('\'') {
        inner.split('\'').next().unwrap_or(inner).to_owned()
    } else if let Some(inner) = text.strip_prefix('"') {
        resolved(inner.split('"').next().unwrap_or(inner))
    } else {
        resolved(text.find(" #").map_or(text, |at| text[..at].trim_end()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_small_env_file_does_not_become_a_large_one() {
        let names: Vec<String> = (0..20_000)
            .map(|number| format!("B{number}=$A\n"))
            .collect();
        let text = format!("A={}\n{}", "x".repeat(60_000), names.concat());
        let mut variables = Variables::new();
        read_env(&text, &mut variables);
        let size: usize = variables.values().map(String::len).sum();
        assert!(size <= MAX_ENV && variables.len() > 10, "{size}");
    }

    fn variables() -> Variables {
        let mut variables = Variables::new();
        read_env(
            "# comment\nA=1\nexport B = two # said\nEMPTY=\nC='$A'\nD=\"$A-${B}\"\nnonsense\n1X=no\n",
            &mut variables,
        );
        variables
    }

    #[test]
    fn every_form_is_what_compose_makes_of_it() {
        for (text, expected) in [
            ("plain", "plain"),
            ("$A${A}x", "11x"),
            ("$$A $${A}", "$A ${A}"),
            ("${B}", "two"),
            ("${C}", "$A"),
            ("${D}", "1-two"),
            ("${X}", ""),
            ("$X.", "."),
            ("${X:-d}${X-d}", "dd"),
            ("${EMPTY:-d}${EMPTY-d}", "d"),
            ("${X:-${A}}", "1"),
            ("${X:-${Y:-${A}}}/z", "1/z"),
            ("${A:+y}${X:+y}${EMPTY+y}${EMPTY:+n}", "yy"),
            ("${A:?needed}", "1"),
        ] {
            assert_eq!(
                interpolate(text, &variables()).as_deref(),
                Ok(expected),
                "{text}"
            );
        }
        for text in [
            "$", "${", "${A", "${}", "$1", "${A!}", "${X:?}", "${X?x}", "a$-",
        ] {
            assert!(interpolate(text, &variables()).is_err(), "{text}");
        }
    }

    #[test]
    fn depth_and_length_are_bounded() {
        let deep = format!("{}x{}", "${X:-".repeat(1000), "}".repeat(1000));
        assert!(interpolate(&deep, &variables()).is_err());
        let mut variables = Variables::new();
        read_env(&format!("A={}", "x".repeat(10_000)), &mut variables);
        assert!(interpolate(&"$A".repeat(1000), &variables).is_err());
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "([$]|[{]|[}]|:|-|[?]|[+]|A|X|é|=|'|\"|\n){0,60}") {
            let _ = interpolate(&text, &variables());
            read_env(&text, &mut Variables::new());
        }
    }
}
