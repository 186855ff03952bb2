//! git's system-wide configuration in a drone (git-config(1), FILES): sections of hatchery's own beside what
//! the image has there.

use crate::docker::{Docker, Tree};
use crate::error::Result;

const PATH: &str = "/etc/gitconfig";
/// The largest one that is read, in bytes.
const MAX_FILE: usize = 4 * 1024 * 1024;

/// What hatchery writes there, between two lines of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    begin: &'static str,
    end: &'static str,
    text: String,
    /// Whether an earlier one goes where this one says nothing.
    goes: bool,
}

impl Section {
    /// How git gets at tokens.
    pub const fn credentials(text: String) -> Self {
        Self {
            begin: "# hatchery: begin; written anew at every start of this drone",
            end: "# hatchery: end",
            text,
            goes: false,
        }
    }

    /// Who commits.
    pub const fn person(text: String) -> Self {
        Self {
            begin: "# hatchery: who commits here, unless `git config --global` says otherwise",
            end: "# hatchery: end of who commits",
            text,
            goes: false,
        }
    }

    /// How commits are signed; where it says nothing, they are not.
    pub const fn signing(text: String) -> Self {
        Self {
            begin: "# hatchery: how commits are signed here, unless `git config --global` says otherwise",
            end: "# hatchery: end of how commits are signed",
            text,
            goes: true,
        }
    }

    /// What it says.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether what is there stays as it is.
    const fn changes_nothing(&self) -> bool {
        self.text.is_empty() && !self.goes
    }

    /// The configuration with this at its end, in place of what an earlier start wrote. Of a section that has
    /// lost its end only the first line goes: what follows may be the user's.
    fn added_to(&self, before: &str) -> String {
        let mut text = String::with_capacity(before.len() + self.text.len());
        let mut lines = before.lines();
        // Once none is found there is none: a drone may write as many beginnings as it likes.
        let mut has_end = true;
        while let Some(line) = lines.next() {
            if line == self.begin {
                let mut behind = lines.clone();
                has_end = has_end && behind.any(|line| line == self.end);
                if has_end {
                    lines = behind;
                }
                continue;
            }
            text.push_str(line);
            text.push('\n');
        }
        if self.text.is_empty() {
            return text;
        }
        text + &format!("{}\n{}{}\n", self.begin, self.text, self.end)
    }
}

/// The configuration with these sections, added to what goes into this container.
pub async fn tree(
    docker: &Docker,
    container: &str,
    sections: &[Section],
    tree: Tree,
) -> Result<Tree> {
    let mut said = sections
        .iter()
        .filter(|section| !section.changes_nothing())
        .peekable();
    if said.peek().is_none() {
        return Ok(tree);
    }
    let before = docker.file(container, PATH, MAX_FILE).await?;
    let before = String::from_utf8_lossy(&before.unwrap_or_default()).into_owned();
    let config = said.fold(before.clone(), |text, section| section.added_to(&text));
    if config == before {
        return Ok(tree);
    }
    Ok(tree.file(PATH, 0o644, config.into_bytes()))
}

/// A value as git reads it (git-config(1), SYNTAX). It has one line.
pub fn quoted(value: &str) -> String {
    format!("\"{}\"", value.replace('\\', r"\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(text: &str) -> Section {
        Section::credentials(text.to_owned())
    }

    #[test]
    fn the_images_own_configuration_stays_and_each_section_is_there_once() {
        let own = "[user]\n\tname = x\n[credential]\n\thelper = store";
        let first = section("[a]\n").added_to(own);
        assert!(
            first.starts_with(&format!("{own}\n# hatchery: begin")),
            "{first}"
        );
        assert_eq!(section("[a]\n").added_to(&first), first);
        let person = Section::person("[user]\n\tname = y\n".to_owned());
        let both = person.added_to(&first);
        assert_eq!(both.matches("[a]").count(), 1, "{both}");
        let again = person.added_to(&section("[b]\n").added_to(&both));
        assert!(again.starts_with(&format!("{own}\n")), "{again}");
        assert!(!again.contains("[a]") && again.contains("[b]"), "{again}");
        assert_eq!(again.matches("name = y").count(), 1, "{again}");
    }

    #[test]
    fn what_is_said_of_signing_goes_where_nothing_is_signed_any_more() {
        let own = "[user]\n\tname = x\n";
        let signed = Section::signing("[commit]\n\tgpgSign = true\n".to_owned()).added_to(own);
        assert!(signed.contains("gpgSign"), "{signed}");
        assert_eq!(Section::signing(String::new()).added_to(&signed), own);
        assert_eq!(Section::signing(String::new()).added_to(own), own);
    }

    #[test]
    fn nothing_is_lost_behind_a_section_without_an_end() {
        let whole = section("[a]\n").added_to("");
        let damaged = whole.replace("# hatchery: end", "[alias]\n\tco = checkout");
        let put_right = section("[a]\n").added_to(&damaged);
        assert!(
            put_right.contains("[alias]\n\tco = checkout\n"),
            "{put_right}"
        );
        assert_eq!(
            put_right.matches("# hatchery: begin").count(),
            1,
            "{put_right}"
        );
        assert_eq!(section("[a]\n").added_to(&put_right), put_right);
    }

    #[test]
    fn beginnings_without_end_cost_no_more_than_their_length() {
        let whole = section("[a]\n");
        let line = format!("{}\n", whole.begin);
        let hostile = line.repeat(MAX_FILE / line.len());
        let begun = std::time::Instant::now();
        assert_eq!(whole.added_to(&hostile), whole.added_to(""));
        assert!(begun.elapsed().as_secs() < 10, "{:?}", begun.elapsed());
    }

    #[test]
    fn a_value_is_what_git_reads() {
        for value in ["Ada", "Ada \"L\" \\ x", "a # b ; c", "  a  "] {
            let directory = tempfile::tempdir().unwrap();
            let file = directory.path().join("config");
            std::fs::write(&file, format!("[user]\n\tname = {}\n", quoted(value))).unwrap();
            let git = std::process::Command::new("git")
                .args(["config", "--file"])
                .arg(&file)
                .args(["--get", "user.name"])
                .output()
                .unwrap();
            assert_eq!(String::from_utf8(git.stdout).unwrap(), format!("{value}\n"));
        }
    }
}
