//! An image that lies as an OCI layout in a container, on its way to Docker without the layers that
//! Docker has already: most of an image is that of another, which need not be moved to be there.
//!
//! Docker's loader looks for each layer among its own before it reads the archive (moby,
//! `image/tarexport/load.go`), as long as it keeps layers itself, not in containerd.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};

use bollard::query_parameters::DownloadFromContainerOptionsBuilder;
use bytes::Bytes;
use futures_util::StreamExt;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::json;
use tokio::sync::mpsc;

use super::archive::{self, header};
use super::builder::{LOADED_WITHIN, no_image};
use super::saved::tagged;
use super::{Docker, extract, failed, is_id};
use crate::error::{Code, Result};

/// The longest manifest and the longest configuration of an image that are read, in bytes.
const MAX_LIST: usize = 4 * 1024 * 1024;

/// The most layers of an image, as Docker has it (moby, `layer/layer_store.go`, `maxLayerDepth`).
const MAX_LAYERS: usize = 125;

/// An image in a container.
#[derive(Debug, Clone, Copy)]
pub struct Layout<'a> {
    /// The container.
    pub container: &'a str,
    /// The directory of the layout.
    pub at: &'a str,
    /// The digest of the image's manifest.
    pub digest: &'a str,
}

/// What is read of an image's manifest (OCI image specification, "manifest").
#[derive(Debug, Deserialize)]
struct Manifest {
    config: Blob,
    layers: Vec<Blob>,
}

/// What is read of what a digest leads to, which may be a list of manifests ("image-index").
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Described {
    One(Manifest),
    Many {
        #[serde(rename = "manifests")]
        _manifests: IgnoredAny,
    },
}

#[derive(Debug, Clone, Deserialize)]
struct Blob {
    digest: String,
    size: u64,
}

impl Blob {
    /// Its place in a layout.
    fn path(&self) -> Result<String> {
        path(&self.digest)
    }
}

/// What is read of an image's configuration (OCI image specification, "config").
#[derive(Debug, Deserialize)]
struct Configuration {
    rootfs: Rootfs,
}

#[derive(Debug, Deserialize)]
struct Rootfs {
    diff_ids: Vec<String>,
}

/// A layer, by its place and its size in bytes, with its content as Docker sends it.
type Sent = (String, u64, mpsc::Receiver<Bytes>);

impl Docker {
    /// Has Docker load an image under these names and no others. `known` are the layers of images that
    /// Docker has, for each the digests of their content: where the image begins with some of them,
    /// Docker takes its own.
    pub async fn load_layout(
        &self,
        image: Layout<'_>,
        names: &[String],
        known: &[Vec<String>],
    ) -> Result<()> {
        let manifest = match self.list(image, image.digest).await?.0 {
            Described::One(manifest) => manifest,
            Described::Many { .. } => {
                return Err(no_image("it is a list of images, for several platforms"));
            }
        };
        let (configuration, text) = self.list(image, &manifest.config.digest).await?;
        let Configuration { rootfs } = configuration;
        let content = rootfs.diff_ids;
        if content.len() != manifest.layers.len() || content.len() > MAX_LAYERS {
            return Err(no_image("its layers are not those of its configuration"));
        }
        let shared = known.iter().map(|layers| in_common(layers, &content));
        let shared = shared.max().unwrap_or_default();
        let all = Archived {
            names: names.iter().map(|name| tagged(name)).collect(),
            manifest,
            configuration: text,
        };
        let refused = match self.load_from(image, &all, shared).await? {
            Err(error) if shared > 0 && error.code() == Code::DockerFailed => error,
            loaded => return loaded,
        };
        // Docker may have lost an image meanwhile; all of it is there.
        match self.load_from(image, &all, 0).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(refused),
        }
    }

    /// What a blob says, and its text.
    async fn list<T: DeserializeOwned>(
        &self,
        image: Layout<'_>,
        digest: &str,
    ) -> Result<(T, Vec<u8>)> {
        let path = format!("{}/{}", image.at, path(digest)?);
        let text = self.file(image.container, &path, MAX_LIST).await?;
        let text = text.ok_or_else(|| no_image(&format!("it has no {path}")))?;
        let list = serde_json::from_slice(&text);
        let list = list.map_err(|error| no_image(&format!("{path}: {error}")))?;
        Ok((list, text))
    }

    /// Loads it without its first layers. The inner error is what Docker says of it.
    async fn load_from(
        &self,
        image: Layout<'_>,
        all: &Archived,
        without: usize,
    ) -> Result<Result<()>> {
        let lists = all.lists()?;
        let layers = all.layers(without)?;
        let (chunks, archive) = mpsc::channel(8);
        let (sender, sent) = mpsc::channel(1);
        let number = layers.len();
        let packing = tokio::task::spawn_blocking(move || pack(&lists, number, sent, &chunks));
        let sending = async {
            for (path, size) in layers {
                self.send_layer(image, &path, size, &sender).await?;
            }
            // Only now does the archive come to its end.
            drop(sender);
            Ok(())
        };
        let (sent, loaded) = tokio::join!(sending, self.load(archive));
        let packed = packing
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::Other.into()));
        match (sent, packed) {
            (Err(error), _) => Err(error),
            // Docker took no more of it, and says why.
            (Ok(()), Err(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(loaded),
            (Ok(()), Err(error)) => Err(no_image(&format!("a layer is not whole: {error}"))),
            (Ok(()), Ok(())) => Ok(loaded),
        }
    }

    async fn send_layer(
        &self,
        image: Layout<'_>,
        path: &str,
        size: u64,
        sender: &mpsc::Sender<Sent>,
    ) -> Result<()> {
        let (chunks, content) = mpsc::channel(8);
        // Nobody takes it where the archive was broken off, which its reader says.
        if sender.send((path.to_owned(), size, content)).await.is_err() {
            return Ok(());
        }
        let place = format!("{}/{path}", image.at);
        let options = DownloadFromContainerOptionsBuilder::new()
            .path(&place)
            .build();
        let patient = self.api.clone().with_timeout(LOADED_WITHIN);
        let mut stream =
            std::pin::pin!(patient.download_from_container(image.container, Some(options)));
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(|error| failed("read the image that was built", error))?;
            if chunks.send(chunk).await.is_err() {
                break;
            }
        }
        Ok(())
    }
}

