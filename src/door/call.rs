//! The first line of a request: which of the things that a spawn asks for it is.
//!
//! Routes and parameters are those of Docker's Engine API, versions 1.24 to 1.52
//! (<https://docs.docker.com/reference/api/engine/>). What is not in the list here never reaches Docker.

use std::fmt::Write as _;

use hyper::{Method, Uri};
use url::form_urlencoded;

use super::judge::OF_BUILD;
use super::stop::{Judged, Stop};
use crate::devcontainer::judging::policy;

/// The longest path with its query, in bytes: a build has its arguments in it.
const MAX_TARGET: usize = 128 * 1024;

/// A request that is in the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The version of the API, as it was written (`v1.43`); without one it is Docker's newest.
    version: Option<String>,
    /// What it asks for.
    pub ask: Ask,
    /// Its parameters, all of which are known.
    pub query: Query,
}

/// What a request is about. References are names or ids, as the client wrote them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// Whether Docker is there, its version, the machine: `_ping`, `version`, `info`.
    Server(&'static str),
    /// What happens, as a stream.
    Events,
    /// The list of containers.
    Containers,
    /// A new container.
    Create,
    /// Something of one container.
    Container(String, OfContainer),
    /// A command in a container.
    Exec(String, OfExec),
    /// The list of networks.
    Networks,
    /// A new network.
    CreateNetwork,
    /// Something of one network.
    Network(String, OfNetwork),
    /// The list of volumes.
    Volumes,
    /// A new volume.
    CreateVolume,
    /// What a volume is.
    Volume(String),
    /// The list of images.
    Images,
    /// What an image is.
    Image(String),
    /// Pulls an image from a registry.
    Pull,
    /// Another name for an image.
    Tag(String),
    /// A step of a build: `build`, `build/cancel`, `session`, `grpc`.
    Build(&'static str),
}

/// What is asked of one container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OfContainer {
    /// What it is.
    Inspect,
    /// Its output until now, and from now on.
    Logs,
    /// Its input and output, on this connection.
    Attach,
    /// A new command in it.
    Exec,
    /// Waits for its end.
    Wait,
    /// Starts it.
    Start,
    /// `stop`, `kill`, `resize`.
    Signal(&'static str),
    /// Stops and starts it.
    Restart,
    /// Gives it another name.
    Rename,
    /// Removes it.
    Remove,
    /// Copies files out of it or into it.
    Archive(Copying),
}

impl OfContainer {
    /// Whether this changes the container or what it does.
    pub const fn is_change(self) -> bool {
        matches!(
            self,
            Self::Start | Self::Signal(_) | Self::Restart | Self::Rename | Self::Remove
        )
    }
}

/// Which way an archive goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Copying {
    /// What is at a path.
    Look,
    /// Out of the container.
    Out,
    /// Into the container.
    In,
}

/// What is asked of one command in a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OfExec {
    /// Its state.
    Inspect,
    /// Starts it, with its input and output on this connection.
    Start,
    /// Sets the size of its terminal.
    Resize,
}

/// What is asked of one network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OfNetwork {
    /// What it is.
    Inspect,
    /// A container joins it.
    Connect,
    /// A container leaves it.
    Disconnect,
    /// Removes it.
    Remove,
}

/// Parameters of a request. Only a build's names and hosts may be there more than once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// The value of a parameter, if it is there and not empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        let mut pairs = self.0.iter();
        let (_, value) = pairs.find(|(key, _)| key == name)?;
        (!value.is_empty()).then_some(value)
    }

    /// All values of a parameter.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        let pairs = self.0.iter().filter(move |(key, _)| key == name);
        pairs.map(|(_, value)| value.as_str())
    }

    /// Reads the known parameters. An unknown one must be empty or false: nobody needs it.
    fn read(query: &str, known: &[&str]) -> Judged<Self> {
        let mut pairs: Vec<(String, String)> = Vec::new();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            if !known.contains(&&*name) {
                // What older clients send for nothing said.
                if matches!(&*value, "" | "0" | "false" | "False") {
                    continue;
                }
                return Err(Stop::NotListed(format!("{name:.40?} in a query")));
            }
            let again = pairs.iter().any(|(key, _)| *key == name);
            if again && !matches!(&*name, "t" | "extrahosts") {
                return Err(Stop::Malformed(format!("{name} is there twice")));
            }
            pairs.push((name.into_owned(), value.into_owned()));
        }
        Ok(Self(pairs))
    }
}

