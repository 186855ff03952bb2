//! The socket: one that systemd hands over, or one of our own.

use std::fs::Permissions;
use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use listenfd::ListenFd;

use crate::error::{Code, Error, Result, host_io};

/// Everybody in the drone may ask: the mount is the identity.
const MODE: u32 = 0o666;

/// A listening socket.
#[derive(Debug)]
pub struct Listener {
    socket: UnixListener,
    own: Option<(PathBuf, Birth)>,
}

impl Listener {
    /// The one that was inherited (`LISTEN_FDS`, `sd_listen_fds(3)`), if there is one.
    pub fn inherited() -> Result<Option<Self>> {
        let mut handed = ListenFd::from_env();
        let unfit = |what: &str| {
            Error::new(
                Code::Usage,
                format!("the inherited socket is unusable: {what}"),
            )
            .hint("pass exactly one listening Unix stream socket (ListenStream=/PATH)")
        };
        match handed.len() {
            0 => return Ok(None),
            1 => {}
            more => return Err(unfit(&format!("{more} sockets were passed"))),
        }
        let socket = handed
            .take_unix_listener(0)
            .map_err(|error| unfit("it is not a Unix stream socket").because(error))?;
        Ok(socket.map(|socket| Self { socket, own: None }))
    }

    /// Binds a new one at `path`. A socket file there with nobody behind it is replaced; a live
    /// socket, or a file of another kind, is not.
    pub fn bind(path: &Path) -> Result<Self> {
        match UnixStream::connect(path) {
            Ok(_) => return Err(Self::taken(path)),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                // Connecting to a regular file is refused too.
                let kind = std::fs::symlink_metadata(path)
                    .map_err(|error| host_io("look at", path, error))?;
                if !kind.file_type().is_socket() {
                    return Err(Error::new(
                        Code::HostFailed,
                        format!("{} exists and is not a socket", path.display()),
                    )
                    .hint("choose another path, or move the file away"));
                }
                std::fs::remove_file(path).map_err(|error| host_io("remove", path, error))?;
            }
            Err(error) => return Err(host_io("connect to", path, error)),
        }
        let socket = UnixListener::bind(path).map_err(|error| host_io("bind", path, error))?;
        std::fs::set_permissions(path, Permissions::from_mode(MODE))
            .map_err(|error| host_io("set the permissions of", path, error))?;
        let made = born_at(path).map_err(|error| host_io("look at", path, error))?;
        Ok(Self {
            socket,
            own: Some((path.to_owned(), made)),
        })
    }

    /// Somebody else listens at `path`.
    pub fn taken(path: &Path) -> Error {
        Error::new(
            Code::HostFailed,
            format!("another process already serves {}", path.display()),
        )
        .hint("stop the other hatchery-credd or its socket unit first")
    }

    /// Whether the socket file that we made is still where we made it.
    pub fn in_place(&self) -> bool {
        self.own
            .as_ref()
            .is_none_or(|(path, made)| born_at(path).is_ok_and(|there| there == *made))
    }

    /// Whether it was inherited: whoever holds it calls us again when we are needed.
    pub const fn is_inherited(&self) -> bool {
        self.own.is_none()
    }

    /// The same socket for an asynchronous runtime.
    pub fn listen(&self) -> Result<tokio::net::UnixListener> {
        let failed = |error| Error::new(Code::HostFailed, "cannot listen").because(error);
        let socket = self.socket.try_clone().map_err(failed)?;
        socket.set_nonblocking(true).map_err(failed)?;
        tokio::net::UnixListener::from_std(socket).map_err(failed)
    }
}

impl Drop for Listener {
    /// Removes the socket file that we made, unless another has taken its place.
    fn drop(&mut self) {
        if let Some((path, made)) = &self.own
            && born_at(path).is_ok_and(|there| there == *made)
        {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// What tells a file from one that took its place: inode numbers are used again.
type Birth = (u64, u64, i64, i64);

fn born_at(path: &Path) -> std::io::Result<Birth> {
    let file = std::fs::symlink_metadata(path)?;
    Ok((file.dev(), file.ino(), file.ctime(), file.ctime_nsec()))
}
