//! The git credential helper in a drone.

use crate::drone::{Drone, TOKEN, fed, http, refusal, text};

const EXPECTED: &str = "password_expiry_utc=1767229200\n";

/// Nothing on stdout, exit 0, and the socket was not asked.
#[track_caller]
fn silent(drone: &Drone, operation: &str, question: &[u8]) {
    let output = drone.helper(operation, question);
    let question = text(question);
    assert_eq!(text(&output.stdout), "", "{question:?}");
    assert_eq!(text(&output.stderr), "", "{question:?}");
    assert!(output.status.success(), "{question:?}");
    assert!(drone.requests().is_empty(), "{question:?}");
}

/// Nothing on stdout, one line on stderr.
#[track_caller]
fn complaint(drone: &Drone, question: &str) -> String {
    let output = drone.helper("get", question.as_bytes());
    assert_eq!(text(&output.stdout), "", "{question:?}");
    let said = text(&output.stderr);
    assert_eq!(said.matches('\n').count(), 1, "{said:?}");
    said
}

#[test]
fn it_answers_for_the_drones_repositories_with_the_tokens_expiry() {
    for (path, asked) in [
        ("acme/site", "/token?repo=acme/site"),
        ("acme/site.git", "/token?repo=acme/site"),
        ("ACME/Theme", "/token?repo=ACME/Theme"),
        ("acme/site/", "/token?repo=acme/site"),
        ("acme/site.git/info/lfs", "/token?repo=acme/site"),
        ("acme/site/info/lfs/objects/batch", "/token?repo=acme/site"),
        (
            "acme/site.git/info/lfs/locks/verify",
            "/token?repo=acme/site",
        ),
    ] {
        let drone = Drone::new();
        let question = format!("protocol=https\nhost=github.com\npath={path}\nwwwauth[]=Basic\n\n");
        let output = drone.helper("get", question.as_bytes());
        assert_eq!(
            text(&output.stdout),
            format!("username=x-access-token\npassword={TOKEN}\n{EXPECTED}"),
            "{path}"
        );
        assert!(output.status.success() && output.stderr.is_empty());
        let requests = drone.requests();
        assert!(
            requests[0].starts_with(&format!("GET {asked} HTTP/1.1\r\n")),
            "{requests:?}"
        );
    }
}

#[test]
fn without_a_path_the_own_owners_token_is_meant() {
    for question in [
        "protocol=https\nhost=github.com\n",
        "protocol=https\nhost=github.com\npath=\n\n",
    ] {
        let drone = Drone::new();
        assert!(text(&drone.helper("get", question.as_bytes()).stdout).contains(TOKEN));
        assert!(drone.requests()[0].starts_with("GET /token HTTP/1.1\r\n"));
    }
}

