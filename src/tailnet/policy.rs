//! The Headscale policy: people's machines reach the drones, and a drone reaches nobody.
//!
//! A drone's user is a destination and never a source. `autogroup:member` includes it, and
//! `autogroup:self` would let the drones reach each other; neither may stand in a rule. Syntax:
//! Headscale's manual, "Policy", and Tailscale's, "Tailnet policy file".

use serde_json::{Value, json};

use crate::config::Tailnet;
use crate::error::{Code, Error, Result};

/// The group of those who use drones.
const PEOPLE: &str = "group:people";

/// The policy for `policy.path` or `headscale policy set`. `people` are Headscale's users whose
/// machines may reach the drones (`levin`, or `levin@example.com` with OIDC).
///
/// It is the whole policy: people's machines also reach each other, as without a policy. What an
/// owner has beyond that is to be merged by hand.
pub fn document(tailnet: &Tailnet, people: &[String]) -> Result<Value> {
    let drones = user(&tailnet.user)?;
    let people = people
        .iter()
        .map(|person| user(person))
        .collect::<Result<Vec<_>>>()?;
    if people.contains(&drones) {
        return Err(Error::new(
            Code::ConfigInvalid,
            format!("{drones} owns the drones and cannot also be one of the users who reach them"),
        )
        .hint("set tailnet.user to a tailnet user for the drones alone"));
    }
    Ok(json!({
        "groups": { PEOPLE: people },
        "acls": [{
            "action": "accept",
            "src": [PEOPLE],
            "dst": [format!("{PEOPLE}:*"), format!("{drones}:*")],
        }],
    }))
}

/// The same with `tests`, for `headscale policy check`. Headscale evaluates them against the nodes
/// that there are, and a user without any fails them: so they are no part of [`document`], which
/// must hold when no drone runs. At least one drone, and a machine of each person, must be there.
pub fn document_with_tests(tailnet: &Tailnet, people: &[String]) -> Result<Value> {
    let mut document = document(tailnet, people)?;
    let drones = user(&tailnet.user)?;
    let people = people
        .iter()
        .map(|person| user(person))
        .collect::<Result<Vec<_>>>()?;
    let ports = |of: &str| ["22", "2222", "3000"].map(|port| format!("{of}:{port}"));
    let mut tests: Vec<Value> = people
        .iter()
        .map(|person| json!({ "src": person, "accept": ports(&drones) }))
        .collect();
    let mut denied = ports(&drones).to_vec();
    denied.extend(people.iter().flat_map(|person| ports(person)));
    tests.push(json!({ "src": drones, "deny": denied }));
    document["tests"] = tests.into();
    Ok(document)
}

/// A user as a policy names it: with an `@`, which stands alone at the end of a local user's name.
fn user(name: &str) -> Result<String> {
    let valid = !name.is_empty()
        && name.len() <= 255
        && name.matches('@').count() <= 1
        && !name.starts_with('@')
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '+' | '@'));
    if !valid {
        return Err(Error::new(
            Code::ConfigInvalid,
            format!("{name:?} is not a tailnet user"),
        )
        .hint("write it as `headscale users list` shows it"));
    }
    Ok(if name.contains('@') {
        name.to_owned()
    } else {
        format!("{name}@")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tailnet() -> Tailnet {
        Tailnet {
            login_server: "https://h.example".parse().unwrap(),
            domain: "t.example".into(),
            user: "devcontainer".into(),
            auth_key_file: None,
            api_key_file: None,
        }
    }

    #[test]
    fn drones_are_a_destination_and_never_a_source() {
        let people = ["levin".to_owned(), "ada@example.com".to_owned()];
        let document = document(&tailnet(), &people).unwrap();
        assert_eq!(
            document["groups"][PEOPLE],
            json!(["levin@", "ada@example.com"])
        );
        let rules = document["acls"].as_array().unwrap();
        assert!(rules.iter().any(|rule| {
            rule["dst"]
                .as_array()
                .is_some_and(|to| to.contains(&json!("devcontainer@:*")))
        }));
        for rule in rules {
            assert_eq!(rule["src"], json!([PEOPLE]));
        }
        let text = document.to_string();
        assert!(
            !text.contains("autogroup:") && !text.contains("\"*\""),
            "{text}"
        );
        assert!(document.get("tests").is_none());
    }

    #[test]
    fn the_drones_user_is_nobody_of_the_people() {
        for people in [
            ["devcontainer"],
            ["devcontainer@"],
            ["group:x"],
            ["*"],
            [""],
            ["@"],
        ] {
            let people = people.map(str::to_owned);
            let error = document(&tailnet(), &people).unwrap_err();
            assert_eq!(error.code(), Code::ConfigInvalid, "{people:?}");
        }
    }
}
