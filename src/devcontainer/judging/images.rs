//! The names of images: which of them a repository may write, and where a Dockerfile names some.
//!
//! Docker keeps one list of images for all drones. A repository may use no name that leads to this server
//! itself, or to an image that was built here.

use std::path::Path;

use sha2::{Digest, Sha256};

use super::policy;
use super::verdict::Gate;
use crate::devcontainer::reading::checkout::Checkout;
use crate::devcontainer::reading::interpolate::{Variables, interpolate};
use crate::drone::DroneName;
use crate::error::Result;

/// The registry in the names of images that compose builds for hatchery. Such a name is never resolved (RFC
/// 6761, section 6.4), so nothing can be pulled in its place.
const OWN_REGISTRY: &str = "hatchery.invalid";

/// Prefixes of the names of images that the devcontainer CLI builds.
const OF_THE_CLI: [&str; 2] = ["vsc-", "dev_container_feature_content_temp"];

/// The longest tag (OCI distribution specification, "pulling manifests").
const MAX_TAG: usize = 128;

/// How many images a Dockerfile may name.
const MAX_NAMES: usize = 200;

const LOCAL: &str =
    "a registry must be named by its public name, not by a name of this server's own network";
const BUILT: &str = "an image that was built on this server belongs to its drone alone";
const BY_ID: &str =
    "an image must be given by name, not by ID; if this is a name, write docker.io/library/…";
const UNREADABLE: &str = "hatchery cannot tell which image this names";

/// The name of what compose builds for a service. `token` makes it one that no repository knows.
pub fn own_tag(drone: &DroneName, token: &str, service: &str) -> String {
    let tag = if service.len() > MAX_TAG {
        let hash = Sha256::digest(service.as_bytes());
        let start = hash.iter().take(8);
        let start = start.fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        format!("{start:016x}")
    } else {
        service.to_owned()
    };
    format!("{OWN_REGISTRY}/{drone}/{token}:{tag}")
}

/// Whether a name is one that a drone's own builds have: compose's, or the devcontainer CLI's. Both kinds
/// contain a text that no repository knows, except [`temporary`], which contains the drone's name.
pub fn is_own_tag(drone: &DroneName, name: &str) -> bool {
    if let Some(built) = name.strip_prefix(OWN_REGISTRY) {
        return built.starts_with(&format!("/{drone}/"));
    }
    !name.contains('/') && (name.starts_with(OF_THE_CLI[0]) || name == temporary(drone))
}

/// The name of the image in which the devcontainer CLI passes on features to a builder that takes no
/// directories by name. The shim puts the drone's name into it.
pub fn temporary(drone: &DroneName) -> String {
    format!("{}-{drone}", OF_THE_CLI[1])
}

/// The registry's host in a name, as Docker finds it, and the rest.
fn split_registry(name: &str) -> (Option<&str>, &str) {
    match name.split_once('/') {
        Some((first, rest))
            if first.contains(['.', ':'])
                || first == "localhost"
                || first.chars().any(char::is_uppercase) =>
        {
            (Some(first), rest)
        }
        _ => (None, name),
    }
}

/// The registry's host without its port; `None` if it is Docker's own registry.
pub(crate) fn registry(name: &str) -> Option<&str> {
    let (registry, _) = split_registry(name);
    let host = registry?;
    let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
    (!is_dockers(host)).then_some(host)
}

/// Whether this is one of the names of Docker's own registry.
pub(crate) fn is_dockers(host: &str) -> bool {
    matches!(
        host.to_ascii_lowercase().as_str(),
        "docker.io" | "index.docker.io" | "registry-1.docker.io"
    )
}

