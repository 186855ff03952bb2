//! One image to be built: parsed from the arguments of `docker build` and checked value by value.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use bytesize::ByteSize;
use clap::Parser;
use serde::{Deserialize, Serialize};

use crate::devcontainer::judging::{images, policy};
use crate::drone::Identity;

/// The most entries of one kind that a build may have.
const MAX_ENTRIES: usize = 500;

/// The name of the build context in which the devcontainer CLI passes on features, if it uses named contexts.
const FEATURES: &str = "dev_containers_feature_content_source";

/// One image to be built. A caged process asks for it, so nothing in it can be trusted before [`Build::check`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Build {
    /// The directory that files are copied from.
    pub context: PathBuf,
    /// The Dockerfile. A relative path is relative to the context, as in compose; the devcontainer CLI gives
    /// absolute ones.
    pub dockerfile: PathBuf,
    /// The names that the image gets.
    pub tags: Vec<String>,
    /// The stage to build; `None` is the last one.
    pub target: Option<String>,
    /// Build arguments.
    pub args: BTreeMap<String, String>,
    /// Labels of the image.
    pub labels: BTreeMap<String, String>,
    /// Directories by the names that the Dockerfile has for them.
    pub contexts: BTreeMap<String, PathBuf>,
    /// Images whose layers may serve as cache.
    pub cache_from: Vec<String>,
    /// The network of the build: `default` or `none`.
    pub network: Option<String>,
    /// The platform to build for; `None` is this machine's.
    pub platform: Option<String>,
    /// `NAME:ADDRESS` or `NAME=ADDRESS` entries for `/etc/hosts`.
    pub hosts: Vec<String>,
    /// The size of `/dev/shm`.
    pub shm_size: Option<ByteSize>,
    /// `NAME=SOFT:HARD`, as docker's command takes them.
    pub ulimits: Vec<String>,
    /// Whether to build without a cache.
    pub no_cache: bool,
    /// Whether to ask the registry for newer versions of images that are already here.
    pub pull: bool,
    /// Whether to do nothing if an image of the first name exists.
    pub if_missing: bool,
}

/// `docker build` and `docker buildx build`, as far as the devcontainer CLI and `build.options` use
/// them.
#[derive(Debug, Parser)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "one for each switch of docker's"
)]
#[command(
    no_binary_name = true,
    disable_help_flag = true,
    args_override_self = true
)]
struct Words {
    context: PathBuf,
    #[arg(short = 'f', long)]
    file: Option<PathBuf>,
    #[arg(short = 't', long)]
    tag: Vec<String>,
    #[arg(long)]
    target: Option<String>,
    #[arg(long, value_parser = pair::<String>)]
    build_arg: Vec<(String, String)>,
    #[arg(long, value_parser = label)]
    label: Vec<(String, String)>,
    #[arg(long, value_parser = pair::<PathBuf>)]
    build_context: Vec<(String, PathBuf)>,
    #[arg(long)]
    cache_from: Vec<String>,
    #[arg(long)]
    network: Option<String>,
    #[arg(long)]
    platform: Option<String>,
    #[arg(long)]
    add_host: Vec<String>,
    #[arg(long, value_parser = memory)]
    shm_size: Option<ByteSize>,
    #[arg(long)]
    ulimit: Vec<String>,
    #[arg(long)]
    no_cache: bool,
    #[arg(long)]
    pull: bool,
    // Of no account here: the image is always loaded, and nothing is left between two steps.
    #[arg(long)]
    load: bool,
    #[arg(long)]
    force_rm: bool,
    #[arg(long)]
    progress: Option<String>,
}

/// `NAME=VALUE`, or a name alone, whose value is empty.
fn label(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    if name.is_empty() {
        return Err("a label has a name".to_owned());
    }
    Ok((name.to_owned(), value.to_owned()))
}

