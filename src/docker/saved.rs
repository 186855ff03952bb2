//! An image on its way from a builder to Docker: looked at as it goes by, so that it is what was to
//! be built and has no other name. What does not pass breaks off, and Docker takes nothing of it.
//!
//! The archive is `BuildKit`'s (exporter "docker"): blobs, and two lists of what they are, of which
//! one Docker reads the one, another the other.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use super::is_id;

/// The size of a record of an archive (tar(5)), in bytes.
const RECORD: usize = 512;

/// The longest list that is read, in bytes.
const MAX_LIST: u64 = 1024 * 1024;

/// Manifests of images, by their media types.
const MANIFESTS: [&str; 2] = [
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
];

/// An archive that goes by.
#[derive(Debug)]
pub struct Archive {
    /// The names that the image may have, in the spelling of either list.
    names: BTreeSet<String>,
    header: Vec<u8>,
    /// What is left of an entry, its padding included.
    left: u64,
    /// What is left of a list that is read, and what was read of it.
    list: Option<(List, u64, Vec<u8>)>,
    seen: BTreeSet<List>,
    ended: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum List {
    Index,
    Manifest,
}

/// `index.json` (OCI image specification, "image-layout").
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Index {
    #[serde(rename = "schemaVersion")]
    _schema: IgnoredAny,
    #[serde(rename = "mediaType")]
    _kind: Option<IgnoredAny>,
    manifests: Vec<Described>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Described {
    #[serde(rename = "mediaType")]
    kind: String,
    #[serde(rename = "digest")]
    _digest: IgnoredAny,
    #[serde(rename = "size")]
    _size: IgnoredAny,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    #[serde(rename = "platform")]
    _platform: Option<IgnoredAny>,
}

/// An entry of `manifest.json` (moby, `image/spec/spec.md`).
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    #[serde(rename = "Config")]
    _config: IgnoredAny,
    #[serde(rename = "RepoTags", default)]
    names: Vec<String>,
    #[serde(rename = "Layers")]
    _layers: IgnoredAny,
}

impl Archive {
    /// An archive of an image with these names and no others.
    pub fn new(names: &[String]) -> Self {
        let mut all = BTreeSet::new();
        for name in names {
            let tagged = tagged(name);
            if !tagged.contains('/') {
                all.insert(format!("docker.io/library/{tagged}"));
            }
            all.insert(tagged);
        }
        Self {
            names: all,
            header: Vec::with_capacity(RECORD),
            left: 0,
            list: None,
            seen: BTreeSet::new(),
            ended: false,
        }
    }

    /// Looks at the next bytes, before they are handed on.
    ///
    /// # Errors
    /// In words: why the archive is not handed on any further.
    pub fn pass(&mut self, mut bytes: &[u8]) -> Result<(), String> {
        while !bytes.is_empty() {
            if self.left > 0 {
                let there = usize::try_from(self.left)
                    .unwrap_or(usize::MAX)
                    .min(bytes.len());
                let (now, rest) = bytes.split_at(there);
                self.content(now)?;
                self.left -= now.len() as u64;
                bytes = rest;
                continue;
            }
            let (now, rest) = bytes.split_at((RECORD - self.header.len()).min(bytes.len()));
            self.header.extend_from_slice(now);
            bytes = rest;
            if self.header.len() == RECORD {
                let header = std::mem::take(&mut self.header);
                self.begin(&header)?;
            }
        }
        Ok(())
    }

    /// Whether its end has gone by.
    pub const fn has_ended(&self) -> bool {
        self.ended
    }

    /// Whether it was whole.
    ///
    /// # Errors
    /// In words: what was missing.
    pub fn end(&self) -> Result<(), String> {
        let whole = self.ended && self.left == 0 && self.header.is_empty();
        if whole && self.seen.len() == 2 {
            Ok(())
        } else {
            Err("the image's archive is incomplete".to_owned())
        }
    }

    fn begin(&mut self, header: &[u8]) -> Result<(), String> {
        if header.iter().all(|&byte| byte == 0) {
            self.ended = true;
            return Ok(());
        }
        if self.ended {
            return Err("the image's archive has data after its end".to_owned());
        }
        let header = tar::Header::from_byte_slice(header);
        let unreadable =
            |error: std::io::Error| format!("the image's archive is not readable: {error}");
        let path = header.path_bytes();
        let path = String::from_utf8_lossy(&path);
        let size = header.size().map_err(unreadable)?;
        let kind = header.entry_type();
        let odd = || Err(format!("the image's archive holds {path:?}"));
        match &*path {
            "blobs/" | "blobs/sha256/" if kind.is_dir() && size == 0 => {}
            _ if !kind.is_file() => return odd(),
            "index.json" => self.read(List::Index, size)?,
            "manifest.json" => self.read(List::Manifest, size)?,
            "oci-layout" => {}
            blob if is_blob(blob) => {}
            _ => return odd(),
        }
        let records = size.div_ceil(RECORD as u64);
        self.left = records
            .checked_mul(RECORD as u64)
            .ok_or("the image's archive has an entry without end")?;
        Ok(())
    }

