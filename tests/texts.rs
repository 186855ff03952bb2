//! What hatchery says. Help and errors are transcripts in tests/snapshots, which
//! `SNAPSHOTS=overwrite cargo test` renews; their diff is to be read before it is committed. Other tests hold
//! all texts to what can be held. Nothing here needs Docker.

mod snapshots;

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use clap::CommandFactory;
use hatchery::verbs::Cli;

use self::snapshots::is_as_reviewed;

/// No Docker answers here.
const AWAY: &str = "[docker]\nhost = \"unix:///nonexistent/docker.sock\"\n";
/// What is refused, what is left out, and what is wrong.
const REPOSITORIES: [(&str, &str); 4] = [
    ("passes", r#"{"image": "debian"}"#),
    ("warns", "{\n  \"image\": \"debian\",\n  \"appPort\": 80\n}"),
    (
        "refused",
        "{\n  \"image\": \"debian\",\n  \"privileged\": true,\n  \"capAdd\": [\"SYS_ADMIN\"]\n}",
    ),
    (
        "invalid",
        "{\n  \"image\": \"debian\",\n  \"runArgs\": 3,\n  \"init\": 7\n}",
    ),
];

/// Words that readers stumble over: older ones, and those of another language's order.
const BANNED: [&str; 17] = [
    "anew",
    "at most so",
    "bring back",
    "for ever",
    "for good",
    "for this once",
    "goes by",
    "how one",
    "is no more",
    "is there already",
    "mend",
    "mended",
    "next to no",
    "somebody",
    "what is to be kept",
    "whoever",
    "whosever",
];
/// Older drones have this line, by which their next start finds its block.
const MARKER: &str = "# hatchery: begin; written anew at every start of this drone";

/// A home with a configuration, and repositories to check.
struct Place(tempfile::TempDir);

impl Place {
    fn new(config: &str) -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        std::fs::write(place.path("config.toml"), config).unwrap();
        for (name, devcontainer) in REPOSITORIES {
            std::fs::create_dir_all(place.path(name).join(".devcontainer")).unwrap();
            let file = place.path(name).join(".devcontainer/devcontainer.json");
            std::fs::write(file, devcontainer).unwrap();
        }
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn hatchery(&self, args: &[&str], columns: &str) -> Output {
        Command::new(env!("CARGO_BIN_EXE_hatchery"))
            .current_dir(self.0.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.0.path())
            .env("XDG_RUNTIME_DIR", self.0.path())
            .env("HATCHERY_CONFIG", self.path("config.toml"))
            .env("COLUMNS", columns)
            .args(args)
            .output()
            .unwrap()
    }

    /// What a person sees who types this; paths of this place are those of a home.
    fn transcript(&self, args: &[&str]) -> String {
        let output = self.hatchery(args, "80");
        let shown = format!(
            "$ hatchery {}\n{}{}exit status {}\n\n",
            args.join(" "),
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
            output.status.code().unwrap()
        );
        shown.replace(self.0.path().to_str().unwrap(), "~")
    }
}

/// The verbs that help names.
fn verbs() -> Vec<clap::Command> {
    let mut command = Cli::command();
    command.build();
    let verbs = command.get_subcommands();
    let shown = verbs.filter(|verb| !verb.is_hide_set() && verb.get_name() != "help");
    shown.cloned().collect()
}

#[test]
fn help_is_as_reviewed() {
    let place = Place::new("");
    for columns in ["80", "200"] {
        let mut all = String::new();
        let names: Vec<_> = verbs()
            .iter()
            .map(|verb| verb.get_name().to_owned())
            .collect();
        let each = names.iter().map(|name| vec![name.as_str(), "--help"]);
        for args in std::iter::once(vec!["--help"]).chain(each) {
            let output = place.hatchery(&args, columns);
            let help = String::from_utf8(output.stdout).unwrap();
            let help = help.replace(place.0.path().to_str().unwrap(), "~");
            let help: Vec<_> = help.lines().map(str::trim_end).collect();
            writeln!(all, "$ hatchery {}\n{}\n", args.join(" "), help.join("\n")).unwrap();
        }
        is_as_reviewed(&format!("help-{columns}.txt"), &all);
    }
}

#[test]
fn errors_are_as_reviewed() {
    let usage: &[&[&str]] = &[
        &["hatch"],
        &["spawn"],
        &["spawn", "Acme"],
        &["spawn", "acme-site"],
        &["spawn", "https://example.com/acme/site"],
        &[
            "spawn",
            "https://github.com/acme/site/tree/main",
            "--branch",
            "next",
        ],
        &["spawn", "https://github.com/acme/site/issues"],
        &["spawn", "acme/site", "--pr", "first"],
        &["spawn", "acme/site", "--branch", "a..b"],
        &["spawn", "acme/site", "--repo", "acme/parts"],
        &["spawn", "acme/site", "--permission", "contents"],
        &["spawn", "acme/site", "--permission", "magic=read"],
        &["spawn", "acme/site", "--permission", "contents=admin"],
        &["check", "nowhere/at/all"],
        &["status", "Acme-Site"],
        &["slay", "acme/site", "--no-remains"],
        &["exec", "acme/site"],
        &["exec", "-t", "acme/site", "--", "true"],
        &["cp", "here", "there"],
        &["cp", "acme/site:here", "acme/site:there"],
        &["limit", "acme/site", "--memory", "lots"],
        &["limit", "acme/site", "--idle", "long"],
        &["rerun", "acme/site", "build"],
        &["completions", "tcsh"],
        &["logs", "--spawn", "acme/never-spawned"],
        &["--config", "/nonexistent.toml", "list"],
    ];
    let away: &[&[&str]] = &[
        &["list"],
        &["status", "acme/site"],
        &["spawn", "acme/site"],
        &["burrow", "acme-site"],
        &["unburrow", "acme/site"],
        &["rebuild", "acme/site"],
        &["slay", "acme/site"],
        &["ssh", "acme/site"],
        &["exec", "acme/site", "--", "true"],
        &["logs", "acme/site"],
        &["ssh-config"],
        &["cp", "acme/site:README.md", "."],
        &["ports", "acme/site"],
        &["open", "acme/site"],
        &["rerun", "acme/site"],
        &["limit", "acme/site"],
        &["metrics"],
        &["ca"],
    ];
    let place = Place::new(AWAY);
    let (mut plain, mut json) = (String::new(), String::new());
    let first = &away[..1];
    for args in usage.iter().chain(first) {
        plain += &place.transcript(args);
        // What follows `--` is another command's.
        json += &place.transcript(&[&["--json"], *args].concat());
    }
    let said = |args| place.hatchery(args, "80").stderr;
    for args in away {
        assert_eq!(said(args), said(first[0]), "{args:?}");
    }
    is_as_reviewed("errors.txt", &plain);
    is_as_reviewed("errors.json.txt", &json);
}

#[test]
fn mistakes_in_the_configuration_are_as_reviewed() {
    let mut all = String::new();
    for (config, args) in [
        ("[limits]\ndrones = 3\nmemry = \"1GiB\"\n", &["list"][..]),
        ("[limits]\nbuild = \"soon\"\n", &["config", "--check"]),
        ("[limits]\nmemory = \"much\"\n", &["config", "--check"]),
        ("[limits]\ndrones = 0\n", &["config", "--check"]),
        ("[limits]\nidle = -1\n", &["config", "--check"]),
        (
            "[docker]\nhost = \"tcp://10.0.0.1:2375\"\n",
            &["config", "--check"],
        ),
        ("[docker]\nruntime = \"runsc\"\n", &["config", "--check"]),
        (
            "[docker]\nsubnets = [\"8.8.8.0/24\"]\n",
            &["config", "--check"],
        ),
        ("[devcontainer]\ntrust = [\"*\"]\n", &["config", "--check"]),
        (
            "[devcontainer]\nhome = [\"../x\"]\n",
            &["config", "--check"],
        ),
        ("[dotfiles]\ninstall = \"x\"\n", &["config", "--check"]),
        (
            "[github]\nurl = \"http://github.com\"\n",
            &["config", "--check"],
        ),
        (
            "[github]\nprivate_key_file = \"/k\"\n",
            &["config", "--check"],
        ),
        (
            "[github.permissions]\ncontents = \"admin\"\n",
            &["config", "--check"],
        ),
        (
            "[tailnet]\ndomain = \"t.example\"\n",
            &["config", "--check"],
        ),
        (
            "[drones.\"a/b\"]\n[drones.\"A/B\"]\n",
            &["config", "--check"],
        ),
        ("[registries.\"ghcr.io:tag/x\"]\n", &["config", "--check"]),
        ("[github\n", &["config", "--check", "--json"]),
        (
            "[github]\napp_id = \"1\"\nprivate_key_file = \"/nonexistent/key\"\n",
            &["config", "--check", "--secrets"],
        ),
        (
            "[github]\napp_id = \"1\"\n",
            &["config", "--check", "--secrets"],
        ),
    ] {
        let place = Place::new(config);
        for line in config.lines() {
            writeln!(all, "# {line}").unwrap();
        }
        all += &place.transcript(args);
    }
    is_as_reviewed("configuration.txt", &all);
}

#[test]
fn the_configuration_in_force_is_as_reviewed() {
    // As many processors as every server has.
    let place =
        Place::new("[limits]\ncpus = 1\nmemory = \"4GiB\"\n[devcontainer]\ntrust = [\"acme/*\"]\n");
    let all = place.transcript(&["config"]) + &place.transcript(&["config", "--json"]);
    is_as_reviewed("config.txt", &all);
}

#[test]
fn what_the_gate_finds_is_as_reviewed() {
    let place = Place::new(AWAY);
    let mut all = String::new();
    for (name, _) in REPOSITORIES {
        all += &place.transcript(&["check", name]);
    }
    all += &place.transcript(&["check", "--trust", "refused"]);
    all += &place.transcript(&["check", "passes", "warns", "refused", "invalid"]);
    all += &place.transcript(&["--json", "check", "refused", "warns"]);
    all += &place.transcript(&["check", "--sarif", "refused"]);
    is_as_reviewed("check.txt", &all);
}

/// Each text in quotation marks in the product's own source, as one line: not of its tests, not its comments.
fn texts() -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    rust_files(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
        &mut files,
    );
    let mut texts = Vec::new();
    for file in files {
        let source = std::fs::read_to_string(&file).unwrap();
        let product = source.split("#[cfg(test)]\nmod tests {").next().unwrap();
        texts.extend(
            literals(product)
                .into_iter()
                .map(|text| (file.clone(), text)),
        );
    }
    texts
}