/// A size as docker and compose take it: `64m`, `1gb`, a number of bytes; units are powers of 1024.
pub(super) fn memory(text: &str) -> Result<ByteSize, String> {
    let lower = text.trim().to_ascii_lowercase();
    let number = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let power = match &lower[number.len()..] {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        _ => return Err(format!("{text:?} is not a size")),
    };
    let number: u64 = number
        .parse()
        .map_err(|_| format!("{text:?} is not a size"))?;
    let bytes = number.checked_mul(1024_u64.pow(power));
    bytes
        .map(ByteSize::b)
        .ok_or_else(|| format!("{text:?} is not a size"))
}

/// `NAME=VALUE`
fn pair<T: From<String>>(text: &str) -> Result<(String, T), String> {
    let (name, value) = text.split_once('=').ok_or("write it as NAME=VALUE")?;
    Ok((name.to_owned(), T::from(value.to_owned())))
}

impl Build {
    /// Reads the arguments of docker's command; `None` if they do not ask for a build.
    ///
    /// # Errors
    /// Says in words what is not understood.
    pub fn read(args: &[OsString]) -> Option<Result<Self, String>> {
        let words = match args {
            [first, rest @ ..] if first == "build" => rest,
            [first, second, rest @ ..] if first == "buildx" && second == "build" => rest,
            _ => return None,
        };
        let read = Words::try_parse_from(words).map_err(|error| {
            let text = error.to_string();
            text.lines().next().unwrap_or_default().to_owned()
        });
        Some(read.map(Self::from))
    }

    /// Checks every value: files must be below `roots`, names the drone's own, `/dev/shm` no larger than
    /// `most`, and nothing may use the server's network or environment.
    ///
    /// # Errors
    /// Says in words what is refused.
    pub fn check(
        &self,
        roots: &[PathBuf],
        identity: &Identity,
        most: ByteSize,
    ) -> Result<(), String> {
        let Self {
            context,
            dockerfile,
            tags,
            contexts,
            ..
        } = self;
        let is_below = |path: &Path| {
            let plain = path.components().all(|part| part != Component::ParentDir);
            plain
                && path.to_str().is_some_and(policy::is_one_line)
                && roots.iter().any(|root| path.starts_with(root))
        };
        if !is_below(context) {
            return refused("the context", context);
        }
        let dockerfile_in = context.join(dockerfile).parent().map(Path::to_path_buf);
        if !dockerfile_in.is_some_and(|directory| is_below(&directory))
            || !is_below(&context.join(dockerfile))
        {
            return refused("the Dockerfile", dockerfile);
        }
        if tags.is_empty() {
            return Err("an image without a name".to_owned());
        }
        if let Some(tag) = tags
            .iter()
            .find(|tag| !policy::is_image(tag) || !images::is_own_tag(&identity.name, tag))
        {
            return refused("the name", tag);
        }
        if let Some((name, path)) = contexts
            .iter()
            .find(|(name, path)| *name != FEATURES || !is_below(path))
        {
            return refused("the context", &format!("{name}={}", path.display()));
        }
        self.check_words(most)
    }

