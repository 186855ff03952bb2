//! Files into and out of a container, running or not, as archives.
//!
//! Docker extracts them with the container's volumes mounted, so that a volume can be filled
//! before anything has run in it, and without a shell in the image.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bollard::body_try_stream;
use bollard::query_parameters::{
    DownloadFromContainerOptionsBuilder, UploadToContainerOptionsBuilder,
};
use futures_util::{Stream, StreamExt, stream};
use tar::{Builder, Header, HeaderMode};
use tokio::sync::mpsc;

use super::{Docker, failed, found, late, status};
use crate::error::{Code, Error, Result};

/// How long a file may take on its way out of a container.
const READ_WITHIN: Duration = Duration::from_secs(60);

/// User and group ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// User id.
    pub uid: u64,
    /// Group id.
    pub gid: u64,
}

impl Owner {
    /// The superuser.
    pub const ROOT: Self = Self { uid: 0, gid: 0 };
}

/// What lies at a path in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A regular file with its content.
    File(Vec<u8>),
    /// A symbolic link with what it leads to.
    Link(PathBuf),
}

/// A regular file with its owner and permissions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WholeFile {
    /// What is in it.
    pub content: Vec<u8>,
    /// The permission bits.
    pub mode: u32,
    /// Whose it is.
    pub owner: Owner,
}

/// A directory, as far as it was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory {
    /// Whose it is.
    pub owner: Owner,
    /// The permission bits.
    pub mode: u32,
    /// The first of what is in it, at any depth, relative to it.
    pub content: Vec<PathBuf>,
}

/// What goes into a container.
#[derive(Debug, Clone, Default)]
pub struct Tree(Vec<Part>);

#[derive(Debug, Clone)]
enum Part {
    Directory {
        at: PathBuf,
        mode: u32,
        owner: Owner,
    },
    File {
        at: PathBuf,
        file: WholeFile,
    },
    Link {
        at: PathBuf,
        to: PathBuf,
    },
    Copy {
        at: PathBuf,
        from: PathBuf,
        owner: Owner,
    },
}

