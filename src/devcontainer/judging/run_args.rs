//! `runArgs`: flags for `docker run`. Only known flags pass, each rewritten as one `--flag=value`.

use super::build::Place;
use super::mounts::{self, Asked};
use super::policy::{self, Judgement};
use super::properties::{Fate, OURS, RUN_ARGS};
use super::verdict::Gate;
use super::words::NOT_ONE_LINE;
use crate::devcontainer::reading::checkout::Checkout;
use crate::devcontainer::reading::document::Node;

/// What passes of `runArgs`.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct RunArgs {
    /// Flags for `docker run`, one text each.
    pub args: Vec<String>,
    /// Mounts, like those of the property `mounts`.
    pub mounts: Vec<Asked>,
    /// The value of `--user`.
    pub user: Option<String>,
}

#[derive(Clone, Copy)]
enum Rule {
    /// A switch.
    Switch(Judgement),
    /// A flag with a value, judged whatever the value is.
    Any(Judgement),
    /// A flag with a value that is judged.
    Value(fn(&str) -> Judgement),
    Mount,
    Volume,
    User,
    EnvFile,
}

/// Flags that take no value.
const SWITCHES: &[&str] = &[
    "detach",
    "init",
    "interactive",
    "no-healthcheck",
    "oom-kill-disable",
    "privileged",
    "publish-all",
    "read-only",
    "rm",
    "sig-proxy",
    "tty",
];

/// The rule for a flag, by its long name; the short ones are in [`LONG_NAMES`]. `None` if it is unknown.
fn rule(name: &str) -> Option<Rule> {
    let flag = RUN_ARGS.find(name)?;
    let judgement = match flag.fate {
        Fate::Passes => Judgement::Pass,
        Fate::Own => Judgement::Drop(OURS),
        Fate::LeftOut => Judgement::Drop(flag.says),
        Fate::Refused | Fate::Contained => Judgement::Refuse(flag.says),
        Fate::Rule => {
            return Some(match name {
                "env" => Rule::Value(env),
                "label" => Rule::Value(label),
                "cap-add" => Rule::Value(policy::capability),
                "security-opt" => Rule::Value(policy::security_opt),
                "network" => Rule::Value(network),
                "device" => Rule::Value(policy::device),
                "ipc" => Rule::Value(policy::ipc),
                "sysctl" => Rule::Value(policy::sysctl),
                "ulimit" => Rule::Value(ulimit),
                "mount" => Rule::Mount,
                "volume" => Rule::Volume,
                "user" => Rule::User,
                "env-file" => Rule::EnvFile,
                _ => return None,
            });
        }
    };
    Some(if SWITCHES.contains(&name) {
        Rule::Switch(judgement)
    } else {
        Rule::Any(judgement)
    })
}

const LONG_NAMES: &[(char, &str)] = &[
    ('e', "env"),
    ('h', "hostname"),
    ('i', "interactive"),
    ('l', "label"),
    ('m', "memory"),
    ('p', "publish"),
    ('t', "tty"),
    ('u', "user"),
    ('v', "volume"),
    ('w', "workdir"),
    ('c', "cpu-shares"),
    ('d', "detach"),
    ('P', "publish-all"),
];

fn env(text: &str) -> Judgement {
    match text.split_once('=') {
        Some((name, _)) if policy::is_env_name(name) => Judgement::Pass,
        Some(_) => Judgement::Refuse("this is not the name of a variable"),
        None => Judgement::Drop("it would read this server's environment"),
    }
}

fn label(text: &str) -> Judgement {
    if policy::is_reserved_label(text.split('=').next().unwrap_or(text)) {
        Judgement::Refuse("this label identifies the drone")
    } else {
        Judgement::Pass
    }
}

fn network(text: &str) -> Judgement {
    match text {
        "bridge" | "default" => Judgement::Drop(OURS),
        _ => Judgement::Refuse("drones have a network of their own"),
    }
}

fn ulimit(text: &str) -> Judgement {
    if policy::is_ulimit(text) {
        Judgement::Pass
    } else {
        Judgement::Refuse(policy::NO_ULIMIT)
    }
}

/// Reads the property. The file of `--env-file` is relative to the root of `checkout`.
pub fn read(node: &Node, gate: &mut Gate, checkout: &Checkout) -> RunArgs {
    let mut out = RunArgs::default();
    let mut rest = node.elements().iter();
    while let Some(element) = rest.next() {
        let Some(text) = element.as_text() else {
            gate.wrong(element, "runArgs", "a list of strings");
            continue;
        };
        let (name, attached) = split(text);
        let Some(rule) = name.as_deref().and_then(rule) else {
            if gate.refuse(element, "runArgs", "hatchery does not know this flag") {
                out.args.push(text.to_owned());
            }
            continue;
        };
        let name = name.unwrap_or_default();
        if let Rule::Switch(judgement) = rule {
            if attached.as_deref().is_some_and(is_false) {
                continue;
            }
            settle(
                &mut out,
                gate,
                element,
                &format!("--{name}"),
                None,
                judgement,
            );
            continue;
        }
        let value = match attached {
            Some(value) => Some(value),
            None => rest
                .next()
                .and_then(|next| next.as_text().map(str::to_owned)),
        };
        let Some(value) = value else {
            gate.wrong(
                element,
                "runArgs",
                &format!("complete: --{name} has no value"),
            );
            continue;
        };
        take(&mut out, gate, checkout, element, &name, &value, rule);
    }
    out
}

