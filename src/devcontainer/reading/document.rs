//! A parsed document (JSONC or YAML) that remembers where each property stands.

use std::collections::HashMap;

use serde_json::{Map, Number, Value};

/// A value and the line that its property begins on (1-based).
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// The line of the property's name, or of the element in a list.
    pub line: usize,
    /// What it does to the same property of an earlier file.
    pub tag: Tag,
    /// The value itself.
    pub data: Data,
}

/// How a property of a compose file meets the same one of an earlier file (Compose specification,
/// "Merge and override").
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Tag {
    /// It is merged with the earlier one.
    #[default]
    None,
    /// It replaces the earlier one (`!override`).
    Override,
    /// It removes the earlier one and has no value itself (`!reset`).
    Reset,
}

/// The value of a [`Node`].
#[derive(Debug, Clone, PartialEq)]
pub enum Data {
    /// `null`, or nothing after a key in YAML.
    Null,
    /// `true`, `false`
    Bool(bool),
    /// Any number.
    Number(Number),
    /// Text.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// An object, in the order of the file, each name once.
    Map(Vec<(String, Node)>),
}

impl Node {
    /// A node of this text.
    pub fn text(line: usize, text: impl Into<String>) -> Self {
        Self {
            line,
            tag: Tag::None,
            data: Data::Text(text.into()),
        }
    }

    /// The text, where it is one.
    pub fn as_text(&self) -> Option<&str> {
        match &self.data {
            Data::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Text, number or boolean as text; `None` for anything else.
    pub fn as_scalar(&self) -> Option<String> {
        match &self.data {
            Data::Text(text) => Some(text.clone()),
            Data::Number(number) => Some(number.to_string()),
            Data::Bool(flag) => Some(flag.to_string()),
            _ => None,
        }
    }

    /// The elements of a list; of anything else none.
    pub fn elements(&self) -> &[Self] {
        match &self.data {
            Data::List(list) => list,
            _ => &[],
        }
    }

    /// The elements of a list; anything else stands for a list of itself alone.
    pub fn one_or_many(&self) -> &[Self] {
        match &self.data {
            Data::List(list) => list,
            _ => std::slice::from_ref(self),
        }
    }

    /// The properties of an object; of anything else none.
    pub fn properties(&self) -> &[(String, Self)] {
        match &self.data {
            Data::Map(map) => map,
            _ => &[],
        }
    }

    /// The property of this name.
    pub fn get(&self, name: &str) -> Option<&Self> {
        self.properties()
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value)
    }

    /// Whether it is an object.
    pub const fn is_map(&self) -> bool {
        matches!(self.data, Data::Map(_))
    }

    /// Whether it is a list.
    pub const fn is_list(&self) -> bool {
        matches!(self.data, Data::List(_))
    }

    /// Whether it says "no": `false`, `null`, an empty list or object.
    pub fn is_off(&self) -> bool {
        match &self.data {
            Data::Null | Data::Bool(false) => true,
            Data::List(list) => list.is_empty(),
            Data::Map(map) => map.is_empty(),
            _ => false,
        }
    }

    /// Removes the properties that a later file resets or replaces.
    pub fn give_way(&mut self, later: &Self) {
        let Data::Map(map) = &mut self.data else {
            return;
        };
        let later: HashMap<&str, &Self> = later
            .properties()
            .iter()
            .map(|(key, node)| (key.as_str(), node))
            .collect();
        map.retain_mut(|(key, own)| match later.get(key.as_str()) {
            Some(node) if node.tag != Tag::None => false,
            Some(node) => {
                own.give_way(node);
                true
            }
            None => true,
        });
    }

    /// Removes the properties that only reset those of an earlier file.
    pub fn settle(&mut self) {
        match &mut self.data {
            Data::Map(map) => {
                map.retain(|(_, node)| node.tag != Tag::Reset);
                for (_, node) in map {
                    node.settle();
                }
            }
            Data::List(list) => {
                list.retain(|node| node.tag != Tag::Reset);
                list.iter_mut().for_each(Self::settle);
            }
            _ => {}
        }
    }

    /// The same object with another property.
    #[must_use]
    pub fn with(mut self, name: &str, node: Self) -> Self {
        if let Data::Map(map) = &mut self.data {
            put(map, name.to_owned(), node);
        }
        self
    }

    /// The value without lines and tags.
    pub fn to_value(&self) -> Value {
        match &self.data {
            Data::Null => Value::Null,
            Data::Bool(flag) => Value::Bool(*flag),
            Data::Number(number) => Value::Number(number.clone()),
            Data::Text(text) => Value::String(text.clone()),
            Data::List(list) => Value::Array(list.iter().map(Self::to_value).collect()),
            Data::Map(map) => Value::Object(
                map.iter()
                    .map(|(key, node)| (key.clone(), node.to_value()))
                    .collect::<Map<_, _>>(),
            ),
        }
    }

    /// A node for a value that is in no file: its lines are 0.
    pub fn from_value(value: &Value) -> Self {
        let data = match value {
            Value::Null => Data::Null,
            Value::Bool(flag) => Data::Bool(*flag),
            Value::Number(number) => Data::Number(number.clone()),
            Value::String(text) => Data::Text(text.clone()),
            Value::Array(list) => Data::List(list.iter().map(Self::from_value).collect()),
            Value::Object(map) => Data::Map(
                map.iter()
                    .map(|(key, value)| (key.clone(), Self::from_value(value)))
                    .collect(),
            ),
        };
        Self {
            line: 0,
            tag: Tag::None,
            data,
        }
    }

    /// The same value with `replace` applied to every text. Names of properties stay.
    #[must_use]
    pub fn map_texts(&self, replace: &dyn Fn(&str) -> String) -> Self {
        let data = match &self.data {
            Data::Text(text) => Data::Text(replace(text)),
            Data::List(list) => {
                Data::List(list.iter().map(|node| node.map_texts(replace)).collect())
            }
            Data::Map(map) => Data::Map(
                map.iter()
                    .map(|(key, node)| (key.clone(), node.map_texts(replace)))
                    .collect(),
            ),
            other => other.clone(),
        };
        Self {
            line: self.line,
            tag: self.tag,
            data,
        }
    }
}

/// Adds a property in place of any earlier one of the same name, as every reader does.
pub fn put(map: &mut Vec<(String, Node)>, name: String, node: Node) {
    match map.iter_mut().find(|(key, _)| *key == name) {
        Some(entry) => entry.1 = node,
        None => map.push((name, node)),
    }
}