#[test]
fn the_host_is_the_configured_one_in_any_case_and_with_its_default_port() {
    for (url, host, answered) in [
        ("https://github.com", "github.com", true),
        ("https://github.com", "GitHub.com", true),
        ("https://github.com", "github.com:443", true),
        ("https://github.com/", "github.com", true),
        ("https://GitHub.com:443", "github.com", true),
        ("https://ghe.corp.example", "ghe.corp.example", true),
        (
            "https://ghe.corp.example:8443",
            "ghe.corp.example:8443",
            true,
        ),
        ("https://ghe.corp.example:8443", "ghe.corp.example", false),
        ("https://ghe.corp.example", "github.com", false),
        ("https://github.com", "github.com:8443", false),
        ("https://github.com", "github.com:443:443", false),
        ("https://github.com", "github.com.evil.example", false),
        ("https://github.com", "evil.example/github.com", false),
        ("https://github.com", "user@github.com", false),
        ("https://github.com", "gist.github.com", false),
        ("https://github.com", " github.com", false),
        ("https://github.com", "github.com\u{0}", false),
        ("https://github.com", "", false),
    ] {
        let body = format!(r#"{{"token":"{TOKEN}","expires_at":"2026-01-01T01:00:00Z"}}"#);
        let drone = Drone::answering(url, &http(200, &body));
        let question = format!("protocol=https\nhost={host}\npath=acme/site\n\n");
        let output = drone.helper("get", question.as_bytes());
        assert_eq!(
            text(&output.stdout).contains(TOKEN),
            answered,
            "{host} for {url}"
        );
        assert_eq!(
            drone.requests().len(),
            usize::from(answered),
            "{host} for {url}"
        );
    }
}

#[test]
fn a_control_character_anywhere_makes_it_no_question() {
    let drone = Drone::new();
    let usual = "protocol=https\nhost=github.com\npath=acme/site\nwwwauth[]=Basic\n\n";
    for control in ["\r", "\0", "\t", "\u{1b}", "\u{7f}", "\u{85}"] {
        for (at, _) in usual.char_indices() {
            let (before, behind) = usual.split_at(at);
            silent(
                &drone,
                "get",
                format!("{before}{control}{behind}").as_bytes(),
            );
        }
    }
    silent(&drone, "get", usual.replace('\n', "\r\n").as_bytes());
}

#[test]
fn it_answers_only_https() {
    let drone = Drone::new();
    for protocol in ["http", "ssh", "git", "HTTPS", "file", "https ", ""] {
        let question = format!("protocol={protocol}\nhost=github.com\npath=acme/site\n\n");
        silent(&drone, "get", question.as_bytes());
    }
}

#[test]
fn store_erase_and_unknown_operations_do_nothing() {
    let drone = Drone::new();
    for operation in [
        "store",
        "erase",
        "capability",
        "fill",
        "",
        "--help",
        "get\n",
    ] {
        silent(
            &drone,
            operation,
            b"protocol=https\nhost=github.com\npath=acme/site\n\n",
        );
    }
}

#[test]
fn a_foreign_or_malformed_question_is_left_unanswered() {
    let drone = Drone::new();
    let long = format!(
        "protocol=https\nhost=github.com\nx={}\n\n",
        "x".repeat(300_000)
    );
    let endless = "x".repeat(400_000);
    for question in [
        "",
        "\n",
        "protocol=https\n\n",
        "host=github.com\n\n",
        "protocol=https\nhost=evil.example\n\n",
        "protocol=http\nhost=127.0.0.1:9999\npath=x\n\n",
        "protocol=https\nhost=github.com\nhost=evil.example\n\n",
        "protocol=https\nprotocol=http\nhost=github.com\n\n",
        "protocol=https\nhost=github.com\npath=acme/site\npath=acme/theme\n\n",
        "protocol=https\nhost=github.com\npath=acme\n\n",
        "protocol=https\nhost=github.com\npath=acme/site/tree/main\n\n",
        "protocol=https\nhost=github.com\npath=acme/../acme/site\n\n",
        "protocol=https\nhost=github.com\npath=acme/%2e%2e\n\n",
        "protocol=https\nhost=github.com\npath=acme/site?x\n\n",
        "protocol=https\nhost\n\n",
        "url=https://github.com/acme/site\n\n",
        "get\n",
        "\u{0}\u{0}\n",
        &long,
        &endless,
    ] {
        silent(&drone, "get", question.as_bytes());
    }
    silent(
        &drone,
        "get",
        b"protocol=https\nhost=github.com\npath=\xff\xfe/x\n\n",
    );
}

#[test]
fn out_of_scope_is_one_line_that_a_person_can_act_on() {
    let drone = Drone::new();
    let said = complaint(
        &drone,
        "protocol=https\nhost=github.com\npath=acme/secret.git\n\n",
    );
    assert!(
        said.contains("acme/secret") && said.contains("--repo acme/secret"),
        "{said}"
    );
    assert!(drone.requests().is_empty());
}

#[test]
fn a_refusal_of_the_socket_is_told_in_one_line() {
    let question = "protocol=https\nhost=github.com\npath=acme/site\n\n";
    let drone = Drone::answering(
        "https://github.com",
        &refusal(502, r"GitHub refuses (403):\nsuspended\u001b[2J"),
    );
    let said = complaint(&drone, question);
    assert!(
        said.contains("GitHub refuses (403): suspended") && !said.contains('\u{1b}'),
        "{said:?}"
    );
    for answer in [
        "",
        "HTTP/1.1 200 OK\r\n\r\n",
        "garbage",
        &http(200, "[]"),
        &http(200, r#"{"token":""}"#),
        &http(200, "{\"token\":\"a\\npassword=b\",\"expires_at\":\"x\"}"),
        &http(503, "busy"),
        &http(200, &"x".repeat(2_000_000)),
        &format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(100)),
    ] {
        complaint(&Drone::answering("https://github.com", answer), question);
    }
}

#[test]
fn an_absent_socket_or_place_is_told_in_one_line() {
    let question = "protocol=https\nhost=github.com\npath=acme/site\n\n";
    let drone = Drone::without_socket("https://github.com");
    let said = complaint(&drone, question);
    assert!(said.contains("github-creds.sock"), "{said}");
    for known in [
        "",
        "{}",
        "[",
        r#"{"url": "http://github.com", "repositories": []}"#,
        r#"{"url": "https://", "repositories": []}"#,
    ] {
        std::fs::write(drone.run().join("drone.json"), known).unwrap();
        complaint(&drone, question);
    }
    std::fs::remove_file(drone.run().join("drone.json")).unwrap();
    complaint(&drone, question);
}

#[test]
fn a_socket_that_never_answers_is_waited_for_a_bounded_time() {
    let drone = Drone::without_socket("https://github.com");
    let listener =
        std::os::unix::net::UnixListener::bind(drone.run().join("github-creds.sock")).unwrap();
    let begin = std::time::Instant::now();
    let said = complaint(&drone, "protocol=https\nhost=github.com\n\n");
    assert!(said.contains("no answer within 20 s"), "{said}");
    assert!((19..24).contains(&begin.elapsed().as_secs()));
    drop(listener);
}

#[test]
fn it_is_also_a_subcommand() {
    let drone = Drone::new();
    let mut command = drone.command(env!("CARGO_BIN_EXE_hatchery-drone"));
    let output = fed(
        command.args(["git-credential", "get"]),
        b"protocol=https\nhost=github.com\n\n",
    );
    assert!(text(&output.stdout).contains(TOKEN));
    let output = fed(
        &mut drone.command(env!("CARGO_BIN_EXE_hatchery-drone")),
        b"",
    );
    assert_eq!(output.status.code(), Some(2));
}

/// Git's own configuration in a drone, as the server writes it.
const CONFIG: &str = r#"
[credential "https://github.com"]
    helper = hatchery
    useHttpPath = true
[url "https://github.com/"]
    insteadOf = git@github.com:
"#;

/// What real git has to say to a question in the drone.
fn git_fill(drone: &Drone, question: &str) -> std::process::Output {
    std::fs::write(drone.path().join("home/.gitconfig"), CONFIG).unwrap();
    fed(
        drone.command("git").args(["credential", "fill"]),
        question.as_bytes(),
    )
}

#[test]
fn real_git_gets_the_token() {
    let drone = Drone::new();
    let output = git_fill(&drone, "url=https://github.com/acme/site.git\n\n");
    let said = text(&output.stdout);
    assert!(
        said.contains("username=x-access-token\n") && said.contains(&format!("password={TOKEN}\n")),
        "{said}"
    );
    assert!(drone.requests()[0].contains("repo=acme/site "));
}

#[test]
fn real_git_gets_nothing_for_a_foreign_host() {
    let drone = Drone::new();
    for url in [
        "https://evil.example/acme/site",
        "http://127.0.0.1:9999/x",
        "http://github.com/acme/site",
    ] {
        let output = git_fill(&drone, &format!("url={url}\n\n"));
        assert!(!output.status.success());
        assert!(!text(&output.stdout).contains(TOKEN));
    }
    assert!(drone.requests().is_empty());
}

#[test]
fn real_git_stores_and_erases_nothing() {
    let drone = Drone::new();
    git_fill(&drone, "url=https://github.com/acme/site\n\n");
    for verb in ["approve", "reject"] {
        let question = format!(
            "protocol=https\nhost=github.com\npath=acme/site\nusername=x\npassword={TOKEN}\n\n"
        );
        fed(
            drone.command("git").args(["credential", verb]),
            question.as_bytes(),
        );
    }
    assert_eq!(drone.requests().len(), 1);
    let home: Vec<_> = std::fs::read_dir(drone.path().join("home"))
        .unwrap()
        .collect();
    assert_eq!(home.len(), 1, "{home:?}");
}