/// Why a repository may not name this host; `None` if it may. Refused are an address in any spelling, a name
/// that only this server or its own network knows, and one that is never resolved. Only the name is checked:
/// what it resolves to is not known here.
pub(crate) fn barred_host(host: &str) -> Option<&'static str> {
    let host = host.to_ascii_lowercase();
    let host = host.trim_end_matches('.');
    let within = |domain: &str| {
        host == domain
            || host
                .strip_suffix(domain)
                .is_some_and(|rest| rest.ends_with('.'))
    };
    if within("invalid") {
        return Some(BUILT);
    }
    let last = host.rsplit('.').next().unwrap_or(host);
    // 127.1, 0x7f.1 and 2130706433 are addresses too.
    let address = last.starts_with(|c: char| c.is_ascii_digit());
    let special = ["localhost", "localdomain", "docker.internal"];
    let local = address || !host.contains('.') || special.into_iter().any(within);
    local.then_some(LOCAL)
}

/// Why a repository may not name this image; `None` if it may.
pub fn barred(name: &str) -> Option<&'static str> {
    let (_, path) = split_registry(name);
    if let Some(host) = registry(name) {
        return barred_host(host);
    }
    let bare = path.strip_prefix("library/").unwrap_or(path);
    if OF_THE_CLI.iter().any(|start| bare.starts_with(start)) {
        return Some(BUILT);
    }
    // Docker takes the beginning of an id for the image as well.
    let id = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    (id || name.starts_with("sha256:")).then_some(BY_ID)
}

/// The registry and the path of an image or published feature, without tag or digest; `None` for what
/// is no plain name.
pub fn whole(name: &str) -> Option<String> {
    let (host, path) = split_registry(name);
    let path = path.split('@').next().unwrap_or_default();
    let last = path.rfind('/').map_or(0, |slash| slash + 1);
    let path = match path[last..].find(':') {
        Some(colon) => &path[..last + colon],
        None => path,
    };
    let plain = path
        .split('/')
        .all(|part| !matches!(part, "" | "." | "..") && !part.contains(':'));
    if !plain || !policy::is_image(name) {
        return None;
    }
    Some(match host {
        Some(host) if !is_dockers(host) => format!("{}/{path}", host.to_ascii_lowercase()),
        _ if path.contains('/') => format!("docker.io/{path}"),
        _ => format!("docker.io/library/{path}"),
    })
}

/// One spelling for all that Docker takes for the same name.
pub fn normal(name: &str) -> String {
    let (registry, path) = split_registry(name);
    let path = match registry {
        Some(host) if !is_dockers(host) => format!("{host}/{path}"),
        _ => path.strip_prefix("library/").unwrap_or(path).to_owned(),
    };
    let last = path.rfind('/').map_or(0, |slash| slash + 1);
    if path[last..].contains([':', '@']) {
        path
    } else {
        format!("{path}:latest")
    }
}

/// The spelling by which `BuildKit` knows an image that it is handed (its Dockerfile frontend's named
/// contexts).
pub fn familiar(name: &str) -> String {
    let normal = normal(name);
    normal
        .strip_suffix(":latest")
        .map_or(normal.clone(), str::to_owned)
}

/// Images that a project names, each once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    all: Vec<String>,
    /// Those that it is made from, as opposed to those that only serve as cache.
    bases: Vec<String>,
}

impl Names {
    /// Adds an image that the project is made from.
    pub fn add(&mut self, name: &str) {
        add(&mut self.bases, name);
        add(&mut self.all, name);
    }

    /// Adds an image that only serves as cache.
    pub fn add_cache(&mut self, name: &str) {
        add(&mut self.all, name);
    }

    /// All images, those for the cache among them.
    pub fn all(&self) -> &[String] {
        &self.all
    }

    /// The images that the project is made from.
    pub fn bases(&self) -> &[String] {
        &self.bases
    }
}

fn add(names: &mut Vec<String>, name: &str) {
    let new = policy::is_image(name) && !names.iter().any(|there| there == name);
    if new && names.len() < MAX_NAMES * 4 {
        names.push(name.to_owned());
    }
}

