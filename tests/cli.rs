//! The command line as a script meets it: exit statuses, messages, JSON. Nothing here needs Docker.

use std::path::PathBuf;
use std::process::{Command, Output};

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn config(&self, text: &str) -> PathBuf {
        let path = self.0.path().join("config.toml");
        std::fs::write(&path, text).unwrap();
        path
    }

    fn hatchery(&self, config: &str, args: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_hatchery"))
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.0.path())
            .env("XDG_RUNTIME_DIR", self.0.path())
            .env("HATCHERY_CONFIG", self.config(config))
            .args(args)
            .output()
            .unwrap()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

const AWAY: &str = "[docker]\nhost = \"unix:///nonexistent/docker.sock\"\n";

#[test]
fn every_verb_says_when_docker_is_away() {
    let place = Place::new();
    for args in [
        &["list"][..],
        // Without a tailnet the lines are those of the drones' ports.
        &["ca"],
        &["status", "acme/site"],
        &["spawn", "acme/site"],
        &["ssh", "acme/site"],
        &["exec", "acme/site", "--", "true"],
        &["logs", "acme/site"],
        &["cp", "acme/site:README.md", "."],
        &["ssh-config"],
        &["ports", "acme/site"],
        &["open", "acme/site"],
        &["burrow", "acme/site"],
        &["unburrow", "acme/site"],
        &["rebuild", "acme/site"],
        &["slay", "acme/site"],
    ] {
        let output = place.hatchery(AWAY, args);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {said}");
        assert!(
            said.contains("no Docker daemon answers at unix:///nonexistent/docker.sock"),
            "{said}"
        );
        assert!(
            said.contains("[docker-away]") && said.contains("  -> "),
            "{said}"
        );
        assert!(output.stdout.is_empty(), "errors are no result");
    }
}

#[test]
fn the_doctor_goes_on_without_docker() {
    let place = Place::new();
    let output = place.hatchery(AWAY, &["doctor", "--json"]);
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{found}");
    assert_eq!(found["ok"], false);
    let check = |name: &str| {
        let checks = found["checks"].as_array().unwrap();
        checks.iter().find(|check| check["name"] == name).cloned()
    };
    let docker = check("docker").unwrap();
    assert_eq!(docker["state"], "problem");
    assert!(docker["hint"].as_str().unwrap().contains("systemctl start"));
    assert_eq!(check("git").unwrap()["state"], "ok");
    assert_eq!(check("containers").unwrap()["state"], "skipped");
    assert_eq!(check("headscale").unwrap()["state"], "skipped");
}