#[allow(clippy::too_many_arguments)] // One flag and what it may go into.
fn take(
    out: &mut RunArgs,
    gate: &mut Gate,
    checkout: &Checkout,
    element: &Node,
    name: &str,
    value: &str,
    rule: Rule,
) {
    let flag = format!("--{name}");
    // What runs in the drone may have several lines.
    let judgement = match rule {
        _ if !matches!(name, "env" | "health-cmd") && !policy::is_one_line(value) => {
            Judgement::Refuse(NOT_ONE_LINE)
        }
        Rule::Any(judgement) | Rule::Switch(judgement) => judgement,
        Rule::Value(judge) => judge(value),
        Rule::Mount | Rule::Volume => {
            let judged = if matches!(rule, Rule::Mount) {
                mounts::judge(&value.into(), Some(checkout))
            } else {
                mounts::judge_volume_flag(value, Some(checkout))
            };
            match judged {
                Ok(mount) if !gate.trusted() || mount.part().is_some() => {
                    let line = element.line;
                    out.mounts.push(Asked::Judged { mount, line });
                    return;
                }
                Ok(_) => Judgement::Pass,
                Err(why) => Judgement::Refuse(why),
            }
        }
        Rule::User if policy::is_user(value) => {
            out.user = Some(value.to_owned());
            return;
        }
        Rule::User => Judgement::Refuse("this is not a user"),
        Rule::EnvFile => {
            let place = Place {
                checkout,
                base: checkout.root(),
            };
            let file = Node::text(element.line, value);
            if let Some(path) = place.private_file(&file, "runArgs --env-file", gate) {
                out.args.push(format!("{flag}={path}"));
            }
            return;
        }
    };
    settle(out, gate, element, &flag, Some(value), judgement);
}

fn settle(
    out: &mut RunArgs,
    gate: &mut Gate,
    element: &Node,
    flag: &str,
    value: Option<&str>,
    judgement: Judgement,
) {
    let text = value.map_or_else(|| flag.to_owned(), |value| format!("{flag}={value}"));
    match judgement {
        Judgement::Pass => out.args.push(text),
        // A trusted repository keeps what is not hatchery's to set.
        Judgement::Drop(_) if gate.trusted() && matches!(flag, "--security-opt" | "--device") => {
            out.args.push(text);
        }
        Judgement::Drop(why) => {
            gate.leave_out(element.line, &format!("runArgs {flag}"), why);
        }
        Judgement::Refuse(why) => {
            let passes = match flag {
                "--privileged" => gate.refuse_privileges(element, "runArgs", why),
                _ => gate.refuse_text(element.line, "runArgs", &format!("{text:?}"), why),
            };
            // The drones' network is the one thing that trust does not change.
            if passes && flag != "--network" {
                out.args.push(text);
            }
        }
    }
}

/// The flag's long name, and the value that is attached to it. There is no name if this is not a flag, or a
/// short one that hatchery does not know.
fn split(text: &str) -> (Option<String>, Option<String>) {
    if let Some(long) = text.strip_prefix("--") {
        let (name, value) = match long.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (long, None),
        };
        let name = if name == "net" { "network" } else { name };
        return (Some(name.to_owned()), value);
    }
    let Some(short) = text.strip_prefix('-') else {
        return (None, None);
    };
    if matches!(short, "it" | "ti") {
        return (Some("tty".to_owned()), None);
    }
    let Some(first) = short.chars().next() else {
        return (None, None);
    };
    let Some((_, name)) = LONG_NAMES.iter().find(|(letter, _)| *letter == first) else {
        return (None, None);
    };
    let attached = &short[first.len_utf8()..];
    if attached.is_empty() {
        return (Some((*name).to_owned()), None);
    }
    // Several switches behind one dash may end in a flag with a value: not worth to follow.
    if matches!(rule(name), Some(Rule::Switch(_))) {
        return (None, None);
    }
    let value = attached.strip_prefix('=').unwrap_or(attached);
    (Some((*name).to_owned()), Some(value.to_owned()))
}

fn is_false(value: &str) -> bool {
    matches!(value, "false" | "0" | "f" | "F" | "False" | "FALSE")
}