/// Checks the images that a Dockerfile names, and adds those that pass to `names`. `args` are the build
/// arguments; `built` are the names ([`normal`]) that other services of the same project give to what they
/// build. A file outside the checkout, which only trust allows, is not checked.
pub fn check_dockerfile(
    checkout: &Checkout,
    path: &Path,
    args: &Variables,
    built: &[&str],
    names: &mut Names,
    gate: &mut Gate,
) -> Result<()> {
    gate.turn_to(checkout.shown(path));
    // Trust may have led out of the repository.
    if !path.starts_with(checkout.root()) {
        return Ok(());
    }
    let found = named(&checkout.read(path)?, args);
    if found.len() > MAX_NAMES {
        gate.refuse_text(0, "FROM", "", "it names more than 200 images");
    }
    for (line, name) in found.into_iter().take(MAX_NAMES) {
        let why = match &name {
            Ok(name) if built.contains(&normal(name).as_str()) => Some(
                "another service's image is a name within the compose file only; \
                 build both from one Dockerfile with a target each",
            ),
            Ok(name) => barred(name),
            Err(_) => Some(UNREADABLE),
        };
        let (Ok(shown) | Err(shown)) = &name;
        if let Some(why) = why {
            gate.refuse_text(line, "the image", &format!("{shown:?}"), why);
        } else {
            gate.check_registry(line, "the image", shown);
            names.add(shown);
        }
    }
    Ok(())
}

/// The images that a Dockerfile names, each once, as far as they can be told.
pub fn of_dockerfile(text: &str, args: &Variables) -> Vec<String> {
    let mut names = Names::default();
    for (_, name) in named(text, args) {
        names.add(name.as_deref().unwrap_or_default());
    }
    names.all
}

/// Whether a Dockerfile chooses an image other than Docker's own frontend to read it (`syntax`).
pub fn has_foreign_reader(text: &str) -> bool {
    let text = text.trim_start_matches('\u{feff}');
    let dockers = Some("docker.io/docker/dockerfile".to_owned());
    let (readers, _) = directives(text);
    readers
        .iter()
        .any(|(_, name)| name.as_deref().map_or(None, whole) != dockers)
}

/// What may be the names of stages in a Dockerfile, in lower case: each word after `AS`.
pub fn stages(text: &str) -> Vec<String> {
    let words = text.split(|c: char| c.is_whitespace() || matches!(c, '\\' | '`'));
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    let named = words
        .windows(2)
        .filter(|pair| pair[0].eq_ignore_ascii_case("AS"));
    named.map(|pair| pair[1].to_ascii_lowercase()).collect()
}

/// The images that a Dockerfile names, with their lines; `Err` is a name that hatchery cannot resolve.
///
/// If versions of Docker read a text differently, every name that any of them finds counts.
fn named(text: &str, args: &Variables) -> Found {
    let mut out = Found::new();
    if let Some(frontend) = args.get("BUILDKIT_SYNTAX") {
        out.push((0, Ok(frontend.clone())));
    }
    let text = text.trim_start_matches('\u{feff}');
    let (directives, backtick) = directives(text);
    out.extend(directives);
    for reading in Reading::all(text, backtick) {
        for found in named_in(text, reading, args) {
            if !out.contains(&found) {
                out.push(found);
            }
        }
    }
    out
}

