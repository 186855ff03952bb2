//! Mounts: a volume of the drone's own or memory; never the host's files or another drone's.

use std::ffi::OsStr;
use std::path::Path;

use serde_json::{Value, json};

use super::policy;
use super::workspace::Part;
use crate::devcontainer::reading::checkout::Checkout;
use crate::drone::DroneName;

/// A mount that the policy allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    source: Source,
    target: String,
    read_only: bool,
    no_copy: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Source {
    Anonymous,
    Volume(String),
    /// A part of the repository, in the drone's volume.
    Part(Part),
    Memory {
        size: Option<String>,
        mode: Option<String>,
    },
}

/// A mount that devcontainer.json asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// One that the policy allows.
    Judged {
        /// The mount.
        mount: Mount,
        /// The line that asks for it.
        line: usize,
    },
    /// A trusted repository's, as it is written.
    Written(Value),
}

impl Asked {
    /// The mount, if any repository may have it; `None` if it needs trust.
    pub fn mount(&self) -> Option<Mount> {
        match self {
            Self::Judged { mount, .. } => Some(mount.clone()),
            Self::Written(value) => judge(value, None).ok(),
        }
    }

    /// For the property `mounts`; see [`Mount::to_text`].
    pub fn to_value(&self, drone: &DroneName, clone: &str) -> Value {
        match self {
            Self::Judged { mount, .. } => json!(mount.to_text(drone, clone)),
            Self::Written(value) => value.clone(),
        }
    }
}

/// Variables that a mount may hold; the devcontainer CLI replaces them by plain names and paths.
const ID: &str = "${devcontainerId}";
const FOLDER: &str = "${containerWorkspaceFolder}";
/// The checkout on a person's machine.
const LOCAL: &str = "${localWorkspaceFolder}";
const FOLDER_NAME: &str = "${containerWorkspaceFolderBasename}";

/// Reads a `--mount` text or its object form. The error says why the mount is not allowed. A bind mount of a
/// part of `checkout` becomes a mount of the drone's volume; without a checkout there are no bind mounts.
pub fn judge(value: &Value, checkout: Option<&Checkout>) -> Result<Mount, &'static str> {
    from_fields(&fields(value)?, checkout)
}

/// The keys and values of a `--mount` text or its object form. Fails if it is neither.
pub fn fields(value: &Value) -> Result<Vec<(String, String)>, &'static str> {
    let mut fields = Vec::new();
    match value {
        Value::String(text) => {
            for part in text.split(',') {
                let (key, value) = part.split_once('=').unwrap_or((part, "true"));
                fields.push((key.trim().to_owned(), value.trim().to_owned()));
            }
        }
        Value::Object(map) => {
            for (key, value) in map {
                let value = match value {
                    Value::String(text) => text.clone(),
                    Value::Bool(flag) => flag.to_string(),
                    _ => return Err("it is not a mount"),
                };
                fields.push((key.clone(), value));
            }
        }
        _ => return Err("it is not a mount"),
    }
    Ok(fields)
}

/// The part of the repository that a bind mount's source names; `None` if it names none. Relative sources start
/// from the checkout: the devcontainer CLI passes them to docker, which it runs there.
pub fn part(source: &str, checkout: &Checkout) -> Option<Part> {
    let root = checkout.root();
    let source = source.replace(LOCAL, root.to_str()?);
    let is_path = source.starts_with(['/', '.']);
    is_path.then(|| Part::of(&source, root, checkout)).flatten()
}

