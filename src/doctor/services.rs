//! The services that hatchery asks: Headscale, GitHub, the drones' own sockets.

use std::path::Path;
use std::time::Duration;

use reqwest::Certificate;

use super::Finding;
use crate::config::{Config, Github, Tailnet};
use crate::credd::daemon::APP_KEY;
use crate::docker::{Docker, Drone, Life, Login};
use crate::error::{Code, Error, Result, host_io};
use crate::host::Places;
use crate::http;
use crate::life::furnish;
use crate::secret::Secret;
use crate::sockets::systemd::{PREFIX, Systemd};
use crate::ssh::authorized;
use crate::tailnet::Headscale;

/// How long a service may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

pub(super) async fn findings(
    config: &Config,
    places: &Places,
    docker: Option<&Docker>,
) -> Vec<Finding> {
    let (headscale, github, keys, sockets) = tokio::join!(
        async {
            match &config.tailnet {
                Some(tailnet) => Finding::of("headscale", headscale(tailnet).await),
                None => Finding::skipped(
                    "headscale",
                    "no tailnet is configured; drones listen on loopback ports of this server",
                ),
            }
        },
        async { Finding::of("github", github(&config.github).await) },
        async { Finding::of("ssh-keys", keys(config).await) },
        sockets(config, places, docker),
    );
    vec![headscale, github, registries(config), keys, sockets]
}

async fn headscale(tailnet: &Tailnet) -> Result<String> {
    let server = &tailnet.login_server;
    if let Some(file) = &tailnet.auth_key_file {
        Secret::read(file, "tailnet.auth_key_file")?;
    }
    if let Some(headscale) = Headscale::new(tailnet)? {
        let nodes = headscale.nodes().await?.len();
        return Ok(format!(
            "{server} accepts the API key and has {nodes} nodes"
        ));
    }
    let away = |what: String| {
        Error::new(Code::TailnetAway, format!("{server} {what}"))
            .hint("check tailnet.login_server, and that Headscale is running")
    };
    let client = http::client(ANSWER_WITHIN, reqwest::redirect::Policy::none())?;
    let mut url = server.clone();
    url.set_path(&format!("{}/health", url.path().trim_end_matches('/')));
    let answer = client
        .get(url)
        .send()
        .await
        .map_err(|error| away("does not answer".to_owned()).because(error.without_url()))?;
    if !answer.status().is_success() {
        return Err(away(format!("answers {}", answer.status())));
    }
    Ok(format!(
        "{server} answers; the next spawn will test the auth key"
    ))
}

/// Whether each login for private images can be read. Whether a registry takes it, a spawn will see.
fn registries(config: &Config) -> Finding {
    const NAME: &str = "registries";
    let mut count = 0;
    for (namespace, registry) in config.registries.iter() {
        if let Err(error) = Login::read(namespace, registry) {
            return Finding::of(NAME, Err(error));
        }
        count += 1;
    }
    match count {
        0 => Finding::skipped(NAME, "no private images are configured"),
        count => Finding::ok(NAME, format!("the logins of {count} entries can be read")),
    }
}

async fn github(github: &Github) -> Result<String> {
    let api = &github.api_url;
    let away = |what: String| {
        Error::new(Code::GithubAway, format!("{api} {what}"))
            .hint("check github.api_url, github.ca_file and this server's internet connection")
    };
    let mut builder = http::builder(ANSWER_WITHIN).redirect(reqwest::redirect::Policy::none());
    if let Some(path) = &github.ca_file {
        let pem = std::fs::read(path).map_err(|error| host_io("read", path, error))?;
        let certificates = Certificate::from_pem_bundle(&pem).unwrap_or_default();
        builder = builder.tls_certs_merge(certificates);
    }
    let answer = builder
        .build()
        .map_err(http::cannot_build)?
        .get(api.clone())
        .send()
        .await
        .map_err(|error| away("does not answer".to_owned()).because(error.without_url()))?;
    // Without a token it may well refuse or limit: it is there.
    if answer.status().is_server_error() {
        return Err(away(format!("answers {}", answer.status())));
    }
    Ok(format!("{api} answers"))
}

