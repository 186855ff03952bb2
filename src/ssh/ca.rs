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

/// Where a drone without a tailnet is reached: on a loopback port of this server. No certificate is
/// for these names, which all drones share.
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

    /// The host key of the drone of this name and its certificate. The same every time. The
    /// certificate is for names that no other drone has: its own, and the one in the tailnet's
    /// `domain`, where there is one.
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
        principals.extend(domain.map(|domain| format!("{name}.{}", domain.to_ascii_lowercase())));
        let nonce = self.secret.nonce(principals.join("\0").as_bytes());
        let mut builder = Builder::new(nonce, host, 0, FOR_EVER)?;
        builder.cert_type(CertType::Host)?.key_id(name.as_str())?;
        for principal in principals {
            builder.valid_principal(principal)?;
        }
        builder.sign(&self.key)
    }

    /// The line for a client's `known_hosts` that vouches for every drone in the tailnet's domain. A
    /// pattern without a port also matches other ports (there was no match with the port, so OpenSSH
    /// asks again without), but not every client is OpenSSH.
    pub fn known_hosts_line(&self, domain: &str) -> Result<String> {
        let domain = domain.to_ascii_lowercase();
        let key = public(&self.key)?;
        Ok(format!("@cert-authority [*.{domain}]:*,*.{domain} {key}"))
    }

    /// The line for a client's `known_hosts` that vouches for every drone by its name alone: for
    /// `HostKeyAlias`, wherever the drone is reached.
    pub fn known_hosts_line_of_names(&self) -> Result<String> {
        Ok(format!("@cert-authority * {}", public(&self.key)?))
    }

    /// The line for a client's `known_hosts` that has this drone's own host key for its loopback
    /// port.
    pub fn known_hosts_line_of_port(&self, name: &DroneName, port: u16) -> Result<String> {
        let patterns = LOOPBACK.map(|host| format!("[{host}]:{port}")).join(",");
        let key = public(&self.secret.host_key(name))?;
        Ok(format!("{patterns} {key}"))
    }
}

/// The public half of a key, on one line.
pub(crate) fn public(key: &PrivateKey) -> Result<String> {
    let line = key.public_key().to_openssh();
    line.map_err(|error| Error::new(Code::HostFailed, "cannot write a public key").because(error))
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
        assert_eq!(principals(None), ["acme-site"]);
    }

    #[test]
    fn no_two_drones_share_a_name_that_is_certified() {
        let (_place, secret) = secret();
        let authority = Authority::new(&secret);
        for domain in [None, Some("tail.example.test")] {
            let principals = |repo: &str| {
                let name = DroneName::of(&repo.parse().unwrap());
                let host = authority.host_key(&name, domain).unwrap();
                let certificate: Certificate = host.certificate.parse().unwrap();
                certificate.valid_principals().to_vec()
            };
            let others = principals("acme/web");
            let shared = principals("acme/site")
                .into_iter()
                .filter(|name| others.contains(name));
            assert_eq!(shared.count(), 0, "{domain:?}");
        }
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
    fn the_line_names_the_tailnet() {
        let (_place, secret) = secret();
        let line = Authority::new(&secret).known_hosts_line("Tail.example.test");
        let begin = "@cert-authority [*.tail.example.test]:*,*.tail.example.test ssh-ed25519 ";
        assert!(line.unwrap().starts_with(begin));
    }

    #[test]
    fn the_line_of_a_port_has_the_drones_own_key() {
        let (_place, secret) = secret();
        let authority = Authority::new(&secret);
        let line = authority.known_hosts_line_of_port(&name(), 21383).unwrap();
        let (patterns, key) = line.split_once(' ').unwrap();
        assert_eq!(patterns, "[127.0.0.1]:21383,[localhost]:21383");
        let host = authority.host_key(&name(), None).unwrap();
        assert_eq!(host.public.trim_end(), key);
    }
}
