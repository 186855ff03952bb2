//! A directory of a volume on its way out to this server. What is in it is a stranger's, who may change it
//! meanwhile: nothing is written outside the place that it is for, whatever its names and links say.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use bollard::query_parameters::DownloadFromContainerOptionsBuilder;
use bytes::{Buf, Bytes};
use futures_util::StreamExt;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags};
use tokio::sync::mpsc;

use super::look::LABEL;
use super::{Docker, found};
use crate::drone::DroneName;
use crate::error::{Code, Error, Result, host_io};
use crate::host::Size;

/// Where the volume is in the container by which it is read.
const AT: &str = "/volume";

/// How long Docker may take to send a directory.
const SENT_WITHIN: Duration = Duration::from_secs(60 * 60);

/// How often it is tried: what a running drone writes to meanwhile breaks an archive off.
const TRIES: usize = 3;

/// A volume that is held by a container which never runs, so that its files can be read.
#[derive(Debug)]
pub struct Held<'a> {
    docker: &'a Docker,
    image: String,
    container: String,
}

impl Docker {
    /// Holds the volume of a drone, which must exist, in a container of this name. [`Held::release`] lets it
    /// go.
    pub async fn hold(&self, container: &str, drone: &DroneName) -> Result<Held<'_>> {
        self.sweep(LABEL).await?;
        // The end of an archive is two blocks of zeros; this one has nothing before it.
        let image = self.import(vec![0; 1024], LABEL).await?;
        let held = Held {
            docker: self,
            image,
            container: container.to_owned(),
        };
        let created = self.create_beside(container, &held.image, drone, Some(AT));
        if let Err(error) = created.await {
            held.release().await?;
            return Err(error);
        }
        Ok(held)
    }
}

impl Held<'_> {
    /// Whether there is something at this path of the volume.
    pub async fn has(&self, path: &str) -> Result<bool> {
        self.docker.is_there(&self.container, &at(path)).await
    }

    /// Copies the directory at this path of the volume to `into`, which must not exist, without the entries
    /// of it that are called `without`. `most` bounds what is read and what is written.
    ///
    /// Fails where it is no directory, is larger, or does not keep still.
    pub async fn copy(&self, path: &str, into: &Path, without: &str, most: Size) -> Result<()> {
        let mut tries = 1..=TRIES;
        loop {
            tries.next();
            match self.try_copy(path, into, without, most).await? {
                Ok(()) => return Ok(()),
                Err(_) if !tries.is_empty() => {
                    let removed = std::fs::remove_dir_all(into);
                    removed.map_err(|error| host_io("remove", into, error))?;
                }
                Err(error) => {
                    return Err(Error::new(
                        Code::DockerFailed,
                        "the drone's files cannot be read to their end",
                    )
                    .hint(
                        "a process in the drone is writing to them; stop it or burrow the drone, then try \
                         again",
                    )
                    .because(error));
                }
            }
        }
    }

    async fn try_copy(
        &self,
        path: &str,
        into: &Path,
        without: &str,
        most: Size,
    ) -> Result<io::Result<()>> {
        let doing = format!("read {path} of a volume");
        std::fs::create_dir(into).map_err(|error| host_io("create", into, error))?;
        let options = DownloadFromContainerOptionsBuilder::new()
            .path(&at(path))
            .build();
        let patient = self.docker.api.clone().with_timeout(SENT_WITHIN);
        let mut stream =
            std::pin::pin!(patient.download_from_container(&self.container, Some(options)));
        let (sender, receiver) = mpsc::channel(8);
        let target = Target::open(into, without, most)?;
        let writing = tokio::task::spawn_blocking(move || target.fill(Chunks::of(receiver)));
        let mut broken = None;
        while let Some(chunk) = stream.next().await {
            match chunk {
                Ok(chunk) => {
                    if sender.send(chunk).await.is_err() {
                        break;
                    }
                }
                // What says nothing of the status came after the beginning.
                Err(error) if super::status(&error).is_none() => {
                    broken = Some(io::Error::other(error.to_string()));
                    break;
                }
                Err(error) => {
                    found::<()>(&doing, Err(error))?;
                    return Err(Error::new(
                        Code::DockerFailed,
                        format!("there is nothing at {path} of the volume"),
                    ));
                }
            }
        }
        drop(sender);
        let written = writing.await.unwrap_or_else(|error| {
            Err(Error::new(Code::HostFailed, "internal error: a task died").because(error))
        })?;
        Ok(match broken {
            Some(error) => Err(error),
            None => written,
        })
    }

    /// Lets the volume go.
    pub async fn release(self) -> Result<()> {
        self.docker.remove_container(&self.container).await?;
        self.docker.remove_image(&self.image).await
    }
}

