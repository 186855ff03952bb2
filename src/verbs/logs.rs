//! `hatchery logs`

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use clap::Args;
use futures_util::stream::{StreamExt, select_all, unfold};
use serde_json::json;

use super::asked::Asked;
use super::{Context, is_bare};
use crate::docker::{Container, Docker, LogEntry, Logs as Lines};
use crate::error::{Code, Error, Result};
use crate::host::transcript::{Line, Reader, Run};
use crate::life::siblings;
use crate::ui::clean;

/// How often a transcript is looked at that is being written.
const LOOKED_AT_EVERY: Duration = Duration::from_millis(200);

/// Show a drone's logs, or the output of its spawn
///
/// Without --spawn, it shows what `docker logs` shows: the output of the container's main process and, if the
/// drone has a compose file, of each of its services.
#[derive(Debug, Args)]
pub struct Logs {
    /// org/repo or the drone's name
    #[arg(value_name = "DRONE")]
    drone: String,

    /// Show the output of the last spawn or rebuild, even a failed one, and of later starts
    ///
    /// This includes all output of builds and lifecycle commands. The output of a failed spawn is kept for
    /// seven days.
    #[arg(long)]
    spawn: bool,

    /// Follow the output until the containers stop or, with --spawn, until the spawn ends
    #[arg(short, long)]
    follow: bool,

    /// Show only the last N lines, of each service
    #[arg(short = 'n', long, value_name = "N")]
    tail: Option<usize>,

    /// Show the time of each line
    #[arg(short = 't', long)]
    timestamps: bool,

    /// Show only this service of the drone's compose file
    #[arg(long, value_name = "NAME", conflicts_with = "spawn")]
    service: Option<String>,
}

/// A line as it is shown.
#[derive(Debug)]
struct Shown<'a> {
    at: &'a str,
    /// `stdout`, `stderr`, or of a transcript `output` and `hatchery`.
    stream: &'a str,
    service: Option<&'a str>,
    /// What a person sees before the text.
    prefix: &'a str,
    text: &'a str,
}

/// A container whose lines are shown.
struct Source {
    service: Option<String>,
    prefix: String,
    lines: Lines,
}

impl Logs {
    pub async fn run(self, context: &Context<'_>) -> Result<()> {
        let asked = context.asked(&self.drone)?;
        if self.spawn {
            return self.transcripts(context, &asked).await;
        }
        let docker = context.docker().await?;
        let sources = self.sources(context, &docker, &asked).await?;
        if self.follow {
            self.all_at_once(context, sources).await
        } else {
            self.in_order(context, sources).await
        }
    }

    /// The containers that were asked for.
    async fn sources(
        &self,
        context: &Context<'_>,
        docker: &Docker,
        asked: &Asked,
    ) -> Result<Vec<Source>> {
        let drone = context.drone(docker, asked).await?;
        let own = match &drone.container {
            Some(id) => docker.container(id).await?,
            None => None,
        };
        let own = own.ok_or_else(|| is_bare(&drone, Code::DroneNotFound))?;
        let mut all = siblings::of(docker, &drone.identity.name, own.id()).await?;
        all.insert(0, own);
        let names: Vec<&str> = all.iter().filter_map(Container::service).collect();
        let known = names.join(", ");
        let chosen: Vec<&Container> = match &self.service {
            None => all.iter().collect(),
            Some(name) => all
                .iter()
                .filter(|container| container.service() == Some(name))
                .collect(),
        };
        if chosen.is_empty() {
            let name = self.service.as_deref().unwrap_or_default();
            let drone = &drone.identity.name;
            let error = Error::new(Code::Usage, format!("{drone} has no service {name}"));
            return Err(error.hint(match known.as_str() {
                "" => "leave out --service: the drone has no compose file".to_owned(),
                known => format!("its services are {known}"),
            }));
        }
        let width = names.iter().map(|name| name.chars().count()).max();
        let mut sources = Vec::new();
        for container in &chosen {
            let service = container.service().map(str::to_owned);
            let prefix = match (&service, width) {
                (Some(name), Some(width)) if chosen.len() > 1 => format!("{name:width$} | "),
                _ => String::new(),
            };
            let lines = docker.logs_of(container, self.tail, self.follow).await?;
            sources.push(Source {
                service,
                prefix,
                lines,
            });
        }
        Ok(sources)
    }

    /// Shows what there is, by its time.
    async fn in_order(&self, context: &Context<'_>, mut sources: Vec<Source>) -> Result<()> {
        let mut next = Vec::new();
        for source in &mut sources {
            next.push(source.lines.next().await?);
        }
        loop {
            let first = next.iter().enumerate();
            let first = first.filter_map(|(at, entry)| Some((&entry.as_ref()?.at, at)));
            let Some((_, first)) = first.min() else {
                return Ok(());
            };
            let source = &mut sources[first];
            if let Some(entry) = &next[first]
                && !self.show_entry(context, source, entry)?
            {
                return Ok(());
            }
            next[first] = source.lines.next().await?;
        }
    }