/// The names in one reading of a Dockerfile.
fn named_in(text: &str, reading: Reading, args: &Variables) -> Found {
    let mut out = Found::new();
    let mut stages: Vec<String> = Vec::new();
    let mut begun = false;
    let mut globals = Variables::new();
    // The stage that is built is the repository's choice.
    globals.insert("TARGETSTAGE".to_owned(), UNKNOWN.to_string());
    // BuildKit sets them without a word in the file, and takes a build argument in their place.
    for name in PLATFORMS.iter().filter(|name| args.contains_key(**name)) {
        globals.insert((*name).to_owned(), UNKNOWN.to_string());
    }
    // Its lines may be read as instructions, which must not hide one; so no stage begins after it.
    let mut heredoc = false;
    // Whether the last of the stages is the one that the instructions are in.
    let mut listed = false;
    let mut take = |line, word: &str, stages: &[String], globals: &Variables, numbered: bool| {
        let name = match resolved(word, globals) {
            Some(name) if !name.is_empty() || word.is_empty() => Ok(name),
            _ => Err(word.to_owned()),
        };
        let other = name.as_deref().is_ok_and(|name| {
            name.is_empty()
                || name == "scratch"
                || (numbered && name.bytes().all(|byte| byte.is_ascii_digit()))
                || stages.contains(&name.to_ascii_lowercase())
        });
        if !other {
            out.push((line, name));
        }
    };
    for (line, instruction) in instructions(text, reading) {
        heredoc |= instruction.contains("<<");
        let mut words = instruction.split_whitespace().peekable();
        let mut keyword = words.next().unwrap_or_default().to_ascii_uppercase();
        while keyword == "ONBUILD" {
            keyword = words.next().unwrap_or_default().to_ascii_uppercase();
        }
        match keyword.as_str() {
            "ARG" if !begun => {
                for word in words {
                    let (name, default) = match word.split_once('=') {
                        Some((name, default)) => (name, Some(resolved(default, &globals))),
                        None => (word, None),
                    };
                    let value = match (args.get(name), default) {
                        (Some(value), _) => value.clone(),
                        (None, Some(default)) => default.unwrap_or_else(|| UNKNOWN.to_string()),
                        (None, None) => continue,
                    };
                    globals.insert(name.to_owned(), value);
                }
            }
            "FROM" => {
                begun = true;
                let mut rest = words.skip_while(|word| word.starts_with("--"));
                if let Some(name) = rest.next() {
                    take(line, name, &stages, &globals, false);
                }
                let stage = rest.nth(1).unwrap_or_default();
                listed = !heredoc;
                if listed {
                    stages.push(stage.to_ascii_lowercase());
                }
            }
            "COPY" | "ADD" | "RUN" => {
                // To the old builder, which knows no mounts, a stage in the making is none yet: it
                // takes an image of that name.
                let making = usize::from(listed && keyword != "RUN");
                let built = &stages[..stages.len().saturating_sub(making)];
                for flag in words.take_while(|word| word.starts_with("--")) {
                    // The value of a mount is a row of CSV.
                    for part in flag.split([',', '"']) {
                        let lower = part.to_ascii_lowercase();
                        let at = match lower.strip_prefix("--from=") {
                            Some(_) => "--from=".len(),
                            None if lower.starts_with("from=") => "from=".len(),
                            None if lower.starts_with("--mount=from=") => "--mount=from=".len(),
                            None => continue,
                        };
                        take(line, &part[at..], built, &globals, true);
                    }
                }
            }
            _ => {}
        }
    }
    out
}

type Found = Vec<(usize, std::result::Result<String, String>)>;

/// Takes the place of a value that hatchery cannot know. No image's name contains it.
const UNKNOWN: char = '\0';

/// The variables that `BuildKit` sets for the platforms that it builds on and for.
const PLATFORMS: &[&str] = &[
    "BUILDARCH",
    "BUILDOS",
    "BUILDPLATFORM",
    "BUILDVARIANT",
    "TARGETARCH",
    "TARGETOS",
    "TARGETPLATFORM",
    "TARGETSTAGE",
    "TARGETVARIANT",
];

/// How a Dockerfile's lines make instructions, as far as versions of Docker differ in it.
#[derive(Clone, Copy)]
struct Reading {
    /// The character that continues a line. Which comments at the head may name it has changed.
    escape: char,
    /// Whether two of them at the end of a line continue it.
    doubled: bool,
    /// Whether a comment within an instruction may be indented.
    indented: bool,
}