/// A path of the volume in the container.
fn at(path: &str) -> String {
    match path {
        "" => format!("{AT}/"),
        path => format!("{AT}/{path}"),
    }
}

/// Chunks as they come in, read one after the other.
pub(super) struct Chunks {
    receiver: mpsc::Receiver<Bytes>,
    chunk: Bytes,
}

impl Chunks {
    pub(super) fn of(receiver: mpsc::Receiver<Bytes>) -> Self {
        let chunk = Bytes::new();
        Self { receiver, chunk }
    }
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() {
            match self.receiver.blocking_recv() {
                Some(chunk) => self.chunk = chunk,
                None => return Ok(0),
            }
        }
        let length = buffer.len().min(self.chunk.len());
        self.chunk.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}

/// Where an archive is unpacked.
struct Target {
    root: OwnedFd,
    shown: PathBuf,
    without: PathBuf,
    most: Size,
}

/// Why unpacking has ended.
enum Stop {
    /// The archive breaks off, or contradicts itself.
    Broken(io::Error),
    /// It can go no further.
    For(Error),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Broken(error)
    }
}

impl From<rustix::io::Errno> for Stop {
    fn from(error: rustix::io::Errno) -> Self {
        Self::Broken(error.into())
    }
}

impl Target {
    fn open(at: &Path, without: &str, most: Size) -> Result<Self> {
        let root = rustix::fs::openat(
            CWD,
            at,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        );
        Ok(Self {
            root: root.map_err(|error| host_io("open", at, error.into()))?,
            shown: at.to_owned(),
            without: without.into(),
            most,
        })
    }

    /// Unpacks an archive of one directory. The inner error is the archive's own.
    fn fill(&self, archive: impl Read) -> Result<io::Result<()>> {
        match self.unpack(archive) {
            Ok(()) => Ok(Ok(())),
            Err(Stop::Broken(error)) if crate::error::is_disk_full(&error) => {
                Err(host_io("write", &self.shown, error))
            }
            Err(Stop::Broken(error)) => Ok(Err(error)),
            Err(Stop::For(error)) => Err(error),
        }
    }

    fn unpack(&self, archive: impl Read) -> Result<(), Stop> {
        let mut archive = tar::Archive::new(archive);
        let mut entries = archive.entries()?;
        let Some(first) = entries.next().transpose()? else {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        };
        if !first.header().entry_type().is_dir() {
            return Err(Stop::For(Error::new(
                Code::DevcontainerInvalid,
                "the drone's clone is not a directory",
            )));
        }
        let base = first.path()?.into_owned();
        for (number, entry) in (1..).zip(entries) {
            let mut entry = entry?;
            // What is left out is read all the same.
            let end = entry.raw_file_position().saturating_add(entry.size());
            if number > self.most.files || end > self.most.bytes {
                return Err(self.is_too_large());
            }
            let path = entry.path()?.into_owned();
            let path = within(&path, &base)?;
            if path.starts_with(&self.without) {
                continue;
            }
            self.put(&mut entry, path, &base)?;
        }
        Ok(())
    }

