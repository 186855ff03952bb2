//! The `gh` wrapper in a drone, before a real `gh` that records what it is given.

use std::process::Output;

use crate::drone::{Drone, TOKEN, fed, http, refusal, text};

const REAL: &str = "#!/bin/sh\nenv >\"$HOME/environment\"\nprintf '%s\\n' \"$0\" \"$@\" >\"$HOME/arguments\"\ncat\nexit 7\n";

struct Run {
    output: Output,
    environment: String,
    arguments: String,
}

impl Run {
    fn variable(&self, name: &str) -> Option<&str> {
        let start = format!("{name}=");
        self.environment
            .lines()
            .find_map(|line| line.strip_prefix(start.as_str()))
    }
}

/// Runs `gh` in the drone with a real one behind it.
fn gh(drone: &Drone, arguments: &[&str], environment: &[(&str, &str)]) -> Run {
    drone.script("usr/bin/gh", REAL);
    let mut command = drone.command(drone.program("usr/local/bin/gh"));
    command.args(arguments).envs(environment.iter().copied());
    let output = fed(&mut command, b"input");
    let read = |name: &str| {
        std::fs::read_to_string(drone.path().join("home").join(name)).unwrap_or_default()
    };
    Run {
        output,
        environment: read("environment"),
        arguments: read("arguments"),
    }
}

