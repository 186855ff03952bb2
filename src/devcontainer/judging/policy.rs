//! Rules for single values. Root in a drone may be hostile: the question is always what the value would give
//! *it* beyond its own container.

use super::properties::HOST;
use super::words::NOT_ONE_LINE;

/// What becomes of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judgement {
    /// It is handed on.
    Pass,
    /// It is left out, for this reason, and the drone runs without it.
    Drop(&'static str),
    /// It is refused, for this reason: nothing is spawned.
    Refuse(&'static str),
}

/// Capabilities that anything may add, without `CAP_`.
///
/// Docker's own defaults, and:
/// - `NET_ADMIN`: `tailscaled` needs it. It rules the drone's own network namespace; what leaves
///   that namespace is filtered by the server.
/// - `SYS_PTRACE`: debuggers. It reaches the processes of the drone's own PID namespace.
const CAPABILITIES: &[&str] = &[
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_ADMIN",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
    "SYS_PTRACE",
];

/// Whether this capability may be added.
pub fn capability(name: &str) -> Judgement {
    let upper = name.to_ascii_uppercase();
    let plain = upper.strip_prefix("CAP_").unwrap_or(&upper);
    if CAPABILITIES.contains(&plain) {
        Judgement::Pass
    } else {
        Judgement::Refuse("this capability reaches beyond the drone")
    }
}

/// Judges a `security_opt`.
///
/// `seccomp=unconfined` stands in Microsoft's images and features for C++, Go and Rust, from the
/// time when Docker's profile forbade `ptrace`; since Linux 4.8 it does not. Without the profile a
/// hostile root has user namespaces, the kernel's key rings (which are root's, the host's and
/// every drone's alike) and far more of the kernel to attack, so the profile stays.
pub fn security_opt(text: &str) -> Judgement {
    let (key, value) = text.split_once(['=', ':']).unwrap_or((text, ""));
    if !is_one_line(text) {
        return Judgement::Refuse(NOT_ONE_LINE);
    }
    match (key.trim(), value.trim()) {
        ("no-new-privileges", "" | "true") => Judgement::Pass,
        ("no-new-privileges", "false") => Judgement::Drop("it is Docker's default"),
        ("seccomp", "unconfined") => Judgement::Drop(
            "debuggers also work under Docker's default seccomp profile, which is used",
        ),
        ("label", "disable") => Judgement::Drop("the drone keeps its SELinux label"),
        _ => Judgement::Refuse("it weakens the drone's isolation"),
    }
}

/// Whether this is an image's name: `[registry/]path[:tag][@digest]`.
pub fn is_image(text: &str) -> bool {
    text.len() <= 512
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "._-/:@+".contains(c))
        && !text.contains("://")
}

/// Whether this is a platform: `amd64`, `linux/arm/v7`. Its parts become variables of a Dockerfile.
pub fn is_platform(text: &str) -> bool {
    const KNOWN: &[&str] = &[
        "linux", "386", "aarch64", "amd64", "arm", "arm64", "loong64", "mips64", "mips64le",
        "ppc64le", "riscv64", "s390x", "x86_64", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9",
    ];
    let parts: Vec<&str> = text.split('/').collect();
    parts.len() <= 3 && parts.iter().all(|part| KNOWN.contains(part))
}

/// Whether this value of `--ulimit` gives no part in the real-time scheduler and no precedence over
/// others.
pub fn is_ulimit(text: &str) -> bool {
    let name = text.split('=').next().unwrap_or_default().trim();
    !["rtprio", "nice"]
        .iter()
        .any(|beyond| name.eq_ignore_ascii_case(beyond))
}

/// Why a value of `--ulimit` is refused.
pub const NO_ULIMIT: &str =
    "a drone may not use the real-time scheduler or take precedence over others";

/// Whether this is the name of a volume, a network or a service.
pub fn is_name(text: &str) -> bool {
    text.len() <= 200
        && text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
}

/// Whether a text stays on one line and is nothing but text, wherever it is written. YAML and
/// JavaScript take some characters for the end of a line that are not control characters.
pub fn is_one_line(text: &str) -> bool {
    !text
        .chars()
        .any(|c| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}'))
}

/// Whether this is the name of an environment variable. The devcontainer CLI writes it into a
/// compose file without quoting it.
pub fn is_env_name(text: &str) -> bool {
    text.len() <= 200
        && text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
}

/// Whether this is a user, with a group or without: `node`, `1000:1000`.
pub fn is_user(text: &str) -> bool {
    let part = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
            && part.len() <= 64
            && part
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
    };
    text.split_once(':')
        .map_or_else(|| part(text), |(user, group)| part(user) && part(group))
}

/// Whether this is an absolute path within a container, without a comma or colon that would separate options.
pub fn is_target(text: &str) -> bool {
    text.len() <= 1024
        && text.starts_with('/')
        && text
            .chars()
            .all(|c| c.is_alphanumeric() || "/._-+@ ".contains(c))
        && !text.split('/').any(|part| part == "..")
}

/// Whether a label of this name is one that hatchery, the devcontainer CLI or compose rely on.
pub fn is_reserved_label(name: &str) -> bool {
    let name = name.trim().to_ascii_lowercase();
    ["hatchery.", "devcontainer.", "com.docker."]
        .iter()
        .any(|prefix| name.starts_with(prefix))
}

