//! A GitHub that stands in for the real one: it knows its Apps, installations, repositories and
//! tokens, verifies what it is shown, and keeps to the published description, faults apart.

mod http;
mod state;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::clock::TestClock;
use crate::description::{Description, Operation};

/// The App that the fake knows.
pub const APP_ID: &str = "Iv23liTESTTESTTEST01";
/// A GitHub Enterprise Server has its API under a path; so does this one, always.
pub const API_PATH: &str = "/api/v3";

/// What goes wrong on purpose.
#[derive(Clone)]
pub enum Fault {
    /// This status, these headers, this body.
    Answer(u16, Vec<(&'static str, String)>, String),
    /// No answer, ever.
    Hang,
    /// The connection is closed instead of an answer.
    Reset,
    /// An answer that ends in its middle.
    Cut,
    /// The grant is changed before it is given.
    Grant(fn(&mut Value)),
}

/// A request that the fake has seen.
#[derive(Debug, Clone)]
pub struct Seen {
    pub operation: Operation,
    pub bearer: String,
    pub body: Value,
    pub status: u16,
    /// The JWT's claims, where it was one.
    pub claims: Value,
}

struct Repository {
    number: u64,
    owner: String,
    name: String,
}

struct Installation {
    number: u64,
    owner: String,
    suspended: bool,
}

pub struct Grant {
    pub text: String,
    pub expires: u64,
    pub revoked: bool,
}

/// What the fake GitHub knows.
pub struct State {
    description: Description,
    repositories: Vec<Repository>,
    installations: Vec<Installation>,
    /// Old full names of repositories, in lower case, to their number.
    moved: HashMap<String, u64>,
    faults: Vec<(Operation, Fault, usize)>,
    pub grants: Vec<Grant>,
    pub seen: Vec<Seen>,
    /// Exchanges that do not keep to the description.
    pub violations: Vec<String>,
    /// How long each answer takes.
    pub delay: Duration,
    next_number: u64,
}

/// The fake and the way to it.
pub struct Fake {
    pub state: Arc<Mutex<State>>,
    pub clock: Arc<TestClock>,
    pub port: u16,
    pub certificate: String,
}

impl Fake {
    /// Starts it on a port of the loopback interface.
    pub async fn start(clock: Arc<TestClock>) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let signed = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::try_from(signed.signing_key.serialize_der());
        let config = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![signed.cert.der().clone()], key.unwrap())
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let fake = Self {
            state: Arc::new(Mutex::new(State::new())),
            clock,
            port,
            certificate: signed.cert.pem(),
        };
        let (state, clock) = (fake.state.clone(), fake.clock.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                tokio::spawn(http::serve(
                    stream,
                    acceptor.clone(),
                    state.clone(),
                    clock.clone(),
                ));
            }
        });
        fake
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        // A test that failed while it looked must not take the others' report with it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The App is installed for this owner on these repositories.
    pub fn install(&self, owner: &str, names: &[&str]) {
        let mut state = self.state();
        let number = state.number();
        state.installations.push(Installation {
            number,
            owner: owner.to_owned(),
            suspended: false,
        });
        for name in names {
            let number = state.number();
            state.repositories.push(Repository {
                number,
                owner: owner.to_owned(),
                name: (*name).to_owned(),
            });
        }
    }

    pub fn suspend(&self, owner: &str) {
        for installation in &mut self.state().installations {
            installation.suspended |= installation.owner == owner;
        }
    }

    /// The App is removed and installed again.
    pub fn reinstall(&self, owner: &str) {
        let mut state = self.state();
        let number = state.number();
        for installation in &mut state.installations {
            if installation.owner == owner {
                installation.number = number;
            }
        }
    }

    pub fn delete(&self, full_name: &str) {
        let full = |repo: &Repository| format!("{}/{}", repo.owner, repo.name);
        self.state()
            .repositories
            .retain(|repo| full(repo) != full_name);
    }

    /// Renames or transfers a repository; the old name redirects from then on.
    pub fn rename(&self, from: &str, to: &str) {
        let mut state = self.state();
        let index = state.find(from).unwrap();
        let (owner, name) = to.split_once('/').unwrap();
        let number = state.repositories[index].number;
        owner.clone_into(&mut state.repositories[index].owner);
        name.clone_into(&mut state.repositories[index].name);
        state.moved.insert(from.to_ascii_lowercase(), number);
    }

    /// From now on, so many times.
    pub fn fault(&self, operation: Operation, fault: Fault, times: usize) {
        self.state().faults.push((operation, fault, times));
    }

    pub fn heal(&self) {
        self.state().faults.clear();
    }

    /// How often this operation was asked for.
    pub fn count(&self, operation: Operation) -> usize {
        let state = self.state();
        state
            .seen
            .iter()
            .filter(|seen| seen.operation == operation)
            .count()
    }

    /// The tokens that are good, by GitHub's clock.
    pub fn live(&self) -> Vec<String> {
        let now = self.clock.seconds();
        let state = self.state();
        let live = state
            .grants
            .iter()
            .filter(|grant| !grant.revoked && grant.expires > now);
        live.map(|grant| grant.text.clone()).collect()
    }
}
