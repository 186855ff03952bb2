//! What a person's home gets in each drone.

use serde::{Deserialize, Serialize};

use super::Checked;
use super::drones::is_path_in_clone;

/// `[dotfiles]`
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Dotfiles {
    /// Where they are cloned from: `org/repo` on GitHub, or a URL of git's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// The program in it that installs them; without it the first of those that the devcontainer CLI looks for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub install: Option<String>,
}

impl Dotfiles {
    pub(super) fn check(&self) -> Checked {
        // The devcontainer CLI puts both into a shell's script as they are.
        let is_plain = |text: &str, also: &str| {
            let mut all = text.chars();
            !text.is_empty()
                && !text.starts_with('-')
                && all.all(|c| c.is_ascii_alphanumeric() || also.contains(c))
        };
        if let Some(repository) = &self.repository
            && !is_plain(repository, "/.:@_-~+")
        {
            return Err((
                "dotfiles.repository",
                format!("must be org/repo or a git URL, not {repository:?}"),
            ));
        }
        if let Some(install) = &self.install {
            if !is_plain(install, "/._-") || !is_path_in_clone(install) {
                return Err((
                    "dotfiles.install",
                    format!("must be a path in the dotfiles repository, not {install:?}"),
                ));
            }
            if self.repository.is_none() {
                return Err((
                    "dotfiles.install",
                    "needs dotfiles.repository, which is not set".into(),
                ));
            }
        }
        Ok(())
    }
}
