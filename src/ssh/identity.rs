//! This server's secret, and the keys that follow from it.
//!
//! A drone's host key is derived, not stored: it survives a rebuild, and a slay and respawn,
//! without any state but the secret's 32 bytes.

use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use hkdf::Hkdf;
use rustls::crypto::ring;
use sha2::Sha256;
use ssh_key::private::{Ed25519Keypair, PrivateKey};

use crate::drone::DroneName;
use crate::error::{Code, Error, Result, host_io};

/// Where the secret is when root runs hatchery.
/// The secret's file in its directory.
const FILE: &str = "ssh-secret";
/// The secret's length in bytes.
const LENGTH: usize = 32;

/// HKDF's salt and info strings. Changing any changes every drone's host key.
const SALT: &[u8] = b"hatchery ssh 1";
const INFO_CA: &[u8] = b"certificate authority";
const INFO_HOST: &[u8] = b"host key\0";
const INFO_SIGNING: &[u8] = b"signing key\0";
const INFO_TOKEN: &[u8] = b"token\0";
const INFO_NONCE: &[u8] = b"certificate nonce\0";

/// 32 random bytes, made once for this server. It cannot be printed.
pub struct ServerSecret([u8; LENGTH]);

impl std::fmt::Debug for ServerSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ServerSecret(…)")
    }
}

impl ServerSecret {
    /// Reads the secret in this directory; makes both on first use. Two that do so at once get
    /// the same one.
    pub fn load_or_create(directory: &Path) -> Result<Self> {
        let path = directory.join(FILE);
        if let Some(secret) = Self::read(&path)? {
            return Ok(secret);
        }
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(|error| host_io("make", directory, error))?;
        Self::create(directory, &path)?;
        Self::read(&path)?.ok_or_else(|| {
            Error::new(
                Code::HostFailed,
                format!("{} was removed while it was being created", path.display()),
            )
            .hint("try again")
        })
    }

    /// Writes a new secret, unless one is there by now.
    fn create(directory: &Path, path: &Path) -> Result<()> {
        let bytes = random()?;
        let failed = |error| host_io("write", path, error);
        // Complete before it has its name, so that nobody reads half of it; mode 0600 from the
        // start.
        let mut file = tempfile::NamedTempFile::new_in(directory).map_err(failed)?;
        file.write_all(&bytes).map_err(failed)?;
        // A directory that a group shares: the secret is the group's too.
        let shared = std::fs::metadata(directory).map_err(failed)?;
        if shared.permissions().mode() & 0o020 != 0 {
            let group_reads = std::fs::Permissions::from_mode(0o640);
            file.as_file()
                .set_permissions(group_reads)
                .map_err(failed)?;
        }
        file.as_file().sync_all().map_err(failed)?;
        match file.persist_noclobber(path) {
            Ok(_) => {}
            Err(lost) if lost.error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(lost) => return Err(failed(lost.error)),
        }
        std::fs::File::open(directory)
            .and_then(|directory| directory.sync_all())
            .map_err(failed)
    }

    fn read(path: &Path) -> Result<Option<Self>> {
        let file = match std::fs::File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(host_io("read", path, error)),
        };
        let wrong = |what: &str, next: &str| {
            Error::new(
                Code::SecretUnreadable,
                format!("this server's ssh secret {} {what}", path.display()),
            )
            .hint(next)
        };
        let about = file
            .metadata()
            .map_err(|error| host_io("read", path, error))?;
        // The owner's alone, or read by a group that its owner chose.
        let open_bits = about.permissions().mode() & 0o137;
        if !about.is_file() || open_bits != 0 {
            return Err(wrong(
                "is accessible to other users",
                &format!(
                    "if nobody else can have read it, run `chmod 600 {0}`; otherwise remove it, and every \
                     drone gets a new host key at its next start",
                    path.display()
                ),
            ));
        }
        let mut bytes = Vec::new();
        file.take(LENGTH as u64 + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| host_io("read", path, error))?;
        let bytes = bytes.try_into().map_err(|_| {
            wrong(
                &format!("is not {LENGTH} bytes long"),
                "restore it from a backup, or remove it, and every drone gets a new host key at its next start",
            )
        })?;
        Ok(Some(Self(bytes)))
    }

    /// HKDF-SHA256 (RFC 5869) of the secret, for one purpose.
    fn derive<const N: usize>(&self, info: &[&[u8]]) -> [u8; N] {
        let mut out = [0; N];
        Hkdf::<Sha256>::new(Some(SALT), &self.0)
            .expand_multi_info(info, &mut out)
            .expect("HKDF-SHA256 gives up to 8160 bytes; cannot fail");
        out
    }

    /// The key of this server's ssh certificate authority.
    pub(super) fn authority_key(&self) -> PrivateKey {
        ed25519(&self.derive(&[INFO_CA]), "hatchery")
    }

    /// The host key of the drone of this name, Ed25519.
    pub fn host_key(&self, name: &DroneName) -> PrivateKey {
        ed25519(
            &self.derive(&[INFO_HOST, name.as_str().as_bytes()]),
            name.as_str(),
        )
    }

    /// The key by which commits in the drone of this name are signed, Ed25519.
    pub fn signing_key(&self, name: &DroneName) -> PrivateKey {
        ed25519(
            &self.derive(&[INFO_SIGNING, name.as_str().as_bytes()]),
            name.as_str(),
        )
    }

    /// A text that only this server can tell for this drone, in hex: part of names by which
    /// another drone must not find something of this one's.
    pub fn token(&self, name: &DroneName) -> String {
        let token = u64::from_be_bytes(self.derive(&[INFO_TOKEN, name.as_str().as_bytes()]));
        format!("{token:016x}")
    }

    /// The nonce of a certificate: it must be such that nobody can foresee it, not that it changes.
    pub(super) fn nonce(&self, of: &[u8]) -> [u8; LENGTH] {
        self.derive(&[INFO_NONCE, of])
    }
}