    fn read(&mut self, list: List, size: u64) -> Result<(), String> {
        if size == 0 || size > MAX_LIST || !self.seen.insert(list) {
            return Err(
                "the image's archive has a second manifest, or none that can be read".to_owned(),
            );
        }
        self.list = Some((list, size, Vec::new()));
        Ok(())
    }

    fn content(&mut self, bytes: &[u8]) -> Result<(), String> {
        let Some((list, left, read)) = &mut self.list else {
            return Ok(());
        };
        let there = usize::try_from(*left)
            .unwrap_or(usize::MAX)
            .min(bytes.len());
        read.extend_from_slice(&bytes[..there]);
        *left -= there as u64;
        if *left > 0 {
            return Ok(());
        }
        let (list, read) = (*list, std::mem::take(read));
        self.list = None;
        match list {
            List::Index => self.index(&read),
            List::Manifest => self.manifest(&read),
        }
    }

    fn index(&self, text: &[u8]) -> Result<(), String> {
        let index: Index = parsed("index.json", text)?;
        for described in index.manifests {
            if !MANIFESTS.contains(&described.kind.as_str()) {
                return Err(format!(
                    "the image's archive holds a {:.100}",
                    described.kind
                ));
            }
            let Some(name) = described.annotations.get("io.containerd.image.name") else {
                return Err("the image's archive holds an image without a name".to_owned());
            };
            self.is_named(name)?;
            for (key, value) in &described.annotations {
                let fits = match key.as_str() {
                    "io.containerd.image.name" | "org.opencontainers.image.created" => true,
                    "org.opencontainers.image.ref.name" => name.ends_with(&format!(":{value}")),
                    _ => false,
                };
                if !fits {
                    return Err(format!("the image's archive says {key:?} of it: {value:?}"));
                }
            }
        }
        Ok(())
    }

    fn manifest(&self, text: &[u8]) -> Result<(), String> {
        let saved: Vec<Saved> = parsed("manifest.json", text)?;
        if saved.len() != 1 {
            return Err(format!("the image's archive holds {} images", saved.len()));
        }
        saved
            .iter()
            .flat_map(|saved| &saved.names)
            .try_for_each(|name| self.is_named(name))
    }