/// An image as it goes into an archive.
struct Archived {
    names: Vec<String>,
    manifest: Manifest,
    configuration: Vec<u8>,
}

impl Archived {
    /// The files before its layers (moby, `image/spec/spec.md`).
    fn lists(&self) -> Result<[(String, Vec<u8>); 2]> {
        let configuration = self.manifest.config.path()?;
        let layers: Vec<String> = self
            .manifest
            .layers
            .iter()
            .map(Blob::path)
            .collect::<Result<_>>()?;
        let manifest = json!([{"Config": configuration, "RepoTags": self.names, "Layers": layers}]);
        Ok([
            (
                "manifest.json".to_owned(),
                manifest.to_string().into_bytes(),
            ),
            (configuration, self.configuration.clone()),
        ])
    }

    /// Its layers but for the first, by their places and sizes, each once.
    fn layers(&self, without: usize) -> Result<BTreeMap<String, u64>> {
        let layers = self.manifest.layers.iter().skip(without);
        layers
            .map(|layer| Ok((layer.path()?, layer.size)))
            .collect()
    }
}

/// The place of a blob in a layout.
fn path(digest: &str) -> Result<String> {
    digest
        .strip_prefix("sha256:")
        .filter(|id| is_id(id))
        .map(|id| format!("blobs/sha256/{id}"))
        .ok_or_else(|| no_image(&format!("it holds {digest:.100}")))
}

/// With how many of the same these begin.
fn in_common(one: &[String], other: &[String]) -> usize {
    let pairs = one.iter().zip(other);
    pairs.take_while(|(one, other)| one == other).count()
}

/// Writes an archive as `docker load` takes it: these lists, then so many layers as they come. One that does
/// not come whole, or at all, breaks it off.
fn pack(
    lists: &[(String, Vec<u8>)],
    number: usize,
    layers: mpsc::Receiver<Sent>,
    chunks: &mpsc::Sender<io::Result<Bytes>>,
) -> io::Result<()> {
    let packed = try_pack(lists, number, layers, archive::Chunks(chunks.clone()));
    if let Err(error) = &packed {
        // What ends here must not look whole.
        let _ = chunks.blocking_send(Err(error.kind().into()));
    }
    packed
}

