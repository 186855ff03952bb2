//! The way to the daemon's socket.

use std::path::Path;
use std::sync::Arc;

use bollard::errors::Error as ApiError;
use bollard::{BollardRequest, ClientVersion};
use hyper::Request;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use hyperlocal::UnixConnector;

use super::ANSWER_WITHIN;

/// How many connections wait open for a next request.
const KEPT: usize = 4;

/// Opens nothing yet. bollard's own way connects for each request, which is an eighth of all that a list of
/// fifty drones takes; this one keeps connections open, as Docker's own command does.
pub(super) fn open(socket: &Path, version: &ClientVersion) -> Result<bollard::Docker, ApiError> {
    let socket = Arc::<Path>::from(socket);
    let client = Client::builder(TokioExecutor::new())
        .pool_max_idle_per_host(KEPT)
        .build(UnixConnector);
    let client = Arc::new(client);
    let send = move |request: BollardRequest| {
        let (mut parts, body) = request.into_parts();
        let asked = parts.uri.path_and_query().map_or("/", |it| it.as_str());
        parts.uri = hyperlocal::Uri::new(&socket, asked).into();
        let client = Arc::clone(&client);
        async move { Ok(client.request(Request::from_parts(parts, body)).await?) }
    };
    // bollard wants one; `send` puts the socket in its place.
    let host = Some("http://docker");
    bollard::Docker::connect_with_custom_transport(send, host, ANSWER_WITHIN.as_secs(), version)
}