    fn is_named(&self, name: &str) -> Result<(), String> {
        if self.names.contains(name) {
            Ok(())
        } else {
            Err(format!("the image's archive is called {name:?}"))
        }
    }
}

/// A name as Docker writes it into its lists, with its tag.
pub(super) fn tagged(name: &str) -> String {
    let last = name.rsplit('/').next().unwrap_or(name);
    if last.contains(':') {
        name.to_owned()
    } else {
        format!("{name}:latest")
    }
}

fn parsed<T: DeserializeOwned>(file: &str, text: &[u8]) -> Result<T, String> {
    serde_json::from_slice(text).map_err(|error| {
        format!("{file} of the image's archive is not as BuildKit writes it: {error}")
    })
}

/// `blobs/sha256/…`
fn is_blob(path: &str) -> bool {
    path.strip_prefix("blobs/sha256/").is_some_and(is_id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const BLOB: &str =
        "blobs/sha256/0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn manifest(names: &[&str]) -> Value {
        json!([{"Config": BLOB, "RepoTags": names, "Layers": [BLOB]}])
    }

    fn index(name: &str, tag: &str) -> Value {
        json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [{
            "mediaType": MANIFESTS[0], "digest": "sha256:0123", "size": 7,
            "annotations": {
                "io.containerd.image.name": name,
                "org.opencontainers.image.created": "2026-11-29T15:19:42Z",
                "org.opencontainers.image.ref.name": tag,
            },
            "platform": {"architecture": "amd64", "os": "linux"},
        }]})
    }

    fn packed(entries: &[(&str, tar::EntryType, Vec<u8>)]) -> Vec<u8> {
        let mut out = tar::Builder::new(Vec::new());
        for (path, kind, content) in entries {
            let mut header = tar::Header::new_ustar();
            header.set_entry_type(*kind);
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            out.append_data(&mut header, path, content.as_slice())
                .unwrap();
        }
        out.into_inner().unwrap()
    }

    fn image(index: &Value, manifest: &Value) -> Vec<(&'static str, tar::EntryType, Vec<u8>)> {
        use tar::EntryType::{Directory, Regular};
        vec![
            ("blobs/", Directory, Vec::new()),
            ("blobs/sha256/", Directory, Vec::new()),
            (BLOB, Regular, vec![7; 1500]),
            ("index.json", Regular, index.to_string().into()),
            ("manifest.json", Regular, manifest.to_string().into()),
            (
                "oci-layout",
                Regular,
                b"{\"imageLayoutVersion\":\"1.0.0\"}".to_vec(),
            ),
        ]
    }

    fn passed(bytes: &[u8], step: usize) -> Result<(), String> {
        let mut archive =
            Archive::new(&["vsc-x".to_owned(), "hatchery.invalid/a-b/t:db".to_owned()]);
        bytes
            .chunks(step)
            .try_for_each(|chunk| archive.pass(chunk))?;
        archive.end()
    }

    fn usual() -> Vec<(&'static str, tar::EntryType, Vec<u8>)> {
        image(
            &index("docker.io/library/vsc-x:latest", "latest"),
            &manifest(&["vsc-x:latest"]),
        )
    }

    #[test]
    fn an_image_of_its_own_name_passes_in_any_pieces() {
        let bytes = packed(&usual());
        for step in [1, 7, 512, 4096, bytes.len()] {
            assert_eq!(passed(&bytes, step), Ok(()), "{step}");
        }
        let both = image(
            &index("hatchery.invalid/a-b/t:db", "db"),
            &manifest(&["vsc-x:latest", "hatchery.invalid/a-b/t:db"]),
        );
        assert_eq!(passed(&packed(&both), 4096), Ok(()));
    }

    #[test]
    fn nothing_else_does() {
        use tar::EntryType::{Link, Regular, Symlink, XHeader};
        let own = index("docker.io/library/vsc-x:latest", "latest");
        let mut unnamed = own.clone();
        unnamed["manifests"][0]["annotations"] = json!({});
        let mut nested = own.clone();
        nested["manifests"][0]["mediaType"] = json!("application/vnd.oci.image.index.v1+json");
        let mut more = own.clone();
        more["manifests"][0]["annotations"]["com.example"] = json!("x");
        let mut urls = own.clone();
        urls["manifests"][0]["urls"] = json!(["http://127.0.0.1/"]);
        let named = manifest(&["vsc-x:latest"]);
        let lower =
            json!([{"Config": BLOB, "RepoTags": [], "repotags": ["debian:12"], "Layers": []}]);
        let mut cases = vec![
            ("another name", image(&own, &manifest(&["debian:12"]))),
            (
                "one more name",
                image(&own, &manifest(&["vsc-x:latest", "debian:12"])),
            ),
            ("another tag", image(&own, &manifest(&["vsc-x:other"]))),
            (
                "another name to containerd",
                image(&index("docker.io/library/debian:12", "12"), &named),
            ),
            (
                "another tag to containerd",
                image(&index("docker.io/library/vsc-x:latest", "12"), &named),
            ),
            ("no name", image(&unnamed, &named)),
            ("an index", image(&nested, &named)),
            ("an annotation", image(&more, &named)),
            ("a layer from elsewhere", image(&urls, &named)),
            ("a name in other letters", image(&own, &lower)),
            (
                "two images",
                image(&own, &json!([manifest(&[])[0], manifest(&[])[0]])),
            ),
            ("no list", image(&own, &json!({}))),
        ];
        for (path, kind, content) in [
            ("repositories", Regular, &b"{}"[..]),
            ("blobs/sha256/../../x", Regular, b""),
            ("other", Symlink, b""),
            ("other", Link, b""),
            ("pax", XHeader, b"20 path=manifest.json"),
            ("manifest.json", Regular, b"[]"),
        ] {
            let mut entries = usual();
            let header_only = !kind.is_file() || path.contains("..");
            if !header_only {
                entries.push((path, kind, content.to_vec()));
                cases.push((path, entries));
                continue;
            }
            let mut header = tar::Header::new_ustar();
            header.set_entry_type(kind);
            header.set_size(0);
            header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
            header.set_cksum();
            let mut bytes = packed(&entries);
            bytes.truncate(bytes.len() - 2 * RECORD);
            bytes.extend_from_slice(header.as_bytes());
            bytes.extend_from_slice(&[0; 2 * RECORD]);
            assert!(passed(&bytes, 4096).is_err(), "{path}");
        }
        for (what, entries) in cases {
            assert!(passed(&packed(&entries), 4096).is_err(), "{what}");
        }
        for missing in ["index.json", "manifest.json"] {
            let mut entries = usual();
            entries.retain(|(path, _, _)| *path != missing);
            assert!(passed(&packed(&entries), 4096).is_err(), "{missing}");
        }
        let bytes = packed(&usual());
        assert!(
            passed(&bytes[..bytes.len() - 3 * RECORD], 4096).is_err(),
            "half of it"
        );
        assert!(
            passed(&[&bytes[..], &bytes[..]].concat(), 4096).is_err(),
            "twice"
        );
    }
}