    fn check_words(&self, most: ByteSize) -> Result<(), String> {
        let Self {
            // Where it is and what it is called was judged before.
            context: _,
            dockerfile: _,
            tags,
            target,
            args,
            labels,
            contexts,
            cache_from,
            network,
            platform,
            hosts,
            shm_size,
            ulimits,
            no_cache: _,
            pull: _,
            if_missing: _,
        } = self;
        let sizes = [
            args.len(),
            labels.len(),
            contexts.len(),
            cache_from.len(),
            hosts.len(),
            ulimits.len(),
            tags.len(),
        ];
        if sizes.iter().any(|&size| size > MAX_ENTRIES) {
            return Err(format!("more than {MAX_ENTRIES} entries of one kind"));
        }
        if let Some(target) = target.as_ref().filter(|target| !policy::is_name(target)) {
            return refused("the target", target);
        }
        if let Some((name, _)) = args.iter().find(|(name, value)| !is_argument(name, value)) {
            return refused("the argument", name);
        }
        if let Some((name, _)) = labels.iter().find(|(name, value)| !is_label(name, value)) {
            return refused("the label", name);
        }
        let is_foreign =
            |image: &&String| !policy::is_image(image) || images::barred(image).is_some();
        if let Some(image) = cache_from.iter().find(is_foreign) {
            return refused("the cache", image);
        }
        if let Some(network) = network
            .as_ref()
            .filter(|it| !matches!(it.as_str(), "default" | "none"))
        {
            return refused("the network", network);
        }
        if let Some(platform) = platform
            .as_ref()
            .filter(|platform| !policy::is_platform(platform))
        {
            return refused("the platform", platform);
        }
        let is_entry = |host: &&String| host_entry(host).is_some() || is_gateway(host);
        if let Some(host) = hosts.iter().find(|host| !is_entry(host)) {
            return refused("the host", host);
        }
        if let Some(size) = shm_size.filter(|&size| size > most) {
            return refused("the size of /dev/shm", &size.to_string());
        }
        if let Some(limit) = ulimits
            .iter()
            .find(|limit| !is_plain(limit) || !policy::is_ulimit(limit))
        {
            return refused("the ulimit", limit);
        }
        Ok(())
    }

    /// The directories that `buildctl` is given, by its own names for them.
    pub fn directories(&self) -> impl Iterator<Item = (&str, PathBuf)> {
        let dockerfile = self.context.join(&self.dockerfile);
        let beside = dockerfile
            .parent()
            .map_or_else(|| self.context.clone(), Path::to_path_buf);
        let named = self
            .contexts
            .iter()
            .map(|(name, path)| (name.as_str(), path.clone()));
        [("context", self.context.clone()), ("dockerfile", beside)]
            .into_iter()
            .chain(named)
    }

    /// The options of `BuildKit`'s Dockerfile frontend (its documentation, "dockerfile.v0").
    pub fn options(&self) -> Vec<(String, String)> {
        let mut out = Vec::new();
        let mut put = |key: String, value: &str| out.push((key, value.to_owned()));
        let file = self.dockerfile.file_name().and_then(|name| name.to_str());
        put("filename".to_owned(), file.unwrap_or("Dockerfile"));
        for (name, value) in &self.args {
            put(format!("build-arg:{name}"), value);
        }
        for (name, value) in &self.labels {
            put(format!("label:{name}"), value);
        }
        for name in self.contexts.keys() {
            put(format!("context:{name}"), &format!("local:{name}"));
        }
        if let Some(target) = &self.target {
            put("target".to_owned(), target);
        }
        if let Some(platform) = &self.platform {
            put("platform".to_owned(), platform);
        }
        if self.network.as_deref() == Some("none") {
            put("force-network-mode".to_owned(), "none");
        }
        if self.no_cache {
            put("no-cache".to_owned(), "");
        }
        if self.pull {
            put("image-resolve-mode".to_owned(), "pull");
        }
        let hosts: Vec<String> = self
            .hosts
            .iter()
            .filter_map(|host| host_entry(host))
            .collect();
        if !hosts.is_empty() {
            put("add-hosts".to_owned(), &hosts.join(","));
        }
        if let Some(size) = self.shm_size {
            put("shm-size".to_owned(), &size.as_u64().to_string());
        }
        if !self.ulimits.is_empty() {
            put("ulimit".to_owned(), &self.ulimits.join(","));
        }
        out
    }
}

impl From<Words> for Build {
    fn from(words: Words) -> Self {
        Self {
            dockerfile: words.file.unwrap_or_else(|| "Dockerfile".into()),
            context: words.context,
            tags: words.tag,
            target: words.target,
            args: words.build_arg.into_iter().collect(),
            labels: words.label.into_iter().collect(),
            contexts: words.build_context.into_iter().collect(),
            cache_from: words.cache_from,
            network: words.network,
            platform: words.platform,
            hosts: words.add_host,
            shm_size: words.shm_size,
            ulimits: words.ulimit,
            no_cache: words.no_cache,
            pull: words.pull,
            if_missing: false,
        }
    }
}

