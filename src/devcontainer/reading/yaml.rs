//! YAML, as compose files are written, with bounds on what anchors may multiply.

use std::collections::HashMap;
use std::fmt;

use granit_parser::{Event, Parser};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Number;
use serde_saphyr::Spanned;

use super::document::{Data, Node, Tag, put};
use crate::error::{Code, Error, Result};

/// Parses a compose file's text; `file` is the name that errors give.
pub fn parse(text: &str, file: &str) -> Result<Node> {
    // Anchors, aliases, depth and nodes are bounded by the crate's default budget; what
    // replayed aliases amount to is bounded here.
    let options = serde_saphyr::options! {
        duplicate_keys: serde_saphyr::DuplicateKeyPolicy::LastWins,
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
    };
    let parsed: Located = serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let place = error.location().map_or_else(
            || file.to_owned(),
            |location| format!("{file}:{}:{}", location.line(), location.column()),
        );
        let what = error.without_snippet().to_string();
        let what = what.lines().next().unwrap_or("not YAML").to_owned();
        let line = error.location().map_or(0, |location| location.line());
        Error::new(Code::DevcontainerInvalid, format!("{place}: {what}"))
            .at(file, usize::try_from(line).unwrap_or_default())
            .hint("fix it in the repository")
    })?;
    let mut budget = MAX_NODES;
    into_node(parsed, &tags(text), &mut budget).ok_or_else(|| {
        Error::new(
            Code::DevcontainerInvalid,
            format!("{file}: its aliases expand to more than {MAX_NODES} values"),
        )
        .at(file, 0)
        .hint("use fewer anchors and aliases")
    })
}

/// The places (line and column, from 1) of values with a tag of compose's. The deserializer does not report
/// tags.
fn tags(text: &str) -> HashMap<(usize, usize), Tag> {
    let mut found = HashMap::new();
    // What is no YAML was told before.
    for (event, span) in Parser::new_from_str(text).map_while(std::result::Result::ok) {
        let (Event::Scalar(_, _, _, tag)
        | Event::SequenceStart(_, _, tag)
        | Event::MappingStart(_, _, tag)) = event
        else {
            continue;
        };
        let meaning = match tag.as_ref().map(|tag| tag.suffix()) {
            Some("reset") => Tag::Reset,
            Some("override") => Tag::Override,
            _ => continue,
        };
        // This parser counts columns from 0, the deserializer from 1.
        found.insert((span.start.line(), span.start.col() + 1), meaning);
    }
    found
}

/// How many values a file may have with its aliases replaced; more than any compose file has.
const MAX_NODES: usize = 50_000;

struct Located(Spanned<Raw>);

enum Raw {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Located>),
    Map(Vec<(Spanned<String>, Located)>),
}

fn into_node(
    located: Located,
    tags: &HashMap<(usize, usize), Tag>,
    budget: &mut usize,
) -> Option<Node> {
    *budget = budget.checked_sub(1)?;
    let place = located.0.referenced;
    let line = usize::try_from(place.line()).unwrap_or(0);
    let column = usize::try_from(place.column()).unwrap_or(0);
    let tag = tags.get(&(line, column)).copied().unwrap_or_default();
    let data = match located.0.value {
        Raw::Null => Data::Null,
        Raw::Bool(flag) => Data::Bool(flag),
        Raw::Number(number) => Data::Number(number),
        Raw::Text(text) => Data::Text(text),
        Raw::List(list) => Data::List(
            list.into_iter()
                .map(|element| into_node(element, tags, budget))
                .collect::<Option<_>>()?,
        ),
        Raw::Map(entries) => {
            let mut map = Vec::with_capacity(entries.len());
            for (key, value) in entries {
                let mut node = into_node(value, tags, budget)?;
                node.line = usize::try_from(key.referenced.line()).unwrap_or(node.line);
                put(&mut map, key.value, node);
            }
            Data::Map(map)
        }
    };
    Some(Node { line, tag, data })
}