fn rust_files(directory: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, into);
        } else if !["tests.rs", "fuzz.rs"]
            .iter()
            .any(|tests| path.ends_with(tests))
        {
            into.push(path);
        }
    }
}

/// The string literals of a source, without the breaks of their lines.
fn literals(source: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = source;
    while let Some(at) = rest.find(['"', '\'', '/']) {
        let (before, here) = rest.split_at(at);
        if here.starts_with("//") {
            rest = here.split_once('\n').map_or("", |(_, rest)| rest);
        } else if let Some(inner) = here.strip_prefix('"') {
            let hashes = before.len() - before.trim_end_matches('#').len();
            let is_raw = before.trim_end_matches('#').ends_with('r');
            let (text, length) = if is_raw {
                let end = format!("\"{}", "#".repeat(hashes));
                let length = inner.find(&end).unwrap();
                (inner[..length].to_owned(), 1 + length + end.len())
            } else {
                quoted(here)
            };
            found.push(text);
            rest = &here[length..];
        } else if let Some(length) = character(here) {
            rest = &here[length..];
        } else {
            rest = &here[1..];
        }
    }
    found
}

/// A literal with escapes, and its length.
fn quoted(source: &str) -> (String, usize) {
    let mut text = String::new();
    let mut chars = source.char_indices().skip(1);
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return (text, at + 1),
            '\\' => match chars.next() {
                Some((at, '\n')) => {
                    let blank = source[at..].len() - source[at..].trim_start().len();
                    // The line break itself is taken already.
                    if blank > 1 {
                        chars.nth(blank - 2);
                    }
                }
                Some((_, 'n')) => text.push('\n'),
                Some((_, escaped)) => text.push(escaped),
                None => break,
            },
            char => text.push(char),
        }
    }
    panic!("a literal without an end");
}

