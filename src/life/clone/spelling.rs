//! How a submodule's URL is spelled, and which repository it means.

use url::Url;

use crate::repo::RepoId;

/// The longest URL that is looked at, in bytes.
const LONGEST: usize = 2048;

/// What a URL leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A repository on the configured GitHub, by any protocol: drones fetch it by https.
    Github(RepoId),
    /// Something behind https, fetched from the URL as it is.
    Https,
    /// Something that only another protocol, or a file system, leads to.
    Other,
}

/// What the URL of a submodule leads to, where `github` is the configured GitHub.
pub fn target(github: &Url, text: &str) -> Target {
    if text.len() > LONGEST {
        return Target::Other;
    }
    let host = github.host_str().unwrap_or_default();
    let Some((scheme, _)) = text.split_once("://") else {
        let repo = scp_path(host, text).and_then(repository);
        return repo.map_or(Target::Other, Target::Github);
    };
    let scheme = scheme.to_ascii_lowercase();
    let Ok(url) = Url::parse(text) else {
        return Target::Other;
    };
    let there = url.host_str().unwrap_or_default();
    let is_github = match scheme.as_str() {
        "https" => {
            is_same(there, host) && url.port_or_known_default() == github.port_or_known_default()
        }
        "http" => is_same(there, host) && url.port().is_none(),
        "git" => is_same(there, host) && matches!(url.port(), None | Some(9418)),
        "ssh" | "git+ssh" | "ssh+git" => is_ssh_host(there, host),
        _ => false,
    };
    match repository(url.path()).filter(|_| is_github) {
        Some(repo) => Target::Github(repo),
        None if scheme == "https" => Target::Https,
        None => Target::Other,
    }
}

/// Whether git can be given this URL of a repository on GitHub as it is: https, without a user.
pub fn is_usable(text: &str) -> bool {
    let authority = text
        .strip_prefix("https://")
        .and_then(|rest| rest.split('/').next());
    authority.is_some_and(|authority| !authority.contains('@'))
}

/// The URL as it may be shown: a password in it is left out.
pub fn shown(text: &str) -> String {
    const MOST: usize = 300;
    let hidden = match text.split_once("://") {
        Some((scheme, rest)) => {
            let end = rest.find('/').unwrap_or(rest.len());
            match rest[..end].rfind('@') {
                Some(at) if rest[..at].contains(':') || scheme.starts_with("http") => {
                    format!("{scheme}://{}", &rest[at + 1..])
                }
                _ => text.to_owned(),
            }
        }
        None => text.to_owned(),
    };
    hidden.chars().take(MOST).collect()
}

/// The path in `user@host:path`. Organisations with ssh certificates have a user of their own,
/// `org-4711`.
fn scp_path<'a>(host: &str, text: &'a str) -> Option<&'a str> {
    let (before, path) = text.split_once(':')?;
    let there = match before.split_once('@') {
        Some((user, there)) => {
            let is_user = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            (!user.is_empty() && user.chars().all(is_user)).then_some(there)?
        }
        None => before,
    };
    is_ssh_host(there, host).then_some(path)
}

fn repository(path: &str) -> Option<RepoId> {
    let path = path.trim_matches('/');
    let path = path.strip_suffix(".git").unwrap_or(path);
    // The short form alone: what else `RepoId` takes is another spelling of a URL.
    RepoId::try_from(path.to_owned()).ok()
}

fn is_same(there: &str, host: &str) -> bool {
    !host.is_empty() && there.eq_ignore_ascii_case(host)
}

/// GitHub answers ssh on port 443 under a name of its own.
fn is_ssh_host(there: &str, host: &str) -> bool {
    let there = there.to_ascii_lowercase();
    is_same(there.strip_prefix("ssh.").unwrap_or(&there), host) || is_same(&there, host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Target {
        target(&"https://github.com".parse().unwrap(), text)
    }

    #[test]
    fn every_spelling_of_a_repository_on_github_is_one() {
        for text in [
            "https://github.com/x/y",
            "https://GitHub.com/x/y.git/",
            "https://someone:secret@github.com/x/y.git",
            "https://github.com:443/x/y",
            "http://github.com/x/y",
            "git://github.com/x/y.git",
            "ssh://git@github.com/x/y",
            "ssh://git@github.com:22/x/y.git",
            "ssh://git@ssh.github.com:443/x/y.git",
            "git+ssh://git@github.com/x/y",
            "git@github.com:x/y",
            "git@github.com:/x/y.git",
            "org-4711@github.com:x/y.git",
            "github.com:x/y",
        ] {
            assert_eq!(of(text), Target::Github("x/y".parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn what_is_elsewhere_is_told_from_what_cannot_be_fetched() {
        for text in [
            "https://gitlab.com/x/y",
            "https://github.com:8443/x/y",
            "https://github.com/x/y/z",
            "https://github.com.evil.example/x/y",
        ] {
            assert_eq!(of(text), Target::Https, "{text}");
        }
        for text in [
            "",
            "x/y",
            "../y",
            "/srv/x/y",
            "file:///srv/x/y",
            "ssh://git@gitlab.com/x/y",
            "http://gitlab.com/x/y",
            "http://github.com:9999/x/y",
            "git@gitlab.com:x/y",
            "git@github.com:x/y/z",
            "git@github.com:x/../y",
            "-oProxyCommand=x@github.com:x/y",
            "a b@github.com:x/y",
            "ext::sh -c x",
            "git@github.com:https://gitlab.com/x/y",
            "ssh://git@github.com:port/x/y",
        ] {
            assert_eq!(of(text), Target::Other, "{text}");
        }
        assert_eq!(
            of(&format!("https://github.com/x/{}", "y".repeat(3000))),
            Target::Other
        );
    }

    #[test]
    fn another_github_has_a_host_and_port_of_its_own() {
        let github: Url = "https://ghe.example:8443".parse().unwrap();
        let repo = Target::Github("x/y".parse().unwrap());
        for text in [
            "https://ghe.example:8443/x/y",
            "git@ghe.example:x/y",
            "ssh://git@ghe.example/x/y",
        ] {
            assert_eq!(target(&github, text), repo, "{text}");
        }
        assert_eq!(target(&github, "https://ghe.example/x/y"), Target::Https);
        assert_eq!(target(&github, "git@github.com:x/y"), Target::Other);
    }

    #[test]
    fn passwords_are_not_shown_and_not_used() {
        assert_eq!(
            shown("https://me:secret@a.example/x"),
            "https://a.example/x"
        );
        assert_eq!(shown("https://token@a.example/x"), "https://a.example/x");
        assert_eq!(shown("ssh://git@a.example/x"), "ssh://git@a.example/x");
        assert_eq!(shown("git@a.example:x"), "git@a.example:x");
        assert!(is_usable("https://github.com/x/y"));
        assert!(!is_usable("https://me@github.com/x/y"));
        assert!(!is_usable("http://github.com/x/y"));
    }
}
