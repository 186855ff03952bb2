//! A tailscaled of this server's own, beside the system's: in userspace, on a given state
//! directory, for as long as it takes to register a node or to remove it.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

use super::status::{MAX_STATUS, Peer, Status};
use crate::cage::Rules;
use crate::config::Tailnet;
use crate::drone::DroneName;
use crate::error::{Code, Error, Result, host_io};
use crate::http;
use crate::process::{self, Group};
use crate::secret::Secret;

/// Between two looks at the node's state. A look costs a millisecond.
const POLL: Duration = Duration::from_millis(10);
/// How long one look may take.
const LOOK: Duration = Duration::from_secs(2);
/// The most that is read of what `tailscale` says of a failure, in bytes.
const MAX_COMPLAINT: u64 = 16 * 1024;

/// A running tailscaled; killed when dropped, and when hatchery itself is killed, without leaving the
/// tailnet: a node that nobody knows of would hold the drone's name.
#[derive(Debug)]
pub(super) struct Outside {
    daemon: Group,
    socket: PathBuf,
    localapi: reqwest::Client,
    plain_http: bool,
    /// Holds the socket and what else is not to be in the state directory.
    _place: tempfile::TempDir,
}

impl Outside {
    /// Starts it on this state directory, which is made where it is absent.
    pub(super) async fn start(state: &Path, tailnet: &Tailnet) -> Result<Self> {
        Self::run(state, tailnet, true).await
    }

    /// Starts it on the state of a node that was registered before. What its status says is then
    /// what the control server says, and not what it remembers of that.
    pub(super) async fn wake(state: &Path, tailnet: &Tailnet) -> Result<Self> {
        Self::run(state, tailnet, false).await
    }

    async fn run(state: &Path, tailnet: &Tailnet, remembers: bool) -> Result<Self> {
        tokio::fs::create_dir_all(state)
            .await
            .map_err(|error| host_io("make", state, error))?;
        // Beside the state: whoever clears that away after a crash clears this away too. The name
        // is short because a socket's path may have 107 bytes (unix(7)).
        let beside = state.parent().unwrap_or(Path::new("/tmp"));
        let place = tempfile::Builder::new()
            .prefix("o")
            .rand_bytes(4)
            .tempdir_in(beside)
            .map_err(|error| host_io("write to", beside, error))?;
        let own = place.path().join("s");
        std::fs::create_dir(&own).map_err(|error| host_io("make", &own, error))?;
        let socket = own.join("sock");
        let plain_http = tailnet.login_server.scheme() == "http";
        let daemon = program("tailscaled")?;
        let mut command = Rules::of_system()
            .program(&daemon)
            .write(state)
            .write(&own)
            .supervised(place.path(), &daemon)?;
        silence(&mut command, plain_http);
        command
            .arg("--tun=userspace-networking")
            .arg(option("--state", &state.join("tailscaled.state")))
            .arg(option("--statedir", state))
            .arg(option("--socket", &socket))
            .arg("--port=0")
            .env("TS_LOGS_DIR", &own)
            .env("TS_USE_CACHED_NETMAP", remembers.to_string());
        // A state sealed by this server's TPM could not be read in the drone.
        if Path::new("/dev/tpmrm0").exists() || Path::new("/dev/tpm0").exists() {
            command.arg("--encrypt-state=false");
        }
        Ok(Self {
            daemon: Group::spawn(&mut command, "tailscaled")?,
            localapi: http::unix_client(&socket, LOOK)?,
            socket,
            plain_http,
            _place: place,
        })
    }

    /// Joins under this name, and waits until the node is registered; its own entry. That is
    /// sooner than `tailscale up` ends: it goes on to look for relays, which the drone does anew.
    pub(super) async fn up(
        &mut self,
        tailnet: &Tailnet,
        name: &DroneName,
        key: &Secret,
    ) -> Result<Peer> {
        self.wait_for(|_| true).await?;
        let mut command = self.tailscale()?;
        command
            .args(up_arguments(tailnet, name))
            .stdin(Stdio::piped())
            .stderr(Stdio::piped());
        let mut up = command
            .spawn()
            .map_err(|error| missing("tailscale", error))?;
        if let Some(mut stdin) = up.stdin.take() {
            // It may have ended before it read the key: its exit status says so below.
            let _ = stdin.write_all(key.expose().as_bytes()).await;
        }
        let mut ended = false;
        let registered = loop {
            if let Some(status) = self.look().await?
                && status.is_registered()
            {
                break status.own;
            }
            if !ended && let Some(status) = ended_with(&mut up, "tailscale")? {
                if !status.success() {
                    return Err(refusal(&complaint(&mut up).await));
                }
                ended = true;
            }
            tokio::time::sleep(POLL).await;
        };
        let _ = up.kill().await;
        Ok(registered)
    }

