//! The checkout on disk: a stranger's tree. Nothing outside it is ever read through it.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::error::{Code, Error, Result, host_io};

/// The largest file of a repository's configuration that is read, in bytes.
const MAX_FILE: u64 = 1024 * 1024;

/// A clone of the repository, its path free of symlinks.
#[derive(Debug, Clone)]
pub struct Checkout {
    root: PathBuf,
    seen: Arc<Mutex<BTreeMap<String, String>>>,
}

/// Why a path of the repository cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadPath {
    /// Nothing is there.
    Missing,
    /// It leads out of the checkout, by `..`, from the root or over a symlink.
    Outside,
}

impl Checkout {
    /// The checkout at this path.
    pub fn open(path: &Path) -> Result<Self> {
        let root = path
            .canonicalize()
            .map_err(|error| host_io("read", path, error))?;
        Ok(Self {
            root,
            seen: Arc::default(),
        })
    }

    /// Its path.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Resolves `path`, relative to the directory `base`, to a path without symlinks. It must exist and be
    /// inside.
    pub fn inside(&self, base: &Path, path: &str) -> std::result::Result<PathBuf, BadPath> {
        if path.contains('\0') {
            return Err(BadPath::Missing);
        }
        // What is not there may still lead outside.
        let lexical = Self::lexical(base, path);
        match base.join(path).canonicalize() {
            Ok(found) if found.starts_with(&self.root) => Ok(found),
            Err(_) if lexical.starts_with(&self.root) && self.leads_inside(&base.join(path)) => {
                Err(BadPath::Missing)
            }
            Ok(_) | Err(_) => Err(BadPath::Outside),
        }
    }

    /// Whether the part of a path that exists is inside, so that an error reveals nothing about files outside.
    fn leads_inside(&self, path: &Path) -> bool {
        path.ancestors()
            .find_map(|part| part.canonicalize().ok())
            .is_some_and(|part| part.starts_with(&self.root))
    }

    /// `path`, seen from `base`, with `.` and `..` taken as written.
    pub fn lexical(base: &Path, path: &str) -> PathBuf {
        let mut out = PathBuf::new();
        for part in base.join(path).components() {
            match part {
                Component::ParentDir => {
                    out.pop();
                }
                Component::CurDir => {}
                other => out.push(other),
            }
        }
        out
    }

    /// The path relative to the checkout, as a person in the repository writes it.
    pub fn shown(&self, path: &Path) -> String {
        path.strip_prefix(&self.root)
            .unwrap_or(path)
            .display()
            .to_string()
    }

    /// The texts that [`Self::read`] has given so far, by path in the checkout.
    pub fn seen(&self) -> BTreeMap<String, String> {
        self.seen
            .lock()
            .map(|seen| seen.clone())
            .unwrap_or_default()
    }

    /// The text of a file of the configuration that [`Self::inside`] gave. Fails if it is not a regular file of
    /// at most 1 MiB in UTF-8.
    pub fn read(&self, path: &Path) -> Result<String> {
        let text = self.read_values(path)?;
        if let Ok(mut seen) = self.seen.lock() {
            seen.insert(self.shown(path), text.clone());
        }
        Ok(text)
    }

    /// As [`Self::read`], for a file with variables' values, some of which may be secret: it is not kept in
    /// [`Self::seen`].
    pub fn read_values(&self, path: &Path) -> Result<String> {
        let shown = self.shown(path);
        let wrong = |what: &str| {
            Error::new(Code::DevcontainerInvalid, format!("{shown}: {what}"))
                .at(&shown, 0)
                .hint("fix it in the repository")
        };
        // A pipe or a device would block or never end.
        if !path.is_file() {
            return Err(wrong("is not a file"));
        }
        let mut bytes = Vec::new();
        std::fs::File::open(path)
            .and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes))
            .map_err(|error| host_io("read", path, error))?;
        if bytes.len() as u64 > MAX_FILE {
            return Err(wrong("is larger than 1 MiB"));
        }
        String::from_utf8(bytes).map_err(|_| wrong("is not UTF-8"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_stays_inside_whatever_it_is_made_of() {
        let parent = tempfile::tempdir().unwrap();
        let root = parent.path().join("site");
        std::fs::create_dir_all(root.join("dir")).unwrap();
        std::fs::write(root.join("dir/file"), "x").unwrap();
        std::fs::write(parent.path().join("secret"), "x").unwrap();
        std::os::unix::fs::symlink("../../secret", root.join("dir/link")).unwrap();
        std::os::unix::fs::symlink("file", root.join("dir/good")).unwrap();
        std::os::unix::fs::symlink("../..", root.join("dir/out")).unwrap();
        let checkout = Checkout::open(&root).unwrap();
        let base = checkout.root().join("dir");
        for (path, expected) in [
            ("file", Ok("dir/file")),
            ("good", Ok("dir/file")),
            ("../dir/./file", Ok("dir/file")),
            ("..", Ok("")),
            ("absent", Err(BadPath::Missing)),
            ("absent/../absent", Err(BadPath::Missing)),
            ("link", Err(BadPath::Outside)),
            ("link/absent", Err(BadPath::Outside)),
            ("out/absent", Err(BadPath::Outside)),
            ("out/site/dir/absent", Err(BadPath::Missing)),
            ("../..", Err(BadPath::Outside)),
            ("../../secret", Err(BadPath::Outside)),
            ("../../absent", Err(BadPath::Outside)),
            ("/etc/passwd", Err(BadPath::Outside)),
            ("file\0", Err(BadPath::Missing)),
        ] {
            let found = checkout.inside(&base, path);
            assert_eq!(
                found,
                expected.map(|path| checkout.root().join(path)),
                "{path:?}"
            );
        }
    }

    #[test]
    fn only_small_text_files_are_read() {
        let root = tempfile::tempdir().unwrap();
        let checkout = Checkout::open(root.path()).unwrap();
        std::fs::write(checkout.root().join("big"), vec![b'x'; 1024 * 1024 + 1]).unwrap();
        std::fs::write(checkout.root().join("latin"), [0xe9]).unwrap();
        for name in ["big", "latin", "."] {
            let error = checkout.read(&checkout.root().join(name)).unwrap_err();
            assert_eq!(error.code(), Code::DevcontainerInvalid, "{name}");
        }
    }
}