/// The length of a character's literal, if this is one and not a lifetime.
fn character(source: &str) -> Option<usize> {
    let inner = source.strip_prefix('\'')?;
    let escaped = inner.strip_prefix('\\');
    let (begin, rest) = match escaped {
        Some(rest) => (3, rest.get(1..)?),
        None => (1, inner),
    };
    let end = rest.find('\'')?;
    let is_one = escaped.is_some() || rest[..end].chars().count() == 1;
    is_one.then_some(begin + end + 1)
}

#[test]
fn literals_are_found_as_they_are() {
    let source = "a // \"no\"\n'\"' \"one \\\n   line\" fn<'a> \"a \\\"b\\\"\" r#\"raw \"x\"\"# '\\'' \"end\"";
    let found = literals(source);
    assert_eq!(found, ["one line", "a \"b\"", "raw \"x\"", "end"]);
}

/// Every `hatchery …` in backticks in a text.
fn commands(text: &str) -> impl Iterator<Item = &str> {
    let quoted = text.split('`').skip(1).step_by(2);
    quoted.filter_map(|command| command.strip_prefix("hatchery "))
}

/// What is wrong with a command that a text names.
fn mistake(command: &str) -> Option<String> {
    let mut words = command.split_whitespace().take_while(|word| *word != "--");
    let verbs = verbs();
    let mut verb = None;
    let top = Cli::command();
    words.find_map(|word| match (word.strip_prefix('-'), verb) {
        (Some(option), _) => {
            let name = option
                .trim_start_matches('-')
                .split('=')
                .next()
                .unwrap_or_default();
            let known = |arg: &clap::Arg| {
                arg.get_long() == Some(name)
                    || name.len() == 1 && arg.get_short() == name.chars().next()
            };
            let own = verb.into_iter().flat_map(clap::Command::get_arguments);
            let is_known = own.chain(top.get_arguments()).any(known);
            (!is_known && !matches!(name, "help" | "version")).then(|| format!("no option {word}"))
        }
        (None, None) if word.starts_with('{') || word == "VERB" => None,
        (None, None) => {
            verb = verbs.iter().find(|verb| verb.get_name() == word);
            verb.is_none().then(|| format!("no verb {word}"))
        }
        (None, Some(_)) => None,
    })
}

