//! A repository's files as text, and what the text says as values: nothing is judged here.

pub mod checkout;
pub mod document;
pub mod interpolate;
pub mod jsonc;
pub mod locate;
pub mod variables;
pub mod yaml;
