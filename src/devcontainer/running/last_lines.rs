//! The last lines of a build's or a command's output, for the error that reports its failure.

use std::collections::VecDeque;

/// How many are kept, and how much of each, in characters.
const LINES: usize = 12;
const WIDTH: usize = 400;

/// What `BuildKit` puts round the lines of the Dockerfile that it quotes after a failure.
const RULE: &str = "--------------------";

/// The last lines, without those that `BuildKit` quotes from the Dockerfile. It quotes them last of all, and
/// the devcontainer CLI writes a feature's step in a dozen lines, so nothing that the step itself said would be
/// kept otherwise.
#[derive(Debug, Default)]
pub struct LastLines {
    lines: VecDeque<String>,
    quoting: bool,
}

impl LastLines {
    /// Adds a line.
    pub fn push(&mut self, line: &str) {
        let rule = line.trim_end() == RULE;
        self.quoting = if rule {
            !self.quoting
        } else {
            self.quoting && is_quoted(line)
        };
        if rule || self.quoting {
            return;
        }
        self.lines.push_back(line.chars().take(WIDTH).collect());
        if self.lines.len() > LINES {
            self.lines.pop_front();
        }
    }

    /// Forgets all lines, because another step begins.
    pub fn clear(&mut self) {
        self.lines.clear();
        self.quoting = false;
    }
}

impl From<LastLines> for Vec<String> {
    fn from(last: LastLines) -> Self {
        last.lines.into()
    }
}

/// `  35 | >>> RUN …`: a line's number and the line.
fn is_quoted(line: &str) -> bool {
    line.split_once('|').is_some_and(|(number, _)| {
        let number = number.trim();
        !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(lines: &[&str]) -> Vec<String> {
        let mut last = LastLines::default();
        for line in lines {
            last.push(line);
        }
        last.into()
    }

    #[test]
    fn what_a_step_said_is_kept_and_the_dockerfile_is_not() {
        let mut said = vec![
            "------",
            " > [dev_containers_target_stage 5/5] RUN cp:",
            "0.345 cp: error writing 'x': No space left on device",
            "------",
            "Dockerfile-with-features:35",
            RULE,
        ];
        said.extend(["  34 |     ", "  35 | >>> RUN cp \\", "  36 | >>>  && true"]);
        said.extend(["  37 |     "; 20]);
        said.extend([RULE, "ERROR: failed to solve: exit code: 1"]);
        assert_eq!(
            kept(&said),
            [&said[..5], &["ERROR: failed to solve: exit code: 1"]].concat()
        );
    }

    #[test]
    fn nothing_else_is_taken_for_a_quotation() {
        let compiler = [
            "error[E0425]: no x",
            " --> src/main.rs:3:5",
            "  |",
            "3 |     x",
            "  |     ^",
        ];
        assert_eq!(kept(&compiler), compiler);
        let ruled = [RULE, "Ran 3 tests", "FAILED"];
        assert_eq!(kept(&ruled), ruled[1..]);
    }

    #[test]
    fn they_are_the_last_ones_and_not_long() {
        let long = "x".repeat(1000);
        let mut lines = vec![long.as_str(); 20];
        lines.push("end");
        let kept = kept(&lines);
        assert_eq!((kept.len(), kept[0].len()), (LINES, WIDTH));
        assert_eq!(kept[LINES - 1], "end");
    }
}