#[test]
fn every_command_that_a_text_names_can_be_typed() {
    let mut named = 0;
    for (file, text) in texts().into_iter().chain(helps()) {
        for command in commands(&text) {
            named += 1;
            let mistake = mistake(command);
            assert_eq!(mistake, None, "`hatchery {command}` in {}", file.display());
        }
    }
    assert!(named > 100, "{named}");
    assert!(mistake("slay --never acme/site").is_some() && mistake("hatch acme/site").is_some());
}

/// The help of every verb.
fn helps() -> Vec<(PathBuf, String)> {
    let help = |mut verb: clap::Command| {
        let name = format!("hatchery {} --help", verb.get_name());
        (PathBuf::from(name), verb.render_long_help().to_string())
    };
    verbs()
        .into_iter()
        .chain([Cli::command()])
        .map(help)
        .collect()
}

#[test]
fn no_text_has_a_word_that_readers_stumble_over() {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    for (file, text) in texts().into_iter().chain(helps()) {
        // The Zerg's lines are the owner's.
        if file.ends_with("ui/voice.rs") || text == MARKER {
            continue;
        }
        let text = text.to_lowercase();
        for word in BANNED {
            let whole = text.match_indices(word).any(|(at, _)| {
                let (before, after) = (&text[..at], &text[at + word.len()..]);
                !before.ends_with(is_word) && !after.starts_with(is_word)
            });
            assert!(!whole, "{word:?} in {text:?} of {}", file.display());
        }
    }
}

#[test]
fn every_verb_and_option_says_what_it_does() {
    for verb in verbs() {
        let name = verb.get_name();
        let about = verb
            .get_about()
            .map(ToString::to_string)
            .unwrap_or_default();
        assert!(about.starts_with(char::is_uppercase), "{name}: {about}");
        for arg in verb.get_arguments() {
            let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
            let id = arg.get_id();
            assert!(help.len() > 5, "{name} {id}: {help:?}");
            assert!(!help.ends_with('.'), "{name} {id}: {help:?}");
            let is_option = arg.get_long().is_some() || arg.get_short().is_some();
            assert!(
                !is_option || help.starts_with(char::is_uppercase),
                "{name} {id}: {help:?}"
            );
        }
    }
}