#[test]
fn what_is_no_repository_is_a_usage_error() {
    let place = Place::new();
    for verb in ["spawn", "status", "burrow", "unburrow", "rebuild", "slay"] {
        for repo in [
            "Acme",
            "acme/site/tree",
            "https://example.com/acme/site",
            "git@example.com:acme/site.git",
            "../..",
            "http://github.com/acme/site",
        ] {
            let output = place.hatchery(AWAY, &[verb, repo]);
            let said = text(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{verb} {repo}: {said}");
            assert!(said.contains("[repository-malformed]"), "{said}");
        }
    }
}

#[test]
fn a_drones_name_is_taken_where_there_must_be_one() {
    let place = Place::new();
    for (args, code) in [
        (&["status", "acme-site"][..], "docker-away"),
        (&["burrow", "acme-site"], "docker-away"),
        (&["unburrow", "acme-site"], "docker-away"),
        (&["slay", "acme-site"], "docker-away"),
        (&["spawn", "acme-site"], "repository-malformed"),
        (&["status", "Acme-Site"], "repository-malformed"),
        (&["status", "acme_site"], "repository-malformed"),
        (&["audit", "acme--site"], "repository-malformed"),
    ] {
        let output = place.hatchery(AWAY, &[args, &["--json"]].concat());
        let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(value["error"]["code"], code, "{args:?}: {value}");
    }
}

#[test]
fn errors_are_json_where_that_was_asked_for() {
    let place = Place::new();
    for (args, code, status) in [
        (&["list", "--json"][..], "docker-away", 1),
        (&["--json", "spawn", "acme"], "repository-malformed", 2),
        (&["--json", "hatch"], "usage", 2),
        (&["spawn", "--json"], "usage", 2),
        (&["--json", "exec", "acme/site"], "usage", 2),
        // Of a command's own arguments none is hatchery's.
        (
            &["--json", "exec", "x", "--", "true", "--help"],
            "docker-away",
            1,
        ),
    ] {
        let output = place.hatchery(AWAY, args);
        let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(value["error"]["code"], code, "{args:?}");
        assert!(
            value["error"]["message"]
                .as_str()
                .is_some_and(|text| !text.is_empty())
        );
        assert!(
            value["error"]["hint"]
                .as_str()
                .is_some_and(|text| !text.is_empty())
        );
        assert_eq!(output.status.code(), Some(status), "{args:?}");
    }
}

#[test]
fn a_mistake_in_the_configuration_is_named_with_its_line() {
    let place = Place::new();
    let output = place.hatchery("[limits]\ndrones = 3\nmemry = \"1GiB\"\n", &["list"]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.contains("config.toml:3: ") && said.contains("memry"),
        "{said}"
    );

    let output = Command::new(env!("CARGO_BIN_EXE_hatchery"))
        .args(["--config", "/nonexistent.toml", "list"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("/nonexistent.toml"));
}

#[test]
fn what_is_in_force_can_be_read_back_and_holds_no_secret() {
    let place = Place::new();
    let secret = place.0.path().join("key");
    std::fs::write(&secret, "hskey-0123456789").unwrap();
    let config = format!(
        "[tailnet]\nlogin_server = \"https://h.example\"\ndomain = \"t.example\"\nauth_key_file = {secret:?}\n"
    );
    let output = place.hatchery(&config, &["config"]);
    let printed = text(&output.stdout);
    assert!(output.status.success());
    assert!(printed.contains("domain = \"t.example\"") && !printed.contains("hskey"));
    let again = place.hatchery(&printed, &["config"]);
    assert_eq!(text(&again.stdout), printed);
    assert!(
        place
            .hatchery(&config, &["config", "--check", "--secrets"])
            .status
            .success()
    );

    std::fs::remove_file(&secret).unwrap();
    let output = place.hatchery(&config, &["config", "--check", "--secrets"]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said.contains("[secret-unreadable]") && said.contains("tailnet.auth_key_file"),
        "{said}"
    );
}

#[test]
fn the_apps_key_may_be_a_credential_that_the_configuration_does_not_name() {
    let place = Place::new();
    let config = "[github]\napp_id = \"1\"\n";
    let output = place.hatchery(config, &["config", "--check", "--secrets"]);
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("credential app-key"), "{said}");
}

#[test]
fn nothing_that_is_said_speaks_to_the_terminal() {
    let place = Place::new();
    let hostile = "/no\u{1b}[31m\u{9b}1m\u{7}\u{202e}\u{2066}\u{200b}\r\nwarning: all is lost";
    let spoken: [&[&str]; 4] = [
        &["--config", hostile, "list"],
        &["spawn", hostile],
        &["spawn", "acme/site", "--permission", hostile],
        &[hostile],
    ];
    for args in spoken {
        for json in [&[][..], &["--json"]] {
            let output = place.hatchery(AWAY, &[args, json].concat());
            let said = text(&output.stdout) + &text(&output.stderr);
            let harmful = |c: char| {
                (c.is_control() && c != '\n')
                    || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
            };
            assert!(
                !said.is_empty() && !said.contains(harmful),
                "{args:?}: {said:?}"
            );
        }
    }
    let said = text(&place.hatchery(AWAY, &["--config", hostile, "list"]).stderr);
    assert!(!said.contains("\nwarning"), "{said}");
}

#[test]
fn what_a_spawn_has_said_needs_no_docker_and_may_be_nothing() {
    let place = Place::new();
    let output = place.hatchery(AWAY, &["logs", "--spawn", "acme/never-spawned", "--json"]);
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(3), "{value}");
    assert_eq!(value["error"]["code"], "drone-not-found");
}

#[test]
fn help_names_every_verb_and_completions_know_them() {
    let place = Place::new();
    let help = text(&place.hatchery("", &["--help"]).stdout);
    let completions = Command::new(env!("CARGO_BIN_EXE_hatchery"))
        .env("HATCHERY_COMPLETE", "bash")
        .env("_CLAP_COMPLETE_INDEX", "1")
        .env("_CLAP_IFS", "\n")
        .args(["--", "hatchery", ""])
        .output()
        .unwrap();
    let completions = text(&completions.stdout);
    for verb in [
        "spawn",
        "check",
        "list",
        "status",
        "ssh",
        "ssh-config",
        "cp",
        "ports",
        "open",
        "exec",
        "logs",
        "burrow",
        "unburrow",
        "rebuild",
        "slay",
        "doctor",
        "ca",
        "config",
        "completions",
    ] {
        assert!(
            help.contains(&format!("\n  {verb} ")),
            "{verb} is not in:\n{help}"
        );
        assert!(
            completions.lines().any(|line| line == verb),
            "{completions}"
        );
    }
    assert!(help.contains("Exit status"));
}

#[test]
fn an_empty_line_for_the_authority_is_never_printed() {
    let place = Place::new();
    let config = "[tailnet]\nlogin_server = \"https://hs.example.org\"\ndomain = \"t.example.org\"\n\
                  auth_key_file = \"/nonexistent\"\n";
    let output = place.hatchery(config, &["ca", "--json"]);
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let line = value["known_hosts"].as_str().unwrap();
    assert!(
        line.starts_with("@cert-authority ") && line.contains(" ssh-ed25519 "),
        "{line}"
    );
    let again = place.hatchery(config, &["ca"]);
    assert_eq!(
        text(&again.stdout).trim_end(),
        line,
        "the authority must not change"
    );
}
