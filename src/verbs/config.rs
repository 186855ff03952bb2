//! `hatchery config`

use clap::Args;

use super::Context;
use crate::docker::Login;
use crate::error::{Code, Error, Result};
use crate::secret::{Environment, Secret};

/// Print the effective configuration; it contains no secrets, only the paths of their files
#[derive(Debug, Args)]
pub struct Show {
    /// Validate the configuration and exit
    #[arg(long)]
    check: bool,

    /// With --check, also try to read the secret files
    #[arg(long, requires = "check")]
    secrets: bool,
}

impl Show {
    pub fn run(self, context: &Context<'_>) -> Result<()> {
        let config = &context.config;
        if self.secrets {
            let tailnet = config.tailnet.as_ref();
            let files = [
                ("github.private_key_file", &config.github.private_key_file),
                (
                    "tailnet.auth_key_file",
                    &tailnet.and_then(|tailnet| tailnet.auth_key_file.clone()),
                ),
                (
                    "tailnet.api_key_file",
                    &tailnet.and_then(|tailnet| tailnet.api_key_file.clone()),
                ),
            ];
            for (key, path) in files {
                if let Some(path) = path {
                    Secret::read(path, key)?;
                }
            }
            for (namespace, registry) in config.registries.iter() {
                Login::read(namespace, registry)?;
            }
            Environment::read(config.env_files())?;
        }
        if self.check {
            context.ui.talk("Configuration OK.");
            if self.secrets
                && config.github.app_id.is_some()
                && config.github.private_key_file.is_none()
            {
                context.ui.talk(
                    "It does not name the GitHub App's key file: hatchery-credd's unit loads the key as the \
                     credential app-key, which `hatchery doctor` checks.",
                );
            }
        } else if context.ui.json() {
            context.ui.json_result(config);
        } else {
            let text = toml::to_string(config).map_err(|error| {
                Error::new(Code::ConfigInvalid, "the configuration cannot be printed")
                    .because(error)
            })?;
            text.lines().for_each(|line| context.ui.result(line));
        }
        Ok(())
    }
}