impl Call {
    /// Reads a request's method and target.
    pub fn read(method: &Method, target: &Uri) -> Judged<Self> {
        let path = target.path();
        let query = target.query().unwrap_or_default();
        if path.len() + query.len() > MAX_TARGET || target.host().is_some() {
            return Err(Stop::NotListed("a target of this form".to_owned()));
        }
        let path = path.strip_prefix('/').unwrap_or(path);
        let (version, path) = match path.split_once('/') {
            Some((first, rest)) if is_version(first) => (Some(first.to_owned()), rest),
            _ => (None, path),
        };
        let unlisted = || Stop::NotListed(format!("{method} /{path:.80}"));
        let decoded = decoded_path(path).ok_or_else(unlisted)?;
        let (ask, known) = route(method, &decoded).ok_or_else(unlisted)?;
        let query = Query::read(query, known)?;
        Ok(Self {
            version,
            ask,
            query,
        })
    }

    /// The path and query for Docker, written from what was read.
    pub fn target(&self) -> String {
        let mut target = String::from("/");
        if let Some(version) = &self.version {
            let _ = write!(target, "{version}/");
        }
        target.push_str(&self.ask.path());
        if !self.query.0.is_empty() {
            let query = form_urlencoded::Serializer::new(String::new())
                .extend_pairs(&self.query.0)
                .finish();
            let _ = write!(target, "?{query}");
        }
        target
    }

    /// A call for something else, with the same version of the API.
    pub fn instead(&self, ask: Ask) -> Self {
        Self {
            version: self.version.clone(),
            ask,
            query: Query::default(),
        }
    }
}

impl Ask {
    /// Whether this comes with a body that is judged.
    pub fn has_body(&self) -> bool {
        matches!(
            self,
            Self::Create
                | Self::Container(_, OfContainer::Exec)
                | Self::Exec(_, OfExec::Start)
                | Self::CreateNetwork
                | Self::Network(_, OfNetwork::Connect | OfNetwork::Disconnect)
                | Self::CreateVolume
        )
    }

    /// The media type of a body of this request.
    pub fn content_type(&self) -> &'static str {
        match self {
            Self::Build(_) | Self::Container(_, OfContainer::Archive(_)) => "application/x-tar",
            _ => "application/json",
        }
    }

    fn path(&self) -> String {
        match self {
            Self::Server(what) | Self::Build(what) => (*what).to_owned(),
            Self::Events => "events".to_owned(),
            Self::Containers => "containers/json".to_owned(),
            Self::Create => "containers/create".to_owned(),
            Self::Container(id, OfContainer::Remove) => format!("containers/{id}"),
            Self::Container(id, of) => format!("containers/{id}/{}", of.word()),
            Self::Exec(id, of) => format!("exec/{id}/{}", of.word()),
            Self::Networks => "networks".to_owned(),
            Self::CreateNetwork => "networks/create".to_owned(),
            Self::Network(id, OfNetwork::Inspect | OfNetwork::Remove) => format!("networks/{id}"),
            Self::Network(id, OfNetwork::Connect) => format!("networks/{id}/connect"),
            Self::Network(id, OfNetwork::Disconnect) => format!("networks/{id}/disconnect"),
            Self::Volumes => "volumes".to_owned(),
            Self::CreateVolume => "volumes/create".to_owned(),
            Self::Volume(name) => format!("volumes/{name}"),
            Self::Images => "images/json".to_owned(),
            Self::Image(name) => format!("images/{name}/json"),
            Self::Pull => "images/create".to_owned(),
            Self::Tag(name) => format!("images/{name}/tag"),
        }
    }
}

impl OfContainer {
    const fn word(self) -> &'static str {
        match self {
            Self::Inspect => "json",
            Self::Logs => "logs",
            Self::Attach => "attach",
            Self::Exec => "exec",
            Self::Wait => "wait",
            Self::Start => "start",
            Self::Signal(word) => word,
            Self::Restart => "restart",
            Self::Rename => "rename",
            Self::Remove => "",
            Self::Archive(_) => "archive",
        }
    }
}