fn from_fields(
    fields: &[(String, String)],
    checkout: Option<&Checkout>,
) -> Result<Mount, &'static str> {
    let (mut kind, mut source, mut target) = ("volume", "", "");
    let (mut read_only, mut no_copy, mut size, mut mode) = (false, false, None, None);
    for (key, value) in fields {
        match key.to_ascii_lowercase().as_str() {
            "type" => kind = value,
            "source" | "src" => source = value,
            "target" | "dst" | "destination" => target = value,
            "readonly" | "ro" => read_only = flag(value)?,
            "volume-nocopy" => no_copy = flag(value)?,
            "tmpfs-size" => size = Some(value.clone()),
            "tmpfs-mode" => mode = Some(value.clone()),
            "external" if value == "false" => {}
            "volume-opt" | "volume-driver" => {
                return Err("a driver's options can turn the host's files into a volume");
            }
            "bind-propagation" | "bind-nonrecursive" if checkout.is_none() => return Err(NO_BIND),
            // How eagerly a Mac copies; how mounts below a directory are seen, of which the volume has none.
            "consistency" | "bind-propagation" | "bind-nonrecursive" => {}
            _ => return Err("hatchery does not know this option of a mount"),
        }
    }
    let source = match kind {
        "volume" if source.is_empty() => Source::Anonymous,
        "volume" if is_volume(source) => Source::Volume(source.to_owned()),
        "volume" if source.starts_with(['/', '.', '~', '$']) => return Err(NO_BIND),
        "volume" => return Err("this is not the name of a volume"),
        "tmpfs" if source.is_empty() => {
            if !size.iter().chain(&mode).all(|text| is_option(text)) {
                return Err("this is not a size or mode");
            }
            Source::Memory { size, mode }
        }
        "bind" => Source::Part(
            checkout
                .and_then(|checkout| part(source, checkout))
                .ok_or(NO_BIND)?,
        ),
        _ => return Err("only volumes and tmpfs can be mounted"),
    };
    check_target(target)?;
    Ok(Mount {
        source,
        target: target.to_owned(),
        read_only,
        no_copy,
    })
}

/// Why a bind mount of this server's files is refused.
pub const NO_BIND: &str = "it would mount this server's files into the drone";

fn check_target(target: &str) -> Result<(), &'static str> {
    let plain = target.replace(ID, "id").replace(FOLDER_NAME, "folder");
    let plain = plain
        .strip_prefix(FOLDER)
        .map_or_else(|| plain.clone(), |rest| format!("/workspace{rest}"));
    if !policy::is_target(&plain) {
        return Err("the target is not an absolute path");
    }
    if policy::is_reserved_target(&plain) {
        return Err("the target is reserved for hatchery");
    }
    Ok(())
}

fn flag(value: &str) -> Result<bool, &'static str> {
    match value {
        "true" | "1" | "" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err("this is neither true nor false"),
    }
}

fn is_volume(source: &str) -> bool {
    policy::is_name(&source.replace(ID, "id"))
}

fn is_option(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '.')
}

impl Mount {
    /// Whether its volume's name is one that no other drone can have: it holds the drone's ID.
    pub fn is_scoped(&self) -> bool {
        match &self.source {
            Source::Volume(name) => name.contains(ID),
            Source::Anonymous | Source::Part(_) | Source::Memory { .. } => true,
        }
    }

    /// A mount of a part of the repository.
    pub fn of_part(part: Part, target: &str) -> Self {
        Self {
            source: Source::Part(part),
            target: target.to_owned(),
            read_only: false,
            no_copy: true,
        }
    }

    /// Its path in the container, in which there may be variables.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// The part of the repository that it shows, if it shows one.
    pub fn part(&self) -> Option<&Part> {
        match &self.source {
            Source::Part(part) => Some(part),
            _ => None,
        }
    }

    /// The text for `--mount`, its volume made the drone's own. `clone` is the clone's path in the
    /// drone's volume.
    ///
    /// A drone's name has no dot, so no other drone's volume can have this name.
    pub fn to_text(&self, drone: &DroneName, clone: &str) -> String {
        let source = match &self.source {
            Source::Part(part) => match subpath(part, clone) {
                Some(path) => format!("type=volume,source={drone},volume-subpath={path}"),
                None => format!("type=volume,source={drone}"),
            },
            Source::Anonymous => "type=volume".to_owned(),
            Source::Volume(name) if self.is_scoped() => format!("type=volume,source={name}"),
            Source::Volume(name) => format!("type=volume,source={drone}.{name}"),
            Source::Memory { size, mode } => {
                let option = |key: &str, value: &Option<String>| {
                    value
                        .as_ref()
                        .map_or_else(String::new, |value| format!(",{key}={value}"))
                };
                let (size, mode) = (option("tmpfs-size", size), option("tmpfs-mode", mode));
                format!("type=tmpfs{size}{mode}")
            }
        };
        let read_only = if self.read_only { ",readonly" } else { "" };
        let no_copy = if self.copies() { "" } else { ",volume-nocopy" };
        format!("{source},target={}{read_only}{no_copy}", self.target)
    }
}