    fn put(
        &self,
        entry: &mut tar::Entry<'_, impl Read>,
        path: &Path,
        base: &Path,
    ) -> Result<(), Stop> {
        let kind = entry.header().entry_type();
        let mode = entry.header().mode()? & 0o777;
        let Some((parent, name)) = self.parent_of(path)? else {
            return Ok(());
        };
        if kind.is_dir() {
            rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(mode | 0o700))?;
        } else if kind.is_file() {
            let flags =
                OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let mode = Mode::from_raw_mode(mode | 0o600);
            let mut file = File::from(rustix::fs::openat(&parent, name, flags, mode)?);
            if io::copy(entry, &mut file)? != entry.size() {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
        } else if kind.is_symlink() {
            if let Some(to) = entry.link_name()? {
                rustix::fs::symlinkat(to.as_ref(), &parent, name)?;
            }
        } else if kind.is_hard_link() {
            let Some(to) = entry.link_name()? else {
                return Ok(());
            };
            let to = within(&to, base)?;
            // Its first name may be among what is left out.
            if let Some((from, old)) = self.parent_of(to)? {
                match rustix::fs::linkat(&from, old, &parent, name, AtFlags::empty()) {
                    Err(rustix::io::Errno::NOENT) | Ok(()) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        // Sockets, pipes and devices are nothing that is built of.
        Ok(())
    }

    /// The directory that holds a path, to which no link leads, and the last part of it; nothing for the
    /// root, and for what is in a directory that was left out.
    fn parent_of<'a>(&self, path: &'a Path) -> Result<Option<(OwnedFd, &'a OsStr)>, Stop> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Ok(None);
        };
        let parent = if parent.as_os_str().is_empty() {
            Path::new(".")
        } else {
            parent
        };
        let opened = rustix::fs::openat2(
            &self.root,
            parent,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
        );
        match opened {
            Ok(parent) => Ok(Some((parent, name))),
            Err(rustix::io::Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn is_too_large(&self) -> Stop {
        let Size { bytes, files } = self.most;
        Stop::For(
            Error::new(
                Code::LimitReached,
                format!(
                    "the drone's clone is larger than {} or has more than {files} files",
                    bytesize::ByteSize::b(bytes)
                ),
            )
            .hint(
                "remove build output from it, or raise limits.clone or limits.clone_files in the \
                 configuration",
            ),
        )
    }
}

/// A path of an archive, seen from the directory that it is of.
fn within<'a>(path: &'a Path, base: &Path) -> io::Result<&'a Path> {
    let path = path.strip_prefix(base).map_err(|_| odd(path))?;
    let is_plain = path
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    if is_plain { Ok(path) } else { Err(odd(path)) }
}

fn odd(path: &Path) -> io::Error {
    io::Error::other(format!("an archive with {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use tar::{Builder, EntryType, Header};

    const MOST: Size = Size {
        bytes: 64 * 1024,
        files: 10,
    };

    type Parts<'a> = &'a [(&'a str, EntryType, &'a str)];

    /// An archive with names that `Builder` would refuse.
    fn archive(parts: Parts<'_>) -> Vec<u8> {
        let mut out = Builder::new(Vec::new());
        for (path, kind, content) in parts {
            let mut header = Header::new_gnu();
            header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
            header.set_entry_type(*kind);
            header.set_mode(0o4755);
            let is_link = !matches!(kind, EntryType::Regular | EntryType::Directory);
            if is_link {
                header.as_old_mut().linkname[..content.len()].copy_from_slice(content.as_bytes());
            }
            let content = if is_link { "" } else { content };
            header.set_size(content.len() as u64);
            header.set_cksum();
            out.append(&header, content.as_bytes()).unwrap();
        }
        out.into_inner().unwrap()
    }

    fn unpacked(into: &Path, archive: &[u8]) -> Result<io::Result<()>> {
        Target::open(into, ".git", MOST).unwrap().fill(archive)
    }

    #[test]
    fn a_directory_comes_out_as_it_is_without_what_is_left_out() {
        let place = tempfile::tempdir().unwrap();
        let archive = archive(&[
            ("site/", EntryType::Directory, ""),
            ("site/.git/", EntryType::Directory, ""),
            ("site/.git/config", EntryType::Regular, "[core]"),
            ("site/.gitignore", EntryType::Regular, "x"),
            ("site/bin/", EntryType::Directory, ""),
            ("site/bin/tool", EntryType::Regular, "#!"),
            ("site/bin/again", EntryType::Link, "site/bin/tool"),
            ("site/bin/objects", EntryType::Link, "site/.git/config"),
            ("site/pipe", EntryType::Fifo, ""),
            ("site/link", EntryType::Symlink, "/etc/passwd"),
        ]);
        unpacked(place.path(), &archive).unwrap().unwrap();
        let at = |path: &str| place.path().join(path);
        for gone in [".git", "bin/objects", "pipe"] {
            assert!(at(gone).symlink_metadata().is_err(), "{gone}");
        }
        assert_eq!(std::fs::read(at("bin/again")).unwrap(), b"#!");
        assert_eq!(std::fs::read(at(".gitignore")).unwrap(), b"x");
        let mode = at("bin/tool").metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o7777 & !0o022, 0o755);
        assert!(at("link").symlink_metadata().unwrap().is_symlink());
    }

    #[test]
    fn nothing_gets_out_of_the_place() {
        for parts in [
            &[("site/../out", EntryType::Regular, "x")] as Parts<'_>,
            &[("/out", EntryType::Regular, "x")],
            &[("out", EntryType::Regular, "x")],
            &[
                ("site/up", EntryType::Symlink, ".."),
                ("site/up/out", EntryType::Regular, "x"),
            ],
            &[
                ("site/file", EntryType::Symlink, "../out"),
                ("site/file", EntryType::Regular, "x"),
            ],
            &[
                ("site/up", EntryType::Symlink, ".."),
                ("site/mine", EntryType::Link, "site/up/secret"),
            ],
            &[("site/mine", EntryType::Link, "site/../secret")],
        ] {
            let parent = tempfile::tempdir().unwrap();
            std::fs::write(parent.path().join("secret"), "secret").unwrap();
            let into = parent.path().join("into");
            std::fs::create_dir(&into).unwrap();
            let all = [&[("site/", EntryType::Directory, "")], parts].concat();
            assert!(
                unpacked(&into, &archive(&all)).unwrap().is_err(),
                "{parts:?}"
            );
            assert!(!parent.path().join("out").exists(), "{parts:?}");
            assert!(!into.join("mine").exists(), "{parts:?}");
        }
    }

    #[test]
    fn it_is_bounded_and_whole_or_an_error() {
        let code = |archive: &[u8]| {
            let place = tempfile::tempdir().unwrap();
            match unpacked(place.path(), archive) {
                Ok(done) => done.err().map(|_| None),
                Err(error) => Some(Some(error.code())),
            }
        };
        let root = ("site/", EntryType::Directory, "");
        let content = "x".repeat(2000);
        let file = ("site/file", EntryType::Regular, content.as_str());
        let whole = archive(&[root, file]);
        assert_eq!(code(&whole), None);
        assert_eq!(code(&whole[..1800]), Some(None));
        assert_eq!(code(&[]), Some(None));
        let not = archive(&[("site", EntryType::Regular, "x")]);
        assert_eq!(code(&not), Some(Some(Code::DevcontainerInvalid)));
        let names: Vec<_> = (0..11).map(|number| format!("site/{number}")).collect();
        let many: Vec<_> = std::iter::once(root)
            .chain(
                names
                    .iter()
                    .map(|name| (name.as_str(), EntryType::Regular, "")),
            )
            .collect();
        assert_eq!(code(&archive(&many)), Some(Some(Code::LimitReached)));
        let content = "x".repeat(80 * 1024);
        for name in ["site/large", "site/.git/large"] {
            let large = archive(&[root, (name, EntryType::Regular, &content)]);
            assert_eq!(code(&large), Some(Some(Code::LimitReached)), "{name}");
        }
    }
}