impl Reading {
    /// All readings that may differ for this text. `backtick` is whether the backtick may be the escape
    /// character.
    fn all(text: &str, backtick: bool) -> Vec<Self> {
        let ends = |end: &str| text.lines().any(|line| untailed(line).ends_with(end));
        let is_indented = |line: &str| line.trim() != line && line.trim().starts_with('#');
        let either = |differs: bool| if differs { &[true, false][..] } else { &[true] };
        let mut all = Vec::new();
        for escape in ['\\', '`'].into_iter().take(1 + usize::from(backtick)) {
            for &doubled in either(ends(&format!("{escape}{escape}"))) {
                for &indented in either(text.lines().any(is_indented)) {
                    all.push(Self {
                        escape,
                        doubled,
                        indented,
                    });
                }
            }
        }
        all
    }

    /// The line without the character that continues it, where it is continued.
    fn continued(self, line: &str) -> Option<&str> {
        let begun = untailed(line).strip_suffix(self.escape)?;
        (self.doubled || !begun.ends_with(self.escape)).then_some(begun)
    }
}

/// A line without the blanks that Docker takes after the character that continues it, and no others.
fn untailed(line: &str) -> &str {
    line.trim_end_matches([' ', '\t'])
}

/// The directives in the comments at the head of a Dockerfile: the image that reads it, and whether one makes
/// the backtick the character that continues a line.
fn directives(text: &str) -> (Found, bool) {
    let (mut found, mut backtick) = (Vec::new(), false);
    if text.trim_start().starts_with('{') {
        found.push((1, Err("{".to_owned())));
    }
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        let comment = line.strip_prefix('#').or_else(|| line.strip_prefix("//"));
        let Some((key, value)) = comment.and_then(|comment| comment.split_once('=')) else {
            if line.starts_with("#!") && index == 0 {
                continue;
            }
            break;
        };
        match key.trim().to_ascii_lowercase().as_str() {
            "syntax" => {
                let name = value.split_whitespace().next().unwrap_or_default();
                found.push((index + 1, Ok(name.to_owned())));
            }
            "escape" if value.trim().starts_with('`') => backtick = true,
            _ => {}
        }
    }
    (found, backtick)
}

/// The instructions, continued lines in one; with the line that each begins on.
fn instructions(text: &str, reading: Reading) -> Vec<(usize, String)> {
    let mut out: Vec<(usize, String)> = Vec::new();
    let mut open: Option<(usize, String)> = None;
    let mut heredoc = false;
    for (index, line) in text.lines().enumerate() {
        let trimmed = line.trim();
        let comment = match open {
            Some(_) if !reading.indented => line.starts_with('#'),
            _ => trimmed.starts_with('#'),
        };
        if trimmed.is_empty() || comment {
            continue;
        }
        // A heredoc may end with what looks like a continued line.
        if heredoc && open.is_some() {
            out.push((index + 1, line.to_owned()));
        }
        heredoc |= line.contains("<<");
        let (at, mut whole) = open.take().unwrap_or((index + 1, String::new()));
        if let Some(more) = reading.continued(line) {
            whole.push_str(more);
            open = Some((at, whole));
        } else {
            whole.push_str(line);
            out.push((at, whole));
        }
    }
    out.extend(open);
    out
}

/// A word without its quotes and variables; `None` if hatchery cannot resolve them.
fn resolved(word: &str, variables: &Variables) -> Option<String> {
    if word.contains('\\') || word.contains("$$") {
        return None;
    }
    let word: String = word.chars().filter(|c| !matches!(c, '"' | '\'')).collect();
    if is_of_platform(&word) {
        return None;
    }
    let whole = interpolate(&word, variables).ok()?;
    (!whole.contains(UNKNOWN)).then_some(whole)
}