    /// Shows each line when it comes, until all have ended.
    async fn all_at_once(&self, context: &Context<'_>, sources: Vec<Source>) -> Result<()> {
        let streams = sources.into_iter().map(|source| {
            let lines = unfold(source, |mut source| async {
                let next = source.lines.next().await.transpose()?;
                let shown =
                    next.map(|entry| (source.service.clone(), source.prefix.clone(), entry));
                Some((shown, source))
            });
            Box::pin(lines)
        });
        let mut all = select_all(streams);
        while let Some(next) = all.next().await {
            let (service, prefix, entry) = next?;
            if !self.show(context, &of_entry(service.as_deref(), &prefix, &entry))? {
                break;
            }
        }
        Ok(())
    }

    fn show_entry(&self, context: &Context<'_>, source: &Source, entry: &LogEntry) -> Result<bool> {
        let shown = of_entry(source.service.as_deref(), &source.prefix, entry);
        self.show(context, &shown)
    }

    /// Shows one line; whether anybody reads it.
    fn show(&self, context: &Context<'_>, line: &Shown<'_>) -> Result<bool> {
        if context.ui.json() {
            return context.ui.json_row(&json!({
                "time": line.at,
                "stream": line.stream,
                "service": line.service,
                "text": line.text,
            }));
        }
        let at = if self.timestamps { line.at } else { "" };
        let space = if at.is_empty() { "" } else { " " };
        // A stranger's text does not get to what is before it.
        let text = clean::line(line.text);
        context.ui.row(&format!("{at}{space}{}{text}", line.prefix))
    }

    /// Shows what the last spawn has said, and what came after it.
    async fn transcripts(&self, context: &Context<'_>, asked: &Asked) -> Result<()> {
        let drone = asked.name();
        let mut runs = Run::all(&context.places, &drone);
        let last = runs.iter().rposition(|run| !run.what.is_later());
        runs.drain(..last.unwrap_or(0));
        let mut readers = runs.iter().map(Run::open).collect::<Result<Vec<_>>>()?;
        let Some(newest) = readers.last_mut() else {
            return Err(Error::new(
                Code::DroneNotFound,
                format!("there is no output of a spawn of {drone}"),
            )
            .hint(
                "it was never spawned here, it was slain, or its spawn failed more than seven days ago; \
                 `hatchery list` lists all drones",
            ));
        };
        // Before it is read: what is written until its end is read after that.
        let mut goes_on = self.follow && newest.is_written();
        let mut kept = VecDeque::new();
        for (reader, run) in readers.iter_mut().zip(&runs) {
            let ended = !goes_on || run != &runs[runs.len() - 1];
            while let Some(line) = next_of(reader, ended).map_err(unreadable)? {
                if self.tail.is_some_and(|tail| kept.len() >= tail) {
                    kept.pop_front();
                }
                if self.tail != Some(0) {
                    kept.push_back(line);
                }
                if self.tail.is_none()
                    && let Some(line) = kept.pop_front()
                    && !self.show(context, &of_line(&line))?
                {
                    return Ok(());
                }
            }
        }
        for line in kept {
            if !self.show(context, &of_line(&line))? {
                return Ok(());
            }
        }
        let Some(mut reader) = readers.pop() else {
            return Ok(());
        };
        while goes_on {
            tokio::time::sleep(LOOKED_AT_EVERY).await;
            goes_on = reader.is_written();
            while let Some(line) = next_of(&mut reader, !goes_on).map_err(unreadable)? {
                if !self.show(context, &of_line(&line))? {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

/// The next line of a transcript; once it has ended, also one that was cut off.
fn next_of(reader: &mut Reader, ended: bool) -> io::Result<Option<Line>> {
    match reader.next_line()? {
        None if ended => Ok(reader.cut_off()),
        next => Ok(next),
    }
}

fn unreadable(error: io::Error) -> Error {
    Error::new(Code::HostFailed, "the output of the spawn cannot be read").because(error)
}

fn of_entry<'a>(service: Option<&'a str>, prefix: &'a str, entry: &'a LogEntry) -> Shown<'a> {
    Shown {
        at: &entry.at,
        stream: if entry.is_error { "stderr" } else { "stdout" },
        service,
        prefix,
        text: &entry.text,
    }
}

fn of_line(line: &Line) -> Shown<'_> {
    Shown {
        at: &line.at,
        stream: if line.is_output { "output" } else { "hatchery" },
        service: None,
        prefix: if line.is_output { "  | " } else { "" },
        text: &line.text,
    }
}
