//! A configuration as a text: reading it, and finding the line of a mistake.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::Path;

use url::Url;

use super::Namespace;
use crate::error::{Code, Error};

/// The largest configuration file that is read, in bytes.
const MAX_FILE: u64 = 1024 * 1024;

pub(super) fn wrong(path: &Path, line: Option<usize>, what: &str) -> Error {
    let place = line.map_or_else(
        || path.display().to_string(),
        |line| format!("{}:{line}", path.display()),
    );
    Error::new(Code::ConfigInvalid, format!("{place}: {what}"))
        .hint("fix it, then run `hatchery config --check`")
}

/// The line on which `table.key` stands, where it can be told.
pub(super) fn line_of(text: &str, key: &str) -> Option<usize> {
    let document = toml::de::DeTable::parse(text).ok()?;
    let (table, key) = key.split_once('.').unwrap_or((key, ""));
    let (name, value) = document.get_ref().get_key_value(table)?;
    let start = value
        .get_ref()
        .as_table()
        .and_then(|inner| inner.get_key_value(key))
        .map_or(name.span().start, |(name, _)| name.span().start);
    Some(line_at(text, start))
}

/// The key, with its tables, whose value stands at this place.
pub(super) fn key_at(text: &str, place: usize) -> Option<String> {
    fn find(table: &toml::de::DeTable<'_>, place: usize) -> Option<String> {
        table.iter().find_map(|(name, value)| {
            let name = name.get_ref();
            match value.get_ref().as_table() {
                Some(inner) if !inner.is_empty() => {
                    find(inner, place).map(|key| format!("{name}.{key}"))
                }
                _ => value.span().contains(&place).then(|| name.to_string()),
            }
        })
    }
    find(toml::de::DeTable::parse(text).ok()?.get_ref(), place)
}

/// The key whose second mention stands here, with its table as far as the lines above tell it.
pub(super) fn key_near(text: &str, span: std::ops::Range<usize>) -> Option<String> {
    let key = text.get(span.clone())?.trim();
    let line = text[..span.start].rfind('\n').map_or(0, |end| end + 1);
    let before = text[line..span.start].trim_start();
    if before.starts_with('[') {
        // It is a table itself: the whole of its name.
        let header = text[line..].lines().next()?.trim();
        let name = header.trim_start_matches('[').split(']').next()?;
        return Some(name.trim().to_owned());
    }
    let within = before.split_once('=').map(|(outer, _)| outer.trim());
    let table = text[..line].lines().rev().find_map(|line| {
        let name = line.trim().strip_prefix('[')?;
        Some(name.trim_start_matches('[').split(']').next()?.trim())
    });
    let parts = [table, within, Some(key)];
    Some(parts.into_iter().flatten().collect::<Vec<_>>().join("."))
}

/// The line in which this byte of a text is, counted from 1.
pub(super) fn line_at(text: &str, at: usize) -> usize {
    text[..at.min(text.len())].matches('\n').count() + 1
}

/// The line on which what is one key to hatchery, and two to TOML, stands for the second time, and the
/// key as it is written there: GitHub does not tell names apart by their case, Docker not its own hosts.
pub(super) fn there_twice<T: TryFrom<String> + Ord>(
    text: &str,
    table: &str,
) -> Option<(usize, String)> {
    let document = toml::de::DeTable::parse(text).ok()?;
    let table = document.get_ref().get(table)?.get_ref().as_table()?;
    let mut names: Vec<_> = table
        .keys()
        .filter_map(|name| {
            let key = T::try_from(name.get_ref().to_string()).ok()?;
            Some((name.span().start, key, name.get_ref().to_string()))
        })
        .collect();
    names.sort();
    let mut seen = BTreeSet::new();
    let (start, _, name) = names.iter().find(|(_, key, _)| !seen.insert(key))?;
    Some((line_at(text, *start), name.clone()))
}

/// The line of a key of `registries."NAME"`, or of that table.
pub(super) fn line_of_registry(text: &str, key: &str) -> Option<usize> {
    let (name, key) = key.strip_prefix("registries.\"")?.rsplit_once("\".")?;
    let document = toml::de::DeTable::parse(text).ok()?;
    let all = document.get_ref().get("registries")?.get_ref().as_table()?;
    let meant = |text: &str| {
        Namespace::try_from(text.to_owned()).is_ok_and(|namespace| namespace.to_string() == name)
    };
    let (name, value) = all.iter().find(|(name, _)| meant(name.get_ref()))?;
    let table = value.get_ref().as_table();
    let start = table
        .and_then(|inner| inner.get_key_value(key))
        .map_or(name.span().start, |(name, _)| name.span().start);
    Some(line_at(text, start))
}

/// Whether a URL has a host, and no user, password, query or fragment.
pub(super) fn is_plain_url(url: &Url) -> bool {
    url.has_host()
        && url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none()
}

/// What serde expects, without Rust's names for it.
pub(super) fn plain_words(message: &str) -> String {
    [
        ("expected usize", "expected a whole number from 0"),
        ("expected i64", "expected a whole number"),
        ("expected f64", "expected a number"),
        (
            "expected parsable string",
            "expected a size such as \"8GiB\"",
        ),
    ]
    .iter()
    .fold(message.to_owned(), |text, (from, to)| {
        text.replace(from, to)
    })
}

pub(super) fn read_bounded(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(path)?
        .take(MAX_FILE + 1)
        .read_to_string(&mut text)?;
    if text.len() as u64 > MAX_FILE {
        return Err(std::io::Error::other("larger than 1 MiB"));
    }
    Ok(text)
}
