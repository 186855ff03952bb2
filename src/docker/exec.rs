//! Running a program inside a drone.

use std::time::Duration;

use bollard::container::LogOutput;
use bollard::exec::{CreateExecOptions, StartExecOptions, StartExecResults};
use futures_util::StreamExt;
use tokio::io::AsyncWriteExt;

use super::{Docker, ENGINE_HINT, failed, is_engines_fault, late};
use crate::error::{Code, Error, Result};
use crate::ui::clean;

/// How long a program in a drone may take. Whoever asks for less says so.
const ENDS_WITHIN: Duration = Duration::from_secs(60);

/// The most that is kept of what a program in a drone prints, on each stream, in bytes.
const MAX_OUTPUT: usize = 256 * 1024;

/// A container in which programs are run.
#[derive(Debug, Clone)]
pub struct Inside {
    docker: Docker,
    container: String,
}

/// How a program inside is run.
#[derive(Debug, Clone, Default)]
pub struct Setting<'a> {
    /// By name, or by numbers.
    pub user: &'a str,
    /// Where it begins; the image's own where nothing is said.
    pub directory: Option<&'a str>,
    /// `NAME=value` each, over the container's own.
    pub environment: Vec<String>,
}

/// How a program inside ended, and what it printed.
#[derive(Debug, Clone, Default)]
pub struct Output {
    /// Its exit status; 126 and 127 also mean that it could not be run.
    pub status: i64,
    /// Standard output, cut at a bound.
    pub stdout: String,
    /// Standard error, cut at a bound.
    pub stderr: String,
}

impl Docker {
    /// The inside of this container.
    pub fn inside(&self, container: &str) -> Inside {
        Inside {
            docker: self.clone(),
            container: container.to_owned(),
        }
    }
}

impl Inside {
    pub(super) const fn docker(&self) -> &Docker {
        &self.docker
    }

    pub(super) fn container(&self) -> &str {
        &self.container
    }

    /// Runs a program as this user, with this on its standard input, and waits for its end, but not
    /// for ever: a drone's programs are a stranger's.
    pub async fn run_as(&self, user: &str, argv: &[&str], stdin: &[u8]) -> Result<Output> {
        self.run_within(ENDS_WITHIN, user, argv, stdin).await
    }

    /// The same, for as long as this.
    pub async fn run_within(
        &self,
        within: Duration,
        user: &str,
        argv: &[&str],
        stdin: &[u8],
    ) -> Result<Output> {
        let setting = Setting {
            user,
            ..Setting::default()
        };
        self.run_in(&setting, within, argv, stdin).await
    }

    /// The same, in this setting. What does not end within its time goes on, unheard.
    pub async fn run_in(
        &self,
        setting: &Setting<'_>,
        within: Duration,
        argv: &[&str],
        stdin: &[u8],
    ) -> Result<Output> {
        let program = argv.first().copied().unwrap_or_default();
        let mut unheard = |_, _: &[u8]| {};
        let running = self.run_heard(setting, argv, stdin, &mut unheard);
        tokio::time::timeout(within, running)
            .await
            .unwrap_or_else(|_| {
                Err(late(
                    &format!("run {program} in {}", self.container),
                    within,
                ))
            })
    }

