//! The App's private key, and the JSON Web Tokens signed with it (RFC 7515, RFC 7519).

use std::path::Path;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::rsa::KeyPair;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{PrivatePkcs1KeyDer, PrivatePkcs8KeyDer};

use crate::error::{Code, Error, Result};
use crate::secret::Secret;

/// How far `iat` lies back: GitHub refuses one in its own future, and clocks drift.
const BACK: Duration = Duration::from_secs(60);
/// How far `exp` lies ahead: GitHub refuses more than ten minutes.
const AHEAD: Duration = Duration::from_secs(9 * 60);

/// The App's private key. It cannot be shown.
pub struct AppKey(KeyPair);

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
            .hint("use the file that GitHub gave for download under the App's \"Private keys\"")
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
        let rejected = |error: ring::error::KeyRejected| match error.to_string().as_str() {
            "WrongAlgorithm" => KeyError::Kind("a key of another algorithm"),
            "InvalidEncoding" => KeyError::Damaged,
            other => KeyError::Unusable(other.to_owned()),
        };
        let pair = match label {
            "RSA PRIVATE KEY" => {
                let der = PrivatePkcs1KeyDer::from_pem_slice(text.as_bytes())
                    .map_err(|_| KeyError::Damaged)?;
                KeyPair::from_der(der.secret_pkcs1_der()).map_err(rejected)?
            }
            "PRIVATE KEY" => {
                let der = PrivatePkcs8KeyDer::from_pem_slice(text.as_bytes())
                    .map_err(|_| KeyError::Damaged)?;
                KeyPair::from_pkcs8(der.secret_pkcs8_der()).map_err(rejected)?
            }
            "EC PRIVATE KEY" | "EC PARAMETERS" => return Err(KeyError::Kind("an EC key")),
            "PUBLIC KEY" | "RSA PUBLIC KEY" => return Err(KeyError::Kind("a public key")),
            "CERTIFICATE" => return Err(KeyError::Kind("a certificate")),
            "OPENSSH PRIVATE KEY" => return Err(KeyError::Kind("an OpenSSH key")),
            _ => return Err(KeyError::NotPem),
        };
        let key = Self(pair);
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
        let mut text = URL_SAFE_NO_PAD.encode(r#"{"alg":"RS256","typ":"JWT"}"#);
        text.push('.');
        URL_SAFE_NO_PAD.encode_string(claims.to_string(), &mut text);
        let mut signature = vec![0; self.0.public().modulus_len()];
        self.0
            .sign(
                &ring::signature::RSA_PKCS1_SHA256,
                &SystemRandom::new(),
                text.as_bytes(),
                &mut signature,
            )
            .map_err(|_| KeyError::Unusable("signing failed".to_owned()))?;
        text.push('.');
        URL_SAFE_NO_PAD.encode_string(&signature, &mut text);
        Ok(Secret::new(text))
    }
}

impl std::fmt::Debug for AppKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AppKey(…)")
    }
}
