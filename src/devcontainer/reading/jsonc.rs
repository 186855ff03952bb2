//! JSON with comments, as devcontainer.json is written.

use jsonc_parser::ast;
use jsonc_parser::common::Ranged;
use jsonc_parser::{CollectOptions, ParseOptions};

use super::document::{Data, Node, Tag, put};
use crate::error::{Code, Error, Result};

/// Comments and trailing commas, nothing else beside JSON.
const OPTIONS: ParseOptions = ParseOptions {
    allow_comments: true,
    allow_loose_object_property_names: false,
    allow_trailing_commas: true,
    allow_missing_commas: false,
    allow_single_quoted_strings: false,
    allow_hexadecimal_numbers: false,
    allow_unary_plus_numbers: false,
    allow_bare_decimal_point_numbers: false,
    allow_non_finite_numbers: false,
    allow_extended_string_escapes: false,
};

/// Parses a file's text; `file` is the name that errors give.
pub fn parse(text: &str, file: &str) -> Result<Node> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let parsed = jsonc_parser::parse_to_ast(text, &CollectOptions::default(), &OPTIONS).map_err(
        |error| {
            let (line, column) = (error.line_display(), error.column_display());
            invalid(file, (line, column), &error.kind().to_string())
        },
    )?;
    let value = parsed
        .value
        .ok_or_else(|| invalid(file, (1, 1), "the file is empty"))?;
    let lines = Lines::of(text);
    convert(&value, lines.of_offset(value.range().start), &lines)
        .map_err(|(offset, what)| invalid(file, lines.place(text, offset), &what))
}

fn invalid(file: &str, (line, column): (usize, usize), what: &str) -> Error {
    Error::new(
        Code::DevcontainerInvalid,
        format!("{file}:{line}:{column}: {what}"),
    )
    .at(file, line)
    .hint(
        "fix it in the repository; https://containers.dev/implementors/json_reference lists the \
             properties",
    )
}

fn convert(value: &ast::Value<'_>, line: usize, lines: &Lines) -> Result<Node, (usize, String)> {
    let data = match value {
        ast::Value::NullKeyword(_) => Data::Null,
        ast::Value::BooleanLit(literal) => Data::Bool(literal.value),
        ast::Value::StringLit(literal) => Data::Text(literal.value.to_string()),
        ast::Value::NumberLit(literal) => Data::Number(literal.value.parse().map_err(|_| {
            (
                literal.range.start,
                format!("{:.40} is not a number", literal.value),
            )
        })?),
        ast::Value::Array(array) => {
            let mut list = Vec::with_capacity(array.elements.len());
            for element in &array.elements {
                let line = lines.of_offset(element.range().start);
                list.push(convert(element, line, lines)?);
            }
            Data::List(list)
        }
        ast::Value::Object(object) => {
            let mut map = Vec::with_capacity(object.properties.len());
            for property in &object.properties {
                let name = property.name.as_str();
                // JavaScript would set the object's prototype with it.
                if name == "__proto__" {
                    return Err((property.range.start, "__proto__ is not a property".into()));
                }
                let line = lines.of_offset(property.range.start);
                put(
                    &mut map,
                    name.to_owned(),
                    convert(&property.value, line, lines)?,
                );
            }
            Data::Map(map)
        }
    };
    Ok(Node {
        line,
        tag: Tag::None,
        data,
    })
}

/// Where the lines of a text begin.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Self {
        let breaks = text.match_indices('\n').map(|(at, _)| at + 1);
        Self(std::iter::once(0).chain(breaks).collect())
    }

    fn of_offset(&self, offset: usize) -> usize {
        self.0.partition_point(|start| *start <= offset)
    }

    /// Line and column, both from 1.
    fn place(&self, text: &str, offset: usize) -> (usize, usize) {
        let line = self.of_offset(offset);
        let start = self.0.get(line - 1).copied().unwrap_or(0);
        let column = text
            .get(start..offset)
            .map_or(1, |part| part.chars().count() + 1);
        (line, column)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_property_knows_its_line() {
        let text = "// a comment\n{\n  \"image\": \"x\", /* another */\n  \"build\": {\n    \"args\": { \"A\": \"1\" },\n  },\n  \"runArgs\": [\n    \"--init\",\n    \"--rm\"\n  ]\n}\n";
        let node = parse(text, "d.json").unwrap();
        assert_eq!(node.get("image").unwrap().line, 3);
        let build = node.get("build").unwrap();
        assert_eq!(build.line, 4);
        assert_eq!(build.get("args").unwrap().get("A").unwrap().line, 5);
        assert_eq!(node.get("runArgs").unwrap().elements()[1].line, 9);
    }

    #[test]
    fn what_is_broken_is_named_with_line_and_column() {
        for (text, place) in [
            ("{\n  \"image\": \"x\"\n  \"name\": \"y\"\n}", "d.json:"),
            ("{\n  \"image\": \n}", "d.json:"),
            ("", "d.json:1:1"),
            ("{\"a\": 1}}", "d.json:1:"),
            ("{\n\n  \"__proto__\": {}\n}", "d.json:3:3"),
        ] {
            let error = parse(text, "d.json").unwrap_err();
            assert_eq!(error.code(), Code::DevcontainerInvalid);
            assert!(
                error.message().starts_with(place),
                "{text:?}: {}",
                error.message()
            );
        }
    }

    #[test]
    fn of_two_properties_with_one_name_the_last_counts() {
        let node = parse("{\"a\": 1, \"a\": 2}", "d.json").unwrap();
        assert_eq!(node.to_value(), serde_json::json!({"a": 2}));
    }

    #[test]
    fn depth_is_bounded() {
        let deep = "[".repeat(100_000);
        assert!(parse(&deep, "d.json").is_err());
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[\\[\\]{}a-z_\":,/*\\\\ué0-9\\n. -]{0,200}") {
            let _ = parse(&text, "d.json");
        }
    }
}