fn refused(what: &str, value: &dyn std::fmt::Debug) -> Result<(), String> {
    let shown: String = format!("{value:?}").chars().take(200).collect();
    Err(format!("{what} {shown}"))
}

/// Whether this build argument may be given. Proxies are not part of a layer's cache key, and `BUILDKIT_*`
/// steers the builder itself; the exception is what the devcontainer CLI sets to have the cache in the image.
fn is_argument(name: &str, value: &str) -> bool {
    let upper = name.to_ascii_uppercase();
    let steers = upper.ends_with("_PROXY")
        || (upper.starts_with("BUILDKIT_") && upper != "BUILDKIT_INLINE_CACHE");
    policy::is_env_name(name) && policy::is_one_line(value) && !steers
}

fn is_label(name: &str, value: &str) -> bool {
    let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '=' | ',' | '"' | '\'');
    !name.is_empty() && name.len() <= 200 && name.chars().all(plain) && policy::is_one_line(value)
}

/// Whether a text is so plain that `BuildKit` does not read it as a list of several.
fn is_plain(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_.-=:".contains(c);
    !text.is_empty() && text.len() <= 200 && text.chars().all(plain)
}

/// Whether an entry is for the server itself. A build does not reach it, so the entry is left out.
fn is_gateway(text: &str) -> bool {
    let entry = text.split_once(['=', ':']);
    entry.is_some_and(|(name, address)| is_plain(name) && address == "host-gateway")
}