/// Whether a mount here would hide what hatchery puts there.
pub fn is_reserved_target(target: &str) -> bool {
    let parts: Vec<&str> = target
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".")
        .collect();
    matches!(
        parts.as_slice(),
        [] | ["run" | "var"]
            | ["var", "run"]
            | ["run", "hatchery", ..]
            | ["var", "run", "hatchery", ..]
    )
}

/// Judges a device, written as for `docker run --device`.
pub fn device(text: &str) -> Judgement {
    let mut parts = text.split(':');
    let host = parts.next().unwrap_or_default();
    let plain = parts.all(|part| part == host || matches!(part, "r" | "w" | "rw" | "rwm"));
    match host {
        "/dev/net/tun" if plain => Judgement::Drop("hatchery gives it where there is a tailnet"),
        "/dev/fuse" if plain => Judgement::Drop("a drone may not mount anything with it"),
        _ => Judgement::Refuse("it gives the drone a device of this server"),
    }
}

/// Judges an IPC mode: whose shared memory a container has.
pub fn ipc(text: &str) -> Judgement {
    match text {
        "private" | "none" => Judgement::Drop("it is Docker's default"),
        _ => Judgement::Refuse(HOST),
    }
}

/// Judges a sysctl, with its value or without: those of the network are a container's own.
pub fn sysctl(text: &str) -> Judgement {
    let name = text.split('=').next().unwrap_or_default();
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.starts_with("net.") && name.chars().all(plain) {
        Judgement::Pass
    } else {
        Judgement::Refuse("it would change the kernel of this server")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_that_stay_inside_the_drone_pass_in_any_spelling() {
        for name in [
            "SYS_PTRACE",
            "cap_sys_ptrace",
            "net_admin",
            "NET_RAW",
            "CAP_CHOWN",
        ] {
            assert_eq!(capability(name), Judgement::Pass, "{name}");
        }
        for name in [
            "ALL",
            "SYS_ADMIN",
            "CAP_SYS_MODULE",
            "SYS_RAWIO",
            "DAC_READ_SEARCH",
            "BPF",
            "SYS_NICE",
            "",
            "NET_ADMIN\nprivileged: true",
        ] {
            assert!(matches!(capability(name), Judgement::Refuse(_)), "{name}");
        }
    }

    #[test]
    fn security_options_never_loosen() {
        assert_eq!(security_opt("no-new-privileges"), Judgement::Pass);
        assert_eq!(security_opt("no-new-privileges:true"), Judgement::Pass);
        for text in ["seccomp=unconfined", "seccomp:unconfined", "label=disable"] {
            assert!(matches!(security_opt(text), Judgement::Drop(_)), "{text}");
        }
        for text in [
            "apparmor=unconfined",
            "seccomp=/etc/x.json",
            "systempaths=unconfined",
            "label=type:x",
            "",
            "no-new-privileges=x",
            "no-new-privileges\n",
        ] {
            assert!(matches!(security_opt(text), Judgement::Refuse(_)), "{text}");
        }
    }

    #[test]
    fn a_platform_is_one_of_dockers() {
        for text in ["linux/amd64", "linux/arm/v7", "arm64"] {
            assert!(is_platform(text), "{text}");
        }
        for text in ["", "linux/c", "linux/vsc-x", "linux/arm/v7/x", "a=b", "$X"] {
            assert!(!is_platform(text), "{text}");
        }
    }

    #[test]
    fn names_have_no_room_for_options() {
        for image in ["ubuntu", "ghcr.io/a/b:1-x@sha256:abc", "localhost:5000/x"] {
            assert!(is_image(image), "{image}");
        }
        for image in [
            "",
            "-v",
            "a b",
            "https://x/y",
            "$X",
            "a\nb",
            "type=local,src=/",
        ] {
            assert!(!is_image(image), "{image}");
        }
        for user in ["node", "1000:1000", "_apt"] {
            assert!(is_user(user), "{user}");
        }
        for user in ["", "-u", "a:b:c", "a b", "root\nprivileged: true"] {
            assert!(!is_user(user), "{user}");
        }
        for text in ["", "a b", "é\"'$`"] {
            assert!(is_one_line(text), "{text:?}");
        }
        for text in [
            "a\nb",
            "a\r",
            "\t",
            "\0",
            "\u{1b}[2J",
            "\u{85}",
            "\u{2028}",
            "\u{2029}",
        ] {
            assert!(!is_one_line(text), "{text:?}");
        }
        for target in ["/a", "/workspaces/x-y.z"] {
            assert!(is_target(target), "{target}");
        }
        for target in ["a", "/a,readonly", "/a:ro", "/../x", "/a\"", "/$x", ""] {
            assert!(!is_target(target), "{target}");
        }
        for target in [
            "/run/hatchery",
            "/var/run/hatchery/x",
            "/run",
            "/",
            "//run/./hatchery",
        ] {
            assert!(is_reserved_target(target), "{target}");
        }
        assert!(!is_reserved_target("/run/postgresql"));
    }
}