fn try_pack(
    lists: &[(String, Vec<u8>)],
    number: usize,
    mut layers: mpsc::Receiver<Sent>,
    chunks: impl Write,
) -> io::Result<()> {
    let mut out = tar::Builder::new(io::BufWriter::with_capacity(256 * 1024, chunks));
    let file = |size| header(tar::EntryType::Regular, 0o644, size);
    for (path, text) in lists {
        out.append_data(&mut file(text.len() as u64), path, text.as_slice())?;
    }
    for _ in 0..number {
        let layer = layers.blocking_recv();
        let (path, size, content) = layer.ok_or(io::ErrorKind::UnexpectedEof)?;
        let mut archive = tar::Archive::new(extract::Chunks::of(content));
        let layer = archive.entries()?.next();
        let layer = layer.ok_or(io::ErrorKind::UnexpectedEof)??;
        if !layer.header().entry_type().is_file() || layer.size() != size {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let whole = layer.chain(Missing).take(size);
        out.append_data(&mut file(size), path, whole)?;
    }
    out.into_inner()?.flush()
}

/// In place of what did not come.
struct Missing;

impl Read for Missing {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_left_out_from_the_first_on() {
        let layers = |text: &str| -> Vec<String> { text.chars().map(String::from).collect() };
        for (one, other, common) in [
            ("ab", "abc", 2),
            ("abc", "ab", 2),
            ("ba", "ab", 0),
            ("axc", "abc", 1),
            ("", "a", 0),
        ] {
            assert_eq!(
                in_common(&layers(one), &layers(other)),
                common,
                "{one} {other}"
            );
        }
    }

    #[test]
    fn only_a_blob_has_a_place() {
        let id = "0123456789abcdef".repeat(4);
        assert_eq!(
            path(&format!("sha256:{id}")).unwrap(),
            format!("blobs/sha256/{id}")
        );
        for digest in [&*id, "sha256:../../../etc/passwd", "sha512:00", ""] {
            assert!(path(digest).is_err(), "{digest}");
        }
    }

    /// What `pack` makes of layers, each announced with a size and sent as an archive in pieces.
    fn packed(number: usize, layers: &[(u64, Vec<u8>)]) -> Vec<io::Result<Bytes>> {
        let (sender, receiver) = mpsc::channel(layers.len().max(1));
        for (number, (size, archive)) in layers.iter().enumerate() {
            let (chunks, content) = mpsc::channel(4096);
            for chunk in archive.chunks(700) {
                chunks.try_send(Bytes::copy_from_slice(chunk)).unwrap();
            }
            sender
                .try_send((format!("blobs/{number}"), *size, content))
                .unwrap();
        }
        drop(sender);
        let (chunks, mut all) = mpsc::channel(4096);
        let _ = pack(
            &[("manifest.json".to_owned(), b"[]".to_vec())],
            number,
            receiver,
            &chunks,
        );
        drop(chunks);
        std::iter::from_fn(|| all.blocking_recv()).collect()
    }

    /// As Docker sends a file out of a container.
    fn sent(content: &[u8]) -> Vec<u8> {
        let mut out = tar::Builder::new(Vec::new());
        let mut header = header(tar::EntryType::Regular, 0o600, content.len() as u64);
        out.append_data(&mut header, "0123", content).unwrap();
        out.into_inner().unwrap()
    }

    #[test]
    fn what_comes_whole_is_what_docker_gets() {
        let all = packed(2, &[(3, sent(b"abc")), (2000, sent(&[7; 2000]))]);
        let whole: Vec<u8> = all
            .into_iter()
            .flat_map(|chunk| chunk.unwrap().to_vec())
            .collect();
        let mut archive = tar::Archive::new(whole.as_slice());
        let entries = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            (entry.path().unwrap().display().to_string(), content)
        });
        let expected = [
            ("manifest.json", b"[]".to_vec()),
            ("blobs/0", b"abc".to_vec()),
            ("blobs/1", vec![7; 2000]),
        ];
        let expected = expected.map(|(path, content)| (path.to_owned(), content));
        assert_eq!(entries.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_layer_is_sent_once_however_often_it_is_named() {
        let blob = |digit: &str, size| Blob {
            digest: format!("sha256:{}", digit.repeat(64)),
            size,
        };
        let all = Archived {
            names: vec!["a:latest".to_owned()],
            manifest: Manifest {
                config: blob("c", 1),
                layers: vec![blob("0", 1), blob("1", 2), blob("2", 3), blob("1", 2)],
            },
            configuration: Vec::new(),
        };
        let sizes = |without| {
            all.layers(without)
                .unwrap()
                .into_values()
                .collect::<Vec<_>>()
        };
        assert_eq!(
            [sizes(0), sizes(1), sizes(4)],
            [vec![1, 2, 3], vec![2, 3], vec![]]
        );
    }

    #[test]
    fn what_does_not_is_broken_off() {
        let whole = sent(&[7; 2000]);
        let mut link = tar::Builder::new(Vec::new());
        let mut to = header(tar::EntryType::Symlink, 0o777, 0);
        link.append_link(&mut to, "0123", "/etc/passwd").unwrap();
        for (what, size, archive) in [
            ("a part", 2000, whole[..1200].to_vec()),
            ("another size", 1999, whole.clone()),
            ("nothing", 2000, Vec::new()),
            ("a link", 0, link.into_inner().unwrap()),
        ] {
            let all = packed(1, &[(size, archive)]);
            assert!(all.last().is_some_and(io::Result::is_err), "{what}");
        }
        let all = packed(2, &[(2000, whole)]);
        assert!(
            all.last().is_some_and(io::Result::is_err),
            "a layer too few"
        );
    }
}
