//! Texts that the devcontainer CLI writes into other texts as they are: generated YAML,
//! Dockerfiles, files of shell variables, argument lists.

use super::policy;
use super::verdict::Gate;
use crate::devcontainer::reading::document::{Data, Node};

/// Why a text is refused that would not stay on its line.
pub const NOT_ONE_LINE: &str =
    "it contains a line break or control character, which would end up in a generated file";

/// Why a build argument of the CLI's own is refused.
const THE_CLIS_OWN: &str = "the devcontainer CLI sets it itself";

/// Why something is refused that is not the name of a variable.
pub const NO_VARIABLE: &str = "this is not the name of a variable";

/// Refuses a value if any text in it, names of properties included, would not stay on its line.
/// Returns whether it passes.
pub fn stays_on_its_line(node: &Node, property: &str, gate: &mut Gate) -> bool {
    is_one_line(node) || gate.refuse(node, property, NOT_ONE_LINE)
}

fn is_one_line(node: &Node) -> bool {
    match &node.data {
        Data::Text(text) => policy::is_one_line(text),
        Data::List(list) => list.iter().all(is_one_line),
        Data::Map(map) => map
            .iter()
            .all(|(name, value)| policy::is_one_line(name) && is_one_line(value)),
        Data::Null | Data::Bool(_) | Data::Number(_) => true,
    }
}

/// Checks a build argument. The error says why it is refused.
pub fn build_argument(name: &str, value: &str) -> Result<(), &'static str> {
    if !policy::is_env_name(name) {
        return Err(NO_VARIABLE);
    }
    if name.starts_with("_DEV_CONTAINERS_") {
        return Err(THE_CLIS_OWN);
    }
    if !policy::is_one_line(value) {
        return Err(NOT_ONE_LINE);
    }
    Ok(())
}