    /// Runs a program in this setting until it ends. `heard` gets all that it prints, as it comes, beyond what is
    /// kept of it too: whether it is of standard error, and the bytes.
    pub async fn run_heard(
        &self,
        setting: &Setting<'_>,
        argv: &[&str],
        stdin: &[u8],
        heard: &mut (dyn FnMut(bool, &[u8]) + Send),
    ) -> Result<Output> {
        let program = argv.first().copied().unwrap_or_default();
        let doing = format!("run {program} in {}", self.container);
        let error = |error| failed(&doing, error);
        let api = &self.docker.api;
        let options = CreateExecOptions {
            attach_stdin: Some(!stdin.is_empty()),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            user: Some(setting.user),
            working_dir: setting.directory,
            env: Some(setting.environment.iter().map(String::as_str).collect()),
            cmd: Some(argv.to_vec()),
            ..CreateExecOptions::default()
        };
        let id = api
            .create_exec(&self.container, options)
            .await
            .map_err(error)?
            .id;
        let started = api
            .start_exec(&id, None::<StartExecOptions>)
            .await
            .map_err(error)?;
        let mut result = Output::default();
        if let StartExecResults::Attached {
            mut output,
            mut input,
        } = started
        {
            if !stdin.is_empty() {
                // A program that does not read its input is not an error.
                let _ = input.write_all(stdin).await;
                let _ = input.shutdown().await;
            }
            let (mut out, mut err) = (Vec::new(), Vec::new());
            while let Some(part) = output.next().await {
                match part.map_err(error)? {
                    LogOutput::StdErr { message } => {
                        heard(true, &message);
                        keep(&mut err, &message);
                    }
                    part => {
                        let part = part.into_bytes();
                        heard(false, &part);
                        keep(&mut out, &part);
                    }
                }
            }
            result.stdout = String::from_utf8_lossy(&out).into_owned();
            result.stderr = String::from_utf8_lossy(&err).into_owned();
        }
        let ended = api.inspect_exec(&id).await.map_err(error)?;
        result.status = ended.exit_code.unwrap_or(-1);
        // Docker puts its own word where the program's output would be.
        if matches!(result.status, 126 | 127 | -1)
            && let Some(word) = [&result.stdout, &result.stderr]
                .into_iter()
                .find(|text| is_engines_fault(text))
        {
            return Err(
                Error::new(Code::DockerFailed, format!("Docker could not {doing}"))
                    .hint(ENGINE_HINT)
                    .because(said(word)),
            );
        }
        Ok(result)
    }
}

impl Docker {
    /// Whether a person has a terminal open in this container, as with `docker exec -t`.
    pub async fn has_terminal_open(&self, container: &str) -> Result<bool> {
        let doing = format!("inspect a command in {container}");
        let error = |error| failed(&doing, error);
        let container = self.api.inspect_container(container, None).await;
        let execs = container.map_err(error)?.exec_ids.unwrap_or_default();
        let looking = execs.iter().map(|id| self.api.inspect_exec(id));
        let all = futures_util::future::join_all(looking).await;
        // One that ends just now is gone.
        Ok(all.into_iter().flatten().any(|exec| {
            let has_terminal = exec.process_config.and_then(|process| process.tty);
            exec.running == Some(true) && has_terminal == Some(true)
        }))
    }
}

/// What Docker said, in one line that fits.
fn said(text: &str) -> String {
    let line: String = clean::line(&text.replace(['\r', '\n'], " "));
    line.trim().chars().take(400).collect()
}

pub(super) fn keep(kept: &mut Vec<u8>, part: &[u8]) {
    let room = MAX_OUTPUT.saturating_sub(kept.len());
    kept.extend_from_slice(&part[..part.len().min(room)]);
}

impl crate::tailnet::Inside for Inside {
    async fn run(&self, argv: &[&str], stdin: &[u8]) -> Result<crate::tailnet::InsideOutput> {
        let output = self.run_as("0:0", argv, stdin).await?;
        Ok(crate::tailnet::InsideOutput {
            status: output.status,
            stdout: output.stdout.into_bytes(),
            stderr: output.stderr.into_bytes(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dockers_own_failure_is_told_from_a_program_that_is_not_there() {
        for (text, fault) in [
            (
                "OCI runtime exec failed: exec failed: unable to start container process: error adding pid 70 to cgroups: unknown",
                true,
            ),
            (
                "OCI runtime exec failed: exec failed: unable to start container process: exec: \"git\": executable file not found in $PATH: unknown",
                false,
            ),
            (
                "OCI runtime exec failed: exec failed: container_linux.go:380: starting container process caused: exec: \"/bin/sh\": stat /bin/sh: no such file or directory: unknown",
                false,
            ),
            ("error: a program of the image's own", false),
        ] {
            assert_eq!(is_engines_fault(text), fault, "{text}");
        }
        assert_eq!(said("a\u{1b}[31m b\r\nc\r\n"), "a b  c");
    }
}