/// Whether a word depends on a platform's variable being set, as `${TARGETARCH:-x}` does: the old builder sets
/// none of them.
fn is_of_platform(word: &str) -> bool {
    word.split("${").skip(1).any(|inside| {
        let end = inside.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        let (name, rest) = inside.split_at(end.unwrap_or(inside.len()));
        PLATFORMS.contains(&name) && !rest.starts_with('}')
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_of_registries_pass_and_names_of_this_server_do_not() {
        for name in [
            "debian",
            "debian:12",
            "acme/cafe",
            "cafe:1",
            "docker.io/library/cafe",
            "ghcr.io/acme/x@sha256:0123",
            "registry.example:5000/x",
            "mcr.microsoft.com/devcontainers/base:ubuntu",
        ] {
            assert_eq!(barred(name), None, "{name}");
        }
        for (name, why) in [
            ("localhost/x", LOCAL),
            ("localhost:5000/x", LOCAL),
            ("LOCALHOST:5000/x", LOCAL),
            ("Localhost/x", LOCAL),
            ("a.localhost/x", LOCAL),
            ("localhost.localdomain/x", LOCAL),
            ("localhost./x", LOCAL),
            ("127.0.0.1:5000/x", LOCAL),
            ("127.1/x", LOCAL),
            ("0x7f.0x1:80/x", LOCAL),
            ("2130706433:5000/x", LOCAL),
            ("10.0.0.1/x", LOCAL),
            ("server:5000/x", LOCAL),
            ("host.docker.internal:5000/x", LOCAL),
            ("hatchery.invalid/acme-site/0123:app", BUILT),
            ("HATCHERY.invalid/acme-site/0123:app", BUILT),
            ("hatchery.invalid:443/acme-site/0123:app", BUILT),
            ("vsc-site-0123-features", BUILT),
            ("docker.io/library/vsc-site-0123-features", BUILT),
            ("index.docker.io/vsc-site-0123-features", BUILT),
            ("dev_container_feature_content_temp-acme-x", BUILT),
            ("cafe", BY_ID),
            ("0123456789abcdef", BY_ID),
            ("sha256:0123", BY_ID),
        ] {
            assert_eq!(barred(name), Some(why), "{name}");
        }
    }

    #[test]
    fn one_image_has_one_spelling() {
        for name in [
            "debian",
            "debian:latest",
            "library/debian",
            "docker.io/debian",
            "index.docker.io/library/debian:latest",
        ] {
            assert_eq!(normal(name), "debian:latest", "{name}");
        }
        assert_eq!(normal("localhost:5000/x"), "localhost:5000/x:latest");
        assert_ne!(normal("a/x"), normal("x"));
    }

    #[test]
    fn a_tag_is_the_drones_and_the_services() {
        let drone = DroneName::of(&"acme/site".parse().unwrap());
        let tag = own_tag(&drone, "0123", "web");
        assert_eq!(tag, "hatchery.invalid/acme-site/0123:web");
        assert_eq!(barred(&tag), Some(BUILT));
        assert!(own_tag(&drone, "0", &"x".repeat(200)).len() < 128);
    }

    #[test]
    fn a_dockerfile_hides_no_image() {
        let args: Variables = [("TAG".to_owned(), "2".to_owned())].into();
        for (text, expected) in [
            ("FROM debian", &["debian"][..]),
            (
                "\u{feff}from --platform=linux/amd64 a AS b\nFROM b\nFROM c",
                &["a", "c"],
            ),
            (
                "ARG BASE=loc\nARG TAG=1 X=\"${BASE}alhost:5000/x\"\nFROM ${X}:$TAG",
                &["localhost:5000/x:2"],
            ),
            ("FR\\\nOM \\\n# no\n\n  x", &["x"]),
            ("# escape=`\nFROM `\n x", &["`", "x"]),
            (
                "FROM a\nCOPY --chown=1 --from=other /x /y\nCOPY --from=0 /x /y",
                &["a", "other"],
            ),
            (
                "FROM a AS s\nRUN --mount=type=bind,from=m,target=/x --mount=from=s --mount=\"FROM=n\" cat",
                &["a", "m", "n"],
            ),
            (
                "FROM a\nONBUILD COPY --from=b / /\nADD --from=c / /",
                &["a", "b", "c"],
            ),
            (
                "# syntax = evil/frontend:1\nFROM a",
                &["evil/frontend:1", "a"],
            ),
            ("#!/x\n// syntax=f\nFROM scratch", &["f"]),
            ("ARG X\nFROM ${X:-localhost/x}", &["localhost/x"]),
            ("FROM a\nARG B=c\nRUN x \\\n FROM z", &["a"]),
            // What is only text in there begins no stage.
            (
                "FROM a\nRUN <<E\nFROM scratch AS vsc-x\nE\nFROM vsc-x",
                &["a", "vsc-x"],
            ),
            (
                "FROM a AS be\nRUN <<E\nE\nFROM c\nCOPY --from=be / /",
                &["a", "c"],
            ),
            ("FROM a\nRUN <<'x\\'\nx\\\nFROM b", &["a", "b"]),
            ("FROM 1234", &["1234"]),
        ] {
            let found: Vec<String> = named(text, &args)
                .into_iter()
                .map(|(_, name)| name.unwrap())
                .collect();
            assert_eq!(found, expected, "{text}");
        }
        for text in [
            "ARG X=aalocalhost/x\nFROM ${X#aa}",
            "FROM a\\$b",
            "{\"syntax\": \"x\"}",
            "ARG X=vs\\c-x\nFROM $X",
            "ARG X=s\\c-x\nFROM v${X}",
            "ARG X=aab\nARG Y=${X#aa}\nFROM x$Y",
            "FROM ${TARGETARCH:+vsc-x}",
            "FROM a${BUILDOS-vsc-x}",
            "FROM vs${TARGETSTAGE}-x",
            "FROM ${NOTHING}",
        ] {
            assert!(
                named(text, &args).iter().any(|(_, name)| name.is_err()),
                "{text}"
            );
        }
        let platform: Variables = [("TARGETARCH".to_owned(), "c".to_owned())].into();
        assert!(named("FROM vs${TARGETARCH}-x", &platform)[0].1.is_err());
        let frontend: Variables = [("BUILDKIT_SYNTAX".to_owned(), "localhost/f".to_owned())].into();
        assert_eq!(
            named("FROM scratch", &frontend),
            [(0, Ok("localhost/f".to_owned()))]
        );
    }

    #[test]
    fn a_name_counts_in_whatever_way_a_docker_may_read_the_file() {
        let texts = [
            // No blank that Docker takes after the backslash: the line ends.
            "FROM a\nRUN x \\\u{a0}\nFROM hidden",
            "FROM a\nRUN x \\\u{b}\nFROM hidden",
            // Docker obeys no directive after another comment.
            "# a=b\n# escape=`\nFROM a\nRUN x # `\nFROM hidden",
            "# escape=`\nFROM a\nRUN x \\\nFROM hidden",
            "FROM a\nRUN x \\\\\nFROM hidden",
            "FROM a\nRUN x \\\n # y\nFROM hidden",
            "FROM a AS hidden\nCOPY --from=hidden /x /y",
        ];
        let hides = |text: &&str| {
            let found = named(text, &Variables::new());
            !found.contains(&(text.lines().count(), Ok("hidden".to_owned())))
        };
        let hiding: Vec<_> = texts.into_iter().filter(hides).collect();
        assert_eq!(hiding, [""; 0]);
        let text = "FROM a AS b\nFROM c\nCOPY --from=b /x /y";
        assert_eq!(named(text, &Variables::new()).len(), 2);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(FROM |ARG |COPY --from=|RUN --mount=from=|[$]|[{]|[}]|\\\\|\n|#|=|a|é|\"|,| ){0,40}") {
            let _ = named(&text, &Variables::new());
            let _ = (barred(&text), normal(&text));
        }
    }
}
