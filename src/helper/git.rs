//! `git-credential-hatchery`: answers git for GitHub, for the drone's repositories, and nobody
//! else (gitcredentials(7)).

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use super::place::Place;
use super::question::{Decision, Question};
use super::{Result, ask, say};

/// The user that GitHub expects with an installation access token.
const USER: &str = "x-access-token";

/// Does what git asks. Only `get` is answered: there is nothing to store or erase.
pub fn run(operation: Option<OsString>) -> ExitCode {
    if operation.is_none_or(|operation| operation != "get") {
        return ExitCode::SUCCESS;
    }
    let Some(question) = Question::read(std::io::stdin().lock()) else {
        return ExitCode::SUCCESS;
    };
    match answer(&question) {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some(answer)) => match std::io::stdout().lock().write_all(answer.as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            // Git has gone; it does not want to know any more.
            Err(_) => ExitCode::FAILURE,
        },
        Err(why) => {
            say(&why);
            ExitCode::FAILURE
        }
    }
}

/// The credentials, or nothing for a stranger: then neither drone.json nor the socket matters.
fn answer(question: &Question) -> Result<Option<String>> {
    let Some(wish) = question.wish() else {
        return Ok(None);
    };
    let place = Place::read()?;
    let repo = match wish.at(&place) {
        Decision::Nothing => return Ok(None),
        Decision::OutOfScope(repo) => {
            return Err(format!(
                "this drone has no access to {repo}; to add it, spawn the drone with `--repo {repo}` on the \
                 server"
            ));
        }
        Decision::Ask(repo) => repo,
    };
    let token = ask::token(&place.socket(), repo.as_ref())?;
    let mut answer = format!("username={USER}\npassword={}\n", token.token);
    if let Some(expiry) = token.expiry() {
        answer.push_str("password_expiry_utc=");
        answer.push_str(&expiry.to_string());
        answer.push('\n');
    }
    Ok(Some(answer))
}
