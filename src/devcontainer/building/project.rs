//! The images that a compose project builds, read from hatchery's own compose file and what the devcontainer
//! CLI adds to it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::Build;
use super::build::memory;

/// What a call of compose asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// `build`: these services; all if the list is empty.
    Build(Vec<String>),
    /// `up`: these services and those that they need; all if the list is empty.
    Up(Vec<String>),
}

/// The builds that a call of compose with these files needs. Later files override earlier ones.
///
/// # Errors
/// Says in words what is not understood.
pub fn builds(
    files: &[Value],
    wanted: &Wanted,
    no_cache: bool,
    pull: bool,
) -> Result<Vec<Build>, String> {
    let mut services: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    for file in files {
        let given = file.get("services").and_then(Value::as_object);
        for (name, service) in given.into_iter().flatten() {
            let into = services.entry(name).or_default();
            for (key, value) in service.as_object().into_iter().flatten() {
                if key == "build" {
                    lay_over(into.entry("build").or_insert(Value::Null), value);
                } else {
                    into.insert(key.clone(), value.clone());
                }
            }
        }
    }
    let mut out = Vec::new();
    for name in chosen(&services, wanted) {
        let Some(service) = services.get(name) else {
            continue;
        };
        if let Some(build) = service.get("build") {
            let read =
                read(build, service).map_err(|what| format!("services.{name}.build: {what}"))?;
            let if_missing = matches!(wanted, Wanted::Up(_));
            out.push(Build {
                no_cache,
                pull,
                if_missing,
                ..read
            });
        }
    }
    Ok(out)
}

/// The services that the call selects. One with a profile is selected only if it is named or needed.
fn chosen<'a>(
    services: &BTreeMap<&'a str, Map<String, Value>>,
    wanted: &'a Wanted,
) -> BTreeSet<&'a str> {
    let (Wanted::Build(named) | Wanted::Up(named)) = wanted;
    let has_profile = |service: &Map<String, Value>| {
        let profiles = service.get("profiles").and_then(Value::as_array);
        profiles.is_some_and(|profiles| !profiles.is_empty())
    };
    let mut open: Vec<&str> = if named.is_empty() {
        services
            .iter()
            .filter(|(_, service)| !has_profile(service))
            .map(|(name, _)| *name)
            .collect()
    } else {
        named.iter().map(String::as_str).collect()
    };
    let mut out = BTreeSet::new();
    while let Some(name) = open.pop() {
        let (Some((name, service)), true) = (services.get_key_value(name), !out.contains(name))
        else {
            continue;
        };
        out.insert(*name);
        if matches!(wanted, Wanted::Up(_)) {
            open.extend(services.keys().filter(|other| needs(service, other)));
        }
    }
    out
}

fn needs(service: &Map<String, Value>, other: &str) -> bool {
    let depends = service.get("depends_on").and_then(Value::as_object);
    let links = service
        .get("links")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    let network = service.get("network_mode").and_then(Value::as_str);
    depends.is_some_and(|depends| depends.contains_key(other))
        || links
            .filter_map(Value::as_str)
            .any(|link| link.split(':').next() == Some(other))
        || network.and_then(|mode| mode.strip_prefix("service:")) == Some(other)
}

/// Merges `over` into `build` as compose does: maps and lists of names by name, all else replaced.
fn lay_over(build: &mut Value, over: &Value) {
    let Some(build) = build.as_object_mut() else {
        *build = over.clone();
        return;
    };
    for (key, value) in over.as_object().into_iter().flatten() {
        if let ("args" | "labels" | "additional_contexts", Some(mut named)) =
            (key.as_str(), names(value))
        {
            let mut all = build.get(key).and_then(names).unwrap_or_default();
            all.append(&mut named);
            build.insert(
                key.clone(),
                Value::Object(
                    all.into_iter()
                        .map(|(name, value)| (name, value.into()))
                        .collect(),
                ),
            );
        } else {
            build.insert(key.clone(), value.clone());
        }
    }
}

/// An object of texts, or a list of `NAME=VALUE`.
fn names(value: &Value) -> Option<BTreeMap<String, String>> {
    match value {
        Value::Object(map) => map
            .iter()
            .map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
            .collect(),
        Value::Array(list) => list
            .iter()
            .map(|entry| {
                let (name, value) = entry.as_str()?.split_once('=')?;
                Some((name.to_owned(), value.to_owned()))
            })
            .collect(),
        _ => None,
    }
}

fn read(build: &Value, service: &Map<String, Value>) -> Result<Build, String> {
    let mut out = Build {
        dockerfile: "Dockerfile".into(),
        ..Build::default()
    };
    let image = service
        .get("image")
        .and_then(Value::as_str)
        .ok_or("it has no name")?;
    out.tags.push(plain(image)?);
    if let Some(platform) = service.get("platform").and_then(Value::as_str) {
        out.platform = Some(plain(platform)?);
    }
    for (key, value) in build.as_object().ok_or("it is not an object")? {
        let text = || {
            plain(
                value
                    .as_str()
                    .ok_or_else(|| format!("{key} is not a string"))?,
            )
        };
        let named = || {
            let named = names(value).ok_or_else(|| format!("{key} is not an object of strings"))?;
            named
                .into_iter()
                .map(|(name, value)| Ok((name, plain(&value)?)))
                .collect::<Result<BTreeMap<_, _>, String>>()
        };
        match key.as_str() {
            "context" => out.context = text()?.into(),
            "dockerfile" => out.dockerfile = text()?.into(),
            "target" => out.target = Some(text()?),
            "network" => out.network = Some(text()?),
            "args" => out.args = named()?,
            "labels" => out.labels = named()?,
            "additional_contexts" => {
                out.contexts = named()?
                    .into_iter()
                    .map(|(name, path)| (name, path.into()))
                    .collect();
            }
            "cache_from" => {
                let images = value.as_array().ok_or("cache_from is not a list")?.iter();
                let images = images.map(|image| {
                    plain(
                        image
                            .as_str()
                            .ok_or("cache_from is not a list of strings")?,
                    )
                });
                out.cache_from = images.collect::<Result<_, _>>()?;
            }
            "shm_size" => {
                let size = value
                    .as_str()
                    .map_or_else(|| value.to_string(), str::to_owned);
                out.shm_size = Some(memory(&size)?);
            }
            _ => return Err(format!("hatchery does not know {key:?}")),
        }
    }
    Ok(out)
}

