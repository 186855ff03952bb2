//! Mounts: a volume of the drone's own or memory; never the host's files or another drone's.

use std::ffi::OsStr;
use std::path::Path;

use serde_json::{Value, json};

use super::policy;
use crate::drone::DroneName;

/// A mount that may be had.
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
    Memory {
        size: Option<String>,
        mode: Option<String>,
    },
}

/// Variables that a mount may hold; the devcontainer CLI replaces them by plain names and paths.
const ID: &str = "${devcontainerId}";
const FOLDER: &str = "${containerWorkspaceFolder}";
const FOLDER_NAME: &str = "${containerWorkspaceFolderBasename}";

/// Reads a `--mount` text or the object form of it, and says why it cannot be had.
pub fn judge(value: &Value) -> Result<Mount, &'static str> {
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
    from_fields(&fields)
}

fn from_fields(fields: &[(String, String)]) -> Result<Mount, &'static str> {
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
            // Says how eagerly a Mac copies.
            "consistency" => {}
            "volume-opt" | "volume-driver" => {
                return Err("a driver's options can make a volume out of the host's files");
            }
            "bind-propagation" | "bind-nonrecursive" => return Err(NO_BIND),
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
        "bind" => return Err(NO_BIND),
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

const NO_BIND: &str = "it would mount this server's files into the drone";

fn check_target(target: &str) -> Result<(), &'static str> {
    let plain = target.replace(ID, "id").replace(FOLDER_NAME, "folder");
    let plain = plain
        .strip_prefix(FOLDER)
        .map_or_else(|| plain.clone(), |rest| format!("/workspace{rest}"));
    if !policy::is_target(&plain) {
        return Err("the target is not an absolute path");
    }
    if policy::is_reserved_target(&plain) {
        return Err("the target is hatchery's own");
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
            Source::Anonymous | Source::Memory { .. } => true,
        }
    }

    /// The text for `--mount`, its volume made the drone's own.
    ///
    /// A drone's name has no dot, so no other drone's volume can have this name.
    pub fn to_text(&self, drone: &DroneName) -> String {
        let source = match &self.source {
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
        let no_copy = if self.no_copy { ",volume-nocopy" } else { "" };
        format!("{source},target={}{read_only}{no_copy}", self.target)
    }
}

impl Mount {
    /// The same in compose's long form. Compose's volumes are the project's own already, and
    /// compose knows no variables of devcontainer.json; `folder` is the workspace's.
    pub fn to_compose(&self, drone: &DroneName, folder: &str) -> Value {
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
        }
        if self.read_only {
            out["read_only"] = json!(true);
        }
        if self.no_copy {
            out["volume"] = json!({"nocopy": true});
        }
        out
    }
}

/// Reads the value of `-v`: `/target`, `name:/target[:ro]`.
pub fn judge_volume_flag(text: &str) -> Result<Mount, &'static str> {
    let text = text.replace(ID, "\u{1}").replace(FOLDER, "\u{2}");
    let parts: Vec<String> = text
        .split(':')
        .map(|part| part.replace('\u{1}', ID).replace('\u{2}', FOLDER))
        .collect();
    let (source, target, mode) = match parts.as_slice() {
        [target] => ("", target, ""),
        [source, target] => (source.as_str(), target, ""),
        [source, target, mode] => (source.as_str(), target, mode.as_str()),
        _ => return Err("this is not a volume"),
    };
    let mut fields = vec![
        ("source".to_owned(), source.to_owned()),
        ("target".to_owned(), target.clone()),
    ];
    for word in mode.split(',') {
        match word {
            "ro" => fields.push(("ro".into(), "true".into())),
            "nocopy" => fields.push(("volume-nocopy".into(), "true".into())),
            "" | "rw" | "z" | "Z" | "cached" | "delegated" | "consistent" => {}
            _ => return Err("hatchery does not know this option of a volume"),
        }
    }
    from_fields(&fields)
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
                judge(&mount)
                    .map(|mount| mount.to_text(&drone()))
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
            assert!(judge(&mount).is_err(), "{mount}");
        }
    }

    #[test]
    fn the_short_form_is_held_to_the_same() {
        let text = |flag: &str| judge_volume_flag(flag).map(|mount| mount.to_text(&drone()));
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
            assert!(judge_volume_flag(flag).is_err(), "{flag}");
        }
    }
}
