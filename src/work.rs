//! What would be lost with a drone's volume: looked up by git, inside a container.
//!
//! The repository's own git configuration can name programs to run, so git never reads it on the
//! host.

use crate::docker::{Docker, Drone, Life};
use crate::error::{Code, Error, Result};

/// Prints a line for each thing that exists only in the volume. Only the shell's own words are
/// used beside git: an image may have no others. `$1` is where the volume is, `$2` the
/// repository's name.
const SCRIPT: &str = r#"
command -v git >/dev/null 2>&1 || exit 126
GIT_OPTIONAL_LOCKS=0; export GIT_OPTIONAL_LOCKS
for there in "$1/$2" "$1"; do
  if [ -e "$there/.git" ]; then cd "$there" || exit 125; found=1; break; fi
done
[ -n "${found-}" ] || exit 0
g() { git -c safe.directory='*' -c core.fsmonitor=false -c core.hooksPath=/dev/null "$@"; }
tell() { while IFS= read -r line; do printf '%s: %s\n' "$1" "$line"; done; }
g rev-parse --git-dir >/dev/null || exit 125
g status --porcelain --untracked-files=normal | tell 'not committed'
g log --branches --not --remotes --format='%h %s' -n 20 | tell 'not pushed'
if g rev-parse -q --verify HEAD >/dev/null; then
  g log HEAD --not --branches --remotes --format='%h %s' -n 20 | tell 'not pushed, on no branch'
fi
g stash list | tell 'stashed'
exit 0
"#;

/// How many lines are shown.
const SHOWN: usize = 20;

/// Refuses if anything in the drone's volume exists nowhere else.
pub async fn check(docker: &Docker, drone: &Drone) -> Result<()> {
    let repo = &drone.identity.repo;
    let name = &drone.identity.name;
    let refuse = |what: &str| {
        Error::new(Code::WorkWouldBeLost, format!("{name} {what}")).hint(format!(
            "`hatchery slay --force {repo}` removes it all the same"
        ))
    };
    let Some(id) = &drone.container else {
        if docker.volume_is_empty(name.as_str()).await? {
            return Ok(());
        }
        return Err(refuse(
            "has no container any more, but its volume holds something",
        ));
    };
    let Some(container) = docker.container(id).await? else {
        return Ok(());
    };
    if drone.life == Life::Egg && !container.has_run() {
        // Nobody has worked in it.
        return Ok(());
    }
    let at = container
        .volumes()
        .find(|(volume, _)| *volume == name.as_str())
        .map(|(_, at)| at.to_owned());
    let Some(at) = at else { return Ok(()) };
    let argv = ["/bin/sh", "-c", SCRIPT, "sh", &at, repo.name()];
    let output = if container.runs() {
        docker.inside(id).run_as("0:0", &argv, &[]).await?
    } else {
        let image = container.image().unwrap_or_default();
        docker.look_into(name.as_str(), &at, image, &argv).await?
    };
    match output.status {
        0 if output.stdout.trim().is_empty() => Ok(()),
        0 => {
            let lines: Vec<_> = output.stdout.lines().map(str::to_owned).collect();
            let more = lines.len().saturating_sub(SHOWN);
            let tail = (more > 0).then(|| format!("and {more} more"));
            Err(refuse("holds work that exists nowhere else")
                .with_details(lines.into_iter().take(SHOWN).chain(tail)))
        }
        126 => Err(refuse("cannot be looked into: its image has no git")),
        _ => Err(refuse(
            "cannot be looked into: git cannot read its repository",
        )),
    }
}
