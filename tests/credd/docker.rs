//! The Docker of this machine, for tests that label something in it as a drone.

use std::io::Write;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use hatchery::drone::{Identity, Scope};

const SOCKET: &str = "/var/run/docker.sock";

/// Says why a test that needs Docker is skipped, where it is.
pub fn is_absent() -> bool {
    let absent = UnixStream::connect(SOCKET).is_err();
    if absent {
        println!("skipped: no Docker daemon answers at {SOCKET}");
    }
    absent
}

/// What docker prints.
#[track_caller]
pub fn docker(arguments: &[&str], input: &[u8]) -> String {
    let mut child = Command::new("docker")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// An owner that no other test has.
pub fn owner() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("swarm-{}-{count}", std::process::id())
}

/// A drone as Docker knows it: a volume, or a container, that goes with the test.
pub struct Labelled {
    pub identity: Identity,
    remove: Vec<Vec<String>>,
}

impl Labelled {
    pub fn volume(scope: &str) -> Self {
        Self::volume_with(scope, &[])
    }

    /// A volume with some labels otherwise.
    pub fn volume_with(scope: &str, otherwise: &[(&str, &str)]) -> Self {
        let identity = Identity::new(Scope::from_json(scope).unwrap());
        let name = identity.name.as_str();
        let mut arguments = vec!["volume".to_owned(), "create".to_owned()];
        for (key, value) in identity.labels() {
            let other = otherwise.iter().find(|(other, _)| *other == key);
            let value = other.map_or(value, |(_, value)| (*value).to_owned());
            arguments.push(format!("--label={key}={value}"));
        }
        arguments.push(name.to_owned());
        docker(&strs(&arguments), b"");
        Self {
            remove: vec![vec![
                "volume".to_owned(),
                "rm".to_owned(),
                "-f".to_owned(),
                name.to_owned(),
            ]],
            identity,
        }
    }

    /// A container that never runs.
    pub fn container(scope: &str) -> Self {
        let identity = Identity::new(Scope::from_json(scope).unwrap());
        let name = identity.name.as_str();
        let image = docker(&["import", "-"], &[0; 1024]);
        let mut arguments = vec!["create".to_owned(), format!("--name={name}")];
        let labels = identity.labels();
        arguments.extend(
            labels
                .into_iter()
                .map(|(key, value)| format!("--label={key}={value}")),
        );
        arguments.extend([image.clone(), "/none".to_owned()]);
        docker(&strs(&arguments), b"");
        let remove = [["rm", "-f", name], ["rmi", "-f", &image]];
        Self {
            remove: remove
                .map(|words| words.map(str::to_owned).to_vec())
                .to_vec(),
            identity,
        }
    }

    pub fn name(&self) -> &str {
        self.identity.name.as_str()
    }

    pub fn remove(mut self) {
        self.remove_now();
    }

    fn remove_now(&mut self) {
        for words in self.remove.drain(..) {
            docker(&strs(&words), b"");
        }
    }
}

impl Drop for Labelled {
    fn drop(&mut self) {
        self.remove_now();
    }
}

fn strs(words: &[String]) -> Vec<&str> {
    words.iter().map(String::as_str).collect()
}

/// A way to Docker that can be closed: to who goes it, Docker restarts.
pub struct Way {
    path: PathBuf,
    open: Option<Arc<Mutex<Vec<UnixStream>>>>,
}

impl Way {
    pub fn at(path: &Path) -> Self {
        let mut way = Self {
            path: path.to_owned(),
            open: None,
        };
        way.open();
        way
    }

    pub fn open(&mut self) {
        let listener = UnixListener::bind(&self.path).unwrap();
        let open: Arc<Mutex<Vec<UnixStream>>> = Arc::default();
        self.open = Some(open.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let docker = UnixStream::connect(SOCKET).unwrap();
                let mut kept = open.lock().unwrap();
                for (from, to) in [(&stream, &docker), (&docker, &stream)] {
                    kept.push(from.try_clone().unwrap());
                    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    std::thread::spawn(move || {
                        let _ = std::io::copy(&mut from, &mut to);
                        let _ = to.shutdown(std::net::Shutdown::Both);
                    });
                }
            }
        });
    }

    /// Nothing answers any more, and what was under way breaks.
    pub fn close(&mut self) {
        std::fs::remove_file(&self.path).unwrap();
        for stream in self.open.take().unwrap().lock().unwrap().drain(..) {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }
}