async fn keys(config: &Config) -> Result<String> {
    let keys = authorized::authorized_keys(&config.ssh).await?;
    let count = keys.lines.len();
    match keys.warnings.first() {
        Some(warning) => Err(Error::new(
            Code::NoAuthorizedKey,
            format!("keys that may log in to drones: {count}; {warning}"),
        )
        .hint("fix ssh.authorized_keys or ssh.authorized_keys_from")),
        None => Ok(format!("keys that may log in to drones: {count}")),
    }
}

/// Whether each running drone's credential service answers. It alone has the App's key, so what
/// GitHub says of that stands in `hatchery audit`.
async fn sockets(config: &Config, places: &Places, docker: Option<&Docker>) -> Finding {
    const NAME: &str = "credentials";
    if config.github.app_id.is_none() {
        return Finding::skipped(
            NAME,
            "no GitHub App is configured; drones have no credentials",
        );
    }
    if let Err(error) = app_key(config, places).await {
        return Finding::of(NAME, Err(error));
    }
    let Some(docker) = docker else {
        return Finding::skipped(NAME, "cannot be checked without Docker");
    };
    let drones = docker.drones().await;
    let drones = match drones {
        Ok((drones, _)) => drones,
        Err(error) => return Finding::of(NAME, Err(error)),
    };
    let running: Vec<_> = drones
        .iter()
        .filter(|drone| drone.life == Life::Running)
        .collect();
    let (mut silent, mut without) = (Vec::new(), Vec::new());
    for drone in &running {
        if !drone.seen.as_deref().is_none_or(furnish::mounts_sockets) {
            without.push(&drone.identity);
        } else if !answers(drone, places).await {
            silent.push(drone.identity.name.to_string());
        }
    }
    if silent.is_empty()
        && let Some(first) = without.first()
    {
        let names: Vec<_> = without
            .iter()
            .map(|identity| identity.name.as_str())
            .collect();
        return Finding::problem(
            NAME,
            format!(
                "no socket is mounted in {}, spawned before the GitHub App was configured",
                names.join(", ")
            ),
            format!("`hatchery rebuild {}` mounts it", first.repo),
        );
    }
    if silent.is_empty() {
        return Finding::ok(NAME, format!("{} sockets answer", running.len()));
    }
    Finding::problem(
        NAME,
        format!("the sockets of {} do not answer", silent.join(", ")),
        format!(
            "`hatchery recover` recreates them; `journalctl -u 'hatchery-credd@{}'` shows more",
            silent[0]
        ),
    )
}

/// Where the configuration names no file of the App's key, the daemon's unit must load it.
async fn app_key(config: &Config, places: &Places) -> Result<()> {
    if config.github.private_key_file.is_some() || !places.are_the_systems() {
        return Ok(());
    }
    let Some(systemd) = Systemd::with_units().await? else {
        return Ok(());
    };
    // No drone has this name: what all of the template's instances have is looked at.
    let unit = format!("{PREFIX}-.service");
    let from = systemd.credential_of(&unit, APP_KEY).await?;
    let lost = |what: String| {
        Err(Error::new(Code::SecretUnreadable, what).hint(
            "see \"The GitHub App's key\" in docs/github-app.md; `systemctl edit hatchery-credd@.service`",
        ))
    };
    match from {
        None => lost(format!(
            "hatchery-credd's unit loads no credential {APP_KEY}, and github.private_key_file is not set"
        )),
        Some(from)
            if matches!(Path::new(&from).try_exists(), Ok(false)) && from.starts_with('/') =>
        {
            lost(format!(
                "hatchery-credd's unit loads its credential {APP_KEY} from {from}, which does not exist"
            ))
        }
        Some(_) => Ok(()),
    }
}

async fn answers(drone: &Drone, places: &Places) -> bool {
    let socket = places
        .sockets(&drone.identity.name)
        .join(crate::drone::file::SOCKET);
    let Ok(client) = http::unix_client(&socket, ANSWER_WITHIN) else {
        return false;
    };
    let answer = client.get("http://localhost/healthz").send().await;
    answer.is_ok_and(|answer| answer.status().is_success())
}
