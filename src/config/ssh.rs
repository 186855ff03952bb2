//! Who may log in to drones.

use serde::{Deserialize, Serialize};
use url::Url;

use super::Checked;

/// `[ssh]`
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ssh {
    /// Lines as in `authorized_keys` (sshd(8)).
    pub authorized_keys: Vec<String>,
    /// URLs whose answer is such lines.
    pub authorized_keys_from: Vec<Url>,
}

impl Ssh {
    /// Refuses what cannot be: the key, and why.
    pub(super) fn check(&self) -> Checked {
        for line in &self.authorized_keys {
            if line.contains('\n') || line.parse::<ssh_key::authorized_keys::Entry>().is_err() {
                return Err((
                    "ssh.authorized_keys",
                    format!("contains a line that is not a public key: {line:?}"),
                ));
            }
        }
        for url in &self.authorized_keys_from {
            if url.scheme() != "https" {
                return Err((
                    "ssh.authorized_keys_from",
                    format!("must contain only https URLs, not {url}"),
                ));
            }
        }
        Ok(())
    }
}
