//! What the devcontainer CLI is given in place of the repository's own files.

pub mod compose;
pub mod home;
pub mod overrides;
