//! GitHub's published description of its API, and whether an exchange keeps to it.

use std::collections::BTreeMap;

use jsonschema::Validator;
use serde_json::{Value, json};

/// The operations that the credential service may use.
pub struct Description {
    document: Value,
    validators: BTreeMap<String, Validator>,
}

/// An operation of the description: its path template and method.
pub type Operation = (&'static str, &'static str);

pub const INSTALLATION: Operation = ("/repos/{owner}/{repo}/installation", "get");
pub const MINT: Operation = ("/app/installations/{installation_id}/access_tokens", "post");
pub const REVOKE: Operation = ("/installation/token", "delete");

impl Description {
    pub fn load() -> Self {
        let mut document: Value = serde_json::from_str(include_str!("github-api.json")).unwrap();
        translate(&mut document);
        let mut validators = BTreeMap::new();
        for (path, method) in [INSTALLATION, MINT, REVOKE] {
            let operation = document["paths"][path][method].clone();
            for (status, response) in operation["responses"].as_object().unwrap() {
                let response = resolved(&document, response);
                let schema = &response["content"]["application/json"]["schema"];
                if !schema.is_null() {
                    let key = format!("{method} {path} {status}");
                    validators.insert(key, validator(&document, schema));
                }
            }
            let mut schema =
                operation["requestBody"]["content"]["application/json"]["schema"].clone();
            if !schema.is_null() {
                // What is not described is not to be sent.
                schema["additionalProperties"] = json!(false);
                validators.insert(format!("{method} {path}"), validator(&document, &schema));
            }
        }
        Self {
            document,
            validators,
        }
    }

    /// An example that the description gives.
    pub fn example(&self, name: &str) -> Value {
        self.document["components"]["examples"][name]["value"].clone()
    }

    /// What is wrong with this request body, if anything.
    pub fn check_request(&self, (path, method): Operation, body: &[u8]) -> Result<(), String> {
        match self.validators.get(&format!("{method} {path}")) {
            None if body.is_empty() => Ok(()),
            None => Err(format!("{method} {path} takes no body")),
            Some(validator) => check(validator, body),
        }
    }

    /// What is wrong with this answer, if anything.
    pub fn check_answer(
        &self,
        (path, method): Operation,
        status: u16,
        body: &[u8],
    ) -> Result<(), String> {
        let documented = &self.document["paths"][path][method]["responses"][status.to_string()];
        if documented.is_null() {
            return Err(format!("{method} {path} never answers {status}"));
        }
        match self.validators.get(&format!("{method} {path} {status}")) {
            None if body.is_empty() => Ok(()),
            None => Err(format!("{method} {path} answers {status} without a body")),
            Some(validator) => check(validator, body),
        }
    }
}

fn check(validator: &Validator, body: &[u8]) -> Result<(), String> {
    let value: Value = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let errors: Vec<String> = validator
        .iter_errors(&value)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    if errors.is_empty() {
        Ok(())
    } else {
        Err(errors.join("; "))
    }
}

fn resolved<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    match value["$ref"].as_str() {
        Some(reference) => document.pointer(&reference[1..]).unwrap(),
        None => value,
    }
}

fn validator(document: &Value, schema: &Value) -> Validator {
    let whole = json!({"allOf": [schema], "components": document["components"]});
    jsonschema::options()
        .with_draft(jsonschema::Draft::Draft202012)
        .should_validate_formats(true)
        .build(&whole)
        .unwrap()
}

/// `OpenAPI` 3.0 says `nullable` where JSON Schema has the type `null`.
fn translate(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.values_mut().for_each(translate);
            if map.get("nullable") == Some(&json!(true)) {
                map.remove("nullable");
                let schema = Value::Object(std::mem::take(map));
                map.insert("anyOf".to_owned(), json!([schema, {"type": "null"}]));
            }
        }
        Value::Array(list) => list.iter_mut().for_each(translate),
        _ => {}
    }
}

#[test]
fn the_description_accepts_its_own_examples_and_refuses_others() {
    let description = Description::load();
    let grant = description.example("installation-token").to_string();
    description
        .check_answer(MINT, 201, grant.as_bytes())
        .unwrap();
    let installation = description.example("installation").to_string();
    description
        .check_answer(INSTALLATION, 200, installation.as_bytes())
        .unwrap();
    for body in [r#"{"token": "x"}"#, r#"{"token": 1, "expires_at": ""}"#] {
        assert!(
            description
                .check_answer(MINT, 201, body.as_bytes())
                .is_err()
        );
    }
    for body in [
        r#"{"repositories": "all"}"#,
        r#"{"permissions": {"contents": "own"}}"#,
        r#"{"scope": []}"#,
    ] {
        assert!(description.check_request(MINT, body.as_bytes()).is_err());
    }
}
