//! The App's private key, and the JSON Web Tokens signed with it (RFC 7519).

use std::path::Path;
use std::time::{Duration, SystemTime};

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, EncodingKey, Header};

use crate::error::{Code, Error, Result};
use crate::secret::Secret;

/// How far `iat` lies back: GitHub refuses one in its own future, and clocks drift.
const BACK: Duration = Duration::from_secs(60);
/// How far `exp` lies ahead: GitHub refuses more than ten minutes.
const AHEAD: Duration = Duration::from_secs(9 * 60);

/// The App's private key. It cannot be shown.
pub struct AppKey(EncodingKey);

/// Why a text is not a key that GitHub Apps sign with.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Protected by a passphrase.
    #[error("is encrypted; hatchery has no passphrase for it")]
    Encrypted,
    /// Another kind of key.
    #[error("is {0}, not an RSA private key")]
    Kind(&'static str),
    /// Nothing of a key in it.
    #[error("is not a private key in PEM")]
    NotPem,
    /// It begins well.
    #[error("is damaged or cut off")]
    Damaged,
    /// RSA, but not of a size or form that can sign.
    #[error("cannot sign: {0}")]
    Unusable(String),
}

impl AppKey {
    /// Reads the key in this file and tries it. `named_by` is what named the file.
    pub fn read(path: &Path, named_by: &str) -> Result<Self> {
        let pem = Secret::read(path, named_by)?;
        Self::from_pem(pem.expose()).map_err(|error| {
            Error::new(
                Code::SecretUnreadable,
                format!("{}, named by {named_by}, {error}", path.display()),
            )
            .hint("use the file that GitHub offers for download under the App's \"Private keys\"")
        })
    }

    /// Takes a PEM text (PKCS#1, as GitHub gives it, or PKCS#8) and signs with it once.
    pub fn from_pem(text: &str) -> std::result::Result<Self, KeyError> {
        let label = text
            .split_once("-----BEGIN ")
            .and_then(|(_, rest)| rest.split_once("-----"))
            .map(|(label, _)| label)
            .ok_or(KeyError::NotPem)?;
        if label.starts_with("ENCRYPTED") || text.contains("Proc-Type: 4,ENCRYPTED") {
            return Err(KeyError::Encrypted);
        }
        match label {
            "RSA PRIVATE KEY" | "PRIVATE KEY" => {}
            "EC PRIVATE KEY" | "EC PARAMETERS" => return Err(KeyError::Kind("an EC key")),
            "PUBLIC KEY" | "RSA PUBLIC KEY" => return Err(KeyError::Kind("a public key")),
            "CERTIFICATE" => return Err(KeyError::Kind("a certificate")),
            "OPENSSH PRIVATE KEY" => return Err(KeyError::Kind("an OpenSSH key")),
            _ => return Err(KeyError::NotPem),
        }
        let Ok(key) = EncodingKey::from_rsa_pem(text.as_bytes()) else {
            // Which one it is, PKCS#8 says only to those who can read it.
            let other = EncodingKey::from_ec_pem(text.as_bytes())
                .or_else(|_| EncodingKey::from_ed_pem(text.as_bytes()));
            return Err(match other {
                Ok(_) => KeyError::Kind("a key of another algorithm"),
                Err(_) => KeyError::Damaged,
            });
        };
        let key = Self(key);
        key.sign("", SystemTime::UNIX_EPOCH)?;
        Ok(key)
    }

    /// A token that says to GitHub at `now`, its own time: this is the App `issuer`.
    pub fn sign(&self, issuer: &str, now: SystemTime) -> std::result::Result<Secret, KeyError> {
        let seconds = |time: SystemTime| {
            time.duration_since(SystemTime::UNIX_EPOCH)
                .unwrap_or_default()
                .as_secs()
        };
        let claims = serde_json::json!({
            "iat": seconds(now).saturating_sub(BACK.as_secs()),
            "exp": seconds(now) + AHEAD.as_secs(),
            "iss": issuer,
        });
        jsonwebtoken::encode(&Header::new(Algorithm::RS256), &claims, &self.0)
            .map(Secret::new)
            .map_err(|error| match error.into_kind() {
                ErrorKind::InvalidRsaKey(why) if why == "InvalidEncoding" => KeyError::Damaged,
                ErrorKind::InvalidRsaKey(why) => KeyError::Unusable(why),
                _ => KeyError::Unusable("signing failed".to_owned()),
            })
    }
}

impl std::fmt::Debug for AppKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AppKey(…)")
    }
}