impl<'de> Deserialize<'de> for Located {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Spanned::deserialize(deserializer).map(Self)
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Raw, D::Error> {
        Raw::deserialize(deserializer)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Raw, E> {
        Ok(Raw::Bool(flag))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Raw, E> {
        Ok(Raw::Number(number.into()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Raw, E> {
        Ok(Raw::Number(number.into()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Raw, E> {
        Ok(Number::from_f64(number).map_or_else(|| Raw::Text(number.to_string()), Raw::Number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Raw, E> {
        Ok(Raw::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Raw, E> {
        Ok(Raw::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Raw, A::Error> {
        let mut list = Vec::new();
        while let Some(element) = seq.next_element()? {
            list.push(element);
        }
        Ok(Raw::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Raw, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = access.next_entry()? {
            map.push(entry);
        }
        Ok(Raw::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn values_have_their_type_and_their_line() {
        let text = "version: '3.8'\nservices:\n  app:\n    init: true\n    command: sleep infinity\n    expose: [3000]\n    environment:\n      A: yes\n      B:\n";
        let node = parse(text, "c.yml").unwrap();
        assert_eq!(
            node.to_value(),
            json!({"version": "3.8", "services": {"app": {"init": true, "command": "sleep infinity", "expose": [3000], "environment": {"A": "yes", "B": null}}}})
        );
        let app = node.get("services").unwrap().get("app").unwrap();
        assert_eq!(app.line, 3);
        assert_eq!(app.get("command").unwrap().line, 5);
    }

    #[test]
    fn merge_keys_and_anchors_are_followed() {
        let text = "x-base: &base\n  image: a\n  init: true\nservices:\n  app:\n    <<: *base\n    image: b\n";
        let node = parse(text, "c.yml").unwrap();
        assert_eq!(
            node.to_value()["services"]["app"],
            json!({"image": "b", "init": true})
        );
    }

    #[test]
    fn tags_of_composes_are_where_they_stand() {
        let text = "services:\n  app:\n    ports: !reset []\n    volumes: !override [\"a:/a\"]\n    command: !reset null\n    environment: !override\n      - A=1\n    labels: !override\n      x: y\n    image: !!str a\n    build: {args: {X: !reset null, Y: 1}}\n";
        let node = parse(text, "c.yml").unwrap();
        let app = node.get("services").unwrap().get("app").unwrap();
        for (key, tag) in [
            ("ports", Tag::Reset),
            ("volumes", Tag::Override),
            ("command", Tag::Reset),
            ("environment", Tag::Override),
            ("labels", Tag::Override),
            ("image", Tag::None),
            ("build", Tag::None),
        ] {
            assert_eq!(app.get(key).unwrap().tag, tag, "{key}");
        }
        let args = app.get("build").unwrap().get("args").unwrap();
        assert_eq!(args.get("X").unwrap().tag, Tag::Reset);
        assert_eq!(args.get("Y").unwrap().tag, Tag::None);
    }

    #[test]
    fn a_billion_laughs_are_not_laughed() {
        let mut lines = vec!["a0: &a0 [x, x, x, x, x, x, x, x, x]".to_owned()];
        for level in 1..12 {
            let before = format!("*a{}", level - 1);
            let list = [before.as_str(); 9].join(", ");
            lines.push(format!("a{level}: &a{level} [{list}]"));
        }
        assert_eq!(
            parse(&lines.join("\n"), "c.yml").unwrap_err().code(),
            Code::DevcontainerInvalid
        );
        assert!(parse(&"[".repeat(100_000), "c.yml").is_err());
    }

    #[test]
    fn what_is_broken_is_named_with_its_line() {
        let error = parse("services:\n  app:\n   - x\n  b: [\n", "c.yml").unwrap_err();
        assert!(error.message().starts_with("c.yml:"), "{}", error.message());
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[a-z:\\-&*<>|!%@`\"'{}\\[\\], \\n0-9é#?]{0,200}") {
            let _ = parse(&text, "c.yml");
        }
    }
}