/// A text as compose reads it: `$$` becomes `$`. A single `$` would begin a variable, which is an error here.
fn plain(text: &str) -> Result<String, String> {
    let mut parts = text.split("$$");
    if parts.any(|part| part.contains('$')) {
        return Err(format!("{text:?} contains a variable"));
    }
    Ok(text.replace("$$", "$"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn project() -> Value {
        json!({"services": {
            "app": {
                "image": "hatchery.invalid/acme-site/t:app",
                "build": {"context": "/c", "args": {"A": "1", "B": "$$x"}, "labels": {"l": "1"}, "shm_size": "64m"},
                "depends_on": {"db": {"condition": "service_started"}},
            },
            "db": {"image": "hatchery.invalid/acme-site/t:db", "build": {"context": "/c/db", "dockerfile": "/c/db/D"}},
            "cache": {"image": "redis"},
            "net": {"image": "hatchery.invalid/acme-site/t:net", "build": {"context": "/n"}, "network_mode": "service:db"},
            "rare": {"image": "hatchery.invalid/acme-site/t:rare", "build": {"context": "/r"}, "profiles": ["rare"]},
        }})
    }

    fn added() -> Value {
        json!({"services": {"app": {"build": {
            "dockerfile": "/t/Dockerfile-with-features", "target": "dev_containers_target_stage",
            "args": ["B=2", "C=3"], "additional_contexts": ["dev_containers_feature_content_source=/t/f"],
        }}}})
    }

    fn tags(wanted: &Wanted) -> Vec<String> {
        let builds = builds(&[project(), added()], wanted, false, false).unwrap();
        let last = |build: Build| build.tags[0].rsplit(':').next().unwrap().to_owned();
        builds.into_iter().map(last).collect()
    }

    #[test]
    fn what_the_cli_adds_is_laid_over() {
        let wanted = Wanted::Build(vec!["app".to_owned()]);
        let builds = builds(&[project(), added()], &wanted, true, false).unwrap();
        assert_eq!(
            builds,
            [Build {
                context: "/c".into(),
                dockerfile: "/t/Dockerfile-with-features".into(),
                tags: vec!["hatchery.invalid/acme-site/t:app".to_owned()],
                target: Some("dev_containers_target_stage".to_owned()),
                args: [("A", "1"), ("B", "2"), ("C", "3")]
                    .map(|(k, v)| (k.to_owned(), v.to_owned()))
                    .into(),
                labels: [("l".to_owned(), "1".to_owned())].into(),
                contexts: [(
                    "dev_containers_feature_content_source".to_owned(),
                    "/t/f".into()
                )]
                .into(),
                shm_size: Some(bytesize::ByteSize::mib(64)),
                no_cache: true,
                ..Build::default()
            }]
        );
        let alone = super::builds(&[project()], &wanted, false, false).unwrap();
        assert_eq!(alone[0].args["B"], "$x");
        assert_eq!(alone[0].dockerfile, std::path::Path::new("Dockerfile"));
    }

    #[test]
    fn services_are_built_as_compose_chooses_them() {
        let named = |names: &[&str]| {
            names
                .iter()
                .map(|&name| name.to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(tags(&Wanted::Build(named(&["app"]))), ["app"]);
        assert_eq!(tags(&Wanted::Build(named(&[]))), ["app", "db", "net"]);
        assert_eq!(tags(&Wanted::Up(named(&["app"]))), ["app", "db"]);
        assert_eq!(tags(&Wanted::Up(named(&["net"]))), ["db", "net"]);
        assert_eq!(tags(&Wanted::Up(named(&[]))), ["app", "db", "net"]);
        assert_eq!(tags(&Wanted::Up(named(&["rare", "nobody"]))), ["rare"]);
        assert_eq!(tags(&Wanted::Up(named(&["cache"]))), Vec::<String>::new());
    }

    #[test]
    fn what_is_not_known_is_no_build() {
        for build in [
            json!({"context": "/c", "ssh": ["default"]}),
            json!({"context": "/c", "secrets": ["x"]}),
            json!({"context": "/c", "target": "$x"}),
            json!({"context": "/c", "args": {"A": "$$$x"}}),
            json!({"context": "/c", "args": ["HOME"]}),
            json!({"context": "/c", "shm_size": "much"}),
            json!("/c"),
        ] {
            let file = json!({"services": {"a": {"image": "x", "build": build}}});
            let built = builds(
                std::slice::from_ref(&file),
                &Wanted::Build(Vec::new()),
                false,
                false,
            );
            assert!(built.is_err(), "{file}: {built:?}");
        }
    }
}
