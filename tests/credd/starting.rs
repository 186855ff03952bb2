//! What the daemon does not start with, and how that is told.

use std::process::Command;

use crate::bed::key;
use crate::drone::text;
use crate::process::{Daemon, Server};

#[tokio::test]
async fn the_key_is_the_credential_that_systemd_passes_before_the_configured_one() {
    let server = Server::new().await;
    let configured = std::fs::read_to_string(server.path("config.toml")).unwrap();
    let absent = configured.replace("keys/app.pem", "keys/absent.pem");
    std::fs::write(server.path("config.toml"), absent).unwrap();
    server.refused();
    std::fs::create_dir(server.path("credentials")).unwrap();
    std::fs::copy(key("app-pkcs8.pem"), server.path("credentials/app-key")).unwrap();
    let mut command = server.command();
    command.arg("--socket").arg(server.socket());
    command.env("CREDENTIALS_DIRECTORY", server.path("credentials"));
    let _daemon = server.answering(Daemon(command.spawn().unwrap())).await;
    assert_eq!(server.get("/token").await.status, 200);
}

#[tokio::test]
async fn a_bad_key_is_named_at_start() {
    let server = Server::new().await;
    let good = std::fs::read_to_string(key("app.pem")).unwrap();
    let bad = |name: &str| std::fs::read_to_string(key(name)).unwrap();
    let lines: Vec<&str> = good.lines().collect();
    let configured = std::fs::read_to_string(server.path("config.toml")).unwrap();
    for (what, pem, reason) in [
        (
            "encrypted, old style",
            bad("encrypted-pkcs1.pem"),
            "is encrypted",
        ),
        ("encrypted", bad("encrypted-pkcs8.pem"), "is encrypted"),
        ("EC", bad("ec.pem"), "an EC key"),
        ("EC", bad("ec-pkcs8.pem"), "another algorithm"),
        ("public", bad("public.pem"), "a public key"),
        ("public", bad("public-pkcs1.pem"), "a public key"),
        ("short", bad("small.pem"), "cannot sign"),
        ("cut", good[..good.len() / 2].to_owned(), "cut off"),
        ("cut", lines[..lines.len() - 1].join("\n"), "cut off"),
        (
            "a line lost",
            [&lines[..5], &lines[6..]].concat().join("\n"),
            "damaged",
        ),
        (
            "a character wrong",
            good.replacen("MII", "M!I", 1),
            "damaged",
        ),
        ("empty", String::new(), "is empty"),
        (
            "another text",
            "ghp_0123456789".to_owned(),
            "not a private key",
        ),
    ] {
        std::fs::write(server.path("bad.pem"), pem).unwrap();
        let config = configured.replace(
            &key("app.pem").display().to_string(),
            &server.path("bad.pem").display().to_string(),
        );
        std::fs::write(server.path("config.toml"), config).unwrap();
        let output = server.refused();
        let said = text(&output.stderr);
        assert!(
            said.contains(reason) && said.contains("bad.pem"),
            "{what}: {said}"
        );
        assert!(said.contains("github.private_key_file"), "{what}: {said}");
        assert!(!said.contains("MII"), "{what}: {said}");
    }
}

#[tokio::test]
async fn a_key_that_is_not_there_or_cannot_be_read_is_named_at_start() {
    let server = Server::new().await;
    let configured = std::fs::read_to_string(server.path("config.toml")).unwrap();
    let app = key("app.pem").display().to_string();
    let large = "x".repeat(100_000);
    std::fs::write(server.path("large.pem"), large).unwrap();
    std::fs::write(server.path("bytes.pem"), [0xff, 0xfe, 0x00]).unwrap();
    std::fs::create_dir(server.path("directory.pem")).unwrap();
    for (name, reason) in [
        ("absent.pem", "cannot be opened"),
        ("directory.pem", "cannot be read"),
        ("bytes.pem", "cannot be read"),
        ("large.pem", "is larger than"),
    ] {
        let config = configured.replace(&app, &server.path(name).display().to_string());
        std::fs::write(server.path("config.toml"), config).unwrap();
        let said = text(&server.refused().stderr);
        assert!(said.contains(name) && said.contains(reason), "{said}");
        assert!(said.contains("github.private_key_file"), "{said}");
    }
    let line = configured
        .lines()
        .find(|line| line.starts_with("private_key_file"));
    let config = configured.replace(line.unwrap(), "");
    std::fs::write(server.path("config.toml"), config).unwrap();
    let said = text(&server.refused().stderr);
    assert!(said.contains("github.private_key_file"), "{said}");
}

#[tokio::test]
async fn what_it_cannot_serve_is_a_usage_error() {
    let server = Server::new().await;
    let output = Command::new(env!("CARGO_BIN_EXE_hatchery-credd"))
        .args(["--drone", "acme-site"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("--scope"), "{output:?}");
    let output = server.command().output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("--socket"), "{output:?}");
    for drone in ["acme-theme", "Acme-Site", "../x", ""] {
        let output = server.refused_for(drone);
        assert!(!text(&output.stderr).contains("Usage:"), "{output:?}");
        assert_eq!(output.status.code(), Some(2), "{drone}");
    }
}

#[tokio::test]
async fn a_scope_that_is_none_is_refused() {
    let server = Server::new().await;
    for scope in [
        "",
        "{}",
        r#"{"repositories": []}"#,
        r#"{"repositories": ["acme/site"], "permissions": {}}"#,
        r#"{"repositories": ["acme/site"], "permissions": {"everything": "write"}}"#,
        r#"{"repositories": ["acme/site"], "owner": "acme"}"#,
    ] {
        std::fs::write(server.path("scope.json"), scope).unwrap();
        let output = server.refused();
        assert!(text(&output.stderr).contains("scope.json"), "{output:?}");
    }
}

#[tokio::test]
async fn a_configuration_without_an_app_is_refused() {
    let server = Server::new().await;
    std::fs::write(server.path("config.toml"), "").unwrap();
    let output = server.refused();
    assert!(text(&output.stderr).contains("github.app_id"), "{output:?}");
}

#[tokio::test]
async fn it_takes_only_one_socket() {
    let server = Server::new().await;
    let (status, _, said) = server.activated(2).ended().await;
    assert_eq!(status.code(), Some(2));
    assert!(said.contains("2 sockets were passed"), "{said}");
}
