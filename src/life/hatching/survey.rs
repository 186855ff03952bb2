//! A look into an image before anything is built on it.

use super::{Home, Known, failure};
use crate::devcontainer::{is_number, takes_mounts};
use crate::docker::Docker;
use crate::error::Result;
use crate::life::furnish::accounts::Accounts;

/// Looks into a container of this image, which need not run: it has a shell, and people can log in as `user`.
/// With features to come (`is_final` is false) a user may still be added or changed. What is known of the user
/// then, whom the image's metadata may have `named`: the name, where it was given by number, and the likely home.
pub(super) async fn of(
    docker: &Docker,
    container: &str,
    image: &str,
    user: Option<&str>,
    named: Option<&str>,
    is_final: bool,
) -> Result<Known> {
    if !docker.is_there(container, "/bin/sh").await? {
        return Err(failure::no_shell(image));
    }
    let accounts = Accounts::of(docker, container).await?;
    let likely = |user: &str| match accounts.home(user).filter(|home| takes_mounts(home)) {
        Some(home) => Home::Likely(home.to_owned()),
        None => Home::Unknown,
    };
    let Some(user) = user else {
        return Ok(Known {
            remote_user: None,
            home: likely(named.unwrap_or("root")),
        });
    };
    let name = match accounts.name(user) {
        Ok(name) => name,
        Err(error) if is_final => return Err(error),
        Err(_) => return Ok(Known::default()),
    };
    if is_final {
        accounts.check(&name)?;
    }
    Ok(Known {
        home: likely(&name),
        remote_user: is_number(user).then_some(name),
    })
}