impl Tree {
    /// A directory of root's.
    #[must_use]
    pub fn directory(mut self, at: impl Into<PathBuf>, mode: u32) -> Self {
        self.0.push(Part::Directory {
            at: at.into(),
            mode,
            owner: Owner::ROOT,
        });
        self
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A directory of this owner's.
    #[must_use]
    pub fn directory_of(mut self, at: impl Into<PathBuf>, owner: Owner) -> Self {
        self.0.push(Part::Directory {
            at: at.into(),
            mode: 0o755,
            owner,
        });
        self
    }

    /// A file of root's.
    #[must_use]
    pub fn file(self, at: impl Into<PathBuf>, mode: u32, content: Vec<u8>) -> Self {
        let owner = Owner::ROOT;
        self.whole(
            at,
            WholeFile {
                content,
                mode,
                owner,
            },
        )
    }

    /// A file of this owner's.
    #[must_use]
    pub fn whole(mut self, at: impl Into<PathBuf>, file: WholeFile) -> Self {
        self.0.push(Part::File {
            at: at.into(),
            file,
        });
        self
    }

    /// A symbolic link.
    #[must_use]
    pub fn link(mut self, at: impl Into<PathBuf>, to: impl Into<PathBuf>) -> Self {
        self.0.push(Part::Link {
            at: at.into(),
            to: to.into(),
        });
        self
    }

    /// A directory of the host with all in it, given to this owner.
    #[must_use]
    pub fn copy(mut self, at: impl Into<PathBuf>, from: &Path, owner: Owner) -> Self {
        self.0.push(Part::Copy {
            at: at.into(),
            from: from.to_owned(),
            owner,
        });
        self
    }

    /// Writes the archive.
    pub(super) fn write(&self, writer: impl Write) -> io::Result<()> {
        let mut archive = Builder::new(writer);
        archive.mode(HeaderMode::Complete);
        archive.follow_symlinks(false);
        for part in &self.0 {
            match part {
                Part::Directory { at, mode, owner } => {
                    let mut header = header(tar::EntryType::Directory, *mode, 0);
                    header.set_uid(owner.uid);
                    header.set_gid(owner.gid);
                    archive.append_data(&mut header, relative(at), io::empty())?;
                }
                Part::File { at, file } => {
                    let size = file.content.len() as u64;
                    let mut header = header(tar::EntryType::Regular, file.mode, size);
                    header.set_uid(file.owner.uid);
                    header.set_gid(file.owner.gid);
                    archive.append_data(&mut header, relative(at), file.content.as_slice())?;
                }
                Part::Link { at, to } => {
                    let mut header = header(tar::EntryType::Symlink, 0o777, 0);
                    archive.append_link(&mut header, relative(at), to)?;
                }
                Part::Copy { at, from, owner } => {
                    append_all(&mut archive, relative(at), from, *owner)?;
                }
            }
        }
        archive.into_inner()?.flush()
    }
}

fn relative(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}

pub(super) fn header(kind: tar::EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    header.set_mtime(now);
    header
}

/// Appends what lies at `from` as `at`: files, directories and links; nothing else is a clone's.
fn append_all<W: Write>(
    archive: &mut Builder<W>,
    at: &Path,
    from: &Path,
    owner: Owner,
) -> io::Result<()> {
    let metadata = from.symlink_metadata()?;
    let mut header = Header::new_gnu();
    header.set_metadata_in_mode(&metadata, HeaderMode::Complete);
    header.set_uid(owner.uid);
    header.set_gid(owner.gid);
    if metadata.is_symlink() {
        return archive.append_link(&mut header, at, std::fs::read_link(from)?);
    }
    if metadata.is_file() {
        // Read no more than was announced, even where the file has grown.
        let file = std::fs::File::open(from)?.take(metadata.len());
        return archive.append_data(&mut header, at, file);
    }
    if metadata.is_dir() {
        archive.append_data(&mut header, at, io::empty())?;
        for entry in std::fs::read_dir(from)? {
            let entry = entry?;
            append_all(archive, &at.join(entry.file_name()), &entry.path(), owner)?;
        }
    }
    Ok(())
}

/// The permission bits and the owner of an entry.
fn about(header: &Header) -> io::Result<(u32, Owner)> {
    let owner = Owner {
        uid: header.uid()?,
        gid: header.gid()?,
    };
    Ok((header.mode()? & 0o7777, owner))
}

/// The directory of which an archive is, which may break off.
fn directory_in(archive: &[u8]) -> io::Result<Option<Directory>> {
    let mut archive = tar::Archive::new(archive);
    let mut entries = archive.entries()?;
    let Some(first) = entries.next().transpose()? else {
        return Ok(None);
    };
    let header = first.header();
    if !header.entry_type().is_dir() {
        return Ok(None);
    }
    let (mode, owner) = about(header)?;
    let mut directory = Directory {
        owner,
        mode,
        content: Vec::new(),
    };
    let root = first.path()?.into_owned();
    // What comes after the end of a part of an archive cannot be read.
    for entry in entries.map_while(io::Result::ok) {
        let path = entry.path()?;
        let path = path.strip_prefix(&root).unwrap_or(&path);
        directory.content.push(path.to_owned());
    }
    Ok(Some(directory))
}

/// What comes out of a channel, as a body of a request.
pub(super) fn received(
    receiver: mpsc::Receiver<io::Result<bytes::Bytes>>,
) -> impl Stream<Item = io::Result<bytes::Bytes>> {
    stream::unfold(receiver, |mut receiver| async {
        receiver.recv().await.map(|chunk| (chunk, receiver))
    })
}

/// Hands what is written on as chunks, waiting while they are not taken.
pub(super) struct Chunks(pub(super) mpsc::Sender<io::Result<bytes::Bytes>>);

impl Write for Chunks {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.0
            .blocking_send(Ok(bytes::Bytes::copy_from_slice(data)))
            .map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Docker {
    /// Puts a tree into a container; its paths are absolute ones of the container.
    pub async fn put(&self, container: &str, tree: Tree) -> Result<()> {
        let (sender, receiver) = mpsc::channel(4);
        let writing = tokio::task::spawn_blocking(move || {
            let result = tree.write(io::BufWriter::with_capacity(
                256 * 1024,
                Chunks(sender.clone()),
            ));
            if let Err(error) = &result {
                // An archive that breaks off must not look complete.
                let broken = io::Error::new(error.kind(), error.to_string());
                let _ = sender.blocking_send(Err(broken));
            }
            result
        });
        let options = UploadToContainerOptionsBuilder::new().path("/").build();
        let sent = self
            .api
            .upload_to_container(
                container,
                Some(options),
                body_try_stream(received(receiver)),
            )
            .await;
        let written = writing
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::Other.into()));
        match (sent, written) {
            (Err(error), _) if status(&error).is_some() => {
                Err(failed(&format!("put files into {container}"), error))
            }
            (_, Err(error)) if error.kind() != io::ErrorKind::BrokenPipe => {
                let code = if crate::error::is_disk_full(&error) {
                    Code::DiskFull
                } else {
                    Code::HostFailed
                };
                Err(Error::new(code, "the files for the drone cannot be read").because(error))
            }
            (Err(error), _) => Err(failed(&format!("put files into {container}"), error)),
            (Ok(()), _) => Ok(()),
        }
    }