impl OfExec {
    const fn word(self) -> &'static str {
        match self {
            Self::Inspect => "json",
            Self::Start => "start",
            Self::Resize => "resize",
        }
    }
}

/// `v1.43`
fn is_version(text: &str) -> bool {
    let digits = |part: &str| {
        (1..=3).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit())
    };
    text.strip_prefix('v')
        .and_then(|version| version.split_once('.'))
        .is_some_and(|(major, minor)| digits(major) && digits(minor))
}

/// The path with its percent signs decoded; `None` if a decoded character could change its meaning.
fn decoded_path(path: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = [rest.next()?, rest.next()?];
        let byte = u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?;
        if !matches!(byte, b':' | b'@' | b'+' | b'_' | b'-' | b'.') {
            return None;
        }
        bytes.push(byte);
    }
    String::from_utf8(bytes).ok()
}

const LIST: &[&str] = &["filters"];
// `trunc_cmd` and `only_ids` are compose 1's, which Docker does not know any more.
const OF_CONTAINERS: &[&str] = &[
    "all",
    "limit",
    "size",
    "filters",
    "since",
    "before",
    "trunc_cmd",
];
const OF_IMAGES: &[&str] = &[
    "all",
    "filters",
    "digests",
    "shared-size",
    "manifests",
    "only_ids",
];
const OF_ATTACH: &[&str] = &["detachKeys", "logs", "stream", "stdin", "stdout", "stderr"];
const OF_LOGS: &[&str] = &[
    "follow",
    "stdout",
    "stderr",
    "since",
    "until",
    "timestamps",
    "details",
    "tail",
];
const OF_SIZE: &[&str] = &["h", "w"];
const OF_ARCHIVE: &[&str] = &["path", "noOverwriteDirNonDir", "copyUIDGID"];

/// What is asked for by this method and path, and the parameters that it may have.
fn route(method: &Method, path: &str) -> Option<(Ask, &'static [&'static str])> {
    let (get, post) = (method == Method::GET, method == Method::POST);
    let parts: Vec<&str> = path.split('/').collect();
    let listed: (Ask, &'static [&'static str]) = match parts.as_slice() {
        ["_ping"] if get || method == Method::HEAD => (Ask::Server("_ping"), &[]),
        ["version"] if get => (Ask::Server("version"), &[]),
        ["info"] if get => (Ask::Server("info"), &[]),
        ["events"] if get => (Ask::Events, &["since", "until", "filters"]),
        ["containers", "json"] if get => (Ask::Containers, OF_CONTAINERS),
        ["containers", "create"] if post => (Ask::Create, &["name", "platform"]),
        ["containers", id] if method == Method::DELETE => {
            let of = OfContainer::Remove;
            (Ask::Container(reference(id)?, of), &["v", "force"])
        }
        ["containers", id, word] => {
            let (of, known) = of_container(method, word)?;
            (Ask::Container(reference(id)?, of), known)
        }
        ["exec", id, word] => {
            let (of, known): (_, &[&str]) = match *word {
                "json" if get => (OfExec::Inspect, &[]),
                "start" if post => (OfExec::Start, &[]),
                "resize" if post => (OfExec::Resize, OF_SIZE),
                _ => return None,
            };
            (Ask::Exec(reference(id)?, of), known)
        }
        ["networks"] if get => (Ask::Networks, LIST),
        ["networks", "create"] if post => (Ask::CreateNetwork, &[]),
        ["networks", id] if get => {
            let of = OfNetwork::Inspect;
            (Ask::Network(reference(id)?, of), &["verbose", "scope"])
        }
        ["networks", id] if method == Method::DELETE => {
            (Ask::Network(reference(id)?, OfNetwork::Remove), &[])
        }
        ["networks", id, "connect"] if post => {
            (Ask::Network(reference(id)?, OfNetwork::Connect), &[])
        }
        ["networks", id, "disconnect"] if post => {
            (Ask::Network(reference(id)?, OfNetwork::Disconnect), &[])
        }
        ["volumes"] if get => (Ask::Volumes, LIST),
        ["volumes", "create"] if post => (Ask::CreateVolume, &[]),
        ["volumes", name] if get => (Ask::Volume(reference(name)?), &[]),
        ["images", "json"] if get => (Ask::Images, OF_IMAGES),
        ["images", "create"] if post => (Ask::Pull, &["fromImage", "tag", "platform"]),
        ["images", name @ .., "json"] if get => {
            (Ask::Image(image(name)?), &["manifests", "platform"])
        }
        ["images", name @ .., "tag"] if post => (Ask::Tag(image(name)?), &["repo", "tag"]),
        ["build"] if post => (Ask::Build("build"), OF_BUILD),
        ["build", "cancel"] if post => (Ask::Build("build/cancel"), &["id"]),
        ["session"] if post => (Ask::Build("session"), &[]),
        ["grpc"] if post => (Ask::Build("grpc"), &[]),
        _ => return None,
    };
    Some(listed)
}

