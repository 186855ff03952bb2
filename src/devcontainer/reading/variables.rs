//! `${…}` in devcontainer.json, as far as it must be known before the CLI sees it.

/// Replaces `${localEnv:NAME:default}` and `${env:…}` by the default or nothing, because the
/// host's environment is not the repository's, and `${localWorkspaceFolderBasename}` by the
/// repository's name. All others are left to the devcontainer CLI.
pub fn resolve(text: &str, repository: &str) -> String {
    let mut text = text.to_owned();
    // What a replacement leaves may read as another variable. Each is shorter than what it
    // replaces, but for the repository's name, which has no `$`.
    for _ in 0..MAX_ROUNDS {
        let next = once(&text, repository);
        if next == text {
            return text;
        }
        text = next;
    }
    // Nobody writes this by accident.
    text.replace("${", "")
}

const MAX_ROUNDS: usize = 8;

fn once(text: &str, repository: &str) -> String {
    replaced(text, |variable| {
        let mut parts = variable.split(':');
        match parts.next() {
            Some("env" | "localEnv") => Some(parts.nth(1).unwrap_or_default().to_owned()),
            Some("localWorkspaceFolderBasename") => Some(repository.to_owned()),
            _ => None,
        }
    })
}

/// Replaces each `${…}` for which `value`, given the text between the braces, returns a text. What is put in
/// its place is not searched again.
pub fn replaced(text: &str, value: impl Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let Some(length) = rest[start..].find('}') else {
            break;
        };
        let end = start + length;
        out.push_str(&rest[..start]);
        match value(&rest[start + 2..end]) {
            Some(value) => out.push_str(&value),
            None => out.push_str(&rest[start..=end]),
        }
        rest = &rest[end + 1..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_hosts_environment_is_empty() {
        for (text, expected) in [
            ("${localEnv:HOME}", ""),
            ("${env:HOME}/x", "/x"),
            ("a${localEnv:X:dflt}b${env:Y:e}", "adfltbe"),
            ("${localEnv:X:a:b}", "a"),
            ("${localEnv}", ""),
            ("${containerEnv:PATH}:/x", "${containerEnv:PATH}:/x"),
            ("/w/${localWorkspaceFolderBasename}", "/w/site"),
            ("${localWorkspaceFolder}", "${localWorkspaceFolder}"),
            ("${devcontainerId}", "${devcontainerId}"),
            ("$ {x} ${", "$ {x} ${"),
            ("$${localEnv:X:{}localEnv:HOME}", ""),
        ] {
            assert_eq!(resolve(text, "site"), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_leaves_a_way_to_the_hosts_environment(text in "([$]|[{]|[}]|:|localEnv|env|X|é){0,60}") {
            let resolved = resolve(&text, "site");
            prop_assert_eq!(once(&resolved, "site"), resolved);
        }
    }
}
