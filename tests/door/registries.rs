//! Private images: this server's login, for those whose the images are.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE;
use hatchery::config::Config;
use serde_json::{Value, json};

use crate::{Bed, MASKED, POOL, server};

const PULL: &str = "/v1.41/images/create?fromImage=ghcr.io%2Facme%2Fbase&tag=1";
const CREATE: &str = "/v1.41/containers/create?name=acme-site";

/// A door of acme/site, where these repositories may use the images of `ghcr.io/acme`. The file with the
/// password goes with the second.
fn bed(trusted: bool, repositories: &str) -> (Bed, tempfile::NamedTempFile) {
    let password = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(password.path(), "hunter2\n").unwrap();
    let text = format!(
        "[registries.\"ghcr.io/acme\"]\nusername = \"dev\"\npassword_file = \"{}\"\nrepositories = [{repositories}]\n",
        password.path().display()
    );
    let config = Config::parse(&text, std::path::Path::new("c.toml")).unwrap();
    let host =
        json!({"NetworkMode": "none", "MaskedPaths": MASKED, "ReadonlyPaths": crate::LOCKED});
    let bed = Bed::configured(&host, trusted, false, POOL, config.registries).unwrap();
    (bed, password)
}

/// Asks for a pull as docker's command does, with a login of its own.
async fn pull(bed: &Bed, target: &str) {
    let asked = format!(
        "POST {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 0\r\nx-registry-auth: \
         e30=\r\n\r\n"
    );
    let answer = server::exchange(&bed.socket(), asked.as_bytes()).await;
    assert!(
        answer.starts_with(b"HTTP/1.1 200 "),
        "{}",
        String::from_utf8_lossy(&answer)
    );
}

fn container(image: &str) -> Value {
    json!({"Image": image, "HostConfig": {"NetworkMode": "none"}})
}

#[tokio::test]
async fn a_pull_has_this_servers_login_and_never_the_clients() {
    for trusted in [false, true] {
        let (bed, _password) = bed(trusted, "\"acme/*\"");
        pull(&bed, PULL).await;
        let logins = bed.docker.logins();
        let [login] = logins.as_slice() else {
            panic!("{logins:?}");
        };
        let login: Value = serde_json::from_slice(&URL_SAFE.decode(login).unwrap()).unwrap();
        let expected =
            json!({"username": "dev", "password": "hunter2", "serveraddress": "ghcr.io"});
        assert_eq!(login, expected);
    }
    // It is used for what the entry names alone.
    let (bed, _password) = bed(false, "\"acme/*\"");
    pull(
        &bed,
        "/v1.41/images/create?fromImage=ghcr.io%2Fothers%2Fbase&tag=1",
    )
    .await;
    assert_eq!(bed.docker.logins(), [""; 0]);
}

#[tokio::test]
async fn one_that_is_not_named_pulls_none_trusted_or_not() {
    for trusted in [false, true] {
        let (mut bed, _password) = bed(trusted, "\"acme/other\"");
        let socket = bed.socket();
        let asking = tokio::spawn(async move {
            crate::ask(&socket, "POST", PULL, &json!({})).await;
        });
        let said = bed.refused().await;
        assert!(said.contains("ghcr.io/acme/base:1"), "{said}");
        assert!(
            said.contains("does not name acme/site") && !said.contains("hunter2"),
            "{said}"
        );
        assert_eq!(bed.docker.asked(), [""; 0]);
        asking.abort();
    }
}

#[tokio::test]
async fn an_image_that_is_there_is_not_its_to_use_by_any_name() {
    let (other, _password) = bed(false, "\"acme/other\"");
    for image in ["ghcr.io/acme/base:1", "sha256:9999"] {
        let (status, _) = other.ask("POST", CREATE, &container(image)).await;
        assert_eq!(status, 404, "{image}");
        let target = format!("/v1.41/images/{image}/json");
        assert_eq!(
            other.ask("GET", &target, &Value::Null).await.0,
            404,
            "{image}"
        );
        let target = format!("/v1.41/images/{image}/tag?repo=vsc-site-0123&tag=latest");
        assert_eq!(
            other.ask("POST", &target, &json!({})).await.0,
            404,
            "{image}"
        );
    }
    // What has a public name too is anyone's.
    assert_eq!(
        other
            .ask("GET", "/v1.41/images/mirrored/json", &Value::Null)
            .await
            .0,
        200
    );
    let (_, seen) = other.ask("GET", "/v1.41/images/json", &Value::Null).await;
    assert_eq!(seen.as_array().unwrap().len(), 1, "{seen}");

    let (own, _password) = bed(false, "\"acme/site\"");
    for image in ["ghcr.io/acme/base:1", "sha256:9999"] {
        let target = format!("/v1.41/images/{image}/json");
        assert_eq!(
            own.ask("GET", &target, &Value::Null).await.0,
            200,
            "{image}"
        );
    }
    let (_, seen) = own.ask("GET", "/v1.41/images/json", &Value::Null).await;
    assert_eq!(seen.as_array().unwrap().len(), 3, "{seen}");
}

#[tokio::test]
async fn a_password_that_cannot_be_read_ends_the_spawn() {
    let (mut bed, password) = bed(false, "\"acme/site\"");
    drop(password);
    let socket = bed.socket();
    let asking = tokio::spawn(async move {
        crate::ask(&socket, "POST", PULL, &json!({})).await;
    });
    let said = bed.refused().await;
    assert!(
        said.contains("registries.\"ghcr.io/acme\".password_file"),
        "{said}"
    );
    asking.abort();
}