/// The path of a part of the repository in the volume that holds the clone at `clone`; `None` if the part is
/// all of the volume.
pub fn subpath(part: &Part, clone: &str) -> Option<String> {
    let path = match part {
        Part::Parent => return None,
        Part::Clone { path, .. } => path,
    };
    let parts = [clone, path].into_iter().filter(|part| !part.is_empty());
    let path = parts.collect::<Vec<_>>().join("/");
    (!path.is_empty()).then_some(path)
}

impl Mount {
    /// Whether Docker copies the image's files into the volume while that is empty. It never does for the
    /// clone.
    const fn copies(&self) -> bool {
        !self.no_copy && !matches!(self.source, Source::Part(_))
    }

    /// The mount in compose's long form. Compose's volumes are the project's own already, but it knows no
    /// variables of devcontainer.json, so they are replaced here. `folder` is the workspace's; `volume` is the
    /// volume that holds the clone, at the path `clone`.
    pub fn to_compose(&self, drone: &DroneName, folder: &str, volume: &str, clone: &str) -> Value {
        let name = Path::new(folder).file_name().and_then(OsStr::to_str);
        let resolved = |text: &str| {
            text.replace(ID, drone.as_str())
                .replace(FOLDER, folder)
                .replace(FOLDER_NAME, name.unwrap_or_default())
        };
        let mut out = json!({"type": "volume", "target": resolved(&self.target)});
        match &self.source {
            Source::Anonymous => {}
            Source::Volume(name) => out["source"] = json!(resolved(name)),
            // Its size and mode cannot be had in compose 1.29's long form.
            Source::Memory { .. } => out["type"] = json!("tmpfs"),
            Source::Part(part) => {
                out["source"] = json!(volume);
                out["volume"] = json!({"nocopy": true});
                if let Some(path) = subpath(part, clone) {
                    out["volume"]["subpath"] = json!(path);
                }
            }
        }
        if self.read_only {
            out["read_only"] = json!(true);
        }
        if self.no_copy {
            out["volume"]["nocopy"] = json!(true);
        }
        out
    }
}

/// Whether a text is what [`Mount::to_text`] makes of a part of this drone's repository.
pub fn is_part(text: &str, drone: &DroneName) -> bool {
    let Some(rest) = text.strip_prefix(&format!("type=volume,source={drone},")) else {
        return false;
    };
    let rest = match rest.strip_prefix("volume-subpath=") {
        Some(rest) => rest.split_once(',').map_or("", |(_, rest)| rest),
        None => rest,
    };
    judge(&json!(format!("type=volume,{rest}")), None)
        .is_ok_and(|mount| mount.source == Source::Anonymous)
}