/// A key that follows from nothing, for one use.
pub(super) fn new_key(comment: &str) -> Result<PrivateKey> {
    Ok(ed25519(&random()?, comment))
}

fn random() -> Result<[u8; LENGTH]> {
    let mut bytes = [0; LENGTH];
    ring::default_provider()
        .secure_random
        .fill(&mut bytes)
        .map_err(|_| Error::new(Code::HostFailed, "the system provides no random bytes"))?;
    Ok(bytes)
}

fn ed25519(seed: &[u8; 32], comment: &str) -> PrivateKey {
    PrivateKey::new(Ed25519Keypair::from_seed(seed).into(), comment)
        .expect("an unencrypted key; cannot fail")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(repo: &str) -> DroneName {
        DroneName::of(&repo.parse().unwrap())
    }

    fn fingerprint(key: &PrivateKey) -> String {
        key.fingerprint(ssh_key::HashAlg::Sha256).to_string()
    }

    #[test]
    fn keys_follow_from_secret_and_name_for_good() {
        let secret = ServerSecret([7; LENGTH]);
        assert_eq!(
            fingerprint(&secret.host_key(&name("acme/site"))),
            "SHA256:Ylh+6W8b7OOjpq0dZ5VWUBCU7OBejkxxE45BKOJe6Ok",
            "a change here changes every drone's host key"
        );
        assert_eq!(
            fingerprint(&secret.authority_key()),
            "SHA256:sqS/BSjGekQQVIkmRooqKIJgchwk+eicIYyQS+1+fCQ"
        );
        assert_ne!(
            fingerprint(&secret.host_key(&name("acme/site"))),
            fingerprint(&secret.host_key(&name("acme/site2")))
        );
        assert_ne!(
            fingerprint(&secret.host_key(&name("acme/site"))),
            fingerprint(&secret.signing_key(&name("acme/site")))
        );
        let other = ServerSecret([8; LENGTH]);
        assert_ne!(
            fingerprint(&secret.host_key(&name("acme/site"))),
            fingerprint(&other.host_key(&name("acme/site")))
        );
    }

    #[test]
    fn many_at_once_get_one_secret() {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().join("a/b");
        let secrets: Vec<_> = std::thread::scope(|scope| {
            let all: Vec<_> = (0..16)
                .map(|_| scope.spawn(|| ServerSecret::load_or_create(&directory).unwrap().0))
                .collect();
            all.into_iter().map(|one| one.join().unwrap()).collect()
        });
        assert!(secrets.iter().all(|secret| *secret == secrets[0]));
        assert_ne!(secrets[0], [0; LENGTH]);
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&directory.join(FILE)), 0o600);
        assert_eq!(mode(&directory), 0o700);
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 1);
    }

    #[test]
    fn an_open_or_cut_secret_is_refused() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join(FILE);
        let attempt = |content: &[u8], mode: u32| {
            std::fs::write(&path, content).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            ServerSecret::load_or_create(place.path())
        };
        assert!(attempt(&[1; 32], 0o600).is_ok());
        assert!(attempt(&[1; 32], 0o640).is_ok());
        for (content, mode) in [
            (&[1; 32][..], 0o644),
            (&[1; 32], 0o620),
            (&[1; 31], 0o600),
            (&[1; 33], 0o600),
            (&[], 0o600),
        ] {
            let error = attempt(content, mode).unwrap_err();
            assert_eq!(error.code(), Code::SecretUnreadable, "{mode:o}");
            assert!(error.what_next().is_some());
        }
    }
}