fn enterprise() -> Drone {
    let body = format!(r#"{{"token":"{TOKEN}","expires_at":"2026-01-01T01:00:00Z"}}"#);
    Drone::answering("https://ghe.corp.example", &http(200, &body))
}

#[test]
fn the_real_gh_gets_the_token_and_takes_over() {
    let drone = Drone::new();
    let run = gh(&drone, &["pr", "list", "--json", "a b"], &[]);
    assert_eq!(run.variable("GH_TOKEN"), Some(TOKEN));
    assert_eq!(run.variable("GH_HOST"), None);
    assert!(
        run.arguments.ends_with("gh\npr\nlist\n--json\na b\n"),
        "{}",
        run.arguments
    );
    assert_eq!(
        (run.output.status.code(), text(&run.output.stdout)),
        (Some(7), "input".to_owned())
    );
    assert!(run.output.stderr.is_empty());
    assert!(drone.requests()[0].starts_with("GET /token HTTP/1.1\r\n"));
    let arguments_of_all = text(&run.output.stderr) + &run.arguments;
    assert!(!arguments_of_all.contains(&TOKEN[..12]));
}

#[test]
fn gh_path_is_the_wrapper() {
    let drone = Drone::new();
    let wrapper = drone.program("usr/local/bin/gh").display().to_string();
    assert_eq!(
        gh(&drone, &["version"], &[]).variable("GH_PATH"),
        Some(wrapper.as_str())
    );
    drone.script("usr/bin/gh", REAL);
    for program in ["sh", "/bin/sh"] {
        fed(drone.command(program).args(["-c", "gh version"]), b"");
        let environment = std::fs::read_to_string(drone.path().join("home/environment")).unwrap();
        assert!(
            environment.contains(&format!("GH_PATH={wrapper}\n")),
            "{environment}"
        );
    }
}

#[test]
fn what_gh_writes_into_gits_configuration_comes_back_here() {
    let drone = Drone::new();
    drone.script("usr/bin/gh", REAL);
    let config = format!(
        "[credential \"https://github.com\"]\nhelper=\nhelper=!{} auth git-credential\nuseHttpPath=true\n",
        drone.program("usr/local/bin/gh").display()
    );
    std::fs::write(drone.path().join("home/.gitconfig"), config).unwrap();
    let output = fed(
        drone.command("git").args(["credential", "fill"]),
        b"url=https://github.com/acme/theme\n\n",
    );
    assert!(text(&output.stdout).contains(TOKEN));
    assert!(drone.requests()[0].contains("repo=acme/theme "));
    let output = fed(
        drone.command("git").args(["credential", "fill"]),
        b"url=https://github.com/acme/secret\n\n",
    );
    assert!(!text(&output.stdout).contains(TOKEN));
}

#[test]
fn an_enterprise_server_has_its_own_variables() {
    let run = gh(&enterprise(), &["pr", "list"], &[]);
    assert_eq!(run.variable("GH_ENTERPRISE_TOKEN"), Some(TOKEN));
    assert_eq!(run.variable("GH_HOST"), Some("ghe.corp.example"));
    assert_eq!(run.variable("GH_TOKEN"), None);
}

#[test]
fn an_enterprise_servers_token_is_not_given_for_another_host() {
    for arguments in [
        ["api", "--hostname", "evil.example"],
        ["api", "--hostname=evil.example", "x"],
        ["pr", "-R", "evil.example/acme/site"],
        ["pr", "--repo=https://evil.example/acme/site", "x"],
    ] {
        let run = gh(&enterprise(), &arguments, &[]);
        assert_eq!(run.variable("GH_ENTERPRISE_TOKEN"), None, "{arguments:?}");
    }
    let run = gh(&enterprise(), &["api"], &[("GH_HOST", "evil.example")]);
    assert_eq!(run.variable("GH_ENTERPRISE_TOKEN"), None);
    let run = gh(
        &enterprise(),
        &["pr", "-R", "ghe.corp.example/acme/site"],
        &[],
    );
    assert_eq!(run.variable("GH_ENTERPRISE_TOKEN"), Some(TOKEN));
}

#[test]
fn a_token_that_is_set_already_is_respected() {
    let drone = Drone::new();
    let run = gh(&drone, &["pr"], &[("GH_TOKEN", "mine")]);
    assert_eq!(run.variable("GH_TOKEN"), Some("mine"));
    assert!(drone.requests().is_empty());
    assert_eq!(
        gh(&drone, &["pr"], &[("GH_TOKEN", "")]).variable("GH_TOKEN"),
        Some(TOKEN)
    );
}

#[test]
fn without_a_token_it_says_so_and_runs_gh_all_the_same() {
    for drone in [
        Drone::without_socket("https://github.com"),
        Drone::answering("https://github.com", &refusal(503, "GitHub is unavailable")),
    ] {
        let run = gh(&drone, &["--version"], &[]);
        assert_eq!(run.variable("GH_TOKEN"), None);
        assert_eq!(run.output.status.code(), Some(7));
        assert!(
            text(&run.output.stderr).contains("no GitHub token"),
            "{:?}",
            run.output
        );
    }
}

#[test]
fn without_a_real_gh_it_says_how_to_add_it() {
    let drone = Drone::new();
    let mut command = drone.command(drone.program("usr/local/bin/gh"));
    // The machine that tests may have a real one.
    let path = format!(
        "{0}/usr/local/bin:{0}/usr/local/bin/../bin:relative:",
        drone.path().display()
    );
    let output = fed(command.env("PATH", path).arg("pr"), b"");
    assert_eq!(output.status.code(), Some(127));
    assert!(
        text(&output.stderr).contains("features/github-cli"),
        "{output:?}"
    );
    assert!(drone.requests().is_empty());
}

#[test]
fn the_real_gh_is_the_one_behind_the_wrapper() {
    let drone = Drone::new();
    std::fs::create_dir(drone.path().join("before")).unwrap();
    drone.script("before/gh", "#!/bin/sh\necho before\n");
    drone.script("usr/bin/gh", "#!/bin/sh\necho behind\n");
    let at = drone.path().display();
    let path = format!("{at}/before:{at}/usr/local/bin:{at}/usr/bin:/usr/bin:/bin");
    let mut command = drone.command(drone.program("usr/local/bin/gh"));
    assert_eq!(
        text(&fed(command.env("PATH", path), b"").stdout),
        "behind\n"
    );
    let path = format!("{at}/usr/local/bin:{at}/usr/bin:{at}/usr/local/bin");
    let mut command = drone.command(drone.program("usr/local/bin/gh"));
    assert_eq!(
        text(&fed(command.env("PATH", path), b"").stdout),
        "behind\n"
    );
}

#[test]
fn two_copies_of_the_wrapper_do_not_call_each_other_for_ever() {
    let drone = Drone::new();
    std::fs::create_dir(drone.path().join("copy")).unwrap();
    std::fs::copy(
        env!("CARGO_BIN_EXE_hatchery-drone"),
        drone.path().join("copy/gh"),
    )
    .unwrap();
    let at = drone.path().display();
    let path = format!("{at}/copy:{at}/usr/local/bin:{at}/copy");
    for first in ["copy/gh", "usr/local/bin/gh"] {
        let mut command = drone.command(drone.program(first));
        let output = fed(command.env("PATH", &path), b"");
        assert_eq!(output.status.code(), Some(127), "{first}");
    }
}

#[test]
fn setup_git_and_login_are_answered_with_a_word() {
    let drone = Drone::new();
    for arguments in [
        &["auth", "setup-git"][..],
        &["auth", "setup-git", "--hostname", "github.com"],
        &["auth", "login"],
        &["auth", "login", "--with-token"],
    ] {
        let run = gh(&drone, arguments, &[]);
        assert!(run.output.status.success());
        assert!(
            text(&run.output.stdout).contains("not needed"),
            "{:?}",
            run.output
        );
        assert_eq!(run.arguments, "", "the real gh ran");
    }
    let config = drone.path().join("home/.gitconfig");
    assert!(!config.exists());
    assert_eq!(
        gh(&drone, &["auth", "status"], &[]).variable("GH_TOKEN"),
        Some(TOKEN)
    );
}
