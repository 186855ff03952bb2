//! The image that a Dockerfile begins with, as far as its text says so.

use super::policy;

/// The image that the stage `target`, or the last one, is built on: `FROM`, followed through the
/// file's own stages. `None` where a variable decides, and where there is no image.
pub fn image(dockerfile: &str, target: Option<&str>) -> Option<String> {
    let stages: Vec<(&str, Option<&str>)> = dockerfile.lines().filter_map(stage).collect();
    let named = |name: &str, before: usize| {
        let mut earlier = stages[..before].iter();
        earlier.rposition(|(_, label)| label.is_some_and(|it| it.eq_ignore_ascii_case(name)))
    };
    let mut at = match target {
        Some(target) => named(target, stages.len())?,
        None => stages.len().checked_sub(1)?,
    };
    // Each stage is before the one that is built on it.
    while let Some(earlier) = named(stages[at].0, at) {
        at = earlier;
    }
    let image = stages[at].0.trim_matches(['"', '\'']);
    (image != "scratch" && policy::is_image(image)).then(|| image.to_owned())
}

/// `FROM [--platform=…] IMAGE [AS NAME]`
fn stage(line: &str) -> Option<(&str, Option<&str>)> {
    let mut words = line.split_whitespace();
    if !words.next()?.eq_ignore_ascii_case("FROM") {
        return None;
    }
    let mut words = words.filter(|word| !word.starts_with("--"));
    let image = words.next()?;
    let named = words
        .next()
        .is_some_and(|word| word.eq_ignore_ascii_case("AS"));
    Some((image, words.next().filter(|_| named)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_image_is_the_one_that_the_built_stage_begins_with() {
        for (dockerfile, target, expected) in [
            ("FROM debian:13\nRUN id\n", None, Some("debian:13")),
            (
                "ARG V=1\nfrom --platform=linux/amd64 \"a/b\" as x",
                None,
                Some("a/b"),
            ),
            ("FROM a AS one\nFROM b AS two\nFROM One\n", None, Some("a")),
            ("FROM a AS one\nFROM b AS two\n", Some("one"), Some("a")),
            ("FROM a AS a\n", None, Some("a")),
            ("FROM a AS b\nFROM b AS a\n", None, Some("a")),
            ("FROM debian:${V}\n", None, None),
            ("FROM scratch\n", None, None),
            ("FROM a\n", Some("missing"), None),
            ("FROM\n", None, None),
            ("# FROM a\n", None, None),
            ("", None, None),
        ] {
            assert_eq!(
                image(dockerfile, target).as_deref(),
                expected,
                "{dockerfile}"
            );
        }
    }
}