fn of_container(method: &Method, word: &str) -> Option<(OfContainer, &'static [&'static str])> {
    let of: (OfContainer, &'static [&'static str]) = match (method.as_str(), word) {
        ("GET", "json") => (OfContainer::Inspect, &["size"]),
        ("GET", "logs") => (OfContainer::Logs, OF_LOGS),
        ("POST", "attach") => (OfContainer::Attach, OF_ATTACH),
        ("POST", "exec") => (OfContainer::Exec, &[]),
        ("POST", "wait") => (OfContainer::Wait, &["condition"]),
        ("POST", "start") => (OfContainer::Start, &["detachKeys"]),
        ("POST", "stop") => (OfContainer::Signal("stop"), &["t", "signal"]),
        ("POST", "restart") => (OfContainer::Restart, &["t", "signal"]),
        ("POST", "rename") => (OfContainer::Rename, &["name"]),
        ("POST", "kill") => (OfContainer::Signal("kill"), &["signal"]),
        ("POST", "resize") => (OfContainer::Signal("resize"), OF_SIZE),
        ("HEAD", "archive") => (OfContainer::Archive(Copying::Look), OF_ARCHIVE),
        ("GET", "archive") => (OfContainer::Archive(Copying::Out), OF_ARCHIVE),
        ("PUT", "archive") => (OfContainer::Archive(Copying::In), OF_ARCHIVE),
        _ => return None,
    };
    Some(of)
}

/// The name or id of anything but an image; `None` if it cannot be one.
fn reference(text: &str) -> Option<String> {
    policy::is_name(text).then(|| text.to_owned())
}

