//! HTTP to others: clients with limits, and answers read within one.

use std::time::Duration;

use crate::error::{Code, Error, Result};

/// How long a connection may take to come about, TLS included; a busy server takes seconds for that.
const CONNECT: Duration = Duration::from_secs(10);

/// A client whose requests end within `limit`, connecting, redirects and body included.
/// It follows redirects only as `redirects` says.
pub fn client(limit: Duration, redirects: reqwest::redirect::Policy) -> Result<reqwest::Client> {
    builder(limit)
        .redirect(redirects)
        .build()
        .map_err(|error| cannot_build(error.without_url()))
}

/// A client that speaks HTTP over the Unix socket at `path`.
pub fn unix_client(path: &std::path::Path, limit: Duration) -> Result<reqwest::Client> {
    builder(limit)
        .unix_socket(path)
        // Reading the system's certificates takes longer than any answer on a socket.
        .tls_certs_only([])
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(cannot_build)
}

/// What all our clients have in common, for one that needs more than [`client`] gives.
pub fn builder(limit: Duration) -> reqwest::ClientBuilder {
    // The first one to come is the process's; a second is refused, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .timeout(limit)
        .connect_timeout(CONNECT)
        .user_agent(concat!("hatchery/", env!("CARGO_PKG_VERSION")))
}

/// A client that cannot be set up: what is missing is the system's certificates.
pub fn cannot_build(error: reqwest::Error) -> Error {
    Error::new(Code::HostFailed, "cannot set up HTTPS on this server")
        .hint("check that the system's certificates are installed (package ca-certificates)")
        .because(error)
}

/// Why an answer's body could not be read.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The connection broke or the time was up.
    #[error(transparent)]
    Broken(#[from] reqwest::Error),
    /// More than the reader takes.
    #[error("the answer is larger than {0} bytes")]
    TooLarge(usize),
}

/// The answer's body, of at most `limit` bytes.
pub async fn body(mut response: reqwest::Response, limit: usize) -> Result<Vec<u8>, BodyError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(reqwest::Error::without_url)?
    {
        if bytes.len() + chunk.len() > limit {
            return Err(BodyError::TooLarge(limit));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}