    /// The content of one file in a container, up to `limit` bytes; `None` where it is absent or
    /// not a regular file.
    pub async fn file(&self, container: &str, path: &str, limit: usize) -> Result<Option<Vec<u8>>> {
        Ok(match self.entry(container, path, limit).await? {
            Some(Entry::File(content)) => Some(content),
            _ => None,
        })
    }

    /// What lies at a path in a container: a file of up to `limit` bytes, or a link; `None` where
    /// there is neither.
    pub async fn entry(&self, container: &str, path: &str, limit: usize) -> Result<Option<Entry>> {
        let found = self.first_entry(container, path, limit).await?;
        Ok(found.map(|(entry, ..)| entry))
    }

    /// The same file with its owner and permissions, to be put back changed.
    pub async fn whole_file(
        &self,
        container: &str,
        path: &str,
        limit: usize,
    ) -> Result<Option<WholeFile>> {
        let found = self.first_entry(container, path, limit).await?;
        Ok(found.and_then(|(entry, mode, owner)| match entry {
            Entry::File(content) => Some(WholeFile {
                content,
                mode,
                owner,
            }),
            Entry::Link(_) => None,
        }))
    }

    async fn first_entry(
        &self,
        container: &str,
        path: &str,
        limit: usize,
    ) -> Result<Option<(Entry, u32, Owner)>> {
        let doing = format!("read {path} in {container}");
        let Some(archive) = self.archive(container, path, limit + 64 * 1024).await? else {
            return Ok(None);
        };
        let mut archive = tar::Archive::new(archive.as_slice());
        let unreadable = |error: io::Error| Error::new(Code::DockerFailed, &*doing).because(error);
        for entry in archive.entries().map_err(unreadable)? {
            let mut entry = entry.map_err(unreadable)?;
            let kind = entry.header().entry_type();
            let (mode, owner) = about(entry.header()).map_err(unreadable)?;
            if kind.is_file() && entry.size() <= limit as u64 {
                let mut content = Vec::new();
                entry.read_to_end(&mut content).map_err(unreadable)?;
                return Ok(Some((Entry::File(content), mode, owner)));
            }
            if let Some(to) = entry.link_name().map_err(unreadable)?
                && kind.is_symlink()
            {
                return Ok(Some((Entry::Link(to.into_owned()), mode, owner)));
            }
        }
        Ok(None)
    }

    /// Whether there is something at this path in a container.
    pub async fn is_there(&self, container: &str, path: &str) -> Result<bool> {
        Ok(self.archive(container, path, 1024).await?.is_some())
    }

    /// Whether a directory in a container has anything in it; `None` where it is absent.
    pub async fn is_empty_directory(&self, container: &str, path: &str) -> Result<Option<bool>> {
        // The directory's own header is the first; a second one is its content.
        let Some(archive) = self.archive(container, path, 8 * 1024).await? else {
            return Ok(None);
        };
        let mut archive = tar::Archive::new(archive.as_slice());
        let entries = archive.entries().map(|entries| entries.take(2).count());
        Ok(Some(entries.is_ok_and(|count| count < 2)))
    }

    /// The directory at this path in a container, with the first of its content; `None` where there is
    /// none.
    pub async fn directory(&self, container: &str, path: &Path) -> Result<Option<Directory>> {
        const LOOKED_AT: usize = 64 * 1024;
        let path = path.to_string_lossy();
        let Some(archive) = self.archive(container, &path, LOOKED_AT).await? else {
            return Ok(None);
        };
        let doing = format!("read {path} in {container}");
        let unreadable = |error: io::Error| Error::new(Code::DockerFailed, &*doing).because(error);
        directory_in(&archive).map_err(unreadable)
    }

    /// The first bytes of the archive of a path.
    async fn archive(&self, container: &str, path: &str, limit: usize) -> Result<Option<Vec<u8>>> {
        tokio::time::timeout(READ_WITHIN, self.read_archive(container, path, limit))
            .await
            .unwrap_or_else(|_| Err(late(&format!("read {path} in {container}"), READ_WITHIN)))
    }

    async fn read_archive(
        &self,
        container: &str,
        path: &str,
        limit: usize,
    ) -> Result<Option<Vec<u8>>> {
        let options = DownloadFromContainerOptionsBuilder::new()
            .path(path)
            .build();
        let mut stream = std::pin::pin!(self.api.download_from_container(container, Some(options)));
        let mut archive = Vec::new();
        while let Some(chunk) = stream.next().await {
            let Some(chunk) = found(&format!("read {path} in {container}"), chunk)? else {
                return Ok(None);
            };
            archive.extend_from_slice(&chunk);
            if archive.len() > limit {
                break;
            }
        }
        Ok(Some(archive))
    }
}