/// Reads the value of `-v` (`/target`, `name:/target[:ro]`) as [`judge`] does.
pub fn judge_volume_flag(text: &str, checkout: Option<&Checkout>) -> Result<Mount, &'static str> {
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, mode) = match parts.as_slice() {
        [target] => ("", *target, ""),
        [source, target] => (*source, *target, ""),
        [source, target, mode] => (*source, *target, *mode),
        _ => return Err("this is not a volume"),
    };
    let path = source.starts_with(['/', '.', '~', '$']) && !source.contains(ID);
    let kind = if path { "bind" } else { "volume" };
    let mut fields = vec![
        ("type".to_owned(), kind.to_owned()),
        ("source".to_owned(), source.to_owned()),
        ("target".to_owned(), target.to_owned()),
    ];
    for word in mode.split(',') {
        match word {
            "ro" => fields.push(("ro".into(), "true".into())),
            "nocopy" => fields.push(("volume-nocopy".into(), "true".into())),
            "" | "rw" | "z" | "Z" | "cached" | "delegated" | "consistent" => {}
            _ => return Err("hatchery does not know this option of a volume"),
        }
    }
    from_fields(&fields, checkout)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drone() -> DroneName {
        DroneName::of(&"acme/site".parse().unwrap())
    }

    #[test]
    fn volumes_become_the_drones_own() {
        for (mount, expected) in [
            (
                json!("source=x,target=/x,type=volume"),
                "type=volume,source=acme-site.x,target=/x",
            ),
            (
                json!("type=volume,src=x,dst=/x,readonly"),
                "type=volume,source=acme-site.x,target=/x,readonly",
            ),
            (
                json!({"source": "x", "target": "/x", "type": "volume"}),
                "type=volume,source=acme-site.x,target=/x",
            ),
            (
                json!({"source": "ts-${devcontainerId}", "target": "/x", "type": "volume"}),
                "type=volume,source=ts-${devcontainerId},target=/x",
            ),
            (json!("type=volume,target=/x"), "type=volume,target=/x"),
            (
                json!("target=${containerWorkspaceFolder}/node_modules,source=n,type=volume"),
                "type=volume,source=acme-site.n,target=${containerWorkspaceFolder}/node_modules",
            ),
            (
                json!("type=tmpfs,destination=/tmp/x,tmpfs-size=64m,tmpfs-mode=1777"),
                "type=tmpfs,tmpfs-size=64m,tmpfs-mode=1777,target=/tmp/x",
            ),
        ] {
            assert_eq!(
                judge(&mount, None)
                    .map(|mount| mount.to_text(&drone(), "site"))
                    .as_deref(),
                Ok(expected),
                "{mount}"
            );
        }
    }

    #[test]
    fn the_hosts_files_cannot_be_mounted_in_any_disguise() {
        for mount in [
            json!("source=/var/run/docker.sock,target=/x,type=bind"),
            json!("type=bind,src=${localWorkspaceFolder},dst=/x"),
            json!("source=/etc,target=/x"),
            json!("source=./x,target=/x"),
            json!("source=${localWorkspaceFolder},target=/x"),
            json!({"source": "/", "target": "/x", "type": "bind"}),
            json!({"source": "x,volume-opt=device=/", "target": "/x", "type": "volume"}),
            json!(
                "type=volume,source=x,target=/x,volume-driver=local,volume-opt=type=none,volume-opt=device=/,volume-opt=o=bind"
            ),
            json!("type=volume,source=x,target=/x\",\"type=bind"),
            json!("type=npipe,source=x,target=/x"),
            json!({"type": "volume", "source": "x", "target": "/x,type=bind"}),
            json!({"type": "volume", "source": "x", "target": "/x", "external": "true"}),
            json!("type=volume,source=x,target=/run/hatchery"),
            json!("type=volume,source=x"),
            json!(7),
            json!([]),
            json!({"type": {}}),
        ] {
            assert!(judge(&mount, None).is_err(), "{mount}");
        }
    }

    #[test]
    fn the_short_form_is_held_to_the_same() {
        let text =
            |flag: &str| judge_volume_flag(flag, None).map(|mount| mount.to_text(&drone(), "site"));
        assert_eq!(
            text("x:/x:ro").unwrap(),
            "type=volume,source=acme-site.x,target=/x,readonly"
        );
        assert_eq!(text("/x").unwrap(), "type=volume,target=/x");
        assert_eq!(
            text("c-${devcontainerId}:/x").unwrap(),
            "type=volume,source=c-${devcontainerId},target=/x"
        );
        for flag in [
            "/:/host",
            "./x:/x",
            "~/x:/x",
            "x:/x:rshared",
            "x:y",
            "${localWorkspaceFolder}:/x",
            "a:/b:ro:c",
            "",
        ] {
            assert!(judge_volume_flag(flag, None).is_err(), "{flag}");
        }
    }
}
