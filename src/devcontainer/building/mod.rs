//! What is built, and how: asked for by the devcontainer CLI in the words of docker and compose, parsed
//! and judged.

mod build;
pub mod project;

pub use build::Build;
