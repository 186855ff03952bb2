//! A request's body, taken apart key by key and written from what was judged.
//!
//! Go reads JSON with keys in any case and the last of two (`encoding/json`), so a body that was
//! only looked at may mean something else to Docker than to us. Here a key is taken by its exact
//! name or it must hold nothing.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::stop::{Judged, Stop};

/// One object of a body.
#[derive(Debug)]
pub struct Rewrite {
    left: Map<String, Value>,
    out: Map<String, Value>,
}

impl Rewrite {
    /// Reads a body, which must be one object. An empty body counts as an empty object.
    pub fn read(body: &[u8]) -> Judged<Self> {
        if body.iter().all(u8::is_ascii_whitespace) {
            return Ok(Self::of(Map::new()));
        }
        match serde_json::from_slice(body) {
            Ok(Value::Object(left)) => Ok(Self::of(left)),
            Ok(_) => Err(Stop::Malformed("the body is no object".to_owned())),
            Err(error) => Err(Stop::Malformed(format!("the body is not JSON: {error}"))),
        }
    }

    /// As [`Self::read`], for an object within a body.
    pub fn of(left: Map<String, Value>) -> Self {
        Self {
            left,
            out: Map::new(),
        }
    }

    /// Takes a value out; `None` if it is missing or `null`. Fails if it is of another type.
    pub fn take<T: DeserializeOwned>(&mut self, key: &str) -> Judged<Option<T>> {
        match self.left.remove(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => serde_json::from_value(value)
                .map(Some)
                .map_err(|error| Stop::Malformed(format!("{key}: {error}"))),
        }
    }

    /// Keeps the values of these keys as they are. Fails if one is of another type.
    pub fn keep<T: DeserializeOwned + Serialize>(&mut self, keys: &[&str]) -> Judged<()> {
        for key in keys {
            if let Some(value) = self.take::<T>(key)? {
                self.put(key, &value)?;
            }
        }
        Ok(())
    }

    /// Leaves values out, whatever they are.
    pub fn drop(&mut self, keys: &[&str]) {
        for key in keys {
            self.left.remove(*key);
        }
    }

    /// Adds a value to the new body.
    pub fn put(&mut self, key: &str, value: &impl Serialize) -> Judged<()> {
        let value = serde_json::to_value(value)
            .map_err(|error| Stop::Malformed(format!("{key}: {error}")))?;
        self.out.insert(key.to_owned(), value);
        Ok(())
    }

    /// The new body. A key that was not taken must be empty: a newer client's keys do no harm, and nothing
    /// unknown passes.
    pub fn finish(self) -> Judged<Value> {
        if let Some((key, value)) = self.left.iter().find(|(_, value)| !is_none(value)) {
            return Err(Stop::Refused(named(key, value)));
        }
        Ok(Value::Object(self.out))
    }
}

/// A key and its value for a message.
pub fn named(key: &str, value: &Value) -> String {
    match key {
        "Privileged" => "all privileges (privileged)".to_owned(),
        _ => format!("{key:.60} {:.80}", value.to_string()),
    }
}

/// Whether Docker takes this value for one that is not set.
pub fn is_none(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Bool(true) => false,
        Value::Number(number) => number.as_i64() == Some(0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.values().all(is_none),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rewritten(body: &Value) -> Judged<Value> {
        let mut rewrite = Rewrite::read(body.to_string().as_bytes())?;
        rewrite.keep::<String>(&["User"])?;
        rewrite.drop(&["Gone"]);
        rewrite.finish()
    }

    #[test]
    fn a_key_is_taken_by_its_name_or_holds_nothing() {
        let body = json!({"User": "a", "Gone": [1], "New": 0, "Newer": {"x": ""}, "Null": null});
        assert_eq!(rewritten(&body), Ok(json!({"User": "a"})));
        for odd in [
            json!({"user": "root"}),
            json!({"User": "a", "USER": "root"}),
            json!({"New": 1}),
            json!({"New": {"x": [0]}}),
        ] {
            assert!(matches!(rewritten(&odd), Err(Stop::Refused(_))), "{odd}");
        }
        assert!(matches!(
            rewritten(&json!({"User": 1})),
            Err(Stop::Malformed(_))
        ));
        assert!(Rewrite::read(b"[]").is_err() && Rewrite::read(b"{").is_err());
    }

    #[test]
    fn of_two_values_of_one_key_docker_gets_the_one_that_was_judged() {
        let mut rewrite = Rewrite::read(br#"{"User":"a","User":"b"}"#).unwrap();
        rewrite.keep::<String>(&["User"]).unwrap();
        assert_eq!(rewrite.finish(), Ok(json!({"User": "b"})));
    }
}
