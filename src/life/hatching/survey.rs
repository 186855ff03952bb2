//! A look into an image before anything is built on it.

use super::failure;
use crate::devcontainer::is_number;
use crate::docker::Docker;
use crate::error::Result;
use crate::life::furnish::accounts::Accounts;

/// Looks into a container of this image, which need not run: it has a shell, and people can log in as `user`.
/// With features to come (`is_final` is false) a user may still be added or changed. The user's name, where it
/// was given by number.
pub(super) async fn of(
    docker: &Docker,
    container: &str,
    image: &str,
    user: Option<&str>,
    is_final: bool,
) -> Result<Option<String>> {
    if !docker.is_there(container, "/bin/sh").await? {
        return Err(failure::no_shell(image));
    }
    let Some(user) = user else {
        return Ok(None);
    };
    let accounts = Accounts::of(docker, container).await?;
    let name = match accounts.name(user) {
        Ok(name) => name,
        Err(error) if is_final => return Err(error),
        Err(_) => return Ok(None),
    };
    if is_final {
        accounts.check(&name)?;
    }
    Ok(is_number(user).then_some(name))
}
