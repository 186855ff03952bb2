//! What a drone is started from where that is not the default branch: a branch or a pull request.

use std::fmt;

use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};

/// The longest name of a branch, in bytes: a file system's longest file name, which a loose ref is.
const MAX_BRANCH: usize = 255;
/// The longest path in a URL that is looked at, in bytes.
const MAX_PATH: usize = 4096;

/// The name of a branch, without `refs/heads/`: by git's rules for one (git-check-ref-format(1)), so it is no
/// option and no revision.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BranchName(String);

/// Why a text says nothing to start from.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// Not a branch's name.
    #[error("{0:?} is not a branch's name")]
    Branch(String),
    /// Not the number of a pull request.
    #[error("{0:?} is not a pull request's number")]
    Pull(String),
    /// A page of GitHub's that is none of a branch, a file or a pull request.
    #[error("/{0} is not the page of a branch, a file or a pull request")]
    Page(String),
}

/// Enough of a text to be recognised in an error.
fn shortened(text: &str) -> String {
    text.chars().take(120).collect()
}

impl BranchName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for BranchName {
    type Error = HeadError;

    fn try_from(text: String) -> Result<Self, HeadError> {
        let is_part = |part: &str| {
            !part.is_empty()
                && !part.starts_with('.')
                && part.strip_suffix(".lock").is_none()
                && !part.contains("..")
        };
        let is_bad = |c: char| {
            c.is_ascii_control() || matches!(c, ' ' | '~' | '^' | ':' | '?' | '*' | '[' | '\\')
        };
        let is_name = text.len() <= MAX_BRANCH
            && text.split('/').all(is_part)
            && !text.contains(is_bad)
            && !text.contains("@{")
            && !text.ends_with('.')
            && !text.starts_with('-')
            && text != "@"
            && text != "HEAD";
        if is_name {
            Ok(Self(text))
        } else {
            Err(HeadError::Branch(shortened(&text)))
        }
    }
}

impl std::str::FromStr for BranchName {
    type Err = HeadError;

    fn from_str(text: &str) -> Result<Self, HeadError> {
        Self::try_from(text.to_owned())
    }
}

impl From<BranchName> for String {
    fn from(name: BranchName) -> Self {
        name.0
    }
}

impl fmt::Display for BranchName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a person asks to start from, before the repository is asked for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sought {
    /// This branch.
    Branch(BranchName),
    /// The branch with which this path in a URL begins: its own name may have slashes.
    Path(String),
    /// The pull request of this number.
    Pull(u32),
}

impl Sought {
    /// A pull request's number as a person or a URL writes it.
    pub fn pull(text: &str) -> Result<Self, HeadError> {
        let is_number = !text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = text.parse().ok().filter(|_| is_number);
        number
            .map(Self::Pull)
            .ok_or_else(|| HeadError::Pull(shortened(text)))
    }

