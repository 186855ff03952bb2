//! The gate, from a checkout on disk to what the devcontainer CLI is handed.

mod common;
mod compose;
mod corpus;
mod devcontainer;
mod findings;
mod properties;
mod registries;
mod tables;
mod words;