/// The name or id of an image, in which there may be slashes; `None` if it cannot be one.
fn image(parts: &[&str]) -> Option<String> {
    let whole = parts.iter().all(|part| !matches!(*part, "" | "." | ".."));
    let name = parts.join("/");
    (whole && policy::is_image(&name)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(line: &str) -> Judged<Call> {
        let (method, target) = line.split_once(' ').unwrap();
        Call::read(&method.parse().unwrap(), &target.parse().unwrap())
    }

    /// Of each kind one; what was seen in spawns is in `fuzz.rs`.
    #[test]
    fn what_a_spawn_asks_for_is_listed() {
        for line in [
            "HEAD /_ping",
            "GET /_ping",
            "GET /v1.45/version",
            "GET /v1.41/info",
            "GET /v1.45/events?filters=%7B%22event%22%3A%7B%22start%22%3Atrue%7D%7D",
            "GET /v1.45/containers/json?all=1&filters=%7B%7D",
            "GET /v1.41/containers/json?limit=-1&all=1&size=0&trunc_cmd=0&filters=%7B%7D",
            "GET /v1.41/images/json?only_ids=0&all=0",
            "POST /v1.45/containers/create?name=acme-site",
            "POST /v1.45/containers/0123456789ab/attach?stderr=1&stdout=1&stream=1",
            "POST /v1.45/containers/0123456789ab/wait?condition=next-exit",
            "POST /v1.45/containers/0123456789ab/start",
            "GET /v1.45/containers/acme-site/json",
            "POST /v1.45/containers/acme-site/exec",
            "POST /v1.45/exec/0123456789ab/start",
            "GET /v1.45/exec/0123456789ab/json",
            "DELETE /v1.41/containers/acme-site?v=False&link=&force=True",
            "GET /v1.41/networks?filters=%7B%7D",
            "POST /v1.41/networks/acme-site_default/disconnect",
            "DELETE /v1.45/networks/acme-site_default",
            "POST /v1.45/containers/0123456789ab/rename?name=acme-site-db-1",
            "POST /v1.45/build?extrahosts=a:1&extrahosts=b:2&t=x",
            "GET /v1.41/volumes/acme-site",
            "GET /v1.45/images/ghcr.io/acme/base:1@sha256:0123/json",
            "GET /v1.41/images/ghcr.io/acme/base%401/json",
            "POST /v1.45/images/create?fromImage=debian&tag=12",
            "POST /v1.45/images/sha256:0123/tag?repo=vsc-x-1&tag=latest",
            "POST /v1.45/build?t=x&dockerfile=Dockerfile&labels=%7B%7D",
            "POST /v1.45/session",
            "POST /grpc",
        ] {
            let call = read(line).unwrap_or_else(|stop| panic!("{line}: {stop:?}"));
            // What is written is read as the same again.
            let method = line.split(' ').next().unwrap();
            assert_eq!(read(&format!("{method} {}", call.target())), Ok(call));
        }
    }

    #[test]
    fn nothing_else_is() {
        for line in [
            "GET /",
            "GET /v1.45",
            "GET /v1.45/",
            "GET /v1.45/v1.45/version",
            "POST /v1.45/_ping",
            "GET /v1.45/containers",
            "POST /v1.45/containers/x/update",
            "POST /v1.45/containers/x/pause",
            "GET /v1.45/containers/x/export",
            "POST /v1.45/containers/prune",
            "POST /v1.45/containers/create?name=x&privileged=1",
            "POST /v1.45/containers/x/start?checkpoint=y",
            "DELETE /v1.45/containers/x?link=1",
            "DELETE /v1.45/volumes/x",
            "DELETE /v1.45/images/x",
            "POST /v1.45/commit?container=x",
            "POST /v1.45/images/load",
            "GET /v1.45/images/x/get",
            "POST /v1.45/images/x/push",
            "POST /v1.45/images/create?fromSrc=-",
            "POST /v1.45/auth",
            "POST /v1.45/build/prune",
            "GET /v1.45/system/df",
            "GET /v1.45/secrets",
            "POST /v1.45/swarm/init",
            "GET /v1.45/plugins",
            "POST /v1.45/plugins/pull?remote=x",
            "GET /v1.45/containers/../secrets/json",
            "GET /v1.45/containers/x%2f..%2fy/json",
            "GET /v1.45/containers/%78/json",
            "GET /v1.45/images/../secrets/json",
            "GET /v1.45/images/a/../../x/json",
            "GET /v1.45//containers/json",
            "GET /v1.45/images//json",
            "GET /v1.45/networks/a%3Fb",
            "GET /v1.45/containers/json?all=1&all=0",
        ] {
            assert!(read(line).is_err(), "{line}: {:?}", read(line));
        }
        assert!(read("GET http://elsewhere/v1.45/version").is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(5_000))]

        /// Whatever comes, what Docker is asked is a path of the list with plain names in it.
        #[test]
        fn what_is_written_is_of_the_list(
            method in "(GET|HEAD|POST|PUT|DELETE|PATCH)",
            version in "(|/v1\\.[0-9]{2}|/v1\\.4x|/)",
            path in "(/(containers|images|networks|volumes|exec|build|_ping|json|create|\\.\\.|%2e|%2F|[a-z@:%]{1,6}))(/(json|start|tag|prune|\\.\\.|[a-zA-Z0-9_.:@%-]{0,12})){0,3}",
            query in "(|\\?[a-zA-Z]{1,9}=[a-z%0-9]{0,9}(&(name|force|all)=[^#]{0,9})?)",
        ) {
            let line = format!("{version}{path}{query}");
            let Ok(target) = line.parse::<Uri>() else { return Ok(()) };
            let Ok(call) = Call::read(&method.parse().unwrap(), &target) else { return Ok(()) };
            let written = call.target();
            let path = written.split('?').next().unwrap();
            prop_assert!(!path.split('/').skip(1).any(|part| matches!(part, "" | "." | "..")), "{}", written);
            prop_assert!(!path.contains('%'), "{}", written);
            let again = Call::read(&method.parse().unwrap(), &written.parse().unwrap());
            prop_assert_eq!(again, Ok(call));
        }
    }
}
