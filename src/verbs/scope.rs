//! What a person asks for a drone's scope: the same for a spawn and a rebuild.

use std::collections::BTreeMap;

use clap::Args;

use super::Context;
use crate::drone::permission::{Access, Permission};
use crate::error::{Code, Error, Result};
use crate::life::recipe::Extent;

/// `--repo` and `--permission`.
#[derive(Debug, Args)]
pub struct Asked {
    /// Another repository its GitHub tokens may access (repeatable)
    #[arg(long = "repo", value_name = "ORG/REPO")]
    repositories: Vec<String>,

    /// A permission of its GitHub tokens, which replaces the default ones: `contents=read` (repeatable)
    #[arg(long = "permission", value_name = "NAME=ACCESS", value_parser = permission)]
    permissions: Vec<(Permission, Access)>,
}

impl Asked {
    /// What was asked for; what was not is as it was `before`.
    pub(super) fn over(self, before: Extent, context: &Context<'_>) -> Result<Extent> {
        if context.config.github.app_id.is_none()
            && !(self.repositories.is_empty() && self.permissions.is_empty())
        {
            return Err(Error::new(
                Code::Usage,
                "--repo and --permission restrict GitHub tokens, but this server has no GitHub App",
            )
            .hint("set github.app_id in the configuration and give hatchery-credd the App's key"));
        }
        let mut extent = before;
        if !self.repositories.is_empty() {
            let named = self.repositories.iter();
            let named = named.map(|text| context.repository(text));
            extent.repositories = named.collect::<Result<_>>()?;
        }
        if !self.permissions.is_empty() {
            let mut permissions = BTreeMap::new();
            for (permission, access) in self.permissions {
                if permissions.insert(permission, access).is_some() {
                    return Err(Error::new(
                        Code::Usage,
                        format!("{permission} is given twice"),
                    ));
                }
            }
            extent.permissions = Some(permissions);
        }
        Ok(extent)
    }
}

/// `NAME=ACCESS`, as GitHub names permissions.
fn permission(text: &str) -> std::result::Result<(Permission, Access), String> {
    let (name, access) = text
        .split_once('=')
        .ok_or("write it as NAME=ACCESS, such as contents=read")?;
    let permission: Permission = name.parse().map_err(|error| format!("{error}"))?;
    let access: Access = access.parse().map_err(|error| format!("{error}"))?;
    if !permission.allows(access) {
        return Err(format!("{permission} cannot be {access}"));
    }
    Ok((permission, access))
}
