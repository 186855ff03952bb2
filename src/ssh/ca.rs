//! This server's ssh certificate authority: it vouches for the drones' host keys.
//!
//! OpenSSH's certificates: `PROTOCOL.certkeys`; how clients match them: sshd(8), the format of
//! `ssh_known_hosts`.

use ssh_key::certificate::{Builder, CertType};
use ssh_key::{Certificate, LineEnding, PrivateKey, PublicKey};

use super::identity::ServerSecret;
use crate::drone::DroneName;
use crate::error::{Code, Error, Result};

/// The end of a certificate's life, in seconds since 1970: later than any clock shows. (OpenSSH's
/// "forever" is the largest `u64`, which the crate does not write.)
const FOR_EVER: u64 = i64::MAX as u64;

/// How a drone without a tailnet is called: it listens on a loopback port of this server.
const LOOPBACK: [&str; 2] = ["127.0.0.1", "localhost"];

/// The certificate authority of this server.
#[derive(Debug)]
pub struct Authority<'a> {
    secret: &'a ServerSecret,
    key: PrivateKey,
}

/// A drone's host key with its certificate, as OpenSSH's files hold them.
pub struct HostKey {
    /// The private key, PEM-like.
    pub private: String,
    /// The public key, one line.
    pub public: String,
    /// The certificate, one line.
    pub certificate: String,
}

impl<'a> Authority<'a> {
    /// The authority that follows from this server's secret.
    pub fn new(secret: &'a ServerSecret) -> Self {
        Self {
            key: secret.authority_key(),
            secret,
        }
    }

    /// The host key of the drone of this name and its certificate. The same every time. `domain`
    /// is the tailnet's; without a tailnet the certificate is for a loopback port.
    pub fn host_key(&self, name: &DroneName, domain: Option<&str>) -> Result<HostKey> {
        let failed = |error: ssh_key::Error| {
            Error::new(Code::HostFailed, format!("cannot make {name}'s host key")).because(error)
        };
        let key = self.secret.host_key(name);
        let certificate = self
            .certificate(key.public_key(), name, domain)
            .map_err(failed)?;
        Ok(HostKey {
            private: key.to_openssh(LineEnding::LF).map_err(failed)?.to_string(),
            public: line(key.public_key().to_openssh().map_err(failed)?),
            certificate: line(certificate.to_openssh().map_err(failed)?),
        })
    }

    fn certificate(
        &self,
        host: &PublicKey,
        name: &DroneName,
        domain: Option<&str>,
    ) -> ssh_key::Result<Certificate> {
        let mut principals = vec![name.to_string()];
        match domain {
            Some(domain) => principals.push(format!("{name}.{}", domain.to_ascii_lowercase())),
            None => principals.extend(LOOPBACK.map(str::to_owned)),
        }
        let nonce = self.secret.nonce(principals.join("\0").as_bytes());
        let mut builder = Builder::new(nonce, host, 0, FOR_EVER)?;
        builder.cert_type(CertType::Host)?.key_id(name.as_str())?;
        for principal in principals {
            builder.valid_principal(principal)?;
        }
        builder.sign(&self.key)
    }

    /// The line for a client's `known_hosts`: with it a drone's host key is known before the first
    /// login. A pattern without a port also matches other ports (there was no match with the port,
    /// so OpenSSH asks again without), but not every client is OpenSSH.
    pub fn known_hosts_line(&self, domain: Option<&str>) -> Result<String> {
        let patterns = match domain.map(str::to_ascii_lowercase) {
            Some(domain) => format!("[*.{domain}]:*,*.{domain}"),
            None => LOOPBACK.map(|host| format!("[{host}]:*")).join(","),
        };
        let key = self.key.public_key().to_openssh().map_err(|error| {
            Error::new(
                Code::HostFailed,
                "cannot write the certificate authority's key",
            )
            .because(error)
        })?;
        Ok(format!("@cert-authority {patterns} {key}"))
    }
}

fn line(mut text: String) -> String {
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret() -> (tempfile::TempDir, ServerSecret) {
        let place = tempfile::tempdir().unwrap();
        let secret = ServerSecret::load_or_create(place.path()).unwrap();
        (place, secret)
    }

    fn name() -> DroneName {
        DroneName::of(&"acme/site".parse().unwrap())
    }

    #[test]
    fn a_certificate_is_for_this_drone_and_no_other_place() {
        let (_place, secret) = secret();
        let authority = Authority::new(&secret);
        let principals = |domain| {
            let host = authority.host_key(&name(), domain).unwrap();
            let certificate: Certificate = host.certificate.parse().unwrap();
            assert_eq!(certificate.cert_type(), CertType::Host);
            certificate
                .validate([&authority.key.fingerprint(ssh_key::HashAlg::Sha256)])
                .unwrap();
            certificate.valid_principals().to_vec()
        };
        assert_eq!(
            principals(Some("Tail.example.test")),
            ["acme-site", "acme-site.tail.example.test"]
        );
        assert_eq!(principals(None), ["acme-site", "127.0.0.1", "localhost"]);
    }

    #[test]
    fn it_is_the_same_every_time() {
        let (_place, secret) = secret();
        let files = || {
            let host = Authority::new(&secret).host_key(&name(), Some("t.x"));
            let host = host.unwrap();
            (host.private, host.public, host.certificate)
        };
        assert_eq!(files(), files());
    }

    #[test]
    fn the_line_names_the_tailnet_or_the_loopback_ports() {
        let (_place, secret) = secret();
        let authority = Authority::new(&secret);
        assert!(
            authority
                .known_hosts_line(Some("tail.example.test"))
                .unwrap()
                .starts_with(
                    "@cert-authority [*.tail.example.test]:*,*.tail.example.test ssh-ed25519 "
                )
        );
        assert!(
            authority
                .known_hosts_line(None)
                .unwrap()
                .starts_with("@cert-authority [127.0.0.1]:*,[localhost]:* ssh-ed25519 ")
        );
    }
}