/// The entry as `NAME=ADDRESS`; `None` if it is not a plain name with an IP address.
fn host_entry(text: &str) -> Option<String> {
    let (name, address) = text.split_once(['=', ':'])?;
    let address: std::net::IpAddr = address.trim_matches(['[', ']']).parse().ok()?;
    (is_plain(name) && !name.contains(['=', ':'])).then(|| format!("{name}={address}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drone::Scope;
    use proptest::prelude::*;

    fn identity() -> Identity {
        Identity::new(Scope::from_json(r#"{"repositories":["acme/site"]}"#).unwrap())
    }

    fn roots() -> Vec<PathBuf> {
        vec!["/w/clone/site".into(), "/w/tmp".into()]
    }

    fn read(args: &[&str]) -> Result<Build, String> {
        let args: Vec<OsString> = args.iter().map(OsString::from).collect();
        Build::read(&args).unwrap()
    }

    fn checked(build: &Build) -> Result<(), String> {
        build.check(&roots(), &identity(), ByteSize::gib(1))
    }

    /// As the devcontainer CLI 0.89 calls it, with all that `build.options` may name.
    const USUAL: &[&str] = &[
        "buildx",
        "build",
        "--load",
        "--build-arg",
        "BUILDKIT_INLINE_CACHE=1",
        "--cache-from",
        "ghcr.io/acme/cache:1",
        "--build-context",
        "dev_containers_feature_content_source=/w/tmp/f/1",
        "--build-arg",
        "_DEV_CONTAINERS_BASE_IMAGE=mcr.microsoft.com/x:y",
        "--build-arg",
        "A=b=c d",
        "--label",
        "x=y",
        "--network=none",
        "--platform=linux/arm64",
        "--shm-size=64m",
        "--ulimit=nofile=1024:2048",
        "--add-host",
        "db:10.0.0.1",
        "--pull",
        "--no-cache",
        "--force-rm",
        "--progress=plain",
        "--target",
        "dev_containers_target_stage",
        "-f",
        "/w/tmp/f/1/Dockerfile.extended",
        "-t",
        "vsc-site-0123-features",
        "/w/tmp/empty-folder",
    ];

    #[test]
    fn what_the_cli_writes_is_understood() {
        let build = read(USUAL).unwrap();
        assert_eq!(checked(&build), Ok(()));
        assert_eq!(build.context, Path::new("/w/tmp/empty-folder"));
        assert_eq!(build.args["A"], "b=c d");
        assert!(build.no_cache && build.pull);
        let mut directories = build.directories();
        assert_eq!(
            directories.next(),
            Some(("context", "/w/tmp/empty-folder".into()))
        );
        assert_eq!(
            directories.next(),
            Some(("dockerfile", "/w/tmp/f/1".into()))
        );
        assert_eq!(
            directories.next(),
            Some(("dev_containers_feature_content_source", "/w/tmp/f/1".into()))
        );
        let options = build.options();
        let value = |key: &str| {
            options
                .iter()
                .find(|(name, _)| name == key)
                .map(|(_, value)| value.as_str())
        };
        for (key, expected) in [
            ("filename", "Dockerfile.extended"),
            ("build-arg:A", "b=c d"),
            ("label:x", "y"),
            (
                "context:dev_containers_feature_content_source",
                "local:dev_containers_feature_content_source",
            ),
            ("target", "dev_containers_target_stage"),
            ("platform", "linux/arm64"),
            ("force-network-mode", "none"),
            ("no-cache", ""),
            ("image-resolve-mode", "pull"),
            ("add-hosts", "db=10.0.0.1"),
            ("shm-size", "67108864"),
            ("ulimit", "nofile=1024:2048"),
        ] {
            assert_eq!(value(key), Some(expected), "{key}");
        }
        let twice = [
            "build",
            "--target",
            "a",
            "--target=b",
            "--pull",
            "--pull",
            "--label",
            "x",
            "--add-host=h:host-gateway",
            "-t",
            "vsc-x",
            "/w/tmp",
        ];
        let twice = read(&twice).unwrap();
        assert_eq!(checked(&twice), Ok(()));
        assert_eq!(
            (twice.target.as_deref(), twice.labels["x"].as_str()),
            (Some("b"), "")
        );
        assert!(!twice.options().iter().any(|(key, _)| key == "add-hosts"));
        for (text, bytes) in [
            ("1g", 1 << 30),
            ("1GB", 1 << 30),
            ("512kb", 512 << 10),
            ("7", 7),
            ("7b", 7),
        ] {
            assert_eq!(memory(text), Ok(ByteSize::b(bytes)), "{text}");
        }
        for text in ["", "m", "1x", "-1", "1.5g", "99999999999g"] {
            assert!(memory(text).is_err(), "{text}");
        }
        assert!(Build::read(&["inspect".into(), "x".into()]).is_none());
        for unknown in [
            &["build", "--ssh=default", "/w/tmp"][..],
            &["build", "--secret", "id=x", "/w/tmp"],
            &["build"],
            &["build", "a", "b"],
        ] {
            assert!(read(unknown).is_err(), "{unknown:?}");
        }
    }

    type Change<'a> = &'a dyn Fn(&mut Build);

    #[test]
    fn each_value_is_held_to_its_rule() {
        let usual = read(USUAL).unwrap();
        let with = |change: &dyn Fn(&mut Build)| {
            let mut build = usual.clone();
            change(&mut build);
            checked(&build)
        };
        let put = |map: &mut BTreeMap<String, String>, name: &str, value: &str| {
            map.insert(name.to_owned(), value.to_owned());
        };
        let beyond: &[(&str, Change<'_>)] = &[
            ("a context elsewhere", &|it| it.context = "/etc".into()),
            ("a context beside", &|it| it.context = "/w/tmpx".into()),
            ("a context above", &|it| {
                it.context = "/w/tmp/../../etc".into();
            }),
            ("a relative context", &|it| it.context = "tmp".into()),
            ("a context of two lines", &|it| {
                it.context = "/w/tmp/a\nb".into();
            }),
            ("a Dockerfile elsewhere", &|it| {
                it.dockerfile = "/etc/shadow".into();
            }),
            ("a Dockerfile above", &|it| {
                it.dockerfile = "../../../etc/shadow".into();
            }),
            ("no name", &|it| it.tags.clear()),
            ("a Dockerfile that holds both", &|it| {
                it.dockerfile = "/w/tmp".into();
            }),
            ("another's name", &|it| it.tags.push("debian:12".to_owned())),
            ("another drone's name", &|it| {
                it.tags = vec!["hatchery.invalid/acme-other/t:db".to_owned()];
            }),
            ("two names in one", &|it| {
                it.tags = vec!["vsc-a,debian:12".to_owned()];
            }),
            ("a target of two lines", &|it| {
                it.target = Some("a\nb".to_owned());
            }),
            ("a proxy", &|it| put(&mut it.args, "http_proxy", "http://a")),
            ("a setting of the builder", &|it| {
                put(&mut it.args, "BUILDKIT_SYNTAX", "evil/frontend");
            }),
            ("an argument of two lines", &|it| {
                put(&mut it.args, "A", "b\nc");
            }),
            ("an argument without a name", &|it| {
                put(&mut it.args, "", "b");
            }),
            ("a label of two lines", &|it| {
                put(&mut it.labels, "a", "b\nc");
            }),
            ("a label that is none", &|it| {
                put(&mut it.labels, "a b", "c");
            }),
            ("another context", &|it| {
                drop(it.contexts.insert("debian".to_owned(), "/w/tmp".into()));
            }),
            ("features elsewhere", &|it| {
                drop(it.contexts.insert(FEATURES.to_owned(), "/etc".into()));
            }),
            ("a cache of this server", &|it| {
                it.cache_from = vec!["localhost:5000/x".to_owned()];
            }),
            ("a cache in a file", &|it| {
                it.cache_from = vec!["type=local,src=/etc".to_owned()];
            }),
            ("the server's network", &|it| {
                it.network = Some("host".to_owned());
            }),
            ("a platform that is none", &|it| {
                it.platform = Some("linux/amd64,x".to_owned());
            }),
            ("a host without an address", &|it| {
                it.hosts = vec!["db:nowhere".to_owned()];
            }),
            ("two hosts in one", &|it| {
                it.hosts = vec!["a,b:10.0.0.1".to_owned()];
            }),
            ("much shared memory", &|it| {
                it.shm_size = Some(ByteSize::gib(2));
            }),
            ("the real-time scheduler", &|it| {
                it.ulimits = vec!["rtprio=99".to_owned()];
            }),
            ("two limits in one", &|it| {
                it.ulimits = vec!["nofile=1,rtprio=99".to_owned()];
            }),
            ("too much", &|it| {
                it.hosts = vec!["db:10.0.0.1".to_owned(); MAX_ENTRIES + 1];
            }),
        ];
        assert_eq!(with(&|_| ()), Ok(()));
        for (what, change) in beyond {
            assert!(with(change).is_err(), "{what}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        /// Whatever comes, what passes names no directory but the two, and says nothing on two lines.
        #[test]
        fn what_passes_stays_where_it_belongs(
            context in "(/w/tmp|/w/clone/site|/etc|/)(/[a-z.]{1,3}){0,3}",
            dockerfile in "(|/w/tmp/|/etc/|[.]{2}/)[a-zA-Z./\\n]{1,12}",
            target in proptest::option::of("[a-zA-Z_.\\n $-]{0,8}"),
            args in proptest::collection::btree_map("[A-Za-z_\\n=]{0,12}", ".{0,8}", 0..3),
        ) {
            let build = Build {
                context: context.into(),
                dockerfile: dockerfile.into(),
                target,
                args,
                tags: vec!["vsc-site".to_owned()],
                ..Build::default()
            };
            if checked(&build).is_ok() {
                for (_, path) in build.directories() {
                    let below = roots().iter().any(|root| path.starts_with(root));
                    prop_assert!(below, "{}", path.display());
                    prop_assert!(!path.components().any(|part| part == Component::ParentDir));
                }
                for (key, value) in build.options() {
                    prop_assert!(policy::is_one_line(&key) && policy::is_one_line(&value));
                }
            }
        }
    }
}