    /// Splits the URL of a page below a repository's (`/tree/BRANCH`, `/blob/BRANCH/PATH`, `/pull/N`) into the
    /// repository's own URL and what the page is of; nothing is sought where that is the default branch. Any
    /// other text is `None`.
    pub fn in_url(text: &str) -> Result<Option<(&str, Option<Self>)>, HeadError> {
        let text = text.trim();
        let Some(rest) = text.strip_prefix("https://") else {
            return Ok(None);
        };
        let mut parts = rest.splitn(4, '/');
        let (Some(_host), Some(_owner), Some(_name), Some(page)) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Ok(None);
        };
        if page.is_empty() {
            return Ok(None);
        }
        let repository = &text[..text.len() - page.len() - 1];
        let path = page.split(['?', '#']).next().unwrap_or_default();
        let (kind, below) = path.split_once('/').unwrap_or((path, ""));
        let sought = match kind {
            "tree" | "blob" => Self::path(below)?,
            "pull" => Some(Self::pull(below.split('/').next().unwrap_or_default())?),
            _ => return Err(HeadError::Page(shortened(page))),
        };
        Ok(Some((repository, sought)))
    }

    fn path(text: &str) -> Result<Option<Self>, HeadError> {
        // What is no text then is shown as such.
        let text = percent_decode_str(text).decode_utf8_lossy();
        let text = text.trim_end_matches('/');
        if text == "HEAD" || text.starts_with("HEAD/") {
            return Ok(None);
        }
        let sought = Self::Path(text.to_owned());
        if text.len() > MAX_PATH || sought.branches().is_empty() {
            return Err(HeadError::Branch(shortened(text)));
        }
        Ok(Some(sought))
    }

    /// The branches that can be meant, the longest name first.
    pub fn branches(&self) -> Vec<BranchName> {
        match self {
            Self::Branch(name) => vec![name.clone()],
            Self::Path(path) => {
                let ends = path.match_indices('/').map(|(at, _)| at);
                let ends: Vec<usize> = ends.chain([path.len()]).collect();
                let names = ends.into_iter().rev().map(|end| path[..end].parse());
                names.filter_map(Result::ok).collect()
            }
            Self::Pull(_) => Vec::new(),
        }
    }

    /// Finds it among a repository's refs, given as `ID<tab>NAME` lines (git-ls-remote(1)). `trusted` is whether
    /// a stranger's pull request may have what the repository's own have.
    ///
    /// A pull request is the repository's own where exactly one branch of it has the same head: only those who
    /// may write to it can have put that commit there. All others are a stranger's.
    pub fn among(&self, refs: &str, trusted: bool) -> Option<Head> {
        let refs = || refs.lines().filter_map(|line| line.split_once('\t'));
        let Self::Pull(number) = *self else {
            let is_there = |name: &BranchName| {
                let full = format!("refs/heads/{name}");
                refs().any(|(_, other)| other == full)
            };
            let name = self.branches().into_iter().find(is_there)?;
            return Some(Head::Branch { name });
        };
        let full = format!("refs/pull/{number}/head");
        let (head, _) = refs().find(|(_, name)| *name == full)?;
        let mut same = refs()
            .filter(|(id, _)| *id == head)
            .filter_map(|(_, name)| name.strip_prefix("refs/heads/"));
        let own = same.next().filter(|_| same.next().is_none());
        Some(match own.map(str::parse) {
            Some(Ok(branch)) => Head::Pull { number, branch },
            _ => Head::Stranger { number, trusted },
        })
    }
}

impl fmt::Display for Sought {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Branch(name) => write!(f, "branch {name}"),
            Self::Path(path) => write!(f, "branch with which {} begins", shortened(path)),
            Self::Pull(number) => write!(f, "pull request {number}"),
        }
    }
}

/// What a drone was started from, as its label has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Head {
    /// A branch.
    Branch {
        /// Its name.
        name: BranchName,
    },
    /// A pull request whose head is a branch of the repository itself.
    Pull {
        /// Its number.
        number: u32,
        /// That branch.
        branch: BranchName,
    },
    /// A pull request from a fork, or one of which that cannot be ruled out.
    Stranger {
        /// Its number.
        number: u32,
        /// Whether the person who spawned it said that it is to be trusted.
        trusted: bool,
    },
}

impl Head {
    /// The branch of the repository that is checked out.
    pub fn branch(&self) -> Option<&BranchName> {
        match self {
            Self::Branch { name } => Some(name),
            Self::Pull { branch, .. } => Some(branch),
            Self::Stranger { .. } => None,
        }
    }

