//! The way from the outlet to a host: names are resolved once, judged, and connected to as judged.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper::{Request, Uri};
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use super::judge;
use crate::config::Subnets;
use crate::process;

/// How long a name may take to be resolved.
const RESOLVED_WITHIN: Duration = Duration::from_secs(10);

/// How long one address may take to answer: a few are tried.
const CONNECTED_WITHIN: Duration = Duration::from_secs(10);

/// How many addresses of a host are tried.
const MAX_ADDRESSES: usize = 6;

/// A stream of bytes in both directions.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Why there is no connection.
#[derive(Debug, PartialEq, Eq)]
pub enum Closed {
    /// It is not allowed, for this reason.
    Refused(&'static str),
    /// It has failed, for this reason.
    Failed(String),
}

type Resolve = dyn Fn(String, u16) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> + Send + Sync;
type Judge = dyn Fn(&[SocketAddr]) -> Option<&'static str> + Send + Sync;

/// How hosts are found and reached.
pub struct Ways {
    /// Resolves a host and a port to addresses.
    pub resolve: Box<Resolve>,
    /// Says why these addresses may not be connected to, if they may not.
    pub judge: Box<Judge>,
    /// The proxy by which this server itself gets out, and for which hosts.
    pub proxy: Matcher,
}

impl Ways {
    /// Resolves names and reaches hosts as this server does.
    pub fn of_this_server(pool: Subnets) -> Self {
        let (proxy, direct) = process::proxy();
        Self {
            resolve: Box::new(|host, port| {
                Box::pin(async move { Ok(lookup_host((host, port)).await?.collect()) })
            }),
            judge: Box::new(move |all| {
                // Read each time: networks come and go while a spawn runs.
                let Ok(interfaces) = if_addrs::get_if_addrs() else {
                    return Some("this server's own addresses cannot be read");
                };
                judge::addresses(all.iter().map(SocketAddr::ip), &interfaces, &pool)
            }),
            proxy: Matcher::builder().https(proxy).no(direct).build(),
        }
    }

    /// Connects to this host: by its judged addresses, or through this server's own proxy.
    pub async fn to(&self, host: &str, port: u16) -> Result<Box<dyn Stream>, Closed> {
        if let Some(why) = judge::name(host) {
            return Err(Closed::Refused(why));
        }
        let failed = |error: io::Error| Closed::Failed(error.to_string());
        let target = format!("{host}:{port}");
        let uri = format!("https://{target}").parse::<Uri>();
        let onward = uri.ok().and_then(|uri| self.proxy.intercept(&uri));
        if let Some(proxy) = onward {
            // Who resolves the name is that proxy.
            let through = through(proxy.uri(), &target).await;
            return through.map_err(failed);
        }
        let addresses = timed(RESOLVED_WITHIN, (self.resolve)(host.to_owned(), port))
            .await
            .map_err(failed)?;
        if let Some(why) = (self.judge)(&addresses) {
            return Err(Closed::Refused(why));
        }
        let mut last = io::Error::other("the name has no address");
        for address in addresses.into_iter().take(MAX_ADDRESSES) {
            match timed(CONNECTED_WITHIN, TcpStream::connect(address)).await {
                Ok(stream) => return Ok(Box::new(stream)),
                Err(error) => last = error,
            }
        }
        Err(failed(last))
    }
}

/// A tunnel through another proxy.
async fn through(proxy: &Uri, target: &str) -> io::Result<Box<dyn Stream>> {
    let plain = proxy.scheme_str() == Some("http");
    let Some(host) = proxy.host().filter(|_| plain) else {
        return Err(io::Error::other(
            "HTTPS_PROXY in hatchery's environment is not an http:// URL",
        ));
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let at = (host, proxy.port_u16().unwrap_or(80));
    let stream = timed(CONNECTED_WITHIN, TcpStream::connect(at)).await?;
    let (mut asking, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    let request = Request::connect(target)
        .header("host", target)
        .body(Empty::<Bytes>::new())
        .map_err(io::Error::other)?;
    let asked = async move {
        let answer = asking.send_request(request).await;
        let answer = answer.map_err(io::Error::other)?;
        if !answer.status().is_success() {
            let said = format!("this server's proxy answers {}", answer.status());
            return Err(io::Error::other(said));
        }
        hyper::upgrade::on(answer).await.map_err(io::Error::other)
    };
    let both = async {
        let (asked, _) = tokio::join!(asked, connection.with_upgrades());
        asked
    };
    let upgraded = timed(RESOLVED_WITHIN + CONNECTED_WITHIN, both).await?;
    Ok(Box::new(TokioIo::new(upgraded)))
}

/// Runs something with a limit of time.
async fn timed<T>(limit: Duration, what: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, "no answer in time");
    timeout(limit, what).await.map_err(late)?
}