/// The names of all codes, as the source has them.
fn codes() -> BTreeSet<String> {
    let source = include_str!("../src/error.rs");
    let (_, names) = source.split_once("fn as_str").unwrap();
    let (names, _) = names.split_once("\n    }\n").unwrap();
    let arms = names.lines().filter_map(|line| line.split_once("=> \""));
    let codes = arms.filter_map(|(_, name)| name.split('"').next());
    codes.map(str::to_owned).collect()
}

/// The README and the pages of the book.
fn pages() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = vec![root.join("README.md")];
    let mut directories = vec![root.join("docs")];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|it| it == "md") {
                found.push(path);
            }
        }
    }
    let page = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).unwrap();
        (path, text)
    };
    found.into_iter().map(page).collect()
}

/// The commands of hatchery's that a page has in its blocks of code, as a shell is given them.
fn typed(page: &str) -> Vec<Vec<&str>> {
    let mut is_code = false;
    let lines = page.lines().filter(|line| {
        let is_fence = line.starts_with("```");
        is_code ^= is_fence;
        is_code && !is_fence
    });
    let command = |line| {
        let line = str::trim_start_matches(line, "$ ");
        let line = line.strip_prefix("sudo ").unwrap_or(line);
        let words = line.split_whitespace();
        let ends = |word: &&str| !matches!(*word, "#" | "|" | ">" | "&&" | "<");
        let words: Vec<_> = words.take_while(ends).collect();
        (words.first() == Some(&"hatchery")).then_some(words)
    };
    lines.filter_map(command).collect()
}

#[test]
fn every_command_of_the_book_can_be_typed() {
    let (mut named, mut blocks, mut mistakes) = (0, 0, Vec::new());
    for (file, page) in pages() {
        let file = file.display();
        for command in commands(&page) {
            named += 1;
            mistakes.extend(mistake(command).map(|what| format!("{file}: {command}: {what}")));
        }
        for words in typed(&page) {
            blocks += 1;
            let parsed = Cli::command().try_get_matches_from(&words);
            mistakes.extend(
                parsed
                    .err()
                    .map(|what| format!("{file}: {words:?}: {what}")),
            );
        }
    }
    assert!(mistakes.is_empty(), "{mistakes:#?}");
    assert!(named > 100 && blocks > 20, "{named} {blocks}");
    assert_eq!(
        typed("```\n$ hatchery list --never # all\n```\nhatchery x"),
        [["hatchery", "list", "--never"]]
    );
}

#[test]
fn every_code_is_in_the_book() {
    let book: String = pages().into_iter().map(|(_, page)| page).collect();
    let codes = codes();
    assert!(codes.len() > 30, "{codes:?}");
    for code in codes {
        assert!(book.contains(&format!("`{code}`")), "{code}");
    }
}

/// The links of a page to files of this repository, with the anchor of each.
fn links(page: &str) -> impl Iterator<Item = (&str, &str)> {
    let ends = page.split("](").skip(1);
    ends.filter_map(|end| end.split(')').next())
        .filter(|link| !link.contains("://"))
        .map(|link| link.split_once('#').unwrap_or((link, "")))
}

/// What GitHub makes of a heading.
fn anchor(heading: &str) -> String {
    let kept = |c: char| match c {
        ' ' => Some('-'),
        c if c.is_alphanumeric() || matches!(c, '-' | '_') => Some(c),
        _ => None,
    };
    heading.to_lowercase().chars().filter_map(kept).collect()
}

#[test]
fn every_link_of_the_book_leads_somewhere() {
    let pages = pages();
    let mut followed = 0;
    for (file, page) in &pages {
        for (path, fragment) in links(page) {
            followed += 1;
            let to = match path {
                "" => file.clone(),
                path => file.parent().unwrap().join(path),
            };
            let there = to.canonicalize();
            assert!(there.is_ok(), "{path} in {}", file.display());
            if !fragment.is_empty() {
                let text = std::fs::read_to_string(&to).unwrap();
                let headings = text.lines().filter(|line| line.starts_with('#'));
                let mut anchors = headings.map(|line| anchor(line.trim_start_matches('#').trim()));
                assert!(
                    anchors.any(|has| has == fragment),
                    "{path}#{fragment} in {}",
                    file.display()
                );
            }
        }
    }
    assert!(followed > 100, "{followed}");
}
