//! What a rebuild changes, which a person sees before it does, and the question whether it may.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use similar::TextDiff;

use super::{Hatching, Old};
use crate::drone::Scope;
use crate::error::{Code, Error, Result};
use crate::life::recipe::Recipe;

/// How many lines of the configuration's changes are shown.
const MAX_LINES: usize = 200;
/// How many characters of each.
const MAX_LINE: usize = 200;
/// How long one file may be compared: what has not been found alike by then is shown as changed.
const COMPARED_WITHIN: Duration = Duration::from_millis(500);

impl Hatching<'_> {
    /// Shows what a rebuild changes: the scope, and the files of its configuration against those that the old
    /// container was made from. Asks for consent where that is wanted.
    pub(super) async fn tell_changes(&self, read: &BTreeMap<String, String>) -> Result<()> {
        let Some(old) = &self.wishes.old else {
            return Ok(());
        };
        let ui = self.server.ui;
        let before = &old.drone.identity.scope;
        for line in of_scope(before, &self.identity.scope) {
            ui.talk(&line);
        }
        for line in of_files(old.recipe.as_ref(), read) {
            ui.talk(&line);
        }
        if !old.asks {
            return Ok(());
        }
        let name = &self.identity.name;
        let question = format!("The volumes are kept, but {}. Continue?", Old::goes(name));
        if self.timeline.time("confirm", ui.agreed(&question)).await {
            return Ok(());
        }
        Err(Error::new(
            Code::Interrupted,
            format!("{name} was not rebuilt"),
        ))
    }
}

/// What becomes another in the scope.
fn of_scope(before: &Scope, after: &Scope) -> Vec<String> {
    let repositories = |scope: &Scope| {
        let all = scope.repositories().iter();
        all.map(ToString::to_string).collect::<Vec<_>>().join(", ")
    };
    let permissions = |scope: &Scope| {
        scope.permissions().map_or_else(
            || "the configured defaults".to_owned(),
            |all| {
                let all = all.iter().map(|(name, access)| format!("{name}={access}"));
                all.collect::<Vec<_>>().join(", ")
            },
        )
    };
    [
        ("repositories", repositories(before), repositories(after)),
        ("permissions", permissions(before), permissions(after)),
    ]
    .into_iter()
    .filter(|(_, before, after)| before != after)
    .map(|(what, before, after)| format!("Its tokens' {what} change: {before} → {after}"))
    .collect()
}

/// What has changed in the configuration, as a unified diff of each file. Its lines are a stranger's; they
/// stand apart from hatchery's own.
fn of_files(recipe: Option<&Recipe>, now: &BTreeMap<String, String>) -> Vec<String> {
    let Some(before) = recipe.and_then(|recipe| recipe.files.as_ref()) else {
        return vec![
            "The configuration of the old container was not kept, so changes cannot be shown."
                .to_owned(),
        ];
    };
    let paths: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    let mut lines = Vec::new();
    for path in paths {
        let (old, new) = (before.get(path), now.get(path));
        if old == new {
            continue;
        }
        let side = |side: &str, text: Option<&String>| match text {
            Some(_) => format!("{side}/{path}"),
            None => "/dev/null".to_owned(),
        };
        let (from, to) = (side("a", old), side("b", new));
        let none = String::new();
        let (old, new) = (old.unwrap_or(&none), new.unwrap_or(&none));
        let diff = TextDiff::configure()
            .timeout(COMPARED_WITHIN)
            .diff_lines(old.as_str(), new.as_str());
        let text = diff.unified_diff().header(&from, &to).to_string();
        lines.extend(text.lines().map(shown));
    }
    if lines.is_empty() {
        return vec![
            "The configuration has not changed since the container was created.".to_owned(),
        ];
    }
    let more = lines.len().saturating_sub(MAX_LINES);
    lines.truncate(MAX_LINES);
    lines.insert(
        0,
        "Changes in the configuration since the container was created:".to_owned(),
    );
    if more > 0 {
        lines.push(format!("{more} more lines are not shown."));
    }
    lines
}

fn shown(line: &str) -> String {
    let mut shown: String = line.chars().take(MAX_LINE).collect();
    if shown.len() < line.len() {
        shown.push('…');
    }
    format!("  {shown}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::life::recipe::Extent;

    fn files(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        let pairs = pairs.iter();
        pairs
            .map(|&(path, text)| (path.into(), text.into()))
            .collect()
    }

    fn changes(before: &[(&str, &str)], now: &[(&str, &str)]) -> Vec<String> {
        let made = Recipe::new(&Extent::default(), &files(before));
        of_files(Some(&made), &files(now))
    }

    #[test]
    fn a_changed_a_new_and_a_removed_file_are_shown_as_a_diff() {
        let before = [("d.json", "{\n\"image\": \"a\"\n}\n"), ("old", "x\n")];
        let now = [("d.json", "{\n\"image\": \"b\"\n}\n"), ("new", "y\n")];
        let said = changes(&before, &now).join("\n");
        for part in [
            "  --- a/d.json\n  +++ b/d.json\n",
            "  -\"image\": \"a\"\n  +\"image\": \"b\"\n",
            "  --- /dev/null\n  +++ b/new\n",
            "  --- a/old\n  +++ /dev/null\n",
        ] {
            assert!(said.contains(part), "{part:?} in {said}");
        }
    }

    #[test]
    fn it_says_that_nothing_changes_or_that_it_cannot_know() {
        let same = changes(&[("a", "x")], &[("a", "x")]);
        assert!(same.len() == 1 && same[0].contains("has not changed"));
        let unknown = of_files(None, &files(&[]));
        assert!(unknown.len() == 1 && unknown[0].contains("cannot be shown"));
    }

    #[test]
    fn however_much_changes_a_bounded_part_is_shown() {
        let long = format!("{}\n", "é".repeat(100_000));
        let many = "x\n".repeat(50_000);
        let said = changes(&[("a", "")], &[("a", &long), ("b", &many)]);
        assert_eq!(said.len(), MAX_LINES + 2);
        assert!(said.iter().all(|line| line.chars().count() <= MAX_LINE + 3));
        assert!(said.last().unwrap().ends_with("more lines are not shown."));
    }

    #[test]
    fn the_scope_is_told_where_it_becomes_another() {
        let scope = |text: &str| Scope::from_json(text).unwrap();
        let narrow = scope(r#"{"repositories":["a/b"],"permissions":{"contents":"read"}}"#);
        let wide = scope(r#"{"repositories":["a/b","a/c"]}"#);
        assert!(of_scope(&wide, &wide).is_empty());
        assert_eq!(
            of_scope(&wide, &narrow),
            [
                "Its tokens' repositories change: a/b, a/c → a/b",
                "Its tokens' permissions change: the configured defaults → contents=read"
            ]
        );
    }
}
