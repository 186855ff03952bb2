//! A timeline: when each step of a long job began and ended. Steps may overlap.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde::Serialize;

/// The steps of one job; copies record into the same one.
#[derive(Debug, Clone)]
pub struct Timeline {
    began: Instant,
    spans: Arc<Mutex<Vec<Span>>>,
}

/// A step as it is recorded, in time since the job began.
#[derive(Debug)]
struct Span {
    name: String,
    begin: Duration,
    end: Option<Duration>,
}

/// A step that is under way. It ends when this is dropped.
#[derive(Debug)]
#[must_use = "the step ends at once if this is not kept"]
pub struct Step {
    timeline: Timeline,
    place: usize,
}

/// The times of a step, in seconds since the job began.
#[derive(Debug, PartialEq, Serialize)]
pub struct Timing {
    step: String,
    begin_s: f64,
    end_s: f64,
}

impl Timeline {
    /// A timeline that begins now.
    pub fn begin() -> Self {
        Self {
            began: Instant::now(),
            spans: Arc::default(),
        }
    }

    /// Records a step that begins now.
    pub fn step(&self, name: impl Into<String>) -> Step {
        let mut place = 0;
        if let Ok(mut spans) = self.spans.lock() {
            place = spans.len();
            spans.push(Span {
                name: name.into(),
                begin: self.began.elapsed(),
                end: None,
            });
        }
        Step {
            timeline: self.clone(),
            place,
        }
    }

    /// Records a step that begins when the future is first polled and ends with it.
    pub async fn time<F: Future>(&self, name: &str, future: F) -> F::Output {
        let _step = self.step(name);
        future.await
    }

    /// The times of all steps, in the order in which they began. A step that is under way ends now.
    pub fn timings(&self) -> Vec<Timing> {
        let now = self.began.elapsed();
        let Ok(spans) = self.spans.lock() else {
            return Vec::new();
        };
        let timings = spans.iter().map(|span| Timing {
            step: span.name.clone(),
            begin_s: seconds(span.begin),
            end_s: seconds(span.end.unwrap_or(now)),
        });
        timings.collect()
    }

    /// The same as lines of a table.
    pub fn lines(&self) -> Vec<String> {
        table(&self.timings())
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        let now = self.timeline.began.elapsed();
        if let Ok(mut spans) = self.timeline.spans.lock()
            && let Some(span) = spans.get_mut(self.place)
        {
            span.end = Some(now);
        }
    }
}

/// Seconds, exact to the millisecond.
fn seconds(time: Duration) -> f64 {
    let whole = Duration::from_secs(time.as_secs());
    (whole + Duration::from_millis(time.subsec_millis().into())).as_secs_f64()
}

fn table(timings: &[Timing]) -> Vec<String> {
    let head = ["BEGIN", "END", "TOOK", "STEP"].map(str::to_owned);
    let rows = timings.iter().map(|timing| {
        let took = timing.end_s - timing.begin_s;
        let [begin, end, took] =
            [timing.begin_s, timing.end_s, took].map(|seconds| format!("{seconds:.2}"));
        [begin, end, took, timing.step.clone()]
    });
    let rows: Vec<_> = std::iter::once(head).chain(rows).collect();
    let times = rows.iter().flat_map(|row| &row[..3]);
    let width = times.map(String::len).max().unwrap_or(0);
    rows.iter()
        .map(|[begin, end, took, step]| {
            format!("{begin:>width$}  {end:>width$}  {took:>width$}  {step}")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timing(step: &str, begin_s: f64, end_s: f64) -> Timing {
        Timing {
            step: step.to_owned(),
            begin_s,
            end_s,
        }
    }

    #[test]
    fn seconds_are_right_aligned_with_two_decimals() {
        let timings = [
            timing("clone", 0.0, 2.104),
            timing("build", 1.5, 1234.567),
            timing("ssh", 98.0, 99.999),
        ];
        assert_eq!(
            table(&timings),
            [
                "  BEGIN      END     TOOK  STEP",
                "   0.00     2.10     2.10  clone",
                "   1.50  1234.57  1233.07  build",
                "  98.00   100.00     2.00  ssh",
            ]
        );
        assert_eq!(table(&[]), ["BEGIN    END   TOOK  STEP"]);
    }

    #[tokio::test]
    async fn steps_overlap_and_each_ends_when_it_is_dropped() {
        let timeline = Timeline::begin();
        let clone = timeline.step("clone");
        let later = timeline.clone();
        let join = std::thread::spawn(move || drop(later.step("join")));
        join.join().unwrap();
        let mut reached = None;
        timeline
            .time("build", async {
                reached = Some(timeline.timings());
                std::thread::sleep(Duration::from_millis(5));
            })
            .await;
        drop(clone);
        let _open = timeline.step("ssh");
        let timings = timeline.timings();
        let steps: Vec<_> = timings.iter().map(|timing| timing.step.as_str()).collect();
        assert_eq!(steps, ["clone", "join", "build", "ssh"]);
        let [clone, join, build, ssh] = &timings[..] else {
            panic!("{timings:?}");
        };
        assert!(
            timings.iter().all(|it| it.begin_s <= it.end_s),
            "{timings:?}"
        );
        assert!(
            clone.begin_s <= join.begin_s && join.end_s <= build.begin_s,
            "{timings:?}"
        );
        assert!(build.end_s - build.begin_s >= 0.004, "{timings:?}");
        assert!(
            build.end_s <= clone.end_s && clone.end_s <= ssh.begin_s,
            "{timings:?}"
        );
        // What is under way is told with the time that it has taken by now.
        let reached = reached.unwrap();
        assert_eq!(reached.len(), 3);
        assert!(reached[0].end_s < clone.end_s, "{reached:?}");
    }

    #[test]
    fn a_script_gets_seconds_to_the_millisecond() {
        let time = Duration::from_micros(61_002_999);
        let timings = [timing("clone", 0.0, seconds(time))];
        assert_eq!(
            serde_json::to_string(&timings).unwrap(),
            r#"[{"step":"clone","begin_s":0.0,"end_s":61.002}]"#
        );
    }
}