    /// Waits until the node's status is as wanted; the caller bounds the time.
    pub(super) async fn wait_for(&mut self, wanted: impl Fn(&Status) -> bool) -> Result<Status> {
        loop {
            if let Some(status) = self.look().await?
                && wanted(&status)
            {
                return Ok(status);
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Whether it has not ended.
    pub(super) fn runs(&mut self) -> bool {
        matches!(ended_with(self.daemon.child(), "tailscaled"), Ok(None))
    }

    /// The node's status; `None` while it does not answer yet.
    async fn look(&mut self) -> Result<Option<Status>> {
        if let Some(status) = ended_with(self.daemon.child(), "tailscaled")? {
            return Err(Error::new(
                Code::HostFailed,
                format!("tailscaled ended while it joined the tailnet ({status})"),
            )
            .hint("run `tailscaled --version`; hatchery needs 1.32 or later"));
        }
        let request = self
            .localapi
            .get("http://local-tailscaled.sock/localapi/v0/status");
        let Ok(response) = request.send().await else {
            return Ok(None);
        };
        let Ok(body) = http::body(response, MAX_STATUS).await else {
            return Ok(None);
        };
        Ok(Status::parse(&body).ok())
    }

    /// Leaves the tailnet: the control server forgets an ephemeral node at once.
    pub(super) async fn logout(&self) -> Result<()> {
        let status = self
            .tailscale()?
            .arg("logout")
            .stderr(Stdio::null())
            .status()
            .await
            .map_err(|error| missing("tailscale", error))?;
        if status.success() {
            Ok(())
        } else {
            Err(Error::new(
                Code::TailnetAway,
                format!("the node did not leave the tailnet: tailscale logout ended with {status}"),
            )
            .hint("the control server removes it after its ephemeral timeout"))
        }
    }

    /// Kills it and waits for its end, so that nothing writes to the state directory any more.
    pub(super) async fn kill(mut self) {
        self.daemon.kill();
        let _ = self.daemon.child().wait().await;
    }

    fn tailscale(&self) -> Result<Command> {
        let mut command = Command::new(program("tailscale")?);
        silence(&mut command, self.plain_http);
        command
            .stdin(Stdio::null())
            .process_group(0)
            .kill_on_drop(true)
            .arg(option("--socket", &self.socket));
        Ok(command)
    }
}

/// The arguments with which a drone's node joins. The key comes by standard input: it is in no
/// argument, environment or file.
pub(super) fn up_arguments(tailnet: &Tailnet, name: &DroneName) -> [String; 8] {
    [
        "up".to_owned(),
        format!("--login-server={}", tailnet.login_server),
        "--auth-key=file:/dev/stdin".to_owned(),
        format!("--hostname={name}"),
        "--accept-dns=false".to_owned(),
        "--accept-routes=false".to_owned(),
        // A drone routes for nobody. tailscaled's own rules would be in the way of those that a
        // repository's firewall script saves, flushes and restores.
        "--netfilter-mode=off".to_owned(),
        "--timeout=80s".to_owned(),
    ]
}

/// What `tailscale up` said of its failure, as an error. Its words could hold the key, so they are
/// only searched for what is known.
pub(super) fn refusal(complaint: &str) -> Error {
    let text = complaint.to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    let error = |what: &str| Error::new(Code::TailnetRefused, what.to_owned());
    let another_key = "create another on the control server with `headscale preauthkeys create --user ID \
         --reusable --ephemeral --expiration 8760h`, and write it into tailnet.auth_key_file";
    if !has(&["key"]) {
        return error("the control server did not let the drone join")
            .hint("Headscale's log shows why");
    }
    if has(&["already used", "has been used"]) {
        return error("the auth key has already been used; it is not reusable").hint(another_key);
    }
    if has(&["expired"]) {
        return error("the auth key has expired").hint(another_key);
    }
    error("the control server does not know the auth key").hint(another_key)
}

async fn complaint(child: &mut Child) -> String {
    let mut bytes = Vec::new();
    if let Some(stderr) = child.stderr.take() {
        let _ = stderr.take(MAX_COMPLAINT).read_to_end(&mut bytes).await;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Leaves a command hardly any environment, and nothing to say.
fn silence(command: &mut Command, plain_http: bool) {
    command
        .env_clear()
        .env("TS_NO_LOGS_NO_SUPPORT", "true")
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    // The certificates that this process trusts.
    for name in ["PATH", "SSL_CERT_FILE", "SSL_CERT_DIR"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    if plain_http {
        // Headscale's embedded relay speaks what Headscale speaks.
        command.env("TS_DEBUG_USE_DERP_HTTP", "true");
    }
}

fn option(name: &str, path: &Path) -> std::ffi::OsString {
    let mut option = std::ffi::OsString::from(name);
    option.push("=");
    option.push(path);
    option
}

fn program(name: &str) -> Result<PathBuf> {
    process::find(name).ok_or_else(|| missing(name, std::io::ErrorKind::NotFound.into()))
}

fn missing(program: &str, error: std::io::Error) -> Error {
    Error::new(
        Code::ProgramMissing,
        format!("{program}, which joins drones to the tailnet, cannot be run"),
    )
    .hint("install Tailscale on this server (tailscale and tailscaled on the PATH); it need not be logged in")
    .because(error)
}

fn ended_with(child: &mut Child, name: &str) -> Result<Option<ExitStatus>> {
    child.try_wait().map_err(|error| missing(name, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_what_is_wrong_with_the_key_and_not_the_key() {
        for (said, told) in [
            (
                "backend error: authkey already used",
                "has already been used",
            ),
            ("backend error: authkey expired", "has expired"),
            ("backend error: invalid pre auth key", "does not know"),
            (
                "backend error: failed to parse auth-key: hskey-auth-SECRET too short",
                "does not know",
            ),
            ("backend error: no capacity", "did not let"),
        ] {
            let error = refusal(said);
            assert_eq!(error.code(), Code::TailnetRefused);
            assert!(error.message().contains(told), "{said}: {error}");
            assert!(!format!("{error:?}").contains("SECRET"));
            assert!(error.what_next().is_some());
        }
    }
}
