//! Builds that the devcontainer CLI asks for with the arguments of docker and compose: parsed and checked.

mod build;
pub mod project;

pub use build::Build;