    /// The JSON for the label.
    pub fn to_json(&self) -> String {
        serde_json::json!(self).to_string()
    }
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Branch { name } => write!(f, "branch {name}"),
            Self::Pull { number, branch } => write!(f, "pull request {number}, branch {branch}"),
            Self::Stranger { number, trusted } => {
                let trusted = if *trusted { ", trusted" } else { "" };
                write!(f, "pull request {number}, from a fork{trusted}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn branch(text: &str) -> BranchName {
        text.parse().unwrap()
    }

    #[test]
    fn a_branch_is_named_by_gits_rules() {
        for name in ["main", "fix/a-b", "v1.0", "@x", "ä/ü", "a/-b", "HEAD/x"] {
            assert_eq!(branch(name).as_str(), name);
        }
        let long = "a".repeat(MAX_BRANCH + 1);
        for text in [
            "",
            "-x",
            "--upload-pack=x",
            "/a",
            "a/",
            "a//b",
            ".a",
            "a/.b",
            "a..b",
            "a.lock",
            "a.lock/b",
            "a b",
            "a~1",
            "a^",
            "a:b",
            "a?",
            "a*",
            "a[",
            "a\\b",
            "a@{1}",
            "@",
            "HEAD",
            "a.",
            "a\n",
            "a\0",
            "a\x7f",
            &long,
        ] {
            assert!(text.parse::<BranchName>().is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn the_pages_of_branches_files_and_pull_requests_are_told_apart() {
        let base = "https://github.com/acme/site";
        let path = |text: &str| Some(Sought::Path(text.to_owned()));
        for (page, sought) in [
            ("tree/main", path("main")),
            ("tree/fix/a/", path("fix/a")),
            ("tree/fix%2Fa%23?tab=readme#top", path("fix/a#")),
            ("blob/fix/a/src/main.rs#L10-L20", path("fix/a/src/main.rs")),
            ("tree/HEAD", None),
            ("blob/HEAD/README.md", None),
            ("pull/7", Some(Sought::Pull(7))),
            ("pull/7/files", Some(Sought::Pull(7))),
            ("pull/7/commits/0123abc", Some(Sought::Pull(7))),
            ("pull/7#issuecomment-1", Some(Sought::Pull(7))),
        ] {
            let text = format!(" {base}/{page}");
            assert_eq!(Sought::in_url(&text), Ok(Some((base, sought))), "{page}");
        }
        for text in [
            "acme/site",
            base,
            "https://github.com/acme/site/",
            "git@github.com:acme/site.git",
        ] {
            assert_eq!(Sought::in_url(text), Ok(None), "{text}");
        }
        for page in [
            "tree",
            "tree/",
            "tree/-x",
            "tree/%00",
            "pull",
            "pull/",
            "pull/x",
            "pull/+7",
            "pull/0",
            "pull/07",
            "pull/4294967296",
            "issues/7",
            "pulls",
            "commit/0123abc",
        ] {
            assert!(Sought::in_url(&format!("{base}/{page}")).is_err(), "{page}");
        }
    }

    #[test]
    fn the_longest_branch_that_is_there_is_meant() {
        let refs = "1\trefs/heads/fix\n2\trefs/heads/main\n3\trefs/tags/fix/a\n";
        let of = |path: &str| Sought::Path(path.to_owned()).among(refs, false);
        let named = |name: &str| Some(Head::Branch { name: branch(name) });
        assert_eq!(of("fix/a/README.md"), named("fix"));
        assert_eq!(of("main"), named("main"));
        assert_eq!(of("other/main"), None);
        assert_eq!(Sought::Branch(branch("fi")).among(refs, false), None);
    }

    #[test]
    fn a_pull_request_is_the_repositorys_own_where_one_branch_has_its_head() {
        let refs = "1\trefs/heads/a\n2\trefs/heads/b\n2\trefs/heads/c\n1\trefs/pull/1/head\n\
                    2\trefs/pull/2/head\n3\trefs/pull/3/head\n3\trefs/tags/x\n4\trefs/pull/4/merge\n\
                    5\trefs/heads/-x\n5\trefs/pull/5/head\n1\trefs/heads/refs/pull/6/head\n";
        let of = |number| Sought::Pull(number).among(refs, true);
        let stranger = |number| {
            Some(Head::Stranger {
                number,
                trusted: true,
            })
        };
        // A branch that is called like it makes it two.
        assert_eq!(of(1), stranger(1));
        let own = Head::Pull {
            number: 1,
            branch: branch("a"),
        };
        let refs_of_one = "1\trefs/heads/a\n1\trefs/pull/1/head\n";
        assert_eq!(Sought::Pull(1).among(refs_of_one, true), Some(own));
        for number in [2, 3, 5] {
            assert_eq!(of(number), stranger(number));
        }
        assert_eq!((of(4), of(6)), (None, None));
    }

    #[test]
    fn a_label_reads_back_and_takes_only_what_it_knows() {
        for head in [
            Head::Branch {
                name: branch("fix/a"),
            },
            Head::Pull {
                number: 7,
                branch: branch("fix/a"),
            },
            Head::Stranger {
                number: 7,
                trusted: false,
            },
        ] {
            assert_eq!(serde_json::from_str::<Head>(&head.to_json()).unwrap(), head);
        }
        for bad in [
            "{}",
            r#"{"kind":"branch"}"#,
            r#"{"kind":"branch","name":"-x"}"#,
            r#"{"kind":"stranger","number":7}"#,
            r#"{"kind":"stranger","number":7,"trusted":true,"more":1}"#,
            r#"{"kind":"tag","name":"x"}"#,
        ] {
            assert!(serde_json::from_str::<Head>(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,80}", refs in "([0-9]\t(refs/heads/|refs/pull/)?[a-z1/]{0,6}\n){0,5}") {
            let _ = text.parse::<BranchName>();
            let _ = Sought::in_url(&format!("https://github.com/a/b/tree/{text}"));
            let _ = Sought::pull(&text);
            let _ = Sought::Path(text).among(&refs, false);
            let _ = Sought::Pull(1).among(&refs, false);
        }
    }
}
